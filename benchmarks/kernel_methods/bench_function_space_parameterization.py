"""Posteriors of one trained network: ours against the Laplace approximation of laplace-torch."""

import importlib.util

import numpy as np
import torch
from scipy import stats
from sklearn.datasets import make_friedman1
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel

from benchmarks._harness import Case
from skpapers.kernel_methods import SparseFunctionSpaceRegressor
from skpapers.neural_network import NeuralRegressor

_PRECISION = 1e-2


def problem(n_samples):
    X, y = make_friedman1(n_samples + 500, noise=1.0, random_state=0)
    y = (y - y.mean()) / y.std()
    train, test = slice(n_samples), slice(n_samples, None)
    network = NeuralRegressor((64, 64), activation="tanh", max_epochs=20, tol=0, random_state=0)
    module = network.fit(X[train], y[train]).module_
    with torch.no_grad():
        noise = float(np.std(module(torch.from_numpy(X[train])).numpy()[:, 0] - y[train]))
    return X[train], y[train], X[test], y[test], module, noise


def ours(X, y, X_test, module, noise):
    model = SparseFunctionSpaceRegressor(
        module, prefit=True, n_inducing=256, noise_std=noise, prior_precision=_PRECISION,
        random_state=0,
    )  # fmt: skip
    return model.fit(X, y).predict(X_test, return_std=True)


def laplace(X, y, X_test, module, noise, structure):
    from laplace import Laplace

    rows = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(y)[:, None])
    model = Laplace(
        module, "regression", subset_of_weights="all", hessian_structure=structure,
        sigma_noise=noise, prior_precision=_PRECISION * len(X),
    )  # fmt: skip
    model.fit(torch.utils.data.DataLoader(rows, batch_size=256))
    mean, variance = model(torch.from_numpy(X_test))
    std = np.sqrt(variance.detach().numpy()[:, 0, 0] + noise**2)
    return mean.detach().numpy()[:, 0], std


def process(X, y, X_test):
    kernel = RBF(np.full(X.shape[1], 2.0)) + WhiteKernel(0.05)
    return (
        GaussianProcessRegressor(kernel, random_state=0).fit(X, y).predict(X_test, return_std=True)
    )


def cases():
    def accuracy_on(y_test):
        return lambda found: -stats.norm.logpdf(y_test, *found).mean()

    if importlib.util.find_spec("laplace"):
        for structure, n_samples in (("full", 1000), ("kron", 10_000)):
            X, y, X_test, y_test, module, noise = problem(n_samples)
            yield Case(
                name="function_space_parameterization, posterior of a network",
                size=f"{n_samples} rows, 4929 weights, 256 inducing points",
                peer_name=f"laplace-torch ({structure})",
                ours=lambda d=(X, y, X_test, module, noise): ours(*d),
                peer=lambda d=(X, y, X_test, module, noise), s=structure: laplace(*d, s),
                accuracy=accuracy_on(y_test),
                metric="predictive loss, nats a row (smaller is better)",
                repeats=1 if structure == "full" else 3,
                note="the same trained network, noise and prior; fit and 500 predictions",
            )
    X_small, y_small, test, y_test_small, *_ = problem(600)
    model = SparseFunctionSpaceRegressor(n_inducing=256, random_state=0, max_epochs=100)
    yield Case(
        name="function_space_parameterization, training included",
        size="600 rows",
        peer_name="sklearn GaussianProcessRegressor",
        ours=lambda: model.fit(X_small, y_small).predict(test, return_std=True),
        peer=lambda: process(X_small, y_small, test),
        accuracy=accuracy_on(y_test_small),
        metric="predictive loss, nats a row (smaller is better)",
        repeats=1,
    )
