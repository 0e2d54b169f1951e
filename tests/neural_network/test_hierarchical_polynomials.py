"""Layerwise learning of polynomial scores: exact regressions, the claim, where it fails."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.neural_network import MLPRegressor

from skpapers.neural_network import LayerwiseFeatureRegressor, make_hierarchical_polynomial
from skpapers.neural_network._cross_validated_ridge import gradient_descent, ridge_path, whitening
from skpapers.neural_network._polynomial_scores import hermite


def wiggly(z):
    return np.tanh(2 * z) + np.abs(z)


def problem(n_train, n_features, seed, n_test=3000, **kwargs):
    """Training rows, then test rows with their scores."""
    X, y, p = make_hierarchical_polynomial(
        n_train + n_test, n_features, random_state=seed, **kwargs
    )
    return X[:n_train], y[:n_train], X[n_train:], y[n_train:], p[n_train:]


def correlation(model, X, p):
    return np.corrcoef(model.transform(X)[:, 0], p)[0, 1]


def best_kernel(train, test, settings, alphas):
    """Test R2 of the best kernel regression, chosen on the test rows: in favour of kernels."""
    (X, y), (X_test, y_test) = train, test
    mean = y.mean()
    fits = (KernelRidge(alpha=a, **s).fit(X, y - mean) for s in settings for a in alphas)
    return max(r2_score(y_test, mean + fit.predict(X_test)) for fit in fits)


def kernels(d):
    return [
        {"kernel": "poly", "degree": 2, "gamma": 1 / d, "coef0": 1},
        {"kernel": "poly", "degree": 4, "gamma": 1 / d, "coef0": 1},
        {"kernel": "rbf", "gamma": 0.5 / d},
    ]


def quadratic_features(X):
    """All normalised Hermite products of degree two."""
    i, j = np.triu_indices(X.shape[1])
    return np.where(i == j, (X[:, i] * X[:, j] - 1) / np.sqrt(2), X[:, i] * X[:, j])


def units_and_map(seed=0, n_samples=300, d=5, n_units=40):
    rng = np.random.default_rng(seed)
    X, v = rng.normal(size=(n_samples, d)), rng.normal(size=(n_units, d))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    i, j = np.triu_indices(d)
    M = (v[:, i] * v[:, j] * np.where(i == j, 1, np.sqrt(2))).T
    return X, v, M, rng.normal(size=(n_samples, 2))


def test_random_units_are_a_linear_map_of_all_quadratic_terms():
    X, v, M, _ = units_and_map()
    np.testing.assert_allclose(hermite(X @ v.T, 2), quadratic_features(X) @ M, atol=1e-12)


def test_least_squares_on_random_units_is_that_on_all_quadratic_terms():
    X, v, _, Y = units_and_map()
    units, terms = hermite(X @ v.T, 2), quadratic_features(X)
    units, terms, Y = (A - A.mean(0) for A in (units, terms, Y))
    ours = units @ ridge_path(units, Y, [1e-13])[0]
    exact = terms @ np.linalg.lstsq(terms, Y, rcond=None)[0]
    np.testing.assert_allclose(ours, exact, atol=1e-6)


def test_ridge_on_random_units_has_the_induced_metric():
    X, v, M, Y = units_and_map()
    units, terms = hermite(X @ v.T, 2), quadratic_features(X)
    units, terms, Y = (A - A.mean(0) for A in (units, terms, Y))
    coef, _, _, scale = ridge_path(units, Y, [0.01])
    gram = terms.T @ terms / len(X) + 0.01 * scale * np.linalg.inv(M @ M.T)
    exact = np.linalg.solve(gram, terms.T @ Y / len(X))
    np.testing.assert_allclose(units @ coef, terms @ exact, atol=1e-9)


@pytest.mark.parametrize("shape", [(60, 15), (25, 40)])
def test_penalty_is_that_of_generalised_cross_validation(shape):
    rng = np.random.default_rng(0)
    A, Y = rng.normal(size=shape), rng.normal(size=(shape[0], 3))
    A, Y = A - A.mean(0), Y - Y.mean(0)
    Y[:, 0] += A[:, 0]
    alphas = np.logspace(1, -5, 9)
    coef, alpha, gcv, scale = ridge_path(A, Y, alphas)
    assert scale == pytest.approx(np.linalg.norm(A, 2) ** 2 / len(A))
    for t in range(3):
        scores = []
        for a in alphas:
            inner = A.T @ A / len(A) + a * scale * np.eye(shape[1])
            hat = A @ np.linalg.solve(inner, A.T) / len(A)
            residual = Y[:, t] - hat @ Y[:, t]
            scores.append(np.mean(residual**2) / (1 - (1 + np.trace(hat)) / len(A)) ** 2)
        best = int(np.argmin(scores))
        assert alpha[t] == alphas[best] and gcv[t] == pytest.approx(scores[best])
        inner = A.T @ A / len(A) + alpha[t] * scale * np.eye(shape[1])
        np.testing.assert_allclose(coef[:, t], np.linalg.solve(inner, A.T @ Y[:, t]) / len(A))


def test_gradient_descent_reaches_the_ridge_regression():
    X, v, _, Y = units_and_map(n_units=60)
    units = hermite(X @ v.T, 2)
    units, Y = units - units.mean(0), Y - Y.mean(0)
    coef, alpha, _, scale = ridge_path(units, Y, [1e-2])
    found, _ = gradient_descent(units, Y, alpha * scale, scale, 2000)
    assert np.linalg.norm(found - coef) <= 1e-3 * np.linalg.norm(coef)
    X, y, X_test, *_ = problem(300, 5, 0)
    ridge, descent = (
        LayerwiseFeatureRegressor(alphas=[1e-2], solver=s, random_state=0).fit(X, y)
        for s in ("ridge", "gd")
    )
    gap = descent.predict(X_test) - ridge.predict(X_test)
    assert np.linalg.norm(gap) <= 1e-3 * np.linalg.norm(ridge.predict(X_test))
    with pytest.warns(ConvergenceWarning, match="max_epochs=3"):
        LayerwiseFeatureRegressor(solver="gd", max_epochs=3, random_state=0).fit(X, y)


def test_whitening_decorrelates_where_there_are_rows_enough_and_shrinks_otherwise():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(4, 4)) * [1, 10, 1e3, 1e-3]
    X = rng.normal(size=(20000, 4)) @ mix + 5
    mean, W = whitening(X)
    np.testing.assert_allclose(np.cov((X - mean) @ W, rowvar=False), np.eye(4), atol=0.05)
    X = rng.normal(size=(30, 100))
    mean, W = whitening(X)
    Z = (X - mean) @ W
    assert 0.3 < Z.std() < 1.5 and np.linalg.cond(W) < 10
    assert (whitening(X, False)[1] == np.eye(100)).all()


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("d", [4, 7])
def test_scores_have_mean_zero_and_variance_one(degree, d):
    X, y, p = make_hierarchical_polynomial(
        100000, d, degree=degree, link="identity", random_state=0
    )
    np.testing.assert_array_equal(y, p)
    tolerance = 0.08 if degree == 3 else 0.03
    assert abs(p.mean()) < 0.03 and abs(p.var() - 1) < tolerance
    lower = np.c_[X, quadratic_features(X)][:, : None if degree == 3 else d * (degree - 1)]
    if degree > 1:  # nothing of it is of lower degree
        assert abs(lower.T @ p / len(X)).max() < 0.04
    _, y, p = make_hierarchical_polynomial(300, d, degree=degree, random_state=1)
    cubic = (p + (p**2 - 1) / np.sqrt(2) + (p**3 - 3 * p) / np.sqrt(6)) / np.sqrt(3)
    np.testing.assert_allclose(y, cubic, rtol=1e-12)


def test_noise_and_links():
    _, y, p = make_hierarchical_polynomial(20000, 5, link=np.sin, noise=0.5, random_state=0)
    assert np.std(y - np.sin(p)) == pytest.approx(0.5, rel=0.03)
    with pytest.raises(ValueError, match="n_features >= 4"):
        make_hierarchical_polynomial(5, 3, degree=3)


@pytest.mark.parametrize("seed", range(3))
def test_a_score_itself_is_learnt_from_few_rows(seed):
    X, y, X_test, y_test, p = problem(840, 20, seed, link="identity")
    model = LayerwiseFeatureRegressor(2, random_state=seed).fit(X, y)
    assert model.score(X_test, y_test) >= 0.99
    assert correlation(model, X_test, p) >= 0.995


@pytest.mark.parametrize("link", ["quadratic", wiggly], ids=["quadratic", "wiggly"])
def test_bent_scores_are_learnt_where_kernels_fail(link):
    X, y, X_test, y_test, p = problem(2000, 16, 2, link=link)
    model = LayerwiseFeatureRegressor(2, random_state=2).fit(X, y)
    ours = model.score(X_test, y_test)
    peer = best_kernel((X, y), (X_test, y_test), kernels(16), [0.01, 0.1, 1])
    assert ours >= 0.65 and ours >= peer + 0.15
    assert correlation(model, X_test, p) >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("link", ["quadratic", wiggly], ids=["quadratic", "wiggly"])
def test_bent_scores_are_learnt_where_kernels_fail_in_twenty_dimensions(link):
    X, y, X_test, y_test, p = problem(4000, 20, 0, link=link)
    model = LayerwiseFeatureRegressor(2, random_state=0).fit(X, y)
    ours = model.score(X_test, y_test)
    peer = best_kernel((X, y), (X_test, y_test), kernels(20), [0.01, 0.1, 1])
    assert ours >= 0.65 and ours >= peer + 0.15
    assert correlation(model, X_test, p) >= 0.8


def test_rows_needed_grow_like_the_number_of_quadratic_terms():
    sizes, needed = np.array([300, 450, 700, 1000, 1500, 2200, 3300]), {}
    for d in (10, 20):
        found = np.zeros(len(sizes))
        for seed in range(3):
            X, y, X_test, _, p = problem(sizes[-1], d, seed, link="quadratic")
            for k, n in enumerate(sizes):
                model = LayerwiseFeatureRegressor(2, random_state=seed).fit(X[:n], y[:n])
                found[k] += correlation(model, X_test, p) / 3
        needed[d] = sizes[found >= 0.8][0]
    assert needed[20] <= 4.5 * needed[10]


def test_a_cubic_curve_is_learnt_better_than_by_kernels_of_its_degree_and_networks():
    poly = [{"kernel": "poly", "degree": 6, "gamma": g / 16, "coef0": 1} for g in (0.5, 1)]
    scores = []
    for seed in range(3):
        X, y, X_test, y_test, _ = problem(1500, 16, seed, n_test=6000)
        network = MLPRegressor(
            hidden_layer_sizes=(256,), early_stopping=True, max_iter=1000, random_state=seed
        )
        models = LayerwiseFeatureRegressor(2, random_state=seed), network
        kernel = best_kernel((X, y), (X_test, y_test), poly, [10, 100])
        scores.append([kernel, *(m.fit(X, y).score(X_test, y_test) for m in models)])
    kernel, ours, network = np.mean(scores, axis=0)
    assert ours >= kernel + 0.04
    assert ours >= network + 0.1


def test_a_score_of_degree_three():
    X, y, X_test, y_test, p = problem(1500, 8, 0, degree=3, link="identity")
    model = LayerwiseFeatureRegressor(random_state=0).fit(X, y)
    assert model.degree_ == 3 and set(model.gcv_scores_) == {1, 2, 3}
    assert model.score(X_test, y_test) >= 0.85 and correlation(model, X_test, p) >= 0.98


def test_curves_without_a_trend_are_not_learnt():
    X, y, X_test, y_test, _ = problem(4000, 20, 0, link=lambda z: (z**2 - 1) / np.sqrt(2))
    model = LayerwiseFeatureRegressor(2, random_state=0).fit(X, y)
    assert model.score(X_test, y_test) <= 0.25
    X, y, X_test, y_test, _ = problem(4000, 20, 0, link="identity")
    model = LayerwiseFeatureRegressor(2, random_state=0).fit(X, y)
    assert model.score(X_test, y_test) >= 0.99


def test_with_few_features_a_kernel_is_better():
    X, y, X_test, y_test, _ = problem(1500, 10, 0, link="quadratic")
    poly = [{"kernel": "poly", "degree": 6, "gamma": 0.1, "coef0": 1}]
    peer = best_kernel((X, y), (X_test, y_test), poly, [0.01])
    assert peer >= LayerwiseFeatureRegressor(2, random_state=0).fit(X, y).score(X_test, y_test)


def test_degree_is_found_and_a_linear_target_with_it():
    for degree in (1, 2):
        X, y, X_test, y_test, _ = problem(800, 8, degree, degree=degree, link=np.tanh)
        model = LayerwiseFeatureRegressor(random_state=0).fit(X, y)
        assert model.degree_ == degree and model.score(X_test, y_test) >= 0.85
    strict = LayerwiseFeatureRegressor(2, random_state=0)
    linear = problem(800, 8, 0, degree=1, link="identity")
    assert strict.fit(*linear[:2]).score(*linear[2:4]) <= 0.1
    ridge = RidgeCV().fit(*linear[:2])
    assert ridge.score(*linear[2:4]) >= 0.99


def test_link_is_the_curve_and_transform_the_score():
    X, y, X_test, y_test, p = problem(3000, 8, 0, link=np.tanh)
    model = LayerwiseFeatureRegressor(2, random_state=0).fit(X, y)
    z = np.linspace(-2, 2, 21)
    assert abs(model.link(z) - np.tanh(z)).max() < 0.15
    assert abs(model.transform(X_test)[:, 0].std() - 1) < 0.1
    # beyond the training data the curve is constant
    assert model.link([1e3])[0] == model.link([1e6])[0]
    stage = model.stages_[0]
    Z = (X_test - model.mean_) @ model.whitening_
    score = hermite(Z @ stage["v"].T, 2) @ stage["u"][:, 0] + stage["intercept"]
    score = np.clip((score - stage["mean"]) / stage["std"], *stage["range"])
    first = np.maximum(score[:, None] * stage["w"] + stage["b"], 0) @ stage["a"][:, 0]
    other = 2 * model.predict(X_test) - (first + stage["constant"])
    assert r2_score(y_test, first + stage["constant"]) > 0.85 and r2_score(y_test, other) > 0.85


def test_targets_are_fitted_one_by_one():
    X, y, *_ = problem(400, 6, 0)
    both = LayerwiseFeatureRegressor(2, random_state=0).fit(X, np.c_[y, -3 * y**2])
    assert both.transform(X).shape == both.predict(X).shape == (400, 2)
    assert both.alpha_inner_.shape == both.alpha_outer_.shape == (2, 2)
    for t, target in enumerate((y, -3 * y**2)):
        alone = LayerwiseFeatureRegressor(2, random_state=0).fit(X, target)
        np.testing.assert_allclose(both.predict(X)[:, t], alone.predict(X), rtol=1e-6, atol=1e-6)
        z = np.c_[np.linspace(-1, 1, 5), np.linspace(-1, 1, 5)]
        np.testing.assert_allclose(both.link(z)[:, t], alone.link(z[:, 0]), rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="z has 1 columns, not 2"):
        both.link([0.0])


@pytest.mark.parametrize("activation", ["relu", np.tanh], ids=["relu", "tanh"])
def test_other_units(activation):
    X, y, X_test, y_test, _ = problem(1000, 6, 0, link="identity")
    model = LayerwiseFeatureRegressor(
        2, 400, inner_activation=activation, outer_activation=np.tanh, random_state=0
    ).fit(X, y)
    assert model.score(X_test, y_test) >= 0.8


def test_bad_arguments():
    X, y, *_ = problem(20, 4, 0)
    with pytest.raises(ValueError, match="alphas must be a list of positive numbers"):
        LayerwiseFeatureRegressor(alphas=[1.0, 0.0]).fit(X, y)
    with pytest.raises(ValueError, match="cross_fit=11 folds need two rows each"):
        LayerwiseFeatureRegressor(cross_fit=11).fit(X, y)
