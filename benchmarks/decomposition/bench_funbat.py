"""Functional Tucker regression against a Gaussian process of all coordinates."""

import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from benchmarks._harness import Case
from skpapers.decomposition import FunctionalTuckerRegressor


def cases():
    """Accuracy is the root mean squared error to the truth without noise."""
    rng = np.random.default_rng(0)
    X, T = rng.uniform(size=(1000, 3)), rng.uniform(size=(1000, 3))
    y = surface(X) + 0.05 * rng.normal(size=1000)
    kernel = ConstantKernel() * Matern([0.3] * 3, nu=1.5) + WhiteKernel(0.01)
    yield Case(
        name="FunctionalTuckerRegressor.fit",
        size="n=1000, K=3, rank=3, 40 epochs",
        peer_name="sklearn GaussianProcessRegressor (fitted ARD Matern)",
        ours=lambda: fit(X, y),
        peer=lambda: GaussianProcessRegressor(kernel, normalize_y=True).fit(X, y),
        accuracy=lambda model: float(np.sqrt(np.mean((model.predict(T) - surface(T)) ** 2))),
        metric="RMSE to the truth",
        repeats=1,
    )


def surface(X):
    u, v, w = X.T * np.pi
    first = np.sin(3 * u) * np.cos(3 * v) * np.exp(-X[:, 2])
    return first + X[:, 0] ** 2 * np.sin(2 * v) * np.cos(2 * w)


def fit(X, y):
    model = FunctionalTuckerRegressor(
        3, kernel="matern32", length_scale=0.3, max_iter=40, random_state=0
    )
    return model.fit(X, y)
