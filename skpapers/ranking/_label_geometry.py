"""Points whose distances are the gaps between ordered labels, by classical scaling."""

import numpy as np
from scipy import linalg
from sklearn.metrics.pairwise import euclidean_distances

MAX_LEVELS = 1000  # of a scaling that costs their cube
MAX_ROWS = 3000  # of a scaling of rows instead of levels
_RELATIVE_ZERO = 1e-10


def level_values(levels, kind):
    """Numbers whose gaps are those of the levels: their ranks, or the levels themselves."""
    if kind == "codes":
        return np.arange(len(levels), dtype=np.float64)
    try:
        return levels.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("label_values='numeric' needs numbers as labels") from error


def merge_levels(values, counts):
    """Neighbouring levels made one, with the mean of their rows, so that few are left.

    Returns
    -------
    merged : ndarray of shape (n_levels,)
        New number of each level.
    values : ndarray of shape (n_merged,)
        Values of the merged levels.
    counts : ndarray of shape (n_merged,)
        Rows of each of them.
    """
    if len(values) <= MAX_LEVELS:
        return np.arange(len(values)), values, counts
    before = np.cumsum(counts) - counts
    bins = before * MAX_LEVELS // counts.sum()
    merged = np.unique(bins, return_inverse=True)[1]
    total = np.bincount(merged, weights=counts)
    return merged, np.bincount(merged, weights=counts * values) / total, total


def embed_levels(values, counts, power):
    """Points of levels whose squared distances are ``|gap|**(2 power)``, as near as can be.

    Weighting levels by their rows gives what scaling all rows would.

    Parameters
    ----------
    values : ndarray of shape (n_levels,)
        Ascending values.
    counts : ndarray of shape (n_levels,)
        Rows of each level.
    power : float
        Power of the gaps that is the distance.

    Returns
    -------
    ndarray of shape (n_levels, n_dimensions)
        The points, about their weighted mean, the dimension of most variance first.
    """
    weights = counts / counts.sum()
    if power == 1:  # one dimension, exactly
        return (values - weights @ values)[:, None]
    merged, values, counts = merge_levels(values, counts)
    weights = counts / counts.sum()
    squared = np.abs(np.subtract.outer(values, values)) ** (2 * power)
    row = squared @ weights
    gram = -0.5 * (squared - row[:, None] - row + weights @ row)
    root = np.sqrt(weights)
    points = scaling(root[:, None] * gram * root, len(values))
    return (points / root[:, None])[merged]


def embed_rows(X, codes, values, power, within_weight, n_components):
    """Points of rows: those of the same level keep a share of their distances.

    Their squared distance is `within_weight` times that of the rows of X over the largest one
    within a level. Costs O(n_samples**2 n_components) and memory of n_samples**2.
    """
    if len(X) > MAX_ROWS:
        raise ValueError(
            f"within_weight > 0 compares all pairs of rows, of at most {MAX_ROWS}; got {len(X)}"
        )
    squared = np.abs(np.subtract.outer(values[codes], values[codes])) ** (2 * power)
    within = np.where(codes[:, None] == codes, euclidean_distances(X, squared=True), 0)
    largest = within.max()
    squared += within_weight * within / (largest if largest > 0 else 1)
    row = squared.mean(axis=0)
    return scaling(-0.5 * (squared - row[:, None] - row + row.mean()), n_components)


def scaling(gram, n_components):
    """Columns whose products are the positive part of a matrix, the largest first."""
    n = len(gram)
    n_components = min(n_components, n)
    eigenvalues, vectors = linalg.eigh(gram, subset_by_index=[n - n_components, n - 1])
    eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
    positive = eigenvalues > max(_RELATIVE_ZERO * eigenvalues[0], 0)
    points = vectors[:, positive] * np.sqrt(eigenvalues[positive])
    largest = np.abs(points).argmax(axis=0)
    return points * np.sign(points[largest, np.arange(points.shape[1])])
