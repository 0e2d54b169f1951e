"""A few singular or eigenvalues of a matrix, by the solver that its size asks for."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import eigsh, svds
from sklearn.utils._array_api import _is_numpy_namespace, get_namespace
from sklearn.utils.extmath import randomized_svd

from ._random import check_random_state, draw_seed

__all__ = ["truncated_eigh", "truncated_svd"]

_DENSE = 1000  # up to this order a full decomposition costs less than it is worth to avoid


def truncated_svd(A, n_components, *, solver="auto", random_state=None):
    """Compute the leading singular triplets of a matrix.

    Parameters
    ----------
    A : {array, sparse matrix} of shape (m, n)
        The matrix, in any array API namespace, or scipy sparse.
    n_components : int
        Number of triplets, from 1 to ``min(m, n)``.
    solver : {"auto", "full", "arpack", "randomized"}, default="auto"
        "full" decomposes the whole matrix in O(m n min(m, n)); "arpack" iterates up to machine
        precision (NumPy and sparse matrices, ``n_components < min(m, n)``); "randomized"
        projects on a random subspace, whose error falls with the gap behind the last value.
        "auto" takes "full" for a dense matrix with a side up to 1000 or more than a fifth of all
        triplets, else "arpack" where it is at hand, else "randomized".
    random_state : int, RandomState instance or None, default=None
        Start vectors of "arpack" and "randomized".

    Returns
    -------
    u : array of shape (m, n_components)
        Left singular vectors; the entry of largest modulus of each is positive.
    s : array of shape (n_components,)
        Singular values, descending.
    vt : array of shape (n_components, n)
        Right singular vectors.

    Raises
    ------
    ValueError
        If `n_components` is not between 1 and the smaller side of `A`, or if the solver does not
        take this kind of matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.utils import truncated_svd
    >>> truncated_svd(np.diag([3.0, 2.0, 1.0]), 2)[1]
    array([3., 2.])
    """
    _check_n_components(n_components, min(A.shape), A.shape)
    solver = _choose(solver, A, n_components, min(A.shape), last_resort="randomized")
    if solver == "randomized":
        seed = draw_seed(check_random_state(random_state))
        u, s, vt = randomized_svd(A, n_components, random_state=seed, flip_sign=False)
    elif solver == "arpack":
        start = check_random_state(random_state).uniform(-1, 1, min(A.shape))
        u, s, vt = svds(A, n_components, v0=start.astype(A.dtype))
        u, s, vt = u[:, ::-1], s[::-1], vt[::-1]
    else:
        A = A.toarray() if sparse.issparse(A) else A
        u, s, vt = get_namespace(A)[0].linalg.svd(A, full_matrices=False)
        u, s, vt = u[:, :n_components], s[:n_components], vt[:n_components, :]
    signs = _signs(u)
    return u * signs, s, signs[:, None] * vt


def truncated_eigh(A, n_components, *, largest=True, solver="auto", random_state=None):
    """Compute extreme eigenpairs of a symmetric matrix.

    Of an eigenvalue that is repeated, "arpack" may miss copies: where they matter, as for the
    components of a graph, take "full", or one component at a time.

    Parameters
    ----------
    A : {array, sparse matrix} of shape (n, n)
        Symmetric matrix, in any array API namespace, or scipy sparse.
    n_components : int
        Number of pairs, from 1 to n.
    largest : bool, default=True
        Whether the algebraically largest pairs are wanted, or the smallest.
    solver : {"auto", "full", "arpack"}, default="auto"
        "full" decomposes the whole matrix in O(n ** 3); "arpack" iterates up to machine
        precision (NumPy and sparse matrices, ``n_components < n``). "auto" takes "full" for a
        dense matrix of order up to 1000, for more than a fifth of all pairs, and where "arpack"
        is not at hand.
    random_state : int, RandomState instance or None, default=None
        Start vector of "arpack".

    Returns
    -------
    values : array of shape (n_components,)
        Eigenvalues, from the extreme inwards: descending if `largest`, else ascending.
    vectors : array of shape (n, n_components)
        Eigenvectors; the entry of largest modulus of each is positive.

    Raises
    ------
    ValueError
        If `n_components` is not between 1 and the order of `A`, or if the solver does not take
        this kind of matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.utils import truncated_eigh
    >>> truncated_eigh(np.diag([1.0, 3.0, 2.0]), 2)[0]
    array([3., 2.])
    """
    _check_n_components(n_components, A.shape[0], A.shape)
    if _choose(solver, A, n_components, A.shape[0], last_resort="full") == "arpack":
        start = check_random_state(random_state).uniform(-1, 1, A.shape[0]).astype(A.dtype)
        values, vectors = eigsh(A, n_components, which="LA" if largest else "SA", v0=start)
        order = np.argsort(values)
        values, vectors = values[order], vectors[:, order]
    else:
        A = A.toarray() if sparse.issparse(A) else A
        values, vectors = get_namespace(A)[0].linalg.eigh(A)
    if largest:
        xp, _ = get_namespace(values)
        values, vectors = xp.flip(values), xp.flip(vectors, axis=1)
    vectors = vectors[:, :n_components]
    return values[:n_components], vectors * _signs(vectors)


def _choose(solver, A, n_components, order, last_resort):
    """The solver for a matrix whose smaller side is `order`."""
    is_sparse = sparse.issparse(A)
    arpack = (is_sparse or _is_numpy_namespace(get_namespace(A)[0])) and n_components < order
    if solver == "auto":
        if not is_sparse and (order <= _DENSE or n_components > order / 5):
            return "full"
        if arpack:
            return "arpack"
        return "full" if is_sparse else last_resort
    options = {"full", "arpack", last_resort}
    if solver not in options:
        raise ValueError(f"solver={solver!r} must be 'auto' or one of {sorted(options)}.")
    if solver == "arpack" and not arpack:
        raise ValueError(
            "solver='arpack' takes NumPy arrays and sparse matrices, and fewer components than "
            f"the smaller side of the matrix; got {type(A).__name__} of shape {tuple(A.shape)} "
            f"and n_components={n_components}."
        )
    return solver


def _signs(vectors):
    """Signs that make the entry of largest modulus of each column positive."""
    xp, _ = get_namespace(vectors)
    rows = xp.argmax(xp.abs(vectors), axis=0)
    peaks = xp.take_along_axis(vectors, rows[None, :], axis=0)[0, :]
    return xp.where(peaks < 0, -xp.ones_like(peaks), xp.ones_like(peaks))


def _check_n_components(n_components, largest, shape):
    if not 1 <= n_components <= largest:
        raise ValueError(
            f"n_components={n_components} must be between 1 and {largest} for a matrix of shape "
            f"{tuple(shape)}."
        )
