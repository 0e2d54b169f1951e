"""Functorial clustering: density-sensitive single linkage that is consistent under maps."""

from numbers import Integral, Real

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, ClusterMixin, _fit_context, clone
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import VALID_METRICS, NearestNeighbors
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils._single_linkage import (
    check_distances,
    cut,
    linkage_matrix,
    minimum_spanning_tree,
    spanning_tree_of_matrix,
    ultrametric,
)

from ._motifs import check_motifs, motif_diameters

_SHAPES = StrOptions({"pair", "simplex", "star", "custom"})
_BLOCK = 2**24  # distances held at a time


class FunctorialClustering(ClusterMixin, BaseEstimator):
    """Clustering by chains of motifs: single linkage that density keeps from chaining.

    Two samples are in the same cluster if a chain of small configurations (motifs: a star of
    `n_points` samples, a simplex of pairwise close samples, ...) leads from one to the other. At
    a fixed threshold this is functorial: more samples, or smaller distances, can only merge
    clusters and never split them, and clustering one cluster again gives that cluster. Those
    are the only schemes with this guarantee. DBSCAN, HDBSCAN, average linkage and k-means do not
    give it.

    Parameters
    ----------
    shape : {"star", "pair", "simplex", "custom"}, default="star"
        The motif: ``"pair"``, two samples (plain single linkage); ``"star"``, a centre and
        ``n_points - 1`` samples near it; ``"simplex"``, `n_points` samples all near each other;
        ``"custom"``, the metric spaces in `motifs`.
    n_points : int, default=5
        Number of samples of a star (its centre included) or a simplex.
    distance_threshold : float, default=None
        Scale of the motifs, in the units of the distance: samples that share a motif at this
        scale are joined. None leaves the choice to `n_clusters`, or to the data.
    n_clusters : int, default=None
        If given, the smallest threshold that leaves at most this many blocks is taken
        (singletons count as blocks).
    metric : str or callable, default="euclidean"
        Any metric of :func:`sklearn.metrics.pairwise_distances`, or ``"precomputed"``: X is then
        the symmetric matrix of distances.
    metric_params : dict, default=None
        Further parameters of the metric.
    min_cluster_size : int, default=1
        Blocks of fewer samples get the label -1.
    singletons : {"label", "noise"}, default="label"
        Whether a block of one sample is a cluster or gets the label -1.
    motifs : list of array-like of shape (n_motif_points, n_motif_points), default=None
        Distance matrices of up to five points each, where ``shape="custom"``.
    algorithm : {"auto", "brute", "kd_tree", "ball_tree"}, default="auto"
        How the nearest neighbours of the stars are found.
    n_jobs : int, default=None
        Number of parallel jobs for nearest neighbours and distances.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Clusters, numbered from 0 by their first row; -1 for what is not a cluster.
    n_clusters_ : int
        Number of clusters.
    threshold_ : float
        Threshold of the cut.
    linkage_matrix_ : ndarray of shape (n_samples - 1, 4)
        All merges, in the format of :mod:`scipy.cluster.hierarchy`. Heights are infinite where
        there are fewer samples than points of the motif.
    children_ : ndarray of shape (n_samples - 1, 2)
        Pairs of nodes merged, as in :class:`sklearn.cluster.AgglomerativeClustering`.
    distances_ : ndarray of shape (n_samples - 1,)
        Heights of the merges.
    core_distances_ : ndarray of shape (n_samples,) or None
        Radius of the smallest star centred at each sample; None for other shapes.
    ultrametric_ : ndarray of shape (n_samples, n_samples)
        Height at which each pair is first in one block; computed on access.
    functor_class_ : {"gen", "inj"} or None
        The maps under which the result is consistent: all non-expanding maps, or the injective
        ones. None where the threshold was chosen from the data, which makes no scheme
        consistent.
    n_features_in_ : int
        Number of features seen during :term:`fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where they are all strings.

    Notes
    -----
    Without `distance_threshold` and `n_clusters` the cut is a heuristic: of the upper half of
    the distinct merge heights, the geometric mean of the two neighbours with the largest ratio.

    Pairs and stars cost O(n_samples ** 2 * n_features) time and O(n_samples) memory; simplices
    of three points O(n_samples ** 3), larger ones and custom motifs are exact searches for small
    data, all with O(n_samples ** 2) memory. Fewer samples than points of the motif: each sample
    is alone.

    The star merges border points with every cluster whose core points they touch, where HDBSCAN's
    mutual reachability (the maximum of both core distances) leaves them alone.

    References
    ----------
    .. [1] G. Carlsson, F. Memoli, "Classifying Clustering Schemes", Foundations of Computational
       Mathematics 13, 2013, :arxiv:`1011.5270`, sections 6 (representable schemes, excisiveness)
       and 7 (hierarchical schemes).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.cluster import FunctorialClustering
    >>> rng = np.random.default_rng(0)
    >>> blobs = [rng.normal(centre, 0.3, size=(50, 2)) for centre in (0, 4)]
    >>> bridge = np.linspace(0.5, 3.5, 8)[:, None] * np.ones(2)
    >>> X = np.vstack([*blobs, bridge])
    >>> star = FunctorialClustering(distance_threshold=0.6, min_cluster_size=5).fit(X)
    >>> star.n_clusters_, bool(star.labels_[0] != star.labels_[50])
    (2, True)
    >>> FunctorialClustering("pair", distance_threshold=0.7, min_cluster_size=5).fit(X).n_clusters_
    1
    """

    _parameter_constraints: dict = {
        "shape": [_SHAPES],
        "n_points": [Interval(Integral, 2, None, closed="left")],
        "distance_threshold": [None, Interval(Real, 0, None, closed="left")],
        "n_clusters": [None, Interval(Integral, 1, None, closed="left")],
        "metric": [StrOptions({*VALID_METRICS["brute"], "precomputed"}), callable],
        "metric_params": [None, dict],
        "min_cluster_size": [Interval(Integral, 1, None, closed="left")],
        "singletons": [StrOptions({"label", "noise"})],
        "motifs": [None, list, tuple],
        "algorithm": [StrOptions({"auto", "brute", "kd_tree", "ball_tree"})],
        "n_jobs": [None, Integral],
    }
    _search_space = {
        "shape": ["star", "pair"],
        "n_points": [3, 5, 8, 12],
        "min_cluster_size": [1, 5, 10],
    }

    def __init__(
        self,
        shape="star",
        n_points=5,
        *,
        distance_threshold=None,
        n_clusters=None,
        metric="euclidean",
        metric_params=None,
        min_cluster_size=1,
        singletons="label",
        motifs=None,
        algorithm="auto",
        n_jobs=None,
    ):
        self.shape = shape
        self.n_points = n_points
        self.distance_threshold = distance_threshold
        self.n_clusters = n_clusters
        self.metric = metric
        self.metric_params = metric_params
        self.min_cluster_size = min_cluster_size
        self.singletons = singletons
        self.motifs = motifs
        self.algorithm = algorithm
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Build the hierarchy and cut it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
            Samples, or their distances where ``metric="precomputed"``.
        y : None
            Ignored.

        Returns
        -------
        FunctorialClustering
            The fitted estimator.

        Raises
        ------
        ValueError
            If both `distance_threshold` and `n_clusters` are given, the motifs do not fit the
            shape, precomputed distances are not a symmetric matrix, or squares of differences
            over- or underflow.
        """
        if self.distance_threshold is not None and self.n_clusters is not None:
            raise ValueError("distance_threshold and n_clusters cannot both be given")
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        X = X.astype(np.float64)  # a copy too, for predict
        if self.metric == "precomputed":
            X = check_distances(X)
        elif self.metric == "euclidean":
            _check_range(X)
        self._motifs = check_motifs(self.shape, self.motifs)
        self._X, self.core_distances_, self._inner_core = X, None, None
        tree = self._tree(X)
        self.linkage_matrix_ = linkage_matrix(tree)
        self.children_ = self.linkage_matrix_[:, :2].astype(int)
        self.distances_ = self.linkage_matrix_[:, 2]
        self.threshold_ = self._threshold()
        smallest = max(self.min_cluster_size, 2 if self.singletons == "noise" else 1)
        self.labels_ = _drop_small(cut(tree, self.threshold_), smallest)
        self.n_clusters_ = int(self.labels_.max()) + 1
        self.functor_class_ = self._functor_class()
        return self

    def _tree(self, X):
        if self.shape == "star":
            self._inner_core, self.core_distances_ = self._neighbours(X)
        if self.shape in ("simplex", "custom"):
            D = self._distances(X, X)
            return spanning_tree_of_matrix(
                motif_diameters(D, self.shape, self.n_points, self._motifs)
            )
        if self.metric == "euclidean":
            return _euclidean_tree(X, self.core_distances_)
        if self.metric != "precomputed":
            row = self._distances
            return minimum_spanning_tree(X, lambda x, rest: row(x, rest)[0], self.core_distances_)
        if self.shape == "star":
            X = motif_diameters(X, "star", self.n_points, core=self.core_distances_)
        return spanning_tree_of_matrix(X)

    def _distances(self, A, B):
        if self.metric == "precomputed":
            return A
        if self.metric == "euclidean":
            return cdist(A, B)  # exact, unlike the expansion of the square
        params = self.metric_params or {}
        return pairwise_distances(A, B, metric=self.metric, n_jobs=self.n_jobs, **params)

    def _neighbours(self, X):
        """Distances to the (n_points - 2)-th and the (n_points - 1)-th other sample."""
        k, n_samples = self.n_points - 1, len(X)
        if k >= n_samples:
            inner = np.full(n_samples, np.inf)
            if k == n_samples:
                inner = self._kth(X, [k - 1])[0]
            return inner, np.full(n_samples, np.inf)
        return self._kth(X, [k - 1, k])

    def _kth(self, X, ranks):
        """Sorted distances of given ranks from each sample; rank 0 is the sample itself."""
        algorithm = self.algorithm
        if algorithm == "auto":
            tree = len(X) > 500 and X.shape[1] <= 15 and self.metric in VALID_METRICS["kd_tree"]
            algorithm = "kd_tree" if tree else "brute"
        if self.metric == "precomputed" or algorithm == "brute":
            size = max(1, _BLOCK // len(X))
            blocks = (X[start : start + size] for start in range(0, len(X), size))
            found = [np.partition(self._distances(b, X), ranks, axis=1)[:, ranks] for b in blocks]
            return np.concatenate(found).T.copy()
        search = NearestNeighbors(
            n_neighbors=max(ranks) + 1,
            algorithm=algorithm,
            metric=self.metric,
            metric_params=self.metric_params,
            n_jobs=self.n_jobs,
        )
        return search.fit(X).kneighbors(X)[0][:, ranks].T.copy()

    def _threshold(self):
        heights = self.distances_[np.isfinite(self.distances_)]
        if self.distance_threshold is not None:
            return float(self.distance_threshold)
        if self.n_clusters is not None:
            n_merges = len(self.distances_) + 1 - self.n_clusters
            return float(heights[n_merges - 1]) if 0 < n_merges <= len(heights) else 0.0
        return largest_gap(heights)

    def _functor_class(self):
        if self.distance_threshold is None:
            return None
        two_points = self.shape in ("star", "simplex") and self.n_points == 2
        return "gen" if self.shape == "pair" or two_points else "inj"

    @property
    def ultrametric_(self):
        """Height at which each pair of samples is first in one block."""
        check_is_fitted(self)
        return ultrametric(self.linkage_matrix_)

    def predict(self, X):
        """Find the cluster that each row would join if it were added to the training samples.

        Each row is judged on its own. A row that would join several clusters (and merge them)
        gets the label of the sample it is closest to by shared motifs.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features) or (n_queries, n_samples)
            Rows, or their distances to the training samples where ``metric="precomputed"``.

        Returns
        -------
        ndarray of shape (n_queries,)
            Labels; -1 for a row that would be alone or join no cluster.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        X = X.astype(np.float64, copy=False)
        size = max(1, _BLOCK // len(self._X))
        blocks = (X[start : start + size] for start in range(0, len(X), size))
        return np.concatenate([self._join(self._distances(b, self._X)) for b in blocks])

    def _join(self, D):
        """Labels of the samples nearest to rows with distances D, or -1 beyond the threshold."""
        if self.shape == "star":
            D = self._star_weights(D)
        elif self.shape != "pair":
            D = np.array([self._motif_weights(row) for row in D])
        nearest = D.argmin(axis=1)
        reached = D[np.arange(len(D)), nearest] <= self.threshold_
        return np.where(reached, self.labels_[nearest], -1)

    def _star_weights(self, D):
        """Weights of new rows to the training samples, with core distances that count the row."""
        k = self.n_points - 1
        core = np.full((len(D), 1), np.inf)
        if k <= D.shape[1]:
            core = np.partition(D, k - 1, axis=1)[:, k - 1 : k]
        updated = np.minimum(self.core_distances_, np.maximum(self._inner_core, D))
        return np.maximum(D, np.minimum(core, updated))

    def _motif_weights(self, row):
        """Motivic distances of one new row; only samples within reach of a motif matter."""
        diameter = max((motif.max() for motif in self._motifs), default=1.0)
        near = np.flatnonzero(row <= self.threshold_ * diameter)
        D = np.zeros((len(near) + 1, len(near) + 1))
        D[-1, :-1] = D[:-1, -1] = row[near]
        training = self._X[near]
        if self.metric == "precomputed":
            D[:-1, :-1] = training[:, near]
        elif len(near):
            D[:-1, :-1] = self._distances(training, training)
        weights = np.full(len(row), np.inf)
        weights[near] = motif_diameters(D, self.shape, self.n_points, self._motifs)[-1, :-1]
        return weights

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.metric == "precomputed"
        return tags


@validate_params(
    {
        "D": ["array-like"],
        "shape": [_SHAPES],
        "n_points": [Interval(Integral, 2, None, closed="left")],
        "motifs": [None, list, tuple],
    },
    prefer_skip_nested_validation=True,
)
def motivic_distance(D, shape="star", n_points=5, *, motifs=None):
    """Smallest scale at which a motif holds both of two samples, for each pair.

    Parameters
    ----------
    D : array-like of shape (n_samples, n_samples)
        Symmetric matrix of distances.
    shape : {"star", "pair", "simplex", "custom"}, default="star"
        The motif, as in :class:`FunctorialClustering`.
    n_points : int, default=5
        Number of samples of a star or a simplex.
    motifs : list of array-like of shape (n_motif_points, n_motif_points), default=None
        Distance matrices of up to five points each, where ``shape="custom"``.

    Returns
    -------
    ndarray of shape (n_samples, n_samples)
        Motivic distances, with a zero diagonal; infinite off it where there are fewer samples
        than points. For stars it counts only the pairs of centre and leaf, of which two leaves
        make a chain: single linkage, and so the clustering, is the same.

    References
    ----------
    .. [1] G. Carlsson, F. Memoli, "Classifying Clustering Schemes", Foundations of Computational
       Mathematics 13, 2013, :arxiv:`1011.5270`, section 6.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.cluster import motivic_distance
    >>> x = np.array([0.0, 1.0, 2.0, 9.0])
    >>> motivic_distance(abs(x[:, None] - x), "simplex", 3)
    array([[0., 2., 2., 9.],
           [2., 0., 2., 8.],
           [2., 2., 0., 8.],
           [9., 8., 8., 0.]])
    """
    D = check_distances(D)
    return motif_diameters(D, shape, n_points, check_motifs(shape, motifs))


@validate_params(
    {
        "clusterer": [BaseEstimator],
        "X": ["array-like"],
        "X_sub": ["array-like"],
        "mapping": [None, "array-like"],
    },
    prefer_skip_nested_validation=True,
)
def check_functoriality(clusterer, X, X_sub, *, mapping=None):
    """Tell whether a clustering is consistent under one non-expanding map.

    A functorial clustering sends clusters into clusters: samples of `X_sub` in the same cluster
    are in the same cluster of `X`.

    Parameters
    ----------
    clusterer : estimator
        Clusterer with ``fit_predict``; it is cloned. Its label -1 means a cluster of one.
    X : array-like of shape (n_samples, n_features)
        Samples that `X_sub` is mapped to.
    X_sub : array-like of shape (n_sub_samples, n_features)
        Samples that are mapped.
    mapping : array-like of shape (n_sub_samples,), default=None
        Row of `X` that each row of `X_sub` goes to; None maps them to the first rows.

    Returns
    -------
    bool
        Whether the clusters of `X_sub` go into clusters of `X`.

    Raises
    ------
    ValueError
        If the map increases some Euclidean distance.

    References
    ----------
    .. [1] G. Carlsson, F. Memoli, "Classifying Clustering Schemes", Foundations of Computational
       Mathematics 13, 2013, :arxiv:`1011.5270`, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.cluster import KMeans
    >>> from skpapers.cluster import FunctorialClustering, check_functoriality
    >>> X = np.array([[0.0], [1.0], [5.0], [6.0], [100.0]])
    >>> check_functoriality(FunctorialClustering("pair", distance_threshold=2.0), X, X[:4])
    True
    >>> far, near = np.array([[0.0], [1.0], [50.0]]), np.array([[0.0], [1.0], [1.1]])
    >>> check_functoriality(KMeans(2, n_init=10, random_state=0), near, far)
    False
    """
    X, X_sub = check_array(X), check_array(X_sub)
    image = np.arange(len(X_sub)) if mapping is None else np.asarray(mapping)
    before, after = cdist(X_sub, X_sub), cdist(X[image], X[image])
    if np.any(after > before * (1 + 1e-9) + 1e-12 * before.max()):
        raise ValueError("the map from X_sub to X increases a distance")
    sub, whole = (_blocks(clone(clusterer).fit_predict(data)) for data in (X_sub, X))
    pairs = np.unique(np.stack([sub, whole[image]]), axis=1)
    return len(np.unique(pairs[0])) == pairs.shape[1]


def _blocks(labels):
    """Labels in which each sample labelled -1 is a block of its own."""
    labels = np.array(labels)
    alone = labels == -1
    labels[alone] = labels.max() + 1 + np.arange(alone.sum())
    return labels


def _euclidean_tree(X, core):
    """Spanning tree on squared distances, whose roots are taken of the edges alone."""
    tree = minimum_spanning_tree(
        X,
        lambda x, rest: cdist(x, rest, "sqeuclidean")[0],
        None if core is None else core * core,
    )
    return tree._replace(heights=np.sqrt(tree.heights))


def largest_gap(heights):
    """Cut at the largest ratio of neighbours in the upper half of the distinct heights."""
    distinct = np.unique(heights[heights > 0])
    upper = distinct[len(distinct) // 2 :]
    if len(upper) < 2:
        return float(heights.max(initial=0.0))
    i = np.argmax(upper[1:] / upper[:-1])
    return float(np.sqrt(upper[i]) * np.sqrt(upper[i + 1]))


def _drop_small(blocks, smallest):
    """Give -1 to blocks of fewer samples, and number the others by their first sample."""
    kept = np.bincount(blocks) >= smallest
    return np.where(kept, np.cumsum(kept) - 1, -1)[blocks]


def _check_range(X):
    """Squares of differences must neither overflow nor underflow."""
    spread = np.ptp(X, axis=0).max()
    if not (spread == 0 or 1e-150 < spread < 1e150):
        raise ValueError(f"the range of X, {spread:g}, is beyond floating point: rescale X")
