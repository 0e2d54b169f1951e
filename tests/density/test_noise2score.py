"""Tests of denoising with the score of noisy data."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.special import digamma
from sklearn.datasets import load_digits, load_sample_image
from sklearn.feature_extraction.image import extract_patches_2d
from sklearn.frozen import FrozenEstimator

from skpapers.datasets import GaussianMixtureDensity
from skpapers.density import Noise2Score
from skpapers.density._residual_score import ResidualScore, row_network
from skpapers.density._tweedie import (
    NOISE_DEVIATIONS,
    covariance_noise,
    gamma_mean,
    gaussian_mean,
    link,
    link_offset,
    poisson_mean,
    score_behind_link,
    total_variation,
)
from skpapers.hypothesis_testing import KSDTest
from skpapers.neural_network import build_module
from skpapers.processes import SmallUNet


def digits(seed=0):
    X = load_digits().data.astype(np.float32) / 16
    X = X[np.random.RandomState(seed).permutation(len(X))]
    return X[:900], X[900:]


def with_noise(X, deviation, seed=1):
    noise = np.random.RandomState(seed).normal(size=X.shape)
    return (X + deviation * noise).astype(np.float32)


def error(first, second):
    return float(np.mean((first - second) ** 2))


def wiener(train, Y, variance):
    precision = np.linalg.pinv(np.cov(train.T))
    return Y - variance * (Y - train.mean(axis=0)) @ precision


def gaussian_data(n_samples, seed=0):
    rng = np.random.RandomState(seed)
    root = np.random.RandomState(7).normal(size=(5, 5))
    return rng.normal(size=(n_samples, 5)) @ root + np.arange(5), root.T @ root


# Exact oracles.


def test_gaussian_formula_is_the_posterior_mean():
    X, S = gaussian_data(50)
    precision = np.linalg.inv(S + 0.5 * np.eye(5))
    mean = np.arange(5)
    expected = mean + (X - mean) @ precision @ S
    assert_allclose(gaussian_mean(X, -(X - mean) @ precision, 0.5), expected, atol=1e-10)
    mixture = GaussianMixtureDensity([[-1.0, 0.0], [1.0, 2.0]], 0.3)
    Y = mixture.sample(20, 0, sigma=0.6)
    score = mixture.score_function(Y, sigma=0.6)
    assert_allclose(gaussian_mean(Y, score, 0.36), mixture.denoise(Y, sigma=0.6), atol=1e-10)


def test_poisson_formula_is_the_posterior_geometric_mean():
    """x ~ Gamma(2, scale 3): the marginal of the counts is negative binomial."""
    a, b, counts = 2, 3, np.arange(3.0, 16)
    score = digamma(counts + a) - digamma(counts + 1) + np.log(b / (1 + b))
    exact = np.exp(digamma(counts + a)) * b / (1 + b)
    assert_allclose(poisson_mean(counts, score, 1.0), exact, rtol=0.01)
    assert_allclose(poisson_mean(0.1 * counts, score / 0.1, 0.1), 0.1 * exact, rtol=0.01)


def test_gamma_formula_is_the_posterior_harmonic_mean():
    """x ~ inverse Gamma(alpha, beta): so is x given y, with alpha + k and beta + k y."""
    k, alpha, beta = 5.0, 3.0, 2.0
    y = np.linspace(0.2, 5, 40)
    score = (k - 1) / y - k * (k + alpha) / (k * y + beta)
    assert_allclose(gamma_mean(y, score, k), (k * y + beta) / (k + alpha), rtol=1e-8)


def test_gamma_estimates_stay_within_what_the_noise_can_do():
    """Where the denominator vanishes or is negative too."""
    ratios = gamma_mean(np.ones(4), np.array([-1e6, 4.0, 8.0, 1e6]), 5.0)
    low, high = stats.gamma.ppf([1e-4, 1 - 1e-4], 5, scale=1 / 5)
    assert_allclose(ratios, [1 / high, 1 / low, 1 / low, 1 / low])


@pytest.mark.parametrize("noise", ["gaussian", "poisson", "gamma"])
def test_score_in_units_of_equal_noise_becomes_that_of_the_data(noise):
    """For log-normal data, by finite differences of the density after the change of variables."""
    y, step, offset = np.linspace(0.5, 3, 20), 1e-6, 0.1

    def log_density(y):
        slope = (link(noise, y + step, offset) - link(noise, y - step, offset)) / (2 * step)
        return stats.norm.logpdf(link(noise, y, offset), 1, 0.5) + np.log(slope)

    h = 1e-3
    expected = (log_density(y + h) - log_density(y - h)) / (2 * h)
    score = -(link(noise, y, offset) - 1) / 0.25
    assert_allclose(score_behind_link(noise, y, score, offset), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("noise", ["gaussian", "poisson", "gamma"])
def test_noise_is_equally_strong_behind_the_link(noise):
    rng = np.random.RandomState(0)
    for mean in (5.0, 50.0):
        draws = {
            "gaussian": mean + 0.5 * rng.normal(size=200_000),
            "poisson": 0.25 * rng.poisson(mean / 0.25, size=200_000),
            "gamma": mean * rng.gamma(30, 1 / 30, size=200_000),
        }[noise]
        level = {"gaussian": 0.25, "poisson": 0.25, "gamma": 30}[noise]
        offset = link_offset(noise, draws, level)
        deviation = link(noise, draws, offset).std()
        assert_allclose(deviation, NOISE_DEVIATIONS[noise](level), rtol=0.02)


def test_linear_base_is_the_score_of_a_gaussian():
    X, S = gaussian_data(400)
    module = build_module(
        lambda: ResidualScore(row_network(5, (4,)), 5, 1.0, True), torch.Generator(), torch.float64
    )
    centred = torch.from_numpy(X - X.mean(axis=0))
    with torch.no_grad():
        module.learn_covariance(centred)
    covariance = np.cov(X.T, bias=True) + 0.49 * np.eye(5)
    expected = -centred.numpy() @ np.linalg.inv(covariance)
    assert_allclose(module(centred, 0.7).detach(), expected, atol=1e-10)


@pytest.mark.parametrize("linear_base", [True, False])
def test_training_finds_the_score_at_the_level_of_the_added_noise(linear_base):
    X = gaussian_data(4000)[0].astype(np.float32)
    level = 0.5 * X.std()
    model = Noise2Score(
        hidden_layer_sizes=(), linear_base=linear_base, sigma_max=level, sigma_min=level
    )
    model.set_params(max_epochs=80, lr=0.01, batch_size=500, early_stopping=False, random_state=0)
    model.fit(X)
    covariance = np.cov(X.T) + level**2 * np.eye(5)
    expected = -(X - X.mean(axis=0)) @ np.linalg.inv(covariance)
    size = np.linalg.norm(expected)
    assert np.linalg.norm(model.score_function(X) - expected) < 0.02 * size


def test_trained_linear_network_denoises_as_well_as_possible():
    X, S = gaussian_data(10_000)
    Y = with_noise(X, 1.0)
    model = Noise2Score(noise_level=1.0, hidden_layer_sizes=(), sigma_max=0.5, sigma_min=0.2)
    model.set_params(max_epochs=20, linear_base=False, lr=0.01, random_state=0).fit(Y[:5000])
    mean = np.arange(5)
    ideal = mean + (Y[5000:] - mean) @ np.linalg.inv(S + np.eye(5)) @ S
    assert error(model.transform(Y[5000:]), X[5000:]) < 1.03 * error(ideal, X[5000:])


def test_estimates_are_affine_in_the_variance_and_start_at_the_data():
    Y = with_noise(digits()[0][:200], 0.25).astype(np.float64)
    model = Noise2Score(noise_level=0.06, max_epochs=3, random_state=0).fit(Y)
    none, some, more = (model.transform(Y, noise_level=v) for v in (0.0, 0.03, 0.06))
    assert_array_equal(none, Y)
    assert_allclose(more - some, some - none, atol=1e-12)
    assert_array_equal(more, model.transform(Y))


def test_denoised_images_get_smoother_up_to_the_level_of_the_noise():
    Y = with_noise(digits()[0], 0.25)
    model = Noise2Score(noise_level=0.0625, max_epochs=5, random_state=0).fit(Y)
    rough = [
        total_variation(model.transform(Y, noise_level=v).reshape(-1, 1, 8, 8))
        for v in np.linspace(0, 0.0625, 6)
    ]
    assert (np.diff(rough) < 0).all()


def test_total_variation_by_hand():
    image = np.array([[0.0, 1.0], [3.0, 3.0]]).reshape(1, 1, 2, 2)
    assert total_variation(image) == (3 + 2) / 2 + (1 + 0) / 2
    assert total_variation(image.reshape(1, 1, 1, 4)) == (1 + 2 + 0) / 3


def test_noise_of_a_table_is_that_off_the_signal_subspace():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(3000, 2)) @ rng.normal(size=(2, 8)) * 5
    Y = X + 0.3 * rng.normal(size=X.shape)
    assert_allclose(covariance_noise(Y), 0.09, rtol=0.1)
    assert_allclose(covariance_noise(1e-100 * Y), 1e-200 * covariance_noise(Y))
    model = Noise2Score(hidden_layer_sizes=(4,), max_epochs=1).fit(Y)
    assert model.noise_level_ == covariance_noise(Y)


# The claim.


def bare_network(inputs, targets, mask=None, epochs=40):
    """The same perceptron, trained to predict targets, where a mask is True."""
    generator = torch.Generator().manual_seed(0)
    network = build_module(lambda: row_network(64, (256, 256)), generator)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    inputs, targets = torch.from_numpy(inputs), torch.from_numpy(targets)
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs), generator=generator).split(64):
            x, weight = inputs[rows], torch.ones(len(rows), 64)
            if mask is not None:
                x, weight = mask(x, generator)
            loss = (weight * (network(x) - targets[rows]) ** 2).sum() / weight.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return lambda X: network(torch.from_numpy(X)).detach().numpy()


def blind_spots(x, generator):
    """Noise2Void: hide an eighth of the pixels behind others, predict these."""
    hidden = torch.rand(x.shape, generator=generator) < 1 / 8
    others = torch.randint(64, x.shape, generator=generator)
    return torch.where(hidden, x.gather(1, others), x), hidden.float()


def test_digits_are_denoised_without_clean_ones():
    """Almost as well as with them, better than with blind spots and than by Wiener's filter."""
    clean, held_out = digits()
    train, test = with_noise(clean, 0.25), with_noise(held_out, 0.25, seed=2)
    model = Noise2Score(noise_level=0.0625, max_epochs=40, random_state=0).fit(train)
    ours = error(model.transform(test), held_out)
    supervised = error(bare_network(train, clean)(test), held_out)
    void = error(bare_network(train, train, blind_spots)(test), held_out)
    assert ours <= 0.38 * error(test, held_out)
    assert ours < 10**0.15 * supervised
    assert ours < void
    assert ours < 0.95 * error(wiener(train, test, 0.0625), held_out)


@pytest.mark.parametrize("deviation", [0.15, 0.25])
def test_unknown_noise_of_digits_is_found(deviation):
    train, test = (with_noise(X, deviation, seed) for seed, X in enumerate(digits()))
    params = {"max_epochs": 20, "random_state": 0}
    images = Noise2Score(image_shape=(1, 8, 8), **params).fit(train)
    assert_allclose(np.sqrt(images.noise_level_), deviation, rtol=0.3)
    table = images.set_params(image_shape=None).estimate_noise_level(test)
    assert_allclose(np.sqrt(table), deviation, rtol=0.1)


def noisy_digits(noise, level, n_samples=1500):
    clean = np.concatenate(digits())[:n_samples] + np.float32(0.05)
    rng = np.random.RandomState(0)
    if noise == "poisson":
        return clean, (level * rng.poisson(clean / level)).astype(np.float32)
    return clean, (clean * rng.gamma(level, 1 / level, size=clean.shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("noise", "level"), [("gamma", 5), ("gamma", 10), ("poisson", 0.05), ("poisson", 0.2)]
)
def test_speckle_and_counts_of_digits_are_denoised(noise, level):
    clean, Y = noisy_digits(noise, level)
    model = Noise2Score(noise, level, max_epochs=20, random_state=0).fit(Y[:1200])
    assert error(model.transform(Y[1200:]), clean[1200:]) < 0.75 * error(Y[1200:], clean[1200:])


@pytest.mark.parametrize(("noise", "level"), [("gamma", 5), ("poisson", 0.2)])
def test_unknown_speckle_and_counts_are_found(noise, level):
    """Well enough to remove noise: at most a third more error than with the level known."""
    clean, Y = noisy_digits(noise, level, 1000)
    model = Noise2Score(noise, image_shape=(1, 8, 8), max_epochs=15, random_state=0).fit(Y)
    blind = error(model.transform(Y), clean)
    assert blind < 0.65 * error(Y, clean)
    assert blind < 1.33 * error(model.transform(Y, noise_level=level), clean)


def patches(n_patches, seed):
    """Of 16 x 16 pixels of two photographs."""
    images = [load_sample_image(name).mean(axis=2) for name in ("china.jpg", "flower.jpg")]
    parts = [
        extract_patches_2d(
            image[::2, ::2] / 255, (16, 16), max_patches=n_patches // 2, random_state=seed
        )
        for image in images
    ]
    return np.concatenate(parts).reshape(n_patches, -1).astype(np.float32)


@pytest.mark.slow
def test_images_are_denoised_better_than_by_the_filter_of_wiener():
    clean, held_out = patches(2000, 0), patches(500, 1)
    train, test = with_noise(clean, 0.2), with_noise(held_out, 0.2, seed=2)
    model = Noise2Score(
        image_shape=(1, 16, 16), width=16, n_levels=2, max_epochs=8, random_state=0
    ).fit(train)
    assert_allclose(np.sqrt(model.noise_level_), 0.2, rtol=0.3)
    linear = error(wiener(train, test, 0.04), held_out)
    assert error(model.transform(test), held_out) < 0.85 * linear
    assert error(model.transform(test, noise_level=0.04), held_out) < 0.75 * linear


# The estimator.


def test_stein_test_accepts_the_learned_score_and_no_other():
    mixture = GaussianMixtureDensity([[-2.0, 0.0], [2.0, 1.0]], 0.1)
    Y = mixture.sample(3000, 0, sigma=0.5).astype(np.float32)
    fresh = mixture.sample(100, 1, sigma=0.5).astype(np.float32)
    model = Noise2Score(noise_level=0.25, max_epochs=30, random_state=0).fit(Y)
    test = KSDTest(FrozenEstimator(model), random_state=0)
    assert test.fit(fresh).pvalue_ > 0.05
    assert test.fit(1.5 * fresh).pvalue_ < 0.02
    exact = mixture.denoise(fresh.astype(float), sigma=0.5)
    assert error(model.transform(fresh), exact) < 0.1 * error(fresh, exact)


def test_spectra_have_a_roughness():
    rng = np.random.RandomState(0)
    clean = np.sin(np.linspace(0, 6, 40) + rng.uniform(0, 6, size=(500, 1)))
    Y = with_noise(clean, 0.5)
    model = Noise2Score(ordered=True, max_epochs=20, random_state=0).fit(Y)
    assert_allclose(np.sqrt(model.noise_level_), 0.5, rtol=0.3)
    assert error(model.transform(Y), clean) < 0.2 * 0.25


def test_levels_and_penalties_of_ones_own():
    Y, shapes = with_noise(digits()[0][:100], 0.2), []

    def least_contrast(images):
        shapes.append(images.shape)
        return images.std()

    params = {"image_shape": (1, 8, 8), "level_grid": [0.01, 0.04], "max_epochs": 1}
    model = Noise2Score(blind_penalty=least_contrast, clip=(0, 1), **params).fit(Y)
    assert model.noise_level_ == 0.04
    assert shapes == [(100, 1, 8, 8)] * 2
    assert model.transform(Y).min() == 0
    assert model.transform(Y, noise_level=0).max() == 1


def test_networks_for_images():
    Y = with_noise(digits()[0][:40], 0.2)
    unet = Noise2Score(image_shape=(1, 8, 8), network="unet", width=4, max_epochs=1).fit(Y)
    assert unet.transform(Y).shape == Y.shape
    large = np.tile(Y, (1, 4))
    auto = Noise2Score(image_shape=(1, 16, 16), width=4, max_epochs=1, linear_base=False).fit(
        large
    )
    assert any(isinstance(layer, SmallUNet) for layer in auto.module_.modules())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"noise": "poisson"}, "noise_level='blind'"),
        ({"noise": "gamma"}, "noise_level='blind'"),
        ({"noise": "gamma", "noise_level": 0}, "noise_level must be positive"),
        ({"network": "unet"}, "image_shape"),
        ({"image_shape": (8, 8)}, "image_shape"),
        ({"image_shape": (1, 8, 9)}, "image_shape"),
        ({"clip": (1, 0)}, "clip"),
        ({"noise": "poisson", "noise_level": 1.0}, "Negative"),
    ],
)
def test_settings_that_make_no_sense_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        Noise2Score(**params).fit(np.random.RandomState(0).normal(size=(10, 64)))


@pytest.mark.parametrize("noise", ["poisson", "gamma"])
def test_zeros_are_no_obstacle(noise):
    Y = np.random.RandomState(0).poisson(1.0, size=(60, 4)).astype(float)
    model = Noise2Score(noise, 1.0, hidden_layer_sizes=(8,), max_epochs=2).fit(Y)
    assert np.isfinite(model.transform(Y)).all()
    assert (model.transform(Y) >= 0).all()
    with pytest.raises(ValueError, match="positive"):
        model.fit(np.zeros((5, 4)))


def test_training_can_go_on():
    clean, _ = digits()
    Y = with_noise(clean, 0.25)
    model = Noise2Score(max_epochs=10, linear_base=False, random_state=0)
    first = model.partial_fit(Y[:450]).score(Y[450:])
    for _ in range(9):
        model.partial_fit(Y[:450])
    assert model.n_iter_ == 10
    assert model.score(Y[450:]) > first
    assert error(model.transform(Y[450:]), clean[450:]) < 0.75 * error(Y[450:], clean[450:])


def test_a_constant_column_does_not_set_the_scale():
    Y = 1e-6 * np.random.RandomState(0).normal(size=(200, 3))
    Y[:, 1] = 5.0
    model = Noise2Score(hidden_layer_sizes=(4,), max_epochs=1, random_state=0).fit(Y)
    assert_allclose(model.scale_, 1e-6 * np.sqrt(2 / 3), rtol=0.1)
