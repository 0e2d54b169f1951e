"""Fair subset selection: exact optima, submodularity, quotas, and what they give back."""

from itertools import combinations

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import kstest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skpapers.ranking import (
    FairSubsetSelector,
    fairness_effectiveness,
    make_biased_rankings,
    multiwinner_score,
)
from skpapers.ranking._biased_rankings import swap_bias

SUBMODULAR = ["cc", "pav", "owa"]
ADDITIVE = ["sntv", "bloc", "borda", np.array([5.0, 5, 2, 1, 1, 1, 0, 0, 0, 0])]


def instance(seed, m=10, n=6, n_groups=3):
    """Rankings, groups, and bounds that k = 4 items can meet."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, m))
    groups = np.r_[np.arange(n_groups), rng.integers(n_groups, size=m - n_groups)]
    inside = np.bincount(rng.permutation(groups)[:4], minlength=n_groups)
    sizes = np.bincount(groups)
    upper = np.minimum(inside + rng.integers(3, size=n_groups), sizes)
    lower = np.maximum(np.minimum(inside, upper) - rng.integers(3, size=n_groups), 0)
    return X, groups, dict(enumerate(zip(lower.tolist(), upper.tolist())))


def reference_score(X, subset, rule, k, lambdas=None):
    """The definitions, ranking by ranking."""
    total = 0.0
    for row in X:
        position = {item: place for place, item in enumerate(np.argsort(-row), start=1)}
        places = sorted(position[i] for i in subset)
        points = [len(row) - p for p in places]
        if not isinstance(rule, str):
            total += sum(rule[p - 1] for p in places)
        elif rule == "sntv":
            total += 1 in places
        elif rule == "bloc":
            total += sum(p <= k for p in places)
        elif rule == "borda":
            total += sum(points)
        elif rule == "cc":
            total += max(points)
        elif rule == "pav":
            total += sum(1 / j for j in range(1, 1 + sum(p <= k for p in places)))
        else:
            weights = [1 / j for j in range(1, 99)] if lambdas is None else lambdas
            total += sum(w * p for w, p in zip(weights, points))
    return total


def best_score(X, rule, groups=None, bounds=None, k=4):
    feasible = (
        S
        for S in combinations(range(X.shape[1]), k)
        if bounds is None
        or all(low <= np.sum(groups[list(S)] == g) <= up for g, (low, up) in bounds.items())
    )
    return max(reference_score(X, S, rule, k) for S in feasible)


@pytest.mark.parametrize("rule", [*ADDITIVE, *SUBMODULAR], ids=str)
def test_scores_are_those_of_the_definitions(rule):
    rng = np.random.default_rng(0)
    for k in (1, 3, 7):
        X, subset = rng.normal(size=(5, 10)), rng.permutation(10)[:k]
        expected = reference_score(X, subset, rule, k)
        assert multiwinner_score(X, subset, rule) == pytest.approx(expected)
        mask = np.isin(np.arange(10), subset)
        assert multiwinner_score(X, mask, rule) == pytest.approx(expected)
        fitted = FairSubsetSelector(k, rule=rule).fit(X)
        assert fitted.objective_ == pytest.approx(
            reference_score(X, fitted.selected_, rule, k), abs=1e-9
        )
    lambdas = [3.0, 2.0, 2.0]
    expected = reference_score(X, subset, "owa", 7, lambdas)
    assert multiwinner_score(X, subset, "owa", lambdas=lambdas) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("rule", ADDITIVE, ids=str)
def test_additive_rules_are_solved_exactly_under_bounds(rule, seed):
    X, groups, bounds = instance(seed)
    fitted = FairSubsetSelector(4, rule=rule, constraint=bounds).fit(X, groups=groups)
    assert fitted.objective_ == pytest.approx(best_score(X, rule, groups, bounds))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rule", SUBMODULAR)
def test_greedy_guarantees_and_exact_optima(rule, seed):
    X, groups, bounds = instance(seed)
    free = FairSubsetSelector(4, rule=rule).fit(X)
    assert free.objective_ >= (1 - 1 / np.e) * best_score(X, rule) - 1e-9
    best = best_score(X, rule, groups, bounds)
    selector = FairSubsetSelector(4, rule=rule, constraint=bounds)
    assert selector.fit(X, groups=groups).objective_ >= best / 2 - 1e-9
    exact = selector.set_params(solver="exact").fit(X, groups=groups)
    assert exact.objective_ == pytest.approx(best)
    assert_allclose(exact.item_scores_[exact.selected_].sum(), best)


@pytest.mark.parametrize("rule", SUBMODULAR)
@pytest.mark.parametrize("seed", range(3))
def test_lazy_choice_is_that_of_all_gains(rule, seed):
    """More items than are evaluated at a time, and groups."""
    X = np.random.default_rng(seed).normal(size=(9, 150))
    groups = np.arange(150) % 3
    bounds = {0: (4, 9), 1: (2, 3), 2: (3, 9)}
    fitted = FairSubsetSelector(12, rule=rule, constraint=bounds).fit(X, groups=groups)
    chosen, counts = [], np.zeros(3, dtype=int)
    for slots in range(12, 0, -1):
        gain = np.full(150, -1.0)
        for i in set(range(150)) - set(chosen):
            after = counts + (groups[i] == np.arange(3))
            missing = np.maximum([4, 2, 3] - after, 0).sum()
            if np.all(after <= [9, 3, 9]) and missing <= slots - 1:
                gain[i] = multiwinner_score(X, [*chosen, i], rule, k=12)
        chosen.append(int(np.flatnonzero(gain >= gain.max() - 1e-9)[0]))
        counts[groups[chosen[-1]]] += 1
    assert fitted.selected_.tolist() == chosen


def test_rules_that_contain_each_other():
    X = np.random.default_rng(0).normal(size=(7, 9))
    subset, first = [2, 3, 8], [1.0, 0.0, 0.0]
    assert multiwinner_score(X, subset, "owa", lambdas=first) == multiwinner_score(X, subset, "cc")
    assert multiwinner_score(X, subset, "owa", lambdas=[1.0]) == multiwinner_score(X, subset, "cc")
    ones = multiwinner_score(X, subset, "owa", lambdas=np.ones(3))
    assert ones == multiwinner_score(X, subset, "borda")
    of_one = [[multiwinner_score(X, [i], r) for i in range(9)] for r in ("pav", "bloc", "sntv")]
    assert_array_equal(of_one[0], of_one[1])
    assert_array_equal(of_one[0], of_one[2])
    order = [
        FairSubsetSelector(4, rule=rule, lambdas=lambdas).fit(X).selected_
        for rule, lambdas in [("owa", np.ones(4)), ("borda", None)]
    ]
    assert_array_equal(*order)


@pytest.mark.parametrize("rule", SUBMODULAR)
def test_gains_are_not_negative_and_fall(rule):
    rng = np.random.default_rng(0)
    for _ in range(200):
        X, items = rng.normal(size=(4, 10)), rng.permutation(10)
        a, b = np.sort(rng.integers(1, 9, size=2))

        def gain(size, X=X, items=items):
            sets = (items[: size + 1], items[:size])
            with_it = [np.r_[items[9], sets[1]], sets[1]]
            return np.subtract(*(multiwinner_score(X, S, rule, k=4) for S in with_it))

        assert gain(a) >= gain(b) - 1e-12
        assert gain(b) >= -1e-12


@pytest.mark.parametrize("rule", ["borda", "bloc", "cc", "pav", "owa"])
def test_neutral_anonymous_and_ordinal(rule):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 8)) + np.linspace(0, 0.9, 8) ** 2
    selector = FairSubsetSelector(4, rule=rule)
    chosen = selector.fit(X).selected_
    assert np.diff(np.sort(selector.item_scores_)).min() > 1e-9, "no ties"
    shuffle = rng.permutation(8)
    assert_array_equal(shuffle[selector.fit(X[:, shuffle]).selected_], chosen)
    assert_array_equal(selector.fit(X[rng.permutation(400)]).selected_, chosen)
    assert_array_equal(selector.fit(np.repeat(X, 3, axis=0)).selected_, chosen)
    increasing = np.exp(X * rng.uniform(0.1, 3, size=(400, 1))) + rng.normal(size=(400, 1))
    assert_array_equal(selector.fit(increasing).selected_, chosen)
    ranks = np.argsort(np.argsort(-X, axis=1), axis=1) + 1
    assert_array_equal(selector.set_params(input="ranks").fit(ranks).selected_, chosen)


@pytest.mark.parametrize("rule", ["sntv", "borda", "cc", "pav"])
def test_quotas_are_met(rule):
    for seed in range(25):
        X, groups, bounds = instance(seed)
        fitted = FairSubsetSelector(4, rule=rule, constraint=bounds).fit(X, groups=groups)
        assert fitted.bounds_ == bounds
        assert all(low <= fitted.group_counts_[g] <= up for g, (low, up) in bounds.items())
        assert len(set(fitted.selected_)) == 4 == sum(fitted.group_counts_.values())
        free = FairSubsetSelector(4, rule=rule, constraint=None).fit(X, groups=groups)
        assert_array_equal(free.selected_, FairSubsetSelector(4, rule=rule).fit(X).selected_)


def test_named_quotas():
    X = np.arange(20.0)[None]
    groups = np.repeat(["a", "b", "c"], [15, 1, 4])
    fitted = FairSubsetSelector(10).fit(X, groups=groups)
    assert fitted.bounds_ == {"a": (7, 8), "b": (0, 1), "c": (2, 2)}
    fitted = FairSubsetSelector(10, constraint="equal").fit(X, groups=groups)
    assert fitted.bounds_ == {"a": (5, 5), "b": (1, 1), "c": (4, 4)}
    assert fitted.group_counts_ == {"a": 5, "b": 1, "c": 4}
    fitted = FairSubsetSelector(8, constraint="equal").fit(X, groups=groups)
    assert fitted.bounds_ == {"a": (3, 4), "b": (1, 1), "c": (3, 4)}
    fitted = FairSubsetSelector(8, constraint={"a": (7, 7)}).fit(X, groups=groups)
    assert fitted.bounds_ == {"a": (7, 7), "b": (0, 1), "c": (0, 4)}
    for constraint in ("equal", "proportional"):
        for k in range(1, 21):
            selector = FairSubsetSelector(k, constraint=constraint).fit(X, groups=groups)
            lower, upper = np.array(list(selector.bounds_.values())).T
            assert lower.sum() <= k <= upper.sum()
            assert np.all(lower <= upper) and np.all(upper <= [15, 1, 4])


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ({"b": (2, 2)}, "group 'b' needs"),
        ({"a": (3, 2)}, "group 'a' needs"),
        ({"a": (-1, 2)}, "group 'a' needs"),
        ({"a": (6, 9)}, "6 of group 'a', but n_select is 5"),
        ({"a": (0, 1), "c": (0, 2)}, "at most, of which 1 of group 'a', but n_select is 5"),
        ({"z": (0, 1)}, "bounds of {'z'}"),
    ],
)
def test_impossible_quotas_name_the_group(constraint, message):
    groups = np.repeat(["a", "b", "c"], [15, 1, 4])
    with pytest.raises(ValueError, match=message):
        FairSubsetSelector(5, constraint=constraint).fit(np.arange(20.0)[None], groups=groups)


def test_unranked_items_are_behind_the_ranked():
    X = np.array([[np.nan, 1, np.nan, 3], [np.nan] * 4])
    borda = FairSubsetSelector(2).fit(X)
    assert_allclose(borda.ranks_, [[3.5, 2, 3.5, 1], [2.5] * 4])
    assert_array_equal(borda.selected_, [3, 1])
    bloc = FairSubsetSelector(2, rule="bloc").fit(X)
    assert_allclose(bloc.item_scores_, [0, 1, 0, 1], err_msg="no vote for unranked items")
    assert np.isnan(bloc.transform(X)).sum() == 2, "cells pass through"


def test_ties_share_positions_or_are_broken_by_index():
    X = np.array([[5.0, 5.0, 1.0]])
    assert_allclose(FairSubsetSelector(1).fit(X).ranks_, [[1.5, 1.5, 3]])
    assert_allclose(FairSubsetSelector(1, rule="sntv").fit(X).ranks_, [[1, 2, 3]])
    few = FairSubsetSelector(3, rule="sntv").fit(np.array([[1.0, 2, 3, 4, 5]]))
    assert_array_equal(few.selected_, [4, 0, 1])
    assert few.n_zero_scores_ == 2
    assert FairSubsetSelector(3, rule="cc").fit([[1.0, 2, 3, 4, 5]]).n_zero_scores_ == 2


def test_selector_of_columns():
    X = np.random.default_rng(0).normal(size=(9, 8))
    fitted = FairSubsetSelector(0.5).fit(X)
    assert_array_equal(fitted.get_support(indices=True), np.sort(fitted.selected_))
    assert_array_equal(fitted.transform(X), X[:, fitted.support_])
    assert fitted.score(X) == 1
    other = X + np.random.default_rng(1).normal(size=X.shape)
    best = FairSubsetSelector(0.5).fit(other).objective_
    expected = multiwinner_score(other, fitted.selected_) / best
    assert fitted.score(other) == pytest.approx(expected)
    assert expected < 1
    for rule in SUBMODULAR:
        exact = FairSubsetSelector(3, rule=rule, solver="exact").fit(X)
        assert 0.6 < exact.score(X) <= 1
    everything = FairSubsetSelector(20).fit(X, groups=np.arange(8) % 2)
    assert everything.support_.all()
    assert FairSubsetSelector(1).fit([[3.0]]).score([[3.0]]) == 1


def test_groups_are_metadata():
    X = np.arange(6.0)[None]
    with sklearn.config_context(enable_metadata_routing=True):
        selector = FairSubsetSelector(2).set_fit_request(groups=True)
        pipeline = make_pipeline(FunctionTransformer(), selector)
        pipeline.fit(X, groups=[0, 0, 0, 1, 1, 1])
    assert_array_equal(pipeline[-1].selected_, [5, 2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": [1.0, 2.0, 3.0]}, "rule must be non-increasing"),
        ({"rule": [1.0, 0.0]}, "rule must hold 3 numbers"),
        ({"rule": "owa", "lambdas": [1.0, 2.0]}, "lambdas must be non-increasing"),
        ({"rule": "owa", "lambdas": [1.0, -1.0]}, "lambdas must be non-increasing"),
    ],
)
def test_wrong_weights_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        FairSubsetSelector(2, **arguments).fit([[1.0, 2.0, 3.0]])


def test_wrong_sets_and_groups_are_named():
    with pytest.raises(ValueError, match="groups has 2 values for 3 items"):
        FairSubsetSelector(1).fit([[1.0, 2.0, 3.0]], groups=[0, 1])
    for subset in ([0, 0], [3], [-1], [0.5], [True, False]):
        with pytest.raises(ValueError, match="subset"):
            multiwinner_score([[1.0, 2.0, 3.0]], subset)


# The bias models.


def test_law_of_the_simulation():
    R = make_biased_rankings(40, 500, theta=0.5, random_state=0)
    assert_array_equal(R.biased[:, :20], R.unbiased[:, :20])
    assert_array_equal(R.biased[:, 20:], 0.5 * R.unbiased[:, 20:])
    assert kstest(2 * np.log(R.unbiased / R.quality).ravel(), "norm").pvalue > 0.01
    assert np.all((R.quality >= 0) & (R.quality <= 1))
    again = make_biased_rankings(40, 500, theta=0.5, random_state=0)
    assert_array_equal(R.biased, again.biased)
    for bias in ({"theta": 1.0}, {"bias": "swap", "phi": 0.0}):
        R = make_biased_rankings(12, 7, random_state=1, **bias)
        assert_array_equal(np.argsort(R.biased, axis=1), np.argsort(R.unbiased, axis=1))


@pytest.mark.parametrize("bias", [{"theta": 0.3}, {"bias": "swap", "phi": 0.8}])
def test_bias_keeps_the_order_within_groups(bias):
    R = make_biased_rankings(12, 50, n_groups=3, random_state=0, **bias)
    assert_array_equal(np.bincount(R.groups), [4, 4, 4])
    for g in range(3):
        columns = R.groups == g
        order = [np.argsort(Z[:, columns], axis=1) for Z in (R.biased, R.unbiased)]
        assert_array_equal(*order)
    points = FairSubsetSelector(1).fit(R.biased).item_scores_
    unbiased = FairSubsetSelector(1).fit(R.unbiased).item_scores_
    assert points[R.groups == 2].sum() < 0.8 * unbiased[R.groups == 2].sum()


def test_passes_of_swaps_are_those_of_a_scan():
    rng = np.random.default_rng(0)
    scores, disadvantaged = rng.normal(size=(6, 9)), rng.random(9) < 0.5
    n_passes = np.array([0, 1, 2, 3, 8, 100])
    found = swap_bias(scores, disadvantaged, n_passes)
    for row, passes, behind in zip(scores, n_passes, found):
        order = np.argsort(-row).tolist()
        for _ in range(passes):
            for i in range(8):
                if disadvantaged[order[i]] and not disadvantaged[order[i + 1]]:
                    order[i], order[i + 1] = order[i + 1], order[i]
        assert_array_equal(np.argsort(-behind), order)
    assert np.all(np.diff(disadvantaged[np.argsort(-found[-1])].astype(int)) >= 0)


# The claims: quotas give back what the bias took, from few rankings if the rule looks deep.


def test_quotas_recover_the_unbiased_choice():
    found = fairness_effectiveness("borda", 10, n_grid=[50], n_repeats=50, random_state=0)
    quota, free = found.score_ratio[0]
    assert quota >= 0.985
    assert quota >= free + 0.035
    fair = fairness_effectiveness("borda", 10, theta=1.0, n_grid=[50], random_state=0)
    assert abs(np.subtract(*fair.score_ratio[0])) <= 0.02
    R = make_biased_rankings(random_state=0)
    biased = FairSubsetSelector(10, constraint=None).fit(R.biased, groups=R.groups)
    assert biased.group_counts_ == {0: 10, 1: 0}


def test_quotas_undo_swaps():
    settings = {"bias": "swap", "phi": 0.9, "n_grid": [50], "n_repeats": 10, "random_state": 0}
    quota, free = fairness_effectiveness("borda", 10, **settings).score_ratio[0]
    assert quota >= free + 0.02
    assert quota >= 0.98


def quality(rule, **settings):
    found = fairness_effectiveness(rule, 10, random_state=0, **settings)
    return found.quality_ratio[:, 0]


def test_rules_that_look_deep_need_few_rankings():
    sntv = quality("sntv", n_grid=[20, 2000], n_repeats=20)
    borda = quality("borda", n_grid=[20], n_repeats=50)
    assert borda[0] >= sntv[0] + 0.12
    assert sntv[1] >= sntv[0] + 0.12


def test_a_strong_bias_explodes_the_need_of_rankings_of_the_shallow_rule_only():
    borda = quality("borda", theta=0.2, n_grid=[20], n_repeats=20)
    sntv = quality("sntv", theta=0.2, n_grid=[2000], n_repeats=20)
    assert borda[0] >= sntv[0] + 0.10
