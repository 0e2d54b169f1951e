"""Tests of boosting by level sets and of the calibration errors."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.neighbors import KNeighborsRegressor
from sklearn.tree import DecisionTreeRegressor

from skpapers.calibration import (
    LevelSetBoostingRegressor,
    calibration_error,
    multicalibration_error,
)
from skpapers.calibration._calibration_errors import nearest_level, quantile_levels

STUMP = DecisionTreeRegressor(max_depth=1, random_state=0)


def friedman(seed, n_samples=1000, noise=1.0):
    return make_friedman1(n_samples, noise=noise, random_state=seed)


def switch(rng, n_samples=4000):
    """The slope of the second feature turns its sign with the first: no linear model has it."""
    X = rng.uniform(size=(n_samples, 8))
    slope = np.sign(X[:, 0] - 0.5)
    return X, X[:, 0] + slope * (X[:, 1] - 0.5) + 0.1 * rng.normal(size=n_samples)


def replay(estimator, X, y, Z, m, rate, tol, min_rows, center):
    """The algorithm, a row and a level at a time."""
    low, width = y.min(), y.max() - y.min()

    def nearest(values):
        return np.array([int(np.ceil((v - low) / width * m - 0.5)) for v in values])

    def clip(values):
        return np.minimum(np.maximum(values, low), low + width)

    first = clone(estimator).fit(X, y)
    f, g = clip(first.predict(X)), clip(first.predict(Z))
    errors = [np.mean((y - f) ** 2) / width**2]
    for t in range(1, 101):
        cells, others = nearest(f), nearest(g)
        centers = [low + width * k / m for k in range(m + 1)]
        if center == "mean":
            centers = [y[cells == k].mean() if k in cells else c for k, c in enumerate(centers)]
        f, g = (np.array([centers[k] for k in which]) for which in (cells, others))
        for k in np.unique(cells):
            if np.sum(cells == k) > min_rows:
                h = clone(estimator).fit(X[cells == k], y[cells == k])
                for values, rows, where in ((f, X, cells), (g, Z, others)):
                    for i in np.flatnonzero(where == k):
                        values[i] = (1 - rate) * values[i] + rate * h.predict(rows[i : i + 1])[0]
        f, g = clip(f), clip(g)
        errors.append(np.mean((y - f) ** 2) / width**2)
        if t >= 3 and errors[-2] - errors[-1] <= tol:
            break
    return f, g, errors


# The algorithm.


@pytest.mark.parametrize("center", ["grid", "mean"])
@pytest.mark.parametrize("rate", [1.0, 0.6])
@pytest.mark.parametrize("estimator", [STUMP, LinearRegression()], ids=["stump", "linear"])
def test_predictions_are_those_of_the_algorithm_row_by_row(estimator, rate, center):
    X, y = friedman(0, 150)
    Z = friedman(1, 30)[0]
    settings = {"n_levels": 6, "learning_rate": rate, "center": center}
    model = LevelSetBoostingRegressor(estimator, min_samples_level=15, tol=1e-3, **settings)
    model.fit(X, y)
    train, unseen, errors = replay(estimator, X, y, Z, 6, rate, 1e-3, 15, center)
    assert_allclose(model.train_errors_, errors, rtol=1e-10)
    assert_allclose(model.predict(X), train, rtol=1e-12, atol=1e-12)
    assert_allclose(model.predict(Z), unseen, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("max_depth", [1, 3])
@pytest.mark.parametrize("m", [4, 10, 25])
def test_a_round_raises_the_error_by_no_more_than_rounding_does(m, max_depth):
    X, y = friedman(m, 800)
    tree = DecisionTreeRegressor(max_depth=max_depth, random_state=0)
    model = LevelSetBoostingRegressor(tree, n_levels=m, tol=0, min_samples_level=0).fit(X, y)
    assert np.diff(model.train_errors_).max() <= 1 / (4 * m**2) + 1e-12
    assert 3 <= model.n_rounds_ <= model.max_rounds
    assert model.train_errors_[-1] < model.train_errors_[0]


def test_constants_on_level_sets_end_calibrated():
    X, y = load_diabetes(return_X_y=True)
    model = LevelSetBoostingRegressor(
        DummyRegressor(), init=Ridge(), n_levels=5, min_samples_level=0
    ).fit(X, y)
    f = model.predict(X)
    means = {v: y[f == v].mean() for v in np.unique(f)}
    assert len(means) > 2
    assert_allclose(f, [means[v] for v in f], rtol=1e-10)
    assert calibration_error(y, f) <= 1e-20 * y.var()
    rounded = clone(model).set_params(round_output=True).fit(X, y).predict(X)
    assert np.isin(rounded, model.levels_).all()
    assert calibration_error(y, rounded) <= np.ptp(y) ** 2 / (4 * 5**2)


def test_what_is_left_when_no_level_improves_bounds_every_correlation():
    """Fitting a multiple of a feature would lower the error by its squared correlation."""
    X, y = switch(np.random.default_rng(0), 2000)
    m, width = 12, np.ptp(y)
    model = LevelSetBoostingRegressor(LinearRegression(), n_levels=m, tol=1e-5).fit(X, y)
    *_, entering, output = model.staged_predict(X)
    cells = nearest_level(entering, model.levels_)
    v = model.levels_[cells]
    gap = (np.mean((y - v) ** 2) - np.mean((y - output) ** 2)) / width**2
    assert gap <= model.tol + 1 / (2 * m**2)
    checked = 0
    for k in model.rounds_[-1]:
        rows = cells == k
        correlation = np.mean(((y - v) / width)[rows, None] * X[rows], axis=0)
        bound = np.mean(X[rows] ** 2, axis=0) * gap / rows.mean()
        assert (correlation**2 <= bound * (1 + 1e-9)).all()
        checked += 1
    assert checked > 5


def test_nearest_level_takes_the_lower_of_two():
    levels = np.array([0.0, 0.5, 1.0])
    assert_array_equal(nearest_level([-3, 0.25, 0.26, 0.75, 0.76, 9], levels), [0, 0, 1, 1, 2, 2])


def test_quantile_levels_hold_equal_shares_of_the_targets():
    y = np.random.RandomState(0).exponential(size=6000)
    levels = quantile_levels(y, 5)
    edges = np.quantile(y, np.arange(1, 6) / 6)
    assert_array_equal(np.searchsorted(edges, levels), np.arange(6))
    assert_allclose(quantile_levels([0, 0, 0, 1], 3), [0, 0.5])
    weighted = quantile_levels(np.arange(5.0), 3, np.array([1.0, 2, 0, 4, 1]))
    assert_array_equal(weighted, quantile_levels(np.repeat(np.arange(5.0), [1, 2, 0, 4, 1]), 3))


# The estimator.


def test_weights_count_rows():
    X, y = friedman(0, 300)
    weight = np.random.RandomState(0).randint(0, 4, size=300)
    model = LevelSetBoostingRegressor(STUMP, binning="quantile", center="mean")
    weighted = clone(model).fit(X, y, sample_weight=weight)
    repeated = clone(model).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    assert_array_equal(weighted.levels_, repeated.levels_)
    assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-9)
    with pytest.raises(ValueError, match="sample_weight"):
        LevelSetBoostingRegressor(KNeighborsRegressor()).fit(X, y, sample_weight=weight)
    with pytest.raises(ValueError, match="non-zero"):
        model.fit(X, y, sample_weight=0 * weight)


def test_a_fitted_init_is_used_as_it_is():
    X, y = friedman(0)
    ridge = Ridge().fit(X[:100], y[:100])
    model = LevelSetBoostingRegressor(init=ridge, random_state=0).fit(X, y)
    assert model.init_ is ridge
    frozen = clone(LevelSetBoostingRegressor(init=FrozenEstimator(ridge), random_state=0))
    assert_array_equal(frozen.fit(X, y).predict(X), model.predict(X))
    refitted = LevelSetBoostingRegressor(init=Ridge(), random_state=0).fit(X, y)
    assert_allclose(refitted.init_.coef_, Ridge().fit(X, y).coef_)
    constant = LevelSetBoostingRegressor(init="mean", random_state=0).fit(X, y)
    assert_allclose(constant.init_.predict(X[:1]), y.mean())


def test_held_out_rows_keep_what_overfits_away():
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(400, 5)), rng.normal(size=400)
    tree = DecisionTreeRegressor(random_state=0)
    settings = {"init": "mean", "n_levels": 5, "random_state": 0}
    model = LevelSetBoostingRegressor(tree, validation_fraction=0.5, **settings).fit(X, y)
    assert model.n_rounds_ == 0
    assert len(model.validation_errors_) == 1
    assert np.ptp(model.predict(X)) == 0
    X, y = friedman(0, 2000)
    model = LevelSetBoostingRegressor(validation_fraction=0.3, random_state=0).fit(X, y)
    assert model.n_rounds_ >= 2
    assert model.validation_errors_[-1] < 0.7 * model.validation_errors_[0]
    assert len(model.validation_errors_) == len(model.train_errors_) == model.n_rounds_ + 1


def test_small_level_sets_keep_their_value():
    X, y = friedman(0, 300)
    model = LevelSetBoostingRegressor(STUMP, n_levels=10, min_samples_level=40).fit(X, y)
    before, *_ = model.staged_predict(X)
    cells = nearest_level(before, model.levels_)
    assert set(model.rounds_[0]) == {k for k in range(11) if np.sum(cells == k) > 40}
    none = LevelSetBoostingRegressor(STUMP, min_samples_level=300).fit(X, y)
    assert none.n_rounds_ == 0
    assert_array_equal(none.predict(X), clone(STUMP).fit(X, y).predict(X))


def test_stages_jobs_level_sets_and_limits():
    X, y = friedman(0)
    model = LevelSetBoostingRegressor(random_state=0).fit(X, y)
    stages = list(model.staged_predict(X))
    assert len(stages) == model.n_rounds_ + 1
    errors = [mean_squared_error(y, f) / np.ptp(y) ** 2 for f in stages]
    assert_allclose(errors, model.train_errors_)
    assert_array_equal(model.level_set(X), nearest_level(stages[-1], model.levels_))
    far = model.predict(1e6 * (X - 0.5))
    assert far.min() >= y.min()
    assert far.max() <= y.max()
    threads = clone(model).set_params(n_jobs=2).fit(X, y)
    assert_array_equal(threads.predict(X), model.predict(X))
    with pytest.warns(ConvergenceWarning, match="max_rounds=3"):
        clone(model).set_params(max_rounds=3).fit(X, y)


def test_the_weak_learner_judges_the_rows():
    X, y = friedman(0)
    model = LevelSetBoostingRegressor(STUMP).fit(X, y)
    from_sparse = clone(model).fit(sparse.csr_array(X), y)
    assert_allclose(from_sparse.predict(sparse.csr_array(X)), model.predict(X))
    X[::7, 3] = np.nan
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(10)])
    assert clone(model).fit(frame, y).score(frame, y) > 0.5
    with pytest.raises(ValueError, match="NaN"):
        LevelSetBoostingRegressor(LinearRegression()).fit(frame, y)


def test_a_constant_target_is_predicted():
    X, _ = friedman(0, 50)
    assert_array_equal(LevelSetBoostingRegressor().fit(X, np.full(50, 3.0)).predict(X), 3.0)


# The errors.


def test_calibration_error_of_known_probabilities():
    """Two cells: predictions 0.25 where half are ones, 0.75 where all are."""
    y, f = [0, 1, 1, 1, 1, 1], [0.25, 0.25, 0.75, 0.75, 0.75, 0.75]
    expected = (2 * 0.25**2 + 4 * 0.25**2) / 6
    assert_allclose(calibration_error(y, f, n_levels=3), expected)
    assert_allclose(calibration_error(y, f, weights=[1, 1, 0, 0, 0, 0]), 0.25**2)
    assert calibration_error(y, y) == 0
    # in one cell the residuals of both cancel in part
    assert_allclose(calibration_error(y, f, n_levels=1, y_range=(-9, 1)), 0.25**2)


def test_group_errors_are_sums_over_cells():
    rng = np.random.RandomState(0)
    y, f, w = rng.uniform(size=(3, 500))
    h = rng.normal(size=500)
    member = rng.uniform(size=500) < 0.3
    found = multicalibration_error(
        y, f, np.column_stack([member, h]), n_levels=7, y_range=(0, 1), weights=w
    )
    cells, expected = np.rint(7 * f), np.zeros(2)
    for k in range(8):
        rows = cells == k
        both = rows & member
        expected[0] += w[both].sum() / w.sum() * np.average((y - f)[both], weights=w[both]) ** 2
        moment = np.average((h * (y - f))[rows], weights=w[rows])
        expected[1] += w[rows].sum() / w.sum() * moment**2
    assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_levels": 0}, "n_levels"),
        ({"y_range": (1, 1)}, "y_range"),
        ({"weights": [0, 0]}, "non-zero"),
        ({"groups": [[1], [0], [1]]}, "inconsistent"),
        ({"f": [0, np.nan]}, "f contains"),
    ],
)
def test_bad_arguments_of_the_errors_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        multicalibration_error(**{"y": [0, 1], "f": [0, 1], **settings})


# The claims.


@pytest.mark.parametrize("seed", range(4))
def test_linear_models_on_level_sets_learn_what_no_linear_model_can(seed):
    rng = np.random.default_rng(seed)
    (X, y), (Z, t) = switch(rng), switch(rng)
    linear = LinearRegression().fit(X, y).predict(Z)
    boosted = LevelSetBoostingRegressor(LinearRegression(), n_levels=20).fit(X, y).predict(Z)
    quadrant = 2 * (Z[:, 0] > 0.5) + (Z[:, 1] > 0.5)
    groups = quadrant[:, None] == np.arange(4)

    def error(f):
        return multicalibration_error(t, f, groups, n_levels=20).sum()

    assert mean_squared_error(t, boosted) <= 0.3 * mean_squared_error(t, linear)
    assert error(boosted) <= 0.15 * error(linear)


@pytest.mark.parametrize("seed", range(3))
def test_stumps_are_as_good_as_gradient_boosting_and_faster_per_round(seed):
    (X, y), (Z, t) = friedman(seed, 4000), friedman(seed + 100, 4000)
    model = LevelSetBoostingRegressor(n_levels=50, random_state=0).fit(X, y)
    assert model.score(Z, t) >= 0.79
    boosting = GradientBoostingRegressor(max_depth=1, n_estimators=10, learning_rate=1)
    ten_rounds = list(model.staged_predict(Z))[10]
    assert r2_score(t, ten_rounds) >= boosting.fit(X, y).score(Z, t) + 0.03


@pytest.mark.parametrize("seed", range(3))
def test_a_model_that_exists_is_repaired_on_groups(seed):
    (X, y), (Z, t) = friedman(seed, 4000), friedman(seed + 100, 4000)
    ridge = Ridge(alpha=1000).fit(X, y)
    model = LevelSetBoostingRegressor(init=ridge, n_levels=20, random_state=0).fit(X, y)
    thresholds = [Z[:, 3] > 0.5, Z[:, 3] <= 0.5, Z[:, 2] > 0.5]  # what stumps can tell
    groups = np.column_stack([*thresholds, Z[:, 0] * Z[:, 1] > 0.25])  # and what they cannot
    before = multicalibration_error(t, ridge.predict(Z), groups)
    after = multicalibration_error(t, model.predict(Z), groups)
    assert before.min() > 2
    assert after[:3].max() <= 0.15
    assert after[3] <= 0.1 * before[3]
    assert ridge.score(Z, t) < 0.4
    assert model.score(Z, t) >= 0.75


def test_without_a_weak_learner_that_sees_signal_the_levels_do_not_separate():
    """y is x1 or 1 - x1 by the side of x0: no linear signal, one level set at the start."""
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(4000, 8))
    y = np.where(X[:, 0] > 0.5, X[:, 1], 1 - X[:, 1]) + 0.1 * rng.normal(size=4000)
    linear = LinearRegression().fit(X, y)
    model = LevelSetBoostingRegressor(LinearRegression(), n_levels=20).fit(X, y)
    noise = 0.1**2 / mean_squared_error(y, linear.predict(X))
    share = mean_squared_error(y, model.predict(X)) / mean_squared_error(y, linear.predict(X))
    assert share > 2 * noise
