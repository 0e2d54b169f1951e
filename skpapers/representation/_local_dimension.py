"""Local intrinsic dimension: how fast the number of neighbours of a row grows with the radius."""

from math import exp
from numbers import Integral

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.externals.array_api_compat import array_namespace
from sklearn.neighbors import VALID_METRICS
from sklearn.utils import check_array, gen_batches
from sklearn.utils._array_api import (
    _is_numpy_namespace,
    get_namespace,
    get_namespace_and_device,
    supported_float_dtypes,
)
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_same_namespace, nearest_neighbors

__all__ = ["LocalIntrinsicDimension", "effective_rank", "local_intrinsic_dimension"]

_CACHED = 2**18  # numbers of a block that stays in the cache
_BLOCK = 2**22  # of a block that keeps an accelerator busy
_METHODS = StrOptions({"mle", "mom"})
_METRICS = StrOptions(set(VALID_METRICS["brute"]) - {"precomputed"})


class LocalIntrinsicDimension(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Give each row the intrinsic dimension of the data around it, as one column.

    Around a row on a smooth surface of dimension m, the number of rows within a radius r grows
    like r to the m; the exponent is read off the distances to the nearest neighbours. It is high
    for rows that lie off the surface, and low where rows collapse onto each other.

    Parameters
    ----------
    n_neighbors : int, default=20
        Number of nearest neighbours, at most n_samples - 1. More of them vary less and see more
        of the curvature.
    method : {"mle", "mom"}, default="mle"
        Estimator: maximum likelihood (of Hill), or moments.
    metric : str or callable, default="euclidean"
        Metric of :class:`sklearn.neighbors.NearestNeighbors`.

    Attributes
    ----------
    reference_ : ndarray of shape (n_samples, n_features)
        Training rows, among which neighbours are searched.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    `transform` takes a row equal to a training row for that row, which is no neighbour of itself.
    See :func:`local_intrinsic_dimension` for the estimators, ties and cost.

    References
    ----------
    .. [1] H. Huang, R. J. G. B. Campello, S. M. Erfani, X. Ma, M. E. Houle, J. Bailey, "LDReg:
       Local Dimensionality Regularized Self-Supervised Learning", ICLR 2024, arXiv:2401.10474,
       section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.representation import LocalIntrinsicDimension
    >>> plane = np.random.default_rng(0).normal(size=(500, 2)) @ np.eye(2, 7)
    >>> lid = LocalIntrinsicDimension(n_neighbors=100).fit_transform(plane)
    >>> lid.shape, float(np.median(lid).round(1))
    ((500, 1), 2.0)
    """

    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 2, None, closed="left")],
        "method": [_METHODS],
        "metric": [_METRICS, callable],
    }
    _search_space = {"n_neighbors": [10, 20, 50], "method": ["mle", "mom"]}
    _n_features_out = 1

    def __init__(self, n_neighbors=20, *, method="mle", metric="euclidean"):
        self.n_neighbors = n_neighbors
        self.method = method
        self.metric = metric

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Store the rows among which neighbours are searched.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data, at least three rows.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        xp, _, device = get_namespace_and_device(X)
        floats = supported_float_dtypes(xp, device)
        self.reference_ = validate_data(self, X, dtype=floats, ensure_min_samples=3, copy=True)
        return self

    def transform(self, X):
        """Estimate the dimension around each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, 1)
            Local intrinsic dimensions.
        """
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="reference_", method="transform")
        xp, _, device = get_namespace_and_device(X)
        X = validate_data(self, X, dtype=supported_float_dtypes(xp, device), reset=False)
        reference = xp.astype(self.reference_, X.dtype, copy=False)
        k = min(self.n_neighbors, reference.shape[0] - 1)
        r = neighbor_distances(X, reference, k + 1, self.metric)
        is_training_row = r[:, :1] == 0
        r = xp.where(is_training_row, r[:, 1:], r[:, :-1])
        return dimension_of_distances(r, self.method)[:, None]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


@validate_params(
    {
        "n_neighbors": [Interval(Integral, 2, None, closed="left")],
        "method": [_METHODS],
        "metric": [_METRICS, callable],
        "average": [StrOptions({"geometric", "arithmetic"}), None],
    },
    prefer_skip_nested_validation=True,
)
def local_intrinsic_dimension(
    X, n_neighbors=20, *, method="mle", X_ref=None, metric="euclidean", average=None
):
    """Estimate the intrinsic dimension of the data around each row of X.

    From the distances ``r_1 <= ... <= r_k`` to the nearest neighbours, "mle" takes
    ``-1 / mean(log(r_j / r_k))`` and "mom" ``m / (r_k - m)`` with ``m = mean(r_j)``, both means
    over ``j < k`` without duplicates (``r_j = 0``).

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows around which to look.
    n_neighbors : int, default=20
        Number k of nearest neighbours, at most the rows there are.
    method : {"mle", "mom"}, default="mle"
        Estimator: maximum likelihood (of Hill), or moments.
    X_ref : array-like of shape (n_reference, n_features), default=None
        Rows among which neighbours are searched, all of which count. None for the other rows of
        X.
    metric : str or callable, default="euclidean"
        Metric of :class:`sklearn.neighbors.NearestNeighbors`; other array libraries than NumPy
        know "euclidean" alone.
    average : {"geometric", "arithmetic"}, default=None
        Return the mean over the rows; None for a value a row. The geometric mean is the Frechet
        mean in the Fisher-Rao distance between growth rates, ``abs(log(lid_1 / lid_2))``.

    Returns
    -------
    ndarray of shape (n_samples,) or float
        Local intrinsic dimensions: 0 where all neighbours but the last are duplicates of the row,
        and no more than one over the resolution of the data type, where all are equally far.

    Notes
    -----
    Neighbours are found in O(n_samples * n_reference * n_features), or with a tree; Euclidean
    distances to them are computed again from the differences, as those of the search lose what
    is small against the norms. Memory is bounded. In high dimensions estimates are too low unless
    there are very many rows: a ball of dimension 10 with 4000 looks like 8.5.

    References
    ----------
    .. [1] L. Amsaleg, O. Chelly, T. Furon, S. Girard, M. E. Houle, K. Kawarabayashi, M. Nett,
       "Estimating Local Intrinsic Dimensionality", KDD 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.representation import local_intrinsic_dimension
    >>> line = np.linspace(0, 1, 101)[:, None] * np.ones(3)
    >>> float(local_intrinsic_dimension(line, 40, method="mom")[50].round(2))
    1.05
    """
    xp, _, device = get_namespace_and_device(X, X_ref)
    X = check_array(X, dtype=supported_float_dtypes(xp, device), input_name="X")
    if X_ref is not None:
        X_ref = check_array(X_ref, dtype=X.dtype, input_name="X_ref")
    n_available = X.shape[0] - 1 if X_ref is None else X_ref.shape[0]
    if n_available < 2:
        raise ValueError(f"a dimension takes two neighbours, and there are {n_available}")
    r = neighbor_distances(X, X_ref, min(n_neighbors, n_available), metric)
    lid = dimension_of_distances(r, method)
    if average is None:
        return lid
    if average == "arithmetic":
        return float(xp.mean(lid))
    return 0.0 if float(xp.min(lid)) == 0 else exp(float(xp.mean(xp.log(lid))))


def effective_rank(X):
    """Compute the effective rank of the centred rows of X.

    The exponential of the entropy of the singular values, divided by their sum: the number of
    columns for whitened data, 1 for data on a line, whatever noise adds to the rank.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Data, such as embeddings.

    Returns
    -------
    float
        Between 1 and the number of columns; 0 where all rows are equal.

    References
    ----------
    .. [1] O. Roy, M. Vetterli, "The Effective Rank: A Measure of Effective Dimensionality",
       EUSIPCO 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.representation import effective_rank
    >>> round(effective_rank(np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])), 6)
    2.0
    """
    xp, _, device = get_namespace_and_device(X)
    X = check_array(X, dtype=supported_float_dtypes(xp, device), input_name="X")
    s = xp.linalg.svdvals(X - xp.mean(X, axis=0))
    resolution = float(xp.finfo(X.dtype).eps) * max(X.shape) * float(xp.max(xp.abs(X)))
    s = s[s > resolution]
    if s.shape[0] == 0:
        return 0.0
    p = s / xp.sum(s)
    return exp(-float(xp.sum(p * xp.log(p))))


def neighbor_distances(X, reference, n_neighbors, metric="euclidean"):
    """Ascending distances to the nearest rows of `reference`; None for the other rows of X."""
    if metric != "euclidean":
        return nearest_neighbors(X, n_neighbors, Y=reference, metric=metric)[0]
    xp, _ = get_namespace(X)
    centre = xp.mean(X if reference is None else reference, axis=0)
    X = X - centre
    Y = X if reference is None else reference - centre
    if _is_numpy_namespace(xp):
        _, nearest = nearest_neighbors(X, n_neighbors, Y=None if reference is None else Y)
        step = max(1, _CACHED // (n_neighbors * X.shape[1]))
        pieces = [exact(X[b], Y[nearest[b]], xp) for b in gen_batches(len(X), step)]
        return np.concatenate(pieces)
    step = max(1, _BLOCK // max(Y.shape[0], n_neighbors * X.shape[1]))
    pieces = []
    for rows in gen_batches(X.shape[0], step):
        own = None if reference is not None else rows
        nearest = nearest_of_block(X[rows, :], Y, n_neighbors, own, xp)
        found = xp.reshape(xp.take(Y, xp.reshape(nearest, (-1,)), axis=0), (*nearest.shape, -1))
        pieces.append(exact(X[rows, :], found, xp))
    return xp.concat(pieces, axis=0)


def nearest_of_block(X, Y, n_neighbors, own, xp):
    """Indices of the nearest rows of Y, by the expansion of the square; `own` are left out."""
    D = xp.sum(Y * Y, axis=1)[None, :] - 2 * X @ Y.T  # up to the squared norm of the query
    if own is not None:
        rows = xp.arange(own.start, own.stop, device=X.device)
        columns = xp.arange(Y.shape[0], device=X.device)
        D = xp.where(rows[:, None] == columns[None, :], xp.inf, D)
    if hasattr(xp, "topk"):  # torch has what the standard lacks
        return xp.topk(D, n_neighbors, largest=False)[1]
    return xp.argsort(D, axis=1)[:, :n_neighbors]


def exact(X, neighbors, xp):
    """Ascending distances of rows to neighbours of shape (n_rows, n_neighbors, n_features)."""
    differences = neighbors - X[:, None, :]
    return xp.sort(xp.sqrt(xp.sum(differences * differences, axis=2)), axis=1)


def dimension_of_distances(r, method):
    """Local intrinsic dimension from ascending distances, row by row; differentiable."""
    xp = array_namespace(r)
    inner, last = r[:, :-1], r[:, -1]
    last = xp.where(last > 0, last, xp.ones_like(last))
    kept = inner > 0
    n_kept = xp.sum(xp.astype(kept, r.dtype), axis=1)
    n_safe = xp.where(n_kept > 0, n_kept, xp.ones_like(n_kept))
    resolution = xp.finfo(r.dtype).eps
    if method == "mom":
        mean = xp.sum(inner, axis=1) / n_safe
        lid = mean / at_least(last - mean, resolution * last, xp)
    else:
        ratios = xp.where(kept, inner / last[:, None], xp.ones_like(inner))
        mean = -xp.sum(xp.log(ratios), axis=1) / n_safe
        lid = 1 / at_least(mean, xp.full_like(mean, resolution), xp)
    return xp.where(n_kept > 0, lid, xp.zeros_like(lid))


def at_least(x, bound, xp):
    """The larger of two arrays."""
    return xp.where(x > bound, x, bound)
