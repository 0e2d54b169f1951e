import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn import config_context
from sklearn.cross_decomposition import CCA
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from skpapers.cross_decomposition import (
    SVCCA,
    fourier_svcca,
    pwcca_similarity,
    svcca_similarity,
)


def _views(seed=0, n=300, p=12, q=8, shared=4):
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, shared))
    X = latent @ rng.normal(size=(shared, p)) + rng.normal(size=(n, p))
    Y = latent @ rng.normal(size=(shared, q)) + rng.normal(size=(n, q))
    return X + 3, Y - 1


def _layers(seed, n=2000, p=200, k=20, noise=0.05):
    """Two layers that share k strong directions, and noise of the shape of one."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, k))
    views = [latent @ rng.normal(size=(k, p)) + noise * rng.normal(size=(n, p)) for _ in "XY"]
    return *views, rng.normal(size=(n, p))


def test_plain_cca_is_invariant_to_affine_maps():
    rng = np.random.default_rng(1)
    X, Y = _views()
    B, C = rng.normal(size=(12, 12)), rng.normal(size=(8, 8))
    assert svcca_similarity(X, X @ B + 5, variance_threshold=1.0) == pytest.approx(1, abs=1e-8)
    direct = svcca_similarity(X, Y, variance_threshold=1.0)
    assert svcca_similarity(X @ B, Y @ C, variance_threshold=1.0) == pytest.approx(
        direct, abs=1e-8
    )
    assert 0.2 < direct < 0.9


@pytest.mark.parametrize("solver", ["auto", "full"])
def test_truncated_svcca_is_invariant_to_rotation_and_scale(solver):
    rng = np.random.default_rng(2)
    X, Y = _views()
    Q, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    direct = svcca_similarity(X, Y, variance_threshold=0.9, svd_solver=solver)
    turned = svcca_similarity(7 * X @ Q, Y / 9, variance_threshold=0.9, svd_solver=solver)
    assert turned == pytest.approx(direct, abs=1e-10)


@pytest.mark.parametrize("solver", ["auto", "full", "covariance_eigh", "randomized"])
@pytest.mark.parametrize("threshold", [1.0, 0.9, 5])
def test_correlations_are_cosines_of_principal_angles(solver, threshold):
    X, Y = _views()
    model = SVCCA(variance_threshold=threshold, svd_solver=solver, random_state=0).fit(X, Y)
    bases = []
    for view, k in ((X, model.x_intrinsic_dim_), (Y, model.y_intrinsic_dim_)):
        bases.append(np.linalg.svd(view - view.mean(0), full_matrices=False)[0][:, :k])
    expected = np.sort(np.cos(subspace_angles(*bases)))[::-1]
    np.testing.assert_allclose(model.correlations_, expected, atol=1e-10)
    assert model.similarity_ == pytest.approx(expected.mean(), abs=1e-10)
    assert np.all(np.diff(model.correlations_) <= 0) and expected[-1] >= 0
    swapped = SVCCA(variance_threshold=threshold, svd_solver=solver, random_state=0).fit(Y, X)
    np.testing.assert_allclose(swapped.correlations_, expected, atol=1e-10)


def test_threshold_is_a_share_of_the_squared_singular_values():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(50, 4))
    U, _ = np.linalg.qr(A - A.mean(0))
    X = U * np.array([3.0, 2.0, 1.0, 1e-14])  # squares 9, 4, 1: shares 0.643, 0.929, 1
    Y = rng.normal(size=50)
    for threshold, k in ((0.64, 1), (0.65, 2), (0.92, 2), (0.93, 3), (1.0, 3), (2, 2), (9, 3)):
        assert SVCCA(variance_threshold=threshold).fit(X, Y).x_intrinsic_dim_ == k


def test_one_target_gives_the_multiple_correlation():
    X, y = load_breast_cancer(return_X_y=True)
    model = SVCCA(variance_threshold=1.0).fit(X, y)
    r2 = LinearRegression().fit(X, y).score(X, y)
    assert model.correlations_ == pytest.approx([np.sqrt(r2)], abs=1e-8)


def test_variates_are_uncorrelated_between_pairs():
    X, Y = _views()
    model = SVCCA(variance_threshold=0.95).fit(X, Y)
    x_scores, y_scores = model.transform(X, Y)
    k = model.n_components_
    joint = np.cov(x_scores, y_scores, rowvar=False)
    rho = np.diag(model.correlations_)
    expected = np.block([[np.eye(k), rho], [rho, np.eye(k)]])
    np.testing.assert_allclose(joint, expected, atol=1e-8)
    assert model.score(X, Y) == pytest.approx(model.correlations_.mean(), abs=1e-10)


def test_predict_is_the_ridge_regression_of_y_on_x():
    X, Y = _views(n=60)
    for reg in (0.0, 0.3):
        model = SVCCA(variance_threshold=1.0, reg=reg).fit(X, Y)
        ridge = Ridge(alpha=reg * 59 + 1e-12, solver="svd").fit(X, Y)
        np.testing.assert_allclose(model.predict(X), ridge.predict(X), atol=1e-8)
    assert SVCCA().fit(X, Y[:, 0]).predict(X).shape == (60,)


@pytest.mark.parametrize("reg", [0.0, 0.3])
def test_inverse_transform_rebuilds_the_retained_subspace(reg):
    X, Y = _views(q=12)
    model = SVCCA(variance_threshold=1.0, reg=reg, scale=True).fit(X, Y)
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), X, atol=1e-8)


def test_ridge_matches_the_covariance_formula():
    X, Y = _views(n=60)
    Xc, Yc = X - X.mean(0), Y - Y.mean(0)
    reg, n = 0.2, len(X)
    whiten = [
        np.linalg.inv(np.linalg.cholesky(A.T @ A / (n - 1) + reg * np.eye(A.shape[1])))
        for A in (Xc, Yc)
    ]
    expected = np.linalg.svd(whiten[0] @ (Xc.T @ Yc / (n - 1)) @ whiten[1].T)[1]
    model = SVCCA(variance_threshold=1.0, reg=reg).fit(X, Y)
    np.testing.assert_allclose(model.correlations_, expected, atol=1e-10)


def test_projection_weights_and_tail_threshold_by_hand():
    X, Y = _views()
    model = SVCCA(variance_threshold=1.0).fit(X, Y)
    rho = model.correlations_
    H, _ = np.linalg.qr(model.transform(X, Y)[1])  # Y has fewer features
    weights = np.abs(H.T @ (Y - Y.mean(0))).sum(1)
    expected = weights @ rho / weights.sum()
    assert model.pwcca_similarity_ == pytest.approx(expected, abs=1e-10)
    assert pwcca_similarity(X, Y) == pytest.approx(expected, abs=1e-10)
    assert pwcca_similarity(Y, X) == pytest.approx(expected, abs=1e-10)
    k = np.flatnonzero(np.cumsum(rho) >= 0.8 * rho.sum())[0] + 1
    tail = svcca_similarity(X, Y, variance_threshold=1.0, tail_threshold=0.8)
    assert tail == pytest.approx(rho[:k].mean(), abs=1e-10) and k < len(rho)


def test_agrees_with_iterative_cca():
    X, Y = _views()
    peer = CCA(n_components=3, max_iter=5000, tol=1e-14, scale=False).fit(X, Y)
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(*(s.T for s in peer.transform(X, Y)))]
    model = SVCCA(variance_threshold=1.0, n_components=3).fit(X, Y)
    np.testing.assert_allclose(model.correlations_, expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_truncation_finds_the_shared_subspace(seed):
    X, Y, noise = _layers(seed)
    model = SVCCA().fit(X, Y)
    assert model.x_intrinsic_dim_ == model.y_intrinsic_dim_ == 20
    assert model.similarity_ > 0.95
    assert svcca_similarity(X, Y, variance_threshold=1.0) < 0.45
    assert svcca_similarity(X, noise) < 0.35


def _activations(mlp, X):
    layers = []
    for W, b in zip(mlp.coefs_[:-1], mlp.intercepts_[:-1]):
        X = np.maximum(X @ W + b, 0)
        layers.append(X)
    return layers


def _early_similarity(seed, X, y, early=5, epochs=60):
    mlp = MLPClassifier((64, 64, 64), batch_size=100, learning_rate_init=1e-3, random_state=seed)
    for epoch in range(1, epochs + 1):
        mlp.partial_fit(X, y, classes=np.arange(10))
        if epoch == early:
            snapshot = _activations(mlp, X)
    return [svcca_similarity(a, b) for a, b in zip(snapshot, _activations(mlp, X))]


def test_networks_converge_from_the_bottom_up():
    X, y = load_digits(return_X_y=True)
    scores = np.array([_early_similarity(seed, X / 16, y) for seed in range(3)])
    assert (scores[:, 0] - scores[:, 2]).mean() >= 0.03


def test_fourier_cca_equals_flattened_cca_on_shifted_maps():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(40, 4, 4, 2))
    other = np.tanh(maps + np.roll(maps, 1, axis=2) @ rng.normal(size=(2, 2)))
    shifts = [(u, v) for u in range(4) for v in range(4)]
    A, B = (np.concatenate([np.roll(m, s, (1, 2)) for s in shifts]) for m in (maps, other))
    mean, rho = fourier_svcca(A, B, return_correlations=True)
    flat = SVCCA(variance_threshold=1.0).fit(A.reshape(640, -1), B.reshape(640, -1))
    np.testing.assert_allclose(np.sort(np.concatenate(rho))[::-1], flat.correlations_, atol=1e-6)
    assert mean == pytest.approx(flat.similarity_, abs=1e-6)


def test_fourier_cca_compares_maps_of_different_sizes():
    rng = np.random.default_rng(0)
    spectrum = rng.normal(size=(80, 3, 3, 2)) + 1j * rng.normal(size=(80, 3, 3, 2))
    small = np.fft.ifft2(spectrum, axes=(1, 2)).real
    coefficients = np.fft.fft2(small, axes=(1, 2))
    padded = np.zeros((80, 7, 5, 2), complex)  # the same band, on a finer grid
    for u in (-1, 0, 1):
        for v in (-1, 0, 1):
            padded[:, u, v] = coefficients[:, u, v]
    large = np.fft.ifft2(padded, axes=(1, 2)).real
    assert fourier_svcca(small, large) == pytest.approx(1, abs=1e-10)
    # frequencies outside the band are rounding noise in one of the two layers: they do not count
    _, rho = fourier_svcca(large, rng.normal(size=large.shape), return_correlations=True)
    assert len(rho) == 9


@pytest.mark.parametrize("scale", [1e-12, 1e12, 1e-160, 1e160])
@pytest.mark.parametrize("solver", ["auto", "full", "randomized"])
def test_units_do_not_matter(scale, solver):
    X, Y = _views()
    expected = SVCCA(scale=True).fit(X, Y).correlations_
    model = SVCCA(scale=True, svd_solver=solver, random_state=0).fit(X * scale, Y)
    np.testing.assert_allclose(model.correlations_, expected, atol=1e-8)
    model = SVCCA(svd_solver=solver, random_state=0).fit(X * scale, Y)
    assert model.score(X * scale, Y) == pytest.approx(SVCCA().fit(X, Y).score(X, Y), abs=1e-8)


def test_constant_and_duplicate_columns_change_nothing():
    X, Y = _views()
    wide = np.c_[X, X[:, :3], np.full(len(X), 1e9)]
    for scale in (False, True):
        model = SVCCA(variance_threshold=1.0, scale=scale).fit(wide, Y)
        assert model.x_intrinsic_dim_ == 12
        expected = SVCCA(variance_threshold=1.0).fit(X, Y).correlations_
        np.testing.assert_allclose(model.correlations_, expected, atol=1e-8)
    with pytest.raises(ValueError, match="y has no variance"):
        SVCCA().fit(X, np.full(len(X), 0.1))


def test_weak_directions_are_not_lost_where_all_are_retained():
    X, Y = _views()
    weak = X * np.logspace(0, -9, 12)  # X'X alone could not see the last ones
    expected = SVCCA(variance_threshold=1.0).fit(X, Y).correlations_
    model = SVCCA(variance_threshold=1.0).fit(weak, Y)
    assert model.x_intrinsic_dim_ == 12
    np.testing.assert_allclose(model.correlations_, expected, atol=1e-6)


def test_warns_of_free_correlations():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(20, 15)), rng.normal(size=(20, 15))
    with pytest.warns(UserWarning, match="11 canonical correlations are 1"):
        model = SVCCA(variance_threshold=1.0).fit(X, Y)
    assert np.sum(model.correlations_ > 1 - 1e-10) == 11


def test_tensors_stay_tensors():
    import torch

    X, Y = _views()
    expected = SVCCA().fit(X, Y)
    with config_context(array_api_dispatch=True):
        model = SVCCA().fit(torch.from_numpy(X), torch.from_numpy(Y))
        scores = model.transform(torch.from_numpy(X))
        similarity = svcca_similarity(torch.from_numpy(X), torch.from_numpy(Y))
        maps = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 4, 4, 2)))
        assert fourier_svcca(maps, 2 * maps) == pytest.approx(1, abs=1e-10)
    assert isinstance(scores, torch.Tensor)
    np.testing.assert_allclose(scores.numpy(), expected.transform(X), atol=1e-10)
    assert similarity == pytest.approx(expected.similarity_, abs=1e-10)


def test_works_in_a_pipeline():
    X, Y = _views()
    pipeline = make_pipeline(SVCCA(n_components=2), LinearRegression()).fit(X, Y[:, 0])
    assert pipeline.predict(X).shape == (300,)
    assert list(pipeline[0].get_feature_names_out()) == ["svcca0"]
