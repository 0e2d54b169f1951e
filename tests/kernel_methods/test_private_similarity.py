"""Tests of private sums of similarities."""

import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, stats
from sklearn.datasets import load_digits, make_blobs
from sklearn.metrics.pairwise import euclidean_distances, manhattan_distances
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import StandardScaler

from skpapers.kernel_methods import (
    PrivacyLeakWarning,
    PrivateKernelDensity,
    PrivateSimilarity,
    PrivateSimilarityClassifier,
)
from skpapers.kernel_methods._private_features import features, kernel_terms
from skpapers.kernel_methods._private_noise import (
    UNITS,
    Budget,
    Entropy,
    Noise,
    bernoulli_exp,
    discrete_gaussian,
    discrete_laplace,
    discretization_delta,
    gaussian_delta,
    gaussian_scale,
)
from skpapers.kernel_methods._private_similarity import clipped
from skpapers.kernel_methods._private_trees import (
    consistent_leaves,
    distance_sums,
    dyadic_prefix,
    dyadic_variance,
    haar_variance,
    tree,
)

KERNELS = {
    "gaussian": lambda X, Y: np.exp(-euclidean_distances(X, Y, squared=True)),
    "exponential": lambda X, Y: np.exp(-euclidean_distances(X, Y)),
    "laplacian": lambda X, Y: np.exp(-manhattan_distances(X, Y)),
    "cauchy": lambda X, Y: 1 / (1 + euclidean_distances(X, Y, squared=True)),
    "rational": lambda X, Y: 1 / (1 + euclidean_distances(X, Y)),
    "rational_l1": lambda X, Y: 1 / (1 + manhattan_distances(X, Y)),
}


@pytest.fixture(scope="module")
def points():
    rng = np.random.RandomState(0)
    return rng.normal(size=(400, 3)), 1.5 * rng.normal(size=(60, 3))


def bound(epsilon, delta):
    """Largest advantage of a test between neighbours: the total variation that is possible."""
    return (np.expm1(epsilon) + 2 * delta) / (np.exp(epsilon) + 1)


def measured_advantage(ratio_in, ratio_out):
    """Advantage of a likelihood-ratio test: threshold from one half, advantage on the other."""
    half = len(ratio_in) // 2
    candidates = np.quantile(np.r_[ratio_in[:half], ratio_out[:half]], np.linspace(0, 1, 101))
    gains = [np.mean(ratio_in[:half] > t) - np.mean(ratio_out[:half] > t) for t in candidates]
    best = candidates[int(np.argmax(gains))]
    return np.mean(ratio_in[half:] > best) - np.mean(ratio_out[half:] > best)


def log_ratio(released, with_record, without, scale, mechanism):
    power = 1 if mechanism == "laplace" else 2
    distances = [np.abs(released - s) ** power for s in (without, with_record)]
    return ((distances[0] - distances[1]) / scale**power / power).sum(axis=-1)


# Noise.


@pytest.mark.parametrize("random_state", [0, None])
@pytest.mark.parametrize("draw, power", [(discrete_laplace, 1), (discrete_gaussian, 2)])
def test_samplers_follow_their_probability_mass(draw, power, random_state):
    scale, n = 3, 100_000
    drawn = draw(scale, n, Entropy(random_state))
    support = np.arange(-200, 201)
    mass = np.exp(-(np.abs(support / scale) ** power) / power)
    expected = n * mass / mass.sum()
    common = expected > 20
    counts = np.array([np.sum(drawn == k) for k in support[common]])
    rest = [n - counts.sum()], [n - expected[common].sum()]
    statistic = ((np.r_[counts, rest[0]] - np.r_[expected[common], rest[1]]) ** 2) / np.r_[
        expected[common], rest[1]
    ]
    assert stats.chi2.sf(statistic.sum(), common.sum()) > 1e-5


def test_bernoulli_of_exponentials():
    n = 40_000
    for numerator, denominator in ((0, 7), (3, 7), (7, 7), (23, 7)):
        hits = bernoulli_exp(np.full(n, numerator), denominator, Entropy(0)).mean()
        chance = np.exp(-numerator / denominator)
        assert abs(hits - chance) <= 4 * np.sqrt(chance * (1 - chance) / n)


def test_uniform_integers_have_no_modulo_bias():
    drawn = Entropy(0).below(3 * 2**61, 30_000)  # a plain remainder would prefer the first third
    assert_allclose(np.mean(drawn < 2**61), 1 / 3, atol=0.015)


def test_operating_system_is_the_default_source_of_noise(points, monkeypatch):
    drawn = []
    source = "skpapers.kernel_methods._private_noise.os.urandom"
    monkeypatch.setattr(source, lambda size: drawn.append(size) or bytes(range(256)) * (size // 8))
    Entropy().below(2, 256)
    assert drawn
    monkeypatch.undo()
    first, second = (PrivateSimilarity().fit(points[0]).count_ for _ in range(2))
    assert first != second
    first, second = (PrivateSimilarity(random_state=3).fit(points[0]).count_ for _ in range(2))
    assert first == second


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-5])
def test_gaussian_calibration_meets_the_definition_of_privacy(epsilon, delta):
    scale = gaussian_scale(epsilon, delta)
    with_record, without = stats.norm(1, scale).pdf, stats.norm(0, scale).pdf
    crossing = epsilon * scale**2 + 0.5
    excess, _ = integrate.quad(
        lambda x: with_record(x) - np.exp(epsilon) * without(x),
        *(crossing, crossing + 40 * scale),
        epsabs=1e-16,
        epsrel=1e-9,
        limit=500,
    )
    assert_allclose(excess, delta, rtol=1e-5)
    assert gaussian_delta(0.999 * scale, epsilon) > delta > gaussian_delta(1.001 * scale, epsilon)


@pytest.mark.parametrize("shift", [(20,), (7,), (12, 16), (1, 1)])
@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_bound_of_what_the_grid_adds_to_delta(shift, epsilon):
    units = 15
    axis = np.arange(-15 * units, 15 * units + 1)
    grid = np.stack(np.meshgrid(*[axis] * len(shift)), axis=-1).reshape(-1, len(shift))
    mass, moved = (np.exp(-((grid - s) ** 2).sum(1) / (2 * units**2)) for s in (0, shift))
    discrete = np.maximum(moved - np.exp(epsilon) * mass, 0).sum() / mass.sum()
    scale = units / np.linalg.norm(shift)
    lost = discretization_delta(len(shift), scale, units)
    assert abs(discrete - gaussian_delta(scale, epsilon)) <= lost


def test_released_sums_stay_on_a_grid_and_within_their_sensitivity():
    rows = clipped(10 * np.random.RandomState(0).normal(size=(500, 7)), 2.0)
    grid = 2.0 / UNITS
    budget = Budget(1.0, 1e-6, "laplace", False)
    released = budget.release(rows, 2.0, budget.noise(7, 0))
    assert_array_equal(released, grid * np.rint(released / grid))
    silent = Noise(np.zeros(7 * len(rows), dtype=np.int64))
    added = np.stack([budget.release(rows[[i]], 2.0, silent) for i in range(len(rows))])
    assert (np.rint(added / grid).astype(np.int64) ** 2).sum(axis=1).max() <= UNITS**2
    assert_allclose(added, rows, atol=3 * grid)


# Privacy.


@pytest.mark.parametrize("mechanism", ["laplace", "gaussian"])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 5.0])
def test_membership_advantage_stays_below_the_bound_for_the_worst_record(mechanism, epsilon):
    n_draws, delta = 100_000, 1e-5
    budget = Budget(epsilon, delta, mechanism, False)
    scale = budget.block_scale(budget.relative_scale(1), 1.0, 1.0, 1.0)
    ratios = []
    for rows in (np.ones((3, 1)), np.ones((2, 1))):
        copies = np.broadcast_to(rows, (len(rows), n_draws))
        released = budget.release(copies, scale, budget.noise(n_draws, len(rows)))
        ratios.append(log_ratio(released[:, None], 3.0, 2.0, scale, mechanism))
    advantage = measured_advantage(*ratios)
    noise = 3 * np.sqrt(0.5 / (n_draws // 2))
    assert advantage <= bound(epsilon, delta if mechanism == "gaussian" else 0) + noise
    exact = (
        -np.expm1(-epsilon / 2) if mechanism == "laplace" else 1 - 2 * stats.norm.sf(0.5 / scale)
    )
    assert_allclose(advantage, exact, atol=2 * noise)  # the attack is the best there is


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", ["laplace", "gaussian"])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 5.0])
def test_membership_advantage_against_fitted_estimators(mechanism, epsilon):
    advantage, allowed = audit(mechanism, epsilon, n_fits=3000)
    assert advantage <= allowed + 3 * np.sqrt(0.5 / 1500)


def audit(mechanism, epsilon, n_fits, delta=1e-5):
    """Attack all that a fit releases, with full knowledge of everything but one record."""
    X = np.random.RandomState(0).uniform(-0.5, 0.5, size=(10, 2))
    X[-1] = [1.0, 0.0]  # as long as the clipping allows
    settings = {"epsilon": epsilon, "delta": delta, "clip_norm": 1.0, "mechanism": mechanism}
    ratios = []
    for rows in (X, X[:-1]):
        fits = [PrivateSimilarity("sqeuclidean", **settings).fit(rows) for _ in range(n_fits)]
        released = np.array([(s.count, *s.total, s.scatter) for s in (f._summary for f in fits)])
        noise = fits[0]._summary.noise[[0, 1, 1, 2]]
        scale = noise / np.sqrt(2) if mechanism == "laplace" else noise
        true = [np.r_[len(r), r.sum(0), (r**2).sum()] for r in (X, X[:-1])]
        ratios.append(log_ratio(released, *true, scale, mechanism))
    spent = delta if mechanism == "gaussian" else 0.0
    return measured_advantage(*ratios), bound(epsilon, spent)


@pytest.mark.parametrize("mechanism", ["laplace", "gaussian"])
def test_likelihood_ratio_of_an_answer_stays_below_exp_epsilon(mechanism):
    n_draws, epsilon, n_cells = 20_000, 1.0, 8
    X = np.array([0.05, 0.3, 0.35, 0.8, 0.95])
    budget = Budget(epsilon, 1e-6, mechanism, False)
    scale = budget.block_scale(budget.relative_scale(15), 4, 2.0, 1.0)

    def answers(rows, seed):
        noise = budget.noise(15 * n_draws, seed)
        leaves = np.bincount((rows * n_cells).astype(int), minlength=n_cells)
        leaves = np.broadcast_to(leaves, (n_draws, n_cells))
        levels = [budget.release_counts(level, scale, noise) for level in tree(leaves)]
        return distance_sums(consistent_leaves(levels), np.full(n_draws, 1 / n_cells))[:, 0]

    found = answers(X, 0), answers(X[:-1], 1)
    edges = np.quantile(np.concatenate(found), np.linspace(0, 1, 21))
    a, b = (np.histogram(values, edges)[0] for values in found)
    allowed = 3 * np.sqrt(a + np.exp(2) * b) + n_draws * 1e-6
    assert (a <= np.exp(epsilon) * b + allowed).all()
    assert (b <= np.exp(epsilon) * a + 3 * np.sqrt(b + np.exp(2) * a) + n_draws * 1e-6).all()


def test_replacing_a_record_doubles_the_noise(points):
    for mechanism in ("laplace", "gaussian"):
        settings = {"mechanism": mechanism, "n_components": 50, "random_state": 0}
        single, double = (
            PrivateSimilarity(neighbors=neighbors, **settings).fit(points[0]).expected_error_
            for neighbors in ("add_remove", "replace")
        )
        assert_allclose(double, 2 * single, rtol=1e-6)


@pytest.mark.parametrize("similarity", ["gaussian", "sqeuclidean", "l1", "l2", "rational"])
def test_pickle_holds_no_row(similarity):
    X = np.random.RandomState(1).uniform(0.1, 0.9, size=(50, 4))
    y = np.arange(50) % 2
    settings = {"bounds": (0.0, 1.0), "clip_norm": 3.0, "n_cells": 16, "jl_dim": None}
    for model in (
        PrivateSimilarity(similarity, **settings).fit(X),
        PrivateSimilarityClassifier(similarity, **settings).fit(X, y),
    ):
        stored = pickle.dumps(model)
        for value in X.ravel():
            assert value.tobytes() not in stored
            assert value.tobytes()[::-1] not in stored
        for found in arrays_of(model):
            assert not np.isin(found, np.r_[X, X.astype(np.float32)]).any()
            assert len(X) not in np.shape(found)
        assert not hasattr(model, "_noise")


def arrays_of(found):
    if isinstance(found, np.ndarray):
        yield found
    elif isinstance(found, (list, tuple)):
        for item in found:
            yield from arrays_of(item)
    elif hasattr(found, "__dict__"):
        yield from arrays_of(list(vars(found).values()))


def test_bounds_taken_from_data_are_announced(points):
    with pytest.warns(PrivacyLeakWarning, match="clip_norm"):
        PrivateSimilarity("sqeuclidean").fit(points[0])
    with pytest.warns(PrivacyLeakWarning, match="bounds"):
        PrivateSimilarity("l1").fit(points[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PrivateSimilarity("gaussian").fit(points[0])
        PrivateSimilarity("sqeuclidean", clip_norm=1.0).fit(points[0])


def test_spent_budget(points):
    model = PrivateSimilarity(epsilon=0.7, delta=1e-7).fit(points[0])
    assert (model.epsilon_spent_, model.delta_) == (0.7, 1e-7)
    assert PrivateSimilarity(mechanism="laplace").fit(points[0]).delta_ == 0
    assert PrivateSimilarity(epsilon=None).fit(points[0]).epsilon_spent_ == np.inf
    with pytest.raises(ValueError, match="delta"):
        PrivateSimilarity(delta=1e-14).fit(points[0])


# Without noise.


def test_squared_distances_equal_brute_force(points):
    X, Y = points
    expected = euclidean_distances(Y, X, squared=True).sum(axis=1)
    model = PrivateSimilarity("sqeuclidean", epsilon=None).fit(X)
    assert_allclose(model.query(Y), expected, rtol=1e-10)
    clipped_rows = X * np.minimum(1, 0.5 / np.linalg.norm(X, axis=1, keepdims=True))
    model = PrivateSimilarity("sqeuclidean", epsilon=np.inf, clip_norm=0.5).fit(X)
    expected = euclidean_distances(Y, clipped_rows, squared=True).mean(axis=1)
    assert_allclose(model.score_samples(Y), expected, rtol=1e-10)


@pytest.mark.parametrize("consistency", [True, False])
def test_prefix_sums_equal_brute_force_within_rounding(points, consistency):
    X, Y = points
    model = PrivateSimilarity("l1", epsilon=None, bounds=(-5, 5), consistency=consistency)
    error = model.fit(X).query(Y) - manhattan_distances(Y, X).sum(axis=1)
    assert np.abs(error).max() <= 3 * 10 * 400 / 1024


@pytest.mark.parametrize("consistency", [True, False])
@pytest.mark.parametrize("alpha", [0.01, 0.1])
def test_annuli_overestimate_by_alpha_at_most(points, alpha, consistency):
    X, Y = points
    settings = {"bounds": (-5, 5), "alpha": alpha, "consistency": consistency}
    model = PrivateSimilarity("l1", epsilon=None, method="annuli", **settings).fit(X)
    exact, rounding = manhattan_distances(Y, X).sum(axis=1), 3 * 10 * 400 / 1024
    sums = model.query(Y)
    assert (sums >= exact - rounding).all()
    assert (sums <= (1 + alpha) * exact + rounding).all()


@pytest.mark.parametrize("similarity", KERNELS)
def test_kernels_are_close_to_brute_force(points, similarity):
    X, Y = points
    settings = {"epsilon": None, "n_components": 4000, "alpha": 0.01, "random_state": 0}
    model = PrivateSimilarity(similarity, bandwidth=1.5, **settings).fit(X)
    expected = KERNELS[similarity](Y / 1.5, X / 1.5).mean(axis=1)
    assert np.abs(model.score_samples(Y) - expected).mean() < 0.02


def test_distances_embed_in_l1(points):
    X, Y = points
    settings = {"epsilon": None, "clip_norm": 5.0, "jl_dim": 2000, "random_state": 0}
    found = PrivateSimilarity("l2", **settings).fit(X).score_samples(Y)
    assert_allclose(found, euclidean_distances(Y, X).mean(axis=1), rtol=0.05)


def test_projection_keeps_kernels():
    rng = np.random.RandomState(0)
    X, Y = (rng.normal(size=(n, 512)) / 16 for n in (300, 40))
    settings = {"epsilon": None, "n_components": 4000, "bandwidth": 1.5}
    error = [
        np.mean(
            [
                np.abs(model.score_samples(Y) - KERNELS["gaussian"](Y / 1.5, X / 1.5).mean(1))
                for model in (
                    PrivateSimilarity(jl_dim=jl_dim, random_state=seed, **settings).fit(X)
                    for seed in range(3)
                )
            ]
        )
        for jl_dim in (None, 64)
    ]
    assert error[0] < 0.02
    assert error[1] < error[0] + 0.03


@pytest.mark.parametrize("digits", [2, 3, 4, 5, 6])
def test_sums_of_exponentials(digits):
    alpha = 10.0**-digits
    weights, rates = kernel_terms(alpha)
    z = np.r_[0, np.logspace(-8, 6, 4000)]
    assert np.abs(1 / (1 + z) - np.exp(-np.outer(z, rates)) @ weights).max() < alpha
    assert len(weights) <= 2 * np.log(1 / alpha) ** 2


def test_features_have_the_stated_norms():
    rng = np.random.RandomState(0)
    weights = rng.uniform(size=30)
    found = features(rng.normal(size=(500, 4)), rng.normal(size=(30, 4)), np.sqrt(weights))
    assert_allclose((found**2).sum(axis=1), weights.sum())
    assert np.abs(found).sum(axis=1).max() <= np.sqrt(2) * np.sqrt(weights).sum()


# The noise of answers.


def test_consistency_is_least_squares():
    rng = np.random.RandomState(0)
    levels = tree(np.eye(8))
    design = np.concatenate(levels, axis=1).T  # nodes from leaves
    nodes = rng.normal(size=15)
    split = [nodes[:8], nodes[8:12], nodes[12:14], nodes[14:]]
    assert_allclose(consistent_leaves(split), np.linalg.lstsq(design, nodes)[0], atol=1e-12)
    weights = rng.normal(size=(2, 8))
    covariance = np.linalg.inv(design.T @ design)
    assert_allclose(haar_variance(weights), np.diag(weights @ covariance @ weights.T))
    prefix = np.stack([dyadic_prefix([u[:8], u[8:12], u[12:14], u[14:]]) for u in np.eye(15)])
    assert_allclose(design.T @ prefix, np.triu(np.ones((8, 9)), 1))
    expected = ((weights @ np.diff(prefix).T) ** 2).sum(axis=1)
    assert_allclose(dyadic_variance(weights), expected)
    assert (np.count_nonzero(prefix, axis=0) <= 4).all()


def noise_variances(similarity, mechanism, n_fits):
    """Variance of the noise in two queries over many fits, and what is predicted."""
    X = np.random.RandomState(0).uniform(-1, 1, size=(20, 2))
    queries = np.array([[0.0, 0.0], [0.4, -2.0]])
    settings = {"bounds": (-1, 1), "clip_norm": 1.5, "n_components": 20, "n_cells": 16}
    settings |= {"method": "annuli" if similarity == "annuli" else "prefix"}
    settings |= {"consistency": similarity != "dyadic", "mechanism": mechanism}
    name = "l1" if similarity in ("annuli", "dyadic") else similarity
    errors = []
    for seed in range(n_fits):
        noisy, exact = (
            PrivateSimilarity(name, epsilon=epsilon, random_state=seed, **settings).fit(X)
            for epsilon in (1.0, None)
        )
        errors.append(noisy.query(queries) - exact.query(queries))
    std = noisy.query(queries, return_std=True)[1]
    assert std[0] == noisy.expected_error_
    return np.var(errors, axis=0), std**2


@pytest.mark.parametrize("mechanism", ["laplace", "gaussian"])
@pytest.mark.parametrize("similarity", ["l1", "annuli", "dyadic", "sqeuclidean", "gaussian"])
def test_noise_has_the_predicted_variance(similarity, mechanism):
    measured, predicted = noise_variances(similarity, mechanism, n_fits=100)
    assert_allclose(measured, predicted, rtol=0.45)


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", ["laplace", "gaussian"])
@pytest.mark.parametrize("similarity", ["l1", "sqeuclidean", "gaussian"])
def test_noise_has_the_predicted_variance_over_a_thousand_fits(similarity, mechanism):
    measured, predicted = noise_variances(similarity, mechanism, n_fits=1000)
    assert_allclose(measured, predicted, rtol=0.2)


def test_gaussian_noise_does_not_grow_with_the_number_of_features(points):
    X, Y = points
    expected, measured = [], []
    for n_components in (200, 2000):
        settings = {"n_components": n_components, "alpha": 0.2}
        errors = []
        for seed in range(60):
            noisy, exact = (
                PrivateSimilarity(epsilon=epsilon, random_state=seed, **settings).fit(X[:20])
                for epsilon in (1.0, None)
            )
            errors.append(noisy.query(Y[:20]) - exact.query(Y[:20]))
        expected.append(noisy.expected_error_)
        measured.append(np.std(errors))
    assert_allclose(expected[0], expected[1], rtol=1e-6)
    assert_allclose(measured, expected, rtol=0.1)
    laplace = [
        PrivateSimilarity(mechanism="laplace", n_components=m).fit(X[:20]).expected_error_
        for m in (200, 2000)
    ]
    assert_allclose(laplace[1] / laplace[0], np.sqrt(10), rtol=0.01)


def test_relative_error_of_mean_distances_halves_when_records_double():
    errors = []
    for n_samples in (500, 1000, 2000):
        rng = np.random.RandomState(0)
        found = []
        for seed in range(40):
            X = rng.uniform(size=(n_samples, 1))
            settings = {"bounds": (0, 1), "n_cells": 1024, "random_state": seed}
            noisy, exact = (
                PrivateSimilarity("l1", epsilon=epsilon, **settings).fit(X)
                for epsilon in (1.0, None)
            )
            Y = np.linspace(0, 1, 11)[:, None]
            found.append(np.abs(noisy.score_samples(Y) / exact.score_samples(Y) - 1))
        errors.append(np.mean(found))
    ratios = np.divide(errors[1:], errors[:-1])
    assert ((ratios > 0.5 / 1.35) & (ratios < 0.5 * 1.35)).all()


# The estimators built on it.


@pytest.mark.parametrize("similarity, kernel", [("gaussian", "gaussian"), ("exponential",) * 2])
def test_kernel_density_agrees_with_scikit_learn(similarity, kernel):
    rng = np.random.RandomState(0)
    X, Y = rng.normal(size=(1000, 2)), rng.normal(size=(50, 2))
    settings = {"bandwidth": 1.0, "n_components": 5000, "random_state": 0}
    model = PrivateKernelDensity(similarity, epsilon=None, **settings).fit(X)
    width = 1 / np.sqrt(2) if kernel == "gaussian" else 1.0
    peer = KernelDensity(kernel=kernel, bandwidth=width).fit(X)
    assert_allclose(np.exp(model.score_samples(Y)), np.exp(peer.score_samples(Y)), atol=0.01)
    assert model.score(Y) == pytest.approx(model.score_samples(Y).sum())


def test_laplacian_density_integrates_to_one():
    X = np.random.RandomState(0).normal(size=(300, 1))
    model = PrivateKernelDensity("laplacian", epsilon=None, bandwidth=0.5, random_state=0).fit(X)
    grid = np.linspace(-12, 12, 4001)[:, None]
    mass = integrate.trapezoid(np.exp(model.score_samples(grid)), grid[:, 0])
    assert_allclose(mass, 1, atol=0.05)


@pytest.mark.parametrize("epsilon, least", [(np.inf, 0.88), (3.0, 0.87), (1.0, 0.78), (0.3, 0.3)])
def test_digits_are_classified_privately(epsilon, least):
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X - 8, y, test_size=0.3, random_state=0)
    settings = {"epsilon": epsilon, "delta": 1e-5, "normalize": True, "clip_norm": 1.0}
    scores = [
        PrivateSimilarityClassifier(random_state=seed, **settings).fit(X, y).score(X_test, y_test)
        for seed in range(10)
    ]
    assert np.mean(scores) > least


def test_distance_to_the_mean_is_accurate_in_every_seed():
    X, y = make_blobs(300, random_state=0)
    X = StandardScaler().fit_transform(X)
    for seed in range(30):
        model = PrivateSimilarityClassifier(epsilon=1.0, clip_norm=3.0, random_state=seed)
        assert model.fit(X, y).score(X, y) > 0.83


def test_distance_to_the_mean_beats_the_mean_distance():
    X, y = load_digits(return_X_y=True)
    settings = {"epsilon": 1.0, "delta": 1e-5, "normalize": True}
    for seed in range(5):
        by_mean, by_scatter = (
            PrivateSimilarityClassifier(scatter=scatter, random_state=seed, **settings)
            .fit(X - 8, y)
            .score(X - 8, y)
            for scatter in (False, True)
        )
        assert by_mean > by_scatter


@pytest.mark.parametrize("similarity", ["gaussian", "rational", "l1", "l2"])
def test_classifier_takes_every_similarity(similarity):
    X, y = make_blobs(600, centers=[[0, 0], [4, 4], [-4, 4]], random_state=0)
    settings = {"bandwidth": 2.0, "bounds": (-8, 8), "clip_norm": 8.0, "random_state": 0}
    model = PrivateSimilarityClassifier(similarity, **settings).fit(X, y)
    assert model.score(X, y) > 0.9
    assert_array_equal(model.predict(X), model.predict_proba(X).argmax(axis=1))


@pytest.mark.parametrize(
    "params, match",
    [
        ({"similarity": "l1", "bounds": (1, 0)}, "bounds"),
        ({"similarity": "l1", "n_cells": 100, "bounds": (0, 1)}, "n_cells"),
        ({"similarity": "l1", "jl_dim": 3, "bounds": (0, 1)}, "jl_dim"),
    ],
)
def test_wrong_settings_are_named(points, params, match):
    with pytest.raises(ValueError, match=match):
        PrivateSimilarity(**params).fit(points[0])
