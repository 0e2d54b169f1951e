"""Chordal means and medians of flags: averages of nested subspaces that keep their order."""

import warnings
from abc import abstractmethod
from numbers import Integral, Real

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._array_api import get_namespace_and_device, supported_float_dtypes
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from skpapers.utils import check_same_namespace

from ._flag import align, check_flag_type, check_stack, chordal_distances
from ._flag_means import INNER, best_mean, reweighted_means, weighted_sum

__all__ = ["FlagMean", "FlagMedian"]

_SOLVERS = {"polar", "trust-region"}


class _FlagAverage(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What the mean and the median share."""

    _parameter_constraints = {
        "flag_type": ["array-like", None],
        "solver": [StrOptions(_SOLVERS)],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state", np.random.Generator],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Average flags, or the directions of the rows of a table.

        Parameters
        ----------
        X : array-like of shape (n_flags, n_features, n_columns) or (n_samples, n_features)
            Flags, or rows whose directions are averaged. A row of zeros has no direction and
            does not count.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_flags,) or (n_samples,), default=None
            Weights, of any sum; None is equal weights.

        Returns
        -------
        self : object
            The fitted average.

        Raises
        ------
        ValueError
            If the columns of a flag are not orthonormal, no weight is positive, or all rows are
            zero.
        """
        flags, has_direction, _ = self._flags(X, reset=True)
        xp, _, _ = get_namespace_and_device(flags)
        weights = _check_sample_weight(
            sample_weight, flags, dtype=xp.float64, ensure_non_negative=True
        )
        weights = _positive_total(weights * has_direction)
        dimensions = check_flag_type(self.flag_type, flags.shape[2])
        self._average(flags, weights, dimensions)
        self.flag_type_ = dimensions
        self.components_ = self.mean_.T
        self.distances_ = chordal_distances(flags, self.mean_, dimensions)
        self.objective_ = float(xp.sum(weights * self.distances_**self._power))
        self._n_features_out = flags.shape[2]
        return self

    @abstractmethod
    def _average(self, flags, weights, dimensions):
        """Set `mean_` and what tells how it was found."""

    def _flags(self, X, reset):
        """X as a float64 stack, which of its members count, and the type of floats of X."""
        xp, _, device = get_namespace_and_device(X)
        dtypes = supported_float_dtypes(xp, device)
        X = validate_data(self, X, reset=reset, dtype=dtypes, allow_nd=True)
        wide, dtype = xp.astype(X, xp.float64), X.dtype
        if X.ndim == 2:
            return *row_flags(wide), dtype
        check_stack(wide, "X")
        return wide, xp.ones_like(wide[:, 0, 0]), dtype

    def transform(self, X):
        """Project rows on the average, or measure how far flags are from it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_flags, n_features, n_columns)
            Rows, which are not normalised here, or flags.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_columns) or (n_flags, 1)
            Coordinates of the rows along the columns of the average, or chordal distances.
        """
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="mean_", method="transform")
        xp, _, device = get_namespace_and_device(X)
        if getattr(X, "ndim", None) == 3:
            flags, _, dtype = self._flags(X, reset=False)
            distances = chordal_distances(flags, self.mean_, self.flag_type_)
            return xp.astype(distances[:, None], dtype)
        dtypes = supported_float_dtypes(xp, device)
        X = validate_data(self, X, reset=False, dtype=dtypes)
        return X @ xp.astype(self.mean_, X.dtype)

    def score(self, X, y=None, sample_weight=None):
        """Give minus the mean of what the average minimises.

        Parameters
        ----------
        X : array-like of shape (n_flags, n_features, n_columns) or (n_samples, n_features)
            Flags or rows, as for `fit`.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_flags,) or (n_samples,), default=None
            Weights, of any sum; None is equal weights.

        Returns
        -------
        score : float
            Minus the weighted mean of squared distances, for a median of distances.
        """
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="mean_", method="score")
        flags, has_direction, _ = self._flags(X, reset=False)
        xp, _, _ = get_namespace_and_device(flags)
        weights = _check_sample_weight(
            sample_weight, flags, dtype=xp.float64, ensure_non_negative=True
        )
        weights = _positive_total(weights * has_direction)
        distances = chordal_distances(flags, self.mean_, self.flag_type_)
        return -float(xp.sum(weights * distances**self._power) / xp.sum(weights))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class FlagMean(_FlagAverage):
    """Chordal mean of flags, which are nested subspaces.

    Bases that principal components, or any ordered directions, give are flags: a line in a plane
    in a space. Their mean respects that order, which a mean of subspaces forgets, and does not
    depend on signs and rotations within a block, as a mean of matrices does.

    Rows of a table are taken as axes, directions without a sign: their mean is the leading axis
    of the normalised rows.

    Parameters
    ----------
    flag_type : array-like of int of shape (n_blocks,), default=None
        Dimensions of the nested subspaces, increasing, up to the number of columns: [1, 3] is a
        line in a space of dimension 3. None is all dimensions; a single number is a mean of
        subspaces.
    solver : {"polar", "trust-region"}, default="polar"
        Polar factors, each of which improves the objective, or Newton steps, which are fewer
        where flags differ much.
    max_iter : int, default=2000
        Largest number of steps.
    tol : float, default=1e-12
        Relative change of the objective at which to stop.
    n_init : int, default=1
        Number of starts: the flag of largest weight, and random ones.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the random starts.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features, n_columns)
        The mean; of the bases of each block, the one nearest to the arithmetic mean of the data.
    components_ : ndarray of shape (n_columns, n_features)
        Its transpose.
    flag_type_ : tuple of int
        Dimensions of the nested subspaces.
    objective_ : float
        Weighted sum of squared distances.
    distances_ : ndarray of shape (n_flags,) or (n_samples,)
        Chordal distances of the data to the mean.
    n_iter_ : int
        Number of steps of the best start.
    n_features_in_ : int
        Dimension of the space.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had string column names.

    Warns
    -----
    ConvergenceWarning
        If the best start did not reach `tol` within `max_iter` steps.

    Notes
    -----
    With p flags of k columns in n dimensions a step is O(n p k m) for blocks of m columns, or
    O(n^2 k) where p m is larger than n; matrices of n rows and columns are formed in that case
    only. The paper minimises by Riemannian trust regions from the arithmetic mean; the optimum
    is the same, and with a single block the start is the optimum.

    References
    ----------
    N. Mankovich, T. Birdal, "Chordal Averaging on Flag Manifolds and Its Applications", ICCV
    2023, arXiv:2303.13501 (Section 4).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.manifold import FlagMean
    >>> X = np.array([[1.0, 0.1], [-1.0, 0.1], [2.0, 0.0]])
    >>> np.abs(FlagMean().fit(X).components_).round(3)
    array([[1., 0.]])
    """

    _search_space = {"solver": ["polar", "trust-region"], "n_init": [1, 3]}
    _power = 2

    def __init__(
        self,
        flag_type=None,
        *,
        solver="polar",
        max_iter=2000,
        tol=1e-12,
        n_init=1,
        random_state=None,
    ):
        self.flag_type = flag_type
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.n_init = n_init
        self.random_state = random_state

    def _average(self, flags, weights, dimensions):
        settings = {"solver": self.solver, "max_iter": self.max_iter, "tol": self.tol}
        mean, self.n_iter_, converged = best_mean(
            flags, weights, dimensions, self.n_init, self.random_state, **settings
        )
        if not converged:
            _warn(self, "the objective still grows by more than tol")
        self.mean_ = align(mean, weighted_sum(flags, weights), dimensions)


class FlagMedian(_FlagAverage):
    """Chordal median of flags, which outliers hardly move.

    Minimises the sum of chordal distances, where :class:`FlagMean` minimises that of squares, by
    means with weights that fall with the distance.

    Parameters
    ----------
    flag_type : array-like of int of shape (n_blocks,), default=None
        Dimensions of the nested subspaces, as for :class:`FlagMean`.
    solver : {"polar", "trust-region"}, default="polar"
        How each mean is found.
    max_iter : int, default=100
        Largest number of weighted means.
    tol : float, default=1e-6
        Chordal distance between one mean and the next at which to stop.
    eps : float, default=1e-6
        Distances below it count as `eps` in the weights; a large value is biased to the mean.
    n_init : int, default=1
        Number of starts of the first mean.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the random starts.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features, n_columns)
        The median; of the bases of each block, the one nearest to the weighted arithmetic mean
        of the data.
    components_ : ndarray of shape (n_columns, n_features)
        Its transpose.
    flag_type_ : tuple of int
        Dimensions of the nested subspaces.
    weights_ : ndarray of shape (n_flags,) or (n_samples,)
        Weights of the data in the last mean, of sum 1: small for outliers.
    costs_ : list of float
        Weighted sums of distances, from that of the mean on. They do not increase.
    objective_ : float
        The last of them.
    distances_ : ndarray of shape (n_flags,) or (n_samples,)
        Chordal distances of the data to the median.
    n_iter_ : int
        Number of weighted means.
    n_features_in_ : int
        Dimension of the space.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had string column names.

    Warns
    -----
    ConvergenceWarning
        If the median still moves by more than `tol` after `max_iter` means.

    Notes
    -----
    `n_iter_` times the cost of :class:`FlagMean`, whose steps are few from a warm start. The sum
    of distances is not convex: the result is the minimum that is reached from the mean.

    References
    ----------
    N. Mankovich, T. Birdal, "Chordal Averaging on Flag Manifolds and Its Applications", ICCV
    2023, arXiv:2303.13501 (Section 4, Algorithm 2).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.manifold import FlagMedian
    >>> X = np.array([[1.0, 0.0], [-1.0, 0.1], [1.0, 0.1], [0.0, 1.0]])
    >>> FlagMedian().fit(X).distances_.round(1)
    array([0. , 0.1, 0.1, 1. ])
    """

    _parameter_constraints = {
        **_FlagAverage._parameter_constraints,
        "eps": [Interval(Real, 0, None, closed="neither")],
    }
    _search_space = {"eps": [1e-6, 1e-3, 1e-1], "solver": ["polar", "trust-region"]}
    _power = 1

    def __init__(
        self,
        flag_type=None,
        *,
        solver="polar",
        max_iter=100,
        tol=1e-6,
        eps=1e-6,
        n_init=1,
        random_state=None,
    ):
        self.flag_type = flag_type
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.eps = eps
        self.n_init = n_init
        self.random_state = random_state

    def _average(self, flags, weights, dimensions):
        median, _, _ = best_mean(
            flags, weights, dimensions, self.n_init, self.random_state, self.solver, **INNER
        )
        median, self.weights_, costs, converged = reweighted_means(
            flags, weights, dimensions, median, self.solver, self.max_iter, self.tol, self.eps
        )
        if not converged:
            _warn(self, "the median still moves by more than tol")
        self.costs_, self.n_iter_ = costs, len(costs) - 1
        self.mean_ = align(median, weighted_sum(flags, self.weights_), dimensions)


def _positive_total(weights):
    xp, _, _ = get_namespace_and_device(weights)
    if not float(xp.max(weights)) > 0:
        raise ValueError("No flag with a positive weight: rows of zeros have none")
    return weights


def _warn(estimator, what):
    name = type(estimator).__name__
    message = f"{name}: {what} after max_iter={estimator.max_iter} steps: raise max_iter or tol"
    warnings.warn(message, ConvergenceWarning, stacklevel=4)


def row_flags(X):
    """Normalised rows as flags of one column, and 1 for the rows that are not zero."""
    xp, _, _ = get_namespace_and_device(X)
    largest = xp.max(xp.abs(X), axis=1, keepdims=True)
    X = X / xp.where(largest > 0, largest, xp.ones_like(largest))  # squares neither overflow
    norms = xp.sqrt(xp.sum(X**2, axis=1, keepdims=True))  # nor vanish
    X = X / xp.where(norms > 0, norms, xp.ones_like(norms))
    return X[:, :, None], xp.astype(largest[:, 0] > 0, X.dtype)
