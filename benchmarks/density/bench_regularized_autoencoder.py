"""The score of a trained auto-encoder against finite differences of a kernel density."""

import numpy as np
from sklearn.neighbors import KernelDensity

from benchmarks._harness import Case
from skpapers.datasets import GaussianMixtureDensity
from skpapers.density import ScoreAutoencoder

N_FEATURES, STEP = 10, 1e-3


def cases():
    truth = GaussianMixtureDensity(
        1.5 * np.random.RandomState(0).normal(size=(3, N_FEATURES)), 0.3, random_state=0
    )
    X, points = truth.sample(10_000, 1).astype(np.float32), truth.sample(300, 2)
    model = ScoreAutoencoder(max_epochs=20, random_state=0).fit(X)
    kernel = KernelDensity(bandwidth="scott").fit(X)
    variance = 0.3 + (model.sigma_ * model.scale_) ** 2
    noisy = GaussianMixtureDensity(truth.means, np.tile(variance, (3, 1)))
    yield Case(
        name="regularized_autoencoder",
        size="scores of 300 points, 10 features, 10000 training rows",
        peer_name="sklearn KernelDensity, central differences",
        ours=lambda: model.score_function(points.astype(np.float32)),
        peer=lambda: differences(kernel, points),
        accuracy=lambda scores: _relative_error(scores, noisy.score_function(points)),
        peer_accuracy=lambda scores: _relative_error(scores, truth.score_function(points)),
        metric="relative error",
        note="ours against the exact score with its noise, the peer's against that without",
    )


def differences(kernel, points):
    steps = STEP * np.eye(N_FEATURES)
    moved = (points[:, None, None, :] + np.stack([steps, -steps])).reshape(-1, N_FEATURES)
    up, down = kernel.score_samples(moved).reshape(len(points), 2, N_FEATURES).transpose(1, 0, 2)
    return (up - down) / (2 * STEP)


def _relative_error(scores, exact):
    return float(np.linalg.norm(scores - exact) / np.linalg.norm(exact))
