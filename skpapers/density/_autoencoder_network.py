"""Auto-encoders that know the score they stand for, and the Jacobians of vector fields."""

import torch
import torch.nn.functional as F
from torch import nn

from skpapers.neural_network import ScaledLinear, get_registry, make_mlp

__all__ = ["Autoencoder", "TiedAutoencoder", "contractive_loss", "row_jacobians"]


class _ScoreOfReconstruction(nn.Module):
    """Reconstruction r and score (r(x) - x) / sigma^2 of one network.

    With `residual`, what `decode` gives is the score times sigma; else it is the reconstruction.
    """

    def __init__(self, sigma, residual):
        super().__init__()
        self.sigma = sigma
        self.residual = residual

    def score(self, x):
        """Compute the score, without the cancellation of r(x) - x where that can be avoided."""
        output = self.decode(self.encode(x))
        return output / self.sigma if self.residual else (output - x) / self.sigma**2

    def forward(self, x):
        """Reconstruct rows."""
        output = self.decode(self.encode(x))
        return x + self.sigma * output if self.residual else output


class Autoencoder(_ScoreOfReconstruction):
    """Two perceptrons; without `code_size` the code is the last hidden layer."""

    def __init__(self, n_features, hidden, code_size, activation, sigma, residual):
        super().__init__(sigma, residual)
        hidden = tuple(hidden)
        self.encode = make_mlp(n_features, hidden, code_size, activation=activation)
        self.code_size = code_size or (hidden[-1] if hidden else n_features)
        mirrored = hidden[::-1] if code_size else ()
        back = make_mlp(self.code_size, mirrored, None, activation=activation)
        width = mirrored[-1] if mirrored else self.code_size
        # a score of zero to begin with
        last = ScaledLinear(width, n_features, std=0.0) if residual else None
        self.decode = nn.Sequential(*back, last or nn.Linear(width, n_features))


class TiedAutoencoder(_ScoreOfReconstruction):
    """One hidden layer whose decoder is the transposed encoder: the Jacobian is symmetric.

    With `residual` every unit has a gain of either sign, zero to begin with.
    """

    def __init__(self, n_features, n_hidden, activation, sigma, residual):
        super().__init__(sigma, residual)
        self.weight = nn.Parameter(torch.zeros(n_hidden, n_features))
        self.bias = nn.Parameter(torch.zeros(n_hidden))
        self.gain = nn.Parameter(torch.zeros(n_hidden), requires_grad=residual)
        self.offset = nn.Parameter(torch.zeros(n_features))
        self.activation = get_registry("activation").resolve(activation)()
        self.code_size = n_hidden

    def init_parameters(self, generator):
        """Draw the weights and biases, and set the gains."""
        bound = self.weight.shape[1] ** -0.5
        self.weight.uniform_(-bound, bound, generator=generator)
        self.bias.uniform_(-bound, bound, generator=generator)
        self.gain.fill_(0.0 if self.residual else 1.0)
        self.offset.zero_()

    def encode(self, x):
        """Compute the hidden layer."""
        return self.activation(F.linear(x, self.weight, self.bias))

    def decode(self, code):
        """Map a hidden layer back."""
        return (self.gain * code) @ self.weight + self.offset


def row_jacobians(field, x, *, create_graph=False):
    """Jacobian of each row: entry (i, j, k) is the derivative of output j with respect to x_k."""
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        values = field(x)
        if not values.requires_grad:  # a constant field
            return values, x.new_zeros(*values.shape, x.shape[1])
        eye = torch.eye(values.shape[1], dtype=x.dtype, device=x.device)
        rows = [
            torch.autograd.grad(
                values, x, e.expand_as(values), retain_graph=True, create_graph=create_graph
            )[0]
            for e in eye
        ]
    return values, torch.stack(rows, dim=1)


def contractive_loss(score, x, sigma, probes=None, *, create_graph=True):
    """Reconstruction error plus sigma^2 times the squared norm of the Jacobian, row by row.

    Both are of r(x) = x + sigma^2 score(x), and in units of sigma^2 n_features. `probes`, standard
    normal and of the shape of x, estimate the norm; None is exact, in n_features backward passes.
    """
    if probes is None:
        values, slopes = row_jacobians(score, x, create_graph=create_graph)
        eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        norms = (eye + sigma**2 * slopes).square().sum((1, 2))
    else:
        with torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            values = score(x)
            (back,) = torch.autograd.grad(values, x, probes, create_graph=create_graph)
        norms = (probes + sigma**2 * back).square().sum(1)
    return ((sigma * values).square().sum(1) + norms) / x.shape[1]
