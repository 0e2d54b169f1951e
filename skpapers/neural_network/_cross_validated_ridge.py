"""Whitening, ridge regression with a cross-validated penalty, and its gradient descent."""

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

__all__ = ["gradient_descent", "ridge_path", "whitening"]


def whitening(X, correlated=True):
    """Means, and the symmetric matrix that decorrelates; identity and zeros for False."""
    n_samples, n_features = X.shape
    if not correlated:
        return np.zeros(n_features), np.eye(n_features)
    mean, spread = X.mean(axis=0), X.std(axis=0)
    varies = spread > 10 * np.finfo(float).eps * np.abs(mean)
    inverse = np.where(varies, 1 / np.where(varies, spread, 1), 0)
    Z = (X - mean) * inverse
    covariance = Z.T @ Z / n_samples
    level = max(np.trace(covariance) / n_features, np.finfo(float).tiny)
    share = ledoit_wolf_shrinkage(Z, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum((1 - share) * values + share * level, 1e-6 * level)
    return mean, inverse[:, None] * (vectors / np.sqrt(values / level)) @ vectors.T


def ridge_path(A, Y, alphas):
    """Choose the ridge penalty of each target by generalised cross-validation.

    One eigendecomposition of the smaller Gram matrix serves all penalties and targets. Penalties
    are shares of its largest eigenvalue. Columns of A and Y have mean zero.

    Returns coefficients, penalties, errors and the largest eigenvalue of ``A.T @ A / n_samples``.
    """
    n_samples, n_units = A.shape
    wide = n_units > n_samples
    values, vectors = np.linalg.eigh((A @ A.T if wide else A.T @ A) / n_samples)
    keep = values > max(A.shape) * np.finfo(float).eps * values[-1]
    if not keep.any():
        variance = np.mean(Y**2, axis=0)
        return np.zeros((n_units, Y.shape[1])), np.full(Y.shape[1], alphas[0]), variance, 0.0
    values, vectors = values[keep], vectors[:, keep]
    # Y in the left singular vectors: the squares add up to the variance that A can explain.
    left = vectors.T @ (Y if wide else A.T @ Y) / np.sqrt(n_samples)
    if not wide:
        left /= np.sqrt(n_samples * values)[:, None]
    beyond = np.maximum(np.mean(Y**2, axis=0) - np.sum(left**2, axis=0), 0)
    scale = values[-1]
    kept = values / (values + scale * np.asarray(alphas)[:, None])
    residual = beyond + (1 - kept) ** 2 @ left**2
    freedom = 1 - (1 + kept.sum(axis=1)) / n_samples
    freedom = freedom[:, None]
    gcv = np.where(freedom > 0, residual / np.where(freedom > 0, freedom, 1) ** 2, np.inf)
    best = np.argmin(gcv, axis=0)
    rotated = kept[best].T / np.sqrt(values)[:, None] * left
    coef = vectors @ rotated
    if wide:
        coef = A.T @ (vectors @ (rotated / np.sqrt(values)[:, None])) / np.sqrt(n_samples)
    return coef, np.asarray(alphas)[best], gcv[best, np.arange(Y.shape[1])], float(scale)


def gradient_descent(A, Y, alpha, scale, n_steps, tol=0.0):
    """Minimise ``mean((Y - A @ u)**2) / 2 + alpha * sum(u**2) / 2``; also say if it converged.

    The rate is one over the largest curvature, `scale` (of ``A.T @ A / n_samples``) plus alpha.
    """
    u = np.zeros((A.shape[1], Y.shape[1]))
    enough = None
    for _ in range(n_steps):
        gradient = A.T @ (A @ u - Y) / len(A) + alpha * u
        size = np.linalg.norm(gradient, axis=0)
        enough = tol * size if enough is None else enough
        if (size <= enough).all():
            return u, True
        u -= gradient / (scale + alpha)
    return u, False
