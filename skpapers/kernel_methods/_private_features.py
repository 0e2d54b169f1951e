"""Private sums of kernels, from noisy sums of random Fourier features."""

from typing import NamedTuple

import numpy as np
from sklearn.utils import gen_batches

__all__ = ["KERNELS", "FeatureSum", "draw_frequencies", "kernel_terms", "release_features"]


def _gaussian(rng, shape):
    """exp(-|x|^2)."""
    return np.sqrt(2) * rng.normal(size=shape)


def _exponential(rng, shape):
    """exp(-|x|), whose frequencies are multivariate Cauchy."""
    return rng.normal(size=shape) / np.abs(rng.normal(size=(shape[0], 1)))


def _laplacian(rng, shape):
    """exp(-|x|_1), whose frequencies have independent Cauchy coordinates."""
    return rng.standard_cauchy(size=shape)


# The law of the frequencies, the power of the scale in z, and whether it is exp(-z) or 1/(1+z).
KERNELS = {
    "gaussian": (_gaussian, 2, False),
    "exponential": (_exponential, 1, False),
    "laplacian": (_laplacian, 1, False),
    "cauchy": (_gaussian, 2, True),
    "rational": (_exponential, 1, True),
    "rational_l1": (_laplacian, 1, True),
}


class FeatureSum(NamedTuple):
    """Released sums of the cosines and sines of all records, with a weight a frequency."""

    frequencies: np.ndarray
    roots: np.ndarray  # of the weights
    sums: np.ndarray
    noise: float
    count: float

    def answer(self, Y):
        """Sum of the kernel between each row of Y and all records."""
        maps = (features(Y[b], self.frequencies, self.roots) for b in gen_batches(len(Y), 512))
        return np.concatenate([found @ self.sums for found in maps])

    def variance(self, Y):
        """Variance of the noise in the answers: the same everywhere."""
        return np.full(len(Y), (self.noise * np.linalg.norm(self.roots)) ** 2)


def draw_frequencies(similarity, bandwidth, n_features, n_components, alpha, rng):
    """Frequencies (n_components, n_features) and their weights.

    A kernel that is a mixture of kernels has a mixture of their frequencies: each term gets
    a share of the components in proportion to its weight, and one at least.
    """
    law, power, mixture = KERNELS[similarity]
    weights, rates = kernel_terms(alpha) if mixture else (np.ones(1), np.ones(1))
    shares = np.maximum(1, np.rint(n_components * weights / weights.sum())).astype(int)
    scale = np.repeat(rates ** (1 / power), shares)[:, None] / bandwidth
    frequencies = law(rng, (shares.sum(), n_features)) * scale
    return frequencies, np.repeat(weights / shares, shares)


def kernel_terms(alpha):
    """Weights and rates of exponentials: abs(1 / (1 + z) - weights @ exp(-rates z)) < alpha.

    1 / (1 + z) is the integral of exp(-t) exp(-t z) over t > 0; with t = exp(u), the trapezoidal
    rule needs O(log(1 / alpha)**2) terms, for all z >= 0 at once.
    """
    digits = np.log(1 / alpha)
    low, high = np.log(alpha / 10), np.log(2 * max(digits, 1.0))
    step = 0.7 * np.pi**2 / (digits + 3)
    rates = np.exp(np.arange(low, high + step, step))
    return step * rates * np.exp(-rates), rates


def features(X, frequencies, roots):
    """Cosines, then sines, times `roots`; their squared norm is (roots**2).sum()."""
    n_components = len(roots)
    with np.errstate(over="ignore", invalid="ignore"):
        angles = X @ frequencies.T
    # a record so large that its angle overflows must not add a NaN either
    np.nan_to_num(angles, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    found = np.empty((len(X), 2 * n_components))
    for part, function in ((slice(n_components), np.cos), (slice(n_components, None), np.sin)):
        np.multiply(function(angles), roots, out=found[:, part])
    return found


def release_features(X, frequencies, weights, count, share, *, budget, relative, noise):
    """Release the sum of the features; `count` is what was released for the rest of the budget.

    A record adds a vector of l2 norm sqrt(weights.sum()). As abs(cos) + abs(sin) is at most
    sqrt(2), its l1 norm is at most sqrt(2) sqrt(weights).sum().
    """
    roots = np.sqrt(weights)
    scale = budget.block_scale(relative, np.sqrt(2) * roots.sum(), np.sqrt(weights.sum()), share)
    sums = budget.release(X, scale, noise, lambda rows: features(rows, frequencies, roots))
    return FeatureSum(frequencies, roots, sums, budget.standard_deviation(scale), count)
