"""LCOT: optimal cuts, exact displacements, the metric, rotations, and what nearness is worth."""

import numpy as np
import ot
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import pdist, squareform
from sklearn.manifold import MDS
from sklearn.neighbors import KNeighborsClassifier

from skpapers.manifold import LinearCircularOT, lcot_distance, pairwise_lcot
from skpapers.manifold._circle import (
    embed,
    mean,
    quantile,
    quantiles_on_grid,
    sample_measures,
    wrap,
)

TURN = 2 * np.pi


def samples(n, m, seed=0):
    """Distributions of m angles in turns, some wide, some narrow and across the origin."""
    rng = np.random.default_rng(seed)
    kappa = rng.choice([0.0, 2.0, 50.0], size=(n, 1))
    return (rng.random((n, 1)) + rng.vonmises(0, kappa, (n, m)) / TURN) % 1


def weighted(m, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random(m), rng.random(m)


def displacements(X, n_quantiles=200):
    E = LinearCircularOT(n_quantiles, period=1).fit_transform(X)
    return E * np.sqrt(n_quantiles)


def transport_cost(x, y, a=None, b=None):
    """Optimal cost of the squared distance along the circle, by linear programming."""
    cost = wrap(np.subtract.outer(x, y)) ** 2
    a = np.full(len(x), 1 / len(x)) if a is None else a
    b = np.full(len(y), 1 / len(y)) if b is None else b
    return ot.emd2(a, b, cost)


def exact_pieces(measures):
    """Lengths of the levels that go to one atom, and the displacements at their middles."""
    cut = mean(measures)[0] - 0.5
    ends = np.unique(np.concatenate([[0, 1], (measures.level[0] + cut) % 1]))
    middle = (ends[1:] + ends[:-1]) / 2
    return np.diff(ends), quantile(measures, middle - cut) - middle


@pytest.mark.parametrize("seed", range(5))
def test_displacements_average_to_zero_and_are_at_most_half_a_turn(seed):
    x, w = weighted(9, seed)
    length, middle = exact_pieces(sample_measures(x[None], w[None], 1))
    assert length @ middle == pytest.approx(0, abs=1e-12)
    assert (np.abs(middle) + length / 2).max() <= 0.5 + 1e-12
    E = displacements(samples(50, 9, seed), 1000)
    assert_allclose(E.mean(axis=1), 0, atol=1e-3)
    assert np.abs(E).max() <= 0.5 + 1e-12


def test_the_cut_is_the_best_of_many():
    X, levels = samples(8, 7), (np.arange(2000) + 0.5) / 2000
    measures, cuts, costs = sample_measures(X, None, 1), np.linspace(-1, 1, 801), []
    for cut in cuts:
        moved = quantiles_on_grid(measures, np.full(8, cut), 2000) - levels
        costs.append(np.mean(moved**2, axis=1))
    exact = [lcot_distance(x, period=1) ** 2 for x in X]
    assert_allclose(np.min(costs, axis=0), exact, atol=1e-4)
    assert_allclose(cuts[np.argmin(costs, axis=0)], X.mean(axis=1) - 0.5, atol=0.01)


@pytest.mark.parametrize("m", [1, 2, 9, 30])
def test_distance_to_the_uniform_distribution_is_exact(m):
    x, w = weighted(m)
    peer = ot.semidiscrete_wasserstein2_unif_circle(x)[0]
    assert lcot_distance(x, period=1) ** 2 == pytest.approx(peer, abs=1e-12)
    order = np.argsort(x)  # the peer does not sort the weights with the angles
    peer = ot.semidiscrete_wasserstein2_unif_circle(x[order], u_weights=w[order] / w.sum())[0]
    assert lcot_distance(x, x_weights=w, period=1) ** 2 == pytest.approx(peer, abs=1e-12)


@pytest.mark.parametrize(("m", "equal"), [(5, True), (8, True), (12, False), (7, False)])
def test_displacements_are_the_optimal_transport(m, equal):
    x, w = weighted(m)
    w = np.ones(m) if equal else w
    grid = (np.arange(1000) + 0.5) / 1000
    moved = embed(sample_measures(x[None], w[None], 1), 1000)[0]
    exact = equal and 1000 % m == 0
    expected = transport_cost(grid, x, b=w / w.sum())
    assert np.mean(moved**2) == pytest.approx(expected, abs=1e-12 if exact else 1e-4)


@pytest.mark.parametrize("m", [12, 17, 1000])
def test_relation_to_the_peer(m):
    """It is squared, on the grid k / 100, and takes each quantile one atom too late."""
    X, late = samples(2, m), []
    measures = sample_measures(X, None, 1)
    start = np.hstack([measures.start[:, 1:], measures.start[:, -1:]])
    late = quantiles_on_grid(measures._replace(start=start), mean(measures) - 0.5, 100, 0)
    peer = ot.linear_circular_ot(X[0], X[1])[0]
    assert np.mean(wrap(late[0] - late[1]) ** 2) == pytest.approx(peer, abs=1e-12)
    tolerance = 0.003 if m == 1000 else 0.03
    assert lcot_distance(*X, period=1) == pytest.approx(np.sqrt(peer), abs=tolerance)


def test_the_distance_is_a_metric():
    D = pairwise_lcot(samples(30, 9), period=1)
    assert_array_equal(D, D.T)
    assert_array_equal(np.diag(D), 0)
    assert D[~np.eye(30, dtype=bool)].min() > 1e-3
    i, j, k = np.random.default_rng(0).integers(30, size=(3, 300))
    assert np.all(D[i, k] <= D[i, j] + D[j, k] + 1e-12)


def test_the_distance_is_at_least_that_of_optimal_transport():
    for x, y in zip(samples(40, 6, 1), samples(40, 9, 2)):
        assert lcot_distance(x, y, period=1) ** 2 >= transport_cost(x, y) - 1e-12


@pytest.mark.parametrize(("x", "y", "expected"), [(0.1, 0.3, 0.2), (0.9, 0.2, 0.3), (0, 0.5, 0.5)])
def test_single_angles_are_at_their_distance_along_the_circle(x, y, expected):
    assert lcot_distance([x], [y], period=1) == pytest.approx(expected, abs=1e-12)
    assert pairwise_lcot([[x]], [[y]], period=1)[0, 0] == pytest.approx(expected, abs=1e-12)


def test_the_grid_tends_to_the_integral():
    X, Y = samples(10, 12, 3), samples(8, 5, 4)
    exact = [[lcot_distance(x, y, period=1) for y in Y] for x in X]
    assert_allclose(pairwise_lcot(X, Y, period=1, n_quantiles=20_000), exact, atol=1e-3)
    grid = pairwise_lcot(X, Y, period=1)
    assert grid[2, 3] == pytest.approx(lcot_distance(X[2], Y[3], period=1, n_quantiles=200))


@pytest.mark.parametrize("columns", [1, 50, 137])
def test_rotations_shift_the_columns(columns):
    X, Y = samples(40, 9), samples(40, 7, 1)
    moved, moved_Y = X + columns / 200, Y + columns / 200
    assert_allclose(displacements(moved), np.roll(displacements(X), columns, 1), atol=1e-12)
    assert_allclose(pairwise_lcot(moved, period=1), pairwise_lcot(X, period=1), atol=1e-12)
    for rotated, before in zip(zip(moved, moved_Y), zip(X, Y)):
        expected = lcot_distance(*before, period=1)
        assert lcot_distance(*rotated, period=1) == pytest.approx(expected, abs=1e-12)


def test_aligned_vectors_do_not_see_rotations():
    X, transformer = samples(20, 12), LinearCircularOT(period=1, align=True)
    E = transformer.fit_transform(X)
    coefficients = E @ np.exp(-2j * np.pi * np.arange(200) / 200)
    assert np.abs(np.angle(coefficients)).max() <= np.pi / 200 + 1e-9
    assert_allclose(transformer.transform(X + 31 / 200), E, atol=1e-12)
    assert_allclose(pdist(E[[0, 0]]), 0)
    assert np.linalg.norm(displacements(X + 0.5) - displacements(X)) > 1
    with pytest.raises(ValueError, match="align=True needs reference='uniform'"):
        LinearCircularOT(align=True, reference="mean").fit(X)


@pytest.mark.parametrize("embedding", ["displacement", "trig"])
@pytest.mark.parametrize("reference", ["uniform", "mean"])
def test_vectors_determine_the_distribution(embedding, reference):
    """To the step of the grid in transported distance; exactly, where steps hold whole atoms."""
    X = samples(20, 7)
    transformer = LinearCircularOT(period=1, embedding=embedding, reference=reference)
    back = transformer.inverse_transform(transformer.fit_transform(X))
    assert ot.wasserstein_circle(back.T, X.T, p=1).max() < 1 / 200
    X = samples(20, 8)
    back = transformer.inverse_transform(transformer.fit_transform(X))
    if reference == "uniform":
        assert_allclose(np.sort(back), np.sort(np.repeat(X, 25, axis=1)), atol=1e-12)


def test_order_weights_and_units_do_not_matter():
    x, w = weighted(11)
    y, order = samples(1, 6)[0], np.random.default_rng(0).permutation(11)
    expected = lcot_distance(x, y, w, period=1)
    assert lcot_distance(x[order], y, 1e-200 * w[order], period=1) == pytest.approx(expected)
    assert lcot_distance(360 * x - 720, 360 * y, w, period=360) == pytest.approx(expected)
    doubled = lcot_distance(np.r_[x, x], y, np.r_[w, w], period=1)
    assert doubled == pytest.approx(expected)
    counts = np.arange(11)
    repeated = lcot_distance(np.repeat(x, counts), y, period=1)
    assert repeated == pytest.approx(lcot_distance(x, y, counts, period=1))


def test_distances_of_vectors_bound_the_metric():
    X = samples(60, 12)
    D = squareform(pairwise_lcot(X, period=1), checks=False)
    chords = pdist(LinearCircularOT(period=1, embedding="trig").fit_transform(X))
    lines = pdist(LinearCircularOT(period=1).fit_transform(X))
    assert np.all(chords <= D + 1e-12)
    assert np.all(lines >= D - 1e-12)
    difference = np.abs(displacements(X)[:, None] - displacements(X)).max(axis=2)
    same = squareform(difference <= 0.5, checks=False)
    assert same.sum() > 5
    assert_allclose(lines[same], D[same], atol=1e-12)
    near = D < 0.05
    assert near.sum() > 5
    assert_allclose(chords[near], D[near], rtol=0.05)


def test_reference_that_is_not_uniform():
    """The norm is the circular distance to the atoms of the reference."""
    X, reference = samples(20, 8), samples(1, 40, 5)[0]
    E = LinearCircularOT(40, period=1, reference=reference).fit_transform(X)
    expected = [transport_cost(reference, x) for x in X]
    assert_allclose(np.sum(E**2, axis=1), expected, atol=1e-10)
    transformer = LinearCircularOT(50, period=1, reference="mean").fit(X)
    pooled = np.quantile(X, transformer.quantiles_, method="inverted_cdf")
    assert_allclose(transformer.reference_, pooled, atol=1e-12)


def test_histograms_spread_their_mass_within_bins():
    rng = np.random.default_rng(0)
    H = rng.integers(0, 5, size=(10, 12)) * 1.0
    within = (np.arange(200) + 0.5) / 200
    dense = [
        np.concatenate([(j + within) / 12 for j in np.repeat(np.arange(12), h.astype(int))])
        for h in H
    ]
    for reference in ("uniform", "mean"):
        of_bins = LinearCircularOT(input="histogram", reference=reference).fit_transform(H)
        of_angles = LinearCircularOT(period=1, reference=reference)
        if reference == "uniform":
            assert_allclose(of_bins, of_angles.fit_transform(dense), atol=1e-3)
    assert_allclose(pairwise_lcot(H, input="histogram"), pairwise_lcot(dense, period=1), atol=2e-3)
    flat = LinearCircularOT(input="histogram").fit_transform([[0, 0, 0], [2, 2, 2], [1, 0, 0]])
    assert_allclose(flat[:2], 0, atol=1e-15)
    with pytest.raises(ValueError, match="Negative values"):
        LinearCircularOT(input="histogram").fit([[1, -1.0]])


def test_missing_angles_and_lists_of_arrays():
    X = samples(6, 9)
    X[2, [0, 4]] = X[4, 3:] = np.nan
    rows = [x[~np.isnan(x)] for x in X]
    expected = np.vstack([displacements(row[None]) for row in rows])
    assert_allclose(displacements(X), expected, atol=1e-12)
    assert_allclose(displacements(rows), expected, atol=1e-12)
    assert_allclose(pairwise_lcot(rows, period=1), pairwise_lcot(X, period=1), atol=1e-12)
    longer = [np.arange(20) / 20]
    assert LinearCircularOT(period=1).fit(rows).transform(longer).shape == (1, 200)
    X[3] = np.nan
    with pytest.raises(ValueError, match="Row 3 of X has no angle"):
        LinearCircularOT().fit(X)
    weights = np.where(np.isnan(X), 7.0, 1.0)
    weights[3], X[3] = 0.5, 0.25
    unweighted = pairwise_lcot(X, period=1)
    assert_allclose(pairwise_lcot(X, weights=weights, period=1), unweighted, atol=1e-12)


def test_barycenter_of_rotated_copies():
    """The mean vector of narrow distributions about 0.4 and 0.6 is narrow about 0.5."""
    x = 0.5 + np.linspace(-0.02, 0.02, 8)
    found = LinearCircularOT(period=1).fit([x]).barycenter(np.vstack([x - 0.1, x + 0.1]))
    assert found.shape == (200,)
    assert np.exp(2j * np.pi * found).mean().real < 0
    single = LinearCircularOT(period=1, embedding="trig").fit([x]).barycenter([x])
    assert_allclose(np.sort(single), np.repeat(x, 25), atol=1e-12)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="x_weights has shape"):
        lcot_distance([0.1, 0.2], x_weights=[1.0])
    with pytest.raises(ValueError, match="Negative values"):
        lcot_distance([0.1, 0.2], x_weights=[1.0, -1.0])
    with pytest.raises(ValueError, match="no angle with a mass"):
        lcot_distance([0.1, 0.2], x_weights=[0.0, 0.0])
    with pytest.raises(ValueError, match="x must be one-dimensional"):
        lcot_distance([[0.1, 0.2]])
    with pytest.raises(ValueError, match="Y_weights needs Y"):
        pairwise_lcot([[0.1]], Y_weights=[[1.0]])
    with pytest.raises(ValueError, match="weights must be None"):
        pairwise_lcot([[0.1]], weights=[[1.0]], input="histogram")
    transformer = LinearCircularOT(10).fit([[0.1, 0.2]])
    with pytest.raises(ValueError, match="X has 9 columns, expected 10"):
        transformer.inverse_transform(np.zeros((1, 9)))


def test_extreme_angles():
    X = np.array([[-1e-20, 1e-300], [1 - 1e-17, 0.0], [3.0, -2.0]])
    assert_allclose(pairwise_lcot(X, period=1), 0, atol=1e-12)
    transformer = LinearCircularOT(period=0.1).fit(np.full((1, 2), np.float32(0.1)))
    angles = transformer.inverse_transform(transformer.transform(X.astype(np.float32)))
    assert angles.dtype == np.float32 and angles.min() >= 0 and angles.max() < np.float32(0.1)


def sparse_samples(seed):
    """Twelve angles a distribution, about a mean whose sextant is the label."""
    rng = np.random.default_rng(seed)
    mu = rng.uniform(0, TURN, 300)
    return rng.vonmises(mu[:, None], 60, (300, 12)), (mu // (TURN / 6)).astype(int)


def accuracy(D, y, n_train=60):
    model = KNeighborsClassifier(1, metric="precomputed").fit(D[:n_train, :n_train], y[:n_train])
    return model.score(D[n_train:, :n_train], y[n_train:])


def test_nearness_matters_where_histograms_are_sparse():
    scores = []
    for seed in range(3):
        X, y = sparse_samples(seed)
        counts = [np.histogram(x % TURN, 60, (0, TURN))[0] for x in X]
        scores.append([accuracy(pairwise_lcot(X), y), accuracy(squareform(pdist(counts)), y)])
    lcot, histogram = np.mean(scores, axis=0)
    assert lcot >= histogram + 0.01
    assert lcot > 0.92


@pytest.mark.parametrize("seed", range(3))
def test_distances_follow_circular_optimal_transport(seed):
    X = samples(30, 12, seed)
    i, j = np.triu_indices(30, 1)
    circular = np.sqrt([transport_cost(X[a], X[b]) for a, b in zip(i, j)])
    assert np.corrcoef(pairwise_lcot(X, period=1)[i, j], circular)[0, 1] > 0.95


def test_a_map_of_rotated_distributions_is_a_ring():
    """Multidimensional scaling of narrow distributions finds the order of their means."""
    means = np.arange(12) / 12
    X = means[:, None] + np.linspace(-0.02, 0.02, 5)
    scaling = MDS(metric="precomputed", init="classical_mds", n_init=1, random_state=0)
    Z = scaling.fit_transform(pairwise_lcot(X, period=1))
    steps = wrap(np.diff(np.arctan2(*(Z - Z.mean(axis=0)).T)) / TURN)
    assert_allclose(np.abs(steps), 1 / 12, atol=0.02)
    assert np.abs(np.sign(steps).sum()) == 11
