"""Mixtures of Gaussians on linear subspaces: density, denoiser and score in closed form."""

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params

from skpapers.utils import check_random_state, qr_factor

__all__ = ["LowRankMixture", "make_low_rank_gaussian_mixture"]


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "ranks": ["array-like"],
        "noise": [Interval(Real, 0, None, closed="left")],
        "orthogonal": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_low_rank_gaussian_mixture(
    n_samples=300,
    n_features=30,
    ranks=(3, 3, 3),
    *,
    noise=0.0,
    orthogonal=False,
    random_state=None,
):
    """Draw rows from standard normal laws on random linear subspaces.

    Parameters
    ----------
    n_samples : int, default=300
        Number of rows, as many from each subspace, up to one.
    n_features : int, default=30
        Number of features.
    ranks : array-like of int of shape (n_subspaces,), default=(3, 3, 3)
        Dimension of each subspace.
    noise : float, default=0.0
        Standard deviation of the noise in every feature.
    orthogonal : bool, default=False
        Whether the subspaces are orthogonal to each other.
    random_state : int, RandomState instance or None, default=None
        Determines the draw; None is a new one each time.

    Returns
    -------
    mixture : :class:`~sklearn.utils.Bunch`
        `data` of shape (n_samples, n_features); `target` of shape (n_samples,), the subspace of
        each row; `subspaces`, a list of orthonormal bases of shape (n_features, rank).

    Raises
    ------
    ValueError
        If a rank, or with `orthogonal` their sum, exceeds `n_features`.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.cluster import make_low_rank_gaussian_mixture
    >>> mixture = make_low_rank_gaussian_mixture(60, 10, (2, 1), random_state=0)
    >>> int(np.linalg.matrix_rank(mixture.data[mixture.target == 0]))
    2
    """
    ranks = [int(rank) for rank in ranks]
    needed = sum(ranks) if orthogonal else max(ranks, default=0)
    if not ranks or min(ranks) < 1 or needed > n_features:
        raise ValueError(f"ranks={ranks} must be positive and fit in n_features={n_features}")
    rng = check_random_state(random_state)
    if orthogonal:
        basis = qr_factor(rng.normal(size=(n_features, needed)))
        bases = np.split(basis, np.cumsum(ranks)[:-1], axis=1)
    else:
        bases = [qr_factor(rng.normal(size=(n_features, rank))) for rank in ranks]
    target = np.sort(np.arange(n_samples) % len(ranks))
    data = noise * rng.normal(size=(n_samples, n_features))
    for k, basis in enumerate(bases):
        rows = target == k
        data[rows] += rng.normal(size=(rows.sum(), basis.shape[1])) @ basis.T
    return Bunch(data=data, target=target, subspaces=bases)


@dataclass(frozen=True)
class LowRankMixture:
    """Clean rows follow sum_k weights_k N(0, U_k diag(variances_k) U_k^T).

    Everything needs the coordinates of rows in the subspaces alone, never a matrix of the size
    of a covariance.
    """

    bases: list  # of arrays (n_features, d_k) with orthonormal columns
    variances: list  # of arrays (d_k,)
    weights: np.ndarray  # (n_clusters,)

    @property
    def n_features(self):
        return self.bases[0].shape[0]

    def coordinates(self, X):
        return [X @ basis for basis in self.bases]

    def log_joint(self, X, scale, variance):
        """log of weight times density of ``scale * x0 + sqrt(variance) * noise``, (n, k)."""
        squares = np.einsum("ij,ij->i", X, X)
        found = []
        for Z, spread in zip(self.coordinates(X), self.variances):
            signal = scale**2 * spread
            rest = squares - Z**2 @ (signal / (signal + variance))
            n_flat = self.n_features - len(spread)
            volume = np.sum(np.log(signal + variance)) + n_flat * np.log(variance)
            found.append(-0.5 * (volume + rest / variance + self.n_features * np.log(2 * np.pi)))
        return np.stack(found, axis=1) + np.log(self.weights)

    def log_density(self, X, variance):
        return logsumexp(self.log_joint(X, 1.0, variance), axis=1)

    def responsibilities(self, X, scale, variance):
        """Probability of each cluster given noisy rows."""
        return softmax(self.log_joint(X, scale, variance), axis=1)

    def denoise(self, X, scale, sigma):
        """Posterior mean of the clean rows."""
        shares = self.responsibilities(X, scale, sigma**2)
        mean = np.zeros_like(X)
        for share, Z, basis, gain in zip(
            shares.T, self.coordinates(X), self.bases, self._gains(scale, sigma)
        ):
            mean += share[:, None] * ((Z * gain) @ basis.T)
        return mean

    def _gains(self, scale, sigma):
        """By what the posterior mean multiplies each coordinate, within one cluster."""
        return [scale * spread / (scale**2 * spread + sigma**2) for spread in self.variances]

    def score(self, X, scale, sigma):
        """Gradient of the log density of noisy rows."""
        return (scale * self.denoise(X, scale, sigma) - X) / sigma**2

    def jacobian(self, x, scale, sigma):
        """Jacobian of `denoise` at one row."""
        shares = self.responsibilities(x[None], scale, sigma**2)[0]
        gains = self._gains(scale, sigma)
        parts = [(basis * gain) @ basis.T for basis, gain in zip(self.bases, gains)]
        means = np.stack([part @ x for part in parts])
        # of the log of each cluster's density, up to what all have in common
        slopes = scale / sigma**2 * means
        slopes = shares[:, None] * (slopes - shares @ slopes)
        return np.tensordot(shares, np.stack(parts), axes=1) + means.T @ slopes

    def sample(self, n_samples, variance, rng):
        """Rows with noise of a variance, and their clusters."""
        labels = rng.choice(len(self.weights), size=n_samples, p=self.weights)
        X = np.sqrt(variance) * rng.normal(size=(n_samples, self.n_features))
        for k, (basis, spread) in enumerate(zip(self.bases, self.variances)):
            rows = labels == k
            X[rows] += (np.sqrt(spread) * rng.normal(size=(rows.sum(), len(spread)))) @ basis.T
        return X, labels
