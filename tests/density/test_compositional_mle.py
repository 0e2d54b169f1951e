"""Tests of maximum likelihood for unnormalised models by compositional optimisation."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.datasets import load_digits, make_moons
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skpapers.datasets import GaussianMixtureDensity
from skpapers.density import CompositionalEnergyDensity
from skpapers.density._partition_solvers import (
    EllipticalMixture,
    EnergyModel,
    PartitionSolver,
    variance_reduced,
)
from skpapers.hypothesis_testing import KSDTest


class Location(nn.Module):
    """Energy (x - w)^2 / 2, whose partition function does not depend on w."""

    def __init__(self, shift=0.0):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.shift = shift

    def forward(self, x):
        return 0.5 * (x[:, 0] - self.w) ** 2 + self.shift


def gaussian_noise(scale=1.0, mean=0.0):
    one = torch.ones(1, dtype=torch.float64)
    return EllipticalMixture(one[None] * mean, one[None, None] * scale, one)


def descend(solver, x, noise, *, n_steps, n_noise, until=None, seed=0):
    """Path of w under stochastic gradient steps, until it comes within 0.1 of a value."""
    generator = torch.Generator().manual_seed(seed)
    model = EnergyModel(Location())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    solver, path = PartitionSolver(solver), []
    for _ in range(n_steps):
        rows = x[torch.randint(len(x), (64,), generator=generator)]
        optimizer.zero_grad()
        solver.loss(model, rows, noise.sample(n_noise, generator), noise, 0.1).backward()
        optimizer.step()
        path.append(model.energy.w.item())
        if until is not None and abs(path[-1] - until) < 0.1:
            break
    return np.array(path)


def rows_at(mean, seed=0, n_samples=2000):
    rng = np.random.RandomState(seed)
    x = rng.normal(size=(n_samples, 1))
    return torch.tensor(x - x.mean() + mean)


def test_noise_has_the_densities_of_scipy_and_its_draws_follow_them():
    generator = torch.Generator().manual_seed(0)
    x = np.random.RandomState(0).normal(size=(5, 2))
    mean, cov = np.array([1.0, -1.0]), np.array([[2.0, 0.5], [0.5, 1.0]])
    factor = torch.linalg.cholesky(torch.tensor(cov))[None]
    one = torch.ones(1, dtype=torch.float64)
    for df, expected in (
        (None, stats.multivariate_normal(mean, cov)),
        (5, stats.multivariate_t(mean, cov, df=5)),
    ):
        noise = EllipticalMixture(torch.tensor(mean)[None], factor, one, df)
        assert_allclose(noise.log_density(torch.tensor(x)), expected.logpdf(x))
        drawn = noise.sample(20_000, generator)[:, 0].numpy()
        law = stats.norm(1, math.sqrt(2)) if df is None else stats.t(5, 1, math.sqrt(2))
        assert stats.kstest(drawn, law.cdf).pvalue > 0.01
    two = GaussianMixtureDensity([[0.0, 0.0], [3.0, 1.0]], 0.25, [0.3, 0.7])
    mixture = EllipticalMixture(
        torch.tensor(two.means), 0.5 * torch.eye(2, dtype=torch.float64)[None],
        torch.tensor(two.weights),
    )  # fmt: skip
    assert_allclose(mixture.log_density(torch.tensor(x)), two.score_samples(x))
    assert_allclose(mixture.sample(20_000, generator).mean(0), [2.1, 0.7], atol=0.05)


def test_gradient_with_the_exact_average_is_that_of_the_likelihood():
    """On a fixed set of draws, u their mean: autograd of mean E + log mean r."""
    generator = torch.Generator().manual_seed(0)
    noise, x = gaussian_noise(2.0), rows_at(1.0)
    z = noise.sample(100, generator)
    model = EnergyModel(Location())
    solver = PartitionSolver("meco")  # the first average is the mean of the first draws
    loss = solver.loss(model, x, z, noise, 0.1)
    (ours,) = torch.autograd.grad(loss, model.energy.w)
    log_ratios = -model(z) - noise.log_density(z)
    exact = model(x).mean() + torch.logsumexp(log_ratios, 0) - math.log(100)
    (expected,) = torch.autograd.grad(exact, model.energy.w)
    assert_allclose(ours, expected, atol=1e-10)
    assert_allclose(loss.item(), exact.item(), atol=1e-10)


def test_moving_averages_follow_their_recursions():
    generator = torch.Generator().manual_seed(0)
    noise, x = gaussian_noise(2.0), rows_at(1.0)
    model, solver, u = EnergyModel(Location()), PartitionSolver("meco"), None
    for _ in range(4):
        z = noise.sample(8, generator)
        g = torch.exp(-model(z) - noise.log_density(z)).mean().item()
        u = g if u is None else 0.7 * u + 0.3 * g
        solver.loss(model, x, z, noise, 0.3)
        assert_allclose(solver.log_average.item(), math.log(u))
    u, now, then = 2.0, 1.5, 1.2
    logs = [torch.tensor(math.log(v)) for v in (u, now, then)]
    expected = 0.9 * (u + now - then) + 0.1 * now
    assert_allclose(variance_reduced(*logs, 0.1).item(), math.log(expected), rtol=1e-6)


@pytest.mark.parametrize("kind", ["meco", "meco_vr", "mle_is"])
def test_constants_in_the_energy_change_nothing_but_log_partition(kind):
    x, noise = rows_at(1.0), gaussian_noise(2.0)
    paths = []
    for shift in (0.0, 1000.0):
        generator = torch.Generator().manual_seed(0)
        model, solver = EnergyModel(Location(shift)), PartitionSolver(kind)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(20):
            optimizer.zero_grad()
            solver.loss(model, x, noise.sample(16, generator), noise, 0.2).backward()
            optimizer.step()
        paths.append((model.energy.w.item(), solver.log_average.item() + shift))
    assert_allclose(paths[0], paths[1], rtol=1e-9)


def test_small_noise_batches_bias_the_plain_estimate_not_the_moving_average():
    x, noise = rows_at(1.0), gaussian_noise(2.0)
    errors = {}
    for kind in ("meco", "mle_is"):
        ends = [
            descend(kind, x, noise, n_steps=1000, n_noise=4, seed=seed)[500:].mean()
            for seed in range(4)
        ]
        errors[kind] = abs(np.mean(ends) - 1)
    assert errors["mle_is"] >= 5 * errors["meco"]


@pytest.mark.parametrize(("distance", "factor", "limit"), [(2, 3, 400), (4, 10, 800)])
def test_far_noise_slows_noise_contrastive_estimation_not_the_moving_average(
    distance, factor, limit
):
    x, noise = rows_at(float(distance)), gaussian_noise()
    n_steps = {
        kind: [
            len(descend(kind, x, noise, n_steps=limit, n_noise=64, until=distance, seed=seed))
            for seed in range(5 if distance == 2 else 2)
        ]
        for kind in ("meco", "nce")
    }
    assert np.mean(n_steps["nce"]) >= factor * np.mean(n_steps["meco"])


@pytest.mark.parametrize("distance", [2.0, 4.0, 6.0])
def test_noise_fitted_to_the_data_lets_it_settle(distance):
    x = rows_at(distance)
    noise = gaussian_noise(math.sqrt(1.2), distance)
    path = descend("meco", x, noise, n_steps=600, n_noise=64)
    assert abs(path[300:].mean() - distance) < 0.05


@pytest.mark.parametrize("solver", ["meco", "meco_vr", "nce", "mle_is"])
def test_quadratic_energy_is_the_gaussian_of_mean_and_covariance(solver):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(1000, 2)) @ np.array([[2.0, 0.5], [0.0, 1.0]]) + [3.0, -1.0]
    density = CompositionalEnergyDensity(
        "quadratic", noise="gaussian", solver=solver, early_stopping=False,
        random_state=0,
    ).fit(X)  # fmt: skip
    module = density.module_.energy
    root = module.root.detach().numpy() / density.scale_
    covariance = np.linalg.inv(root.T @ root)
    mean = module.location.detach().numpy() * density.scale_ + density.mean_
    assert (np.abs(mean - X.mean(axis=0)) < 0.02 * X.std(axis=0)).all()
    expected = np.cov(X.T, bias=True)
    assert np.abs(covariance - expected).max() < 0.03 * np.abs(expected).max()
    truth = stats.multivariate_normal(mean, covariance).logpdf(X)
    assert_allclose(density.score_samples(X), truth, atol=0.02)  # log Z is an estimate
    score = -(X - mean) @ np.linalg.inv(covariance)
    assert_allclose(density.score_function(X), score, atol=1e-5)


@pytest.mark.parametrize("noise", ["student", "gaussian", "gmm", "kde", "object"])
def test_every_noise_gives_a_normalised_density(noise):
    X = np.random.RandomState(0).normal(size=(300, 1)) * 3 + 1
    law = GaussianMixtureDensity([[1.0]], 12.0) if noise == "object" else noise
    density = CompositionalEnergyDensity(
        noise=law, hidden_layer_sizes=(16,), max_epochs=150, n_partition=20_000, random_state=0
    ).fit(X)
    grid = np.linspace(-30, 32, 4001)[:, None]
    total = np.exp(density.score_samples(grid)).sum() * 62 / 4000
    assert abs(total - 1) < 0.03
    assert density.score(X) > stats.norm(1, 3).logpdf(X).mean() - 0.1


def test_samples_follow_the_density_and_the_stein_test_accepts_it():
    X = np.random.RandomState(0).normal(size=(1000, 1)) * 3 + 1
    density = CompositionalEnergyDensity("quadratic", random_state=0).fit(X)
    drawn = density.sample(3000)
    assert stats.kstest(drawn[:, 0], stats.norm(X.mean(), X.std()).cdf).pvalue > 0.01
    fresh = np.random.RandomState(1).normal(size=(200, 1)) * 3 + 1
    truth = KSDTest(lambda x: (1 - x) / 9, random_state=0).fit(fresh).statistic_
    test = KSDTest(FrozenEstimator(density), random_state=0).fit(fresh)
    assert abs(test.statistic_ - truth) < 0.02
    assert KSDTest(FrozenEstimator(density), random_state=0).fit(fresh + 2).reject_


def test_partial_fit_continues():
    X = np.random.RandomState(0).normal(size=(400, 1)) + 5
    density = CompositionalEnergyDensity("quadratic", lr=0.05, random_state=0)
    for _ in range(20):
        density.partial_fit(X)
    assert len(density.log_u_history_) == 19
    assert abs(density.score(X) - stats.norm(X.mean(), X.std()).logpdf(X).mean()) < 0.05


def eight_gaussians(n_samples, seed):
    rng = np.random.RandomState(seed)
    angles = rng.randint(8, size=n_samples) * np.pi / 4
    centres = 2 * np.column_stack([np.cos(angles), np.sin(angles)])
    return (centres + 0.2 * rng.normal(size=(n_samples, 2))).astype(np.float32)


def two_moons(n_samples, seed):
    return make_moons(n_samples, noise=0.1, random_state=seed)[0].astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("draw", [two_moons, eight_gaussians])
def test_density_is_as_good_as_a_tuned_kernel_density(draw):
    scaler = StandardScaler()
    X, test = scaler.fit_transform(draw(2000, 0)), scaler.transform(draw(4000, 1))
    ours = CompositionalEnergyDensity(random_state=0).fit(X)
    gaussian = GaussianMixture(1).fit(X).score(test)
    widths = (0.05, 0.07, 0.1, 0.14, 0.2)
    kernel = max(KernelDensity(bandwidth=h).fit(X).score(test) / len(test) for h in widths)
    assert ours.score(test) >= gaussian + 0.5
    assert ours.score(test) >= kernel - 0.15
    axis = np.linspace(-4, 4, 201, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    assert abs(np.exp(ours.score_samples(grid)).sum() * 0.04**2 - 1) < 0.03


@pytest.mark.slow
def test_unseen_digits_have_low_density():
    X, y = load_digits(return_X_y=True)
    areas, gaussian_areas = [], []
    for unseen in (0, 1, 8):
        known = X[y != unseen]
        rng = np.random.RandomState(0)
        held_out = rng.uniform(size=len(known)) < 0.3
        scale = make_pipeline(PCA(16, random_state=0), StandardScaler()).fit(known[~held_out])
        train, fresh, other = (
            scale.transform(Z).astype(np.float32)
            for Z in (known[~held_out], known[held_out], X[y == unseen])
        )
        density = CompositionalEnergyDensity(random_state=0)
        with pytest.warns(UserWarning, match="effective sample size"):
            density.fit(train)
        rows = np.concatenate([fresh, other])
        known_row = np.arange(len(rows)) < len(fresh)
        areas.append(roc_auc_score(known_row, density.score_samples(rows)))
        gaussian = GaussianMixture(1, random_state=0).fit(train)
        gaussian_areas.append(roc_auc_score(known_row, gaussian.score_samples(rows)))
    assert np.mean(areas) >= 0.80
    assert np.mean(areas) >= np.mean(gaussian_areas) + 0.15
