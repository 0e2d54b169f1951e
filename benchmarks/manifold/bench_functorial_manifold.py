"""SMACOF against scikit-learn's, and the ultrametric against SciPy's linkage."""

import numpy as np
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import cdist, squareform
from sklearn.manifold import smacof as sklearn_smacof

from benchmarks._harness import Case
from skpapers.manifold import single_linkage_ultrametric, smacof

STEPS = {"max_iter": 50, "eps": 0.0}


def cases():
    for n_samples in (500, 2000):
        rng = np.random.default_rng(0)
        X, start = rng.normal(size=(n_samples, 10)), rng.normal(size=(n_samples, 2))
        D = cdist(X, X)
        yield Case(
            name="smacof, 50 steps",
            size=f"n={n_samples}, 2 dimensions",
            peer_name="sklearn.manifold.smacof",
            ours=lambda D=D, start=start: smacof(D, start, **STEPS)[1],
            peer=lambda D=D, start=start: _sklearn(D, start),
            accuracy=float,
            metric="stress",
        )
    yield Case(
        name="single_linkage_ultrametric",
        size="n=2000",
        peer_name="scipy linkage and cophenet",
        ours=lambda: single_linkage_ultrametric(D),
        peer=lambda: squareform(cophenet(linkage(squareform(D), "single"))),
        accuracy=lambda u: float(u.max()),
        metric="largest step",
    )


def _sklearn(D, start):
    options = {"n_init": 1, "normalized_stress": False, **STEPS}
    return sklearn_smacof(D, init=start, **options)[1]
