"""Tables as codes: categories of discrete columns, bins of continuous ones."""

from typing import NamedTuple

import numpy as np

__all__ = ["UNKNOWN", "UNSEEN", "Binning", "declared_binning", "fit_binning"]

UNKNOWN = -1  # the code of NaN
UNSEEN = -2  # the code of a value of a discrete column that was not there in fit
_MAX_INTEGERS = 256
_MAX_REPEATED = 20


class _Scale(NamedTuple):
    """The values of one column, or of several that share them; without `edges` it is discrete."""

    values: np.ndarray
    edges: np.ndarray | None = None

    def encode(self, x):
        if self.edges is not None:
            return np.searchsorted(self.edges[1:-1], x, side="right")
        code = np.searchsorted(self.values, x).clip(max=self.values.size - 1)
        return np.where(self.values[code] == x, code, UNSEEN)

    def log_width(self, code):
        return 0.0 if self.edges is None else np.log(np.diff(self.edges))[code]

    def draw(self, code, rng):
        if self.edges is None:
            return self.values[code]
        return rng.uniform(self.edges[code], self.edges[code + 1])


class Binning:
    """Maps the columns of a table to codes 0, 1, ... and back.

    Column j has the scale ``scales[group[j]]``.
    """

    def __init__(self, scales, group):
        self.scales = scales
        self.group = group

    @property
    def n_codes(self):
        """Number of codes of each column."""
        return np.array([scale.values.size for scale in self.scales])[self.group]

    def encode(self, X):
        """Codes of the entries of X; those beyond the ends of a binned column get its end bins."""
        codes = np.empty(X.shape, dtype=np.int64)
        for scale, columns in self._groups():
            codes[:, columns] = scale.encode(X[:, columns].astype(np.float64))
        codes[np.isnan(X)] = UNKNOWN
        return codes

    def decode(self, codes, dtype, rng=None):
        """Values of codes: the middle of a bin, or with `rng` a uniform draw from it."""
        X = np.empty(codes.shape, dtype=dtype)
        for scale, columns in self._groups():
            code = codes[:, columns]
            X[:, columns] = scale.values[code] if rng is None else scale.draw(code, rng)
        return X

    def log_volume(self, codes):
        """Log volume of the cell each row is in: only its known, binned columns count."""
        total = np.zeros(len(codes))
        for scale, columns in self._groups():
            code = codes[:, columns]
            total += np.where(code >= 0, scale.log_width(code.clip(min=0)), 0.0).sum(axis=1)
        return total

    def _groups(self):
        order = np.argsort(self.group, kind="stable")
        ends = np.bincount(self.group, minlength=len(self.scales)).cumsum()
        return zip(self.scales, np.split(order, ends[:-1]))


def fit_binning(X, n_bins, strategy, group=None):
    """Learn the scales of the columns of X.

    A column is discrete where it holds integers only, at most 256 different ones, or at most 20
    different values that appear twice on average, or one value. Others are cut into bins.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Data; NaN is unknown.
    n_bins : int
        Number of bins of a continuous column, at most.
    strategy : {"uniform", "quantile"}
        Bins of equal widths, or of equal numbers of rows.
    group : ndarray of shape (n_features,), default=None
        Columns of the same number, counted from 0, share a scale. None is a scale each.

    Returns
    -------
    Binning
        From values to codes.
    """
    group = np.arange(X.shape[1]) if group is None else np.asarray(group)
    columns = (X[:, group == g].astype(np.float64).ravel() for g in range(group.max() + 1))
    scales = [_fit_scale(x[~np.isnan(x)], n_bins, strategy, g) for g, x in enumerate(columns)]
    return Binning(scales, group)


def declared_binning(n_features, n_categories):
    """Make the binning of columns that hold 0, ..., n_categories - 1."""
    scale = _Scale(np.arange(float(n_categories)))
    return Binning([scale], np.zeros(n_features, dtype=int))


def _fit_scale(x, n_bins, strategy, group):
    if x.size == 0:
        raise ValueError(f"column {group} of X has no known value: there is nothing to fit")
    distinct = np.unique(x)
    if _is_discrete(distinct, x.size):
        return _Scale(distinct)
    share = np.linspace(0, 1, n_bins + 1)
    edges = np.quantile(x, share) if strategy == "quantile" else _between(distinct, share)
    edges = np.unique(edges)
    return _Scale(edges[:-1] + np.diff(edges) / 2, edges)


def _is_discrete(distinct, n_known):
    integers = distinct.size <= _MAX_INTEGERS and (distinct == np.rint(distinct)).all()
    return distinct.size <= max(1, min(_MAX_REPEATED, n_known // 2)) or integers


def _between(distinct, share):
    return distinct[0] * (1 - share) + distinct[-1] * share
