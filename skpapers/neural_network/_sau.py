"""SAU: leaky ReLU made smooth, and the same for every piecewise-linear activation."""

import math

import numpy as np
import scipy.special
import torch
import torch.nn.functional as F

from ._registry import register

__all__ = ["SAU", "SmoothedActivation", "smooth_activation"]

_FAR = 40.0  # in units of the kernel's width: nothing of a normal density is left there

_ROOT = math.sqrt(2 * math.pi)

# Knots, slopes left of, between and right of them, and the value at the first knot.
_BASES = {
    "relu": ((0.0,), (0.0, 1.0), 0.0),
    "leaky_relu": ((0.0,), (0.01, 1.0), 0.0),
    "relu6": ((0.0, 6.0), (0.0, 1.0, 0.0), 0.0),
    "hardtanh": ((-1.0, 1.0), (0.0, 1.0, 0.0), -1.0),
    "hardsigmoid": ((-3.0, 3.0), (0.0, 1 / 6, 0.0), 0.0),
}


@register("activation", "sau")
class SAU(torch.nn.Module):
    """Leaky ReLU convolved with a narrow normal density, its slope trained.

    ``a * x + (1 - a) * (x * Phi(n * x) + phi(n * x) / n)``, with the normal distribution function
    Phi and density phi: infinitely often differentiable, and within ``(1 - a) / (n * sqrt(2 pi))``
    of the leaky ReLU of slope a.

    Parameters
    ----------
    n : float, default=20000.0
        Sharpness, the inverse of the standard deviation of the density. Where second derivatives
        matter choose it near 2: the default is smooth on a scale that float32 does not resolve.
    negative_slope : float, default=0.15
        Initial slope a for negative inputs.
    learn_slope : bool, default=True
        Whether the slope is trained.
    learn_sharpness : bool, default=False
        Whether `n` is trained.
    num_parameters : int, default=1
        Number of slopes: 1, or the number of features, which are along axis 1.

    Attributes
    ----------
    negative_slope : torch.Tensor of shape (num_parameters,)
        The slopes.
    n : torch.Tensor of shape ()
        The sharpness.

    Notes
    -----
    One error function and one exponential an entry, in several passes: some eight times the
    time of torch's fused GELU on a CPU. Only the input is kept for the backward pass.
    Trained on digits it is no better than ReLU, of which it differs by the trained slope. A
    network of it with `n` near 2 learns the second derivative of a function, which is zero for
    ReLU; whether the fit itself is better varies from seed to seed.

    References
    ----------
    .. [1] K. Biswas, S. Kumar, S. Banerjee, A. K. Pandey, "SAU: Smooth activation function using
       convolution with approximate identities", arXiv:2109.13210, section 3.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import SAU, NeuralClassifier
    >>> with torch.no_grad():
    ...     SAU(n=2.0)(torch.tensor([-10.0, 0.0, 10.0]))
    tensor([-1.5000,  0.1696, 10.0000])
    >>> NeuralClassifier(activation="sau(n=2.0)").activation
    'sau(n=2.0)'
    """

    def __init__(
        self,
        n=20000.0,
        negative_slope=0.15,
        learn_slope=True,
        learn_sharpness=False,
        num_parameters=1,
    ):
        super().__init__()
        self._start = float(negative_slope), float(_check_sharpness(n))
        self.negative_slope = torch.nn.Parameter(
            torch.full((num_parameters,), self._start[0]), requires_grad=learn_slope
        )
        self.n = torch.nn.Parameter(torch.tensor(self._start[1]), requires_grad=learn_sharpness)

    def init_parameters(self, generator):
        """Set the slopes and the sharpness to their initial values.

        Parameters
        ----------
        generator : torch.Generator
            Not used: nothing is drawn.
        """
        self.negative_slope.fill_(self._start[0])
        self.n.fill_(self._start[1])

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
        slope = self.negative_slope
        if len(slope) > 1:
            slope = slope.view(-1, *[1] * (x.ndim - 2))
        return _SAU.apply(x, slope, self.n)

    def extra_repr(self):
        """Return the arguments, as the representation shows them.

        Returns
        -------
        str
            The arguments.
        """
        return f"n={self._start[1]}, num_parameters={len(self.negative_slope)}"


class SmoothedActivation(torch.nn.Module):
    """A piecewise-linear activation convolved with a density.

    Parameters
    ----------
    base : str or tuple, default="relu"
        "relu", "leaky_relu", "relu6", "hardtanh", "hardsigmoid", or (knots, slopes, value at the
        first knot).
    kernel : {"gaussian", "logistic", "uniform", "laplace", "epanechnikov"}, default="gaussian"
        The density; see :func:`smooth_activation`.
    n : float, default=20.0
        Sharpness, the inverse of the scale of the density.

    References
    ----------
    .. [1] K. Biswas, S. Kumar, S. Banerjee, A. K. Pandey, "SAU: Smooth activation function using
       convolution with approximate identities", arXiv:2109.13210, section 2.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import SmoothedActivation
    >>> SmoothedActivation("relu6", n=5.0)(torch.tensor([-3.0, 0.0, 3.0, 9.0]))
    tensor([0.0000, 0.0798, 3.0000, 6.0000])
    """

    def __init__(self, base="relu", kernel="gaussian", n=20.0):
        super().__init__()
        if isinstance(base, str) and base not in _BASES:
            raise ValueError(f"base must be one of {sorted(_BASES)} or a tuple, got {base!r}")
        knots, slopes, value = _BASES[base] if isinstance(base, str) else base
        self.pieces = _check_pieces(knots, slopes, value)
        self.kernel = _check_kernel(kernel)
        self.n = _check_sharpness(n)

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
        knots, slopes, value = self.pieces
        return smooth_activation(x, knots, slopes, value=value, kernel=self.kernel, n=self.n)


def smooth_activation(x, knots, slopes, *, value=0.0, kernel="gaussian", n=20.0):
    """Evaluate a continuous piecewise-linear function that is convolved with a density.

    Parameters
    ----------
    x : ndarray or torch.Tensor of any shape
        Where to evaluate; what is neither becomes an array.
    knots : sequence of float
        Where the slope changes, increasing; at least one.
    slopes : sequence of float
        Slopes left of the first knot, between knots, and right of the last one.
    value : float, default=0.0
        Value of the piecewise-linear function at the first knot.
    kernel : {"gaussian", "logistic", "uniform", "laplace", "epanechnikov"}, default="gaussian"
        The density at scale 1: standard normal, standard logistic, uniform on [-1, 1],
        ``exp(-abs(u)) / 2``, or ``3 / 4 * (1 - u**2)`` on [-1, 1]. One without a mean, as
        Cauchy's, has no convolution with functions that are not bounded.
    n : float, default=20.0
        Sharpness, the inverse of the scale of the density.

    Returns
    -------
    ndarray or torch.Tensor
        Values, in the shape and floating-point type of `x`; tensors are differentiable.

    Raises
    ------
    ValueError
        If `knots`, `slopes`, `kernel` or `n` are not as above.

    Notes
    -----
    The function is its line left of the first knot plus, at every knot, the change of slope times
    a ReLU; so the convolution is that line plus smoothed ReLUs, which have closed forms. The cost
    is one of these a knot.

    References
    ----------
    .. [1] K. Biswas, S. Kumar, S. Banerjee, A. K. Pandey, "SAU: Smooth activation function using
       convolution with approximate identities", arXiv:2109.13210, section 2.

    Examples
    --------
    >>> from skpapers.neural_network import smooth_activation
    >>> smooth_activation([-1.0, 0.0, 1.0], [0], [0, 1], n=2.0).round(4)
    array([0.0042, 0.1995, 1.0042])
    """
    knots, slopes, value = _check_pieces(knots, slopes, value)
    relu = _RELUS[_check_kernel(kernel)]
    n = _check_sharpness(n)
    if not torch.is_tensor(x):
        x = np.asarray(x)
        x = x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float64)
    dtype, x = x.dtype, _wide(x)
    result = value + slopes[0] * (x - knots[0])
    for knot, left, right in zip(knots, slopes, slopes[1:]):
        result = result + (right - left) * (relu(n * (x - knot)) / n)
    return result.to(dtype) if torch.is_tensor(x) else result.astype(dtype, copy=False)


# ReLU convolved with each density, at scale 1: the integral of (u - t) over t < u.


def _gaussian(u):
    if torch.is_tensor(u):  # few temporaries: that is where the time goes
        return F.gelu(u).add_(u.square().div_(-2).exp_(), alpha=1 / _ROOT)
    return u * scipy.special.ndtr(u) + np.exp(-(u.clip(-_FAR, _FAR) ** 2) / 2) / _ROOT


def _normal_cdf(u):
    """By the error function, which torch computes ten times faster than ndtr."""
    return torch.erf(u / math.sqrt(2)).add_(1).mul_(0.5)


def _logistic(u):
    if torch.is_tensor(u):
        return torch.logaddexp(u, torch.zeros_like(u))
    return np.logaddexp(u, u.dtype.type(0))


def _uniform(u):
    return (u.clip(-1, 1) + 1) ** 2 / 4 + (u - 1).clip(0)


def _laplace(u):
    exp = torch.exp if torch.is_tensor(u) else np.exp
    return u.clip(0) + exp(-abs(u)) / 2


def _epanechnikov(u):
    near = u.clip(-1, 1)
    return (near + 1) ** 3 * (3 - near) / 16 + (u - 1).clip(0)


_RELUS = {
    "gaussian": _gaussian,
    "logistic": _logistic,
    "uniform": _uniform,
    "laplace": _laplace,
    "epanechnikov": _epanechnikov,
}


def _check_kernel(kernel):
    if kernel not in _RELUS:
        raise ValueError(f"kernel must be one of {sorted(_RELUS)}, got {kernel!r}")
    return kernel


def _check_sharpness(n):
    if not 0 < n < math.inf:
        raise ValueError(f"n must be a positive number, got {n!r}")
    return n


def _check_pieces(knots, slopes, value):
    knots, slopes = tuple(map(float, knots)), tuple(map(float, slopes))
    if not knots or any(a >= b for a, b in zip(knots, knots[1:])):
        raise ValueError(f"knots must be one or more increasing numbers, got {knots}")
    if len(slopes) != len(knots) + 1:
        raise ValueError(f"slopes must be {len(knots) + 1}, one more than knots, got {slopes}")
    return knots, slopes, float(value)


class _SAU(torch.autograd.Function):
    """SAU with its closed derivatives, keeping nothing but its input."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, slope, n):
        wide = _wide(x)
        n, a = n.to(wide.dtype), slope.to(wide.dtype)
        return torch.lerp(_gaussian(n * wide) / n, wide, a).to(x.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        x, slope, n = ctx.saved_tensors
        dtype = x.dtype
        grad, x = _wide(grad), _wide(x)
        a, sharpness = slope.to(x.dtype), n.to(x.dtype)
        u = sharpness * x
        by_x = by_slope = by_n = None
        if ctx.needs_input_grad[0]:
            by_x = grad * torch.lerp(_normal_cdf(u), torch.ones_like(u), a)
            by_x = by_x.to(dtype)
        if ctx.needs_input_grad[1]:
            by_slope = grad * (x - _gaussian(u) / sharpness)
            by_slope = by_slope.sum_to_size(slope.shape).to(slope.dtype)
        if ctx.needs_input_grad[2]:
            density = torch.exp(u.square() / -2) / _ROOT
            by_n = (grad * (a - 1) * density / sharpness**2).sum().to(n.dtype)
        return by_x, by_slope, by_n


def _wide(x):
    """Half precision as float32: n * x would overflow."""
    if torch.is_tensor(x):
        return x.float() if x.element_size() < 4 else x
    return x.astype(np.float32) if x.itemsize < 4 else x
