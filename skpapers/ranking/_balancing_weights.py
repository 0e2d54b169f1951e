"""Weights under which observed rows look like all rows, for functions of a kernel space."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_random_state, split_partial_targets

from ._balanced_functions import balance, kernel_values

__all__ = ["BALANCE_CONSTRAINTS", "KernelBalancingWeights", "balance_settings", "effective_size"]

_FLOATS = (np.float64, np.float32)
BALANCE_CONSTRAINTS = {
    "kernel": [StrOptions({"gaussian", "exponential"}), callable],
    "gamma_kernel": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
    "selection": [StrOptions({"random", "worst", "adaptive"}), "array-like"],
    "n_functions": [Interval(Integral, 1, None, closed="left")],
    "balance_tol": [Interval(Real, 0, None, closed="left")],
    "balance_strength": [Interval(Real, 0, None, closed="left")],
    "random_state": ["random_state"],
}


class KernelBalancingWeights(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Weigh the observed rows so that they look like all rows, for functions of a kernel space.

    Outcomes that are missing for some rows, depending on the features, make averages and models
    of the observed ones biased. Inverse propensities undo this if they balance every function of
    the features between observed and all rows; these weights do so directly, for functions of
    the space of a kernel.

    Parameters
    ----------
    kernel : {"gaussian", "exponential"} or callable, default="gaussian"
        ``exp(-gamma |x - c|**2)``, ``exp(-gamma |x - c|)``, or a function of rows and centres
        that gives the matrix of values.
    gamma_kernel : "auto" or float, default="auto"
        Width; "auto" is 1 over the total variance of the features, of which "exponential" takes
        the root.
    selection : {"random", "worst", "adaptive"} or array-like of shape (n_centers, n_features), \
            default="random"
        Functions to balance: the kernel at random rows; the function of the space that is
        balanced worst, again and again; what the outcomes are made of, which needs y; or the
        kernel at given centres.
    n_functions : int, default=200
        Number of functions, at most that of the rows. For "worst" some ten do.
    balance_tol : float, default=1e-3
        Difference of means that is allowed.
    balance_strength : float, default=50.0
        Cost of more, against the entropy of the weights. It bounds how uneven they become.
    random_state : int, RandomState instance or None, default=None
        Draws rows as centres; None is a new draw each time.

    Attributes
    ----------
    sample_weight_ : ndarray of shape (n_samples,)
        Weights, which sum to the number of observed rows; 0 for the others.
    gaps_ : ndarray of shape (n_balanced,)
        Mean over all rows minus weighted mean over the observed ones, of each function.
    effective_sample_size_ : float
        Number of equally weighted rows that would be as precise. Far below the number of
        observed ones if observed and missing rows hardly overlap.
    centers_ : ndarray of shape (n_centers, n_features)
        Centres of the kernel.
    function_coef_ : ndarray of shape (n_centers, n_balanced)
        The functions, as combinations of the kernel at the centres.
    dual_coef_ : ndarray of shape (n_balanced,)
        The logarithm of the weights is that combination of the functions, up to a constant.
    gamma_ : float
        Width of the kernel.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Raises
    ------
    ValueError
        If no row is observed, or "adaptive" has no y.

    Notes
    -----
    Costs O(n_samples n_functions) for the kernel and O(n_observed n_functions) for each of some
    hundred iterations on a convex dual with a variable a function; the optimum is exact. What
    depends on the missing outcome itself, given the features, no weights of the features balance.

    `transform` gives the functions. For ``selection="adaptive"`` the functions are those of a
    matching pursuit and a ridge regression of y, where the official code keeps the largest
    coefficients of a few gradient steps. Each function has a gap of its own in the objective,
    where the official code adds up gaps, whose signs cancel.

    References
    ----------
    .. [1] H. Li, Y. Xiao, C. Zheng, P. Wu, Z. Chen, Z. Geng, P. Cui, "Debiased Collaborative
       Filtering with Kernel-Based Causal Balancing", ICLR 2024, arXiv:2404.19596 (Section 4).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.ranking import KernelBalancingWeights
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(2000, 1))
    >>> y = np.where(rng.random(2000) < 1 / (1 + np.exp(-2 * X[:, 0])), X[:, 0], np.nan)
    >>> balanced = KernelBalancingWeights(random_state=0).fit(X, y)
    >>> bool(abs(balanced.estimate_mean(y) - X.mean()) < 0.1), bool(np.nanmean(y) > 0.5)
    (True, True)
    """

    _parameter_constraints = BALANCE_CONSTRAINTS

    _search_space = {"gamma_kernel": ["auto", 0.1, 1.0], "n_functions": [10, 50]}

    def __init__(
        self,
        kernel="gaussian",
        *,
        gamma_kernel="auto",
        selection="random",
        n_functions=200,
        balance_tol=1e-3,
        balance_strength=50.0,
        random_state=None,
    ):
        self.kernel = kernel
        self.gamma_kernel = gamma_kernel
        self.selection = selection
        self.n_functions = n_functions
        self.balance_tol = balance_tol
        self.balance_strength = balance_strength
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, observed=None, base_weight=None):
        """Find the weights.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features of all rows, observed or not.
        y : array-like of shape (n_samples,), default=None
            Outcomes, NaN where missing.
        observed : array-like of bool of shape (n_samples,), default=None
            Which outcomes are observed; None is where y is not NaN, all without y.
        base_weight : array-like of shape (n_samples,), default=None
            Positive weights to stay near to, such as inverse propensities; None is equal ones.

        Returns
        -------
        self : object
            The fitted weights.
        """
        X = validate_data(self, X, dtype=_FLOATS)
        dtype, X = X.dtype, X.astype(np.float64)
        outcome, known = None, np.ones(len(X), dtype=bool)
        check_consistent_length(X, y)
        if y is not None:
            outcome, known = split_partial_targets(y)
        if observed is not None:
            known = check_mask(observed, len(X))
        if outcome is None and isinstance(self.selection, str) and self.selection == "adaptive":
            raise ValueError("selection='adaptive' requires y to be passed, but y is None")
        rows = np.flatnonzero(known)
        base = check_base_weight(base_weight, len(X))[rows]
        errors = None if outcome is None else outcome.reshape(len(X), -1)[rows, 0]
        rng = check_random_state(self.random_state)
        found = balance(X, rows, base, errors, balance_settings(self), rng)
        self.sample_weight_ = np.zeros(len(X))
        self.sample_weight_[rows] = len(rows) * found.p
        self.effective_sample_size_ = effective_size(found.p)
        self.gaps_, self.gamma_ = found.gaps, found.gamma
        self.centers_, self.function_coef_ = found.centers.astype(dtype), found.functions
        self.dual_coef_ = found.dual
        self._n_features_out = found.functions.shape[1]
        return self

    def estimate_mean(self, y):
        """Estimate the mean outcome of all rows.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            Outcomes of the rows of `fit`; those of rows that were not observed do not matter.

        Returns
        -------
        mean : float
            Weighted mean of the observed ones.
        """
        check_is_fitted(self)
        y = check_array(y, ensure_2d=False, ensure_all_finite="allow-nan", input_name="y")
        if y.shape != self.sample_weight_.shape:
            raise ValueError(f"y must have shape {self.sample_weight_.shape}, got {y.shape}")
        rows = self.sample_weight_ > 0
        return float(np.average(y[rows], weights=self.sample_weight_[rows]))

    def transform(self, X):
        """Compute the balanced functions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        H : ndarray of shape (n_samples, n_balanced)
            Functions.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=_FLOATS)
        values = kernel_values(
            X.astype(np.float64), self.centers_.astype(np.float64), self.kernel, self.gamma_
        )
        return (values @ self.function_coef_).astype(X.dtype)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def balance_settings(estimator):
    """The parameters of :func:`balance`."""
    return {name: getattr(estimator, name) for name in BALANCE_CONSTRAINTS}


def effective_size(weights):
    """Number of equal weights that have the same variance of the mean."""
    return float(weights.sum() ** 2 / (weights @ weights))


def check_mask(observed, n_samples):
    """Validate which rows are observed."""
    observed = column_or_1d(observed).astype(bool)
    if len(observed) != n_samples or not observed.any():
        raise ValueError(
            f"observed must hold {n_samples} truth values, one of them true at least; got "
            f"{len(observed)} with {observed.sum()} true"
        )
    return observed


def check_base_weight(base_weight, n_samples):
    """Validate weights to stay near to."""
    if base_weight is None:
        return np.ones(n_samples)
    base = column_or_1d(base_weight).astype(np.float64)
    if len(base) != n_samples or not np.all((base > 0) & (base < np.inf)):
        raise ValueError(f"base_weight must hold {n_samples} positive finite numbers")
    return base
