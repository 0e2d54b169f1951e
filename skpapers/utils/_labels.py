"""Targets some of which are unknown."""

import numpy as np
from sklearn.utils import check_array, column_or_1d
from sklearn.utils._array_api import get_namespace, move_to
from sklearn.utils.multiclass import check_classification_targets

__all__ = ["encode_partial_labels", "one_hot", "split_partial_targets"]


def split_partial_targets(y, *, xp=None, device="cpu", dtype=None):
    """Read real targets in which NaN marks an unlabelled row.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Targets; a row is known in all targets or in none.
    xp : module, default=None
        Array API namespace of the result; None for NumPy.
    device : device, default="cpu"
        Device of the result.
    dtype : dtype, default=None
        Floating type of the result; None for double precision.

    Returns
    -------
    targets : ndarray of shape (n_samples,) or (n_samples, n_targets)
        The targets, 0 where unknown.
    labelled : ndarray of shape (n_samples,)
        True where the target is known.

    Raises
    ------
    ValueError
        If no row is labelled, a row is labelled in part, or a target is infinite or no number.

    Examples
    --------
    >>> from skpapers.utils import split_partial_targets
    >>> split_partial_targets([1.0, float("nan"), 3.0])
    (array([1., 0., 3.]), array([ True, False,  True]))
    """
    _check_given(y)
    xp = get_namespace()[0] if xp is None else xp
    # "numeric" turns numbers held as objects into floats, and rejects what is no number
    y = check_array(
        y, ensure_2d=False, dtype="numeric", ensure_all_finite="allow-nan", input_name="y"
    )
    y = move_to(y, xp=xp, device=device)
    y = xp.astype(y, xp.float64 if dtype is None else dtype)
    if bool(xp.any(xp.isinf(y))):
        raise ValueError("Input y contains infinity.")
    unknown = xp.isnan(y)
    missing = unknown if y.ndim == 1 else xp.all(unknown, axis=1)
    if y.ndim == 2 and bool(xp.any(xp.any(unknown, axis=1) & ~missing)):
        raise ValueError("y has rows that are NaN in some targets only: use NaN in all or none.")
    if bool(xp.all(missing)):
        raise ValueError("y contains only NaN: at least one row must be labelled.")
    return xp.where(unknown, xp.zeros_like(y), y), ~missing


def encode_partial_labels(y):
    """Read class labels in which some rows are unlabelled.

    The mark is -1 in integer labels, None or NaN in the others. Integers that are exactly
    {-1, 1} are two classes, the usual coding of a binary target: no row is unlabelled then.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels.

    Returns
    -------
    codes : ndarray of int of shape (n_samples,)
        Index into `classes`, -1 where unlabelled.
    classes : ndarray of shape (n_classes,)
        The labels found, sorted.

    Raises
    ------
    ValueError
        If no row is labelled or the labels are not classes.

    Examples
    --------
    >>> from skpapers.utils import encode_partial_labels
    >>> encode_partial_labels([3, -1, 7])
    (array([ 0, -1,  1]), array([3, 7]))
    """
    _check_given(y)
    if get_namespace(y)[1]:
        y = move_to(y, xp=np, device="cpu")
    y = column_or_1d(y, warn=True)
    labelled = ~_is_unlabelled(y)
    if not labelled.any():
        raise ValueError("y has unlabelled rows only: at least one row must be labelled.")
    known = y[labelled]
    if known.dtype == object and not isinstance(known[0], str):
        known = np.asarray(known.tolist())  # numbers held as objects
    check_classification_targets(known)
    classes, known_codes = np.unique(known, return_inverse=True)
    codes = np.full(y.shape[0], -1, dtype=np.int64)
    codes[labelled] = known_codes
    return codes, classes


def _check_given(y):
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")


def _is_unlabelled(y):
    if y.dtype.kind == "i":
        return (y == -1) & (not np.array_equal(np.unique(y), [-1, 1]))
    return missing_mask(y)


def missing_mask(values):
    """Which entries of an array are NaN, None or pandas.NA."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype == object:
        return np.frompyfunc(_is_missing, 1, 1)(values).astype(bool)
    return np.zeros(values.shape, dtype=bool)


def _is_missing(value):
    """Whether `value` is None, NaN or pandas.NA (whose comparisons are neither true nor false)."""
    return value is None or type(value).__name__ == "NAType" or value != value


def one_hot(codes, n_classes, dtype=np.float64):
    """Indicator matrix of class codes; a row of code -1 is zero.

    Parameters
    ----------
    codes : ndarray of int of shape (n_samples,)
        Classes, from 0 to `n_classes` - 1, or -1.
    n_classes : int
        Number of columns.
    dtype : dtype, default=numpy.float64
        Type of the result.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        The matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.utils import one_hot
    >>> one_hot(np.array([1, -1]), 2)
    array([[0., 1.],
           [0., 0.]])
    """
    return (codes[:, None] == np.arange(n_classes)).astype(dtype)
