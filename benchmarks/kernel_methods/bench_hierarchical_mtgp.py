"""Fits of multitask spectral-mixture processes: ours against GPyTorch's multitask model."""

import numpy as np
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel

from benchmarks._harness import Case
from skpapers.kernel_methods import HierarchicalMultitaskGPRegressor

try:
    import gpytorch
except ImportError:
    gpytorch = None


def problem(n_samples):
    rng = np.random.RandomState(0)
    x = np.linspace(0, 10, n_samples)
    truth = np.c_[np.sin(3 * x), np.sin(3 * x - 0.9), np.sin(3 * x) * np.sin(7 * x)]
    return x[:, None], truth, truth + 0.1 * rng.normal(size=truth.shape)


def multitask_gpytorch(X, Y, n_steps):
    """Sum of three Kronecker kernels, each a coregionalisation times a spectral mixture."""
    inputs, targets = (torch.as_tensor(values, dtype=torch.float64) for values in (X, Y))
    likelihood = gpytorch.likelihoods.MultitaskGaussianLikelihood(3).double()

    class Model(gpytorch.models.ExactGP):
        def __init__(self):
            super().__init__(inputs, targets, likelihood)
            base = gpytorch.means.ConstantMean()
            self.mean_module = gpytorch.means.MultitaskMean(base, num_tasks=3)
            kernels = [gpytorch.kernels.SpectralMixtureKernel(num_mixtures=1) for _ in range(3)]
            self.covar_module = gpytorch.kernels.LCMKernel(kernels, num_tasks=3, rank=3)

        def forward(self, x):
            mean, covar = self.mean_module(x), self.covar_module(x)
            return gpytorch.distributions.MultitaskMultivariateNormal(mean, covar)

    model = Model().double().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    for _ in range(n_steps):
        optimizer.zero_grad()
        (-objective(model(inputs), targets)).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        return model(inputs).mean.numpy()


def ours(X, Y, max_iter):
    model = HierarchicalMultitaskGPRegressor(3, max_iter=max_iter, random_state=0)
    return model.fit(X, Y).predict(X)


def independent(X, Y):
    kernel = RBF() + WhiteKernel(0.1)
    fits = (GaussianProcessRegressor(kernel, n_restarts_optimizer=2, random_state=0) for _ in Y.T)
    return np.stack([fit.fit(X, y).predict(X) for fit, y in zip(fits, Y.T)], axis=1)


def cases():
    X, truth, Y = problem(200)
    common = {
        "name": "hierarchical_mtgp",
        "size": "600 values, 3 tasks, 3 components",
        "ours": lambda: ours(X, Y, 30),
        "accuracy": lambda mean: np.sqrt(np.mean((mean - truth) ** 2)),
        "metric": "root mean squared error",
        "repeats": 1,
    }
    if gpytorch is not None:
        yield Case(
            peer_name="GPyTorch LCMKernel (100 Adam steps)",
            peer=lambda: multitask_gpytorch(X, Y, 100),
            note="no interaction in the peer; ours makes 30 iterations from two starts",
            **common,
        )
    yield Case(
        peer_name="GaussianProcessRegressor a task",
        peer=lambda: independent(X, Y),
        note="the peer has three matrices of 200 rows, ours one of 600",
        **common,
    )
