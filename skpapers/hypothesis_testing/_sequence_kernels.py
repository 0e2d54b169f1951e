"""Stein kernels of sequences: explicit counts of subsequences, or any kernel of two sequences.

With weights g of the edits from x to its neighbours x', the Stein kernel of x and y is the inner
product of the signed measures sum_x' g(x') (delta_x' - delta_x) under the base kernel.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils import gen_batches
from sklearn.utils._chunking import get_chunk_n_rows

from ._sequences import Edits, Sequences, edited, edited_symbols, symbols_at

__all__ = ["CallableKernel", "CountKernel", "ExponentialKernel", "PairKernel", "SignedMeasures"]


_DENSE_COLUMNS = 4096  # up to here counting in an array is faster than sorting


class CountKernel(NamedTuple):
    """Linear kernel of the counts of contiguous subsequences, and of the length.

    Counts of subsequences are divided by the root of the length.
    """

    n_symbols: int
    max_ngram: int
    length_scale: float

    by_rows = True  # rows can be computed in blocks

    @property
    def first_columns(self):
        """First column of the subsequences of each order, and the number of columns."""
        sizes = [self.n_symbols**order for order in range(1, self.max_ngram + 1)]
        return [1 + sum(sizes[:order]) for order in range(self.max_ngram + 1)]

    def features(self, sequences):
        """Features phi of whole sequences, a sparse matrix."""
        codes, lengths = sequences
        everyone = np.arange(len(lengths))
        entries = [(everyone, np.zeros_like(lengths), lengths * self.length_scale)]
        entries += self._all_counts(sequences, 1 / np.sqrt(lengths))
        return self._matrix(entries, len(lengths))

    def stein(self, sequences, edits, weights):
        """Stein features psi(x) = sum of g(x') (phi(x') - phi(x)), a sparse matrix.

        An edit replaces the subsequences around its position; all others are rescaled, as the
        length has changed.
        """
        lengths, row = sequences.lengths, edits.row
        n = len(lengths)
        scaled = weights / np.sqrt(lengths[row] + edits.change)
        rescaled = np.bincount(row, scaled, n) - np.bincount(row, weights, n) / np.sqrt(lengths)
        growth = np.bincount(row, weights * edits.change, n)
        entries = [(np.arange(n), np.zeros_like(lengths), growth * self.length_scale)]
        entries += self._all_counts(sequences, rescaled)
        places, lost = _sum_over_symbols(edits, scaled)
        for order in range(1, self.max_ngram + 1):
            columns, kept = _windows(edits, order, edits.change < 0)
            new = edited_symbols(sequences.codes, edits, columns)
            entries.append(self._counts(row, new, scaled, kept))
            columns, kept = _windows(places, order, places.change > 0)
            old = symbols_at(sequences.codes, places.row, columns)
            entries.append(self._counts(places.row, old, -lost, kept))
        return self._matrix(entries, n)

    def _all_counts(self, sequences, weights):
        codes = sequences.codes
        rows = np.arange(len(codes))
        for order in range(1, min(self.max_ngram, codes.shape[1]) + 1):
            windows = np.lib.stride_tricks.sliding_window_view(codes, order, axis=1)
            yield self._counts(rows, windows, weights, True)

    def _counts(self, rows, windows, weights, kept):
        """Rows, columns and values of subsequences (n_rows, n_windows, order)."""
        order = windows.shape[2]
        kept = kept & (windows >= 0).all(axis=2)
        base = self.n_symbols ** np.arange(order)[::-1]
        columns = self.first_columns[order - 1] + windows @ base
        repeats = kept.sum(axis=1)
        return np.repeat(rows, repeats), columns[kept], np.repeat(weights, repeats)

    def _matrix(self, entries, n_rows):
        rows, columns, values = map(np.concatenate, zip(*entries))
        n_columns = self.first_columns[-1]
        if n_columns > _DENSE_COLUMNS:
            shape = (n_rows, n_columns)
            return sparse.coo_array((values, (rows, columns)), shape=shape).tocsr()
        sums = np.bincount(rows * n_columns + columns, values, n_rows * n_columns)
        return sparse.csr_array(sums.reshape(n_rows, n_columns))

    def gram(self, left, right):
        """Stein kernel between two sets of Stein features."""
        left, right = _compact(left, right)
        return (left @ right.T).toarray()

    def means(self, left, right):
        """Mean of the Stein kernel over `right`, linear in both sizes."""
        left, right = _compact(left, right)
        return left @ (right.sum(axis=0) / right.shape[0])

    def draws(self, stein, weights):
        """Quadratic forms of the Stein kernel in each row of `weights`, linear in n."""
        (compact,) = _compact(stein)
        n_rows = get_chunk_n_rows(row_bytes=8 * compact.shape[1] + 1, max_n_rows=len(weights))
        blocks = gen_batches(len(weights), n_rows)
        return np.concatenate([np.sum((weights[b] @ compact) ** 2, axis=1) for b in blocks])


def _compact(*matrices):
    """Leave out the columns in which nothing is stored; there may be more of them than memory."""
    used, indices = np.unique(np.concatenate([m.indices for m in matrices]), return_inverse=True)
    parts = np.split(indices, np.cumsum([m.nnz for m in matrices])[:-1])
    return [
        sparse.csr_array((m.data, part, m.indptr), shape=(m.shape[0], len(used)))
        for m, part in zip(matrices, parts)
    ]


def _windows(edits, order, gone):
    """Columns (n_edits, order, order) of the subsequences that an edit touches.

    Those that start before it and reach it, and the one that starts there, unless its symbol is
    `gone`.
    """
    starts = np.arange(1 - order, 1)
    columns = edits.position[:, None, None] + starts[:, None] + np.arange(order)
    return columns, (starts < 0) | ~gone[:, None]


def _sum_over_symbols(edits, weights):
    """Sum the weights of edits of the same kind at the same place, which lose the same counts."""
    width = edits.position.max(initial=0) + 1
    keys = (edits.row * width + edits.position) * 3 + edits.change + 1
    sums = np.bincount(keys, weights)
    keys = np.flatnonzero(np.bincount(keys))
    place, change = np.divmod(keys, 3)
    row, position = np.divmod(place, width)
    return Edits(row, position, None, change - 1), sums[keys]


class SignedMeasures(NamedTuple):
    """Distinct sequences, and the weights (n_samples, n_sequences) that the measures put there."""

    sequences: Sequences
    weights: sparse.csr_array


class PairKernel(NamedTuple):
    """Any kernel, a function from two Sequences to the matrix of its values."""

    kernel: object

    by_rows = False

    def stein(self, sequences, edits, weights):
        """Signed measures of the sequences on the distinct sequences that occur."""
        n = len(sequences.lengths)
        neighbors = edited(sequences, edits)
        width = max(neighbors.codes.shape[1], sequences.codes.shape[1])
        wide = [
            np.pad(s.codes, ((0, 0), (0, width - s.codes.shape[1])), constant_values=-1)
            for s in (sequences, neighbors)
        ]
        codes, points = np.unique(np.concatenate(wide), axis=0, return_inverse=True)
        rows = np.concatenate([np.arange(n), edits.row])
        values = np.concatenate([-np.bincount(edits.row, weights, n), weights])
        shape = (n, len(codes))
        measures = sparse.coo_array((values, (rows, points.ravel())), shape=shape).tocsr()
        return SignedMeasures(Sequences(codes, (codes >= 0).sum(axis=1)), measures)

    def gram(self, left, right):
        """Stein kernel between two sets of signed measures, by blocks of sequences."""
        n_points = len(left.sequences.lengths)
        n_rows = get_chunk_n_rows(row_bytes=24 * len(right.sequences.lengths), max_n_rows=n_points)
        total = np.zeros((left.weights.shape[0], right.weights.shape[0]))
        for block in gen_batches(n_points, n_rows):
            values = self.kernel(left.sequences.rows(block), right.sequences)
            total += left.weights[:, block] @ (values @ right.weights.T)
        return total

    def means(self, left, right):
        """Mean of the Stein kernel over `right`."""
        return self.gram(left, right).mean(axis=1)

    def draws(self, stein, weights):
        """Quadratic forms of the Stein kernel in each row of `weights`."""
        return np.sum((weights @ self.gram(stein, stein)) * weights, axis=1)


class ExponentialKernel(NamedTuple):
    """exp(-|u - v|^2 / width) of the features `counts` and an indicator of each length."""

    counts: CountKernel
    width: float

    @classmethod
    def of(cls, counts, sample):
        """Width by the median of the squared distances in `sample` that are not zero."""
        squared = _squared_distances(counts, sample, sample)
        above = squared[squared > 1e-12 * squared.max(initial=0)]
        return cls(counts, np.median(above) if above.size else 1.0)

    def __call__(self, left, right):
        return np.exp(-_squared_distances(self.counts, left, right) / self.width)


class CallableKernel(NamedTuple):
    """A function from two lists of tuples of symbols to the matrix of its values."""

    function: object
    alphabet: np.ndarray

    def __call__(self, left, right):
        lists = left.symbols(self.alphabet), right.symbols(self.alphabet)
        values = np.asarray(self.function(*lists), dtype=np.float64)
        if values.shape != (len(lists[0]), len(lists[1])) or not np.isfinite(values).all():
            raise ValueError("kernel must return a finite matrix, one row for each first sequence")
        return values


def _squared_distances(counts, left, right):
    features = _compact(counts.features(left), counts.features(right))
    squared = euclidean_distances(*features, squared=True)
    return squared + 2.0 * (left.lengths[:, None] != right.lengths)
