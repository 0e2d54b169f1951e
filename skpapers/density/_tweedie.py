"""Posterior means from the score of noisy data, and the noise level that suits them best."""

import numpy as np
from scipy.stats import gamma

__all__ = [
    "NOISE_DEVIATIONS",
    "POSTERIOR_MEANS",
    "covariance_noise",
    "gamma_mean",
    "gaussian_mean",
    "level_grid",
    "link",
    "link_offset",
    "poisson_mean",
    "quality_penalty",
    "score_behind_link",
    "total_variation",
]

_TAIL = 1e-4  # quantile of the speckle at which ratios of clean to noisy are cut
_MAX_LOG_STEP = 5.0
_N_LEVELS = 50


def gaussian_mean(Y, score, variance):
    """E[x | y] for y = x + N(0, variance)."""
    return Y + variance * score


def poisson_mean(Y, score, unit):
    """exp E[log x | y] for y = unit * Poisson(x / unit), by the half-count approximation."""
    step = np.clip(unit * score, -_MAX_LOG_STEP, _MAX_LOG_STEP)
    return (Y + unit / 2) * np.exp(step) if unit else Y


def gamma_mean(Y, score, shape):
    """1 / E[1 / x | y] for y = x n, n of mean 1 and Gamma with this shape.

    The ratio x / y stays within the quantiles of 1 / n.
    """
    low, high = gamma.ppf([_TAIL, 1 - _TAIL], shape)
    return Y * shape / np.clip(shape - 1 - Y * score, low, high)


POSTERIOR_MEANS = {"gaussian": gaussian_mean, "poisson": poisson_mean, "gamma": gamma_mean}


# Units in which the noise is equally strong everywhere: y, sqrt(y + 3/8 unit), log y.

# standard deviation of the noise there, as a function of the level
NOISE_DEVIATIONS = {
    "gaussian": lambda variance: variance**0.5,
    "poisson": lambda unit: unit**0.5 / 2,
    "gamma": lambda shape: shape**-0.5,
}


def link_offset(noise, Y, level):
    """What keeps the link finite at 0; `level` is None where it is unknown."""
    if noise == "gaussian":
        return 0.0
    if not (Y > 0).any():
        raise ValueError(f"noise={noise!r} needs positive entries, X has none")
    smallest = float(Y[Y > 0].min())
    return smallest / 2 if noise == "gamma" else 0.375 * (level or smallest)


def link(noise, Y, offset):
    """Map data to units of equal noise."""
    if noise == "gaussian":
        return Y
    return np.sqrt(Y + offset) if noise == "poisson" else np.log(np.maximum(Y, offset))


def score_behind_link(noise, Y, score, offset):
    """Score of the data, from that in units of equal noise."""
    if noise == "gaussian":
        return score
    if noise == "poisson":
        root = np.sqrt(Y + offset)
        return score / (2 * root) - 1 / (2 * root**2)
    return (score - 1) / np.maximum(Y, offset)


def level_grid(noise, scale):
    """Levels to try: up to what explains a standard deviation `scale` in units of equal noise."""
    deviations = np.linspace(0.02, 1, _N_LEVELS) * scale
    if noise == "gamma":
        return deviations**-2
    return deviations**2 if noise == "gaussian" else 4 * deviations**2


def quality_penalty(noise, Y, X, images, penalty):
    """How bad `X` is as what is behind `Y`: roughness, and misfit where noise has a likelihood."""
    if callable(penalty):
        return penalty(images(X))
    roughness = total_variation(images(X))
    if noise == "gaussian":
        return roughness
    positive = np.maximum(X, np.finfo(X.dtype).tiny)
    if noise == "poisson":
        return roughness + (X - Y * np.log(positive)).mean()
    return roughness / Y.mean() + (np.log(positive) + Y / positive).mean()


def total_variation(images):
    """Mean absolute difference of neighbours, down plus across, of images (n, C, H, W)."""
    steps = (np.abs(np.diff(images, axis=axis)) for axis in (2, 3))
    return sum(step.mean() for step in steps if step.size)


def covariance_noise(X):
    """Median of the lower half of the eigenvalues of the covariance.

    The variance of white noise on rows that lie near a subspace of at most half the dimension.
    """
    centred = X - X.mean(axis=0, dtype=np.float64)
    size = np.abs(centred).max() or 1.0  # squares of tiny entries are not representable
    values = np.linalg.eigvalsh((centred / size).T @ (centred / size) / len(X))
    lower = values[: max(1, len(values) // 2)]
    return float(max(np.median(lower), 0.0) * size**2)
