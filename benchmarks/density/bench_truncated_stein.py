"""The closed form and the mixture search against BFGS on the discrepancy by its definition.

The authors' code, which searches by BFGS, is at github.com/dannyjameswilliams/tksd, not on PyPI.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.spatial.distance import cdist, pdist

from benchmarks._harness import Case
from skpapers.density import TruncatedSteinDensity


def cases():
    X, boundary = truncated_ball(300, 8)
    ours = TruncatedSteinDensity("gaussian_mean", boundary=boundary)
    yield Case(
        name="truncated_stein",
        size="300 rows, 8 features, 512 boundary points",
        peer_name="scipy minimize (BFGS)",
        ours=lambda: ours.fit(X).means_[0],
        peer=lambda: minimize(Discrepancy(X, boundary), np.zeros(8)).x,
        accuracy=lambda mean: np.linalg.norm(mean - 0.5),
        metric="error of the mean",
        note="BFGS on the V-statistic, whose projected kernel it computes once",
    )


def truncated_ball(n_samples, n_features):
    """Rows of N(1/2, I) in a ball, and points on its sphere."""
    rng, radius = np.random.RandomState(0), n_features**0.53
    X = rng.normal(0.5, 1, size=(60 * n_samples, n_features))
    boundary = rng.normal(size=(8 * n_features**2, n_features))
    boundary *= radius / np.linalg.norm(boundary, axis=1, keepdims=True)
    return X[np.linalg.norm(X, axis=1) < radius][:n_samples], boundary


class Discrepancy:
    """V-statistic of the mean of a unit Gaussian, with the terms of each feature in turn."""

    def __init__(self, X, boundary):
        width = 2 * np.median(pdist(X)) ** 2
        edge = np.exp(-cdist(boundary, boundary, "sqeuclidean") / width)
        inverse = np.linalg.inv(edge + 1e-3 * np.eye(len(boundary)))
        to_edge = np.exp(-cdist(X, boundary, "sqeuclidean") / width)
        kernel = np.exp(-cdist(X, X, "sqeuclidean") / width)
        self.X, self.kernel = X, kernel - to_edge @ inverse @ to_edge.T
        self.slopes, self.trace = [], 0.0
        for x, b in zip(X.T, boundary.T):
            gap = (x[:, None] - x) * 2 / width
            edge_slope = -2 / width * (x[:, None] - b) * to_edge
            self.slopes.append(gap * kernel - to_edge @ inverse @ edge_slope.T)
            curvature = (2 / width - gap**2) * kernel
            self.trace += np.mean(curvature - edge_slope @ inverse @ edge_slope.T)

    def __call__(self, mean):
        scores = mean - self.X
        value = np.mean(scores @ scores.T * self.kernel) + self.trace
        for score, slope in zip(scores.T, self.slopes):
            value += 2 * np.mean(score[:, None] * slope)
        return value
