"""Flag means and medians: eigenvectors, invariances, optimality, outliers, shards of digits."""

import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.linalg import subspace_angles
from sklearn import config_context
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ShuffleSplit

from skpapers.manifold import (
    FlagAveragedPCA,
    FlagMean,
    FlagMedian,
    chordal_flag_distance,
    flag_mean,
    flag_median,
)
from skpapers.manifold._flag import ascend, block_product, tangent
from skpapers.utils import polar_factor

SOLVERS = ["polar", "trust-region"]


def frame(n, k, rng):
    return np.linalg.qr(rng.normal(size=(n, k)))[0]


def noisy_flags(p, noise, seed=0, center=None):
    """Flags of three columns in ten dimensions about a center."""
    rng = np.random.default_rng(seed)
    center = frame(10, 3, rng) if center is None else center
    return np.linalg.qr(center + noise * rng.normal(size=(p, 10, 3)))[0], center


def objective(X, weights, flag_type):
    """The function ``sum_j w_j sum_i tr(Y_i' X_i X_i' Y_i)`` of Y, from its definition."""
    edges = [0, *flag_type]

    def value(Y):
        return sum(
            w * np.sum((x[:, a:b].T @ Y[:, a:b]) ** 2)
            for x, w in zip(X, weights)
            for a, b in zip(edges, edges[1:])
        )

    return value


def test_distance_is_half_that_of_the_projections():
    X, _ = noisy_flags(2, 0.3)
    squares = [
        np.sum((X[0][:, b] @ X[0][:, b].T - X[1][:, b] @ X[1][:, b].T) ** 2) / 2
        for b in (slice(0, 1), slice(1, 3))
    ]
    assert chordal_flag_distance(X[0], X[1], [1, 3]) == pytest.approx(np.sqrt(sum(squares)))
    angles = subspace_angles(X[0], X[1])
    expected = np.linalg.norm(np.sin(angles))
    assert chordal_flag_distance(X[0], X[1], [3]) == pytest.approx(expected)


@pytest.mark.parametrize("flag_type", [[3], [1, 3], [1, 2, 3]])
def test_distance_is_a_metric_on_flags(flag_type):
    rng = np.random.default_rng(0)
    X, Y, Z = (np.stack([frame(5, 3, rng) for _ in range(200)]) for _ in "XYZ")
    xy, yz, xz = (chordal_flag_distance(*pair, flag_type) for pair in ((X, Y), (Y, Z), (X, Z)))
    assert np.all(xz <= xy + yz + 1e-12)
    assert_allclose(xy, chordal_flag_distance(Y, X, flag_type), atol=1e-12)
    assert xy.min() > 0.01
    assert_allclose(
        chordal_flag_distance(X, rotate_blocks(X, flag_type), flag_type), 0, atol=1e-14
    )


def rotate_blocks(X, flag_type, seed=1):
    rng, X = np.random.default_rng(seed), X.copy()
    for start, stop in zip([0, *flag_type], flag_type):
        for x in X:
            x[:, start:stop] = x[:, start:stop] @ frame(stop - start, stop - start, rng)
    return X


def test_a_single_block_gives_leading_eigenvectors():
    X, _ = noisy_flags(30, 1.0)
    weights = np.random.default_rng(1).random(30)
    square = np.einsum("j,jab,jcb->ac", weights, X, X)
    expected = np.linalg.eigh(square)[1][:, -3:]
    found = flag_mean(X, [3], weights)
    assert subspace_angles(found, expected).max() < 1e-6
    few = flag_mean(X[:2], [3], weights[:2])
    square = np.einsum("j,jab,jcb->ac", weights[:2], X[:2], X[:2])
    assert subspace_angles(few, np.linalg.eigh(square)[1][:, -3:]).max() < 1e-6


@pytest.mark.parametrize("average", [flag_mean, flag_median])
def test_equal_flags_are_their_average(average):
    rng = np.random.default_rng(0)
    for x in (frame(10, 3, rng), frame(4, 4, rng)):
        assert chordal_flag_distance(average(x[None]), x) < 1e-6
        assert chordal_flag_distance(average(np.stack([x] * 5)), x) < 1e-6


@pytest.mark.parametrize("average", [flag_mean, flag_median])
@pytest.mark.parametrize("flag_type", [[1, 3], [1, 2, 3], [2, 3]])
def test_bases_of_blocks_do_not_matter(average, flag_type):
    X, _ = noisy_flags(20, 0.2)
    rotated = average(rotate_blocks(X, flag_type), flag_type)
    assert chordal_flag_distance(average(X, flag_type), rotated, flag_type) < 1e-8


@pytest.mark.parametrize("average", [flag_mean, flag_median])
def test_averages_rotate_with_the_space(average):
    X, _ = noisy_flags(20, 0.2)
    Q = frame(10, 10, np.random.default_rng(2))
    assert chordal_flag_distance(average(Q @ X, [1, 3]), Q @ average(X, [1, 3]), [1, 3]) < 1e-6


@pytest.mark.parametrize("noise", [0.05, 0.2, 1.0])
def test_polar_steps_never_decrease_the_objective(noise):
    X, _ = noisy_flags(50, noise)
    weights, Y = np.full(50, 1 / 50), frame(10, 3, np.random.default_rng(3))
    product, value = block_product(X, weights, (1, 3)), objective(X, weights, (1, 3))
    values = []
    for _ in range(60):
        values.append(value(Y))
        assert np.sum(Y * product(Y)) == pytest.approx(values[-1])
        Y = polar_factor(product(Y))
    assert np.diff(values).min() > -1e-13
    assert values[-1] > values[0] + 0.1


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("noise", "value"), [(0.05, 2.943559), (0.2, None), (1.0, None)], ids=str)
def test_the_mean_is_optimal(solver, noise, value):
    """The gradient vanishes, and ten random starts get no higher."""
    X, _ = noisy_flags(50, noise)
    weights = np.full(50, 1 / 50)
    model = FlagMean([1, 3], solver=solver).fit(X)
    product, Y = block_product(X, weights, (1, 3)), model.mean_
    assert np.linalg.norm(tangent(Y, product(Y))) < 1e-6
    reached = objective(X, weights, (1, 3))(Y)
    assert model.objective_ == pytest.approx(50 * (3 - reached))
    if value is not None:  # of an independent simulation with these draws
        assert reached == pytest.approx(value, abs=1e-6)
    rng = np.random.default_rng(4)
    for _ in range(10):
        start = frame(10, 3, rng)
        found = ascend(product, start, solver=solver, max_iter=2000, tol=1e-12)
        assert found[3] and found[1] == pytest.approx(reached, abs=1e-8)


def test_newton_steps_are_few():
    X, _ = noisy_flags(50, 1.0)
    steps = {s: FlagMean([1, 3], solver=s).fit(X).n_iter_ for s in SOLVERS}
    assert steps["trust-region"] < 0.5 * steps["polar"]


def test_weights_count_flags():
    X, _ = noisy_flags(8, 0.3)
    counts = np.arange(8)
    repeated = np.repeat(X, counts, axis=0)
    for average in (flag_mean, flag_median):
        found = average(X, [1, 3], counts / 7)
        assert chordal_flag_distance(found, average(repeated, [1, 3]), [1, 3]) < 1e-6


@pytest.mark.parametrize("solver", SOLVERS)
def test_cost_of_the_median_does_not_increase(solver):
    X, center = noisy_flags(16, 0.02)
    outliers, _ = noisy_flags(4, 0.02, seed=1)
    X = np.concatenate([X, outliers])
    model = FlagMedian([1, 3], solver=solver).fit(X)
    assert np.diff(model.costs_).max() <= 1e-12
    at_mean = chordal_flag_distance(X, flag_mean(X, [1, 3]), [1, 3]).sum()
    assert model.costs_[0] == pytest.approx(at_mean, abs=1e-5)  # solved to tol
    assert model.objective_ == pytest.approx(model.distances_.sum())
    assert model.objective_ < at_mean
    assert model.weights_[16:].max() < 0.1 * model.weights_[:16].min()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_outliers", [2, 4, 6])
def test_outliers_hardly_move_the_median(n_outliers, seed):
    X, center = noisy_flags(20 - n_outliers, 0.02, seed)
    outliers, _ = noisy_flags(n_outliers, 0.02, seed + 100)
    X = np.concatenate([X, outliers])
    mean, median = (
        chordal_flag_distance(average(X, [1, 3]), center, [1, 3])
        for average in (flag_mean, flag_median)
    )
    assert median < 0.06
    assert mean > 2 * median or n_outliers == 2 and mean > 1.5 * median


@pytest.mark.parametrize("n_shards", [2, 4, 6, 10])
def test_merged_shards_of_digits_keep_the_order_of_components(n_shards):
    """Against a mean of subspaces, and an orthonormalised mean of loadings."""
    X, errors = load_digits().data, []
    full = PCA(3).fit(X).components_.T
    for seed in range(10):
        model = FlagAveragedPCA(3, n_splits=n_shards, random_state=seed).fit(X)
        bases = np.swapaxes(model.shard_components_, 1, 2)
        subspace = np.linalg.eigh(np.einsum("jab,jcb->ac", bases, bases))[1][:, :-4:-1]
        loadings = np.linalg.qr(bases.mean(axis=0))[0]
        found = (model.components_.T, subspace, loadings)
        errors.append([chordal_flag_distance(Y, full) for Y in found])
    flag, grassmann, euclidean = np.mean(errors, axis=0)
    assert flag < 0.5 * grassmann
    assert flag < 0.5 * euclidean


def test_one_shard_is_principal_component_analysis():
    X = load_digits().data[:200]
    pca = PCA(4, svd_solver="full").fit(X)
    for flag_type in ("full", [2, 4], [4]):
        model = FlagAveragedPCA(4, n_splits=1, flag_type=flag_type).fit(X)
        assert_allclose(np.abs(model.components_), np.abs(pca.components_), atol=1e-8)
        assert_allclose(model.explained_variance_, pca.explained_variance_)
        assert_allclose(model.explained_variance_ratio_, pca.explained_variance_ratio_)
        projected = pca.inverse_transform(pca.transform(X))
        assert_allclose(model.inverse_transform(model.transform(X)), projected, atol=1e-8)


def test_the_median_ignores_corrupted_shards():
    """Two of seven hold rotated data."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1400, 8)) * [4, 2, 1, 1, 1, 1, 1, 1]
    groups = np.repeat(np.arange(7), 200)
    bad = groups >= 5
    X[bad] = X[bad] @ frame(8, 8, rng)
    clean = PCA(2).fit(X[~bad]).components_.T
    errors = {}
    for aggregate in ("mean", "median"):
        model = FlagAveragedPCA(2, aggregate=aggregate).fit(X, groups=groups)
        errors[aggregate] = chordal_flag_distance(model.components_.T, clean)
        assert model.distances_[5:].min() > 2 * model.distances_[:5].max()
    assert errors["median"] < 0.5 * errors["mean"]


def test_shards_one_at_a_time():
    X = load_digits().data[:600]
    groups = np.arange(600) % 3
    at_once = FlagAveragedPCA(3).fit(X, groups=groups)
    streamed = FlagAveragedPCA(3).fit(X[:50])
    for group in range(3):
        streamed.partial_fit(X[groups == group])
    for name in ("components_", "explained_variance_", "explained_variance_ratio_", "mean_"):
        assert_allclose(getattr(streamed, name), getattr(at_once, name), atol=1e-8, err_msg=name)
    assert streamed.n_samples_seen_ == 600


def test_forms_of_splits():
    X = load_digits().data[:300]
    assert_allclose(FlagAveragedPCA(n_splits=4).fit(X).shard_sizes_, 75)
    splitter = ShuffleSplit(3, train_size=0.5, random_state=0)
    model = FlagAveragedPCA(n_splits=splitter).fit(X)
    assert_allclose(model.shard_sizes_, 150)
    expected = PCA(2).fit(X[next(splitter.split(X))[0]]).components_
    assert_allclose(np.abs(model.shard_components_[0]), np.abs(expected), atol=1e-8)
    uncentered = FlagAveragedPCA(n_splits=1, center=False).fit(X)
    expected = np.linalg.svd(X, full_matrices=False)[2][:2]
    assert_allclose(np.abs(uncentered.components_), np.abs(expected), atol=1e-8)
    with pytest.raises(ValueError, match="n_samples=3 is too few"):
        FlagAveragedPCA().fit(X[:3])
    with pytest.raises(ValueError, match="got n_samples=1"):
        FlagAveragedPCA(n_splits=3).fit(X[:4])


def test_rows_of_a_table_are_axes():
    """The mean is the leading singular vector of the normalised rows, whatever their signs."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3)) + [3, 0, 0]
    rows = X / np.linalg.norm(X, axis=1, keepdims=True)
    expected = np.linalg.svd(rows)[2][:1]
    signs = rng.choice([-1, 1], size=(40, 1))
    for table in (X, signs * X, X * 1e-200, np.vstack([X, np.zeros((5, 3))])):
        assert_allclose(np.abs(FlagMean().fit(table).components_), np.abs(expected), atol=1e-8)
    model = FlagMean().fit(X)
    assert_allclose(model.transform(X), X @ model.mean_)
    assert model.score(X) == pytest.approx(np.mean((rows @ expected.T) ** 2) - 1)
    with pytest.raises(ValueError, match="positive weight"):
        FlagMean().fit(np.zeros((4, 3)))


def test_stacks_are_measured():
    X, _ = noisy_flags(20, 0.2)
    for model, power in ((FlagMean([1, 3]).fit(X), 2), (FlagMedian([1, 3]).fit(X), 1)):
        expected = chordal_flag_distance(X, model.mean_, [1, 3])
        assert_allclose(model.transform(X)[:, 0], expected)
        assert_allclose(model.distances_, expected)
        assert model.score(X) == pytest.approx(-np.mean(expected**power))
        assert_allclose(model.components_, model.mean_.T)
        assert_allclose(model.components_ @ model.mean_, np.eye(3), atol=1e-12)


def test_signs_follow_the_data():
    X, center = noisy_flags(20, 0.1)
    for flag_type in (None, [1, 3], [3]):
        assert np.linalg.norm(flag_mean(X, flag_type) - center) < 0.3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("estimator", [FlagMean([1, 3]), FlagMedian([1, 3]), FlagAveragedPCA()])
def test_torch_agrees_with_numpy(estimator, dtype):
    X, _ = noisy_flags(20, 0.2)
    X = (X.reshape(60, 10) if isinstance(estimator, FlagAveragedPCA) else X).astype(dtype)
    if hasattr(estimator, "random_state"):
        estimator.set_params(random_state=0)
    expected = estimator.fit(X).transform(X)
    assert expected.dtype == dtype
    with config_context(array_api_dispatch=True):
        fitted = estimator.fit(torch.asarray(X))
        found = fitted.transform(torch.asarray(X))
    assert str(found.dtype) == f"torch.{dtype}" and isinstance(fitted.components_, torch.Tensor)
    assert_allclose(found.numpy(), expected, atol=1e-5 if dtype == "float32" else 1e-8)


def test_wrong_arguments_are_named():
    X, _ = noisy_flags(4, 0.1)
    for flag_type in ([3, 1], [0, 3], [1.5, 3], [1, 2]):
        with pytest.raises(ValueError, match="flag_type"):
            flag_mean(X, flag_type)
    with pytest.raises(ValueError, match="must be orthonormal"):
        FlagMean().fit(2 * X)
    with pytest.raises(ValueError, match="two or three dimensions"):
        FlagMean().fit(X[None])
    with pytest.raises(ValueError, match="must match"):
        chordal_flag_distance(X[0], X[0][:, :2])
    with pytest.raises(ValueError, match="n_components=11, but n_features=10"):
        FlagAveragedPCA(11, n_splits=1).fit(X.reshape(12, 10)[:, :10])


def test_too_few_steps_warn():
    X, _ = noisy_flags(50, 1.0)
    for model in (FlagMean([1, 3], max_iter=2), FlagMedian([1, 3], max_iter=1)):
        with pytest.warns(ConvergenceWarning, match="raise max_iter or tol"):
            model.fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FlagMedian([1, 3]).fit(X)
