"""Gaussian mixtures, whose density, score and denoiser are known at every noise level."""

import math

import numpy as np
from sklearn.externals.array_api_compat import array_namespace, device
from sklearn.utils import check_array

from skpapers.utils import check_random_state

__all__ = ["GaussianMixtureDensity", "LinearSubspaceDensity"]


class GaussianMixtureDensity:
    """Mixture of Gaussians with given parameters, seen through noise or not.

    Every method takes a noise level: the density is then that of alpha x + sigma z, with x from
    the mixture and z standard normal. It has closed forms, which samplers, likelihoods and
    learned scores can be tested against.

    Parameters
    ----------
    means : array-like of shape (n_components, n_features)
        Centres.
    covariances : array-like, default=1.0
        A number, or an array of shape (n_components,), variances of round components;
        (n_components, n_features), diagonals; or (n_components, n_features, n_features). They may
        be singular, even zero (the empirical measure of the centres), where sigma is positive.
    weights : array-like of shape (n_components,), default=None
        Positive shares of the components, normalised here; None for equal ones.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds `sample`.

    Raises
    ------
    ValueError
        If shapes disagree, weights are not positive or a covariance is not positive
        semi-definite.

    Notes
    -----
    O(n_components n_features^2) a row and noise level after one eigendecomposition a component.
    NumPy arrays and tensors are both accepted: the result is what the points are.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.datasets import GaussianMixtureDensity
    >>> density = GaussianMixtureDensity([[-2.0], [2.0]])
    >>> density.score_function(np.array([[0.0]]))
    array([[0.]])
    >>> density.denoise(np.array([[1.0]]), alpha=1.0, sigma=1e-6).round(3)
    array([[1.]])
    """

    def __init__(self, means, covariances=1.0, weights=None, *, random_state=None):
        self.means = check_array(means, dtype=np.float64, input_name="means")
        n_components, n_features = self.means.shape
        weights = np.ones(n_components) if weights is None else np.asarray(weights, dtype=float)
        if weights.shape != (n_components,) or not (weights > 0).all():
            raise ValueError(f"weights must be {n_components} positive numbers, got {weights!r}")
        self.weights = weights / weights.sum()
        self._values, self._vectors = _eigen(covariances, n_components, n_features)
        self.random_state = random_state

    def _whitened(self, X, alpha, sigma):
        """Offsets from the centres in the axes of each component, and variances along them."""
        xp = array_namespace(X)
        means, values, vectors = (
            xp.asarray(a, dtype=X.dtype, device=device(X))
            for a in (self.means, self._values, self._vectors)
        )
        offsets = (X[None, :, :] - alpha * means[:, None, :]) @ vectors
        variances = alpha**2 * values[:, None, :] + sigma**2
        if not bool(xp.all(variances > 0)):
            raise ValueError("a component is singular: its density needs sigma > 0")
        return xp, offsets, variances, vectors, means

    def _log_joint(self, xp, offsets, variances):
        """Logs of weight times density, shape (n_components, n_samples)."""
        logs = offsets**2 / variances + xp.log(2 * math.pi * variances)
        weights = xp.asarray(self.weights, dtype=offsets.dtype, device=device(logs))
        return xp.log(weights)[:, None] - 0.5 * xp.sum(logs, axis=2)

    def score_samples(self, X, *, alpha=1.0, sigma=0.0):
        """Compute the log density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points.
        alpha : float, default=1.0
            Factor of the signal.
        sigma : float, default=0.0
            Standard deviation of the noise.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log densities in nats.
        """
        X = _points(X)
        xp, offsets, variances, *_ = self._whitened(X, alpha, sigma)
        return _log_sum_exp(xp, self._log_joint(xp, offsets, variances))

    def score_function(self, X, *, alpha=1.0, sigma=0.0):
        """Compute the score, the gradient of the log density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points.
        alpha : float, default=1.0
            Factor of the signal.
        sigma : float, default=0.0
            Standard deviation of the noise.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Scores.
        """
        X = _points(X)
        xp, offsets, variances, vectors, _ = self._whitened(X, alpha, sigma)
        slopes = -(offsets / variances) @ xp.matrix_transpose(vectors)
        return self._average(xp, offsets, variances, slopes)

    def denoise(self, X, *, alpha=1.0, sigma=0.0):
        """Compute the mean of the signal given its noisy version.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Noisy points, alpha x + sigma z.
        alpha : float, default=1.0
            Factor of the signal.
        sigma : float, default=0.0
            Standard deviation of the noise.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            E[x | alpha x + sigma z].
        """
        X = _points(X)
        xp, offsets, variances, vectors, means = self._whitened(X, alpha, sigma)
        values = xp.asarray(self._values, dtype=X.dtype, device=device(offsets))
        gains = alpha * values[:, None, :] / variances
        inner = means[:, None, :] + (gains * offsets) @ xp.matrix_transpose(vectors)
        return self._average(xp, offsets, variances, inner)

    def _average(self, xp, offsets, variances, parts):
        logs = self._log_joint(xp, offsets, variances)
        shares = xp.exp(logs - _log_sum_exp(xp, logs)[None, :])
        return xp.sum(shares[:, :, None] * parts, axis=0)

    def sample(self, n_samples=1, random_state=None, *, alpha=1.0, sigma=0.0):
        """Draw points.

        Parameters
        ----------
        n_samples : int, default=1
            Number of points.
        random_state : int, RandomState instance, Generator or None, default=None
            Seed; None for that of the object.
        alpha : float, default=1.0
            Factor of the signal.
        sigma : float, default=0.0
            Standard deviation of the noise.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Points.
        """
        rng = check_random_state(self.random_state if random_state is None else random_state)
        chosen = rng.choice(len(self.weights), size=n_samples, p=self.weights)
        axes = rng.normal(size=(n_samples, self.means.shape[1])) * np.sqrt(self._values[chosen])
        signal = self.means[chosen] + np.einsum("nij,nj->ni", self._vectors[chosen], axes)
        return alpha * signal + sigma * rng.normal(size=signal.shape)


class LinearSubspaceDensity(GaussianMixtureDensity):
    """Gaussian on a linear subspace, which has a density only through noise.

    Parameters
    ----------
    basis : array-like of shape (n_features, n_components)
        Columns that span the subspace: points are basis @ z, with z standard normal.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds `sample`.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.datasets import LinearSubspaceDensity
    >>> line = LinearSubspaceDensity([[3.0], [4.0]])
    >>> line.denoise(np.array([[5.0, 0.0]]), sigma=1e-3).round(2)
    array([[1.8, 2.4]])
    """

    def __init__(self, basis, *, random_state=None):
        basis = check_array(basis, dtype=np.float64, input_name="basis")
        mean = np.zeros((1, basis.shape[0]))
        super().__init__(mean, (basis @ basis.T)[None], random_state=random_state)
        self.basis = basis


def _eigen(covariances, n_components, n_features):
    """Eigenvalues (n_components, n_features) and eigenvectors of all components."""
    covariances = np.asarray(covariances, dtype=np.float64)
    if covariances.ndim == 3:
        if covariances.shape != (n_components, n_features, n_features):
            raise ValueError(
                f"covariances must have shape ({n_components}, {n_features}, {n_features}), got "
                f"{covariances.shape}"
            )
        values, vectors = np.linalg.eigh(covariances)
        lowest = -1e-10 * np.abs(values).max()
        if values.min() < lowest:
            raise ValueError("covariances must be positive semi-definite")
        # what rounding leaves of a null direction is zero
        return np.where(values > -lowest, values, 0.0), vectors
    if covariances.ndim == 1:
        covariances = covariances[:, None]
    values = np.tile(1.0, (n_components, n_features)) * covariances
    if values.min() < 0:
        raise ValueError("covariances must be positive semi-definite")
    return values, np.tile(np.eye(n_features), (n_components, 1, 1))


def _points(X):
    return X if hasattr(X, "shape") else check_array(X, dtype=np.float64)


def _log_sum_exp(xp, logs):
    highest = xp.max(logs, axis=0)
    return highest + xp.log(xp.sum(xp.exp(logs - highest[None, :]), axis=0))
