"""Tests of learning where a fixed predictor had better abstain."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import approx_fprime, brentq
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from skpapers.calibration import (
    FixedPredictorRejector,
    coverage_risk_curve,
    reject_surrogate_loss,
    rejection_loss,
)
from skpapers.calibration._rejectors import (
    EXP_LIMIT,
    best_constant,
    error_threshold,
    exp_linear,
    fit_linear,
    linear_objective,
)

SETTINGS = [(2.0, 1.0), (1.0, 0.5), (3.0, 0.7), (0.5, 2.0)]


def hidden_noise(rng, n_samples):
    """Labels are flipped where the third feature is large: the classifier is wrong and sure."""
    X = rng.normal(size=(n_samples, 6))
    flipped = (X[:, 2] > 0.5) & (rng.uniform(size=n_samples) < 0.8)
    return X, ((X[:, 0] + X[:, 1] > 0) ^ flipped).astype(int)


def cells(rng, n_samples=4000):
    """One-hot cells, with the share of errors growing from cell to cell."""
    cell = rng.integers(10, size=n_samples)
    wrong = rng.uniform(size=n_samples) < (cell + 0.5) / 11
    shares = np.array([wrong[cell == k].mean() for k in range(10)])
    assert (shares > 0).all()
    return np.eye(10)[cell], wrong, shares


def judged(X, wrong, **settings):
    """A rejector for a system of which only right and wrong are known."""
    return FixedPredictorRejector(prefit=True, **settings).fit(X, correct=~wrong)


def best_threshold(confidence, error, cost):
    coverage, risk, values = coverage_risk_curve(error, confidence)
    losses = coverage * risk + cost * (1 - coverage)
    best = losses.argmin()
    return values[best] if losses[best] < cost else np.inf


# The losses.


@pytest.mark.parametrize(("alpha", "beta"), SETTINGS)
@pytest.mark.parametrize("cost", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("rate", [0.01, 0.2, 0.9])
def test_pointwise_minimiser_and_its_sign(rate, cost, alpha, beta):
    def risk(r):
        parts = reject_surrogate_loss([1, 0], [r, r], cost, alpha=alpha, beta=beta)
        return rate * parts[0] + (1 - rate) * parts[1]

    step = 1e-4  # the sign of a symmetric difference tells the side of the minimum
    found = brentq(lambda r: risk(r + step) - risk(r - step), -20, 20, xtol=1e-12)
    closed = best_constant(rate, cost, alpha, beta)
    assert_allclose(found, closed, atol=1e-6)
    assert (closed > 0) == (rate < 2 * beta * cost / alpha)


def test_surrogate_bounds_the_rejection_loss():
    rng = np.random.RandomState(0)
    error, r = rng.randint(0, 2, size=500), 5 * rng.normal(size=500)
    for cost in (0.1, 0.5):
        loss = np.where(r > 0, error, cost)
        surrogate = reject_surrogate_loss(error, r, cost)
        assert (surrogate >= loss).all()
        assert_allclose(rejection_loss(error, r > 0, cost), loss.mean())


def test_excess_rejection_loss_is_bounded_by_the_root_of_the_excess_surrogate():
    """For alpha=2, beta=1, at every probability of an error, cost and output."""
    rate, cost, r = np.meshgrid(
        np.linspace(0.01, 0.99, 25), np.linspace(0.02, 0.98, 25), np.linspace(-4, 4, 41)
    )
    surrogate = rate * np.exp(r) + cost * np.exp(-r) - 2 * np.sqrt(rate * cost)
    excess = np.where(r > 0, rate, cost) - np.minimum(rate, cost)
    assert (excess <= 2 * np.sqrt(surrogate) + 1e-9).all()
    assert excess.max() > 0.9


def test_training_loss_has_its_gradient_and_never_overflows():
    rng = np.random.RandomState(0)
    Z, error = rng.normal(size=(40, 3)), rng.randint(0, 2, size=40)
    args = (Z, error / 40, np.full(40, 0.2 / 40), 1.5, 0.7, 0.1)
    theta = rng.normal(size=4)
    numerical = approx_fprime(theta, lambda t: linear_objective(t, *args)[0], 1e-7)
    assert_allclose(linear_objective(theta, *args)[1], numerical, rtol=1e-4, atol=1e-6)
    value, slope = exp_linear(np.array([1e9, EXP_LIMIT + 1, 2.0, -1e9]))
    assert np.isfinite(value).all()
    assert_allclose(value[1:], [2 * np.exp(EXP_LIMIT), np.exp(2), 0])
    assert_allclose(slope[1:], [np.exp(EXP_LIMIT), np.exp(2), 0])
    assert reject_surrogate_loss([0, 1], [1e4, 1e4], 0.1).tolist() == [0, np.inf]


def test_coverage_risk_curve_is_the_sorted_average():
    error, r = np.array([0, 1, 0, 1, 1]), np.array([4.0, 3.0, 3.0, 1.0, 0.0])
    coverage, risk, thresholds = coverage_risk_curve(error, r)
    assert_allclose(coverage, [0.2, 0.6, 0.8, 1])
    assert_allclose(risk, [0, 1 / 3, 0.5, 0.6])
    assert_array_equal(thresholds, [4, 3, 1, 0])
    weighted = coverage_risk_curve(error, r, sample_weight=[2, 0, 3, 1, 1])
    repeated = coverage_risk_curve(
        np.repeat(error, [2, 0, 3, 1, 1]), np.repeat(r, [2, 0, 3, 1, 1])
    )
    for ours, theirs in zip(weighted, repeated):
        assert_allclose(ours, theirs)


@pytest.mark.parametrize("cost", [0, 1, -1])
def test_bad_arguments_of_the_losses_are_named(cost):
    for loss in (rejection_loss, reject_surrogate_loss):
        with pytest.raises(ValueError, match="cost"):
            loss([0, 1], [1, 0], cost)
        with pytest.raises(ValueError, match="error must be"):
            loss([0, 2], [1, 0], 0.5)


# The rejector.


@pytest.mark.parametrize(("alpha", "beta"), SETTINGS)
def test_saturated_rejector_is_the_closed_form_in_every_cell(alpha, beta):
    X, wrong, shares = cells(np.random.default_rng(0))
    model = judged(X, wrong, cost=0.3, alpha=alpha, beta=beta, l2=0, max_iter=2000)
    expected = best_constant(shares, 0.3, alpha, beta)
    assert_allclose(model.rejection_function(np.eye(10)), expected, atol=1e-3)
    assert_array_equal(model.accept(np.eye(10)), shares < 2 * beta * 0.3 / alpha)
    if beta == alpha / 2:
        assert_allclose(expected, np.log(0.3 / shares) / alpha)


@pytest.mark.parametrize("l2", [0, 1e-2])
def test_the_start_does_not_matter(l2):
    rng = np.random.default_rng(0)
    Z, error = rng.normal(size=(500, 5)), rng.integers(2, size=500).astype(float)
    args = Z, error, np.ones(500), 0.2, 2.0, 1.0, l2, 1000

    def objective(model):
        theta = np.append(model.coef_, model.intercept_)
        return linear_objective(theta, Z, error / 500, np.full(500, 0.2 / 500), 1, 1, l2)[0]

    first, second = (fit_linear(*args, start=s) for s in (None, 3 * rng.normal(size=6)))
    assert_allclose(objective(first), objective(second), rtol=1e-6)


def test_a_row_of_weight_two_is_two_rows():
    rng = np.random.default_rng(0)
    Z, error, weight = (
        rng.normal(size=(200, 3)),
        rng.integers(2, size=200),
        rng.integers(3, size=200),
    )
    settings = 0.2, 2.0, 1.0, 0.01, 1000
    weighted = fit_linear(Z, error, weight, *settings)
    repeated = np.repeat(np.arange(200), weight)
    plain = fit_linear(Z[repeated], error[repeated], np.ones(len(repeated)), *settings)
    assert_allclose(weighted.coef_, plain.coef_, atol=1e-5)


def test_limits_of_the_cost():
    X, wrong, _ = cells(np.random.default_rng(0))
    assert judged(X, wrong, cost=1 - 1e-6, l2=0).accept(np.eye(10)).all()
    assert not judged(X, wrong, cost=1e-3, l2=0).accept(np.eye(10)).any()


def test_coverage_grows_with_the_cost():
    X, y = hidden_noise(np.random.default_rng(0), 1500)
    coverages = [
        FixedPredictorRejector(cost=cost).fit(X, y).accept(X).mean()
        for cost in (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 0.95)
    ]
    assert np.diff(coverages).min() > -0.02
    assert coverages[-1] > 0.9
    assert coverages[0] < 0.5


def test_a_classifier_as_rejector_has_the_same_rule():
    """The logistic surrogate is least at r = log(cost / p)."""
    X, wrong, shares = cells(np.random.default_rng(0))
    rejector = LogisticRegression(C=1e6, max_iter=1000)
    model = judged(X, wrong, cost=0.3, rejector=rejector)
    assert_allclose(model.rejection_function(np.eye(10)), np.log(0.3 / shares), atol=1e-2)
    trees = judged(X, wrong, cost=0.3, rejector=HistGradientBoostingClassifier(random_state=0))
    assert_array_equal(trees.accept(np.eye(10)), shares < 0.3)


# The estimator.


def test_errors_are_those_of_rows_not_fitted_to():
    """The nearest neighbour is right on all rows that it was fitted to."""
    X, y = hidden_noise(np.random.default_rng(0), 400)
    model = FixedPredictorRejector(KNeighborsClassifier(1), cost=0.3).fit(X, y)
    expected = np.mean(cross_val_predict(KNeighborsClassifier(1), X, y, cv=5) != y)
    assert model.estimator_.score(X, y) == 1
    assert_allclose(model.error_rate_, expected)


def test_the_predictor_is_left_as_it_is():
    X, y = hidden_noise(np.random.default_rng(0), 400)
    plain = LogisticRegression(max_iter=1000).fit(X, y)
    model = FixedPredictorRejector().fit(X, y)
    assert_array_equal(model.predict(X), plain.predict(X))
    assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    assert_array_equal(model.decision_function(X), plain.decision_function(X))
    assert model.score(X, y) == plain.score(X, y)
    prefit = clone(FixedPredictorRejector(FrozenEstimator(plain), prefit=True)).fit(X, y)
    assert_allclose(prefit.error_rate_, np.mean(plain.predict(X) != y))
    right = plain.predict(X) == y
    told = FixedPredictorRejector(plain, prefit=True).fit(X, correct=right)
    assert_array_equal(told.rejection_function(X), prefit.rejection_function(X))
    assert told.selective_score(X, y) == told.selective_score(X, correct=right)


def test_what_is_rejected_is_masked_or_labelled():
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    model = FixedPredictorRejector(cost=0.03).fit(X, names)
    masked, accepted = model.predict_with_reject(X), model.accept(X)
    assert 0.3 < accepted.mean() < 1
    assert_array_equal(masked.mask, ~accepted)
    assert_array_equal(masked.data, model.predict(X))
    labelled = clone(model).set_params(reject_label="ask").fit(X, names).predict_with_reject(X)
    assert_array_equal(labelled == "ask", ~accepted)
    assert_array_equal(labelled[accepted], model.predict(X)[accepted])


def test_regressors_err_by_more_than_the_tolerance():
    X, y = load_diabetes(return_X_y=True)
    model = FixedPredictorRejector(Ridge(), tolerance=60, cost=0.3).fit(X, y)
    cross_fitted = cross_val_predict(Ridge(), X, y, cv=5)
    assert_allclose(model.error_rate_, np.mean(np.abs(cross_fitted - y) > 60))
    assert is_regressor(model)
    assert is_classifier(FixedPredictorRejector())
    assert_allclose(model.score(X, y), model.estimator_.score(X, y))
    custom = FixedPredictorRejector(Ridge(), error=lambda y, f: np.abs(y - f) > 60, cost=0.3)
    found = custom.fit(X, y).rejection_function(X)
    assert_allclose(found, model.rejection_function(X))
    with pytest.raises(ValueError, match="tolerance"):
        FixedPredictorRejector(Ridge()).fit(X, y)


def test_targets_move_the_threshold():
    rng = np.random.default_rng(0)
    (X, y), (Z, t) = hidden_noise(rng, 3000), hidden_noise(rng, 3000)
    for share in (0.3, 0.9, 1.0):
        model = FixedPredictorRejector(target=share, target_kind="coverage").fit(X, y)
        assert abs(model.selective_score(Z, t)["coverage"] - share) < 0.03
    model = FixedPredictorRejector(target=0.1, target_kind="error").fit(X, y)
    scores = model.selective_score(Z, t)
    assert abs(scores["selective_error"] - 0.1) < 0.02
    assert scores["coverage"] > 0.6


def test_a_target_that_no_threshold_reaches_rejects_all():
    r = np.array([3.0, 2.0, 1.0])
    assert error_threshold([0, 1, 0], r, None, 0.4) == -np.inf
    assert error_threshold([0, 1, 0], r, None, 0.3) == 2.5
    with pytest.warns(UserWarning, match="target=0.3"):
        assert not (r > error_threshold([1, 0, 0], r, None, 0.3)).any()


@pytest.mark.parametrize("rejector", ["linear", "mlp", LogisticRegression()])
def test_predictors_that_are_always_right_or_wrong(rejector):
    X = np.random.RandomState(0).normal(size=(60, 3))
    settings = {"rejector": rejector, "cost": 0.1, "max_iter": 30, "random_state": 0}
    with pytest.warns(UserWarning, match="every prediction is right"):
        assert judged(X, np.zeros(60, bool), **settings).accept(X).all()
    with pytest.warns(UserWarning, match="every prediction is wrong"):
        assert not judged(X, np.ones(60, bool), **settings).accept(X).any()


@pytest.mark.parametrize(
    "estimator", [LogisticRegression(max_iter=1000), LinearSVC(), KNeighborsClassifier()], ids=repr
)
def test_scores_of_any_predictor_are_features(estimator):
    X, y = load_iris(return_X_y=True)
    model = FixedPredictorRejector(estimator, features="input+scores", cost=0.2).fit(X, y)
    assert model.scaler_.n_features_in_ == 4 + 3
    model.fit(X, y > 1)
    assert model.scaler_.n_features_in_ == 4 + (1 if isinstance(estimator, LinearSVC) else 2)
    assert np.isfinite(model.rejection_function(X)).all()


def test_frames_reach_the_predictor():
    X, y = load_iris(return_X_y=True, as_frame=True)
    seen = FixedPredictorRejector(LogisticRegression(max_iter=1000)).fit(X, y)
    assert list(seen.estimator_.feature_names_in_) == list(X.columns)
    frame = pd.DataFrame(X.to_numpy(), columns=X.columns)
    assert_array_equal(seen.predict(frame), seen.estimator_.predict(X))


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({"target": 0.5}, {}, "target"),
        ({"target_kind": "error"}, {}, "target"),
        ({}, {"correct": np.ones(150)}, "prefit"),
        ({"prefit": True}, {}, "estimator"),
        ({"prefit": True, "features": "input+scores"}, {"correct": np.ones(150)}, "estimator"),
        ({"error": lambda y, f: y + 5}, {}, "error must be"),
        ({"estimator": KNeighborsClassifier()}, {"sample_weight": np.ones(150)}, "sample_weight"),
    ],
)
def test_what_does_not_fit_together_is_said(settings, arguments, message):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=message):
        FixedPredictorRejector(**settings).fit(X, y, **arguments)


def test_too_few_iterations_are_warned_of():
    X, wrong, _ = cells(np.random.default_rng(0))
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        judged(X, wrong, max_iter=2)


# The claims.


@pytest.mark.parametrize("seed", range(2))
def test_a_sure_and_wrong_classifier_is_rejected_where_thresholds_cannot(seed):
    rng = np.random.default_rng(seed)
    (X, y), (Z, t) = hidden_noise(rng, 3000), hidden_noise(rng, 6000)
    model = FixedPredictorRejector(rejector="mlp", cost=0.2, max_iter=40, random_state=seed)
    scores = model.fit(X, y).selective_score(Z, t)
    error = model.predict(Z) != t
    confidence = model.predict_proba(Z).max(axis=1)
    threshold = best_threshold(confidence, error, 0.2)  # the best there is for these rows
    assert scores["rejection_loss"] <= 0.10
    assert scores["selective_error"] <= 0.05
    assert rejection_loss(error, confidence >= threshold, 0.2) >= 0.18
    assert 0.6 < scores["coverage"] < 0.75


@pytest.mark.parametrize("seed", range(3))
def test_where_confidence_is_a_good_guide_little_is_lost(seed):
    X, y = load_digits(return_X_y=True)
    X, Z, y, t = train_test_split(X, y, test_size=0.5, random_state=seed)
    predictor = make_pipeline(StandardScaler(), LogisticRegression())
    model = FixedPredictorRejector(predictor, cost=0.05, features="input+scores").fit(X, y)
    loss = model.selective_score(Z, t)["rejection_loss"]
    cross_fitted = cross_val_predict(predictor, X, y, cv=5, method="predict_proba")
    threshold = best_threshold(cross_fitted.max(axis=1), cross_fitted.argmax(axis=1) != y, 0.05)
    error = model.predict(Z) != t
    assert loss <= 0.6 * error.mean()
    assert loss < 0.05
    by_threshold = rejection_loss(error, model.predict_proba(Z).max(axis=1) >= threshold, 0.05)
    assert loss <= by_threshold + 0.012
