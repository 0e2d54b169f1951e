"""Prototypes and their losses: loops, hand examples, episodes, and classes never seen."""

import functools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits, load_iris, make_blobs
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import NearestCentroid, NeighborhoodComponentsAnalysis

from skpapers.neural_network._data import Data
from skpapers.representation import (
    ProtoTripletClassifier,
    icnn_loss,
    icnn_score,
    icnn_separability,
    proto_triplet_loss,
)
from skpapers.representation._proto_triplet import Episodes

TINY = {"embedding_dim": 4, "hidden_layer_sizes": (16,), "n_episodes": 30, "random_state": 0}


# The score.


def score_by_loops(Z, y, k=4, ipc=None, eps=1e-6):
    """The definition, row by row."""
    n = len(Z)
    ipc = min(np.bincount(y).max() if ipc is None else ipc, n - 1)
    k = min(k, ipc)
    close, far, share, rows = [], [], [], []
    for i in range(n):
        d = {j: np.sqrt(np.sum((Z[i] - Z[j]) ** 2) + eps) for j in range(n) if j != i}
        near = sorted(d, key=d.get)[:ipc]
        others = [d[j] for j in near if y[j] != y[i]]
        relative = [d[j] / (min(others) + eps) if others else 0.0 for j in near[:k]]
        relative = np.array(relative) / max(1, max(relative))
        same = np.array([y[j] == y[i] for j in near[:k]])
        rows.append((np.array([d[j] for j in near[:k]]), same))
        if same.any():
            close.append(relative[same].mean())
        share.append(same.sum() / k)
    largest = max((d[~same].max() for d, same in rows if not same.all()), default=1.0)
    far = [(d[~same] / largest).mean() for d, same in rows if not same.all()]
    S = 1 - np.mean(close) if close else 0.0
    D = np.mean(far) if far else 1.0
    return ((S + D) / 2 + np.mean(share)) / 2


@pytest.mark.parametrize("k, ipc", [(4, None), (1, None), (3, 6), (50, None)])
def test_score_equals_its_definition(k, ipc):
    rng = np.random.default_rng(0)
    for spread in (0.3, 2.0):
        y = rng.integers(3, size=40)
        Z = spread * rng.normal(size=(40, 3)) + y[:, None]
        found = icnn_score(Z, y, n_neighbors=k, points_per_class=ipc)
        assert found == pytest.approx(score_by_loops(Z, y, k, ipc), abs=1e-10)


def test_score_does_not_depend_on_axes_origin_order_and_units():
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=60)
    Z = 10 * rng.normal(size=(60, 5)) + 20 * y[:, None]
    expected = icnn_score(Z, y)
    turn, order = np.linalg.qr(rng.normal(size=(5, 5)))[0], rng.permutation(60)
    assert icnn_score(Z @ turn + 7, y) == pytest.approx(expected, abs=1e-10)
    assert icnn_score(Z[order], y[order]) == pytest.approx(expected, abs=1e-10)
    assert icnn_score(1e3 * Z, y) == pytest.approx(expected, abs=1e-6)
    assert icnn_score(torch.tensor(Z), torch.tensor(y)) == pytest.approx(expected, abs=1e-12)
    names = np.array(["a", "b", "c", "d"])[y]
    assert icnn_score(Z, names) == pytest.approx(expected, abs=1e-12)


def test_score_is_one_for_points_and_falls_when_labels_are_shuffled():
    Z = np.repeat(100.0 * np.eye(4), 10, axis=0)
    y = np.repeat(np.arange(4), 10)
    assert icnn_score(Z, y) > 0.999
    assert float(icnn_loss(torch.tensor(Z), torch.tensor(y))) < 1e-3
    Z, y = make_blobs(150, n_features=5, centers=10, random_state=0)
    shuffled = np.random.default_rng(0).permutation(y)
    assert icnn_score(Z, y) - icnn_score(Z, shuffled) > 0.3


def test_score_chooses_among_embeddings():
    X, y = load_iris(return_X_y=True)
    search = GridSearchCV(
        NeighborhoodComponentsAnalysis(random_state=0),
        {"n_components": [1, 2]},
        scoring=icnn_separability,
        cv=2,
    ).fit(X, y)
    assert 0 < search.best_score_ < 1


# The losses.


def test_triplet_loss_by_hand():
    prototypes, query = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.4]])
    loss = proto_triplet_loss(query, torch.tensor([0]), prototypes, margin=0.5)
    assert float(loss) == pytest.approx(0.3, abs=1e-5)
    far = torch.tensor([[0.0, 0], [3, 0], [0, 4]])
    assert float(proto_triplet_loss(far, torch.arange(3), far, margin=2.9)) == 0
    assert float(proto_triplet_loss(far, torch.arange(3), far, margin=3.5)) > 0


@pytest.mark.parametrize("loss", ["triplet", "icnn"])
def test_gradients_equal_finite_differences(loss):
    generator = torch.Generator().manual_seed(0)
    Z = torch.randn(12, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    y = torch.arange(12) % 3

    def function(Z):
        if loss == "icnn":
            return icnn_loss(Z, y, n_neighbors=3)
        return proto_triplet_loss(Z, y, torch.stack([Z[y == c].mean(0) for c in range(3)]))

    if loss == "triplet":
        assert torch.autograd.gradcheck(function, (Z,), eps=1e-6, atol=1e-6)
    else:  # what is divided by, the largest of a row and of all, is held fixed
        function(Z).backward()
        assert torch.isfinite(Z.grad).all() and Z.grad.abs().max() > 0
        smaller = Z.detach() - 1e-3 * Z.grad / Z.grad.norm()
        assert float(function(smaller)) < float(function(Z.detach()))


def test_coinciding_rows_have_finite_gradients():
    Z = torch.zeros(8, 2, requires_grad=True)
    y = torch.arange(8) % 2
    (icnn_loss(Z, y) + proto_triplet_loss(Z, y, Z[:2])).backward()
    assert torch.isfinite(Z.grad).all()


def test_cross_entropy_is_that_of_prototypical_networks():
    X, y = make_blobs(200, n_features=6, centers=8, random_state=0)
    model = ProtoTripletClassifier(**TINY, losses=("cross_entropy",)).fit(X, y)
    batch = Episodes(
        Data((torch.tensor(X),), torch.tensor(y)), (5, 5, 10), 1, torch.Generator().manual_seed(0)
    ).draw()
    with torch.no_grad():
        Z = model.module_(batch.inputs[0]).numpy()
    support, queries = Z[:25].reshape(5, 5, -1), Z[25:]
    squares = ((queries[:, None] - support.mean(axis=1)) ** 2).sum(axis=2)
    logits = -squares - np.log(np.exp(-squares).sum(axis=1, keepdims=True))
    expected = -logits[np.arange(50), np.repeat(np.arange(5), 10)].mean()
    with torch.no_grad():
        assert float(model._loss(model.module_, batch)) == pytest.approx(expected, abs=1e-5)


# Episodes.


@pytest.mark.parametrize("sizes", [[40, 40, 40], [3, 8, 40]])
def test_episodes_hold_support_then_queries_of_their_classes(sizes):
    y = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    data = Data((torch.arange(len(y))[:, None],), y)
    episodes = Episodes(data, (2, 5, 6), 25, torch.Generator().manual_seed(0))
    drawn = [batch for _ in range(3) for batch in episodes]
    assert len(drawn) == 25
    for batch in drawn:
        rows, classes = batch.inputs[0][:, 0], y[batch.inputs[0][:, 0]]
        assert len(rows) == 2 * 11
        for c in range(2):
            support, queries = rows[:10][batch.y[:10] == c], rows[10:][batch.y[10:] == c]
            assert len(support) == 5 and len(queries) == 6
            own = classes[torch.cat([torch.where(batch.y == c)[0]])].unique()
            assert len(own) == 1
            n = sizes[int(own)]
            if n > 5:  # support and queries are apart, and no row is support twice
                assert len(set(support.tolist())) == 5
                assert not set(support.tolist()) & set(queries.tolist())
            if n >= 11:
                assert len(set(queries.tolist())) == 6


def test_small_classes_are_told_of():
    X, y = make_blobs(30, centers=3, random_state=0)
    with pytest.warns(UserWarning, match="n_shot=10"):
        ProtoTripletClassifier(**TINY, n_shot=10).fit(X, y)


# The estimator.


def test_prototypes_are_mean_embeddings_and_probabilities_a_softmax():
    X, y = make_blobs(120, n_features=4, centers=4, random_state=0)
    model = ProtoTripletClassifier(**TINY).fit(X, y)
    Z = model.transform(X)
    assert_allclose(model.prototypes_, [Z[y == c].mean(axis=0) for c in range(4)], rtol=1e-6)
    squares = ((Z[:, None] - model.prototypes_) ** 2).sum(axis=2)
    proba = np.exp(-squares) / np.exp(-squares).sum(axis=1, keepdims=True)
    assert_allclose(model.predict_proba(X), proba, atol=1e-6)
    assert_array_equal(model.predict(X), NearestCentroid().fit(Z, y).predict(Z))
    assert model.icnn_score_ == pytest.approx(icnn_score(Z, y), abs=1e-6)


def test_new_classes_leave_the_known_ones():
    X, y = make_blobs(150, n_features=4, centers=5, random_state=0)
    known = y < 4
    model = ProtoTripletClassifier(**TINY).fit(X[known], y[known])
    before, few = model.prototypes_.copy(), X[y == 4][:5]
    stateless = model.few_shot_predict(X[::2], y[::2], X)
    assert_array_equal(model.prototypes_, before)
    model.add_classes(few, np.full(5, 4))
    assert_array_equal(model.prototypes_[:4], before)
    assert_allclose(model.prototypes_[4], model.transform(few).mean(axis=0), rtol=1e-6)
    assert model.score(X, y) > 0.9 and np.mean(stateless == y) > 0.9
    with pytest.raises(ValueError, match=r"classes \[4\] are known already"):
        model.add_classes(few, np.full(5, 4))
    with pytest.raises(ValueError, match=r"classes \[9\] are unknown"):
        model.update_prototypes(few, np.full(5, 9))


def test_updates_are_running_means():
    X, y = make_blobs(200, n_features=4, centers=3, random_state=0)
    model = ProtoTripletClassifier(**TINY).fit(X[:100], y[:100])
    model.update_prototypes(X[100:150], y[100:150]).update_prototypes(X[150:], y[150:])
    Z = model.transform(X)
    assert_allclose(model.prototypes_, [Z[y == c].mean(axis=0) for c in range(3)], rtol=1e-6)
    assert_array_equal(model.prototype_counts_, np.bincount(y))


def test_bad_requests_are_named():
    X, y = make_blobs(40, centers=3, random_state=0)
    with pytest.raises(ValueError, match="losses must be some of"):
        ProtoTripletClassifier(losses=("triplet",)).fit(X, y)
    with pytest.raises(ValueError, match="one class"):
        ProtoTripletClassifier().fit(X, np.zeros(40, dtype=int))


# Claims.


@functools.cache
def many_classes(seed):
    """Rows of 100 classes in six directions of forty, of which the others vary more."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(100), 30)
    signal = rng.normal(size=(100, 6))[y] + 0.5 * rng.normal(size=(3000, 6))
    X = np.column_stack([signal, 2 * rng.normal(size=(3000, 34))])
    return X @ np.linalg.qr(rng.normal(size=(40, 40)))[0] / 3, y


def few_shot_accuracy(embed, seed, n_shot, n_episodes=200):
    """Accuracy by the nearest prototype, in episodes of five classes not trained on."""
    X, y = many_classes(seed)
    rows = np.flatnonzero(y >= 64)
    Z = embed(X[rows]).reshape(36, 30, -1)
    rng, hits = np.random.default_rng(0), []
    for _ in range(n_episodes):
        episode = rng.permuted(Z[rng.choice(36, 5, replace=False)], axis=1)
        prototypes, queries = episode[:, :n_shot].mean(axis=1), episode[:, n_shot : n_shot + 15]
        squares = ((queries[:, :, None] - prototypes) ** 2).sum(axis=3)
        hits.append(np.mean(squares.argmin(axis=2) == np.arange(5)[:, None]))
    return np.mean(hits)


@functools.cache
def trained(seed, losses):
    X, y = many_classes(seed)
    base = y < 64
    return ProtoTripletClassifier(losses=losses, random_state=seed).fit(X[base], y[base])


def test_the_metric_carries_over_to_classes_never_seen():
    model = trained(0, ("cross_entropy", "proto_triplet", "icnn"))
    for n_shot, most, least in ((1, 0.35, 0.80), (5, 0.45, 0.90)):
        assert few_shot_accuracy(lambda X: X, 0, n_shot) < most
        assert few_shot_accuracy(model.transform, 0, n_shot) >= least


@pytest.mark.slow
def test_the_added_losses_do_not_cost_accuracy():
    mean = {}
    for losses in (("cross_entropy",), ("cross_entropy", "proto_triplet", "icnn")):
        mean[losses] = [
            few_shot_accuracy(trained(seed, losses).transform, seed, n_shot)
            for seed in range(3)
            for n_shot in (1, 5)
        ]
    plain, full = map(np.mean, mean.values())
    assert full >= plain - 0.01, (plain, full)


def test_few_base_classes_do_not_give_a_metric_for_others():
    X, y = load_digits(return_X_y=True)
    X, base = X / 16, y < 5
    model = ProtoTripletClassifier(random_state=0, n_episodes=300).fit(X[base], y[base])
    rng, ours, pixels = np.random.default_rng(0), [], []
    for _ in range(200):
        one = [rng.choice(np.flatnonzero(y == c)) for c in range(5, 10)]
        rest = rng.choice(np.flatnonzero(~base), 50)
        ours.append(model.few_shot_predict(X[one], y[one], X[rest]) == y[rest])
        squares = ((X[rest][:, None] - X[one]) ** 2).sum(axis=2)
        pixels.append(y[one][squares.argmin(axis=1)] == y[rest])
    assert np.mean(ours) < np.mean(pixels) - 0.1
