"""Private sums of distances along axes, from binary trees of noisy counts."""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.utils import gen_batches
from sklearn.utils._chunking import get_chunk_n_rows

__all__ = ["DistanceTrees", "plant"]


class DistanceTrees(NamedTuple):
    """Sums of distances |x - y| along each axis, from released counts.

    `prefix` (n_axes, n_cells + 1) counts the records below each border of cells, and `sums`
    (n_axes, n_cells) is the sum of distances to the centre of each cell.
    """

    low: np.ndarray
    width: np.ndarray
    prefix: np.ndarray
    sums: np.ndarray
    noise: float
    consistent: bool
    ratio: float | None  # of the radii of annuli; None for sums between centres

    @property
    def count(self):
        return float(self.prefix[:, -1].mean())

    @property
    def n_cells(self):
        return self.sums.shape[1]

    def answer(self, Y):
        """Sum of distances to each row of Y, over records and axes."""
        if self.ratio is None:
            return self._interpolated(Y)
        n_radii = self._n_radii()
        rows = get_chunk_n_rows(row_bytes=64 * Y.shape[1] * n_radii, max_n_rows=max(len(Y), 1))
        return np.concatenate([self._annuli(Y[b], n_radii) for b in gen_batches(len(Y), rows)])

    def _interpolated(self, Y):
        """The sum is linear between centres of cells, with slopes -n and n outside."""
        place = self._place(Y)
        inside = np.clip(place, 0, self.n_cells - 1)
        left = np.minimum(inside.astype(np.int64), self.n_cells - 2)
        weight, axes = inside - left, np.arange(Y.shape[1])
        sums = (1 - weight) * self.sums[axes, left] + weight * self.sums[axes, left + 1]
        outside = np.abs(place - inside) * self.width / self.n_cells
        return (sums + outside * self.prefix[:, -1]).sum(axis=1)

    def _place(self, Y):
        """Positions in cells, 0 at the centre of the first."""
        return (Y - self.low) / self.width * self.n_cells - 0.5

    def _n_radii(self):
        return int(np.ceil(np.log(self.n_cells) / np.log(self.ratio))) + 1

    def _annuli(self, Y, n_radii):
        """Count the records in annuli around y, and take their outer radii for distances."""
        place = self._place(Y)
        farthest = np.maximum(np.abs(place), np.abs(place - self.n_cells + 1))
        radii = farthest[..., None] * self.ratio ** -np.arange(n_radii)
        balls = self._below(place[..., None] + radii) - self._below(place[..., None] - radii, -1)
        inner = np.concatenate([balls[..., 1:], np.zeros_like(balls[..., :1])], axis=-1)
        sums = ((balls - inner) * radii).sum(axis=-1)
        return (sums * self.width / self.n_cells).sum(axis=1)

    def _below(self, place, side=1):
        """Records in the cells whose centres are at most (side 1) or below (-1) these places."""
        rounding = side * 1e-9 * self.n_cells  # the farthest cell belongs to the largest ball
        border = np.floor(place + rounding) + 1 if side == 1 else np.ceil(place + rounding)
        border = np.clip(border, 0, self.n_cells).astype(np.int64)
        return self.prefix[np.arange(border.shape[1])[:, None], border]

    def variance(self, Y):
        """Variance of the noise in the answers."""
        rows = get_chunk_n_rows(row_bytes=32 * Y.shape[1] * self.n_cells, max_n_rows=len(Y))
        parts = [self._variance(Y[batch]) for batch in gen_batches(len(Y), rows)]
        return self.noise**2 * np.concatenate(parts)

    def _variance(self, Y):
        place = self._place(Y)[..., None]
        weights = np.abs(np.arange(self.n_cells) - place)
        if self.ratio is not None:
            farthest = weights.max(axis=-1, keepdims=True)
            steps = np.log(farthest / np.maximum(weights, 1e-300)) / np.log(self.ratio)
            weights = farthest * self.ratio ** -np.minimum(np.floor(steps), self._n_radii() - 1)
        weights = weights * (self.width / self.n_cells)[:, None]
        squares = haar_variance if self.consistent else dyadic_variance
        return squares(weights).sum(axis=1)


def plant(X, low, high, *, n_cells, budget, relative, noise, consistent, ratio):
    """Release the trees of all axes of X. Each record is in one node a level and axis."""
    width = high - low
    cells = ((np.clip(X, low, high) - low) / width * n_cells).astype(np.int64)
    cells = np.minimum(cells, n_cells - 1) + n_cells * np.arange(X.shape[1])
    leaves = np.bincount(cells.ravel(), minlength=n_cells * X.shape[1]).reshape(-1, n_cells)
    nodes = X.shape[1] * int(np.log2(2 * n_cells))
    scale = budget.block_scale(relative, nodes, np.sqrt(nodes), 1.0)
    counts = budget.release_counts(np.concatenate(tree(leaves), axis=1), scale, noise)
    levels = np.split(counts, level_starts(n_cells), axis=1)
    if consistent:
        prefix = _with_zero(np.cumsum(consistent_leaves(levels), axis=-1))
    else:
        prefix = dyadic_prefix(levels)
    sums = distance_sums(np.diff(prefix), width / n_cells)
    std = budget.standard_deviation(scale)
    return DistanceTrees(low, width, prefix, sums, std, consistent, ratio)


def n_nodes(n_cells):
    return 2 * n_cells - 1


def level_starts(n_cells):
    """Where the levels above the leaves start, when all are concatenated."""
    return np.cumsum([n_cells >> height for height in range(int(np.log2(n_cells)))])


def tree(leaves):
    """Sums over binary intervals: levels from the leaves to the root."""
    levels = [leaves]
    while levels[-1].shape[-1] > 1:
        levels.append(levels[-1][..., ::2] + levels[-1][..., 1::2])
    return levels


def consistent_leaves(levels):
    """Least-squares leaves of a tree whose nodes have noise of one variance.

    Hay, Rastogi, Miklau and Suciu (2010): weighted means upwards, then differences downwards.
    """
    means = [levels[0]]
    for height, level in enumerate(levels[1:], start=2):
        children = means[-1][..., ::2] + means[-1][..., 1::2]
        own = 2.0 ** (height - 1) / (2.0**height - 1)
        means.append(own * level + (1 - own) * children)
    found = means[-1]
    for mean in means[-2::-1]:
        excess = found - (mean[..., ::2] + mean[..., 1::2])
        found = mean + np.repeat(excess, 2, axis=-1) / 2
    return found


def dyadic_prefix(levels):
    """Counts below each border, each from at most one node a level."""
    n_cells, flat = levels[0].shape[-1], np.concatenate(levels, axis=-1)
    return flat @ dyadic_matrix(n_cells).T


def dyadic_matrix(n_cells):
    """Which nodes add up to the count below each border, sparse (n_cells + 1, n_nodes)."""
    borders, rows, columns, offset = np.arange(n_cells + 1), [], [], 0
    for height in range(int(np.log2(n_cells)) + 1):
        taken = borders[(borders >> height) & 1 == 1]
        rows.append(taken)
        columns.append(offset + (taken >> height) - 1)
        offset += n_cells >> height
    rows, columns = np.concatenate(rows), np.concatenate(columns)
    shape = (n_cells + 1, n_nodes(n_cells))
    return sparse.csr_array((np.ones(rows.size), (rows, columns)), shape=shape)


def distance_sums(counts, cell):
    """Sum of distances from the centre of each cell to all records at such centres."""
    below = _with_zero(np.cumsum(counts, axis=-1)[..., :-1])
    from_left = np.cumsum(below, axis=-1)
    above = counts.sum(axis=-1, keepdims=True) - below - counts
    from_right = np.cumsum(above[..., ::-1], axis=-1)[..., ::-1]
    return (from_left + from_right) * cell[:, None]


def _with_zero(values):
    """Prepend a zero along the last axis."""
    return np.concatenate([np.zeros_like(values[..., :1]), values], axis=-1)


def haar_variance(weights):
    """Variance of weights @ consistent leaves, for nodes with noise of variance one.

    The least-squares covariance is diagonal in the Haar basis: 1 / (s - 1) for the wavelet of a
    node with s leaves, and 1 / (2 n_cells - 1) for the constant.
    """
    variance, means, leaves = 0.0, weights, 1
    while means.shape[-1] > 1:
        leaves *= 2
        detail = (means[..., ::2] - means[..., 1::2]) / np.sqrt(2)
        means = (means[..., ::2] + means[..., 1::2]) / np.sqrt(2)
        variance = variance + (detail**2).sum(axis=-1) / (leaves - 1)
    return variance + means[..., 0] ** 2 / (2 * leaves - 1)


def dyadic_variance(weights):
    """Variance of weights @ differences of dyadic prefix counts."""
    n_cells = weights.shape[-1]
    coefs = -np.diff(_with_zero(weights), axis=-1, append=0.0)
    found = coefs.reshape(-1, n_cells + 1) @ dyadic_matrix(n_cells)
    return (found**2).sum(axis=-1).reshape(weights.shape[:-1])
