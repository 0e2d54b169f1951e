"""From distances to dissimilarities: how strong a cluster holds both of two samples."""

from numbers import Integral

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path
from sklearn.utils._param_validation import Interval, validate_params

from skpapers.utils._single_linkage import (
    check_distances,
    linkage_matrix,
    spanning_tree_of_matrix,
    ultrametric,
)

__all__ = [
    "fuzzy_strength",
    "fuzzy_strength_of_new",
    "geodesic_distances",
    "geodesics_of_new",
    "single_linkage",
    "single_linkage_ultrametric",
    "strength_to_dissimilarity",
    "ultrametric_of_new",
]

_SMALLEST_SCALE = 1e-3  # of a local metric, relative to the mean distance
_N_BISECTIONS = 64


@validate_params({"D": ["array-like"]}, prefer_skip_nested_validation=True)
def single_linkage_ultrametric(D):
    """Compute the length of the longest step on the best chain between each two samples.

    The dissimilarity of single linkage, the coarsest functorial clustering: the least, over all
    chains of samples from one to the other, of the largest distance between neighbours of the
    chain. It changes by no more than the distances do.

    Parameters
    ----------
    D : array-like of shape (n_samples, n_samples)
        Symmetric matrix of distances.

    Returns
    -------
    ndarray of shape (n_samples, n_samples)
        Ultrametric, nowhere larger than `D`.

    Notes
    -----
    O(n_samples**2), by a minimum spanning tree.

    References
    ----------
    .. [1] D. Shiebler, "Functorial Manifold Learning", ACT 2021, EPTCS 372, arXiv:2011.07435.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.manifold import single_linkage_ultrametric
    >>> x = np.array([0.0, 1.0, 2.0, 5.0])
    >>> single_linkage_ultrametric(abs(x[:, None] - x))
    array([[0., 1., 1., 3.],
           [1., 0., 1., 3.],
           [1., 1., 0., 3.],
           [3., 3., 3., 0.]])
    """
    return single_linkage(check_distances(D))[0]


@validate_params(
    {"D": ["array-like"], "n_neighbors": [Interval(Integral, 1, None, closed="left")]},
    prefer_skip_nested_validation=True,
)
def fuzzy_strength(D, n_neighbors=15):
    """Compute how strongly each two samples belong together, as UMAP does.

    Each sample sees its neighbours in a metric of its own, ``max(0, d - rho) / sigma``, with rho
    the least positive distance and sigma such that ``exp`` of minus it sums to
    ``log2(n_neighbors)``. The two views a, b of a pair are united, ``a + b - a * b``.

    Parameters
    ----------
    D : array-like of shape (n_samples, n_samples)
        Symmetric matrix of distances.
    n_neighbors : int, default=15
        Number of nearest neighbours each sample sees, at most n_samples - 1.

    Returns
    -------
    ndarray of shape (n_samples, n_samples)
        Strengths in [0, 1], with ones on the diagonal.

    References
    ----------
    .. [1] L. McInnes, J. Healy, J. Melville, "UMAP: Uniform Manifold Approximation and Projection
       for Dimension Reduction", arXiv:1802.03426, section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.manifold import fuzzy_strength
    >>> x = np.array([0.0, 1.0, 2.0, 5.0])
    >>> fuzzy_strength(abs(x[:, None] - x), 2).round(2)
    array([[1., 1., 0., 0.],
           [1., 1., 1., 0.],
           [0., 1., 1., 1.],
           [0., 0., 1., 1.]])
    """
    D = check_distances(D)
    others = D.copy()
    np.fill_diagonal(others, np.inf)
    strength = _strength_of_rows(others, min(n_neighbors, len(D) - 1))
    strength += strength.T - strength * strength.T
    np.fill_diagonal(strength, 1.0)
    return strength


def fuzzy_strength_of_new(D_new, n_neighbors):
    """Strengths that new samples, at these distances from the others, see in their own metric."""
    return _strength_of_rows(D_new, min(n_neighbors, D_new.shape[1]))


def _strength_of_rows(D, k):
    nearest = np.argpartition(D, k - 1, axis=1)[:, :k]
    d = np.take_along_axis(D, nearest, axis=1)
    rho = np.where(d > 0, d, np.inf).min(axis=1, keepdims=True)
    excess = np.maximum(d - np.where(np.isinf(rho), 0, rho), 0)
    sigma = _local_scales(excess, np.log2(k), _SMALLEST_SCALE * d.mean(axis=1, keepdims=True))
    strength = np.zeros_like(D)
    np.put_along_axis(strength, nearest, np.exp(-excess / sigma), axis=1)
    return strength


def _local_scales(excess, target, smallest):
    """Scales at which the sums of ``exp(-excess / scale)`` are `target`, by bisection.

    Sums grow with the scale, from the number of zeros to the number of columns.
    """
    tiny = np.finfo(np.float64).tiny
    low = np.maximum(smallest, tiny)
    high = np.maximum(excess.max(axis=1, keepdims=True) * excess.shape[1] * 4, low)
    for _ in range(_N_BISECTIONS):
        middle = (low + high) / 2
        too_small = np.exp(-excess / middle).sum(axis=1, keepdims=True) < target
        low, high = np.where(too_small, middle, low), np.where(too_small, high, middle)
    return (low + high) / 2


def strength_to_dissimilarity(strength, largest=None):
    """Minus the logarithm; `largest`, or one more than all others, where the strength is zero."""
    positive = strength > 0
    delta = -np.log(np.where(positive, strength, 1.0)) + 0.0
    return np.where(positive, delta, delta.max() + 1 if largest is None else largest)


def single_linkage(D):
    """Ultrametric of single linkage, and its merges in SciPy's format."""
    Z = linkage_matrix(spanning_tree_of_matrix(D))
    return ultrametric(Z), Z


def ultrametric_of_new(D_new, Z):
    """Single linkage dissimilarities of new samples, each as if it alone were added.

    The best chain from a new sample enters some cluster of the tree at its nearest member, and
    reaches every member at the larger of that step and the height of the cluster.
    """
    n_samples = D_new.shape[1]
    children, heights = Z[:, :2].astype(int), Z[:, 2]
    nearest = np.empty((2 * n_samples - 1, len(D_new)))
    nearest[:n_samples] = D_new.T
    for merge, (i, j) in enumerate(children):
        nearest[n_samples + merge] = np.minimum(nearest[i], nearest[j])
    best = np.maximum(nearest, np.concatenate([np.zeros(n_samples), heights])[:, None])
    for merge in range(len(children) - 1, -1, -1):
        for child in children[merge]:
            np.minimum(best[child], best[n_samples + merge], out=best[child])
    return best[:n_samples].T


def geodesic_distances(D, n_neighbors):
    """Lengths of shortest paths along nearest neighbours, and a spanning tree that joins all."""
    n_samples = len(D)
    others = D.copy()
    np.fill_diagonal(others, np.inf)
    k = min(n_neighbors, n_samples - 1)
    nearest = np.argpartition(others, k - 1, axis=1)[:, :k]
    tree = spanning_tree_of_matrix(D)
    sources = np.concatenate([np.repeat(np.arange(n_samples), k), tree.sources])
    targets = np.concatenate([nearest.ravel(), tree.targets])
    edges = np.unique(np.sort(np.stack([sources, targets]), axis=0), axis=1)
    # An explicit zero would be no edge: duplicates are joined by the smallest number there is.
    weights = np.maximum(D[edges[0], edges[1]], np.finfo(np.float64).tiny)
    graph = coo_array((weights, (edges[0], edges[1])), shape=D.shape).tocsr()
    return np.maximum(shortest_path(graph, directed=False), D)  # sums round down


def geodesics_of_new(D_new, delta, n_neighbors):
    """Lengths of shortest paths from new samples, whose first step goes to a near one."""
    k = min(n_neighbors, D_new.shape[1])
    nearest = np.argpartition(D_new, k - 1, axis=1)[:, :k]
    found = np.full(D_new.shape, np.inf)
    for column in nearest.T:
        first = np.take_along_axis(D_new, column[:, None], axis=1)
        np.minimum(found, first + delta[column], out=found)
    return found
