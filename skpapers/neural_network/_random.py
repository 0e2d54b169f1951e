"""Draws that come from a generator of their own, never from torch's global one."""

import math

import torch
from torch import nn

from skpapers.utils import draw_seed

__all__ = ["Dropout", "build_module", "initialize", "torch_generator"]


def torch_generator(rng):
    """Make a torch generator that is seeded by one draw.

    Parameters
    ----------
    rng : numpy.random.RandomState
        Where the seed is drawn from.

    Returns
    -------
    torch.Generator
        A generator on the CPU.

    Examples
    --------
    >>> from skpapers.neural_network import torch_generator
    >>> from skpapers.utils import check_random_state
    >>> torch_generator(check_random_state(0)).device
    device(type='cpu')
    """
    return torch.Generator().manual_seed(draw_seed(rng))


class Dropout(nn.Module):
    """Dropout that draws from a generator it is given.

    Parameters
    ----------
    p : float, default=0.5
        Probability of an element to be zeroed.

    Notes
    -----
    Draws are made on the CPU and moved, so that results agree across devices. The bridge hands its
    generator to every module that has an attribute ``generator``.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import Dropout
    >>> Dropout(0.5).eval()(torch.ones(2))
    tensor([1., 1.])
    """

    def __init__(self, p=0.5):
        super().__init__()
        self.p = p
        self.generator = None

    def forward(self, x):
        """Zero each element with probability `p` and rescale the others, in training mode only.

        Parameters
        ----------
        x : torch.Tensor
            Input of any shape.

        Returns
        -------
        torch.Tensor
            Of the same shape.
        """
        if not self.training or self.p == 0:
            return x
        shape = self._mask_shape(x)
        keep = torch.rand(shape, generator=self.generator, dtype=x.dtype) >= self.p
        return x * keep.to(x.device) / (1 - self.p)

    def _mask_shape(self, x):
        return x.shape

    def extra_repr(self):
        return f"p={self.p}"


def build_module(make, generator, dtype=torch.float32):
    """Build a module without a draw from the global generator, and initialise it.

    Parameters
    ----------
    make : callable
        Takes nothing, returns the module; called on the meta device, where layers draw nothing.
    generator : torch.Generator
        Source of the initial parameters, and of what stochastic layers draw later.
    dtype : torch.dtype, default=torch.float32
        Data type of the parameters.

    Returns
    -------
    torch.nn.Module
        The module, on the CPU.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import build_module
    >>> make = lambda: torch.nn.Linear(2, 1)
    >>> first = build_module(make, torch.Generator().manual_seed(0))
    >>> second = build_module(make, torch.Generator().manual_seed(0))
    >>> torch.equal(first.weight, second.weight)
    True
    """
    with torch.device("meta"):
        module = make()
    module = module.to(dtype).to_empty(device="cpu")
    with torch.no_grad():
        initialize(module, generator)
    return module


def initialize(module, generator):
    """Initialise every parameter and buffer of `module` with draws from `generator`.

    A submodule with a method ``init_parameters(generator)`` sets its own parameters and buffers;
    layers of torch get torch's default initialisation.

    Parameters
    ----------
    module : torch.nn.Module
        The module, changed in place.
    generator : torch.Generator
        Source of the draws; also given to submodules with an attribute ``generator``.

    Raises
    ------
    TypeError
        If a submodule owns parameters or buffers and nothing is known about their initialisation.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import initialize
    >>> norm = torch.nn.BatchNorm1d(2)
    >>> with torch.no_grad():
    ...     initialize(norm, torch.Generator())
    >>> norm.weight.tolist()
    [1.0, 1.0]
    """
    for layer in module.modules():
        if isinstance(layer, (nn.ParameterList, nn.ParameterDict)):
            continue  # initialised by the layer that owns it
        if hasattr(layer, "generator"):
            layer.generator = generator
        if hasattr(layer, "init_parameters"):
            layer.init_parameters(generator)
        elif list(layer.parameters(recurse=False)) or list(layer.buffers(recurse=False)):
            _torch_default(layer, generator)


_AFFINE_NORMS = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.batchnorm._NormBase,
)


def _torch_default(layer, generator):
    if isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)):
        draw_linear_(layer, generator)
    elif isinstance(layer, _AFFINE_NORMS):
        _reset_norm(layer)
    elif isinstance(layer, nn.Embedding):
        layer.weight.normal_(generator=generator)
    elif isinstance(layer, nn.PReLU):
        layer.weight.fill_(layer.init)
    elif isinstance(layer, nn.RNNBase):
        bound = 1 / math.sqrt(layer.hidden_size)
        for parameter in layer.parameters(recurse=False):
            parameter.uniform_(-bound, bound, generator=generator)
    else:
        raise TypeError(
            f"{type(layer).__name__} owns parameters or buffers of its own: give it a method "
            "init_parameters(generator) that sets them"
        )


def draw_linear_(layer, generator):
    """torch's default for linear layers and convolutions, weights first."""
    uniform_fan_in_(layer.weight, generator)
    if layer.bias is not None:
        bound = 1 / math.sqrt(max(_fan_in(layer.weight), 1))
        layer.bias.uniform_(-bound, bound, generator=generator)


def uniform_fan_in_(weight, generator):
    """Fill `weight` from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), torch's default for linear layers."""
    bound = 1 / math.sqrt(max(_fan_in(weight), 1))
    return weight.uniform_(-bound, bound, generator=generator)


def _fan_in(weight):
    return weight[0].numel()


def _reset_norm(layer):
    constants = {"weight": 1, "running_var": 1, "bias": 0, "running_mean": 0}
    for name, value in {**constants, "num_batches_tracked": 0}.items():
        tensor = getattr(layer, name, None)
        if tensor is not None:
            tensor.fill_(value)
