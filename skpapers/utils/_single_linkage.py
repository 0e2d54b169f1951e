"""Single linkage without the matrix of distances: spanning tree, dendrogram, ultrametric, cuts."""

from typing import NamedTuple

import numpy as np
from scipy.cluster.hierarchy import cophenet
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform
from sklearn.utils import check_array

__all__ = [
    "Tree",
    "check_distances",
    "cut",
    "linkage_matrix",
    "minimum_spanning_tree",
    "spanning_tree_of_matrix",
    "ultrametric",
]


def check_distances(D):
    """Distances between all pairs in double precision, exactly symmetric."""
    D = check_array(D, dtype=np.float64, copy=True)
    if D.shape[0] != D.shape[1]:
        raise ValueError(f"precomputed distances must be a square matrix, got shape {D.shape}")
    tiny = 1e-6 * D.max()
    if (D < 0).any() or (D.diagonal() > tiny).any() or not np.allclose(D, D.T, rtol=1e-6, atol=0):
        raise ValueError(
            "precomputed distances must be symmetric and not negative, with zeros on the diagonal"
        )
    D = np.maximum(D, D.T)
    np.fill_diagonal(D, 0.0)
    return D


class Tree(NamedTuple):
    """Edges of a minimum spanning tree."""

    sources: np.ndarray
    targets: np.ndarray
    heights: np.ndarray


def minimum_spanning_tree(X, row, core=None):
    """Minimum spanning tree of the complete graph on the rows of X, by Prim's algorithm.

    The distances are computed one row at a time: O(n_samples ** 2) time, O(n_samples) memory.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The samples, in whatever form `row` understands.
    row : callable
        ``row(x, rest)`` gives the distances, of shape (n_rest,), of one sample (of shape
        (1, n_features)) to others; it may return its own buffer.
    core : ndarray of shape (n_samples,), default=None
        If given, the weight of an edge is the larger of its distance and the smaller of the two
        values of `core` at its ends.

    Returns
    -------
    Tree
        Edges in the order in which they were found.
    """
    n_samples = len(X)
    rest, names = X[1:].copy(), np.arange(1, n_samples)
    core_rest = None if core is None else core[1:].copy()
    lower = np.empty(n_samples - 1)
    best, parents = np.full(n_samples - 1, np.inf), np.zeros(n_samples - 1, dtype=int)
    sources, targets = np.empty((2, n_samples - 1), dtype=int)
    heights = np.empty(n_samples - 1)
    new, x = 0, X[:1]
    for left in range(n_samples - 1, 0, -1):
        weights = row(x, rest[:left])
        if core is not None:
            np.minimum(core[new], core_rest[:left], out=lower[:left])
            weights = np.maximum(weights, lower[:left], out=lower[:left])
        closer = np.flatnonzero(weights < best[:left])
        best[closer], parents[closer] = weights[closer], new
        j = best[:left].argmin()
        new, x, edge, last = names[j], rest[j : j + 1].copy(), n_samples - 1 - left, left - 1
        sources[edge], targets[edge], heights[edge] = parents[j], new, best[j]
        for values in (rest, names, best, parents):  # the last of the rest takes the free place
            values[j] = values[last]
        if core is not None:
            core_rest[j] = core_rest[last]
    return Tree(sources, targets, heights)


def spanning_tree_of_matrix(D):
    """Minimum spanning tree of the complete graph with the symmetric weights D."""
    index = np.arange(len(D))[:, None]
    return minimum_spanning_tree(index, lambda i, rest: D[i[0, 0], rest[:, 0]])


def linkage_matrix(tree):
    """Merges of single linkage in SciPy's format, of shape (n_samples - 1, 4)."""
    order = np.argsort(tree.heights, kind="stable")
    n_samples = len(order) + 1
    root = np.arange(2 * n_samples - 1)
    size = np.ones(2 * n_samples - 1, dtype=int)
    Z = np.empty((n_samples - 1, 4))
    for step, edge in enumerate(order):
        ends = [_find(root, tree.sources[edge]), _find(root, tree.targets[edge])]
        merged = n_samples + step
        root[ends] = merged
        size[merged] = size[ends].sum()
        Z[step] = min(ends), max(ends), tree.heights[edge], size[merged]
    return Z


def _find(root, node):
    """Cluster of a node; the path to it is halved on the way."""
    while root[node] != node:
        root[node] = root[root[node]]
        node = root[node]
    return node


def ultrametric(Z):
    """Heights at which each pair of samples is first merged, of shape (n_samples, n_samples)."""
    return squareform(cophenet(Z))


def cut(tree, threshold):
    """Blocks joined by chains of steps up to `threshold`, numbered by their first sample.

    Equal heights merge together, so that the result does not depend on the order of the samples.
    """
    n_samples = len(tree.heights) + 1
    kept = (tree.heights <= threshold) & np.isfinite(tree.heights)
    edges = (np.ones(kept.sum(), dtype=bool), (tree.sources[kept], tree.targets[kept]))
    graph = coo_array(edges, shape=(n_samples, n_samples))
    _, labels = connected_components(graph, directed=False)
    _, first, labels = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[labels]
