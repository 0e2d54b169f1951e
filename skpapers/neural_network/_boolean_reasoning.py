"""Regression and classification by the simplest function of bits that fits the data."""

from math import comb
from numbers import Integral, Real

import numpy as np
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import weighted_rows

from ._boolean_kernel import (
    bit_thresholds,
    count_terms,
    graded_interpolation,
    hamming_distances,
    kernel_table,
    list_sets,
    merge_rows,
    monomials,
    primal_ridge,
    row_chunks,
    solve_positive,
)

__all__ = ["BooleanFourierClassifier", "BooleanFourierRegressor"]


class _BooleanFourier(BaseEstimator):
    """What the regressor and the classifier share: bits, the fit, and the spectrum of it."""

    _parameter_constraints = {
        "max_degree": [Interval(Integral, 0, None, closed="left"), None],
        "decay": [Interval(Real, 0, 1, closed="neither"), StrOptions({"min_degree"})],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "n_thresholds": [Interval(Integral, 1, None, closed="left")],
        "max_terms": [Interval(Integral, 1, None, closed="left")],
        "top_k_coef": [Interval(Integral, 1, None, closed="left")],
    }
    _search_space = {
        "max_degree": [1, 2, 3],
        "decay": [0.02, 0.05, 0.2],
        "alpha": loguniform(1e-4, 10),
    }

    def _fit_rows(self, X, targets, weight):
        """Encode X and fit the columns of `targets`; rows of the same bits become one."""
        self.thresholds_ = [bit_thresholds(x, weight, self.n_thresholds) for x in X.T]
        self.bit_features_ = np.repeat(np.arange(X.shape[1]), [len(t) for t in self.thresholds_])
        bits, targets, weight = merge_rows(self._bits(X), targets, weight)
        n_bits = bits.shape[1]
        self.max_degree_ = self._degree(n_bits)
        n_terms = count_terms(n_bits, self.max_degree_)
        self._rows = self.dual_coef_ = self._coef = self._mean = None
        if self.decay == "min_degree":
            self._require_terms(n_terms, ValueError)
            self._coef = graded_interpolation(bits, targets, weight, self.max_degree_)
            return self
        self._mean = np.average(targets, axis=0, weights=weight)
        centred = targets - self._mean
        if n_terms <= min(len(bits), self.max_terms):
            args = (bits, centred, weight, self.max_degree_, self.decay, self.alpha)
            self._coef = primal_ridge(*args)
            self._coef[0] += self._mean
            return self
        table = kernel_table(n_bits, self.max_degree_, self.decay)
        gram = table[hamming_distances(bits, bits)]
        gram[np.diag_indices_from(gram)] += self.alpha / weight
        self._rows, self.dual_coef_ = bits, solve_positive(gram, centred)
        return self

    def _degree(self, n_bits):
        if self.max_degree is not None:
            return min(self.max_degree, n_bits)
        degree = min(1, n_bits)
        while degree < n_bits and count_terms(n_bits, degree + 1) <= self.max_terms:
            degree += 1
        return degree

    def _require_terms(self, n_terms, error):
        if n_terms > self.max_terms:
            raise error(
                f"{n_terms} terms up to max_degree={self.max_degree_} are more than "
                f"max_terms={self.max_terms}: lower max_degree, raise max_terms"
                + (", or take decay=0.05" if self.decay == "min_degree" else "")
            )

    def _bits(self, X):
        """Rows of -1 and 1, in float32, whose products of matrices are exact."""
        cuts = np.concatenate(self.thresholds_)
        return np.where(X[:, self.bit_features_] > cuts, np.float32(1), np.float32(-1))

    def _evaluate(self, X):
        """The fitted function, shape (n_samples, n_targets), in the data type of X."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        values = self._expand(self._bits(X)) if self._rows is None else self._kernel_sum(X)
        return values.astype(X.dtype, copy=False)

    def _kernel_sum(self, X):
        table = kernel_table(self._rows.shape[1], self.max_degree_, self.decay)
        pieces = [
            table[hamming_distances(bits, self._rows)] @ self.dual_coef_
            for bits in row_chunks(self._bits(X), len(self._rows))
        ]
        return np.concatenate(pieces) + self._mean

    def _expand(self, bits):
        sets = list_sets(bits.shape[1], self.max_degree_)
        pieces = [
            np.hstack([monomials(chunk, s) for s in sets]) @ self._coef
            for chunk in row_chunks(bits, len(self._coef))
        ]
        return np.concatenate(pieces)

    def _all_coef(self):
        """Fourier coefficients of the fit, by degree, one column a target."""
        check_is_fitted(self)
        if self._coef is None:
            n_bits = self._rows.shape[1]
            self._require_terms(count_terms(n_bits, self.max_degree_), AttributeError)
            coef = [
                self.decay**degree * (monomials(self._rows, sets).T @ self.dual_coef_)
                for degree, sets in enumerate(list_sets(n_bits, self.max_degree_))
            ]
            coef[0] = coef[0] + self._mean
            return np.concatenate(coef)
        return self._coef

    def _largest(self, coef):
        return np.argsort(-np.abs(coef).max(axis=1), kind="stable")[: self.top_k_coef]

    @property
    def coef_(self):
        """The largest Fourier coefficients."""
        coef = self._all_coef()
        return _one_or_all(coef[self._largest(coef)])

    @property
    def terms_(self):
        """The sets of bits they belong to."""
        order = self._largest(self._all_coef())
        sets = list_sets(len(self.bit_features_), self.max_degree_)
        terms = [tuple(term) for of_degree in sets for term in of_degree.tolist()]
        return [terms[i] for i in order]

    @property
    def degree_profile_(self):
        """Sum of the squared coefficients of each degree."""
        sizes = [comb(len(self.bit_features_), k) for k in range(self.max_degree_ + 1)]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        return _one_or_all(np.add.reduceat(self._all_coef() ** 2, starts, axis=0))

    @property
    def influence_(self):
        """Influence of each bit on the fitted function."""
        squares, start = self._all_coef() ** 2, 0
        influence = np.zeros((len(self.bit_features_), squares.shape[1]))
        for sets in list_sets(len(self.bit_features_), self.max_degree_):
            part = squares[start : start + len(sets)]
            start += len(sets)
            for member in sets.T:
                np.add.at(influence, member, part)
        return _one_or_all(influence)


class BooleanFourierRegressor(RegressorMixin, _BooleanFourier):
    """Regression by the function of bits that fits with interactions of the fewest features.

    Networks trained by gradient descent on binary features tend to the function of lowest degree
    that fits: given rows in which a feature never changes, they ignore it. This estimator makes
    that bias exact. It is a sum of products of features, in which a product of k features costs
    ``decay**-k`` times its squared coefficient, and it predicts for combinations of features
    that were not in the data.

    Parameters
    ----------
    max_degree : int, default=None
        Largest number of bits in a product; None for the largest that has no more than
        `max_terms` products (and at least 1).
    decay : float or "min_degree", default=0.05
        How much a further factor costs, in (0, 1): small values prefer few factors strictly.
        "min_degree" is the limit at zero, computed exactly: of all functions that fit best it
        has the least weight on the highest degree, then on the next, and so on.
    alpha : float, default=1e-8
        Ridge penalty; not used by "min_degree".
    n_thresholds : int, default=5
        Number of bits of a column that is not binary.
    max_terms : int, default=20000
        Largest number of products that are listed.
    top_k_coef : int, default=1000
        Number of coefficients kept in ``coef_``.

    Attributes
    ----------
    coef_ : ndarray of shape (n_terms,)
        The `top_k_coef` Fourier coefficients largest in absolute value, in decreasing order.
    terms_ : list of tuple of int
        The bits that are multiplied, for each of them.
    degree_profile_ : ndarray of shape (max_degree_ + 1,)
        Sum of the squared coefficients of each degree.
    influence_ : ndarray of shape (n_bits,)
        Influence of each bit on the fitted function.
    dual_coef_ : ndarray of shape (n_rows, 1) or None
        Coefficients of the kernel of each distinct row of bits; None where the coefficients are
        solved for directly, with "min_degree" and where there are no more products than rows.
    max_degree_ : int
        Largest number of bits in a product.
    thresholds_ : list of ndarray
        For each column the values above which its bits are +1.
    bit_features_ : ndarray of shape (n_bits,)
        The column each bit comes from.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    A column whose training values are all in {-1, 1} or all in {0, 1} is a bit, also when it is
    constant; of two other values the lower is -1. Any other column becomes bits ``x > q`` at
    `n_thresholds` of its quantiles; a constant one is -1.

    The kernel of the products is a function of the Hamming distance. The fit takes
    ``O(n_rows**2 * n_bits + n_rows**3)`` operations and ``O(n_rows**2)`` memory, where rows of
    the same bits count once, whatever the number of products; with fewer products than rows, one
    ridge regression on them. "min_degree" takes ``O(n_rows**2 * n_terms)``.

    The first four Fourier attributes list all products when they are read, and raise
    ``AttributeError`` if these are more than `max_terms`. The mean of the target is not penalised.

    The defaults interpolate. On noise, or on a product of more bits than the data can decide, the
    error can then exceed the variance of the target: raise `alpha` or lower `max_degree`.

    That networks behave like this is a theorem for deep linear networks with small initial
    weights. A shallow linear model trained from zero shares what the constant and the frozen bit
    k explain evenly between them, so that half its squared error is ``(c_k - c_0)**2 / 4``, not
    the influence ``c_k**2``. Perceptrons come near the influence on small tasks, with errors
    mostly below it; single runs are off by up to 0.3 for targets of -1 and 1.

    References
    ----------
    .. [1] E. Abbe, S. Bengio, E. Cornacchia, J. Kleinberg, A. Lotfi, M. Raghu, C. Zhang,
       "Learning to Reason with Neural Networks: Generalization, Unseen Data and Boolean
       Measures", NeurIPS 2022, arXiv:2205.13647, section 4 and theorem 2.

    Examples
    --------
    A feature that never changes is left out of the fitted function:

    >>> import numpy as np
    >>> from skpapers.neural_network import BooleanFourierRegressor
    >>> X = np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [1, -1, -1]])
    >>> y = X[:, 0] * X[:, 1] + 2 * X[:, 2]
    >>> model = BooleanFourierRegressor(decay="min_degree").fit(X, y)
    >>> model.terms_[:2], model.coef_[:2].round(6)
    ([(2,), (1,)], array([2., 1.]))
    """

    def __init__(
        self,
        max_degree=None,
        *,
        decay=0.05,
        alpha=1e-8,
        n_thresholds=5,
        max_terms=20000,
        top_k_coef=1000,
    ):
        self.max_degree = max_degree
        self.decay = decay
        self.alpha = alpha
        self.n_thresholds = n_thresholds
        self.max_terms = max_terms
        self.top_k_coef = top_k_coef

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Target.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], y_numeric=True)
        keep, weight = weighted_rows(sample_weight, X)
        X, y = X[keep], y[keep]
        return self._fit_rows(X, y.astype(np.float64)[:, None], weight)

    def predict(self, X):
        """Predict the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predictions.
        """
        return self._evaluate(X)[:, 0]


class BooleanFourierClassifier(ClassifierMixin, _BooleanFourier):
    """Classification by the function of bits that fits with interactions of the fewest features.

    A function as that of :class:`BooleanFourierRegressor` is fitted to targets -1 and 1, one a
    class if there are more than two.

    Parameters
    ----------
    max_degree : int, default=None
        Largest number of bits in a product; None for the largest that has no more than
        `max_terms` products (and at least 1).
    decay : float or "min_degree", default=0.05
        How much a further factor costs, in (0, 1): small values prefer few factors strictly.
        "min_degree" is the limit at zero, computed exactly.
    alpha : float, default=0.1
        Ridge penalty; not used by "min_degree".
    n_thresholds : int, default=5
        Number of bits of a column that is not binary.
    max_terms : int, default=20000
        Largest number of products that are listed.
    top_k_coef : int, default=1000
        Number of coefficients kept in ``coef_``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    coef_ : ndarray of shape (n_terms,) or (n_classes, n_terms)
        The `top_k_coef` Fourier coefficients largest in absolute value, in decreasing order.
    terms_ : list of tuple of int
        The bits that are multiplied, for each of them.
    degree_profile_ : ndarray of shape (max_degree_ + 1,) or (n_classes, max_degree_ + 1)
        Sum of the squared coefficients of each degree.
    influence_ : ndarray of shape (n_bits,) or (n_classes, n_bits)
        Influence of each bit on the fitted function.
    dual_coef_ : ndarray of shape (n_rows, n_targets) or None
        Coefficients of the kernel of each distinct row of bits; None where the coefficients are
        solved for directly, with "min_degree" and where there are no more products than rows.
    max_degree_ : int
        Largest number of bits in a product.
    thresholds_ : list of ndarray
        For each column the values above which its bits are +1.
    bit_features_ : ndarray of shape (n_bits,)
        The column each bit comes from.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    Bits, cost and attributes are those of :class:`BooleanFourierRegressor`. Probabilities are
    the fitted function moved from [-1, 1] to [0, 1]; they are not calibrated.

    References
    ----------
    .. [1] E. Abbe, S. Bengio, E. Cornacchia, J. Kleinberg, A. Lotfi, M. Raghu, C. Zhang,
       "Learning to Reason with Neural Networks: Generalization, Unseen Data and Boolean
       Measures", NeurIPS 2022, arXiv:2205.13647, section 4 and theorem 2.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skpapers.neural_network import BooleanFourierClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> bool(BooleanFourierClassifier().fit(X, y).score(X, y) > 0.9)
    True
    """

    def __init__(
        self,
        max_degree=None,
        *,
        decay=0.05,
        alpha=0.1,
        n_thresholds=5,
        max_terms=20000,
        top_k_coef=1000,
    ):
        self.max_degree = max_degree
        self.decay = decay
        self.alpha = alpha
        self.n_thresholds = n_thresholds
        self.max_terms = max_terms
        self.top_k_coef = top_k_coef

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If there are fewer than two classes.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        keep, weight = weighted_rows(sample_weight, X)
        X, y = X[keep], y[keep]
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError(f"y needs at least two classes, got one class: {self.classes_[0]!r}")
        wanted = self.classes_[1:] if len(self.classes_) == 2 else self.classes_
        return self._fit_rows(X, np.where(y[:, None] == wanted, 1.0, -1.0), weight)

    def decision_function(self, X):
        """Compute the fitted function, which is near 1 for the class and near -1 for others.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Values; with two classes, those of the second.
        """
        values = self._evaluate(X)
        return values[:, 0] if len(self.classes_) == 2 else values

    def predict_proba(self, X):
        """Compute class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, in the order of ``classes_``.
        """
        values = self._evaluate(X)
        if len(self.classes_) == 2:
            second = (1 + np.clip(values, -1, 1)) / 2
            return np.hstack([1 - second, second])
        # The functions of K classes sum to 2 - K, so that the largest is above -1.
        shares = np.maximum(1 + values, 0)
        return shares / shares.sum(axis=1, keepdims=True)

    def predict(self, X):
        """Predict class labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,)
            The class of the largest value.
        """
        values = self.decision_function(X)
        index = (values > 0).astype(np.intp) if values.ndim == 1 else values.argmax(axis=1)
        return self.classes_[index]


def _one_or_all(columns):
    return columns[:, 0] if columns.shape[1] == 1 else columns.T
