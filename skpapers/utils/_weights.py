"""Weights of rows."""

import numpy as np
from sklearn.utils.validation import _check_sample_weight

__all__ = ["weighted_rows"]


def weighted_rows(sample_weight, X):
    """Find the rows with a positive weight; the others are as if they were not there.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,), float or None
        Weights; None for all one.
    X : array-like of shape (n_samples, ...)
        Data, for the number of rows.

    Returns
    -------
    index : ndarray of shape (n_kept,)
        The rows.
    weight : ndarray of shape (n_kept,)
        Their weights, in double precision.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, or none is positive.

    Examples
    --------
    >>> from skpapers.utils import weighted_rows
    >>> weighted_rows([0.0, 2.0, 1.0], [[1], [2], [3]])
    (array([1, 2]), array([2., 1.]))
    """
    weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    index = np.flatnonzero(weight)
    if index.size == 0:
        raise ValueError("sample_weight is zero for every row: there is nothing to fit")
    return index, weight[index]
