"""Adaptive parametric activation: a gate between the logistic and the Gumbel function."""

import math

import numpy as np
import scipy.special
import torch
import torch.nn.functional as F
from torch import nn

from ._registry import get_registry, register

__all__ = [
    "AdaptiveGatedLinearUnit",
    "AdaptiveParametricActivation",
    "SqueezeExcitation",
    "adaptive_parametric_activation",
    "class_prior_correction",
]

_BLOCK = 2**15  # entries of which a handful of temporaries stay in the cache
_FLAT = -8.0  # below, softplus and sigmoid agree in so many digits that a series is better


class _Adaptive(nn.Module):
    """What the gate and the gated unit share: lambda and kappa."""

    def __init__(
        self,
        num_parameters=1,
        init_lambda=1.0,
        init_kappa=1.0,
        init="constant",
        lambda_min=1e-4,
        learnable=True,
    ):
        super().__init__()
        if not 0 < lambda_min < init_lambda < math.inf:
            raise ValueError(
                f"init_lambda must exceed lambda_min, which must be positive, got "
                f"init_lambda={init_lambda!r}, lambda_min={lambda_min!r}"
            )
        if init not in ("constant", "uniform"):
            raise ValueError(f"init must be 'constant' or 'uniform', got {init!r}")
        self.init = init
        self.lambda_min = lambda_min
        self._start = float(init_lambda), float(init_kappa)
        rho = torch.full((num_parameters,), _inverse_softplus(init_lambda - lambda_min))
        kappa = torch.full((num_parameters,), self._start[1])
        self.rho = nn.Parameter(rho, requires_grad=learnable)
        self.kappa = nn.Parameter(kappa, requires_grad=learnable)

    def init_parameters(self, generator):
        """Set lambda and kappa to their initial values.

        Parameters
        ----------
        generator : torch.Generator
            Source of the draws, with ``init="uniform"``.
        """
        init_lambda, init_kappa = self._start
        self.kappa.fill_(init_kappa)
        self.rho.fill_(_inverse_softplus(init_lambda - self.lambda_min))
        if self.init == "uniform":
            self.kappa.uniform_(generator=generator)
            excess = torch.rand(self.rho.shape, generator=generator, dtype=torch.float64)
            self.rho.copy_(torch.log(torch.expm1(excess.clamp(min=self.lambda_min))))

    @property
    def lambda_(self):
        """The shapes, a tensor of shape (num_parameters,)."""
        return self.lambda_min + F.softplus(self.rho)

    @property
    def kappa_(self):
        """The slopes, a tensor of shape (num_parameters,)."""
        return self.kappa

    def _gate(self, x):
        parameters = self.lambda_, self.kappa
        if len(self.kappa) > 1:
            parameters = (p.view(-1, *[1] * (x.ndim - 2)) for p in parameters)
        return _Gate.apply(x, *parameters)

    def extra_repr(self):
        """Return the arguments, as the representation shows them.

        Returns
        -------
        str
            The arguments.
        """
        init_lambda, init_kappa = self._start
        return f"num_parameters={len(self.kappa)}, {init_lambda=}, {init_kappa=}"


@register("activation", "apa")
class AdaptiveParametricActivation(_Adaptive):
    """Gate ``(lambda * exp(-kappa * z) + 1) ** (-1 / lambda)``, both parameters trained.

    With lambda at 1 it is the logistic function of ``kappa * z``; towards 0 it becomes the
    Gumbel distribution function ``exp(-exp(-kappa * z))``, which is not symmetric.

    Parameters
    ----------
    num_parameters : int, default=1
        Number of gates: 1, or the number of features, which are along axis 1.
    init_lambda : float, default=1.0
        Initial shape, above `lambda_min`.
    init_kappa : float, default=1.0
        Initial slope; a negative one makes the gate fall.
    init : {"constant", "uniform"}, default="constant"
        "uniform" draws both from [0, 1] where the generator is at hand, in ``init_parameters``,
        which the estimators call.
    lambda_min : float, default=1e-4
        Lower bound of the shape: lambda is ``lambda_min + softplus(rho)``, with rho trained.
    learnable : bool, default=True
        Whether both are trained.

    Attributes
    ----------
    rho, kappa : torch.nn.Parameter of shape (num_parameters,)
        What is trained.
    lambda_, kappa_ : torch.Tensor of shape (num_parameters,)
        The shapes and slopes.

    Notes
    -----
    One logarithm and two exponentials an entry. No weight decay is put on the parameters.

    References
    ----------
    .. [1] K. P. Alexandridis, J. Deng, A. Nguyen, S. Luo, "Adaptive Parametric Activation",
       ECCV 2024, arXiv:2407.08567, section 3.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import AdaptiveParametricActivation
    >>> with torch.no_grad():
    ...     AdaptiveParametricActivation(init_lambda=0.01)(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([0.0684, 0.3697, 0.6927])
    """

    def forward(self, x):
        """Apply the gate to every entry.

        Parameters
        ----------
        x : torch.Tensor
            Input of any shape and floating-point type.

        Returns
        -------
        torch.Tensor
            Values in [0, 1], of the same shape and type.
        """
        return self._gate(x)


@register("activation", "aglu")
class AdaptiveGatedLinearUnit(_Adaptive):
    """Activation z times its adaptive gate: linear, SiLU, near GELU and ReLU are special cases.

    Parameters
    ----------
    num_parameters : int, default=1
        Number of gates: 1, or the number of features, which are along axis 1.
    init_lambda : float, default=1.0
        Initial shape, above `lambda_min`.
    init_kappa : float, default=1.0
        Initial slope: 0 is linear, 1 (with lambda at 1) SiLU, 1.702 near GELU, infinity ReLU.
    init : {"constant", "uniform"}, default="constant"
        "uniform" draws both from [0, 1] where the generator is at hand, in ``init_parameters``,
        which the estimators call.
    lambda_min : float, default=1e-4
        Lower bound of the shape: lambda is ``lambda_min + softplus(rho)``, with rho trained.
    learnable : bool, default=True
        Whether both are trained.

    Attributes
    ----------
    rho, kappa : torch.nn.Parameter of shape (num_parameters,)
        What is trained.
    lambda_, kappa_ : torch.Tensor of shape (num_parameters,)
        The shapes and slopes.

    Notes
    -----
    The input and the gate are kept for the backward pass. On digits with few samples of some
    classes it does as ReLU does: nearly all of the gain of the whole recipe comes from
    :func:`class_prior_correction`. The paper's gains on ImageNet-LT are out of reach of such data.

    References
    ----------
    .. [1] K. P. Alexandridis, J. Deng, A. Nguyen, S. Luo, "Adaptive Parametric Activation",
       ECCV 2024, arXiv:2407.08567, section 3.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import AdaptiveGatedLinearUnit, NeuralClassifier
    >>> with torch.no_grad():
    ...     AdaptiveGatedLinearUnit()(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.2689,  0.0000,  0.7311])
    >>> NeuralClassifier(activation="aglu").activation
    'aglu'
    """

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
        return x * self._gate(x)


class SqueezeExcitation(nn.Module):
    """Attention over features: each is multiplied by a gate that sees all of them.

    Parameters
    ----------
    n_features : int
        Number of features or channels, along axis 1.
    reduction : int, default=16
        The gate's hidden layer has ``n_features // reduction`` units, at least one.
    gate : str or callable, default="apa"
        A registered activation or a module, with values in [0, 1].

    Notes
    -----
    Two linear layers on the means over all other axes, so the cost hardly shows on images. On
    rows of features it is ``2 / reduction`` of a layer of that width.

    References
    ----------
    .. [1] K. P. Alexandridis, J. Deng, A. Nguyen, S. Luo, "Adaptive Parametric Activation",
       ECCV 2024, arXiv:2407.08567, section 4.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import SqueezeExcitation, build_module
    >>> attention = build_module(lambda: SqueezeExcitation(32), torch.Generator().manual_seed(0))
    >>> attention(torch.ones(2, 32, 5, 5)).shape
    torch.Size([2, 32, 5, 5])
    """

    def __init__(self, n_features, reduction=16, gate="apa"):
        super().__init__()
        n_hidden = max(1, n_features // reduction)
        self.squeeze = nn.Linear(n_features, n_hidden)
        self.excite = nn.Linear(n_hidden, n_features)
        self.gate = get_registry("activation").resolve(gate)()

    def forward(self, x):
        """Multiply every feature by its gate.

        Parameters
        ----------
        x : torch.Tensor of shape (n_samples, n_features, ...)
            Input.

        Returns
        -------
        torch.Tensor
            Output of the same shape.
        """
        pooled = x.flatten(2).mean(2) if x.ndim > 2 else x
        gate = self.gate(self.excite(F.relu(self.squeeze(pooled))))
        return x * gate.view(*gate.shape, *[1] * (x.ndim - 2))


def adaptive_parametric_activation(z, lam, kappa):
    """Return ``(lam * exp(-kappa * z) + 1) ** (-1 / lam)``, without overflow.

    Parameters
    ----------
    z : array-like or torch.Tensor
        Input; what is no tensor becomes an array, integers become floats.
    lam : float, array-like or torch.Tensor
        Shape, positive; broadcast with `z`.
    kappa : float, array-like or torch.Tensor
        Slope; broadcast with `z`.

    Returns
    -------
    ndarray or torch.Tensor
        Values in [0, 1], in the floating-point type of `z`; tensors are differentiable.

    Raises
    ------
    ValueError
        If `lam` is not positive.

    References
    ----------
    .. [1] K. P. Alexandridis, J. Deng, A. Nguyen, S. Luo, "Adaptive Parametric Activation",
       ECCV 2024, arXiv:2407.08567, section 3.

    Examples
    --------
    >>> from skpapers.neural_network import adaptive_parametric_activation
    >>> adaptive_parametric_activation([-1.0, 0.0, 1.0], 1.0, 1.0).round(4)
    array([0.2689, 0.5   , 0.7311])
    """
    if not bool((torch.as_tensor(lam) > 0).all()):
        raise ValueError(f"lam must be positive, got {lam!r}")
    if torch.is_tensor(z):
        lam, kappa = (torch.as_tensor(p, dtype=z.dtype, device=z.device) for p in (lam, kappa))
        return _Gate.apply(z, lam, kappa)
    z = np.asarray(z)
    z = z if z.dtype.kind == "f" else z.astype(np.float64)
    lam, kappa = (np.asarray(p, dtype=np.result_type(z, np.float32)) for p in (lam, kappa))
    value = np.exp(-np.logaddexp(0, np.log(lam) - kappa * z) / lam)
    return value.astype(z.dtype, copy=False)


class _Gate(torch.autograd.Function):
    """The gate with its closed derivatives, which stay finite; it keeps input and output."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z, lam, kappa):
        if not _is_blocked(z, lam, kappa):
            return _gate(z, lam, kappa)
        gate = torch.empty_like(z, memory_format=torch.contiguous_format)
        for part, block in zip(_blocks(gate), _blocks(z)):
            part.copy_(_gate(block, lam, kappa))
        return gate

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx, grad):
        z, lam, kappa, gate = ctx.saved_tensors
        if torch.is_grad_enabled() or not _is_blocked(z, lam, kappa):
            return _gate_gradients(grad, z, lam, kappa, gate, ctx.needs_input_grad)
        by_z = torch.empty_like(z, memory_format=torch.contiguous_format)
        by_lam, by_kappa = torch.zeros_like(lam), torch.zeros_like(kappa)
        for part, *block in zip(_blocks(by_z), *map(_blocks, (grad, z, gate))):
            g, x, y = block
            gradients = _gate_gradients(g, x, lam, kappa, y, ctx.needs_input_grad)
            for total, gradient in zip((part, by_lam, by_kappa), gradients):
                if gradient is not None:
                    total.copy_(gradient) if total is part else total.add_(gradient)
        return by_z, by_lam, by_kappa


def _is_blocked(z, lam, kappa):
    """Whether to go by blocks that stay in the cache: large inputs, one gate for all."""
    return z.device.type == "cpu" and z.numel() > 2 * _BLOCK and lam.numel() == kappa.numel() == 1


def _blocks(tensor):
    return tensor.reshape(-1).split(_BLOCK)


def _gate(z, lam, kappa):
    wide, lam, kappa = _wide(z, lam, kappa)
    exponent = F.softplus(torch.log(lam) - kappa * wide).div_(lam).neg_()
    return exponent.exp_().to(z.dtype)


def _gate_gradients(grad, z, lam, kappa, gate, needed):
    wide, wide_lam, wide_kappa = _wide(z, lam, kappa)
    grad, gate = grad.to(wide.dtype), gate.to(wide.dtype)
    t = torch.log(wide_lam) - wide_kappa * wide
    slope = grad * gate * torch.sigmoid(t) / wide_lam
    by_z = by_lam = by_kappa = None
    if needed[0]:
        by_z = (slope * wide_kappa).sum_to_size(z.shape).to(z.dtype)
    if needed[1]:
        by_lam = grad * gate * _softplus_minus_sigmoid(t) / wide_lam.square()
        by_lam = by_lam.sum_to_size(lam.shape).to(lam.dtype)
    if needed[2]:
        by_kappa = (slope * wide).sum_to_size(kappa.shape).to(kappa.dtype)
    return by_z, by_lam, by_kappa


def _wide(z, *parameters):
    """Half precision as float32, and the parameters in the same type."""
    z = z.float() if z.element_size() < 4 else z
    return z, *(parameter.to(z.dtype) for parameter in parameters)


def _softplus_minus_sigmoid(t):
    w = torch.exp(t.clamp(max=_FLAT))
    series = w * w * (0.5 - w * (2 / 3 - 0.75 * w))
    return torch.where(t < _FLAT, series, F.softplus(t) - torch.sigmoid(t))


def _inverse_softplus(value):
    """The number whose softplus is `value`, also where that is large."""
    return value + math.log(-math.expm1(-value))


def class_prior_correction(class_counts, kind="rel"):
    """Return what to add to the logits of a network that was trained on unequal classes.

    The shift favours rare classes. It changes decisions only: the network is trained as before.

    Parameters
    ----------
    class_counts : array-like of shape (n_classes,)
        Number, or sum of weights, of each class in the training data; positive.
    kind : {"raw", "rel", "smooth", "normit", "gombit"}, default="rel"
        With p the share of the class and N the sum of counts n: ``-log(p)``,
        ``log((1 - p) / p)``, ``log((N + 1) / (n + 1)) + 1``, minus the normal quantile of p, or
        ``-log(-log(1 - p))``.

    Returns
    -------
    ndarray of shape (n_classes,)
        Shifts, to be added to the logits.

    Raises
    ------
    ValueError
        If there are less than two counts, one is not positive, or `kind` is unknown.

    References
    ----------
    .. [1] K. P. Alexandridis, J. Deng, A. Nguyen, S. Luo, "Adaptive Parametric Activation",
       ECCV 2024, arXiv:2407.08567, supplementary material.

    Examples
    --------
    >>> from skpapers.neural_network import class_prior_correction
    >>> class_prior_correction([90, 10]).round(2)
    array([-2.2,  2.2])
    """
    counts = np.asarray(class_counts, dtype=np.float64)
    if counts.ndim != 1 or len(counts) < 2 or not (counts > 0).all():
        raise ValueError(f"class_counts must be two or more positive numbers, got {counts}")
    if kind not in _CORRECTIONS:
        raise ValueError(f"kind must be one of {sorted(_CORRECTIONS)}, got {kind!r}")
    return _CORRECTIONS[kind](counts / counts.sum(), counts)


_CORRECTIONS = {
    "raw": lambda share, counts: -np.log(share),
    "rel": lambda share, counts: -scipy.special.logit(share),
    "smooth": lambda share, counts: np.log((counts.sum() + 1) / (counts + 1)) + 1,
    "normit": lambda share, counts: -scipy.special.ndtri(share),
    "gombit": lambda share, counts: -np.log(-np.log1p(-share)),
}
