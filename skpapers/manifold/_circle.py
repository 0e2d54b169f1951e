"""Probability measures on the circle, in turns, and their quantile functions."""

from typing import NamedTuple

import numpy as np
from sklearn.utils import check_array

__all__ = [
    "Measures",
    "as_measures",
    "check_row",
    "embed",
    "histogram_measures",
    "is_ragged",
    "mean",
    "pad",
    "quantile",
    "quantiles_on_grid",
    "sample_measures",
    "wrap",
]

FLOATS = (np.float64, np.float32)


class Measures(NamedTuple):
    """Measures on the circle [0, 1): row i has mass spread evenly over pieces of one width.

    The masses of a row sum to 1; `level` is their cumulative sum, whose last value is exactly 1.
    """

    start: np.ndarray  # (n_measures, n_pieces), ascending
    mass: np.ndarray
    level: np.ndarray
    width: float  # 0 for atoms


def wrap(turns):
    """What is left of `turns` without whole turns, in [-1/2, 1/2]."""
    return turns - np.rint(turns)


def to_circle(angles, period):
    """Angles as float64 turns in [0, 1); NaN stays NaN."""
    turns = np.asarray(angles, dtype=np.float64) / period
    turns = turns - np.floor(turns)
    return np.where(turns >= 1, 0.0, turns)  # -1e-20 is rounded to 1


def sample_measures(angles, weights, period):
    """One atom a sample; NaN angles have no mass.

    Parameters
    ----------
    angles : ndarray of shape (n_measures, n_samples)
        Angles in units of `period`.
    weights : ndarray of shape (n_measures, n_samples) or None
        Masses, not negative, of any sum; None is equal masses.
    period : float
        One turn.
    """
    turns = to_circle(angles, period)
    missing = np.isnan(turns)
    if weights is None:
        start = np.sort(turns, axis=1)  # NaN last
        mass = np.sort(~missing, axis=1)[:, ::-1].astype(np.float64)
    else:
        order = np.argsort(turns, axis=1, kind="stable")
        start = np.take_along_axis(turns, order, axis=1)
        mass = np.take_along_axis(np.where(missing, 0.0, weights), order, axis=1)
    return _normalized(np.where(np.isnan(start), 0.0, start), mass, 0.0, "angle with a mass left")


def histogram_measures(histograms):
    """Masses of equal bins, spread evenly within each; a row of zeros is uniform."""
    if np.any(histograms < 0):
        raise ValueError("Negative values in X: a histogram has masses that are at least 0")
    mass = np.asarray(histograms, dtype=np.float64)
    mass = np.where(mass.any(axis=1, keepdims=True), mass, 1.0)
    n_bins = mass.shape[1]
    start = np.broadcast_to(np.arange(n_bins) / n_bins, mass.shape)
    return _normalized(start, mass, 1 / n_bins, "mass")


def _normalized(start, mass, width, what):
    largest = mass.max(axis=1, keepdims=True)
    empty = np.flatnonzero(largest == 0)
    if empty.size:
        raise ValueError(f"Row {empty[0]} of X has no {what}")
    mass = mass / largest  # neither overflows nor vanishes when summed
    level = np.cumsum(mass, axis=1)
    return Measures(start, mass / level[:, -1:], level / level[:, -1:], width)


def mean(measures):
    """Means of the measures on the chart [0, 1)."""
    return np.sum(measures.mass * measures.start, axis=1) + measures.width / 2


def quantiles_on_grid(measures, cuts, n_levels, offset=0.5):
    """Quantiles at the levels ``(k + offset) / n_levels - cut``, k = 0, ..., n_levels - 1.

    Outside (0, 1] the quantile function is extended by one turn for each unit of level. Every
    piece says which level of the grid is the first above it, so that nothing is searched for.

    Parameters
    ----------
    measures : Measures
        Measures.
    cuts : ndarray of shape (n_measures,)
        What is subtracted from the levels.
    n_levels : int
        Size of the grid.
    offset : float, default=0.5
        Place of the grid.
    """
    n_measures, n_pieces = measures.level.shape
    first = np.floor(n_levels * (measures.level + cuts[:, None]) - offset).astype(np.int64) + 1
    turns, place = np.divmod(first, n_levels)
    place += n_levels * np.arange(n_measures)[:, None]
    starts = np.bincount(place.ravel(), minlength=n_measures * n_levels)
    below = np.cumsum(starts.reshape(n_measures, n_levels), axis=1)
    turn, piece = np.divmod(below - turns.sum(axis=1, keepdims=True), n_pieces)
    values = turn + np.take_along_axis(measures.start, piece, axis=1)
    if measures.width == 0:
        return values
    mass, level = (np.take_along_axis(a, piece, axis=1) for a in (measures.mass, measures.level))
    grid = (np.arange(n_levels) + offset) / n_levels - cuts[:, None] - turn
    return values + measures.width * np.clip(1 - (level - grid) / mass, 0, 1)


def quantile(measures, levels):
    """Quantiles of a single measure of atoms, at any levels."""
    turn = np.ceil(levels) - 1
    return measures.start[0, np.searchsorted(measures.level[0], levels - turn)] + turn


def embed(measures, n_quantiles):
    """Displacements, in turns, of the optimal transport from the uniform distribution."""
    levels = (np.arange(n_quantiles) + 0.5) / n_quantiles
    return quantiles_on_grid(measures, mean(measures) - 0.5, n_quantiles) - levels


def as_measures(X, weights, period, input):
    """The distributions that the rows of X are."""
    if input == "histogram":
        return histogram_measures(X)
    return sample_measures(X, weights, period)


def is_ragged(X):
    """Whether X is a list of one-dimensional arrays."""
    rows = isinstance(X, (list, tuple)) and len(X) > 0
    return rows and all(isinstance(row, np.ndarray) and row.ndim == 1 for row in X)


def pad(rows):
    """Arrays of angles as the rows of a table, filled up with NaN; weights, with 0 masses."""
    lengths = np.array([len(row) for row in rows])
    table = np.full((len(rows), max(lengths.max(), 1)), np.nan, dtype=np.result_type(*rows, "f4"))
    table[np.arange(table.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return table


def check_row(angles, name):
    """A sample of angles as a table of one row."""
    row = check_array(
        angles, dtype=FLOATS, ensure_2d=False, ensure_all_finite="allow-nan", input_name=name
    )
    if row.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {row.shape}")
    return row[None]
