"""Distances between two samples."""

import numpy as np
from sklearn.metrics import pairwise_distances_chunked
from sklearn.utils import check_array

from skpapers.utils import check_random_state, kernel_product, median_squared_distance

__all__ = ["energy_distance", "maximum_mean_discrepancy", "sliced_wasserstein_distance"]


def energy_distance(X, Y):
    """Compute the energy distance between two samples.

    Parameters
    ----------
    X : array-like of shape (n_samples_X, n_features)
        One sample.
    Y : array-like of shape (n_samples_Y, n_features)
        The other.

    Returns
    -------
    float
        2 E|x - y| - E|x - x'| - E|y - y'| of the two empirical laws: not negative, zero where
        they are equal, in units of the data.

    References
    ----------
    Szekely and Rizzo, "Energy statistics: a class of statistics based on distances", 2013.

    Examples
    --------
    >>> from skpapers.processes import energy_distance
    >>> energy_distance([[0.0]], [[1.0]])
    2.0
    """
    X, Y = _two_samples(X, Y)
    return 2 * _mean_distance(X, Y) - _mean_distance(X, X) - _mean_distance(Y, Y)


def _mean_distance(X, Y):
    blocks = pairwise_distances_chunked(X, Y, reduce_func=lambda block, _: block.sum(axis=1))
    return float(np.concatenate(list(blocks)).sum() / (len(X) * len(Y)))


def maximum_mean_discrepancy(X, Y, *, bandwidth="median"):
    """Compute the squared maximum mean discrepancy between two samples, Gaussian kernel.

    Parameters
    ----------
    X : array-like of shape (n_samples_X, n_features)
        One sample.
    Y : array-like of shape (n_samples_Y, n_features)
        The other.
    bandwidth : "median" or float, default="median"
        Squared length c of the kernel exp(-|x - y|^2 / c); "median" is the median of the squared
        distances within both.

    Returns
    -------
    float
        The V-statistic, not negative.

    References
    ----------
    Gretton et al., "A kernel two-sample test", 2012.

    Examples
    --------
    >>> from skpapers.processes import maximum_mean_discrepancy
    >>> round(maximum_mean_discrepancy([[0.0]], [[1.0]], bandwidth=1.0), 4)  # 2 - 2 / e
    1.2642
    """
    X, Y = _two_samples(X, Y)
    if isinstance(bandwidth, str):
        bandwidth = median_squared_distance(np.concatenate([X, Y])) or 1.0
    pooled = np.concatenate([X, Y])
    signs = np.concatenate([np.full(len(X), 1 / len(X)), np.full(len(Y), -1 / len(Y))])
    return float(signs @ kernel_product(pooled, pooled, signs, gamma=1 / bandwidth))


def sliced_wasserstein_distance(X, Y, *, n_projections=100, random_state=0):
    """Compute the Wasserstein distance of order 1 between two samples, averaged over directions.

    Parameters
    ----------
    X : array-like of shape (n_samples_X, n_features)
        One sample.
    Y : array-like of shape (n_samples_Y, n_features)
        The other.
    n_projections : int, default=100
        Number of random directions.
    random_state : int, RandomState instance, Generator or None, default=0
        Seeds the directions.

    Returns
    -------
    float
        The mean distance, in units of the data.

    Examples
    --------
    >>> from skpapers.processes import sliced_wasserstein_distance
    >>> sliced_wasserstein_distance([[0.0], [1.0]], [[2.0], [3.0]])
    2.0
    """
    X, Y = _two_samples(X, Y)
    directions = check_random_state(random_state).normal(size=(X.shape[1], n_projections))
    directions /= np.linalg.norm(directions, axis=0)
    levels = np.union1d(np.arange(1, len(X) + 1) / len(X), np.arange(1, len(Y) + 1) / len(Y))
    middles, widths = levels - np.diff(levels, prepend=0) / 2, np.diff(levels, prepend=0)
    first, second = (_quantiles(sample @ directions, middles) for sample in (X, Y))
    return float((widths @ np.abs(first - second)).mean())


def _quantiles(columns, levels):
    ranks = np.minimum((levels * len(columns)).astype(int), len(columns) - 1)
    return np.sort(columns, axis=0)[ranks]


def _two_samples(X, Y):
    X, Y = (check_array(a, dtype=np.float64, input_name=n) for a, n in ((X, "X"), (Y, "Y")))
    if X.shape[1] != Y.shape[1]:
        raise ValueError(f"X has {X.shape[1]} features, Y has {Y.shape[1]}")
    return X, Y
