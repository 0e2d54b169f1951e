"""Tests of the independence test by transport to the product of the marginals."""

from functools import partial

import numpy as np
import ot
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.optimize import linprog
from scipy.spatial.distance import cdist
from scipy.stats import ortho_group, wasserstein_distance
from sklearn import config_context
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectFdr

from skpapers.hypothesis_testing import (
    KantorovichIndependenceTest,
    _transport_costs as transport_costs,
    joint_of,
    kantorovich_score,
    marginals_of,
)
from skpapers.hypothesis_testing._transport_costs import (
    dependence_costs,
    disjoint_products,
    entropic_cost,
)

EXACT = partial(KantorovichIndependenceTest, method="exact", n_permutations=1, random_state=0)


def wasserstein(p, q, metric="cityblock"):
    """Distance of two laws by its linear program; the city block is the sum of 1-D metrics."""
    (left, left_weights), (right, right_weights) = p, q
    cost = cdist(left, right, metric)
    n, m = cost.shape
    rows = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    weights = np.concatenate([left_weights, right_weights])
    return linprog(cost.ravel(), A_eq=np.vstack(rows), b_eq=weights).fun


def random_law(rng, n_atoms=6, n_features=1):
    return rng.normal(size=(n_atoms, n_features)), rng.dirichlet(np.ones(n_atoms))


def normalised(law):
    """Distinct atoms, sorted, with their weights."""
    atoms, index = np.unique(law[0], axis=0, return_inverse=True)
    return atoms, np.bincount(index.ravel(), weights=law[1])


def test_distance_of_products_is_the_sum_of_distances_for_the_sum_metric_alone():
    rng = np.random.RandomState(0)
    defects = []
    for _ in range(20):
        p, q, p2, q2 = (random_law(rng) for _ in range(4))
        expected = sum(
            wasserstein_distance(a[0].ravel(), b[0].ravel(), a[1], b[1])
            for a, b in ((p, p2), (q, q2))
        )
        products = joint_of(p, q), joint_of(p2, q2)
        assert_allclose(wasserstein(*products), expected, atol=1e-9)
        defects.append(expected - wasserstein(*products, "chebyshev"))
    assert min(defects) > 1e-3


def test_marginals_of_a_product_are_its_factors():
    rng = np.random.RandomState(0)
    p, q = random_law(rng, 5, 2), random_law(rng, 4, 3)
    for law, factor in zip(marginals_of(joint_of(p, q), 2), (p, q)):
        assert_array_equal(law[0], normalised(factor)[0])
        assert_allclose(law[1], normalised(factor)[1], rtol=1e-14)
    dyadic = (np.arange(4.0)[:, None], np.array([0.5, 0.25, 0.125, 0.125]))
    for law in marginals_of(joint_of(dyadic, dyadic), 1):
        assert_array_equal(law[0], dyadic[0])
        assert_array_equal(law[1], dyadic[1])


def test_product_of_the_marginals_is_idempotent():
    joint = random_law(np.random.RandomState(0), 6, 2)
    joint[0][3, 0] = joint[0][1, 0]  # an atom that two pairs share
    once = joint_of(*marginals_of(joint, 1))
    twice = joint_of(*marginals_of(once, 1))
    assert once[0].shape == (30, 2)
    assert_array_equal(twice[0], once[0])
    assert_allclose(twice[1], once[1], rtol=1e-13)


def test_marginal_map_is_short():
    rng = np.random.RandomState(0)
    for _ in range(50):
        joints = random_law(rng, 6, 2), random_law(rng, 6, 2)
        first, second = zip(*(marginals_of(joint, 1) for joint in joints))
        assert wasserstein(*first) + wasserstein(*second) <= wasserstein(*joints) + 1e-9


def test_drawn_pairs_follow_the_product_law():
    p, q = ([[0.0], [1.0]], [0.25, 0.75]), ([[5.0], [6.0]], [0.5, 0.5])
    atoms, weights = joint_of(p, q, 4000, random_state=0)
    counts = normalised((atoms, np.ones(4000)))[1]
    assert stats.chisquare(counts, 4000 * np.outer([0.25, 0.75], [0.5, 0.5]).ravel()).pvalue > 0.01
    assert_allclose(weights, 1 / 4000)
    assert_array_equal(joint_of(p, q, 9, random_state=1)[0], joint_of(p, q, 9, random_state=1)[0])


@pytest.mark.parametrize("weights", [[0.5], [-1.0, 2.0], [0.0, 0.0], [[0.5, 0.5]]])
def test_bad_laws_raise(weights):
    with pytest.raises(ValueError, match="weights"):
        joint_of(([[0.0], [1.0]], weights), [[1.0]])
    with pytest.raises(ValueError, match="split"):
        marginals_of([[0.0, 1.0]], 2)


def test_exact_statistic_is_zero_on_a_grid_and_half_on_a_diagonal():
    x, y = np.meshgrid([0.0, 1.0, 3.0], [0.0, 2.0])
    assert abs(EXACT(scale=False).fit(x.reshape(-1, 1), y.ravel()).statistic_) < 1e-12
    coin = np.array([0.0, 1.0])
    assert EXACT(scale=False).fit(coin[:, None], coin).statistic_ == 0.5
    assert EXACT(scale=False).fit(coin[:, None], np.array(["a", "b"])).statistic_ == 0.5


@pytest.mark.parametrize("n_features", [1, 2])
def test_exact_statistic_is_the_transport_to_the_product_of_the_marginals(n_features):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(7, n_features))
    y = rng.normal(size=7)
    joint = np.column_stack([X, y]), np.full(7, 1 / 7)
    pairs = joint_of(*marginals_of(joint, n_features))

    def sum_metric(a, b):
        return np.linalg.norm(a[:-1] - b[:-1]) + abs(a[-1] - b[-1])

    expected = wasserstein(joint, pairs, sum_metric)
    assert_allclose(EXACT(scale=False).fit(X, y).statistic_, expected, atol=1e-9)


def test_exact_statistic_does_not_care_which_block_is_first():
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(12, 2)), rng.normal(size=(12, 3))
    assert_allclose(EXACT().fit(X, y).statistic_, EXACT().fit(y, X).statistic_, atol=1e-9)


@pytest.mark.parametrize("method", ["matching", "exact", "sinkhorn"])
def test_translations_and_rotations_change_nothing(method):
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(14, 3)), rng.normal(size=(14, 2))
    rotations = (ortho_group.rvs(d, random_state=0) for d in (3, 2))
    moved = [block @ rotation + 5 for block, rotation in zip((X, y), rotations)]
    test = KantorovichIndependenceTest(method=method, n_permutations=5, random_state=0)
    first = test.fit(X, y).null_distribution_, test.statistic_
    second = test.fit(*moved).null_distribution_, test.statistic_
    assert_allclose(first[0], second[0], atol=1e-9)
    assert_allclose(first[1], second[1], atol=1e-9)


def test_matching_is_the_mean_distance_to_samples_of_the_product_law():
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(8, 1)), rng.normal(size=(8, 1))
    products = disjoint_products(8, 2, rng)
    rows = rng.permutation(8)
    cost = dependence_costs(cdist(X, X), cdist(y, y), [rows], products, "matching")[0]
    uniform, moved = np.full(8, 1 / 8), y[rows]
    samples = [np.hstack([X, moved[product]]) for product in products]
    expected = [wasserstein((np.hstack([X, moved]), uniform), (s, uniform)) for s in samples]
    assert_allclose(cost, np.mean(expected), atol=1e-9)


def test_product_samples_pair_different_rows_and_share_no_pair():
    products = disjoint_products(9, 20, np.random.RandomState(0))
    assert products.shape == (8, 9)
    everything = np.vstack([np.arange(9), products])
    assert_array_equal(np.sort(everything, axis=0), np.tile(np.arange(9)[:, None], 9))
    assert_array_equal(np.sort(everything, axis=1), np.tile(np.arange(9), (9, 1)))


def test_entropic_cost_is_its_dual_optimum_and_tends_to_the_transport_cost():
    rng = np.random.RandomState(0)
    cost = cdist(rng.normal(size=(9, 2)), rng.normal(size=(9, 2)))
    exact = transport_costs.assignment_cost(cost)
    assert_allclose(entropic_cost(cost, 0.002, np), exact, rtol=0.02)
    plan = ot.sinkhorn([], [], cost, 0.3, stopThr=1e-13)
    primal = np.sum(plan * cost) + 0.3 * np.sum(plan * np.log(plan * 81))
    assert_allclose(entropic_cost(cost, 0.3, np), primal, rtol=1e-5)


def test_sinkhorn_warns_when_it_stops_early(monkeypatch):
    monkeypatch.setattr(transport_costs, "_MAX_ROUNDS", 1)
    cost = cdist(*np.random.RandomState(0).normal(size=(2, 20, 2)))
    with pytest.warns(ConvergenceWarning, match="matching"):
        entropic_cost(cost, 0.005, np)


def test_sinkhorn_agrees_with_the_matching_on_what_is_dependent():
    X, y = parabola(np.random.RandomState(0), 60)
    matching, sinkhorn = (
        KantorovichIndependenceTest(method=m, n_permutations=39, random_state=0).fit(X, y)
        for m in ("matching", "sinkhorn")
    )
    assert matching.pvalue_ == sinkhorn.pvalue_ == 1 / 40
    assert np.corrcoef(matching.null_distribution_, sinkhorn.null_distribution_)[0, 1] > 0.5


def test_tensors_give_the_same_statistics():
    X, y = circle(np.random.RandomState(0), 30)
    test = KantorovichIndependenceTest(method="sinkhorn", n_permutations=5, random_state=0)
    expected = test.fit(X, y).null_distribution_, test.statistic_
    with config_context(array_api_dispatch=True):
        test.fit(torch.tensor(X), torch.tensor(y))
        assert isinstance(test.transform(torch.tensor(X)), torch.Tensor)
    assert_allclose(test.null_distribution_, expected[0], atol=1e-9)
    assert_allclose(test.statistic_, expected[1], atol=1e-9)


def test_auto_is_sinkhorn_for_many_rows_of_tensors_alone(monkeypatch):
    X, y = circle(np.random.RandomState(0), 30)
    called = []
    monkeypatch.setattr(transport_costs, "sinkhorn_costs", lambda *a: called.append(1) or [1.0, 2])
    monkeypatch.setattr("skpapers.hypothesis_testing._bimonoidal_independence._MAX_MATCHING", 20)
    test = KantorovichIndependenceTest(n_permutations=1, random_state=0).fit(X, y)
    assert not called
    with config_context(array_api_dispatch=True):
        test.fit(torch.tensor(X), torch.tensor(y))
    assert called


def test_distances_labels_and_ranks():
    rng = np.random.RandomState(0)
    X, y = circle(rng, 40)
    given = KantorovichIndependenceTest(n_permutations=19, random_state=0).fit(X, y)
    distances = KantorovichIndependenceTest(
        metric="precomputed", metric_y="precomputed", n_permutations=19, random_state=0
    ).fit(cdist(X, X), cdist(y[:, None], y[:, None]))
    assert_allclose(distances.statistic_, given.statistic_)
    with pytest.raises(ValueError, match="columns"):
        distances.get_support()
    with pytest.raises(ValueError, match="square"):
        distances.fit(X, y)
    labels = np.where(y > 0, "up", "down")
    coded = given.set_params(metric_y="discrete").fit(X, y > 0).statistic_
    assert_allclose(given.set_params(metric_y=None).fit(X, labels).statistic_, coded)
    assert_allclose(given.fit(X, y > 0).statistic_, coded)
    ranked = given.set_params(scale="rank").fit(np.exp(X), y).statistic_
    assert_allclose(ranked, given.fit(X, y**3).statistic_)


def test_effect_sizes_are_their_formulas():
    X, y = parabola(np.random.RandomState(0), 40)
    test = KantorovichIndependenceTest(n_permutations=39, random_state=0).fit(X, y)
    null = test.null_distribution_
    assert null.shape == (39,)
    assert_allclose(test.effect_size_, (test.statistic_ - null.mean()) / null.std())
    assert_allclose(test.relative_kappa_, (test.statistic_ - null.mean()) / 2)
    assert_allclose(test.pvalue_, (1 + np.sum(null >= test.statistic_)) / 40)
    assert test.dependent_ is test.reject_ is True
    assert test.score(X, y) == test.effect_size_
    assert test.test(X, y).statistic == test.statistic_


def test_constant_blocks_are_independent_of_everything():
    y = np.random.RandomState(0).normal(size=20)
    test = KantorovichIndependenceTest(n_permutations=9, random_state=0).fit(np.ones((20, 2)), y)
    assert (test.pvalue_, test.effect_size_, test.reject_) == (1.0, 0.0, False)
    test.set_params(method="sinkhorn", scale=False).fit(np.ones((20, 2)), np.ones(20))
    assert (test.statistic_, test.relative_kappa_, test.pvalue_) == (0.0, 0.0, 1.0)


def test_all_columns_stay_or_go_together_without_per_feature():
    X, y = parabola(np.random.RandomState(0), 60)
    X = np.column_stack([X, np.ones(60)])
    test = KantorovichIndependenceTest(per_feature=False, n_permutations=39, random_state=0)
    assert_array_equal(test.fit(X, y).get_support(), [True, True])
    assert_array_equal(test.fit(X, np.ones(60)).get_support(), [False, False])


def test_selection_does_not_depend_on_the_number_of_jobs_and_is_what_the_score_says():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(50, 3))
    y = X[:, 1] ** 2 + 0.3 * rng.normal(size=50)
    test = KantorovichIndependenceTest(n_permutations=39, random_state=0).fit(X, y)
    parallel = KantorovichIndependenceTest(n_permutations=39, n_jobs=2, random_state=0).fit(X, y)
    assert_array_equal(test.null_distribution_, parallel.null_distribution_)
    assert_array_equal(test.scores_, parallel.scores_)
    assert test.get_support()[1]
    scores, pvalues = kantorovich_score(X, y, n_permutations=39, random_state=0)
    assert_array_equal(scores, test.scores_)
    assert_array_equal(pvalues, test.pvalues_)
    assert_array_equal(test.get_support(), pvalues <= 0.05)


# Level and power.


def circle(rng, n_samples=80):
    angle = rng.uniform(0, 2 * np.pi, n_samples)
    points = np.column_stack([np.cos(angle), np.sin(angle)])
    points = points + 0.1 * rng.normal(size=points.shape)
    return points[:, :1], points[:, 1]


def line(rng, n_samples=80):
    x = rng.normal(size=n_samples)
    return x[:, None], 0.5 * x + rng.normal(size=n_samples)


def parabola(rng, n_samples=80):
    x = rng.normal(size=n_samples)
    return x[:, None], x**2 + rng.normal(size=n_samples)


def independent(rng, n_samples=80):
    return rng.normal(size=(n_samples, 1)), rng.normal(size=n_samples)


def pvalues(draw, repeats, n_permutations=99, n_samples=80, **params):
    rng = np.random.RandomState(0)
    test = KantorovichIndependenceTest(n_permutations=n_permutations, **params)
    samples = [draw(rng, n_samples) for _ in range(repeats)]
    return np.array(
        [test.set_params(random_state=s).fit(*xy).pvalue_ for s, xy in enumerate(samples)]
    )


def test_pvalues_are_uniform_under_independence():
    """On the grid of 1/20, 2/20, ...: the jitter makes a uniform law of it."""
    found = pvalues(independent, 500, n_permutations=19, n_samples=20)
    jitter = np.random.RandomState(1).uniform(size=500)
    assert stats.kstest(found - jitter / 20, "uniform").pvalue > 0.01


@pytest.mark.slow
def test_level_at_80_rows():
    assert np.mean(pvalues(independent, 200) <= 0.05) <= 0.08


POWERS = pytest.mark.parametrize("draw, power", [(line, 0.7), (circle, 0.95), (parabola, 0.9)])


@POWERS
def test_power_at_80_rows(draw, power):
    assert np.mean(pvalues(draw, 40) <= 0.05) >= power


@POWERS
@pytest.mark.slow
def test_power_at_80_rows_over_many_samples(draw, power):
    assert np.mean(pvalues(draw, 200) <= 0.05) >= power


def test_correlation_does_not_see_the_circle():
    rng = np.random.RandomState(0)
    samples = [circle(rng) for _ in range(40)]
    found = [stats.pearsonr(X[:, 0], y).pvalue for X, y in samples]
    assert np.mean(np.array(found) <= 0.05) <= 0.15


def test_screening_of_diabetes_keeps_the_known_columns_and_little_noise():
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    rng = np.random.RandomState(0)
    rows = rng.permutation(len(y))[:150]
    table = np.column_stack([X.to_numpy()[rows], rng.normal(size=(150, 10))])
    score = partial(kantorovich_score, n_permutations=99, n_products=1, random_state=0)
    support = SelectFdr(score, alpha=0.05).fit(table, y.to_numpy()[rows]).get_support()
    assert {"bmi", "s5"} <= set(X.columns[support[:10]])
    assert support[10:].sum() <= 2
