"""Maximal update parametrization: hyper-parameters that hold for every width."""

import math
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from torch import nn

from skpapers.utils import check_random_state

from ._bridge import TorchEstimator
from ._layers import ScaledLinear
from ._random import draw_linear_
from ._registry import register

__all__ = ["coordinate_check", "width_scaling"]

_ROLES = ("input", "hidden", "output", "vector", "fixed")


@validate_params(
    {
        "role": [StrOptions(set(_ROLES))],
        "m": [Interval(Real, 0, None, closed="neither"), tuple],
        "optimizer": [StrOptions({"adam", "sgd"})],
        "parametrization": [StrOptions({"mup", "ntk"})],
    },
    prefer_skip_nested_validation=True,
)
def width_scaling(role, m, optimizer="adam", parametrization="mup"):
    """Say how a parameter scales with the width of a network.

    Parameters
    ----------
    role : {"input", "hidden", "output", "vector", "fixed"}
        Which axes of the parameter grow with the width: the outputs, both, the inputs; "vector" is
        one of the size of a hidden layer (biases, gains), "fixed" one of which nothing grows.
    m : float or tuple of two floats
        Width relative to the base, or those of the inputs and of the outputs.
    optimizer : {"adam", "sgd"}, default="adam"
        "adam" stands for all whose update does not depend on the scale of the gradient, entry by
        entry (Adam, RMSprop, Adagrad, sign descent), "sgd" for those linear in it.
    parametrization : {"mup", "ntk"}, default="mup"
        The maximal update, in which all layers learn features, or the neural tangent one.

    Returns
    -------
    dict of str to float
        Factors on the values at the base width: `init` on the standard deviation of the initial
        values, relative to 1 / sqrt(inputs), `forward` on the product with the input (for "ntk"
        with the one of unit variance), `lr` on the learning rate, `weight_decay` on a decay that
        the learning rate multiplies, and `eps` on the constant that Adam adds to the root of the
        second moment.

    Notes
    -----
    `eps` holds for hidden layers of one width; gradients shrink with the width of the last.

    References
    ----------
    .. [1] G. Yang, E. Littwin, "Tensor Programs IVb: Adaptive Optimization in the Infinite-Width
       Limit", 2023, arXiv:2308.01814.
    .. [2] G. Yang et al., "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot
       Hyperparameter Transfer", 2022, arXiv:2203.03466, table 8.

    Examples
    --------
    >>> from skpapers.neural_network import width_scaling
    >>> width_scaling("hidden", 4.0)["lr"], width_scaling("hidden", 4.0, "sgd")["lr"]
    (0.25, 1.0)
    """
    m_in, m_out = m if isinstance(m, tuple) else (m, m)
    rate = _RATES[parametrization, optimizer](m_in, m_out)[role]
    factors = {"init": 1.0, "forward": 1.0, "lr": rate, "weight_decay": 1 / rate, "eps": 1.0}
    if parametrization == "mup" and role == "output":
        factors |= {"init": math.sqrt(m_in), "forward": 1 / m_in, "eps": 1 / m_in}
    elif parametrization == "mup" and role != "fixed":
        factors["eps"] = 1 / m_out  # gradients shrink with the width
    return factors


def _mup_adam(m_in, m_out):
    return {"input": 1.0, "hidden": 1 / m_in, "output": 1.0, "vector": 1.0, "fixed": 1.0}


def _mup_sgd(m_in, m_out):
    return {"input": m_out, "hidden": m_out / m_in, "output": m_in, "vector": m_out, "fixed": 1.0}


def _ntk_adam(m_in, m_out):
    shrunk = m_out**-0.5
    rates = {"input": shrunk, "hidden": 1 / m_out, "output": m_in**-0.5, "vector": shrunk}
    return rates | {"fixed": 1.0}


def _ntk_sgd(m_in, m_out):
    return dict.fromkeys(_ROLES, 1.0)


_RATES = {
    ("mup", "adam"): _mup_adam,
    ("mup", "sgd"): _mup_sgd,
    ("ntk", "adam"): _ntk_adam,
    ("ntk", "sgd"): _ntk_sgd,
}


@dataclass(frozen=True)
class WidthRole:
    """How a parameter scales; an attribute of the layer it belongs to."""

    role: str
    m_in: float
    m_out: float
    parametrization: str = "mup"

    def scaling(self, optimizer):
        return width_scaling(self.role, (self.m_in, self.m_out), optimizer, self.parametrization)

    def of(self, parameter):
        """The role of a parameter of the layer, or of a normalization or activation after it."""
        if parameter.ndim > 1:
            return self
        grows = self.role in ("input", "hidden") and parameter.numel() > 1
        return WidthRole("vector" if grows else "fixed", 1.0, self.m_out, self.parametrization)


class MaximalUpdateLinear(nn.Linear):
    """A linear layer whose output moves by as much at every width."""

    def __init__(self, in_features, out_features, width_role, gain, multiplier=1.0):
        super().__init__(in_features, out_features)
        self.width_role = width_role
        factors = width_role.scaling("adam")
        self.multiplier = multiplier * factors["forward"]
        self.gain = gain * factors["init"]

    def init_parameters(self, generator):
        draw_linear_(self, generator)
        self.weight.mul_(self.gain)
        if self.bias is not None:
            self.bias.mul_(math.sqrt(self.width_role.m_in))  # that of the base width

    def forward(self, x):
        return F.linear(x if self.multiplier == 1 else x * self.multiplier, self.weight, self.bias)


@register("parametrization", "mup")
def _mup(n_in, n_out, role, base_width=64, gain=1.0, output_gain=0.0, output_multiplier=1.0):
    """The maximal update parametrization; torch's own at the base width but for zero outputs."""
    width_role = _width_role(n_in, n_out, role, base_width, "mup")
    if role != "output":
        return MaximalUpdateLinear(n_in, n_out, width_role, gain)
    return MaximalUpdateLinear(n_in, n_out, width_role, output_gain, output_multiplier)


@register("parametrization", "ntk")
def _ntk(n_in, n_out, role, base_width=64):
    """Weights of unit variance behind a multiplier 1/sqrt(n_in) (Jacot et al., 2018)."""
    layer = ScaledLinear(n_in, n_out, std=1.0, multiplier=1 / math.sqrt(max(n_in, 1)))
    layer.width_role = _width_role(n_in, n_out, role, base_width, "ntk")
    return layer


def _width_role(n_in, n_out, role, base_width, parametrization):
    if not (isinstance(base_width, Integral) and base_width > 0):
        raise ValueError(f"base_width must be a positive integer, got {base_width!r}")
    m_in = n_in / base_width if role in ("hidden", "output") else 1.0
    m_out = n_out / base_width if role in ("hidden", "input") else 1.0
    return WidthRole(role, m_in, m_out, parametrization)


@validate_params(
    {
        "estimator": [TorchEstimator],
        "X": ["array-like"],
        "y": ["array-like"],
        "widths": ["array-like"],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "n_seeds": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def coordinate_check(
    estimator, X, y, widths=(64, 128, 256, 512, 1024), n_steps=5, n_seeds=3, random_state=None
):
    """Measure how far a few steps move the features of each layer, at growing widths.

    In a correct parametrization no slope is above zero, and the features of all layers move by as
    much at every width where it is the maximal update. Slopes above zero mean that wide networks
    need smaller learning rates, slopes below that their layers do not learn.

    Parameters
    ----------
    estimator : NeuralClassifier or NeuralRegressor
        Whose parametrization, optimizer and number of hidden layers are checked.
    X : array-like of shape (n_samples, n_features)
        Data; every step sees all of it.
    y : array-like of shape (n_samples,)
        Target.
    widths : sequence of int, default=(64, 128, 256, 512, 1024)
        Widths of the hidden layers.
    n_steps : int, default=5
        Number of steps.
    n_seeds : int, default=3
        Number of initialisations that are averaged.
    random_state : int, RandomState instance or None, default=None
        Seed of the initialisations.

    Returns
    -------
    dict of str to ndarray
        `widths`; `change` of shape (n_widths, n_layers), the mean modulus of the change of the
        outputs of the linear layers; `slopes` of shape (n_layers,), those of log change on log
        width.

    References
    ----------
    .. [1] G. Yang et al., "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot
       Hyperparameter Transfer", 2022, arXiv:2203.03466, appendix D.1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skpapers.neural_network import NeuralClassifier, coordinate_check
    >>> X, y = load_iris(return_X_y=True)
    >>> network = NeuralClassifier((64, 64), parametrization="mup", lr=0.01)
    >>> result = coordinate_check(network, X, y, widths=(64, 256), random_state=0)
    >>> bool((abs(result["slopes"]) < 0.2).all())
    True
    """
    widths = np.asarray(widths)
    if widths.ndim != 1 or len(widths) < 2:
        raise ValueError(f"widths must be at least two integers, got {widths!r}")
    seeds = check_random_state(random_state).randint(2**31, size=n_seeds)
    change = np.array(
        [np.mean([_movement(estimator, X, y, w, n_steps, s) for s in seeds], 0) for w in widths]
    )
    slopes = np.polyfit(np.log(widths), np.log(change), 1)[0]
    return {"widths": widths, "change": change, "slopes": slopes}


def _movement(estimator, X, y, width, n_steps, seed):
    """Mean change of the output of each linear layer after `n_steps` steps."""
    sizes = (int(width),) * len(estimator.hidden_layer_sizes)
    model = clone(estimator).set_params(
        hidden_layer_sizes=sizes, batch_size=None, tol=0, random_state=int(seed)
    )
    data = model._encode(X, y, None, reset=True)
    model._build(data, check_random_state(int(seed)))
    before = _layer_outputs(model.module_.eval(), data.inputs)
    model._train(data, None, n_steps)
    after = _layer_outputs(model.module_, data.inputs)
    return [float((a - b).abs().mean()) for a, b in zip(after, before)]


def _layer_outputs(module, inputs):
    outputs, layers = [], [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    hooks = [
        layer.register_forward_hook(lambda layer, x, output: outputs.append(output))
        for layer in layers
    ]
    try:
        with torch.no_grad():
            module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs
