"""Parsers of graph inputs: nodes of one graph, or one graph a sample."""

import sys
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ._base import as_float, forms_error, is_array_like, to_numpy
from ._graph_list import GraphList
from ._graphs import Graph, NodeView, as_adjacency

__all__ = ["Nodes", "as_graphs", "as_nodes"]

NODE_FORMS = (
    "a NodeView",
    "a table of node features, with or without adjacency (n_samples, n_nodes) and node_id",
)
GRAPH_FORMS = (
    "a GraphList",
    "a list of Graph, adjacency matrices, (adjacency, features[, edge_features]), networkx "
    "graphs, PyTorch Geometric data or GraKeL graphs [edges, node_labels, edge_labels]",
    "a table of shape (n_samples, n_features) with feature_adjacency",
    "with stack='adjacency', an array of shape (n_samples, n_nodes, n_nodes)",
)


@dataclass(frozen=True)
class Nodes:
    """Samples that are nodes, as :func:`as_nodes` returns them.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        Features of the samples.
    graph : Graph or None
        The graph that holds them, or None if none was given.
    ids : ndarray of shape (n_samples,)
        Nodes of `graph` that are the samples.
    node_id : ndarray of shape (n_samples,) or None
        Numbers of the samples among the columns of `links`, None if unknown.
    links : scipy.sparse.csr_array of shape (n_samples, n_columns) or None
        The adjacency rows as they were given next to a table.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.structure import Graph, NodeView, as_nodes
    >>> nodes = as_nodes(NodeView(Graph(np.eye(3), np.ones((3, 3))), [0, 2]))
    >>> len(nodes), nodes.graph.n_nodes
    (2, 3)
    """

    features: np.ndarray
    graph: Graph | None
    ids: np.ndarray
    node_id: np.ndarray | None = None
    links: sparse.csr_array | None = None

    @property
    def n_features(self):
        """Number of features of a node."""
        return self.features.shape[1]

    def __len__(self):
        return len(self.features)


def as_nodes(X, adjacency=None, node_id=None):
    """Parse samples that are nodes of one graph.

    Parameters
    ----------
    X : NodeView or array-like of shape (n_samples, n_features)
        The nodes. A view carries its graph; a table is completed by the other parameters.
    adjacency : array-like, sparse array or networkx graph of shape (n_samples, n_nodes), \
            default=None
        Edge weights from the samples to all nodes; ignored for a view.
    node_id : array-like of int of shape (n_samples,), default=None
        Columns of `adjacency` that are the samples. Needed to know the edges among the samples
        once rows have been selected; a square matrix without it has them in order.

    Returns
    -------
    Nodes
        Features, graph and numbers of the samples.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.structure import as_nodes
    >>> as_nodes(np.eye(2), adjacency=[[0, 1, 1], [1, 0, 0]], node_id=[0, 1]).graph
    Graph(2 nodes, 2 directed edges, 2 features)
    """
    if isinstance(X, NodeView):
        return Nodes(X.features, X.graph, X.ids)
    if not is_array_like(X) or np.ndim(X) != 2:
        raise forms_error(X, "nodes of a graph", NODE_FORMS)
    X = as_float(X)
    ids = np.arange(len(X))
    node_id = None if node_id is None else _node_id(node_id, len(X))
    if adjacency is None:
        return Nodes(X, None, ids, node_id)
    links = _links(adjacency, node_id, len(X))
    if node_id is None and links.shape[1] == len(X):
        return Nodes(X, Graph(X, links), ids, None, links)
    if node_id is None:
        return Nodes(X, None, ids, None, links)
    if node_id.max(initial=-1) >= links.shape[1]:
        raise ValueError(
            f"node_id goes up to {node_id.max()}, but adjacency has {links.shape[1]} columns"
        )
    return Nodes(X, Graph(X, links[:, node_id]), ids, node_id, links)


def _node_id(node_id, n_samples):
    node_id = np.asarray(node_id)
    if node_id.shape != (n_samples,) or node_id.dtype.kind not in "iu" or node_id.min() < 0:
        raise ValueError(
            f"node_id must be {n_samples} non-negative integers, got shape {node_id.shape} and "
            f"dtype {node_id.dtype}"
        )
    return node_id


def _links(adjacency, node_id, n_samples):
    if is_networkx(adjacency):
        matrix = as_adjacency(_networkx_adjacency(adjacency))
        adjacency = matrix if node_id is None else matrix[node_id]
    links = as_adjacency(adjacency)
    if links.shape[0] != n_samples:
        raise ValueError(f"adjacency has {links.shape[0]} rows, X has {n_samples}")
    return links


def as_graphs(X, feature_adjacency=None, stack=None):
    """Parse samples that are graphs.

    Parameters
    ----------
    X : GraphList or sequence
        A :class:`GraphList`; a list of :class:`Graph`, adjacency matrices, pairs (adjacency,
        features), triples (adjacency, features, edge_features), networkx graphs (node attributes
        ``x`` or ``label``, edge attribute ``weight``), PyTorch Geometric data or GraKeL graphs; or
        a table.
    feature_adjacency : array-like or sparse array of shape (n_features, n_features), default=None
        The graph on the columns of a table. Each row is then that graph, with the value and the
        one-hot number of the column as node features.
    stack : {"adjacency"}, default=None
        Read an array of shape (n_samples, n_nodes, n_nodes) as adjacency matrices.

    Returns
    -------
    GraphList
        The graphs.

    Raises
    ------
    ValueError
        If `X` has another form.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.structure import as_graphs
    >>> as_graphs([(np.ones((3, 3)), np.eye(3)), (np.ones((2, 2)), np.zeros((2, 3)))])
    GraphList(2 graphs of 2 to 3 nodes, 3 features)
    """
    if isinstance(X, GraphList):
        return X
    shape = getattr(X, "shape", ())
    if len(shape) == 2:
        if feature_adjacency is None:
            raise forms_error(X, "graphs", GRAPH_FORMS, "feature_adjacency is missing")
        return _from_table(to_numpy(X), feature_adjacency)
    if len(shape) == 3 and stack == "adjacency":
        return GraphList(Graph(None, adjacency) for adjacency in to_numpy(X))
    if len(shape) > 1 or not is_array_like(X):
        raise forms_error(X, "graphs", GRAPH_FORMS)
    return GraphList(_as_graph(item) for item in X)


def _from_table(X, feature_adjacency):
    n_features = X.shape[1]
    shared = Graph(None, feature_adjacency)
    if shared.n_nodes != n_features:
        raise ValueError(
            f"feature_adjacency has {shared.n_nodes} nodes, X has {n_features} features"
        )
    identity = np.eye(n_features, dtype=as_float(X).dtype)
    rows = as_float(X)[:, :, None]
    return GraphList(shared.with_features(np.hstack([row, identity])) for row in rows)


def _as_graph(item):
    if isinstance(item, Graph):
        return item
    if is_networkx(item):
        return _from_networkx(item)
    if hasattr(item, "edge_index"):
        return _from_geometric(item)
    if sparse.issparse(item) or isinstance(item, np.ndarray):
        return Graph(None, item)
    if not isinstance(item, (list, tuple)) or not 1 <= len(item) <= 3:
        raise forms_error(item, "a graph", GRAPH_FORMS)
    if isinstance(item[0], (dict, set)) or any(isinstance(part, dict) for part in item):
        return _from_grakel(*item)
    adjacency, features, edge_features = (*item, None, None)[:3]
    if not (sparse.issparse(adjacency) or np.ndim(adjacency) == 2):
        raise forms_error(item, "a graph", GRAPH_FORMS)
    return Graph(features, adjacency, edge_features=edge_features)


def is_networkx(item):
    """Recognise a networkx graph without importing networkx: whoever made one has done so."""
    networkx = sys.modules.get("networkx")
    return networkx is not None and isinstance(item, networkx.Graph)


def _networkx_adjacency(graph):
    return sys.modules["networkx"].to_scipy_sparse_array(graph, weight="weight", dtype=float)


def _from_networkx(graph):
    nodes = [data for _, data in graph.nodes(data=True)]
    features = [data["x"] for data in nodes] if nodes and "x" in nodes[0] else None
    labels = [data["label"] for data in nodes] if nodes and "label" in nodes[0] else None
    return Graph(features, _networkx_adjacency(graph), node_labels=labels)


def _from_geometric(data):
    features = None if data.x is None else to_numpy(data.x)
    weight = getattr(data, "edge_weight", None)
    edge_features = getattr(data, "edge_attr", None)
    return Graph.from_edge_index(
        features,
        data.edge_index,
        edge_weight=weight,
        edge_features=edge_features,
        n_nodes=int(data.num_nodes),
    )


def _from_grakel(edges, node_labels=None, edge_labels=None):
    weights = {pair: float(w) for pair, w in _grakel_weights(edges).items() if w != 0}
    ends = {node for pair in weights for node in pair}
    names = list(node_labels) if node_labels else sorted(ends)
    position = {name: i for i, name in enumerate(names)}
    if not ends <= position.keys():
        raise ValueError(f"edges use nodes without a label: {sorted(ends - position.keys())}")
    order = sorted(weights, key=lambda pair: (position[pair[0]], position[pair[1]]))
    index = np.array([[position[node] for node in pair] for pair in order], dtype=np.intp)
    labels = [node_labels[name] for name in names] if node_labels else None
    discrete = labels is None or np.ndim(labels[0]) == 0
    adjacency = sparse.coo_array(
        ([weights[pair] for pair in order], tuple(index.reshape(-1, 2).T)), shape=(len(names),) * 2
    )
    return Graph(
        None if discrete else labels,
        adjacency,
        node_labels=labels if discrete else None,
        edge_labels=[edge_labels[pair] for pair in order] if edge_labels else None,
    )


def _grakel_weights(edges):
    """Read {pair: weight}, {node: {neighbour: weight}}, {node: neighbours} or pairs."""
    if not isinstance(edges, dict):
        return {(edge[0], edge[1]): (*edge, 1.0)[2] for edge in edges}
    if all(isinstance(key, tuple) for key in edges):
        return dict(edges)
    nested = {i: js if isinstance(js, dict) else dict.fromkeys(js, 1.0) for i, js in edges.items()}
    return {(i, j): weight for i, js in nested.items() for j, weight in js.items()}
