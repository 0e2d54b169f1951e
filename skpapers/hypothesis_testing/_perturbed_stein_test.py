"""Stein tests of goodness of fit, plain and with perturbations that mix the modes."""

import warnings
from inspect import signature
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, _fit_context, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_array, gen_batches
from sklearn.utils._chunking import get_chunk_n_rows
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.processes._ksd import (
    ksd_statistics,
    stein_cross_means,
    stein_frequencies,
    stein_kernel,
    stein_sample,
    stein_sums,
)
from skpapers.utils import check_random_state, draw_seed, seed_estimator

from ._ksd_test import ksd_test
from ._mode_jumps import find_modes, jump_maps, perturb, starting_points
from ._result import simulated_result
from ._score import GaussianDensity, log_ratio, stein_score

__all__ = ["KSDTest", "PerturbedKSDTest", "stein_kernel_matrix", "stein_score"]

_MAX_STARTS = 50


class KSDTest(BaseEstimator):
    """Test of goodness of fit by the kernelised Stein discrepancy.

    Tells whether a sample came from a density that is known up to a constant: all it needs is
    the score, the gradient of the log density. It notices shifts and wrong shapes, but not
    wrong proportions of modes that are far apart: see :class:`PerturbedKSDTest`.

    Parameters
    ----------
    density : object, default=None
        The density: None is the Gaussian with the mean and covariance of the tested sample. An
        estimator is cloned and fitted to the tested sample; wrap a fitted one in
        :class:`sklearn.frozen.FrozenEstimator`. Else as in :func:`stein_score`: a function
        from points to scores, an object with `score_function` or `grad_log_prob`, a torch module
        with `log_prob`.
    kernel : {"imq", "rbf"}, default="imq"
        Base kernel: (1 + r)^(-1/2) or exp(-r), with r the squared distance over `bandwidth`.
    bandwidth : "median" or float, default="median"
        Squared length, in squared units of X; "median" is the median of the squared distances.
    bootstrap : {"multinomial", "wild"}, default="multinomial"
        Multinomial weights and the U-statistic, or random signs and the V-statistic.
    n_bootstrap : int, default=1000
        Number of draws of the bootstrap.
    calibration : {"bootstrap", "parametric"}, default="bootstrap"
        "parametric" draws new samples from the fitted density, and fits to each of them: the
        valid choice where the density was fitted to the tested sample. It needs `sample`.
    alpha : float, default=0.05
        Level of the test.
    n_random_features : int, default=None
        Number of random frequencies that stand for the base kernel, which makes the cost linear
        in the number of rows; None for the kernel itself.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the bootstrap, the frequencies, and the density where it has no seed.

    Attributes
    ----------
    statistic_ : float
        Estimate of the squared discrepancy of the sample given to `fit`.
    pvalue_ : float
        Its p-value.
    reject_ : bool
        Whether the p-value is at most `alpha`.
    null_distribution_ : ndarray of shape (n_bootstrap,)
        Statistics under the null hypothesis.
    result_ : HypothesisTestResult
        All of these, with `confidence_interval`.
    bandwidth_ : float
        Squared length used.
    density_ : object
        The density, fitted.
    X_fit_ : ndarray of shape (n_samples, n_features)
        The sample.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had string column names.

    Notes
    -----
    O((d + n_bootstrap) n^2) time, and memory for one block of rows and n_bootstrap x n weights.
    With m random features O(d m n_bootstrap n) time and blocks of rows and of draws in memory:
    the test keeps its level, and sees what the m frequencies see.
    With "bootstrap", a density fitted to the tested sample makes the test conservative, and a
    warning says so.

    References
    ----------
    Liu, Duncan and Gandy, "Using Perturbation to Improve Goodness-of-Fit Tests based on
    Kernelized Stein Discrepancy", ICML 2023, arXiv:2304.14762 (Section 2). Random features:
    Huggins and Mackey, "Random Feature Stein Discrepancies", NeurIPS 2018, arXiv:1806.07788.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.hypothesis_testing import KSDTest
    >>> X = np.random.RandomState(0).normal(size=(100, 2))
    >>> KSDTest(lambda x: -x, random_state=0).fit(X).reject_
    False
    >>> KSDTest(lambda x: -x, random_state=0).fit(X + 1).reject_
    True
    """

    _parameter_constraints: dict = {
        "density": [
            callable,
            HasMethods("score_function"),
            HasMethods("grad_log_prob"),
            HasMethods("score_samples"),
            HasMethods("log_prob"),
            None,
        ],
        "kernel": [StrOptions({"imq", "rbf"})],
        "bandwidth": [StrOptions({"median"}), Interval(Real, 0, None, closed="neither")],
        "bootstrap": [StrOptions({"multinomial", "wild"})],
        "n_bootstrap": [Interval(Integral, 1, None, closed="left")],
        "calibration": [StrOptions({"bootstrap", "parametric"})],
        "alpha": [Interval(Real, 0, 1, closed="neither")],
        "n_random_features": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state", np.random.Generator],
    }

    _search_space = {"kernel": ["imq", "rbf"], "bootstrap": ["multinomial", "wild"]}

    def __init__(
        self,
        density=None,
        *,
        kernel="imq",
        bandwidth="median",
        bootstrap="multinomial",
        n_bootstrap=1000,
        calibration="bootstrap",
        alpha=0.05,
        n_random_features=None,
        random_state=None,
    ):
        self.density = density
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.bootstrap = bootstrap
        self.n_bootstrap = n_bootstrap
        self.calibration = calibration
        self.alpha = alpha
        self.n_random_features = n_random_features
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None):
        """Prepare the density and test the sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The sample, two rows at least.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If scores are not finite, or `calibration` is "parametric" for a density that was
            not fitted here or cannot be sampled.
        """
        X = self._validate(X, reset=True)
        self.X_fit_ = X
        streams = self._streams()
        self.density_, estimated = prepare_density(self.density, X, streams[0])
        self._prepare(X, streams[2])
        self._frequencies = self._draw_frequencies(X.shape[1], streams[3])
        if self.calibration == "parametric":
            self.result_ = self._test_parametric(X, estimated, streams)
        else:
            if estimated:
                warnings.warn(
                    "The density was fitted to the sample that is tested, which makes the test "
                    "conservative: use calibration='parametric', or wrap a density fitted "
                    "elsewhere in FrozenEstimator.",
                    UserWarning,
                )
            self.result_ = self._run(X, streams)
        self.statistic_, self.pvalue_, self.reject_, self.null_distribution_, _ = self.result_
        self.bandwidth_ = self._sample(X).bandwidth
        return self

    def _validate(self, X, *, reset=False):
        return validate_data(
            self, X, dtype=[np.float64, np.float32], ensure_min_samples=2, reset=reset
        )

    def _streams(self):
        """Generators of the bootstrap, the perturbations, the modes and the frequencies."""
        rng = check_random_state(self.random_state)
        return [check_random_state(draw_seed(rng)) for _ in range(4)]

    def _draw_frequencies(self, n_features, rng):
        if self.n_random_features is None:
            return None
        return stein_frequencies(n_features, self.n_random_features, self.kernel, rng)

    def _prepare(self, X, rng):
        """What depends on the density alone; nothing here."""

    def _scores(self, X):
        return checked_scores(stein_score(self.density_), X)

    def _sample(self, X):
        return stein_sample(X, self._scores(X), self.bandwidth)

    def _samples(self, X, rng):
        """The samples whose discrepancies are summed."""
        return [self._sample(X)]

    def _run(self, X, streams):
        options = {name: getattr(self, name) for name in ("bootstrap", "n_bootstrap", "alpha")}
        return ksd_test(
            self._samples(X, streams[1]),
            kernel=self.kernel,
            rng=streams[0],
            frequencies=self._frequencies,
            **options,
        )

    def _sums(self, samples):
        sums, diagonal, _ = stein_sums(samples, self.kernel, frequencies=self._frequencies)
        return sums, diagonal

    def _test_parametric(self, X, estimated, streams):
        """Compare with the statistics of samples of the fitted density, refitted to each."""
        if not estimated or not hasattr(self.density_, "sample"):
            raise ValueError(
                "calibration='parametric' needs a density that is fitted here and has sample"
            )
        twin = clone(self)
        twin.n_features_in_ = X.shape[1]
        statistics = []
        for draw in range(self.n_bootstrap + 1):
            sample = draw_sample(self.density_, X.shape[0], streams[0]) if draw else X
            twin.density_, _ = prepare_density(self.density, sample, streams[0])
            twin._prepare(sample, streams[2])
            sums = self._sums(twin._samples(sample, streams[1]))
            statistics.append(ksd_statistics(*sums)[self.bootstrap == "wild"])
        return simulated_result(statistics[0], statistics[1:], self.alpha)

    def test(self, X):
        """Test another sample against the density as it is fitted.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The sample, two rows at least.

        Returns
        -------
        HypothesisTestResult
            Named tuple of `statistic`, `pvalue`, `reject` and the simulated distributions.
        """
        check_is_fitted(self)
        return self._run(self._validate(X), self._streams())

    def score(self, X, y=None):
        """Compute minus the V-statistic of the squared discrepancy: larger is a better fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The sample, two rows at least.
        y : None
            Ignored.

        Returns
        -------
        float
            At most zero, so that a search over densities does not reward overfitted ones.
        """
        check_is_fitted(self)
        return -ksd_statistics(*self._sums([self._sample(self._validate(X))]))[1]

    def score_samples(self, X):
        """Average the Stein kernel of each row with the fitted sample, a local misfit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Near zero where the sample agrees with the density.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        right = self._sample(self.X_fit_)
        left = stein_sample(X, self._scores(X), right.bandwidth, centre=self.X_fit_.mean(axis=0))
        if self._frequencies is not None:
            return stein_cross_means(left, right, self._frequencies)
        n_rows = get_chunk_n_rows(row_bytes=64 * len(self.X_fit_), max_n_rows=len(X))
        blocks = gen_batches(len(X), n_rows)
        means = [stein_kernel(left.rows(b), right, self.kernel).mean(axis=1) for b in blocks]
        return np.concatenate(means)


class PerturbedKSDTest(KSDTest):
    """Stein test of goodness of fit that notices wrong proportions of separated modes.

    Points make random jumps between the modes of the density, under a Markov kernel that leaves
    the density invariant, before their discrepancy is measured: a sample of the density
    stays one, a sample with the wrong proportions becomes visibly different.

    Parameters
    ----------
    density : object, default=None
        As in :class:`KSDTest`.
    kernel : {"imq", "rbf"}, default="imq"
        As in :class:`KSDTest`.
    bandwidth : "median" or float, default="median"
        As in :class:`KSDTest`, for each perturbed sample anew.
    bootstrap : {"multinomial", "wild"}, default="multinomial"
        As in :class:`KSDTest`.
    n_bootstrap : int, default=1000
        Number of draws of the bootstrap.
    calibration : {"bootstrap", "parametric"}, default="bootstrap"
        As in :class:`KSDTest`.
    alpha : float, default=0.05
        Level of the test.
    strategy : {"spksd", "ospksd"}, default="spksd"
        Sum the discrepancies of the sample and of its perturbation at every jump scale; or choose
        the scale with the largest ratio of statistic to standard error on one half of
        the sample, and test the other half with it.
    n_steps : int, default=10
        Number of jumps of a point. A chain that has converged has lost all power: keep it small.
    jump_scales : array-like of shape (n_scales,), default=None
        Factors of the modes' positions in the jumps; None is 21 values from 0.5 to 1.5.
    n_starts : "auto" or int, default="auto"
        Number of searches for modes from points of the sample, and as many from uniform draws
        around it; "auto" is a quarter of the sample, at most 50.
    mode_threshold : float, default=1.0
        Squared Mahalanobis distance below which two end points are one mode.
    n_random_features : int, default=None
        As in :class:`KSDTest`.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the bootstrap (with the draws of :class:`KSDTest`), the jumps and the searches.

    Attributes
    ----------
    modes_ : ndarray of shape (n_modes, n_features)
        Modes found, the highest first. With a single one the test is :class:`KSDTest`.
    mode_covariances_ : ndarray of shape (n_modes, n_features, n_features)
        Inverse of minus the Hessian of the log density at the modes.
    statistic_ : float
        Sum of the estimates of the squared discrepancies.
    pvalue_ : float
        Its p-value.
    reject_ : bool
        Whether the p-value is at most `alpha`.
    null_distribution_ : ndarray of shape (n_bootstrap,)
        Statistics under the null hypothesis.
    result_ : HypothesisTestResult
        All of these, with `confidence_interval`.
    bandwidth_ : float
        Squared length used for the unperturbed sample.
    density_ : object
        The density, fitted.
    X_fit_ : ndarray of shape (n_samples, n_features)
        The sample.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had string column names.

    Notes
    -----
    As :class:`KSDTest` for every jump scale, so 22 times its cost by default, and
    2 n_starts searches. Modes of equal shape far apart are the best case; where the jumps mix
    the modes completely, the perturbed sample is one of the density and the power is gone.
    Without `score_samples`, log density ratios are integrals of the score, which miss barriers
    that sixteen nodes do not resolve.

    References
    ----------
    Liu, Duncan and Gandy, "Using Perturbation to Improve Goodness-of-Fit Tests based on
    Kernelized Stein Discrepancy", ICML 2023, arXiv:2304.14762 (Sections 3 and 4).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.frozen import FrozenEstimator
    >>> from sklearn.mixture import GaussianMixture
    >>> from skpapers.hypothesis_testing import KSDTest, PerturbedKSDTest
    >>> rng = np.random.RandomState(0)
    >>> X = np.r_[rng.normal(0, 1, 500), rng.normal(6, 1, 500)][:, None]
    >>> density = FrozenEstimator(GaussianMixture(2, random_state=0).fit(X))
    >>> one_mode = rng.normal(0, 1, (200, 1))
    >>> PerturbedKSDTest(density, random_state=0).fit(one_mode).reject_
    True
    """

    _parameter_constraints: dict = {
        **KSDTest._parameter_constraints,
        "strategy": [StrOptions({"spksd", "ospksd"})],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "jump_scales": ["array-like", None],
        "n_starts": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "mode_threshold": [Interval(Real, 0, None, closed="neither")],
    }

    _search_space = {"n_steps": [5, 10, 20], "strategy": ["spksd", "ospksd"]}

    def __init__(
        self,
        density=None,
        *,
        kernel="imq",
        bandwidth="median",
        bootstrap="multinomial",
        n_bootstrap=1000,
        calibration="bootstrap",
        alpha=0.05,
        strategy="spksd",
        n_steps=10,
        jump_scales=None,
        n_starts="auto",
        mode_threshold=1.0,
        n_random_features=None,
        random_state=None,
    ):
        super().__init__(
            density,
            kernel=kernel,
            bandwidth=bandwidth,
            bootstrap=bootstrap,
            n_bootstrap=n_bootstrap,
            calibration=calibration,
            alpha=alpha,
            n_random_features=n_random_features,
            random_state=random_state,
        )
        self.strategy = strategy
        self.n_steps = n_steps
        self.jump_scales = jump_scales
        self.n_starts = n_starts
        self.mode_threshold = mode_threshold

    def _prepare(self, X, rng):
        count = min(-(-len(X) // 4), _MAX_STARTS) if self.n_starts == "auto" else self.n_starts
        starts = starting_points(X, count, rng)
        self.modes_, self.mode_covariances_ = find_modes(
            self.density_, self._scores, starts, self.mode_threshold
        )

    def _scales(self):
        if self.jump_scales is None:
            return np.linspace(0.5, 1.5, 21)
        return check_array(self.jump_scales, ensure_2d=False, dtype=np.float64).ravel()

    def _samples(self, X, rng):
        scales = self._scales()
        if len(self.modes_) == 1:
            return [self._sample(X)]
        if self.strategy == "ospksd":
            if len(X) < 4:
                raise ValueError(f"strategy='ospksd' needs 4 samples, got n_samples={len(X)}")
            order = rng.permutation(len(X))
            half = X[order[: len(X) // 2]]
            X = X[order[len(X) // 2 :]]
            ratios = [self._ratio(points) for points in self._perturb(half, scales, rng)]
            scales = scales[[np.argmax(ratios)]]
        return [self._sample(points) for points in (X, *self._perturb(X, scales, rng))]

    def _perturb(self, X, scales, rng):
        jumps = jump_maps(self.mode_covariances_)
        return perturb(
            X, self.modes_, jumps, scales, self.n_steps, lambda *ends: self._log_ratio(*ends), rng
        )

    def _log_ratio(self, start, end):
        return log_ratio(self.density_, stein_score(self.density_), start, end)

    def _ratio(self, points):
        """Statistic over its standard error under the alternative."""
        sums, diagonal = self._sums([self._sample(points)])
        n = len(points)
        variance = 4 / n**3 * np.sum(sums**2) - 4 / n**4 * np.sum(sums) ** 2
        return ksd_statistics(sums, diagonal)[0] / np.sqrt(max(variance, 0) + 1e-12)


def stein_kernel_matrix(X, density, *, kernel="imq", bandwidth="median"):
    """Compute the Stein kernel of a sample.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Points. Under array API dispatch the result is in their namespace.
    density : object
        What :func:`stein_score` takes.
    kernel : {"imq", "rbf"}, default="imq"
        Base kernel.
    bandwidth : "median" or float, default="median"
        Squared length, or the median of the squared distances.

    Returns
    -------
    ndarray of shape (n_samples, n_samples)
        Symmetric positive semi-definite, with mean zero under the density.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.hypothesis_testing import stein_kernel_matrix
    >>> stein_kernel_matrix(np.array([[0.0], [1.0]]), lambda x: -x, bandwidth=1.0).round(3)
    array([[ 1.  , -0.53],
           [-0.53,  2.  ]])
    """
    X = check_array(X, dtype="numeric")
    sample = stein_sample(X, checked_scores(stein_score(density, X), X), bandwidth)
    return stein_kernel(sample, sample, kernel)


def checked_scores(score, X):
    """Scores at the points, which must be finite and one for each coordinate."""
    scores = check_array(score(X), input_name="scores")
    if scores.shape != X.shape:
        raise ValueError(f"scores must have the shape of X, {X.shape}, got {scores.shape}")
    return scores


def prepare_density(density, X, rng):
    """Density ready for its score, fitted if it is an estimator; and whether it was."""
    if density is None:
        return GaussianDensity().fit(X), True
    if not (hasattr(density, "fit") and hasattr(density, "get_params")):
        return density, False
    density = clone(density)
    if isinstance(density, FrozenEstimator):
        return density, False
    return seed_estimator(density, rng).fit(X), True


def draw_sample(density, n_samples, rng):
    """Draw from a density that we or scikit-learn fitted."""
    if isinstance(density, GaussianDensity):
        return density.sample(n_samples, rng)
    if "random_state" in signature(density.sample).parameters:
        return density.sample(n_samples, random_state=draw_seed(rng))
    if "random_state" in density.get_params():
        density.set_params(random_state=draw_seed(rng))
    drawn = density.sample(n_samples)
    return drawn[0] if isinstance(drawn, tuple) else drawn
