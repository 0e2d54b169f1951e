"""Scores of sets of items from many rankings, and the best set under bounds for groups."""

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.stats import rankdata
from sklearn.utils import gen_batches

ADDITIVE = ("sntv", "bloc", "borda")
SUBMODULAR = ("cc", "pav", "owa")
_OF_THE_POSITION = ("borda", "cc", "owa")  # points fall by one a position: ties share their mean
_TIE = 1 - 1e-12  # sums of the same fractions in another order are ties
_BATCH = 64


def is_additive(rule):
    """Whether items add to the score independently of each other."""
    return not (isinstance(rule, str) and rule in SUBMODULAR)


def positions(X, rule, input):
    """Position of each item (column) in each ranking (row), the best at 1.

    Ties and unranked items share the mean of their positions where points are proportional to
    it. Elsewhere ties are broken by index, and unranked items are last, at position n_items.
    """
    unranked = np.isnan(X)
    key = np.where(unranked, np.inf, X if input == "ranks" else -X)
    if isinstance(rule, str) and rule in _OF_THE_POSITION:
        return rankdata(key, method="average", axis=1)
    ranks = rankdata(key, method="ordinal", axis=1)
    return np.where(unranked, X.shape[1], ranks).astype(np.float64)


def position_points(ranks, rule, k):
    """Points that rankings give to items, of shape (n_items, n_rankings)."""
    n_items = ranks.shape[1]
    if not isinstance(rule, str):
        return check_falling(rule, n_items, "rule")[ranks.T.astype(np.intp) - 1]
    if rule == "sntv":
        return (ranks.T == 1).astype(np.float64)
    if rule in ("bloc", "pav"):
        return (k >= ranks.T).astype(np.float64)
    return np.ascontiguousarray(n_items - ranks.T)


def order_weights(rule, k, lambdas):
    """Weights of the best, second best, ... chosen item of a ranking, and a final 0."""
    weights = np.zeros(k + 1)
    if is_additive(rule):
        weights[:k] = 1
    elif rule == "cc":
        weights[0] = 1
    elif rule == "pav" or lambdas is None:
        weights[:k] = 1 / np.arange(1, k + 1)
    else:
        given = check_falling(lambdas, None, "lambdas")[:k]
        weights[: len(given)] = given
    return weights


def check_falling(values, length, name):
    """Validate a non-increasing sequence of numbers >= 0."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or (length is not None and values.size != length):
        expected = "at least one number" if length is None else f"{length} numbers, one a position"
        raise ValueError(f"{name} must hold {expected}, got shape {values.shape}")
    if not np.isfinite(values).all() or values[-1] < 0 or np.any(np.diff(values) > 0):
        raise ValueError(f"{name} must be non-increasing and not negative, got {values}")
    return values


def set_score(points, weights):
    """Score of a set: weighted sum of each ranking's points, sorted, for its members.

    Parameters
    ----------
    points : ndarray of shape (n_members, n_rankings)
        Points of the members.
    weights : ndarray of shape (n_members + 1,)
        Weights of the best, second best, ... member.
    """
    return float(weights[: len(points)] @ np.sort(points, axis=0)[::-1].sum(axis=1))


def score_bound(points, weights):
    """Upper bound of the score of any set: the k best items, or the k best of each ranking."""
    k = len(weights) - 1
    items = weights[0] * np.sort(points.sum(axis=1))[-k:].sum()
    return min(float(items), set_score(np.sort(points, axis=0)[-k:], weights))


def marginal_gains(points, best, weights):
    """What each item would add to the score of a set.

    With weights that fall by ``d_l`` after the l-th best member, the score is the sum over l of
    ``d_l`` times the l best, and an item adds to that what it exceeds the l-th best by.

    Parameters
    ----------
    points : ndarray of shape (n_candidates, n_rankings)
        Points of the items.
    best : ndarray of shape (n_kept, n_rankings)
        Each ranking's points for the members in descending order, as far as weights are not 0.
    weights : ndarray of shape (k + 1,)
        Weights of the best, second best, ... member.
    """
    drops = weights[:-1] - weights[1:]
    gains = weights[len(best)] * points.sum(axis=1)
    for level in np.flatnonzero(drops[: len(best)]):
        gains += drops[level] * np.maximum(points - best[level], 0).sum(axis=1)
    return gains


def greedy_subset(points, weights, codes, lower, upper, candidates):
    """Add the item with the largest gain that leaves the bounds within reach, k times.

    Parameters
    ----------
    points : ndarray of shape (n_items, n_rankings)
        Points of all items.
    weights : ndarray of shape (k + 1,)
        Weights of the best, second best, ... member.
    codes : ndarray of int of shape (n_items,)
        Group of each item.
    lower, upper : ndarray of int of shape (n_groups,)
        Bounds of the number of members of each group.
    candidates : ndarray of bool of shape (n_items,)
        Items to choose from.

    Returns
    -------
    selected : ndarray of int of shape (k,)
        Members in order of choice.
    gains : ndarray of shape (n_items,)
        What the members added when chosen, and what the others would add in the end.
    """
    k, n_kept = len(weights) - 1, np.count_nonzero(weights)
    selected, free, counts = [], candidates.copy(), np.zeros_like(lower)
    best, gains = np.zeros((0, points.shape[1])), np.full(len(points), np.inf)
    for slots in range(k, 0, -1):
        allowed = free & open_groups(counts, lower, upper, slots)[codes]
        item = best_addition(points, best, weights, gains, np.flatnonzero(allowed))
        best = np.sort(np.vstack([best, points[item]]), axis=0)[::-1][:n_kept]
        selected.append(item)
        free[item] = False
        counts[codes[item]] += 1
    rest = np.setdiff1d(np.arange(len(points)), selected)
    gains[rest] = marginal_gains(points[rest], best, weights)
    return np.array(selected), gains


def best_addition(points, best, weights, gains, candidates):
    """The candidate with the largest gain, of equal ones the first; brings `gains` up to date.

    Gains only fall as the set grows: former gains are bounds, and no gain is computed whose
    bound is below the best one found.
    """
    candidates = candidates[np.argsort(-gains[candidates], kind="stable")]
    largest = -np.inf
    for rows in gen_batches(len(candidates), _BATCH):
        batch = candidates[rows]
        if gains[batch[0]] < largest * _TIE:
            break
        gains[batch] = marginal_gains(points[batch], best, weights)
        largest = max(largest, gains[batch].max())
    return candidates[gains[candidates] >= largest * _TIE].min()


def open_groups(counts, lower, upper, slots):
    """Groups of which one more member leaves a set that can be completed within the bounds."""
    missing = np.maximum(lower - counts, 0)
    return (counts < upper) & ((missing > 0) | (slots > missing.sum()))


def additive_subset(scores, k, codes, lower, upper):
    """The k items with the largest sum of scores, within the bounds, in descending order.

    The first `lower` of each group must be members, and of those up to `upper` the best are:
    what greedy choice among the sets that can be completed, a matroid, also gives.
    """
    order = np.argsort(-scores, kind="stable")
    by_group = order[np.argsort(codes[order], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(lower)))[:-1]])
    place = np.empty(len(scores), dtype=np.intp)  # within the group, from 0
    place[by_group] = np.arange(len(scores)) - starts[codes[by_group]]
    required, allowed = place[order] < lower[codes[order]], place[order] < upper[codes[order]]
    optional = np.flatnonzero(allowed & ~required)[: k - required.sum()]
    return order[np.sort(np.concatenate([np.flatnonzero(required), optional]))]


def exact_subset(points, weights, codes, lower, upper):
    """The set with the largest score within the bounds, by integer programming.

    One variable an item says whether it is a member; for each ranking, and each l after which
    the weights fall, continuous variables say which of the members are its l best.
    """
    n_items, k = len(points), len(weights) - 1
    points, counts = np.unique(points.T, axis=0, return_counts=True)
    drops = weights[:-1] - weights[1:]
    levels = np.flatnonzero(drops)
    value = np.concatenate([drops[level] * (points.T * counts).T.ravel() for level in levels])
    n_sums = len(points) * len(levels)
    one_a_sum = np.ones((n_sums, 1))
    members_only = sparse.hstack(
        [-sparse.kron(one_a_sum, sparse.eye_array(n_items)), sparse.eye_array(value.size)]
    )
    at_most = sparse.kron(sparse.eye_array(n_sums), np.ones((1, n_items)))
    at_most = sparse.hstack([sparse.csr_array((n_sums, n_items)), at_most])
    group = sparse.csr_array(codes == np.arange(len(lower))[:, None], dtype=np.float64)
    size = sparse.csr_array(np.ones((1, n_items)))
    of_members = sparse.vstack([group, size])
    of_members = sparse.hstack([of_members, sparse.csr_array((len(lower) + 1, value.size))])
    found = milp(
        -np.concatenate([np.zeros(n_items), value]),
        integrality=np.repeat([1, 0], [n_items, value.size]),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(sparse.csc_array(members_only), ub=0),
            LinearConstraint(sparse.csc_array(at_most), ub=np.repeat(levels + 1, len(points))),
            LinearConstraint(sparse.csc_array(of_members), np.r_[lower, k], np.r_[upper, k]),
        ],
        options={"mip_rel_gap": 0},
    )
    if found.status != 0:
        raise ValueError(f"solver='exact' found no optimal set: {found.message}")
    return np.flatnonzero(found.x[:n_items] > 0.5)


def group_bounds(constraint, k, sizes, labels):
    """Lower and upper bounds of the number of members of each group."""
    if constraint is None:
        return np.zeros_like(sizes), sizes
    if isinstance(constraint, str):
        rule = equal_bounds if constraint == "equal" else proportional_bounds
        return rule(k, sizes)
    unknown = set(constraint) - set(labels)
    if unknown:
        raise ValueError(f"constraint has bounds of {unknown}, but the groups are {labels}")
    pairs = [constraint.get(label, (0, size)) for label, size in zip(labels, sizes)]
    lower, upper = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    upper = np.minimum(upper, sizes)
    check_feasible(k, lower, upper, labels)
    return lower, upper


def proportional_bounds(k, sizes):
    """Each group's share of the items, rounded down and up."""
    total = sizes.sum()
    return k * sizes // total, -(-k * sizes // total)


def equal_bounds(k, sizes):
    """The same number a group, rounded down and up; what small groups lack goes to the others."""
    small = np.zeros(len(sizes), dtype=bool)
    while True:
        rest, n_large = k - sizes[small].sum(), np.count_nonzero(~small)
        too_small = ~small & (sizes * n_large <= rest)
        if not too_small.any():
            break
        small |= too_small
    n_large = max(n_large, 1)
    return (np.where(small, sizes, share) for share in (rest // n_large, -(-rest // n_large)))


def check_feasible(k, lower, upper, labels):
    """Raise an error that names the groups if no k items are within the bounds."""
    for label, low, high in zip(labels, lower, upper):
        if not 0 <= low <= high:
            raise ValueError(
                f"constraint of group {label!r} needs 0 <= lower <= upper and no more items than "
                f"it has; got lower {low}, and an upper bound of {high} at most"
            )
    if lower.sum() > k:
        label = labels[int(np.argmax(lower))]
        raise ValueError(
            f"constraint asks for {lower.sum()} items or more, of which {lower.max()} of group "
            f"{label!r}, but n_select is {k}"
        )
    if upper.sum() < k:
        label = labels[int(np.argmin(upper))]
        raise ValueError(
            f"constraint allows {upper.sum()} items at most, of which {upper.min()} of group "
            f"{label!r}, but n_select is {k}"
        )
