"""Multi-layer perceptrons, and how their linear layers scale with width."""

import functools

import torch.nn.functional as F
from torch import nn

from ._random import Dropout, draw_linear_
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
        if self.bias is not None:
            self.bias.zero_()

    def forward(self, x):
        return F.linear(x * self.multiplier, self.weight, self.bias)


class GainLinear(nn.Linear):
    """A linear layer with the initial weights of torch times `gain`."""

    def __init__(self, in_features, out_features, gain):
        super().__init__(in_features, out_features)
        self.gain = gain

    def init_parameters(self, generator):
        draw_linear_(self, generator)
        self.weight.mul_(self.gain)


@register("parametrization", "standard")
def _standard(n_in, n_out, role, gain=1.0):
    """torch's own initialisation, U(-1/sqrt(n_in), 1/sqrt(n_in)), the weights times a gain."""
    return nn.Linear(n_in, n_out) if gain == 1 else GainLinear(n_in, n_out, gain)


@register("linear", "dense")
def _dense(make_linear, n_in, n_out, role):
    """What the parametrization says."""
    return make_linear(n_in, n_out, role)


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
    linear="dense",
    block=None,
):
    """Build linear -> normalization -> activation -> dropout for each hidden layer, then linear.

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
        is "input", "hidden", "output" or, without hidden layers, "fixed".
    linear : str or callable, default="dense"
        The linear layers but the last: a registered name, or a function from the parametrization,
        the two widths and the role to a module.
    block : str or callable, default=None
        Residual blocks in place of the hidden layers, a linear layer before them and wherever the
        width changes, and the normalization at the end: a registered name, or a function from the
        width to a module. Activation and dropout are the block's own.

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
    readout = get_registry("parametrization").resolve(parametrization)
    linear = functools.partial(get_registry("linear").resolve(linear), readout)
    normalize = get_registry("normalization").resolve(normalization)
    if block is not None:
        if dropout or activation_params:
            raise ValueError("dropout and activation_params are not for a block: set its own")
        block = get_registry("block").resolve(block)
        layers = _block_layers(n_in, hidden_layer_sizes, linear, normalize, block)
    else:
        activate = get_registry("activation").resolve(activation)
        activate = functools.partial(activate, **(activation_params or {}))
        layers = _plain_layers(n_in, hidden_layer_sizes, linear, normalize, activate, dropout)
    if n_out is not None:
        width = hidden_layer_sizes[-1] if hidden_layer_sizes else n_in
        layers.append(readout(width, n_out, "output" if hidden_layer_sizes else "fixed"))
    return nn.Sequential(*(layer for layer in layers if layer is not None))


def _plain_layers(n_in, sizes, linear, normalize, activate, dropout):
    # Gated activations halve the width.
    expansion = getattr(activate.func, "width_factor", 1)
    layers, width = [], n_in
    for depth, size in enumerate(sizes):
        layers += [
            linear(width, size * expansion, "hidden" if depth else "input"),
            normalize(size * expansion),
            activate(),
            Dropout(dropout) if dropout else None,
        ]
        width = size
    return layers


def _block_layers(n_in, sizes, linear, normalize, block):
    layers, width = [], n_in
    for depth, size in enumerate(sizes):
        if size != width or not depth:
            layers.append(linear(width, size, "hidden" if depth else "input"))
        layers.append(block(size))
        width = size
    return [*layers, normalize(width) if sizes else None]
