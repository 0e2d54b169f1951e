"""Linear layers whose output scale is a parameter of its own."""

from numbers import Integral, Real

import torch
import torch.nn.functional as F
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from torch import nn

from ._registry import register

__all__ = ["ScaleDistributionLinear"]

_SIZE = Interval(Integral, 1, None, closed="left")
_POSITIVE = Interval(Real, 0, None, closed="neither")
_CONSTRAINTS = {
    "in_features": [_SIZE],
    "out_features": [Interval(Integral, 2, None, closed="left")],
    "bias": ["boolean"],
    "eps": [_POSITIVE],
    "init_scale": [_POSITIVE, StrOptions({"data"})],
}


class ScaleDistributionLinear(nn.Module):
    """A linear layer that learns the scale of its output apart from its distribution.

    ``y = scale * u / rms(u) + bias`` with ``u = V x`` and the root mean square over the outputs
    of a row. The size of V has no influence, its gradient is orthogonal to V, and neither
    vanishes nor explodes with the depth of a network, whatever the size of its initial weights.

    Parameters
    ----------
    in_features : int
        Width of the input.
    out_features : int
        Width of the output, at least 2: one output would be its sign.
    bias : bool, default=True
        Add a trainable vector to the output.
    eps : float, default=1e-6
        Added to the mean square; rows of zeros stay zeros.
    init_scale : float or "data", default=1.0
        Initial scale; "data" takes the root mean square of ``V x`` in the first batch of the
        training, with which the layer starts close to the linear one.

    Attributes
    ----------
    distribution : torch.nn.Linear
        The matrix V, without a bias.
    scale : torch.Tensor of shape (out_features,)
        The scales.
    bias : torch.Tensor of shape (out_features,) or None
        The bias.

    Notes
    -----
    The gradient with respect to V is inverse to its size, so large initial weights learn slowly
    and small ones (a tenth of the usual) take steps that may diverge at the usual rates. Descent
    makes V grow, which lowers the rate that is in effect; weight decay acts on V alone and
    counters that.

    ``NeuralClassifier(linear="sdd")`` uses it in every layer but the last. A normalization
    besides is redundant.

    References
    ----------
    .. [1] Y. Wang et al., "Scale-Distribution Decoupling: Enabling Stable and Effective Training
       of Large Language Models", 2025, arXiv:2502.15499, section 3.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import ScaleDistributionLinear, build_module
    >>> make = lambda: ScaleDistributionLinear(3, 4)
    >>> layer = build_module(make, torch.Generator().manual_seed(0))
    >>> bool(torch.allclose(layer(torch.ones(1, 3)), layer(torch.full((1, 3), 10.0))))
    True
    """

    def __init__(self, in_features, out_features, bias=True, eps=1e-6, init_scale=1.0):
        super().__init__()
        options = {"in_features": in_features, "out_features": out_features, "bias": bias}
        options |= {"eps": eps, "init_scale": init_scale}
        validate_parameter_constraints(_CONSTRAINTS, options, "ScaleDistributionLinear")
        self.eps, self.init_scale = eps, init_scale
        self.distribution = nn.Linear(in_features, out_features, bias=False)
        self.scale = nn.Parameter(torch.ones(out_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.register_buffer("is_scaled", torch.tensor(init_scale != "data"))

    def init_parameters(self, generator):
        """Set scale and bias to their initial values.

        Parameters
        ----------
        generator : torch.Generator
            Not used: the matrix is drawn by its own layer.
        """
        self.scale.fill_(1.0 if self.init_scale == "data" else self.init_scale)
        self.is_scaled.fill_(self.init_scale != "data")
        if self.bias is not None:
            self.bias.zero_()

    def forward(self, x):
        """Map the last axis of x.

        Parameters
        ----------
        x : torch.Tensor of shape (..., in_features)
            Input.

        Returns
        -------
        torch.Tensor of shape (..., out_features)
            Output.
        """
        u = self.distribution(x)
        if self.init_scale == "data" and self.training and not self.is_scaled:
            self._take_scale(u)
        y = F.rms_norm(u, self.scale.shape, self.scale, self.eps)
        return y if self.bias is None else y + self.bias

    @torch.no_grad()
    def _take_scale(self, u):
        self.scale.fill_(u.square().mean().sqrt())
        self.is_scaled.fill_(True)

    @torch.no_grad()
    def to_linear(self, x):
        """Find a linear layer that does about the same.

        Parameters
        ----------
        x : torch.Tensor of shape (n, in_features)
            Typical inputs.

        Returns
        -------
        linear : torch.nn.Linear
            With the rows of V times the scales and the mean of ``1 / rms(V x)``.
        error : float
            Root mean square of its error on `x` relative to that of the output.
        """
        u = self.distribution(x)
        factor = (u.square().mean(-1) + self.eps).rsqrt().mean()
        n_out, n_in = self.distribution.weight.shape
        like = {"dtype": u.dtype, "device": u.device}
        linear = nn.utils.skip_init(nn.Linear, n_in, n_out, **like)
        linear.weight.copy_(self.distribution.weight * (self.scale * factor)[:, None])
        linear.bias.copy_(torch.zeros_like(self.scale) if self.bias is None else self.bias)
        y = self(x)
        return linear, float((linear(x) - y).norm() / y.norm())


@register("linear", "sdd")
def _sdd(make_linear, n_in, n_out, role, eps=1e-6, init_scale=1.0):
    """Scale and distribution apart; the matrix as the parametrization has it."""
    if n_out == 1:
        return make_linear(n_in, n_out, role)
    layer = ScaleDistributionLinear(n_in, n_out, eps=eps, init_scale=init_scale)
    layer.distribution = make_linear(n_in, n_out, role)
    layer.distribution.register_parameter("bias", None)
    if hasattr(layer.distribution, "width_role"):
        layer.width_role = layer.distribution.width_role
    return layer
