"""Histogram losses against squared error, same network, noisy targets."""

import numpy as np
from sklearn.datasets import make_friedman1

from benchmarks._harness import Case
from skpapers.neural_network import HistogramLossRegressor, NeuralRegressor


def cases():
    X, y = make_friedman1(1500, 10, random_state=0)
    X_test, y_test = make_friedman1(5000, 10, random_state=1)
    rng = np.random.default_rng(0)
    noises = {
        "normal noise": rng.normal(0, 3, len(y)),
        "t noise, 1.5 degrees of freedom": 2 * rng.standard_t(1.5, len(y)),
    }
    common = {"hidden_layer_sizes": (128, 128), "max_epochs": 150, "batch_size": 64}
    common |= {"dtype": "float32", "random_state": 0}

    def error(model):
        return float(np.sqrt(np.mean((model.predict(X_test) - y_test) ** 2)))

    for name, noise in noises.items():
        noisy = np.clip(y + noise, -40, 70)
        yield Case(
            name,
            "friedman1, 1500 rows, 150 epochs",
            "NeuralRegressor, squared error",
            lambda noisy=noisy: HistogramLossRegressor(**common).fit(X, noisy),
            lambda noisy=noisy: NeuralRegressor(**common, tol=0).fit(X, noisy),
            error,
            "RMSE on clean targets",
        )
