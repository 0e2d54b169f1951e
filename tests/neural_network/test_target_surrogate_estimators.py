"""Estimators trained on surrogates: linear models, losses known by their gradients."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import scale

from skpapers.neural_network import (
    NeuralClassifier,
    TargetSurrogateClassifier,
    TargetSurrogateRegressor,
)

FLOWERS, SPECIES = load_iris(return_X_y=True)
FLOWERS = scale(FLOWERS)
PATIENTS, PROGRESS = load_diabetes(return_X_y=True)
PATIENTS = scale(PATIENTS)


def test_one_exact_step_of_a_linear_model_is_least_squares():
    targets = np.c_[PROGRESS, PATIENTS[:, 0] ** 2]
    model = TargetSurrogateRegressor(inner_solver="exact", max_epochs=1, tol=0)
    expected = LinearRegression().fit(PATIENTS, targets)
    prediction = model.fit(PATIENTS, targets).predict(PATIENTS)
    np.testing.assert_allclose(prediction, expected.predict(PATIENTS), rtol=1e-9)
    coef = model.coef_ * model.y_scale_[:, None]
    np.testing.assert_allclose(coef, expected.coef_, rtol=1e-7, atol=1e-7)
    intercept = model.intercept_ * model.y_scale_ + model.y_mean_
    np.testing.assert_allclose(intercept, expected.intercept_, rtol=1e-9)


def test_a_classifier_without_hidden_layers_is_logistic_regression():
    x, y = FLOWERS[50:, :2], SPECIES[50:]  # not separable
    model = TargetSurrogateClassifier(max_epochs=200, inner_steps=20, lr_schedule="armijo", tol=0)
    peer = LogisticRegression(C=np.inf, tol=1e-8).fit(x, y)
    np.testing.assert_allclose(model.fit(x, y).predict_proba(x), peer.predict_proba(x), atol=1e-4)
    assert model.n_gradient_calls_ == 200


def test_the_estimator_is_the_optimizer_by_name():
    common = {"hidden_layer_sizes": (8,), "activation": "tanh", "batch_size": 50}
    common |= {"max_epochs": 5, "tol": 0, "random_state": 0}
    model = TargetSurrogateClassifier(lr=1.5, inner_steps=3, lr_schedule="decreasing", **common)
    params = {"inner_steps": 3, "lr_schedule": "decreasing"}
    same = NeuralClassifier(optimizer="sso", lr=1.5, optimizer_params=params, **common)
    curves = [m.fit(FLOWERS, SPECIES).loss_curve_ for m in (model, same)]
    np.testing.assert_allclose(*curves, rtol=1e-12)
    assert model.n_gradient_calls_ == 15 < model.n_model_calls_
    with pytest.raises(AttributeError, match="linear"):
        model.coef_  # noqa: B018


class Expert:
    """Half the squared error, whose gradients are counted."""

    def __init__(self):
        self.rows = []

    def __call__(self, outputs, y, indices):
        self.rows.append(indices.copy())
        np.testing.assert_array_equal(y[:, 0], PROGRESS[indices])
        return ((outputs - y) ** 2).mean() / 2, outputs - y


@pytest.mark.parametrize("hidden", [(), (8,)])
def test_a_loss_known_by_its_gradient_is_asked_once_a_batch(hidden):
    expert = Expert()
    common = {"inner_steps": 15, "max_epochs": 4, "tol": 0, "random_state": 0, "batch_size": 100}
    common |= {"hidden_layer_sizes": hidden, "lr_schedule": "decreasing"}
    model = TargetSurrogateRegressor(target_gradient=expert, **common).fit(PATIENTS, PROGRESS)
    assert len(expert.rows) == model.n_gradient_calls_ == 4 * 5 < model.n_model_calls_ / 15
    for epoch in range(4):
        seen = np.concatenate(expert.rows[5 * epoch : 5 * epoch + 5])
        np.testing.assert_array_equal(np.sort(seen), np.arange(len(PROGRESS)))
    assert model.y_mean_ == 0 and model.y_scale_ == 1
    assert model.loss_curve_[-1] < model.loss_curve_[0]


def test_the_gradient_of_the_default_loss_gives_the_same_model():
    target = scale(PROGRESS)
    half = lambda z, y, i: (((z - y) ** 2).sum(1).mean() / 2, z - y)  # noqa: E731
    weight = np.random.default_rng(0).uniform(0.5, 2, len(target))
    common = {"hidden_layer_sizes": (6,), "max_epochs": 5, "tol": 0, "random_state": 0}
    first = TargetSurrogateRegressor(**common).fit(PATIENTS, target, sample_weight=weight)
    rescaled = (target - first.y_mean_) / first.y_scale_
    second = TargetSurrogateRegressor(target_gradient=half, **common)
    second.fit(PATIENTS, rescaled, sample_weight=weight)
    found = second.predict(PATIENTS) * first.y_scale_ + first.y_mean_
    np.testing.assert_allclose(found, first.predict(PATIENTS), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("gradient", [np.ones(3), np.array([[np.nan]])])
def test_gradients_of_another_shape_or_not_finite_are_an_error(gradient):
    bad = lambda z, y, i: (0.0, gradient * np.ones((1, 1)))  # noqa: E731
    model = TargetSurrogateRegressor(target_gradient=bad, max_epochs=1, tol=0)
    with pytest.raises(ValueError, match="target_gradient must return"):
        model.fit(PATIENTS, PROGRESS)


def test_partial_fit_continues_with_its_count():
    model = TargetSurrogateRegressor(target_gradient=lambda z, y, i: (0.0, z - y))
    for _ in range(3):
        model.partial_fit(PATIENTS, PROGRESS)
    assert model.n_gradient_calls_ == 3
    assert model.score(PATIENTS, PROGRESS) > 0.4
