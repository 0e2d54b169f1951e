"""ConjNormDetector: duality, closed forms, brute force, limits, and the claim on digits."""

from functools import cache

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal
from sklearn import config_context
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier

from skpapers.density import ConjNormDetector
from skpapers.density._conjugate_norms import dual_map, row_norms


def two_classes(n_samples=40, n_features=3, seed=0):
    rng = np.random.RandomState(seed)
    y = np.arange(n_samples) % 2
    return rng.normal(size=(n_samples, n_features)) + y[:, None], y


@pytest.mark.parametrize("p", [1.25, 1.5, 2.0, 2.5, 4.0])
def test_dual_maps_invert_each_other_and_keep_the_norm(p):
    q = p / (p - 1)
    X = np.random.RandomState(0).normal(size=(20, 5))
    X[0, 1:] = X[1] = 0
    assert_allclose(dual_map(dual_map(X, q), p), X, atol=1e-12)
    norms = (np.abs(X) ** q).sum(axis=1) ** (1 / q)
    assert_allclose(row_norms(dual_map(X, q), p)[:, 0], norms, rtol=1e-12)


@pytest.mark.parametrize("q", [1.5, 3.0, 5.0])
def test_dual_map_is_the_gradient_of_half_the_squared_norm(q):
    X, step = np.random.RandomState(0).normal(size=(6, 4)), 1e-5
    for j, e in enumerate(np.eye(4) * step):
        above, below = (0.5 * (np.abs(X + s * e) ** q).sum(axis=1) ** (2 / q) for s in (1, -1))
        assert_allclose(dual_map(X, q)[:, j], (above - below) / (2 * step), atol=1e-6)


def test_euclidean_norm_gives_spherical_gaussians():
    X, y = two_classes()
    detector = ConjNormDetector(2, temperature=0.3, normalize=False, random_state=0).fit(X, y)
    ours = detector.class_log_density(X)
    means = [X[y == k].mean(axis=0) for k in (0, 1)]
    gaussians = [multivariate_normal(m, 0.3 * np.eye(3)).logpdf(X) for m in means]
    assert_allclose(np.ptp(ours - np.stack(gaussians, axis=1), axis=0), 0, atol=1e-10)


def test_partition_converges_to_the_gaussian_integral_at_the_root_rate():
    X, _ = two_classes()
    mu, tau = X.mean(axis=0), 0.3
    wide = multivariate_normal(mu, 2 * tau * np.eye(3))
    exact = 1.5 * np.log(2 * np.pi * tau) + mu @ mu / (2 * tau)

    def proposal(n, rng):
        Z = wide.rvs(n, random_state=rng)
        return Z, wide.logpdf(Z)

    errors = []
    for n_draws in (400, 6400):
        detector = ConjNormDetector(
            2, temperature=tau, normalize=False, proposal=proposal, bootstrap=n_draws / 40
        )
        ratios = [
            np.exp(detector.set_params(random_state=s).fit(X, np.zeros(40)).log_partition_ - exact)
            for s in range(60)
        ]
        # without bias: the mean is within four standard errors of 1
        assert abs(np.mean(ratios) - 1) < 4 * np.std(ratios) / 60**0.5
        errors.append(np.std(ratios))
    assert 2.8 < errors[0] / errors[1] < 5.7  # 16 times the draws: a quarter


@pytest.mark.parametrize("proposal", ["all", "class"])
@pytest.mark.parametrize("p", [1.5, 2.5])
def test_scores_are_the_double_loop(p, proposal):
    X, y = two_classes()
    y[:6] = -1
    y[6:9] = 3
    detector = ConjNormDetector(p, proposal=proposal, bootstrap=None, class_prior="empirical")
    scores = detector.fit(X, y).score_samples(X)
    q, tau = p / (p - 1), 0.05
    Z = np.array([x / np.linalg.norm(x, p) for x in X])

    def energy(z, k):
        mu = X[y == k].mean(axis=0)
        mu = mu / np.linalg.norm(mu, p)
        size = np.linalg.norm(mu, q)
        dual = [np.sign(m) * abs(m) ** (q - 1) * size ** (2 - q) for m in mu]
        return -(np.linalg.norm(z, q) ** 2) / 2 + z @ dual

    expected = np.zeros(40)
    for k in (0, 1, 3):
        rows = Z if proposal == "all" else Z[y == k]
        partition = np.mean([np.exp(energy(z, k) / tau) for z in rows])
        prior = np.mean(y[y >= 0] == k)
        expected += [prior * np.exp(energy(z, k) / tau) / partition for z in Z]
    assert_allclose(scores, np.log(expected), rtol=1e-11, atol=1e-11)
    assert_array_equal(detector.classes_, [0, 1, 3])


def test_scores_do_not_depend_on_units_lengths_columns_or_names_of_classes():
    X, y = two_classes(n_features=6)
    detector = ConjNormDetector(bootstrap=None)
    expected = detector.fit(X, y).score_samples(X)
    lengths = np.random.RandomState(1).uniform(0.1, 10, size=(40, 1))
    assert_allclose(detector.score_samples(X * lengths), expected, rtol=1e-12)
    for scale in (1e-12, 1e12):
        assert_allclose(detector.fit(scale * X, y).score_samples(scale * X), expected, rtol=1e-10)
    names, mirrored = np.array(["b", "a"])[y], X[:, ::-1]
    assert_allclose(detector.fit(mirrored, names).score_samples(mirrored), expected, rtol=1e-11)


def test_small_temperature_limit_is_the_nearest_prototype():
    X, y = two_classes(n_features=6)
    for tau in (5e-4, 1e-6, 1e-300):
        detector = ConjNormDetector(1.5, temperature=tau, bootstrap=None).fit(X, y)
        Z = X / row_norms(X, 1.5)
        energies = Z @ detector.dual_prototypes_.T - 0.5 * row_norms(Z, 3.0) ** 2
        limit = (energies - energies.max(axis=0)).max(axis=1)
        gap = np.abs(tau * detector.score_samples(X) - limit)
        assert (gap <= tau * np.log(80) + 1e-12).all()


def test_bootstrap_draws_rows_with_replacement():
    X, y = two_classes()
    exact = np.exp(ConjNormDetector(bootstrap=None).fit(X, y).log_partition_)
    draws = [ConjNormDetector(random_state=s).fit(X, y).log_partition_ for s in range(200)]
    ratios = np.exp(draws) / exact
    assert ratios.std(axis=0).min() > 0.01
    assert_allclose(ratios.mean(axis=0), 1, atol=4 * ratios.std() / 200**0.5)


def test_without_classes_clusters_take_their_place():
    X, y = two_classes(60, 2)
    X = np.r_[X + [9, 0], X + [0, 9]]
    detector = ConjNormDetector(n_clusters=2, random_state=0)
    expected = detector.fit(X).score_samples(X)
    for target in (None, np.full(120, -1), np.linspace(0, 1, 120)):
        assert_array_equal(detector.fit(X, target).score_samples(X), expected)
    truth = np.repeat([0, 1], 60)
    labelled = detector.set_params(bootstrap=None).fit(X, truth).score_samples(X)
    assert_allclose(detector.fit(X).score_samples(X), labelled, rtol=1e-10)
    assert ConjNormDetector(n_clusters=1).fit(X).prototypes_.shape == (1, 2)
    assert ConjNormDetector(n_clusters=8).fit(X[:3]).prototypes_.shape == (3, 2)


def test_threshold_keeps_the_given_share_of_the_training_rows():
    X, y = two_classes(200, 5)
    detector = ConjNormDetector(contamination=0.1, random_state=0)
    assert (detector.fit_predict(X, y) == -1).sum() == 20
    assert_array_equal(detector.predict(X) == -1, detector.decision_function(X) < 0)


def test_what_cannot_be_done_is_said():
    X, y = two_classes(12)
    with pytest.raises(ValueError, match="three rows"):
        ConjNormDetector("auto").fit(X[:2])
    with pytest.raises(ValueError, match="proposal must return"):
        ConjNormDetector(proposal=lambda n, rng: (X, np.zeros(3))).fit(X, y)
    with pytest.raises(ValueError, match="infinity"):
        ConjNormDetector().fit(X, np.where(y, np.inf, 0.0))
    with pytest.raises(ValueError, match="12 rows"):
        ConjNormDetector().fit(X, y[:5])


def test_tensors_in_tensors_out():
    X, y = two_classes(60, 4)
    for p in (2.5, "auto"):
        detector = ConjNormDetector(p, random_state=0)
        expected = detector.fit(X, y).score_samples(X)
        with config_context(array_api_dispatch=True):
            ours = detector.fit(torch.tensor(X), torch.tensor(y)).score_samples(torch.tensor(X))
        assert isinstance(ours, torch.Tensor)
        assert_allclose(ours.numpy(), expected, rtol=1e-9)


# The claim: digits, three of them held out as outliers.


def digit_splits(n_splits=4):
    X, y = load_digits(return_X_y=True)
    for seed in range(n_splits):
        rng = np.random.RandomState(seed)
        unknown = np.isin(y, rng.choice(10, 3, replace=False))
        known = rng.permutation(np.flatnonzero(~unknown))
        test = np.r_[known[900:], np.flatnonzero(unknown)]
        yield X[known[:900]] / 16, y[known[:900]], X[test] / 16, ~unknown[test]


SPLITS = list(digit_splits())


def area(detector, split):
    X, y, X_test, is_known = split
    return roc_auc_score(is_known, detector.fit(X, y).score_samples(X_test))


def conjnorm(p, temperature):
    return ConjNormDetector(p, temperature=temperature, random_state=0)


def test_norm_beyond_the_euclidean_detects_unknown_digits_best():
    ours, cosine, wide_cosine, forest, softmax = np.array(
        [
            [
                area(conjnorm(3, 0.01), split),
                area(conjnorm(2, 0.01), split),
                area(conjnorm(2, 0.1), split),
                area(IsolationForest(random_state=0), split),
                max_softmax_area(number),
            ]
            for number, split in enumerate(SPLITS)
        ]
    ).T
    assert (ours > cosine).all()
    assert ours.mean() >= cosine.mean() + 0.004
    assert ours.mean() > wide_cosine.mean() + 0.05
    assert ours.mean() > softmax.mean()
    assert ours.mean() >= forest.mean() + 0.05


@cache
def network(number):
    return MLPClassifier((64,), max_iter=300, random_state=0).fit(*SPLITS[number][:2])


def max_softmax_area(number):
    _, _, X_test, is_known = SPLITS[number]
    return roc_auc_score(is_known, network(number).predict_proba(X_test).max(axis=1))


def hidden_units(number):
    X, y, X_test, is_known = SPLITS[number]
    (weights, _), (intercept, _) = network(number).coefs_, network(number).intercepts_
    X, X_test = (np.maximum(Z @ weights + intercept, 0) for Z in (X, X_test))
    return X, y, X_test, is_known


def test_uniform_noise_is_detected():
    for X, y, X_test, is_known in SPLITS:
        noise = np.random.RandomState(0).uniform(size=(400, 64))
        rows, truth = np.r_[X_test[is_known], noise], np.arange(is_known.sum() + 400)
        assert area(conjnorm(3, 0.01), (X, y, rows, truth < is_known.sum())) >= 0.99


@pytest.mark.parametrize("features", [SPLITS.__getitem__, hidden_units], ids=["pixels", "units"])
def test_automatic_choice_is_near_the_best_of_the_grid_and_avoids_the_collapse(features):
    for split in map(features, range(4)):
        grid = [
            area(conjnorm(p, temperature), split)
            for p in (1.25, 1.5, 1.75, 2, 2.25, 2.5, 3, 4)
            for temperature in (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
        ]
        chosen = area(ConjNormDetector("auto", random_state=0), split)
        assert chosen >= max(grid) - 0.02
        assert min(grid) < chosen - 0.15


def test_wide_densities_of_small_norms_collapse_on_hidden_units():
    assert all(area(conjnorm(1.5, 0.1), split) < 0.5 for split in map(hidden_units, range(4)))
