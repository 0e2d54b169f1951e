"""Functional Tucker models: exact Gaussian-process inference, invariances, the paper's claims."""

import numpy as np
import pytest
from scipy.linalg import expm
from sklearn.ensemble import RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from skpapers.decomposition import FunctionalTuckerRegressor
from skpapers.decomposition._funbat import function_draw
from skpapers.decomposition._funbat_markov import Chain, log_evidence, posterior, transitions
from skpapers.decomposition._funbat_messages import (
    Core,
    Mode,
    Noise,
    core_messages,
    mode_messages,
    moments_at,
)

KERNELS = [("matern12", 0.5), ("matern32", 1.5)]
SMOOTH = {"kernel": "matern32", "length_scale": 0.3}


# The Markov chain is the Gaussian process.


@pytest.mark.parametrize("kernel", ["matern12", "matern32"])
def test_transitions_are_matrix_exponentials(kernel):
    gaps, scale = np.array([1e-3, 0.05, 0.4, 3.0]), 0.2
    lam = np.sqrt(3) / scale
    F = np.array([[-1 / scale]] if kernel == "matern12" else [[0, lam], [-lam, -2 * lam]])
    A, Q = transitions(gaps, kernel, scale)
    for gap, found, spread in zip(gaps, A, Q):
        expected = expm(F * gap)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        np.testing.assert_allclose(spread, np.eye(len(F)) - expected @ expected.T, atol=1e-12)


def dense(knots, nu, precision, linear, scale, variance):
    rank = linear.shape[1]
    K = np.kron(variance * Matern(scale, nu=nu)(knots[:, None]), np.eye(rank))
    L = np.zeros(K.shape)
    for i, block in enumerate(precision):
        L[i * rank : (i + 1) * rank, i * rank : (i + 1) * rank] = block
    C = K - K @ L @ np.linalg.solve(np.eye(len(K)) + K @ L, K)
    log_determinant = np.linalg.slogdet(np.eye(len(K)) + K @ L)[1]
    evidence = 0.5 * (linear.ravel() @ C @ linear.ravel() - log_determinant)
    return C @ linear.ravel(), C, evidence


@pytest.mark.parametrize(("kernel", "nu"), KERNELS)
def test_smoother_and_evidence_are_those_of_the_dense_process(kernel, nu):
    rng = np.random.default_rng(0)
    knots, B = np.sort(rng.random(50)), rng.normal(size=(50, 3, 3))
    precision = B @ B.swapaxes(1, 2)
    precision[::7] = 0
    linear = (precision @ rng.normal(size=(50, 3, 1)))[:, :, 0]
    chain = Chain.make(knots, kernel, 0.2, 1.3, 3)
    mean, covariance = posterior(chain, precision, linear)
    m, C, evidence = dense(knots, nu, precision, linear, 0.2, 1.3)
    np.testing.assert_allclose(mean.ravel(), m, atol=1e-8)
    for i in range(50):
        block = C[3 * i : 3 * i + 3, 3 * i : 3 * i + 3]
        np.testing.assert_allclose(covariance[i], block, atol=1e-8)
    assert log_evidence(chain, precision, linear) == pytest.approx(evidence, abs=1e-8)


@pytest.mark.parametrize(("kernel", "nu"), KERNELS)
def test_one_mode_is_gaussian_process_regression_inside_and_outside(kernel, nu):
    rng = np.random.default_rng(0)
    x = np.r_[rng.random(40), rng.random(5).repeat(3)]
    y, tau = np.sin(6 * x) + 0.1 * rng.normal(size=len(x)), 50.0
    knots, index = np.unique(x, return_inverse=True)
    mode = Mode(knots, index, 1, kernel, 0.3, 1.0)
    mode.start(rng)
    messages = mode_messages([mode], Core((1,), True), Noise(tau, 1.0), y, np.ones(55), 0, 16)
    mode.precision, mode.linear = messages
    queries = np.r_[x, rng.random(20), -0.2, 1.5]
    mean, covariance = mode.at(queries)
    peer = GaussianProcessRegressor(Matern(0.3, nu=nu), alpha=1 / tau, optimizer=None)
    expected, std = peer.fit(x[:, None], y).predict(queries[:, None], return_std=True)
    np.testing.assert_allclose(mean[:, 0], expected, atol=1e-8)
    np.testing.assert_allclose(covariance[:, 0, 0], std**2, atol=1e-8)


@pytest.mark.parametrize(("kernel", "nu"), KERNELS)
def test_draws_of_functions_have_the_moments_of_the_posterior(kernel, nu):
    rng = np.random.default_rng(0)
    mode = Mode(np.sort(rng.random(6)), None, 1, kernel, 0.3, 1.0)
    mode.precision, mode.linear = rng.random((6, 1, 1)) * 5, rng.normal(size=(6, 1))
    draws = np.array([function_draw(mode, mode.knots, rng)[:, 0] for _ in range(1000)])
    m, C, _ = dense(mode.knots, nu, mode.precision, mode.linear, 0.3, 1.0)
    np.testing.assert_allclose(draws.mean(axis=0), m, atol=0.12)
    np.testing.assert_allclose(np.cov(draws.T), C, atol=0.15)


# Messages are expectations.


@pytest.mark.parametrize("diagonal", [False, True])
def test_messages_are_expectations_over_the_other_factors(diagonal):
    rng = np.random.default_rng(0)
    ranks = (2, 2, 2) if diagonal else (2, 3, 2)
    core, modes = Core(ranks, diagonal), []
    for rank in ranks:
        knots, index = np.unique(rng.integers(0, 4, 7) / 4.0, return_inverse=True)
        mode = Mode(knots, index, rank, "matern12", 0.3, 1.0)
        mode.start(rng)
        B = rng.normal(size=(len(knots), rank, rank))
        mode.covariance = B @ B.swapaxes(1, 2)
        modes.append(mode)
    W, cov = np.zeros(ranks), np.zeros((np.prod(ranks),) * 2)
    W[np.diag_indices(2, 3)] = 1
    if not diagonal:
        W = core.mean = rng.normal(size=ranks)
        B = rng.normal(size=cov.shape)
        cov = core.covariance = B @ B.T
    y, weight, tau = rng.normal(size=7), rng.random(7), 2.0
    EW = np.multiply.outer(W, W) + cov.reshape(*ranks, *ranks)
    m = [mode.mean[mode.index] for mode in modes]
    S = [mode.second_moments()[mode.index].reshape(7, r, r) for mode, r in zip(modes, ranks)]
    mean, square = moments_at(core, m, [s.reshape(7, -1) for s in S])
    np.testing.assert_allclose(mean, np.einsum("abc,na,nb,nc->n", W, *m), atol=1e-12)
    np.testing.assert_allclose(square, np.einsum("abcdef,nad,nbe,ncf->n", EW, *S), atol=1e-9)
    precision, linear = mode_messages(modes, core, Noise(tau, 1.0), y, weight, 1, 3)
    each = np.einsum("abcdef,nad,ncf->nbe", EW, S[0], S[2]) * (tau * weight)[:, None, None]
    slope = np.einsum("abc,na,nc->nb", W, m[0], m[2]) * (tau * weight * y)[:, None]
    for i in range(len(modes[1].knots)):
        here = modes[1].index == i
        np.testing.assert_allclose(precision[i], each[here].sum(axis=0), atol=1e-9)
        np.testing.assert_allclose(linear[i], slope[here].sum(axis=0), atol=1e-9)
    if not diagonal:
        precision, linear = core_messages(modes, core, Noise(tau, 1.0), y, weight, 3)
        gram = np.einsum("n,nad,nbe,ncf->abcdef", tau * weight, *S).reshape(12, 12)
        np.testing.assert_allclose(precision, np.eye(12) + gram, atol=1e-9)
        slope = np.einsum("n,na,nb,nc->abc", tau * weight * y, *m)
        np.testing.assert_allclose(linear, slope.ravel(), atol=1e-9)


# The paper's claims.


def f1(u):
    return np.exp(-2 * u) * np.sin(3 * np.pi * u)


def f2(v):
    return np.sin(2 * np.pi * v) ** 2 * np.cos(2 * np.pi * v)


def separable(seed, n=650):
    rng = np.random.default_rng(seed)
    X, T = rng.random((n, 2)), rng.random((1000, 2))
    truth, test = (f1(Z[:, 0]) * f2(Z[:, 1]) for Z in (X, T))
    return X, truth + 0.02 * rng.normal(size=n), T, test


def miss(model, T, truth):
    return np.sqrt(np.mean((model.predict(T) - truth) ** 2))


@pytest.mark.parametrize("seed", range(2))
def test_curves_are_found_and_the_grid_and_the_forest_are_beaten(seed):
    X, y, T, truth = separable(seed)
    forest = RandomForestRegressor(random_state=0).fit(X, y)
    params = {"max_iter": 60, "tol": 1e-3, "random_state": 0}
    model = FunctionalTuckerRegressor(1, **SMOOTH, **params).fit(X, y)
    grid = np.linspace(0, 1, 200)
    for k, f in enumerate([f1, f2]):
        curve = model.factors(k, grid)[0][:, 0]
        assert abs(np.corrcoef(curve, f(grid))[0, 1]) > 0.98
    assert miss(model, T, truth) <= 0.4 * miss(forest, T, truth)
    default = FunctionalTuckerRegressor(1, **params).fit(X, y)
    assert miss(default, T, truth) <= 0.75 * miss(forest, T, truth)
    cells, cells_test = ((np.floor(20 * Z) + 0.5) / 20 for Z in (X, T))
    rounded = FunctionalTuckerRegressor(1, **SMOOTH, **params).fit(cells, y)
    assert miss(rounded, cells_test, truth) >= 2 * miss(model, T, truth)
    mean, std = model.predict(T, return_std=True)
    noise = 0.02 * np.random.default_rng(9).normal(size=1000)
    assert 0.8 <= np.mean(np.abs(truth + noise - mean) < 1.645 * std) <= 0.97


def test_duplicated_rows_do_not_make_it_less_certain():
    X, y, T, _ = separable(0)
    params = {"max_iter": 40, "tol": 1e-3, "random_state": 0}
    model = FunctionalTuckerRegressor(1, **SMOOTH, **params)
    mean, std = model.fit(X, y).predict(T, return_std=True)
    again, less = model.fit(np.r_[X, X], np.r_[y, y]).predict(T, return_std=True)
    assert less.mean() <= std.mean()
    assert np.abs(again - mean).max() < 0.1 * y.std()
    weighted = model.fit(X, y, sample_weight=np.full(650, 2.0)).predict(T)
    np.testing.assert_allclose(weighted, again, atol=1e-8)


def rank_two(seed, n=400):
    rng = np.random.default_rng(seed)
    X, T = rng.random((n, 3)), rng.random((1000, 3))

    def f(x):
        a, b, c = x.T * np.pi
        return np.sin(3 * a) * np.cos(3 * b) * np.exp(-x[:, 2]) + x[:, 0] ** 2 * np.sin(
            2 * b
        ) * np.cos(2 * c)

    return X, f(X) + 0.05 * rng.normal(size=n), T, f(T)


def gaussian_process():
    kernel = ConstantKernel() * Matern([0.3] * 3, nu=1.5) + WhiteKernel(0.01)
    return GaussianProcessRegressor(kernel, normalize_y=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_sums_of_products_are_learnt_better_than_by_a_full_process(seed):
    X, y, T, truth = rank_two(seed)
    peer = miss(gaussian_process().fit(X, y), T, truth)
    for params in ({"rank": 3}, {"rank": 2, "form": "cp"}):
        model = FunctionalTuckerRegressor(**SMOOTH, **params, max_iter=60, random_state=0)
        assert miss(model.fit(X, y), T, truth) <= 0.7 * peer


def test_sum_of_products_is_learnt_from_few_rows():
    X, y, T, truth = rank_two(0)
    forest = RandomForestRegressor(random_state=0).fit(X, y)
    for params in ({"rank": 3}, {"rank": 2, "form": "cp"}):
        model = FunctionalTuckerRegressor(**SMOOTH, **params, max_iter=60, random_state=0)
        assert miss(model.fit(X, y), T, truth) < 0.3 * miss(forest, T, truth)


# Invariances and use.


def test_order_of_rows_and_of_columns_does_not_matter():
    X, y, T, _ = separable(0, 100)
    order = np.random.default_rng(0).permutation(100)
    model = FunctionalTuckerRegressor(2, **SMOOTH, max_iter=30, random_state=0)
    expected = model.fit(X, y).predict(T)
    np.testing.assert_allclose(model.fit(X[order], y[order]).predict(T), expected, atol=1e-8)
    params = {"max_iter": 300, "tol": 1e-9, "random_state": 0}
    model = FunctionalTuckerRegressor(1, form="cp", **SMOOTH, **params).fit(X, y)
    expected, curve = model.predict(T), model.factor_means_[0]
    model.fit(X[:, ::-1], y)
    np.testing.assert_allclose(model.predict(T[:, ::-1]), expected, atol=1e-5)
    np.testing.assert_allclose(np.abs(model.factor_means_[1]), np.abs(curve), atol=1e-3)


def test_reported_parts_give_the_predictions():
    X, y, _, _ = separable(0, 200)
    model = FunctionalTuckerRegressor((2, 3), max_iter=25, random_state=0).fit(X, y)
    assert model.core_.shape == (2, 3)
    assert model.core_covariance_.shape == (6, 6)
    at = [np.searchsorted(knots, x) for knots, x in zip(model.knots_, X.T)]
    u, v = (np.take(m, i, axis=0) for m, i in zip(model.factor_means_, at))
    found = np.einsum("ab,na,nb->n", model.core_, u, v) * 1.0
    predicted = (model.predict(X) - y.mean()) / y.std()
    np.testing.assert_allclose(found, predicted, atol=1e-8)
    for m in model.factor_means_:
        np.testing.assert_allclose(np.sqrt(np.mean(m**2, axis=0)), 1, rtol=1e-10)


def test_kernel_is_tuned_to_the_data():
    X, y, T, truth = separable(0, 400)
    params = {"max_iter": 40, "random_state": 0, "kernel": "matern32", "length_scale": 0.1}
    fixed = FunctionalTuckerRegressor(1, **params).fit(X, y)
    tuned = FunctionalTuckerRegressor(1, optimize_kernel=True, **params).fit(X, y)
    assert miss(tuned, T, truth) < miss(fixed, T, truth)
    assert (tuned.length_scales_ > 0.12).all()


def test_draws_agree_with_the_predicted_moments():
    X, y, T, _ = separable(0, 200)
    model = FunctionalTuckerRegressor(1, **SMOOTH, max_iter=25, random_state=0).fit(X, y)
    draws = model.sample_y(T[:20], 200, random_state=0)
    mean, std = model.predict(T[:20], return_std=True)
    assert draws.shape == (20, 200)
    assert np.abs((draws.mean(axis=1) - mean) / std).max() < 0.3
    np.testing.assert_allclose(draws.std(axis=1), std, rtol=0.3)


def test_what_makes_no_sense_raises_and_large_cores_warn():
    X, y, _, _ = separable(0, 30)
    with pytest.raises(ValueError, match="rank"):
        FunctionalTuckerRegressor((2, 3, 4)).fit(X, y)
    with pytest.raises(ValueError, match="rank"):
        FunctionalTuckerRegressor((2, 3), form="cp").fit(X, y)
    with pytest.raises(ValueError, match="(?i)sample.weight"):
        FunctionalTuckerRegressor().fit(X, y, sample_weight=np.zeros(30))
    with pytest.warns(UserWarning, match="form='cp'"):
        model = FunctionalTuckerRegressor(max_iter=2).fit(np.tile(X, 4), y)
    assert model.form_ == "cp"
    assert model.core_.shape == (3,)
