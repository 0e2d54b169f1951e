"""Answers to the question whether two items are the same: samples, components, errors."""

from numbers import Integral

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components
from sklearn.metrics.cluster import contingency_matrix
from sklearn.utils import Bunch, check_array, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, validate_params

from skpapers.utils import check_random_state

from ._spanning_trees import bridges

__all__ = [
    "check_pairs",
    "components",
    "count_conflicts",
    "misclassification_error",
    "sample_pairs",
    "split_at_bridges",
]


@validate_params(
    {
        "y": ["array-like"],
        "n_pairs": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def sample_pairs(y, n_pairs, random_state=None):
    """Ask for random pairs of items whether they are in the same cluster.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Cluster of each item, which answers.
    n_pairs : int
        Number of pairs, at most ``n_samples * (n_samples - 1) / 2``.
    random_state : int, RandomState instance or None, default=None
        Determines the pairs; None is a new draw each time.

    Returns
    -------
    answers : :class:`~sklearn.utils.Bunch`
        `pairs`, int ndarray of shape (n_pairs, 2), drawn uniformly without replacement, and
        `similar`, bool ndarray of shape (n_pairs,): keywords of the `fit` of the clusterers.

    Raises
    ------
    ValueError
        If there are fewer pairs than `n_pairs`.

    Examples
    --------
    >>> from skpapers.cluster import sample_pairs
    >>> answers = sample_pairs(["cat", "cat", "dog"], 3, random_state=0)
    >>> int(answers.similar.sum())
    1
    """
    y = column_or_1d(y)
    n = len(y)
    n_all = n * (n - 1) // 2
    if n_pairs > n_all:
        raise ValueError(f"n_pairs={n_pairs} must be at most {n_all}, the pairs of {n} items")
    rng = check_random_state(random_state)
    chosen = _distinct_integers(n_all, n_pairs, rng)
    # pair number c is (i, j) with i < j and c = j (j - 1) / 2 + i
    j = ((1 + np.sqrt(1 + 8 * chosen.astype(np.float64))) / 2).astype(np.int64)
    j += (j + 1) * j // 2 <= chosen
    j -= j * (j - 1) // 2 > chosen
    pairs = np.column_stack([chosen - j * (j - 1) // 2, j])
    return Bunch(pairs=pairs, similar=y[pairs[:, 0]] == y[pairs[:, 1]])


def _distinct_integers(n, size, rng):
    """Distinct integers below n, in random order, without a list of all if they are few."""
    if 4 * size > n:
        return rng.permutation(n)[:size]
    chosen = np.empty(0, dtype=np.int64)
    while len(chosen) < size:
        drawn = np.concatenate([chosen, rng.randint(0, n, size=2 * size - len(chosen))])
        chosen = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
    return chosen[:size]


def misclassification_error(labels_true, labels_pred):
    """Count the items outside of the best matching of clusters.

    Parameters
    ----------
    labels_true : array-like of shape (n_samples,)
        Cluster of each item.
    labels_pred : array-like of shape (n_samples,)
        Cluster of each item in another partition.

    Returns
    -------
    int
        Least number of items in different clusters when each cluster of one partition is
        matched with at most one of the other: 0 for equal partitions, and a metric between
        partitions. Unlike the share of pairs that are told right, it sees clusters in pieces.

    Examples
    --------
    >>> from skpapers.cluster import misclassification_error
    >>> misclassification_error([0, 0, 0, 1, 1], [1, 1, 0, 2, 2])
    1
    """
    overlaps = contingency_matrix(labels_true, labels_pred)
    return int(overlaps.sum() - overlaps[linear_sum_assignment(-overlaps)].sum())


def check_pairs(pairs, similar, n_samples):
    """Validated pairs of rows and their answers, as integers and booleans."""
    if pairs is None or similar is None:
        raise ValueError("pairs and similar must be given together")
    pairs = check_array(pairs, dtype=None, ensure_min_samples=0, input_name="pairs")
    similar = column_or_1d(similar)
    check_consistent_length(pairs, similar)
    if pairs.dtype.kind not in "iu" or pairs.shape[1] != 2:
        raise ValueError(
            "pairs must be integers of shape (n_pairs, 2), got an array of "
            f"{pairs.dtype} of shape {pairs.shape}"
        )
    if pairs.size and not (pairs.min() >= 0 and pairs.max() < n_samples):
        raise ValueError(f"pairs must be row numbers from 0 to {n_samples - 1}")
    if not np.isin(similar, [0, 1]).all():
        raise ValueError("similar must hold 0 and 1, or False and True")
    return pairs.astype(np.intp), similar.astype(bool)


def components(n, pairs):
    """Connected components, in order of their first items."""
    graph = sparse.coo_array((np.ones(len(pairs), bool), pairs.T), shape=(n, n))
    return connected_components(graph, directed=False)[1]


def count_conflicts(labels, dissimilar):
    """Number of pairs within a cluster that should not be."""
    return int(np.sum(labels[dissimilar[:, 0]] == labels[dissimilar[:, 1]]))


def split_at_bridges(n, similar, dissimilar, tolerance):
    """Components of the similar pairs, without single answers that many others contradict.

    Where more than a share `tolerance` of the answers within a component is dissimilar, the
    similar pair is taken away that alone holds apart the ends of most of these, until the share
    is small enough or no pair alone holds two parts together.

    Returns
    -------
    ndarray of shape (n,)
        Components, in order of their first items.
    """
    labels = components(n, similar)
    suspects = _suspects(labels, similar, dissimilar, tolerance)
    while len(suspects):
        removed = [
            _worst_bridge(np.flatnonzero(labels == label), labels, similar, dissimilar)
            for label in suspects
        ]
        removed = [edge for edge in removed if edge is not None]
        if not removed:
            break
        similar = np.delete(similar, removed, axis=0)
        labels = components(n, similar)
        suspects = _suspects(labels, similar, dissimilar, tolerance)
    return labels


def _suspects(labels, similar, dissimilar, tolerance):
    """Components with too large a share of dissimilar answers."""
    inside = dissimilar[labels[dissimilar[:, 0]] == labels[dissimilar[:, 1]]]
    n_labels = labels.max() + 1
    against = np.bincount(labels[inside[:, 0]], minlength=n_labels)
    in_favour = np.bincount(labels[similar[:, 0]], minlength=n_labels)
    return np.flatnonzero(against > tolerance * (against + in_favour))


def _worst_bridge(members, labels, similar, dissimilar):
    """Row of the similar pair whose removal separates most dissimilar pairs, or None."""
    label = labels[members[0]]
    rows = np.flatnonzero(labels[similar[:, 0]] == label)
    edges = np.searchsorted(members, similar[rows])
    apart = dissimilar[(labels[dissimilar] == label).all(axis=1)]
    pairs, first, last = bridges(len(members), edges)
    places = first[np.searchsorted(members, apart)]
    low, high = first[pairs[:, 1], None, None], last[pairs[:, 1], None, None]
    inside = (low <= places) & (places < high)
    separated = np.sum(inside[..., 0] != inside[..., 1], axis=1)
    if not len(separated) or separated.max() == 0:
        return None
    worst = np.sort(pairs[np.argmax(separated)])
    return rows[np.flatnonzero((np.sort(edges, axis=1) == worst).all(axis=1))[0]]
