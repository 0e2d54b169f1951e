"""Self-distillation with a share of the true targets, in closed form for kernel ridge."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._array_api import (
    _add_to_diagonal,
    get_namespace,
    get_namespace_and_device,
    move_to,
    supported_float_dtypes,
)
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from skpapers.utils import (
    check_random_state,
    check_same_namespace,
    kernel_matrix,
    kernel_product,
    positive_definite_solver,
    resolve_gamma,
)
from skpapers.utils._kernels import KERNEL_NAMES

__all__ = [
    "SelfDistilledKernelRidge",
    "optimal_distillation_weight",
]

_SINGULAR = (
    "K + alpha I is not positive definite to working precision: the kernel must be positive "
    "semi-definite, and alpha not negligible beside it; increase alpha or scale X."
)


class SelfDistilledKernelRidge(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Kernel ridge regression distilled into itself, in closed form.

    Each step refits kernel ridge to `target_weight` times the targets plus (1 - `target_weight`)
    times the predictions of the step before. In the eigenbasis of the kernel this multiplies
    coefficients by a filter that grows sparser with the steps; the weight that suits held-out
    rows best is known in closed form.

    Parameters
    ----------
    n_steps : int or numpy.inf, default=5
        Number of fits: 1 is kernel ridge, infinity the limit, which is kernel ridge with penalty
        `alpha` / `target_weight`.
    target_weight : {"optimal", "per_step"}, float or array-like of shape (n_steps - 1,), \
            default=0.35
        Weight of the true targets from the second step on: 0 is pure distillation, 1 plain
        kernel ridge. "optimal" finds the best weight of the second step and keeps it,
        "per_step" finds one for every step, an array gives them.
    alpha : float, default=1.0
        Ridge penalty (lambda in the paper).
    kernel : str or callable, default="linear"
        A name of :func:`sklearn.metrics.pairwise.kernel_metrics`, "precomputed", a kernel of
        :mod:`sklearn.gaussian_process.kernels` or a function of two rows.
    gamma : {"scale", "median"} or float, default=None
        Width of the kernel or the rule for it; None is 1 / n_features.
    degree : float, default=3
        Degree of the polynomial kernel.
    coef0 : float, default=1
        Offset of the polynomial and the sigmoid kernel.
    kernel_params : dict, default=None
        Keyword arguments of a callable kernel.
    validation : {"loo", "split"}, default="loo"
        Where weights are found: exact leave-one-out of all steps, or one held-out part.
    validation_fraction : float, default=0.2
        Share of the rows held out with "split".
    random_state : int, RandomState instance, Generator or None, default=None
        Draws the held-out rows of "split".

    Attributes
    ----------
    X_fit_ : {ndarray, sparse matrix} of shape (n_samples, n_features)
        Training rows, or the precomputed kernel.
    dual_coef_ : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Dual coefficients of the last step.
    staged_dual_coef_ : ndarray of shape (n_steps, n_samples, n_targets)
        Those of every step (of the limit alone for infinite `n_steps`).
    target_weights_ : ndarray of shape (n_steps,)
        Weight of the targets at every step; the first is 1.
    eigenvalues_ : ndarray of shape (n_samples,)
        Eigenvalues of the kernel matrix (with rows and columns times the roots of the sample
        weights), in increasing order; computed when first read.
    spectrum_filter_ : ndarray of shape (n_samples,)
        Factor by which the last step multiplies the targets' coefficients in the eigenbasis.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had string column names.

    Notes
    -----
    One Cholesky factorisation, O(n^3 / 3), and O(n^2) a step. "loo" adds O(n^3 n_targets) a step
    and O(n^2 n_targets) of memory. The gain over kernel ridge is large where `alpha` is far too
    small, and none where it is tuned. The sparsification of deep networks is not shown here.

    References
    ----------
    Borup and Andersen, "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen
    Regularization Imposed by Self-Distillation", NeurIPS 2021, arXiv:2102.13088
    (Sections 3 and 4: closed form, limit and optimal weight).

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skpapers.kernel_methods import SelfDistilledKernelRidge
    >>> X, y = load_diabetes(return_X_y=True, scaled=True)
    >>> model = SelfDistilledKernelRidge(kernel="rbf", gamma=40.0, target_weight="optimal")
    >>> model.fit(X[:300], y[:300]).score(X[300:], y[300:]) > 0.4
    True
    """

    _parameter_constraints: dict = {
        "n_steps": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "target_weight": [
            Interval(Real, 0, 1, closed="both"),
            StrOptions({"optimal", "per_step"}),
            "array-like",
        ],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "kernel": [StrOptions(set(KERNEL_NAMES)), callable],
        "gamma": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"scale", "median"}),
            None,
        ],
        "degree": [Interval(Real, 0, None, closed="left")],
        "coef0": [Interval(Real, None, None, closed="neither")],
        "kernel_params": [dict, None],
        "validation": [StrOptions({"loo", "split"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state", np.random.Generator],
    }

    _search_space = {
        "target_weight": [0.0, 0.35, 0.7, "per_step"],
        "alpha": [0.01, 0.1, 1.0, 10.0],
        "kernel": ["linear", "rbf"],
    }

    def __init__(
        self,
        n_steps=5,
        target_weight=0.35,
        *,
        alpha=1.0,
        kernel="linear",
        gamma=None,
        degree=3,
        coef0=1,
        kernel_params=None,
        validation="loo",
        validation_fraction=0.2,
        random_state=None,
    ):
        self.n_steps = n_steps
        self.target_weight = target_weight
        self.alpha = alpha
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.kernel_params = kernel_params
        self.validation = validation
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.pairwise = self.kernel == "precomputed"
        tags.array_api_support = True
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit all steps.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows, or the kernel matrix (n_samples, n_samples) if precomputed.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the squared errors.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If K + alpha I is not positive definite, or `target_weight` does not suit `n_steps`.
        """
        X, y = self._validate(X, y)
        self.X_fit_ = X
        self._gamma = resolve_gamma(self.gamma, X)
        self._root_weights = self._roots(X, y, sample_weight)
        self._spectrum = None
        gram, targets = self._gram(), y[:, None] if y.ndim == 1 else y
        if self._root_weights is not None:
            targets = targets * self._root_weights[:, None]
        weights = self._find_weights(gram, targets)
        coefs = self._solve_steps(gram, targets, weights)
        if self._root_weights is not None:
            coefs = coefs * self._root_weights[None, :, None]
        xp, _, device = get_namespace_and_device(X, y)
        self.target_weights_ = xp.asarray(weights, dtype=y.dtype, device=device)
        self.staged_dual_coef_ = coefs
        self._single_target = y.ndim == 1
        self.dual_coef_ = self._as_targets(coefs[-1, ...])
        return self

    def _validate(self, X, y):
        xp, _, device = get_namespace_and_device(X)
        dtype = supported_float_dtypes(xp, device)
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=("csr", "csc"),
            dtype=dtype,
            order="C",
            multi_output=True,
            y_numeric=True,
        )
        xp, _, device = get_namespace_and_device(X)
        return X, xp.astype(move_to(y, xp=xp, device=device), X.dtype)

    def _roots(self, X, y, sample_weight):
        if sample_weight is None:
            return None
        xp, _, device = get_namespace_and_device(X, y)
        sample_weight = move_to(sample_weight, xp=xp, device=device)
        weights = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
        if not bool(xp.any(weights > 0)):
            raise ValueError("Sample weights must contain at least one non-zero number.")
        return xp.sqrt(weights)

    def _gram(self):
        gram = kernel_matrix(self.X_fit_, **self._kernel_arguments())
        if self._root_weights is None:
            return gram
        return gram * self._root_weights[:, None] * self._root_weights[None, :]

    def _kernel_arguments(self):
        names = ("kernel", "degree", "coef0", "kernel_params")
        return {name: getattr(self, name) for name in names} | {"gamma": self._gamma}

    def _find_weights(self, gram, targets):
        """Weights of the targets: one a step, or the one of the limit."""
        infinite = self.n_steps == np.inf
        later = 1 if infinite else self.n_steps - 1
        if not isinstance(self.target_weight, str):
            weights = np.asarray(self.target_weight, dtype=np.float64)
            if weights.ndim and (infinite or weights.shape != (later,)):
                raise ValueError(f"target_weight must be a number or {later} of them, one a step")
            if not ((weights >= 0) & (weights <= 1)).all():
                raise ValueError(f"target_weight must lie in [0, 1], got {self.target_weight!r}")
            weights = np.broadcast_to(weights, (later,)).tolist()
        elif infinite and self.target_weight == "per_step":
            raise ValueError("target_weight='per_step' needs a finite n_steps")
        elif later == 0:
            weights = []
        else:
            weights = self._search_weights(gram, targets, later)
        return weights if infinite else [1.0, *weights]

    def _search_weights(self, gram, targets, later):
        n_found = later if self.target_weight == "per_step" else 1
        if self.validation == "loo":
            search = leave_one_out_search(gram, targets, self.alpha)
        else:
            order = check_random_state(self.random_state).permutation(gram.shape[0])
            n_held = max(1, round(self.validation_fraction * len(order)))
            if n_held == len(order):
                raise ValueError(f"validation='split' needs rows to fit, got n_samples={n_held}")
            search = split_search(gram, targets, self.alpha, order[n_held:], order[:n_held])
        found = choose_weights(*search, n_found)
        return found + found[-1:] * (later - n_found)

    def _solve_steps(self, gram, targets, weights):
        xp, _ = get_namespace(targets)
        if self.n_steps != np.inf:
            solve = ridge_solver(gram, self.alpha)
            return xp.stack(distill(solve, targets, self.alpha, weights))
        if weights[0] == 0:  # pure distillation shrinks everything to zero
            return xp.zeros_like(targets)[None, ...]
        return ridge_solver(gram, self.alpha / weights[0])(targets)[None, ...]

    def _as_targets(self, values):
        return values[:, 0] if self._single_target else values

    def predict(self, X):
        """Predict with the last step.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; the kernel with the training rows (n_samples, n_samples_fit) if precomputed.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predictions.
        """
        X = self._validate_new(X)
        return kernel_product(X, self.X_fit_, self.dual_coef_, **self._kernel_arguments())

    def _validate_new(self, X):
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="dual_coef_", method="predict")
        xp, _, device = get_namespace_and_device(X)
        dtype = supported_float_dtypes(xp, device)
        return validate_data(
            self, X, accept_sparse=("csr", "csc"), dtype=dtype, order="C", reset=False
        )

    def staged_predict(self, X):
        """Predict with every step in turn.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; the kernel with the training rows (n_samples, n_samples_fit) if precomputed.

        Yields
        ------
        ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predictions of steps 1, 2, ... (of the limit alone for infinite `n_steps`).
        """
        X = self._validate_new(X)
        coefs = self.staged_dual_coef_
        xp, _ = get_namespace(coefs)
        n_steps, n_samples, n_targets = coefs.shape
        flat = xp.reshape(xp.permute_dims(coefs, (1, 0, 2)), (n_samples, n_steps * n_targets))
        values = kernel_product(X, self.X_fit_, flat, **self._kernel_arguments())
        for step in range(n_steps):
            yield self._as_targets(values[:, step * n_targets : (step + 1) * n_targets])

    @property
    def eigenvalues_(self):
        check_is_fitted(self)
        if self._spectrum is None:
            gram = self._gram()
            xp, _ = get_namespace(gram)
            values = xp.linalg.eigvalsh(gram)
            self._spectrum = xp.where(values > 0, values, xp.zeros_like(values))
        return self._spectrum

    @property
    def spectrum_filter_(self):
        values, weights = self.eigenvalues_, self.target_weights_
        if self.n_steps == np.inf:
            return weights[0] * values / (weights[0] * values + self.alpha)
        return spectral_filters(values, self.alpha, weights)[-1]


def optimal_distillation_weight(y_true, plain, distilled, *, sample_weight=None, clip=True):
    """Find the weight of the true targets that fits held-out rows best.

    The prediction of a step is linear in its weight a: a * plain + (1 - a) * distilled; its
    squared error has its minimum in closed form.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
        Targets of held-out rows.
    plain : array-like of shape (n_samples,) or (n_samples, n_targets)
        Predictions of the model fitted to the targets.
    distilled : array-like of shape (n_samples,) or (n_samples, n_targets)
        Predictions of the model fitted to the teacher's predictions alone.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows in the squared error.
    clip : bool, default=True
        Limit the weight to [0, 1].

    Returns
    -------
    float
        The weight; 1 if both predictions are the same up to rounding.

    Examples
    --------
    >>> from skpapers.kernel_methods import optimal_distillation_weight
    >>> optimal_distillation_weight([1.0, 2.0], [2.0, 2.0], [0.0, 2.0])
    0.5
    """
    xp, _, device = get_namespace_and_device(y_true, plain, distilled)
    dtype = supported_float_dtypes(xp, device)
    y_true, plain, distilled = (
        check_array(values, ensure_2d=False, dtype=dtype) for values in (y_true, plain, distilled)
    )
    check_consistent_length(y_true, plain, distilled)
    weights = _check_sample_weight(sample_weight, y_true, dtype=y_true.dtype)
    weights = weights if y_true.ndim == 1 else weights[:, None]
    change = plain - distilled
    size = float(xp.sum(weights * change**2))
    rounding = 100 * float(xp.finfo(change.dtype).eps)
    if size <= rounding**2 * float(xp.sum(weights * plain**2)):
        return 1.0
    best = float(xp.sum(weights * (y_true - distilled) * change)) / size
    return min(max(best, 0.0), 1.0) if clip else best


def ridge_solver(gram, ridge):
    """Factor gram + ridge I, to solve with it."""
    xp, _ = get_namespace(gram)
    system = xp.asarray(gram, copy=True)
    _add_to_diagonal(system, ridge, xp)
    return positive_definite_solver(system, _SINGULAR, overwrite=True)


def distill(solve, targets, ridge, weights):
    """Dual coefficients of all steps; K c = t - ridge c makes a step one solve."""
    coefs, fitted = [], targets
    for weight in weights:
        mixed = weight * targets + (1 - weight) * fitted
        coefs.append(solve(mixed))
        fitted = mixed - ridge * coefs[-1]
    return coefs


def spectral_filters(values, ridge, weights):
    """Filters of the steps in the eigenbasis; a weight may be an array that broadcasts."""
    shrinkage = values / (values + ridge)
    filters = [shrinkage]
    for weight in weights[1:]:
        filters.append(shrinkage * ((1 - weight) * filters[-1] + weight))
    return filters


def choose_weights(advance, start, held_out, n_weights):
    """Best weights of steps 2, 3, ...; `advance` fits to a state: new state, held-out values.

    States are linear in the targets, so that the state of a mix is the mix of the states.
    """
    first, plain = advance(start)
    state, weights = first, []
    for _ in range(n_weights):
        student, distilled = advance(state)
        weights.append(optimal_distillation_weight(held_out, plain, distilled))
        state = weights[-1] * first + (1 - weights[-1]) * student
    return weights


def leave_one_out_search(gram, targets, ridge):
    """Exact leave-one-out of all steps, as arguments of `choose_weights`.

    A state is (n, n, n_targets): column i has the values at all rows of the fit without row i.
    With G = (K + ridge I)^-1, that fit has the coefficients G t less a multiple of column
    i of G, such that coefficient i is zero.
    """
    xp, _, device = get_namespace_and_device(gram)
    n_samples, n_targets = targets.shape
    identity = xp.eye(n_samples, dtype=gram.dtype, device=device)
    inverse = ridge_solver(gram, ridge)(identity)

    def diagonal(state):
        return xp.sum(state * identity[:, :, None], axis=0)

    def advance(state):
        flat = xp.reshape(state, (n_samples, n_samples * n_targets))
        coefs = xp.reshape(inverse @ flat, state.shape)
        excess = diagonal(coefs) / xp.linalg.diagonal(inverse)[:, None]
        coefs = coefs - inverse[:, :, None] * excess[None, :, :]
        state = state - ridge * coefs - identity[:, :, None] * excess[None, :, :]
        return state, diagonal(state)

    start = xp.broadcast_to(targets[:, None, :], (n_samples, n_samples, n_targets))
    return advance, start, targets


def split_search(gram, targets, ridge, train, test):
    """Fit on the rows `train`, choose on the rows `test`, as arguments of `choose_weights`."""
    xp, _, device = get_namespace_and_device(gram)
    train, test = (xp.asarray(rows, device=device) for rows in (train, test))
    rows = xp.take(gram, train, axis=0)
    solve = ridge_solver(xp.take(rows, train, axis=1), ridge)
    cross = xp.take(rows, test, axis=1).T

    def advance(state):
        coefs = solve(state)
        return state - ridge * coefs, cross @ coefs

    return advance, xp.take(targets, train, axis=0), xp.take(targets, test, axis=0)
