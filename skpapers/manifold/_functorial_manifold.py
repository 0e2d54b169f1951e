"""Functorial manifold learning: a functor to dissimilarities, and a loss that embeds them."""

from numbers import Integral, Real

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import VALID_METRICS
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_random_state
from skpapers.utils._single_linkage import check_distances

from ._dissimilarity_functors import (
    fuzzy_strength,
    fuzzy_strength_of_new,
    geodesic_distances,
    geodesics_of_new,
    single_linkage,
    single_linkage_ultrametric,
    strength_to_dissimilarity,
    ultrametric_of_new,
)
from ._smacof import classical_scaling, place_by_majorization, place_by_projection, smacof
from ._strength_losses import (
    cross_entropy_embedding,
    laplacian_embedding,
    laplacian_of_new,
    weighted_means,
)

__all__ = ["FunctorialScaling", "fuzzy_strength", "single_linkage_ultrametric", "smacof"]

_CLUSTERINGS = {"single", "maximal", "mix", "isomap", "umap"}
_SPECTRAL_SIZE = 10.0  # largest coordinate of the start of the cross-entropy, as in UMAP
_EQUAL = 1e-14  # distance, relative to the largest one, at which a new row is a training row


class FunctorialScaling(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Embed samples by composing a clustering, as a dissimilarity, with a loss.

    Many methods of manifold learning are a composition of two choices. A hierarchical
    clustering says how strongly each two samples belong together; a loss places points so that
    their distances say the same. Single linkage with the stress keeps chains of gradual change
    together that metric multidimensional scaling tears apart: mutations, trajectories. Among the
    clusterings that respect maps which shrink distances, it is the coarsest, and "maximal", plain
    distances, the finest: all others lie between them, and small errors of the distances stay
    small.

    Parameters
    ----------
    n_components : int, default=2
        Number of dimensions.
    clustering : {"single", "maximal", "mix", "isomap", "umap"} or callable, default="single"
        Where dissimilarities come from: "single", the longest step on the best chain between two
        samples; "maximal", the distances; "mix", between the two; "isomap", lengths of paths
        along nearest neighbours; "umap", minus the logarithm of :func:`fuzzy_strength`. A function
        takes the matrix of distances to one of dissimilarities.
    loss : {"stress", "strain", "laplacian", "cross_entropy"}, default="stress"
        What embeds them: "stress", squared errors of distances (metric scaling); "strain", squared
        errors of inner products (classical scaling); "laplacian", eigenvectors of the Laplacian of
        the strengths; "cross_entropy", UMAP's loss, over all pairs. The last two see the strengths
        ``exp(-dissimilarity)``, for which distances should be of the order of 1.
    mix : float, default=0.5
        Share of the distances in "mix", in [0, 1]; single linkage has the rest.
    n_neighbors : int, default=15
        Number of nearest neighbours for "isomap" and "umap", at most n_samples - 1.
    metric : str or callable, default="euclidean"
        Metric of :func:`sklearn.metrics.pairwise_distances`, or "precomputed": X is then the
        symmetric matrix of distances.
    metric_params : dict, default=None
        Further parameters of the metric.
    n_init : int, default=4
        Number of random starts, of which the best result is kept; with ``init="random"``.
    max_iter : int, default=300
        Largest number of steps of the stress and the cross-entropy.
    eps : float, default=1e-6
        Tolerance at which they stop: the decrease of the stress over the sum of squared distances,
        or that of the cross-entropy over itself.
    init : {"classical", "random"}, default="classical"
        Where they start: from the eigenvectors (of the strain, or of the Laplacian), or at random.
    random_state : int, RandomState instance or None, default=None
        Seed of random starts, and of the eigenvalue solver for more than 1000 samples.
    n_jobs : int, default=None
        Number of parallel jobs for distances of a metric other than "euclidean".

    Attributes
    ----------
    embedding_ : ndarray of shape (n_samples, n_components)
        The points.
    dissimilarity_matrix_ : ndarray of shape (n_samples, n_samples)
        Dissimilarities.
    strength_matrix_ : ndarray of shape (n_samples, n_samples)
        Strengths, ``exp`` of minus the dissimilarities (exact zeros with "umap"); computed on
        access.
    loss_ : float
        Value of the loss: for the Laplacian, the sum of the eigenvalues.
    linkage_ : ndarray of shape (n_samples - 1, 4) or None
        Merges of single linkage, in the format of :mod:`scipy.cluster.hierarchy`; None for
        clusterings that have none.
    n_iter_ : int
        Number of steps; 1 for losses solved by eigenvectors.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    "maximal" with "stress" is metric scaling, "maximal" with "strain" classical scaling; "single"
    with "stress" is single linkage scaling, "umap" with "laplacian" LUMAP, "maximal" with
    "cross_entropy" MLCE in the paper. The dissimilarities of "single", "maximal" and "mix" do not
    grow if samples are added or distances shrink, and move by no more than the distances do; for
    "isomap" and "umap" none of this holds. Isomap's graph is kept in one piece by a minimum
    spanning tree.

    O(n_samples**2) memory, and O(n_samples**2 * n_components) a step; the eigenvectors
    take O(n_samples**3) up to 1000 samples. :func:`smacof` alone runs on any array library.

    Ultrametrics need many dimensions to be embedded without error: in a few, single linkage
    scaling shows which samples are chained, not how far apart the chains are.

    `transform` is an approximation: each new row is placed on its own, with the training
    embedding held fixed. It minimises the stress of its dissimilarities, projects ("strain"),
    extends the eigenvectors ("laplacian"), or takes a weighted mean ("cross_entropy"). A training
    row gets its own place. With a function as `clustering` there is no `transform`.

    References
    ----------
    .. [1] D. Shiebler, "Functorial Manifold Learning", ACT 2021, EPTCS 372, arXiv:2011.07435,
       sections 3 to 5.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.manifold import FunctorialScaling
    >>> chain = np.cumsum(np.random.default_rng(0).random((30, 1)), axis=0)
    >>> X = np.vstack([chain, chain + 100]) * [[1.0, 0.3]]
    >>> embedding = FunctorialScaling().fit_transform(X)
    >>> bool(np.ptp(embedding[:30, 0]) < np.ptp(embedding[:, 0]) / 20)  # each chain is a spot
    True
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "clustering": [StrOptions(_CLUSTERINGS), callable],
        "loss": [StrOptions({"stress", "strain", "laplacian", "cross_entropy"})],
        "mix": [Interval(Real, 0, 1, closed="both")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "metric": [StrOptions(set(VALID_METRICS["brute"]) | {"precomputed"}), callable],
        "metric_params": [dict, None],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "eps": [Interval(Real, 0, None, closed="left")],
        "init": [StrOptions({"classical", "random"})],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
    }
    _search_space = {
        "clustering": ["single", "maximal", "mix", "isomap", "umap"],
        "loss": ["stress", "strain"],
        "n_components": [2, 4, 8],
    }

    def __init__(
        self,
        n_components=2,
        *,
        clustering="single",
        loss="stress",
        mix=0.5,
        n_neighbors=15,
        metric="euclidean",
        metric_params=None,
        n_init=4,
        max_iter=300,
        eps=1e-6,
        init="classical",
        random_state=None,
        n_jobs=None,
    ):
        self.n_components = n_components
        self.clustering = clustering
        self.loss = loss
        self.mix = mix
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.metric_params = metric_params
        self.n_init = n_init
        self.max_iter = max_iter
        self.eps = eps
        self.init = init
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X, y=None):
        """Compute the embedding.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
            Samples, at least two, or their distances where ``metric="precomputed"``.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        self.fit_transform(X)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X, y=None):
        """Compute the embedding and return it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
            Samples, at least two, or their distances where ``metric="precomputed"``.
        y : None
            Ignored.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            The embedding.

        Raises
        ------
        ValueError
            If precomputed distances are not symmetric, or negative, or if all strengths of a
            sample are zero.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        dtype, X = X.dtype, X.astype(np.float64)
        D = check_distances(X) if self.metric == "precomputed" else self._distances(X, X)
        self._X, self._largest = X, D.max()
        self.linkage_, self._strength = None, None
        self.dissimilarity_matrix_ = self._dissimilarities(D)
        rng = check_random_state(self.random_state)
        embedding, self.loss_, self.n_iter_ = self._embed(rng)
        self.embedding_ = embedding.astype(dtype)
        self._n_features_out = self.n_components
        return self.embedding_

    def _distances(self, A, B):
        if self.metric == "euclidean":
            return cdist(A, B)  # exact, unlike the expansion of the square
        params = self.metric_params or {}
        D = pairwise_distances(A, B, metric=self.metric, n_jobs=self.n_jobs, **params)
        if A is B:
            np.fill_diagonal(D, 0.0)
            D = (D + D.T) / 2
        return D

    def _dissimilarities(self, D):
        if callable(self.clustering):
            return check_distances(self.clustering(D.copy()))
        if self.clustering == "maximal":
            return D
        if self.clustering == "isomap":
            return geodesic_distances(D, self.n_neighbors)
        if self.clustering == "umap":
            self._strength = fuzzy_strength(D, self.n_neighbors)
            return strength_to_dissimilarity(self._strength)
        u, self.linkage_ = single_linkage(D)
        return u if self.clustering == "single" else (1 - self.mix) * u + self.mix * D

    @property
    def strength_matrix_(self):
        """Strengths of all pairs."""
        check_is_fitted(self)
        return np.exp(-self.dissimilarity_matrix_) if self._strength is None else self._strength

    def _embed(self, rng):
        """Embedding, value of the loss and number of steps."""
        delta, self._eigenvalues = self.dissimilarity_matrix_, None
        if self.loss == "strain":
            return *classical_scaling(delta, self.n_components, rng), 1
        if self.loss == "laplacian":
            strength = self.strength_matrix_
            embedding, self._eigenvalues = laplacian_embedding(strength, self.n_components, rng)
            return embedding, float(self._eigenvalues.sum()), 1
        options = {"max_iter": self.max_iter, "eps": self.eps}
        results = (self._minimize(init, options) for init in self._starts(rng))
        return min(results, key=lambda result: result[1])

    def _starts(self, rng):
        shape = len(self.dissimilarity_matrix_), self.n_components
        if self.init == "random":
            return (rng.uniform(size=shape) for _ in range(self.n_init))
        if self.loss == "stress":
            return [classical_scaling(self.dissimilarity_matrix_, self.n_components, rng)[0]]
        start, _ = laplacian_embedding(self.strength_matrix_, self.n_components, rng)
        return [start / np.abs(start).max()]

    def _minimize(self, start, options):
        if self.loss == "stress":
            return smacof(self.dissimilarity_matrix_, start, **options)
        return cross_entropy_embedding(self.strength_matrix_, _SPECTRAL_SIZE * start, **options)

    def transform(self, X):
        """Place new samples, with the embedding held fixed.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features) or (n_queries, n_samples)
            Samples, or their distances to the training samples where ``metric="precomputed"``.

        Returns
        -------
        ndarray of shape (n_queries, n_components)
            Their places.

        Raises
        ------
        ValueError
            If `clustering` is a function, which tells nothing of new samples.
        """
        check_is_fitted(self)
        if callable(self.clustering):
            raise ValueError("clustering is a function, which does not extend to new samples")
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        D = X.astype(np.float64)
        if self.metric != "precomputed":
            D = self._distances(D, self._X)
        placed = self._place(D).astype(X.dtype)
        nearest = D.argmin(axis=1)
        known = D[np.arange(len(D)), nearest] <= _EQUAL * self._largest
        placed[known] = self.embedding_[nearest[known]]
        return placed

    def _place(self, D):
        embedding = self.embedding_.astype(np.float64)
        if self.loss in ("laplacian", "cross_entropy"):
            strength = self._new_strengths(D)
            if self.loss == "laplacian":
                return laplacian_of_new(strength, embedding, self._eigenvalues)
            return weighted_means(strength, embedding)
        delta = self._new_dissimilarities(D)
        start = place_by_projection(delta, embedding, self.dissimilarity_matrix_)
        if self.loss == "strain":
            return start
        options = {"max_iter": self.max_iter, "eps": self.eps}
        return place_by_majorization(delta, embedding, start, **options)

    def _new_strengths(self, D):
        if self.clustering == "umap":
            return fuzzy_strength_of_new(D, self.n_neighbors)
        return np.exp(-self._new_dissimilarities(D))

    def _new_dissimilarities(self, D):
        if self.clustering == "maximal":
            return D
        if self.clustering == "isomap":
            return geodesics_of_new(D, self.dissimilarity_matrix_, self.n_neighbors)
        if self.clustering == "umap":
            strength = fuzzy_strength_of_new(D, self.n_neighbors)
            return strength_to_dissimilarity(strength, self.dissimilarity_matrix_.max())
        u = ultrametric_of_new(D, self.linkage_)
        return u if self.clustering == "single" else (1 - self.mix) * u + self.mix * D

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.metric == "precomputed"
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
