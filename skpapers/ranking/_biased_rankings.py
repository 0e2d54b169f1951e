"""Rankings that put one group of items at a disadvantage."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skpapers.utils import check_random_state

_SPREAD = 0.5  # of the logarithm of what rankers see


@validate_params(
    {
        "n_items": [Interval(Integral, 1, None, closed="left")],
        "n_rankings": [Interval(Integral, 1, None, closed="left")],
        "bias": [StrOptions({"multiplicative", "swap"})],
        "theta": [Interval(Real, 0, 1, closed="right")],
        "phi": [Interval(Real, 0, 1, closed="left")],
        "n_groups": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_biased_rankings(
    n_items=50,
    n_rankings=50,
    *,
    bias="multiplicative",
    theta=0.5,
    phi=0.5,
    n_groups=2,
    random_state=None,
):
    """Draw rankings of items of known quality, with and without a bias against one group.

    Qualities are uniform on (0, 1) in every group; a ranker sees a quality times a log-normal
    factor of its own. Both biases keep the order within groups.

    Parameters
    ----------
    n_items : int, default=50
        Number of items.
    n_rankings : int, default=50
        Number of rankers.
    bias : {"multiplicative", "swap"}, default="multiplicative"
        "multiplicative": what is seen of the disadvantaged is multiplied by `theta`. "swap": a
        pass over the ranking from the top exchanges each disadvantaged item with an advantaged
        one directly behind it; the number of passes is geometric.
    theta : float, default=0.5
        Factor in (0, 1]; 1 is no bias.
    phi : float, default=0.5
        Probability, in [0, 1), of one more pass; 0 is no bias.
    n_groups : int, default=2
        Number of groups, blocks of items of (nearly) equal size; the last is disadvantaged.
    random_state : int, RandomState instance or None, default=None
        Determines the draw; None is a new one each time.

    Returns
    -------
    rankings : :class:`~sklearn.utils.Bunch`
        `biased` and `unbiased`, ndarrays of shape (n_rankings, n_items), higher is better;
        `quality` and `groups`, ndarrays of shape (n_items,).

    References
    ----------
    .. [1] N. Boehmer, L. E. Celis, L. Huang, A. Mehrotra, N. K. Vishnoi, "Subset Selection Based
       On Multiple Rankings in the Presence of Bias: Effectiveness of Fairness Constraints for
       Multiwinner Voting Score Functions", ICML 2023, arXiv:2306.09835.

    Examples
    --------
    >>> from skpapers.ranking import make_biased_rankings
    >>> rankings = make_biased_rankings(4, 100, theta=0.2, random_state=0)
    >>> rankings.groups
    array([0, 0, 1, 1])
    >>> bool(rankings.biased[:, 2:].mean() < rankings.unbiased[:, 2:].mean())
    True
    """
    rng = check_random_state(random_state)
    quality = rng.uniform(size=n_items)
    groups = np.arange(n_items) * n_groups // n_items
    unbiased = quality * np.exp(_SPREAD * rng.normal(size=(n_rankings, n_items)))
    disadvantaged = groups == groups[-1] if n_groups > 1 else np.zeros(n_items, dtype=bool)
    if bias == "multiplicative":
        biased = np.where(disadvantaged, theta * unbiased, unbiased)
    else:
        n_passes = rng.geometric(1 - phi, size=n_rankings) - 1
        biased = swap_bias(unbiased, disadvantaged, n_passes)
    return Bunch(biased=biased, unbiased=unbiased, quality=quality, groups=groups)


def swap_bias(scores, disadvantaged, n_passes):
    """Number of items behind each one, after passes that move the disadvantaged back."""
    n_rankings, n_items = scores.shape
    order = np.argsort(-scores, axis=1, kind="stable")
    for step in range(min(n_passes.max(), n_items)):  # the ranking is sorted after n_items passes
        rows = np.flatnonzero(n_passes > step)
        for i in range(n_items - 1):
            ahead, behind = order[rows, i], order[rows, i + 1]
            swap = rows[disadvantaged[ahead] & ~disadvantaged[behind]]
            order[swap, i], order[swap, i + 1] = order[swap, i + 1], order[swap, i]
    n_behind = np.empty(scores.shape)
    np.put_along_axis(n_behind, order, np.arange(n_items - 1.0, -1, -1)[None], axis=1)
    return n_behind
