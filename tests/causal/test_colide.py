"""CoLiDE: score, gradient, noise scales, recovery."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from skpapers.causal import CoLiDE, graph_metrics, make_linear_sem
from skpapers.causal._colide import _Problem, acyclicity
from skpapers.causal._dag_learner import topological_order


def problem(noise, d=5, seed=0):
    X, _, _ = make_linear_sem(200, d, 2 * d, random_state=seed)
    return _Problem(np.cov(X.T, bias=True), 0.05, noise, 1e-2)


def small_weights(d=5, seed=0):
    weights = np.random.default_rng(seed).uniform(-0.4, 0.4, (d, d))
    return weights * (1 - np.eye(d))


def objective(problem, weights, noise, mu, c):
    """The objective as the paper writes it."""
    residual = np.eye(len(weights)) - weights
    squares = np.diag(residual.T @ problem.covariance @ residual)
    score = 0.5 * np.sum(squares / noise) + 0.5 * np.sum(noise)
    score += problem.alpha * np.abs(weights).sum()
    sign, log_det = np.linalg.slogdet(c * np.eye(len(weights)) - weights * weights)
    return mu * score + len(weights) * np.log(c) - log_det


@pytest.mark.parametrize("kind", ["equal", "unequal"])
def test_gradient_equals_finite_differences(kind):
    p, weights, mu, c = problem(kind), small_weights(), 0.7, 0.9
    noise = np.full(5, 1.3) if kind == "equal" else np.linspace(0.5, 2, 5)
    barrier, inverse = acyclicity(weights, c)
    product, variance = p.residual(weights)
    gradient = mu * p.gradient(weights, product, noise) + 2 * weights * inverse.T
    numeric = approx_fprime(
        weights.ravel(), lambda w: objective(p, w.reshape(5, 5), noise, mu, c), 1e-7
    ).reshape(5, 5)
    off = ~np.eye(5, dtype=bool)
    np.testing.assert_allclose(gradient[off], numeric[off], atol=2e-6)
    value = mu * p.score(weights, variance, noise) + barrier
    assert value == pytest.approx(objective(p, weights, noise, mu, c), abs=1e-10)


@pytest.mark.parametrize("kind", ["equal", "unequal"])
def test_noise_scales_minimise_the_score(kind):
    p, weights = problem(kind), small_weights()
    best = p.noise_scale(weights)
    least = objective(p, weights, best, 1.0, 1.0)
    rng = np.random.default_rng(0)
    for _ in range(200):
        factor = rng.uniform(0.8, 1.25, 1 if kind == "equal" else 5)
        assert objective(p, weights, best * factor, 1.0, 1.0) >= least


def test_scores_agree_where_all_noises_do():
    weights, noise = small_weights(), np.full(5, 1.7)
    scores = []
    for kind in ("equal", "unequal"):
        p = problem(kind)
        scores.append(p.score(weights, p.residual(weights)[1], noise))
    assert scores[0] == pytest.approx(scores[1], abs=1e-12)


def test_outside_the_domain_there_is_no_inverse():
    weights = np.array([[0, 1.1], [1.1, 0]])
    assert acyclicity(weights, 1.0)[1] is None
    assert acyclicity(weights, 2.0)[1] is not None


@pytest.mark.parametrize("noise", ["equal", "unequal"])
def test_result_is_acyclic(noise):
    X, _, _ = make_linear_sem(200, 8, 20, random_state=5)
    model = CoLiDE(noise=noise).fit(X)
    assert topological_order(model.adjacency_) is not None
    assert acyclicity(model.adjacency_, 1.0)[0] == pytest.approx(0, abs=1e-10)
    assert not np.diag(model.adjacency_).any()
    X = np.c_[X, np.ones(200)]
    constant = CoLiDE(noise=noise).fit(X)
    assert not constant.adjacency_[8].any()
    assert not constant.adjacency_[:, 8].any()
    assert constant.noise_scale_[8] == 0
    np.testing.assert_allclose(constant.adjacency_[:8, :8], model.adjacency_)
    assert np.isfinite(constant.score(X))


def test_one_column_and_independent_columns_have_no_edges():
    X = np.random.default_rng(0).normal(size=(500, 6)) * [1, 2, 3, 1, 2, 3]
    single = CoLiDE().fit(X[:, 1:2])
    assert single.adjacency_ == 0
    assert single.noise_scale_[0] == pytest.approx(X[:, 1].std())
    assert not CoLiDE().fit(X).adjacency_.any()


@pytest.mark.parametrize("noise", ["equal", "unequal"])
def test_permuting_columns_permutes_the_graph(noise):
    X, _, _ = make_linear_sem(500, 8, 12, random_state=2)
    order = np.random.default_rng(0).permutation(8)
    model = CoLiDE(noise=noise, max_iter=300, max_iter_final=500).fit(X)
    permuted = CoLiDE(noise=noise, max_iter=300, max_iter_final=500).fit(X[:, order])
    np.testing.assert_allclose(
        permuted.adjacency_, model.adjacency_[np.ix_(order, order)], atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_penalty_serves_noise_of_any_level(seed):
    """The claim: five times the noise variance, the same alpha, and no worse a graph."""
    X, weights, scale = make_linear_sem(1000, 20, 40, random_state=seed)
    errors = {}
    for factor in (1.0, np.sqrt(5.0)):
        model = CoLiDE(noise="equal").fit(X * factor)
        errors[factor] = graph_metrics(weights, model.adjacency_)["shd"]
        np.testing.assert_allclose(model.noise_scale_ / factor, scale, rtol=0.05)
    assert errors[1.0] <= 4
    assert errors[np.sqrt(5.0)] <= errors[1.0] + 4


def test_one_penalty_serves_noise_of_any_level_small():
    X, weights, scale = make_linear_sem(1000, 10, 12, random_state=0)
    for factor in (1.0, np.sqrt(5.0)):
        model = CoLiDE(noise="equal", max_iter=1000, max_iter_final=3000).fit(X * factor)
        assert graph_metrics(weights, model.adjacency_)["shd"] <= 2
        np.testing.assert_allclose(model.noise_scale_ / factor, scale, rtol=0.05)


@pytest.mark.slow
def test_unequal_noises_are_recovered():
    """Estimating a scale a column at least halves the error of assuming one for all."""
    errors = {"unequal": [], "equal": []}
    for seed in range(3):
        X, _, scale = make_linear_sem(1000, 20, 40, equal_variance=False, random_state=seed)
        for noise, error in errors.items():
            error.append(np.abs(CoLiDE(noise=noise).fit(X).noise_scale_ - scale).mean())
    assert np.mean(errors["unequal"]) <= 0.3
    assert np.mean(errors["equal"]) >= 2 * np.mean(errors["unequal"])


def test_a_domain_that_is_too_small_is_widened():
    X, weights, _ = make_linear_sem(1000, 4, 5, random_state=0)
    model = CoLiDE(noise="equal", s=(0.05, 0.05), lr=0.05).fit(X)
    assert graph_metrics(weights, model.adjacency_)["shd"] <= 2
    with pytest.raises(ValueError, match="s must be positive"):
        CoLiDE(s=(1.0, -1.0)).fit(X)


def test_alpha_can_be_tuned_by_likelihood():
    from sklearn.model_selection import GridSearchCV

    X, _, _ = make_linear_sem(300, 5, 5, random_state=0)
    search = GridSearchCV(
        CoLiDE(noise="equal", max_iter=300, max_iter_final=600), {"alpha": [0.05, 5.0]}
    )
    assert search.fit(X).best_params_ == {"alpha": 0.05}
