"""Features of the diffusion kernel against the dense matrix exponential."""

import functools

import numpy as np
from scipy import sparse
from scipy.linalg import expm

from benchmarks._harness import Case
from skpapers.graph import GraphRandomFeatures
from skpapers.structure import Graph, NodeView

SIGMA = 0.9
N_PROBES = 50


def cases():
    """Sparse random graphs of average degree 10; the error is at most 5 %."""
    for n_nodes, repeats in ((2000, 3), (5000, 1)):
        adjacency = random_graph(n_nodes)
        root = sparse.diags_array(1 / np.sqrt(np.maximum(adjacency.sum(axis=1), 1)))
        steps = SIGMA**2 * (root @ adjacency @ root).toarray()
        nodes = NodeView(Graph(None, adjacency))
        features = GraphRandomFeatures(
            n_walks=200, halt_probability=0.3, sigma=SIGMA, sparse_output=True, random_state=0
        )
        yield Case(
            name="universal_graph_random_features",
            size=f"n = {n_nodes}, degree 10",
            peer_name="scipy.linalg.expm",
            ours=functools.partial(features.fit_transform, nodes),
            peer=functools.partial(expm, steps),
            accuracy=functools.partial(features_error, steps),
            peer_accuracy=functools.partial(kernel_error, steps),
            metric="relative Frobenius error of the kernel (50 columns)",
            repeats=repeats,
        )


def random_graph(n_nodes, degree=10, seed=0):
    ends = np.random.RandomState(seed).randint(n_nodes, size=(2, n_nodes * degree // 2))
    rows, columns = ends[:, ends[0] != ends[1]]
    graph = sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(n_nodes, n_nodes))
    graph = (graph + graph.T).tocsr()
    graph.data[:] = 1
    return graph


def exact_columns(steps):
    """Sum the series on the first columns of the identity."""
    term = np.eye(len(steps), N_PROBES)
    total = term.copy()
    for k in range(1, 30):
        term = steps @ term / k
        total += term
    return total


def features_error(steps, features):
    return kernel_error(steps, (features @ features[:N_PROBES].T).toarray())


def kernel_error(steps, kernel):
    exact = exact_columns(steps)
    return float(np.linalg.norm(kernel[:, :N_PROBES] - exact) / np.linalg.norm(exact))
