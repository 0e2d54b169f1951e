"""Manifold linearizing and clustering against spectral clustering, at two sizes."""

import numpy as np
from sklearn.cluster import SpectralClustering
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score

from benchmarks._harness import Case
from skpapers.cluster import ManifoldLinearizingClustering

COPIES = (1, 11)  # noisy copies of the digits


def cases():
    X, y = load_digits(return_X_y=True)
    for n_copies in COPIES:
        rows, labels = np.tile(X, (n_copies, 1)), np.tile(y, n_copies)
        rows = rows + np.random.default_rng(0).normal(0, 1, size=rows.shape)
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
