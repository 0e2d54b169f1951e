"""Tests of the auto-encoder that learns a score."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial import cKDTree
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score

from skpapers.datasets import GaussianMixtureDensity
from skpapers.density import ScoreAutoencoder
from skpapers.density._autoencoder_network import contractive_loss, row_jacobians
from skpapers.density._regularized_autoencoder import curl
from skpapers.hypothesis_testing import KSDTest
from skpapers.processes import denoising_score_loss, line_integral, random_walk_metropolis

ANGLES = np.linspace(3, 12, 4000)
CURVE = np.column_stack([ANGLES * np.cos(ANGLES), ANGLES * np.sin(ANGLES)]) / 10
TREE = cKDTree(CURVE)
SIGMA = 0.1


def spiral(n_samples, seed):
    rng = np.random.RandomState(seed)
    t = rng.uniform(3, 12, n_samples)
    X = np.column_stack([t * np.cos(t), t * np.sin(t)]) / 10
    return (X + 0.05 * rng.normal(size=X.shape)).astype(np.float32), t


def correlated(n_samples, seed=0):
    rng = np.random.RandomState(seed)
    return rng.normal(size=(n_samples, 3)) @ rng.normal(size=(3, 3)) + [1.0, -2.0, 5.0]


# Exact oracles.


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("criterion", ["dae", "rcae"])
def test_linear_reconstruction_is_the_posterior_mean_of_a_gaussian(criterion, residual):
    """r(x) = m + S (S + sigma^2)^-1 (x - m), for both criteria, in standardised columns."""
    X, sigma = correlated(300), 0.4
    model = ScoreAutoencoder(
        sigma, criterion=criterion, hidden_layer_sizes=(), residual=residual, dtype="float64"
    )
    model.set_params(max_epochs=1, random_state=0).fit(X)
    x = torch.from_numpy((X - X.mean(axis=0)) / X.std(axis=0))
    # noise of mean zero and unit covariance: the expectation over it is exact for linear maps
    noise = np.sqrt(3) * torch.cat([torch.eye(3), -torch.eye(3)]).double()
    noise = noise.repeat_interleave(len(x), dim=0)
    module, repeated = model.module_, x.repeat(6, 1)
    optimizer = torch.optim.LBFGS(
        module.parameters(), max_iter=500, tolerance_grad=1e-10, tolerance_change=0
    )

    def closure():
        optimizer.zero_grad()
        losses = (
            denoising_score_loss(module.score, repeated, sigma, noise)
            if criterion == "dae"
            else contractive_loss(module.score, x, sigma)
        )
        losses.mean().backward()
        return losses.mean()

    optimizer.step(closure)
    S = np.corrcoef(X.T)
    z = x.numpy()
    expected = z @ np.linalg.inv(S + sigma**2 * np.eye(3)) @ S
    assert_allclose(model.reconstruct(X), expected * X.std(axis=0) + X.mean(axis=0), atol=1e-4)
    precision = np.linalg.inv(S + sigma**2 * np.eye(3))
    assert_allclose(model.score_function(X), -(z @ precision) / X.std(axis=0), atol=1e-4)


@pytest.mark.parametrize("criterion", ["dae", "rcae"])
def test_training_finds_the_linear_optimum(criterion):
    X = correlated(1000).astype(np.float32)
    model = ScoreAutoencoder(0.5, criterion=criterion, hidden_layer_sizes=(), random_state=0)
    score = model.set_params(max_epochs=60, lr=0.01).fit(X).score_function(X)
    noise = 0.25 * np.diag(X.var(axis=0))
    expected = -(X - X.mean(axis=0)) @ np.linalg.inv(np.cov(X.T, bias=True) + noise)
    relative = np.mean((score - expected) ** 2, axis=0) / np.mean(expected**2, axis=0)
    assert relative.max() < 0.01


def quadrature(loss_of_score, reconstruction, sigma):
    """Expected losses in units of the data: x and noise are standard normal, one column."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = torch.tensor(weights / weights.sum())
    nodes = torch.tensor(nodes)[:, None]
    x, noise = nodes.repeat_interleave(60, 0), nodes.repeat(60, 1)
    losses = loss_of_score(lambda x: (reconstruction(x) - x) / sigma**2, x, sigma, noise)
    return sigma**2 * float(losses.detach() @ (weights[:, None] * weights).flatten())


def gap(reconstruction, sigma):
    contractive = quadrature(
        lambda score, x, sigma, _: contractive_loss(score, x, sigma), reconstruction, sigma
    )
    return quadrature(denoising_score_loss, reconstruction, sigma) - contractive


def test_both_criteria_agree_to_sixth_order_near_the_optimum():
    gaps = [abs(gap(lambda x, s=s: x + s**2 * torch.sin(x), s)) for s in (0.4, 0.2, 0.1)]
    assert gaps[0] > 30 * gaps[1] > 900 * gaps[2] > 0


def test_both_criteria_differ_at_second_order_for_a_fixed_reconstruction():
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    laplacian = -2 * np.tanh(nodes) / np.cosh(nodes) ** 2
    expected = weights @ ((np.tanh(nodes) - nodes) * laplacian) / weights.sum()
    assert expected > 0.05
    assert_allclose(gap(torch.tanh, 0.05) / 0.05**2, expected, rtol=0.03)


def test_random_directions_estimate_the_norm_of_the_jacobian():
    X = np.random.RandomState(0).normal(size=(40, 4))
    model = ScoreAutoencoder(hidden_layer_sizes=(8,), max_epochs=2, random_state=0).fit(X)
    x = torch.from_numpy(X[:3])
    exact = contractive_loss(model.module_.score, x, 0.5).detach()
    probes = torch.randn(6000, 4, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    draws = contractive_loss(model.module_.score, x.repeat(2000, 1), 0.5, probes).detach()
    draws = draws.reshape(2000, 3)
    assert ((draws.mean(0) - exact).abs() < 4 * draws.std(0) / 2000**0.5).all()


def test_jacobians_are_those_of_autograd():
    X = np.random.RandomState(0).normal(size=(30, 3))
    module = ScoreAutoencoder(hidden_layer_sizes=(8,), max_epochs=2).fit(X).module_
    x = torch.from_numpy(X[:4])
    expected = torch.stack([torch.autograd.functional.jacobian(module.score, row) for row in x])
    with torch.inference_mode():
        assert_allclose(row_jacobians(module.score, x)[1].detach(), expected, atol=1e-12)
    assert curl(expected + expected.transpose(1, 2)) == 0
    assert_allclose(curl(torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]])), 2)


def test_line_integral_of_a_gaussian_score_is_exact_and_antisymmetric():
    precision = np.array([[2.0, 0.5], [0.5, 1.0]])
    start, end = np.random.RandomState(0).normal(size=(2, 5, 2))

    def log_density(x):
        return -0.5 * ((x @ precision) * x).sum(axis=1)

    forward = line_integral(lambda x: -x @ precision, start, end, n_nodes=2)
    backward = line_integral(lambda x: -x @ precision, end, start, n_nodes=2)
    assert_allclose(forward, log_density(end) - log_density(start), atol=1e-10)
    assert_allclose(forward, -backward, atol=1e-12)


@pytest.mark.parametrize("residual", [True, False])
def test_tied_weights_give_sums_that_do_not_depend_on_the_path(residual):
    X = spiral(400, 0)[0].astype(np.float64)
    model = ScoreAutoencoder(
        0.3, hidden_layer_sizes=(32,), tied=True, residual=residual, n_path=60, random_state=0
    )
    model.set_params(max_epochs=20).fit(X)
    assert model.curl_ < 1e-6
    a, b, c = X[:50], X[50:100], X[100:150]
    difference = model.log_density_difference
    around = difference(b, a) + difference(c, b) + difference(a, c)
    size = np.abs(difference(b, a)).max()
    assert np.abs(around).max() < 1e-8 * size
    assert_allclose(model.score_samples(b) - model.score_samples(a), difference(b, a), rtol=1e-6)
    loose = model.set_params(tied=False, max_epochs=5).fit(X)
    assert loose.curl_ > 1e-4


def test_metropolis_chains_with_an_exact_score_sample_the_gaussian():
    """N(0, diag(1, 4)): moments within 5 %."""
    variances = torch.tensor([1.0, 4.0]).double()

    def log_ratio(start, end):
        return line_integral(lambda x: -x / variances, start, end, n_nodes=4)

    start = torch.zeros(20_000, 2, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x, rate = random_walk_metropolis(log_ratio, start, scale=1.7, n_steps=80, generator=generator)
    assert_allclose(x.var(0), variances, rtol=0.05)
    assert x.mean(0).abs().max() < 0.05
    assert 0.3 < rate < 0.7


# What is learned.


def test_learned_score_is_that_of_the_noisy_mixture():
    """The identity holds for any sigma: relative error below 15 % over the bulk."""
    truth = GaussianMixtureDensity([[-1.25], [1.25]], 0.25)
    X = truth.sample(20_000, 0).astype(np.float32)
    model = ScoreAutoencoder(0.3, max_epochs=12, batch_size=256, random_state=0).fit(X)
    grid = np.linspace(-2.2, 2.2, 200)[:, None]
    exact = truth.score_function(grid, sigma=0.3 * X.std())
    error = model.score_function(grid.astype(np.float32)) - exact
    assert np.sqrt(np.mean(error**2)) < 0.15 * np.sqrt(np.mean(exact**2))


def far_from_the_spiral(n_points, seed):
    points = np.random.RandomState(seed).uniform(-1.3, 1.3, size=(6 * n_points, 2))
    return points[TREE.query(points)[0] > 0.15][:n_points].astype(np.float32)


def aurocs(model, seed):
    """Of the energy, and of the reconstruction error as if it were one."""
    data, far = spiral(1000, seed + 100)[0], far_from_the_spiral(1000, seed + 50)
    points, labels = np.concatenate([data, far]), np.repeat([1, 0], [1000, len(far)])
    errors = ((model.reconstruct(points) - points) ** 2).sum(axis=1)
    return roc_auc_score(labels, model.score_samples(points)), roc_auc_score(labels, -errors)


def distance_and_evenness(samples):
    distances, nearest = TREE.query(samples)
    counts = np.histogram(ANGLES[nearest], 9, (3, 12))[0]
    return distances.mean(), counts.min() / counts.max()


def angle_to_the_tangent(model, seed):
    X, t = spiral(500, seed + 7)
    true = np.column_stack([np.cos(t) - t * np.sin(t), np.sin(t) + t * np.cos(t)])
    true /= np.linalg.norm(true, axis=1)[:, None]
    cosine = np.abs((true * model.local_tangent(X)[:, 0]).sum(axis=1))
    return np.degrees(np.median(np.arccos(np.minimum(cosine, 1))))


def check_spiral(model, seed, n_samples, evenness):
    """Return by how much the energy ranks points better than the error of reconstruction."""
    energy, error = aurocs(model, seed)
    assert energy >= 0.97
    distance, found = distance_and_evenness(model.sample(n_samples))
    assert distance < 0.15
    assert found > evenness
    assert angle_to_the_tangent(model, seed) < 12
    return energy - error


def test_energy_and_tangents_of_a_spiral():
    X = spiral(5000, 0)[0]
    model = ScoreAutoencoder(SIGMA / X.std(), max_epochs=40, random_state=0).fit(X)
    assert check_spiral(model, 0, n_samples=300, evenness=0.2) >= 0.015


@pytest.mark.slow
def test_energy_tangents_and_samples_of_a_spiral_over_seeds():
    gaps = []
    for seed in range(3):
        X = spiral(10_000, seed)[0]
        model = ScoreAutoencoder(
            SIGMA / X.std(), lr=2e-3, max_epochs=100, batch_size=256, random_state=seed
        ).fit(X)
        gaps.append(check_spiral(model, seed, n_samples=1000, evenness=0.3))
    assert min(gaps) > 0
    assert np.mean(gaps) >= 0.015, gaps


def test_stein_test_accepts_the_learned_density_and_no_other():
    mixture = GaussianMixtureDensity([[-1.5, 0.0], [1.5, 1.0]], 0.4)
    X = mixture.sample(3000, 0).astype(np.float32)
    model = ScoreAutoencoder(0.2, max_epochs=40, random_state=0).fit(X)
    fresh = mixture.sample(100, 1).astype(np.float32)
    test = KSDTest(FrozenEstimator(model), random_state=0)
    assert test.fit(fresh).pvalue_ > 0.05
    other = np.random.RandomState(0).normal(X.mean(axis=0), X.std(axis=0), size=(100, 2))
    assert test.fit(other.astype(np.float32)).pvalue_ < 0.02


# The estimator.


def test_codes_are_decoded_without_residual_only():
    X = correlated(100)
    model = ScoreAutoencoder(
        hidden_layer_sizes=(8,), code_size=2, residual=False, max_epochs=3, random_state=0
    ).fit(X)
    codes = model.transform(X)
    assert codes.shape == (100, 2)
    assert_allclose(model.inverse_transform(codes), model.reconstruct(X))
    with pytest.raises(ValueError, match="columns"):
        model.inverse_transform(X)
    assert not hasattr(ScoreAutoencoder(), "inverse_transform")


def test_a_bottleneck_finds_the_principal_plane():
    """Without noise to speak of, a linear code of width 2 is that of PCA."""
    rng = np.random.RandomState(0)
    X = rng.normal(size=(500, 2)) @ rng.normal(size=(2, 5)) + 0.01 * rng.normal(size=(500, 5))
    model = ScoreAutoencoder(
        0.05, hidden_layer_sizes=(), code_size=2, residual=False, lr=0.02, random_state=0
    )
    X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
    rest = X - model.set_params(max_epochs=100).fit(X).reconstruct(X)
    assert (rest**2).mean() < 0.01


def test_score_is_minus_the_denoising_error():
    """For N(0, 1) columns the best is the posterior variance over sigma^2."""
    X = np.random.RandomState(0).normal(size=(4000, 2)).astype(np.float32)
    model = ScoreAutoencoder(
        0.5, hidden_layer_sizes=(), max_epochs=20, random_state=0, batch_size=256
    ).fit(X)
    assert_allclose(model.score(X), -1 / 1.25, rtol=0.03)
    assert model.score(X) == model.score(X)


def test_training_can_go_on():
    X = correlated(300).astype(np.float32)
    model = ScoreAutoencoder(0.4, hidden_layer_sizes=(32,), random_state=0)
    first = model.partial_fit(X).score(X)
    for _ in range(20):
        model.partial_fit(X)
    assert model.n_iter_ == 21
    assert model.score(X) > first
    assert model.sample(3).shape == (3, 3)


def test_sigma_follows_the_rule_of_scott():
    X = np.random.RandomState(0).normal(size=(300, 1))
    params = {"hidden_layer_sizes": (4,), "max_epochs": 1}
    assert_allclose(ScoreAutoencoder(**params).fit(X).sigma_, 300**-0.2)
    assert ScoreAutoencoder(**params).fit(X[:2]).sigma_ == 0.5


def test_proposals_adapt_to_the_acceptance():
    X = correlated(500).astype(np.float32)
    model = ScoreAutoencoder(hidden_layer_sizes=(16,), max_epochs=20, random_state=0).fit(X)
    assert 0.3 < model.acceptance_rate_ < 0.5
    fixed = model.set_params(proposal_scale=0.01).fit(X)
    assert fixed.proposal_scale_ == 0.01
    assert fixed.acceptance_rate_ > 0.9
    assert_array_equal(fixed.sample(5), fixed.sample(5))
    assert (fixed.sample(5, random_state=1) != fixed.sample(5)).any()


@pytest.mark.parametrize("criterion", ["dae", "rcae"])
@pytest.mark.parametrize("jacobian", ["exact", "hutchinson"])
def test_every_criterion_stops_early_on_a_fixed_noise(criterion, jacobian):
    X = correlated(200).astype(np.float32)
    model = ScoreAutoencoder(
        criterion=criterion, jacobian=jacobian, hidden_layer_sizes=(8,), early_stopping=True
    )
    model.set_params(max_epochs=15, random_state=0).fit(X)
    assert_allclose(max(model.validation_scores_), model.validation_scores_[model.best_iter_ - 1])
    assert np.isfinite(model.score_function(X)).all()


def test_contradictory_parameters_are_refused():
    X = correlated(20)
    for params in ({"tied": True}, {"tied": True, "hidden_layer_sizes": (4,), "code_size": 2}):
        with pytest.raises(ValueError, match="tied"):
            ScoreAutoencoder(**params).fit(X)
    model = ScoreAutoencoder(hidden_layer_sizes=(4,), max_epochs=1).fit(X)
    with pytest.raises(ValueError, match="n_components"):
        model.local_tangent(X, 4)


def test_tangents_are_those_of_the_data_units():
    """Rows on a line through columns of different scales."""
    t = np.random.RandomState(0).normal(size=500)
    X = np.column_stack([t, 50 * t]) + np.random.RandomState(1).normal(size=(500, 2)) * [0.1, 5]
    model = ScoreAutoencoder(hidden_layer_sizes=(), max_epochs=30, random_state=0).fit(X)
    both = model.local_tangent(X[:3], 2)
    assert_allclose(both @ both.transpose(0, 2, 1), np.tile(np.eye(2), (3, 1, 1)), atol=1e-12)
    assert_allclose(np.abs(both[:, 0]), np.tile([1 / 50, 1.0], (3, 1)), atol=0.005)
