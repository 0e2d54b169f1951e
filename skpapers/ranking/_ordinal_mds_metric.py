"""Ordinal distance metric learning: distances that follow the order of labels, by one solve."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_random_state

from ._label_geometry import embed_levels, embed_rows, level_values
from ._metric_solvers import (
    choose_solver,
    level_neighbors,
    linear_map,
    local_weights,
    minimize_stress,
    ridge,
    sample_pairs,
)

__all__ = ["OrdinalMDSMetric", "OrdinalMDSRanker"]

_INPUT = {"dtype": (np.float64, np.float32), "accept_sparse": "csr"}
_METRIC_CONSTRAINTS = {
    "n_components": [Interval(Integral, 1, None, closed="left"), None],
    "power": [Interval(Real, 0, 1, closed="right")],
    "local_strength": [Interval(Real, 0, None, closed="left")],
    "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    "within_weight": [Interval(Real, 0, None, closed="left")],
    "alpha": [Interval(Real, 0, None, closed="neither")],
    "objective": [StrOptions({"linear", "distance"})],
    "solver": [StrOptions({"auto", "cholesky", "cg", "dual"})],
    "label_values": [StrOptions({"codes", "numeric"})],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left")],
    "random_state": ["random_state"],
}


class OrdinalMDSMetric(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Learn a linear map after which distances follow the order of the labels.

    Ages, grades, degrees of relevance: rows of near labels are to be near, and rows of far labels
    far. Classical multidimensional scaling of the labels gives each of them a point, and a linear
    map takes the rows to the points of their labels, while it keeps neighbours of the same label
    together.

    Parameters
    ----------
    n_components : int, default=None
        Largest dimension of the points; None is that of the labels' geometry, at most the number
        of features.
    power : float, default=1.0
        Labels with the gap g are to be at the distance ``g**power``, in (0, 1]. 1 puts them on a
        line; 0.5 spreads them over as many dimensions as there are gaps.
    local_strength : float, default=0.1
        Weight of the mean squared distance between neighbours of the same label.
    n_neighbors : int, default=5
        Number of neighbours of each row that stay together; fewer where a label has fewer rows.
        Of more than 3000 rows, evenly spaced ones of each label stand for all.
    within_weight : float, default=0.0
        Largest squared distance between rows of the same label in the geometry to learn, which
        is otherwise that of labels alone. Positive values need all pairs, of at most 3000 rows.
    alpha : float, default=1e-2
        Ridge, relative to the mean variance of the columns that vary.
    objective : {"linear", "distance"}, default="linear"
        "linear": squared errors of the mapped rows from their points, one linear system.
        "distance": then squared errors of distances (stress), step by step.
    solver : {"auto", "cholesky", "cg", "dual"}, default="auto"
        Of the linear system: forms a matrix of the size of the features, none, or one of the size
        of the rows. "auto" is "dual" for more features than rows, "cg" for sparse X or more than
        2000 features, else "cholesky".
    label_values : {"codes", "numeric"}, default="codes"
        Whether labels are 0, 1, 2, ... in sorted order, or the numbers that they are.
    max_iter : int, default=50
        Largest number of steps for ``objective="distance"``.
    tol : float, default=1e-5
        Relative decrease of the stress that ends them.
    random_state : int, RandomState instance or None, default=None
        Draws the pairs for ``objective="distance"``, where there are more than 2 million.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        The map.
    mean_ : ndarray of shape (n_features,)
        Mean of the rows.
    metric_ : ndarray of shape (n_features, n_features)
        The matrix of the squared distance, ``components_.T @ components_``.
    levels_ : ndarray of shape (n_levels,)
        Labels in order.
    level_embedding_ : ndarray of shape (n_levels, n_components)
        Points of the labels; with `within_weight`, means of those of their rows.
    stress_curve_ : list of float
        Stress before the first step and after each, for ``objective="distance"``.
    n_iter_ : int
        Number of steps, 1 for ``objective="linear"``.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Raises
    ------
    ValueError
        If there are fewer than two labels, or what is asked for needs a dense X or fewer rows.

    See Also
    --------
    sklearn.neighbors.NeighborhoodComponentsAnalysis : Takes labels as unordered; iterative.

    Notes
    -----
    Costs O(n_samples n_features**2 + n_features**3), and the search of neighbours within labels;
    with "cg" each iteration is a product with X. Continuous y is no different: every value is a
    label, and there is no neighbour of the same label. With `power` below 1, more than 1000
    labels are merged with their neighbours, as their scaling costs the cube.

    Scale the features first: the ridge and the neighbours depend on it. The map is determined up
    to a rotation; distances do not depend on it. Where labels have no order, methods that use
    none are better.

    The weight of the local term and the ridge are ours, as are the solvers.

    References
    ----------
    .. [1] P. Yu, Q. Li, "Ordinal Distance Metric Learning with MDS for Image Ranking",
       Asia-Pacific Journal of Operational Research 35(1), 2018, arXiv:1902.10284.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.ranking import OrdinalMDSMetric
    >>> rng = np.random.default_rng(0)
    >>> grade = rng.integers(4, size=200)
    >>> X = rng.normal(size=(200, 5))
    >>> X[:, 2] += 3 * grade
    >>> Z = OrdinalMDSMetric().fit_transform(X, grade)
    >>> bool(np.corrcoef(Z[:, 0], grade)[0, 1] > 0.9)
    True
    """

    _parameter_constraints = _METRIC_CONSTRAINTS

    _search_space = {
        "power": [0.5, 0.75, 1.0],
        "local_strength": [0.0, 0.1, 1.0, 10.0],
        "alpha": [1e-3, 1e-2, 1e-1, 1.0],
    }

    def __init__(
        self,
        n_components=None,
        *,
        power=1.0,
        local_strength=0.1,
        n_neighbors=5,
        within_weight=0.0,
        alpha=1e-2,
        objective="linear",
        solver="auto",
        label_values="codes",
        max_iter=50,
        tol=1e-5,
        random_state=None,
    ):
        self.n_components = n_components
        self.power = power
        self.local_strength = local_strength
        self.n_neighbors = n_neighbors
        self.within_weight = within_weight
        self.alpha = alpha
        self.objective = objective
        self.solver = solver
        self.label_values = label_values
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Learn the map.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,)
            Ordered labels, of any type that can be sorted.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        X, y = validate_data(self, X, y, **_INPUT)
        self.levels_, codes = np.unique(y, return_inverse=True)
        if len(self.levels_) < 2:
            raise ValueError("y has one class only: ordered labels need two classes or more")
        dtype = X.dtype
        X = X.astype(np.float64)
        self.mean_ = np.asarray(X.mean(axis=0)).ravel()
        if not sparse.issparse(X):
            X -= self.mean_
        elif self.objective == "distance" or self.within_weight > 0:
            raise ValueError("objective='distance' and within_weight > 0 need a dense X")
        values = level_values(self.levels_, self.label_values)
        Y = self._points(X, codes, values)
        components = self._linear(X, Y, codes)
        self.n_iter_ = 1
        if self.objective == "distance":
            components = self._refine(X, components, codes, values)
        self.components_ = components.astype(dtype)
        self._n_features_out = len(components)
        return self

    def _points(self, X, codes, values):
        counts = np.bincount(codes)
        largest = min(self.n_components or X.shape[1], X.shape[1])
        if self.within_weight > 0:
            Y = embed_rows(X, codes, values, self.power, self.within_weight, largest)
            self.level_embedding_ = (
                np.stack([np.bincount(codes, weights=column) for column in Y.T], axis=1)
                / counts[:, None]
            )
            return Y
        self.level_embedding_ = embed_levels(values, counts, self.power)[:, :largest]
        return self.level_embedding_[codes]

    def _linear(self, X, Y, codes):
        edges = ((), ())
        if self.local_strength > 0:
            edges = level_neighbors(X, codes, self.n_neighbors)
        weights = local_weights(edges, X.shape[0], self.local_strength)
        mean = self.mean_ if sparse.issparse(X) else np.zeros(X.shape[1])
        penalty = ridge(X, mean, self.alpha)
        return linear_map(X, mean, Y, weights, penalty, choose_solver(self.solver, X))

    def _refine(self, X, components, codes, values):
        first, second = pairs = sample_pairs(len(X), check_random_state(self.random_state))
        gaps = np.abs(values[codes[first]] - values[codes[second]]) ** self.power
        if self.within_weight > 0:
            within = np.where(gaps == 0, np.sum((X[first] - X[second]) ** 2, axis=1), 0)
            largest = within.max(initial=0)
            gaps = np.sqrt(gaps**2 + self.within_weight * within / (largest or 1))
        components, self.stress_curve_ = minimize_stress(
            X, components, pairs, gaps, self.max_iter, self.tol
        )
        self.n_iter_ = len(self.stress_curve_) - 1
        return components

    @property
    def metric_(self):
        """The matrix of the squared distance."""
        return self.components_.T @ self.components_

    def transform(self, X):
        """Map rows to where Euclidean distance is the learnt one.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            Mapped rows.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, **_INPUT)
        dtype, components = X.dtype, self.components_.astype(np.float64)
        if sparse.issparse(X):
            return (X @ components.T - self.mean_ @ components.T).astype(dtype)
        return ((X - self.mean_) @ components.T).astype(dtype)

    def pairwise(self, X, Z=None):
        """Compute learnt distances.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples_X, n_features)
            Rows.
        Z : {array-like, sparse matrix} of shape (n_samples_Z, n_features), default=None
            Other rows; None is those of X.

        Returns
        -------
        D : ndarray of shape (n_samples_X, n_samples_Z)
            Distances.
        """
        return euclidean_distances(self.transform(X), None if Z is None else self.transform(Z))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _votes_by_mode(estimator):
    return estimator.vote == "mode"


class OrdinalMDSRanker(ClassifierMixin, BaseEstimator):
    """Predict ordered labels, and rank training rows, by a distance that follows their order.

    The nearest neighbours of a query under the distance of :class:`OrdinalMDSMetric` are what it
    is to be shown, and their labels vote for its own.

    Parameters
    ----------
    n_components : int, default=None
        Largest dimension of the points of the labels; None is that of their geometry.
    power : float, default=0.5
        Labels with the gap g are to be at the distance ``g**power``, in (0, 1]. With 1, labels
        are on a line; with 0.5, an order that the data do not have does less harm.
    local_strength : float, default=0.1
        Weight of the mean squared distance between neighbours of the same label.
    n_neighbors : int, default=5
        Number of neighbours of each row that stay together.
    within_weight : float, default=0.0
        Largest squared distance between rows of the same label in the geometry to learn.
    alpha : float, default=1e-2
        Ridge, relative to the mean variance of the columns that vary.
    objective : {"linear", "distance"}, default="linear"
        Squared errors of the mapped rows, or of their distances.
    solver : {"auto", "cholesky", "cg", "dual"}, default="auto"
        Of the linear system, see :class:`OrdinalMDSMetric`.
    label_values : {"codes", "numeric"}, default="codes"
        Whether labels are 0, 1, 2, ... in sorted order, or the numbers that they are.
    max_iter : int, default=50
        Largest number of steps for ``objective="distance"``.
    tol : float, default=1e-5
        Relative decrease of the stress that ends them.
    random_state : int, RandomState instance or None, default=None
        Draws the pairs for ``objective="distance"``, where there are more than 2 million.
    n_neighbors_predict : int, default=15
        Number of neighbours that vote, at most the number of training rows.
    vote : {"median", "mean", "mode"}, default="median"
        The label predicted: the (lower) median of those of the neighbours, their mean in ranks,
        rounded, or the most frequent one, of equally frequent ones the lowest.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels in order.
    transformer_ : OrdinalMDSMetric
        The map.
    embedding_ : ndarray of shape (n_samples, n_components)
        The mapped training rows.
    n_iter_ : int
        Number of steps, 1 for ``objective="linear"``.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Raises
    ------
    ValueError
        If there are fewer than two labels, or they are continuous.

    Notes
    -----
    The mean vote is the better one for the mean absolute error of many overlapping labels, the
    median for accuracy. `predict_proba` exists for ``vote="mode"`` only, whose prediction it
    agrees with; :meth:`level_fractions` exists always. Where labels have no order, such as kinds
    of wine, plain nearest neighbours can be better.

    References
    ----------
    .. [1] P. Yu, Q. Li, "Ordinal Distance Metric Learning with MDS for Image Ranking",
       Asia-Pacific Journal of Operational Research 35(1), 2018, arXiv:1902.10284.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.ranking import OrdinalMDSRanker
    >>> rng = np.random.default_rng(0)
    >>> size = np.repeat(["1: small", "2: medium", "3: large"], 50)
    >>> X = rng.normal(size=(150, 5))
    >>> X[:, 2] += np.repeat([0, 4, 8], 50)
    >>> ranker = OrdinalMDSRanker().fit(X, size)
    >>> ranker.predict([[0, 0, 8.5, 0, 0]])
    array(['3: large'], dtype='<U9')
    >>> ranker.rank([[0, 0, 8.5, 0, 0]]).shape
    (1, 150)
    """

    _parameter_constraints = {
        **_METRIC_CONSTRAINTS,
        "n_neighbors_predict": [Interval(Integral, 1, None, closed="left")],
        "vote": [StrOptions({"median", "mean", "mode"})],
    }

    _search_space = {
        "power": [0.5, 0.75, 1.0],
        "alpha": [1e-3, 1e-2, 1e-1],
        "n_neighbors_predict": [5, 15, 30],
        "vote": ["median", "mean", "mode"],
    }

    def __init__(
        self,
        n_components=None,
        *,
        power=0.5,
        local_strength=0.1,
        n_neighbors=5,
        within_weight=0.0,
        alpha=1e-2,
        objective="linear",
        solver="auto",
        label_values="codes",
        max_iter=50,
        tol=1e-5,
        random_state=None,
        n_neighbors_predict=15,
        vote="median",
    ):
        self.n_components = n_components
        self.power = power
        self.local_strength = local_strength
        self.n_neighbors = n_neighbors
        self.within_weight = within_weight
        self.alpha = alpha
        self.objective = objective
        self.solver = solver
        self.label_values = label_values
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.n_neighbors_predict = n_neighbors_predict
        self.vote = vote

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Learn the distance, and keep the training rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,)
            Ordered labels, of any type that can be sorted.

        Returns
        -------
        self : object
            The fitted classifier.
        """
        X, y = validate_data(self, X, y, **_INPUT)
        check_classification_targets(y)
        self.classes_, self._codes = np.unique(y, return_inverse=True)
        metric = {name: getattr(self, name) for name in _METRIC_CONSTRAINTS}
        self.transformer_ = OrdinalMDSMetric(**metric)
        self.embedding_ = self.transformer_.fit_transform(X, y)
        self.n_iter_ = self.transformer_.n_iter_
        self._neighbors = NearestNeighbors().fit(self.embedding_)
        return self

    def rank(self, X, n_results=None):
        """Rank training rows by their distance from queries.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_queries, n_features)
            Queries.
        n_results : int, default=None
            Number of rows to give; None is all.

        Returns
        -------
        indices : ndarray of int of shape (n_queries, n_results)
            Indices of training rows, the nearest first.
        """
        n_samples = len(self._check_fitted().embedding_)
        return self._nearest(X, n_samples if n_results is None else n_results)[0]

    def predict(self, X):
        """Predict labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Queries.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels.
        """
        if self._check_fitted().vote == "mode":
            return self.classes_[self.level_fractions(X).argmax(axis=1)]
        found, _ = self._nearest(X, self.n_neighbors_predict)
        codes = np.sort(self._codes[found], axis=1)
        if self.vote == "median":
            return self.classes_[codes[:, (codes.shape[1] - 1) // 2]]
        return self.classes_[np.rint(codes.mean(axis=1)).astype(np.intp)]

    def level_fractions(self, X):
        """Give the fractions of labels among the neighbours.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Queries.

        Returns
        -------
        fractions : ndarray of shape (n_samples, n_classes)
            Fractions, which sum to 1.
        """
        found, dtype = self._check_fitted()._nearest(X, self.n_neighbors_predict)
        n_queries, n_classes = len(found), len(self.classes_)
        cells = self._codes[found] + n_classes * np.arange(n_queries)[:, None]
        counts = np.bincount(cells.ravel(), minlength=n_queries * n_classes)
        return (counts.reshape(n_queries, n_classes) / found.shape[1]).astype(dtype)

    @available_if(_votes_by_mode)
    def predict_proba(self, X):
        """Predict probabilities of labels: the fractions among the neighbours.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Queries.

        Returns
        -------
        P : ndarray of shape (n_samples, n_classes)
            Probabilities.
        """
        return self.level_fractions(X)

    def _check_fitted(self):
        check_is_fitted(self)
        return self

    def _nearest(self, X, k):
        """Nearest training rows, at most all, and the type of X."""
        X = validate_data(self, X, reset=False, **_INPUT)
        k = min(k, len(self.embedding_))
        Z = self.transformer_.transform(X)
        return self._neighbors.kneighbors(Z, k, return_distance=False), X.dtype

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
