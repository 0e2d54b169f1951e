"""Generalised eigenvalue problems as losses without constraints (Eckart-Young).

The losses take NumPy arrays or torch tensors.
"""

import numpy as np
import scipy.linalg
from scipy.optimize import minimize

__all__ = [
    "centre_columns",
    "column_signs",
    "eckart_young_gep",
    "ey_gradients",
    "ey_loss",
    "latent_rotations",
    "metric",
]


def eckart_young_gep(A, B, n_components=1, *, start=None, random_state=0):
    """Find the top of ``A u = lambda B u`` by minimising the Eckart-Young loss.

    ``-2 tr(U'AU) + tr((U'BU)^2)`` has no constraint, and every local minimum is global: minus
    the sum of the squared top eigenvalues, those that are positive.

    Parameters
    ----------
    A : array-like of shape (n, n)
        Symmetric matrix.
    B : array-like of shape (n, n)
        Symmetric positive definite matrix.
    n_components : int, default=1
        Number of eigenvectors.
    start : array-like of shape (n, n_components), default=None
        Where the minimisation starts; None for a Gaussian draw.
    random_state : int or None, default=0
        Seed of that draw.

    Returns
    -------
    U : ndarray of shape (n, n_components)
        Eigenvectors in columns, by decreasing eigenvalue, of B-norm the root of the eigenvalue.
    value : float
        The minimum.

    References
    ----------
    .. [1] J. Chapman, L. Wells, A. Lawry Aguila, "Unconstrained Stochastic CCA: Unifying
       Multiview and Self-Supervised Learning", ICLR 2024, arXiv:2310.01012, proposition 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.cross_decomposition import eckart_young_gep
    >>> U, value = eckart_young_gep(np.diag([3.0, 2.0, 1.0]), np.eye(3), 2)
    >>> round(value, 6)
    -13.0
    """
    A, B = np.asarray(A, dtype=float), np.asarray(B, dtype=float)
    if start is None:
        start = np.random.default_rng(random_state).normal(size=(len(A), n_components))
    shape = np.shape(start)

    def objective(flat):
        U = flat.reshape(shape)
        AU, BU = A @ U, B @ U
        inner = U.T @ BU
        value = -2 * np.sum(U * AU) + np.sum(inner * inner)
        return value, (4 * (BU @ inner - AU)).ravel()

    options = {"maxiter": 100_000, "maxfun": 1_000_000, "ftol": 1e-16, "gtol": 1e-10}
    found = minimize(objective, np.ravel(start), jac=True, method="L-BFGS-B", options=options)
    U = found.x.reshape(shape)
    _, rotation = scipy.linalg.eigh(U.T @ B @ U)
    return U @ rotation[:, ::-1], float(found.fun)


def centre_columns(Z):
    """Subtract the mean of each column."""
    return Z - Z.mean(0)


def metric(embeddings, weights=None, reg=0.0):
    """Sum over the views of ``reg W'W + (1 - reg) Cov(Z)``, for centred embeddings."""
    V = sum((1 - reg) / (len(Z) - 1) * (Z.T @ Z) for Z in embeddings)
    return V + sum(reg * (W.T @ W) for W in weights) if reg else V


def ey_loss(embeddings, weights=None, *, reg=0.0, auto_terms=True, second=None):
    """Eckart-Young loss of multi-view canonical correlation analysis, for one or two batches.

    ``-2 tr C + tr(V V)``, with C the sum of the covariances between views and V the sum over the
    views of ``reg W'W + (1 - reg) Cov(Z)``. A second, independent batch makes it unbiased:
    ``-tr C - tr C' + tr(V V')``.

    Parameters
    ----------
    embeddings : list of array of shape (n_samples, n_components)
        Embedding of each view of a batch.
    weights : list of array of shape (n_features, n_components), default=None
        Linear maps that made them; for ``reg > 0`` only.
    reg : float, default=0.0
        0 is CCA, 1 is PLS.
    auto_terms : bool, default=True
        Add V to C and divide both by the number of views: the same subspace, better conditioned.
    second : list of array, default=None
        The embeddings of another batch.

    Returns
    -------
    scalar
        The loss.
    """
    pairs = [_traces(embeddings, weights, reg, auto_terms)]
    pairs.append(pairs[0] if second is None else _traces(second, weights, reg, auto_terms))
    (trace, V), (other_trace, other_V) = pairs
    return (V * other_V).sum() - trace - other_trace


def _traces(embeddings, weights, reg, auto_terms):
    """Trace of C, and V."""
    embeddings = [centre_columns(Z) for Z in embeddings]
    n_views, divisor = len(embeddings), len(embeddings[0]) - 1
    total = sum(embeddings)
    within = sum((Z * Z).sum() for Z in embeddings)
    trace, V = ((total * total).sum() - within) / divisor, metric(embeddings, weights, reg)
    return ((trace + V.trace()) / n_views, V / n_views) if auto_terms else (trace, V)


def ey_gradients(batch, weights, embeddings, V, *, reg, auto_terms):
    """Gradient of the loss with respect to the weights, for a V of this or of another batch.

    `embeddings` are centred, and V is divided by the number of views with `auto_terms`.
    """
    factor = 4 / len(batch) if auto_terms else 4.0
    eye = np.eye(len(V), dtype=V.dtype) if auto_terms else 0.0
    total, gap, divisor = sum(embeddings), V - eye, len(embeddings[0]) - 1
    gradients = []
    for X, W, Z in zip(batch, weights, embeddings):
        slope = ((1 - reg) * (Z @ gap) - (total - Z)) * (factor / divisor)
        gradient = X.T @ slope
        gradients.append(gradient + (factor * reg) * (W @ gap) if reg else gradient)
    return gradients


def latent_rotations(embeddings, weights=None, reg=0.0):
    """Solve exactly what is left once each view has few columns.

    Returns the rotations of the views, which give columns of norm 1 in the metric of each view,
    and the eigenvalues, in units in which identical views have 1, in decreasing order.
    """
    embeddings = [centre_columns(np.asarray(Z, dtype=np.float64)) for Z in embeddings]
    n_views, divisor, k = len(embeddings), len(embeddings[0]) - 1, embeddings[0].shape[1]
    own = [None] * n_views if weights is None else [np.asarray(W, float) for W in weights]
    whitening = [_inverse_root(metric([Z], [W], reg)) for Z, W in zip(embeddings, own)]
    white = [Z @ P / divisor**0.5 for Z, P in zip(embeddings, whitening)]
    coupling = np.block([[_cross(white, i, j) for j in range(n_views)] for i in range(n_views)])
    eigenvalues, vectors = scipy.linalg.eigh(coupling)
    top = vectors[:, ::-1][:, :k].reshape(n_views, k, k)
    norms = np.linalg.norm(top, axis=1, keepdims=True)
    top = top / np.where(norms > 0, norms, 1.0)
    top = top * column_signs(top[0])
    return [P @ G for P, G in zip(whitening, top)], eigenvalues[::-1][:k] / (n_views - 1)


def column_signs(A):
    """Signs that make the largest entry of each column positive."""
    largest = np.take_along_axis(A, np.abs(A).argmax(axis=0)[None], axis=0)[0]
    return np.where(largest < 0, -1.0, 1.0)


def _cross(white, i, j):
    return white[i].T @ white[j] if i != j else np.zeros((white[i].shape[1],) * 2)


def _inverse_root(V):
    """Symmetric inverse square root; directions at rounding level are dropped."""
    eigenvalues, Q = scipy.linalg.eigh(V)
    kept = eigenvalues > len(V) * np.finfo(float).eps * max(eigenvalues[-1], 0.0)
    roots = np.where(kept, eigenvalues, 1.0) ** -0.5 * kept
    return (Q * roots) @ Q.T
