"""Multi-layer perceptrons, and how their linear layers scale with width."""

import math

import torch.nn.functional as F
from torch import nn

from ._random import Dropout
from ._registry import get_registry, register

__all__ = ["ScaledLinear", "make_mlp"]


class ScaledLinear(nn.Linear):
    """A linear layer with normal weights and a fixed multiplier on its product.

    Parameters
    ----------
    in_features : int
        Width of the input.
    out_features : int
        Width of the output.
    std : float, default=1.0
        Standard deviation of the initial weights; biases start at zero.
    multiplier : float, default=1.0
        Factor on the product of weights and input.

    Examples
    --------
    >>> from skpapers.neural_network import ScaledLinear
    >>> ScaledLinear(4, 2, multiplier=0.5).out_features
    2
    """

    def __init__(self, in_features, out_features, std=1.0, multiplier=1.0):
        super().__init__(in_features, out_features)
        self.std = std
        self.multiplier = multiplier

    def init_parameters(self, generator):
        """Draw the weights from N(0, std**2) and set the biases to zero.

        Parameters
        ----------
        generator : torch.Generator
            Source of the draws.
        """
        self.weight.normal_(std=self.std, generator=generator)
        self.bias.zero_()

    def forward(self, x):
        return F.linear(x * self.multiplier, self.weight, self.bias)


@register("parametrization", "standard")
def _standard(n_in, n_out, role):
    """torch's own initialisation: U(-1/sqrt(n_in), 1/sqrt(n_in))."""
    return nn.Linear(n_in, n_out)


@register("parametrization", "ntk")
def _ntk(n_in, n_out, role):
    """Weights of unit variance behind a multiplier 1/sqrt(n_in) (Jacot et al., 2018)."""
    return ScaledLinear(n_in, n_out, std=1.0, multiplier=1 / math.sqrt(max(n_in, 1)))


def make_mlp(
    n_in,
    hidden_layer_sizes,
    n_out,
    *,
    activation="relu",
    activation_params=None,
    normalization="none",
    dropout=0.0,
    parametrization="standard",
):
    """Build Linear -> normalization -> activation -> dropout for each hidden layer, then Linear.

    Parameters
    ----------
    n_in : int
        Number of input features.
    hidden_layer_sizes : sequence of int
        Widths of the hidden layers; empty for a linear map.
    n_out : int or None
        Number of outputs; None to end with the last hidden layer.
    activation : str or callable, default="relu"
        Registered name, or a factory of modules.
    activation_params : dict, default=None
        Arguments of the activation.
    normalization : str or callable, default="none"
        Registered name, or a function from the width to a module or None.
    dropout : float, default=0.0
        Probability of zeroing a hidden unit.
    parametrization : str or callable, default="standard"
        Registered name, or a function from ``(n_in, n_out, role)`` to a linear layer, where role
        is "input", "hidden" or "output".

    Returns
    -------
    torch.nn.Sequential
        The network.

    Examples
    --------
    >>> from skpapers.neural_network import make_mlp
    >>> [type(layer).__name__ for layer in make_mlp(3, (8,), 2, activation="gelu")]
    ['Linear', 'GELU', 'Linear']
    """
    make_activation = get_registry("activation").resolve(activation)
    make_normalization = get_registry("normalization").resolve(normalization)
    make_linear = get_registry("parametrization").resolve(parametrization)
    expansion = getattr(make_activation, "width_factor", 1)  # gated activations halve the width
    layers, width = [], n_in
    for depth, size in enumerate(hidden_layer_sizes):
        layers += [
            make_linear(width, size * expansion, "hidden" if depth else "input"),
            make_normalization(size * expansion),
            make_activation(**(activation_params or {})),
            Dropout(dropout) if dropout else None,
        ]
        width = size
    if n_out is not None:
        layers.append(make_linear(width, n_out, "output" if hidden_layer_sizes else "input"))
    return nn.Sequential(*(layer for layer in layers if layer is not None))
