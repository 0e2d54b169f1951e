"""Where the search for spectral components starts: peaks of periodograms."""

import numpy as np
from scipy.signal import lombscargle

__all__ = ["highest_frequencies", "mixing_start", "spectral_peaks"]

_MAX_FREQUENCIES = 1000


def highest_frequencies(X):
    """Half over the median gap of the values of each feature: no faster wave is seen."""
    limits = []
    for column in X.T:
        values = np.unique(column)
        limits.append(0.5 / np.median(np.diff(values)) if len(values) > 1 else 0.5)
    return np.array(limits)


def spectral_peaks(X, Y, n_peaks, limits, rng=None):
    """Frequencies (n_peaks, n_features) of the highest peaks of the mean periodogram.

    Each feature has its own; with `rng` the peaks are drawn with probabilities in proportion to
    their power instead.
    """
    spans = np.ptp(X, axis=0)
    found = np.empty((n_peaks, X.shape[1]))
    for feature, (span, limit) in enumerate(zip(spans, limits)):
        if span == 0:
            found[:, feature] = limit / 2
            continue
        step = 0.2 / span
        grid = step * np.arange(1, min(int(limit / step), _MAX_FREQUENCIES) + 1)
        power = mean_periodogram(X[:, feature], Y, grid if len(grid) else np.array([limit / 2]))
        found[:, feature] = _peaks(grid, power, n_peaks, width=1 / span, rng=rng)
    return np.clip(found, 1e-3 * limits, 0.999 * limits)


def mean_periodogram(x, Y, grid):
    """Lomb-Scargle periodogram, averaged over the tasks, of what was observed."""
    total = np.zeros(len(grid))
    for y in Y.T:
        seen = ~np.isnan(y)
        if seen.sum() > 1:
            total += lombscargle(x[seen], y[seen] - y[seen].mean(), 2 * np.pi * grid)
    return total


def _peaks(grid, power, n_peaks, width, rng):
    """Take the highest value, strike out what is closer than `width`, and so on."""
    power, found = power.copy(), []
    for _ in range(n_peaks):
        if not (power > 0).any():
            found.append(found[-1] if found else grid[0])
            continue
        best = np.argmax(power) if rng is None else rng.choice(len(power), p=power / power.sum())
        found.append(grid[best])
        power[np.abs(grid - grid[best]) < width] = 0
    return np.array(found)


def mixing_start(Y, n_latent, rank, rng):
    """Root of the correlation between tasks, perturbed a little for each component."""
    n_tasks = Y.shape[1]
    correlation = 0.9 * pairwise_correlation(Y) + 0.1 * np.eye(n_tasks)
    values, vectors = np.linalg.eigh(correlation)
    nearest = (vectors * np.maximum(values, 1e-3)) @ vectors.T
    root = np.linalg.cholesky(nearest)[:, :rank]
    return root + 0.02 * rng.normal(size=(n_latent, n_tasks, root.shape[1]))


def pairwise_correlation(Y):
    """Correlations (n_tasks, n_tasks) over the rows where both tasks were observed."""
    seen = ~np.isnan(Y)
    weights, values = seen.astype(float), np.where(seen, Y, 0.0)
    norms = np.sqrt((values**2).T @ weights)  # of each task where the other is seen too
    scale = norms * norms.T
    products = values.T @ values
    return np.where(scale > 0, products / np.where(scale > 0, scale, 1.0), np.eye(Y.shape[1]))
