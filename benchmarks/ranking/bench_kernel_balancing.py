"""Kernel balancing: the exact dual against SLSQP and Adam."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.metrics.pairwise import rbf_kernel

from benchmarks._harness import Case
from skpapers.ranking import KernelBalancedRecommender, KernelBalancingWeights


def cases():
    X, y = _missing(1000)
    yield Case(
        name="kernel_balancing, weights",
        size=f"1000 rows, {np.sum(~np.isnan(y))} observed, 10 functions",
        peer_name="scipy SLSQP, the entropy program with bounds of the gaps",
        ours=lambda: _weights(10, X, y).sample_weight_[~np.isnan(y)],
        peer=lambda: _slsqp(X, y),
        accuracy=lambda w: float(np.mean(w * np.log(w))),
        metric="relative entropy (less is better)",
        repeats=1,
    )
    R, T = _ratings(200, 150)
    settings = {"n_functions": 50, "selection": "random", "n_rounds": 1, "random_state": 0}
    yield Case(
        name="kernel_balancing, recommender",
        size="200 users, 150 items, 50 functions",
        peer_name="our solver='sgd', as in the official code",
        ours=lambda: KernelBalancedRecommender(2, **settings).fit(R),
        peer=lambda: KernelBalancedRecommender(2, solver="sgd", max_epochs=20, **settings).fit(R),
        accuracy=lambda model: model.balance_gap_,
        metric="largest gap",
        repeats=1,
        note="Twenty epochs; the gap that is left is to be 0.001.",
    )
    big, _ = _missing(250_000)
    seen = np.random.default_rng(0).random(len(big)) < 0.05 * expit(big[:, 0])
    yield Case(
        name="kernel_balancing, many rows",
        size=f"250000 rows, {seen.sum()} observed, 200 functions",
        peer_name="sklearn rbf_kernel, the table alone",
        ours=lambda: np.abs(_weights(200, big, None, seen).gaps_).max(),
        peer=lambda: rbf_kernel(big, big[:200], gamma=0.25).mean(axis=0)[0],
        accuracy=float,
        metric="largest gap (ours), a mean (peer)",
        repeats=1,
        note="A lower bound of the time of any method with these functions, not a competitor.",
    )


def _missing(n):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4))
    s = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2]
    return X, np.where(rng.random(n) < expit(1.5 * s - 1.5), s, np.nan)


def _ratings(n_users, n_items):
    rng = np.random.default_rng(0)
    T = rng.normal(size=(n_users, 3)) @ rng.normal(size=(3, n_items)) / 3**0.5
    return np.where(rng.random(T.shape) < 0.05 + 0.45 * expit(2 * T), T, np.nan), T


def _weights(n_functions, X, y, observed=None):
    model = KernelBalancingWeights(gamma_kernel=0.25, n_functions=n_functions, random_state=0)
    return model.fit(X, y, observed=observed)


def _slsqp(X, y):
    model, seen = _weights(10, X, y), ~np.isnan(y)
    H, target, n = model.transform(X[seen]), model.transform(X).mean(axis=0), seen.sum()
    sides = np.vstack([H.T, -H.T]) / n, np.concatenate([target, -target]) - 1e-3
    constraints = [
        {"type": "eq", "fun": lambda w: w.mean() - 1, "jac": lambda w: np.full(n, 1 / n)},
        {"type": "ineq", "fun": lambda w: sides[0] @ w - sides[1], "jac": lambda w: sides[0]},
    ]
    found = minimize(
        lambda w: (w @ np.log(w) / n, (np.log(w) + 1) / n),
        np.ones(n),
        jac=True,
        method="SLSQP",
        bounds=[(1e-9, None)] * n,
        constraints=constraints,
        options={"maxiter": 500, "ftol": 1e-10},
    )
    return found.x
