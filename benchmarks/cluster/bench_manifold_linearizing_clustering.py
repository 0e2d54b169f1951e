"""Manifold linearizing and clustering against spectral clustering, at two sizes."""

import numpy as np
from sklearn.cluster import SpectralClustering
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score

from benchmarks._harness import Case
from skpapers.cluster import ManifoldLinearizingClustering
from skpapers.utils import nearest_neighbors

N_ROWS = (1_797, 20_000)


def mixed_digits(X, y, n_samples):
    """Rows on the segments between digits and their neighbours: none is a copy of another."""
    rng = np.random.default_rng(0)
    first = rng.integers(len(X), size=n_samples)
    second = nearest_neighbors(X, 10)[1][first, rng.integers(10, size=n_samples)]
    share = rng.uniform(0.5, 1, size=(n_samples, 1))
    return share * X[first] + (1 - share) * X[second], y[first]


def cases():
    X, y = load_digits(return_X_y=True)
    for n_samples in N_ROWS:
        rows, labels = (X, y) if n_samples == len(X) else mixed_digits(X, y, n_samples)
        ours = ManifoldLinearizingClustering(10, random_state=0)
        peer = SpectralClustering(10, affinity="nearest_neighbors", random_state=0)
        yield Case(
            name="ManifoldLinearizingClustering",
            size=f"{len(rows)} rows, 64 columns, 10 clusters",
            peer_name="SpectralClustering, 10 neighbours",
            ours=lambda ours=ours, rows=rows: ours.fit_predict(rows),
            peer=lambda peer=peer, rows=rows: peer.fit_predict(rows),
            accuracy=lambda found, labels=labels: normalized_mutual_info_score(labels, found),
            metric="normalised mutual information",
            repeats=1,
            note="Ours also trains a network that gives features and labels of new rows.",
        )
