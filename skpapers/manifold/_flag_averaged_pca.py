"""Principal components as a flag mean or median of those of shards of the data."""

from numbers import Integral

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.model_selection import KFold
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils._array_api import get_namespace_and_device, supported_float_dtypes
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_random_state, check_same_namespace, draw_seed

from ._flag import blocks, check_flag_type
from ._flag_averaging import FlagMean, FlagMedian

__all__ = ["FlagAveragedPCA"]


class FlagAveragedPCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Principal components averaged over shards of the data.

    Each shard has its own principal axes, an ordered basis; the flag mean merges them into one
    that keeps the order, and the median into one that a few corrupted shards hardly move. Only
    the axes of a shard need to leave where it is kept.

    Parameters
    ----------
    n_components : int, default=2
        Number of components.
    flag_type : "full" or array-like of int of shape (n_blocks,), default="full"
        Dimensions of the nested subspaces that are averaged: "full" is every number of leading
        components; [n_components] only their space.
    n_splits : int or cross-validation splitter, default=5
        Number of random shards, which are disjoint; or a splitter whose training parts are the
        shards, such as :class:`sklearn.model_selection.ShuffleSplit`.
    aggregate : {"mean", "median"}, default="mean"
        How shards, which count by their numbers of rows, are averaged.
    center : bool, default=True
        Whether to subtract means: of each shard for its axes, of all rows in `transform`.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the shards.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Orthonormal axes in the order of the flag, and by variance within a block.
    explained_variance_ : ndarray of shape (n_components,)
        Variances of all rows along the axes (divided by n_samples - 1).
    explained_variance_ratio_ : ndarray of shape (n_components,)
        The same over the total variance, or 0 where that is 0.
    mean_ : ndarray of shape (n_features,)
        Means of the columns, or zeros.
    shard_components_ : ndarray of shape (n_shards, n_components, n_features)
        Axes of each shard.
    shard_sizes_ : ndarray of shape (n_shards,)
        Numbers of rows.
    distances_ : ndarray of shape (n_shards,)
        Chordal distances of the shards to the average, large for corrupted ones.
    n_samples_seen_ : int
        Number of rows.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had string column names.

    Notes
    -----
    A singular value decomposition for each shard, or eigenvectors of its covariance where it has
    twice as many rows as columns, then the cost of :class:`FlagMean`. As in any
    principal component analysis, axes beyond the rank of a shard are arbitrary, and so is the
    vote of that shard on them. `partial_fit` keeps a matrix of n_features rows and columns.

    The gain over a mean of subspaces is the order of the components, and shows with few shards;
    with twenty shards of digits the mean of subspaces catches up.

    References
    ----------
    N. Mankovich, T. Birdal, "Chordal Averaging on Flag Manifolds and Its Applications", ICCV
    2023, arXiv:2303.13501 (Sections 4 and 5).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.manifold import FlagAveragedPCA
    >>> X = np.random.default_rng(0).normal(size=(100, 3)) * [1, 10, 0.1]
    >>> np.abs(FlagAveragedPCA(random_state=0).fit(X).components_).round(1)
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "flag_type": [StrOptions({"full"}), "array-like"],
        "n_splits": [Interval(Integral, 1, None, closed="left"), HasMethods("split")],
        "aggregate": [StrOptions({"mean", "median"})],
        "center": ["boolean"],
        "random_state": ["random_state", np.random.Generator],
    }

    _search_space = {"n_components": [1, 2], "aggregate": ["mean", "median"], "n_splits": [2, 4]}

    def __init__(
        self,
        n_components=2,
        *,
        flag_type="full",
        n_splits=5,
        aggregate="mean",
        center=True,
        random_state=None,
    ):
        self.n_components = n_components
        self.flag_type = flag_type
        self.n_splits = n_splits
        self.aggregate = aggregate
        self.center = center
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, groups=None):
        """Find the axes of each shard, and average them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,), default=None
            Passed to a splitter, and else ignored.
        groups : array-like of shape (n_samples,), default=None
            Shard of each row; None is what `n_splits` gives. A splitter is given them.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        ValueError
            If a shard has too few rows.
        """
        xp, _, device = get_namespace_and_device(X)
        X = xp.astype(self._validated(X, reset=True), xp.float64)
        shards = self._shards(X.shape[0], y, groups)
        parts = [xp.take(X, xp.asarray(rows, device=device), axis=0) for rows in shards]
        self._start(X.shape[1])
        self.n_samples_seen_ = X.shape[0]
        self.mean_ = xp.mean(X, axis=0) if self.center else xp.zeros_like(X[0, :])
        centered = X - self.mean_

        def covariance(axes):
            scores = centered @ axes
            return scores.T @ scores / max(X.shape[0] - 1, 1)

        total = float(xp.sum(centered**2)) / max(X.shape[0] - 1, 1)
        self._average(xp.stack([self._axes(part) for part in parts]), shards, covariance, total)
        self._scatter = None
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Average the axes of one more shard with those of the calls before.

        After `fit`, which keeps no data, the first call starts anew.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A shard.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        xp, _, _ = get_namespace_and_device(X)
        first = getattr(self, "_scatter", None) is None
        X = xp.astype(self._validated(X, reset=first), xp.float64)
        axes, size = self._axes(X)[None, ...], X.shape[0]
        mean = xp.mean(X, axis=0) if self.center else xp.zeros_like(X[0, :])
        scatter = (X - mean).T @ (X - mean)
        sizes = [size]
        if first:
            self._start(X.shape[1])
            self.n_samples_seen_, self.mean_, self._scatter = size, mean, scatter
        else:
            axes = xp.concat([xp.permute_dims(self.shard_components_, (0, 2, 1)), axes])
            sizes = [*(int(s) for s in self.shard_sizes_), size]
            self._merge(size, mean, scatter)
        degrees = max(self.n_samples_seen_ - 1, 1)
        total = float(xp.sum(xp.linalg.diagonal(self._scatter))) / degrees
        shards = [range(s) for s in sizes]
        self._average(axes, shards, lambda V: V.T @ self._scatter @ V / degrees, total)
        return self

    def _merge(self, size, mean, scatter):
        """Moments of the rows before together with those of a shard."""
        before, shift = self.n_samples_seen_, mean - self.mean_
        self.n_samples_seen_ = before + size
        self.mean_ = self.mean_ + shift * (size / self.n_samples_seen_)
        between = shift[:, None] * shift[None, :] * (before * size / self.n_samples_seen_)
        self._scatter = self._scatter + scatter + between

    def _start(self, n_features):
        if self.n_components > n_features:
            raise ValueError(f"n_components={self.n_components}, but n_features={n_features}")
        self._n_features_out = self.n_components

    def _validated(self, X, reset):
        xp, _, device = get_namespace_and_device(X)
        return validate_data(self, X, reset=reset, dtype=supported_float_dtypes(xp, device))

    def _shards(self, n_samples, y, groups):
        """Rows of each shard."""
        groups = None if groups is None else column_or_1d(groups)
        check_consistent_length(np.empty(n_samples), groups)
        if not isinstance(self.n_splits, Integral):
            return [train for train, _ in self.n_splits.split(np.empty(n_samples), y, groups)]
        if groups is not None:
            return [np.flatnonzero(groups == group) for group in np.unique(groups)]
        if n_samples < self.n_splits:
            raise ValueError(f"n_samples={n_samples} is too few for n_splits={self.n_splits}")
        if self.n_splits == 1:
            return [np.arange(n_samples)]
        seed = draw_seed(check_random_state(self.random_state))
        folds = KFold(self.n_splits, shuffle=True, random_state=seed)
        return [test for _, test in folds.split(np.empty(n_samples))]

    def _axes(self, X):
        """Principal axes of a shard, as columns."""
        xp, _, _ = get_namespace_and_device(X)
        if min(X.shape) < self.n_components:
            raise ValueError(
                f"n_components={self.n_components} needs as many rows and columns in each shard, "
                f"got n_samples={X.shape[0]} and n_features={X.shape[1]}"
            )
        centered = X - xp.mean(X, axis=0) if self.center else X
        if X.shape[0] >= 2 * X.shape[1]:
            vectors = xp.linalg.eigh(centered.T @ centered)[1]
            return xp.flip(vectors, axis=1)[:, : self.n_components]
        Vh = xp.linalg.svd(centered, full_matrices=False)[2]
        return Vh[: self.n_components, :].T

    def _average(self, axes, shards, covariance, total):
        xp, _, device = get_namespace_and_device(axes)
        sizes = [len(rows) for rows in shards]
        flag_type = None if isinstance(self.flag_type, str) else self.flag_type
        average = (FlagMean if self.aggregate == "mean" else FlagMedian)(flag_type)
        weights = xp.asarray(sizes, dtype=xp.float64, device=device)
        average.fit(axes, sample_weight=weights)
        dimensions = check_flag_type(flag_type, self.n_components)
        V = order_by_variance(average.mean_, covariance(average.mean_), dimensions)
        self.components_ = V.T
        self.explained_variance_ = xp.linalg.diagonal(covariance(V))
        self.explained_variance_ratio_ = self.explained_variance_ / (total if total > 0 else 1)
        self.shard_components_ = xp.permute_dims(axes, (0, 2, 1))
        self.shard_sizes_ = xp.asarray(sizes, device=device)
        self.distances_ = average.distances_

    def transform(self, X):
        """Give the scores of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            Coordinates along the components.
        """
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="mean_", method="transform")
        xp, _, _ = get_namespace_and_device(X)
        X = self._validated(X, reset=False)
        return (X - xp.astype(self.mean_, X.dtype)) @ xp.astype(self.components_, X.dtype).T

    def inverse_transform(self, X):
        """Give the rows in the space of the components that have these scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Scores.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            Rows in the original units.
        """
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="mean_", method="inverse_transform")
        xp, _, device = get_namespace_and_device(X)
        Z = check_array(X, dtype=supported_float_dtypes(xp, device))
        return Z @ xp.astype(self.components_, Z.dtype) + xp.astype(self.mean_, Z.dtype)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def order_by_variance(V, covariance, dimensions):
    """Turn each block of columns to principal axes, the entry of largest size positive."""
    xp, _, _ = get_namespace_and_device(V)
    turned = []
    for block in blocks(dimensions):
        vectors = xp.linalg.eigh(covariance[block, block])[1]
        turned.append(V[:, block] @ xp.flip(vectors, axis=1))
    V = xp.concat(turned, axis=1)
    positive = xp.max(V, axis=0) >= -xp.min(V, axis=0)
    return V * xp.where(positive, xp.ones_like(V[0, :]), -xp.ones_like(V[0, :]))
