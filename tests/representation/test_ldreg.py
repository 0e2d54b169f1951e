"""LDReg: estimators of the local dimension, the penalty and its gradient, and digits."""

import functools

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from sklearn import config_context
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpapers.neural_network import SelfSupervisedTransformer
from skpapers.representation import (
    BarlowTwins,
    LDReg,
    LocalIntrinsicDimension,
    effective_rank,
    ldreg_penalty,
    local_intrinsic_dimension,
)
from skpapers.representation._ldreg import batch_dimensions, contrastive_loss, mean_penalty
from skpapers.representation._local_dimension import dimension_of_distances

TINY = {"n_components": 8, "hidden_layer_sizes": (16,), "projector_sizes": (16, 8)}
METHODS = pytest.mark.parametrize("method", ["mom", "mle"])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def by_loop(X, reference, k, method, own=True):
    """Both estimators as they are written, row by row."""
    found = []
    for i, x in enumerate(X):
        r = np.sqrt(
            ((np.delete(reference, i, axis=0) if own else reference) - x) ** 2 @ np.ones(len(x))
        )
        r = np.sort(r)[:k]
        inner = r[:-1][r[:-1] > 0]
        if method == "mle":
            found.append(-1 / np.mean(np.log(inner / r[-1])))
        else:
            found.append(inner.mean() / (r[-1] - inner.mean()))
    return np.array(found)


# Estimators.


@pytest.mark.parametrize(
    ("method", "expected"), [("mom", (1.000, 3.002, 8.010)), ("mle", (1.002, 3.006, 8.015))]
)
def test_exact_quantiles_of_the_distance_give_the_dimension(method, expected):
    levels = np.arange(1, 2001) / 2000
    r = np.stack([levels ** (1 / d) for d in (1, 3, 8)])
    np.testing.assert_allclose(dimension_of_distances(r, method), expected, rtol=1e-3)


@METHODS
@pytest.mark.parametrize("dimension", [2, 5, 10])
def test_a_ball_in_higher_space_has_its_own_dimension(method, dimension):
    directions = normal(4000, dimension)
    radii = np.random.default_rng(1).random((4000, 1)) ** (1 / dimension)
    ball = radii * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    frame = np.linalg.qr(normal(13, dimension, seed=2))[0]
    central = np.argsort(radii[:, 0])[:400]
    lid = local_intrinsic_dimension(ball @ frame.T + 3, 100, method=method)[central]
    found = np.exp(np.log(lid).mean())
    if dimension <= 5:
        assert found == pytest.approx(dimension, abs=0.15)
    else:
        assert 8 < found < 9  # the edge is near in ten dimensions, as the docstring says


@METHODS
def test_batch_equals_a_loop(method):
    X, reference = normal(60, 4), normal(80, 4, seed=1)
    own = local_intrinsic_dimension(X, 9, method=method)
    np.testing.assert_allclose(own, by_loop(X, X, 9, method), rtol=1e-10)
    other = local_intrinsic_dimension(X, 9, method=method, X_ref=reference)
    np.testing.assert_allclose(other, by_loop(X, reference, 9, method, own=False), rtol=1e-10)


@METHODS
def test_invariance_to_translation_rotation_and_scale(method):
    X = normal(300, 30)
    expected = local_intrinsic_dimension(X, 20, method=method)
    rotation = np.linalg.qr(normal(30, 30, seed=1))[0]
    for moved in (X + 4, X @ rotation, X * 1e-6):
        found = local_intrinsic_dimension(moved, 20, method=method)
        np.testing.assert_allclose(found, expected, rtol=1e-10)


@METHODS
def test_duplicates_do_not_count_and_no_row_is_its_own_neighbour(method):
    X = np.vstack([normal(40, 3), normal(40, 3)])
    found = local_intrinsic_dimension(X, 10, method=method)
    np.testing.assert_allclose(found, by_loop(X, X, 10, method), rtol=1e-10)
    np.testing.assert_array_equal(local_intrinsic_dimension(np.ones((9, 2)), 4, method=method), 0)
    tied = local_intrinsic_dimension(np.eye(9), 4, method=method)  # all at the same distance
    assert (tied > 1e14).all() and np.isfinite(tied).all()


def test_average_is_the_frechet_mean_in_the_fisher_rao_distance():
    def density(r, theta):  # of distances up to 1, where counts grow like r ** theta
        return theta * r ** (theta - 1)

    def information(theta):
        return quad(
            lambda r: (1 / theta + np.log(r)) ** 2 * density(r, theta), 0, 1, epsabs=1e-12
        )[0]

    def distance(first, second):
        return abs(quad(lambda theta: np.sqrt(information(theta)), first, second)[0])

    assert distance(2, 5) == pytest.approx(np.log(2.5), abs=1e-6)
    for lid in (0.5, 3.0):  # the penalty is the distance to dimension 1
        assert -mean_penalty(torch.tensor([lid]).log(), "l1") == pytest.approx(distance(1, lid))
    frechet = minimize_scalar(lambda m: distance(2, m) ** 2 + distance(8, m) ** 2, (3, 5))
    assert frechet.x == pytest.approx(4, abs=1e-4)
    X = normal(50, 3)
    lid = local_intrinsic_dimension(X, 8)
    frechet = minimize_scalar(lambda log_m: ((np.log(lid) - log_m) ** 2).sum())
    found = local_intrinsic_dimension(X, 8, average="geometric")
    assert found == pytest.approx(np.exp(frechet.x), rel=1e-6)
    mean = local_intrinsic_dimension(X, 8, average="arithmetic")
    assert mean == pytest.approx(lid.mean())


@METHODS
def test_torch_tensors_give_what_arrays_give(method):
    X, reference = normal(200, 12), normal(100, 12, seed=1)
    with config_context(array_api_dispatch=True):
        for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 2e-4)):
            tensors = torch.tensor(X, dtype=dtype), torch.tensor(reference, dtype=dtype)
            own = local_intrinsic_dimension(tensors[0], 15, method=method)
            other = local_intrinsic_dimension(tensors[0], 15, method=method, X_ref=tensors[1])
            column = LocalIntrinsicDimension(15, method=method).fit_transform(tensors[0])
            assert own.dtype == other.dtype == column.dtype == dtype
            expected = local_intrinsic_dimension(X, 15, method=method)
            np.testing.assert_allclose(own, expected, rtol=tolerance)
            np.testing.assert_allclose(column[:, 0], expected, rtol=tolerance)
            expected = local_intrinsic_dimension(X, 15, method=method, X_ref=reference)
            np.testing.assert_allclose(other, expected, rtol=tolerance)
            assert effective_rank(tensors[0]) == pytest.approx(effective_rank(X), rel=1e-4)


def test_transformer_gives_training_rows_their_own_dimension_and_new_ones_theirs():
    X, new = np.repeat(normal(50, 3), [1] * 40 + [2] * 10, axis=0), normal(20, 3, seed=1)
    model = LocalIntrinsicDimension(9).fit(X)
    np.testing.assert_array_equal(model.transform(X)[:, 0], local_intrinsic_dimension(X, 9))
    expected = local_intrinsic_dimension(new, 9, X_ref=X)
    np.testing.assert_array_equal(model.transform(new)[:, 0], expected)
    manhattan = LocalIntrinsicDimension(9, metric="manhattan").fit(X)
    assert not np.allclose(manhattan.transform(new), model.transform(new))
    few = LocalIntrinsicDimension(100).fit(X).transform(X)[:, 0]
    np.testing.assert_array_equal(few, local_intrinsic_dimension(X, 59))
    with pytest.raises(ValueError, match="two neighbours"):
        local_intrinsic_dimension(normal(2, 3))


def test_effective_rank_of_known_spectra():
    white = np.linalg.qr(normal(100, 6) - normal(100, 6).mean(0))[0]
    assert effective_rank(white - white.mean(0)) == pytest.approx(6, abs=0.1)
    basis = np.vstack([np.eye(4), -np.eye(4)])
    p = np.array([4, 2, 1, 1]) / 8
    expected = np.exp(-(p * np.log(p)).sum())
    assert effective_rank(basis * [4, 2, 1, 1] + 7) == pytest.approx(expected, rel=1e-12)
    assert effective_rank(np.linspace(0, 1, 9)[:, None] * np.ones(3)) == pytest.approx(1)
    assert effective_rank(np.full((5, 3), 0.1)) == 0


# The penalty.


@METHODS
@pytest.mark.parametrize("with_others", [False, True])
def test_dimensions_of_a_batch_are_those_of_the_estimators(method, with_others):
    X, others = normal(60, 5), normal(30, 5, seed=1)
    reference = np.vstack([X, others]) if with_others else X
    given = torch.tensor(others) if with_others else None
    found = batch_dimensions(torch.tensor(X), 12, method, given)
    np.testing.assert_allclose(found, by_loop(X, reference, 12, method), rtol=1e-8)
    doubled = torch.tensor(np.vstack([X, X]), dtype=torch.float32)
    expected = local_intrinsic_dimension(doubled.numpy(), 12, method=method)
    np.testing.assert_allclose(batch_dimensions(doubled, 12, method), expected, rtol=1e-3)


@METHODS
@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_gradient_is_that_of_finite_differences_with_the_reference_fixed(method, penalty):
    X, k, step = normal(15, 3), 6, 1e-6

    def value(queries):
        logs = np.log(by_loop(queries, X, k, method))
        return -np.abs(logs).mean() if penalty == "l1" else -np.sqrt((logs**2).mean())

    features = torch.tensor(X, requires_grad=True)
    result = ldreg_penalty(features, k, penalty=penalty, method=method)
    assert result.item() == pytest.approx(value(X), rel=1e-8)
    result.backward()
    expected = np.zeros_like(X)
    for index in np.ndindex(*X.shape):
        shift = np.zeros_like(X)
        shift[index] = step
        expected[index] = (value(X + shift) - value(X - shift)) / (2 * step)
    np.testing.assert_allclose(features.grad, expected, atol=1e-7)


def test_penalty_is_finite_where_rows_are_equal():
    for rows in (
        torch.ones(8, 3),
        torch.eye(8),
        torch.ones(8, 3).index_fill(0, torch.tensor([0]), 2),
    ):
        features = rows.clone().requires_grad_()
        for method in ("mom", "mle"):
            ldreg_penalty(features, 5, method=method).backward()
        assert torch.isfinite(features.grad).all()


def test_a_step_down_the_penalty_raises_the_dimension():
    thin = normal(100, 1) * np.ones(6) + 0.05 * normal(100, 6, seed=1)
    features = torch.tensor(thin, requires_grad=True)
    optimizer = torch.optim.Adam([features], lr=0.01)
    before = local_intrinsic_dimension(thin, 20, average="geometric")
    for _ in range(40):
        optimizer.zero_grad()
        ldreg_penalty(features, 20).backward()
        optimizer.step()
    after = local_intrinsic_dimension(features.detach().numpy(), 20, average="geometric")
    assert after > 1.25 * before


# Training.


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_contrastive_loss_is_the_cross_entropy_of_the_partner(temperature):
    Z1, Z2 = normal(6, 3), normal(6, 3, seed=1)
    Z = np.vstack([Z1, Z2])
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    losses = []
    for i in range(12):
        odds = np.exp([Z[i] @ Z[j] / temperature for j in range(12)])
        losses.append(-np.log(odds[(i + 6) % 12] / (odds.sum() - odds[i])))
    found = contrastive_loss(torch.tensor(Z1), torch.tensor(Z2), temperature)
    assert float(found) == pytest.approx(np.mean(losses), rel=1e-12)


@pytest.mark.parametrize("base_loss", ["simclr", "barlow_twins"])
def test_without_beta_it_is_the_base_method_bit_by_bit(base_loss):
    class Base(LDReg):
        _loss = SelfSupervisedTransformer._loss

    X = normal(90, 5).astype(np.float32)
    options = {**TINY, "max_epochs": 5, "batch_size": 32, "random_state": 0}
    ours = LDReg(**options, beta=0, warmup_epochs=0, base_loss=base_loss).fit(X)
    base = Base(**options, base_loss=base_loss).fit(X)
    assert ours.loss_curve_ == base.loss_curve_
    np.testing.assert_array_equal(ours.transform(X), base.transform(X))
    assert len(ours.lid_curve_) == 5
    if base_loss == "barlow_twins":
        twins = BarlowTwins(**options, lr=1e-3).fit(X)
        assert ours.loss_curve_ == twins.loss_curve_


def test_regulariser_sets_in_after_the_warm_up():
    X = normal(90, 5)
    options = {**TINY, "max_epochs": 4, "random_state": 0}
    without = LDReg(**options, beta=0).fit(X).loss_curve_
    late = LDReg(**options, beta=0.5, warmup_epochs=2).fit(X).loss_curve_
    assert late[:2] == without[:2] and late[2] < without[2] - 0.1


def test_target_of_byol_follows_without_gradient():
    X = normal(90, 5)
    options = {**TINY, "base_loss": "byol", "max_epochs": 4, "random_state": 0}
    still, moving, copy = (
        LDReg(**options, target_decay=decay).fit(X).module_ for decay in (1.0, 0.9, 0.0)
    )

    def gap(module):
        pairs = zip(module.target[0].parameters(), module.encoder.parameters())
        return sum(float((slow - fast).detach().norm()) for slow, fast in pairs)

    assert gap(still) > gap(moving) > gap(copy) > 0
    assert not any(p.requires_grad for p in moving.target.parameters())
    losses = LDReg(**{**options, "max_epochs": 20}).fit(X).loss_curve_
    assert losses[-1] < losses[0]


def test_what_is_fitted_is_what_the_estimators_say():
    X = normal(80, 5)
    for base_loss in ("simclr", "byol"):
        model = LDReg(**TINY, base_loss=base_loss, n_neighbors=10, max_epochs=3, random_state=0)
        E = model.fit(X).transform(X)
        expected = local_intrinsic_dimension(E, 10, method="mom")
        np.testing.assert_allclose(model.lid_, expected, rtol=1e-3)
        assert model.effective_rank_ == pytest.approx(effective_rank(E), rel=1e-4)
        assert len(model.lid_curve_) == 3
        assert len(model.partial_fit(X).lid_curve_) == 4
    with pytest.raises(ValueError, match="n_samples=2"):
        LDReg(**TINY).fit(X[:2])


# The claim.


@functools.cache
def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split(X / 16, y, train_size=0.6, random_state=0, stratify=y)


def fitted(beta, seed, **settings):
    return LDReg(beta=beta, random_state=seed, **settings).fit(digits()[0])


def figures(model):
    """Geometric mean of the local dimensions, effective rank, accuracy with 5 labels a class."""
    train, test, labels, answers = digits()
    embeddings, new = model.transform(train), model.transform(test)
    scores = []
    for draw in range(5):
        rng = np.random.default_rng(draw)
        rows = [rng.choice(np.flatnonzero(labels == c), 5, replace=False) for c in range(10)]
        rows = np.concatenate(rows)
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        scores.append(probe.fit(embeddings[rows], labels[rows]).score(new, answers))
    lid = local_intrinsic_dimension(embeddings, 32, method="mom", average="geometric")
    return lid, model.effective_rank_, np.mean(scores)


def test_the_penalty_raises_local_dimension_and_effective_rank():
    short = {"max_epochs": 12, "warmup_epochs": 2}
    without, with_penalty = (figures(fitted(beta, 0, **short)) for beta in (0, 1))
    assert with_penalty[0] >= 1.1 * without[0]
    assert with_penalty[1] >= 1.15 * without[1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_dimension_and_rank_grow_with_beta_and_little_of_it_costs_nothing(seed):
    lid, rank, accuracy = np.transpose([figures(fitted(b, seed)) for b in (0, 0.01, 0.1, 1)])
    assert (np.diff(lid) > 0).all() and (np.diff(rank) > 0).all()
    assert lid[2] >= 1.1 * lid[0] and rank[2] >= 1.2 * rank[0]
    assert accuracy[1] >= accuracy[0] - 0.01
