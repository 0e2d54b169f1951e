"""Neighbour graphs, and how new nodes join the graph an estimator was fitted on."""

import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from ._base import Immutable
from ._graphs import Graph, as_adjacency

__all__ = ["TrainingGraph", "correlation_graph", "knn_graph"]


def knn_graph(X, n_neighbors=10, weights="binary"):
    """Join each row to its nearest neighbours, symmetrically.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The rows.
    n_neighbors : int, default=10
        Number of neighbours; at most ``n_samples - 1`` are used.
    weights : {"binary", "heat"}, default="binary"
        Weight 1, or ``exp(-d**2 / (2 h**2))`` with the median distance of neighbours as ``h``.

    Returns
    -------
    scipy.sparse.csr_array of shape (n_samples, n_samples)
        The symmetric weights: an edge exists if one of two rows is a neighbour of the other.

    Raises
    ------
    ValueError
        If `weights` is neither of the names above.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.structure import knn_graph
    >>> knn_graph(np.array([[0.0], [1.0], [5.0]]), n_neighbors=1).toarray()
    array([[0., 1., 0.],
           [1., 0., 1.],
           [0., 1., 0.]])
    """
    n_neighbors = min(n_neighbors, len(X) - 1)
    if n_neighbors < 1:
        return sparse.csr_array((len(X), len(X)), dtype=np.float64)
    distance, neighbor = NearestNeighbors(n_neighbors=n_neighbors).fit(X).kneighbors()
    links = _neighbor_links(distance, neighbor, len(X), weights, np.median(distance))
    return links.maximum(links.T).tocsr()


def _neighbor_links(distance, neighbor, n_columns, weights, bandwidth):
    """Return the weights of the links from each row to its neighbours."""
    if weights not in ("binary", "heat"):
        raise ValueError(f"weights must be 'binary' or 'heat', got {weights!r}")
    data = np.ones(distance.shape)
    if weights == "heat" and bandwidth > 0:
        data = np.exp(-0.5 * (distance / bandwidth) ** 2)
    rows = np.repeat(np.arange(len(neighbor)), neighbor.shape[1])
    index = (rows, neighbor.ravel())
    return sparse.csr_array((data.ravel(), index), shape=(len(neighbor), n_columns))


def correlation_graph(X, n_neighbors=5):
    """Join each column to those it correlates with most: a graph on the features of a table.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The table.
    n_neighbors : int, default=5
        Number of columns each one is joined to; at most ``n_features - 1``.

    Returns
    -------
    scipy.sparse.csr_array of shape (n_features, n_features)
        Absolute correlations of the joined columns, symmetric; constant columns have none.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.structure import correlation_graph
    >>> X = np.array([[0.0, 0.0, 1.0], [1.0, 2.0, 0.0], [2.0, 4.0, 1.0]])
    >>> correlation_graph(X, n_neighbors=1).toarray().round(6)
    array([[0., 1., 0.],
           [1., 0., 0.],
           [0., 0., 0.]])
    """
    scale = np.abs(X).max(axis=0)
    centred = X / np.where(scale > 0, scale, 1)
    centred = centred - centred.mean(axis=0)
    norm = np.linalg.norm(centred, axis=0)
    constant = norm <= 1e-12 * np.sqrt(len(X))
    unit = np.where(constant, 0, centred / np.where(constant, 1, norm))
    correlation = np.abs(unit.T @ unit)
    np.fill_diagonal(correlation, 0)
    correlation[correlation < 1e-12] = 0
    k = min(n_neighbors, X.shape[1] - 1)
    nearest = np.argsort(-correlation, axis=1, kind="stable")[:, :k]
    kept = np.zeros_like(correlation)
    np.put_along_axis(kept, nearest, np.take_along_axis(correlation, nearest, 1), 1)
    return sparse.csr_array(np.maximum(kept, kept.T))


class TrainingGraph(Immutable):
    """The graph an estimator was fitted on, and the rule by which new nodes join it.

    A query links to its known neighbours among the training nodes, and to its nearest training
    nodes where it has none. Links point one way, from training nodes to the query, so that
    queries never change each other's result.

    Parameters
    ----------
    nodes : Nodes
        The samples of ``fit``, from :func:`as_nodes`.
    context : {"graph", "induced"}, default="graph"
        Of the graph of a view, take all nodes (those that are not samples as unlabelled context),
        or only the samples and the edges among them.
    adjacency : "knn" or callable, default="knn"
        How to build the graph if none was given: nearest neighbours, or a function from the
        features to a matrix of shape (n_samples, n_samples).
    n_neighbors : int, default=10
        Number of neighbours, in the graph and for new nodes.
    weights : {"binary", "heat"}, default="binary"
        Weights of neighbour links, see :func:`knn_graph`.

    Attributes
    ----------
    features : ndarray of shape (n_nodes, n_features)
        Features of the training nodes.
    adjacency : scipy.sparse.csr_array of shape (n_nodes, n_nodes)
        Edges among the training nodes.
    rows : ndarray of shape (n_samples,)
        Training nodes that are the samples of ``fit``.
    node_id : ndarray of shape (n_nodes,)
        Numbers of the training nodes in the graph of the view, or in the columns of the matrix.
    uid : str or None
        Identifies the graph of the view.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.structure import Graph, NodeView, TrainingGraph, as_nodes
    >>> path = np.diag(np.ones(3), 1) + np.diag(np.ones(3), -1)
    >>> view = NodeView(Graph(np.arange(4.0)[:, None], path))
    >>> training = TrainingGraph(as_nodes(view[:3]), context="induced")
    >>> training.links(as_nodes(view[3:])).toarray()
    array([[0., 0., 1.]])
    """

    def __init__(self, nodes, context="graph", adjacency="knn", n_neighbors=10, weights="binary"):
        if context not in ("graph", "induced"):
            raise ValueError(f"context must be 'graph' or 'induced', got {context!r}")
        if nodes.links is not None and nodes.graph is None:
            raise ValueError(
                f"adjacency has {nodes.links.shape[1]} columns for {len(nodes)} samples: node_id "
                "must say which columns are the samples"
            )
        graph, node_id, rows = _training_nodes(nodes, context, adjacency, n_neighbors, weights)
        from_view = nodes.graph is not None and nodes.links is None
        self._set(
            features=graph.features,
            adjacency=graph.adjacency,
            rows=rows,
            node_id=node_id,
            uid=nodes.graph.uid if from_view else None,
            n_neighbors=n_neighbors,
            weights=weights,
        )

    @property
    def n_nodes(self):
        """Number of training nodes."""
        return len(self.features)

    def find(self, nodes, by_features=False):
        """Find the samples that are training nodes.

        Parameters
        ----------
        nodes : Nodes
            The samples.
        by_features : bool, default=False
            Whether a sample of unknown number whose features equal those of a training node is
            that node (the first such one).

        Returns
        -------
        ndarray of shape (n_samples,)
            Training nodes, -1 for new nodes.
        """
        number = nodes.ids if self._same_graph(nodes) else nodes.node_id
        if number is not None:
            return _lookup(self.node_id, number)
        if not by_features:
            return np.full(len(nodes), -1)
        features = self.features.astype(nodes.features.dtype)
        first = dict(zip(_row_bytes(features[::-1]), range(self.n_nodes - 1, -1, -1)))
        found = (first.get(row, -1) for row in _row_bytes(nodes.features))
        return np.fromiter(found, dtype=np.intp, count=len(nodes))

    def links(self, nodes):
        """Link samples to training nodes.

        Parameters
        ----------
        nodes : Nodes
            The samples; those that are training nodes themselves are linked to their neighbours.

        Returns
        -------
        scipy.sparse.csr_array of shape (n_samples, n_nodes)
            Weights of the links; every row has at least one.

        Raises
        ------
        ValueError
            If the adjacency matrix given with the samples lacks columns of training nodes.
        """
        known = self._known_links(nodes)
        lonely = np.flatnonzero(np.diff(known.indptr) == 0)
        if len(lonely) == 0:
            return known
        nearest = self._nearest(nodes.features[lonely])
        spread = sparse.csr_array(
            (np.ones(len(lonely)), (lonely, np.arange(len(lonely)))), (len(nodes), len(lonely))
        )
        return (known + spread @ nearest).tocsr()

    def _same_graph(self, nodes):
        inside = nodes.graph is not None and nodes.links is None
        return inside and self.uid is not None and nodes.graph.uid == self.uid

    def _known_links(self, nodes):
        if self._same_graph(nodes):
            return nodes.graph.adjacency[nodes.ids][:, self.node_id].tocsr()
        if nodes.links is None:
            return sparse.csr_array((len(nodes), self.n_nodes), dtype=np.float64)
        if self.node_id.max(initial=-1) >= nodes.links.shape[1]:
            raise ValueError(
                f"adjacency has {nodes.links.shape[1]} columns, but the training nodes are "
                f"numbered up to {self.node_id.max()}"
            )
        return nodes.links[:, self.node_id].tocsr()

    def _nearest(self, features):
        k = min(self.n_neighbors, self.n_nodes)
        index = NearestNeighbors(n_neighbors=k).fit(self.features)
        bandwidth = 0.0
        if self.weights == "heat" and self.n_nodes > 1:
            among = min(self.n_neighbors, self.n_nodes - 1)
            bandwidth = np.median(index.kneighbors(n_neighbors=among)[0])
        distance, neighbor = index.kneighbors(features)
        return _neighbor_links(distance, neighbor, self.n_nodes, self.weights, bandwidth)

    def _parts(self):
        return self.features, self.adjacency, self.rows, self.node_id, self.uid


def _training_nodes(nodes, context, adjacency, n_neighbors, weights):
    """Return the training graph, the numbers of its nodes, and which of them are samples."""
    if nodes.graph is None:
        if callable(adjacency):
            matrix = as_adjacency(adjacency(nodes.features))
        else:
            matrix = knn_graph(nodes.features, n_neighbors, weights)
        node_id = nodes.ids if nodes.node_id is None else nodes.node_id
        return Graph(nodes.features, matrix), node_id, nodes.ids
    if nodes.links is not None:
        node_id = nodes.ids if nodes.node_id is None else nodes.node_id
        return nodes.graph, node_id, nodes.ids
    if context == "graph":
        return nodes.graph, np.arange(nodes.graph.n_nodes), nodes.ids
    return nodes.graph.subgraph(nodes.ids), nodes.ids, np.arange(len(nodes))


def _lookup(known, wanted):
    """Return the position in `known` of each number, the first if it occurs twice, else -1."""
    size = max(known.max(initial=-1), wanted.max(initial=-1)) + 1
    position = np.full(size, -1, dtype=np.intp)
    position[known[::-1]] = np.arange(len(known))[::-1]
    return position[wanted]


def _row_bytes(X):
    """Yield the bytes of each row; adding 0 makes -0.0 and 0.0 the same."""
    return (row.tobytes() for row in np.ascontiguousarray(X) + 0)
