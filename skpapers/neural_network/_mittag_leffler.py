"""Activations as ratios of Mittag-Leffler functions, whose orders are trained."""

import math
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ._mittag_leffler_function import log_mittag_leffler, mittag_leffler
from ._registry import register

__all__ = ["MITTAG_LEFFLER_PRESETS", "MittagLefflerActivation", "mittag_leffler"]

_LARGEST_POWER = 600.0  # exp of it is finite, and 1 / (1 + exp) is 0 to the last digit
_N_KNOTS = 2049
_WIDEST = 32.0  # range of inputs for which that many knots are close enough

#: Orders (alpha1, beta1) or (alpha1, beta1, alpha2, beta2) at which the activation is a known one.
MITTAG_LEFFLER_PRESETS = MappingProxyType(
    {
        "sigmoid": (1.0, 1.0),
        "tanh": (2.0, 2.0, 2.0, 1.0),
        "silu": (1.0, 1.0),
        "softsign": (0.0, 1.0),
        "elu": (1.0, 2.0),
        "gaussian": (1.0, 1.0),
        "sine": (2.0, 2.0),
    }
)


@register("activation", "mittag_leffler")
class MittagLefflerActivation(torch.nn.Module):
    r"""Activation made of Mittag-Leffler functions, whose orders are trained.

    Well-known activations are special cases of one expression, at certain orders of the function
    :math:`E_{\alpha, \beta}`: orders in between give activations in between, and gradients with
    respect to the orders let the network choose.

    Parameters
    ----------
    preset : str, default="silu"
        The expression, and the orders it starts with, under the name of what it is then:

        - "sigmoid": ``1 / (1 + E(-x))``, and "silu": x times that;
        - "tanh": ``x * E(x**2) / E2(x**2)``, with two more orders below the line;
        - "softsign": ``x * E(-abs(x))``;
        - "elu": ``x * E(min(x, 0))``;
        - "gaussian": ``E(-x**2)``;
        - "sine": ``x * E(-x**2)``.
    alpha1 : float, default=None
        First order of E; None is that of ``MITTAG_LEFFLER_PRESETS[preset]``. It is in [0.05, 1]
        for "sigmoid", "silu" and "elu", in [0, 1] for "softsign" and "gaussian", and in [1, 2]
        for "tanh" and "sine".
    beta1 : float, default=None
        Second order of E, in [1, 3], for "tanh" in [0.5, 3].
    alpha2 : float, default=None
        First order of E2, for "tanh" only, in [1, alpha1]: above `alpha1` the ratio explodes.
    beta2 : float, default=None
        Second order of E2, for "tanh" only, in [0.5, 3].
    learnable : bool, default=True
        Whether the orders are trained. If not, and they are those of the preset, torch's own
        function is used.
    num_parameters : int, default=1
        Number of activations: 1, or the number of features, which are along axis 1.

    Attributes
    ----------
    alpha1, beta1, alpha2, beta2 : torch.nn.Parameter of shape (num_parameters,)
        The orders, before they are put within their bounds.

    Raises
    ------
    ValueError
        If `preset` is unknown or an order is out of its bounds.

    Notes
    -----
    Presets start on the bounds of the orders. These are kept by projection in the forward pass,
    with a gradient that is dropped only where it would lead further outside.

    In single precision one activation for all features is read from a table of 2049 knots, to
    a few units of 1e-6, where the inputs span less than 32: one table a pass, which takes some
    milliseconds, and then some forty times what torch's SiLU takes. In double precision, and
    for an activation a feature, each entry is an integral, see :func:`mittag_leffler`, at
    several hundred times. There are first derivatives only.

    On digits the trained orders change little and the accuracy not at all.

    References
    ----------
    .. [1] F. Mostafanejad, "Unification of popular artificial neural network activation
       functions", arXiv:2302.11007, section 3.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import MittagLefflerActivation, NeuralClassifier
    >>> with torch.no_grad():
    ...     MittagLefflerActivation("silu", alpha1=0.5)(torch.tensor([-2.0, 0.0, 2.0]))
    tensor([-0.0182,  0.0000,  1.5931])
    >>> NeuralClassifier(activation="mittag_leffler(preset='tanh')").activation
    "mittag_leffler(preset='tanh')"
    """

    def __init__(
        self,
        preset="silu",
        alpha1=None,
        beta1=None,
        alpha2=None,
        beta2=None,
        learnable=True,
        num_parameters=1,
    ):
        super().__init__()
        if preset not in MITTAG_LEFFLER_PRESETS:
            known = sorted(MITTAG_LEFFLER_PRESETS)
            raise ValueError(f"preset must be one of {known}, got {preset!r}")
        self.preset = preset
        self.learnable = learnable
        given = {"alpha1": alpha1, "beta1": beta1, "alpha2": alpha2, "beta2": beta2}
        self._start = _check_orders(preset, given)
        for name, value in self._start.items():
            order = torch.full((num_parameters,), value)
            setattr(self, name, torch.nn.Parameter(order, requires_grad=learnable))

    def init_parameters(self, generator):
        """Set the orders to their initial values.

        Parameters
        ----------
        generator : torch.Generator
            Not used: nothing is drawn.
        """
        for name, value in self._start.items():
            getattr(self, name).fill_(value)

    def orders(self):
        """Return the orders within their bounds.

        Returns
        -------
        list of torch.Tensor of shape (num_parameters,)
            Those of the expression: alpha1, beta1 and, for "tanh", alpha2, beta2.
        """
        bounds = _EXPRESSIONS[self.preset].bounds
        orders = [
            _Project.apply(getattr(self, name), low, high)
            for name, (low, high) in zip(self._start, bounds)
        ]
        if len(orders) == 4:
            orders[2] = _Project.apply(self.alpha2, 1.0, orders[0].detach())
        return orders

    def forward(self, x):
        """Apply the activation to every entry.

        Parameters
        ----------
        x : torch.Tensor
            Input of any shape and floating-point type.

        Returns
        -------
        torch.Tensor
            Output of the same shape and type.
        """
        expression = _EXPRESSIONS[self.preset]
        if not self.learnable and tuple(self._start.values()) == _preset(self.preset):
            return expression.native(x)
        orders = self.orders()
        if len(orders[0]) > 1:
            orders = [order.view(-1, *[1] * (x.ndim - 2)) for order in orders]
        elif _is_tabulated(x):
            return _Tabulated.apply(x, expression.function, *orders)
        return expression.function(x.double(), *(o.double() for o in orders)).to(x.dtype)

    def extra_repr(self):
        """Return the arguments, as the representation shows them.

        Returns
        -------
        str
            The arguments.
        """
        orders = ", ".join(f"{name}={value}" for name, value in self._start.items())
        return f"preset={self.preset!r}, {orders}, learnable={self.learnable}"


# The expressions, in double precision.


def _sigmoid(x, alpha, beta):
    # The function is finite up to this argument. Beyond, the quotient is zero, with zero slope.
    largest = _LARGEST_POWER ** alpha.detach()
    return 1 / (1 + mittag_leffler(torch.minimum(-x, largest), alpha, beta))


def _silu(x, alpha, beta):
    return x * _sigmoid(x, alpha, beta)


def _tanh(x, alpha1, beta1, alpha2, beta2):
    above = log_mittag_leffler(x.square(), alpha1, beta1)
    return x * torch.exp(above - log_mittag_leffler(x.square(), alpha2, beta2))


def _softsign(x, alpha, beta):
    return x * mittag_leffler(-x.abs(), alpha, beta)


def _elu(x, alpha, beta):
    return x * mittag_leffler(x.clamp(max=0), alpha, beta)


def _gaussian(x, alpha, beta):
    return mittag_leffler(-x.square(), alpha, beta)


def _sine(x, alpha, beta):
    return x * mittag_leffler(-x.square(), alpha, beta)


def _native_gaussian(x):
    return torch.exp(-x.square())


class _Expression(NamedTuple):
    """An activation as a function of its orders, their bounds, and torch's own at the preset."""

    function: callable
    native: callable
    bounds: tuple


_GATE = ((0.05, 1.0), (1.0, 3.0))
_DECAY = ((0.0, 1.0), (1.0, 3.0))
_WAVE = ((1.0, 2.0), (1.0, 3.0))
_RATIO = ((1.0, 2.0), (0.5, 3.0)) * 2
_EXPRESSIONS = {
    "sigmoid": _Expression(_sigmoid, torch.sigmoid, _GATE),
    "silu": _Expression(_silu, F.silu, _GATE),
    "tanh": _Expression(_tanh, torch.tanh, _RATIO),
    "softsign": _Expression(_softsign, F.softsign, _DECAY),
    "elu": _Expression(_elu, F.elu, _GATE),
    "gaussian": _Expression(_gaussian, _native_gaussian, _DECAY),
    "sine": _Expression(_sine, torch.sin, _WAVE),
}


def _preset(name):
    return MITTAG_LEFFLER_PRESETS[name]


def _check_orders(preset, given):
    """The orders of the expression by name, each in its bounds."""
    orders = dict(zip(given, _preset(preset)))
    for name, value in given.items():
        if value is not None and name not in orders:
            raise ValueError(f"{name} is an order of preset='tanh' only, got preset={preset!r}")
        if value is not None:
            orders[name] = float(value)
    for (name, value), (low, high) in zip(orders.items(), _EXPRESSIONS[preset].bounds):
        if not low <= value <= high:
            raise ValueError(f"{name} must be in [{low}, {high}], got {value!r}")
    if orders.get("alpha2", 0) > orders["alpha1"]:
        raise ValueError(f"alpha2 must not exceed alpha1, got {orders}")
    return orders


class _Project(torch.autograd.Function):
    """Clamp, with a gradient that is dropped only where a step along it leads further out."""

    @staticmethod
    def forward(ctx, order, low, high):
        ctx.save_for_backward(order, torch.as_tensor(high))
        ctx.low = low
        return torch.minimum(order.clamp(min=low), torch.as_tensor(high).to(order))

    @staticmethod
    def backward(ctx, grad):
        order, high = ctx.saved_tensors
        is_outward = ((order <= ctx.low) & (grad > 0)) | ((order >= high) & (grad < 0))
        return grad.masked_fill(is_outward, 0), None, None


# In single precision: a cubic between knots, with the values and slopes of the function there.


def _is_tabulated(x):
    if x.dtype == torch.float64 or x.numel() <= 2 * _N_KNOTS:
        return False
    low, high = torch.aminmax(x.detach().float())
    return bool(high - low <= _WIDEST)


class _Tabulated(torch.autograd.Function):
    """A function of x and orders by Hermite interpolation, with a knot at zero."""

    @staticmethod
    def forward(ctx, x, function, *orders):
        x = x.float() if x.element_size() < 4 else x
        low, high = (float(bound) for bound in torch.aminmax(x))
        step = max(high - low, abs(low) * 1e-3, 1e-3) / (_N_KNOTS - 3)
        first = math.floor(low / step) - 1
        with torch.inference_mode(False), torch.enable_grad():
            wide = [order.double().detach().clone().requires_grad_() for order in orders]
            knots = (torch.arange(_N_KNOTS, device=x.device) + first).double() * step
            values = function(knots.requires_grad_(), *wide)
            (slopes,) = torch.autograd.grad(values.sum(), knots, retain_graph=True)
        place = x / step
        index = place.floor()
        t = place - index  # relative to a knot, so that small inputs keep their digits
        index = (index.long() - first).clamp(0, _N_KNOTS - 2)
        cubic = _hermite(values.detach(), slopes * step).to(x.dtype)[index.view(-1)]
        c0, c1, c2, c3 = cubic.view(*x.shape, 4).unbind(-1)
        ctx.save_for_backward(index, t, (c1 + t * (2 * c2 + 3 * t * c3)) / step)
        ctx.values, ctx.orders = values, wide
        return c0 + t * (c1 + t * (c2 + t * c3))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        index, t, slope = ctx.saved_tensors
        by_orders = [None] * len(ctx.orders)
        if any(ctx.needs_input_grad[2:]):
            index, t, weight = index.view(-1), t.view(-1).double(), grad.reshape(-1).double()
            share = torch.zeros_like(ctx.values)
            share.index_add_(0, index, weight * (1 - t)).index_add_(0, index + 1, weight * t)
            by_orders = torch.autograd.grad(ctx.values, ctx.orders, share, retain_graph=True)
        return grad * slope, None, *by_orders


def _hermite(values, slopes):
    """Coefficients of the cubic in each interval of unit length, lowest power first."""
    rise = values.diff()
    left, right = slopes[:-1], slopes[1:]
    return torch.stack(
        [values[:-1], left, 3 * rise - 2 * left - right, left + right - 2 * rise], dim=1
    )
