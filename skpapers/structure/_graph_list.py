"""Samples that are graphs."""

import numpy as np
from scipy import sparse

from ._base import RowContainer
from ._graphs import Graph

__all__ = ["GraphList"]


class GraphList(RowContainer):
    """Samples that are graphs.

    Parameters
    ----------
    graphs : iterable of Graph
        The graphs; all have the same number of node features.

    Attributes
    ----------
    graphs : tuple of Graph
        As given.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.structure import Graph, GraphList
    >>> graphs = GraphList([Graph(None, np.ones((n, n))) for n in (3, 5, 4)])
    >>> graphs[1:]
    GraphList(2 graphs of 4 to 5 nodes, 1 features)
    >>> features, adjacency, graph_ids = graphs.to_block_diagonal()
    >>> adjacency.shape
    (12, 12)
    """

    def __init__(self, graphs):
        graphs = tuple(graphs)
        wrong = [type(graph).__name__ for graph in graphs if not isinstance(graph, Graph)]
        if wrong:
            raise TypeError(f"graphs must hold Graph objects, got {wrong[0]}")
        widths = {graph.features.shape[1] for graph in graphs}
        if len(widths) > 1:
            raise ValueError(f"graphs have different numbers of features: {sorted(widths)}")
        self._set(graphs=graphs)

    @property
    def sizes(self):
        """Number of nodes of each graph, an array of shape (n_samples,)."""
        return np.array([graph.n_nodes for graph in self.graphs], dtype=np.intp)

    @property
    def features(self):
        """Features of all nodes, graph after graph, an array of shape (n_nodes, n_features)."""
        return np.concatenate([graph.features for graph in self.graphs])

    @property
    def n_features(self):
        """Number of features of a node."""
        return self.graphs[0].features.shape[1] if self.graphs else 0

    @property
    def shape(self):
        """Number of graphs, as a tuple."""
        return (len(self),)

    @property
    def ndim(self):
        """Number of dimensions: 1."""
        return 1

    @property
    def dtype(self):
        """Data type of an array of graphs: object."""
        return np.dtype(object)

    def take(self, rows):
        """Select graphs.

        Parameters
        ----------
        rows : array-like of int or bool, or slice
            The graphs to keep.

        Returns
        -------
        GraphList
            The selected graphs.
        """
        return type(self)(self.graphs[i] for i in self._positions(rows))

    def map_features(self, function):
        """Apply a function to the features of all nodes.

        Parameters
        ----------
        function : callable
            From an array of shape (n_nodes, n_features) to one of shape (n_nodes, n_new).

        Returns
        -------
        GraphList
            The graphs with the new features.
        """
        parts = np.split(np.asarray(function(self.features)), np.cumsum(self.sizes)[:-1])
        return type(self)(map(Graph.with_features, self.graphs, parts))

    def node_vocabulary(self):
        """Find the node labels that occur.

        Returns
        -------
        ndarray of shape (n_labels,)
            The labels, sorted; empty if the graphs have none.
        """
        labels = [g.node_labels for g in self.graphs if g.node_labels is not None]
        return np.unique(np.concatenate(labels)) if labels else np.array([])

    def one_hot(self, vocabulary):
        """Add the node labels to the features, one column a label and one for all others.

        Parameters
        ----------
        vocabulary : ndarray of shape (n_labels,)
            The labels that have a column, sorted (learn them with :meth:`node_vocabulary`).

        Returns
        -------
        GraphList
            The graphs with the columns after the features given, if any.
        """
        return type(self)(_one_hot(graph, vocabulary) for graph in self.graphs)

    def to_block_diagonal(self):
        """Join all graphs into one without edges between them.

        Returns
        -------
        features : ndarray of shape (n_nodes, n_features)
            Features of all nodes.
        adjacency : scipy.sparse.csr_array of shape (n_nodes, n_nodes)
            The adjacency matrices along the diagonal.
        graph_ids : ndarray of shape (n_nodes,)
            Number of the graph each node belongs to.
        """
        adjacency = sparse.block_diag([g.adjacency for g in self.graphs], format="csr")
        return self.features, adjacency, np.repeat(np.arange(len(self)), self.sizes)

    def to_padded(self):
        """Pad all graphs to the size of the largest.

        Returns
        -------
        features : ndarray of shape (n_samples, max_nodes, n_features)
            Node features, 0 for absent nodes.
        adjacency : ndarray of shape (n_samples, max_nodes, max_nodes)
            Edge weights.
        mask : ndarray of bool of shape (n_samples, max_nodes)
            Which nodes are present.
        """
        sizes = self.sizes
        mask = np.arange(sizes.max(initial=0)) < sizes[:, None]
        stacked = self.features
        features = np.zeros((*mask.shape, self.n_features), dtype=stacked.dtype)
        features[mask] = stacked
        adjacency = np.zeros((*mask.shape, mask.shape[1]), dtype=stacked.dtype)
        for block, graph in zip(adjacency, self.graphs):
            block[: graph.n_nodes, : graph.n_nodes] = graph.adjacency.toarray()
        return features, adjacency, mask

    def to_grakel(self):
        """Convert to the form of GraKeL.

        Returns
        -------
        list of list
            ``[edges, node_labels, edge_labels]`` of each graph: the weights by pair of nodes, the
            node labels (or features) by node, and the edge labels by pair of nodes.
        """
        return [_grakel(graph) for graph in self.graphs]

    def __len__(self):
        return len(self.graphs)

    def __array__(self, dtype=None, copy=None):
        raise TypeError("a GraphList has no array form; pass it to an estimator for graphs")

    def __repr__(self):
        sizes = self.sizes
        return (
            f"GraphList({len(self)} graphs of {sizes.min(initial=sizes.max(initial=0))} to "
            f"{sizes.max(initial=0)} nodes, {self.n_features} features)"
        )

    def _row(self, i):
        return self.graphs[i]

    def _parts(self):
        return self.graphs


def _one_hot(graph, vocabulary):
    if graph.node_labels is None:
        return graph
    columns = np.searchsorted(vocabulary, graph.node_labels)
    inside = np.minimum(columns, len(vocabulary) - 1)
    known = np.asarray(vocabulary)[inside] == graph.node_labels
    hot = np.eye(len(vocabulary) + 1)[np.where(known, inside, len(vocabulary))]
    given = [] if graph.node_features is None else [graph.node_features]
    return graph.with_features(np.hstack([*given, hot]))


def _grakel(graph):
    pairs = [tuple(pair) for pair in graph.edge_index.T.tolist()]
    labels = graph.features.tolist() if graph.node_labels is None else graph.node_labels.tolist()
    edge_labels = {} if graph.edge_labels is None else dict(zip(pairs, graph.edge_labels.tolist()))
    return [dict(zip(pairs, graph.adjacency.data.tolist())), dict(enumerate(labels)), edge_labels]
