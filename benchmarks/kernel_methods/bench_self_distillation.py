"""Self-distilled kernel ridge against sequential fits of KernelRidge."""

import numpy as np
from sklearn.kernel_ridge import KernelRidge

from benchmarks._harness import Case
from skpapers.kernel_methods import SelfDistilledKernelRidge


def cases():
    rng = np.random.RandomState(0)
    X, X_test = rng.normal(size=(2, 2000, 10))
    truth = np.sin(X_test[:, 0]) + X_test[:, 1]
    y = np.sin(X[:, 0]) + X[:, 1] + 0.5 * rng.normal(size=2000)
    settings = {"alpha": 0.5, "kernel": "rbf", "gamma": 0.05}

    def ours():
        return SelfDistilledKernelRidge(20, 0.35, **settings).fit(X, y)

    def peer():
        fitted = y
        for _ in range(20):
            model = KernelRidge(**settings).fit(X, 0.35 * y + 0.65 * fitted)
            fitted = model.predict(X)
        return model

    yield Case(
        name="self_distillation",
        size="2000 rows, 20 steps",
        peer_name="KernelRidge, 20 fits",
        ours=ours,
        peer=peer,
        accuracy=lambda model: np.mean((model.predict(X_test) - truth) ** 2),
        metric="test mean squared error",
    )
