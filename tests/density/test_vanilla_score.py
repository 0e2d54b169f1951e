"""Tests of score matching with chains that start at the data."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.neighbors import KernelDensity, NearestNeighbors

from skpapers.datasets import GaussianMixtureDensity
from skpapers.density import ScoreMatchingSampler, data_initialized_langevin
from skpapers.density._fourier_potential import FourierPotential, solve_implicit_score_matching
from skpapers.neural_network import build_module, field_divergence, input_gradient
from skpapers.processes import energy_distance, implicit_score_loss

FAR_MODES = [[-6.0, 0.0], [6.0, 0.0]]
CENTRES = np.zeros((3, 5))
CENTRES[1, 0] = CENTRES[2, 1] = 10
THREE_CLUSTERS = GaussianMixtureDensity(CENTRES, 1.0, [0.2, 0.3, 0.5])


def shares(X):
    nearest = ((X[:, None] - CENTRES) ** 2).sum(axis=2).argmin(axis=1)
    return np.bincount(nearest, minlength=3) / len(X)


def within_variances(X):
    nearest = ((X[:, None] - CENTRES) ** 2).sum(axis=2).argmin(axis=1)
    return np.array([X[nearest == k].var(axis=0).mean() for k in range(3)])


def test_linear_scores_recover_mean_and_inverse_covariance():
    """For s = -P(x - m) the minimiser is the mean and the inverse covariance of the rows."""
    rng = np.random.RandomState(0)
    X = torch.tensor(rng.normal(size=(200, 3)) @ rng.normal(size=(3, 3)) + 1)
    linear = torch.nn.Linear(3, 3, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(
        linear.parameters(), max_iter=500, tolerance_grad=1e-10, tolerance_change=0
    )

    def closure():
        optimizer.zero_grad()
        loss = implicit_score_loss(linear, X).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    precision = np.linalg.inv(np.cov(X.T.numpy(), bias=True))
    assert_allclose(linear.weight.detach(), -precision, atol=1e-4)
    assert_allclose(linear.bias.detach(), precision @ X.mean(0).numpy(), atol=1e-4)


def test_divergence_by_finite_differences_and_by_random_signs():
    sampler = ScoreMatchingSampler(
        hidden_layer_sizes=(8,), max_epochs=3, dtype="float64", random_state=0
    )
    X = np.random.RandomState(0).normal(size=(40, 3))
    module = sampler.fit(X).module_
    x = torch.tensor(X[:4])

    def field(z):
        return -input_gradient(module, z, create_graph=True)[1]

    exact = module.score_and_divergence(x)[1].detach()
    step = 1e-5
    differences = sum(
        (field(x + step * e)[:, j] - field(x - step * e)[:, j]).detach() / (2 * step)
        for j, e in enumerate(torch.eye(3, dtype=x.dtype))
    )
    assert_allclose(exact, differences, atol=1e-4)
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(2, (10_000, 4, 3), generator=generator, dtype=x.dtype) * 2 - 1
    probes = x.repeat(1000, 1)
    draws = torch.cat(
        [field_divergence(field, probes, s.reshape(1, -1, 3))[1].reshape(-1, 4) for s in
         signs.split(1000)]
    )  # fmt: skip
    error = draws.std(0) / 100
    assert ((draws.mean(0) - exact).abs() < 3 * error + 1e-9).all()


def test_kernel_model_is_the_minimiser_of_its_objective():
    generator = torch.Generator().manual_seed(0)
    potential = build_module(lambda: FourierPotential(2, 20), generator, torch.float64)
    x = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        solve_implicit_score_matching(potential, x, 0.1)

    def objective():
        field = lambda z: -input_gradient(potential, z, create_graph=True)[1]  # noqa: E731
        loss = implicit_score_loss(field, x).mean()
        return loss + 0.05 * potential.weight.square().sum()

    (gradient,) = torch.autograd.grad(objective(), potential.weight)
    assert gradient.abs().max() < 1e-10


def test_score_does_not_see_the_proportions_of_far_modes():
    X = GaussianMixtureDensity(FAR_MODES, 1.0, [0.3, 0.7]).sample(1000, 0)
    scores = [
        GaussianMixtureDensity(FAR_MODES, 1.0, w).score_function(X) for w in ([3, 7], [1, 1])
    ]
    assert np.sqrt(np.mean((scores[0] - scores[1]) ** 2)) < 1e-6


def test_data_initialisation_has_the_right_proportions_where_a_gaussian_start_has_not():
    """With the exact score of the wrong proportions."""
    X = GaussianMixtureDensity(FAR_MODES, 1.0, [0.3, 0.7]).sample(1000, 0)
    wrong = GaussianMixtureDensity(FAR_MODES, 1.0)
    options = {"step_size": 0.01, "n_steps": 500, "random_state": 0}
    from_data = data_initialized_langevin(wrong.score_function, X, 2000, **options)
    normal = np.random.RandomState(0).normal(size=(2000, 2))
    from_normal = data_initialized_langevin(wrong.score_function, normal, 2000, **options)
    share = (X[:, 0] > 0).mean()
    assert abs((from_data[:, 0] > 0).mean() - share) < 0.04
    assert abs((from_normal[:, 0] > 0).mean() - share) > 0.12
    assert_allclose(from_data[from_data[:, 0] > 0].var(axis=0), 1, atol=0.1)


def check_samples(seed):
    X, fresh = THREE_CLUSTERS.sample(1500, seed), THREE_CLUSTERS.sample(1500, seed + 100)
    sampler = ScoreMatchingSampler(random_state=seed).fit(X.astype(np.float32))
    new = sampler.sample(1500)
    assert energy_distance(new, fresh) < 0.06
    assert np.abs(shares(new) - shares(X)).max() < 0.05
    assert (within_variances(new) > 0.85).all()
    assert (within_variances(new) < 1.25).all()
    neighbors = NearestNeighbors(n_neighbors=2).fit(X)
    own = np.median(neighbors.kneighbors(X)[0][:, 1])
    assert np.median(neighbors.kneighbors(new, n_neighbors=1)[0]) > 0.7 * own
    return X, sampler


def test_learned_sampler_draws_new_rows_in_the_right_proportions():
    check_samples(0)


@pytest.mark.slow
def test_long_chains_lose_the_proportions_and_short_ones_beat_kernel_density():
    errors, distances = [], []
    for seed in range(3):
        X, sampler = check_samples(seed)
        lengths = (sampler.n_steps_, 20 * sampler.n_steps_)
        drawn = [sampler.sample(n, n_steps=k) for n, k in zip((6000, 1500), lengths)]
        errors.append([np.abs(shares(Z) - shares(X)).max() for Z in drawn])
        kernel = KernelDensity(bandwidth="scott").fit(X).sample(6000, random_state=0)
        fresh = THREE_CLUSTERS.sample(6000, seed + 200)
        distances.append([energy_distance(Z, fresh) for Z in (drawn[0], kernel)])
    short, long = np.mean(errors, axis=0)
    assert long >= 2 * short
    ours, peer = np.mean(distances, axis=0)
    assert ours < peer


def test_chains_without_steps_are_training_rows():
    X = np.random.RandomState(0).normal(size=(30, 2))
    labels = np.repeat(["a", "b", "c"], 10)
    sampler = ScoreMatchingSampler("kernel", random_state=0).fit(X, labels)
    rows = sampler.sample(50, n_steps=0)
    assert all((row == X).all(axis=1).any() for row in rows)
    assert all((r == X[10:20]).all(axis=1).any() for r in sampler.sample(50, y="b", n_steps=0))
    assert_array_equal(sampler.sample(3, init=X[:1], n_steps=0), X[[0, 0, 0]])
    with pytest.raises(ValueError, match="label"):
        sampler.sample(3, y="d")


def test_seeds_decide_the_samples():
    X = np.random.RandomState(0).normal(size=(60, 2))
    sampler = ScoreMatchingSampler("kernel", random_state=0).fit(X)
    assert_array_equal(sampler.sample(5), sampler.sample(5))
    assert (sampler.sample(5, random_state=1) != sampler.sample(5)).any()


@pytest.mark.parametrize("model", ["energy", "vector", "kernel", "linear"])
@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_every_model_learns_a_gaussian(model, divergence):
    X = np.random.RandomState(0).normal(size=(400, 2)) * [1.0, 5.0] + [3.0, 0.0]
    network = (lambda d: torch.nn.Linear(d, d)) if model == "linear" else model
    sampler = ScoreMatchingSampler(
        network, hidden_layer_sizes=(16,), divergence=divergence, random_state=0
    ).fit(X)
    truth = -(X - [3.0, 0.0]) / [1.0, 25.0]
    error = np.mean((sampler.score_function(X) - truth) ** 2, axis=0) / (truth**2).mean(axis=0)
    assert error.max() < 0.3
    assert -1.1 < -sampler.score(X) < -0.7  # -d / 2 for the true score


def test_metropolis_steps_keep_the_modelled_gaussian():
    X = np.random.RandomState(0).normal(size=(500, 1))
    sampler = ScoreMatchingSampler(
        hidden_layer_sizes=(16,), metropolis=True, step_size=0.5, n_steps=50, random_state=0
    )
    sampler.fit(X)
    new, grid = sampler.sample(4000)[:, 0], np.linspace(-6, 6, 2001)
    weights = np.exp(-sampler.energy(grid[:, None]))
    expected = np.sqrt(weights @ grid**2 / weights.sum() - (weights @ grid / weights.sum()) ** 2)
    assert_allclose(new.std(), expected, rtol=0.05)
    with pytest.raises(ValueError, match="metropolis"):
        ScoreMatchingSampler("vector", metropolis=True).fit(X)


def test_energy_exists_only_where_the_model_has_one():
    assert hasattr(ScoreMatchingSampler("kernel"), "energy")
    assert not hasattr(ScoreMatchingSampler("vector"), "energy")


def test_constant_columns_stay_constant():
    X = np.column_stack([np.random.RandomState(0).normal(size=50), np.full(50, 7.0)])
    new = ScoreMatchingSampler(hidden_layer_sizes=(8,), random_state=0).fit(X).sample(20)
    assert np.isfinite(new).all()
    assert abs(new[:, 1].mean() - 7) < 1
