"""XNet: the activation, exact recovery of coefficients, derivatives, precision of the fits."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import KFold, cross_val_score, train_test_split
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from skpapers.neural_network import (
    CauchyActivation,
    NeuralClassifier,
    XNetClassifier,
    XNetRegressor,
    build_module,
    solve_linear_block,
)
from skpapers.neural_network._cauchy_activation import linear_solutions

POINTS = np.linspace(-1, 1, 2001)[:, None]


def wave(x):
    return np.sin(np.pi * x) * np.exp(-(x**2))


def uniform(seed, n=1000, p=1):
    return np.random.default_rng(seed).uniform(-1, 1, (n, p))


def error(model, function):
    return np.sqrt(np.mean((model.predict(POINTS) - function(POINTS[:, 0])) ** 2))


def digits():
    X, y = load_digits(return_X_y=True)
    return StandardScaler().fit_transform(X).astype(np.float32), y


def activation(*args, **kwargs):
    """A module in double precision."""
    make = lambda: CauchyActivation(*args, **kwargs)  # noqa: E731
    return build_module(make, torch.Generator(), torch.float64)


def test_activation_and_its_derivative():
    x = torch.linspace(-6, 6, 101, dtype=torch.float64, requires_grad=True)
    a, b, d = 0.7, -1.3, 0.4
    y = activation(1, a, b, d)(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    u = x.detach().numpy()
    np.testing.assert_allclose(y.detach(), (a * u + b) / (u**2 + d**2), rtol=1e-12, atol=1e-12)
    expected = (a * (d**2 - u**2) - 2 * b * u) / (u**2 + d**2) ** 2
    np.testing.assert_allclose(slope, expected, rtol=1e-12, atol=1e-12)
    assert (abs(y) <= abs(a) / (2 * d) + abs(b) / d**2).all()
    with torch.no_grad():
        odd, even = activation(1, 1, 0, d), activation(1, 0, 1, d)
        torch.testing.assert_close(odd(x), -odd(-x))
        torch.testing.assert_close(even(x), even(-x))
        torch.testing.assert_close(even(x), 1 / (x**2 + d**2))


@pytest.mark.parametrize("n_parameters", [1, 3])
def test_gradcheck(n_parameters):
    x = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(4, 3).requires_grad_()
    module = activation(n_parameters, init_d=0.6)

    def output(x, lambda1, lambda2, theta):
        parameters = {"lambda1": lambda1, "lambda2": lambda2, "theta": theta}
        return torch.func.functional_call(module, parameters, (x,))

    arguments = (x, module.lambda1, module.lambda2, module.theta)
    assert torch.autograd.gradcheck(output, arguments)
    assert torch.autograd.gradgradcheck(output, arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_far_inputs_are_finite(dtype):
    x = torch.tensor([-3e4, -1.0, 0.0, 1.0, 3e4], dtype=dtype, requires_grad=True)
    module = CauchyActivation(init_d=1e-2)
    y = module(x)
    y.float().sum().backward()
    assert y.dtype == dtype and y.isfinite().all() and x.grad.isfinite().all()


def test_coefficients_are_recovered():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (200, 2))
    W, b, d = rng.normal(size=(3, 2)), rng.normal(size=3), rng.uniform(0.3, 1, 3)
    lambda1, lambda2, bias = rng.normal(size=(3, 2)), rng.normal(size=(3, 2)), rng.normal(size=2)
    u = X @ W.T + b
    Y = (u / (u**2 + d**2)) @ lambda1 + (1 / (u**2 + d**2)) @ lambda2 + bias
    for weight in (None, rng.uniform(0.1, 2, 200)):
        found = solve_linear_block(W, b, d, X, Y, 0.0, weight)
        for ours, truth in zip(found, (lambda1, lambda2, bias)):
            np.testing.assert_allclose(ours, truth, atol=1e-8)


def test_linear_block_is_the_weighted_ridge_regression():
    rng = np.random.default_rng(1)
    u, d, Y = rng.normal(size=(40, 4)), rng.uniform(0.5, 1, 4), rng.normal(size=(40, 2))
    weight, alpha = rng.integers(1, 4, 40), 0.03
    (found,) = linear_solutions(u, d, Y, [alpha], weight)
    (repeated,) = linear_solutions(u.repeat(weight, 0), d, Y.repeat(weight, 0), [alpha])
    for ours, theirs in zip(found, repeated):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    A = np.hstack([d * u, np.tile(d**2, (40, 1))]) / np.tile(u**2 + d**2, 2)
    A1 = np.c_[A, np.ones(40)]
    penalty = alpha * weight.sum() * np.diag([1] * 8 + [0])
    gram = A1.T @ (weight[:, None] * A1)
    c = np.linalg.solve(gram + penalty, A1.T @ (weight[:, None] * Y))
    np.testing.assert_allclose(found.lambda1, c[:4] * d[:, None], atol=1e-10)
    np.testing.assert_allclose(found.lambda2, c[4:8] * d[:, None] ** 2, atol=1e-10)
    np.testing.assert_allclose(found.bias, c[8], atol=1e-10)
    assert found.dof == pytest.approx(np.trace(np.linalg.solve(gram + penalty, gram)))
    residual = np.average(np.sum((Y - A1 @ c) ** 2, 1), weights=weight)
    assert found.residual == pytest.approx(residual)
    assert found.objective == pytest.approx(residual + alpha * np.sum(c[:8] ** 2))


@pytest.mark.parametrize("n_targets", [0, 2])
def test_derivatives_and_attributes_are_those_of_the_prediction(n_targets):
    X = uniform(0, 300, 2) * [1, 5] + [0, 2]
    y = np.exp(np.sin(X[:, 0])) + 0.1 * X[:, 1] ** 2
    model = XNetRegressor(20, random_state=0).fit(X, np.c_[y, -2 * y] if n_targets else y)
    X, step = X[:20], 1e-4
    gradient, laplacian = model.gradient(X), model.laplacian(X)
    total = 0
    for feature in range(2):
        shift = step * np.eye(2)[feature]
        above, here, below = (model.predict(X + k * shift) for k in (1, 0, -1))
        slope = (above - below) / (2 * step)
        np.testing.assert_allclose(gradient[:, feature], slope, rtol=1e-5, atol=1e-5)
        total = total + (above - 2 * here + below) / step**2
    np.testing.assert_allclose(laplacian, total, rtol=1e-3, atol=1e-3)
    u = X @ model.coef_.T + model.intercept_
    inverse = 1 / (u**2 + model.poles_**2)
    formula = (u * inverse) @ model.lambda1_ + inverse @ model.lambda2_ + model.bias_
    np.testing.assert_allclose(formula.squeeze(), model.predict(X).squeeze(), rtol=1e-7)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("function", "n_units", "bound"),
    [(wave, 64, 1e-6), (lambda x: 1 / (1 + 25 * x**2), 32, 1e-5), (abs, 64, 1e-3)],
    ids=["wave", "runge", "absolute"],
)
def test_smooth_functions_are_fitted_precisely(function, n_units, bound, seed):
    X = uniform(seed)
    model = XNetRegressor(n_units, random_state=seed).fit(X, function(X[:, 0]))
    assert error(model, function) <= bound


def test_a_hundred_times_more_precise_than_tanh():
    X = uniform(0)
    tanh = MLPRegressor(
        hidden_layer_sizes=(64,), activation="tanh", solver="lbfgs", max_iter=5000, random_state=0
    )
    ours = XNetRegressor(random_state=0)
    models = [model.fit(X, wave(X[:, 0])) for model in (ours, tanh)]
    assert 100 * error(models[0], wave) <= error(models[1], wave)


def test_a_step():
    X = uniform(0)
    model = XNetRegressor(random_state=0).fit(X, np.where(X[:, 0] > 0, 1.0, 0.0))
    assert error(model, lambda x: np.where(x > 0, 1.0, 0.0)) ** 2 <= 2e-3


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_not_fitted(seed):
    X, rng = uniform(seed), np.random.default_rng(seed + 10)
    clean = wave(X[:, 0])
    y = clean + 0.1 * clean.std() * rng.normal(size=len(X))
    model = XNetRegressor(tol=0, max_epochs=60, random_state=seed).fit(X, y)
    assert model.alpha_ >= 1e-6
    assert error(model, wave) <= 2e-2


@pytest.mark.parametrize("seed", range(3))
def test_two_dimensions(seed):
    def surface(X):
        return np.exp(np.sin(np.pi * X[:, 0]) + X[:, 1] ** 2)

    X, X_test = uniform(seed, 2000, 2), uniform(seed + 100, 2000, 2)
    model = XNetRegressor(100, random_state=seed).fit(X, surface(X))
    assert np.sqrt(np.mean((model.predict(X_test) - surface(X_test)) ** 2)) <= 1e-3


def test_training_improves_a_random_start():
    X = uniform(0, 200)
    curve = {}
    for solver in ("lbfgs", "adam"):
        model = XNetRegressor(
            16, init="random", solver=solver, max_epochs=60, refit_linear_every=20, tol=0,
            batch_size=200, random_state=0,
        ).fit(X, wave(X[:, 0]))  # fmt: skip
        curve[solver] = model.loss_curve_
        assert error(model, wave) <= 1e-3
        assert curve[solver][20] <= curve[solver][19] / 2
    np.testing.assert_allclose(curve["adam"][0], curve["lbfgs"][0], rtol=1e-9)


def test_passes_over_parts():
    X = uniform(0, 200)
    y = wave(X[:, 0])
    model = XNetRegressor(16, solver="adam", random_state=0)
    for _ in range(3):
        model.partial_fit(X, y)
    assert model.n_iter_ == 3 and model.score(X, y) > 0.99
    assert not hasattr(XNetRegressor(), "partial_fit")


def test_single_precision_keeps_the_precision_of_the_fit():
    X = uniform(0).astype(np.float32)
    model = XNetRegressor(random_state=0).fit(X, wave(X[:, 0]))
    predicted = model.predict(X)
    assert predicted.dtype == np.float32 == model.gradient(X).dtype
    assert abs(predicted - wave(X[:, 0])).max() < 1e-5


def test_digits_are_classified():
    X, y = digits()
    cv = KFold(5, shuffle=True, random_state=0)
    assert cross_val_score(XNetClassifier(tol=0, random_state=0), X, y, cv=cv).mean() >= 0.965


def test_digits_are_learnt_as_with_relu():
    X, y = digits()
    scores = {"cauchy": [], "relu": []}
    for seed in range(3):
        X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=seed)
        for name, found in scores.items():
            model = NeuralClassifier(
                (64,), activation=name, max_epochs=30, tol=0, random_state=seed
            )
            found.append(model.fit(X_train, y_train).score(X_test, y_test))
    assert np.mean(scores["cauchy"]) >= np.mean(scores["relu"]) - 0.02


def test_bad_arguments():
    with pytest.raises(ValueError, match="init_d must be at least d_min"):
        CauchyActivation(init_d=0)
    with pytest.raises(ValueError, match="'solver' parameter"):
        XNetRegressor(solver="sgd").fit([[0.0], [1.0]], [0, 1])
