"""Kernel matrices and the positive definite systems they lead to."""

import numpy as np
from scipy import linalg, sparse
from sklearn.metrics.pairwise import (
    PAIRWISE_KERNEL_FUNCTIONS,
    euclidean_distances,
    pairwise_kernels,
)
from sklearn.utils import gen_batches
from sklearn.utils._array_api import _is_numpy_namespace, get_namespace, move_to
from sklearn.utils._chunking import get_chunk_n_rows

__all__ = [
    "KERNEL_NAMES",
    "kernel_matrix",
    "kernel_product",
    "median_squared_distance",
    "positive_definite_solver",
    "resolve_gamma",
]

KERNEL_NAMES = frozenset(PAIRWISE_KERNEL_FUNCTIONS) | {"precomputed"}
_MAX_ROWS_FOR_MEDIAN = 2000


def kernel_matrix(X, Y=None, *, kernel="rbf", gamma=None, degree=3, coef0=1, kernel_params=None):
    """Compute the kernel between the rows of `X` and of `Y`.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples_X, n_features)
        Rows, or the kernel matrix itself if `kernel` is "precomputed". Under array API
        dispatch the result is in the namespace of `X`.
    Y : {array-like, sparse matrix} of shape (n_samples_Y, n_features), default=None
        Rows; None for those of `X`.
    kernel : str or callable, default="rbf"
        A name of :func:`sklearn.metrics.pairwise.kernel_metrics`, "precomputed", a kernel of
        :mod:`sklearn.gaussian_process.kernels` (evaluated at once), or a function of two rows
        that returns a number (called for every pair).
    gamma : float, default=None
        Width of the kernels that have one; None is 1 / n_features.
    degree : float, default=3
        Degree of the polynomial kernel.
    coef0 : float, default=1
        Offset of the polynomial and the sigmoid kernel.
    kernel_params : dict, default=None
        Keyword arguments of a callable `kernel`.

    Returns
    -------
    ndarray of shape (n_samples_X, n_samples_Y)
        The kernel matrix.

    Raises
    ------
    ValueError
        If `kernel` is "precomputed", `Y` is None and `X` is not square.

    Examples
    --------
    >>> from skpapers.utils import kernel_matrix
    >>> kernel_matrix([[1.0], [2.0]], kernel="linear")
    array([[1., 2.],
           [2., 4.]])
    """
    if isinstance(kernel, str) and kernel == "precomputed":
        if Y is None and X.shape[0] != X.shape[1]:
            raise ValueError(f"Precomputed matrix must be square, got shape {X.shape}")
        return X
    named = {"gamma": gamma, "degree": degree, "coef0": coef0}
    params = (kernel_params or {}) if callable(kernel) else named
    return pairwise_kernels(X, Y, metric=kernel, filter_params=True, **params)


def kernel_product(X, Y, coef, **params):
    """Multiply the kernel between `X` and `Y` by `coef`, a block of rows at a time.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples_X, n_features)
        Rows; with a precomputed kernel, the matrix of shape (n_samples_X, n_samples_Y).
    Y : {array-like, sparse matrix} of shape (n_samples_Y, n_features)
        Rows.
    coef : ndarray of shape (n_samples_Y,) or (n_samples_Y, n_targets)
        What the kernel matrix multiplies.
    **params : dict
        Arguments of :func:`kernel_matrix`.

    Returns
    -------
    ndarray of shape (n_samples_X,) or (n_samples_X, n_targets)
        The product. Blocks fit in scikit-learn's `working_memory`.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.utils import kernel_product
    >>> kernel_product(np.eye(2), np.eye(2), np.ones(2), kernel="linear")
    array([1., 1.])
    """
    xp, _ = get_namespace(X, coef)
    rows = get_chunk_n_rows(row_bytes=8 * coef.shape[0], max_n_rows=X.shape[0])
    blocks = gen_batches(X.shape[0], rows)
    parts = [kernel_matrix(X[block, :], Y, **params) @ coef for block in blocks]
    return xp.concat(parts) if len(parts) > 1 else parts[0]


def resolve_gamma(gamma, X):
    """Turn a rule for the width of a kernel into a number.

    Parameters
    ----------
    gamma : {"scale", "median"}, float or None
        "scale" is 1 / (n_features * variance of all entries); "median" is one over the median
        of the squared distances between distinct rows; a number is returned as it is, and None
        as 1 / n_features. Where all rows are equal the rules give 1.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Training rows.

    Returns
    -------
    float
        The width.

    Examples
    --------
    >>> from skpapers.utils import resolve_gamma
    >>> import numpy as np
    >>> resolve_gamma("scale", np.array([[-1.0], [1.0]]))
    1.0
    >>> resolve_gamma("median", np.array([[0.0], [2.0]]))
    0.25
    """
    if gamma is None:
        return 1.0 / X.shape[1]
    if not isinstance(gamma, str):
        return float(gamma)
    spread = X.shape[1] * _variance(X) if gamma == "scale" else median_squared_distance(X)
    return 1.0 / spread if spread > 0 else 1.0


def _variance(X):
    if sparse.issparse(X):
        mean = X.mean()
        return float(max(X.multiply(X).mean() - mean**2, 0.0))
    xp, _ = get_namespace(X)
    return float(xp.var(X))


def median_squared_distance(X):
    """Median of the squared Euclidean distances between rows, zero distances left out.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Rows. Beyond 2000 of them, 2000 evenly spaced ones are used.

    Returns
    -------
    float
        The median, or 0 if all rows are equal.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.utils import median_squared_distance
    >>> median_squared_distance(np.array([[0.0], [1.0], [3.0]]))
    4.0
    """
    xp, _ = get_namespace(X)
    n_samples = X.shape[0]
    step = -(-n_samples // _MAX_ROWS_FOR_MEDIAN)
    distances = euclidean_distances(X[::step, :], squared=True)
    distances = move_to(distances, xp=np, device="cpu")
    values = distances[np.triu_indices(distances.shape[0], k=1)]
    values = values[values > 0]
    return float(np.median(values)) if values.size else 0.0


def positive_definite_solver(
    matrix, why="The matrix is not positive definite.", *, overwrite=False
):
    """Factor a symmetric positive definite matrix once, to solve with it many times.

    Parameters
    ----------
    matrix : ndarray of shape (n, n)
        The matrix, in any array API namespace.
    why : str, default="The matrix is not positive definite."
        Message of the error.
    overwrite : bool, default=False
        Allow the factor to take the place of `matrix`, which saves a copy on NumPy.

    Returns
    -------
    callable
        Maps a right-hand side of shape (n, k) to the solution.

    Raises
    ------
    ValueError
        If `matrix` is not positive definite to working precision.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.utils import positive_definite_solver
    >>> positive_definite_solver(2 * np.eye(2))(np.ones((2, 1))).ravel()
    array([0.5, 0.5])
    """
    xp, _ = get_namespace(matrix)
    try:
        if _is_numpy_namespace(xp):
            factor = linalg.cho_factor(
                matrix, lower=True, overwrite_a=overwrite, check_finite=False
            )
            return lambda rhs: linalg.cho_solve(factor, rhs, check_finite=False)
        lower = xp.linalg.cholesky(matrix)
    except (np.linalg.LinAlgError, RuntimeError) as error:
        raise ValueError(why) from error
    if hasattr(xp, "cholesky_solve"):  # torch
        return lambda rhs: xp.cholesky_solve(rhs, lower)
    return lambda rhs: xp.linalg.solve(matrix, rhs)
