"""Clustering by answers on pairs: laws of random graphs, trees, and what side information buys."""

import itertools

import networkx as nx
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.optimize import brentq
from scipy.stats import chisquare
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import kneighbors_graph

from skpapers.cluster import RGCA, SACA, misclassification_error, sample_pairs
from skpapers.cluster._agglomeration import Merger, join_by_weight, sparse_weights
from skpapers.cluster._pair_answers import split_at_bridges
from skpapers.cluster._spanning_trees import (
    bridges,
    depth_first_path,
    effective_resistances,
    spanning_tree,
)
from skpapers.utils import check_random_state


def no_features(y):
    return np.zeros((len(y), 1))


def saca_error(y, n_pairs, seed):
    model = SACA().fit(no_features(y), **sample_pairs(y, n_pairs, random_state=seed))
    return misclassification_error(y, model.labels_)


def ring(n, n_neighbors):
    """Every item joined to as many before and after it, half each."""
    rows = np.repeat(np.arange(n), n_neighbors // 2)
    columns = (rows + np.tile(np.arange(1, n_neighbors // 2 + 1), n)) % n
    graph = sparse.csr_array((np.ones(rows.size), (rows, columns)), shape=(n, n))
    return graph + graph.T


# Answers and errors.


def test_pairs_are_distinct_uniform_and_answered_by_the_labels():
    y = np.random.default_rng(0).integers(3, size=30)
    counts = np.zeros((30, 30))
    for seed in range(400):
        answers = sample_pairs(y, 40, random_state=seed)
        i, j = answers.pairs.T
        assert (i < j).all() and len(set(map(tuple, answers.pairs))) == 40
        assert_array_equal(answers.similar, y[i] == y[j])
        counts[i, j] += 1
    assert chisquare(counts[np.triu_indices(30, 1)]).pvalue > 1e-3
    everything = sample_pairs(y, 435, random_state=0).pairs
    assert len(set(map(tuple, everything))) == 435


def test_error_equals_brute_force_over_matchings():
    rng = np.random.default_rng(0)
    for _ in range(50):
        true, pred = rng.integers(4, size=15), rng.integers(5, size=15)
        best = max(
            sum(np.array(matching)[true] == pred)
            for matching in itertools.permutations(range(5), 4)
        )
        assert misclassification_error(true, pred) == 15 - best


def test_error_is_a_metric():
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b, c = rng.integers(4, size=(3, 12))
        assert misclassification_error(a, b) == misclassification_error(b, a)
        ab, bc, ac = (misclassification_error(*p) for p in ((a, b), (b, c), (a, c)))
        assert ac <= ab + bc
        assert misclassification_error(a, (a + 1) % 4) == 0


# SACA.


def test_clusters_are_the_components_of_similar_answers():
    y = np.random.default_rng(0).integers(5, size=200)
    answers = sample_pairs(y, 400, random_state=0)
    model = SACA().fit(no_features(y), **answers)
    graph = nx.Graph(answers.pairs[answers.similar].tolist())
    graph.add_nodes_from(range(200))
    expected = {frozenset(part) for part in nx.connected_components(graph)}
    found = {frozenset(np.flatnonzero(model.labels_ == c)) for c in range(model.n_clusters_)}
    assert found == expected
    same = model.labels_[answers.pairs[:, 0]] == model.labels_[answers.pairs[:, 1]]
    assert_array_equal(same, answers.similar | same)
    assert not (same & ~answers.similar).any() and model.n_conflicts_ == 0
    assert_array_equal(model.anchored_, np.bincount(model.labels_)[model.labels_] > 1)


@pytest.mark.parametrize("seed", range(3))
def test_error_follows_the_giant_components(seed):
    y = np.arange(6000) % 3
    c = 2 * 22_500 * 2000 / 6000**2
    beta = brentq(lambda b: b - 1 + np.exp(-c * b), 0.1, 1)
    assert saca_error(y, 22_500, seed) / 6000 == pytest.approx(1 - beta, abs=0.02)


def test_error_falls_with_the_number_of_answers():
    n, k = 2000, 6
    sizes = [n // 2**i for i in range(1, k)]
    y = np.repeat(np.arange(k), [sizes[0] + n - sum(sizes) - n // 2**k, *sizes[1:], n // 2**k])
    scaled = [
        np.mean([saca_error(y, m, seed) for seed in range(5)]) * m / (k * n**2)
        for m in (n, 4 * n, 16 * n)
    ]
    assert max(scaled) < 3 * min(scaled)


def test_a_wrong_answer_is_overruled_by_many():
    y = np.repeat([0, 1], 60)
    answers = sample_pairs(y, 1500, random_state=0)
    answers.pairs = np.concatenate([answers.pairs, [[3, 100]]])
    answers.similar = np.append(answers.similar, True)
    X = no_features(y)
    strict = SACA().fit(X, **answers)
    assert strict.n_clusters_ == 1 and strict.n_conflicts_ > 600
    tolerant = SACA(consistency="majority").fit(X, **answers)
    assert misclassification_error(y, tolerant.labels_) == 0
    assert tolerant.n_conflicts_ == 0
    content = SACA(consistency="majority", noise_tolerance=0.9).fit(X, **answers)
    assert content.n_clusters_ == 1


def test_splitting_takes_only_bridges_between_contradictions():
    # two triangles, a bridge between them, and a tail that nobody contradicts
    similar = np.array([[0, 1], [1, 2], [2, 0], [2, 3], [3, 4], [4, 5], [5, 3], [5, 6]])
    dissimilar = np.array([[0, 4], [1, 5]])
    labels = split_at_bridges(7, similar, dissimilar, 0.0)
    assert_array_equal(labels, [0, 0, 0, 1, 1, 1, 1])
    # a contradiction within a triangle cannot be mended
    assert_array_equal(split_at_bridges(3, similar[:3], np.array([[0, 1]]), 0.0), [0, 0, 0])


def test_bridges_are_those_of_networkx():
    for seed in range(100):
        graph = nx.gnm_random_graph(20, 26, seed=seed)
        part = graph.subgraph(max(nx.connected_components(graph), key=len))
        part = nx.convert_node_labels_to_integers(part)
        found, _, _ = bridges(len(part), np.array(part.edges))
        assert {frozenset(p) for p in found.tolist()} == {frozenset(p) for p in nx.bridges(part)}


# Trees.


def test_spanning_trees_are_uniform_and_edges_as_frequent_as_their_resistance():
    cycle = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)]
    graph = sparse.csr_array((np.ones(5), np.transpose(cycle)), shape=(4, 4))
    graph = (graph + graph.T).tocsr()
    rng = check_random_state(0)
    drawn = [
        frozenset(frozenset(e) for e in spanning_tree(graph, "uniform", rng).tolist())
        for _ in range(4000)
    ]
    counts = [drawn.count(tree) for tree in set(drawn)]
    assert len(counts) == 8  # by Kirchhoff's theorem
    assert chisquare(counts).pvalue > 1e-3
    resistances = effective_resistances(graph, np.array(cycle))
    frequency = np.mean([[frozenset(e) in tree for e in cycle] for tree in drawn], axis=0)
    sigma = np.sqrt(resistances * (1 - resistances) / 4000)
    assert (np.abs(frequency - resistances) < 3.5 * sigma).all()


def test_weighted_trees_are_as_likely_as_their_weight():
    # a triangle has three trees, each without one edge
    weights = sparse.csr_array([[0.0, 1, 2], [1, 0, 5], [2, 5, 0]])
    rng = check_random_state(0)
    trees = [
        {frozenset(e) for e in spanning_tree(weights, "uniform", rng).tolist()}
        for _ in range(3000)
    ]
    pairs = [{0, 1}, {0, 2}, {1, 2}]
    missing = [sum(frozenset(p) not in tree for tree in trees) for p in pairs]
    expected = np.array([2 * 5, 1 * 5, 1 * 2]) / 17 * 3000
    assert chisquare(missing, expected).pvalue > 1e-3
    heaviest = {frozenset(e) for e in spanning_tree(weights, "mst", rng).tolist()}
    assert heaviest == {frozenset({0, 2}), frozenset({1, 2})}


def test_resistances_equal_those_of_the_pseudoinverse():
    X = np.random.default_rng(0).normal(size=(40, 2))
    graph = kneighbors_graph(X, 4)
    graph = sparse.csr_array(graph.maximum(graph.T) * 0.7)
    edges = np.column_stack(sparse.triu(graph).nonzero())
    inverse = np.linalg.pinv(sparse.csgraph.laplacian(graph).toarray())
    i, j = edges.T
    expected = inverse[i, i] + inverse[j, j] - 2 * inverse[i, j]
    assert_allclose(effective_resistances(graph, edges), expected, rtol=1e-8)


def test_labels_change_along_the_path_at_most_twice_as_often_as_on_the_tree():
    rng = check_random_state(0)
    for seed in range(100):
        graph = nx.to_scipy_sparse_array(nx.gnm_random_graph(60, 90, seed=seed), dtype=float)
        tree = spanning_tree(sparse.csr_array(graph), "uniform", rng)
        assert nx.is_tree(nx.Graph(tree.tolist()))
        path = depth_first_path(tree)
        y = rng.randint(4, size=60)
        cut = np.sum(y[tree[:, 0]] != y[tree[:, 1]])
        assert sorted(path) == list(range(60))
        assert np.sum(y[path[1:]] != y[path[:-1]]) <= 2 * cut


# RGCA.


def rgca_error(y, n_pairs, graph, seed, **settings):
    settings = {"n_trees": 1, "random_state": seed, **settings}
    model = RGCA(side_information="precomputed", **settings)
    model.fit(graph, **sample_pairs(y, n_pairs, random_state=seed))
    return misclassification_error(y, model.labels_)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "n_neighbors, n_pairs, most",
    [(2, 4000, 110), (2, 20_000, 10), (6, 4000, 300), (6, 20_000, 25)],
)
def test_a_ring_of_blocks_is_found_from_answers_that_do_not_suffice(
    n_neighbors, n_pairs, most, seed
):
    y = np.arange(1000) // 50
    assert rgca_error(y, n_pairs, ring(1000, n_neighbors), seed) < most
    alone = saca_error(y, n_pairs, seed)
    assert alone > 850 if n_pairs == 4000 else alone > 150


def test_useless_side_information_does_little_harm():
    y = np.arange(1000) // 50
    ours, alone = [], []
    for seed in range(3):
        graph = nx.to_scipy_sparse_array(nx.gnm_random_graph(1000, 6000, seed=seed), dtype=float)
        ours.append(rgca_error(y, 20_000, sparse.csr_array(graph), seed))
        alone.append(saca_error(y, 20_000, seed))
    assert np.mean(ours) <= np.mean(alone) + 5


def test_digits_from_five_answers_an_image():
    X, y = load_digits(return_X_y=True)
    ours, largest_first, alone = [], [], []
    for seed in range(3):
        answers = sample_pairs(y, 5 * len(y), random_state=seed)
        for errors, settings in (
            (ours, {"n_trees": 5}),
            (largest_first, {"n_trees": 1, "order": "evidence"}),
        ):
            model = RGCA(**settings, random_state=seed).fit(X, **answers)
            errors.append(misclassification_error(y, model.labels_))
        alone.append(saca_error(y, 5 * len(y), seed))
    assert np.mean(ours) < 250
    assert np.mean(largest_first) < 180
    assert np.mean(alone) > 1300
    kmeans = KMeans(10, n_init=3, random_state=0).fit(X)
    assert np.mean(ours) < misclassification_error(y, kmeans.labels_)


def test_no_answer_is_violated_while_clusters_are_joined():
    y = np.random.default_rng(0).integers(6, size=300)
    X = np.random.default_rng(1).normal(size=(300, 3))
    answers = sample_pairs(y, 900, random_state=0)
    for order in ("path", "evidence"):
        model = RGCA(order=order, random_state=0).fit(X, **answers)
        assert model.n_conflicts_ == 0
        same = model.labels_[answers.pairs[:, 0]] == model.labels_[answers.pairs[:, 1]]
        assert_array_equal(same, answers.similar)


def test_clusters_with_most_weight_between_them_are_joined_first():
    # a chain of five clusters; the heaviest joint is forbidden
    weights = sparse.diags_array([[3.0, 9.0, 4.0, 1.0]], offsets=[1], shape=(5, 5))
    weights = sparse.csr_array(weights + weights.T)
    merger = Merger(np.ones(5, int), np.array([[1, 2]]))
    join_by_weight(merger, sparse_weights(weights, np.arange(5)), 3)
    assert_array_equal(np.unique(merger.roots(), return_inverse=True)[1], [0, 0, 1, 1, 2])
    join_by_weight(merger, sparse_weights(weights, np.arange(5)), 1)
    assert_array_equal(np.unique(merger.roots(), return_inverse=True)[1], [0, 0, 1, 1, 1])


def test_number_of_clusters_and_prediction():
    X, y = make_blobs(300, centers=3, cluster_std=0.6, random_state=0)
    answers = sample_pairs(y, 600, random_state=0)
    for model in (SACA(3), RGCA(3, random_state=0)):
        model.fit(X, **answers)
        assert model.n_clusters_ == 3 and model.component_sizes_.sum() == 300
        assert adjusted_rand_score(y, model.labels_) > 0.8
        assert_array_equal(model.predict(X), model.labels_)


def test_the_cut_of_the_side_information_is_diagnosed():
    y = np.arange(100) // 50
    graph = ring(100, 2)
    model = RGCA(side_information="precomputed", random_state=0)
    model.fit(graph, **sample_pairs(y, 300, random_state=0))
    found = model.diagnose(y)
    # two edges of a cycle, each left out by one tree of a hundred
    assert found["expected_cut"] == pytest.approx(2 * 99 / 100)
    assert found["tree_cut"] in (1, 2) and found["path_changes"] <= 2 * found["tree_cut"]


def test_labels_are_never_looked_at():
    X, y = make_blobs(80, random_state=0)
    for model in (SACA(3), RGCA(3, random_state=0)):
        assert_array_equal(model.fit(X, y).labels_, model.fit(X).labels_)


def test_bad_answers_are_named():
    X = np.zeros((5, 2))
    for pairs, similar, match in (
        ([[0, 1]], None, "given together"),
        ([[0, 9]], [1], "row numbers from 0 to 4"),
        ([[0.5, 1]], [1], "integers of shape"),
        ([[0, 1, 2]], [1], "integers of shape"),
        ([[0, 1]], [2], "0 and 1"),
        ([[0, 1]], [1, 0], "inconsistent"),
    ):
        with pytest.raises(ValueError, match=match):
            SACA().fit(X, pairs=pairs, similar=similar)
    with pytest.raises(ValueError, match="needs pairs"):
        RGCA(side_information="precomputed").fit(np.eye(3))
    with pytest.raises(ValueError, match="non-negative"):
        RGCA().fit(X, pairs=[[0, 1]], similar=[1], adjacency=-np.ones((5, 5)))
    with pytest.raises(ValueError, match="n_pairs=4 must be at most 3"):
        sample_pairs([0, 0, 1], 4)
