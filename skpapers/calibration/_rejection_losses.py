"""What accepting and rejecting costs, and its surrogate."""

from numbers import Real

import numpy as np
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import _check_sample_weight

__all__ = ["coverage_risk_curve", "reject_surrogate_loss", "rejection_loss"]

_COST = Interval(Real, 0, 1, closed="neither")
_POSITIVE = Interval(Real, 0, None, closed="neither")


@validate_params(
    {
        "error": ["array-like"],
        "accepted": ["array-like"],
        "cost": [_COST],
        "sample_weight": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def rejection_loss(error, accepted, cost, *, sample_weight=None):
    """Average what predictions cost: 1 for a wrong one that is accepted, `cost` a rejection.

    Parameters
    ----------
    error : array-like of shape (n_samples,)
        1 where the prediction is wrong, 0 where it is right, or a loss in [0, 1].
    accepted : array-like of shape (n_samples,)
        Whether the prediction is accepted.
    cost : float
        Cost of a rejection, in (0, 1).
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    float
        The mean.

    References
    ----------
    Mohri, Andor, Choi, Collins, Mao and Zhong, "Learning to Reject with a Fixed Predictor:
    Application to Decontextualization", ICLR 2024, arXiv:2301.09044, section 2.

    Examples
    --------
    >>> from skpapers.calibration import rejection_loss
    >>> rejection_loss([1, 1, 0, 0], [True, False, True, True], cost=0.2)
    0.3
    """
    error, accepted = check_error(error), column_or_1d(accepted).astype(bool)
    check_consistent_length(error, accepted)
    return float(np.average(np.where(accepted, error, cost), weights=sample_weight))


@validate_params(
    {
        "error": ["array-like"],
        "r": ["array-like"],
        "cost": [_COST],
        "alpha": [_POSITIVE],
        "beta": [_POSITIVE, None],
    },
    prefer_skip_nested_validation=True,
)
def reject_surrogate_loss(error, r, cost, *, alpha=2.0, beta=None):
    """Compute error * exp(alpha * r / 2) + cost * exp(-beta * r), a bound of the rejection loss.

    Where a prediction is wrong with probability p, its mean is least at
    r = log(2 * beta * cost / (alpha * p)) / (alpha / 2 + beta), which is positive if and only if
    p is less than 2 * beta * cost / alpha: less than the cost, for the default `beta`.

    Parameters
    ----------
    error : array-like of shape (n_samples,)
        1 where the prediction is wrong, 0 where it is right, or a loss in [0, 1].
    r : array-like of shape (n_samples,)
        Output of the rejector, which accepts where it is positive.
    cost : float
        Cost of a rejection, in (0, 1).
    alpha : float, default=2.0
        Scale of the penalty on accepted errors.
    beta : float, default=None
        Scale of the penalty on rejections; None is `alpha` / 2.

    Returns
    -------
    ndarray of shape (n_samples,)
        The loss of each row.

    References
    ----------
    Mohri, Andor, Choi, Collins, Mao and Zhong, "Learning to Reject with a Fixed Predictor:
    Application to Decontextualization", ICLR 2024, arXiv:2301.09044, section 4.

    Examples
    --------
    >>> from skpapers.calibration import reject_surrogate_loss
    >>> reject_surrogate_loss([1, 0], [0, 0], cost=0.25)
    array([1.25, 0.25])
    """
    error, r = check_error(error), column_or_1d(r).astype(np.float64)
    check_consistent_length(error, r)
    beta = alpha / 2 if beta is None else beta
    with np.errstate(over="ignore"):  # infinity is the value
        accepted = np.where(error > 0, np.exp(alpha * r / 2), 0)
        return error * accepted + cost * np.exp(-beta * r)


@validate_params(
    {"error": ["array-like"], "r": ["array-like"], "sample_weight": ["array-like", None]},
    prefer_skip_nested_validation=True,
)
def coverage_risk_curve(error, r, *, sample_weight=None):
    """Trace the error among what is accepted against how much is accepted.

    Parameters
    ----------
    error : array-like of shape (n_samples,)
        1 where the prediction is wrong, 0 where it is right, or a loss in [0, 1].
    r : array-like of shape (n_samples,)
        Confidence: the largest are accepted first.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    coverage : ndarray of shape (n_values,)
        Share of rows accepted, increasing to 1; one entry a distinct value of `r`.
    risk : ndarray of shape (n_values,)
        Mean error among them.
    thresholds : ndarray of shape (n_values,)
        The least value of `r` that is accepted.

    References
    ----------
    El-Yaniv and Wiener, "On the Foundations of Noise-free Selective Classification", JMLR 2010.

    Examples
    --------
    >>> from skpapers.calibration import coverage_risk_curve
    >>> coverage, risk, _ = coverage_risk_curve([0, 1, 0, 1], [3, 1, 2, 0])
    >>> coverage, risk
    (array([0.25, 0.5 , 0.75, 1.  ]), array([0.        , 0.        , 0.33333333, 0.5       ]))
    """
    error, r = check_error(error), column_or_1d(r).astype(np.float64)
    check_consistent_length(error, r)
    weight = _check_sample_weight(sample_weight, r, dtype=np.float64, ensure_non_negative=True)
    rows = np.flatnonzero(weight)
    rows = rows[np.argsort(-r[rows], kind="stable")]
    last = np.append(np.flatnonzero(np.diff(r[rows])), len(rows) - 1)  # of equal values
    mass = np.cumsum(weight[rows])
    risk = np.cumsum((weight * error)[rows]) / mass
    return mass[last] / mass[-1], risk[last], r[rows][last]


def check_error(error):
    """Errors as floats in [0, 1]."""
    error = column_or_1d(error).astype(np.float64)
    if not ((error >= 0) & (error <= 1)).all():
        raise ValueError("error must be 0 (right), 1 (wrong), or between them")
    return error
