"""LCOT against POT: all pairs of distributions on the circle."""

import numpy as np
import ot

from benchmarks._harness import Case
from skpapers.manifold import pairwise_lcot


def cases():
    X = _samples(120)
    exact = _upper(_pairs(ot.wasserstein_circle, X, p=2))
    for name, peer, settings in (
        ("ot.linear_circular_ot", ot.linear_circular_ot, {}),
        ("ot.wasserstein_circle", ot.wasserstein_circle, {"p": 2}),
    ):
        yield Case(
            name="lcot, all pairs",
            size="120 distributions of 200 angles",
            peer_name=name,
            ours=lambda: pairwise_lcot(X, period=1),
            peer=lambda peer=peer, settings=settings: _pairs(peer, X, **settings),
            accuracy=lambda D: float(np.corrcoef(_upper(D), exact)[0, 1]),
            metric="correlation with circular Wasserstein-2",
            repeats=1 if settings else 3,
            note="The peers run in batches of one row against all others.",
        )


def _samples(n, m=200):
    rng = np.random.default_rng(0)
    kappa = rng.choice([0.5, 5.0, 50.0], size=(n, 1))
    return (rng.random((n, 1)) + rng.vonmises(0, kappa, (n, m)) / (2 * np.pi)) % 1


def _pairs(distance, X, **settings):
    """Upper triangle of distances, which the peers give squared."""
    D = np.zeros((len(X), len(X)))
    for i in range(len(X) - 1):
        first = np.repeat(X[i : i + 1], len(X) - i - 1, axis=0)
        D[i, i + 1 :] = np.sqrt(distance(first.T, X[i + 1 :].T, **settings))
    return D


def _upper(D):
    return D[np.triu_indices(len(D), 1)]
