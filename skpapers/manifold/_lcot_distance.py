"""Distances of linear circular optimal transport."""

from math import pi, sqrt
from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_array, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from ._circle import (
    FLOATS,
    Measures,
    as_measures,
    check_row,
    embed,
    is_ragged,
    mean,
    pad,
    quantile,
    sample_measures,
    wrap,
)

__all__ = ["lcot_distance", "pairwise_lcot"]

_TILE = 50_000  # numbers in a tile of differences: stays in the cache


@validate_params(
    {
        "x": ["array-like"],
        "y": ["array-like", None],
        "x_weights": ["array-like", None],
        "y_weights": ["array-like", None],
        "period": [Interval(Real, 0, None, closed="neither")],
        "n_quantiles": [Interval(Integral, 1, None, closed="left"), None],
    },
    prefer_skip_nested_validation=True,
)
def lcot_distance(x, y=None, x_weights=None, y_weights=None, *, period=2 * pi, n_quantiles=None):
    """Linear circular optimal transport distance between two samples of angles.

    A metric, at least the circular Wasserstein-2 distance, and equal to the distance along the
    circle for two samples of one angle each.

    Parameters
    ----------
    x : array-like of shape (n_samples,)
        Angles; NaN are missing.
    y : array-like of shape (n_samples_y,), default=None
        Angles; None is the uniform distribution, to which the distance is the circular
        Wasserstein-2 distance.
    x_weights : array-like of shape (n_samples,), default=None
        Masses of the angles, of any sum; None is equal masses.
    y_weights : array-like of shape (n_samples_y,), default=None
        The same for y.
    period : float, default=2*pi
        One turn, in the units of the angles.
    n_quantiles : int, default=None
        Number of quantiles that are compared; None is the exact integral.

    Returns
    -------
    distance : float
        The distance in turns, not squared.

    References
    ----------
    R. Diaz Martin et al., "LCOT: Linear Circular Optimal Transport", ICLR 2024,
    arXiv:2310.06002 (Section 3).

    Examples
    --------
    >>> from skpapers.manifold import lcot_distance
    >>> round(lcot_distance([23.0], [2.0], period=24), 6)
    0.125
    """
    first = _one_measure(x, x_weights, "x", period)
    if y is None:
        second = Measures(np.zeros((1, 1)), np.ones((1, 1)), np.ones((1, 1)), 1.0)
    else:
        second = _one_measure(y, y_weights, "y", period)
    if n_quantiles is None:
        return sqrt(squared_distance(first, second))
    difference = embed(first, n_quantiles) - embed(second, n_quantiles)
    return sqrt(np.mean(wrap(difference) ** 2))


@validate_params(
    {
        "X": ["array-like"],
        "Y": ["array-like", None],
        "weights": ["array-like", None],
        "Y_weights": ["array-like", None],
        "period": [Interval(Real, 0, None, closed="neither")],
        "n_quantiles": [Interval(Integral, 1, None, closed="left")],
        "input": [StrOptions({"samples", "histogram"})],
    },
    prefer_skip_nested_validation=True,
)
def pairwise_lcot(
    X, Y=None, weights=None, Y_weights=None, *, period=2 * pi, n_quantiles=200, input="samples"
):
    """Linear circular optimal transport distances between all pairs of distributions.

    Parameters
    ----------
    X : array-like of shape (n_measures, n_features), or list of arrays of angles
        Angles, of which NaN are missing, or masses of bins in each row.
    Y : array-like of shape (n_measures_y, n_features_y), default=None
        Other distributions; None is X.
    weights : array-like of shape (n_measures, n_features), default=None
        Masses of the angles in X, of any sums; None is equal masses.
    Y_weights : array-like of shape (n_measures_y, n_features_y), default=None
        The same for Y.
    period : float, default=2*pi
        One turn, in the units of the angles.
    n_quantiles : int, default=200
        Number of quantiles that are compared.
    input : {"samples", "histogram"}, default="samples"
        What the rows are; a histogram has equal bins from 0 to `period`, and takes no weights.

    Returns
    -------
    distances : ndarray of shape (n_measures, n_measures_y)
        Distances in turns, not squared.

    References
    ----------
    R. Diaz Martin et al., "LCOT: Linear Circular Optimal Transport", ICLR 2024,
    arXiv:2310.06002 (Section 3).

    Examples
    --------
    >>> from skpapers.manifold import pairwise_lcot
    >>> pairwise_lcot([[0.0], [6.0], [18.0]], period=24)
    array([[0.  , 0.25, 0.25],
           [0.25, 0.  , 0.5 ],
           [0.25, 0.5 , 0.  ]])
    """
    if Y is None and Y_weights is not None:
        raise ValueError("Y_weights needs Y")
    first = _embedded(X, weights, "weights", period, n_quantiles, input)
    if Y is None:
        return wrapped_distances(first, None)
    return wrapped_distances(
        first, _embedded(Y, Y_weights, "Y_weights", period, n_quantiles, input)
    )


def _embedded(X, weights, name, period, n_quantiles, input):
    if input == "histogram" and weights is not None:
        raise ValueError(f"{name} must be None for input='histogram'")
    X = pad(X) if input == "samples" and is_ragged(X) else X
    finite = "allow-nan" if input == "samples" else True
    X = check_array(X, dtype=FLOATS, ensure_all_finite=finite)
    if weights is not None:
        weights = _checked_weights(pad(weights) if is_ragged(weights) else weights, X, name)
    return embed(as_measures(X, weights, period, input), n_quantiles)


def _one_measure(angles, weights, name, period):
    X = check_row(angles, name)
    if weights is not None:
        weights = _checked_weights(np.asarray(weights)[None], X, f"{name}_weights")
    return sample_measures(X, weights, period)


def _checked_weights(weights, X, name):
    weights = check_array(weights, dtype=np.float64, input_name=name, ensure_non_negative=True)
    if weights.shape != X.shape:
        raise ValueError(f"{name} has shape {weights.shape}, expected {X.shape}")
    return weights


def squared_distance(first, second):
    """Squared distance of two distributions, integrated exactly; the first one has atoms."""
    cuts = [mean(measure)[0] - 0.5 for measure in (first, second)]
    jumps = [(m.level[0] + cut) % 1 for m, cut in zip((first, second), cuts)]
    ends = np.unique(np.concatenate([[0.0, 1.0], *jumps]))
    length, middle = np.diff(ends), (ends[:-1] + ends[1:]) / 2
    place = quantile(first, middle - cuts[0])
    if second.width > 0:  # uniform: the difference falls by 1 a unit of level
        return float(length @ (wrap(place - middle) ** 2 + length**2 / 12))
    return float(length @ wrap(place - quantile(second, middle - cuts[1])) ** 2)


def wrapped_distances(A, B):
    """Root mean squares of differences of rows without whole turns; None for B is A."""
    other = A if B is None else B
    distances = np.empty((len(A), len(other)))
    side = max(1, int(sqrt(_TILE / A.shape[1])))
    for rows in gen_batches(len(A), side):
        for columns in gen_batches(len(other), side):
            if B is None and columns.stop <= rows.start:
                distances[rows, columns] = distances[columns, rows].T
                continue
            tile = A[rows, None] - other[None, columns]
            tile -= np.rint(tile)
            distances[rows, columns] = np.sqrt(np.einsum("ijk,ijk->ij", tile, tile))
    return distances / sqrt(A.shape[1])
