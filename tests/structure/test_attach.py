import numpy as np
import pytest
from scipy import sparse
from sklearn.neighbors import kneighbors_graph

from skpapers.structure import (
    Graph,
    NodeView,
    TrainingGraph,
    as_nodes,
    correlation_graph,
    knn_graph,
)

PATH = np.diag(np.ones(4), 1) + np.diag(np.ones(4), -1)
FEATURES = np.arange(5.0)[:, None]
VIEW = NodeView(Graph(FEATURES, PATH))


def test_knn_graph_is_the_symmetric_union_of_neighbours():
    X = np.random.RandomState(0).standard_normal((40, 3))
    directed = kneighbors_graph(X, 4).toarray()
    np.testing.assert_array_equal(knn_graph(X, 4).toarray(), np.maximum(directed, directed.T))
    heat = knn_graph(X, 4, "heat").toarray()
    distance = kneighbors_graph(X, 4, mode="distance").toarray()
    h = np.median(distance[distance > 0])
    directed = np.where(distance > 0, np.exp(-(distance**2) / (2 * h**2)), 0)
    np.testing.assert_allclose(heat, np.maximum(directed, directed.T), rtol=1e-12)


@pytest.mark.parametrize("X", [np.zeros((1, 2)), np.zeros((6, 2)), np.eye(3)])
@pytest.mark.parametrize("weights", ["binary", "heat"])
def test_knn_graph_of_few_or_equal_rows(X, weights):
    graph = knn_graph(X, 10, weights).toarray()
    assert np.isfinite(graph).all() and (graph == graph.T).all() and np.trace(graph) == 0
    assert (graph.sum(axis=1) > 0).all() or len(X) == 1


def test_correlation_graph_ignores_scale_sign_and_constants():
    rng = np.random.RandomState(0)
    a, b = rng.standard_normal((2, 100))
    X = np.column_stack([a, -1e12 * a, b, 1e-12 * b, np.full(100, 3.0)])
    expected = np.zeros((5, 5))
    expected[[0, 1, 2, 3], [1, 0, 3, 2]] = 1
    np.testing.assert_allclose(correlation_graph(X, 1).toarray(), expected, atol=1e-9)


def test_context_decides_which_nodes_training_sees():
    nodes = as_nodes(VIEW[[0, 1, 3]])
    whole = TrainingGraph(nodes)
    assert whole.n_nodes == 5 and whole.rows.tolist() == [0, 1, 3]
    induced = TrainingGraph(nodes, context="induced")
    np.testing.assert_array_equal(induced.adjacency.toarray(), [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert whole.find(as_nodes(VIEW[[2, 3]])).tolist() == [2, 3]
    assert induced.find(as_nodes(VIEW[[2, 3]])).tolist() == [-1, 2]


def test_links_are_the_same_by_both_routes():
    train, test = [0, 1, 3], [2, 4]
    a = TrainingGraph(as_nodes(VIEW[train]), context="induced")
    b = TrainingGraph(as_nodes(FEATURES[train], PATH[train], train))
    np.testing.assert_array_equal(a.adjacency.toarray(), b.adjacency.toarray())
    expected = [[0, 1, 1], [0, 0, 1]]
    for links in (
        a.links(as_nodes(VIEW[test])),
        b.links(as_nodes(FEATURES[test], PATH[test], test)),
        b.links(as_nodes(FEATURES[test], PATH[test])),
    ):
        np.testing.assert_array_equal(links.toarray(), expected)


@pytest.mark.parametrize("weights", ["binary", "heat"])
def test_a_node_without_known_neighbours_joins_its_nearest(weights):
    train = TrainingGraph(as_nodes(FEATURES, PATH), n_neighbors=2, weights=weights)
    links = train.links(as_nodes(np.array([[1.4], [3.9]]))).toarray()
    np.testing.assert_array_equal(links > 0, [[0, 1, 1, 0, 0], [0, 0, 0, 1, 1]])
    if weights == "heat":
        assert links[0, 1] > links[0, 2]
    mixed = np.zeros((2, 5))
    mixed[0, 4] = 3.0
    links = train.links(as_nodes(np.array([[1.4], [3.9]]), sparse.csr_array(mixed))).toarray()
    np.testing.assert_array_equal(links[0], [0, 0, 0, 0, 3])
    np.testing.assert_array_equal(links[1] > 0, [0, 0, 0, 1, 1])


def test_links_do_not_depend_on_the_other_queries():
    rng = np.random.RandomState(0)
    train = TrainingGraph(as_nodes(rng.standard_normal((30, 4))), weights="heat")
    queries = rng.standard_normal((9, 4))
    whole = train.links(as_nodes(queries)).toarray()
    alone = [train.links(as_nodes(q[None])).toarray()[0] for q in queries]
    np.testing.assert_allclose(whole, alone, rtol=1e-12)


def test_find_by_number_or_by_features():
    X = np.array([[0.0], [1.0], [0.0], [2.0]])
    train = TrainingGraph(as_nodes(X))
    queries = as_nodes(np.array([[-0.0], [2.0], [5.0]]))
    assert train.find(queries, by_features=True).tolist() == [0, 3, -1]
    assert train.find(queries).tolist() == [-1, -1, -1]
    square = np.ones((4, 4))
    train = TrainingGraph(as_nodes(X, square, [7 - 4, 2, 1, 0]))
    assert train.find(as_nodes(X[:2], square[:2], [2, 3])).tolist() == [1, 0]


def test_a_graph_rule_of_ones_own():
    train = TrainingGraph(as_nodes(FEATURES), adjacency=lambda X: PATH)
    np.testing.assert_array_equal(train.adjacency.toarray(), PATH)


def test_errors():
    with pytest.raises(ValueError, match="context must be"):
        TrainingGraph(as_nodes(FEATURES), context="all")
    with pytest.raises(ValueError, match="node_id must say"):
        TrainingGraph(as_nodes(FEATURES[:2], PATH[:2]))
    train = TrainingGraph(as_nodes(FEATURES, PATH))
    with pytest.raises(ValueError, match="has 3 columns"):
        train.links(as_nodes(FEATURES[:1], PATH[:1, :3]))
    with pytest.raises(ValueError, match="weights must be"):
        knn_graph(FEATURES, weights="cosine")
