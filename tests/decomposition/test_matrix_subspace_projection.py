"""Attributes in a subspace: optimality, algebra, disentangling, editing."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.linalg import expm, orthogonal_procrustes
from sklearn import config_context
from sklearn.datasets import load_digits, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpapers.decomposition import LinearSubspaceProjection, MatrixSubspaceProjection
from skpapers.decomposition._attribute_codes import AttributeCodes
from skpapers.decomposition._linear_subspace_projection import edited, subspaces
from skpapers.decomposition._matrix_subspace_projection import (
    SubspaceAutoencoder,
    kl_divergence,
    subspace_loss,
)
from skpapers.neural_network import build_module


def correlated(seed, n=500, p=10, k=1):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) @ rng.normal(size=(p, p))
    Z = StandardScaler().fit_transform(X)
    return X, Z, Z @ rng.normal(size=(p, k)) + 0.3 * rng.normal(size=(n, k))


def random_orthonormal(k, h, rng):
    return np.linalg.qr(rng.normal(size=(h, k)))[0].T


# The linear projection.


@pytest.mark.parametrize("k", [1, 3])
def test_linear_projection_is_the_best_of_all_orthonormal_ones(k):
    _, Z, Y = correlated(0, k=k)
    M, N = subspaces(Z, Y)
    np.testing.assert_allclose(M @ M.T, np.eye(k), atol=1e-10)

    def loss(M):
        return ((Z - Y @ M) ** 2).sum()

    rng = np.random.default_rng(1)
    assert all(loss(M) < loss(random_orthonormal(k, 10, rng)) for _ in range(1000))
    for _ in range(1000):
        K = rng.normal(size=(10, 10)) * 10 ** rng.uniform(-4, 0)
        assert loss(M) <= loss(M @ expm(K - K.T)) * (1 + 1e-14)
    padded = np.hstack([Y, np.zeros((len(Y), 10 - k))])
    R = orthogonal_procrustes(padded, Z)[0]
    np.testing.assert_allclose(M, R[:k], atol=1e-10)


def test_coordinates_are_a_rotation():
    _, Z, Y = correlated(0, k=3)
    M, N = subspaces(Z, Y)
    U = np.vstack([M, N])
    np.testing.assert_allclose(U @ U.T, np.eye(10), atol=1e-10)
    np.testing.assert_allclose(Z @ M.T @ M + Z @ N.T @ N, Z, atol=1e-8)
    scatter = N @ Z.T @ Z @ N.T
    np.testing.assert_allclose(scatter, np.diag(np.diag(scatter)), atol=1e-8)
    assert np.all(np.diff(np.diag(scatter)) <= 1e-8)


def test_editing_sets_one_coordinate_and_no_other():
    rng = np.random.default_rng(0)
    Z, M = rng.normal(size=(20, 8)), random_orthonormal(3, 8, rng)
    N = np.linalg.svd(M)[2][3:]
    np.testing.assert_allclose(edited(Z, M, Z @ M.T), Z, atol=1e-14)
    new = edited(Z, M[[1]], np.full((20, 1), 2.0))
    expected = Z @ M.T
    expected[:, 1] = 2
    np.testing.assert_allclose(new @ M.T, expected, atol=1e-12)
    np.testing.assert_allclose(new @ N.T, Z @ N.T, atol=1e-12)
    half = edited(Z, M[[1]], np.full((20, 1), 2.0), strength=0.5)
    np.testing.assert_allclose(half, (Z + new) / 2, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_residual_is_uncorrelated_with_the_attribute(seed):
    X, _, y = correlated(seed, n=1000)
    y = y[:, 0]
    model = LinearSubspaceProjection().fit(X[:500], y[:500])
    residual = model.transform(X[:500])
    correlations = np.corrcoef(residual.T, y[:500])[-1, :-1]
    assert np.abs(correlations).max() < 1e-10
    assert LinearRegression().fit(residual, y[:500]).score(residual, y[:500]) < 1e-10
    new = LinearRegression().fit(residual, y[:500]).score(model.transform(X[500:]), y[500:])
    everything = LinearRegression().fit(X[:500], y[:500]).score(X[500:], y[500:])
    assert new < 0.05
    assert everything > 0.9


def test_classes_of_wine_cannot_be_told_from_the_residual():
    X, y = load_wine(return_X_y=True)
    classifier = LogisticRegression(max_iter=1000)
    parts = {part: LinearSubspaceProjection(part=part) for part in ("residual", "all")}
    scores = {
        part: cross_val_score(make_pipeline(model, classifier), X, y, cv=5).mean()
        for part, model in parts.items()
    }
    assert scores["all"] >= 0.95
    assert scores["residual"] <= 0.5
    model = LinearSubspaceProjection().fit(X, y)
    assert model.projection_.shape == (3, 13)
    np.testing.assert_allclose(model.projection_ @ model.projection_.T, np.eye(3), atol=1e-10)
    assert model.predict(X).shape == y.shape
    assert (model.predict(X) == y).mean() > 0.9


def test_linear_parts_are_inverted():
    X, y = load_wine(return_X_y=True)
    model = LinearSubspaceProjection(part="all").fit(X, y)
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), X, rtol=1e-8)
    model.set_params(part="residual")
    removed = model.inverse_transform(model.transform(X))
    np.testing.assert_allclose(model.predict_attributes(removed), 0, atol=1e-8)
    np.testing.assert_allclose(model.transform(removed), model.transform(X), atol=1e-8)
    edited_rows = model.manipulate(X, {0: 1})
    assert (model.predict(edited_rows) == 1).all()
    np.testing.assert_allclose(model.transform(edited_rows), model.transform(X), atol=1e-8)
    assert LinearSubspaceProjection(4).fit_transform(X, y).shape == (178, 4)


def test_more_codes_than_features_leave_one_residual_direction():
    X, _, _ = correlated(0, p=3)
    y = np.arange(500) % 5
    model = LinearSubspaceProjection(part="all").fit(X, y)
    assert model.projection_.shape == (5, 3)
    assert np.linalg.matrix_rank(model.projection_) == 2
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), X, atol=1e-8)
    with pytest.raises(ValueError, match="n_features=1"):
        model.fit(X[:, :1], y)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_torch_tensors_give_what_arrays_give(dtype):
    X, y = load_wine(return_X_y=True)
    X = X.astype(dtype)
    expected = LinearSubspaceProjection(part="all").fit(X, y)
    with config_context(array_api_dispatch=True):
        tensor = torch.from_numpy(X)
        model = LinearSubspaceProjection(part="all").fit(tensor, torch.from_numpy(y))
        codes, new = model.transform(tensor), model.manipulate(tensor, {0: 2})
        labels = model.predict(tensor)
    assert codes.dtype == new.dtype == tensor.dtype
    tolerance = 1e-8 if dtype == np.float64 else 1e-3
    np.testing.assert_allclose(codes.numpy(), expected.transform(X), atol=tolerance)
    np.testing.assert_allclose(new.numpy(), expected.manipulate(X, {0: 2}), rtol=tolerance)
    np.testing.assert_array_equal(labels.numpy(), expected.predict(X))


# The loss.


def test_null_basis_is_not_needed_in_the_loss():
    rng = np.random.default_rng(0)
    M = random_orthonormal(3, 8, rng)
    N = np.linalg.svd(M)[2][3:]
    Z, Y = rng.normal(size=(20, 8)), rng.normal(size=(20, 3))
    found = subspace_loss(*map(torch.from_numpy, (Z, M, Y)))
    expected = 2 * ((Z @ M.T - Y) ** 2).sum(1) + ((Z @ N.T) ** 2).sum(1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8)


def test_unknown_attributes_count_for_nothing():
    rng = np.random.default_rng(0)
    M = random_orthonormal(2, 6, rng)
    Z, Y = rng.normal(size=(9, 6)), rng.normal(size=(9, 2))
    N = np.linalg.svd(M)[2][2:]
    known = np.array([[1.0, 0.0]] * 9)
    found = subspace_loss(*map(torch.from_numpy, (Z, M, Y, known)))
    expected = 2 * (Z @ M[0] - Y[:, 0]) ** 2 + ((Z @ N.T) ** 2).sum(1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8)


@pytest.mark.parametrize("variational", [False, True])
def test_gradients_are_those_of_finite_differences(variational):
    def make():
        encoder = torch.nn.Sequential(torch.nn.Linear(4, 6 * (1 + variational)), torch.nn.Tanh())
        return SubspaceAutoencoder(encoder, torch.nn.Linear(6, 4), (2, 6), variational)

    module = build_module(make, torch.Generator().manual_seed(0), torch.float64).eval()
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(5, 4, dtype=torch.float64, generator=generator)
    Y = torch.randn(5, 2, dtype=torch.float64, generator=generator)
    names = [name for name, _ in module.named_parameters()]

    def loss(*values):
        parts = dict(zip(names, values))
        call = torch.func.functional_call
        mean, log_variance = call(module, parts, (X,))
        found = subspace_loss(mean, parts["projection"], Y)
        return found if log_variance is None else found + kl_divergence(mean, log_variance)

    module.forward = module.encode
    assert torch.autograd.gradcheck(loss, tuple(module.parameters()))


def test_divergence_is_that_of_normal_distributions():
    mean, log_variance = torch.tensor([[0.5, -1.0]]), torch.tensor([[0.3, -0.7]])
    normal = torch.distributions.Normal
    parts = torch.distributions.kl_divergence(
        normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0)
    )
    torch.testing.assert_close(kl_divergence(mean, log_variance), parts.sum(1))


# Claims on the digits.


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split((X / 16).astype(np.float32), y, test_size=0.3, random_state=0)


@pytest.fixture(scope="module")
def fitted(digits):
    X, _, y, _ = digits
    return MatrixSubspaceProjection(max_epochs=60, random_state=0).fit(X, y)


def probe(model, digits, part):
    model.set_params(part=part)
    X, X_test, y, y_test = digits
    classifier = LogisticRegression(max_iter=1000).fit(model.transform(X), y)
    return classifier.score(model.transform(X_test), y_test)


def test_residual_forgets_the_class_and_the_attributes_know_it(fitted, digits):
    X, X_test, y, y_test = digits
    assert probe(fitted, digits, "residual") <= 0.35
    assert probe(fitted, digits, "all") >= 0.95
    assert (fitted.predict(X_test) == y_test).mean() >= 0.95
    assert np.mean((fitted.reconstruct(X_test) - X_test) ** 2) < 0.015
    plain = MatrixSubspaceProjection(msp_weight=0.0, max_epochs=15, random_state=0).fit(X, y)
    assert probe(plain, digits, "residual") > 0.8


def test_edited_digits_are_taken_for_the_wanted_class(fitted, digits):
    X, X_test, y, y_test = digits
    judge = LogisticRegression(max_iter=1000).fit(X, y)
    wanted = (y_test[:200] + 1 + np.arange(200) % 9) % 10
    new = fitted.manipulate(X_test[:200], {0: wanted})
    assert (judge.predict(new) == wanted).mean() >= 0.95
    unchanged = fitted.manipulate(X_test[:200], {0: wanted}, strength=0)
    np.testing.assert_allclose(unchanged, fitted.reconstruct(X_test[:200]), atol=1e-5)


def test_variational_residual_forgets_the_class(digits):
    X, X_test, y, y_test = digits
    params = {"variational": True, "max_epochs": 60, "random_state": 0}
    model = MatrixSubspaceProjection(**params).fit(X, y)
    assert probe(model, digits, "residual") <= 0.45
    assert probe(model, digits, "all") >= 0.95


def test_latent_coordinates_are_a_rotation(fitted, digits):
    X = digits[1]
    M, N = fitted.projection_, fitted.null_basis_
    U = np.vstack([M, N])
    np.testing.assert_allclose(U @ U.T, np.eye(32), atol=1e-5)
    assert 0 < fitted.orthogonality_error_ < 0.3
    fitted.set_params(part="all")
    codes = fitted.transform(X)
    np.testing.assert_allclose(codes[:, :10], fitted.predict_attributes(X), atol=1e-5)
    np.testing.assert_allclose(fitted.inverse_transform(codes), fitted.reconstruct(X), atol=1e-4)
    fitted.set_params(part="residual")
    assert fitted.inverse_transform(fitted.transform(X)).shape == X.shape
    assert len(fitted.get_feature_names_out()) == 22


def test_samples_have_the_wanted_attributes(fitted, digits):
    X, _, y, _ = digits
    judge = LogisticRegression(max_iter=1000).fit(X, y)
    drawn = fitted.sample(100, {0: 3}, random_state=0)
    assert drawn.shape == (100, 64)
    assert (judge.predict(drawn) == 3).mean() > 0.9
    assert fitted.sample(2, random_state=0).shape == (2, 64)


# Attributes.


def test_codes_of_attributes():
    y = pd.DataFrame(
        {
            "sex": ["f", "m", "f", None],
            "age": [1.5, 2.5, np.nan, 3.5],
            "kind": [2, 0, -1, 1],
        }
    )
    codes = AttributeCodes.learn(y)
    assert [a.kind for a in codes.attributes] == ["class", "continuous", "class"]
    values, known = codes.encode(y)
    np.testing.assert_array_equal(values[:, 0], [-1, 1, -1, 0])
    np.testing.assert_allclose(values[:, 1], np.array([-1, 0, 0, 1]) * 1.5**0.5)
    np.testing.assert_array_equal(
        values[:, 2:], [[-1, -1, 1], [1, -1, -1], [0, 0, 0], [-1, 1, -1]]
    )
    np.testing.assert_array_equal(known[:, 0], [True, True, True, False])
    np.testing.assert_array_equal(known[:, 1], [True, True, False, True])
    np.testing.assert_array_equal(known[:, 2:].all(axis=1), [True, True, False, True])
    decoded = codes.decode(values[:2])
    assert decoded.tolist() == [["f", 1.5, 2], ["m", 2.5, 0]]
    target, columns = codes.targets({"kind": 1, "sex": ["m", "f"]}, 2)
    assert columns == [2, 3, 4, 0]
    np.testing.assert_array_equal(target, [[-1, 1, -1, 1], [-1, 1, -1, -1]])


def test_several_attributes_of_a_frame_and_semi_supervision():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 6)).astype(np.float32)
    sign, value = np.where(X[:, 0] > 0, "up", "down"), X[:, 1] + 0.0
    known = rng.random(400) < 0.5
    frame = {"sign": np.where(known, sign, None), "value": np.where(known, value, np.nan)}
    for y in (pd.DataFrame(frame), pl.DataFrame(frame, strict=False)):
        model = MatrixSubspaceProjection(6, max_epochs=60, random_state=0).fit(X, y)
        predicted = model.predict(X)
        assert (predicted[~known, 0] == sign[~known]).mean() > 0.85
        found = predicted[~known, 1].astype(float)
        assert np.corrcoef(found, value[~known])[0, 1] > 0.85
        moved = model.predict_attributes(model.manipulate(X, {"value": 2.0}))
        assert moved[:, 1].mean() > model.predict_attributes(X)[:, 1].mean() + 0.5


def test_without_attributes_it_is_an_autoencoder():
    X = load_digits().data[:300].astype(np.float32) / 16
    model = MatrixSubspaceProjection(8, max_epochs=30, random_state=0).fit(X)
    assert model.transform(X).shape == (300, 8)
    assert np.mean((model.reconstruct(X) - X) ** 2) < 0.5 * X.var(axis=0).mean()
    with pytest.raises(ValueError, match="without y"):
        model.predict(X)
    with pytest.raises(ValueError, match="no attribute"):
        model.manipulate(X, {0: 1})


def test_partial_fit_continues_with_the_attributes_of_the_first_call():
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32) / 16
    model = MatrixSubspaceProjection(16, random_state=0)
    for _ in range(20):
        model.partial_fit(X, y)
    assert model.n_iter_ == 20
    assert (model.predict(X) == y).mean() > 0.95
    with pytest.raises(ValueError, match="unknown classes"):
        model.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="all calls"):
        model.partial_fit(X)


def test_early_stopping_keeps_the_best_epoch():
    X, y = load_digits(return_X_y=True)
    X = X[:400].astype(np.float32) / 16
    params = {"early_stopping": True, "lr": 0.01, "random_state": 0}
    model = MatrixSubspaceProjection(16, max_epochs=60, **params).fit(X, y[:400])
    assert len(model.validation_scores_) == model.n_iter_
    assert model.validation_scores_[model.best_iter_ - 1] == max(model.validation_scores_)


@pytest.mark.parametrize(
    ("y", "params", "message"),
    [
        (np.full(20, np.nan), {}, "unlabelled|unknown"),
        (np.arange(20.0) / 3, {"attribute_types": ["class", "class"]}, "attribute_types"),
        (np.r_[np.inf, np.arange(19.0)], {}, "infinity"),
        (np.zeros((20, 1, 1)), {}, "dimensions"),
    ],
)
@pytest.mark.parametrize("cls", [LinearSubspaceProjection, MatrixSubspaceProjection])
def test_what_makes_no_sense_raises(cls, y, params, message):
    X = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(ValueError, match=message):
        cls(**params).fit(X, y)
    model = LinearSubspaceProjection().fit(X, np.arange(20) % 2)
    for attributes, name in [({3: 0}, "no attribute"), ({0: 7}, "unknown classes")]:
        with pytest.raises(ValueError, match=name):
            model.manipulate(X, attributes)
    with pytest.raises(ValueError, match="coordinates"):
        model.inverse_transform(X)
