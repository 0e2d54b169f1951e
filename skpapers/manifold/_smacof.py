"""Metric scaling: majorisation of the stress, and classical scaling, on any array library."""

import warnings
from numbers import Integral, Real

from sklearn.exceptions import ConvergenceWarning
from sklearn.externals.array_api_compat import device as device_of
from sklearn.utils import check_array, gen_batches
from sklearn.utils._array_api import (
    get_namespace,
    get_namespace_and_device,
    supported_float_dtypes,
)
from sklearn.utils._param_validation import Interval, validate_params

from skpapers.utils import truncated_eigh

__all__ = ["classical_scaling", "place_by_majorization", "place_by_projection", "smacof"]

_CACHED_SIDE = 2**8  # of a block that stays in the cache of a CPU
_RESIDENT_SIDE = 2**13  # of a block on an accelerator


@validate_params(
    {
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "eps": [Interval(Real, 0, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def smacof(dissimilarities, init, *, max_iter=300, eps=1e-6):
    """Move points until their distances fit given dissimilarities best, by majorisation.

    Each step is the Guttman transform, which never increases the stress, the sum over pairs of
    ``(distance - dissimilarity)**2``.

    Parameters
    ----------
    dissimilarities : array-like of shape (n_samples, n_samples)
        Symmetric matrix with a zero diagonal, of NumPy, or with array API dispatch of any array
        library and device.
    init : array-like of shape (n_samples, n_components)
        Where the points start.
    max_iter : int, default=300
        Largest number of steps.
    eps : float, default=1e-6
        Tolerance: the decrease of the stress in a step, over the sum of squared distances, at
        which to stop.

    Returns
    -------
    X : array of shape (n_samples, n_components)
        The points, centred.
    stress : float
        Their stress.
    n_iter : int
        Number of steps.

    Notes
    -----
    A step costs O(n_samples**2 * n_components). Only the dissimilarities are of size
    n_samples**2: ratios are made block by block, and the stress is read off the transform, since
    the sum over pairs of distance times dissimilarity is ``n * sum(X * guttman(X))``.

    References
    ----------
    .. [1] I. Borg, P. Groenen, "Modern Multidimensional Scaling", Springer 2005, chapter 8.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.manifold import smacof
    >>> corners = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    >>> D = np.linalg.norm(corners[:, None] - corners, axis=2)
    >>> X, stress, n_iter = smacof(D, corners + [[0.2, 0], [0, 0], [0, 0.1], [0, 0]], eps=1e-9)
    >>> stress < 1e-6
    True
    """
    xp, _, device = get_namespace_and_device(dissimilarities, init)
    delta = check_array(dissimilarities, dtype=supported_float_dtypes(xp, device))
    X = check_array(init, dtype=delta.dtype, input_name="init")
    if delta.shape[0] != delta.shape[1] or X.shape[0] != delta.shape[0]:
        raise ValueError(
            f"dissimilarities of shape {tuple(delta.shape)} and init of shape {tuple(X.shape)} "
            "must be (n, n) and (n, n_components)"
        )
    constant = float(xp.sum(delta * delta)) / 2
    X = guttman_transform(delta, X - xp.mean(X, axis=0))
    after = guttman_transform(delta, X)
    stress = _stress(constant, X, after, xp)
    for n_iter in range(2, max_iter + 1):
        X, before = after, stress
        after = guttman_transform(delta, X)
        stress = _stress(constant, X, after, xp)
        if before - stress <= eps * delta.shape[0] * float(xp.sum(X * X)):
            return X, exact_stress(delta, X), n_iter
    if max_iter > 1:
        warnings.warn(
            f"max_iter={max_iter} steps ended before the stress stopped falling: raise max_iter "
            "or eps",
            ConvergenceWarning,
        )
    return X, exact_stress(delta, X), max_iter


def _stress(constant, X, transform, xp):
    """Stress of centred points, up to rounding of the size of the constant."""
    return constant + X.shape[0] * float(xp.sum(X * (X - 2 * transform)))


def guttman_transform(delta, X):
    """One step of SMACOF: the mean over the others of where they want each point to be."""
    xp, _ = get_namespace(X)
    pulled = xp.zeros((X.shape[0], X.shape[1] + 1), dtype=X.dtype, device=device_of(X))
    with_ones = xp.concat([X, xp.ones_like(X[:, :1])], axis=1)
    left, right = _factors_of_squares(X, X, xp)
    for rows, columns in _upper_blocks(X):
        ratios = delta[rows, columns] / _distances(left[rows, :] @ right[:, columns], xp.inf, xp)
        pulled[rows, :] += ratios @ with_ones[columns, :]
        if rows != columns:
            pulled[columns, :] += ratios.T @ with_ones[rows, :]
    step = (pulled[:, -1:] * X - pulled[:, :-1]) / X.shape[0]
    return step - xp.mean(step, axis=0)


def exact_stress(delta, X):
    """Sum over pairs of the squared differences of distance and dissimilarity."""
    xp, _ = get_namespace(X)
    total = 0.0
    left, right = _factors_of_squares(X, X, xp)
    for rows, columns in _upper_blocks(X):
        distances = _distances(left[rows, :] @ right[:, columns], 0.0, xp)
        error = float(xp.sum((distances - delta[rows, columns]) ** 2))
        total += error / 2 if rows == columns else error
    return total


def _upper_blocks(X):
    """Rows and columns of square blocks on and above the diagonal of a symmetric matrix."""
    side = _CACHED_SIDE if str(device_of(X)) == "cpu" else _RESIDENT_SIDE
    slices = list(gen_batches(X.shape[0], side))
    return [(rows, columns) for i, rows in enumerate(slices) for columns in slices[i:]]


def _factors_of_squares(X, Y, xp):
    """Two thin matrices whose product is the matrix of squared distances."""
    x2, y2 = (xp.sum(Z * Z, axis=1)[:, None] for Z in (X, Y))
    left = xp.concat([-2 * X, xp.ones_like(x2), x2], axis=1)
    return left, xp.concat([Y, y2, xp.ones_like(y2)], axis=1).T


def _distances(squares, where_equal, xp):
    """Roots, with another value where points are equal up to rounding."""
    apart = squares > 0
    return xp.sqrt(xp.where(apart, squares, where_equal))


def classical_scaling(delta, n_components, random_state=None):
    """Leading principal components of points with these distances, and how far they are off.

    Returns the points, zero in columns whose eigenvalue is not positive, and the strain: the
    squared distance between the matrices of inner products.
    """
    xp, _ = get_namespace(delta)
    squares = delta * delta
    means = xp.mean(squares, axis=0)
    products = (means[:, None] + means[None, :] - xp.mean(means) - squares) / 2
    n_found = min(n_components, delta.shape[0])
    values, vectors = truncated_eigh(products, n_found, random_state=random_state)
    values = xp.where(values > 0, values, xp.zeros_like(values))
    X = vectors * xp.sqrt(values)
    strain = float(xp.sum(products * products)) - float(xp.sum(values * values))
    missing = xp.zeros_like(X[:, :1])
    return xp.concat([X] + [missing] * (n_components - n_found), axis=1), max(0.0, strain)


def place_by_projection(delta_new, X, delta):
    """Points at these dissimilarities from fixed centred ones, by least squares on the squares."""
    xp, _ = get_namespace(X)
    excess = xp.mean(delta * delta, axis=0)[None, :] - delta_new * delta_new
    centre = xp.mean(X, axis=0)
    return excess @ xp.linalg.pinv(X - centre).T / 2 + centre


def place_by_majorization(delta_new, X, start, *, max_iter=300, eps=1e-6):
    """Points whose distances to fixed ones fit best, each on its own, from `start` on."""
    xp, _ = get_namespace(X)
    step = max(1, _CACHED_SIDE**2 // X.shape[0])
    rows = gen_batches(start.shape[0], step)
    return xp.concat([_place(delta_new[b, :], X, start[b, :], max_iter, eps, xp) for b in rows])


def _place(delta_new, X, A, max_iter, eps, xp):
    mean, with_ones = xp.mean(X, axis=0), xp.concat([X, xp.ones_like(X[:, :1])], axis=1)
    size = float(xp.mean(xp.sum((X - mean) ** 2, axis=1)))
    for _ in range(max_iter):
        left, right = _factors_of_squares(A, X, xp)
        pulled = (delta_new / _distances(left @ right, xp.inf, xp)) @ with_ones
        before, A = A, mean + (pulled[:, -1:] * A - pulled[:, :-1]) / X.shape[0]
        if float(xp.max(xp.sum((A - before) ** 2, axis=1))) <= eps**2 * size:
            break
    return A
