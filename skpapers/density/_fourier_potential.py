"""Log densities that are linear in random Fourier features, fitted in closed form."""

import math

import torch
from torch import nn

from skpapers.utils import median_squared_distance

__all__ = ["FourierPotential", "solve_implicit_score_matching"]


class FourierPotential(nn.Module):
    """Energy -w'phi(x), with phi the random Fourier features of a Gaussian kernel."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.register_buffer("frequencies", torch.zeros(n_components, n_features))
        self.register_buffer("phases", torch.zeros(n_components))
        self.weight = nn.Parameter(torch.zeros(n_components))

    def init_parameters(self, generator):
        self.frequencies.normal_(generator=generator)
        self.phases.uniform_(0, 2 * math.pi, generator=generator)
        self.weight.zero_()

    def forward(self, x):
        angles = x @ self.frequencies.T + self.phases
        return -math.sqrt(2 / len(self.weight)) * torch.cos(angles) @ self.weight


def solve_implicit_score_matching(potential, x, ridge):
    """Give the kernel the width of the rows, and set the weights to the minimiser.

    The objective is w'(H + ridge I)w / 2 + h'w, with H the mean Gram matrix of the gradients of
    the features and h the mean of their Laplacians.
    """
    width = math.sqrt(median_squared_distance(x.cpu().numpy())) or 1.0
    potential.frequencies /= width
    omega, factor = potential.frequencies, math.sqrt(2 / len(potential.weight))
    angles = x @ omega.T + potential.phases
    sines = torch.sin(angles)
    gram = factor**2 * (sines.T @ sines) / len(x) * (omega @ omega.T)
    laplacian = -factor * torch.cos(angles).mean(0) * omega.square().sum(1)
    gram.diagonal().add_(ridge)
    potential.weight.copy_(-torch.linalg.solve(gram, laplacian))
