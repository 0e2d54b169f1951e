"""SVCCA against scikit-learn's iterative CCA and the covariance route of the reference code."""

import numpy as np
from sklearn.cross_decomposition import CCA

from benchmarks._harness import Case
from skpapers.cross_decomposition import SVCCA


def cases():
    X, Y = _layers()
    size = "n=10000, p=q=500"
    yield Case(
        name="svcca",
        size=size,
        peer_name="sklearn CCA(20)",
        ours=lambda: SVCCA(variance_threshold=1.0, n_components=20).fit(X, Y).correlations_,
        peer=lambda: _correlations(CCA(n_components=20, scale=False).fit(X, Y), X, Y),
        accuracy=lambda rho: float(np.mean(rho)),
        metric="mean of the 20 leading training correlations",
        repeats=1,
    )
    yield Case(
        name="svcca",
        size=size,
        peer_name="covariance, pinv and eigh, then SVD",
        ours=lambda: SVCCA(variance_threshold=1.0).fit(X, Y).correlations_,
        peer=lambda: _covariance_route(X, Y),
        accuracy=lambda rho: float(np.mean(rho)),
        metric="mean of all training correlations",
    )
    yield Case(
        name="svcca, truncated",
        size=size,
        peer_name="SVD of both, then covariance, pinv and eigh",
        ours=lambda: SVCCA(variance_threshold=0.99).fit(X, Y).correlations_,
        peer=lambda: _covariance_route(_truncate(X), _truncate(Y)),
        accuracy=lambda rho: float(np.mean(rho)),
        metric="mean of the retained training correlations",
    )


def _layers(n=10000, p=500, k=50):
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(n, k)) * np.linspace(1, 0.2, k)
    return [latent @ rng.normal(size=(k, p)) + 0.2 * rng.normal(size=(n, p)) for _ in "XY"]


def _correlations(model, X, Y):
    return [np.corrcoef(a, b)[0, 1] for a, b in zip(*(s.T for s in model.transform(X, Y)))]


def _truncate(X):
    U, s, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    k = np.searchsorted(np.cumsum(s**2) / np.sum(s**2), 0.99) + 1
    return U[:, :k] * s[:k]


def _covariance_route(X, Y):
    """Singular values of Sxx^-1/2 Sxy Syy^-1/2, with pseudo-inverses and eigenvectors."""
    covariance = np.cov(X, Y, rowvar=False)
    p = X.shape[1]
    left = _root(np.linalg.pinv(covariance[:p, :p]))
    right = _root(np.linalg.pinv(covariance[p:, p:]))
    return np.linalg.svd(left @ covariance[:p, p:] @ right)[1]


def _root(S):
    values, vectors = np.linalg.eigh(S)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
