"""Private classification by class means against DP-SGD; private sums against exact ones."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import normalize

from benchmarks._harness import Case
from skpapers.kernel_methods import PrivateKernelDensity, PrivateSimilarityClassifier
from skpapers.kernel_methods._private_noise import gaussian_scale


def private_gradient_descent(X, y, epsilon, delta, n_steps=300, lr=4.0, norm=1.0):
    """Multinomial logistic regression with clipped per-record gradients and Gaussian noise.

    Full batches: `n_steps` compositions of Gaussian noise are one of sqrt(n_steps) its scale.
    """
    generator = torch.Generator().manual_seed(0)
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    weights = torch.zeros(X.shape[1], int(y.max()) + 1, dtype=X.dtype)
    scale = gaussian_scale(epsilon, delta) * np.sqrt(n_steps) * norm

    def loss(weights, row, target):
        return torch.nn.functional.cross_entropy((row @ weights)[None], target[None])

    per_record = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    for _ in range(n_steps):
        gradients = per_record(weights, X, y)
        lengths = gradients.flatten(1).norm(dim=1).clamp(min=norm)
        total = (gradients * (norm / lengths)[:, None, None]).sum(0)
        noise = torch.randn(total.shape, generator=generator, dtype=total.dtype)
        weights = weights - lr / len(X) * (total + scale * noise)
    return weights.numpy()


def cases():
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(normalize(X - 8), y, test_size=0.3, random_state=0)
    for epsilon in (1.0, 3.0):
        yield Case(
            name="private_similarity",
            size=f"digits, epsilon={epsilon}",
            peer_name="DP gradient descent (torch)",
            ours=lambda epsilon=epsilon: PrivateSimilarityClassifier(
                epsilon=epsilon, delta=1e-5, clip_norm=1.0, random_state=0
            ).fit(X, y),
            peer=lambda epsilon=epsilon: private_gradient_descent(X, y, epsilon, 1e-5),
            accuracy=lambda model: model.score(X_test, y_test),
            peer_accuracy=lambda weights: np.mean((X_test @ weights).argmax(1) == y_test),
            metric="test accuracy",
            note="logistic regression with per-record gradients, 300 full batches, as private",
        )
    rng = np.random.RandomState(0)
    rows, queries = rng.normal(size=(50_000, 8)), rng.normal(size=(2000, 8))
    exact = np.exp(KernelDensity(bandwidth=np.sqrt(2)).fit(rows).score_samples(queries))

    def ours():
        density = PrivateKernelDensity(bandwidth=2.0, random_state=0)
        return np.exp(density.fit(rows).score_samples(queries))

    def peer():
        density = KernelDensity(bandwidth=np.sqrt(2))
        return np.exp(density.fit(rows).score_samples(queries))

    yield Case(
        name="private_similarity",
        size="density, 50000 rows, 8 features, 2000 queries",
        peer_name="KernelDensity (not private)",
        ours=ours,
        peer=peer,
        accuracy=lambda found: np.abs(found - exact).mean() / exact.mean(),
        metric="relative error",
        repeats=1,
    )
