"""What a test returns, and the Stein tests at scale."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import stats

from skpapers.datasets import GaussianMixtureDensity
from skpapers.hypothesis_testing import (
    KSDTest,
    PerturbedKSDTest,
    adjust_pvalues,
    stein_kernel_matrix,
)
from skpapers.processes._ksd import (
    stein_cross_means,
    stein_features,
    stein_frequencies,
    stein_sample,
    stein_sums,
)


def test_holm_and_bonferroni_by_hand_and_fdr_of_scipy():
    pvalues = np.array([0.03, 0.001, 0.6, 0.02])
    assert_allclose(adjust_pvalues(pvalues, method="bonferroni"), [0.12, 0.004, 1, 0.08])
    # sorted 0.001 * 4, 0.02 * 3, 0.03 * 2, 0.6 * 1, then the running maximum
    assert_allclose(adjust_pvalues(pvalues), [0.06, 0.004, 0.6, 0.06])
    for method in ("bh", "by"):
        expected = stats.false_discovery_control(pvalues, method=method)
        assert_allclose(adjust_pvalues(pvalues, method=f"fdr_{method}"), expected)


@pytest.mark.parametrize("pvalues", [[0.1, 1.2], [-0.1], [[0.1]], [np.nan], []])
def test_what_is_no_list_of_pvalues_is_refused(pvalues):
    with pytest.raises(ValueError, match="pvalues|0 sample"):
        adjust_pvalues(pvalues)


@pytest.mark.parametrize("method", ["holm", "fdr_bh"])
def test_adjusted_tests_keep_their_level(method):
    draws = np.random.RandomState(0).uniform(size=(2000, 10))
    rejected = [(adjust_pvalues(p, method=method) <= 0.05).any() for p in draws]
    assert np.mean(rejected) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_random_frequencies_have_the_kernel_as_their_mean(kernel):
    rng = np.random.RandomState(0)
    difference = np.array([0.3, -0.8])
    cosines = np.cos(stein_frequencies(2, 200_000, kernel, rng) @ difference)
    squared = difference @ difference
    expected = np.exp(-squared) if kernel == "rbf" else (1 + squared) ** -0.5
    assert abs(cosines.mean() - expected) < 4 * cosines.std() / np.sqrt(200_000)


def test_stein_features_are_the_operator_applied_to_fourier_features():
    rng = np.random.RandomState(0)
    X, frequencies, width = rng.normal(size=(5, 3)), rng.normal(size=(4, 3)), 2.5
    features = stein_features(stein_sample(X, -X, width), frequencies)
    points = torch.tensor(X - X.mean(axis=0), requires_grad=True)
    omega = torch.tensor(frequencies / np.sqrt(width))
    scores = torch.tensor(-X)
    for j in range(3):
        for part, function in enumerate((torch.cos, torch.sin)):
            values = function(points @ omega.T) / 2
            for m in range(4):
                (slope,) = torch.autograd.grad(values[:, m].sum(), points, retain_graph=True)
                expected = (scores[:, j] * values[:, m] + slope[:, j]).detach()
                assert_allclose(features[:, 8 * j + 4 * part + m], expected, atol=1e-12)


def test_sums_of_random_features_are_those_of_their_gram_matrix():
    rng = np.random.RandomState(0)
    X, other = rng.normal(size=(30, 2)), rng.normal(size=(7, 2))
    frequencies, weights = rng.normal(size=(20, 2)), rng.normal(size=(4, 30))
    sample = stein_sample(X, -X, 2.0)
    features = stein_features(sample, frequencies)
    gram = features @ features.T
    sums, diagonal, forms = stein_sums([sample], weights=weights, frequencies=frequencies)
    assert_allclose(sums, gram.sum(axis=1))
    assert_allclose(diagonal, gram.diagonal())
    off = gram - np.diag(gram.diagonal())
    assert_allclose(forms, [w @ off @ w for w in weights])
    left = stein_sample(other, -other, 2.0, centre=X.mean(axis=0))
    means = stein_cross_means(left, sample, frequencies)
    assert_allclose(means, (stein_features(left, frequencies) @ features.T).mean(axis=1))


def test_many_random_features_give_the_exact_test():
    X = np.random.RandomState(0).normal(loc=0.2, size=(200, 2))
    exact = KSDTest(lambda x: -x, random_state=0).fit(X)
    random = KSDTest(lambda x: -x, n_random_features=4000, random_state=0).fit(X)
    assert_allclose(random.statistic_, exact.statistic_, rtol=0.1)
    assert abs(random.pvalue_ - exact.pvalue_) < 0.02
    assert_allclose(random.score_samples(X), exact.score_samples(X), atol=0.15)
    assert_allclose(random.score_samples(X).mean(), -random.score(X))


def test_bootstrap_interval_is_the_bootstrap_of_the_statistic():
    """The draws around the statistic are U-statistics of resampled rows."""
    X = np.random.RandomState(0).normal(loc=0.5, size=(40, 1))
    result = KSDTest(lambda x: -x, n_bootstrap=400, random_state=0).fit(X).result_
    matrix = stein_kernel_matrix(X, lambda x: -x)
    off = matrix - np.diag(matrix.diagonal())
    test = KSDTest(lambda x: -x, random_state=0)
    counts = test._streams()[0].multinomial(40, np.full(40, 1 / 40), 400)
    resampled = np.array([c @ off @ c for c in counts]) / 40**2
    shift = result.statistic - off.sum() / 40**2
    assert_allclose(result.bootstrap_distribution, resampled + shift, atol=1e-12)
    low, high = result.confidence_interval(0.9)
    assert low < result.statistic < high


def test_intervals_need_a_level_and_a_bootstrap():
    X = np.random.RandomState(0).normal(size=(30, 1))
    result = KSDTest(lambda x: -x, n_bootstrap=20, random_state=0).fit(X).result_
    with pytest.raises(ValueError, match="confidence_level"):
        result.confidence_interval(95)
    with pytest.raises(ValueError, match="bootstrap_distribution"):
        result._replace(bootstrap_distribution=None).confidence_interval()


@pytest.mark.slow
@pytest.mark.parametrize("bootstrap", ["multinomial", "wild"])
def test_interval_covers_the_discrepancy(bootstrap):
    """The truth is the mean of unbiased estimates from samples that are much larger."""
    rng = np.random.RandomState(0)
    options = {"bandwidth": 1.0, "bootstrap": bootstrap, "n_bootstrap": 300, "random_state": 0}
    large = [KSDTest(lambda x: -x, bandwidth=1.0, n_bootstrap=1) for _ in range(5)]
    truth = np.mean([t.fit(rng.normal(loc=0.7, size=(4000, 1))).statistic_ for t in large])
    covered = []
    for _ in range(200):
        test = KSDTest(lambda x: -x, **options).fit(rng.normal(loc=0.7, size=(200, 1)))
        low, high = test.result_.confidence_interval(0.9)
        covered.append(low <= truth <= high)
    assert 0.83 <= np.mean(covered) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"bootstrap": "multinomial"}, {"bootstrap": "wild"}, {"n_random_features": 50}],
    ids=["multinomial", "wild", "features"],
)
def test_null_pvalues_are_uniform(options):
    rng = np.random.RandomState(0)
    pvalues = [
        KSDTest(lambda x: -x, n_bootstrap=199, random_state=seed, **options)
        .fit(rng.normal(size=(100, 1)))
        .pvalue_
        for seed in range(500)
    ]
    assert stats.kstest(pvalues, "uniform").pvalue > 0.01


@pytest.mark.slow
def test_null_pvalues_of_the_perturbed_test_are_uniform():
    modes = GaussianMixtureDensity([[0.0], [6.0]])
    options = {"n_bootstrap": 99, "n_starts": 3, "jump_scales": [0.8, 1.0, 1.2]}
    rng = np.random.RandomState(0)
    pvalues = [
        PerturbedKSDTest(modes, random_state=seed, **options).fit(modes.sample(60, rng)).pvalue_
        for seed in range(500)
    ]
    assert stats.kstest(pvalues, "uniform").pvalue > 0.01
