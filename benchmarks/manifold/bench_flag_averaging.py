"""Flag means against Riemannian trust regions, and merged shards against incremental PCA."""

import numpy as np
import pymanopt
from pymanopt.manifolds import Stiefel
from pymanopt.optimizers import TrustRegions
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, IncrementalPCA

from benchmarks._harness import Case
from skpapers.manifold import FlagAveragedPCA, chordal_flag_distance, flag_mean


def cases():
    for n, k, p in ((10, 3, 50), (1000, 10, 100)):
        X = _flags(n, k, p)
        yield Case(
            name="flag mean",
            size=f"{p} flags of type (1, ..., {k}) in {n} dimensions",
            peer_name="pymanopt TrustRegions",
            ours=lambda X=X: flag_mean(X),
            peer=lambda X=X: _trust_regions(X),
            accuracy=lambda Y, X=X: float(np.mean(chordal_flag_distance(X, Y) ** 2)),
            metric="mean squared distance (lower is better)",
            repeats=9,
            note="The peer has exact gradients and Hessians, and starts from the arithmetic mean.",
        )
    digits = load_digits().data
    full = PCA(3).fit(digits).components_.T
    yield Case(
        name="flag-averaged PCA",
        size="digits in 10 shards, 3 components",
        peer_name="sklearn IncrementalPCA(3), 10 batches",
        ours=lambda: FlagAveragedPCA(3, n_splits=10, random_state=0).fit(digits),
        peer=lambda: IncrementalPCA(3, batch_size=180).fit(digits),
        accuracy=lambda model: chordal_flag_distance(model.components_.T, full),
        metric="distance to PCA of all rows (lower is better)",
        repeats=9,
        note="Incremental PCA sees the batches one after the other; shards are independent.",
    )


def _flags(n, k, p, noise=1.0):
    rng = np.random.default_rng(0)
    center = np.linalg.qr(rng.normal(size=(n, k)))[0]
    return np.linalg.qr(center + noise / np.sqrt(n) * rng.normal(size=(p, n, k)))[0]


def _trust_regions(X):
    p, n, k = X.shape
    columns = np.ascontiguousarray(X.transpose(2, 1, 0))  # (k, n, p)
    manifold = Stiefel(n, k)

    def product(Y):
        inner = columns.transpose(0, 2, 1) @ Y.T[:, :, None]
        return (columns @ inner)[:, :, 0].T / p

    @pymanopt.function.numpy(manifold)
    def cost(Y):
        return -np.sum(Y * product(Y))

    @pymanopt.function.numpy(manifold)
    def gradient(Y):
        return -2 * product(Y)

    @pymanopt.function.numpy(manifold)
    def hessian(Y, Z):
        return -2 * product(Z)

    problem = pymanopt.Problem(
        manifold, cost, euclidean_gradient=gradient, euclidean_hessian=hessian
    )
    optimizer = TrustRegions(verbosity=0, min_gradient_norm=1e-7)
    return optimizer.run(problem, initial_point=np.linalg.qr(X.mean(axis=0))[0]).point
