"""Kernel balancing: learning from ratings that are not a random sample of all."""

from numbers import Integral, Real

import numpy as np
from scipy.special import expit
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    RegressorMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.preprocessing import StandardScaler, minmax_scale
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_random_state, split_partial_targets

from ._balanced_functions import balance, kernel_values
from ._balancing_solvers import factorized_weights, pair_logits
from ._weighted_factors import fit_factors, fit_linear, losses

__all__ = ["KernelBalancedRecommender", "KernelBalancingWeights"]

_FLOATS = (np.float64, np.float32)
_COUNT = [Interval(Integral, 1, None, closed="left")]
_BALANCE_CONSTRAINTS = {
    "kernel": [StrOptions({"gaussian", "exponential"}), callable],
    "gamma_kernel": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
    "selection": [StrOptions({"random", "worst", "adaptive"}), "array-like"],
    "n_functions": _COUNT,
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

    _parameter_constraints = _BALANCE_CONSTRAINTS

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


class KernelBalancedRecommender(RegressorMixin, BaseEstimator):
    """Predict ratings from observed ones that are not a random sample of all.

    People rate what they like, and see what is recommended. Ratings are weighted so that the
    observed pairs of users and items look like all pairs, for functions of a kernel space, and a
    predictor is fitted with these weights, or with the doubly robust correction of imputed
    ratings.

    Parameters
    ----------
    n_components : int, default=4
        Length of the factors of users and items.
    selection : {"random", "worst", "adaptive"} or array-like of shape (n_centers, n_features), \
            default="adaptive"
        Functions to balance, see :class:`KernelBalancingWeights`; "adaptive" are those that the
        losses of the present predictor are made of.
    estimator : {"ips", "dr"}, default="ips"
        "ips": weighted losses of the observed pairs. "dr": losses of all pairs, towards imputed
        ratings that the weighted residuals correct.
    kernel : {"gaussian", "exponential"} or callable, default="gaussian"
        Kernel of the features of pairs.
    gamma_kernel : "auto" or float, default="auto"
        Width; "auto" is 1 over the total variance of the features of pairs, of which
        "exponential" takes the root.
    n_functions : int, default=200
        Number of functions, at most that of the pairs.
    balance_tol : float, default=1e-3
        Difference of means that is allowed.
    balance_strength : float, default=50.0
        Cost of more, against the entropy of the weights.
    biases : bool, default=True
        Whether ratings have a constant, and biases of users and items, besides the products of
        factors.
    loss : {"squared", "logistic"}, default="squared"
        "logistic" is for ratings in [0, 1], such as clicks, and predicts probabilities.
    reg : float, default=1.0
        Ridge on factors and biases, or coefficients, against the sum of losses.
    solver : {"dual", "sgd"}, default="dual"
        "dual" is exact. "sgd" is the official one: weights are a sigmoid matrix factorisation,
        trained by Adam on batches; for users and items only.
    input : {"auto", "pairs", "matrix", "features"}, default="auto"
        What X is: pairs of ids; ratings of users (rows) for items, NaN where missing; or features
        of pairs. "auto" is "matrix" without y, "pairs" for two columns of integers, else
        "features".
    max_iter : int, default=500
        Largest number of iterations of each fit of the predictor.
    max_epochs : int, default=200
        Number of passes over the observed pairs for ``solver="sgd"``.
    lr : float, default=1e-2
        Its step size.
    batch_size : int, default=128
        Its number of observed pairs a batch.
    n_rounds : int, default=5
        Number of times that weights and predictor are fitted in turn for "adaptive"; 1 else.
    random_state : int, RandomState instance or None, default=None
        Draws centres, batches and initial factors.

    Attributes
    ----------
    user_factors_ : ndarray of shape (n_users, n_components + 1)
        Factors, and the bias (or 0) in the last column; not for "features".
    item_factors_ : ndarray of shape (n_items, n_components + 1)
        The same for items.
    users_ : ndarray of shape (n_users,)
        Ids.
    items_ : ndarray of shape (n_items,)
        Ids.
    coef_ : ndarray of shape (n_features,)
        Coefficients of the standardised features; for "features" only.
    intercept_ : float
        The constant.
    sample_weight_ : ndarray of shape (n_observed,)
        Weights of the observed pairs, in the order of X, which sum to their number.
    effective_sample_size_ : float
        Number of equally weighted pairs that would be as precise.
    balance_gap_ : float
        Largest difference of means of a balanced function; 0 if nothing is missing.
    centers_ : ndarray of shape (n_centers, n_pair_features)
        Centres of the kernel, none if nothing is missing.
    dual_coef_ : ndarray of shape (n_balanced,)
        Dual variables of the functions, for ``solver="dual"``; none if nothing is missing.
    n_iter_ : int
        Number of iterations of the last fit of the predictor.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Raises
    ------
    ValueError
        If y is missing for pairs, or outside [0, 1] for the logistic loss, or a pair is repeated.

    Notes
    -----
    With "features" and nothing missing, all weights are 1, and this is ridge or logistic
    regression on standardised features. Pairs of users and items are described by the features
    given to `fit`, each scaled to [0, 1] and divided by their number, or by the factors of a
    first fit without weights.

    All pairs are held in memory, and compared with n_functions centres in blocks. Weights repair
    a predictor that is too simple for the data and is fitted to what is observed most: by some
    tenth of the squared error for factors of length 2 of ratings of rank 3, and less without
    `biases`. A predictor that is right needs none. A selection by the rating itself, given the
    features, cannot be balanced. The gains on the paper's data sets are a few percent; these are
    not shown here.

    References
    ----------
    .. [1] H. Li, Y. Xiao, C. Zheng, P. Wu, Z. Chen, Z. Geng, P. Cui, "Debiased Collaborative
       Filtering with Kernel-Based Causal Balancing", ICLR 2024, arXiv:2404.19596.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.ranking import KernelBalancedRecommender
    >>> rng = np.random.default_rng(0)
    >>> taste = rng.normal(size=(30, 1)) * rng.normal(size=(1, 20))
    >>> ratings = np.where(rng.random((30, 20)) < 0.2 + 0.5 * (taste > 0), taste, np.nan)
    >>> recommender = KernelBalancedRecommender(1, n_functions=20, random_state=0)
    >>> recommender.fit(ratings).predict([[0, 0], [3, 7]]).shape
    (2,)
    >>> recommender.recommend([0, 1], 3).shape
    (2, 3)
    """

    _parameter_constraints = {
        **_BALANCE_CONSTRAINTS,
        "n_components": _COUNT,
        "estimator": [StrOptions({"ips", "dr"})],
        "biases": ["boolean"],
        "loss": [StrOptions({"squared", "logistic"})],
        "reg": [Interval(Real, 0, None, closed="neither")],
        "solver": [StrOptions({"dual", "sgd"})],
        "input": [StrOptions({"auto", "pairs", "matrix", "features"})],
        "max_iter": _COUNT,
        "max_epochs": _COUNT,
        "lr": [Interval(Real, 0, None, closed="neither")],
        "batch_size": _COUNT,
        "n_rounds": _COUNT,
    }

    _search_space = {
        "n_components": [2, 4, 8],
        "estimator": ["ips", "dr"],
        "reg": [0.1, 1.0, 10.0],
        "n_functions": [50, 200],
    }

    def __init__(
        self,
        n_components=4,
        *,
        selection="adaptive",
        estimator="ips",
        kernel="gaussian",
        gamma_kernel="auto",
        n_functions=200,
        balance_tol=1e-3,
        balance_strength=50.0,
        biases=True,
        loss="squared",
        reg=1.0,
        solver="dual",
        input="auto",
        max_iter=500,
        max_epochs=200,
        lr=1e-2,
        batch_size=128,
        n_rounds=5,
        random_state=None,
    ):
        self.n_components = n_components
        self.selection = selection
        self.estimator = estimator
        self.kernel = kernel
        self.gamma_kernel = gamma_kernel
        self.n_functions = n_functions
        self.balance_tol = balance_tol
        self.balance_strength = balance_strength
        self.biases = biases
        self.loss = loss
        self.reg = reg
        self.solver = solver
        self.input = input
        self.max_iter = max_iter
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.n_rounds = n_rounds
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, user_features=None, item_features=None):
        """Fit weights and predictor.

        Parameters
        ----------
        X : array-like
            Pairs of ids, of shape (n_observed, 2); ratings, of shape (n_users, n_items); or
            features of pairs, of shape (n_pairs, n_features).
        y : array-like of shape (n_observed,) or (n_pairs,), default=None
            Ratings; with features, NaN where missing.
        user_features : array-like of shape (n_users, n_user_features), default=None
            Features of users, in the order of their sorted ids, or of the rows of ratings.
        item_features : array-like of shape (n_items, n_item_features), default=None
            The same for items.

        Returns
        -------
        self : object
            The fitted recommender.
        """
        rng = check_random_state(self.random_state)
        self._kind = input_kind(self.input, X, y)
        if self._kind == "features":
            all_pairs, observed, targets, fit_predictor = self._read_features(X, y)
        else:
            read = self._read_matrix if self._kind == "matrix" else self._read_pairs
            u, i, targets = read(X, y)
            all_pairs, observed, fit_predictor = self._grid(u, i, rng)
        if self.loss == "logistic" and (targets.min() < 0 or targets.max() > 1):
            raise ValueError("loss='logistic' needs y in [0, 1]")
        if self._kind != "features":
            all_pairs = self._describe(
                fit_predictor, observed, targets, (user_features, item_features)
            )
        self._alternate(all_pairs, observed, targets, fit_predictor, rng)
        return self

    def _read_features(self, X, y):
        if y is None:
            raise ValueError("input='features' requires y to be passed, but the target y is None")
        X = validate_data(self, X, dtype=_FLOATS)
        self._dtype = X.dtype
        targets, known = split_partial_targets(column_or_1d(y, warn=True))
        if len(targets) != len(X):
            raise ValueError(f"X has {len(X)} rows, but y has {len(targets)} values")
        self._scaler = StandardScaler().fit(X.astype(np.float64))
        Z = self._scaler.transform(X.astype(np.float64))

        def fit_predictor(rows, targets, weights):
            settings = {"loss": self.loss, "reg": self.reg, "max_iter": self.max_iter}
            found = fit_linear(Z[rows], targets, weights, **settings)
            self.coef_, self.intercept_, self.n_iter_ = found
            return Z @ self.coef_ + self.intercept_

        rows = np.flatnonzero(known)
        return Z, rows, targets[rows], fit_predictor

    def _read_matrix(self, X, y):
        if y is not None:
            raise ValueError("input='matrix' has its ratings in X: y must be None")
        X = validate_data(self, X, dtype=_FLOATS, ensure_all_finite="allow-nan")
        self._dtype = X.dtype
        self.users_, self.items_ = np.arange(X.shape[0]), np.arange(X.shape[1])
        u, i = np.nonzero(~np.isnan(X))
        if len(u) == 0:
            raise ValueError("X contains only NaN: at least one rating must be observed")
        return u, i, X[u, i].astype(np.float64)

    def _read_pairs(self, X, y):
        if y is None:
            raise ValueError("input='pairs' requires y to be passed, but the target y is None")
        X, y = validate_data(self, X, y, dtype=None, y_numeric=True)
        if X.shape[1] != 2:
            raise ValueError(f"Pairs have 2 columns, a user and an item; got {X.shape[1]}")
        self._dtype = np.float32 if y.dtype == np.float32 else np.float64
        self.users_, u = np.unique(X[:, 0], return_inverse=True)
        self.items_, i = np.unique(X[:, 1], return_inverse=True)
        if len(np.unique(u * len(self.items_) + i)) < len(u):
            raise ValueError("X has repeated pairs: average their ratings")
        return u, i, y.astype(np.float64)

    def _grid(self, u, i, rng):
        """All pairs of users and items, the observed ones, and how to fit factors to some."""
        shape = len(self.users_), len(self.items_)
        users, items = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
        self._seen = u, i
        seed = rng.randint(2**31 - 1)
        settings = {
            "n_components": self.n_components,
            "biases": self.biases,
            "loss": self.loss,
            "reg": self.reg,
            "max_iter": self.max_iter,
        }

        def fit_predictor(rows, targets, weights):
            found = fit_factors(
                users[rows],
                items[rows],
                targets,
                weights,
                shape,
                rng=np.random.RandomState(seed),
                **settings,
            )
            self.user_factors_, self.item_factors_, self.intercept_, self.n_iter_ = found
            return self.intercept_ + pair_logits(*found[:2], users, items)

        return (users, items), u * shape[1] + i, fit_predictor

    def _describe(self, fit_predictor, observed, targets, features):
        """Features of all pairs: those given, or factors of a fit without weights."""
        if any(given is None for given in features):
            fit_predictor(observed, targets, np.ones(len(observed)))
        parts = []
        for given, factors, side in zip(
            features, ("user_factors_", "item_factors_"), ("users", "items")
        ):
            n_rows = len(getattr(self, f"{side}_"))
            part = getattr(self, factors) if given is None else check_array(given)
            if len(part) != n_rows:
                raise ValueError(f"{len(part)} rows of features for {n_rows} {side}")
            parts.append(minmax_scale(part.astype(np.float64)))
        (n_users, n_items), d = map(len, parts), sum(part.shape[1] for part in parts)
        return np.hstack([np.repeat(parts[0], n_items, 0), np.tile(parts[1], (n_users, 1))]) / d

    def _alternate(self, all_pairs, observed, targets, fit_predictor, rng):
        equal = np.ones(len(observed))
        adaptive = isinstance(self.selection, str) and self.selection == "adaptive"
        missing = len(observed) < len(all_pairs)
        self._set_weights(equal, None)
        if adaptive or not missing:
            scores = fit_predictor(observed, targets, equal)
        for _ in range((self.n_rounds if adaptive else 1) if missing else 0):
            errors = losses(scores[observed], targets, self.loss)[0] if adaptive else None
            found = balance(all_pairs, observed, equal, errors, balance_settings(self), rng)
            if self.solver == "sgd":
                found.p = self._train_weights(found, rng)
                found.gaps = (found.targets - found.p @ found.on_observed) @ found.functions
            self._set_weights(len(observed) * found.p, found)
            scores = fit_predictor(observed, targets, self.sample_weight_)
            if self.estimator == "dr":
                imputed = scores if self.loss == "squared" else expit(scores)
                pseudo = imputed.copy()
                share = len(all_pairs) / len(observed)
                pseudo[observed] += share * self.sample_weight_ * (targets - imputed[observed])
                everything = np.arange(len(all_pairs))
                scores = fit_predictor(everything, pseudo, np.full(len(all_pairs), 1 / share))

    def _train_weights(self, found, rng):
        if self._kind == "features":
            raise ValueError("solver='sgd' needs pairs of users and items, not features")
        n, functions = len(self._seen[0]), found.on_observed @ found.functions
        size = min(self.batch_size, n)
        targets = found.targets @ found.functions

        def draw_batch():
            batch = rng.permutation(n)[:size]
            return batch, functions[batch], targets

        return factorized_weights(
            *self._seen,
            draw_batch,
            n_components=self.n_components,
            tol=self.balance_tol,
            strength=self.balance_strength,
            lr=self.lr,
            n_steps=self.max_epochs * -(-n // size),
            rng=rng,
        )

    def _set_weights(self, weights, found):
        self.sample_weight_ = weights
        self.effective_sample_size_ = effective_size(weights)
        self.balance_gap_ = 0.0 if found is None else float(np.abs(found.gaps).max(initial=0))
        self.centers_ = np.zeros((0, 0)) if found is None else found.centers
        self.dual_coef_ = np.zeros(0) if found is None else found.dual

    def predict(self, X):
        """Predict ratings.

        Parameters
        ----------
        X : array-like of shape (n_pairs, 2) or (n_pairs, n_features)
            Pairs of ids, of row and column of the matrix, or features. Ids that were not seen
            have neither factors nor biases.

        Returns
        -------
        ratings : ndarray of shape (n_pairs,)
            Ratings, or probabilities for the logistic loss.
        """
        check_is_fitted(self)
        if self._kind == "features":
            X = validate_data(self, X, reset=False, dtype=_FLOATS)
            dtype = X.dtype
            scores = self._scaler.transform(X.astype(np.float64)) @ self.coef_ + self.intercept_
        else:
            dtype, scores = self._dtype, self._score_pairs(X)
        return (scores if self.loss == "squared" else expit(scores)).astype(dtype)

    def _score_pairs(self, X):
        if self._kind == "pairs":
            X = validate_data(self, X, reset=False, dtype=None)
        else:
            X = check_array(X, dtype=None)
        if X.shape[1] != 2:
            raise ValueError(f"Pairs have 2 columns, a user and an item; got {X.shape[1]}")
        U, V = (np.vstack([f, np.zeros_like(f[:1])]) for f in self._factors())
        u, i = find_ids(X[:, 0], self.users_), find_ids(X[:, 1], self.items_)
        return self.intercept_ + pair_logits(U, V, u, i)

    def _factors(self):
        return self.user_factors_, self.item_factors_

    def recommend(self, users, n_items=10, *, exclude_observed=True):
        """Give the items with the highest predicted ratings.

        Parameters
        ----------
        users : array-like of shape (n_users,)
            Ids.
        n_items : int, default=10
            Number of items.
        exclude_observed : bool, default=True
            Whether items that the user has rated come last.

        Returns
        -------
        items : ndarray of shape (n_users, n_items)
            Ids, the best first.
        """
        check_is_fitted(self, "user_factors_")
        u = find_ids(column_or_1d(users), self.users_)
        U = np.vstack([self.user_factors_, np.zeros_like(self.user_factors_[:1])])[u]
        scores = U[:, :-1] @ self.item_factors_[:, :-1].T + self.item_factors_[:, -1]
        if exclude_observed:
            seen = np.zeros((len(self.users_) + 1, len(self.items_)), dtype=bool)
            seen[self._seen] = True
            scores = np.where(seen[u], scores - 2 * np.ptp(scores) - 1, scores)
        return self.items_[np.argsort(-scores, axis=1, kind="stable")[:, :n_items]]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        tags.input_tags.allow_nan = self.input == "matrix"
        return tags


def balance_settings(estimator):
    """The parameters of :func:`balance`."""
    return {name: getattr(estimator, name) for name in _BALANCE_CONSTRAINTS}


def effective_size(weights):
    """Number of equal weights that have the same variance of the mean."""
    return float(weights.sum() ** 2 / (weights @ weights))


def input_kind(given, X, y):
    """What X is."""
    if given != "auto":
        return given
    if y is None:
        return "matrix"
    table = np.asarray(X)
    return "pairs" if table.dtype.kind in "iu" and table.shape[1:] == (2,) else "features"


def find_ids(ids, known):
    """Places of ids among sorted known ones, the number of these for unknown ones."""
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[place] == ids, place, len(known))


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
