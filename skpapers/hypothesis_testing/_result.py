"""What a test says, and what many tests say together."""

from typing import NamedTuple

import numpy as np
from scipy.stats import false_discovery_control
from sklearn.utils import check_array
from sklearn.utils._param_validation import StrOptions, validate_params

__all__ = ["HypothesisTestResult", "adjust_pvalues", "simulated_result"]


class HypothesisTestResult(NamedTuple):
    """Outcome of a test whose null distribution is simulated.

    Parameters
    ----------
    statistic : float
        Value of the statistic; large values speak against the null hypothesis.
    pvalue : float
        Share of the null distribution, the sample itself counted in, that is as large.
    reject : bool
        Whether the p-value is at most the level.
    null_distribution : ndarray of shape (n_draws,)
        Values of the statistic under the null hypothesis.
    bootstrap_distribution : ndarray of shape (n_draws,), default=None
        Values around the statistic as the sample varies; None where the test has none.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.hypothesis_testing import HypothesisTestResult
    >>> draws = np.linspace(1.0, 3.0, 101)
    >>> result = HypothesisTestResult(2.0, 0.01, True, draws - 2.0, draws)
    >>> low, high = result.confidence_interval(0.9)
    >>> f"{low:.1f} to {high:.1f}"
    '1.1 to 2.9'
    """

    statistic: float
    pvalue: float
    reject: bool
    null_distribution: np.ndarray
    bootstrap_distribution: np.ndarray | None = None

    def confidence_interval(self, confidence_level=0.95):
        """Compute a percentile interval for what the statistic estimates.

        Parameters
        ----------
        confidence_level : float, default=0.95
            Probability that the interval is to cover.

        Returns
        -------
        tuple of (float, float)
            Lower and upper end.

        Raises
        ------
        ValueError
            If `confidence_level` is not between 0 and 1, or the test has no bootstrap.
        """
        if not 0 < confidence_level < 1:
            raise ValueError(f"confidence_level must be in (0, 1), got {confidence_level!r}")
        if self.bootstrap_distribution is None:
            raise ValueError("this test has no bootstrap_distribution to take an interval from")
        tail = (1 - confidence_level) / 2
        low, high = np.quantile(self.bootstrap_distribution, [tail, 1 - tail])
        return float(low), float(high)


def simulated_result(statistic, null_distribution, alpha, bootstrap_distribution=None):
    """Compare a statistic with its simulated null distribution."""
    null_distribution = np.asarray(null_distribution)
    n_above = int(np.count_nonzero(null_distribution >= statistic))
    pvalue = (1 + n_above) / (null_distribution.size + 1)
    return HypothesisTestResult(
        float(statistic), pvalue, pvalue <= alpha, null_distribution, bootstrap_distribution
    )


@validate_params(
    {
        "pvalues": ["array-like"],
        "method": [StrOptions({"bonferroni", "holm", "fdr_bh", "fdr_by"})],
    },
    prefer_skip_nested_validation=True,
)
def adjust_pvalues(pvalues, *, method="holm"):
    """Correct p-values for the number of tests that were made.

    Parameters
    ----------
    pvalues : array-like of shape (n_tests,)
        P-values, in [0, 1].
    method : {"holm", "bonferroni", "fdr_bh", "fdr_by"}, default="holm"
        "holm" and "bonferroni" bound the probability of any false rejection, whatever the
        dependence; "fdr_bh" (independent or positively dependent tests) and "fdr_by" bound the
        expected share of false ones among the rejections.

    Returns
    -------
    ndarray of shape (n_tests,)
        Adjusted p-values: reject those that are at most the level.

    Raises
    ------
    ValueError
        If a p-value is outside [0, 1].

    References
    ----------
    Holm, "A simple sequentially rejective multiple test procedure", 1979; Benjamini and Hochberg,
    1995; Benjamini and Yekutieli, 2001.

    Examples
    --------
    >>> from skpapers.hypothesis_testing import adjust_pvalues
    >>> adjust_pvalues([0.01, 0.04, 0.5])
    array([0.03, 0.08, 0.5 ])
    """
    pvalues = check_array(pvalues, ensure_2d=False, dtype=np.float64, input_name="pvalues")
    if pvalues.ndim != 1 or pvalues.min() < 0 or pvalues.max() > 1:
        raise ValueError("pvalues must be a list of numbers in [0, 1]")
    if method.startswith("fdr"):
        return false_discovery_control(pvalues, method=method[4:])
    factors = len(pvalues) - (np.arange(len(pvalues)) if method == "holm" else 0)
    order = np.argsort(pvalues)
    adjusted = np.minimum(np.maximum.accumulate(factors * pvalues[order]), 1)
    return adjusted[np.argsort(order)]
