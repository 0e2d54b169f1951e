"""FrankWolfeClassifier against l1 logistic regression on the same ball."""

import functools

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from benchmarks._harness import Case
from skpapers.optim import FrankWolfeClassifier

N_ROWS, N_COLUMNS, C = 20_000, 2_000, 0.02


@functools.cache
def problem():
    """Rows with 1 % of entries, labels that depend on 40 columns, and the radius of the peer."""
    rng = np.random.default_rng(0)
    X = sparse.random_array((N_ROWS, N_COLUMNS), density=0.01, rng=rng, format="csr")
    X.data = rng.standard_normal(X.nnz)
    truth = np.zeros(N_COLUMNS)
    truth[:40] = rng.standard_normal(40) * 4
    y = (X @ truth + rng.logistic(size=N_ROWS) > 0).astype(int)
    return X, y


def peer(solver, tol):
    X, y = problem()
    params = {"l1_ratio": 1, "fit_intercept": False, "max_iter": 2000, "random_state": 0}
    return LogisticRegression(C=C, solver=solver, tol=tol, **params).fit(X, y)


@functools.cache
def radius():
    return float(np.abs(peer("liblinear", 1e-8).coef_).sum())


def ours(step, tol):
    X, y = problem()
    params = {"fit_intercept": False, "max_iter": 20_000, "tol": tol}
    return FrankWolfeClassifier(radius=radius(), step=step, **params).fit(X, y)


def excess(model):
    """Mean loss over that of the accurate peer, which is the best within the ball."""
    return mean_loss(model) - mean_loss(peer("liblinear", 1e-8))


def mean_loss(model):
    X, y = problem()
    return float(np.mean(np.logaddexp(0, -(2 * y - 1) * (X @ model.coef_[0]))))


def cases():
    radius()
    for step, tol in (("monotonic", 1e-3), ("away", 1e-3), ("away", 1e-5)):
        for solver in ("saga", "liblinear"):
            yield Case(
                name=f"FrankWolfeClassifier, {step}, gap {tol:g}",
                size=f"{N_ROWS} x {N_COLUMNS}, 1 % filled, l1 ball",
                peer_name=f"LogisticRegression, l1, {solver}",
                ours=lambda step=step, tol=tol: ours(step, tol),
                peer=lambda solver=solver: peer(solver, 1e-4),
                accuracy=excess,
                metric="mean loss above the best in the ball",
            )
