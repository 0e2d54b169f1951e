"""Clustering by answers on pairs: large samples, and graphs of neighbours against peers."""

import networkx as nx
import numpy as np
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.datasets import load_digits, make_blobs

from benchmarks._harness import Case
from skpapers.cluster import RGCA, SACA, misclassification_error, sample_pairs


def cases():
    y = np.arange(1_000_000) % 2
    answers = sample_pairs(y, 5_000_000, random_state=0)
    X = np.zeros((len(y), 1))
    yield Case(
        name="SACA",
        size="1,000,000 items, 5,000,000 answers",
        peer_name="networkx.connected_components",
        ours=lambda: SACA().fit(X, **answers).labels_,
        peer=lambda: _by_networkx(len(y), answers.pairs[answers.similar]),
        accuracy=lambda labels: misclassification_error(y, labels) / len(y),
        metric="share of misplaced items",
        repeats=1,
    )
    for n in (6_000, 48_000):
        X, y = make_blobs(n, n_features=10, centers=10, center_box=(-2, 2), random_state=0)
        yield _features_case(f"{n} rows of 10 normal clusters", X, y, KMeans(10))
    X, y = load_digits(return_X_y=True)
    yield _features_case("1797 digits", X, y, KMeans(10))
    peer = SpectralClustering(10, affinity="nearest_neighbors")
    yield _features_case("1797 digits", X, y, peer)


def _features_case(size, X, y, peer):
    answers = sample_pairs(y, 5 * len(y), random_state=0)
    ours = RGCA(10, n_trees=1, order="evidence", random_state=0)
    return Case(
        name="RGCA, one tree",
        size=f"{size}, five answers each",
        peer_name=f"{type(peer).__name__}, without answers",
        ours=lambda: ours.fit(X, **answers).labels_,
        peer=lambda: peer.set_params(random_state=0).fit(X).labels_,
        accuracy=lambda labels: misclassification_error(y, labels) / len(y),
        metric="share of misplaced items",
        repeats=1,
        note="Nearest neighbours take four fifths of the time.",
    )


def _by_networkx(n, pairs):
    graph = nx.empty_graph(n)
    graph.add_edges_from(pairs.tolist())
    labels = np.empty(n, dtype=int)
    for label, members in enumerate(nx.connected_components(graph)):
        labels[list(members)] = label
    return labels
