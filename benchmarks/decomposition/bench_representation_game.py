"""Minimax representations against PCA, whose problem is the case of the identity prior."""

import numpy as np
from sklearn.decomposition import PCA

from benchmarks._harness import Case
from skpapers.decomposition import MinimaxRepresentation, representation_regret


def cases():
    """Accuracy is the worst-case regret over the ellipsoid of tasks; smaller is better."""
    n, d, r = 100_000, 200, 10
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)) * np.geomspace(1, 0.1, d)
    Sigma = X.T @ X / n
    priors = {"identity": np.ones(d), "random": rng.gamma(0.5, size=d)}
    for name, prior in priors.items():
        yield Case(
            name="MinimaxRepresentation.fit",
            size=f"n={n}, d={d}, r={r}, prior {name}",
            peer_name="sklearn PCA",
            ours=lambda prior=prior: MinimaxRepresentation(r, task_prior=prior).fit(X),
            peer=lambda: PCA(r, random_state=0).fit(X),
            accuracy=lambda model, prior=prior: worst_case(model, Sigma, prior),
            metric="worst-case regret",
        )


def worst_case(model, Sigma, prior):
    return representation_regret(model.components_.T, Sigma, np.diag(prior))
