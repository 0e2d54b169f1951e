import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse
from sklearn.utils import _safe_indexing

from skpapers.structure import Graph, GraphList, NodeView, as_graphs, as_nodes

PATH = np.diag(np.ones(3), 1) + np.diag(np.ones(3), -1)
FEATURES = np.arange(8.0).reshape(4, 2)


def random_graph(rng, n, p=2):
    upper = np.triu(rng.uniform(size=(n, n)) < 0.5, 1)
    return Graph(rng.standard_normal((n, p)), (upper | upper.T).astype(float))


def test_graph_from_dense_sparse_and_edge_list_are_equal():
    rows, columns = np.nonzero(PATH)
    graph = Graph(FEATURES, PATH)
    assert graph == Graph(FEATURES, sparse.csr_matrix(PATH))
    assert graph == Graph.from_edge_index(FEATURES, [rows[::-1], columns[::-1]])
    np.testing.assert_array_equal(graph.edge_index, [rows, columns])
    assert graph != Graph(FEATURES, 2 * PATH)


def test_edge_features_follow_their_edges():
    rows, columns = np.nonzero(PATH)
    weight = 10 * rows + columns
    order = np.random.RandomState(0).permutation(len(rows))
    graph = Graph.from_edge_index(
        FEATURES, [rows[order], columns[order]], edge_features=weight[order][:, None]
    )
    np.testing.assert_array_equal(graph.edge_features[:, 0], weight)
    part = graph.subgraph([2, 1])
    np.testing.assert_array_equal(part.edge_features[:, 0], [21, 12])
    np.testing.assert_array_equal(part.features, FEATURES[[2, 1]])
    with pytest.raises(ValueError, match="listed once"):
        Graph.from_edge_index(None, [[0, 0], [1, 1]], edge_features=[1, 2])


def test_uid_depends_on_the_edges_alone_and_survives_pickle():
    graph = Graph(FEATURES, PATH)
    assert graph.uid == graph.with_features(FEATURES * 2).uid
    assert graph.uid == pickle.loads(pickle.dumps(graph)).uid
    assert graph.uid == Graph(None, sparse.coo_array(PATH.astype(np.float32))).uid
    assert graph.uid != Graph(FEATURES, 2 * PATH).uid
    assert graph.uid != Graph(FEATURES, PATH[::-1]).uid


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FEATURES[:3], PATH), "there are 4 nodes"),
        ((None, PATH[:3]), "square"),
        ((None, np.zeros(3)), "2 dimensions"),
        ((None, PATH * np.nan), "NaN"),
    ],
)
def test_graph_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        Graph(*arguments)


def test_view_slices_nodes_and_keeps_the_graph():
    view = NodeView(Graph(FEATURES, PATH))
    part = _safe_indexing(view, [3, 1])
    assert part.graph is view.graph and part.ids.tolist() == [3, 1]
    np.testing.assert_array_equal(np.asarray(part), FEATURES[[3, 1]])
    np.testing.assert_array_equal(part[1], FEATURES[1])
    assert part.shape == (2, 2) and view[[]].shape == (0, 2)
    assert part[np.array([False, True])].ids.tolist() == [1]
    assert part == pickle.loads(pickle.dumps(part)) != view
    with pytest.raises(ValueError, match=r"\[0, 4\)"):
        NodeView(view.graph, [4])
    with pytest.raises(TypeError, match="must be a Graph"):
        NodeView(PATH)


def test_as_nodes_reads_both_routes():
    graph = Graph(FEATURES, PATH)
    a = as_nodes(NodeView(graph)[[1, 2]])
    assert a.graph is graph and a.ids.tolist() == [1, 2]
    b = as_nodes(FEATURES[[1, 2]], adjacency=PATH[[1, 2]], node_id=[1, 2])
    np.testing.assert_array_equal(b.graph.adjacency.toarray(), [[0, 1], [1, 0]])
    whole = as_nodes(FEATURES, adjacency=sparse.csr_array(PATH))
    assert whole.graph == graph and whole.node_id is None
    assert as_nodes(FEATURES).graph is None
    assert as_nodes(FEATURES[:2], adjacency=PATH[:2]).graph is None


def test_as_nodes_reads_networkx():
    import networkx

    graph = networkx.path_graph(4)
    assert as_nodes(FEATURES, adjacency=graph).graph == Graph(FEATURES, PATH)
    part = as_nodes(FEATURES[2:], adjacency=graph, node_id=[2, 3]).graph
    assert part == Graph(FEATURES[2:], PATH[2:, 2:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FEATURES, PATH[:3]), "adjacency has 3 rows, X has 4"),
        ((FEATURES, PATH, [0, 1]), "node_id must be 4"),
        ((FEATURES, PATH, [0, 1, 2, 4]), "goes up to 4"),
        ((FEATURES, PATH, [0, 1, 2, -1]), "non-negative"),
        ((np.zeros((2, 2, 2)),), "Accepted forms: a NodeView"),
    ],
)
def test_as_nodes_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        as_nodes(*arguments)


def test_graph_list_slices_and_joins():
    rng = np.random.RandomState(0)
    graphs = GraphList(random_graph(rng, n) for n in (3, 5, 2))
    assert _safe_indexing(graphs, [2, 0]) == GraphList([graphs[2], graphs[0]])
    assert graphs == pickle.loads(pickle.dumps(graphs))
    features, adjacency, owner = graphs.to_block_diagonal()
    assert np.bincount(owner).tolist() == [3, 5, 2]
    np.testing.assert_array_equal(adjacency.toarray()[3:8, 3:8], graphs[1].adjacency.toarray())
    assert adjacency.nnz == sum(g.adjacency.nnz for g in graphs)
    padded, dense, mask = graphs.to_padded()
    np.testing.assert_array_equal(padded[mask], features)
    np.testing.assert_array_equal(dense[2, :2, :2], graphs[2].adjacency.toarray())
    with pytest.raises(TypeError, match="no array form"):
        np.asarray(graphs)
    doubled = graphs.map_features(lambda values: 2 * values)
    np.testing.assert_array_equal(doubled[1].features, 2 * graphs[1].features)


def test_all_forms_of_the_same_graphs_are_equal():
    import networkx

    graph = networkx.path_graph(4)
    networkx.set_node_attributes(graph, dict(enumerate(FEATURES)), "x")
    edges = np.stack(np.nonzero(PATH))
    geometric = SimpleNamespace(x=FEATURES, edge_index=edges, num_nodes=4)
    pairs = {tuple(pair): 1.0 for pair in edges.T.tolist()}
    forms = [
        Graph(FEATURES, PATH),
        (PATH, FEATURES),
        [sparse.csr_matrix(PATH), FEATURES],
        graph,
        geometric,
        [pairs, dict(enumerate(FEATURES))],
        [set(pairs), dict(enumerate(FEATURES))],
        [{0: [1], 1: [0, 2], 2: [1, 3], 3: [2]}, dict(enumerate(FEATURES))],
    ]
    for form in forms:
        assert as_graphs([form]) == GraphList([Graph(FEATURES, PATH)])
    bare = GraphList([Graph(None, PATH)] * 2)
    assert as_graphs([PATH, sparse.csr_array(PATH)]) == bare
    assert as_graphs(np.stack([PATH, PATH]), stack="adjacency") == bare
    np.testing.assert_array_equal(bare[0].features, np.ones((4, 1)))


def test_grakel_form_and_back():
    given = [
        [{("a", "b"): 1.0, ("b", "a"): 1.0}, {"a": "C", "b": "O"}, {("a", "b"): 1, ("b", "a"): 2}]
    ]
    graphs = as_graphs(given)
    assert graphs[0].node_labels.tolist() == ["C", "O"]
    assert graphs.to_grakel() == [
        [{(0, 1): 1.0, (1, 0): 1.0}, {0: "C", 1: "O"}, {(0, 1): 1, (1, 0): 2}]
    ]
    assert as_graphs(graphs.to_grakel()) == graphs
    with pytest.raises(ValueError, match="without a label"):
        as_graphs([[{(0, 1)}, {0: "C"}]])


def test_node_labels_become_columns_with_one_for_unknown_labels():
    train = GraphList([Graph(None, PATH, node_labels=list("CCON"))])
    test = GraphList([Graph(FEATURES, PATH, node_labels=list("COFC"))])
    vocabulary = train.node_vocabulary()
    assert vocabulary.tolist() == ["C", "N", "O"]
    np.testing.assert_array_equal(
        train.one_hot(vocabulary)[0].features,
        [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]],
    )
    new = test.one_hot(vocabulary)[0].features
    np.testing.assert_array_equal(new[:, :2], FEATURES)
    np.testing.assert_array_equal(new[2, 2:], [0, 0, 0, 1])


def test_a_table_is_one_graph_on_its_columns():
    X = np.random.RandomState(0).standard_normal((3, 4)).astype(np.float32)
    graphs = as_graphs(X, feature_adjacency=PATH)
    np.testing.assert_array_equal(graphs[1].features, np.column_stack([X[1], np.eye(4)]))
    assert graphs[1].features.dtype == np.float32
    assert graphs[0].adjacency is graphs[2].adjacency
    with pytest.raises(ValueError, match="has 4 nodes, X has 3 features"):
        as_graphs(X[:, :3], feature_adjacency=PATH)


@pytest.mark.parametrize(
    "X", [np.zeros((2, 3)), np.zeros((2, 3, 3)), [[1, 2], [3, 4]], [3], np.zeros(3)]
)
def test_as_graphs_errors_name_the_forms(X):
    with pytest.raises((ValueError, TypeError), match="Accepted forms: a GraphList"):
        as_graphs(X)


def test_networkx_graph_is_built_on_request():
    import networkx

    graph = Graph(FEATURES, PATH, node_labels=list("abcd")).to_networkx()
    assert networkx.is_isomorphic(graph, networkx.path_graph(4)) and not graph.is_directed()
    assert graph.nodes[2]["label"] == "c"
    assert as_graphs([graph])[0] == Graph(FEATURES, PATH, node_labels=list("abcd"))
    assert Graph(None, np.triu(PATH)).to_networkx().is_directed()


def test_the_layer_imports_neither_torch_nor_networkx():
    code = (
        "import sys, numpy as np; from skpapers.structure import *; "
        "as_graphs([np.ones((2, 2))]); as_nodes(np.ones((2, 2)), np.ones((2, 2))); "
        "print([m for m in ('torch', 'networkx') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
