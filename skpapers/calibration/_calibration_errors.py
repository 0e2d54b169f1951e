"""How far predictions are from meaning what they say, overall and by group."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import _check_sample_weight

__all__ = ["calibration_error", "multicalibration_error"]


@validate_params(
    {
        "y": ["array-like"],
        "f": ["array-like"],
        "groups": ["array-like", None],
        "n_levels": [Interval(Integral, 1, None, closed="left")],
        "y_range": ["array-like", None],
        "weights": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def multicalibration_error(y, f, groups=None, *, n_levels=10, y_range=None, weights=None):
    """Measure the mean squared calibration error of predictions on each of several groups.

    The rows are put into cells by the nearest of `n_levels` + 1 equally spaced values. For a
    group of rows, the error is the sum over cells of the share of all rows that are in the cell
    and in the group, times their squared mean residual. For a real-valued function h of the rows
    it is the sum over cells of the share of the cell times the squared mean of h times the
    residual.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Targets; for classes, 0 and 1.
    f : array-like of shape (n_samples,)
        Predictions; for classes, probabilities.
    groups : array-like of shape (n_samples, n_groups), default=None
        One column a group. Columns of zeros and ones (or bools) tell who belongs to it; others are
        values of a function of the rows. None is one group of all rows.
    n_levels : int, default=10
        Number of intervals between the values of the grid.
    y_range : array-like of shape (2,), default=None
        Smallest and largest value of the grid; None is those of `y`.
    weights : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    ndarray of shape (n_groups,)
        Errors, in units of `y` squared.

    References
    ----------
    Globus-Harris, Harrison, Kearns, Roth and Sorrell, "Multicalibration as Boosting for
    Regression", ICML 2023, arXiv:2301.13767, definitions 2.2 to 2.4.

    Examples
    --------
    >>> from skpapers.calibration import multicalibration_error
    >>> groups = [[1, 0], [1, 0], [0, 1], [0, 1]]
    >>> multicalibration_error([0, 1, 1, 1], [0.5, 0.5, 0.5, 0.5], groups)
    array([0.   , 0.125])
    """
    y, f = _finite(y, "y"), _finite(f, "f")
    weights = _check_sample_weight(weights, y, dtype=np.float64, ensure_non_negative=True)
    groups = np.ones((len(y), 1)) if groups is None else _columns(groups)
    check_consistent_length(y, f, groups)
    cells = nearest_level(f, uniform_levels(*_bounds(y, y_range), n_levels))
    return _errors(y - f, groups, cells, n_levels + 1, weights / weights.sum())


def calibration_error(y, f, *, n_levels=10, y_range=None, weights=None):
    """Measure the mean squared calibration error of predictions.

    This is :func:`multicalibration_error` of the group of all rows.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Targets; for classes, 0 and 1.
    f : array-like of shape (n_samples,)
        Predictions; for classes, probabilities.
    n_levels : int, default=10
        Number of intervals between the values of the grid.
    y_range : array-like of shape (2,), default=None
        Smallest and largest value of the grid; None is those of `y`.
    weights : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    float
        Error, in units of `y` squared.

    References
    ----------
    Globus-Harris, Harrison, Kearns, Roth and Sorrell, "Multicalibration as Boosting for
    Regression", ICML 2023, arXiv:2301.13767, definition 2.2.

    Examples
    --------
    >>> from skpapers.calibration import calibration_error
    >>> calibration_error([0, 0, 1, 1], [0.25, 0.25, 0.75, 0.75])
    0.0625
    """
    settings = {"n_levels": n_levels, "y_range": y_range, "weights": weights}
    return float(multicalibration_error(y, f, **settings)[0])


def _finite(values, name):
    values = column_or_1d(values).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} contains NaN or infinity")
    return values


def _columns(groups):
    groups = check_array(groups, ensure_2d=False, dtype=np.float64, input_name="groups")
    return groups.reshape(len(groups), -1)


def _bounds(y, y_range):
    if y_range is None:
        return y.min(), y.max()
    low, high = map(float, y_range)
    if not low < high:
        raise ValueError(f"y_range must be two increasing numbers, got {y_range!r}")
    return low, high


def _errors(residual, groups, cells, n_cells, weights):
    """Sum over cells of share times squared mean, a column of `groups` at a time."""

    def per_cell(values):
        return np.bincount(cells, values, minlength=n_cells)

    share = per_cell(weights)
    errors = []
    for h in groups.T:
        in_group = np.isin(h, (0, 1)).all()
        mass = per_cell(weights * h) if in_group else share
        moment = per_cell(weights * h * residual)
        errors.append(np.sum(moment**2 / np.where(mass > 0, mass, 1)))
    return np.array(errors)


def uniform_levels(low, high, n_levels):
    """Equally spaced values from `low` to `high`."""
    return np.linspace(low, high, n_levels + 1)


def quantile_levels(y, n_levels, weights=None):
    """Mid-points of the bins between equally spaced quantiles; equal ones are merged."""
    shares = np.linspace(0, 1, n_levels + 2)
    edges = np.quantile(y, shares, weights=weights, method="inverted_cdf")
    return np.unique((edges[:-1] + edges[1:]) / 2)


def nearest_level(f, levels):
    """Index of the nearest of increasing values; the lower of two that are equally near."""
    return np.searchsorted((levels[:-1] + levels[1:]) / 2, f, side="left")
