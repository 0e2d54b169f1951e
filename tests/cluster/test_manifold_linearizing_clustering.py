"""Rates against determinants, membership against optimal transport, and clusters of digits."""

import functools

import numpy as np
import ot
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.datasets import load_digits, make_blobs
from sklearn.decomposition import PCA
from sklearn.metrics import (
    adjusted_rand_score,
    confusion_matrix,
    normalized_mutual_info_score,
)
from sklearn.preprocessing import StandardScaler

from skpapers.cluster import (
    ManifoldLinearizingClustering,
    coding_rate,
    rate_reduction,
    sinkhorn_membership,
)
from skpapers.cluster._affinity_clustering import (
    affinity_coordinates,
    cluster_coordinates,
    largest_entries,
)
from skpapers.cluster._coding_rates import coding_length, hard_membership
from skpapers.cluster._manifold_linearizing_clustering import (
    full_membership,
    leading_directions,
    sampled_rate,
)
from skpapers.cluster._membership_network import ViewBatches, neighbor_view, shift_view
from skpapers.neural_network._data import Data


def unit_rows(n_samples, n_components, seed=0):
    Z = np.random.default_rng(seed).normal(size=(n_samples, n_components))
    return Z / np.linalg.norm(Z, axis=1, keepdims=True)


def absolute_cosines(n_samples=30, n_components=5, seed=0):
    C = unit_rows(n_samples, n_components, seed)
    return np.abs(C @ C.T)


def naive_compressed_rate(Z, membership, eps):
    n, d = Z.shape
    total = 0.0
    for shares in membership.T:
        size = shares.sum()
        scatter = sum(p * np.outer(z, z) for p, z in zip(shares, Z))
        total += size / (2 * n) * np.log(np.linalg.det(np.eye(d) + d / (size * eps) * scatter))
    return total


# Membership.


def test_rows_and_columns_of_the_membership_sum_to_one():
    membership = sinkhorn_membership(absolute_cosines())
    assert_allclose(membership.sum(axis=0), 1, atol=1e-8)
    assert_allclose(membership.sum(axis=1), 1, atol=1e-8)
    assert_allclose(membership, membership.T, atol=1e-8)


def test_columns_sum_to_one_after_any_number_of_iterations():
    affinity = np.random.default_rng(0).uniform(size=(20, 20))
    for n_iter in (1, 5):
        assert_allclose(sinkhorn_membership(affinity, n_iter=n_iter).sum(axis=0), 1, atol=1e-12)


@pytest.mark.parametrize("reg", [0.1, 0.175, 1.0])
def test_membership_is_the_transport_plan_of_pot(reg):
    affinity, uniform = absolute_cosines(), np.full(30, 1 / 30)
    plan = ot.sinkhorn(uniform, uniform, -affinity, reg, stopThr=1e-14, numItermax=10_000)
    assert_allclose(sinkhorn_membership(affinity, reg=reg, n_iter=2000), 30 * plan, atol=1e-6)


def test_membership_maximises_affinity_plus_entropy():
    affinity, reg = absolute_cosines(6), 0.3
    best = sinkhorn_membership(affinity, reg=reg)

    def objective(P):
        return np.sum(P * affinity) - reg * np.sum(P * np.log(P))

    rng = np.random.default_rng(0)
    for _ in range(50):
        change = rng.normal(size=(6, 6))
        change -= change.mean(axis=0)
        change -= change.mean(axis=1, keepdims=True)  # keeps the sums of rows and columns
        other = best + 1e-2 * best.min() * change / np.abs(change).max()
        assert objective(other) < objective(best)


@pytest.mark.parametrize("reg", [0.1, 0.175])
def test_scaling_by_products_gives_the_same_membership(reg):
    C = torch.tensor(unit_rows(25, 4))
    found, scale = full_membership(C.clone(), reg)
    expected = sinkhorn_membership((C @ C.T).abs(), reg=reg, n_iter=2000)
    assert_allclose(found, expected, atol=1e-8)
    kernel = ((C @ C.T).abs() - 1) / reg
    assert_allclose(found, scale * scale[:, None] * kernel.exp(), atol=1e-12)


# Rates.


def test_rates_equal_naive_determinants():
    Z, eps = unit_rows(12, 4), 0.3
    rate = np.log(np.linalg.det(np.eye(4) + 4 / (12 * eps) * Z.T @ Z)) / 2
    assert_allclose(coding_rate(Z, eps=eps), rate, rtol=1e-10)
    membership = sinkhorn_membership(np.abs(Z @ Z.T))
    compressed = naive_compressed_rate(Z, membership, eps)
    assert_allclose(rate_reduction(Z, membership, eps=eps), rate - compressed, rtol=1e-10)


def test_hard_membership_gives_the_supervised_rate_reduction():
    Z, labels, eps = unit_rows(30, 5), np.arange(30) % 3, 0.5
    groups = [Z[labels == k] for k in range(3)]
    compressed = sum(
        len(G) / 60 * np.log(np.linalg.det(np.eye(5) + 5 / (len(G) * eps) * G.T @ G))
        for G in groups
    )
    expected = coding_rate(Z, eps=eps) - compressed
    square = (labels[:, None] == labels) / 10  # 1 / m_k within clusters: doubly stochastic
    assert_allclose(rate_reduction(Z, square, eps=eps), expected, rtol=1e-10)
    assert_allclose(rate_reduction(Z, labels, eps=eps), expected, rtol=1e-10)
    assert_allclose(rate_reduction(torch.tensor(Z), labels, eps=eps), expected, rtol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_rate_reduction_is_not_negative_and_invariant_to_rotation(seed):
    Z, rng = unit_rows(25, 6, seed), np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    membership = sinkhorn_membership(rng.uniform(size=(25, 25)), reg=rng.uniform(0.1, 1))
    reduction = rate_reduction(Z, membership)
    assert reduction > 0
    assert_allclose(rate_reduction(Z @ rotation, membership), reduction, rtol=1e-10)
    assert abs(rate_reduction(Z, np.full((25, 25), 1 / 25))) < 1e-12  # all belong together


def test_gradients_of_the_objective_match_finite_differences():
    Z, C = (torch.tensor(unit_rows(8, 3, seed)) for seed in range(2))

    def objective(Z, C):
        membership = sinkhorn_membership((C @ C.T).abs(), n_iter=5)
        return rate_reduction(Z, membership) - 0.05 / 2 * membership.square().sum()

    inputs = Z.requires_grad_(), C.requires_grad_()
    gradients = torch.autograd.grad(objective(*inputs), inputs)
    steps = 1e-6 * torch.eye(24, dtype=torch.float64).reshape(24, 8, 3)
    with torch.no_grad():
        for k, gradient in enumerate(gradients):
            moved = [
                [x + (s * step if i == k else 0) for i, x in enumerate(inputs)]
                for step in steps
                for s in (1, -1)
            ]
            values = torch.stack([objective(*pair) for pair in moved]).reshape(24, 2)
            found = (values[:, 0] - values[:, 1]) / 2e-6
            assert_allclose(found, gradient.reshape(-1), atol=1e-5)
            assert gradient.abs().max() > 1e-3


def test_true_membership_is_best_for_orthogonal_subspaces():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 10)
    coordinates = rng.normal(size=(30, 2))
    Z = np.zeros((30, 6))
    for k in range(3):
        Z[labels == k, 2 * k : 2 * k + 2] = coordinates[labels == k]
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    best = rate_reduction(Z, labels)
    for _ in range(200):
        swapped = labels.copy()
        pair = rng.choice(30, size=2, replace=False)
        swapped[pair] = swapped[pair[::-1]]
        reduction = rate_reduction(Z, swapped)
        assert reduction <= best + 1e-12
        assert reduction < best or labels[pair[0]] == labels[pair[1]]


def test_columns_at_random_are_unbiased():
    Z = torch.tensor(unit_rows(20, 3))
    membership = sinkhorn_membership((Z @ Z.T).abs() ** 3, reg=0.05)
    generator = torch.Generator().manual_seed(0)
    draws = [float(sampled_rate(Z, membership, 0.1, 4, generator)) for _ in range(2000)]
    exact = float(sampled_rate(Z, membership, 0.1, None, generator))
    assert_allclose(exact, naive_compressed_rate(Z.numpy(), membership.numpy(), 0.1), rtol=1e-10)
    assert np.std(draws) > 0.01 * exact
    assert np.mean(draws) == pytest.approx(exact, rel=0.01)


def test_coding_length_is_shortest_for_the_true_groups():
    Z, labels = np.repeat(np.eye(4), 25, axis=0), np.repeat(np.arange(4), 25)
    Z = torch.tensor(Z + 0.05 * np.random.default_rng(0).normal(size=Z.shape))
    lengths = {
        name: float(coding_length(Z, hard_membership(groups, Z), 0.05))
        for name, groups in {
            "true": labels,
            "merged": labels // 2,
            "split": 2 * labels + np.arange(100) % 2,
        }.items()
    }
    assert min(lengths, key=lengths.get) == "true"
    G = Z[:25].numpy()
    rate = np.log(np.linalg.det(np.eye(4) + 4 / (25 * 0.05) * G.T @ G)) / 2
    one = float(coding_length(Z[:25], hard_membership(labels[:25], Z), 0.05))
    assert_allclose(one, (25 + 4) * rate, rtol=1e-10)


# Views and clusters.


def test_views_of_rows_are_their_neighbours():
    table = torch.arange(20.0).reshape(10, 2)
    neighbors = (torch.arange(10)[:, None] + torch.tensor([1, 2])) % 10
    generator = torch.Generator().manual_seed(0)
    numbers = torch.tensor([3, 7]).repeat(200)
    views = neighbor_view(table, neighbors, numbers, generator)
    for row in (3, 7):
        found, counts = views[numbers == row].unique(dim=0, return_counts=True)
        assert_array_equal(found, table[sorted(neighbors[row].tolist())])
        assert counts.min() > 70


def test_shifted_images_are_moved_by_whole_pixels():
    image = torch.arange(24.0).reshape(1, 2, 3, 4)
    padded = np.pad(image[0].numpy(), ((0, 0), (1, 1), (1, 1)), mode="edge")
    expected = {tuple(padded[:, i : i + 3, j : j + 4].ravel()) for i in range(3) for j in range(3)}
    rows = image.reshape(1, -1).expand(300, -1)
    found = shift_view(rows, torch.Generator().manual_seed(0), (2, 3, 4))
    assert {tuple(row) for row in found.numpy()} == expected


def test_each_pass_over_the_batches_sees_each_row_once():
    passes = [Data((torch.full((2, 1), i), torch.arange(2))) for i in range(3)]
    batches = ViewBatches(passes, lambda rows, numbers: rows + numbers[:, None])
    seen = [next(iter(batches)).inputs for _ in range(6)]
    assert [int(rows[0]) for rows, _ in seen] == [0, 1, 2, 0, 1, 2]
    assert_array_equal(seen[4][1], [[1], [2]])


def three_blocks(background):
    blocks = np.kron(np.eye(3), np.ones((8, 8)))
    noise = np.random.default_rng(0).uniform(0.5, 1, size=(24, 24))
    return (blocks + background) * (noise + noise.T)


@pytest.mark.parametrize("n_top", [1, 5, 12])
def test_graphs_in_pieces_are_clustered(n_top):
    """One piece a row, one a block, and a connected graph."""
    membership = three_blocks(1e-3)
    rng = np.random.RandomState(0)
    labels = cluster_coordinates(affinity_coordinates(membership, 3, n_top, rng), 3, rng)
    assert adjusted_rand_score(np.repeat(np.arange(3), 8), labels) == 1


def test_eigenvectors_of_a_graph_in_pieces_are_those_of_the_whole():
    membership, rng = three_blocks(0.0), np.random.RandomState(0)
    affinity = largest_entries(membership, 5).toarray()
    assert_array_equal(affinity, affinity.T)
    assert (np.count_nonzero(affinity, axis=1) >= 5).all()
    scale = affinity.sum(axis=1) ** -0.5
    normalized = scale[:, None] * affinity * scale
    vectors = affinity_coordinates(membership, 6, 5, rng)
    leading = np.linalg.eigvalsh(normalized)[::-1][:6]
    assert_allclose(leading[:3], 1)
    assert_allclose(vectors.T @ normalized @ vectors, np.diag(leading), atol=1e-10)


def test_subspaces_hold_the_share_of_the_energy():
    Z = np.diag([3.0, 2.0, 1.0])  # energies 9, 4, 1
    assert [leading_directions(Z, share).shape for share in (0.6, 0.9, 0.99)] == [
        (3, 1),
        (3, 2),
        (3, 3),
    ]
    assert_allclose(np.abs(leading_directions(Z, 0.6)).ravel(), [1, 0, 0], atol=1e-12)


# Claims: handwritten digits.

DIGITS, classes = load_digits(return_X_y=True)


@functools.cache
def digits_fit(seed, **settings):
    settings = dict(settings)
    return ManifoldLinearizingClustering(10, random_state=seed, **settings).fit(DIGITS)


def nmi(labels):
    return normalized_mutual_info_score(classes, labels)


def accuracy(labels):
    """Share of rows that are right under the best matching of clusters and classes."""
    counts = confusion_matrix(classes, labels)
    return counts[linear_sum_assignment(-counts)].sum() / len(classes)


def linearity(Z):
    """Energy of each class in its 8 leading directions, and cosines of the class means."""
    groups = [Z[classes == k] for k in range(10)]
    squares = [np.linalg.svd(group, compute_uv=False) ** 2 for group in groups]
    means = np.stack([group.mean(axis=0) for group in groups])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    cosines = np.abs(means @ means.T)[~np.eye(10, dtype=bool)]
    return np.mean([s[:8].sum() / s.sum() for s in squares]), np.mean(cosines)


@functools.cache
def peer_accuracies():
    kmeans = KMeans(10, n_init=10, random_state=0).fit_predict(DIGITS)
    spectral = SpectralClustering(10, affinity="nearest_neighbors", random_state=0)
    return accuracy(kmeans), accuracy(spectral.fit_predict(DIGITS))


def test_digits_are_clustered_and_linear_with_one_seed():
    model = digits_fit(0)
    assert nmi(model.labels_) >= 0.83 and accuracy(model.labels_) >= 0.82
    assert np.mean(model.predict(DIGITS) == model.labels_) > 0.98
    assert model.rate_ - model.compressed_rate_ > 15
    energy, cosine = linearity(model.transform(DIGITS))
    assert energy >= 0.90 and cosine <= 0.1
    scaled = StandardScaler().fit_transform(DIGITS)
    before = linearity(PCA(64).fit_transform(scaled))
    assert before[0] < 0.88 and before[1] > 0.15
    kmeans = [KMeans(10, n_init=3, random_state=0).fit_predict(X) for X in (DIGITS, scaled)]
    assert nmi(model.labels_) > max(map(nmi, kmeans)) + 0.05


@pytest.mark.slow
def test_digits_are_clustered_and_linear_over_seeds():
    labels = [digits_fit(seed).labels_ for seed in range(3)]
    assert np.mean(list(map(nmi, labels))) >= 0.83
    assert np.mean(list(map(accuracy, labels))) >= max(0.82, max(peer_accuracies()) + 0.02)
    for seed in range(3):
        energy, cosine = linearity(digits_fit(seed).transform(DIGITS))
        assert energy >= 0.90 and cosine <= 0.1


@pytest.mark.slow
def test_compression_makes_clusters_linear_and_keeps_them():
    """Against the first stage alone; its labels are as good, up to the spread over seeds."""
    gains = []
    for seed in range(3):
        first, both = digits_fit(seed, max_steps=0), digits_fit(seed)
        gains.append(nmi(both.labels_) - nmi(first.labels_))
        assert both.compressed_rate_ < first.compressed_rate_ - 1
        energies = [linearity(model.transform(DIGITS))[0] for model in (first, both)]
        assert energies[1] > energies[0] + 0.02
    assert np.mean(gains) > -0.03


@pytest.mark.slow
def test_views_matter():
    shifted = digits_fit(0, augment="shift", image_shape=(8, 8))
    assert nmi(shifted.labels_) >= 0.80
    assert nmi(digits_fit(0, augmentation_weight=0).labels_) < 0.80


# The estimator.


def blobs(n_samples=150, centers=3):
    return make_blobs(n_samples, 8, centers=centers, random_state=0)


def test_the_number_of_clusters_is_found():
    X, y = blobs(200, 4)
    model = ManifoldLinearizingClustering(None, eps=0.1, random_state=0).fit(X)
    assert model.n_clusters_ == 4
    assert adjusted_rand_score(y, model.labels_) == 1


def test_rows_beyond_the_anchors_are_labelled_by_vote():
    X, y = blobs(300)
    model = ManifoldLinearizingClustering(3, max_anchors=60, random_state=0).fit(X)
    assert len(model._anchor_labels) == 60
    assert adjusted_rand_score(y, model.labels_) == 1
    assert_array_equal(model.predict(X), model.labels_)


def test_features_membership_and_subspaces_of_a_fit():
    X, _ = blobs()
    model = ManifoldLinearizingClustering(3, n_components=16, random_state=0).fit(X)
    Z, membership = model.transform(X), model.membership(X)
    assert_allclose(np.linalg.norm(Z, axis=1), 1)
    assert_allclose(membership.sum(axis=0), 1, atol=1e-6)
    assert_allclose(membership, membership.T, atol=1e-12)
    same = model.labels_[:, None] == model.labels_
    assert membership[same].mean() > 5 * membership[~same].mean()
    reduction = rate_reduction(Z, model.labels_)
    assert_allclose(model.rate_ - model.compressed_rate_, reduction, rtol=1e-8)
    for k, basis in enumerate(model.subspaces_):
        group = Z[model.labels_ == k]
        assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-10)
        assert np.sum((group @ basis) ** 2) >= 0.95 * len(group)
        assert np.sum((group @ basis[:, :-1]) ** 2) < 0.95 * len(group)


def test_membership_starts_from_the_features():
    X, _ = blobs()
    model = ManifoldLinearizingClustering(3, max_steps=0, random_state=0).fit(X)
    Z = torch.from_numpy(model.transform(X))
    assert_allclose(model.membership(X), full_membership(Z, 0.175)[0], atol=1e-12)
    assert model.n_iter_ == 37  # a quarter of the rows


def test_objective_is_that_of_the_stages():
    X, _ = blobs(60)
    settings = {"batch_size": None, "n_columns": None, "augmentation_weight": 0.0, "eps": 0.2}
    model = ManifoldLinearizingClustering(
        3, pretrain_steps=3, max_steps=1, lr=1e-12, random_state=0, **settings
    ).fit(X)  # the rate is so small that the network is still that of the last loss
    Z = model.transform(X)
    membership = sinkhorn_membership(np.abs(Z @ Z.T), n_iter=5)
    assert_allclose(model.loss_curve_[-1], -rate_reduction(Z, membership, eps=0.2), rtol=1e-4)
    shorter = ManifoldLinearizingClustering(
        3, pretrain_steps=2, max_steps=0, random_state=0, **settings
    ).fit(X)
    rate = coding_rate(shorter.transform(X), eps=0.2)
    assert_allclose(model.loss_curve_[2], -rate, rtol=1e-4)


class Pool(torch.nn.Module):
    """Means of 2 x 2 pixels, channel by channel."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def forward(self, images):
        self.seen.add(tuple(images.shape[1:]))
        return torch.nn.functional.avg_pool2d(images, 2).flatten(1)


def test_modules_take_images():
    X = DIGITS[:80]
    for shape, seen in (((8, 8), (1, 8, 8)), ((4, 4, 4), (4, 4, 4))):
        model = ManifoldLinearizingClustering(
            3, module=Pool(), image_shape=shape, augment="shift", max_steps=2, random_state=0
        ).fit(X)
        assert seen in model.module_.trunk[1].seen
        assert model.transform(X).shape == (80, 64)
        channels = model._by_channel(X)
        assert_array_equal(channels[:, 0], X.reshape(80, *seen)[:, 0].ravel())
        assert_array_equal(model._as_rows(channels, X.shape), X)


@pytest.mark.parametrize("augment", ["noise", lambda X, rng: X + rng.normal(0, 0.2, X.shape)])
def test_other_views(augment):
    X, y = blobs()
    model = ManifoldLinearizingClustering(3, augment=augment, random_state=0).fit(X)
    assert adjusted_rand_score(y, model.labels_) > 0.9


def test_augmentations_see_the_units_of_the_data():
    X, _ = blobs()
    seen = []

    def keep(rows, rng):
        seen.append(rows.copy())
        return rows

    settings = {"batch_size": None, "pretrain_steps": 1, "max_steps": 0, "random_state": 0}
    ManifoldLinearizingClustering(3, augment=keep, **settings).fit(1e6 * X)
    assert_allclose(seen[0], 1e6 * X, rtol=1e-4, atol=10)


def test_bad_requests_are_named():
    X, _ = blobs(30)
    with pytest.raises(ValueError, match="n_clusters=31 must be at most n_samples=30"):
        ManifoldLinearizingClustering(31).fit(X)
    with pytest.raises(ValueError, match="needs an image_shape"):
        ManifoldLinearizingClustering(augment="shift").fit(X)
    with pytest.raises(ValueError, match="image_shape=.*with 8 entries"):
        ManifoldLinearizingClustering(image_shape=(3, 3)).fit(X)
    with pytest.raises(ValueError, match="must keep the shape"):
        ManifoldLinearizingClustering(augment=lambda X, rng: X[:, :1]).fit(X)
    with pytest.raises(ValueError, match="eps=0"):
        coding_rate(X, eps=0)
    with pytest.raises(ValueError, match="membership has 2 rows, Z has 30"):
        rate_reduction(X, [0, 1])
    with pytest.raises(ValueError, match="affinity must be square"):
        sinkhorn_membership(X)
    with pytest.raises(ValueError, match="Z has entries that are NaN"):
        coding_rate([[np.nan]])
