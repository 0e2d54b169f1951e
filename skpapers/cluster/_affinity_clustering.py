"""Spectral clustering of affinities, whose graph may well be disconnected."""

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import KMeans

from skpapers.utils import draw_seed, truncated_eigh

__all__ = ["affinity_coordinates", "cluster_coordinates"]

_N_INIT = 10


def largest_entries(matrix, n_top):
    """Sparse, symmetric copy of a square matrix that keeps the largest entries of each row."""
    n_rows = len(matrix)
    n_top = min(n_top, n_rows)
    columns = np.argpartition(matrix, n_rows - n_top, axis=1)[:, n_rows - n_top :]
    values = np.take_along_axis(matrix, columns, axis=1)
    starts = np.arange(0, n_rows * n_top + 1, n_top)
    kept = sparse.csr_array((values.ravel(), columns.ravel(), starts), shape=matrix.shape)
    return (kept + kept.T) / 2


def affinity_coordinates(affinity, n_components, n_top, rng):
    """Leading eigenvectors of the graph that the largest entries of each row make.

    All entries are kept where the graph has more pieces than there are eigenvectors.
    """
    graph = largest_entries(affinity, n_top)
    n_pieces, piece = connected_components(graph, directed=False)
    if n_pieces > n_components:
        graph, piece = sparse.csr_array(affinity), np.zeros(len(affinity), dtype=int)
    return spectral_coordinates(graph, piece, n_components, rng)


def spectral_coordinates(affinity, piece, n_components, rng):
    """Leading eigenvectors of the normalised affinity of a graph in pieces, the first ones first.

    Piece by piece, as each has the eigenvalue 1, of which a Krylov space holds one vector only.
    """
    scale = sparse.diags_array(1 / np.sqrt(affinity.sum(axis=1)))
    normalized = (scale @ affinity @ scale).tocsr()
    values, vectors = [], []
    for k in range(piece.max() + 1):
        rows = np.flatnonzero(piece == k)
        rank = min(n_components, len(rows))
        eigen = truncated_eigh(normalized[rows][:, rows], rank, random_state=rng)
        values.append(eigen[0])
        vectors.append(np.zeros((len(piece), rank)))
        vectors[-1][rows] = eigen[1]
    order = np.argsort(-np.concatenate(values), kind="stable")[:n_components]
    return np.hstack(vectors)[:, order]


def cluster_coordinates(vectors, n_clusters, rng):
    """k-means of the first `n_clusters` coordinates, with rows scaled to the unit sphere."""
    rows = vectors[:, :n_clusters]
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(norms > 0, norms, 1)
    return KMeans(n_clusters, n_init=_N_INIT, random_state=draw_seed(rng)).fit_predict(rows)
