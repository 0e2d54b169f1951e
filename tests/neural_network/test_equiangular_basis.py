"""Equiangular basis vectors: sets of vectors, the fixed head, many classes, new classes."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from torch import nn

from skpapers.neural_network import (
    EquiangularBasisClassifier,
    NeuralClassifier,
    TorchClassifier,
    equiangular_basis_vectors,
    make_mlp,
)
from skpapers.neural_network._equiangular_vectors import extend_vectors, hinge_gradient


def welch(n_vectors, n_dims):
    return np.sqrt(max(n_vectors - n_dims, 0) / (n_dims * max(n_vectors - 1, 1)))


def largest(W):
    gram = np.abs(W @ W.T)
    np.fill_diagonal(gram, 0)
    return gram.max()


def digits(seed):
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    return train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)


SETTINGS = {"hidden_layer_sizes": (64,), "lr": 1e-2, "max_epochs": 30, "tol": 0}


@pytest.mark.parametrize(
    "n_vectors, n_dims",
    [(1, 1), (2, 1), (10, 10), (10, 9), (64, 32), (100, 50), (16, 10), (10, 6)],
)
def test_vectors_are_unit_and_near_the_welch_bound(n_vectors, n_dims):
    W = equiangular_basis_vectors(n_vectors, n_dims, random_state=0)
    assert W.shape == (n_vectors, n_dims)
    np.testing.assert_allclose(np.linalg.norm(W, axis=1), 1, rtol=0, atol=1e-12)
    bound = welch(n_vectors, n_dims)
    assert bound - 1e-12 <= largest(W) <= 1.2 * bound + 1e-3


def test_closed_forms_are_exact():
    assert largest(equiangular_basis_vectors(10, 10, random_state=0)) <= 1e-12
    assert largest(equiangular_basis_vectors(7, 10, random_state=0)) <= 1e-12
    W = equiangular_basis_vectors(10, 9, random_state=0)
    np.testing.assert_allclose(W @ W.T, (10 * np.eye(10) - 1) / 9, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "n_vectors, n_dims, factor", [(200, 20, 1.6), (40, 12, 1.3), (26, 5, 1.6)]
)
def test_crowded_sets_do_not_collapse(n_vectors, n_dims, factor):
    W = equiangular_basis_vectors(n_vectors, n_dims, random_state=0)
    assert welch(n_vectors, n_dims) <= largest(W) <= factor * welch(n_vectors, n_dims)


@pytest.mark.parametrize("method, bound", [("hinge", 0.35), ("squared_hinge", 0.15)])
def test_asked_bound_is_kept(method, bound):
    W = equiangular_basis_vectors(60, 40, max_cosine=bound, method=method, random_state=1)
    assert largest(W) <= bound + 1e-4
    np.testing.assert_allclose(np.linalg.norm(W, axis=1), 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("squared", [True, False])
def test_gradient_equals_autograd_in_every_chunking(squared):
    draw = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    W = nn.functional.normalize(draw).requires_grad_()
    excess = ((W @ W.T).abs() - 0.3).relu() * (1 - torch.eye(9))
    (excess.square() if squared else excess).sum().backward()
    for n_fixed in (0, 4):
        for chunk_size in (100, 2):
            top, gradient = hinge_gradient(W.detach(), n_fixed, 0.3, squared, chunk_size)
            torch.testing.assert_close(gradient, W.grad[n_fixed:], rtol=0, atol=1e-12)
        assert n_fixed or top == pytest.approx(largest(W.detach().numpy()), abs=1e-12)


def test_chunks_and_seeds_decide_as_they_should():
    first = equiangular_basis_vectors(30, 12, random_state=3)
    np.testing.assert_array_equal(first, equiangular_basis_vectors(30, 12, random_state=3))
    chunked = equiangular_basis_vectors(30, 12, random_state=3, chunk_size=7)
    np.testing.assert_allclose(chunked, first, rtol=0, atol=1e-9)
    assert np.abs(first - equiangular_basis_vectors(30, 12, random_state=4)).max() > 0.1


def test_impossible_and_missed_bounds_are_said():
    with pytest.raises(ValueError, match="max_cosine=0.05 cannot be reached.*Welch"):
        equiangular_basis_vectors(20, 10, max_cosine=0.05)
    with pytest.raises(ValueError, match="n_dims=1 has room for two"):
        equiangular_basis_vectors(3, 1)
    with pytest.warns(ConvergenceWarning, match="raise max_iter, max_cosine or n_dims"):
        equiangular_basis_vectors(20, 10, max_cosine=0.25, max_iter=2, random_state=0)


def test_a_tenth_vector_in_nine_dimensions():
    """Against nine orthonormal rows the best is a cosine of 1/3 to each."""
    generator = torch.Generator().manual_seed(0)
    W = extend_vectors(torch.eye(9, dtype=torch.float64), 1, generator).numpy()
    np.testing.assert_array_equal(W[:9], np.eye(9))
    assert 1 / 3 <= np.abs(W[9, :9]).max() <= 1.25 / 3


@pytest.fixture(scope="module")
def fitted():
    X_train, X_test, y_train, y_test = digits(0)
    X_train, X_test = X_train.astype(np.float64), X_test.astype(np.float64)
    model = EquiangularBasisClassifier(6, **SETTINGS | {"max_epochs": 5}, random_state=0)
    return model.fit(X_train, y_train), X_test, y_test


def test_head_is_no_parameter_and_training_leaves_it_alone():
    X_train, _, y_train, _ = digits(0)
    model = EquiangularBasisClassifier(6, **SETTINGS | {"max_epochs": 1}, random_state=0)
    before = model.fit(X_train, y_train).basis_.copy()
    model.partial_fit(X_train, y_train)
    np.testing.assert_array_equal(model.basis_, before)
    assert not model.module_[1].basis.requires_grad
    assert not list(model.module_[1].parameters())
    longer = EquiangularBasisClassifier(6, **SETTINGS | {"max_epochs": 3}, random_state=0)
    np.testing.assert_array_equal(longer.fit(X_train, y_train).basis_, before)


def test_rotating_head_and_last_layer_together_changes_nothing(fitted):
    model, X, _ = fitted
    before = model.predict_proba(X)
    draw = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rotation = torch.linalg.qr(draw).Q
    (*_, last), head = model.module_
    kept = [t.detach().clone() for t in (last.weight, last.bias, head.basis)]
    with torch.no_grad():
        last.weight.copy_(rotation.T @ last.weight)
        last.bias.copy_(rotation.T @ last.bias)
        head.basis.copy_(head.basis @ rotation)
    after = model.predict_proba(X)
    with torch.no_grad():
        for tensor, value in zip((last.weight, last.bias, head.basis), kept):
            tensor.copy_(value)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-6)


def test_prediction_is_the_nearest_vector_on_the_sphere(fitted):
    model, X, _ = fitted
    Z = model.transform(X)
    np.testing.assert_allclose(np.linalg.norm(Z, axis=1), 1, rtol=0, atol=1e-12)
    cosines = Z @ model.basis_.T
    nearest = np.arccos(np.clip(cosines, -1, 1)).argmin(axis=1)
    np.testing.assert_array_equal(model.predict(X), model.classes_[nearest])
    np.testing.assert_allclose(model.decision_function(X), cosines, rtol=0, atol=1e-12)
    np.testing.assert_allclose(model.score_samples(X), cosines.max(axis=1), rtol=0, atol=1e-12)
    logits = np.exp((cosines - 1) / 0.07)
    expected = logits / logits.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=0, atol=1e-12)


def test_temperature_does_not_change_the_prediction_of_a_network(fitted):
    model, X, _ = fitted
    before, head = model.predict(X), model.module_[1]
    head.temperature = 3.0
    np.testing.assert_array_equal(model.predict(X), before)
    head.temperature = 0.07


def test_two_classes_give_the_difference_of_cosines():
    X_train, X_test, y_train, _ = digits(0)
    model = EquiangularBasisClassifier(4, **SETTINGS | {"max_epochs": 2}, random_state=0)
    model.fit(X_train, y_train > 4)
    difference = model.transform(X_test) @ (model.basis_[1] - model.basis_[0])
    np.testing.assert_allclose(model.decision_function(X_test), difference, atol=1e-5)


def test_loss_is_the_smoothed_cross_entropy_of_cosines():
    X_train, _, y_train, _ = digits(0)
    model = EquiangularBasisClassifier(6, label_smoothing=0.1, batch_size=None, max_epochs=1)
    model.set_params(tol=0, random_state=0, lr=1e-12).fit(X_train.astype(np.float64), y_train)
    logs = np.log(model.predict_proba(X_train.astype(np.float64)))
    right = logs[np.arange(len(y_train)), y_train]
    expected = -(0.9 * right + 0.1 * logs.mean(axis=1)).mean()
    assert model.loss_curve_[0] == pytest.approx(expected, rel=1e-6)


def test_backbone_takes_images():
    X_train, X_test, y_train, y_test = digits(0)
    backbone = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten())
    model = EquiangularBasisClassifier(12, backbone=backbone, lr=1e-2, max_epochs=8, tol=0)
    model.set_params(random_state=0).fit(X_train.reshape(-1, 1, 8, 8), y_train)
    assert model.score(X_test.reshape(-1, 1, 8, 8), y_test) > 0.9
    with pytest.raises(ValueError, match="rows of shape"):
        model.predict(X_test.reshape(-1, 1, 4, 16))


def accuracy(model, seed):
    X_train, X_test, y_train, y_test = digits(seed)
    return model.set_params(random_state=seed).fit(X_train, y_train).score(X_test, y_test)


def test_fixed_head_is_as_good_as_a_trained_one():
    """The claim, and six dimensions for ten classes."""
    ours = [accuracy(EquiangularBasisClassifier(10, **SETTINGS), seed) for seed in range(3)]
    peer = [accuracy(NeuralClassifier(**SETTINGS), seed) for seed in range(3)]
    few = [accuracy(EquiangularBasisClassifier(6, **SETTINGS), seed) for seed in range(3)]
    assert np.mean(ours) >= np.mean(peer) - 0.005
    assert np.mean(few) >= 0.945


class TrainedHead(TorchClassifier):
    """The same network, with a trained linear layer from the embedding to the classes."""

    _training_defaults = {"lr": 3e-3, "max_epochs": 30}

    def __init__(self, random_state):
        self.random_state = random_state

    def _make_module(self):
        embedding = make_mlp(self.n_features_in_, (512,), 100)
        return nn.Sequential(embedding, nn.Linear(100, len(self.classes_)))


def n_trained(model):
    return sum(p.numel() for p in model.module_.parameters())


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_two_hundred_classes_in_half_as_many_dimensions(seed):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(200, 64))
    y_train, y_test = np.repeat(np.arange(200), 20), np.repeat(np.arange(200), 10)
    X_train, X_test = (
        (centers[y] + rng.normal(size=(len(y), 64))).astype(np.float32) for y in (y_train, y_test)
    )
    settings = {"lr": 3e-3, "max_epochs": 30, "tol": 0, "random_state": seed}
    alpha = 1.4 * welch(200, 100)
    ours = EquiangularBasisClassifier(
        100, max_cosine=alpha, temperature=0.15, hidden_layer_sizes=(512,), **settings
    ).fit(X_train, y_train)
    peer = TrainedHead(seed).fit(X_train, y_train)
    assert n_trained(peer) - n_trained(ours) == 100 * 200 + 200
    assert ours.max_cosine_ <= alpha + 1e-4
    assert ours.score(X_test, y_test) >= peer.score(X_test, y_test) - 0.01


@pytest.mark.parametrize("seed", range(3))
def test_a_new_class_gets_a_vector_of_its_own(seed):
    X_train, X_test, y_train, y_test = digits(seed)
    model = EquiangularBasisClassifier(10, **SETTINGS, random_state=seed)
    old = y_train < 9
    before = model.fit(X_train[old], y_train[old]).basis_.copy()
    for _ in range(10):
        model.partial_fit(X_train, y_train)
    np.testing.assert_array_equal(model.basis_[:9], before)
    np.testing.assert_array_equal(model.classes_, np.arange(10))
    assert model.max_cosine_ <= 1e-6
    right = model.predict(X_test) == y_test
    assert right[y_test < 9].mean() >= 0.95
    assert right[y_test == 9].mean() >= 0.9


def test_new_labels_keep_classes_sorted_with_their_vectors():
    X_train, _, y_train, _ = digits(0)
    names = np.array(list("klmnopqrst"))[y_train]
    kept = names != "n"
    model = EquiangularBasisClassifier(12, **SETTINGS | {"max_epochs": 1}, random_state=0)
    before = model.fit(X_train[kept], names[kept]).basis_.copy()
    model.partial_fit(X_train, names)
    assert list(model.classes_) == list("klmnopqrst")
    np.testing.assert_array_equal(np.delete(model.basis_, 3, axis=0), before)
    with pytest.raises(ValueError, match="of another type"):
        model.partial_fit(X_train, y_train)
