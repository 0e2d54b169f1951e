"""Energies: networks that model a log density up to a constant."""

import torch
from torch import nn

from skpapers.neural_network import make_mlp

__all__ = ["EnergyMLP"]


class EnergyMLP(nn.Module):
    """Energy of a multi-layer perceptron plus a quadratic that makes exp(-energy) integrable.

    Parameters
    ----------
    n_features : int
        Number of columns.
    hidden_layer_sizes : tuple of int, default=(64, 64)
        Widths of the hidden layers.
    activation : {"softplus", "silu"}, default="softplus"
        Activation: a smooth one, as scores are derivatives.
    tail : float, default=3.0
        The quadratic is |x|^2 / (2 tail^2); `tail_mean` and `tail_precision` are buffers.

    Examples
    --------
    >>> import torch
    >>> from skpapers.processes import EnergyMLP
    >>> from skpapers.neural_network import build_module
    >>> energy = build_module(lambda: EnergyMLP(2, (8,)), torch.Generator().manual_seed(0))
    >>> energy(torch.zeros(5, 2)).shape
    torch.Size([5])
    """

    def __init__(self, n_features, hidden_layer_sizes=(64, 64), activation="softplus", tail=3.0):
        super().__init__()
        self.network = make_mlp(n_features, hidden_layer_sizes, 1, activation=activation)
        self.tail = tail
        self.register_buffer("tail_mean", torch.zeros(n_features))
        self.register_buffer("tail_precision", torch.zeros(n_features, n_features))

    def init_parameters(self, generator):
        """Set the quadratic to that of `tail`.

        Parameters
        ----------
        generator : torch.Generator
            Not used: the layers of the network draw their own parameters.
        """
        self.tail_mean.zero_()
        self.tail_precision.copy_(torch.eye(len(self.tail_mean)) / self.tail**2)

    def forward(self, x):
        """Compute the energy of rows.

        Parameters
        ----------
        x : torch.Tensor of shape (n, n_features)
            Rows.

        Returns
        -------
        torch.Tensor of shape (n,)
            Energies.
        """
        centred = x - self.tail_mean
        quadratic = 0.5 * ((centred @ self.tail_precision) * centred).sum(1)
        return self.network(x)[:, 0] + quadratic

    def score_and_divergence(self, x):
        """Compute the score, minus the gradient of the energy, and its divergence.

        Derivatives are propagated forward with the values, so that training on a divergence takes
        one backward pass whatever the number of columns.

        Parameters
        ----------
        x : torch.Tensor of shape (n, n_features)
            Rows.

        Returns
        -------
        score : torch.Tensor of shape (n, n_features)
            The score.
        divergence : torch.Tensor of shape (n,)
            Minus the Laplacian of the energy.
        """
        gradient, laplacian = _forward_derivatives(self.network, x)
        score = -gradient - (x - self.tail_mean) @ self.tail_precision
        return score, -laplacian - self.tail_precision.trace()


def _forward_derivatives(network, x):
    """Gradient and Laplacian of a network of linear layers and activations with one output."""
    slope = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)[None]
    curvature = torch.zeros_like(x)
    for layer in network:
        if isinstance(layer, nn.Linear):
            slope, curvature = slope @ layer.weight.T, curvature @ layer.weight.T
        else:
            first, second = _DERIVATIVES[type(layer)](x)
            curvature = first * curvature + second * slope.square().sum(1)
            slope = first[:, None] * slope
        x = layer(x)
    return slope[:, :, 0].expand(len(x), -1), curvature[:, 0]


def _softplus_derivatives(x):
    first = torch.sigmoid(x)
    return first, first * (1 - first)


def _silu_derivatives(x):
    gate = torch.sigmoid(x)
    bell = gate * (1 - gate)
    return gate + x * bell, bell * (2 + x * (1 - 2 * gate))


_DERIVATIVES = {nn.Softplus: _softplus_derivatives, nn.SiLU: _silu_derivatives}
