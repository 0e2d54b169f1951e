"""One graph, and the samples that are its nodes."""

import hashlib
from functools import cached_property

import numpy as np
from scipy import sparse
from sklearn.utils import assert_all_finite

from skpapers.utils import import_optional

from ._base import Immutable, RowContainer, as_float, to_numpy

__all__ = ["Graph", "NodeView"]


class Graph(Immutable):
    """A graph with features on its nodes.

    Parameters
    ----------
    features : array-like of shape (n_nodes, n_features) or None
        Node features; None stands for a constant 1.
    adjacency : array-like or sparse array of shape (n_nodes, n_nodes)
        Edge weights; zero means no edge.
    node_labels : array-like of shape (n_nodes,), default=None
        Discrete labels of the nodes (strings or integers), see :meth:`GraphList.one_hot`.
    edge_features : array-like of shape (n_edges, n_edge_features), default=None
        Features of the edges, in the order of ``edge_index`` (by row, then by column).
    edge_labels : array-like of shape (n_edges,), default=None
        Discrete labels of the edges, in the same order.

    Attributes
    ----------
    adjacency : scipy.sparse.csr_array of shape (n_nodes, n_nodes)
        Edge weights.
    node_features : ndarray of shape (n_nodes, n_features) or None
        As given.
    node_labels : ndarray of shape (n_nodes,) or None
        As given.
    edge_features : ndarray of shape (n_edges, n_edge_features) or None
        As given.
    edge_labels : ndarray of shape (n_edges,) or None
        As given.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.structure import Graph
    >>> Graph(np.eye(3), [[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    Graph(3 nodes, 4 directed edges, 3 features)
    """

    def __init__(
        self, features, adjacency, *, node_labels=None, edge_features=None, edge_labels=None
    ):
        adjacency = as_adjacency(adjacency)
        n_nodes, n_edges = adjacency.shape[0], adjacency.nnz
        if adjacency.shape[1] != n_nodes:
            raise ValueError(f"adjacency must be square, got shape {adjacency.shape}")
        self._set(
            adjacency=adjacency,
            node_features=_columns(features, n_nodes, "features", "nodes"),
            node_labels=_labels(node_labels, n_nodes, "node_labels", "nodes"),
            edge_features=_columns(edge_features, n_edges, "edge_features", "edges"),
            edge_labels=_labels(edge_labels, n_edges, "edge_labels", "edges"),
        )

    @classmethod
    def from_edge_index(
        cls, features, edge_index, *, edge_weight=None, edge_features=None, n_nodes=None, **labels
    ):
        """Build from a list of edges, the form of PyTorch Geometric.

        Parameters
        ----------
        features : array-like of shape (n_nodes, n_features) or None
            Node features.
        edge_index : array-like of int of shape (2, n_edges)
            Rows and columns of the edges; an undirected edge is listed in both directions. An
            edge listed twice has the sum of the weights.
        edge_weight : array-like of shape (n_edges,), default=None
            Weights; 1 by default.
        edge_features : array-like of shape (n_edges, n_edge_features), default=None
            Features of the edges, in the order of `edge_index`, which then may list none twice.
        n_nodes : int, default=None
            Number of nodes; by default the number of rows of `features`, or one more than the
            largest index.
        **labels : dict
            `node_labels` of the class.

        Returns
        -------
        Graph
            The graph.

        Raises
        ------
        ValueError
            If `edge_index` has another shape, or an edge with features is listed twice.
        """
        rows, columns = _edge_index(edge_index)
        if n_nodes is None:
            n_nodes = max(rows.max(initial=-1), columns.max(initial=-1)) + 1
            n_nodes = n_nodes if features is None else len(features)
        weight = np.ones(len(rows)) if edge_weight is None else to_numpy(edge_weight).ravel()
        adjacency = sparse.coo_array((weight, (rows, columns)), shape=(n_nodes, n_nodes))
        if edge_features is not None:
            if len(np.unique(np.stack([rows, columns]), axis=1).T) < len(rows):
                raise ValueError("edge_features needs every edge listed once")
            edge_features = to_numpy(edge_features)[np.lexsort((columns, rows))]
        return cls(features, adjacency, edge_features=edge_features, **labels)

    @property
    def n_nodes(self):
        """Number of nodes."""
        return self.adjacency.shape[0]

    @property
    def features(self):
        """Node features, an array of shape (n_nodes, n_features); constant 1 if not given."""
        return np.ones((self.n_nodes, 1)) if self.node_features is None else self.node_features

    @property
    def edge_index(self):
        """Rows and columns of the edges, an array of shape (2, n_edges)."""
        rows = np.repeat(np.arange(self.n_nodes), np.diff(self.adjacency.indptr))
        return np.stack([rows, self.adjacency.indices])

    @cached_property
    def uid(self):
        """Digest of the edges: graphs with the same nodes and edges have the same."""
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.adjacency.indptr, self.adjacency.indices, self.adjacency.data):
            kind = np.float64 if array.dtype.kind == "f" else np.int64
            digest.update(np.ascontiguousarray(array, dtype=kind).data)
        return digest.hexdigest()

    def with_features(self, features):
        """Replace the node features.

        Parameters
        ----------
        features : array-like of shape (n_nodes, n_new_features)
            The new features.

        Returns
        -------
        Graph
            The graph with the same edges, hence the same `uid`.
        """
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        new._set(node_features=_columns(features, self.n_nodes, "features", "nodes"))
        return new

    def subgraph(self, ids):
        """Keep some nodes and the edges among them.

        Parameters
        ----------
        ids : array-like of int of shape (n_kept,)
            The nodes to keep, in their new order.

        Returns
        -------
        Graph
            The induced subgraph.
        """
        ids = np.asarray(ids)
        numbered = self.adjacency.copy()
        numbered.data = np.arange(1, numbered.nnz + 1)
        edges = _induced(numbered, ids).data - 1
        return type(self)(
            None if self.node_features is None else self.node_features[ids],
            _induced(self.adjacency, ids),
            node_labels=None if self.node_labels is None else self.node_labels[ids],
            edge_features=None if self.edge_features is None else self.edge_features[edges],
            edge_labels=None if self.edge_labels is None else self.edge_labels[edges],
        )

    def to_networkx(self):
        """Convert to a networkx graph with attributes ``x``, ``label`` and ``weight``.

        Returns
        -------
        networkx.DiGraph or networkx.Graph
            Undirected if the adjacency matrix is symmetric.
        """
        networkx = import_optional("networkx", "graph")
        symmetric = (self.adjacency != self.adjacency.T).nnz == 0
        kind = networkx.Graph if symmetric else networkx.DiGraph
        graph = networkx.from_scipy_sparse_array(self.adjacency, create_using=kind)
        if self.node_features is not None:
            networkx.set_node_attributes(graph, dict(enumerate(self.node_features)), "x")
        if self.node_labels is not None:
            networkx.set_node_attributes(graph, dict(enumerate(self.node_labels)), "label")
        return graph

    def __repr__(self):
        return (
            f"Graph({self.n_nodes} nodes, {self.adjacency.nnz} directed edges, "
            f"{self.features.shape[1]} features)"
        )

    def _parts(self):
        parts = (self.node_features, self.node_labels, self.edge_features, self.edge_labels)
        return self.adjacency, *parts


class NodeView(RowContainer):
    """Nodes of one graph: slicing selects nodes, the graph stays whole.

    Parameters
    ----------
    graph : Graph
        The graph.
    ids : array-like of int of shape (n_samples,), default=None
        The nodes that are the samples; all by default.

    Attributes
    ----------
    graph : Graph
        As given.
    ids : ndarray of shape (n_samples,)
        The nodes.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.structure import Graph, NodeView
    >>> view = NodeView(Graph(np.eye(3), np.ones((3, 3))))
    >>> view[[2, 0]]
    NodeView(2 of 3 nodes, 3 features)
    >>> np.asarray(view[[2, 0]])
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """

    def __init__(self, graph, ids=None):
        if not isinstance(graph, Graph):
            raise TypeError(f"graph must be a Graph, got {type(graph).__name__}")
        ids = np.arange(graph.n_nodes) if ids is None else np.asarray(ids)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise ValueError(f"ids must be a 1-D array of integers, got {ids!r}")
        if ids.size and (ids.min() < 0 or ids.max() >= graph.n_nodes):
            raise ValueError(f"ids must lie in [0, {graph.n_nodes})")
        self._set(graph=graph, ids=ids.astype(np.intp))

    @property
    def features(self):
        """Features of the nodes, an array of shape (n_samples, n_features)."""
        return self.graph.features[self.ids]

    @property
    def n_features(self):
        """Number of features of a node."""
        return self.graph.features.shape[1]

    @property
    def shape(self):
        """Shape of the features."""
        return (len(self), self.n_features)

    @property
    def ndim(self):
        """Number of dimensions of the features: 2."""
        return 2

    @property
    def dtype(self):
        """Data type of the features."""
        return self.graph.features.dtype

    def take(self, rows):
        """Select nodes.

        Parameters
        ----------
        rows : array-like of int or bool, or slice
            Positions in this view.

        Returns
        -------
        NodeView
            The selected nodes of the same graph.
        """
        return type(self)(self.graph, self.ids[self._positions(rows)])

    def map_features(self, function):
        """Apply a function to the features of the whole graph.

        Parameters
        ----------
        function : callable
            From an array of shape (n_nodes, n_features) to one of shape (n_nodes, n_new).

        Returns
        -------
        NodeView
            The same nodes of the graph with the new features.
        """
        return type(self)(self.graph.with_features(function(self.graph.features)), self.ids)

    def __len__(self):
        return len(self.ids)

    def __array__(self, dtype=None, copy=None):
        return self.features.astype(dtype or self.dtype, copy=False)

    def __repr__(self):
        return f"NodeView({len(self)} of {self.graph.n_nodes} nodes, {self.n_features} features)"

    def _row(self, i):
        return self.graph.features[self.ids[i]]

    def _parts(self):
        return self.graph, self.ids


def as_adjacency(adjacency):
    """Return edge weights as a canonical float csr array of its own memory."""
    if not sparse.issparse(adjacency):
        adjacency = to_numpy(adjacency)
        if adjacency.ndim != 2:
            raise ValueError(f"adjacency must have 2 dimensions, got shape {adjacency.shape}")
        adjacency = as_float(adjacency)
    matrix = sparse.csr_array(adjacency, copy=True)
    matrix.data = as_float(matrix.data)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    assert_all_finite(matrix.data, input_name="adjacency")
    return matrix


def _columns(values, length, name, what):
    """Check one row of features a node or edge."""
    if values is None:
        return None
    values = as_float(to_numpy(values))
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != length:
        raise ValueError(f"{name} has shape {values.shape}, but there are {length} {what}")
    assert_all_finite(values, input_name=name)
    return values


def _labels(values, length, name, what):
    if values is None:
        return None
    values = to_numpy(values)
    if values.shape != (length,):
        raise ValueError(f"{name} has shape {values.shape}, but there are {length} {what}")
    return values


def _edge_index(edge_index):
    edge_index = to_numpy(edge_index)
    if edge_index.ndim != 2 or edge_index.shape[0] != 2:
        raise ValueError(f"edge_index must have shape (2, n_edges), got {edge_index.shape}")
    return edge_index.astype(np.intp)


def _induced(adjacency, ids):
    part = adjacency[ids][:, ids].tocsr()
    part.sort_indices()
    return part
