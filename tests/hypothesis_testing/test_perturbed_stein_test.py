"""Tests of the Stein tests of goodness of fit."""

import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, stats
from sklearn import config_context
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KernelDensity

from skpapers.hypothesis_testing import KSDTest, PerturbedKSDTest, stein_kernel_matrix, stein_score
from skpapers.hypothesis_testing._perturbed_stein_test import jump_maps, perturb
from skpapers.processes._ksd import (
    bootstrap_weights,
    ksd_statistics,
    stein_sample,
    stein_sums,
)


def mixture(weights, means, covariances):
    """A GaussianMixture with given parameters."""
    model = GaussianMixture(len(weights))
    model.weights_, model.means_ = np.array(weights), np.array(means, dtype=float)
    model.covariances_ = np.array(covariances, dtype=float)
    model.precisions_ = np.linalg.inv(model.covariances_)
    model.precisions_cholesky_ = np.linalg.cholesky(model.precisions_)
    model.n_features_in_ = model.means_.shape[1]
    return model


TWO_MODES = FrozenEstimator(mixture([0.5, 0.5], [[0.0], [6.0]], [[[1.0]], [[1.0]]]))


def draw_two_modes(n_samples, rng, share=0.5):
    return (rng.normal(size=n_samples) + 6 * (rng.uniform(size=n_samples) > share))[:, None]


class TorchMixture(torch.nn.Module):
    """The same density by torch.distributions."""

    def __init__(self, model):
        super().__init__()
        weights, means = torch.tensor(model.weights_), torch.tensor(model.means_)
        components = torch.distributions.MultivariateNormal(
            means, torch.tensor(model.covariances_)
        )
        choice = torch.distributions.Categorical(weights)
        self.density = torch.distributions.MixtureSameFamily(choice, components)

    def log_prob(self, x):
        return self.density.log_prob(x)


def random_mixture(n_features, seed=0):
    rng = np.random.RandomState(seed)
    roots = rng.normal(size=(3, n_features, n_features))
    covariances = roots @ roots.transpose(0, 2, 1) + 0.5 * np.eye(n_features)
    return mixture(rng.dirichlet(np.ones(3)), 2 * rng.normal(size=(3, n_features)), covariances)


def autograd_stein_kernel(x, y, score, kernel, width):
    """The four terms of the definition, derivatives by autograd."""
    x, y = torch.tensor(x, requires_grad=True), torch.tensor(y, requires_grad=True)

    def base(x, y):
        squared = ((x - y) ** 2).sum() / width
        return (1 + squared) ** -0.5 if kernel == "imq" else torch.exp(-squared)

    value = base(x, y)
    grad_x, grad_y = torch.autograd.grad(value, (x, y), create_graph=True)
    mixed = sum(torch.autograd.grad(g, y, retain_graph=True)[0][i] for i, g in enumerate(grad_x))
    s, t = (torch.tensor(score(p.detach().numpy()[None])[0]) for p in (x, y))
    return ((s @ t) * value + s @ grad_y + t @ grad_x + mixed).item()


@pytest.mark.parametrize("n_features", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_stein_kernel_is_its_definition(n_features, kernel):
    model = random_mixture(n_features)
    X = 2 * np.random.RandomState(1).normal(size=(7, n_features))
    matrix = stein_kernel_matrix(X, model, kernel=kernel, bandwidth=1.7)
    score = stein_score(model)
    expected = [[autograd_stein_kernel(x, y, score, kernel, 1.7) for y in X] for x in X]
    assert_allclose(matrix, expected, atol=1e-10, rtol=1e-10)
    assert_allclose(matrix, matrix.T, atol=1e-12)
    assert np.linalg.eigvalsh(matrix)[0] > -1e-10 * np.trace(matrix)
    squared = [np.sum((X[i] - X[j]) ** 2) for i in range(7) for j in range(i)]
    by_median = stein_kernel_matrix(X, model, kernel=kernel, bandwidth=np.median(squared))
    assert_allclose(stein_kernel_matrix(X, model, kernel=kernel), by_median)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_scores_of_mixtures_are_gradients(covariance_type):
    X = np.random.RandomState(0).normal(size=(60, 3)) * [1, 2, 3]
    model = GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(X)
    check_gradient(model, X[:20])


def check_gradient(model, X):
    score = stein_score(model)(X)
    for j, shift in enumerate(1e-5 * np.eye(X.shape[1])):
        slope = model.score_samples(X + shift) - model.score_samples(X - shift)
        assert_allclose(score[:, j], slope / 2e-5, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_of_kernel_densities_are_gradients(weighted):
    X = np.random.RandomState(0).normal(size=(40, 2))
    weight = np.arange(1.0, 41) if weighted else None
    model = KernelDensity(bandwidth=0.7, rtol=1e-12).fit(X, sample_weight=weight)
    check_gradient(model, X[:15])


def test_every_description_of_a_density_gives_its_score():
    model = random_mixture(2)
    X = np.random.RandomState(0).normal(size=(9, 2))
    expected = stein_score(model)(X)

    class Described:
        def score_function(self, X):
            return expected

    class Sampled:
        fitted_ = True

        def fit(self, X):
            return self

        def score_samples(self, X):
            return model.score_samples(X) + 5.0

    descriptions = [FrozenEstimator(model), Described(), lambda X: expected, TorchMixture(model)]
    for density in descriptions:
        assert_allclose(stein_score(density)(X), expected, atol=1e-10)
    assert_allclose(stein_score(Sampled())(X), expected, atol=1e-6)
    with pytest.raises(TypeError, match="density"):
        stein_score("gaussian")


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_stein_kernel_has_mean_zero_under_the_density(kernel):
    for x in (-2.0, 0.3, 4.0):

        def integrand(y, x=x):
            points = np.array([[x], [y]])
            matrix = stein_kernel_matrix(points, lambda p: -p, kernel=kernel, bandwidth=1.3)
            return matrix[0, 1] * stats.norm.pdf(y)

        value, _ = integrate.quad(integrand, -12, 12, epsabs=1e-11, limit=400)
        assert abs(value) < 1e-8


def test_only_the_score_matters():
    model = random_mixture(2)
    X = np.random.RandomState(0).normal(size=(50, 2))

    class Shifted(TorchMixture):
        def log_prob(self, x):
            return super().log_prob(x) + 100.0

    plain, shifted = (
        KSDTest(d, random_state=0).fit(X) for d in (TorchMixture(model), Shifted(model))
    )
    assert (plain.statistic_, plain.pvalue_) == (shifted.statistic_, shifted.pvalue_)
    frozen = KSDTest(FrozenEstimator(model), random_state=0).fit(X)
    function = KSDTest(stein_score(model), random_state=0).fit(X)
    assert (frozen.statistic_, frozen.pvalue_) == (function.statistic_, function.pvalue_)


def test_statistics_and_bootstrap_are_their_formulas():
    X = np.random.RandomState(0).normal(size=(30, 2))
    matrix = stein_kernel_matrix(X, lambda x: -x)
    off = matrix - np.diag(np.diag(matrix))
    weights = bootstrap_weights(30, 20, "multinomial", np.random.RandomState(0))
    assert_allclose(weights.sum(axis=1), 0, atol=1e-12)
    with config_context(working_memory=1e-2):  # several blocks of rows
        sums, diagonal, forms = stein_sums([stein_sample(X, -X)], weights=weights)
    assert_allclose(sums, matrix.sum(axis=1))
    assert_allclose(diagonal, np.diag(matrix))
    assert_allclose(forms, [w @ off @ w for w in weights], atol=1e-12)
    u_statistic, v_statistic = ksd_statistics(sums, diagonal)
    assert_allclose([u_statistic, v_statistic], [off.sum() / (30 * 29), matrix.mean()])

    test = KSDTest(lambda x: -x, n_bootstrap=200, random_state=0).fit(X)
    assert_allclose(test.statistic_, u_statistic)
    assert 1 <= round(test.pvalue_ * 201) <= 201
    assert_allclose(test.pvalue_ * 201, round(test.pvalue_ * 201))
    assert_allclose(test.score(X), -v_statistic)
    assert_allclose(test.score_samples(X), matrix.mean(axis=1))
    wild = KSDTest(lambda x: -x, bootstrap="wild", random_state=0).fit(X)
    assert_allclose(wild.statistic_, v_statistic)


@pytest.mark.parametrize("bootstrap", ["multinomial", "wild"])
def test_other_array_namespaces_give_the_same_matrix_and_sums(bootstrap):
    X = np.random.RandomState(0).normal(size=(40, 3))
    weights = bootstrap_weights(40, 10, bootstrap, np.random.RandomState(0))
    expected = stein_sums([stein_sample(X, -X)], weights=weights)
    import array_api_strict as xp

    for points in (torch.tensor(X), xp.asarray(X)):
        with config_context(array_api_dispatch=True):
            matrix = stein_kernel_matrix(points, lambda x: -x)
            assert type(matrix) is type(points)
            sums = stein_sums([stein_sample(points, -points)], weights=weights)
        assert_allclose(np.asarray(matrix), stein_kernel_matrix(X, lambda x: -x), atol=1e-12)
        for ours, reference in zip(sums, expected):
            assert_allclose(np.asarray(ours), reference, atol=1e-12)


def test_modes_of_a_mixture_are_found_from_a_sample_of_one():
    model = mixture([0.5, 0.5], [[0.0, 0], [6, 2]], [np.eye(2), np.diag([4.0, 2.0])])
    X = np.random.RandomState(0).normal(size=(200, 2))
    test = PerturbedKSDTest(FrozenEstimator(model), random_state=0, n_bootstrap=10).fit(X)
    order = np.argsort(test.modes_[:, 0])
    assert_allclose(test.modes_[order], [[0, 0], [6, 2]], atol=0.05)
    assert_allclose(test.mode_covariances_[order], model.covariances_, rtol=0.05, atol=0.02)


def test_one_mode_gives_the_plain_test():
    X = np.random.RandomState(0).normal(size=(60, 2))
    density = FrozenEstimator(mixture([1.0], [[0.2, 0.0]], [np.eye(2)]))
    plain, perturbed = (T(density, random_state=0).fit(X) for T in (KSDTest, PerturbedKSDTest))
    assert len(perturbed.modes_) == 1
    assert (plain.statistic_, plain.pvalue_) == (perturbed.statistic_, perturbed.pvalue_)


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.3])
def test_perturbations_leave_the_density_invariant(scale):
    """And the Jacobian matters: without it the same chain drifts away."""
    covariances = np.array([np.eye(2), np.diag([4.0, 2.0])])
    means = np.array([[0.0, 0.0], [6.0, 2.0]])
    model = mixture([0.5, 0.5], means, covariances)

    def draw(seed):
        rng = np.random.RandomState(seed)
        second = rng.uniform(size=5000) < 0.5
        noise = rng.normal(size=(5000, 2))
        return np.where(second[:, None], means[1] + noise * [2, 2**0.5], noise)

    def pvalues(jumps):
        def log_ratio(start, end):
            return model.score_samples(end) - model.score_samples(start)

        moved = perturb(draw(0), means, jumps, [scale], 10, log_ratio, np.random.RandomState(2))
        return [stats.ks_2samp(moved[0][:, j], draw(1)[:, j]).pvalue for j in range(2)]

    maps, logs = jump_maps(covariances)
    assert min(pvalues((maps, logs))) > 0.001
    assert min(pvalues((maps, 0 * logs))) < 1e-5


def rejections(make, repeats, share, n_samples=200):
    """Share of samples rejected; the modes are searched for on the first sample alone."""
    rng = np.random.RandomState(0)
    test = make(TWO_MODES, random_state=0, n_bootstrap=300)
    test.fit(draw_two_modes(n_samples, rng, share))
    results = []
    for seed in range(repeats):
        sample = draw_two_modes(n_samples, rng, share)
        results.append(test.set_params(random_state=seed).test(sample).reject)
    return np.mean(results)


@pytest.mark.parametrize("make", [KSDTest, PerturbedKSDTest])
@pytest.mark.slow
def test_level_of_both_tests(make):
    assert 0.01 <= rejections(make, 200, 0.5) <= 0.10


def test_perturbation_sees_the_missing_mode_that_the_plain_test_does_not():
    assert rejections(KSDTest, 20, 1.0) <= 0.15
    assert rejections(PerturbedKSDTest, 20, 1.0) >= 0.95


@pytest.mark.slow
def test_perturbation_sees_wrong_proportions():
    assert rejections(KSDTest, 40, 0.8) <= 0.15
    assert rejections(PerturbedKSDTest, 40, 0.8) >= 0.95


def test_scale_chosen_on_one_half_has_power_and_level():
    def make(*args, **kwargs):
        return PerturbedKSDTest(*args, strategy="ospksd", n_starts=5, **kwargs)

    assert rejections(make, 10, 1.0) >= 0.8
    assert rejections(make, 20, 0.5) <= 0.2


def test_score_alone_suffices_for_the_perturbations():
    density = stein_score(TWO_MODES)
    sample = np.random.RandomState(0).normal(size=(200, 1))
    test = PerturbedKSDTest(density, random_state=0, n_bootstrap=200).fit(sample)
    assert len(test.modes_) == 2
    assert test.reject_


@pytest.mark.parametrize("n_samples", [200, 300])
def test_search_over_bandwidths_picks_inside_the_grid(n_samples):
    rng = np.random.RandomState(0)
    second = rng.uniform(size=n_samples) < 0.5
    X = rng.normal(size=(n_samples, 2)) + second[:, None] * [6.0, 2.0]
    grid = np.geomspace(0.05, 5, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        search = GridSearchCV(
            KSDTest(KernelDensity(), n_bootstrap=10, random_state=0),
            {"density__bandwidth": grid},
            cv=KFold(5, shuffle=True, random_state=0),
        ).fit(X)
    assert 0.3 < search.best_params_["density__bandwidth"] < 2


def test_normality_test_calibrated_by_the_parametric_bootstrap():
    rng = np.random.RandomState(0)
    test = KSDTest(calibration="parametric", n_bootstrap=60, alpha=0.1, random_state=0)
    null = [test.fit(3 + 2 * rng.normal(size=(40, 2))).reject_ for _ in range(40)]
    assert np.mean(null) <= 0.25
    assert test.fit(rng.exponential(size=(80, 2))).reject_
    mixture_test = KSDTest(GaussianMixture(), calibration="parametric", n_bootstrap=20)
    assert mixture_test.set_params(random_state=0).fit(rng.exponential(size=(80, 2))).reject_
    with pytest.raises(ValueError, match="parametric"):
        KSDTest(lambda x: -x, calibration="parametric").fit(rng.normal(size=(20, 2)))


def test_density_fitted_to_the_tested_sample_warns():
    with pytest.warns(UserWarning, match="parametric"):
        KSDTest(n_bootstrap=10).fit(np.random.RandomState(0).normal(size=(20, 1)))


def test_both_tests_share_the_draws_of_the_bootstrap_and_repeat():
    X = draw_two_modes(50, np.random.RandomState(0))
    for make in (KSDTest, PerturbedKSDTest):
        test = make(TWO_MODES, random_state=3, n_bootstrap=50)
        first, second = test.fit(X).pvalue_, test.fit(X).pvalue_
        assert first == second == test.test(X).pvalue
    streams = [make(random_state=3)._streams()[0] for make in (KSDTest, PerturbedKSDTest)]
    assert_array_equal(*(stream.uniform(size=3) for stream in streams))


@pytest.mark.parametrize("density", [lambda x: x[:, :1], lambda x: x / 0.0 * 0.0])
def test_bad_scores_raise(density):
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="scores"):
        KSDTest(density).fit(np.random.RandomState(0).normal(size=(10, 2)))


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_units_of_the_sample_do_not_matter(scale):
    X = np.random.RandomState(0).normal(size=(60, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected, ours = (KSDTest(random_state=0).fit(s * X).pvalue_ for s in (1, scale))
    assert_allclose(ours, expected, atol=0.01)
