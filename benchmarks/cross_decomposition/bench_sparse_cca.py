"""Primal-dual sparse CCA against a general bound-constrained solver and against dense CCA."""

import numpy as np
from scipy.optimize import minimize
from sklearn.cross_decomposition import CCA

from benchmarks._harness import Case
from skpapers.cross_decomposition import PrimalDualSparseCCA, primal_dual_scca_pair


def cases():
    X, Y = _views()
    X_train, Y_train, K = X[:500], Y[:500], Y[:500] @ Y[:500].T
    seed = int(np.argmax(np.linalg.norm(K, axis=0)))
    best = primal_dual_scca_pair(X_train, K, seed, tol=1e-9)
    yield Case(
        name="sparse_cca, one component",
        size="n=500, p=5000",
        peer_name="scipy L-BFGS-B on the split problem",
        ours=lambda: primal_dual_scca_pair(X_train, K, seed).objective,
        peer=lambda: _split(X_train, K, seed, best.mu, best.gamma),
        accuracy=lambda objective: objective / best.objective - 1,
        metric="objective over the optimum, less 1 (smaller is better)",
    )
    yield Case(
        name="sparse_cca",
        size="n=500, p=5000, q=200",
        peer_name="sklearn CCA(1)",
        ours=lambda: PrimalDualSparseCCA(scores="sparse").fit(X_train, Y_train),
        peer=lambda: CCA(n_components=1).fit(X_train, Y_train),
        accuracy=lambda model: _held_out(model, X[500:], Y[500:]),
        metric="held-out correlation",
    )


def _views(n=1000, p=5000, q=200):
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(n, 1))
    X, Y = rng.normal(size=(n, p)), rng.normal(size=(n, q))
    X[:, :10] += 1.5 * latent
    Y[:, :10] += 1.5 * latent
    return X - X[:500].mean(axis=0), Y - Y[:500].mean(axis=0)


def _split(X, K, seed, mu, gamma):
    n, p = X.shape
    A = 0.5 * np.hstack([X, -X, -K])
    cost = np.repeat([mu, mu, gamma], [p, p, n])
    bounds = [(0, None)] * (2 * p) + [(0, 1)] * n
    bounds[2 * p + seed] = (1, 1)
    start = np.zeros(2 * p + n)
    start[2 * p + seed] = 1.0
    scale = np.sum((A @ start) ** 2)

    def objective(z):
        r = A @ z
        return (r @ r + cost @ z) / scale, (2 * A.T @ r + cost) / scale

    options = {"maxiter": 1000, "ftol": 1e-10, "gtol": 1e-8}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return found.fun * scale


def _held_out(model, X, Y):
    x_scores, y_scores = model.transform(X, Y)
    return float(np.corrcoef(x_scores[:, 0], y_scores[:, 0])[0, 1])
