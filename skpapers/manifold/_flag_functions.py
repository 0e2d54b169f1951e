"""Means, medians and distances of flags as functions."""

import numpy as np
from sklearn.utils import check_array
from sklearn.utils._array_api import get_namespace_and_device
from sklearn.utils._param_validation import validate_params

from ._flag import check_flag_type, check_stack, chordal_distances
from ._flag_averaging import FlagMean, FlagMedian

__all__ = ["chordal_flag_distance", "flag_mean", "flag_median"]

_FUNCTION_CONSTRAINTS = {
    "X": ["array-like"],
    "flag_type": ["array-like", None],
    "weights": ["array-like", None],
}


@validate_params(_FUNCTION_CONSTRAINTS, prefer_skip_nested_validation=True)
def flag_mean(X, flag_type=None, weights=None):
    """Chordal mean of flags.

    Parameters
    ----------
    X : array-like of shape (n_flags, n_features, n_columns)
        Matrices with orthonormal columns.
    flag_type : array-like of int of shape (n_blocks,), default=None
        Dimensions of the nested subspaces, as for :class:`FlagMean`.
    weights : array-like of shape (n_flags,), default=None
        Weights, of any sum; None is equal weights.

    Returns
    -------
    mean : ndarray of shape (n_features, n_columns)
        The mean.

    References
    ----------
    N. Mankovich, T. Birdal, "Chordal Averaging on Flag Manifolds and Its Applications", ICCV
    2023, arXiv:2303.13501 (Section 4).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.manifold import flag_mean
    >>> flag_mean([np.eye(3)[:, :2], -np.eye(3)[:, :2], np.eye(3)[:, :2]]).round(6)
    array([[1., 0.],
           [0., 1.],
           [0., 0.]])
    """
    return FlagMean(flag_type).fit(_as_stack(X, "X"), sample_weight=weights).mean_


@validate_params(_FUNCTION_CONSTRAINTS, prefer_skip_nested_validation=True)
def flag_median(X, flag_type=None, weights=None):
    """Chordal median of flags.

    Parameters
    ----------
    X : array-like of shape (n_flags, n_features, n_columns)
        Matrices with orthonormal columns.
    flag_type : array-like of int of shape (n_blocks,), default=None
        Dimensions of the nested subspaces, as for :class:`FlagMean`.
    weights : array-like of shape (n_flags,), default=None
        Weights, of any sum; None is equal weights.

    Returns
    -------
    median : ndarray of shape (n_features, n_columns)
        The median.

    References
    ----------
    N. Mankovich, T. Birdal, "Chordal Averaging on Flag Manifolds and Its Applications", ICCV
    2023, arXiv:2303.13501 (Section 4, Algorithm 2).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.manifold import flag_median
    >>> axes = np.eye(3)
    >>> flag_median([axes[:, :2], axes[:, :2], axes[:, :2], axes[:, 1:]]).round(3)
    array([[1., 0.],
           [0., 1.],
           [0., 0.]])
    """
    return FlagMedian(flag_type).fit(_as_stack(X, "X"), sample_weight=weights).mean_


@validate_params(
    {"X": ["array-like"], "Y": ["array-like"], "flag_type": ["array-like", None]},
    prefer_skip_nested_validation=True,
)
def chordal_flag_distance(X, Y, flag_type=None):
    """Chordal distance of flags.

    The root of the sum, over blocks, of half the squared Frobenius norm of the difference of the
    projections. A metric.

    Parameters
    ----------
    X : array-like of shape (n_features, n_columns) or (n_flags, n_features, n_columns)
        A matrix with orthonormal columns, or a stack.
    Y : array-like of shape (n_features, n_columns) or (n_flags, n_features, n_columns)
        Another. Of two stacks, first is compared with first, and so on.
    flag_type : array-like of int of shape (n_blocks,), default=None
        Dimensions of the nested subspaces, as for :class:`FlagMean`.

    Returns
    -------
    distance : float or ndarray of shape (n_flags,)
        Distances, between 0 and the root of the number of columns.

    References
    ----------
    N. Mankovich, T. Birdal, "Chordal Averaging on Flag Manifolds and Its Applications", ICCV
    2023, arXiv:2303.13501 (Section 3).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.manifold import chordal_flag_distance
    >>> axes = np.eye(3)
    >>> round(chordal_flag_distance(axes[:, [0, 1]], axes[:, [1, 0]]), 6)
    1.414214
    >>> chordal_flag_distance(axes[:, [0, 1]], axes[:, [1, 0]], flag_type=[2])
    0.0
    """
    single = np.ndim(X) == np.ndim(Y) == 2
    X, Y = _as_stack(X, "X"), _as_stack(Y, "Y")
    if X.shape[1:] != Y.shape[1:] or (X.shape[0] != Y.shape[0] and 1 not in (len(X), len(Y))):
        raise ValueError(f"X and Y must match, got shapes {tuple(X.shape)} and {tuple(Y.shape)}")
    distances = chordal_distances(X, Y, check_flag_type(flag_type, X.shape[2]))
    return float(distances[0]) if single else distances


def _as_stack(X, name):
    """A checked float64 stack; a single matrix is a stack of one."""
    xp, _, _ = get_namespace_and_device(X)
    X = check_array(X, dtype=xp.float64, allow_nd=True, input_name=name)
    X = X[None, ...] if X.ndim == 2 else X
    check_stack(X, name)
    return X
