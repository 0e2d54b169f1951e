"""XNet against scikit-learn's multi-layer perceptron on functions without noise."""

import numpy as np
from sklearn.neural_network import MLPRegressor

from benchmarks._harness import Case
from skpapers.neural_network import XNetRegressor


def cases():
    yield case("sin(pi x) exp(-x^2)", wave, n_features=1, n_units=16, peer_units=64)
    yield case("exp(sin(pi x) + y^2)", surface, n_features=2, n_units=100, peer_units=100)


def case(name, function, n_features, n_units, peer_units):
    rng = np.random.default_rng(0)
    X, X_test = (rng.uniform(-1, 1, (5000, n_features)) for _ in range(2))
    y = function(X)
    sizes = {"hidden_layer_sizes": (peer_units,), "activation": "tanh"}
    return Case(
        name=f"XNetRegressor({n_units})",
        size=f"{name}, 5000 points",
        peer_name=f"sklearn MLPRegressor, {peer_units} tanh, lbfgs",
        ours=lambda: XNetRegressor(n_units, tol=1e-5, random_state=0).fit(X, y),
        peer=lambda: MLPRegressor(**sizes, solver="lbfgs", max_iter=5000, random_state=0).fit(
            X, y
        ),
        accuracy=lambda model: error(model, X_test, function),
        metric="root mean squared test error",
    )


def wave(X):
    return np.sin(np.pi * X[:, 0]) * np.exp(-(X[:, 0] ** 2))


def surface(X):
    return np.exp(np.sin(np.pi * X[:, 0]) + X[:, 1] ** 2)


def error(model, X, function):
    return float(np.sqrt(np.mean((model.predict(X) - function(X)) ** 2)))
