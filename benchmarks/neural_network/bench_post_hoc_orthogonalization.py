"""A semi-structured network against scikit-learn's multi-layer perceptron, at equal epochs."""

import numpy as np
from sklearn.neural_network import MLPRegressor

from benchmarks._harness import Case
from skpapers.neural_network import SemiStructuredRegressor

_EPOCHS = 20


def cases():
    yield case("linear")
    yield case("spline")


def case(structured):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1.5, 1.5, (7000, 10))
    y = np.cos(5 * X[:, 0]) + np.tanh(3 * X[:, 1]) - X[:, 2] ** 3 + X[:, 3] * X[:, 4]
    y += 0.1 * rng.normal(size=len(y))
    X_train, y_train, X_test, y_test = X[:5000], y[:5000], X[5000:], y[5000:]
    ours = SemiStructuredRegressor(
        structured, max_epochs=_EPOCHS, batch_size=128, tol=0, random_state=0
    )
    # partial_fit, as a fixed number of epochs would warn of missing convergence
    peer = {"hidden_layer_sizes": (100, 50), "batch_size": 128, "random_state": 0}

    def fit_peer():
        model = MLPRegressor(**peer)
        for _ in range(_EPOCHS):
            model.partial_fit(X_train, y_train)
        return model

    return Case(
        name=f"SemiStructuredRegressor({structured!r})",
        size=f"5000 rows, 10 features, {_EPOCHS} epochs",
        peer_name="sklearn MLPRegressor of the same network",
        ours=lambda: ours.fit(X_train, y_train),
        peer=fit_peer,
        accuracy=lambda model: float(model.score(X_test, y_test)),
        metric="test R2",
    )
