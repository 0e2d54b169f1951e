"""Bases of the columns of a matrix, choices of columns, and pseudoinverses with a rank cut.

A matrix is an array of any array API namespace or a scipy sparse matrix, which stays sparse.
"""

from math import sqrt

import numpy as np
from scipy import sparse
from sklearn.utils import gen_batches
from sklearn.utils._array_api import get_namespace_and_device
from sklearn.utils.extmath import randomized_svd

from skpapers.utils import draw_seed

__all__ = [
    "column",
    "dense",
    "deim",
    "diagonal",
    "least_squares",
    "leverage_sample",
    "pivoted_qr",
    "pseudo_factors",
    "pseudoinverse",
    "select_columns",
    "take_columns",
    "thin_svd",
    "ulv",
    "utv",
]

_CHUNK = 1024  # rows or columns of a sparse matrix that are dense at a time


def dense(A):
    """The array of a sparse matrix; an array as it is."""
    return A.toarray() if sparse.issparse(A) else A


def column(A, index):
    return dense(A[:, [index]])[:, 0] if sparse.issparse(A) else A[:, index]


def take_columns(A, indices):
    if sparse.issparse(A):
        return dense(A[:, indices])
    xp, _ = get_namespace_and_device(A)[:2]
    return xp.take(A, indices, axis=1)


def rank_cut(shape, dtype, xp):
    """Relative size of what is rounding in singular values of a matrix of this shape."""
    return max(shape) * float(xp.finfo(dtype).eps)


def pseudo_factors(F):
    """`basis` and `weights` with ``F^+ = weights @ basis.T``; basis is orthonormal.

    Singular values up to rounding are cut, so that F may have dependent columns.
    """
    xp, _ = get_namespace_and_device(F)[:2]
    q, r = xp.linalg.qr(F, mode="reduced")
    u, s, vt = xp.linalg.svd(r, full_matrices=False)
    keep = s > rank_cut(F.shape, F.dtype, xp) * xp.max(s)
    inverse = xp.where(keep, 1 / xp.where(keep, s, xp.ones_like(s)), xp.zeros_like(s))
    return q @ u * xp.astype(keep, F.dtype), vt.T * inverse


def diagonal(values):
    xp, _, device = get_namespace_and_device(values)
    return xp.eye(values.shape[0], dtype=values.dtype, device=device) * values


def pseudoinverse(F):
    basis, weights = pseudo_factors(F)
    return weights @ basis.T


def least_squares(F, A):
    """``F^+ A`` without forming the pseudoinverse."""
    basis, weights = pseudo_factors(F)
    return weights @ (basis.T @ A)


def residual_norms(A, Q, R, xp):
    """Squared norms of the columns of ``A - Q R``, some columns at a time."""
    return xp.concat(
        [
            xp.sum((dense(A[:, batch]) - Q @ R[:, batch]) ** 2, axis=0)
            for batch in gen_batches(A.shape[1], _CHUNK)
        ]
    )


def pivoted_qr(A, k):
    """The first k steps of the QR decomposition with column pivoting.

    Parameters
    ----------
    A : array or sparse matrix of shape (m, n)
        Matrix.
    k : int
        Number of steps, at most ``min(m, n)``.

    Returns
    -------
    pivots : list of int
        Columns in the order in which they are chosen.
    Q : array of shape (m, k)
        Orthonormal columns; zero from the rank of A on.
    R : array of shape (k, n)
        ``Q.T @ A``.
    """
    # Norms are downdated, and computed anew before they have lost half of their digits.
    xp, _, device = get_namespace_and_device(A)
    A = A.tocsc() if sparse.issparse(A) else A
    m, n = A.shape
    Q = xp.zeros((m, k), dtype=A.dtype, device=device)
    R = xp.zeros((k, n), dtype=A.dtype, device=device)
    norms = residual_norms(A, Q, R, xp)
    reference = float(xp.max(norms))
    cut = rank_cut(A.shape, A.dtype, xp) ** 2 * reference
    pivots = []
    for i in range(k):
        if float(xp.max(norms)) <= sqrt(xp.finfo(A.dtype).eps) * reference:
            norms = xp.where(norms < 0, norms, residual_norms(A, Q[:, :i], R[:i, :], xp))
            reference = float(xp.max(norms))
        if reference <= cut:
            rest = xp.argsort(norms, descending=True, stable=True)[: k - i]
            return pivots + [int(j) for j in rest], Q, R
        pivots.append(int(xp.argmax(norms)))
        Q[:, i] = orthonormalized(column(A, pivots[-1]), Q[:, :i], xp)
        R[i, :] = A.T @ Q[:, i]
        norms = xp.where(norms < 0, norms, xp.clip(norms - R[i, :] ** 2, min=0))
        norms[pivots[-1]] = -1  # chosen
    return pivots, Q, R


def orthonormalized(vector, Q, xp):
    for _ in range(2):  # twice is enough for orthogonality up to rounding
        vector = vector - Q @ (Q.T @ vector)
    return vector / xp.linalg.vector_norm(vector)


def thin_svd(A, k, random_state=None):
    """The k leading singular triplets, exact; a sparse matrix goes to ARPACK."""
    if sparse.issparse(A) and k < min(A.shape):
        start = random_state.uniform(-1, 1, min(A.shape))
        u, s, vt = sparse.linalg.svds(A, k, v0=start.astype(A.dtype))
        order = np.argsort(-s)
        return u[:, order], s[order], vt[order, :]
    xp, _ = get_namespace_and_device(A)[:2]
    u, s, vt = xp.linalg.svd(dense(A), full_matrices=False)  # k = min(A.shape): as large as A
    return u[:, :k], s[:k], vt[:k, :]


def utv(A, k):
    """One-sided UTV: U (m, k) and V (n, n) orthonormal, T (k, n) = [diag(S), B].

    ``U T V^T`` is the projection of A on the columns of U.
    """
    xp, _ = get_namespace_and_device(A)[:2]
    rows = xp.linalg.qr(pivoted_qr(A.T, k)[1], mode="complete")[0]
    u, s, vt = xp.linalg.svd(A @ rows[:, :k], full_matrices=False)
    rest = (A.T @ u).T @ rows[:, k:]
    T = xp.concat([xp.eye(k, dtype=u.dtype, device=u.device) * s, rest], axis=1)
    return u, s, T, xp.concat([rows[:, :k] @ vt.T, rows[:, k:]], axis=1)


def ulv(A, k):
    """Two-sided ULV: U (m, k) and V (n, k) orthonormal, L (k, k) lower triangular."""
    xp, _ = get_namespace_and_device(A)[:2]
    columns, rows = (xp.linalg.qr(pivoted_qr(B, k)[1])[0] for B in (A, A.T))
    core = columns.T @ (A @ rows)
    pivots, q, r = pivoted_qr(core.T, k)
    q, change = xp.linalg.qr(q)  # completes q where the core has not full rank
    order = xp.asarray(pivots, device=core.device)
    lower = xp.tril(xp.take(r, order, axis=1).T @ change.T)
    return xp.take(columns, order, axis=1), lower, rows @ q


def select_columns(A, k, selection, rng):
    """Indices of k columns that stand for all: a list of int."""
    if selection == "qr":
        return pivoted_qr(A, k)[0]
    if selection == "uniform":
        return [int(j) for j in rng.choice(A.shape[1], k, replace=False)]
    options = {"power_iteration_normalizer": "QR", "random_state": draw_seed(rng)}
    _, _, vt = randomized_svd(A, k, n_oversamples=10, **options)
    return deim(vt.T) if selection == "deim" else leverage_sample(vt, rng)


def deim(V):
    """Discrete empirical interpolation: one row of V a column, where it is hardest to foretell."""
    xp, _ = get_namespace_and_device(V)[:2]
    chosen = [int(xp.argmax(xp.abs(V[:, 0])))]
    for j in range(1, V.shape[1]):
        index = xp.asarray(chosen, device=V.device)
        known = xp.take(V[:, : j + 1], index, axis=0)
        error = xp.abs(V[:, j] - V[:, :j] @ least_squares(known[:, :j], known[:, j]))
        error[index] = -1
        chosen.append(int(xp.argmax(error)))
    return chosen


def leverage_sample(vt, rng):
    """As many columns as vt has rows, without replacement, as likely as their squared norms."""
    xp, _ = get_namespace_and_device(vt)[:2]
    leverage = np.asarray([float(v) for v in xp.sum(vt**2, axis=0)])
    keys = np.log(leverage + np.finfo(float).tiny) + rng.gumbel(size=leverage.size)
    return [int(j) for j in np.argsort(-keys)[: vt.shape[0]]]
