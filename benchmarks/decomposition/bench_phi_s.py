"""PHI-S against whitening by PCA: the fit alone, and the fit with the transform."""

import numpy as np
from sklearn.decomposition import PCA

from benchmarks._harness import Case
from skpapers.decomposition import PHIStandardScaler


def cases():
    """Accuracy is the largest deviation of a variance from 1."""
    for n, d in [(20_000, 128), (20_000, 512)]:
        X = np.random.default_rng(0).normal(size=(n, d)) * np.geomspace(1, 1e-2, d)
        common = {
            "size": f"n={n}, d={d}",
            "peer_name": "sklearn PCA(whiten=True)",
            "metric": "largest deviation of a variance from 1",
        }
        yield Case(
            name="PHIStandardScaler.fit",
            ours=lambda X=X: PHIStandardScaler().fit(X),
            peer=lambda X=X: PCA(whiten=True).fit(X),
            accuracy=lambda model, X=X: deviation(model.transform(X)),
            **common,
        )
        yield Case(
            name="PHIStandardScaler.fit_transform",
            ours=lambda X=X: PHIStandardScaler().fit_transform(X),
            peer=lambda X=X: PCA(whiten=True).fit_transform(X),
            accuracy=deviation,
            **common,
        )


def deviation(Z):
    return float(np.abs(Z.var(axis=0, ddof=1) - 1).max())
