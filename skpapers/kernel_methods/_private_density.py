"""Private kernel density estimates."""

import numpy as np
from scipy.special import gammaln
from sklearn.base import DensityMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import validate_data

from ._private_similarity import _PrivateSimilarity

__all__ = ["PrivateKernelDensity"]


class PrivateKernelDensity(DensityMixin, _PrivateSimilarity):
    """Differentially private kernel density estimate.

    The density is the mean kernel between a point and the records, from noisy sums of random
    features, as in `PrivateSimilarity`.

    Parameters
    ----------
    similarity : {"gaussian", "exponential", "laplacian"}, default="gaussian"
        With s the `bandwidth`: exp(-|x - y|^2 / s^2), exp(-|x - y| / s), exp(-|x - y|_1 / s).
    epsilon : float or None, default=1.0
        Privacy budget, at most 1e4; None or infinite for no noise and no privacy.
    delta : float, default=1e-6
        Probability with which the guarantee may fail; not used by `mechanism` "laplace".
    bandwidth : float, default=1.0
        Width of the kernel, in units of X. Must not be chosen by looking at the records.
    alpha : float, default=0.1
        Accuracy apart from noise, in (0, 1), which sets the automatic sizes.
    n_components : int or "auto", default="auto"
        Number of random frequencies; "auto" is 4 / alpha^2.
    jl_dim : int, "auto" or None, default="auto"
        Dimension of a Gaussian random projection; "auto" is log(1 / alpha) / alpha^2 where there
        are more features. Does not apply to "laplacian".
    mechanism : {"gaussian", "laplace"}, default="gaussian"
        Noise; "laplace" has delta 0, and an error that grows with sqrt(`n_components`).
    neighbors : {"add_remove", "replace"}, default="add_remove"
        Data sets that must be indistinguishable: with a record more or less, or one replaced
        (which doubles the noise).
    random_state : int, RandomState instance, Generator or None, default=None
        None draws the noise from the operating system's cryptographic source. Anything else
        makes the noise reproducible, and the result therefore not private.

    Attributes
    ----------
    epsilon_spent_ : float
        Budget that was spent; infinite if there is no noise.
    delta_ : float
        Delta of the guarantee; 0 for Laplace noise.
    count_ : float
        Noisy number of records.
    expected_error_ : float
        Standard deviation of the noise in the sum of kernels at any point.
    n_values_ : int
        Number of noisy values that were released.
    jl_components_ : ndarray of shape (n_features_in_, n_axes) or None
        Random projection, if there is one.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    The guarantee, its proof and the cost are those of `PrivateSimilarity`. Where noise makes the
    sum smaller than the standard deviation of the noise divided by 1000, it is raised to that (or
    1e-12 without noise), so that the logarithm is finite.

    References
    ----------
    Backurs, Lin, Mahabadi, Silwal and Tarnawski, "Efficiently Computing Similarities to Private
    Datasets", ICLR 2024, arXiv:2403.08917.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.kernel_methods import PrivateKernelDensity
    >>> X = np.random.RandomState(0).normal(size=(2000, 1))
    >>> density = PrivateKernelDensity(epsilon=1.0, bandwidth=0.5, random_state=0).fit(X)
    >>> bool(abs(np.exp(density.score_samples([[0.0]])[0]) - 0.376) < 0.05)
    True
    """

    _parameter_constraints: dict = {
        name: _PrivateSimilarity._parameter_constraints[name]
        for name in (
            *("epsilon", "delta", "bandwidth", "alpha", "n_components", "jl_dim"),
            *("mechanism", "neighbors", "random_state"),
        )
    } | {"similarity": [StrOptions({"gaussian", "exponential", "laplacian"})]}

    _search_space = {"bandwidth": [0.25, 0.5, 1.0, 2.0], "alpha": [0.05, 0.1, 0.2]}

    def __init__(
        self,
        similarity="gaussian",
        *,
        epsilon=1.0,
        delta=1e-6,
        bandwidth=1.0,
        alpha=0.1,
        n_components="auto",
        jl_dim="auto",
        mechanism="gaussian",
        neighbors="add_remove",
        random_state=None,
    ):
        self.similarity = similarity
        self.epsilon = epsilon
        self.delta = delta
        self.bandwidth = bandwidth
        self.alpha = alpha
        self.n_components = n_components
        self.jl_dim = jl_dim
        self.mechanism = mechanism
        self.neighbors = neighbors
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Release the summary of the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Records.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        self._summary = self._summarize(self._prepare(X))
        self._forget()
        self.count_ = self._summary.count
        noise = self._summary.variance(np.zeros((1, 1)))[0]
        self.expected_error_ = float(np.sqrt(noise))
        return self

    def score_samples(self, X):
        """Logarithm of the density at each row of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log-densities.
        """
        rows, dtype = self._query_rows(X)
        floor = self.expected_error_ / 1000 or 1e-12
        sums = np.maximum(self._summary.answer(rows), floor)
        log_mass = log_normalizer(self.similarity, self.bandwidth, self.n_features_in_)
        return (np.log(sums / max(self.count_, 1.0)) - log_mass).astype(dtype, copy=False)

    def score(self, X, y=None):
        """Total log-likelihood of the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points.
        y : None
            Ignored.

        Returns
        -------
        float
            Sum of their log-densities.
        """
        return float(np.sum(self.score_samples(X)))


def log_normalizer(similarity, bandwidth, n_features):
    """Logarithm of the integral of a kernel over the space."""
    volume = n_features * np.log(bandwidth)
    if similarity == "gaussian":
        return volume + n_features / 2 * np.log(np.pi)
    if similarity == "laplacian":
        return volume + n_features * np.log(2)
    sphere = np.log(2) + n_features / 2 * np.log(np.pi) - gammaln(n_features / 2)
    return volume + sphere + gammaln(n_features)
