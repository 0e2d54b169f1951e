"""The kernelised Stein discrepancy: Stein kernels by blocks of rows, or their random features."""

from typing import NamedTuple

import numpy as np
from sklearn.utils import gen_batches
from sklearn.utils._array_api import get_namespace, get_namespace_and_device
from sklearn.utils._chunking import get_chunk_n_rows

from skpapers.utils import median_squared_distance

__all__ = [
    "SteinSample",
    "bootstrap_weights",
    "ksd_statistics",
    "stein_cross_means",
    "stein_features",
    "stein_frequencies",
    "stein_kernel",
    "stein_sample",
    "stein_sums",
]


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


def stein_frequencies(n_features, n_frequencies, kernel, rng):
    """Draw frequencies from the spectral density of a base kernel with unit bandwidth.

    The inverse multiquadric is the mixture of exp(-t r) over t from Gamma(1/2).
    """
    frequencies = rng.normal(scale=np.sqrt(2), size=(n_frequencies, n_features))
    if kernel == "rbf":
        return frequencies
    return frequencies * np.sqrt(rng.gamma(0.5, size=(n_frequencies, 1)))


def stein_features(sample, frequencies):
    """Features whose inner products estimate the Stein kernel, 2 d for each frequency.

    With phi the Fourier features of the base kernel, s phi + grad phi in every direction.
    """
    points, scores, width = sample
    xp, _, device = get_namespace_and_device(points)
    omega = xp.asarray(frequencies / np.sqrt(width), dtype=points.dtype, device=device)
    angles = points @ omega.T
    cosine, sine = (f(angles) / omega.shape[0] ** 0.5 for f in (xp.cos, xp.sin))
    directions = [
        part
        for j in range(points.shape[1])
        for part in (
            scores[:, j : j + 1] * cosine - omega[:, j] * sine,
            scores[:, j : j + 1] * sine + omega[:, j] * cosine,
        )
    ]
    return xp.concat(directions, axis=1)


def stein_cross_means(left, right, frequencies):
    """Means over the points of `right` of the Stein kernel of random features, one a point."""
    xp, _ = get_namespace(left.points)
    total = sum(xp.sum(block, axis=0) for block in _feature_blocks(right, frequencies))
    # both with the bandwidth of the second sample
    blocks = _feature_blocks(left._replace(bandwidth=right.bandwidth), frequencies)
    return xp.concat([block @ total for block in blocks]) / right.points.shape[0]


def _feature_blocks(sample, frequencies):
    n_samples, n_features = sample.points.shape
    row_bytes = 8 * 6 * n_features * len(frequencies)
    for rows in gen_batches(
        n_samples, get_chunk_n_rows(row_bytes=row_bytes, max_n_rows=n_samples)
    ):
        yield stein_features(sample.rows(rows), frequencies)


def stein_sums(samples, kernel="imq", *, weights=None, frequencies=None):
    """Sum the Stein kernels of `samples` by blocks of rows, and reduce the sum.

    With `frequencies` (of unit bandwidth) they are those of the random features, which costs time
    linear in the rows. Returns the sums of the rows, the diagonal, and, for `weights` (n_draws,
    n_samples), the quadratic forms w'(U - diag U)w of the draws (None without).
    """
    xp, _, device = get_namespace_and_device(samples[0].points)
    if weights is not None:
        weights = xp.asarray(weights, dtype=samples[0].points.dtype, device=device)
    if frequencies is None:
        return _pair_sums(samples, kernel, weights)
    parts = [_feature_sums(sample, frequencies, weights) for sample in samples]
    sums, diagonals, forms = zip(*parts)
    return sum(sums), sum(diagonals), None if weights is None else sum(forms)


def _pair_sums(samples, kernel, weights):
    xp, _ = get_namespace(samples[0].points)
    n_samples = samples[0].points.shape[0]
    sums, diagonals = [], []
    forms = None if weights is None else xp.zeros_like(weights[:, 0])
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


def _feature_sums(sample, frequencies, weights):
    xp, _ = get_namespace(sample.points)
    total, diagonal = 0.0, []
    for block in _feature_blocks(sample, frequencies):
        total = total + xp.sum(block, axis=0)
        diagonal.append(xp.sum(block * block, axis=1))
    sums, projected, start = [], 0.0, 0
    for block in _feature_blocks(sample, frequencies):
        sums.append(block @ total)
        stop = start + block.shape[0]
        if weights is not None:
            projected = projected + weights[:, start:stop] @ block
        start = stop
    sums, diagonal = xp.concat(sums), xp.concat(diagonal)
    if weights is None:
        return sums, diagonal, None
    return sums, diagonal, xp.sum(projected**2, axis=1) - (weights * weights) @ diagonal


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
