"""Links that are gradients of convex networks, and so belong to proper losses."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from skpapers.neural_network._random import uniform_fan_in_

__all__ = ["LegendreLink", "log_softmax_plus"]

_LEAST_SCALE = 1e-3  # added to every normalising factor, as in the authors' experiments


class LegendreLink(nn.Module):
    """A learnable map from scores to the log-odds of probabilities, for a proper loss.

    It is a composition of gradients of strongly convex functions, each an input-convex network
    plus a multiple of the squared norm. Followed by :func:`log_softmax_plus` it is the inverse
    link of a proper loss, whatever its parameters; with one block the link is canonical
    up to a change of coordinates, and its Jacobian has real eigenvalues that are not negative.

    Parameters
    ----------
    n_scores : int
        Number of scores: that of the classes, less one.
    n_blocks : int, default=1
        Number of gradients composed; 0 is the identity, which belongs to the log loss.
    width : int, default=4
        Width of the convex networks; even.
    depth : int, default=4
        Number of their hidden layers; at least 2.

    References
    ----------
    Lam, Walder, Penev and Nock, "LegendreTron: Uprising Proper Multiclass Loss Learning",
    ICML 2023, arXiv:2301.11695, section 4.

    Examples
    --------
    >>> import torch
    >>> from skpapers.calibration import LegendreLink, log_softmax_plus
    >>> from skpapers.neural_network import build_module
    >>> link = build_module(lambda: LegendreLink(2), torch.Generator().manual_seed(0))
    >>> log_softmax_plus(link(torch.zeros(5, 2))).exp().sum(dim=1).shape
    torch.Size([5])
    """

    def __init__(self, n_scores, n_blocks=1, width=4, depth=4):
        super().__init__()
        blocks = (ConvexGradient(n_scores, width, depth) for _ in range(n_blocks))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, s):
        """Map scores to log-odds against the reference class.

        Parameters
        ----------
        s : torch.Tensor of shape (..., n_scores)
            Scores.

        Returns
        -------
        torch.Tensor of shape (..., n_scores)
            Log-odds.
        """
        for block in self.blocks:
            s = block(s)
        return s

    def normalize_(self, s, weight=None):
        """Scale the layers of the networks to mean 0 and variance 1 on these scores, in place.

        Parameters
        ----------
        s : torch.Tensor of shape (n_samples, n_scores)
            Scores.
        weight : torch.Tensor of shape (n_samples,), default=None
            Weights of the rows.
        """
        for block in self.blocks:
            block.normalize_(s, weight)
            s = block(s)

    def inverse(self, z, max_iter=200, tol=1e-12):
        """Find the scores with the given log-odds, block by block.

        Parameters
        ----------
        z : torch.Tensor of shape (n_samples, n_scores)
            Log-odds against the reference class.
        max_iter : int, default=200
            Largest number of Newton steps a block.
        tol : float, default=1e-12
            Stop where no entry of a gradient exceeds this, relative to the largest of `z`.

        Returns
        -------
        torch.Tensor of shape (n_samples, n_scores)
            Scores.
        """
        for block in reversed(self.blocks):
            z = block.inverse(z, max_iter, tol)
        return z


class ConvexGradient(nn.Module):
    """Gradient of softplus(w1) * N(s) + softplus(w0) * |s|**2 / 2, where N is convex.

    The layers of N take the scores, and what the layer before says with positive weights:
    half of each layer sees the scores alone ("gates"), half sees both ("mixed").
    The gradient is written out, so that training needs no second differentiation.
    """

    def __init__(self, n_scores, width, depth):
        super().__init__()
        if width < 2 or width % 2 or depth < 2:
            raise ValueError(
                f"width must be even and depth at least 2, got width={width} and depth={depth}"
            )
        self.width, self.n_mixed = width, depth - 1
        self.n_gates = width + self.n_mixed * width // 2
        n_units = self.n_gates + self.n_mixed * width // 2
        self.strength = nn.Parameter(torch.empty(()))  # w1
        self.curvature = nn.Parameter(torch.empty(()))  # w0
        self.weight = nn.Parameter(torch.empty(n_units, n_scores))
        self.bias = nn.Parameter(torch.empty(n_units))
        self.positive = nn.Parameter(torch.empty(self.n_mixed, width // 2, width))
        self.log_scale = nn.Parameter(torch.empty(self.n_mixed, width // 2))
        self.out_weight = nn.Parameter(torch.empty(n_scores))
        self.out_positive = nn.Parameter(torch.empty(width))
        self.out_log_scale = nn.Parameter(torch.empty(()))

    def init_parameters(self, generator):
        """Draw the weights as torch does, and the factors of both parts from N(0, 1)."""
        self.strength.normal_(generator=generator)
        self.curvature.normal_(generator=generator)
        uniform_fan_in_(self.weight, generator)
        bound = 1 / math.sqrt(self.weight.shape[1])
        self.bias.uniform_(-bound, bound, generator=generator)
        self.out_weight.uniform_(-bound, bound, generator=generator)
        bound = 1 / math.sqrt(self.width)
        self.positive.uniform_(-bound, bound, generator=generator)
        self.out_positive.uniform_(-bound, bound, generator=generator)
        self.log_scale.zero_()
        self.out_log_scale.zero_()

    def _units(self, s):
        """What the units get from the scores: gates, and mixed units a layer."""
        units = F.linear(s, self.weight, self.bias)
        gates, mixed = units[..., : self.n_gates], units[..., self.n_gates :]
        return gates, mixed.split(self.width // 2, dim=-1)

    def _gates(self, gates):
        """The first layer, and the gates of each later one."""
        return gates.split([self.width] + [self.width // 2] * self.n_mixed, dim=-1)

    def forward(self, s):
        gates, mixed = self._units(s)
        z, *open_gates = self._gates(F.softplus(gates))
        weights = F.softplus(self.positive) / self.width
        scales = self.log_scale.exp() + _LEAST_SCALE
        slopes = []
        for layer, gate in enumerate(open_gates):
            unit = (F.linear(z, weights[layer]) + mixed[layer]) * scales[layer]
            slopes.append(torch.sigmoid(unit) * scales[layer])
            z = torch.cat([F.softplus(unit), gate], dim=-1)
        out_scale = self.out_log_scale.exp() + _LEAST_SCALE
        z = (out_scale / self.width * F.softplus(self.out_positive)).expand_as(z)
        from_mixed, from_gates = [], []
        for layer in reversed(range(self.n_mixed)):  # back from the output
            through, gate = z.chunk(2, dim=-1)
            through = through * slopes[layer]
            from_mixed.append(through)
            from_gates.append(gate)
            z = through @ weights[layer]
        gates = torch.sigmoid(gates) * torch.cat([z, *from_gates[::-1]], dim=-1)
        gradient = torch.cat([gates, *from_mixed[::-1]], dim=-1) @ self.weight
        gradient = gradient + out_scale * self.out_weight
        return F.softplus(self.strength) * gradient + F.softplus(self.curvature) * s

    def convex(self, s):
        """The convex network N itself, without the frozen constant at its end."""
        gates, mixed = self._units(s)
        z, *open_gates = self._gates(F.softplus(gates))
        weights = F.softplus(self.positive) / self.width
        scales = self.log_scale.exp() + _LEAST_SCALE
        for layer, gate in enumerate(open_gates):
            unit = (F.linear(z, weights[layer]) + mixed[layer]) * scales[layer]
            z = torch.cat([F.softplus(unit), gate], dim=-1)
        out = z @ F.softplus(self.out_positive) / self.width + s @ self.out_weight
        return out * (self.out_log_scale.exp() + _LEAST_SCALE)

    def potential(self, s):
        """The strongly convex function whose gradient this is."""
        quadratic = F.softplus(self.curvature) * s.square().sum(dim=-1) / 2
        return F.softplus(self.strength) * self.convex(s) + quadratic

    def normalize_(self, s, weight=None):
        """Set biases and scales such that mixed units and output have mean 0 and variance 1."""
        half = self.width // 2
        self.bias[self.n_gates :] = 0
        gates, mixed = self._units(s)
        z, *open_gates = self._gates(F.softplus(gates))
        weights = F.softplus(self.positive) / self.width
        for layer, gate in enumerate(open_gates):
            unit = F.linear(z, weights[layer]) + mixed[layer]
            mean, self.log_scale[layer] = _moments(unit, weight)
            start = self.n_gates + layer * half
            self.bias[start : start + half] = -mean
            unit = (unit - mean) * (self.log_scale[layer].exp() + _LEAST_SCALE)
            z = torch.cat([F.softplus(unit), gate], dim=-1)
        out = z @ F.softplus(self.out_positive) / self.width + s @ self.out_weight
        self.out_log_scale.copy_(_moments(out[:, None], weight)[1][0])

    def inverse(self, z, max_iter, tol):
        """Minimise potential(s) - <z, s> for each row, by Newton's method with halved steps."""
        jacobian = torch.func.vmap(torch.func.jacrev(self))
        s = torch.zeros_like(z)
        for _ in range(max_iter):
            slope = self(s) - z
            if slope.abs().max() <= tol * max(1.0, float(z.abs().max())):
                return s
            step = -torch.linalg.solve(jacobian(s), slope)
            s = s + self._damping(s, z, step, slope) * step
        return s

    def _damping(self, s, z, step, slope):
        """A factor a row, small enough that the convex function falls."""

        def value(s):
            return self.potential(s) - (z * s).sum(dim=-1)

        start, expected = value(s), (slope * step).sum(dim=-1)
        slack = 1e-12 * (1 + start.abs())  # near the minimum differences are rounding errors
        factor = torch.ones_like(start)
        for _ in range(50):
            high = value(s + factor[:, None] * step) > start + 1e-4 * factor * expected + slack
            if not high.any():
                break
            factor = torch.where(high, factor / 2, factor)
        return factor[:, None]


def _moments(values, weight):
    """Mean of each column, and minus the logarithm of its deviation (0 where it is constant)."""
    weight = torch.ones_like(values[:, 0]) if weight is None else weight
    weight = (weight / weight.sum())[:, None]
    mean = (weight * values).sum(dim=0)
    deviation = (weight * (values - mean).square()).sum(dim=0).sqrt()
    varies = deviation > 1e-6 * (1e-6 + mean.abs())
    return mean, -torch.where(varies, deviation, 1).log()


def log_softmax_plus(z, reference=-1):
    """Compute log-probabilities of classes, of which the reference class has the score 0.

    Parameters
    ----------
    z : torch.Tensor of shape (..., n_classes - 1)
        Log-odds of the other classes against the reference class.
    reference : int, default=-1
        Position of the reference class among the classes; -1 is the last.

    Returns
    -------
    torch.Tensor of shape (..., n_classes)
        Log-probabilities.

    References
    ----------
    Lam, Walder, Penev and Nock, "LegendreTron: Uprising Proper Multiclass Loss Learning",
    ICML 2023, arXiv:2301.11695, section 4; Nock and Menon, "Supervised Learning: No Loss No Cry",
    ICML 2020.

    Examples
    --------
    >>> import torch
    >>> from skpapers.calibration import log_softmax_plus
    >>> log_softmax_plus(torch.zeros(1, 3)).exp()
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """
    reference = reference % (z.shape[-1] + 1)
    before, after = z[..., :reference], z[..., reference:]
    return F.log_softmax(torch.cat([before, torch.zeros_like(z[..., :1]), after], dim=-1), dim=-1)
