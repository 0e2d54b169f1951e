"""EarlyStoppedScoreEstimator: the kernel, its gradient descent, the rule, and memorising."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist
from sklearn.datasets import make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_ridge import KernelRidge

from skpapers.datasets import GaussianMixtureDensity
from skpapers.density import EarlyStoppedScoreEstimator, score_ntk
from skpapers.density._kernel_flow import (
    complexity,
    exact_flow,
    flow_filter,
    noise_level,
    nystroem_flow,
    resolve_rate,
    rule_iteration,
)
from skpapers.density._nn_score_estimation import score_from_mean
from skpapers.density._tangent_kernel import (
    ReluNetwork,
    TangentRegression,
    train_network,
    truncate,
)
from skpapers.hypothesis_testing import KSDTest


def problem(n_inputs=40, n_features=2, seed=0):
    """Inputs of a network and targets."""
    rng = np.random.RandomState(seed)
    x = rng.normal(size=(n_inputs, n_features))
    inputs = np.c_[x, rng.uniform(0, 3, n_inputs), np.ones(n_inputs)]
    return inputs, np.sin(x) + 0.3 * rng.normal(size=x.shape)


# The kernel.


def test_kernel_is_the_mean_over_random_neurons():
    U, _ = problem(4)
    W = np.random.RandomState(1).normal(size=(200_000, U.shape[1]))
    active = (W @ U.T > 0).astype(float)
    for i, j in [(0, 0), (0, 1), (1, 2), (0, 3), (2, 3)]:
        draws = (U[i] @ U[j]) * active[:, i] * active[:, j]
        assert abs(score_ntk(U)[i, j] - draws.mean()) < 3 * draws.std() / len(W) ** 0.5


def test_kernel_is_positive_semi_definite_symmetric_and_the_same_for_tensors():
    U, _ = problem(80)
    K = score_ntk(U)
    assert_allclose(K, K.T, rtol=1e-12)
    assert np.linalg.eigvalsh(K).min() > -1e-6
    assert_allclose(np.diag(K), (U**2).sum(axis=1) / 2, rtol=1e-7)
    assert_allclose(score_ntk(torch.from_numpy(U), torch.from_numpy(U[:7])), K[:, :7], rtol=1e-7)
    assert (score_ntk(np.zeros((1, 4)), U) == 0).all()


def test_gradient_of_a_combination_of_kernels_by_finite_differences():
    U, Y = (torch.from_numpy(a) for a in problem(30))
    model = TangentRegression(U, Y)
    rows = torch.from_numpy(problem(5, seed=3)[0])
    assert torch.autograd.gradcheck(model, rows.requires_grad_(), atol=1e-5)
    assert_allclose(model(rows).detach(), score_ntk(rows.detach(), U) @ Y, rtol=1e-12)
    at_centres = U[:3].clone().requires_grad_()
    model(at_centres).sum().backward()
    assert torch.isfinite(at_centres.grad).all()


# Gradient descent.


@pytest.mark.parametrize("n_iter", [1, 10, 1000])
def test_closed_form_is_the_iteration(n_iter):
    U, Y = problem()
    flow, K = exact_flow(score_ntk, U), score_ntk(U)
    for share in (1.0, 1.9):
        rate = share * resolve_rate(flow.values)
        fitted = np.zeros_like(Y)
        for _ in range(n_iter):
            fitted += rate / len(U) * K @ (Y - fitted)
        assert_allclose(K @ flow.coefficients(Y, n_iter, rate), fitted, atol=1e-10)


def test_ends_of_the_path_are_zero_and_interpolation():
    U, Y = problem()
    flow, K = exact_flow(score_ntk, U), score_ntk(U)
    rate = resolve_rate(flow.values)
    assert (flow.coefficients(Y, 0, rate) == 0).all()
    assert_allclose(K @ flow.coefficients(Y, 10**9, rate), Y, atol=1e-8)
    assert_allclose(flow_filter(np.array([1e-20, 0.0]), 7, 2.0), 14.0, rtol=1e-12)


def test_nystroem_flow_with_all_centres_is_exact_and_otherwise_descends_its_own_kernel():
    U, Y = problem()
    exact, rows = exact_flow(score_ntk, U), problem(9, seed=5)[0]
    full = nystroem_flow(score_ntk, U, U[::-1])
    rate = resolve_rate(exact.values)
    expected = score_ntk(rows, U) @ exact.coefficients(Y, 50, rate)
    ours = score_ntk(rows, full.centres) @ full.coefficients(Y, 50, rate)
    assert_allclose(ours, expected, atol=1e-6)

    few = nystroem_flow(score_ntk, U, U[:8])
    cross = score_ntk(U, U[:8])
    K, fitted = cross @ np.linalg.solve(score_ntk(U[:8]), cross.T), np.zeros_like(Y)
    for _ in range(50):
        fitted += rate / len(U) * K @ (Y - fitted)
    assert_allclose(cross @ few.coefficients(Y, 50, rate), fitted, atol=1e-7)


def network_gap(width, seed):
    """Largest difference of network and kernel after 50 steps, over the largest output."""
    U, Y = (torch.from_numpy(a) for a in problem(64, seed=seed))
    flow = exact_flow(score_ntk, U)
    rate = resolve_rate(flow.values)
    expected = score_ntk(U) @ flow.coefficients(Y, 50, rate)
    network = ReluNetwork(4, 2, width, torch.Generator().manual_seed(seed))
    assert network(U).abs().max() < 1e-12
    with torch.no_grad():
        ours = train_network(network, U, Y, 50, rate)(U)
    return float((ours - expected).abs().max() / expected.abs().max())


def test_wide_network_follows_the_kernel():
    narrow, wide = ([network_gap(width, seed) for seed in range(3)] for width in (1024, 16384))
    assert max(wide) <= 0.05
    assert np.mean(narrow) > 1.8 * np.mean(wide)


def test_training_of_the_network_is_gradient_descent():
    U, Y = (torch.from_numpy(a) for a in problem())
    network = ReluNetwork(4, 2, 10, torch.Generator().manual_seed(0))
    loss = 0.5 * (network(U) - Y).square().sum(1).mean()
    loss.backward()
    expected = network.hidden.detach() - 0.1 * network.hidden.grad
    assert_allclose(train_network(network, U, Y, 1, 0.1).hidden.detach(), expected, rtol=1e-12)


def test_too_large_a_learning_rate_is_refused():
    with pytest.raises(ValueError, match="learning_rate=1000.*diverges"):
        EarlyStoppedScoreEstimator(learning_rate=1000, random_state=0).fit(problem()[0])


# The score.


def test_score_of_the_exact_mean_is_exact():
    rng = np.random.RandomState(0)
    A = rng.normal(size=(3, 3))
    density = GaussianMixtureDensity([[1.0, 0.0, -1.0]], (A @ A.T + np.eye(3))[None])
    X = rng.normal(size=(20, 3))
    for t in (0.01, 0.5, 3.0):
        alpha, sigma = math.exp(-t / 2), math.sqrt(-math.expm1(-t))
        mean = density.denoise(X, alpha=alpha, sigma=sigma)
        expected = density.score_function(X, alpha=alpha, sigma=sigma)
        assert_allclose(score_from_mean(X, mean, alpha, sigma), expected, rtol=1e-12, atol=1e-12)


def test_truncation_shortens_long_rows_only():
    x = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], requires_grad=True)
    moved = truncate(x, 2.0)
    assert_allclose(moved.detach(), [[1.2, 1.6], [0.3, 0.4], [0.0, 0.0]], rtol=1e-6)
    moved.sum().backward()
    assert torch.isfinite(x.grad).all() and (x.grad[1:] == 1).all()
    X = problem(80)[0][:, :2]
    wide, tight = (
        EarlyStoppedScoreEstimator(truncation=r, random_state=0).fit(X) for r in (1e3, 1.5)
    )
    default = EarlyStoppedScoreEstimator(random_state=0).fit(X)
    assert_allclose(default.posterior_mean(X, 0.01), wide.posterior_mean(X, 0.01), rtol=1e-3)
    far = tight.mean_ + tight.scale_ * [[5.0, 0.0], [50.0, 0.0]]
    assert_allclose(*tight.posterior_mean(far, 0.01), rtol=1e-12)


@pytest.mark.parametrize("solver", ["ntk", "features", "network"])
@pytest.mark.parametrize("time_input", ["linear", "log"])
def test_solvers_agree_and_score_is_assembled_from_the_mean(solver, time_input):
    X = 5 + 3 * problem(50)[0][:, :2]
    params = {"width": 8192, "time_input": time_input, "random_state": 0}
    ntk = EarlyStoppedScoreEstimator(**params).fit(X)
    ours = EarlyStoppedScoreEstimator(solver, **params).fit(X)
    means = [density.posterior_mean(X, 0.2) for density in (ntk, ours)]
    tolerance = {"ntk": 0, "features": 1e-5, "network": 0.15}[solver]
    assert np.abs(means[0] - means[1]).max() <= tolerance * X.std()
    assert (ours.dual_coef_ is None) == (solver == "network")
    z, mean = ((a - ours.mean_) / ours.scale_ for a in (X, means[1]))
    expected = (math.exp(-0.1) * mean - z) / -math.expm1(-0.2) / ours.scale_
    assert_allclose(ours.score_function(X, 0.2), expected, rtol=1e-9)
    assert_allclose(ours.score_function(X), ours.score_function(X, 0.01))


def test_log_density_integrates_to_one_and_is_near_the_truth_as_are_samples():
    X = np.random.RandomState(0).normal(2, 3, size=(150, 1))
    density = EarlyStoppedScoreEstimator(random_state=0).fit(X)
    grid = np.linspace(-18, 22, 161)[:, None]
    values = density.score_samples(grid)
    assert_allclose(np.exp(values).sum() * 0.25, 1, atol=0.02)
    truth = GaussianMixtureDensity([[2.0]], [9.0])
    inside = np.abs(grid[:, 0] - 2) < 6
    gap = values[inside] - truth.score_samples(grid[inside])
    assert np.sqrt(np.mean(gap**2)) < 0.3
    draws = density.sample(500, random_state=1)
    assert abs(draws.mean() - X.mean()) < 0.5 and abs(draws.std() - X.std()) < 0.5


def test_data_type_seeds_and_units_carry_over():
    X = problem(40)[0][:, :2]
    density = EarlyStoppedScoreEstimator(random_state=0).fit(X)
    single = X.astype(np.float32)
    for method in (density.score_function, density.score_samples):
        assert method(single).dtype == np.float32
        assert_allclose(method(single), method(X), rtol=1e-3, atol=1e-3)
    assert density.posterior_mean(single, 1.0).dtype == np.float32
    assert_allclose(density.sample(3), density.sample(3), rtol=0)
    assert np.abs(density.sample(3) - density.sample(3, random_state=1)).min() > 0
    units = np.array([1e-9, 1e6])
    scaled = EarlyStoppedScoreEstimator(random_state=0).fit(X * units)
    expected = density.score_samples(X) - np.log(units).sum()
    assert_allclose(scaled.score_samples(X * units), expected, rtol=1e-6)
    assert_allclose(scaled.score_function(X * units), density.score_function(X) / units, rtol=1e-6)
    assert_allclose(scaled.sample(3), density.sample(3) * units, rtol=1e-6)


# The rule.


def noisy_copies(density, n_samples, n_noise, rng):
    """Inputs with log-uniform times, rows, and exact means given the inputs."""
    rows = np.repeat(density.sample(n_samples, rng), n_noise, axis=0)
    t = np.exp(rng.uniform(np.log(0.01), np.log(3), len(rows)))
    alpha, sigma = np.exp(-t / 2), np.sqrt(-np.expm1(-t))
    noisy = alpha[:, None] * rows + sigma[:, None] * rng.normal(size=rows.shape)
    levels = zip(noisy[:, None], alpha, sigma)
    means = np.concatenate([density.denoise(x, alpha=a, sigma=s) for x, a, s in levels])
    return np.c_[noisy, t - 0.01, np.ones(len(t))], rows, means


TWO_GAUSSIANS = GaussianMixtureDensity([[-0.93, 0.0], [0.93, 0.0]], 0.35**2)


@pytest.mark.parametrize("n_samples", [50, 200])
@pytest.mark.parametrize("seed", [0, 1])
def test_rule_stops_near_the_best_iteration(n_samples, seed):
    rng = np.random.RandomState(seed)
    inputs, rows, means = noisy_copies(TWO_GAUSSIANS, n_samples, 4, rng)
    fresh, _, truth = noisy_copies(TWO_GAUSSIANS, 300, 2, rng)
    flow, cross = exact_flow(score_ntk, inputs), score_ntk(fresh, inputs)
    rate, noise = resolve_rate(flow.values), np.sqrt(np.mean((rows - means) ** 2))
    stop = rule_iteration(flow.values, len(inputs), rate, noise, 1.0, 100_000)

    def risk(n_iter):
        return np.mean((cross @ flow.coefficients(rows, n_iter, rate) - truth) ** 2)

    best = min(risk(int(k)) for k in np.geomspace(1, 1e5, 40))
    assert risk(stop) < 1.3 * best
    assert risk(stop) < 0.5 * risk(10**6)
    # the noise, which the estimator does not know, is found from the rows
    assert 0.95 * noise < noise_level(flow, rows, 4) < 1.12 * noise


def test_complexity_grows_and_the_rule_is_where_it_passes_one():
    stops = {}
    for n_samples in (30, 120):
        inputs, *_ = noisy_copies(TWO_GAUSSIANS, n_samples, 4, np.random.RandomState(0))
        values = exact_flow(score_ntk, inputs).values
        rate = resolve_rate(values)
        for noise in (0.2, 0.4):
            rule = (values, len(inputs), rate, noise, 1.0)
            stop = stops[n_samples, noise] = rule_iteration(*rule, 10**6)
            curve = np.array([complexity(k, *rule) for k in range(1, stop + 50)])
            assert (np.diff(curve) > 0).all()
            assert curve[stop - 1] <= 1 < curve[stop]
            assert rule_iteration(*rule, stop - 1) == stop - 1
    assert stops[120, 0.4] > stops[30, 0.4]
    assert stops[120, 0.2] > stops[120, 0.4] and stops[30, 0.2] > stops[30, 0.4]
    assert rule_iteration(*rule[:3], 1e9, 1.0, 100) == 1


def test_complexity_is_its_definition():
    values = np.array([2.0, 0.5, 0.01])
    time = 0.4 * 10
    local = np.sqrt(np.mean(np.minimum(np.r_[values, 0], 1 / time)))
    assert_allclose(complexity(10, values, 4, 0.4, 0.3, 2.0), 2 * 0.3 * time * local)


def test_noise_level_leaves_whole_groups_out():
    U, Y = problem(24)
    U[:, 2] = np.repeat(U[::4, 2], 4)  # whatever the groups share
    flow, errors = exact_flow(score_ntk, U), []
    for ridge in 10.0 ** np.arange(-5, 1):
        residuals = []
        for start in range(0, 24, 4):
            kept = np.r_[:start, start + 4 : 24]
            model = KernelRidge(alpha=ridge * 24, kernel="precomputed")
            model.fit(score_ntk(U[kept]), Y[kept])
            group = slice(start, start + 4)
            residuals.append(Y[group] - model.predict(score_ntk(U[group], U[kept])))
        errors.append(np.mean(np.square(residuals)))
    assert_allclose(noise_level(flow, Y, 4), min(errors) ** 0.5, rtol=1e-7)


def test_rule_that_has_not_stopped_is_said():
    X = problem(60)[0][:, :2]
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        density = EarlyStoppedScoreEstimator(max_iter=3, random_state=0).fit(X)
    assert density.n_iter_ == 3
    assert (np.diff(density.complexity_[:, 1]) > 0).all()


def test_bad_combinations_are_named():
    X = problem(20)[0]
    for params, message in [({"t_min": 5.0}, "t_min"), ({"width": 5}, "width")]:
        with pytest.raises(ValueError, match=message):
            EarlyStoppedScoreEstimator(**params).fit(X)
    density = EarlyStoppedScoreEstimator(random_state=0).fit(X)
    for t in (0.001, 9.0, "now"):
        with pytest.raises(ValueError, match="t must be"):
            density.score_function(X, t)


# Claims.


def moons(seed, n_samples=200):
    X, _ = make_moons(n_samples + 500, noise=0.1, random_state=seed)
    X = (X - X[:n_samples].mean(axis=0)) / X[:n_samples].std(axis=0)
    return X[:n_samples], X[n_samples:]


@pytest.mark.parametrize("seed", [0, 1])
def test_training_on_draws_samples_to_the_training_rows_and_the_rule_does_not(seed):
    X, fresh = moons(seed)
    stopped = EarlyStoppedScoreEstimator(random_state=5).fit(X)
    endless = EarlyStoppedScoreEstimator(stopping=None, max_iter=10**6, random_state=5).fit(X)

    def distance(rows):
        return np.median(cdist(rows, X).min(axis=1))

    assert distance(endless.sample(500)) < 0.9 * distance(fresh) < distance(fresh)
    assert distance(stopped.sample(500)) > distance(fresh)
    assert stopped.score(fresh) > endless.score(fresh)
    rows = fresh[:100]
    assert stopped.score_samples(rows).mean() > endless.score_samples(rows).mean() + 1


def test_rule_does_as_well_as_held_out_rows():
    X, fresh = moons(0)
    by_rule, by_rows = (
        EarlyStoppedScoreEstimator(stopping=kind, random_state=0).fit(X).score(fresh)
        for kind in ("rule", "validation")
    )
    assert by_rule > by_rows - 0.05


def test_stein_test_takes_the_density_and_refutes_it_elsewhere():
    X = np.random.RandomState(0).normal(size=(400, 2))
    density = EarlyStoppedScoreEstimator(t_min=0.1, random_state=0).fit(X[:300])
    test = KSDTest(FrozenEstimator(density), random_state=0)
    assert test.fit(X[300:]).pvalue_ > 0.05
    assert test.fit(X[300:] * [1, 0.2]).pvalue_ < 0.05
