"""Random spanning trees of a graph, their walks, and effective resistances."""

from bisect import bisect_right

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import (
    connected_components,
    depth_first_order,
    minimum_spanning_tree,
)
from scipy.sparse.linalg import splu

__all__ = [
    "bridges",
    "depth_first_path",
    "effective_resistances",
    "spanning_tree",
    "uniform_spanning_tree",
]

_CHUNK = 256  # edges whose potentials are in memory at a time


def spanning_tree(graph, kind, rng):
    """Edges of a spanning tree of a symmetric weighted graph, as an array (n - 1, 2).

    Components are joined in a chain, by edges between their first nodes: what a graph with edges
    of vanishing weight between them would give.
    """
    count, component = connected_components(graph, directed=False)
    roots = np.unique(component, return_index=True)[1]
    if kind == "uniform":
        tree = uniform_spanning_tree(graph, roots, rng)
    else:  # the heaviest tree
        weights = graph.tocoo(copy=True)
        weights.data = np.exp(-weights.data / weights.data.max()) if weights.nnz else weights.data
        tree = np.column_stack(minimum_spanning_tree(weights).nonzero())
    chain = np.column_stack([roots[:-1], roots[1:]]) if count > 1 else np.empty((0, 2), int)
    return np.concatenate([tree, chain]).astype(np.intp)


def uniform_spanning_tree(graph, roots, rng):
    """Wilson's algorithm: a spanning forest with a probability proportional to its weight.

    Loop-erased random walks start from all nodes in turn, until they meet the tree; `roots` has a
    node of each component.
    """
    n = graph.shape[0]
    starts, neighbors = graph.indptr.tolist(), graph.indices.tolist()
    mass = np.concatenate([[0.0], np.cumsum(graph.data)])
    cumulative, low = mass[1:].tolist(), mass[graph.indptr].tolist()
    draws = _uniforms(rng)
    parent, in_tree = [-1] * n, [False] * n
    for root in roots.tolist():
        in_tree[root] = True
    for start in range(n):
        node = start
        while not in_tree[node]:
            target = low[node] + next(draws) * (low[node + 1] - low[node])
            edge = bisect_right(cumulative, target, starts[node], starts[node + 1] - 1)
            parent[node] = node = neighbors[edge]
        node = start
        while not in_tree[node]:
            in_tree[node] = True
            node = parent[node]
    children = np.setdiff1d(np.arange(n), roots)
    return np.column_stack([np.asarray(parent)[children], children])


def _uniforms(rng):
    """Uniform numbers without end, drawn many at a time."""
    while True:
        yield from rng.uniform(size=2**14).tolist()


def depth_first_path(tree):
    """Nodes of a tree in the order of a depth-first walk.

    The walk passes every edge twice, so that labels change along the path at most twice as often
    as over the edges of the tree.
    """
    n = len(tree) + 1
    graph = sparse.csr_array((np.ones(n - 1), tree.T), shape=(n, n))
    return depth_first_order(graph, 0, directed=False, return_predecessors=False)


def effective_resistances(graph, edges):
    """Effective resistances between pairs of nodes of a weighted graph.

    Parameters
    ----------
    graph : csr_array of shape (n, n)
        Symmetric weights.
    edges : ndarray of shape (n_edges, 2)
        Pairs; both nodes of each are in the same component.

    Returns
    -------
    ndarray of shape (n_edges,)
        Resistances of the network whose edges have the weights as conductances.
    """
    _, component = connected_components(graph, directed=False)
    grounded = np.unique(component, return_index=True)[1]
    free = np.setdiff1d(np.arange(graph.shape[0]), grounded)
    position = np.full(graph.shape[0], -1)
    position[free] = np.arange(len(free))
    laplacian = sparse.csgraph.laplacian(graph).tocsc()[free][:, free]
    factor = splu(laplacian.astype(np.float64)) if len(free) else None
    resistances = np.zeros(len(edges))
    for start in range(0, len(edges), _CHUNK):
        chunk = position[edges[start : start + _CHUNK]]
        currents = np.zeros((len(free) + 1, len(chunk)))  # the last row is the ground
        columns = np.arange(len(chunk))
        currents[chunk[:, 0], columns] += 1
        currents[chunk[:, 1], columns] -= 1
        if factor is not None:
            currents[:-1] = factor.solve(currents[:-1])
        currents[-1] = 0
        part = currents[chunk[:, 0], columns] - currents[chunk[:, 1], columns]
        resistances[start : start + _CHUNK] = part
    return resistances


def bridges(n, edges):
    """Bridges of a graph, as pairs (parent, child) of a depth-first tree, with its preorder.

    Returns
    -------
    pairs : ndarray of shape (n_bridges, 2)
        Bridges; removing one cuts the subtree of the child off.
    first, last : ndarray of shape (n,)
        The subtree of v holds the nodes u with ``first[v] <= first[u] < last[v]``.
    """
    graph = sparse.csr_array((np.ones(len(edges)), edges.T), shape=(n, n))
    order, parent = depth_first_order(graph + graph.T, 0, directed=False)
    first = np.empty(n, dtype=np.intp)
    first[order] = np.arange(n)
    sizes = np.ones(n, dtype=np.intp)
    for node in order[:0:-1].tolist():
        sizes[parent[node]] += sizes[node]
    last = first + sizes
    # in a depth-first tree every other edge leads to an ancestor: count those that leave a subtree
    ends = np.where((first[edges[:, :1]] > first[edges[:, 1:]]), edges, edges[:, ::-1])
    below, above = ends.T
    leaving = np.bincount(first[below], minlength=n) - np.bincount(first[above], minlength=n)
    total = np.concatenate([[0], np.cumsum(leaving)])
    crossing = total[last] - total[first]
    children = np.flatnonzero((crossing == 1) & (parent >= 0))
    return np.column_stack([parent[children], children]), first, last
