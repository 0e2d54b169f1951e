"""Columns of any kind as the numbers of categories or bins."""

import numpy as np
from sklearn.metrics import pairwise_distances_argmin

__all__ = ["as_column", "encode_column", "learn_codes", "nearest_cells"]

_MAX_CATEGORIES = 20


def as_column(values):
    """Numbers where possible, else strings."""
    if values.dtype.kind in "biuf":
        return values
    try:
        return values.astype(np.float64)
    except ValueError:
        return values.astype(str)


def learn_codes(values, n_bins, strategy):
    """Categories of a column, or the inner edges of its bins; the other is None."""
    categories = np.unique(values)
    if values.dtype.kind == "U" or len(categories) <= n_bins:
        return categories, None
    if len(categories) <= _MAX_CATEGORIES and np.all(categories == np.rint(categories)):
        return categories, None
    shares = np.arange(1, n_bins) / n_bins
    if strategy == "quantile":
        return None, np.unique(np.quantile(values, shares))
    low, high = float(categories[0]), float(categories[-1])
    return None, low + shares * (high - low)


def encode_column(values, categories, edges):
    """Numbers of the categories, -1 for new ones; or of the bins."""
    if edges is not None:
        return np.searchsorted(edges, values, side="right")
    if (values.dtype.kind == "U") != (categories.dtype.kind == "U"):
        return np.full(len(values), -1)
    codes = np.minimum(np.searchsorted(categories, values), len(categories) - 1)
    return np.where(categories[codes] == values, codes, -1)


def nearest_cells(codes, cells):
    """Number of the cell with the fewest different columns, the lowest of these."""
    rows, inverse = np.unique(codes, axis=0, return_inverse=True)
    return pairwise_distances_argmin(rows, cells, metric="hamming")[inverse.ravel()]
