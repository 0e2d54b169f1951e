"""CoLiDE: a directed acyclic graph and the noise levels of its columns, learnt together."""

import warnings
from numbers import Integral, Real

import numpy as np
from scipy.linalg import lapack
from sklearn.base import BaseEstimator, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data

from ._dag_learner import (
    DAGLearnerMixin,
    acyclic_subgraph,
    least_squares_on_parents,
    topological_order,
)

__all__ = ["CoLiDE"]

_FEASIBLE = -1e-6  # entries of the inverse below this: outside the domain of M-matrices
_SMALLEST_LR = 1e-16


class CoLiDE(DAGLearnerMixin, BaseEstimator):
    """Learn a linear causal graph and the noise level of each column.

    Rows follow ``x = W^T x + z`` with independent noises z. The score is a concomitant lasso:
    residuals are divided by the noise scale, which is estimated along with W, so that one `alpha`
    serves whatever the noise levels are. A log-determinant barrier keeps W acyclic.

    Parameters
    ----------
    alpha : float, default=0.05
        Weight of the l1 penalty on W.
    noise : {"unequal", "equal"}, default="unequal"
        One noise scale a column, or one for all.
    threshold : float, default=0.3
        Weights of at most this absolute value are set to 0, in units of effect per cause.
    mu_init : float, default=1.0
        Weight of the score in the first stage.
    mu_factor : float, default=0.1
        Factor on that weight from stage to stage, in (0, 1).
    s : tuple of float, default=(1.0, 0.9, 0.8, 0.7)
        Constant of the log-determinant in each stage.
    max_iter : int, default=2000
        Iterations of a stage.
    max_iter_final : int, default=7000
        Iterations of the last stage.
    lr : float, default=3e-3
        Step size of Adam.
    tol : float, default=1e-6
        Relative change of the objective between checkpoints below which a stage ends.
    checkpoint : int, default=200
        Iterations between checkpoints.
    noise_floor : float, default=1e-2
        Lower bound of the noise scales, relative to the columns' standard deviations.
    refit : bool, default=False
        Re-estimate the weights that are kept by least squares on the parents.
    verbose : int, default=0
        1 prints a line a stage.

    Attributes
    ----------
    adjacency_ : ndarray of shape (n_features, n_features)
        Weight of the edge from row to column; the graph has no cycle.
    raw_adjacency_ : ndarray of shape (n_features, n_features)
        Weights before the threshold.
    noise_scale_ : ndarray of shape (n_features,)
        Standard deviations of the noises; 0 for a constant column.
    causal_order_ : ndarray of shape (n_features,)
        Columns, causes first.
    covariance_ : ndarray of shape (n_features, n_features)
        Covariance of the columns, divided by n_samples.
    mean_ : ndarray of shape (n_features,)
        Means of the columns.
    objective_curve_ : list of float
        Objective at each checkpoint.
    n_iter_ : int
        Iterations of all stages.
    is_dag_ : bool
        Whether the graph was acyclic right after the threshold, before edges of cycles went.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    O(n_features**3) an iteration, independent of n_samples once the covariance is known.
    Constant columns take no part and have no edges. Columns that were standardised have lost what
    tells causes from effects in this model: centre only. The score is scale free only up to
    `alpha`, so that recovery gets worse when the noise grows tenfold.

    The authors' schedule is ``lr=3e-4, checkpoint=1000, max_iter=20_000, max_iter_final=70_000``;
    the defaults found the same graphs ten times sooner on up to 20 columns.

    References
    ----------
    .. [1] S. S. Saboksayr, G. Mateos, M. Tepper, "CoLiDE: Concomitant Linear DAG Estimation",
       ICLR 2024, arXiv:2310.02895, equations (2) to (7).

    Examples
    --------
    >>> from skpapers.causal import CoLiDE, make_linear_sem
    >>> X, weights, _ = make_linear_sem(500, 4, 4, random_state=1)
    >>> model = CoLiDE(noise="equal").fit(X)
    >>> bool(((model.adjacency_ != 0) == (weights != 0)).all())
    True
    """

    _parameter_constraints = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "noise": [StrOptions({"equal", "unequal"})],
        "threshold": [Interval(Real, 0, None, closed="left")],
        "mu_init": [Interval(Real, 0, None, closed="neither")],
        "mu_factor": [Interval(Real, 0, 1, closed="neither")],
        "s": ["array-like"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "max_iter_final": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "checkpoint": [Interval(Integral, 1, None, closed="left")],
        "noise_floor": [Interval(Real, 0, None, closed="neither")],
        "refit": ["boolean"],
        "verbose": ["verbose"],
    }

    @staticmethod
    def _small_params():
        return {"max_iter": 50, "max_iter_final": 100, "checkpoint": 25}

    _search_space = {"alpha": [0.01, 0.05, 0.2], "noise": ["equal", "unequal"]}

    def __init__(
        self,
        alpha=0.05,
        *,
        noise="unequal",
        threshold=0.3,
        mu_init=1.0,
        mu_factor=0.1,
        s=(1.0, 0.9, 0.8, 0.7),
        max_iter=2000,
        max_iter_final=7000,
        lr=3e-3,
        tol=1e-6,
        checkpoint=200,
        noise_floor=1e-2,
        refit=False,
        verbose=0,
    ):
        self.alpha = alpha
        self.noise = noise
        self.threshold = threshold
        self.mu_init = mu_init
        self.mu_factor = mu_factor
        self.s = s
        self.max_iter = max_iter
        self.max_iter_final = max_iter_final
        self.lr = lr
        self.tol = tol
        self.checkpoint = checkpoint
        self.noise_floor = noise_floor
        self.refit = refit
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the graph.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data, one column a variable, at least two rows.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        self.mean_ = X.mean(axis=0, dtype=np.float64)
        centred = X - self.mean_
        self.covariance_ = centred.T @ centred / len(X)
        varying = np.ptp(X, axis=0) > 0
        self._optimize(varying)
        self._cut()
        return self

    def _optimize(self, varying):
        n_features = len(varying)
        self.raw_adjacency_ = np.zeros((n_features, n_features))
        self.noise_scale_ = np.zeros(n_features)
        self.objective_curve_, self.n_iter_ = [], 0
        if not varying.any():
            return
        problem = _Problem(
            self.covariance_[np.ix_(varying, varying)], self.alpha, self.noise, self.noise_floor
        )
        weights = self._run_stages(problem)
        self.raw_adjacency_[np.ix_(varying, varying)] = weights
        self.noise_scale_[varying] = problem.noise_scale(weights)

    def _run_stages(self, problem):
        weights = np.zeros_like(problem.covariance)
        noise = problem.initial_noise()
        constants = np.asarray(self.s, dtype=float)
        if constants.ndim != 1 or not (constants > 0).all() or constants.size == 0:
            raise ValueError(f"s must be positive numbers, one a stage, got {self.s!r}")
        for stage, c in enumerate(constants):
            last = stage == len(constants) - 1
            max_iter = self.max_iter_final if last else self.max_iter
            mu = self.mu_init * self.mu_factor**stage
            result = self._run_stage(problem, weights, noise, mu, c, max_iter)
            weights, noise, curve, n_iter, converged = result
            self.objective_curve_ += curve
            self.n_iter_ += n_iter
            if self.verbose:
                print(f"CoLiDE stage {stage}: mu={mu:.3g} objective={curve[-1]:.6g}")
        if not converged and self.tol:
            warnings.warn(
                f"the last stage ended after max_iter_final={max_iter} iterations before its "
                f"objective settled to tol={self.tol}: raise max_iter_final or tol",
                ConvergenceWarning,
            )
        return weights

    def _run_stage(self, problem, weights, noise, mu, c, max_iter):
        """Minimise, with a larger domain and smaller steps for as long as that fails."""
        lr = self.lr
        while lr > _SMALLEST_LR:
            settings = (lr, max_iter, self.checkpoint, self.tol)
            result = minimize_stage(problem, weights, noise, mu, c, *settings)
            if result is not None:
                return result
            lr, c = lr / 2, c + 0.1
        raise ValueError("no step keeps the graph acyclic: X may hold nearly equal columns")

    def _cut(self):
        kept = np.where(np.abs(self.raw_adjacency_) > self.threshold, self.raw_adjacency_, 0.0)
        self.is_dag_ = topological_order(kept) is not None
        self.adjacency_ = acyclic_subgraph(self.raw_adjacency_, self.threshold)
        if self.refit:
            self.adjacency_ = least_squares_on_parents(self.covariance_, self.adjacency_)
        self.causal_order_ = topological_order(self.adjacency_)


class _Problem:
    """The concomitant score as a function of weights and noise scales."""

    def __init__(self, covariance, alpha, noise, noise_floor):
        self.covariance = covariance
        self.alpha = alpha
        self.equal = noise == "equal"
        self.floor = noise_floor * self.initial_noise()

    def initial_noise(self):
        scale = np.sqrt(np.diag(self.covariance))
        return np.full_like(scale, scale.min()) if self.equal else scale

    def residual(self, weights):
        """C (I - W), and the residual variances diag((I - W)^T C (I - W))."""
        product = self.covariance - self.covariance @ weights
        variance = np.diagonal(product) - np.einsum("ij,ij->j", weights, product)
        return product, np.maximum(variance, 0.0)

    def best_noise(self, variance):
        """The noise scales that minimise the score for these residual variances."""
        if self.equal:
            variance = np.full_like(variance, variance.mean())
        return np.maximum(np.sqrt(variance), self.floor)

    def noise_scale(self, weights):
        return self.best_noise(self.residual(weights)[1])

    def score(self, weights, variance, noise):
        """Half the scaled residual variances, half the noises, and the penalty."""
        return 0.5 * np.sum(variance / noise + noise) + self.alpha * np.abs(weights).sum()

    def gradient(self, weights, product, noise):
        """Gradient of the score in the weights."""
        return self.alpha * np.sign(weights) - product / noise


def acyclicity(weights, c):
    """The barrier d log c - log det(c I - W * W), and the inverse of that matrix.

    The inverse is None outside the domain, where it would have negative entries.
    """
    matrix = -weights * weights
    matrix[np.diag_indices_from(matrix)] += c
    factors, pivots, failed = lapack.dgetrf(matrix, overwrite_a=True)
    if failed:
        return np.inf, None
    log_det = np.log(np.abs(np.diagonal(factors))).sum()
    inverse, _ = lapack.dgetri(factors, pivots, overwrite_lu=True)
    feasible = inverse.min() >= _FEASIBLE
    return len(weights) * np.log(c) - log_det, inverse if feasible else None


def minimize_stage(problem, weights, noise, mu, c, lr, max_iter, checkpoint, tol):
    """Adam on the weights, noise scales in closed form after each step.

    Returns None where the stage has to start again with a larger domain, else weights, noise,
    objective at the checkpoints, iterations, and whether the objective settled.
    """
    barrier, inverse = acyclicity(weights, c)
    if inverse is None:
        return None
    step = _Adam(weights.shape)
    product, variance = problem.residual(weights)
    curve = [mu * problem.score(weights, variance, noise) + barrier]
    for iteration in range(1, max_iter + 1):
        gradient = mu * problem.gradient(weights, product, noise) + 2 * weights * inverse.T
        direction = step(gradient)
        while True:
            candidate = weights - lr * direction
            barrier, inverse = acyclicity(candidate, c)
            if inverse is not None:
                break
            lr /= 2
            if c <= 0.9 or lr <= _SMALLEST_LR:
                return None
        weights = candidate
        product, variance = problem.residual(weights)
        noise = problem.best_noise(variance)
        if iteration % checkpoint == 0 or iteration == max_iter:
            curve.append(mu * problem.score(weights, variance, noise) + barrier)
            if abs(curve[-1] - curve[-2]) <= tol * abs(curve[-2]):
                return weights, noise, curve, iteration, True
    return weights, noise, curve, max_iter, False


class _Adam:
    """Directions of Adam; the diagonal, which is no edge, never moves."""

    def __init__(self, shape, beta1=0.99, beta2=0.999, eps=1e-8):
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.mean, self.square = np.zeros(shape), np.zeros(shape)
        self.n_steps = 0

    def __call__(self, gradient):
        np.fill_diagonal(gradient, 0.0)
        self.n_steps += 1
        self.mean += (1 - self.beta1) * (gradient - self.mean)
        self.square += (1 - self.beta2) * (gradient * gradient - self.square)
        mean = self.mean / (1 - self.beta1**self.n_steps)
        square = self.square / (1 - self.beta2**self.n_steps)
        return mean / (np.sqrt(square) + self.eps)
