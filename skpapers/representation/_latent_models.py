"""Latent-variable models in closed form or by EM, and the head for responsibilities."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.decomposition import FactorAnalysis
from sklearn.mixture import GaussianMixture

from skpapers.utils import one_hot, truncated_eigh

__all__ = ["MixtureHead", "ProbabilisticPCA", "best_by_bic", "make_latent_model"]

_MANY_FEATURES = 1000  # above this factor analysis takes randomised decompositions
_MOST_BY_BIC = 10
_TOL = 1e-8


class ProbabilisticPCA(TransformerMixin, BaseEstimator):
    """Factor model with the same noise in all features, by its closed-form likelihood maximum."""

    def __init__(self, n_components):
        self.n_components = n_components

    def fit(self, X, y=None):
        self.mean_ = X.mean(axis=0)
        centered, d = X - self.mean_, X.shape[1]
        covariance = centered.T @ centered / len(X)
        values, vectors = truncated_eigh(covariance, self.n_components, random_state=0)
        total = np.trace(covariance)
        rest = max(total - values.sum(), 0.0) / max(d - self.n_components, 1)
        self.noise_variance_ = max(rest, np.finfo(float).eps * max(total, 1.0))
        self.loadings_ = vectors * np.sqrt(np.maximum(values - self.noise_variance_, 0))
        return self

    def transform(self, X):
        """Posterior means of the factors."""
        inner = self.loadings_.T @ self.loadings_ + self.noise_variance_ * np.eye(
            self.n_components
        )
        return np.linalg.solve(inner, self.loadings_.T @ (X - self.mean_).T).T

    def score_samples(self, X):
        d, r = self.loadings_.shape
        centered, noise = X - self.mean_, self.noise_variance_
        signal = np.sum(self.loadings_**2, axis=0)
        along = self.transform(X) @ self.loadings_.T
        mahalanobis = np.sum(centered * (centered - along), axis=1) / noise
        volume = np.sum(np.log(signal + noise)) + (d - r) * np.log(noise)
        return -0.5 * (mahalanobis + volume + d * np.log(2 * np.pi))

    def score(self, X, y=None):
        return float(np.mean(self.score_samples(X)))


def make_latent_model(name, n_components, n_init, seed, n_features):
    """Unfitted model of a name, other than the contrastive one."""
    if name == "ppca":
        return ProbabilisticPCA(n_components)
    if name == "factor":
        svd = "randomized" if n_features > _MANY_FEATURES else "lapack"
        return FactorAnalysis(n_components, svd_method=svd, tol=1e-4, random_state=seed)
    return GaussianMixture(
        n_components,
        covariance_type="spherical",
        n_init=n_init,
        max_iter=200,
        random_state=seed,
    )


def n_free_parameters(name, n_components, n_features):
    if name == "gmm":
        return n_components * (n_features + 2) - 1
    loadings = n_features * n_components - n_components * (n_components - 1) // 2
    return n_features + loadings + (1 if name == "ppca" else n_features)


def best_by_bic(name, X, n_init, seed):
    """The fitted model with the least Bayesian information criterion, of up to ten components."""
    n_samples, n_features = X.shape
    largest = min(_MOST_BY_BIC, n_samples, n_samples if name == "gmm" else max(1, n_features - 1))
    models = [
        make_latent_model(name, k, n_init, seed, n_features).fit(X) for k in range(1, largest + 1)
    ]
    criteria = [
        n_free_parameters(name, k, n_features) * np.log(n_samples) - 2 * n_samples * model.score(X)
        for k, model in enumerate(models, start=1)
    ]
    return models[int(np.argmin(criteria))]


class MixtureHead(ClassifierMixin, BaseEstimator):
    """Class weights of every component, by penalised maximum likelihood.

    Maximises ``sum_j log sum_k r_jk psi[k, y_j] + smoothing * sum log psi`` over rows of psi on
    the simplex, which is strictly concave, by EM.
    """

    def __init__(self, smoothing=0.1):
        self.smoothing = smoothing

    def fit(self, R, y):
        self.classes_, codes = np.unique(y, return_inverse=True)
        indicators = one_hot(codes, len(self.classes_))
        weights, shares = None, R
        while True:
            counts = self.smoothing + shares.T @ indicators
            new = counts / counts.sum(axis=1, keepdims=True)
            if weights is not None and np.max(np.abs(new - weights)) <= _TOL:
                break
            weights = new
            joint = R * weights[:, codes].T
            total = joint.sum(axis=1, keepdims=True)
            shares = np.where(total > 0, joint / np.where(total > 0, total, 1), R)
        self.class_weights_ = new
        return self

    def predict_proba(self, R):
        return R @ self.class_weights_

    def predict(self, R):
        return self.classes_[np.argmax(self.predict_proba(R), axis=1)]
