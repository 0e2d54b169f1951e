"""Depth, outliers and coordinates from the canonical form of the convex hull of the data."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    OutlierMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ._canonical_form import polytope, whitening_frame

__all__ = ["PolytopeCanonicalForm", "WachspressCoordinates"]

_INSIDE = 1e-9  # slack, relative to that of the Santaló point, of what counts as inner
_LEAST_DEPTH = 1e-12
_ON_FACET = 1e-14  # relative slack that stands for zero


class _HullEstimator(BaseEstimator):
    """The convex hull of the leading components of the data, and its canonical function."""

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "standardize": ["boolean"],
        "qhull_options": [str, None],
    }

    def _fit_hull(self, X):
        n_features = X.shape[1]
        if self.n_components is not None and self.n_components > n_features:
            raise ValueError(
                f"n_components={self.n_components} must be at most the number of features, "
                f"n_features={n_features}"
            )
        deviations = X.std(axis=0)
        scale = np.where(deviations > 0, deviations, 1.0) if self.standardize else np.ones(1)
        n_components = self.n_components or min(3, n_features)
        self._frame = whitening_frame(X, n_components, scale)
        self.n_components_ = self._frame.axes.shape[1]
        self._set_hull(X)

    def _set_hull(self, X):
        self._polytope = shape = polytope(self._frame.enter(X), self.qhull_options)
        self._central_slacks = shape.slacks(shape.santalo_point[None, :])
        self.vertices_ = self._frame.leave(shape.vertices)
        self.facet_normals_ = shape.normals @ self._frame.axes.T
        self.facet_offsets_ = shape.offsets + self.facet_normals_ @ self._frame.origin
        self.dual_simplices_ = shape.simplices
        self.santalo_point_ = self._frame.leave(shape.santalo_point)

    def _validate(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return X.astype(np.float64, copy=False), X.dtype

    def _margins(self, Z):
        """Least slack over that of the Santaló point: one there, zero on a facet, affine."""
        relative = self._polytope.slacks(Z) / self._central_slacks
        return relative.min(axis=0, initial=1.0)


class PolytopeCanonicalForm(OutlierMixin, _HullEstimator):
    """Depth and outliers by the canonical function of the convex hull of the data.

    The convex hull carries one canonical form, with poles on its boundary alone. Its function at
    a point is the volume of the polar of the hull seen from there. The depth of a row is the
    least value, that of the Santaló point, over the value at the row: 1 at the natural centre
    and 0 from the boundary on. Depths, centre and labels follow every affine map of the data,
    whatever the units and correlations of the columns.

    Parameters
    ----------
    n_components : int, default=None
        Number of principal components whose hull is taken; None is the number of features, at
        most 3. Up to 6 are practical. Fewer than there are features give up affine invariance,
        as principal components follow rotations alone.
    contamination : float, default=0.1
        Share of outliers, above 0 and up to 0.5. This share of least depth is taken away before
        the final hull is made, and the threshold lets the same share of the training rows fall
        below it.
    standardize : bool, default=True
        Whether columns are scaled to unit variance before principal components are taken. It
        changes nothing where all components are kept.
    qhull_options : str, default=None
        Options of :class:`scipy.spatial.ConvexHull`.

    Attributes
    ----------
    vertices_ : ndarray of shape (n_vertices, n_features)
        Vertices of the final hull, in the units of the data, on the plane of the components.
    facet_normals_ : ndarray of shape (n_facets, n_features)
        The hull is where ``X @ facet_normals_.T <= facet_offsets_``.
    facet_offsets_ : ndarray of shape (n_facets,)
        See `facet_normals_`.
    dual_simplices_ : ndarray of shape (n_simplices, n_components_)
        Facets that span each boundary simplex of the polar.
    santalo_point_ : ndarray of shape (n_features,)
        The deepest point.
    n_components_ : int
        Number of components, without those in which the data are constant.
    offset_ : float
        Threshold of `score_samples`; decision values are counted from it.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    The paper is about the forms themselves; the depth, its order outside of the hull and the
    trimming are made here from its theorems. Outside, rows are ordered by the facet that they
    are farthest beyond, in units of its distance from the Santaló point. Constant components
    are left out: a row off the plane of the data is judged by its projection.

    For more than three components the hull costs O(n_samples ** (n_components // 2)); scoring a
    row costs O(n_components * n_simplices). In ten or more dimensions nearly all rows are
    vertices, and no hull tells them apart.

    References
    ----------
    .. [1] N. Arkani-Hamed, Y. Bai, T. Lam, "Positive Geometries and Canonical Forms", JHEP 2017,
       arXiv:1703.04541, sections 5 to 7.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.manifold import PolytopeCanonicalForm
    >>> X = np.random.RandomState(0).normal(size=(200, 2))
    >>> model = PolytopeCanonicalForm(contamination=0.05).fit(X)
    >>> model.predict([[0.0, 0.0], [4.0, 4.0]])
    array([ 1, -1])
    """

    _parameter_constraints = {
        **_HullEstimator._parameter_constraints,
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
    }
    _search_space = {"n_components": [1, 2, 3], "contamination": [0.01, 0.05, 0.1, 0.2]}

    def __init__(
        self, n_components=None, *, contamination=0.1, standardize=True, qhull_options=None
    ):
        self.n_components = n_components
        self.contamination = contamination
        self.standardize = standardize
        self.qhull_options = qhull_options

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Take the hull of the data, without the least deep rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32]).astype(np.float64, copy=False)
        self._fit_hull(X)
        scores = self._scores(X)
        inner = X[scores > np.percentile(scores, 100 * self.contamination)]
        # what is left must still span the space
        if len(inner) and np.linalg.matrix_rank(inner - inner[0]) >= self.n_components_ > 0:
            self._set_hull(inner)
            scores = self._scores(X)
        self.offset_ = float(np.percentile(scores, 100 * self.contamination))
        return self

    def score_samples(self, X):
        """Compute the log of the depth.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            At most 0, which is the depth of the Santaló point. From log(1e-12) down, rows on
            the boundary and outside.
        """
        X, dtype = self._validate(X)
        return self._scores(X).astype(dtype, copy=False)

    def _scores(self, X):
        Z = self._frame.enter(X)
        margins = self._margins(Z)
        inside = margins > _INSIDE
        beyond = np.where(margins < -_INSIDE, -margins, 0.0)
        scores = np.log(_LEAST_DEPTH) - beyond
        (least,) = self._polytope.canonical_function(self._polytope.santalo_point[None, :])
        depths = least / self._polytope.canonical_function(Z[inside])
        scores[inside] = np.log(np.clip(depths, _LEAST_DEPTH, 1.0))
        return scores

    def decision_function(self, X):
        """Compute the log of the depth above the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``; outliers are negative.
        """
        X, dtype = self._validate(X)
        return (self._scores(X) - self.offset_).astype(dtype, copy=False)

    def predict(self, X):
        """Tell outliers from the others.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            1, and -1 for outliers.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def canonical_function(self, X):
        """Evaluate the canonical function of the hull, in the space of the components.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Volumes of the polar, in components of unit variance; infinite from the boundary on.
        """
        Z = self._frame.enter(self._validate(X)[0])
        inside = self._margins(Z) > 0
        values = np.full(len(Z), np.inf)
        values[inside] = self._polytope.canonical_function(Z[inside])
        return values

    def gradient(self, X):
        """Compute the gradient of the log of the canonical function, a barrier of the hull.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows inside of the hull.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Gradients, in the inverse units of the data: zero at the Santaló point, and away from
            the boundary if reversed.

        Raises
        ------
        ValueError
            If a row is not inside.
        """
        Z = self._frame.enter(self._validate(X)[0])
        n_outside = int(np.sum(self._margins(Z) <= 0))
        if n_outside:
            raise ValueError(f"the gradient exists inside of the hull; {n_outside} rows are not")
        return self._polytope.gradient(Z) @ self._frame.axes.T


class WachspressCoordinates(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _HullEstimator):
    """Coordinates of a row with respect to the vertices of the convex hull of the data.

    The terms of the canonical function, grouped by vertex, are shares of the whole: smooth and
    non-negative weights that sum to one, weigh the vertices to the row, and are one at a
    vertex. They are barycentric coordinates on a simplex, and their generalisation to every
    convex polytope: mixtures of extreme rows, or interpolation of what is known at the vertices.

    Parameters
    ----------
    n_components : int, default=None
        Number of principal components whose hull is taken; None is the number of features, at
        most 3. Up to 6 are practical.
    outside : {"project", "error"}, default="project"
        What to do with a row outside of the hull: pull it towards the Santaló point up to the
        boundary, or refuse.
    standardize : bool, default=True
        Whether columns are scaled to unit variance before principal components are taken.
    qhull_options : str, default=None
        Options of :class:`scipy.spatial.ConvexHull`.

    Attributes
    ----------
    vertices_ : ndarray of shape (n_vertices, n_features)
        Vertices of the hull, on the plane of the components.
    facet_normals_ : ndarray of shape (n_facets, n_features)
        The hull is where ``X @ facet_normals_.T <= facet_offsets_``.
    facet_offsets_ : ndarray of shape (n_facets,)
        See `facet_normals_`.
    dual_simplices_ : ndarray of shape (n_simplices, n_components_)
        Facets that span each boundary simplex of the polar.
    santalo_point_ : ndarray of shape (n_features,)
        Towards which rows outside are pulled.
    n_components_ : int
        Number of components, without those in which the data are constant.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    A row costs O(n_components * n_simplices) and gets as many columns as the hull has vertices.
    Near the boundary coordinates are computed with slacks of at least 1e-14 of those of the
    Santaló point, so that they are exact to rounding on it as well.

    References
    ----------
    .. [1] N. Arkani-Hamed, Y. Bai, T. Lam, "Positive Geometries and Canonical Forms", JHEP 2017,
       arXiv:1703.04541, section 7.
    .. [2] J. Warren, "Barycentric coordinates for convex polytopes", Advances in Computational
       Mathematics 1996.

    Examples
    --------
    >>> from skpapers.manifold import WachspressCoordinates
    >>> square = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
    >>> model = WachspressCoordinates().fit(square)
    >>> model.inverse_transform(model.transform([[0.5, 0.25]]))
    array([[0.5 , 0.25]])
    """

    _parameter_constraints = {
        **_HullEstimator._parameter_constraints,
        "outside": [StrOptions({"project", "error"})],
    }
    _search_space = {"n_components": [1, 2, 3]}

    def __init__(
        self, n_components=None, *, outside="project", standardize=True, qhull_options=None
    ):
        self.n_components = n_components
        self.outside = outside
        self.standardize = standardize
        self.qhull_options = qhull_options

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Take the hull of the data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        self._fit_hull(X.astype(np.float64, copy=False))
        return self

    @property
    def _n_features_out(self):
        return len(self.vertices_)

    def transform(self, X):
        """Compute the coordinates of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_vertices)
            Non-negative, with sums of one, in the data type of X.

        Raises
        ------
        ValueError
            If ``outside="error"`` and a row is outside.
        """
        X, dtype = self._validate(X)
        Z = self._frame.enter(X)
        margins = self._margins(Z)
        if self.outside == "error" and (margins < -_INSIDE).any():
            n_outside = int(np.sum(margins < -_INSIDE))
            raise ValueError(
                f"{n_outside} rows are outside of the hull; outside='project' pulls them to its "
                "boundary"
            )
        # slacks go along a line from the margin to the one of the Santaló point
        pull = 1 / (1 + np.maximum(-margins, 0))[:, None]
        centre = self._polytope.santalo_point
        least_slacks = _ON_FACET * self._central_slacks[:, 0]
        coordinates = self._polytope.wachspress(centre + pull * (Z - centre), least_slacks)
        return coordinates.astype(dtype, copy=False)

    def inverse_transform(self, X):
        """Mix the vertices.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_vertices)
            Coordinates.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The rows with these coordinates, on the plane of the components.
        """
        check_is_fitted(self)
        return np.asarray(X) @ self.vertices_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
