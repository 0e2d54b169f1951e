"""PHI-S: Hadamard matrices, unit variances, similarity, streaming, balance of targets."""

import numpy as np
import pytest
from scipy.linalg import hadamard
from scipy.spatial.distance import pdist
from sklearn.cluster import KMeans
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from skpapers.decomposition import (
    HadamardWhitener,
    MultiTeacherRegressor,
    PHIStandardScaler,
    hadamard_matrix,
)
from skpapers.decomposition._hadamard import givens_equalizer, jacobsthal

WIDTHS = [1, 2, 3, 5, 7, 8, 12, 13, 16, 20, 28, 30, 36]
ROTATING = ["phi_s", "hadamard_whiten"]


def anisotropic(d, n=200, seed=0, condition=1e4):
    """Correlated columns about a mean, variances from 1 to 1 / condition."""
    rng = np.random.default_rng(seed)
    scales = np.geomspace(1, condition**-0.5, d)
    return rng.normal(size=(n, d)) * scales @ orthogonal(d, seed) + rng.normal(size=d)


def orthogonal(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def test_hadamard_matrices():
    for n in [1, 2, *range(4, 92, 4)]:
        H = hadamard_matrix(n)
        assert np.abs(H).tolist() == np.ones((n, n)).tolist()
        np.testing.assert_array_equal(H @ H.T, n * np.eye(n))


@pytest.mark.parametrize("n", [3, 6, 10, 92])
def test_orders_without_a_construction_raise(n):
    with pytest.raises(ValueError, match=f"n={n}"):
        hadamard_matrix(n)


@pytest.mark.parametrize("p", [7, 13])
def test_jacobsthal_matrix_holds_legendre_symbols(p):
    symbol = [0 if a == 0 else 1 if pow(a, (p - 1) // 2, p) == 1 else -1 for a in range(p)]
    expected = [[symbol[(i - j) % p] for j in range(p)] for i in range(p)]
    np.testing.assert_array_equal(jacobsthal(p, 1), expected)


@pytest.mark.parametrize(("p", "k"), [(3, 2), (5, 2), (3, 3)])
def test_jacobsthal_matrix_of_a_field_that_is_not_prime(p, k):
    Q, q = jacobsthal(p, k), p**k
    np.testing.assert_array_equal(Q @ Q.T, q * np.eye(q) - 1)
    np.testing.assert_array_equal(Q.T, Q if q % 4 == 1 else -Q)


@pytest.mark.parametrize("d", [5, 7, 13, 30])
def test_givens_rotations_equalise_any_spectrum(d):
    for values in (np.geomspace(1e-8, 1, d), np.eye(d)[0], np.ones(d)):
        Q = givens_equalizer(values)
        np.testing.assert_allclose(Q @ Q.T, np.eye(d), atol=1e-13)
        np.testing.assert_allclose(np.diag(Q * values @ Q.T), values.mean(), rtol=1e-12)


@pytest.mark.parametrize("d", WIDTHS)
@pytest.mark.parametrize("rotation", ["auto", "givens"])
def test_all_variances_are_one(d, rotation):
    Z = PHIStandardScaler(rotation=rotation).fit_transform(anisotropic(d))
    np.testing.assert_allclose(Z.var(axis=0, ddof=1), 1, atol=1e-10)
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-10)
    assert np.trace(np.atleast_2d(np.cov(Z.T))) == pytest.approx(d, abs=1e-10)


def test_the_formula_up_to_signs_of_eigenvectors():
    """phi^-1 H U^T with Sylvester's matrix, from the eigenvectors of numpy."""
    X = anisotropic(16)
    values, vectors = np.linalg.eigh(np.cov(X.T))
    phi = np.sqrt(values.mean())
    signs = hadamard(16).T / 4 @ (phi * PHIStandardScaler().fit(X).transform_matrix_) @ vectors
    np.testing.assert_allclose(np.abs(signs), np.eye(16), atol=1e-10)


@pytest.mark.parametrize("d", [3, 12, 16])
def test_the_map_is_a_similarity(d):
    X = anisotropic(d)
    scaler = PHIStandardScaler().fit(X)
    Z = scaler.transform(X)
    assert scaler.scale_ == pytest.approx(np.sqrt(np.trace(np.cov(X.T)) / d))
    np.testing.assert_allclose(pdist(Z), pdist(X) / scaler.scale_, rtol=1e-10)
    np.testing.assert_allclose(scaler.inverse_transform(Z), X, atol=1e-10)
    np.testing.assert_allclose(scaler.rotation_ @ scaler.rotation_.T, np.eye(d), atol=1e-12)


def test_neighbours_and_clusters_stay():
    X = anisotropic(7)
    Z, y = PHIStandardScaler().fit_transform(X), np.arange(200) % 4
    for k in (1, 5):
        before = KNeighborsClassifier(k).fit(X[:100], y[:100]).predict(X[100:])
        after = KNeighborsClassifier(k).fit(Z[:100], y[:100]).predict(Z[100:])
        np.testing.assert_array_equal(before, after)
    labels = [KMeans(3, init=data[:3], n_init=1).fit(data).labels_ for data in (X, Z)]
    np.testing.assert_array_equal(*labels)


@pytest.mark.parametrize("d", [5, 8])
def test_moving_rotating_and_scaling_the_data(d):
    X = anisotropic(d)
    scaler = PHIStandardScaler().fit(X)
    moved = 3 * X @ orthogonal(d, 1) + np.arange(d)
    other = PHIStandardScaler().fit(moved)
    assert other.scale_ == pytest.approx(3 * scaler.scale_, rel=1e-12)
    np.testing.assert_allclose(other.transform(moved).var(axis=0, ddof=1), 1, atol=1e-10)
    permuted = X[:, ::-1]
    distances = pdist(PHIStandardScaler().fit_transform(permuted))
    np.testing.assert_allclose(distances, pdist(scaler.transform(X)), rtol=1e-10)


@pytest.mark.parametrize("d", [5, 8])
@pytest.mark.parametrize("method", ROTATING)
def test_chunks_equal_the_whole(d, method):
    X = anisotropic(d, n=5000)  # more than is centred at a time
    whole, chunks = PHIStandardScaler(method).fit(X), PHIStandardScaler(method)
    for rows in np.split(X, [1, 40, 4500]):
        chunks.partial_fit(rows)
    np.testing.assert_allclose(whole.mean_, X.mean(axis=0), atol=1e-12)
    assert chunks.n_samples_seen_ == whole.n_samples_seen_ == 5000
    np.testing.assert_allclose(chunks.transform_matrix_, whole.transform_matrix_, rtol=1e-8)
    np.testing.assert_allclose(chunks.transform(X), whole.transform(X), atol=1e-10)


def test_weights_count_rows():
    X, weight = anisotropic(5, n=30), np.arange(30) % 3
    weighted = PHIStandardScaler().fit(X, sample_weight=weight)
    repeated = PHIStandardScaler().fit(np.repeat(X, weight, axis=0))
    np.testing.assert_allclose(weighted.transform(X), repeated.transform(X), atol=1e-10)
    with pytest.raises(ValueError, match="counts rows"):
        PHIStandardScaler().fit(X, sample_weight=np.full(30, 1 / 30))


def test_the_other_methods():
    X = anisotropic(12)
    standard = PHIStandardScaler("standard").fit_transform(X)
    reference = StandardScaler().fit_transform(X) * np.sqrt(199 / 200)  # divided by n
    np.testing.assert_allclose(standard, reference, atol=1e-10)
    whitened = PHIStandardScaler("pca_whiten").fit_transform(X)[:, ::-1]
    np.testing.assert_allclose(np.abs(whitened), np.abs(PCA(whiten=True).fit_transform(X)))
    scaled = PHIStandardScaler("global").fit_transform(X)
    np.testing.assert_allclose(scaled, (X - X.mean(0)) / np.sqrt(X.var(0, ddof=1).mean()))
    for scaler in (PHIStandardScaler("zca"), HadamardWhitener()):
        np.testing.assert_allclose(np.cov(scaler.fit_transform(X).T), np.eye(12), atol=1e-9)
        np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(X)), X, atol=1e-10)
    zca = PHIStandardScaler("zca").fit(X).transform_matrix_
    np.testing.assert_allclose(zca, zca.T, atol=1e-9)


def test_errors_of_a_hadamard_whitener_are_spread_evenly():
    X = anisotropic(12)
    sizes = np.square(HadamardWhitener().fit(X).inverse_matrix_).sum(axis=0)
    np.testing.assert_allclose(sizes, np.trace(np.cov(X.T)) / 12, rtol=1e-10)


@pytest.mark.parametrize("method", ["phi_s", "pca_whiten"])
def test_size_and_shape_of_amplified_noise(method):
    X = anisotropic(8)
    scaler, covariance = PHIStandardScaler(method).fit(X), np.cov(X.T)
    noise = 0.1 * np.random.default_rng(0).normal(size=(100_000, 8))
    error = scaler.inverse_transform(noise) - scaler.inverse_transform(0 * noise)
    total = 0.01 * np.trace(covariance)  # phi^2 d 0.01, or the sum of lam 0.01
    assert np.square(error).sum(axis=1).mean() == pytest.approx(total, rel=0.02)
    shape = covariance if method == "pca_whiten" else np.eye(8) * scaler.scale_**2
    np.testing.assert_allclose(
        scaler.inverse_matrix_ @ scaler.inverse_matrix_.T, shape, atol=1e-12
    )


def test_degenerate_data():
    constant = PHIStandardScaler().fit(np.full((10, 3), 0.1))
    assert constant.scale_ == 1
    np.testing.assert_allclose(constant.transform(np.full((2, 3), 0.1)), 0, atol=1e-15)
    few = anisotropic(12, n=4)
    for method in ROTATING:
        scaler = PHIStandardScaler(method).fit(few)
        np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(few)), few, atol=1e-9)
    assert np.abs(HadamardWhitener().fit(few).transform_matrix_).max() < 1e3
    with pytest.raises(ValueError, match="no Hadamard matrix for 3 columns"):
        PHIStandardScaler(rotation="hadamard").fit(few[:, :3])


def test_float32_far_from_the_origin_is_accumulated_in_float64():
    X = (anisotropic(8, condition=1) + 1e4).astype(np.float32)
    scaler = PHIStandardScaler().fit(X)
    expected = np.sqrt(np.trace(np.cov(X.T.astype(np.float64))) / 8)
    assert scaler.scale_ == pytest.approx(expected, rel=1e-12)
    assert scaler.transform(X).dtype == np.float32


@pytest.mark.parametrize("d", [5, 8])
def test_eigenspaces_do_not_hang_on_rounding(d):
    """Equal rows in another order, and fewer rows than columns: the same map."""
    few = anisotropic(d, n=3)
    maps = [PHIStandardScaler().fit(X).transform_matrix_ for X in (few, few[::-1])]
    np.testing.assert_allclose(*maps, atol=1e-9 * np.abs(maps[0]).max())


def test_without_the_mean_and_in_place():
    X = anisotropic(4)
    scaler = PHIStandardScaler(with_mean=False).fit(X)
    np.testing.assert_allclose(scaler.transform(X), X @ scaler.transform_matrix_.T)
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(X)), X, atol=1e-12)
    untouched = X.copy()
    PHIStandardScaler().fit(X).transform(X)
    np.testing.assert_array_equal(X, untouched)
    PHIStandardScaler(copy=False).fit(X).transform(X)
    np.testing.assert_allclose(X, untouched - untouched.mean(axis=0), atol=1e-12)


def linear_targets(seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(60, 4))
    return X, X @ rng.normal(size=(4, 5)) * [100, 100, 1, 0.01, 0.01] + rng.normal(size=(60, 5))


@pytest.mark.parametrize("normalizer", ["phi_s", "zca", "standard", StandardScaler(), None])
def test_ridge_does_not_see_the_normaliser(normalizer):
    """Ridge commutes with affine maps of the targets."""
    X, y = linear_targets()
    expected = Ridge().fit(X, y).predict(X)
    model = MultiTeacherRegressor(splits=[2, 3], weights=[2, 1], normalizer=normalizer)
    np.testing.assert_allclose(model.fit(X, y).predict(X), expected, atol=1e-9)
    target = TransformedTargetRegressor(Ridge(), transformer=PHIStandardScaler())
    np.testing.assert_allclose(target.fit(X, y).predict(X), expected, atol=1e-9)


def test_forms_of_targets():
    X, y = linear_targets()
    blocks = [y[:, :2], y[:, 2:]]
    as_list = MultiTeacherRegressor().fit(X, blocks).predict(X)
    joined = MultiTeacherRegressor(splits=[2, 3]).fit(X, y).predict(X)
    np.testing.assert_array_equal(np.hstack(as_list), joined)
    teachers = [FrozenEstimator(LinearRegression().fit(X, block)) for block in blocks]
    student = MultiTeacherRegressor(LinearRegression(), teachers=teachers).fit(X)
    for found, teacher in zip(student.predict(X), teachers):
        np.testing.assert_allclose(found, teacher.predict(X), atol=1e-10)
    assert student.score(X) == pytest.approx(1)
    assert MultiTeacherRegressor().fit(X, y[:, 0]).predict(X).shape == (60,)
    assert MultiTeacherRegressor().fit(X, y.tolist()).predict(X).shape == (60, 5)


def test_loss_of_the_student_averages_the_blocks():
    """Each block has the energy of its weight, and one block alone is left as it is."""
    X, y = linear_targets()
    model = MultiTeacherRegressor(splits=[2, 3], weights=[3, 1]).fit(X, y)
    energies = [width * factor**2 for width, factor in zip(model.widths_, model._factors)]
    assert energies[0] == pytest.approx(3 * energies[1])
    assert MultiTeacherRegressor(weights=[7]).fit(X, y)._factors == [pytest.approx(1)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"splits": [2, 2]}, "splits"), ({"weights": [1, 1]}, "weights"), ({"weights": [0]}, "wei")],
)
def test_wrong_blocks_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        MultiTeacherRegressor(**settings).fit(*linear_targets())


def two_teachers(seed, rotated=False):
    """Targets of scales 100 and 0.01, variances from 1 to 1e-4 along the axes or not."""
    rng = np.random.default_rng(seed)
    X, blocks = rng.normal(size=(1500, 20)), []
    for scale in (100, 0.01):
        block = np.tanh(X @ rng.normal(size=(20, 16)) / np.sqrt(20))
        block = StandardScaler().fit_transform(block) * np.geomspace(1, 1e-2, 16)
        blocks.append(scale * block @ (orthogonal(16, seed) if rotated else np.eye(16)))
    return X, blocks


def balance(normalizer, X, blocks):
    """Mean over blocks of 1 - MSE / variance on held-out rows, for a small network."""
    student = MLPRegressor(hidden_layer_sizes=(12,), max_iter=300, random_state=0)
    model = MultiTeacherRegressor(student, normalizer=normalizer)
    found = model.fit(X[:1000], [block[:1000] for block in blocks]).predict(X[1000:])
    errors = [
        ((f - t[1000:]) ** 2).sum() / t[1000:].var(axis=0).sum() / 500
        for f, t in zip(found, blocks)
    ]
    return 1 - np.mean(errors)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2, 3))]
)
def test_phi_s_balances_teachers(seed):
    """Unscaled, the small teacher is lost; whitening spends capacity on small directions."""
    X, blocks = two_teachers(seed)
    score = balance("phi_s", X, blocks)
    assert score >= balance(None, X, blocks) + 0.2
    assert score >= balance("pca_whiten", X, blocks) + 0.08
    assert score >= balance("standard", X, blocks) + 0.05


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("seed", [0, 1])
def test_phi_s_balances_teachers_whose_axes_are_rotated(seed):
    X, blocks = two_teachers(seed, rotated=True)
    score = balance("phi_s", X, blocks)
    assert score >= balance(None, X, blocks) + 0.2
    assert score >= balance("pca_whiten", X, blocks) + 0.08
    assert score == pytest.approx(balance("standard", X, blocks), abs=0.02)
