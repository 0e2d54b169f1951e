"""Modes of a density, and jumps between them that leave the density as it is."""

import numpy as np
from scipy import linalg, optimize

from ._score import log_ratio

_LOG_NEGLIGIBLE = np.log(1e-8)


def starting_points(X, count, rng):
    """Points of the sample, and as many uniform in its box widened by its size on all sides."""
    chosen = X[rng.permutation(len(X))[:count]]
    low, high = X.min(axis=0), X.max(axis=0)
    size = high - low
    uniform = rng.uniform(size=(count, X.shape[1])) * 3 * size + low - size
    return np.concatenate([chosen, uniform.astype(X.dtype)])


def find_modes(density, scores, starts, threshold):
    """Modes of the density and the inverse Hessians there, by quasi-Newton searches."""
    origin = starts[:1].astype(np.float64)

    def height(x):
        return float(log_ratio(density, scores, origin, x[None])[0])

    def slope(x):
        return scores(x[None])[0].astype(np.float64)

    found = []
    for start in starts.astype(np.float64):
        end = optimize.minimize(
            lambda x: -height(x), start, jac=lambda x: -slope(x), options={"maxiter": 50}
        ).x
        if np.isfinite(end).all() and np.isfinite(height(end)):
            found.append((height(end), end, mode_covariance(scores, end)))
    found.sort(key=lambda mode: -mode[0])
    return distinct_modes(found, slope, threshold, starts[0])


def distinct_modes(found, slope, threshold, fallback):
    """Drop end points that are no modes, low ones, and repetitions of higher ones."""
    modes, covariances = [], []
    for height, end, covariance in found:
        if height < found[0][0] + _LOG_NEGLIGIBLE:
            break
        gradient = slope(end)
        near = [
            linalg.solve(0.5 * (covariance + other), end - mode) @ (end - mode) < threshold
            for mode, other in zip(modes, covariances)
        ]
        if gradient @ covariance @ gradient < threshold and not any(near):
            modes.append(end)
            covariances.append(covariance)
    if not modes:
        return fallback[None], np.eye(len(fallback))[None]
    return np.array(modes), np.array(covariances)


def mode_covariance(scores, point):
    """Inverse of minus the Hessian by central differences; identity if it is not definite."""
    steps = 1e-4 * np.maximum(np.abs(point), 1.0) * np.eye(len(point))
    differences = scores(point + steps) - scores(point - steps)
    hessian = -differences / (2 * steps.diagonal()[:, None])
    values, vectors = linalg.eigh((hessian + hessian.T) / 2)
    if values[0] <= 1e-10 * max(abs(values[-1]), 1e-300):
        return np.eye(len(point))
    return (vectors / values) @ vectors.T


def jump_maps(covariances):
    """Maps C_j^(1/2) C_i^(-1/2) from mode i to mode j, and the logs of their determinants."""
    values, vectors = np.linalg.eigh(covariances)
    roots = (vectors * np.sqrt(values)[:, None, :]) @ vectors.transpose(0, 2, 1)
    inverses = (vectors / np.sqrt(values)[:, None, :]) @ vectors.transpose(0, 2, 1)
    logs = 0.5 * np.log(values).sum(axis=1)
    return roots[None, :] @ inverses[:, None], logs[None, :] - logs[:, None]


def perturb(X, modes, jumps, scales, n_steps, log_ratio, rng):
    """Move every point by `n_steps` Metropolis jumps between modes, once for every scale.

    The reverse of a jump from mode i to j is the one from j to i, which is as likely, so that the
    acceptance has the ratio of densities and the determinant of the map.
    """
    maps, log_determinants = jumps
    points = np.tile(X, (len(scales), 1)).astype(np.float64)
    scale = np.repeat(scales, len(X))[:, None]
    for _ in range(n_steps):
        source = rng.randint(len(modes), size=len(points))
        target = (source + rng.randint(1, len(modes), size=len(points))) % len(modes)
        offset = points - scale * modes[source]
        moved = np.einsum("nij,nj->ni", maps[source, target], offset) + scale * modes[target]
        ratio = log_ratio(points, moved) + log_determinants[source, target]
        accepted = np.log(rng.uniform(size=len(points))) < ratio
        points = np.where(accepted[:, None], moved, points)
    return points.astype(X.dtype).reshape(len(scales), *X.shape)
