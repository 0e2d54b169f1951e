"""Entropies of discrete variables, from probabilities, counts and joint codes."""

from itertools import combinations
from numbers import Real

import numpy as np
from scipy.special import xlogy
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, validate_params

__all__ = [
    "alternating_sum",
    "compress",
    "count_entropy",
    "entropy",
    "join_codes",
    "multivariate_information",
    "plain_information",
    "subset_entropies",
    "tsallis_entropy",
]


@validate_params(
    {
        "p": ["array-like"],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "log_base": [Interval(Real, 1, None, closed="neither"), None],
    },
    prefer_skip_nested_validation=True,
)
def tsallis_entropy(p, alpha=1.0, *, log_base=None):
    """Compute Tsallis' entropy of a law, Shannon's for `alpha` 1.

    Parameters
    ----------
    p : array-like of shape (..., n_cells)
        Probabilities, which sum to one over the last axis.
    alpha : float, default=1.0
        Degree: (1 - sum p^alpha) / (alpha - 1).
    log_base : float, default=None
        Base of the logarithm, for `alpha` 1; None is e.

    Returns
    -------
    float or ndarray of shape (...,)
        The entropy.

    Raises
    ------
    ValueError
        If `p` is negative or does not sum to one.

    Examples
    --------
    >>> from skpapers.hypothesis_testing import tsallis_entropy
    >>> tsallis_entropy([0.5, 0.5], log_base=2), tsallis_entropy([0.5, 0.5], alpha=2)
    (1.0, 0.5)
    """
    p = np.asarray(p, dtype=np.float64)
    if p.ndim == 0 or np.any(p < 0) or not np.allclose(p.sum(axis=-1), 1, atol=1e-6):
        raise ValueError("p must be probabilities that sum to one over the last axis")
    if log_base is not None and alpha != 1:
        raise ValueError("log_base is for alpha=1 alone")
    value = entropy(p, alpha) / (1.0 if log_base is None else np.log(log_base))
    return float(value) if value.ndim == 0 else value


def multivariate_information(*variables, alpha=1.0, estimator="plugin"):
    """Compute the multivariate information of discrete variables.

    Parameters
    ----------
    *variables : array-like of shape (n_samples,)
        Labels, integers or strings.
    alpha : float, default=1.0
        Degree of the entropies.
    estimator : {"plugin", "miller_madow", "jackknife"}, default="plugin"
        Estimator of entropies.

    Returns
    -------
    float
        In nats: the alternating sum of the entropies of all parts. Of one variable the entropy,
        of two the mutual information, from three on negative for synergy.

    Raises
    ------
    ValueError
        If there is no variable, or a parameter is not as above.

    References
    ----------
    Vigneaux, arXiv:1709.07807; the sign is that of Hu Kuo Ting and of Baudot and Bennequin.

    Examples
    --------
    >>> from skpapers.hypothesis_testing import multivariate_information
    >>> x, y = [0, 0, 1, 1], [0, 1, 0, 1]
    >>> round(multivariate_information(x, y, [0, 1, 1, 0]), 3)
    -0.693
    """
    if not (isinstance(alpha, Real) and alpha > 0):
        raise ValueError(f"alpha must be positive, got {alpha!r}")
    if estimator not in ("plugin", "miller_madow", "jackknife"):
        raise ValueError(f"estimator must be plugin, miller_madow or jackknife, got {estimator!r}")
    if alpha != 1 and estimator == "miller_madow":
        raise ValueError("estimator='miller_madow' is for alpha=1 alone")
    if not variables:
        raise ValueError("one variable at least is needed")
    check_consistent_length(*variables)
    codes = [np.unique(column_or_1d(v), return_inverse=True)[1] for v in variables]
    return float(plain_information(codes, alpha, estimator))


def plain_information(variables, alpha, estimator):
    """Multivariate information of columns of codes, in nats."""
    codes = np.column_stack(variables)
    found = subset_entropies(codes, codes.shape[1], alpha, estimator)
    return alternating_sum(tuple(range(codes.shape[1])), found)


def entropy(probabilities, alpha=1.0):
    """Tsallis entropy in its last axis, in nats; Shannon's for alpha = 1."""
    p = np.asarray(probabilities, dtype=np.float64)
    if alpha == 1:
        return -np.sum(xlogy(p, p), axis=-1)
    # p - p^alpha = -p (p^(alpha - 1) - 1), which stays exact as alpha tends to 1
    logs = np.log(np.where(p > 0, p, 1.0))
    return -np.sum(p * np.expm1((alpha - 1) * logs), axis=-1) / (alpha - 1)


def count_entropy(counts, alpha=1.0, estimator="plugin"):
    """Entropy estimated from the counts of observed cells."""
    counts = np.asarray(counts)
    counts = counts[counts > 0].astype(np.float64)
    n = counts.sum()
    plugin = entropy(counts / n, alpha)
    if estimator == "miller_madow":
        return plugin + (len(counts) - 1) / (2 * n)
    if estimator == "jackknife":
        return n * plugin - (n - 1) * np.sum(counts / n * _without_one(counts, alpha))
    return plugin


def _without_one(counts, alpha):
    """Entropy after one observation of each cell in turn has been left out."""
    n = counts.sum()
    if alpha == 1:
        sums = xlogy(counts, counts)
        sums = sums.sum() - sums + xlogy(counts - 1, counts - 1)
        return np.log(n - 1) - sums / (n - 1)
    sums = counts**alpha
    sums = (sums.sum() - sums + (counts - 1) ** alpha) / (n - 1) ** alpha
    return (sums - 1) / (1 - alpha)


def compress(codes, size=None):
    """Number the codes that occur from 0, in their order; and count them."""
    counts = np.bincount(codes, minlength=size or 0)
    numbers = np.cumsum(counts > 0) - 1
    return numbers[codes], counts[counts > 0]


def join_codes(first, second, n_second):
    """Codes of the pairs that occur, and their counts; compressed, so that none overflow."""
    return compress(first * n_second + second)


def subset_entropies(codes, max_order, alpha=1.0, estimator="plugin"):
    """Entropies of all subsets of the columns up to `max_order`, by sorted tuples of columns.

    Subsets are extended by larger columns, so that the codes of a subset are joined once.
    """
    levels = codes.max(axis=0) + 1
    entropies = {}

    def extend(subset, joint):
        first = subset[-1] + 1 if subset else 0
        for column in range(first, codes.shape[1]):
            joined, counts = join_codes(joint, codes[:, column], levels[column])
            extended = (*subset, column)
            entropies[extended] = count_entropy(counts, alpha, estimator)
            if len(extended) < max_order:
                extend(extended, joined)

    extend((), np.zeros(len(codes), dtype=np.intp))
    return entropies


def alternating_sum(subset, entropies):
    """Multivariate information of a subset: entropies of its parts with alternating signs."""
    return sum(
        (-1) ** (order - 1) * entropies[part]
        for order in range(1, len(subset) + 1)
        for part in combinations(subset, order)
    )
