"""A matrix as a Kronecker, a Khatri-Rao or a Hadamard product of smaller ones."""

from functools import partial
from numbers import Integral, Real

from sklearn.utils import check_array
from sklearn.utils._array_api import get_namespace_and_device, supported_float_dtypes
from sklearn.utils._param_validation import Interval, validate_params

from skpapers.utils import check_random_state, truncated_svd

from ._low_rank_sweeps import (
    HadamardProduct,
    KhatriRaoProduct,
    best_factors,
    hard_impute,
    start,
)

__all__ = ["hadamard_approximation", "khatri_rao_approximation", "kronecker_approximation"]

_COUNT = [Interval(Integral, 1, None, closed="left")]
_NOT_NEGATIVE = [Interval(Real, 0, None, closed="left")]


@validate_params(
    {
        "X": ["array-like"],
        "shape": [tuple, list],
        "n_terms": _COUNT,
        "max_iter": _COUNT,
        "tol": _NOT_NEGATIVE,
    },
    prefer_skip_nested_validation=True,
)
def kronecker_approximation(X, shape, n_terms=1, *, max_iter=500, tol=1e-8):
    """Find the sum of Kronecker products that is nearest to a matrix.

    ``X ~ sum_k kron(B_k, C_k)``. The entries of X are rearranged so that a Kronecker product
    becomes an outer product; the best terms are those of a truncated singular value
    decomposition.

    Parameters
    ----------
    X : array-like of shape (n_rows, n_columns)
        The matrix; nan is a missing entry.
    shape : tuple of int
        Shape of the left factors, which divides that of X.
    n_terms : int, default=1
        Number of Kronecker products; at most as many as an exact sum needs.
    max_iter : int, default=500
        Limit on the rounds of completion, where entries are missing.
    tol : float, default=1e-8
        Relative fall of the squared error below which these end.

    Returns
    -------
    left : array of shape (n_terms, *shape)
        B of each term.
    right : array of shape (n_terms, n_rows // shape[0], n_columns // shape[1])
        C of each term, of the same norm as B.

    Raises
    ------
    ValueError
        If `shape` does not divide that of X.

    Notes
    -----
    The cost is that of a truncated SVD of a matrix with as many entries as X. The squared error
    is the sum of the squares of its other singular values.

    References
    ----------
    .. [1] J. Lu, "Low-Rank Approximation, Adaptation, and Other Tales", 2024,
       :arxiv:`2408.05883`.
    .. [2] C. Van Loan, N. Pitsianis, "Approximation with Kronecker products", 1993.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.decomposition import kronecker_approximation
    >>> X = np.kron([[1.0, 2.0], [3.0, 4.0]], [[1.0, 0.0, -1.0]])
    >>> B, C = kronecker_approximation(X, (2, 2))
    >>> bool(np.allclose(np.kron(B[0], C[0]), X))
    True
    """
    X, observed = _split(X)
    if len(shape) != 2 or min(shape) < 1 or X.shape[0] % shape[0] or X.shape[1] % shape[1]:
        raise ValueError(f"shape must divide the shape {tuple(X.shape)} of X, got {shape!r}")
    xp, _ = get_namespace_and_device(X)[:2]
    R = rearrange(X, shape)
    mask = None if observed is None else rearrange(observed, shape)
    k = min(n_terms, *R.shape)
    svd = partial(truncated_svd, random_state=0)
    factors = hard_impute(R, mask, k, max_iter, tol, svd)
    (codes,), (components,) = factors.codes, factors.components
    size = xp.sqrt(xp.sqrt(xp.sum(codes**2, axis=0)))  # roots of the singular values
    codes = codes / xp.where(size > 0, size, xp.ones_like(size))
    right_shape = (X.shape[0] // shape[0], X.shape[1] // shape[1])
    right = xp.reshape(size[:, None] * components, (k, *right_shape))
    return xp.reshape(codes.T, (k, *shape)), right


def rearrange(X, shape):
    """Rows are the blocks of X, which a Kronecker product makes multiples of each other."""
    xp, _ = get_namespace_and_device(X)[:2]
    height, width = X.shape[0] // shape[0], X.shape[1] // shape[1]
    blocks = xp.reshape(X, (shape[0], height, shape[1], width))
    return xp.reshape(xp.permute_dims(blocks, (0, 2, 1, 3)), (-1, height * width))


@validate_params(
    {
        "X": ["array-like"],
        "shape": [tuple, list],
        "n_components": [*_COUNT, None],
        "alpha": _NOT_NEGATIVE,
        "max_iter": _COUNT,
        "tol": _NOT_NEGATIVE,
    },
    prefer_skip_nested_validation=True,
)
def khatri_rao_approximation(X, shape, n_components=None, *, alpha=0.0, max_iter=200, tol=1e-8):
    """Find the column-wise Kronecker product that is nearest to a matrix.

    Column j of X is ``kron(b_j, c_j)``; the best pair comes from a singular value decomposition
    of the column written as a matrix.

    Parameters
    ----------
    X : array-like of shape (n_rows, n_columns)
        The matrix; nan is a missing entry.
    shape : tuple of int
        Lengths of b and c, whose product is n_rows.
    n_components : int, default=None
        Rank of B and of C; None is full, where no rank is imposed.
    alpha : float, default=0.0
        Ridge on the factors, where gaps or a rank make the fit an alternating one.
    max_iter : int, default=200
        Limit on its sweeps.
    tol : float, default=1e-8
        Relative fall of the loss below which these end.

    Returns
    -------
    left : array of shape (shape[0], n_columns)
        B.
    right : array of shape (shape[1], n_columns)
        C.

    Raises
    ------
    ValueError
        If `shape` does not multiply to n_rows.

    Notes
    -----
    Without gaps and without a rank the result is the global minimum, at the cost of an SVD a
    column.

    References
    ----------
    .. [1] J. Lu, "Low-Rank Approximation, Adaptation, and Other Tales", 2024,
       :arxiv:`2408.05883`.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.linalg import khatri_rao
    >>> from skpapers.decomposition import khatri_rao_approximation
    >>> X = khatri_rao([[1.0, 2.0], [3.0, 4.0]], [[1.0, 5.0], [0.0, -1.0], [2.0, 1.0]])
    >>> bool(np.allclose(khatri_rao(*khatri_rao_approximation(X, (2, 3))), X))
    True
    """
    X, observed = _split(X)
    if len(shape) != 2 or min(shape) < 1 or shape[0] * shape[1] != X.shape[0]:
        raise ValueError(f"shape must be two sizes whose product is {X.shape[0]}, got {shape!r}")
    structure = KhatriRaoProduct(tuple(shape))
    rows = X.T
    limits = [min(rows.shape[0], width) for width in shape]
    if observed is None and (n_components is None or n_components >= max(limits)):
        left, right = structure.rank_one(rows)
        return left.T, right.T
    ranks = [min(n_components or limit, limit) for limit in limits]
    mask = None if observed is None else observed.T
    svd = partial(truncated_svd, random_state=0)
    first = start(structure, rows, mask, ranks, "svd", None, svd)
    factors = best_factors(structure, [first], rows, mask, alpha, max_iter, tol)
    left, right = (C @ D for C, D in zip(factors.codes, factors.components))
    return left.T, right.T


@validate_params(
    {
        "X": ["array-like"],
        "n_components": ["array-like"],
        "alpha": _NOT_NEGATIVE,
        "max_iter": _COUNT,
        "tol": _NOT_NEGATIVE,
        "n_init": _COUNT,
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def hadamard_approximation(
    X,
    n_components,
    *,
    alpha=1e-6,
    max_iter=200,
    tol=1e-8,
    n_init=1,
    random_state=None,
):
    """Find low-rank matrices whose elementwise product is near a matrix.

    ``X ~ (C1 D1) o (C2 D2) o ...`` has a rank up to the product of the ranks, for as many
    numbers as their sum.

    Parameters
    ----------
    X : array-like of shape (n_rows, n_columns)
        The matrix; nan is a missing entry.
    n_components : sequence of int
        Rank of each factor.
    alpha : float, default=1e-6
        Ridge on the blocks.
    max_iter : int, default=200
        Limit on the sweeps.
    tol : float, default=1e-8
        Relative fall of the loss below which sweeps end.
    n_init : int, default=1
        Number of random starts, of which the best is kept.
    random_state : int, RandomState instance or None, default=None
        Seed of the starts.

    Returns
    -------
    codes : list of arrays of shape (n_rows, n_components[l])
        C of each factor.
    components : list of arrays of shape (n_components[l], n_columns)
        D of each factor.

    Notes
    -----
    The first factor starts from a truncated SVD of X, the others near one. There are local
    minima.

    References
    ----------
    .. [1] J. Lu, "Low-Rank Approximation, Adaptation, and Other Tales", 2024,
       :arxiv:`2408.05883`.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.decomposition import hadamard_approximation
    >>> X = np.random.default_rng(0).normal(size=(6, 5))
    >>> codes, components = hadamard_approximation(X, (2, 1), random_state=0)
    >>> [C.shape for C in codes]
    [(6, 2), (6, 1)]
    """
    X, observed = _split(X)
    ranks = [min(int(k), *X.shape) for k in n_components]
    if not ranks or min(ranks) < 1:
        raise ValueError(f"n_components must hold positive numbers, got {n_components!r}")
    rng = check_random_state(random_state)
    svd = partial(truncated_svd, random_state=rng)
    structure = HadamardProduct()
    starts = (start(structure, X, observed, ranks, "svd", rng, svd) for _ in range(n_init))
    factors = best_factors(structure, starts, X, observed, alpha, max_iter, tol)
    return factors.codes, factors.components


def _split(X):
    """X in float64 with 0 for nan, and what is observed, or None for all."""
    xp, _, device = get_namespace_and_device(X)
    X = check_array(X, dtype=supported_float_dtypes(xp, device), ensure_all_finite="allow-nan")
    X = xp.astype(X, xp.float64)
    missing = xp.isnan(X)
    if not xp.any(missing):
        return X, None
    return xp.where(missing, xp.zeros_like(X), X), xp.astype(~missing, xp.float64)
