"""Functorial clustering against SciPy's single linkage and scikit-learn's HDBSCAN."""

from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.cluster import HDBSCAN
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

from benchmarks._harness import Case
from skpapers.cluster import FunctorialClustering


def cases():
    X, y = make_blobs(5000, 5, centers=5, cluster_std=0.7, random_state=0)
    yield Case(
        name="functorial_clustering, pair",
        size="n=5000, p=5",
        peer_name="scipy linkage(method='single')",
        ours=lambda: FunctorialClustering("pair", distance_threshold=1.5).fit_predict(X),
        peer=lambda: fcluster(linkage(X, "single"), 1.5, "distance"),
        accuracy=lambda labels: adjusted_rand_score(y, labels),
        metric="adjusted Rand index",
    )
    large, groups = make_blobs(10000, 5, centers=5, cluster_std=0.7, random_state=0)
    star = FunctorialClustering("star", 5, distance_threshold=1.0, singletons="noise")
    yield Case(
        name="functorial_clustering, star",
        size="n=10000, p=5",
        peer_name="HDBSCAN(algorithm='brute')",
        ours=lambda: star.fit_predict(large),
        peer=lambda: HDBSCAN(min_samples=5, algorithm="brute", copy=True).fit_predict(large),
        accuracy=lambda labels: adjusted_rand_score(groups, labels),
        metric="adjusted Rand index",
    )
    yield Case(
        name="functorial_clustering, star",
        size="n=10000, p=5",
        peer_name="HDBSCAN()",
        ours=lambda: star.fit_predict(large),
        peer=lambda: HDBSCAN(min_samples=5, copy=True).fit_predict(large),
        accuracy=lambda labels: adjusted_rand_score(groups, labels),
        metric="adjusted Rand index",
    )
