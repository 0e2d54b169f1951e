"""A matrix, or its pseudoinverse, from bases or sketches of its columns and rows."""

from collections import namedtuple
from math import hypot

from sklearn.utils import check_array, gen_batches
from sklearn.utils._array_api import get_namespace_and_device, supported_float_dtypes
from sklearn.utils._param_validation import validate_params

from ._column_bases import dense, least_squares, pseudo_factors, pseudoinverse, rank_cut

__all__ = [
    "MetaFactors",
    "general_core",
    "generalized_pinv",
    "meta_factorize",
    "projector_residual",
    "reconstruction_error",
    "relative",
    "replacement_criterion",
    "sketched_inverse",
]

_CHUNK = 1024  # rows reconstructed at a time
_MATRIX = ["array-like", "sparse matrix"]

MetaFactors = namedtuple("MetaFactors", ["left", "core", "right"])
GeneralizedInverse = namedtuple("GeneralizedInverse", ["inverse", "rank_preserved"])


@validate_params(
    {
        "A": _MATRIX,
        "F": ["array-like"],
        "H": ["array-like"],
        "B": ["array-like", None],
        "D": ["array-like", None],
        "W": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def meta_factorize(A, F, H, B=None, D=None, W=None):
    """Write a matrix as ``F G H^T`` with the core that given bases ask for.

    Parameters
    ----------
    A : {array-like, sparse matrix} of shape (m, n)
        Matrix.
    F : array-like of shape (m, k)
        Basis of the columns.
    H : array-like of shape (n, l)
        Basis of the rows.
    B : array-like of shape (m, p), default=None
        Sketch that gives ``Y^T = (B^T F)^+ B^T``; None is F, which makes the projector on the
        columns orthogonal.
    D : array-like of shape (n, q), default=None
        Sketch that gives ``Z = D (H^T D)^+``; None is H.
    W : array-like of shape (k, l), default=None
        What the solution is free in; None is zero. ``F G H^T`` does not depend on it.

    Returns
    -------
    factors : MetaFactors
        Named tuple `left` (F), `core` (``G = Y^T A Z + W - Y^T F W H^T Z``) and `right` (H).

    References
    ----------
    .. [1] M. P. Karpowicz, "A theory of meta-factorization", 2021, :arxiv:`2111.14385`.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.decomposition import meta_factorize
    >>> A = np.outer([1.0, 2.0], [3.0, 4.0])
    >>> F, G, H = meta_factorize(A, A[:, :1], A[:1].T)
    >>> bool(np.allclose(F @ G @ H.T, A))
    True
    """
    A = _floating(A, "A", accept_sparse=("csr", "csc"))
    F, H = (_like(basis, A, axis, name) for basis, axis, name in [(F, 0, "F"), (H, 1, "H")])
    B, D = (_like(basis, A, axis, name) for basis, axis, name in [(B, 0, "B"), (D, 1, "D")])
    Y, Z = sketched_inverse(F, B), sketched_inverse(H, D)
    core = general_core(A, Y, Z)
    if W is not None:
        W = _floating(W, "W")
        if W.shape != core.shape:
            raise ValueError(f"W must have shape {core.shape}, got {W.shape}")
        core = core + W - (Y.T @ F) @ W @ (H.T @ Z)
    return MetaFactors(F, core, H)


@validate_params(
    {"A": _MATRIX, "P": ["array-like"], "Q": ["array-like"]}, prefer_skip_nested_validation=True
)
def generalized_pinv(A, P, Q):
    """Pseudoinverse from two sketches: ``(P^T A)^+ P^T A Q (A Q)^+``.

    Parameters
    ----------
    A : {array-like, sparse matrix} of shape (m, n)
        Matrix.
    P : array-like of shape (m, p)
        Sketch of the rows.
    Q : array-like of shape (n, q)
        Sketch of the columns.

    Returns
    -------
    result : GeneralizedInverse
        Named tuple `inverse` of shape (n, m), and `rank_preserved`, whether ``P^T A`` and ``A Q``
        have the rank of A: only then is it the Moore-Penrose inverse.

    Notes
    -----
    The cost is O(m n (p + q)); no decomposition of A is made.

    References
    ----------
    .. [1] M. P. Karpowicz, "A theory of meta-factorization", 2021, :arxiv:`2111.14385`.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.decomposition import generalized_pinv
    >>> A = np.outer([1.0, 2.0], [3.0, 4.0])
    >>> result = generalized_pinv(A, np.ones((2, 1)), np.ones((2, 1)))
    >>> bool(np.allclose(result.inverse, np.linalg.pinv(A))), result.rank_preserved
    (True, True)
    """
    A = _floating(A, "A", accept_sparse=("csr", "csc"))
    P, Q = _like(P, A, 0, "P"), _like(Q, A, 1, "Q")
    rows, columns = (A.T @ P).T, A @ Q
    inverse = least_squares(rows, P.T @ columns) @ pseudoinverse(columns)
    preserved = spans(columns, A) and spans(rows.T, A.T)
    return GeneralizedInverse(inverse, preserved)


@validate_params(
    {"F": ["array-like"], "Fc": ["array-like"], "Yc": ["array-like"], "G": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def replacement_criterion(F, Fc, Yc, G):
    """How much is lost when another basis of the columns takes the place of F.

    Parameters
    ----------
    F : array-like of shape (m, k)
        Basis in ``A = F G H^T``.
    Fc : array-like of shape (m, kc)
        Candidate.
    Yc : array-like of shape (m, kc)
        Solves ``Fc Yc^T Fc = Fc``, as the transposed pseudoinverse of Fc does.
    G : array-like of shape (k, l)
        Core.

    Returns
    -------
    loss : float
        Frobenius norm of ``(F - Fc Yc^T F) G``. If it is zero, ``A = Fc (Yc^T F G) H^T``.

    References
    ----------
    .. [1] M. P. Karpowicz, "A theory of meta-factorization", 2021, :arxiv:`2111.14385`.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.decomposition import replacement_criterion
    >>> F = np.eye(3)[:, :2]
    >>> replacement_criterion(F, F[:, :1], F[:, :1], np.eye(2))
    1.0
    """
    F, Fc, Yc, G = (_floating(a, n) for a, n in zip((F, Fc, Yc, G), ("F", "Fc", "Yc", "G")))
    if not F.shape[0] == Fc.shape[0] == Yc.shape[0]:
        raise ValueError("F, Fc and Yc must have the same number of rows")
    if F.shape[1] != G.shape[0] or Fc.shape[1] != Yc.shape[1]:
        raise ValueError("G must have a row a column of F, and Yc a column a column of Fc")
    xp, _ = get_namespace_and_device(F)[:2]
    return float(xp.linalg.vector_norm((F - Fc @ (Yc.T @ F)) @ G))


def _floating(A, name, accept_sparse=False):
    xp, _, device = get_namespace_and_device(A)
    dtypes = supported_float_dtypes(xp, device)
    return check_array(A, dtype=dtypes, accept_sparse=accept_sparse, input_name=name)


def _like(basis, A, axis, name):
    """A basis of the columns or rows of A in the dtype of A."""
    if basis is None:
        return None
    xp, _, device = get_namespace_and_device(A)
    basis = xp.asarray(_floating(basis, name), dtype=A.dtype, device=device)
    if basis.shape[0] != A.shape[axis]:
        raise ValueError(f"{name} must have {A.shape[axis]} rows, got {basis.shape[0]}")
    return basis


def sketched_inverse(F, B=None):
    """Y with ``F Y^T F = F``, provided that ``B^T F`` has the rank of F."""
    return pseudoinverse(F).T if B is None else least_squares(B.T @ F, B.T).T


def general_core(A, Y, Z):
    return (A.T @ Y).T @ Z if A.shape[0] > A.shape[1] else Y.T @ (A @ Z)


def projector_residual(F, B=None):
    """Relative Frobenius error of ``F Y^T F = F``."""
    sketch = F if B is None else B.T @ F
    return relative(F - F @ least_squares(sketch, sketch), F)


def relative(error, whole):
    """Frobenius norm of `error` over that of `whole`; zero where both are."""
    xp, _ = get_namespace_and_device(whole)[:2]
    size = float(xp.linalg.vector_norm(whole))
    return float(xp.linalg.vector_norm(error)) / size if size > 0 else 0.0


def reconstruction_error(A, left, right):
    """Frobenius norm of ``A - left @ right``, some rows at a time."""
    xp, _ = get_namespace_and_device(left)[:2]
    blocks = (
        dense(A[rows, :]) - left[rows, :] @ right for rows in gen_batches(A.shape[0], _CHUNK)
    )
    return hypot(*(float(xp.linalg.vector_norm(block)) for block in blocks))


def spans(F, A):
    """Whether A has no part outside the range of F but for rounding."""
    xp, _ = get_namespace_and_device(F)[:2]
    basis, _ = pseudo_factors(F)
    inside = basis.T @ A
    error = reconstruction_error(A, basis, inside)
    size = hypot(error, float(xp.linalg.vector_norm(inside)))
    return error <= 10 * rank_cut(A.shape, F.dtype, xp) * size
