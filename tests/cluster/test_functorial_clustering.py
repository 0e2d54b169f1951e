from itertools import combinations, permutations

import numpy as np
import pytest
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import pdist, squareform
from sklearn.base import clone
from sklearn.cluster import DBSCAN, HDBSCAN, AgglomerativeClustering, KMeans
from sklearn.metrics import adjusted_rand_score

from skpapers.cluster import FunctorialClustering, check_functoriality, motivic_distance
from skpapers.utils._single_linkage import (
    cut,
    linkage_matrix,
    minimum_spanning_tree,
    spanning_tree_of_matrix,
    ultrametric,
)

SHAPES = [("pair", 2), ("star", 3), ("star", 5), ("simplex", 3), ("simplex", 4)]


def _square(n):
    """Four points of a cycle: neighbours at 1, opposite points at 2."""
    return np.array([[0, 1, 2, 1], [1, 0, 1, 2], [2, 1, 0, 1], [1, 2, 1, 0]], float)[:n, :n]


def _motif(shape, m):
    if shape in ("pair", "simplex"):
        return 1.0 - np.eye(m)
    w = 2.0 * (1 - np.eye(m))
    w[0, 1:] = w[1:, 0] = 1
    return w


def _by_definition(D, motif):
    """Smallest scale of an injective non-expanding map that hits both, over all injective maps."""
    n, m = len(D), len(motif)
    off = ~np.eye(m, dtype=bool)
    u = np.full((n, n), np.inf)
    for image in permutations(range(n), m):
        grid = np.ix_(image, image)
        scale = np.max(D[grid][off] / motif[off])
        u[grid] = np.minimum(u[grid], scale)
    np.fill_diagonal(u, 0)
    return u


def _single(u):
    """Minimax path distances by Floyd and Warshall."""
    u = u.copy()
    for k in range(len(u)):
        u = np.minimum(u, np.maximum(u[:, k : k + 1], u[k]))
    return u


def _points(seed, n=30, p=2):
    return np.random.default_rng(seed).normal(size=(n, p))


def _refines(fine, coarse):
    pairs = np.unique(np.stack([fine, coarse]), axis=1)
    return len(np.unique(pairs[0])) == pairs.shape[1]


@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "precomputed"])
def test_pairs_are_single_linkage(metric):
    X = _points(0, 80, 3)
    D = pdist(X, "cityblock" if metric == "manhattan" else "euclidean")
    data = squareform(D) if metric == "precomputed" else X
    model = FunctorialClustering("pair", distance_threshold=0.7, metric=metric).fit(data)
    np.testing.assert_allclose(model.distances_, linkage(D, "single")[:, 2], rtol=1e-12)
    np.testing.assert_allclose(
        squareform(model.ultrametric_), cophenet(linkage(D, "single")), rtol=1e-12
    )
    peer = AgglomerativeClustering(
        None, linkage="single", distance_threshold=0.7, metric="precomputed"
    ).fit(squareform(D))
    assert adjusted_rand_score(peer.labels_, model.labels_) == 1
    assert 1 < model.n_clusters_ == peer.n_clusters_ < 80
    assert model.functor_class_ == "gen"


@pytest.mark.parametrize(
    ("shape", "m"), [("star", 3), ("star", 4), ("simplex", 3), ("simplex", 4)]
)
def test_clusters_are_those_of_the_definition(shape, m):
    for seed in range(4):
        X = _points(seed, 8)
        D = squareform(pdist(X))
        u = _by_definition(D, _motif(shape, m))
        model = FunctorialClustering(shape, m, distance_threshold=1.0).fit(X)
        np.testing.assert_allclose(model.ultrametric_, _single(u), rtol=1e-12)
        if shape == "simplex":
            np.testing.assert_allclose(motivic_distance(D, shape, m), u, rtol=1e-12)
        custom = FunctorialClustering("custom", motifs=[_motif(shape, m)], distance_threshold=1.0)
        np.testing.assert_allclose(custom.fit(X).ultrametric_, _single(u), rtol=1e-12)
        for threshold in np.unique(_single(u))[1:]:
            joined = _single(u) <= threshold
            labels = model.set_params(distance_threshold=threshold * (1 + 1e-12)).fit_predict(X)
            np.testing.assert_array_equal(labels[:, None] == labels, joined)


def test_custom_motifs_are_those_of_the_definition():
    motifs = [_square(4), np.array([[0, 1, 2.5], [1, 0, 3], [2.5, 3, 0]])]
    D = squareform(pdist(_points(1, 7)))
    expected = np.minimum(*(_by_definition(D, w) for w in motifs))
    np.testing.assert_allclose(motivic_distance(D, "custom", motifs=motifs), expected, rtol=1e-12)
    five = [_motif("star", 5)]
    expected = _by_definition(D, five[0])
    np.testing.assert_allclose(motivic_distance(D, "custom", motifs=five), expected, rtol=1e-12)


@pytest.mark.parametrize("m", [4, 5, 6])
def test_larger_simplices_by_enumeration(m):
    D = squareform(pdist(_points(2, 9)))
    expected = np.full(D.shape, np.inf)
    for members in combinations(range(9), m):
        grid = np.ix_(members, members)
        expected[grid] = np.minimum(expected[grid], D[grid].max())
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(motivic_distance(D, "simplex", m), expected, rtol=1e-12)


@pytest.mark.parametrize(("shape", "m"), SHAPES)
def test_functorial_on_injective_maps(shape, m):
    rng = np.random.default_rng(0)
    model = FunctorialClustering(shape, m, distance_threshold=0.5)
    for trial in range(200 if shape == "star" else 60):
        X = rng.normal(size=(30, 2))
        if trial % 2:
            Y = np.vstack([X, rng.normal(size=(10, 2))])
        else:
            Y = X * rng.uniform(0.05, 1, size=2)
        assert check_functoriality(model, Y, X)


def test_pairs_are_functorial_on_maps_that_merge_samples():
    rng = np.random.default_rng(0)
    model = FunctorialClustering("pair", distance_threshold=0.3)
    for _ in range(50):
        X = rng.normal(size=(30, 2)).round(1)
        flat = np.unique(X[:, 0])[:, None]
        assert check_functoriality(model, flat, X, mapping=np.searchsorted(flat[:, 0], X[:, 0]))
    with pytest.raises(ValueError, match="increases a distance"):
        check_functoriality(model, 2 * X, X)


def test_other_methods_are_not_functorial():
    peers = {
        "k-means": KMeans(3, n_init=3, random_state=0),
        "average linkage": AgglomerativeClustering(
            None, linkage="average", distance_threshold=1.0
        ),
        "HDBSCAN": HDBSCAN(min_cluster_size=3, copy=True),
    }
    rng = np.random.default_rng(0)
    sets = [rng.normal(size=(40, 2)) for _ in range(20)]
    for peer in peers.values():
        assert not all(check_functoriality(peer, X, X[:30]) for X in sets)
    star = FunctorialClustering(distance_threshold=0.5)
    assert all(check_functoriality(star, X, X[:30]) for X in sets)


@pytest.mark.parametrize(("shape", "m"), SHAPES)
def test_excisive(shape, m):
    model = FunctorialClustering(shape, m, distance_threshold=0.6)
    for seed in range(100 if shape != "simplex" else 40):
        X = _points(seed, 25)
        labels = model.fit(X).labels_
        for label in np.unique(labels):
            block = X[labels == label]
            assert len(block) == 1 or model.fit(block).n_clusters_ == 1


@pytest.mark.parametrize(("shape", "m"), SHAPES)
def test_stable_to_noise_and_homogeneous(shape, m):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        D = squareform(pdist(_points(seed, 20)))
        noise = squareform(rng.uniform(-0.02, 0.02, size=190))
        moved = np.abs(D + noise)
        model = FunctorialClustering(shape, m, distance_threshold=1.0, metric="precomputed")
        first, second = (model.fit(d).ultrametric_ for d in (D, moved))
        assert np.abs(first - second).max() <= np.abs(D - moved).max() + 1e-12
        np.testing.assert_allclose(model.fit(7 * D).ultrametric_, 7 * first, rtol=1e-12)


def test_monotone_in_the_number_of_points():
    D = squareform(pdist(_points(3, 20)))
    for shape in ("star", "simplex"):
        sizes = [motivic_distance(D, shape, m) for m in (2, 3, 4, 5)]
        assert all(np.all(a <= b) for a, b in zip(sizes, sizes[1:]))
    for m in (3, 4, 5):
        star, simplex = (
            FunctorialClustering(s, m, distance_threshold=1.0, metric="precomputed").fit(D)
            for s in ("star", "simplex")
        )
        assert np.all(star.ultrametric_ <= simplex.ultrametric_)


def test_star_is_dbscan_with_border_points_joined():
    X = _points(0, 200)
    eps, m = 0.25, 5
    peer = DBSCAN(eps=eps, min_samples=m).fit(X)
    model = FunctorialClustering("star", m, distance_threshold=eps).fit(X)
    core = peer.core_sample_indices_
    np.testing.assert_array_equal(model.core_distances_ <= eps, np.isin(np.arange(200), core))
    labels = model.labels_
    near = squareform(pdist(X)) <= eps
    for i in np.flatnonzero(peer.labels_ != -1):  # every non-noise point is with its core points
        assert np.all(labels[i] == labels[core[near[i, core]]])
    assert np.all(np.bincount(labels)[labels[peer.labels_ == -1]] == 1)
    assert _refines(peer.labels_[core], labels[core])


def _bridge(seed=0):
    rng = np.random.default_rng(seed)
    blobs = [rng.normal((x, 0), 0.6, size=(200, 2)) for x in (0, 6)]
    line = np.c_[np.linspace(1, 5, 15), np.zeros(15)]
    return np.vstack([*blobs, line]), np.repeat([0, 1], 200)


def _best(fit, y):
    """Best adjusted Rand index on the blobs over thresholds; noise counts as singletons."""
    scores = []
    for threshold in np.linspace(0.1, 2, 20):
        labels = fit(threshold)[: len(y)].copy()
        noise = labels == -1
        labels[noise] = labels.max() + 1 + np.arange(noise.sum())
        scores.append(adjusted_rand_score(y, labels))
    return max(scores)


@pytest.mark.parametrize("seed", range(3))
def test_stars_do_not_chain(seed):
    X, y = _bridge(seed)
    two = FunctorialClustering("pair", n_clusters=2).fit_predict(X)
    assert adjusted_rand_score(y, two[:400]) < 0.1

    def pair(t):
        return FunctorialClustering("pair", distance_threshold=t).fit_predict(X)

    def star(t):
        return FunctorialClustering("star", 8, distance_threshold=t).fit_predict(X)

    def dbscan(t):
        return DBSCAN(eps=t, min_samples=8).fit_predict(X)

    best = _best(star, y)
    assert best > 0.98
    assert best > _best(pair, y)
    assert best > _best(dbscan, y) - 0.02


@pytest.mark.parametrize(("shape", "m"), SHAPES)
def test_labels_do_not_depend_on_the_order_of_rows(shape, m):
    X = np.random.default_rng(0).integers(0, 6, size=(40, 2)).astype(float)  # many ties
    rows = np.random.default_rng(1).permutation(40)
    for options in ({"n_clusters": 3}, {"distance_threshold": 1.0}, {}):
        model = FunctorialClustering(shape, m, **options)
        first, second = model.fit_predict(X), model.fit_predict(X[rows])
        assert adjusted_rand_score(first[rows], second) == 1
        assert len(np.unique(first)) <= options.get("n_clusters", 40)


@pytest.mark.parametrize(("shape", "m"), SHAPES)
def test_predict_is_the_cluster_joined_when_the_row_is_added(shape, m):
    X, new = _points(0, 40), _points(1, 40) * 1.5
    threshold = {2: 0.4, 3: 0.6, 4: 0.8, 5: 0.6}[m]
    model = FunctorialClustering(shape, m, distance_threshold=threshold).fit(X)
    predicted, joined = model.predict(new), []
    for x in new:
        together = clone(model).fit_predict(np.vstack([X, x]))
        joined.append(np.unique(model.labels_[together[:-1] == together[-1]]))
    for label, blocks in zip(predicted, joined):
        assert label in blocks or (label == -1 and len(blocks) == 0)
    assert sum(len(blocks) == 1 for blocks in joined) > 10 and -1 in predicted
    model.set_params(metric="precomputed").fit(squareform(pdist(X)))
    distances = np.linalg.norm(new[:, None] - X, axis=2)
    np.testing.assert_array_equal(model.predict(distances), predicted)


@pytest.mark.parametrize("shape", ["star", "simplex"])
def test_fewer_samples_than_points_are_alone(shape):
    X = _points(0, 4)
    for options in ({}, {"n_clusters": 2}, {"distance_threshold": 9.0}):
        model = FunctorialClustering(shape, 6, **options).fit(X)
        assert model.labels_.tolist() == [0, 1, 2, 3]
        assert np.all(np.isinf(model.distances_))
    assert model.predict(X).tolist() == [-1] * 4
    five = FunctorialClustering(shape, 5, distance_threshold=9.0).fit(X)
    assert set(five.predict(X + 0.1)) <= {0, 1, 2, 3}  # the row added makes the motif complete


def test_small_blocks_are_noise_and_labels_are_by_first_row():
    X = np.array([[50.0], [0], [0.1], [9], [9.1], [9.2]])
    model = FunctorialClustering("pair", distance_threshold=0.5)
    assert model.fit_predict(X).tolist() == [0, 1, 1, 2, 2, 2]
    model.set_params(singletons="noise")
    assert model.fit_predict(X).tolist() == [-1, 0, 0, 1, 1, 1] and model.n_clusters_ == 2
    model.set_params(min_cluster_size=3)
    assert model.fit_predict(X).tolist() == [-1, -1, -1, 0, 0, 0]
    automatic = FunctorialClustering("pair").fit(X)
    assert automatic.functor_class_ is None and automatic.labels_.tolist() == [0, 1, 1, 1, 1, 1]
    assert automatic.threshold_ == pytest.approx(np.sqrt(8.9 * 40.8))


@pytest.mark.parametrize("algorithm", ["brute", "kd_tree", "ball_tree"])
def test_duplicates_count_as_samples(algorithm):
    X = np.repeat([[0.0, 0.0], [5.0, 0.0], [20.0, 0.0]], [4, 3, 1], axis=0) + 1e8
    model = FunctorialClustering("star", 4, distance_threshold=0.0, algorithm=algorithm).fit(X)
    assert model.labels_.tolist() == [0, 0, 0, 0, 1, 2, 3, 4]
    assert model.core_distances_.tolist() == [0, 0, 0, 0, 5, 5, 5, 15]


def test_wrong_arguments():
    X = _points(0)
    with pytest.raises(ValueError, match="cannot both"):
        FunctorialClustering(n_clusters=2, distance_threshold=1.0).fit(X)
    for unit in (1e200, 1e-200):
        with pytest.raises(ValueError, match="rescale"):
            FunctorialClustering().fit(X * unit)
    with pytest.raises(ValueError, match="square"):
        FunctorialClustering(metric="precomputed").fit(X)
    with pytest.raises(ValueError, match="symmetric"):
        FunctorialClustering(metric="precomputed").fit(np.arange(9.0).reshape(3, 3))
    with pytest.raises(ValueError, match="at least one"):
        FunctorialClustering("custom").fit(X)
    for wrong in (np.zeros((2, 2)), _motif("pair", 6), [[0, 1, 9], [1, 0, 1], [9, 1, 0]]):
        with pytest.raises(ValueError, match="2 to 5 distinct points"):
            FunctorialClustering("custom", motifs=[wrong]).fit(X)


def test_spanning_tree_on_rows_and_on_a_matrix():
    X = _points(5, 60)
    D = squareform(pdist(X))
    expected = linkage(pdist(X), "single")
    rows = minimum_spanning_tree(X, lambda x, rest: np.linalg.norm(rest - x, axis=1))
    matrix = spanning_tree_of_matrix(D)
    for tree in (rows, matrix):
        Z = linkage_matrix(tree)
        np.testing.assert_allclose(Z[:, 2:], expected[:, 2:], rtol=1e-12)
        np.testing.assert_array_equal(Z[:, :2], expected[:, :2])
        np.testing.assert_allclose(ultrametric(Z), _single(D), rtol=1e-12)
    labels = cut(matrix, 0.5)
    np.testing.assert_array_equal(labels[:, None] == labels, _single(D) <= 0.5)
    first = np.unique(labels, return_index=True)[1]
    assert np.all(np.diff(first) > 0)
