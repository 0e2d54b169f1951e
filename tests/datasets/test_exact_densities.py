"""The exact densities against scipy, quadrature and enumeration."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import optimize, stats

from skpapers.datasets import (
    CategoricalTableDensity,
    GaussianMixtureDensity,
    LinearSubspaceDensity,
    MarkovSequenceDensity,
)
from skpapers.hypothesis_testing import KSDTest


def random_mixture(seed=0, n_components=3, n_features=2):
    rng = np.random.RandomState(seed)
    roots = rng.normal(size=(n_components, n_features, n_features))
    covariances = roots @ roots.transpose(0, 2, 1) + 0.2 * np.eye(n_features)
    weights = rng.dirichlet(np.ones(n_components))
    return 2 * rng.normal(size=(n_components, n_features)), covariances, weights


LEVELS = pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.0), (0.7, 0.5), (0.0, 1.0)])


@LEVELS
def test_log_density_is_that_of_the_noisy_components(alpha, sigma):
    means, covariances, weights = random_mixture()
    X = np.random.RandomState(1).normal(size=(6, 2))
    density = GaussianMixtureDensity(means, covariances, weights)
    noisy = alpha**2 * covariances + sigma**2 * np.eye(2)
    parts = [
        w * stats.multivariate_normal(alpha * m, c).pdf(X)
        for w, m, c in zip(weights, means, noisy)
    ]
    assert_allclose(density.score_samples(X, alpha=alpha, sigma=sigma), np.log(sum(parts)))


@LEVELS
def test_score_is_the_gradient(alpha, sigma):
    density = GaussianMixtureDensity(*random_mixture())
    for x in np.random.RandomState(1).normal(size=(4, 2)):

        def height(point):
            return density.score_samples(point[None], alpha=alpha, sigma=sigma)[0]

        score = density.score_function(x[None], alpha=alpha, sigma=sigma)[0]
        assert_allclose(score, optimize.approx_fprime(x, height, 1e-7), atol=1e-5)


def test_denoiser_is_the_posterior_mean():
    """By Tweedie's formula, and by quadrature in one dimension."""
    density = GaussianMixtureDensity(*random_mixture())
    X = np.random.RandomState(1).normal(size=(5, 2))
    tweedie = (X + 0.25 * density.score_function(X, alpha=0.7, sigma=0.5)) / 0.7
    assert_allclose(density.denoise(X, alpha=0.7, sigma=0.5), tweedie)
    line = GaussianMixtureDensity([[-1.0], [2.0]], [0.3, 0.5], [0.4, 0.6])
    grid = np.linspace(-12, 12, 20001)
    joint = np.exp(line.score_samples(grid[:, None])) * stats.norm(0.9 * grid, 0.4).pdf(0.8)
    expected = (grid * joint).sum() / joint.sum()
    assert_allclose(line.denoise([[0.8]], alpha=0.9, sigma=0.4), [[expected]], rtol=1e-6)


def test_forms_of_covariances_agree():
    means = [[0.0, 1.0], [2.0, 3.0]]
    X = np.random.RandomState(0).normal(size=(4, 2))
    forms = [0.5, [0.5, 0.5], np.full((2, 2), 0.5), np.stack([np.eye(2) / 2] * 2)]
    first, *others = [GaussianMixtureDensity(means, c).score_samples(X) for c in forms]
    for other in others:
        assert_allclose(other, first)


def test_singular_components_need_noise():
    rng = np.random.RandomState(0)
    rows = rng.normal(size=(5, 2))
    empirical = GaussianMixtureDensity(rows, 0.0)
    with pytest.raises(ValueError, match="sigma"):
        empirical.score_samples(rows)
    x = rng.normal(size=(1, 2))
    shares = np.exp(-((x - rows) ** 2).sum(axis=1) / (2 * 0.5**2))
    assert_allclose(empirical.denoise(x, sigma=0.5)[0], shares @ rows / shares.sum())


def test_linear_subspace_projects_as_the_noise_vanishes():
    basis = np.random.RandomState(0).normal(size=(4, 2))
    density = LinearSubspaceDensity(basis, random_state=0)
    x = np.random.RandomState(1).normal(size=(3, 4))
    projection = basis @ np.linalg.pinv(basis)
    assert_allclose(density.denoise(x, sigma=1e-6), x @ projection.T, atol=1e-8)
    sample = density.sample(5)
    assert_allclose(sample @ projection.T, sample, atol=1e-12)


def test_samples_have_the_moments_and_pass_the_stein_test():
    means, covariances, weights = random_mixture()
    density = GaussianMixtureDensity(means, covariances, weights, random_state=0)
    X = density.sample(20_000)
    error = 4 * X.std(axis=0) / np.sqrt(20_000)
    assert (np.abs(X.mean(axis=0) - weights @ means) < error).all()
    assert not KSDTest(density, random_state=0).fit(density.sample(300)).reject_
    assert KSDTest(density, random_state=0).fit(density.sample(300, sigma=1.0)).reject_


def test_tensors_give_the_numbers_of_arrays():
    density = GaussianMixtureDensity(*random_mixture())
    X = np.random.RandomState(1).normal(size=(3, 2))
    for name in ("score_samples", "score_function", "denoise"):
        ours = getattr(density, name)(torch.tensor(X), alpha=0.5, sigma=0.5)
        assert isinstance(ours, torch.Tensor)
        assert_allclose(ours, getattr(density, name)(X, alpha=0.5, sigma=0.5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0.0]], 1.0, [0.0]), "weights"),
        (([[0.0]], -1.0), "semi-definite"),
        (([[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]]), "semi-definite"),
        (([[0.0, 0.0]], [[[1.0]]]), "shape"),
    ],
)
def test_impossible_mixtures_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixtureDensity(*arguments)


def test_tables_know_their_marginals():
    table = np.random.RandomState(0).dirichlet(np.ones(12)).reshape(2, 3, 2)
    density = CategoricalTableDensity(table, random_state=0)
    rows = density.enumerate()
    assert_allclose(np.exp(density.score_samples(rows)), table.ravel())
    partial = np.array([[1, np.nan, 0], [np.nan, np.nan, np.nan]])
    assert_allclose(np.exp(density.score_samples(partial)), [table[1, :, 0].sum(), 1])
    counts = np.unique(density.sample(20_000), axis=0, return_counts=True)[1]
    assert stats.chisquare(counts, 20_000 * table.ravel()).pvalue > 0.001


def test_sequences_have_total_probability_one_and_are_drawn_with_it():
    rng = np.random.RandomState(0)
    chain = MarkovSequenceDensity(
        rng.dirichlet(np.ones(2)), rng.dirichlet(np.ones(2), size=2), 0.3, 4, random_state=0
    )
    words = chain.enumerate()
    probabilities = np.exp(chain.log_prob(words))
    assert len(words) == 30
    assert_allclose(probabilities.sum(), 1)
    assert np.isneginf(chain.log_prob([(), (0,) * 5])).all()
    drawn = chain.sample(20_000)
    counts = [drawn.count(word) for word in words]
    assert stats.chisquare(counts, 20_000 * probabilities).pvalue > 0.001


def test_what_is_no_law_is_refused():
    with pytest.raises(ValueError, match="probabilities"):
        CategoricalTableDensity([[-1.0, 2.0]])
    with pytest.raises(ValueError, match="probabilities"):
        MarkovSequenceDensity([0.5, 0.6], np.eye(2), 0.5, 3)
    with pytest.raises(ValueError, match="stop"):
        MarkovSequenceDensity([0.5, 0.5], np.eye(2), 0.0, 3)
