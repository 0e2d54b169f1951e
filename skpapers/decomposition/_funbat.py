"""Functional Bayesian Tucker decomposition: sums of products of functions of one coordinate."""

import copy
import warnings
from functools import reduce
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from skpapers.utils import check_random_state

from ._funbat_markov import posterior, prior_draw
from ._funbat_messages import (
    Core,
    Mode,
    Noise,
    batches,
    by_evidence,
    epoch,
    first_moments,
    moments_at,
    squared_error,
    tune_kernel,
)

__all__ = ["FunctionalTuckerRegressor"]

_WARM_START = 20  # epochs with the core of the CP form
_TUNE_EVERY = 10  # epochs
_LARGEST_CORE = 729


class FunctionalTuckerRegressor(RegressorMixin, BaseEstimator):
    """Regression on continuous coordinates by a Tucker model of functions of one coordinate.

    Every feature is a coordinate, such as latitude, longitude or time. The target is a sum of
    products of functions, one a coordinate, weighted by the entries of a small core tensor. The
    functions are Gaussian processes, and what is known of them, of the core and of the noise is
    a distribution: predictions come with standard deviations. The cost is linear in the number
    of rows.

    Parameters
    ----------
    rank : int or sequence of int, default=3
        Number of functions of each coordinate; one number a coordinate for the Tucker form.
    form : {"tucker", "cp"}, default="tucker"
        Whether all products of functions of different coordinates have a weight, or only those
        of the same number are summed. A core of more than 729 entries is replaced by the CP form,
        with a warning.
    kernel : {"matern12", "matern32"}, default="matern12"
        Covariance of the functions: rough ones, or once differentiable.
    length_scale : float, default=0.1
        Length scale of the functions, in units of the scaled coordinates.
    kernel_variance : float, default=1.0
        Variance of the functions.
    optimize_kernel : bool, default=False
        Whether length scale and variance are set, coordinate by coordinate, to what the data make
        most probable, every 10 epochs.
    core_covariance : bool, default=True
        Whether the uncertainty of the core enters the update of the functions; False plugs in its
        mean, as the official code does.
    a0 : float, default=1.0
        Shape of the gamma prior of the noise precision, for a target of unit variance.
    b0 : float, default=1.0
        Rate of that prior.
    damping : float, default=0.5
        Share of the old messages that is kept when the functions are updated, in [0, 1).
    damping_core : float, default=0.9
        The same for the core.
    damping_noise : float, default=0.6
        The same for the noise.
    max_iter : int, default=100
        Limit on the epochs.
    tol : float, default=1e-4
        Relative change of the functions below which the epochs end.
    n_init : int, default=1
        Number of starts, of which the one of least expected error is kept.
    scale_inputs : bool, default=True
        Whether each coordinate is scaled to [0, 1].
    normalize_y : bool, default=True
        Whether the target is centred and scaled to unit variance.
    batch_size : int, default=4096
        Rows at a time, which bounds memory.
    random_state : int, RandomState instance or None, default=None
        Seed of the starts.
    verbose : int, default=0
        1 prints a line an epoch.

    Attributes
    ----------
    core_ : ndarray of shape (R_1, ..., R_K) or (rank,)
        Posterior mean of the core, for functions of unit root mean square; for the CP form its
        superdiagonal.
    core_covariance_ : ndarray of shape (R_1 * ... * R_K, R_1 * ... * R_K) or None
        Its posterior covariance; None for the CP form.
    knots_ : list of ndarray
        Distinct values of each coordinate, in the units of X.
    factor_means_ : list of ndarray of shape (n_knots, rank)
        Posterior means of the functions at the knots, of unit root mean square there.
    factor_covariances_ : list of ndarray of shape (n_knots, rank, rank)
        Their posterior covariances.
    length_scales_ : ndarray of shape (n_features,)
        Length scale of each coordinate, scaled.
    noise_precision_ : float
        Posterior mean of the noise precision, in units of y.
    form_ : {"tucker", "cp"}
        The form that was fitted.
    history_ : list of float
        Root of the expected squared error on the training rows after each epoch, in units of y.
    n_iter_ : int
        Number of epochs.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Raises
    ------
    ValueError
        If `rank` does not fit the number of features or the form, or no row has a weight.

    See Also
    --------
    sklearn.gaussian_process.GaussianProcessRegressor : Any function, at a cubic cost.

    Notes
    -----
    For n rows, K coordinates of M distinct values each and rank R, an epoch costs
    O(K n R**(2 K - 2) + n R**(2 K) + R**(3 K) + K M R**3) in the Tucker form and O(K n R**2 +
    K M R**3) in the CP form. Functions are inferred by a filter and a smoother over the sorted
    values, exactly as a Gaussian process would be, in O(log M) vectorised steps. Equal values
    share a state.

    The order of the rows does not matter, nor does that of the coordinates but for the draws of
    the start: they are updated in turn, the one first that explains most by itself. The first 20
    epochs hold the core at the CP form. Messages of entries are summed without the second prior
    that the official code adds to every state.

    Against a smooth function of low frequency a full Gaussian process is the better model. A
    product of many functions, most of them without an effect, costs more than a few hundred rows
    are worth: the posterior is then a constant, the mean of y.

    A constant column is a coordinate with one value. The published errors on climate data need
    some 10**5 readings.

    References
    ----------
    .. [1] S. Fang, X. Yu, Z. Wang, S. Li, M. Kirby, S. Zhe, "Functional Bayesian Tucker
       Decomposition for Continuous-indexed Tensor Data", ICLR 2024, :arxiv:`2311.04829`, sections
       3 and 4.
    .. [2] S. Sarkka, A. F. Garcia-Fernandez, "Temporal Parallelization of Bayesian Smoothers",
       IEEE Transactions on Automatic Control, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.decomposition import FunctionalTuckerRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(size=(300, 2))
    >>> y = np.sin(6 * X[:, 0]) * np.cos(4 * X[:, 1]) + 0.05 * rng.normal(size=300)
    >>> model = FunctionalTuckerRegressor(
    ...     1, kernel="matern32", length_scale=0.3, tol=1e-3, random_state=0
    ... ).fit(X, y)
    >>> bool(model.score(X, y) > 0.98)
    True
    >>> mean, std = model.predict(X[:5], return_std=True)
    """

    _parameter_constraints = {
        "rank": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "form": [StrOptions({"tucker", "cp"})],
        "kernel": [StrOptions({"matern12", "matern32"})],
        "length_scale": [Interval(Real, 0, None, closed="neither")],
        "kernel_variance": [Interval(Real, 0, None, closed="neither")],
        "optimize_kernel": ["boolean"],
        "core_covariance": ["boolean"],
        "a0": [Interval(Real, 0, None, closed="neither")],
        "b0": [Interval(Real, 0, None, closed="neither")],
        "damping": [Interval(Real, 0, 1, closed="left")],
        "damping_core": [Interval(Real, 0, 1, closed="left")],
        "damping_noise": [Interval(Real, 0, 1, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "scale_inputs": ["boolean"],
        "normalize_y": ["boolean"],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    _search_space = {
        "rank": [1, 2, 3],
        "form": ["tucker", "cp"],
        "kernel": ["matern12", "matern32"],
        "length_scale": [0.1, 0.3, 1.0],
    }

    @staticmethod
    def _small_params():
        return {"max_iter": 4, "rank": 1}

    def __init__(
        self,
        rank=3,
        *,
        form="tucker",
        kernel="matern12",
        length_scale=0.1,
        kernel_variance=1.0,
        optimize_kernel=False,
        core_covariance=True,
        a0=1.0,
        b0=1.0,
        damping=0.5,
        damping_core=0.9,
        damping_noise=0.6,
        max_iter=100,
        tol=1e-4,
        n_init=1,
        scale_inputs=True,
        normalize_y=True,
        batch_size=4096,
        random_state=None,
        verbose=0,
    ):
        self.rank = rank
        self.form = form
        self.kernel = kernel
        self.length_scale = length_scale
        self.kernel_variance = kernel_variance
        self.optimize_kernel = optimize_kernel
        self.core_covariance = core_covariance
        self.a0 = a0
        self.b0 = b0
        self.damping = damping
        self.damping_core = damping_core
        self.damping_noise = damping_noise
        self.max_iter = max_iter
        self.tol = tol
        self.n_init = n_init
        self.scale_inputs = scale_inputs
        self.normalize_y = normalize_y
        self.batch_size = batch_size
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Infer functions, core and noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Coordinates.
        y : array-like of shape (n_samples,)
            Target.
        sample_weight : array-like of shape (n_samples,), default=None
            Factors on the noise precision of the rows; a row of weight zero is as if it were not
            there.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], y_numeric=True)
        weight = _check_sample_weight(sample_weight, X, dtype=float, ensure_non_negative=True)
        self._dtype = np.result_type(X.dtype, y.dtype if y.dtype.kind == "f" else X.dtype)
        keep = weight > 0
        X, y, weight = X[keep].astype(float), np.asarray(y[keep], dtype=float), weight[keep]
        self._offset = X.min(axis=0) if self.scale_inputs else np.zeros(X.shape[1])
        span = np.ptp(X, axis=0) if self.scale_inputs else np.ones(X.shape[1])
        self._span = np.where(span > 0, span, 1.0)
        self._scale_target(y, weight)
        ranks = self._ranks(X.shape[1])
        rng = check_random_state(self.random_state)
        target = (y - self._y_mean) / self._y_scale
        runs = [self._run(self._scaled(X), target, weight, ranks, rng) for _ in range(self.n_init)]
        self._modes, self._core, self._noise, history, converged = min(
            runs, key=lambda run: run[3][-1]
        )
        self.history_ = [float(error * self._y_scale) for error in history]
        self.n_iter_ = len(history)
        self._report()
        if not converged:
            warnings.warn(
                f"the functions still changed by more than tol={self.tol} after "
                f"max_iter={self.max_iter} epochs: raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _scale_target(self, y, weight):
        self._y_mean, self._y_scale = 0.0, 1.0
        if self.normalize_y:
            self._y_mean = float(np.average(y, weights=weight))
            spread = float(np.sqrt(np.average((y - self._y_mean) ** 2, weights=weight)))
            self._y_scale = spread if spread > 1e-12 * abs(self._y_mean) else 1.0

    def _ranks(self, n_features):
        """Rank of each coordinate, and the form that is fitted."""
        ranks = [self.rank] * n_features if isinstance(self.rank, Integral) else list(self.rank)
        if len(ranks) != n_features or not all(isinstance(r, Integral) and r > 0 for r in ranks):
            raise ValueError(
                f"rank must be a positive int or {n_features} of them, got {self.rank!r}"
            )
        self.form_ = self.form
        if self.form == "tucker" and np.prod([float(r) for r in ranks]) > _LARGEST_CORE:
            warnings.warn(
                f"a core of {' x '.join(map(str, ranks))} entries is too large: form='cp' is "
                "used; lower rank for a Tucker form",
                UserWarning,
                stacklevel=3,
            )
            self.form_, ranks = "cp", [max(ranks)] * n_features
        if self.form_ == "cp" and len(set(ranks)) > 1:
            raise ValueError(f"rank must be the same for all features for form='cp', got {ranks}")
        return tuple(ranks)

    def _scaled(self, X):
        return (X - self._offset) / self._span

    def _run(self, X, y, weight, ranks, rng):
        """One start: modes, core, noise, expected errors, and whether it converged."""
        modes = [self._mode(values, rank, rng) for values, rank in zip(X.T, ranks)]
        core = Core(ranks, self.form_ == "cp")
        shape = self.a0 + weight.sum() / 2
        noise = Noise(shape, shape / 10)
        damping = (self.damping, self.damping_core, self.damping_noise)
        options = ((self.a0, self.b0), self.batch_size, self.core_covariance)
        order = by_evidence(modes, core, noise, y, weight, self.batch_size)
        history, warm = [], 0 if core.diagonal else _WARM_START
        for step in range(self.max_iter):
            core.frozen = core.diagonal or step < warm
            change = epoch(modes, core, noise, y, weight, order, damping, *options)
            if self.optimize_kernel and step % _TUNE_EVERY == _TUNE_EVERY - 1:
                for mode in modes:
                    tune_kernel(mode)
            error = squared_error(modes, core, y, weight, self.batch_size)
            history.append(np.sqrt(max(error, 0) / weight.sum()))
            if self.verbose:
                print(f"epoch {step + 1}: expected error {history[-1]:.4g}, change {change:.2g}")
            if change < self.tol and step > warm:
                return modes, core, noise, history, True
        return modes, core, noise, history, False

    def _mode(self, values, rank, rng):
        knots, index = np.unique(values, return_inverse=True)
        mode = Mode(knots, index, rank, self.kernel, self.length_scale, self.kernel_variance)
        mode.start(rng)
        return mode

    def _report(self):
        """Public attributes, for functions of unit root mean square."""
        for mode in self._modes:
            mode.index = None  # as long as the training data
        modes, core = self._modes, self._core
        sizes = [np.sqrt(np.mean(m.mean**2, axis=0)) for m in modes]
        self._sizes = [np.where(size > 0, size, 1.0) for size in sizes]
        if core.diagonal:
            self.core_, self.core_covariance_ = np.prod(self._sizes, axis=0), None
        else:
            weights = reduce(np.multiply.outer, self._sizes)
            self.core_ = core.mean * weights
            self.core_covariance_ = core.covariance * np.outer(weights, weights)
        self.knots_ = [
            m.knots * span + offset for m, span, offset in zip(modes, self._span, self._offset)
        ]
        self.factor_means_ = [m.mean / size for m, size in zip(modes, self._sizes)]
        self.factor_covariances_ = [
            m.covariance / np.outer(size, size) for m, size in zip(modes, self._sizes)
        ]
        self.length_scales_ = np.array([m.length_scale for m in modes])
        self.noise_precision_ = float(self._noise.mean / self._y_scale**2)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # where nine coordinates of ten have no effect
        return tags

    def _validate(self, X):
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=[np.float64, np.float32])

    def predict(self, X, return_std=False):
        """Predict the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Coordinates, inside or outside the range of the training data.
        return_std : bool, default=False
            Whether to give the standard deviation of the target, noise included.

        Returns
        -------
        y_mean : ndarray of shape (n_samples,)
            Posterior mean.
        y_std : ndarray of shape (n_samples,)
            Standard deviation of a new observation; with `return_std` only.
        """
        X = self._validate(X)
        states = [self._at(mode, x) for mode, x in zip(self._modes, self._scaled(X).T)]
        pieces = []
        for rows in batches(self._modes, self._core, len(X), self.batch_size):
            means = [mean[index[rows]] for index, mean, _ in states]
            if not return_std:
                pieces.append((first_moments(self._core, means),))
                continue
            moments = [flat[index[rows]] for index, _, flat in states]
            pieces.append(moments_at(self._core, means, moments))
        found = [np.concatenate(values) for values in zip(*pieces)]
        y_mean = (found[0] * self._y_scale + self._y_mean).astype(self._dtype)
        if not return_std:
            return y_mean
        variance = np.maximum(found[1] - found[0] ** 2, 0) + 1 / self._noise.mean
        return y_mean, (np.sqrt(variance) * self._y_scale).astype(self._dtype)

    def _at(self, mode, values):
        """Position among distinct values, and moments of the functions there."""
        distinct, index = np.unique(values, return_inverse=True)
        mean, covariance = mode.at(distinct)
        moments = covariance + mean[:, :, None] * mean[:, None, :]
        return index, mean, moments.reshape(len(distinct), -1)

    def factors(self, k, grid):
        """Compute the functions of one coordinate.

        Parameters
        ----------
        k : int
            Number of the coordinate.
        grid : array-like of shape (n_points,)
            Its values, in the units of X.

        Returns
        -------
        mean : ndarray of shape (n_points, rank)
            Posterior means of the functions, which are scaled as `factor_means_` is.
        std : ndarray of shape (n_points, rank)
            Their standard deviations.
        """
        check_is_fitted(self)
        scaled = (np.asarray(grid, dtype=float) - self._offset[k]) / self._span[k]
        mean, covariance = self._modes[k].at(scaled)
        std = np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0))
        return mean / self._sizes[k], std / self._sizes[k]

    def sample_y(self, X, n_samples=1, random_state=None):
        """Draw targets from the posterior: whole functions, a core, and noise.

        Parameters
        ----------
        X : array-like of shape (n_samples_X, n_features)
            Coordinates.
        n_samples : int, default=1
            Number of draws.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws.

        Returns
        -------
        y_samples : ndarray of shape (n_samples_X, n_samples)
            The draws.
        """
        X = self._validate(X)
        rng = check_random_state(random_state)
        draws = [self._draw(self._scaled(X), rng) for _ in range(n_samples)]
        return (np.stack(draws, axis=1) * self._y_scale + self._y_mean).astype(self._dtype)

    def _draw(self, X, rng):
        core = copy.copy(self._core)
        if not core.diagonal:
            draw = rng.multivariate_normal(core.mean.ravel(), core.covariance)
            core.mean = draw.reshape(core.ranks)
        means = [function_draw(mode, x, rng) for mode, x in zip(self._modes, X.T)]
        noise = rng.normal(size=len(X)) / np.sqrt(self._noise.mean)
        return first_moments(core, means) + noise


def function_draw(mode, values, rng):
    """One draw of the functions of a mode, jointly at all values.

    A draw from the prior is moved by what the posterior makes of messages drawn to match it.
    """
    chain, precision, linear, position = mode.with_queries(values)
    prior = prior_draw(chain, rng)
    values, vectors = np.linalg.eigh(precision)
    roots = vectors * np.sqrt(np.maximum(values, 0))[:, None, :]
    noise = (roots @ rng.normal(size=prior.shape)[:, :, None])[:, :, 0]
    seen = (precision @ prior[:, :, None])[:, :, 0] + noise
    return (prior + posterior(chain, precision, linear - seen)[0])[position]
