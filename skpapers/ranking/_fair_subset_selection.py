"""Fair subset selection: items from many rankings, with quotas that undo a bias."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, _fit_context
from sklearn.feature_selection import SelectorMixin
from sklearn.utils import Bunch, check_array, column_or_1d
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_random_state, draw_seed

from ._biased_rankings import make_biased_rankings
from ._multiwinner import (
    ADDITIVE,
    SUBMODULAR,
    additive_subset,
    exact_subset,
    greedy_subset,
    group_bounds,
    is_additive,
    order_weights,
    position_points,
    positions,
    score_bound,
    set_score,
)

__all__ = ["FairSubsetSelector", "fairness_effectiveness", "multiwinner_score"]

_RULE = [StrOptions({*ADDITIVE, *SUBMODULAR}), "array-like"]
_INPUT = [StrOptions({"scores", "ranks"})]
_LAMBDAS = ["array-like", None]
_CONSTRAINT = [StrOptions({"proportional", "equal"}), dict, None]


class FairSubsetSelector(SelectorMixin, BaseEstimator):
    """Select items that many rankings put first, under quotas for groups of items.

    Rankers (rows) order items (columns): judges candidates, queries documents, folds or models
    features. Where rankers put one group at a disadvantage, the items within a group are still
    in the right order, and quotas can give back what the bias took. Items are columns, so that
    this is a feature selector where each row ranks features by importance.

    Parameters
    ----------
    n_select : int or float, default=10
        Number of items, all if there are fewer; a float in (0, 1) is a fraction of the items.
    rule : {"borda", "sntv", "bloc", "cc", "pav", "owa"} or array-like of shape (n_items,), \
            default="borda"
        What rankings give to a set. "borda": each member the number of items behind it; "sntv":
        1 for the first item; "bloc": 1 for each of the first `n_select`; an array: points of the
        positions, not increasing. "cc" (Chamberlin-Courant): the Borda points of the best member
        alone; "owa": those of the members from best to worst, times `lambdas`; "pav":
        1 + 1/2 + ... + 1/j for j members among the first `n_select`.
    constraint : {"proportional", "equal"}, dict or None, default="proportional"
        Bounds of the number of members of each group: its share of the items, or the same for
        every group (groups that are too small leave the rest to the others), each rounded down
        and up; or ``{group: (lower, upper)}``, where groups left out are free; None is no bound.
    solver : {"auto", "greedy", "exact"}, default="auto"
        "greedy" adds the item with the largest gain. "exact" is an integer program, for small
        data. "auto" is greedy. The rules whose items add up ("borda", "sntv", "bloc" and arrays)
        are solved exactly in any case.
    input : {"scores", "ranks"}, default="scores"
        What the numbers are: scores, of which higher is better, or positions, of which lower is.
        Only their order in each row counts.
    lambdas : array-like, default=None
        Weights for "owa", not increasing, 0 beyond the last; None is 1, 1/2, 1/3, ...

    Attributes
    ----------
    selected_ : ndarray of shape (n_selected,)
        Indices of the selected items in order of choice.
    support_ : ndarray of bool of shape (n_items,)
        Which items are selected.
    item_scores_ : ndarray of shape (n_items,)
        What the selected items added to the score when they were chosen, and what the others
        would add in the end. Where items add up, this is the score of each.
    objective_ : float
        Score of the selected set.
    n_zero_scores_ : int
        Number of selected items that added nothing, and were taken in order of index. Many, if
        rankings are too few for a rule that looks at the top only.
    group_counts_ : dict
        Number of selected items of each group.
    bounds_ : dict
        Lower and upper bound of that number for each group.
    ranks_ : ndarray of shape (n_rankings, n_items)
        Positions, the best at 1.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the items, where X has string column names.

    Raises
    ------
    ValueError
        If no set is within the bounds, or `rule` or `lambdas` increases.

    Notes
    -----
    Ranking costs O(n m log m) for n rankings of m items, selecting k of them O(n m) where items
    add up, and O(k n m) otherwise (times k for "pav" and "owa"); gains are computed only where an
    upper bound does not exclude the item. Greedy choice reaches 1 - 1/e of the best score without
    groups, and 1/2 with them.

    NaN is an unranked item, behind all ranked ones. Ties, and unranked items, share the mean of
    their positions for "borda", "cc" and "owa"; elsewhere ties are broken by index, and unranked
    items are all last. Equal scores are decided by index. y is ignored.

    Quotas help where rankings are biased, which the rankings themselves cannot tell. Without
    bias they cost a little. They restore what a bias took from few rankings with "borda"; "sntv"
    hardly ever sees an item of the disadvantaged group at the top, and needs very many.

    References
    ----------
    .. [1] N. Boehmer, L. E. Celis, L. Huang, A. Mehrotra, N. K. Vishnoi, "Subset Selection Based
       On Multiple Rankings in the Presence of Bias: Effectiveness of Fairness Constraints for
       Multiwinner Voting Score Functions", ICML 2023, arXiv:2306.09835.

    Examples
    --------
    >>> from skpapers.ranking import FairSubsetSelector
    >>> X = [[9, 8, 7, 6, 3, 2], [8, 9, 7, 5, 1, 4]]
    >>> FairSubsetSelector(2).fit(X).selected_
    array([0, 1])
    >>> selector = FairSubsetSelector(2).fit(X, groups=["a", "a", "a", "b", "b", "b"])
    >>> selector.selected_, selector.bounds_
    (array([0, 3]), {'a': (1, 1), 'b': (1, 1)})
    """

    _parameter_constraints = {
        "n_select": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
        ],
        "rule": _RULE,
        "constraint": _CONSTRAINT,
        "solver": [StrOptions({"auto", "greedy", "exact"})],
        "input": _INPUT,
        "lambdas": _LAMBDAS,
    }

    _search_space = {"n_select": [2, 0.25, 0.5, 0.75], "rule": ["borda", "bloc", "cc", "pav"]}

    def __init__(
        self,
        n_select=10,
        *,
        rule="borda",
        constraint="proportional",
        solver="auto",
        input="scores",
        lambdas=None,
    ):
        self.n_select = n_select
        self.rule = rule
        self.constraint = constraint
        self.solver = solver
        self.input = input
        self.lambdas = lambdas

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, groups=None):
        """Select items.

        Parameters
        ----------
        X : array-like of shape (n_rankings, n_items)
            A ranking in each row; NaN is an unranked item.
        y : None
            Ignored.
        groups : array-like of shape (n_items,), default=None
            Group of each item. None is no bounds, whatever `constraint` is.

        Returns
        -------
        self : object
            The fitted selector.
        """
        X = self._validate(X, reset=True)
        n_items = X.shape[1]
        share = self.n_select if isinstance(self.n_select, Integral) else self.n_select * n_items
        k = min(max(int(share), 1), n_items)
        labels, codes = read_groups(groups, n_items)
        sizes = np.bincount(codes, minlength=1)
        constraint = None if groups is None else self.constraint
        lower, upper = group_bounds(constraint, k, sizes, labels)

        self.ranks_ = positions(X, self.rule, self.input)
        points = position_points(self.ranks_, self.rule, k)
        weights = order_weights(self.rule, k, self.lambdas)
        self._select(points, weights, codes, lower, upper)
        self.objective_ = set_score(points[self.selected_], weights)
        self.n_zero_scores_ = int(np.sum(self.item_scores_[self.selected_] == 0))
        self.support_ = np.isin(np.arange(n_items), self.selected_)
        counts = np.bincount(codes[self.selected_], minlength=len(labels))
        self.group_counts_ = dict(zip(labels, counts.tolist()))
        self.bounds_ = dict(zip(labels, zip(lower.tolist(), upper.tolist())))
        return self

    def _select(self, points, weights, codes, lower, upper):
        candidates = np.ones(len(points), dtype=bool)
        if is_additive(self.rule):
            self.item_scores_ = points.sum(axis=1)
            k = len(weights) - 1
            self.selected_ = additive_subset(self.item_scores_, k, codes, lower, upper)
            return
        if self.solver == "exact":
            members = exact_subset(points, weights, codes, lower, upper)
            candidates = np.isin(np.arange(len(points)), members)
        found = greedy_subset(points, weights, codes, lower, upper, candidates)
        self.selected_, self.item_scores_ = found

    def score(self, X, y=None):
        """Score the selected items by other rankings.

        Parameters
        ----------
        X : array-like of shape (n_rankings, n_items)
            A ranking in each row.
        y : None
            Ignored.

        Returns
        -------
        score : float
            The score of the selected items over a bound of that of any set of as many: the sum
            of the best items' scores, or of what each ranking gives to its best set, whichever
            is less. The bound is reached where items add up.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        k = len(self.selected_)
        points = position_points(positions(X, self.rule, self.input), self.rule, k)
        weights = order_weights(self.rule, k, self.lambdas)
        bound = score_bound(points, weights)
        return set_score(points[self.selected_], weights) / bound if bound > 0 else 1.0

    def _validate(self, X, reset):
        return validate_data(
            self,
            X,
            reset=reset,
            dtype=(np.float64, np.float32),
            ensure_all_finite="allow-nan",
        )

    def _get_support_mask(self):
        check_is_fitted(self)
        return self.support_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


@validate_params(
    {
        "X": ["array-like"],
        "subset": ["array-like"],
        "rule": _RULE,
        "k": [Interval(Integral, 1, None, closed="left"), None],
        "input": _INPUT,
        "lambdas": _LAMBDAS,
    },
    prefer_skip_nested_validation=True,
)
def multiwinner_score(X, subset, rule="borda", *, k=None, input="scores", lambdas=None):
    """Score a set of items by rankings.

    Parameters
    ----------
    X : array-like of shape (n_rankings, n_items)
        A ranking in each row; NaN is an unranked item.
    subset : array-like of int of shape (n_members,) or of bool of shape (n_items,)
        Indices or mask of the members.
    rule : {"borda", "sntv", "bloc", "cc", "pav", "owa"} or array-like of shape (n_items,), \
            default="borda"
        What a ranking gives to a set, see :class:`FairSubsetSelector`.
    k : int, default=None
        Number of first items that count for "bloc" and "pav"; None is the size of the set.
    input : {"scores", "ranks"}, default="scores"
        Whether higher numbers are better ("scores"), or lower ones ("ranks").
    lambdas : array-like, default=None
        Weights for "owa"; None is 1, 1/2, 1/3, ...

    Returns
    -------
    score : float
        Sum over rankings.

    References
    ----------
    .. [1] N. Boehmer, L. E. Celis, L. Huang, A. Mehrotra, N. K. Vishnoi, "Subset Selection Based
       On Multiple Rankings in the Presence of Bias: Effectiveness of Fairness Constraints for
       Multiwinner Voting Score Functions", ICML 2023, arXiv:2306.09835 (Section 2).

    Examples
    --------
    >>> from skpapers.ranking import multiwinner_score
    >>> X = [[4, 3, 2, 1], [1, 2, 3, 4]]
    >>> multiwinner_score(X, [0, 1]), multiwinner_score(X, [0, 1], "cc")
    (6.0, 4.0)
    """
    X = check_array(X, dtype=np.float64, ensure_all_finite="allow-nan", input_name="X")
    members = read_subset(subset, X.shape[1])
    k = len(members) if k is None else k
    points = position_points(positions(X, rule, input), rule, k)
    return set_score(points[members], order_weights(rule, len(members), lambdas))


@validate_params(
    {
        "rule": _RULE,
        "n_select": [Interval(Integral, 1, None, closed="left")],
        "constraint": _CONSTRAINT,
        "n_items": [Interval(Integral, 1, None, closed="left")],
        "bias": [StrOptions({"multiplicative", "swap"})],
        "theta": [Interval(Real, 0, 1, closed="right")],
        "phi": [Interval(Real, 0, 1, closed="left")],
        "n_grid": ["array-like"],
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def fairness_effectiveness(
    rule,
    n_select,
    *,
    constraint="equal",
    n_items=50,
    bias="multiplicative",
    theta=0.5,
    phi=0.5,
    n_grid=(5, 20, 100),
    n_repeats=50,
    random_state=None,
):
    """Simulate how much of the unbiased choice quotas recover, by the number of rankings.

    Items are chosen from biased rankings, and judged without the bias: by the score that the same
    rankers would have given, over the score of the best choice without quotas from these, and by
    the sum of latent qualities, over that of the best items.

    Parameters
    ----------
    rule : {"borda", "sntv", "bloc", "cc", "pav", "owa"} or array-like of shape (n_items,)
        What a ranking gives to a set, see :class:`FairSubsetSelector`.
    n_select : int
        Number of items to choose.
    constraint : {"proportional", "equal"}, dict or None, default="equal"
        The quotas; the groups are 0 and 1, the disadvantaged.
    n_items : int, default=50
        Number of items, half of them in each group.
    bias : {"multiplicative", "swap"}, default="multiplicative"
        See :func:`make_biased_rankings`.
    theta : float, default=0.5
        Factor of the multiplicative bias, in (0, 1].
    phi : float, default=0.5
        Probability of one more pass of swaps, in [0, 1).
    n_grid : array-like of int, default=(5, 20, 100)
        Numbers of rankings.
    n_repeats : int, default=50
        Number of simulations for each of them.
    random_state : int, RandomState instance or None, default=None
        Determines the simulations; None is new ones each time.

    Returns
    -------
    effectiveness : :class:`~sklearn.utils.Bunch`
        `n_rankings`, the grid; `score_ratio` and `quality_ratio`, means of the two ratios, and
        `score_ratio_std` and `quality_ratio_std`, their standard deviations: ndarrays of shape
        (len(n_grid), 2), with quotas in the first column and without in the second.

    References
    ----------
    .. [1] N. Boehmer, L. E. Celis, L. Huang, A. Mehrotra, N. K. Vishnoi, "Subset Selection Based
       On Multiple Rankings in the Presence of Bias: Effectiveness of Fairness Constraints for
       Multiwinner Voting Score Functions", ICML 2023, arXiv:2306.09835 (Section 5).

    Examples
    --------
    >>> from skpapers.ranking import fairness_effectiveness
    >>> found = fairness_effectiveness("borda", 10, n_grid=(50,), n_repeats=10, random_state=0)
    >>> quota, free = found.score_ratio[0]
    >>> bool(quota > free)
    True
    """
    rng = check_random_state(random_state)
    n_rankings = column_or_1d(check_array(n_grid, ensure_2d=False, dtype=np.int64))
    settings = {"bias": bias, "theta": theta, "phi": phi}
    selector = FairSubsetSelector(n_select, rule=rule, constraint=constraint)
    ratios = np.array(
        [
            [_ratios(make_biased_rankings(n_items, n, **settings, random_state=seed), selector)
             for seed in (draw_seed(rng) for _ in range(n_repeats))]
            for n in n_rankings.tolist()
        ]
    )  # fmt: skip
    mean, std = ratios.mean(axis=1), ratios.std(axis=1)
    return Bunch(
        n_rankings=n_rankings,
        score_ratio=mean[..., 0],
        score_ratio_std=std[..., 0],
        quality_ratio=mean[..., 1],
        quality_ratio_std=std[..., 1],
    )


def _ratios(rankings, selector):
    """Unbiased score and quality of the choice with and without quotas, over the best."""
    best_score = selector.fit(rankings.unbiased).objective_
    points = position_points(selector.ranks_, selector.rule, len(selector.selected_))
    weights = order_weights(selector.rule, len(selector.selected_), selector.lambdas)
    best_quality = np.sort(rankings.quality)[-len(selector.selected_) :].sum()
    found = []
    for groups in (rankings.groups, None):
        chosen = selector.fit(rankings.biased, groups=groups).selected_
        score = set_score(points[chosen], weights)
        found.append([score / best_score, rankings.quality[chosen].sum() / best_quality])
    return found


def read_groups(groups, n_items):
    """Labels of the groups, none without groups, and the number of each item's group."""
    if groups is None:
        return [], np.zeros(n_items, dtype=np.intp)
    groups = column_or_1d(groups)
    if len(groups) != n_items:
        raise ValueError(f"groups has {len(groups)} values for {n_items} items")
    labels, codes = np.unique(groups, return_inverse=True)
    return labels.tolist(), codes


def read_subset(subset, n_items):
    """Indices of the members of a set given by indices or as a mask."""
    subset = column_or_1d(subset)
    if subset.dtype == bool:
        if len(subset) != n_items:
            raise ValueError(f"subset is a mask of {len(subset)} values for {n_items} items")
        return np.flatnonzero(subset)
    if subset.dtype.kind not in "iu" or len(np.unique(subset)) != len(subset):
        raise ValueError(f"subset must hold distinct indices or be a mask, got {subset}")
    if len(subset) == 0 or subset.min() < 0 or subset.max() >= n_items:
        raise ValueError(f"subset must hold indices from 0 to {n_items - 1}, got {subset}")
    return subset
