"""Gaussians and mixtures that minimise a Stein discrepancy."""

from typing import NamedTuple

import numpy as np
from scipy import linalg
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax

__all__ = ["Mixture", "fit_gaussian", "fit_mean", "minimize_scores", "mixture_packing"]

_SMALLEST_VARIANCE, _SMALLEST_PRECISION = 1e-6, 1e-3
INDEFINITE = (
    "No minimum of the U-statistic was found: the sample is small for its number of features, or "
    "the model too flexible. Use statistic='v'."
)


class Mixture(NamedTuple):
    """Gaussian mixture with precisions U U', U lower triangular."""

    log_weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray

    def parts(self, X):
        """Offsets from means to rows (n, K, d), joint log densities (n, K), scores (n, K, d)."""
        offsets = self.means - X[:, None]
        white = np.einsum("nkd,kde->nke", offsets, self.factors)
        log_det = np.log(np.diagonal(self.factors, axis1=1, axis2=2)).sum(axis=1)
        constant = self.log_weights + log_det - 0.5 * X.shape[1] * np.log(2 * np.pi)
        log_joint = constant - 0.5 * (white**2).sum(axis=2)
        return offsets, log_joint, np.einsum("nke,kde->nkd", white, self.factors)

    def log_density(self, X):
        """Log density of each row."""
        return logsumexp(self.parts(X)[1], axis=1)

    def score(self, X):
        """Gradient of the log density at each row."""
        _, log_joint, scores = self.parts(X)
        return np.einsum("nk,nkd->nd", softmax(log_joint, axis=1), scores)

    def pull_back(self, X, gradient):
        """Scores, and the gradients in log weights, means, factors and log determinants.

        `gradient` maps scores to (value, derivative G in the scores): the result is the value and
        the derivatives of it. With responsibilities r, component scores a and e = mean - x, the
        weight of d log_joint is g = r (G.a - G.score).
        """
        offsets, log_joint, scores = self.parts(X)
        shares = softmax(log_joint, axis=1)
        score = np.einsum("nk,nkd->nd", shares, scores)
        value, G = gradient(score)
        g = shares * (np.einsum("nd,nkd->nk", G, scores) - (G * score).sum(axis=1)[:, None])
        pulled = np.einsum("kd,kde->ke", shares.T @ G, self.factors)
        means = np.einsum("ke,kde->kd", pulled, self.factors)
        means -= np.einsum("nk,nkd->kd", g, scores)
        cross = np.einsum("nkd,ne->kde", shares[:, :, None] * offsets, G)
        precisions = cross + cross.transpose(0, 2, 1)  # twice the derivative
        precisions -= np.einsum("nkd,nke->kde", g[:, :, None] * offsets, offsets)
        return value, (g.sum(axis=0), means, precisions @ self.factors)


def mixture_packing(n_components, n_features, covariance_type):
    """Functions that turn a vector into a mixture, a mixture and derivatives into vectors."""
    n_lower = n_features if covariance_type == "full" else 0
    lower = np.tril_indices(n_lower, -1)
    n_scales = 1 if covariance_type == "spherical" else n_features
    sizes = np.cumsum([1, n_features, n_scales]) * n_components
    axis = np.arange(n_features)

    def unpack(vector):
        logits, means, scales, rest = np.split(vector, sizes)
        factors = np.zeros((n_components, n_features, n_features))
        factors[:, axis, axis] = np.exp(scales.reshape(n_components, n_scales))
        factors[:, *lower] = rest.reshape(n_components, -1)
        return Mixture(log_softmax(logits), means.reshape(n_components, -1), factors)

    def pack(mixture):
        scales = np.log(mixture.factors[:, axis, axis])
        scales = scales.mean(axis=1) if n_scales == 1 else scales
        rest = mixture.factors[:, *lower]
        return np.concatenate([np.ravel(a) for a in (*mixture[:2], scales, rest)])

    def pack_derivatives(mixture, derivatives):
        logits, means, factors = derivatives
        scales = factors[:, axis, axis] * mixture.factors[:, axis, axis] + logits[:, None]
        scales = scales.sum(axis=1) if n_scales == 1 else scales
        return np.concatenate([np.ravel(a) for a in (logits, means, scales, factors[:, *lower])])

    return unpack, pack, pack_derivatives


def minimize_scores(function, starts, max_iter, jac, *, bounded):
    """Best of the minima that BFGS finds from the starts.

    A function that is not bounded below may run off to minus infinity: there its gradient is
    not small.
    """
    options = {"maxiter": max_iter, "gtol": 1e-7}
    with np.errstate(all="ignore"):
        results = [minimize(function, s, jac=jac, method="BFGS", options=options) for s in starts]
    minima = [
        r
        for r in results
        if np.isfinite(r.fun)
        and np.isfinite(r.x).all()
        and (bounded or np.abs(r.jac).max() <= 1e-3 * max(1, abs(r.fun)))
    ]
    if not minima:
        raise ValueError(INDEFINITE)
    return min(minima, key=lambda result: result.fun)


def fit_mean(objective, precision):
    """Mean of the Gaussian with covariance I / precision."""
    ones = np.ones((len(objective.points), 1))
    smooth = objective.product(ones)
    if smooth.sum() <= 0:
        raise ValueError(INDEFINITE)
    shift = objective.linear.sum(axis=0) / precision
    return (smooth.T @ objective.points - shift)[0] / smooth.sum()


def fit_gaussian(objective, covariance_type):
    """Mean, covariance, and whether the precision had to be made positive definite.

    The score h - P x is linear in h and P, so that the minimum is the solution of a linear
    system, for a full P a Lyapunov equation. In directions without variation the sample says
    nothing of the density: the covariance there is the smallest variance.
    """
    basis = _varying_directions(objective.points, covariance_type)
    x = objective.points @ basis
    Z = np.c_[np.ones(len(x)), -x]
    quadratic, linear = Z.T @ objective.product(Z), Z.T @ objective.linear @ basis
    quadratic = (quadratic + quadratic.T) / 2
    if linalg.eigvalsh(quadratic, subset_by_index=[0, 0])[0] <= 0:
        raise ValueError(INDEFINITE)
    a, m = quadratic[0, 0], quadratic[0, 1:]
    S = quadratic[1:, 1:] - np.outer(m, m) / a
    precision = _PRECISIONS[covariance_type](S, linear[1:] - np.outer(m, linear[0]) / a)
    values, vectors = np.linalg.eigh(precision)
    projected = bool((values < _SMALLEST_PRECISION).any())
    values = values.clip(min=_SMALLEST_PRECISION)
    precision = (vectors * values) @ vectors.T
    covariance = (vectors / values) @ vectors.T
    mean = -covariance @ (linear[0] + m @ precision) / a
    rest = np.eye(len(basis)) - basis @ basis.T
    return basis @ mean, basis @ covariance @ basis.T + _SMALLEST_VARIANCE * rest, projected


def _varying_directions(points, covariance_type):
    """Orthonormal basis of the directions in which the points, whose mean is 0, vary."""
    if covariance_type != "full":
        variance = (points**2).sum(axis=0)
        return np.eye(points.shape[1])[:, variance > 1e-10 * variance.max()]
    _, lengths, rows = np.linalg.svd(points, full_matrices=False)
    return rows[lengths > 1e-5 * lengths.max()].T


def _full_precision(S, C):
    return linalg.solve_continuous_lyapunov(S, -(C + C.T))


def _diagonal_precision(S, C):
    return np.diag(-np.diag(C) / np.diag(S))


def _spherical_precision(S, C):
    return -np.trace(C) / np.trace(S) * np.eye(len(S))


_PRECISIONS = {
    "full": _full_precision,
    "diag": _diagonal_precision,
    "spherical": _spherical_precision,
}
