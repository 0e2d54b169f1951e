"""The kernelised Stein discrepancy: Stein kernels by blocks of rows, statistics, bootstraps."""

from typing import NamedTuple

import numpy as np
from sklearn.utils import gen_batches
from sklearn.utils._array_api import get_namespace, get_namespace_and_device
from sklearn.utils._chunking import get_chunk_n_rows

from skpapers.utils import median_squared_distance

__all__ = [
    "KSDResult",
    "SteinSample",
    "bootstrap_weights",
    "ksd_statistics",
    "ksd_test",
    "stein_kernel",
    "stein_sample",
    "stein_sums",
]


class KSDResult(NamedTuple):
    """Outcome of a test of goodness of fit.

    Attributes
    ----------
    statistic : float
        Estimate of the squared discrepancy (it may be negative).
    pvalue : float
        P-value of the bootstrap.
    reject : bool
        Whether the p-value is at most the level.
    """

    statistic: float
    pvalue: float
    reject: bool


class SteinSample(NamedTuple):
    """Points (centred: the kernel depends on differences), scores there, squared bandwidth."""

    points: object
    scores: object
    bandwidth: float

    def rows(self, rows):
        """Part of the sample."""
        return self._replace(points=self.points[rows, :], scores=self.scores[rows, :])


def stein_sample(X, scores, bandwidth="median", *, centre=None):
    """Put together what a Stein kernel is computed from."""
    xp, _ = get_namespace(X, scores)
    if isinstance(bandwidth, str):
        bandwidth = median_squared_distance(X) or 1.0
    return SteinSample(X - (xp.mean(X, axis=0) if centre is None else centre), scores, bandwidth)


def stein_kernel(left, right, kernel="imq"):
    """Stein kernel between the points of two samples, with the bandwidth of the second.

    Every gradient term is a matrix product: with k(x, y) = f(|x - y|^2 / c) and D = x - y,
    grad_x k = 2 f' D / c = -grad_y k, and the trace is -2 d f' / c - 4 |D|^2 f'' / c^2.
    """
    x, s, _ = left
    y, t, width = right
    xp, _ = get_namespace(x, y)
    squared = xp.sum(x * x, axis=1)[:, None] + xp.sum(y * y, axis=1)[None, :] - 2 * (x @ y.T)
    ratio = xp.where(squared > 0, squared, xp.zeros_like(squared)) / width
    value, slope, curvature = _PROFILES[kernel](xp, ratio)
    # (s(x) - s(y)) . (x - y)
    along = xp.sum(s * x, axis=1)[:, None] - s @ y.T
    along = along + xp.sum(t * y, axis=1)[None, :] - x @ t.T
    trace = -2 / width * (x.shape[1] * slope + 2 * ratio * curvature)
    return (s @ t.T) * value - 2 / width * slope * along + trace


def _inverse_multiquadric(xp, ratio):
    base = 1 / (1 + ratio)
    value = xp.sqrt(base)
    slope = -0.5 * value * base
    return value, slope, -1.5 * slope * base


def _gaussian(xp, ratio):
    value = xp.exp(-ratio)
    return value, -value, value


_PROFILES = {"imq": _inverse_multiquadric, "rbf": _gaussian}


def stein_sums(samples, kernel="imq", *, weights=None):
    """Sum the Stein kernels of `samples` by blocks of rows, and reduce the sum.

    Returns the sums of its rows, its diagonal, and, for `weights` (n_draws, n_samples), the
    quadratic forms w'(U - diag U)w of the draws (None without).
    """
    xp, _, device = get_namespace_and_device(samples[0].points)
    n_samples = samples[0].points.shape[0]
    sums, diagonals, forms = [], [], None
    if weights is not None:
        weights = xp.asarray(weights, dtype=samples[0].points.dtype, device=device)
        forms = xp.zeros_like(weights[:, 0])
    n_rows = get_chunk_n_rows(row_bytes=8 * 8 * n_samples, max_n_rows=n_samples)
    for rows in gen_batches(n_samples, n_rows):
        block = sum(stein_kernel(sample.rows(rows), sample, kernel) for sample in samples)
        sums.append(xp.sum(block, axis=1))
        diagonals.append(xp.linalg.diagonal(block[:, rows]))
        if weights is not None:
            part = weights[:, rows]
            forms = forms + xp.sum((part @ block) * weights, axis=1)
            forms = forms - (part * part) @ diagonals[-1]
    return xp.concat(sums), xp.concat(diagonals), forms


def ksd_statistics(sums, diagonal):
    """U-statistic and V-statistic of the squared discrepancy, from row sums and diagonal."""
    xp, _ = get_namespace(sums)
    n_samples = sums.shape[0]
    total = float(xp.sum(sums))
    off_diagonal = total - float(xp.sum(diagonal))
    return off_diagonal / (n_samples * (n_samples - 1)), total / n_samples**2


def bootstrap_weights(n_samples, n_bootstrap, method, rng):
    """Weights of the draws: centred multinomial counts, or random signs, over n."""
    if method == "multinomial":
        counts = rng.multinomial(n_samples, np.full(n_samples, 1 / n_samples), n_bootstrap)
        return (counts - 1) / n_samples
    return rng.choice([-1.0, 1.0], size=(n_bootstrap, n_samples)) / n_samples


def ksd_test(samples, *, kernel, bootstrap, n_bootstrap, alpha, rng):
    """Test whether the summed discrepancy of `samples` is zero.

    The multinomial bootstrap goes with the U-statistic; random signs with the V-statistic, where
    the diagonal is the same in all draws.
    """
    weights = bootstrap_weights(samples[0].points.shape[0], n_bootstrap, bootstrap, rng)
    sums, diagonal, forms = stein_sums(samples, kernel, weights=weights)
    xp, _ = get_namespace(forms)
    statistic, v_statistic = ksd_statistics(sums, diagonal)
    if bootstrap == "wild":
        statistic = v_statistic
        forms = forms + float(xp.sum(diagonal)) / sums.shape[0] ** 2
    n_above = int(xp.count_nonzero(forms >= statistic))
    pvalue = (1 + n_above) / (n_bootstrap + 1)
    return KSDResult(statistic, pvalue, pvalue <= alpha)
