"""Barlow Twins: the loss, its invariances, LARS, distortions, and few labels on digits."""

import functools
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpapers.neural_network import cross_correlation, get_registry
from skpapers.neural_network._data import even_sizes
from skpapers.representation import (
    LARS,
    BarlowTwins,
    barlow_twins_loss,
    image_affine,
    jitter,
    mask_features,
    resample_features,
)

TINY = {"n_components": 8, "hidden_layer_sizes": (16,), "projector_sizes": (16, 8)}


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def reference_loss(Z1, Z2, lambd, eps=1e-5):
    """Equation 1 of the paper, entry by entry."""
    Z1, Z2 = ((Z - Z.mean(0)) / np.sqrt(Z.var(0) + eps) for Z in (Z1.numpy(), Z2.numpy()))
    n_components = Z1.shape[1]
    C = [[(Z1[:, i] * Z2[:, j]).mean() for j in range(n_components)] for i in range(n_components)]
    pairs = [(i, j) for i in range(n_components) for j in range(n_components)]
    return sum((1 - C[i][j]) ** 2 if i == j else lambd * C[i][j] ** 2 for i, j in pairs)


@pytest.mark.parametrize("lambd", [0.0, 5e-3, 1.0])
def test_loss_is_that_of_the_paper(lambd):
    Z1, Z2 = normal(40, 7), normal(40, 7, seed=1) + normal(40, 7)
    expected = reference_loss(Z1, Z2, lambd)
    assert float(barlow_twins_loss(Z1, Z2, lambd=lambd)) == pytest.approx(expected, abs=1e-10)


def test_loss_is_zero_for_white_embeddings_and_only_there():
    Z = normal(5000, 10)
    white = torch.linalg.qr(Z - Z.mean(0))[0] * 5000**0.5
    assert 0 <= float(barlow_twins_loss(white, white)) < 1e-6
    assert float(barlow_twins_loss(white, white, eps=0.0)) < 1e-15
    turned = white @ torch.linalg.qr(normal(10, 10))[0]
    assert float(barlow_twins_loss(white, turned)) > 1
    assert float(barlow_twins_loss(white, white + 0.1 * Z.roll(1, 1))) > 1e-5


def test_collapse_costs_one_a_component():
    constant = torch.full((50, 6), 0.1, dtype=torch.float64)
    assert float(barlow_twins_loss(constant, constant)) == 6
    assert float(barlow_twins_loss(normal(50, 6), constant)) == 6


def test_loss_is_invariant():
    Z1, Z2 = normal(40, 7), normal(40, 7, seed=1) + normal(40, 7)
    loss = functools.partial(barlow_twins_loss, lambd=0.3)
    rows, columns = torch.randperm(40), torch.randperm(7)
    signs = torch.tensor([1.0, -1, 1, 1, -1, -1, 1], dtype=torch.float64)
    same = [
        (Z2, Z1),
        (Z1[rows], Z2[rows]),
        (Z1[:, columns], Z2[:, columns]),
        (Z1 * signs, Z2 * signs),
        (Z1 + 3 * signs, Z2 - signs),
    ]
    for first, second in same:
        assert float(loss(first, second)) == pytest.approx(float(loss(Z1, Z2)), abs=1e-10)
    scales = torch.linspace(1, 9, 7, dtype=torch.float64)
    exact = functools.partial(loss, eps=0.0)
    assert float(exact(Z1 * scales, Z2)) == pytest.approx(float(exact(Z1, Z2)), abs=1e-10)
    Z1, Z2 = (Z / Z.std(0, correction=0) for Z in (Z1, Z2))
    assert float(loss(Z1 * scales, Z2)) == pytest.approx(float(loss(Z1, Z2)), rel=1e-4)


def test_gradient_equals_finite_differences():
    Z1, Z2 = normal(12, 4).requires_grad_(), normal(12, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: barlow_twins_loss(a, b, lambd=0.1), (Z1, Z2))


def test_embeddings_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        barlow_twins_loss(normal(5, 2), normal(6, 2))


def _worker(rank, address, Z1, Z2, results):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    rows = slice(0, 10) if rank == 0 else slice(10, None)
    own = Z1[rows].clone().requires_grad_()
    loss = barlow_twins_loss(own, Z2[rows])
    loss.backward()
    results[rank] = loss.item(), own.grad.tolist()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_workers_compute_what_one_does(tmp_path):
    Z1, Z2 = normal(30, 4).requires_grad_(), normal(30, 4, seed=1)
    loss = barlow_twins_loss(Z1, Z2)
    loss.backward()
    with torch.multiprocessing.Manager() as manager:
        results = manager.dict()
        args = (f"file://{tmp_path}/rendezvous", Z1.detach(), Z2, results)
        torch.multiprocessing.spawn(_worker, args, nprocs=2)
        found = dict(results)
    assert [found[rank][0] for rank in (0, 1)] == pytest.approx([loss.item()] * 2, rel=1e-12)
    # Each worker holds the gradient of the sum of both losses; the mean over workers halves it.
    gradient = np.concatenate([found[0][1], found[1][1]]) / 2
    np.testing.assert_allclose(gradient, Z1.grad, rtol=1e-8, atol=1e-12)


# LARS.


def test_lars_follows_a_trajectory_computed_by_hand():
    start, bias = np.array([[3.0, 4.0]]), np.array([1.0])
    gradients = [np.array([[0.6, 0.0]]), np.array([[0.0, -2.0]])]
    weight, momentum, velocity, bias_velocity = start.copy(), 0.9, 0.0, 0.0
    parameters = [torch.nn.Parameter(torch.tensor(x)) for x in (start, bias)]
    optimizer = LARS(parameters, lr=0.5, weight_decay=0.1, trust_coefficient=0.01)
    for gradient in gradients:
        decayed = gradient + 0.1 * weight
        ratio = 0.01 * np.sqrt((weight**2).sum()) / np.sqrt((decayed**2).sum())
        velocity = momentum * velocity + ratio * decayed
        weight = weight - 0.5 * velocity
        bias_velocity = momentum * bias_velocity + 2.0  # no ratio, no decay
        bias = bias - 0.5 * bias_velocity
        parameters[0].grad, parameters[1].grad = (
            torch.tensor(gradient),
            torch.tensor([2.0]).double(),
        )
        optimizer.step()
        np.testing.assert_allclose(parameters[0].detach(), weight, rtol=1e-14)
        np.testing.assert_allclose(parameters[1].detach(), bias, rtol=1e-14)


def test_lars_without_trust_ratio_is_momentum_sgd():
    def trajectory(make):
        parameters = [torch.nn.Parameter(normal(3, 2)), torch.nn.Parameter(normal(2, seed=1))]
        optimizer = make(parameters)
        for step in range(5):
            optimizer.zero_grad()
            (normal(4, 3, seed=step) @ parameters[0] + parameters[1]).square().sum().backward()
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in parameters])

    expected = trajectory(lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9))
    found = trajectory(lambda p: LARS(p, lr=0.01, trust_coefficient=None))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_lars_moves_weights_of_zero():
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.ones(2, 2)
    LARS([weight], lr=0.5).step()
    assert torch.equal(weight.detach(), torch.full((2, 2), -0.5))
    weight.grad = torch.zeros(2, 2)
    LARS([weight], lr=0.5).step()
    assert torch.equal(weight.detach(), torch.full((2, 2), -0.5))


def test_lars_is_an_optimizer_by_name_with_warm_up_and_cosine():
    assert get_registry("optimizer").resolve("lars") is LARS
    X = normal(64, 4).numpy()
    rates = []

    class Recorded(BarlowTwins):
        def _on_epoch_begin(self, module, epoch):
            rates.append([group["lr"] for group in self.net_.optimizer_.param_groups][0])

    model = Recorded(**TINY, optimizer="lars", batch_size=64, max_epochs=30, random_state=0)
    model.fit(X)
    assert int(np.argmax(rates)) == 10
    assert max(rates) == pytest.approx(0.2 * 64 / 256)
    assert rates[-1] == pytest.approx(1e-3 * 0.2 * 64 / 256)
    vectors = [group["params"][0].ndim == 1 for group in model.net_.optimizer_.param_groups]
    assert isinstance(model.net_.optimizer_, LARS) and any(vectors)
    assert model.net_.optimizer_.param_groups[0]["vector_lr_scale"] == pytest.approx(0.024)


# Distortions.


def test_resampled_entries_keep_the_marginals_and_the_share():
    generator = torch.Generator().manual_seed(0)
    X = torch.stack([torch.arange(4000.0), torch.arange(4000.0) + 1e4], dim=1)
    distorted = resample_features(X, generator, p=0.3)
    changed = (distorted != X).float().mean(0)
    np.testing.assert_allclose(changed, 0.3, atol=0.03)
    assert bool((distorted[:, 0] < 4000).all()) and bool((distorted[:, 1] >= 1e4).all())
    np.testing.assert_allclose(distorted.mean(0), X.mean(0), atol=70)
    assert torch.equal(resample_features(X, generator, p=0.0), X)
    assert bool((resample_features(X, generator, 1.0, reference=torch.ones(3, 2)) == 1).all())


def test_masks_and_jitter_have_the_stated_size():
    generator = torch.Generator().manual_seed(0)
    X = normal(4000, 3) * torch.tensor([1.0, 10.0, 0.0], dtype=torch.float64) + 5
    masked = mask_features(X, generator, p=0.2, value=-1.0)
    np.testing.assert_allclose((masked == -1).double().mean(0), 0.2, atol=0.03)
    spread = (jitter(X, generator, 0.1) - X).std(0)
    np.testing.assert_allclose(spread, [0.1, 1.0, 0.0], rtol=0.05)


def test_image_affine_moves_images_as_told():
    generator = torch.Generator().manual_seed(0)
    images = normal(5, 2, 8, 8)
    still = {"rotation": 0.0, "scale": 0.0, "shift": 0.0, "noise": 0.0}
    same = image_affine(images, generator, **still)
    torch.testing.assert_close(same, images, rtol=0, atol=1e-12)
    flat = image_affine(images.flatten(1), generator, (2, 8, 8), **still)
    torch.testing.assert_close(flat, images.flatten(1), rtol=0, atol=1e-12)
    axis = (torch.arange(32.0) - 15.5).square()
    disc = ((axis[:, None] + axis) < 64).float()[None, None]
    turned = image_affine(disc, generator, rotation=3.0, scale=0.0, shift=0.0, noise=0.0)
    assert float((turned - disc).abs().mean()) < 0.03
    with pytest.raises(ValueError, match="image_shape"):
        image_affine(images.flatten(1), generator)


def test_batches_differ_by_one_row_at_most():
    for n_rows, batch_size in [(1078, 256), (300, 256), (5, 1), (2, 256), (257, 128), (10, None)]:
        sizes = even_sizes(n_rows, batch_size)
        assert sum(sizes) == n_rows and max(sizes) - min(sizes) <= 1 and min(sizes) >= 2


# The estimator.


def test_a_row_is_embedded_alike_whatever_its_batch():
    X = normal(60, 5).numpy()
    model = BarlowTwins(**TINY, max_epochs=3, random_state=0).fit(X)
    whole = model.transform(X)
    assert whole.dtype == np.float64 and model.transform(X.astype(np.float32)).dtype == np.float32
    np.testing.assert_array_equal(whole, model.transform(X))
    alone = np.concatenate([model.transform(X[i : i + 1]) for i in range(60)])
    np.testing.assert_allclose(alone, whole, rtol=1e-9, atol=1e-12)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.transform(X), whole)
    np.testing.assert_array_equal(copy.project(X), model.project(X))
    assert model.project(X).shape == (60, 8) and not model.module_.training


def test_it_is_searched_over_in_a_pipeline():
    X, y = normal(60, 5).numpy(), np.arange(60) % 2
    model = BarlowTwins(**TINY, max_epochs=2, random_state=0)
    pipeline = make_pipeline(StandardScaler(), model, LogisticRegression())
    search = GridSearchCV(pipeline, {"barlowtwins__corruption": [0.1, 0.5]}, cv=2)
    assert np.isfinite(search.fit(X, y).best_score_)


def test_given_pairs_replace_the_distortions():
    rng = np.random.default_rng(0)
    shared, noise = rng.normal(size=(400, 1)), rng.normal(size=(2, 400, 5))
    first, second = np.hstack([shared, noise[0]]), np.hstack([shared, noise[1]])
    model = BarlowTwins(1, hidden_layer_sizes=(), projector_sizes=(), random_state=0, lr=0.05)
    embedding = model.fit(first, X_pair=second).transform(first)[:, 0]
    assert abs(np.corrcoef(embedding, shared[:, 0])[0, 1]) > 0.98  # what both views share
    with pytest.raises(ValueError, match="X_pair"):
        clone(model).fit(first, X_pair=second[:10])


def test_functions_as_distortions():
    X = normal(80, 5, dtype=torch.float32).numpy()

    def shifted(X, rng):
        return X + rng.normal(scale=0.1, size=X.shape)

    one = BarlowTwins(**TINY, augmentation=shifted, max_epochs=3, random_state=0).fit(X)
    two = BarlowTwins(**TINY, augmentation=(shifted, shifted), max_epochs=3, random_state=0).fit(X)
    np.testing.assert_array_equal(one.transform(X), two.transform(X))
    with pytest.raises(ValueError, match="keep the shape"):
        clone(one).set_params(augmentation=lambda X, rng: X[:, :2]).fit(X)


def test_an_encoder_of_your_own_takes_images():
    X = normal(40, 1, 8, 8, dtype=torch.float32).numpy()
    encoder = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.Flatten())
    model = BarlowTwins(
        encoder=encoder, augmentation="image_affine", projector_sizes=(8,), max_epochs=2
    )
    assert model.fit_transform(X).shape == (40, 3 * 6 * 6)
    with pytest.raises(ValueError, match="rows of shape"):
        model.transform(X[:, :, :4])


def test_one_row_is_refused_and_rows_below_the_batch_size_make_one_batch():
    with pytest.raises(ValueError, match="n_samples=1"):
        BarlowTwins(**TINY).fit(np.ones((1, 3)))
    model = BarlowTwins(**TINY, max_epochs=1, random_state=0).fit(np.eye(3))
    assert np.isfinite(model.transform(np.eye(3))).all()


def test_partial_fit_and_early_stopping():
    X = normal(100, 5).numpy()
    model = BarlowTwins(**TINY, random_state=0).partial_fit(X).partial_fit(X)
    assert model.n_iter_ == 2 and np.isfinite(model.transform(X)).all()
    stopped = BarlowTwins(**TINY, max_epochs=20, early_stopping=True, random_state=0).fit(X)
    assert len(stopped.validation_scores_) == stopped.n_iter_ >= stopped.best_iter_


# The claim.


@functools.cache
def digits():
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    return train_test_split(X, y, train_size=0.6, random_state=0, stratify=y)


@functools.cache
def fitted(lambd, max_epochs, augmentation="resample"):
    model = BarlowTwins(
        lambd=lambd,
        augmentation=augmentation,
        image_shape=(8, 8),
        max_epochs=max_epochs,
        random_state=0,
    )
    return model.fit(digits()[0])


def few_label_accuracy(embed, n_labels, n_draws=5):
    train, test, y_train, y_test = digits()
    train, test, scores = embed(train), embed(test), []
    for draw in range(n_draws):
        rng = np.random.default_rng(draw)
        labelled = np.concatenate(
            [rng.choice(np.flatnonzero(y_train == c), n_labels, replace=False) for c in range(10)]
        )
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        scores.append(probe.fit(train[labelled], y_train[labelled]).score(test, y_test))
    return np.mean(scores)


def mean_off_diagonal(model):
    """Redundancy of the projections of two views of the training rows."""
    X = torch.tensor(digits()[0])
    generator = torch.Generator().manual_seed(7)
    views = [model.project(resample_features(X, generator).numpy()) for _ in range(2)]
    C = cross_correlation(*map(torch.tensor, views)).abs()
    return float((C.sum() - C.diagonal().sum()) / (C.numel() - len(C)))


def test_a_few_epochs_without_labels_save_labels():
    model = fitted(5e-3, 12)
    for n_labels, margin in ((1, 0.06), (2, 0.04)):
        raw = few_label_accuracy(np.asarray, n_labels)
        assert few_label_accuracy(model.transform, n_labels) > raw + margin


@pytest.mark.slow
def test_lambda_trades_redundancy():
    assert mean_off_diagonal(fitted(5e-3, 60)) < 0.5 * mean_off_diagonal(fitted(0.0, 60))


@pytest.mark.slow
@pytest.mark.parametrize("augmentation", ["resample", "image_affine"])
def test_embedding_needs_fewer_labels_than_pixels(augmentation):
    model = fitted(5e-3, 100, augmentation)
    for n_labels, margin in ((1, 0.08), (2, 0.08), (10, 0.02)):
        raw = few_label_accuracy(np.asarray, n_labels)
        assert few_label_accuracy(model.transform, n_labels) >= raw + margin, n_labels


@pytest.mark.slow
def test_decorrelation_helps_with_one_label_a_class():
    ours, without = (few_label_accuracy(fitted(v, 60).transform, 1) for v in (5e-3, 0.0))
    assert ours > without
