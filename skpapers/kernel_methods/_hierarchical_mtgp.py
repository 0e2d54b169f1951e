"""Multitask Gaussian process regression with latent components that interact."""

import warnings
from numbers import Integral, Real

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from torch.nn.functional import softplus

from skpapers.neural_network._bridge import resolve_device
from skpapers.utils import check_random_state

from ._spectral_mixture import (
    Components,
    HierarchicalSpectralMixtureKernel,
    cholesky,
    covariance,
    log_marginal_likelihood,
)
from ._spectral_start import highest_frequencies, mixing_start, spectral_peaks

__all__ = ["HierarchicalMultitaskGPRegressor"]

_LEAST_NOISE = 1e-6
# Standard deviation of the lobes at the start, over the resolution 1 / range of a feature, and the
# phase of every other component: narrow and in phase, or wide and out of phase, so that neighbours
# overlap and together make any delay.
_STARTS = ((0.5, 0.0), (1.0, np.pi / 2))


class HierarchicalMultitaskGPRegressor(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Gaussian process regression of several tasks, with components that interact.

    Each task is a mixture of latent components, each with a band of frequencies. The white noises
    behind them are shared, so that components of different frequency, delay and phase are
    correlated too, and a gap in one task is filled from the others.

    Parameters
    ----------
    n_latent : int, default=3
        Number of latent components.
    interaction : {"full", "none", "function", "coefficient"}, default="full"
        "full" has both kinds of interaction; "none" drops the covariance between components (a
        linear model of coregionalisation with spectral-mixture kernels); "function" has one
        mixing matrix for all components; "coefficient" has no delays and phases.
    coregionalization_rank : int, default=None
        Columns of the mixing matrices; None for lower triangular ones.
    delays : bool, default=True
        Whether components have delays.
    phases : bool, default=True
        Whether components have phases.
    optimizer : {"lbfgs"} or None, default="lbfgs"
        Maximises the marginal likelihood; None keeps the starting values.
    max_iter : int, default=100
        Iterations of the optimizer, from each start.
    n_restarts : int, default=0
        Further pairs of starts, at peaks of the periodogram drawn at random. The first pair is at
        the highest peaks: narrow bands in phase, which do not interact for the first half of the
        iterations, and wide ones out of phase.
    noise_init : float, default=0.05
        Starting value of the noise variance, relative to the variance of a task.
    normalize_x : bool, default=True
        Standardise features inside.
    normalize_y : bool, default=True
        Standardise tasks inside.
    alpha : float, default=1e-6
        Added to the diagonal of the covariance, relative to the variance of a task.
    max_observations : int, default=5000
        With more observed values than this, so many are drawn, with a warning.
    device : str, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the starting values.
    verbose : int, default=0
        1 prints the log marginal likelihood of every tenth iteration.

    Attributes
    ----------
    kernel_ : HierarchicalSpectralMixtureKernel
        The fitted kernel, for inputs and tasks in their own units of X and standardised units
        of y.
    coregionalization_ : ndarray of shape (n_latent, n_tasks, rank)
        Mixing matrices.
    frequencies_ : ndarray of shape (n_latent, n_features_in_)
        Centres of the bands, in cycles per unit of X.
    bandwidths_ : ndarray of shape (n_latent, n_features_in_)
        Variances of the bands, in squared cycles per unit of X.
    weights_ : ndarray of shape (n_latent,)
        Variances of the components.
    delays_ : ndarray of shape (n_latent, n_features_in_)
        Delays relative to the first component, in units of X.
    phases_ : ndarray of shape (n_latent,)
        Phases relative to the first component, in radians.
    noise_variance_ : ndarray of shape (n_tasks,)
        Noise variances, in squared units of y.
    interaction_strength_ : ndarray of shape (n_latent, n_latent)
        How strongly components are correlated: norm of A_i A_j' times the peak of k_ij.
    log_marginal_likelihood_value_ : float
        Log marginal likelihood of the standardised tasks.
    loss_curve_ : list of float
        Minus the log marginal likelihood after each iteration from the best start.
    n_iter_ : int
        Iterations from the best start.
    n_outputs_ : int
        Number of tasks.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    A value of y that is NaN is not observed: a row may be observed for some tasks only. With one
    task the model is a Gaussian process with a spectral mixture whose components interact.

    One evaluation costs O(N^3 + n_latent^2 N^2 (n_features + rank)) for N observed values, and
    O(N^2 n_latent^2) memory. Frequencies stay below the Nyquist frequency of the median gap;
    the likelihood has many local maxima in them, which is why the start is at the peaks of the
    Lomb-Scargle periodogram, of each feature by itself.

    Where bands are narrow and far apart, interaction changes little: on sums of sine waves the
    errors with and without it are the same. It shows where tasks share a lagged pattern of some
    bandwidth.

    References
    ----------
    Chen, van Laarhoven, Marchiori, Yin and Cui, "Multitask Gaussian Process with Hierarchical
    Latent Interactions", ICASSP 2022, arXiv:1808.01132.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.kernel_methods import HierarchicalMultitaskGPRegressor
    >>> x = np.linspace(0, 6, 40)
    >>> Y = np.stack([np.sin(3 * x), np.sin(3 * x - 0.6)], axis=1)
    >>> Y[25:, 1] = np.nan  # the second task is filled in from the first
    >>> model = HierarchicalMultitaskGPRegressor(n_latent=2, random_state=0).fit(x[:, None], Y)
    >>> error = model.predict(x[:, None])[25:, 1] - np.sin(3 * x[25:] - 0.6)
    >>> bool(np.abs(error).max() < 0.3)
    True
    """

    _parameter_constraints: dict = {
        "n_latent": [Interval(Integral, 1, None, closed="left")],
        "interaction": [StrOptions({"full", "none", "function", "coefficient"})],
        "coregionalization_rank": [Interval(Integral, 1, None, closed="left"), None],
        "delays": ["boolean"],
        "phases": ["boolean"],
        "optimizer": [StrOptions({"lbfgs"}), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_restarts": [Interval(Integral, 0, None, closed="left")],
        "noise_init": [Interval(Real, 0, None, closed="neither")],
        "normalize_x": ["boolean"],
        "normalize_y": ["boolean"],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "max_observations": [Interval(Integral, 2, None, closed="left")],
        "device": [str],
        "random_state": ["random_state", np.random.Generator],
        "verbose": ["verbose"],
    }

    _search_space = {"n_latent": [1, 2, 3], "interaction": ["full", "none"]}

    @staticmethod
    def _small_params():
        return {"n_latent": 2, "max_iter": 2}

    def __init__(
        self,
        n_latent=3,
        *,
        interaction="full",
        coregionalization_rank=None,
        delays=True,
        phases=True,
        optimizer="lbfgs",
        max_iter=100,
        n_restarts=0,
        noise_init=0.05,
        normalize_x=True,
        normalize_y=True,
        alpha=1e-6,
        max_observations=5000,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_latent = n_latent
        self.interaction = interaction
        self.coregionalization_rank = coregionalization_rank
        self.delays = delays
        self.phases = phases
        self.optimizer = optimizer
        self.max_iter = max_iter
        self.n_restarts = n_restarts
        self.noise_init = noise_init
        self.normalize_x = normalize_x
        self.normalize_y = normalize_y
        self.alpha = alpha
        self.max_observations = max_observations
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Maximise the marginal likelihood of the observed values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.
        y : array-like of shape (n_samples,) or (n_samples, n_tasks)
            Values; NaN where a task was not observed.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a task has no observed value, or the covariance is not positive definite.
        """
        X, Y = self._validate(X, y)
        rng = check_random_state(self.random_state)
        X, Y = self._standardize(X, Y)
        rows, tasks = self._observed(Y, rng)
        self._inputs = self._tensor(X[rows]), self._tensor(tasks, torch.int64)
        self._targets = self._tensor(Y[rows, tasks])
        self._limits = highest_frequencies(X)
        self._interacting = self.interaction != "none"
        draws = [None] + [rng] * self.n_restarts
        starts = [self._start(X, Y, s, rng, draw) for draw in draws for s in _STARTS]
        loss, raw, self.loss_curve_ = self._best(starts)
        self.log_marginal_likelihood_value_, self.n_iter_ = -loss, len(self.loss_curve_)
        self._factorize(raw)
        return self

    def _best(self, starts):
        """Search from every start, and keep the most likely result."""
        if self.optimizer is None:
            return self._search(starts[0], 0)
        searches = (self._search_in_two, self._search)
        runs = [searches[k % 2](start, self.max_iter) for k, start in enumerate(starts)]
        found = min(runs, key=lambda run: run[0])
        if len(found[2]) >= self.max_iter:
            warnings.warn(
                f"max_iter={self.max_iter} ended before the marginal likelihood had its maximum: "
                "raise max_iter",
                ConvergenceWarning,
            )
        return found

    def _validate(self, X, y):
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        options = {"ensure_2d": False, "allow_nd": False, "input_name": "y"}
        y = check_array(y, ensure_all_finite="allow-nan", dtype=np.float64, **options)
        check_consistent_length(X, y)
        self._single = y.ndim == 1
        Y = y.reshape(len(y), -1)
        if np.isnan(Y).all(axis=0).any():
            raise ValueError("every task of y needs at least one value that is not NaN")
        self.n_outputs_ = Y.shape[1]
        return X.astype(np.float64), Y

    def _standardize(self, X, Y):
        self._x_mean, self._x_scale = _scaling(X, self.normalize_x)
        self._y_mean, self._y_scale = _scaling(Y, self.normalize_y)
        return (X - self._x_mean) / self._x_scale, (Y - self._y_mean) / self._y_scale

    def _observed(self, Y, rng):
        rows, tasks = np.nonzero(~np.isnan(Y))
        if len(rows) > self.max_observations:
            warnings.warn(
                f"{len(rows)} observed values are more than max_observations="
                f"{self.max_observations}: only so many are used"
            )
            kept = np.sort(rng.choice(len(rows), self.max_observations, replace=False))
            rows, tasks = rows[kept], tasks[kept]
        return rows, tasks

    def _tensor(self, values, dtype=torch.float64):
        return torch.as_tensor(values, dtype=dtype, device=resolve_device(self.device))

    # Parameters of the search: a dict of unconstrained arrays, and the vector they make.

    def _start(self, X, Y, shape, rng, draw):
        """Starting values: peaks of the periodogram, correlation of the tasks."""
        (width, phase), n_latent = shape, self.n_latent
        peaks = spectral_peaks(X, Y, n_latent, self._limits, draw)
        spans = np.where(np.ptp(X, axis=0) > 0, np.ptp(X, axis=0), 1.0)
        variance = np.nanvar(Y, axis=0)
        variance = np.where(variance > 0, variance, 1.0)
        n_matrices = 1 if self.interaction == "function" else n_latent
        mixing = mixing_start(Y, n_matrices, self.coregionalization_rank, rng)
        return {
            "weights": _inverse_softplus(np.full(n_latent, variance.mean() / n_latent)),
            "frequencies": _logit(peaks / self._limits),
            "bandwidths": _inverse_softplus(np.tile((width / spans) ** 2, (n_latent, 1))),
            "coregionalization": mixing,
            "delays": np.zeros(peaks.shape),
            "phases": phase * (np.arange(n_latent) % 2),
            "noise": _inverse_softplus(self.noise_init * variance),
        }

    def _components(self, raw):
        """Constrain the parameters; the first delay and phase are zero."""
        free = self.interaction != "coefficient"
        first = torch.ones_like(raw["phases"])
        first[0] = 0.0
        mixing = raw["coregionalization"]
        if self.coregionalization_rank is None:
            mixing = torch.tril(mixing)
        components = Components(
            softplus(raw["weights"]),
            torch.sigmoid(raw["frequencies"]) * self._tensor(self._limits),
            softplus(raw["bandwidths"]) + 1e-12,
            mixing.expand(self.n_latent, -1, -1),
            raw["delays"] * (first * (free and self.delays))[:, None],
            raw["phases"] * (first * (free and self.phases)),
        )
        return components, softplus(raw["noise"]) + _LEAST_NOISE

    def _covariance(self, components, noise):
        matrix = covariance(components, self._inputs, interacting=self._interacting)
        return matrix + torch.diag(noise[self._inputs[1]] + self.alpha)

    def _loss(self, vector, shapes):
        """Minus the log marginal likelihood, and its gradient."""
        leaves = _unpack(self._tensor(vector), shapes)
        leaves = {name: leaf.requires_grad_() for name, leaf in leaves.items()}
        matrix = self._covariance(*self._components(leaves))
        with torch.no_grad():
            try:
                value, slope = log_marginal_likelihood(matrix, self._targets, self.alpha)
            except ValueError:  # the line search takes a shorter step
                return np.inf, np.zeros_like(vector)
        matrix.backward(-slope)
        gradients = (leaf.grad for leaf in leaves.values())
        parts = [g.cpu().numpy().ravel() for g in gradients if g is not None]
        return -float(value), np.concatenate(parts)

    def _search_in_two(self, start, max_iter):
        """Optimise without interactions half the way, to find the bands, and then with them."""
        self._interacting = False
        _, raw, curve = self._search(start, max_iter // 2)
        self._interacting = self.interaction != "none"
        start = {name: values.cpu().numpy() for name, values in raw.items()}
        loss, raw, rest = self._search(start, max_iter - max_iter // 2)
        return loss, raw, curve + rest

    def _search(self, start, max_iter):
        """Optimise from one start: loss, parameters, losses of the iterations."""
        shapes = {name: values.shape for name, values in start.items()}
        vector = np.concatenate([values.ravel() for values in start.values()])
        if max_iter == 0:
            return self._loss(vector, shapes)[0], _unpack(self._tensor(vector), shapes), []
        curve = []

        def record(intermediate_result):
            curve.append(float(intermediate_result.fun))
            if self.verbose and len(curve) % 10 == 0:
                print(f"iteration {len(curve)}: log marginal likelihood {-curve[-1]:.3f}")

        options = {"maxiter": max_iter, "maxfun": 3 * max_iter + 20}
        arguments = {"args": (shapes,), "jac": True, "callback": record, "options": options}
        found = minimize(self._loss, vector, method="L-BFGS-B", **arguments)
        return float(found.fun), _unpack(self._tensor(found.x), shapes), curve

    def _factorize(self, raw):
        """Keep what predictions need, and the parameters in the units of X and y."""
        components, noise = self._components(raw)
        self._raw = {name: values.cpu().numpy() for name, values in raw.items()}
        self._lower = cholesky(self._covariance(components, noise), self.alpha)
        self._dual = torch.cholesky_solve(self._targets[:, None], self._lower)
        self._fitted, self._noise = components, noise
        found = {name: values.cpu().numpy() for name, values in components._asdict().items()}
        found["frequencies"] = found["frequencies"] / self._x_scale
        found["bandwidths"] = found["bandwidths"] / self._x_scale**2
        found["delays"] = found["delays"] * self._x_scale
        for name, values in found.items():
            setattr(self, f"{name}_", values)
        self.kernel_ = HierarchicalSpectralMixtureKernel(**found, interacting=self._interacting)
        self.interaction_strength_ = self.kernel_.interaction_strength()
        self.noise_variance_ = noise.cpu().numpy() * self._y_scale**2

    def cross_coregionalization(self, i, j):
        """Covariance of the tasks through the interaction of two components.

        Parameters
        ----------
        i, j : int
            Components.

        Returns
        -------
        ndarray of shape (n_tasks, n_tasks)
            The product A_i A_j'.
        """
        check_is_fitted(self)
        return self.coregionalization_[i] @ self.coregionalization_[j].T

    def log_marginal_likelihood(self):
        """Log marginal likelihood of the standardised tasks at the fitted parameters.

        Returns
        -------
        float
            Its value.
        """
        check_is_fitted(self)
        return self.log_marginal_likelihood_value_

    # Prediction.

    def predict(self, X, return_std=False, return_cov=False, include_noise=False):
        """Predict all tasks.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.
        return_std : bool, default=False
            Also return standard deviations.
        return_cov : bool, default=False
            Also return the covariances between the rows, for each task.
        include_noise : bool, default=False
            Whether these are of new observations, or of the noiseless function.

        Returns
        -------
        mean : ndarray of shape (n_samples,) or (n_samples, n_tasks)
            Predictions.
        std : ndarray of shape (n_samples,) or (n_samples, n_tasks)
            Standard deviations, if `return_std`.
        cov : ndarray of shape (n_samples, n_samples) or (n_samples, n_samples, n_tasks)
            Covariances, if `return_cov`.

        Raises
        ------
        ValueError
            If both `return_std` and `return_cov` are asked for.
        """
        if return_std and return_cov:
            raise ValueError("ask for return_std or return_cov, not for both")
        inputs, dtype = self._new_inputs(X)
        n_tasks = self.n_outputs_
        blocks = [
            (inputs, torch.full_like(inputs[:, 0], t, dtype=torch.int64)) for t in range(n_tasks)
        ]
        means = [self._mean(block) for block in blocks]
        mean = self._shaped(np.stack(means, axis=-1) * self._y_scale + self._y_mean, dtype)
        if not (return_std or return_cov):
            return mean
        noise = self._noise.cpu().numpy() * include_noise
        parts = [self._cov(block).cpu().numpy() for block in blocks]
        cov = np.stack([p + n * np.eye(len(p)) for p, n in zip(parts, noise)], axis=-1)
        cov = cov * self._y_scale**2
        if return_cov:
            return mean, self._shaped(cov, dtype)
        variance = np.maximum(np.einsum("iit->it", cov), 0.0)
        return mean, self._shaped(np.sqrt(variance), dtype)

    def _new_inputs(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self._tensor((X.astype(np.float64) - self._x_mean) / self._x_scale), X.dtype

    def _cross(self, block):
        return covariance(self._fitted, block, self._inputs, interacting=self._interacting)

    def _mean(self, block):
        return (self._cross(block) @ self._dual)[:, 0].cpu().numpy()

    def _cov(self, block):
        prior = covariance(self._fitted, block, interacting=self._interacting)
        half = torch.linalg.solve_triangular(self._lower, self._cross(block).T, upper=False)
        return prior - half.T @ half

    def _shaped(self, values, dtype):
        return (values[..., 0] if self._single else values).astype(dtype, copy=False)

    def sample_y(self, X, n_samples=1, random_state=None):
        """Draw functions from the posterior, jointly over rows and tasks.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Inputs.
        n_samples : int, default=1
            Number of draws.
        random_state : int, RandomState instance, Generator or None, default=None
            Seeds the draws.

        Returns
        -------
        ndarray of shape (n_rows, n_samples) or (n_rows, n_tasks, n_samples)
            Draws of the noiseless functions.
        """
        inputs, dtype = self._new_inputs(X)
        n_rows, n_tasks = len(inputs), self.n_outputs_
        tasks = torch.arange(n_tasks, device=inputs.device).repeat(n_rows)
        block = inputs.repeat_interleave(n_tasks, dim=0), tasks
        cov = self._cov(block)
        lower = cholesky(cov + self.alpha * torch.eye(len(cov), dtype=cov.dtype), self.alpha)
        draws = check_random_state(random_state).normal(size=(len(cov), n_samples))
        values = self._mean(block)[:, None] + (lower @ self._tensor(draws)).cpu().numpy()
        values = values.reshape(n_rows, n_tasks, n_samples)
        values = values * self._y_scale[:, None] + self._y_mean[:, None]
        return (values[:, 0] if self._single else values).astype(dtype, copy=False)


def _scaling(values, wanted):
    """Mean and standard deviation of the columns, NaN left out; 0 and 1 if not wanted."""
    if not wanted:
        return np.zeros(values.shape[1]), np.ones(values.shape[1])
    mean, scale = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    constant = scale <= 10 * np.finfo(np.float64).eps * np.abs(mean)
    return mean, np.where(constant, 1.0, scale)


def _unpack(vector, shapes):
    """Cut a vector into named tensors."""
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    parts = vector.split(sizes)
    return {n: part.reshape(s).clone() for (n, s), part in zip(shapes.items(), parts)}


def _inverse_softplus(values):
    values = np.maximum(values, 1e-9)
    return values + np.log(-np.expm1(-values))


def _logit(shares):
    return np.log(shares / (1 - shares))
