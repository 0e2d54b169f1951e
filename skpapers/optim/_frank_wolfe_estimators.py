"""Linear models whose coefficients live in a convex set, fitted by Frank-Wolfe."""

import functools
import warnings
from numbers import Integral, Real

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import weighted_rows

from ._frank_wolfe_steps import STEPS, ActiveSet, minimize
from ._linear_losses import LogisticLoss, PoissonLoss, SoftmaxLoss, SquaredLoss
from ._linear_minimization import lmo_l1, lmo_l2, lmo_linf, lmo_nuclear, lmo_simplex
from ._linear_problem import LinearProblem

__all__ = ["FrankWolfeClassifier", "FrankWolfeRegressor"]

_ORACLES = {
    "l1": lmo_l1,
    "l2": lmo_l2,
    "linf": lmo_linf,
    "nuclear": lmo_nuclear,
    "simplex": lmo_simplex,
}
_ROUND = ("l2", "nuclear")  # with infinitely many vertices


class _FrankWolfeModel(BaseEstimator):
    """What the classifier and the regressor share."""

    _parameter_constraints = {
        "constraint": [StrOptions(set(_ORACLES)), callable],
        "radius": [Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "step": [StrOptions(set(STEPS))],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "warm_start": ["boolean"],
    }
    _search_space = {"radius": [0.3, 1.0, 3.0, 10.0, 30.0]}

    @staticmethod
    def _small_params():
        return {"max_iter": 100}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Target.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; a row of weight zero is as if it were not there.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        continuing = self.warm_start and hasattr(self, "_state")
        dtype, problem = self._make_problem(X, y, sample_weight, self.radius, reset=not continuing)
        self._start(problem, self._state if continuing else None)
        gap, converged, history = minimize(problem, self.step, self.max_iter, self.tol)
        self._check(problem.fun, gap, converged)
        self._state = self._scaled_state(problem)
        self.coef_ = problem.x.astype(dtype)
        self.intercept_ = problem.intercept.astype(dtype)
        self.objective_, self.dual_gap_ = problem.fun, gap
        self.n_iter_, self.history_ = len(history), np.array(history)
        active = problem.active
        self.active_set_ = None if active is None else (active.atoms, active.weights)
        self._finish()
        return self

    def path(self, X, y, radii, sample_weight=None):
        """Fit for several radii, each started from the solution before, scaled.

        The estimator itself is not changed, but for what it knows about the data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Target.
        radii : array-like of shape (n_radii,)
            Radii, in the order in which they are fitted.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        coefs : ndarray of shape (n_radii, n_outputs, n_features)
            Coefficients.
        intercepts : ndarray of shape (n_radii, n_outputs)
            Intercepts.
        gaps : ndarray of shape (n_radii,)
            Duality gaps.
        """
        self._validate_params()
        state, coefs, intercepts, gaps = None, [], [], []
        for radius in radii:
            _, problem = self._make_problem(X, y, sample_weight, radius, reset=True)
            self._start(problem, state, radius)
            gap, converged, _ = minimize(problem, self.step, self.max_iter, self.tol)
            self._check(problem.fun, gap, converged)
            state = self._scaled_state(problem, radius)
            coefs.append(problem.x)
            intercepts.append(problem.intercept)
            gaps.append(gap)
        return np.array(coefs), np.array(intercepts), np.array(gaps)

    def _make_problem(self, X, y, sample_weight, radius, *, reset):
        if self.step == "away" and self.constraint in _ROUND:
            raise ValueError(f"step='away' needs a polytope, got constraint={self.constraint!r}")
        X, y = validate_data(
            self,
            X,
            y,
            reset=reset,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            **self._target_checks,
        )
        keep, weight = weighted_rows(sample_weight, X)
        dtype = X.dtype
        X, y, weight = X[keep].astype(np.float64), y[keep], weight / weight.sum()
        loss, n_outputs = self._loss(y, weight, reset)
        oracle = self._oracle(radius)
        away = self.step == "away"
        problem = LinearProblem(X, loss, oracle, self.alpha, self._intercept(), n_outputs, away)
        return dtype, problem

    def _oracle(self, radius):
        if callable(self.constraint):
            return self.constraint
        return functools.partial(_ORACLES[self.constraint], radius=radius)

    def _intercept(self):
        return self.fit_intercept

    def _start(self, problem, state, radius=None):
        """Start at an earlier solution, of perhaps another radius, or anew."""
        if state is None or state[0].shape != problem.x.shape:
            problem.start(self._first_point(problem))
            return
        scale = 1.0 if callable(self.constraint) else radius or self.radius
        x, atoms, weights = state
        active = None
        if problem.away and atoms is not None:
            active = ActiveSet(x * scale)
            active.atoms, active.weights = atoms * scale, weights.copy()
        problem.start(x * scale, active)

    def _first_point(self, problem):
        return None  # the vertex of the gradient

    def _scaled_state(self, problem, radius=None):
        scale = 1.0 if callable(self.constraint) else radius or self.radius
        if problem.active is None:
            return problem.x / scale, None, None
        return problem.x / scale, problem.active.atoms / scale, problem.active.weights

    def _check(self, fun, gap, converged):
        if not (np.isfinite(fun) and np.isfinite(gap)):
            raise ValueError(
                f"the objective is {fun}: step={self.step!r} left its domain, or the scale "
                "of X overflows; try step='monotonic' or scale X"
            )
        if not converged:
            warnings.warn(
                f"the duality gap is {gap:.2g} after max_iter={self.max_iter} iterations, "
                f"above tol={self.tol} of the objective: raise max_iter or tol, or take "
                "step='away'",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _finish(self):
        pass

    def _margins(self, X):
        check_is_fitted(self)
        X = validate_data(
            self, X, reset=False, accept_sparse="csr", dtype=[np.float64, np.float32]
        )
        return X @ self.coef_.T.astype(X.dtype) + self.intercept_.astype(X.dtype)


class FrankWolfeClassifier(ClassifierMixin, _FrankWolfeModel):
    """Logistic regression whose coefficients live in a convex set, with a certificate.

    The radius of the set is the parameter, not a penalty: an l1 ball gives few coefficients that
    are not zero, a nuclear ball a matrix of low rank. There is no step size to tune, and the
    duality gap says how far the objective is from its minimum at most.

    Parameters
    ----------
    constraint : {"l1", "l2", "linf", "simplex", "nuclear"} or callable, default="l1"
        The set of the coefficients of all classes together; or a linear oracle, a function from
        a gradient of shape (n_outputs, n_features) to the point of the set that minimises the
        product with it.
    radius : float, default=10.0
        Radius of the set; not used where `constraint` is callable.
    alpha : float, default=0.0
        Weight of the penalty ``alpha / 2 * ||coef||^2``.
    step : {"monotonic", "halving", "open_loop", "adaptive", "second_order", "away"}, \
default="monotonic"
        Step rule, see :func:`frank_wolfe`. "monotonic" has the cheapest iterations, and a gap of
        order 1 / t; "away" converges linearly on polytopes ("l1", "linf", "simplex").
    max_iter : int, default=2000
        Largest number of iterations.
    tol : float, default=1e-4
        Stop at a duality gap of ``tol * max(1, objective)``.
    fit_intercept : bool, default=True
        Whether there is an intercept; it is not constrained.
    warm_start : bool, default=False
        Start from the last solution, scaled to the present radius.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Coefficients; one row for two classes.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercepts.
    objective_ : float
        Mean loss plus penalty.
    dual_gap_ : float
        Upper bound of what the objective exceeds its minimum by.
    n_iter_ : int
        Number of iterations.
    history_ : ndarray of shape (n_iter_, 2)
        Objective and duality gap of each iteration.
    active_set_ : tuple of ndarray or None
        Atoms and their weights, whose sum is `coef_`; for ``step="away"`` only.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    An iteration costs a product with X and O(n_samples) for a value. The margins are kept, so that
    the steps that "monotonic" rejects cost O(n_samples). "away" keeps its atoms, dense.

    References
    ----------
    .. [1] A. Carderera, M. Besancon, S. Pokutta, "Simple steps are all you need: Frank-Wolfe and
       generalized self-concordant functions", NeurIPS 2021, arXiv:2105.13913, algorithm 1.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from skpapers.optim import FrankWolfeClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = FrankWolfeClassifier(radius=3.0, step="away").fit(scale(X), y)
    >>> int((abs(model.coef_) > 1e-3).sum()), round(model.score(scale(X), y), 2)
    (4, 0.96)
    """

    _target_checks = {}

    def __init__(
        self,
        constraint="l1",
        radius=10.0,
        alpha=0.0,
        step="monotonic",
        max_iter=2000,
        tol=1e-4,
        fit_intercept=True,
        warm_start=False,
    ):
        self.constraint = constraint
        self.radius = radius
        self.alpha = alpha
        self.step = step
        self.max_iter = max_iter
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.warm_start = warm_start

    def _loss(self, y, weight, reset):
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "FrankWolfeClassifier needs at least two classes; y has one class: "
                f"{self.classes_[0]!r}"
            )
        if len(self.classes_) == 2:
            return LogisticLoss(index, weight), 1
        return SoftmaxLoss(index, weight, len(self.classes_)), len(self.classes_)

    def decision_function(self, X):
        """Compute the margins.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Log-odds of the second class, or logits.
        """
        margins = self._margins(X)
        return margins[:, 0] if len(self.classes_) == 2 else margins

    def predict_proba(self, X):
        """Compute class probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, in the order of ``classes_``.
        """
        margins = self._margins(X)
        if len(self.classes_) == 2:
            return expit(np.hstack([-margins, margins]))
        return softmax(margins, axis=1)

    def predict(self, X):
        """Predict class labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,)
            The most probable class of each row.
        """
        margins = self._margins(X)
        if len(self.classes_) == 2:
            return self.classes_[(margins[:, 0] > 0).astype(int)]
        return self.classes_[margins.argmax(axis=1)]


class FrankWolfeRegressor(RegressorMixin, _FrankWolfeModel):
    """Linear regression whose coefficients live in a convex set, with a certificate.

    Parameters
    ----------
    loss : {"squared", "poisson", "kullback"}, default="squared"
        "squared" is half the mean squared error. "poisson" is the mean of ``m - y log m`` with
        means m that are linear in X, for counts y >= 0, coefficients >= 0 and no intercept;
        "kullback" is the same plus a constant, which makes it a divergence.
    constraint : {"l1", "l2", "linf", "simplex", "nuclear"} or callable, default="l1"
        The set of the coefficients, or a linear oracle, a function from a gradient of shape
        (1, n_features) to the point of the set that minimises the product with it. "poisson" and
        "kullback" take "simplex", or "l1", of which they use the part that is not negative.
    radius : float, default=10.0
        Radius of the set, in units of y over those of X; not used where `constraint` is callable.
    alpha : float, default=0.0
        Weight of the penalty ``alpha / 2 * ||coef||^2``.
    step : {"monotonic", "halving", "open_loop", "adaptive", "second_order", "away"}, \
default="monotonic"
        Step rule, see :func:`frank_wolfe`. "monotonic" has the cheapest iterations, and a gap of
        order 1 / t; "away" converges linearly on polytopes ("l1", "linf", "simplex").
    max_iter : int, default=2000
        Largest number of iterations.
    tol : float, default=1e-4
        Stop at a duality gap of ``tol * max(1, |objective|)``.
    fit_intercept : bool, default=True
        Whether "squared" has an intercept; it is not constrained.
    warm_start : bool, default=False
        Start from the last solution, scaled to the present radius.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Coefficients.
    intercept_ : float
        Intercept.
    objective_ : float
        Mean loss plus penalty.
    dual_gap_ : float
        Upper bound of what the objective exceeds its minimum by.
    n_iter_ : int
        Number of iterations.
    history_ : ndarray of shape (n_iter_, 2)
        Objective and duality gap of each iteration.
    active_set_ : tuple of ndarray or None
        Atoms and their weights, whose sum is `coef_`; for ``step="away"`` only.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    An iteration costs a product with X and O(n_samples) for a value. "poisson" and "kullback"
    start from equal coefficients, whose means must be positive where y is; predictions below
    zero, for rows with negative features, are raised to zero.

    References
    ----------
    .. [1] A. Carderera, M. Besancon, S. Pokutta, "Simple steps are all you need: Frank-Wolfe and
       generalized self-concordant functions", NeurIPS 2021, arXiv:2105.13913, algorithm 1.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from skpapers.optim import FrankWolfeRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = FrankWolfeRegressor(radius=60.0, step="away").fit(scale(X), y)
    >>> int((abs(model.coef_) > 0.01).sum()), round(model.score(scale(X), y), 2)
    (5, 0.48)
    """

    _target_checks = {"y_numeric": True}
    _parameter_constraints = _FrankWolfeModel._parameter_constraints | {
        "loss": [StrOptions({"squared", "poisson", "kullback"})]
    }

    def __init__(
        self,
        loss="squared",
        constraint="l1",
        radius=10.0,
        alpha=0.0,
        step="monotonic",
        max_iter=2000,
        tol=1e-4,
        fit_intercept=True,
        warm_start=False,
    ):
        self.loss = loss
        self.constraint = constraint
        self.radius = radius
        self.alpha = alpha
        self.step = step
        self.max_iter = max_iter
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.warm_start = warm_start

    def _loss(self, y, weight, reset):
        y = y.astype(np.float64)
        if self.loss == "squared":
            return SquaredLoss(y, weight), 1
        if (y < 0).any():
            raise ValueError(f"Some y are negative, which loss={self.loss!r} does not allow")
        return PoissonLoss(y, weight, divergence=self.loss == "kullback"), 1

    def _intercept(self):
        return self.fit_intercept and self.loss == "squared"

    def _oracle(self, radius):
        if self.loss == "squared" or self.constraint == "simplex":
            return super()._oracle(radius)
        if self.constraint != "l1":
            raise ValueError(
                f"loss={self.loss!r} needs constraint='l1' or 'simplex', got {self.constraint!r}"
            )
        return functools.partial(nonnegative_vertex, radius=radius)

    def _first_point(self, problem):
        if self.loss == "squared":
            return None
        uniform = np.full_like(problem.x, self.radius / problem.x.size)
        if not np.isfinite(problem.loss.value(problem.margins_of(uniform))):
            raise ValueError(
                f"loss={self.loss!r} needs features whose mean over the columns is positive in "
                "rows where y is, and not negative elsewhere"
            )
        return uniform

    def _finish(self):
        self.coef_, self.intercept_ = self.coef_[0], self.intercept_[0]

    def predict(self, X):
        """Predict the target.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predictions.
        """
        margins = self._margins(X)
        return margins if self.loss == "squared" else np.maximum(margins, 0)


def nonnegative_vertex(gradient, radius):
    """Minimise <gradient, v> over ``v >= 0, sum v <= radius``."""
    if gradient.min() >= 0:
        return np.zeros_like(gradient)
    return lmo_simplex(gradient, radius)
