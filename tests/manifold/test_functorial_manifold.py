"""Functorial scaling: functors and their bounds, losses against peers, chains of mutations."""

import functools

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.optimize import check_grad
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn import config_context
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.manifold import MDS, spectral_embedding
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from skpapers.manifold import (
    FunctorialScaling,
    fuzzy_strength,
    single_linkage_ultrametric,
    smacof,
)
from skpapers.manifold._dissimilarity_functors import ultrametric_of_new
from skpapers.manifold._smacof import classical_scaling, exact_stress, guttman_transform
from skpapers.manifold._strength_losses import cross_entropy_and_gradient, curve_parameters

CLUSTERINGS = ["single", "maximal", "mix", "isomap", "umap"]
LOSSES = ["stress", "strain", "laplacian", "cross_entropy"]


def points(n_samples=40, n_features=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n_samples, n_features))


def distances(*args, **kwargs):
    return squareform(pdist(points(*args, **kwargs)))


# Functors.


def test_ultrametric_is_that_of_scipy_and_of_minimax_paths():
    D = distances(80)
    u = single_linkage_ultrametric(D)
    expected = squareform(cophenet(linkage(squareform(D), "single")))
    np.testing.assert_allclose(u, expected, rtol=0, atol=1e-12)
    by_paths = D.copy()
    for k in range(80):  # Floyd and Warshall, with the maximum in place of the sum
        by_paths = np.minimum(by_paths, np.maximum(by_paths[:, k, None], by_paths[k]))
    np.testing.assert_allclose(u, by_paths, rtol=0, atol=1e-12)
    assert (u <= np.maximum(u[:, :, None], u[:, None]).max(1) + 1e-12).all()
    assert (u[:, None, :] <= np.maximum(u[:, :, None], u[None]) + 1e-12).all()


def test_functors_lie_between_single_linkage_and_the_distances():
    X = points(60)
    delta = {
        c: FunctorialScaling(clustering=c, n_neighbors=4).fit(X).dissimilarity_matrix_
        for c in ("single", "maximal", "mix", "isomap")
    }
    np.testing.assert_array_equal(delta["maximal"], squareform(pdist(X)))
    assert (delta["single"] <= delta["mix"] + 1e-12).all()
    assert (delta["mix"] <= delta["maximal"] + 1e-12).all()
    assert (delta["isomap"] >= delta["maximal"]).all()
    quarter = FunctorialScaling(clustering="mix", mix=0.25).fit(X).dissimilarity_matrix_
    expected = 0.75 * delta["single"] + 0.25 * delta["maximal"]
    np.testing.assert_allclose(quarter, expected, atol=1e-12)


def noisy(D, rng, eps):
    noise = np.triu(rng.uniform(-eps, eps, D.shape), 1)
    return np.maximum(D + noise + noise.T, 0) * (1 - np.eye(len(D)))


def test_errors_of_the_distances_do_not_grow():
    rng, eps, violations = np.random.default_rng(0), 0.05, 0
    for seed in range(100):
        D = distances(12, 2, seed=seed)
        changed = noisy(D, rng, eps)
        largest = abs(D - changed).max()
        u = [single_linkage_ultrametric(E) for E in (D, changed)]
        assert abs(u[0] - u[1]).max() <= largest + 1e-12
        mixed = [0.3 * v + 0.7 * E for v, E in zip(u, (D, changed))]
        assert abs(mixed[0] - mixed[1]).max() <= largest + 1e-12
        average = [squareform(cophenet(linkage(squareform(E), "average"))) for E in (D, changed)]
        violations += abs(average[0] - average[1]).max() > eps
    assert violations >= 10  # average linkage is not functorial


def test_small_errors_change_the_stress_by_as_much_as_proved():
    rng, eps = np.random.default_rng(0), 0.05
    D, A = distances(30), points(30, 2, seed=1)
    delta, changed = (single_linkage_ultrametric(E) for E in (D, noisy(D, rng, eps)))
    residual = abs(squareform(pdist(A)) - delta).max()
    bound = 30 * 29 / 2 * (2 * eps * residual + eps**2)
    assert abs(exact_stress(changed, A) - exact_stress(delta, A)) <= bound


def test_maps_that_shrink_distances_shrink_the_dissimilarity():
    X = points(60)
    D = squareform(pdist(X))
    u = single_linkage_ultrametric(D)
    part = single_linkage_ultrametric(D[:40, :40])
    assert (u[:40, :40] <= part + 1e-12).all() and (u[:40, :40] < part - 0.1).any()
    np.testing.assert_allclose(single_linkage_ultrametric(0.3 * D), 0.3 * u, rtol=1e-12)
    flat = squareform(pdist(X * [1, 1, 0.2]))
    assert (single_linkage_ultrametric(flat) <= u + 1e-12).all()


def test_geodesics_are_shortest_paths_and_the_graph_is_in_one_piece():
    X = np.vstack([points(20), points(20, seed=1) + 50])
    found = FunctorialScaling(clustering="isomap", n_neighbors=3).fit(X).dissimilarity_matrix_
    assert np.isfinite(found).all()
    D = squareform(pdist(X))
    graph = np.full_like(D, np.inf)
    for i in range(40):
        for j in np.argsort(D[i])[1:4]:
            graph[i, j] = graph[j, i] = D[i, j]
    inside = shortest_path(np.where(np.isinf(graph), 0, graph), directed=False)
    np.testing.assert_allclose(found[:20, :20], inside[:20, :20], rtol=1e-12)
    bridge = D[:20, 20:].min()
    assert found[:20, 20:].min() == pytest.approx(bridge)
    line = np.arange(30.0)[:, None]
    found = FunctorialScaling(clustering="isomap", n_neighbors=2).fit(line).dissimilarity_matrix_
    np.testing.assert_allclose(found, abs(line - line.T), atol=1e-9)


def test_fuzzy_strength_is_that_of_the_definition():
    D, k = distances(30), 6
    a = np.zeros_like(D)
    for i in range(30):
        nearest = np.argsort(D[i])[1 : k + 1]
        excess = D[i, nearest] - D[i, nearest[0]]
        low, high = 1e-3, 1e3
        for _ in range(100):
            sigma = (low + high) / 2
            small = np.exp(-excess / sigma).sum() < np.log2(k)
            low, high = (sigma, high) if small else (low, sigma)
        a[i, nearest] = np.exp(-excess / sigma)
    expected = a + a.T - a * a.T + np.eye(30)
    np.testing.assert_allclose(fuzzy_strength(D, k), expected, atol=1e-8)
    model = FunctorialScaling(clustering="umap", n_neighbors=k, metric="precomputed").fit(D)
    delta, s = model.dissimilarity_matrix_, model.strength_matrix_
    np.testing.assert_allclose(s, expected, atol=1e-8)
    np.testing.assert_allclose(np.exp(-delta[s > 0]), s[s > 0], rtol=1e-12)
    np.testing.assert_allclose(delta[s == 0], delta[s > 0].max() + 1)


def test_fuzzy_strength_of_equal_samples_is_finite():
    X = np.vstack([np.zeros((6, 2)), np.eye(2)])
    strength = fuzzy_strength(squareform(pdist(X)), 5)
    assert np.isfinite(strength).all() and (strength[:6, :6] == 1).all()


# Losses.


@pytest.mark.parametrize("init", ["classical", "random"])
def test_maximal_with_stress_is_metric_scaling(init):
    X = points(60, 5)
    D = squareform(pdist(X))
    ours = FunctorialScaling(clustering="maximal", init=init, random_state=0).fit(X)
    peer = MDS(
        2,
        metric="precomputed",
        n_init=4 if init == "random" else 1,
        init="random",
        random_state=0,
        normalized_stress=False,
    )
    start = classical_scaling(D, 2)[0] if init == "classical" else None
    peer.fit(D, init=start)
    expected = peer.embedding_ - peer.embedding_.mean(0)
    np.testing.assert_allclose(ours.embedding_, expected, atol=1e-8)
    assert ours.loss_ == pytest.approx(peer.stress_, rel=1e-10)
    assert ours.n_iter_ == peer.n_iter_


def test_maximal_with_strain_is_pca():
    X, new = points(60, 5), points(20, 5, seed=1)
    ours = FunctorialScaling(3, clustering="maximal", loss="strain").fit(X)
    pca = PCA(3).fit(X)
    expected = pca.transform(X)
    signs = np.sign((expected * ours.embedding_).sum(0))
    np.testing.assert_allclose(ours.embedding_ * signs, expected, atol=1e-10)
    np.testing.assert_allclose(ours.transform(new) * signs, pca.transform(new), atol=1e-10)
    products = (X - X.mean(0)) @ (X - X.mean(0)).T
    residual = products - ours.embedding_ @ ours.embedding_.T
    assert ours.loss_ == pytest.approx((residual**2).sum(), rel=1e-10)


def test_laplacian_is_the_spectral_embedding():
    X = points(60, 3)
    model = FunctorialScaling(3, clustering="umap", loss="laplacian", n_neighbors=8).fit(X)
    s = model.strength_matrix_ * (1 - np.eye(60))
    expected = spectral_embedding(s, n_components=3, eigen_solver="arpack", random_state=0)
    for ours, theirs in zip(model.embedding_.T, expected.T):
        assert abs(np.corrcoef(ours, theirs)[0, 1]) > 1 - 1e-8
    A, degrees = model.embedding_, s.sum(1)
    np.testing.assert_allclose(A.T * degrees @ A, np.eye(3), atol=1e-10)
    np.testing.assert_allclose(degrees @ A, 0, atol=1e-10)
    assert model.loss_ == pytest.approx(np.trace(A.T @ (np.diag(degrees) - s) @ A), rel=1e-10)


def test_cross_entropy_and_its_gradient():
    a, b = curve_parameters()
    assert (a, b) == pytest.approx((1.577, 0.895), abs=2e-3)  # as printed by UMAP
    s, X = fuzzy_strength(distances(20), 5), points(20, 2)
    r = squareform(pdist(X)) ** 2 + 1e-4
    w = 1 / (1 + a * r**b)
    upper = np.triu_indices(20, 1)
    expected = -(s * np.log(w) + (1 - s) * np.log(1 - w))[upper].sum()
    assert cross_entropy_and_gradient(s, X, a, b)[0] == pytest.approx(expected, rel=1e-10)

    def flat(part):
        return lambda x: np.ravel(cross_entropy_and_gradient(s, x.reshape(20, 2), a, b)[part])

    error = check_grad(lambda x: flat(0)(x)[0], flat(1), X.ravel())
    assert error < 1e-5 * np.linalg.norm(flat(1)(X.ravel()))


def test_cross_entropy_keeps_apart_what_is_not_connected():
    X = np.vstack([points(30), points(30, seed=1) + 20])
    model = FunctorialScaling(clustering="umap", loss="cross_entropy", n_neighbors=10).fit(X)
    A = model.embedding_
    near = np.argsort(cdist(A, A), axis=1)[:, 1:6]
    assert ((near < 30) == (np.arange(60) < 30)[:, None]).all()
    start = FunctorialScaling(clustering="umap", loss="laplacian", n_neighbors=10).fit(X)
    parameters = curve_parameters()
    scaled = 10 * start.embedding_ / abs(start.embedding_).max()
    before = cross_entropy_and_gradient(model.strength_matrix_, scaled, *parameters)[0]
    assert model.loss_ < before


def test_samples_without_strength_are_refused():
    with pytest.raises(ValueError, match="rescale X"):
        FunctorialScaling(clustering="maximal", loss="laplacian").fit(1e4 * points())


# SMACOF.


def test_guttman_transform_is_that_of_the_matrix_and_stress_falls():
    D, X = distances(300), points(300, 2, seed=1)
    d = squareform(pdist(X))
    ratio = D / (d + np.eye(300))
    B = np.diag(ratio.sum(1)) - ratio
    np.testing.assert_allclose(guttman_transform(D, X), B @ X / 300, atol=1e-12)
    expected = ((d - D) ** 2).sum() / 2
    assert exact_stress(D, X) == pytest.approx(expected, rel=1e-12)
    with pytest.warns(ConvergenceWarning):
        stresses = [smacof(D, X, max_iter=k, eps=0)[1] for k in range(2, 12)]
    assert (np.diff(stresses) < 0).all() and stresses[0] < expected


def test_smacof_finds_points_whose_distances_are_given():
    X = points(50, 2)
    found, stress, _ = smacof(squareform(pdist(X)), X + 0.3 * points(50, 2, seed=1), eps=1e-14)
    assert stress < 1e-8
    np.testing.assert_allclose(pdist(found), pdist(X), atol=1e-4)
    with pytest.raises(ValueError, match="must be"):
        smacof(distances(5), X)


def test_torch_tensors_give_what_arrays_give():
    D, X = distances(300), points(300, 2, seed=1)
    expected, stress, n_iter = smacof(D, X)
    with config_context(array_api_dispatch=True):
        for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-2)):
            tensors = torch.tensor(D, dtype=dtype), torch.tensor(X, dtype=dtype)
            found, found_stress, _ = smacof(*tensors)
            assert found.dtype == dtype
            assert found_stress == pytest.approx(stress, rel=1e-3)
            np.testing.assert_allclose(found, expected, atol=tolerance)
        start = classical_scaling(torch.tensor(D), 2)[0]
        np.testing.assert_allclose(abs(start), abs(classical_scaling(D, 2)[0]), atol=1e-9)


# The estimator.


@pytest.mark.parametrize("clustering", ["maximal", "mix", "single"])
def test_order_of_the_samples_does_not_matter(clustering):
    X, order = points(50), np.random.default_rng(1).permutation(50)
    first, second = (FunctorialScaling(clustering=clustering).fit(Z) for Z in (X, X[order]))
    if clustering == "single":  # ties
        assert second.loss_ == pytest.approx(first.loss_, rel=0.01)
    else:
        np.testing.assert_allclose(second.embedding_, first.embedding_[order], atol=1e-8)


@pytest.mark.parametrize("clustering", CLUSTERINGS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_composition_places_training_rows_at_home_and_new_ones_near(clustering, loss):
    X = np.vstack([0.5 * points(30), 0.5 * points(30, seed=1) + 3])
    model = FunctorialScaling(clustering=clustering, loss=loss, n_neighbors=8).fit(X)
    np.testing.assert_array_equal(model.transform(X), model.embedding_)
    new = X + 1e-3
    placed, spread = model.transform(new), np.ptp(model.embedding_, axis=0).max()
    middle = np.median(np.linalg.norm(placed - model.embedding_, axis=1))
    assert middle < 0.2 * spread
    alone = np.vstack([model.transform(new[i : i + 1]) for i in range(60)])
    np.testing.assert_allclose(alone, placed, atol=0.01 * spread)
    D = squareform(pdist(X))
    by_distances = FunctorialScaling(
        clustering=clustering, loss=loss, n_neighbors=8, metric="precomputed"
    ).fit(D)
    np.testing.assert_allclose(by_distances.dissimilarity_matrix_, model.dissimilarity_matrix_)
    np.testing.assert_allclose(by_distances.transform(D), by_distances.embedding_)


def test_dissimilarities_of_a_new_sample_are_those_it_has_when_added():
    X, new = points(50), points(10, seed=1)
    model = FunctorialScaling().fit(X)
    found = ultrametric_of_new(cdist(new, X), model.linkage_)
    u, D = model.dissimilarity_matrix_, cdist(new, X)
    by_formula = np.maximum(D[:, :, None], u[None]).min(1)
    np.testing.assert_allclose(found, by_formula, atol=1e-12)
    for i, x in enumerate(new):
        added = single_linkage_ultrametric(squareform(pdist(np.vstack([X, x]))))
        np.testing.assert_allclose(found[i], added[-1, :-1], atol=1e-12)


def test_a_function_as_clustering():
    X = points()
    model = FunctorialScaling(clustering=np.sqrt, loss="strain").fit(X)
    np.testing.assert_allclose(model.dissimilarity_matrix_, squareform(pdist(X)) ** 0.5)
    with pytest.raises(ValueError, match="clustering"):
        model.transform(X)
    with pytest.raises(ValueError, match="square"):
        FunctorialScaling(clustering=lambda D: D[:3]).fit(X)
    with pytest.raises(ValueError, match="not negative"):
        FunctorialScaling(metric="precomputed").fit(-squareform(pdist(X)))


# The claims.


def mutated(sequence, rng):
    new, place = sequence.copy(), rng.integers(len(sequence))
    new[place] = (new[place] + rng.integers(1, 4)) % 4
    return new


@functools.cache
def lineages(n_mutations, seed):
    """Forty chains of single mutations, which start 100 mutations from a common string."""
    rng = np.random.default_rng(seed)
    base, rows = rng.integers(0, 4, size=1000), []
    for _ in range(40):
        sequence = base
        for _ in range(100):
            sequence = mutated(sequence, rng)
        rows.append(sequence)
        for _ in range(n_mutations):
            rows.append(mutated(rows[-1], rng))
    return np.array(rows)


def share_at_home(n_mutations, seed, **settings):
    """Share of the last strings of a chain whose nearest first string is their own."""
    X = lineages(n_mutations, seed)
    embedding = FunctorialScaling(metric="hamming", **settings).fit_transform(X)
    first, last = embedding[:: n_mutations + 1], embedding[n_mutations :: n_mutations + 1]
    return np.mean(cdist(last, first).argmin(1) == np.arange(40))


def test_single_linkage_scaling_keeps_lineages_that_metric_scaling_tears():
    for n_mutations in (10, 20):
        ours = np.mean([share_at_home(n_mutations, seed) for seed in range(3)])
        assert ours >= 0.8
    peer = np.mean([share_at_home(20, seed, clustering="maximal") for seed in range(3)])
    assert ours >= peer + 0.25


def test_five_dimensions_are_enough_for_both():
    for clustering in ("single", "maximal"):
        assert share_at_home(10, 0, clustering=clustering, n_components=5) == 1


@pytest.mark.slow
def test_lumap_is_no_worse_than_cross_entropy_and_better_than_pca():
    X, y = load_digits(return_X_y=True)

    def accuracy(embedding, folds):
        return cross_val_score(KNeighborsClassifier(5), embedding, y, cv=folds).mean()

    def embedded(loss, n_components):
        settings = {"clustering": "umap", "n_neighbors": 15, "max_iter": 60, "eps": 1e-4}
        return FunctorialScaling(n_components, loss=loss, **settings).fit_transform(X)

    lumap = accuracy(embedded("laplacian", 10), 5)
    assert lumap >= accuracy(PCA(10).fit_transform(X), 5) + 0.02
    assert lumap >= accuracy(embedded("cross_entropy", 10), 5) - 0.02
    folds = KFold(5, shuffle=True, random_state=0)
    assert (
        accuracy(embedded("laplacian", 2), folds) >= accuracy(PCA(2).fit_transform(X), folds) + 0.2
    )
