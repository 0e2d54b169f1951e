"""Singular vector canonical correlation analysis."""

import warnings
from numbers import Integral, Real

from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    MultiOutputMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import check_array
from sklearn.utils._array_api import get_namespace_and_device
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions, validate_params
from sklearn.utils.extmath import svd_flip
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_random_state, check_same_namespace

from ._canonical import (
    adjoint,
    canonical_pairs,
    center,
    check_view,
    column_correlations,
    leading_directions,
    shrinkage,
    validate_views,
)

SHARE = [Interval(RealNotInt, 0, 1, closed="right"), Interval(Integral, 1, None, closed="left")]
_SOLVERS = StrOptions({"auto", "full", "covariance_eigh", "randomized"})
_CONSTRAINTS = {
    "variance_threshold": SHARE,
    "reg": [Interval(Real, 0, None, closed="left")],
    "tail_threshold": [None, Interval(Real, 0, 1, closed="right")],
    "scale": ["boolean"],
    "svd_solver": [_SOLVERS],
    "random_state": ["random_state"],
}
_PAIR_CONSTRAINTS = {"X": ["array-like"], "Y": ["array-like"], **_CONSTRAINTS}


class SVCCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, MultiOutputMixin, BaseEstimator):
    """Singular vector canonical correlation analysis of two views of the same samples.

    Each view is first reduced to the leading singular directions that hold most of its variance
    (which drops noise directions and measures its intrinsic dimension); the canonical
    correlations of what remains say how alike the two views are, whatever rotation, scale or
    width each has. Exact and without iterations: two singular value decompositions, then one of
    the product of their left factors.

    Parameters
    ----------
    n_components : int, default=None
        Largest number of canonical pairs that `transform` gives; None keeps all of them.
    variance_threshold : float or int, default=0.99
        A float in (0, 1] is the share of each view's variance to retain; an int is the number of
        singular directions to retain. Mind that 1.0 retains all, and 1 retains one.
    reg : float, default=0.0
        Ridge added to the variance of each retained direction in the whitening, in units of the
        squared features.
    tail_threshold : float, default=None
        If given, `similarity_` averages only the leading correlations that make up this share of
        their sum.
    scale : bool, default=False
        Whether to divide each feature by its standard deviation first.
    svd_solver : {"auto", "full", "covariance_eigh", "randomized"}, default="auto"
        ``"full"`` is LAPACK's singular value decomposition; ``"covariance_eigh"`` decomposes the
        covariance, much faster for many samples but with half the digits on directions of small
        variance; ``"auto"`` takes the latter where there are four times more samples than
        features and the retained directions lose nothing by it, else ``"full"``;
        ``"randomized"`` suits wide views of which few directions are retained.
    random_state : int, RandomState instance or None, default=None
        Seed of the randomized solver.

    Attributes
    ----------
    correlations_ : array of shape (n_components_,)
        Canonical correlations of the pairs kept, in decreasing order.
    similarity_ : float
        SVCCA similarity: mean of all canonical correlations, in [0, 1].
    pwcca_similarity_ : float
        Projection-weighted mean: each correlation counts as much as its variate accounts for the
        features of the view of lower dimension.
    x_weights_ : array of shape (n_features, n_components_)
        Weights that turn centred rows of X into canonical variates.
    y_weights_ : array of shape (n_targets, n_components_)
        Weights that turn centred rows of y into canonical variates.
    x_loadings_ : array of shape (n_features, n_components_)
        Loadings that turn canonical variates into centred rows of X.
    y_loadings_ : array of shape (n_targets, n_components_)
        Loadings that turn canonical variates into centred rows of y.
    x_mean_ : array of shape (n_features,)
        Means of the features of X.
    y_mean_ : array of shape (n_targets,)
        Means of the features of y.
    x_intrinsic_dim_ : int
        Number of singular directions of X that were retained.
    y_intrinsic_dim_ : int
        Number of singular directions of y that were retained.
    x_singular_values_ : array of shape (x_intrinsic_dim_,)
        Retained singular values of the centred X.
    y_singular_values_ : array of shape (y_intrinsic_dim_,)
        Retained singular values of the centred y.
    n_components_ : int
        Number of canonical pairs kept.
    n_features_in_ : int
        Number of features of X seen during :term:`fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features of X, where they are all strings.

    Notes
    -----
    The cost is O(n_samples * (n_features ** 2 + n_targets ** 2)), the memory that of the two
    views. Use five to ten times more samples than retained directions: with few samples high
    correlations come for free, and a warning says when some must be 1. Retaining everything
    (``variance_threshold=1.0``) gives plain CCA, invariant to any invertible map of either view;
    with less, the result is invariant to rotations and isotropic scaling.

    The paper's recipe to train faster by freezing lower layers, and its figures on CIFAR-10 and
    ImageNet networks, are not shown here; the order in which layers converge is.

    References
    ----------
    .. [1] M. Raghu, J. Gilmer, J. Yosinski, J. Sohl-Dickstein, "SVCCA: Singular Vector Canonical
       Correlation Analysis for Deep Learning Dynamics and Interpretability", NeurIPS 2017,
       :arxiv:`1706.05806`, section 2.
    .. [2] A. Morcos, M. Raghu, S. Bengio, "Insights on Representational Similarity in Neural
       Networks with Canonical Correlation", NeurIPS 2018, :arxiv:`1806.05759`, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.cross_decomposition import SVCCA
    >>> rng = np.random.default_rng(0)
    >>> shared = rng.normal(size=(500, 3))
    >>> X = shared @ rng.normal(size=(3, 20)) + 0.01 * rng.normal(size=(500, 20))
    >>> Y = shared @ rng.normal(size=(3, 30)) + 0.01 * rng.normal(size=(500, 30))
    >>> model = SVCCA().fit(X, Y)
    >>> model.x_intrinsic_dim_, round(model.similarity_, 3)
    (3, 1.0)
    >>> model.transform(X).shape
    (500, 3)
    """

    _parameter_constraints: dict = {
        "n_components": [None, Interval(Integral, 1, None, closed="left")],
        **_CONSTRAINTS,
    }
    _search_space = {
        "variance_threshold": [0.8, 0.9, 0.95, 0.99, 1.0],
        "reg": [0.0, 1e-3, 1e-2, 1e-1],
        "n_components": [None, 1, 2, 5],
    }

    def __init__(
        self,
        n_components=None,
        *,
        variance_threshold=0.99,
        reg=0.0,
        tail_threshold=None,
        scale=False,
        svd_solver="auto",
        random_state=None,
    ):
        self.n_components = n_components
        self.variance_threshold = variance_threshold
        self.reg = reg
        self.tail_threshold = tail_threshold
        self.scale = scale
        self.svd_solver = svd_solver
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Find the canonical pairs of the leading directions of both views.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            First view.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Second view of the same samples.

        Returns
        -------
        SVCCA
            The fitted estimator.

        Raises
        ------
        ValueError
            If a view has no variance.
        """
        X, y, self._predict_1d = validate_views(self, X, y)
        self.x_mean_, x_scale = center(X, scale=self.scale)
        self.y_mean_, y_scale = center(y, scale=self.scale)
        x, y, pairs = svcca(
            X,
            y,
            self.variance_threshold,
            reg=self.reg,
            svd_solver=self.svd_solver,
            random_state=self.random_state,
        )
        self._store(x, y, pairs, self.reg * (X.shape[0] - 1), x_scale, y_scale, X.shape[0])
        return self

    def _store(self, x, y, pairs, ridge, x_scale, y_scale, n_samples):
        self.similarity_ = mean_correlation(pairs.correlations, self.tail_threshold)
        self.pwcca_similarity_ = projection_weighted(x, y, pairs, ridge)
        self.x_intrinsic_dim_, self.y_intrinsic_dim_ = int(x.s.shape[0]), int(y.s.shape[0])
        self.x_singular_values_, self.y_singular_values_ = x.s, y.s
        k = min(pairs.correlations.shape[0], self.n_components or pairs.correlations.shape[0])
        self.n_components_ = self._n_features_out = int(k)
        self.correlations_ = pairs.correlations[:k]
        x_weights, x_loadings = weights_and_loadings(x, pairs.left[:, :k], ridge, n_samples)
        y_weights, y_loadings = weights_and_loadings(y, pairs.right[:, :k], ridge, n_samples)
        signs = column_signs(x_weights)
        self.x_weights_ = x_weights * signs / x_scale[:, None]
        self.y_weights_ = y_weights * signs / y_scale[:, None]
        self.x_loadings_ = x_loadings * signs * x_scale[:, None]
        self.y_loadings_ = y_loadings * signs * y_scale[:, None]

    def transform(self, X, y=None):
        """Project rows on the canonical directions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the first view.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            The same rows in the second view.

        Returns
        -------
        x_scores : array of shape (n_samples, n_components_)
            Canonical variates of X, of unit variance on the data of :term:`fit`.
        y_scores : array of shape (n_samples, n_components_)
            Canonical variates of y; only where `y` is given.
        """
        return self._scores(X, y, "transform")

    def fit_transform(self, X, y):
        """Fit, then project the first view, so that the estimator fits in a pipeline.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            First view.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Second view of the same samples.

        Returns
        -------
        array of shape (n_samples, n_components_)
            Canonical variates of X.
        """
        return self.fit(X, y).transform(X)

    def inverse_transform(self, X):
        """Reconstruct rows of the first view from their canonical variates.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Canonical variates.

        Returns
        -------
        array of shape (n_samples, n_features)
            Least-squares reconstruction, within the retained directions.
        """
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="x_weights_", method="inverse_transform")
        xp, _, _ = get_namespace_and_device(X)
        X = check_array(X, input_name="X", dtype=[xp.float64, xp.float32])
        return X @ self.x_loadings_.T + self.x_mean_

    def predict(self, X):
        """Predict the second view from the first through the canonical pairs.

        Without `n_components` this is the ridge regression (with penalty ``reg * (n_samples -
        1)``) of the retained part of y on the retained part of X; with it, of reduced rank.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the first view.

        Returns
        -------
        array of shape (n_samples,) or (n_samples, n_targets)
            Predicted rows of the second view.
        """
        scores = self._scores(X, None, "predict")
        xp, _, _ = get_namespace_and_device(scores)
        y = (scores * self.correlations_) @ self.y_loadings_.T + self.y_mean_
        return xp.reshape(y, (-1,)) if self._predict_1d else y

    def score(self, X, y):
        """Mean correlation of the matched variates of both views on given rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the first view.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            The same rows in the second view.

        Returns
        -------
        float
            In [-1, 1]; not a coefficient of determination.
        """
        x_scores, y_scores = self._scores(X, y, "score")
        xp, _, _ = get_namespace_and_device(x_scores)
        return float(xp.mean(column_correlations(x_scores, y_scores)))

    def _scores(self, X, y, method):
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="x_weights_", method=method)
        xp, _, _ = get_namespace_and_device(X)
        X = validate_data(self, X, dtype=[xp.float64, xp.float32], reset=False)
        x_scores = (X - self.x_mean_) @ self.x_weights_
        if y is None and method != "score":
            return x_scores
        y, _ = check_view(y, X)
        return x_scores, (y - self.y_mean_) @ self.y_weights_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.array_api_support = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


@validate_params(_PAIR_CONSTRAINTS, prefer_skip_nested_validation=True)
def svcca_similarity(
    X,
    Y,
    *,
    variance_threshold=0.99,
    reg=0.0,
    tail_threshold=None,
    scale=False,
    svd_solver="auto",
    random_state=None,
):
    """SVCCA similarity of two representations of the same samples.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        First representation.
    Y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Second representation.
    variance_threshold : float or int, default=0.99
        Share of the variance, or number of singular directions, to retain of each.
    reg : float, default=0.0
        Ridge added to the variance of each retained direction.
    tail_threshold : float, default=None
        Average only the leading correlations that make up this share of their sum.
    scale : bool, default=False
        Whether to divide each feature by its standard deviation first.
    svd_solver : {"auto", "full", "covariance_eigh", "randomized"}, default="auto"
        As in :class:`SVCCA`.
    random_state : int, RandomState instance or None, default=None
        Seed of the randomized solver.

    Returns
    -------
    float
        Mean canonical correlation, in [0, 1].

    References
    ----------
    .. [1] M. Raghu et al., "SVCCA", NeurIPS 2017, :arxiv:`1706.05806`, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.cross_decomposition import svcca_similarity
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> round(svcca_similarity(X, 3 * X[:, ::-1] + 1), 6)
    1.0
    """
    model = SVCCA(
        variance_threshold=variance_threshold,
        reg=reg,
        tail_threshold=tail_threshold,
        scale=scale,
        svd_solver=svd_solver,
        random_state=random_state,
    )
    return model.fit(X, Y).similarity_


@validate_params(
    {key: _PAIR_CONSTRAINTS[key] for key in ("X", "Y", "variance_threshold", "reg", "scale")},
    prefer_skip_nested_validation=True,
)
def pwcca_similarity(X, Y, *, variance_threshold=1.0, reg=0.0, scale=False):
    """Projection-weighted CCA similarity of two representations of the same samples.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        First representation.
    Y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Second representation.
    variance_threshold : float or int, default=1.0
        Share of the variance, or number of singular directions, to retain of each.
    reg : float, default=0.0
        Ridge added to the variance of each retained direction.
    scale : bool, default=False
        Whether to divide each feature by its standard deviation first.

    Returns
    -------
    float
        Weighted mean of the canonical correlations, in [0, 1]; the weights are taken from the
        view with fewer retained directions (from X where they are equally many).

    References
    ----------
    .. [1] A. Morcos, M. Raghu, S. Bengio, "Insights on Representational Similarity in Neural
       Networks with Canonical Correlation", NeurIPS 2018, :arxiv:`1806.05759`, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.cross_decomposition import pwcca_similarity
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> round(pwcca_similarity(X, X[:, :3]), 6)
    1.0
    """
    model = SVCCA(variance_threshold=variance_threshold, reg=reg, scale=scale)
    return model.fit(X, Y).pwcca_similarity_


def svcca(X, Y, variance_threshold, *, reg=0.0, svd_solver="auto", random_state=None):
    """SVCCA of two centred matrices: directions of X, of Y, and their canonical pairs."""
    rng = check_random_state(random_state)
    share = variance_threshold
    share = int(share) if isinstance(share, Integral) else float(share)
    views = []
    for name, view in (("X", X), ("y", Y)):
        views.append(leading_directions(view, share, svd_solver=svd_solver, random_state=rng))
        if views[-1].s.shape[0] == 0:
            raise ValueError(f"{name} has no variance: all its features are constant")
    x, y = views
    free = min(x.s.shape[0] + y.s.shape[0] - X.shape[0] + 1, x.s.shape[0], y.s.shape[0])
    if free > 0 and not reg:
        warnings.warn(
            f"{free} canonical correlations are 1 whatever the data: {x.s.shape[0]} and "
            f"{y.s.shape[0]} directions were retained of {X.shape[0]} samples. Lower "
            "variance_threshold, set reg > 0 or use more samples.",
            UserWarning,
            stacklevel=3,
        )
    return x, y, canonical_pairs(x, y, ridge=reg * (X.shape[0] - 1))


def mean_correlation(correlations, tail_threshold=None):
    """Mean of the correlations, or of the leading ones that make up a share of their sum."""
    xp, _, _ = get_namespace_and_device(correlations)
    if tail_threshold is not None:
        cumulated = xp.cumulative_sum(correlations)
        below = xp.astype(cumulated < tail_threshold * cumulated[-1], xp.int64)
        correlations = correlations[: int(xp.sum(below)) + 1]
    return float(xp.mean(correlations))


def projection_weighted(x, y, pairs, ridge=0.0):
    """PWCCA similarity; the weights come from the view with fewer directions."""
    xp, _, _ = get_namespace_and_device(x.s)
    swap = y.s.shape[0] < x.s.shape[0]
    view, coordinates = (y, pairs.right) if swap else (x, pairs.left)
    if ridge:  # shrunk variates are not orthogonal any more
        coordinates, _ = xp.linalg.qr(shrinkage(view.s, ridge)[:, None] * coordinates)
    s = view.s / view.s[0]
    weights = xp.sum(xp.abs(coordinates.T @ (s[:, None] * view.Vh)), axis=1)
    return float(xp.sum(weights * pairs.correlations) / xp.sum(weights))


def weights_and_loadings(view, coordinates, ridge, n_samples):
    """Map centred rows to variates of unit variance (plus ridge), and variates to rows."""
    V = adjoint(view.Vh)
    length = view.s / shrinkage(view.s, ridge) if ridge else view.s
    root = (n_samples - 1) ** 0.5
    weights = V @ (coordinates / (length / root)[:, None])
    return weights, V @ (coordinates * (length / root)[:, None])


def column_signs(weights):
    """Signs that make the entry of largest modulus of each column positive."""
    xp, _, _ = get_namespace_and_device(weights)
    flipped, _ = svd_flip(xp.asarray(weights, copy=True), None)
    return xp.sign(xp.sum(xp.sign(flipped) * xp.sign(weights), axis=0))
