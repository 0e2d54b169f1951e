"""The mixin of the DAG learners, the random models and the metrics."""

import numpy as np
import pytest

from skpapers.causal import CoLiDE, graph_metrics, make_linear_sem
from skpapers.causal._dag_learner import (
    acyclic_subgraph,
    least_squares_on_parents,
    topological_order,
)

CHAIN = np.array([[0, 1.5, 0], [0, 0, -2.0], [0, 0, 0]])


@pytest.fixture(scope="module")
def chain():
    """A fitted learner whose graph and noises are set by hand: 0 -> 1 -> 2."""
    model = CoLiDE(max_iter=1, max_iter_final=1).fit(np.random.default_rng(0).normal(size=(9, 3)))
    model.adjacency_, model.causal_order_ = CHAIN, np.array([0, 1, 2])
    model.mean_, model.noise_scale_ = np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.5, 2.0])
    return model


def test_order_exists_exactly_where_there_is_no_cycle():
    rng = np.random.default_rng(0)
    for _ in range(200):
        d = rng.integers(1, 8)
        edges = (rng.uniform(size=(d, d)) < 0.25) & ~np.eye(d, dtype=bool)
        order = topological_order(edges)
        nilpotent = not np.linalg.matrix_power(edges.astype(float), d).any()
        assert (order is not None) == nilpotent
        if order is not None:
            position = np.argsort(order)
            assert all(position[i] < position[j] for i, j in np.argwhere(edges))


def test_cycles_lose_their_smallest_edges_one_by_one():
    rng = np.random.default_rng(1)
    for _ in range(50):
        weights = rng.normal(size=(6, 6)) * (1 - np.eye(6))
        expected = np.where(np.abs(weights) > 0.3, weights, 0)
        while topological_order(expected) is None:
            smallest = np.abs(expected[expected != 0]).min()
            expected[np.abs(expected) == smallest] = 0
        np.testing.assert_array_equal(acyclic_subgraph(weights, 0.3), expected)


def test_refit_is_least_squares():
    X, weights, _ = make_linear_sem(300, 5, 8, random_state=0)
    X = X - X.mean(axis=0)
    refit = least_squares_on_parents(X.T @ X, weights)
    for child in range(5):
        parents = np.flatnonzero(weights[:, child])
        if parents.size:
            expected = np.linalg.lstsq(X[:, parents], X[:, child])[0]
            np.testing.assert_allclose(refit[parents, child], expected)


def test_transform_and_inverse_transform(chain):
    X = np.random.default_rng(0).normal(size=(20, 3))
    centred = X - [1, 2, 3]
    np.testing.assert_allclose(chain.transform(X), centred - centred @ CHAIN)
    np.testing.assert_allclose(chain.inverse_transform(chain.transform(X)), X, atol=1e-8)


def test_density_is_the_gaussian_of_the_model(chain):
    from scipy.stats import multivariate_normal

    mixing = np.linalg.inv(np.eye(3) - CHAIN)
    covariance = mixing.T @ np.diag([1, 0.25, 4]) @ mixing
    X = np.random.default_rng(0).normal(size=(20, 3))
    expected = multivariate_normal([1, 2, 3], covariance).logpdf(X)
    np.testing.assert_allclose(chain.score_samples(X), expected)
    assert chain.score(X) == pytest.approx(expected.mean())


def test_samples_have_the_noises_of_the_model(chain):
    noise = chain.transform(chain.sample(50_000, random_state=0))
    np.testing.assert_allclose(np.cov(noise.T), np.diag([1, 0.25, 4]), atol=0.05)


def test_interventions_cut_a_column_from_its_causes(chain):
    X = chain.intervene({1: 7.0}, 20_000, random_state=0)
    assert (X[:, 1] == 7).all()
    assert X[:, 0].mean() == pytest.approx(1, abs=0.05)  # causes do not feel it
    assert X[:, 2].mean() == pytest.approx(3 - 2 * (7 - 2), abs=0.05)  # effects do
    with pytest.raises(ValueError, match=r"\[3\]"):
        chain.intervene({3: 0.0})


def test_networkx_graph(chain):
    graph = chain.to_networkx()
    assert dict(graph.edges) == {(0, 1): {"weight": 1.5}, (1, 2): {"weight": -2.0}}


@pytest.mark.parametrize("graph", ["er", "sf"])
@pytest.mark.parametrize("noise", ["normal", "exp", "laplace", "gumbel"])
def test_random_models(graph, noise):
    X, weights, scale = make_linear_sem(
        20_000, 8, 12, graph=graph, noise=noise, equal_variance=False, random_state=3
    )
    assert topological_order(weights) is not None
    size = np.abs(weights[weights != 0])
    assert size.min() >= 0.5
    assert size.max() <= 2
    noises = X - X @ weights
    np.testing.assert_allclose(noises.mean(axis=0), 0, atol=0.1)
    np.testing.assert_allclose(noises.std(axis=0) / scale, 1, atol=0.05)
    correlation = np.corrcoef(noises.T) - np.eye(8)
    assert np.abs(correlation).max() < 0.05


def test_metrics_count_by_hand():
    true = np.array([[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    found = np.array([[0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    # kept 0->1; missing 0->2; reversed 1->2; extra 0->3
    expected = {"shd": 3, "tpr": 1 / 3, "fdr": 2 / 3, "fpr": 2 / 3}
    assert graph_metrics(true, found) == pytest.approx(expected)
    with pytest.raises(ValueError, match="square"):
        graph_metrics(true, found[:2])
