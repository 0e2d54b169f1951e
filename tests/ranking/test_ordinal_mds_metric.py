"""Ordinal metric: exact scaling of labels, the closed form, invariances, order in distances."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.optimize import approx_fprime, minimize
from scipy.stats import ortho_group, spearmanr
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.metrics import mean_absolute_error
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.neighbors import (
    KNeighborsClassifier,
    NearestNeighbors,
    NeighborhoodComponentsAnalysis,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpapers.ranking import OrdinalMDSMetric, OrdinalMDSRanker
from skpapers.ranking._label_geometry import embed_levels, embed_rows
from skpapers.ranking._metric_solvers import level_neighbors


def ordered(n=60, d=5, n_levels=4, seed=0):
    """Rows whose level shows in two columns, with unequal counts."""
    rng = np.random.default_rng(seed)
    y = np.r_[np.arange(n_levels), rng.binomial(n_levels - 1, 0.3, n - n_levels)]
    X = rng.normal(size=(n, d)) * rng.uniform(0.5, 2, d)
    X[:, 0] += y
    X[:, 1] -= y**2 / 3
    return X, y


def double_centring(D2):
    J = np.eye(len(D2)) - 1 / len(D2)
    return -0.5 * J @ D2 @ J


def objective(L, X, Y, edges, strength, penalty):
    """The definition: means over rows and over directed edges, and the ridge."""
    i, j = edges
    fit = np.sum((X @ L.T - Y) ** 2) / len(X)
    local = np.sum(((X[i] - X[j]) @ L.T) ** 2) / len(i)
    return fit + strength * local + penalty * np.sum(L**2)


@pytest.mark.parametrize("values", [np.arange(5.0), np.array([-3.0, 0, 0.5, 20])])
def test_labels_on_a_line_are_embedded_exactly(values):
    counts = np.arange(3, 3 + len(values))
    points = embed_levels(values, counts, 1)
    assert points.shape[1] == 1
    gaps = np.abs(np.subtract.outer(values, values))
    assert_allclose(euclidean_distances(points), gaps, atol=1e-10)
    assert counts @ points[:, 0] == pytest.approx(0, abs=1e-10)
    roots = embed_levels(values, counts, 0.5)
    assert roots.shape[1] == len(values) - 1
    assert_allclose(euclidean_distances(roots), np.sqrt(gaps), atol=1e-7)


@pytest.mark.parametrize("power", [0.3, 0.5, 0.8, 1.0])
def test_scaling_levels_with_weights_is_scaling_rows(power):
    values, counts = np.array([0.0, 1, 2, 5]), np.array([4, 1, 7, 2])
    codes = np.repeat(np.arange(4), counts)
    gaps = np.abs(np.subtract.outer(values[codes], values[codes]))
    gram = double_centring(gaps ** (2 * power))
    points = embed_levels(values, counts, power)[codes]
    assert_allclose(points @ points.T, gram, atol=1e-8)
    if power < 1:
        rows = embed_rows(np.zeros((14, 1)), codes, values, power, 1.0, 14)
        assert_allclose(rows @ rows.T, gram, atol=1e-8)
        assert_allclose(np.sum(rows**2, axis=0), np.linalg.eigvalsh(gram)[::-1][:3], atol=1e-8)


def test_grades_keep_their_inner_structure():
    X, y = ordered()
    gaps = np.abs(np.subtract.outer(y, y))
    within = np.where(gaps == 0, euclidean_distances(X) ** 2, 0)
    B = double_centring(gaps**1.0 + 0.4 * within / within.max())
    values, vectors = np.linalg.eigh(B)
    expected = (vectors[:, -3:] * values[-3:]) @ vectors[:, -3:].T
    Y = embed_rows(X, y, np.arange(4.0), 0.5, 0.4, 3)
    assert_allclose(Y @ Y.T, expected, atol=1e-8)
    fitted = OrdinalMDSMetric(within_weight=0.4, power=0.5).fit(X, y)
    assert fitted.level_embedding_.shape == (4, 5)
    assert fitted.components_.shape == (5, 5)


def test_many_levels_are_merged():
    rng = np.random.default_rng(0)
    values, counts = np.sort(rng.normal(size=2500)), rng.integers(1, 4, 2500)
    points = embed_levels(values, counts, 0.5)
    gaps = np.sqrt(np.abs(np.subtract.outer(values, values)[::50, ::50]))
    assert_allclose(euclidean_distances(points[::50]), gaps, atol=0.25)
    assert counts @ points == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("power", [1.0, 0.5])
@pytest.mark.parametrize("strength", [0.0, 0.1, 5.0])
def test_closed_form_is_the_minimum(power, strength):
    X, y = ordered()
    fitted = OrdinalMDSMetric(power=power, local_strength=strength, alpha=0.05).fit(X, y)
    Xc, Y = X - X.mean(axis=0), fitted.level_embedding_[y]
    edges, penalty = level_neighbors(Xc, y, 5), 0.05 * X.var(axis=0).mean()
    shape = fitted.components_.shape

    def value(L):
        return objective(L.reshape(shape), Xc, Y, edges, strength, penalty)

    gradient = approx_fprime(fitted.components_.ravel(), value, 1e-4)
    central = (
        gradient - approx_fprime(fitted.components_.ravel(), lambda L: -value(L), -1e-4)
    ) / 2
    assert_allclose(central, 0, atol=1e-8)
    found = minimize(value, np.zeros(shape).ravel(), tol=1e-12, options={"gtol": 1e-9})
    assert_allclose(fitted.components_.ravel(), found.x, atol=1e-6)


def test_neighbours_are_the_nearest_of_the_same_level():
    X, y = ordered(30)
    X[7] = X[3]
    y[7] = y[3]
    first, second = level_neighbors(X, y, 5)
    for i in range(30):
        others = np.flatnonzero((y == y[i]) & (np.arange(30) != i))
        nearest = others[np.argsort(np.linalg.norm(X[others] - X[i], axis=1), kind="stable")][:5]
        assert sorted(second[first == i]) == sorted(nearest)
    _, second = level_neighbors(np.zeros((9, 2)), np.zeros(9, dtype=int), 3)
    assert np.all(second.reshape(9, 3) != np.arange(9)[:, None])


def test_some_of_many_rows_stand_for_all(monkeypatch):
    X, y = ordered(300)
    every = OrdinalMDSMetric(local_strength=1.0).fit(X, y).metric_
    monkeypatch.setattr("skpapers.ranking._metric_solvers._MAX_HEADS", 100)
    first, _ = level_neighbors(X, y, 5)
    assert len(np.unique(first)) == pytest.approx(100, abs=4)
    some = OrdinalMDSMetric(local_strength=1.0).fit(X, y).metric_
    assert_allclose(some, every, atol=0.1 * np.abs(every).max())


@pytest.mark.parametrize(("n", "d"), [(60, 5), (20, 40)])
def test_solvers_agree(n, d):
    X, y = ordered(n, d)
    fits = {
        solver: OrdinalMDSMetric(power=0.5, solver=solver).fit(X, y).metric_
        for solver in ("cholesky", "cg", "dual", "auto")
    }
    for solver in ("cg", "dual", "auto"):
        assert_allclose(fits[solver], fits["cholesky"], atol=1e-6)


def test_sparse_rows_give_what_dense_ones_do():
    X, y = ordered(80, 12)
    X = np.where(np.random.default_rng(0).random(X.shape) < 0.3, X, 0) + np.eye(1, 12) * 3
    dense = OrdinalMDSMetric(power=0.5).fit(X, y)
    fitted = OrdinalMDSMetric(power=0.5).fit(sparse.csr_array(X), y)
    assert_allclose(fitted.metric_, dense.metric_, atol=1e-6)
    assert_allclose(fitted.pairwise(sparse.csr_array(X)), dense.pairwise(X), atol=1e-6)
    queries = OrdinalMDSRanker().fit(sparse.csr_array(X), y).predict(sparse.csr_array(X))
    assert_array_equal(queries, OrdinalMDSRanker().fit(X, y).predict(X))
    for settings in ({"solver": "dual"}, {"objective": "distance"}, {"within_weight": 1.0}):
        with pytest.raises(ValueError, match="dense X"):
            OrdinalMDSMetric(**settings).fit(sparse.csr_array(X), y)


@pytest.mark.parametrize("power", [1.0, 0.5])
@pytest.mark.parametrize("n_pairs", [None, 500])
def test_stress_never_increases(power, n_pairs, monkeypatch):
    if n_pairs is not None:
        monkeypatch.setattr("skpapers.ranking._metric_solvers._MAX_PAIRS", n_pairs)
    X, y = ordered(70, n_levels=6)
    settings = {"objective": "distance", "power": power, "max_iter": 500, "random_state": 0}
    fitted = OrdinalMDSMetric(**settings).fit(X, y)
    stress = np.array(fitted.stress_curve_)
    assert np.all(np.diff(stress) <= 1e-12 * stress[0])
    assert stress[-1] < (0.995 if power == 1 else 0.8) * stress[0]
    assert fitted.n_iter_ == len(stress) - 1
    if n_pairs is None:
        i, j = np.triu_indices(70, 1)
        gaps = np.abs(y[i] - y[j]) ** power
        assert stress[-1] == pytest.approx(np.sum((fitted.pairwise(X)[i, j] - gaps) ** 2))
        linear = OrdinalMDSMetric(power=power).fit(X, y)
        assert stress[0] == pytest.approx(np.sum((linear.pairwise(X)[i, j] - gaps) ** 2))


def test_stress_counts_the_structure_within_grades():
    X, y = ordered(40)
    settings = {"power": 0.5, "within_weight": 0.5, "tol": 1e-3, "max_iter": 500}
    fitted = OrdinalMDSMetric(objective="distance", **settings).fit(X, y)
    gaps = np.abs(np.subtract.outer(y, y))
    within = np.where(gaps == 0, euclidean_distances(X) ** 2, 0)
    goal = np.sqrt(gaps + 0.5 * within / within.max())
    stress = np.sum((fitted.pairwise(X) - goal)[np.triu_indices(40, 1)] ** 2)
    assert fitted.stress_curve_[-1] == pytest.approx(stress)


def test_linear_labels_are_reproduced():
    rng = np.random.default_rng(0)
    y = rng.integers(6, size=80)
    hidden = np.column_stack([y, np.zeros((80, 3))])
    X = hidden @ ortho_group.rvs(4, random_state=0).T
    fitted = OrdinalMDSMetric(alpha=1e-10, local_strength=0).fit(X, y)
    assert_allclose(fitted.pairwise(X), np.abs(np.subtract.outer(y, y)), atol=1e-6)


def test_what_distances_do_not_depend_on():
    X, y = ordered()
    metric = OrdinalMDSMetric(power=0.5)
    expected = metric.fit(X, y).pairwise(X)
    rotation = ortho_group.rvs(5, random_state=0)
    assert_allclose(metric.fit(X @ rotation, y).pairwise(X @ rotation), expected, atol=1e-8)
    wider = np.column_stack([X, np.full((60, 2), [0.1, 7])])
    assert_allclose(metric.fit(wider, y).pairwise(wider), expected, atol=1e-8)
    for labels in (y + 17, y.max() - y, np.array(["a", "b", "c", "d"])[y]):
        assert_allclose(metric.fit(X, labels).pairwise(X), expected, atol=1e-8)
    numeric = OrdinalMDSMetric(power=0.5, label_values="numeric")
    assert_allclose(numeric.fit(X, y - 2.0).pairwise(X), expected, atol=1e-8)
    assert_allclose(numeric.fit(X, 4.0 * y).pairwise(X), 2 * expected, atol=1e-8)
    with pytest.raises(ValueError, match="numeric"):
        numeric.fit(X, np.array(["a", "b", "c", "d"])[y])


def test_local_term_keeps_neighbours_together():
    X, y = load_digits(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    first, second = level_neighbors(X, y, 5)
    lengths = []
    for strength in (0, 0.1, 1, 10, 100):
        Z = OrdinalMDSMetric(local_strength=strength).fit_transform(X, y)
        lengths.append(np.mean(np.sum((Z[first] - Z[second]) ** 2, axis=1)))
    assert np.all(np.diff(lengths) <= 0)
    assert lengths[-1] < lengths[0] / 10


def test_votes_and_ranks():
    X, y = ordered(50)
    labels = np.array(["a", "b", "c", "d"])[y]
    ranker = OrdinalMDSRanker(n_neighbors_predict=4).fit(X, labels)
    D = ranker.transformer_.pairwise(X[:9], X)
    order = ranker.rank(X[:9])
    assert_allclose(np.take_along_axis(D, order, axis=1), np.sort(D, axis=1), atol=1e-7)
    assert_array_equal(ranker.rank(X[:9], 3), order[:, :3])
    near = np.sort(y[order[:, :4]], axis=1)
    assert_array_equal(ranker.predict(X[:9]), ranker.classes_[near[:, 1]])
    ranker.set_params(vote="mean")
    assert_array_equal(
        ranker.predict(X[:9]), ranker.classes_[np.rint(near.mean(axis=1)).astype(int)]
    )
    fractions = np.stack([(near == level).mean(axis=1) for level in range(4)], axis=1)
    assert_allclose(ranker.level_fractions(X[:9]), fractions)
    assert not hasattr(ranker, "predict_proba")
    ranker.set_params(vote="mode")
    assert_allclose(ranker.predict_proba(X[:9]), fractions)
    assert_array_equal(ranker.predict(X[:9]), ranker.classes_[fractions.argmax(axis=1)])


def test_wrong_labels_are_named():
    X, y = ordered()
    for estimator in (OrdinalMDSMetric(), OrdinalMDSRanker()):
        with pytest.raises(ValueError, match="one class"):
            estimator.fit(X, np.ones(60))
    with pytest.raises(ValueError, match="Unknown label type"):
        OrdinalMDSRanker().fit(X, np.random.default_rng(0).normal(size=60))
    with pytest.raises(ValueError, match="at most 3000; got 3001"):
        OrdinalMDSMetric(within_weight=1.0).fit(np.zeros((3001, 1)), np.arange(3001) % 2)


# The claims: order in the distances, for the price of one linear system.


class RoundedMean(KNeighborsClassifier):
    """Nearest neighbours whose vote is the rounded mean of integer labels."""

    def predict(self, X):
        return np.rint(self._y[self.kneighbors(X, return_distance=False)].mean(axis=1))


def quintiles(n_noise, seed):
    X, target = load_diabetes(return_X_y=True)
    y = np.searchsorted(np.quantile(target, [0.2, 0.4, 0.6, 0.8]), target)
    return np.column_stack([X, np.random.default_rng(seed).normal(size=(len(X), n_noise))]), y


def errors(X, y, estimator, seed):
    found = []
    for repeat in range(3):
        folds = StratifiedKFold(5, shuffle=True, random_state=10 * seed + repeat)
        model = make_pipeline(StandardScaler(), clone(estimator))
        found.append(cross_val_score(model, X, y, cv=folds, scoring="neg_mean_absolute_error"))
    return -np.mean(found)


@pytest.mark.parametrize(("n_noise", "margin"), [(0, 0.03), (30, 0.10)])
def test_ordinal_error_is_below_that_of_euclidean_neighbours(n_noise, margin):
    for seed in range(2):
        X, y = quintiles(n_noise, seed)
        ours = errors(X, y, OrdinalMDSRanker(power=1.0, vote="mean"), seed)
        assert ours <= errors(X, y, RoundedMean(15), seed) - margin


def rank_correlation(Z_train, y_train, Z_test, y_test):
    """Mean over queries of Spearman's correlation of distances and gaps of labels."""
    D, gaps = euclidean_distances(Z_test, Z_train), np.abs(np.subtract.outer(y_test, y_train))
    return np.mean([spearmanr(d, g).statistic for d, g in zip(D, gaps)])


def test_distances_of_digits_follow_their_order():
    X, y = load_digits(return_X_y=True)
    split = train_test_split(X, y, train_size=0.5, stratify=y, random_state=0)
    X, X_test, y, y_test = split
    scaler = StandardScaler().fit(X)
    X, X_test = scaler.transform(X), scaler.transform(X_test)
    correlation = {}
    for name, model in {
        "line": OrdinalMDSMetric(),
        "root": OrdinalMDSMetric(power=0.5),
        "nca": NeighborhoodComponentsAnalysis(random_state=0),
    }.items():
        Z = model.fit(X, y).transform(X)
        correlation[name] = rank_correlation(Z, y, model.transform(X_test), y_test)
    assert correlation["line"] >= correlation["nca"] + 0.2
    assert correlation["root"] >= correlation["line"]


def test_relevant_rows_come_first():
    """Mean gap of the labels of the ten first results, against Euclidean ranking."""
    X, y = quintiles(30, 0)
    X = StandardScaler().fit_transform(X)
    train, test = next(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y))
    ranker = OrdinalMDSRanker(power=1.0).fit(X[train], y[train])
    plain = NearestNeighbors(n_neighbors=10).fit(X[train])
    found = [ranker.rank(X[test], 10), plain.kneighbors(X[test], return_distance=False)]
    ours, theirs = (
        mean_absolute_error(np.repeat(y[test], 10), y[train][f].ravel()) for f in found
    )
    assert ours <= theirs - 0.1
