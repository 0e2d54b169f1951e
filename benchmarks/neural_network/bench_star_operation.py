"""A narrow star block against a wide perceptron."""

import numpy as np
from sklearn.neural_network import MLPClassifier

from benchmarks._harness import Case
from skpapers.neural_network import NeuralClassifier


def cases():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 8)).astype(np.float32)
    y = (X[:, ::2] * X[:, 1::2]).sum(axis=1) > 0
    narrow = {"block": "star(ratio=1, branch_activation='none')", "normalization": "batch"}

    def perceptron():
        model = MLPClassifier((100,), learning_rate_init=1e-2, batch_size=128, random_state=0)
        for _ in range(20):
            model.partial_fit(X[:3000], y[:3000], classes=[False, True])
        return model

    yield Case(
        "sum of four products, one block of width 16",
        "3000 rows, 8 features, 20 epochs",
        "MLPClassifier((100,)), 20 epochs",
        lambda: NeuralClassifier(
            (16,), **narrow, optimizer="adamw", lr=1e-2, max_epochs=20, tol=0, random_state=0
        ).fit(X[:3000], y[:3000]),
        perceptron,
        lambda model: model.score(X[3000:], y[3000:]),
        "accuracy",
    )
