"""A score that is linear, that of the Gaussian with the same covariance, plus a network."""

import torch
from torch import nn

from skpapers.neural_network import ScaledLinear, make_mlp
from skpapers.processes import SmallUNet

__all__ = ["ResidualScore", "image_network", "row_network"]


class ResidualScore(nn.Module):
    """R(y) = -(C + level^2)^-1 y + network(y) / unit on centred rows.

    Without `linear_base` there is only the network. `level` is the noise added to the rows.
    """

    def __init__(self, network, n_features, unit, linear_base):
        super().__init__()
        self.network = network
        self.unit = unit
        self.level = 0.0
        self.linear_base = linear_base
        size = n_features if linear_base else 0
        self.register_buffer("variances", torch.zeros(size))
        self.register_buffer("axes", torch.zeros(size, size))

    def init_parameters(self, generator):
        """Clear the covariance, which :meth:`learn_covariance` sets."""
        self.variances.zero_()
        self.axes.zero_()

    def learn_covariance(self, x):
        """Set C to the covariance of the rows."""
        if self.linear_base:
            x = x.double()
            values, vectors = torch.linalg.eigh(x.T @ x / len(x))
            self.variances.copy_(values.clamp(min=0))
            self.axes.copy_(vectors)

    def forward(self, x, level=None):
        """Compute scores at a noise level; None for that of the end of the training."""
        score = self.network(x) / self.unit
        if not self.linear_base:
            return score
        level = self.level if level is None else level
        return score - ((x @ self.axes) / (self.variances + level**2)) @ self.axes.T


def row_network(n_features, hidden):
    """Perceptron that is zero to begin with."""
    body = make_mlp(n_features, hidden, None, activation="silu")
    width = hidden[-1] if hidden else n_features
    return nn.Sequential(*body, ScaledLinear(width, n_features, std=0.0))


def image_network(shape, width, n_levels):
    """U-Net on rows that are flattened images."""
    unet = SmallUNet(shape[0], width, n_levels)
    return nn.Sequential(nn.Unflatten(1, tuple(shape)), unet, nn.Flatten())
