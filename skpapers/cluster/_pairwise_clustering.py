"""Clusters from answers on pairs of items, with and without a graph of soft similarities."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClusterMixin, _fit_context
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_random_state, nearest_neighbors

from ._agglomeration import Merger, join_by_weight, join_largest_first, sparse_weights
from ._pair_answers import (
    check_pairs,
    components,
    count_conflicts,
    misclassification_error,
    sample_pairs,
    split_at_bridges,
)
from ._spanning_trees import depth_first_path, effective_resistances, spanning_tree

__all__ = ["RGCA", "SACA"]

_PSEUDO_NEIGHBORS = 5
_PSEUDO_DISSIMILAR = 5  # pairs an item


class _PairClusterer(ClusterMixin, BaseEstimator):
    """What clusterers by answers on pairs have in common."""

    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left"), None],
        "consistency": [StrOptions({"strict", "majority"})],
        "noise_tolerance": [Interval(Real, 0, 1, closed="both")],
    }

    def _components(self, n, similar, dissimilar):
        if self.consistency == "strict":
            return components(n, similar)
        return split_at_bridges(n, similar, dissimilar, self.noise_tolerance)

    def _finish(self, labels, dissimilar):
        self.labels_ = labels
        self.component_sizes_ = np.bincount(labels)
        self.n_clusters_ = len(self.component_sizes_)
        self.n_conflicts_ = count_conflicts(labels, dissimilar)
        return self

    def _attach(self, labels, X):
        """Keep the `n_clusters` largest components; other items go to the nearest of them."""
        sizes = np.bincount(labels)
        if self.n_clusters is None or len(sizes) <= self.n_clusters:
            return labels
        kept = np.isin(labels, np.argsort(-sizes, kind="stable")[: self.n_clusters])
        search = NearestNeighbors(n_neighbors=1).fit(X[kept])
        nearest = search.kneighbors(X[~kept], return_distance=False)[:, 0]
        labels = labels.copy()
        labels[~kept] = labels[kept][nearest]
        return np.unique(labels, return_inverse=True)[1]

    def predict(self, X):
        """Find the cluster of the nearest training row.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_queries,)
            Labels.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self.labels_[self._nearest.kneighbors(X, return_distance=False)[:, 0]]


class SACA(_PairClusterer):
    """Simple agglomerative clustering: items joined by answers that they are the same.

    Given a random sample of pairs of items and, for each, whether both are in the same cluster,
    the clusters are the connected components of the pairs that are. With m answers on n items,
    clusters of fewer than about n ** 2 / (2 m) items stay in pieces, so that about
    n_clusters * n ** 2 / m items are misplaced; no learner does better from the answers alone.
    :class:`RGCA` does, where it knows something about the items.

    Parameters
    ----------
    n_clusters : int, default=None
        Number of clusters: the largest components stay, all other items go to that of the
        nearest row. None is all components.
    consistency : {"strict", "majority"}, default="strict"
        Whether all similar answers are obeyed, or single ones may be overruled: "majority" takes
        similar pairs away that alone hold a component together which dissimilar answers
        contradict.
    noise_tolerance : float, default=0.0
        With "majority", the share of dissimilar answers that is borne within a component.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Cluster of each item.
    n_clusters_ : int
        Number of clusters.
    component_sizes_ : ndarray of shape (n_clusters_,)
        Number of items in each cluster.
    anchored_ : ndarray of bool of shape (n_samples,)
        Items that a similar answer joins to another one.
    n_conflicts_ : int
        Number of dissimilar answers within a cluster.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    Without answers, `fit` makes its own from X: the same are pairs of rows that are among the
    five nearest neighbours of each other, and not farther apart than the median distance to the
    fifth neighbour. Labels y are never looked at; :func:`sample_pairs` turns them into answers.

    Cost O(n_samples + n_pairs), "majority" as much again for every pair it takes away.

    References
    ----------
    .. [1] S. Pasteris, F. Vitale, C. Gentile, M. Herbster, "On Pairwise Clustering with Side
       Information", arXiv:1706.06474, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.cluster import SACA, sample_pairs
    >>> y = np.repeat([0, 1], 50)
    >>> model = SACA().fit(np.zeros((100, 1)), **sample_pairs(y, 1000, random_state=0))
    >>> model.component_sizes_
    array([50, 50])
    """

    _search_space = {"n_clusters": [2, 3, 5, 10], "consistency": ["strict", "majority"]}

    def __init__(self, n_clusters=None, *, consistency="strict", noise_tolerance=0.0):
        self.n_clusters = n_clusters
        self.consistency = consistency
        self.noise_tolerance = noise_tolerance

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, pairs=None, similar=None):
        """Join the items.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features of the items; where answers are given, for new items and `n_clusters` alone.
        y : None
            Ignored.
        pairs : array-like of int of shape (n_pairs, 2), default=None
            Rows of the items that were asked for; None for answers made from X.
        similar : array-like of bool of shape (n_pairs,), default=None
            Whether both are in the same cluster.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        if pairs is None and similar is None:
            joined, dissimilar = close_pairs(X), np.empty((0, 2), dtype=np.intp)
        else:
            pairs, similar = check_pairs(pairs, similar, len(X))
            joined, dissimilar = pairs[similar], pairs[~similar]
        labels = self._components(len(X), joined, dissimilar)
        self.anchored_ = np.bincount(labels)[labels] > 1
        self._nearest = NearestNeighbors(n_neighbors=1).fit(X)
        return self._finish(self._attach(labels, X), dissimilar)


class RGCA(_PairClusterer):
    """Robust graph clustering: answers on pairs, completed along a graph that may be wrong.

    Answers that two items are the same join them, as in :class:`SACA`. What they leave in pieces
    is completed by side information, a graph of items that are likely the same: a random
    spanning tree of it, walked depth first, puts the items on a line on which neighbours are
    mostly of one cluster, and along this line pieces are joined unless an answer says that they
    differ. The number of misplaced items falls with the cut of the clusters in the graph,
    weighted by effective resistance, so that a few wrong edges within dense surroundings cost
    little; and useless side information does little harm.

    Parameters
    ----------
    n_clusters : int, default=None
        Number of clusters: pieces that the line leaves are joined where the most edge weight
        is between them and no answer forbids it, then as in :class:`SACA`. None is as many as
        the line leaves.
    side_information : {"features", "precomputed"}, default="features"
        Whether the graph is that of nearest neighbours of the rows of X, or X is the graph.
    n_neighbors : int, default=10
        Number of nearest neighbours, at most n_samples - 1; an edge is there if either of two
        rows is one of the other.
    tree : {"uniform", "mst"}, default="uniform"
        A spanning tree with a probability proportional to its weight, which is what the
        guarantee is about, or the heaviest one.
    n_trees : int, default=5
        Number of trees. Of their clusterings the one is kept that differs least from the others.
    order : {"path", "evidence"}, default="path"
        Whether pieces are joined from one end of the line to the other, or the largest first, by
        the product of their sizes: the larger two pieces are, the more answers have had the
        chance to forbid it. Better where the line comes back to clusters, as in graphs of
        nearest neighbours; worse on chains.
    consistency : {"strict", "majority"}, default="strict"
        Whether all similar answers are obeyed, see :class:`SACA`.
    noise_tolerance : float, default=0.0
        With "majority", the share of dissimilar answers that is borne within a component.
    random_state : int, RandomState instance or None, default=None
        Determines the trees, and the answers where none are given.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Cluster of each item.
    n_clusters_ : int
        Number of clusters.
    component_sizes_ : ndarray of shape (n_clusters_,)
        Number of items in each cluster.
    anchored_ : ndarray of bool of shape (n_samples,)
        Items that a similar answer joins to another one.
    n_conflicts_ : int
        Number of dissimilar answers within a cluster.
    tree_ : ndarray of shape (n_samples - 1, 2)
        Edges of the tree of the clustering that is kept.
    path_ : ndarray of shape (n_samples,)
        Items in the order of the line of this tree.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    The paper's abstract and introduction give the problem and the bounds; the steps are put
    together here from them and from its authors' work on trees and resistances. `n_clusters`,
    `order`, `n_trees` and `consistency` are additions.

    Without answers, `fit` makes its own from X: the same are those of :class:`SACA`, different
    are those farther apart than the median distance among five random pairs an item.

    Neighbours apart, a tree costs a random walk of about n log n steps on graphs that mix well,
    and joining O(n_pairs log n_pairs).

    References
    ----------
    .. [1] S. Pasteris, F. Vitale, C. Gentile, M. Herbster, "On Pairwise Clustering with Side
       Information", arXiv:1706.06474, 2017.
    .. [2] D. B. Wilson, "Generating random spanning trees more quickly than the cover time",
       STOC 1996.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from skpapers.cluster import RGCA, misclassification_error, sample_pairs
    >>> X, y = make_blobs(300, centers=5, random_state=0)
    >>> model = RGCA(random_state=0).fit(X, **sample_pairs(y, 1500, random_state=0))
    >>> misclassification_error(y, model.labels_) < 30
    True
    """

    _parameter_constraints = {
        **_PairClusterer._parameter_constraints,
        "side_information": [StrOptions({"features", "precomputed"})],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "tree": [StrOptions({"uniform", "mst"})],
        "n_trees": [Interval(Integral, 1, None, closed="left")],
        "order": [StrOptions({"path", "evidence"})],
        "random_state": ["random_state"],
    }
    _search_space = {"n_clusters": [2, 3, 5, 10], "order": ["path", "evidence"]}

    def __init__(
        self,
        n_clusters=None,
        *,
        side_information="features",
        n_neighbors=10,
        tree="uniform",
        n_trees=5,
        order="path",
        consistency="strict",
        noise_tolerance=0.0,
        random_state=None,
    ):
        self.n_clusters = n_clusters
        self.side_information = side_information
        self.n_neighbors = n_neighbors
        self.tree = tree
        self.n_trees = n_trees
        self.order = order
        self.consistency = consistency
        self.noise_tolerance = noise_tolerance
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, pairs=None, similar=None, adjacency=None):
        """Join the items.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features of the items, or with ``side_information="precomputed"`` the weights of the
            graph, of shape (n_samples, n_samples), which may be sparse.
        y : None
            Ignored.
        pairs : array-like of int of shape (n_pairs, 2), default=None
            Rows of the items that were asked for; None for answers made from X.
        similar : array-like of bool of shape (n_pairs,), default=None
            Whether both are in the same cluster.
        adjacency : {array-like, sparse matrix} of shape (n_samples, n_samples), default=None
            Graph to use in place of that of the nearest neighbours.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X = self._validate(X, reset=True)
        rng = check_random_state(self.random_state)
        n = X.shape[0]
        joined, dissimilar = self._answers(X, pairs, similar, rng)
        self._graph = self._side_graph(X, adjacency)
        pieces = self._components(n, joined, dissimilar)
        self.anchored_ = np.bincount(pieces)[pieces] > 1
        apart = pieces[dissimilar]
        runs = []
        for _ in range(self.n_trees):
            tree = spanning_tree(self._graph, self.tree, rng)
            path = depth_first_path(tree)
            runs.append((self._agglomerate(pieces, apart, path, X), tree, path))
        labels, self.tree_, self.path_ = runs[medoid([labels for labels, *_ in runs])]
        if self.side_information == "features":
            self._nearest = NearestNeighbors(n_neighbors=1).fit(X)
        return self._finish(labels, dissimilar)

    def _validate(self, X, reset):
        if self.side_information == "features":
            options = {"dtype": [np.float64, np.float32]}
        else:
            options = {"dtype": np.float64, "accept_sparse": "csr"}
        return validate_data(self, X, reset=reset, ensure_min_samples=2, **options)

    def _answers(self, X, pairs, similar, rng):
        if pairs is not None or similar is not None:
            pairs, similar = check_pairs(pairs, similar, X.shape[0])
            return pairs[similar], pairs[~similar]
        if self.side_information == "precomputed":
            raise ValueError("side_information='precomputed' needs pairs and similar")
        return close_pairs(X), far_pairs(X, rng)

    def _side_graph(self, X, adjacency):
        n = X.shape[0]
        if self.side_information == "features" and adjacency is None:
            return neighbor_graph(X, min(self.n_neighbors, n - 1))
        graph = X if adjacency is None else check_array(adjacency, accept_sparse="csr")
        graph = sparse.csr_array(graph, dtype=np.float64, copy=True)
        graph.setdiag(0)
        graph.eliminate_zeros()
        if graph.shape != (n, n) or (graph.nnz and graph.data.min() < 0):
            raise ValueError(
                f"the graph must be non-negative and of shape ({n}, {n}), got shape {graph.shape}"
            )
        return graph.maximum(graph.T).tocsr()

    def _agglomerate(self, pieces, apart, path, X):
        merger = Merger(np.bincount(pieces), apart)
        line = pieces[path]
        steps = line[np.flatnonzero(np.append(line[1:] != line[:-1], False))[:, None] + [0, 1]]
        if self.order == "path":
            for a, b in steps.tolist():
                merger.join(a, b)
        else:
            join_largest_first(merger, steps)
        if self.n_clusters is not None:
            join_by_weight(merger, sparse_weights(self._graph, pieces), self.n_clusters)
        labels = np.unique(merger.roots()[pieces], return_inverse=True)[1]
        return self._attach(labels, X) if self.side_information == "features" else labels

    def diagnose(self, y):
        """Compare the side information with a clustering, usually the true one.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            Cluster of each item.

        Returns
        -------
        dict
            "expected_cut": sum of weight times effective resistance over the edges of the graph
            between different clusters, the number of edges that a uniform spanning tree is
            expected to have there. "tree_cut": the number of those of `tree_`, joints of
            components among them. "path_changes": how often the cluster changes along `path_`,
            at most twice that.
        """
        check_is_fitted(self)
        y = np.asarray(y)
        edges = sparse.triu(self._graph).tocoo()
        pairs = np.column_stack([edges.row, edges.col])
        cut = y[pairs[:, 0]] != y[pairs[:, 1]]
        resistances = effective_resistances(self._graph, pairs[cut])
        return {
            "expected_cut": float(edges.data[cut] @ resistances),
            "tree_cut": int(np.sum(y[self.tree_[:, 0]] != y[self.tree_[:, 1]])),
            "path_changes": int(np.sum(y[self.path_[1:]] != y[self.path_[:-1]])),
        }

    def predict(self, X):
        """Find the cluster of the nearest training row.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)
            Rows; with ``side_information="precomputed"``, of shape (n_queries, n_samples),
            weights of the edges to the training items, of which the largest counts.

        Returns
        -------
        ndarray of shape (n_queries,)
            Labels.
        """
        if self.side_information == "features":
            return super().predict(X)
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, accept_sparse="csr", reset=False)
        return self.labels_[np.asarray(X.argmax(axis=1)).ravel()]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        precomputed = self.side_information == "precomputed"
        tags.input_tags.pairwise = tags.input_tags.sparse = precomputed
        return tags


def medoid(partitions):
    """Index of the partition with the least mean distance to the others."""
    distances = np.zeros((len(partitions), len(partitions)))
    for i, first in enumerate(partitions):
        for j, second in enumerate(partitions[:i]):
            distances[i, j] = distances[j, i] = misclassification_error(first, second)
    return int(np.argmin(distances.sum(axis=1)))


def neighbor_graph(X, n_neighbors):
    """Symmetric graph of nearest neighbours, with weights of one."""
    n = len(X)
    _, indices = nearest_neighbors(X, n_neighbors)
    rows = np.repeat(np.arange(n), n_neighbors)
    graph = sparse.csr_array((np.ones(rows.size), (rows, indices.ravel())), shape=(n, n))
    return graph.maximum(graph.T).tocsr()


def close_pairs(X):
    """Mutual near neighbours, not farther apart than is usual: stand-ins for similar answers."""
    k = min(_PSEUDO_NEIGHBORS, len(X) - 1)
    distances, indices = nearest_neighbors(X, k)
    close = distances <= np.median(distances[:, -1])
    rows = np.repeat(np.arange(len(X)), k)[close.ravel()]
    graph = sparse.csr_array(
        (np.ones(rows.size, bool), (rows, indices[close])), shape=(len(X), len(X))
    )
    return np.column_stack(sparse.triu(graph.multiply(graph.T)).nonzero())


def far_pairs(X, rng):
    """Random pairs farther apart than half of them: stand-ins for dissimilar answers."""
    n = len(X)
    n_pairs = min(_PSEUDO_DISSIMILAR * n, n * (n - 1) // 2)
    pairs = sample_pairs(np.zeros(n), n_pairs, rng).pairs
    distances = np.linalg.norm(X[pairs[:, 0]] - X[pairs[:, 1]], axis=1)
    return pairs[distances > np.median(distances)]
