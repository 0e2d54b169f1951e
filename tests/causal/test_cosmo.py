"""COSMO: orientation, losses, recovery, and what it never computes."""

from unittest import mock

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.utils.flop_counter import FlopCounterMode

from skpapers.causal import COSMO, graph_metrics, make_linear_sem
from skpapers.causal._cosmo import _Equations, covariance_loss, orient
from skpapers.causal._dag_learner import topological_order
from skpapers.neural_network import build_module


def nonlinear_chain(seed, n_samples=500):
    rng = np.random.default_rng(seed)
    x0 = rng.normal(size=n_samples)
    x1 = np.sin(2 * x0) + 0.3 * rng.normal(size=n_samples)
    return np.column_stack([x0, x1, x1**2 + 0.3 * rng.normal(size=n_samples)])


def test_hard_orientation_has_no_cycle_whatever_the_priorities():
    rng = np.random.default_rng(0)
    for _ in range(200):
        priorities = torch.tensor(rng.normal(size=rng.integers(2, 31)).round(1))  # with ties
        assert topological_order(orient(priorities, 1e-2).numpy()) is not None
    assert not orient(torch.ones(5), 1e-2).any()


def test_both_directions_never_count_more_than_one_edge():
    priorities = torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for temperature in (0.45, 0.1, 1e-3):
        share = orient(priorities, 1e-2, temperature)
        assert float((share + share.T).max()) <= 1
    limit = orient(priorities, 1e-2, 1e-9)
    np.testing.assert_allclose(limit, orient(priorities, 1e-2), atol=1e-12)


def test_gradient_is_finite_when_cold():
    priorities = torch.linspace(-5, 5, 10, requires_grad=True)
    orient(priorities, 1e-2, 1e-3).sum().backward()
    assert torch.isfinite(priorities.grad).all()


def test_covariance_loss_equals_the_loss_over_rows():
    X = torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = float((X @ weights - X).square().mean())
    assert float(covariance_loss(weights, X.T @ X / 50)) == pytest.approx(expected, abs=1e-10)


class _FromGiven(COSMO):
    """COSMO that starts from given weights and priorities."""

    def _on_fit_begin(self, module, data):
        edges, priorities = self._given
        module.edges.copy_(torch.tensor(edges))
        module.priorities.copy_(torch.tensor(priorities))


def test_permuting_columns_permutes_the_weights():
    X, _, _ = make_linear_sem(300, 6, 8, random_state=0)
    rng = np.random.default_rng(0)
    edges, priorities, order = rng.normal(size=(6, 6)), rng.normal(size=6), rng.permutation(6)

    def weights(X, edges, priorities):
        model = _FromGiven(max_epochs=100)
        model._given = edges, priorities
        return model.fit(X).module_.weights().detach().numpy()

    permuted = weights(X[:, order], edges[np.ix_(order, order)], priorities[order])
    expected = weights(X, edges, priorities)[np.ix_(order, order)]
    np.testing.assert_allclose(permuted, expected, atol=1e-5)


def test_acyclicity_is_never_evaluated():
    """No inverse, determinant, exponential, eigenvalue or solve in the optimisation."""
    X, _, _ = make_linear_sem(100, 6, 8, random_state=0)
    names = ["inv", "det", "slogdet", "matrix_exp", "eig", "eigvals", "eigh", "svd", "solve"]
    with mock.patch.multiple(torch.linalg, **dict.fromkeys(names)):
        for params in ({}, {"batch_size": 32}, {"hidden_layer_sizes": (3,)}):
            assert COSMO(max_epochs=3, random_state=0, **params).fit(X).n_iter_ == 3


def test_a_step_costs_the_square_of_the_columns():
    """Twice the columns, four times the floating-point operations of a mini-batch step."""
    counts = []
    for d in (50, 100, 200):
        module = build_module(lambda d=d: _Equations(d, (), 1e-2), torch.Generator())
        X = torch.ones(64, d)
        with FlopCounterMode(display=False) as counter:
            (module(X) - X).square().mean().backward()
        counts.append(counter.get_total_flops())
    assert counts[1] == 4 * counts[0]
    assert counts[2] == 4 * counts[1]


def test_a_linear_graph_is_recovered():
    X, weights, _ = make_linear_sem(1000, 6, 6, random_state=1)
    model = COSMO(max_epochs=3000, random_state=0).fit(X)
    assert graph_metrics(weights, model.adjacency_)["shd"] <= 1
    off = ~np.eye(6, dtype=bool)
    assert roc_auc_score(weights[off] != 0, np.abs(model.raw_adjacency_[off])) >= 0.95


@pytest.mark.slow
def test_larger_linear_graphs_are_ranked_well():
    """Edges come out ahead of non-edges; local optima leave some pairs wrong."""
    areas = []
    for seed in range(3):
        X, weights, _ = make_linear_sem(1000, 20, 40, random_state=seed)
        model = COSMO(random_state=0).fit(X)
        off = ~np.eye(20, dtype=bool)
        areas.append(roc_auc_score(weights[off] != 0, np.abs(model.raw_adjacency_[off])))
    assert min(areas) >= 0.9
    assert np.mean(areas) >= 0.94


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nonlinear_causes_are_found_where_a_linear_model_reverses_one(seed):
    X = nonlinear_chain(seed)
    linear = COSMO(max_epochs=2000, random_state=0).fit(X)
    assert np.argwhere(linear.adjacency_).tolist() == [[1, 0]]
    nonlinear = COSMO((10,), max_epochs=2000, n_restarts=4, random_state=0).fit(X)
    assert np.argwhere(nonlinear.adjacency_).tolist() == [[0, 1], [1, 2]]


def test_fitting_options_agree_with_each_other():
    X, weights, _ = make_linear_sem(400, 4, 4, random_state=1)
    refit = COSMO(max_epochs=2000, refit=True, random_state=0).fit(X)
    centred = X - X.mean(axis=0)
    for child in range(4):
        parents = np.flatnonzero(refit.adjacency_[:, child])
        if parents.size:
            expected = np.linalg.lstsq(centred[:, parents], centred[:, child])[0]
            np.testing.assert_allclose(refit.adjacency_[parents, child], expected)
    restarts = COSMO(max_epochs=500, n_restarts=3, random_state=0).fit(X)
    single = COSMO(max_epochs=500, random_state=0).fit(X)
    assert restarts.loss_curve_[-1] <= single.loss_curve_[-1]
    soft = COSMO(max_epochs=500, hard_orientation=False, random_state=0).fit(X)
    assert topological_order(soft.adjacency_) is not None
    mini = COSMO(max_epochs=300, batch_size=100, random_state=0).fit(X)
    assert graph_metrics(weights, mini.adjacency_)["shd"] <= 1


def test_nonlinear_equations_invert_and_intervene():
    X = nonlinear_chain(0)
    model = COSMO((5,), max_epochs=200, random_state=0).fit(X)
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), X, atol=1e-8)
    assert (model.intervene({1: 0.5}, 10, random_state=0)[:, 1] == 0.5).all()
    two_layers = COSMO((5, 4), max_epochs=50, random_state=0).fit(X)
    assert np.isfinite(two_layers.score(X))
