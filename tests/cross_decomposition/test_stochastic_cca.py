"""Eckart-Young losses: minima, gradients, bias; CCA and PLS by SGD; deep and self-supervised."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.cross_decomposition import CCA
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from skpapers.cross_decomposition import (
    CCASelfSupervised,
    DeepCCA,
    StochasticCCA,
    StochasticPLS,
    eckart_young_gep,
)
from skpapers.cross_decomposition._ey_descent import loss_and_gradients
from skpapers.cross_decomposition._gep import ey_loss
from skpapers.neural_network import build_module, jitter, resample_features


def gep(seed, n=20):
    rng = np.random.default_rng(seed)
    A, R = rng.normal(size=(n, n)), rng.normal(size=(n, n))
    return A + A.T, R @ R.T + np.eye(n)


def digit_halves():
    """Left and right half of each digit, constant columns dropped, standardised."""
    images = load_digits().data.reshape(-1, 8, 8)
    halves = [part.reshape(-1, 32) for part in (images[:, :, :4], images[:, :, 4:])]
    halves = [part[:, part.std(0) > 0] for part in halves]
    return [(part - part.mean(0)) / part.std(0, ddof=1) for part in halves]


def exact_correlations(X, Y, reg=0.0):
    """Regularised canonical correlations by whitening."""
    X, Y, n = X - X.mean(0), Y - Y.mean(0), len(X)
    roots = []
    for view in (X, Y):
        V = (1 - reg) * view.T @ view / (n - 1) + reg * np.eye(view.shape[1])
        roots.append(np.linalg.inv(scipy.linalg.sqrtm(V).real))
    return np.linalg.svd(roots[0] @ (X.T @ Y / (n - 1)) @ roots[1], compute_uv=False)


def planted(n_samples=20_000, n_features=200, seed=0):
    rng = np.random.default_rng(seed)
    rho, X, Y = np.linspace(0.9, 0.5, 5), *rng.normal(size=(2, n_samples, n_features))
    Y[:, :5] = rho * X[:, :5] + np.sqrt(1 - rho**2) * Y[:, :5]
    turn = [np.linalg.qr(rng.normal(size=(n_features, n_features)))[0] for _ in range(2)]
    return X @ turn[0], Y @ turn[1]


# The loss.


def test_every_start_reaches_the_top_eigenvectors():
    A, B = gep(0)
    eigenvalues, vectors = scipy.linalg.eigh(A, B)
    minimum = -np.sum(np.clip(eigenvalues[::-1][:4], 0, None) ** 2)
    root = scipy.linalg.sqrtm(B).real
    for seed in range(10):
        U, value = eckart_young_gep(A, B, 4, random_state=seed)
        assert value == pytest.approx(minimum, abs=1e-8)
        angles = scipy.linalg.subspace_angles(root @ U, root @ vectors[:, ::-1][:, :4])
        assert angles.max() < 1e-4
        np.testing.assert_allclose(U.T @ B @ U, np.diag(eigenvalues[::-1][:4]), atol=1e-5)


def test_negative_eigenvalues_do_not_count():
    U, value = eckart_young_gep(np.diag([1.0, -1.0, -5.0]), np.eye(3), 2)
    assert value == pytest.approx(-1, abs=1e-10)
    np.testing.assert_allclose(U[:, 1], 0, atol=1e-4)


@pytest.mark.parametrize("reg", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n_views", [2, 3, 4])
@pytest.mark.parametrize("auto_terms", [True, False])
@pytest.mark.parametrize("n_batches", [1, 2])
def test_gradient_equals_finite_differences(reg, n_views, auto_terms, n_batches):
    rng = np.random.default_rng(0)
    widths, k = [4, 3, 5, 2][:n_views], 2
    batches = [[rng.normal(size=(9, p)) for p in widths] for _ in range(n_batches)]
    cuts = np.cumsum(np.array(widths) * k)[:-1]
    options = {"reg": reg, "auto_terms": auto_terms}

    def split(flat):
        return [part.reshape(-1, k) for part in np.split(flat, cuts)]

    def value(flat):
        W = split(flat)
        embeddings = [[X @ w for X, w in zip(batch, W)] for batch in batches]
        return ey_loss(embeddings[0], W, second=embeddings[-1], **options)

    flat = rng.normal(size=k * sum(widths))
    loss, gradients = loss_and_gradients(batches, split(flat), **options)
    assert loss == pytest.approx(value(flat), rel=1e-12)
    numeric = np.array(
        [(value(flat + 1e-5 * e) - value(flat - 1e-5 * e)) / 2e-5 for e in np.eye(len(flat))]
    )
    found = np.concatenate([g.ravel() for g in gradients])
    assert np.linalg.norm(found - numeric) < 1e-6 * np.linalg.norm(numeric)


def test_minimum_of_the_loss_of_two_views_is_minus_the_squared_correlations():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(2, 50, 4))
    Y = Y + X
    rho = exact_correlations(X, Y)[:2]
    model = StochasticCCA(2, batch_size=None, max_epochs=2000, scale=False, random_state=0)
    model.set_params(auto_terms=False).fit(X, Y)
    assert model.loss_curve_[-1] == pytest.approx(-np.sum(rho**2), rel=1e-6)
    model.set_params(auto_terms=True).fit(X, Y)
    # (C + V) / 2 and V / 2 in place of C and V: eigenvalues 1 + rho
    assert model.loss_curve_[-1] == pytest.approx(-np.sum((1 + rho) ** 2), rel=1e-6)


def test_arrays_and_tensors_have_the_same_loss():
    rng = np.random.default_rng(0)
    Z = [rng.normal(size=(20, 3)) for _ in range(3)]
    expected = ey_loss(Z)
    assert float(ey_loss([torch.tensor(z) for z in Z])) == pytest.approx(expected, rel=1e-12)


def test_two_batches_are_unbiased_and_one_is_not():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(2, 400, 3))
    Z = [X, X + Y]
    full = ey_loss(Z)
    pairs, singles = [], []
    for _ in range(5000):
        b, c = (rng.choice(400, 16, replace=False) for _ in range(2))
        pairs.append(ey_loss([z[b] for z in Z], second=[z[c] for z in Z]))
        singles.append(ey_loss([z[b] for z in Z]))

    def z_score(draws):
        return (np.mean(draws) - full) / (np.std(draws) / np.sqrt(len(draws)))

    assert abs(z_score(pairs)) < 3.5
    assert z_score(singles) > 5


# Linear CCA and PLS.


def test_full_batches_reach_exact_cca():
    X, Y = digit_halves()
    model = StochasticCCA(5, reg=1e-3, batch_size=None, max_epochs=500, random_state=0).fit(X, Y)
    exact = exact_correlations(X, Y, 1e-3)[:5]
    np.testing.assert_allclose(model.correlations_, exact, atol=1e-6)
    variates = model.transform(X, Y)
    for Z in variates:
        np.testing.assert_allclose(Z.std(0, ddof=1), 1, rtol=1e-9)
    assert model.score(X, Y) == pytest.approx(exact.mean(), abs=1e-3)


def test_full_batches_reach_exact_pls():
    X, Y = digit_halves()
    model = StochasticPLS(5, batch_size=None, max_epochs=200, random_state=0).fit(X, Y)
    U, exact, _ = np.linalg.svd(X.T @ Y / (len(X) - 1))
    np.testing.assert_allclose(model.covariances_, exact[:5], rtol=1e-6)
    np.testing.assert_allclose(model.x_weights_.T @ model.x_weights_, np.eye(5), atol=1e-9)
    np.testing.assert_allclose(abs(np.sum(model.x_weights_ * U[:, :5], axis=0)), 1, atol=1e-5)


def test_variates_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(2, 300, 5))
    Y[:, :2] += 2 * X[:, :2] * [1, 0.5]
    ours = StochasticCCA(2, batch_size=None, max_epochs=1000, random_state=0).fit(X, Y)
    theirs = CCA(2, tol=1e-12, max_iter=10_000).fit(X, Y)
    for Z, T in zip(ours.transform(X, Y), theirs.transform(X, Y)):
        correlations = [abs(np.corrcoef(Z[:, k], T[:, k])[0, 1]) for k in range(2)]
        np.testing.assert_allclose(correlations, 1, atol=1e-6)
    design = np.column_stack([theirs.transform(X), np.ones(len(X))])
    expected = design @ np.linalg.lstsq(design, Y)[0]
    np.testing.assert_allclose(ours.predict(X), expected, atol=1e-4)


def test_one_small_pass_captures_the_planted_correlations():
    X, Y = planted(n_samples=8000, n_features=50)
    exact = exact_correlations(X, Y)[:5].sum()
    model = StochasticCCA(5, max_epochs=5, batch_size=100, random_state=0).fit(X, Y)
    assert model.correlations_.sum() >= 0.98 * exact


def test_mini_batches_capture_the_correlations():
    X, Y = planted()
    exact = exact_correlations(X, Y)[:5].sum()
    for seed in range(3):
        model = StochasticCCA(5, max_epochs=5, batch_size=100, random_state=seed).fit(X, Y)
        assert model.correlations_.sum() >= 0.98 * exact


def test_three_views_have_the_eigenvalues_of_multiview_cca():
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(500, 2))
    views = [latent @ rng.normal(size=(2, p)) + rng.normal(size=(500, p)) for p in (4, 5, 3)]
    model = StochasticCCA(2, batch_size=None, max_epochs=2000, random_state=0).fit_views(views)
    joint = np.cov(np.hstack(views).T)
    B = scipy.linalg.block_diag(*(np.cov(view.T) for view in views))
    expected = scipy.linalg.eigh(joint - B, B, eigvals_only=True)[::-1][:2] / 2
    np.testing.assert_allclose(model.correlations_, expected, atol=1e-6)
    assert [Z.shape for Z in model.transform_views(views)] == [(500, 2)] * 3


def test_chunks_that_stream_by():
    X, Y = planted(n_samples=6000, n_features=30)
    exact = exact_correlations(X, Y)[:5].sum()
    model = StochasticCCA(5, batch_size=100, random_state=0)
    for _ in range(2):
        for rows in np.array_split(np.arange(6000), 6):
            model.partial_fit(X[rows] * 100 + 7, Y[rows])
    assert 5 * model.score(X * 100 + 7, Y) >= 0.97 * exact
    constant = np.full((6000, 1), 0.1)
    model = StochasticCCA(1, random_state=0).partial_fit(np.hstack([X, constant]), Y)
    assert abs(model.x_weights_[-1, 0]) < 1  # rounding errors of a constant are not scaled up
    model = StochasticCCA(5, random_state=0).partial_fit(X, Y)
    with pytest.raises(ValueError, match="more than 50 rows"):
        model.partial_fit(X[:50], Y[:50])


def test_adam_and_one_batch_work_too():
    X, Y = planted(n_samples=4000, n_features=20)
    exact = exact_correlations(X, Y)[:5].sum()
    for params in ({"optimizer": "adam"}, {"two_batches": False}, {"auto_terms": False}):
        model = StochasticCCA(5, max_epochs=10, random_state=0, **params).fit(X, Y)
        assert model.correlations_.sum() >= 0.98 * exact, params


def test_reconstruction_is_the_least_squares_one():
    X, Y = planted(n_samples=500, n_features=6)
    model = StochasticCCA(3, max_epochs=5, random_state=0).fit(X, Y)
    Z, back = model.transform(X), model.inverse_transform(model.transform(X))
    design = np.column_stack([Z, np.ones(len(Z))])
    np.testing.assert_allclose(back, design @ np.linalg.lstsq(design, X)[0], atol=1e-8)


def test_degenerate_views_are_refused_or_capped():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), rng.normal(size=60)
    with pytest.raises(ValueError, match="no variance"):
        StochasticCCA().fit(X, np.ones(60))
    model = StochasticCCA(3, max_epochs=300, random_state=0).fit(np.hstack([X, X[:, :1]]), y)
    assert model.n_components_ == 1 and model.predict(np.hstack([X, X[:, :1]])).shape == (60,)
    fit = np.linalg.lstsq(X - X.mean(0), y - y.mean())[0]
    multiple = np.corrcoef((X - X.mean(0)) @ fit, y)[0, 1]
    assert model.correlations_[0] == pytest.approx(multiple, abs=1e-6)
    with pytest.raises(ValueError, match="diverged"):
        StochasticCCA(2, lr=1e3, random_state=0).fit(X, X + 1)


def test_the_linear_estimators_do_not_import_torch():
    code = (
        "import sys; from skpapers.cross_decomposition import StochasticCCA; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Networks.


def spiral(seed, n_samples=3000):
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, 4 * np.pi, n_samples)
    x = np.column_stack([t * np.cos(t), t * np.sin(t)]) + 0.1 * rng.normal(size=(n_samples, 2))
    views = [x, np.column_stack([t, t**2])]
    views = [np.hstack([view, rng.normal(size=(n_samples, 10))]) for view in views]
    return [view.astype(np.float32) for view in views]


def deep_and_linear(seed, sizes, **params):
    (X, X_test), (Y, Y_test) = (np.split(view, [2000]) for view in spiral(seed))
    deep = DeepCCA(2, hidden_layer_sizes=sizes, random_state=seed, **params)
    linear = StochasticCCA(2, max_epochs=20, random_state=seed)
    return [2 * model.fit(X, Y).score(X_test, Y_test) for model in (deep, linear)]


def test_networks_find_what_linear_maps_cannot():
    deep, linear = deep_and_linear(0, (64, 64), max_epochs=15, lr=5e-3)
    assert deep > linear + 0.7


@pytest.mark.slow
def test_deep_cca_gains_more_than_one_in_total_correlation():
    for seed in range(2):
        deep, linear = deep_and_linear(seed, (128, 128))
        assert deep > linear + 1.0


def test_deep_variates_are_ordered_uncorrelated_and_of_unit_variance():
    X, Y = spiral(0, 400)
    model = DeepCCA(3, hidden_layer_sizes=(16,), max_epochs=5, random_state=0).fit(X, Y)
    Z = model.transform(X, Y)
    for variates in Z:
        np.testing.assert_allclose(np.cov(variates.T), np.eye(3), atol=2e-3)
    between = [np.corrcoef(Z[0][:, k], Z[1][:, k])[0, 1] for k in range(3)]
    np.testing.assert_allclose(between, model.correlations_, atol=1e-3)
    assert (np.diff(model.correlations_) <= 0).all()
    views = [*spiral(0, 400), X[:, :4]]
    three = DeepCCA(2, hidden_layer_sizes=(8,), max_epochs=2, random_state=0).fit_views(views)
    assert [z.shape for z in three.transform_views(views)] == [(400, 2)] * 3


def embedding_scores(seed, max_epochs):
    """Accuracy with five labels a class: embedding, pixels, untrained encoder; and the model."""
    X, y = load_digits(return_X_y=True)
    X, order = (X / 16).astype(np.float32), np.random.default_rng(seed).permutation(len(X))
    train, test = order[:1200], order[1200:]
    model = CCASelfSupervised(max_epochs=max_epochs, random_state=seed).fit(X[train])
    generator = torch.Generator().manual_seed(seed)
    untrained = build_module(model._make_module, generator).encoder.eval()
    labelled = np.concatenate([train[y[train] == c][:5] for c in range(10)])
    scores = []

    def from_untrained(X):
        return untrained(torch.tensor(X)).detach().numpy()

    for embed in (model.transform, np.asarray, from_untrained):
        probe = LogisticRegression(max_iter=2000).fit(embed(X[labelled]), y[labelled])
        scores.append(probe.score(embed(X[test]), y[test]))
    return scores, model, X[test]


def cosines(model, X):
    """Mean cosine of the features of two views of one row, and of two different rows."""
    generator = torch.Generator().manual_seed(0)
    F = []
    for _ in range(2):
        view = jitter(resample_features(torch.tensor(X), generator, 0.3), generator).numpy()
        features = model.transform(view)
        F.append(features / np.linalg.norm(features, axis=1, keepdims=True))
    other = np.roll(F[1], 1, axis=0)
    return [np.mean(np.sum(F[0] * second, axis=1)) for second in (F[1], other)]


def test_a_few_epochs_of_self_supervision_help():
    (trained, raw, untrained), model, X = embedding_scores(0, 15)
    assert trained > raw - 0.03 and trained > untrained
    same, different = cosines(model, X)
    assert same > different + 0.2


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_self_supervision_by_cca_keeps_what_few_labels_need():
    runs = [embedding_scores(seed, 100) for seed in range(3)]
    trained, raw, untrained = np.mean([scores for scores, _, _ in runs], axis=0)
    assert trained >= raw - 0.02
    assert trained > untrained + 0.07
    same, different = cosines(*runs[0][1:])
    assert same > 0.7 and different < 0.45
