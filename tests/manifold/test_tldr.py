"""TLDR: pairs, loss, invariances, what the pickle holds, and retrieval on digits."""

import functools
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from skpapers.manifold import TLDR
from skpapers.manifold._tldr import draw_partners
from skpapers.neural_network import barlow_twins_loss

TINY = {"n_components": 3, "projector_sizes": (16, 8), "max_epochs": 4, "random_state": 0}
AFFINE = {
    "linear": {},
    "factorised": {"hidden_layer_sizes": (9, 7), "activation": "identity"},
    "whitened": {"whiten": True},
}


def table(n_samples=80, n_features=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_samples, n_features)) * np.arange(1, n_features + 1) + 5.0


def brute_force(X, k, metric):
    """Neighbours by comparing every pair."""
    if metric == "cosine":
        X = X / np.linalg.norm(X, axis=1, keepdims=True)
    near = -X @ X.T if metric != "euclidean" else ((X[:, None] - X[None]) ** 2).sum(-1)
    np.fill_diagonal(near, np.inf)
    return np.argsort(near, axis=1)[:, :k]


# Pairs.


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "inner_product"])
def test_graph_equals_brute_force(metric):
    X = table()
    graph = TLDR(**TINY, n_neighbors=7, metric=metric).fit(X).knn_graph_
    np.testing.assert_array_equal(graph, brute_force(X, 7, metric))


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "inner_product"])
def test_no_row_is_its_own_neighbour_even_with_duplicates(metric):
    X = np.repeat(table(10), 5, axis=0)
    graph = TLDR(**TINY, n_neighbors=3, metric=metric).fit(X).knn_graph_
    assert graph.shape == (50, 3)
    assert not (graph == np.arange(50)[:, None]).any()
    same = X[graph] == X[:, None]
    assert metric == "inner_product" or same.all()  # its duplicates are its neighbours


def test_neighbours_are_cut_to_the_rows_there_are():
    assert TLDR(**TINY, n_neighbors=10).fit(table(5)).knn_graph_.shape == (5, 4)


def test_partner_is_always_a_neighbour_and_every_neighbour_gets_its_turn():
    seen = []

    class Recorded(TLDR):
        def _views(self, inputs, generator):
            first, second = super()._views(inputs, generator)
            seen.append((first, second))
            return first, second

    X = table(40).astype(np.float32)
    model = Recorded(**{**TINY, "max_epochs": 30}, n_neighbors=4, batch_size=10).fit(X)
    rows = {row.tobytes(): i for i, row in enumerate(X)}
    pairs = {
        (rows[first.numpy().tobytes()], rows[second.numpy().tobytes()])
        for views in seen
        for first, second in zip(*views)
    }
    assert pairs <= {(i, j) for i in range(40) for j in model.knn_graph_[i]}
    assert len(pairs) > 0.95 * 160  # the chance to miss one in 30 draws of 4 is 2e-4


def test_partners_are_drawn_evenly():
    neighbors = torch.arange(5).repeat(20_000, 1)
    drawn = draw_partners(neighbors, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(np.bincount(drawn) / 20_000, 0.2, atol=0.015)


def test_given_neighbours_are_used_as_given():
    X = table(30)
    given = np.random.default_rng(1).integers(0, 30, size=(30, 4))
    model = TLDR(**TINY).fit(X, neighbors=given)
    np.testing.assert_array_equal(model.knn_graph_, given)
    own = TLDR(**TINY, n_neighbors=4).fit(X)
    again = TLDR(**TINY).fit(X, neighbors=own.knn_graph_)
    np.testing.assert_array_equal(again.transform(X), own.transform(X))
    for bad in (given[:5], given.astype(float), given + 1, given - 1):
        with pytest.raises(ValueError, match="neighbors"):
            TLDR(**TINY).fit(X, neighbors=bad)


def test_noise_has_the_stated_size():
    X = torch.tensor(table(4000) * np.array([1.0, 1, 0, 1, 1, 4]))
    model = TLDR(pairs="noise", noise=0.3)
    model._rows = X
    first, second = model._views((X,), torch.Generator().manual_seed(0))
    assert torch.equal(first, X)
    np.testing.assert_allclose((second - X).std(0), 0.3 * X.std(0) ** 0.5, rtol=0.05)


# Loss and encoder.


def test_loss_is_that_of_barlow_twins_times_its_scale():
    Z1, Z2 = (torch.randn(20, 4, generator=torch.Generator().manual_seed(i)) for i in range(2))
    loss = TLDR(lambd=0.1, loss_scale=0.25)._pair_loss(None, Z1, Z2)
    assert float(loss) == pytest.approx(0.25 * float(barlow_twins_loss(Z1, Z2, lambd=0.1)))


@pytest.mark.parametrize("kind", AFFINE)
def test_linear_encoders_fold_into_one_matrix(kind):
    X = table()
    model = TLDR(**TINY, **AFFINE[kind]).fit(X)
    found = model.transform(X)
    np.testing.assert_allclose(X @ model.components_.T + model.bias_, found, rtol=0, atol=1e-6)
    assert model.components_.shape == (3, 6) and model.bias_.shape == (3,)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-4)


def test_a_network_has_no_matrix():
    model = TLDR(**TINY, hidden_layer_sizes=(8,)).fit(table())
    assert not hasattr(model, "components_") and not hasattr(model, "bias_")


def test_whitened_embedding_has_unit_covariance_and_normalised_rows_unit_length():
    X = table(200)
    Z = TLDR(**TINY, whiten=True).fit_transform(X)
    np.testing.assert_allclose(np.cov(Z.T, bias=True), np.eye(3), atol=1e-4)
    flat = TLDR(**{**TINY, "n_components": 8}, whiten=True).fit_transform(X)  # of rank 6
    np.testing.assert_allclose(np.cov(flat.T, bias=True), np.diag([1.0] * 6 + [0] * 2), atol=1e-3)
    Z = TLDR(**TINY, normalize=True).fit_transform(X * 1e-12)
    np.testing.assert_allclose(np.linalg.norm(Z, axis=1), 1, rtol=1e-6)


def test_shift_of_the_rows_shifts_nothing():
    X = table()
    model, shifted = (TLDR(**TINY, metric="euclidean").fit(rows) for rows in (X, X + 1))
    np.testing.assert_allclose(shifted.transform(X + 1), model.transform(X), atol=2e-4)


class InDoublePrecision(TLDR):
    """Twenty full-batch steps in float64, from weights rotated along with the rows."""

    _training_defaults = {"dtype": "float64"}
    rotation = None

    def _on_fit_begin(self, module, data):
        if self.rotation is not None:
            module.encoder[0].weight.copy_(module.encoder[0].weight @ self.rotation.T)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_rotating_rows_and_weights_leaves_the_loss_under_lars(metric):
    X = table(100)
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    curves = {}
    for optimizer in ("lars", "adamw"):
        settings = {**TINY, "max_epochs": 20, "batch_size": None, "metric": metric}
        plain, turned = (InDoublePrecision(**settings, optimizer=optimizer) for _ in range(2))
        turned.rotation = torch.tensor(Q)
        curves[optimizer] = plain.fit(X).loss_curve_, turned.fit(X @ Q.T).loss_curve_
    np.testing.assert_allclose(*curves["lars"], rtol=0, atol=1e-8)
    first, second = curves["adamw"]  # which acts entry by entry
    assert abs(first[0] - second[0]) < 1e-8 < max(abs(np.subtract(first, second)))


# The estimator.


def test_pickle_holds_the_encoder_alone():
    X = table()
    sizes = []
    for width in (8, 1024):
        model = TLDR(**{**TINY, "projector_sizes": (width, width)}).fit(X)
        pickled = pickle.dumps(model)
        sizes.append(len(pickled))
        light = pickle.loads(pickled)
        np.testing.assert_array_equal(light.transform(X), model.transform(X))
        np.testing.assert_array_equal(light.components_, model.components_)
        assert light.projector_ is None and light.loss_curve_ == model.loss_curve_
        for train_or_use in (light.partial_fit, light.project):
            with pytest.raises(ValueError, match="projector"):
                train_or_use(X)
        assert model.project(X).shape == (80, width)
    assert sizes[1] < sizes[0] + 1000


def test_same_seed_same_map_and_training_goes_on():
    X = table()
    model = TLDR(**TINY).fit(X)
    np.testing.assert_array_equal(clone(model).fit(X).components_, model.components_)
    other = clone(model).set_params(random_state=1).fit(X)
    assert not np.allclose(other.components_, model.components_)
    assert model.partial_fit(X).n_iter_ == 5 and not hasattr(model, "_rows")


def test_an_encoder_of_your_own_takes_images():
    X = np.random.default_rng(0).normal(size=(40, 1, 8, 8)).astype(np.float32)
    encoder = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.Flatten())
    model = TLDR(encoder=encoder, projector_sizes=(8,), max_epochs=2, n_neighbors=3)
    assert model.fit_transform(X).shape == (40, 3 * 6 * 6)
    np.testing.assert_array_equal(
        model.knn_graph_, brute_force(X.reshape(40, -1).astype(float), 3, "cosine")
    )


# The claim: digits, ranked by cosine.


@functools.cache
def digits(split):
    X, y = load_digits(return_X_y=True)
    base, queries, labels, answers = train_test_split(
        X / 16, y, train_size=0.6, random_state=split, stratify=y
    )
    return base - base.mean(0), queries - base.mean(0), labels, answers


def retrieval(transform, split):
    """Mean average precision of test queries against the training rows, and 5-NN accuracy."""
    base, queries, labels, answers = digits(split)
    base, queries = (transform(X) for X in (base, queries))
    accuracy = KNeighborsClassifier(5).fit(base, labels).score(queries, answers)
    base, queries = (X / np.linalg.norm(X, axis=1, keepdims=True) for X in (base, queries))
    relevant = labels[np.argsort(-queries @ base.T, axis=1)] == answers[:, None]
    precision = np.cumsum(relevant, axis=1) / np.arange(1, len(labels) + 1)
    return np.mean((precision * relevant).sum(1) / relevant.sum(1)), accuracy


@functools.cache
def scores(split, **settings):
    options = {"n_components": 16, "n_neighbors": 20, "max_epochs": 60, "random_state": split}
    return retrieval(TLDR(**{**options, **settings}).fit(digits(split)[0]).transform, split)


@functools.cache
def of_pca(split):
    return retrieval(PCA(16).fit(digits(split)[0]).transform, split)


def test_sixteen_dimensions_retrieve_better_than_those_of_pca():
    ours, pca = (np.array([f(split) for split in range(3)]) for f in (scores, of_pca))
    gain = ours[:, 0] - pca[:, 0]
    assert gain.mean() >= 0.025 and gain.min() >= 0.015
    assert (ours[:, 1] >= pca[:, 1] - 0.02).all()


def test_a_short_training_of_a_network_beats_pca_and_noise():
    network = {"hidden_layer_sizes": (256,), "max_epochs": 20}
    ours = scores(0, **network)[0]
    assert ours >= of_pca(0)[0] + 0.04
    assert ours >= scores(0, **network, pairs="noise")[0] + 0.08


@pytest.mark.slow
@pytest.mark.parametrize("split", [0, 1])
def test_neighbours_are_what_the_network_gains_from(split):
    network = {"hidden_layer_sizes": (256,)}
    ours = scores(split, **network)[0]
    assert ours >= of_pca(split)[0] + 0.07
    assert ours >= scores(split, **network, pairs="noise")[0] + 0.08
