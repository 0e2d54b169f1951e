"""Kernel balancing: optimality of the weights, invariances, and what they repair."""

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import approx_fprime
from scipy.special import expit, logsumexp
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import mean_squared_error
from sklearn.preprocessing import StandardScaler

from skpapers.ranking import KernelBalancedRecommender, KernelBalancingWeights
from skpapers.ranking._balanced_functions import kernel_means, kernel_values
from skpapers.ranking._balancing_solvers import (
    balancing_loss,
    dual_weights,
    factorized_weights,
    matching_pursuit,
)
from skpapers.ranking._weighted_factors import fit_factors


def missing_at_random(seed, n=4000):
    """Outcomes that are seen more often where they are large, as far as features tell."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    s = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2]
    y = np.where(rng.random(n) < expit(1.5 * s - 1.5), s + 0.5 * rng.normal(size=n), np.nan)
    return X, y


def constant(X, centers):
    return np.ones((len(X), len(centers)))


@pytest.mark.parametrize("strength", [0.5, 50.0])
def test_weights_are_optimal(strength):
    X, y = missing_at_random(0, 400)
    fitted = KernelBalancingWeights(
        gamma_kernel=0.25, n_functions=10, balance_strength=strength, random_state=0
    ).fit(X, y)
    seen = ~np.isnan(y)
    w, dual = fitted.sample_weight_, fitted.dual_coef_
    assert np.all(w[seen] > 0) and np.all(w[~seen] == 0)
    assert w.sum() == pytest.approx(seen.sum())
    free = np.abs(dual) < strength * (1 - 1e-9)
    assert np.all(np.abs(fitted.gaps_[free]) <= 1e-3 + 1e-4)
    assert free.all() == (strength == 50)
    H = fitted.transform(X)
    p = w[seen] / seen.sum()
    assert_allclose(fitted.gaps_, H.mean(axis=0) - p @ H[seen], atol=1e-12)
    base = np.full(seen.sum(), 1 / seen.sum())
    primal, _ = balancing_loss(p, H[seen], H.mean(axis=0), base, 1e-3, strength)
    lower = dual @ H.mean(axis=0) - 1e-3 * np.abs(dual).sum()
    lower -= logsumexp(np.log(base) + H[seen] @ dual)
    assert primal == pytest.approx(lower, abs=1e-6)
    assert fitted.effective_sample_size_ == pytest.approx(1 / (p @ p))


def test_gradient_of_the_balancing_loss():
    rng = np.random.default_rng(0)
    H, p = rng.random((8, 3)), rng.dirichlet(np.ones(8))
    args = (H, rng.random(3), np.full(8, 1 / 8), 1e-3, 2.0)
    numeric = approx_fprime(p, lambda p: balancing_loss(p, *args)[0], 1e-7)
    assert_allclose(balancing_loss(p, *args)[1], numeric, atol=1e-5)


def test_weights_are_equal_where_nothing_is_to_be_balanced():
    X, y = missing_at_random(0, 300)
    seen = ~np.isnan(y)
    q = np.random.default_rng(0).random(300) + 0.1
    for settings, base in (
        ({"kernel": constant, "n_functions": 1}, None),
        ({"balance_tol": 10.0, "n_functions": 20}, None),
        ({"balance_tol": 10.0, "n_functions": 20}, q),
    ):
        fitted = KernelBalancingWeights(**settings, random_state=0).fit(X, y, base_weight=base)
        expected = np.ones(300) if base is None else q * seen.sum() / q[seen].sum()
        assert_allclose(fitted.sample_weight_[seen], expected[seen], atol=1e-8)
    complete = KernelBalancingWeights(random_state=0).fit(X)
    assert_allclose(complete.sample_weight_, 1, atol=1e-8)
    masked = KernelBalancingWeights(n_functions=20, random_state=0).fit(X, observed=seen)
    given = KernelBalancingWeights(n_functions=20, random_state=0).fit(X, y)
    assert_array_equal(masked.sample_weight_, given.sample_weight_)


def test_order_and_copies_of_rows_do_not_matter():
    X, y = missing_at_random(1, 300)
    model = KernelBalancingWeights(selection=X[:10], gamma_kernel=0.25)
    weights = model.fit(X, y).sample_weight_
    order = np.random.default_rng(0).permutation(300)
    assert_allclose(model.fit(X[order], y[order]).sample_weight_, weights[order], atol=1e-8)
    twice = model.fit(np.vstack([X, X]), np.r_[y, y]).sample_weight_
    assert_allclose(twice, np.r_[weights, weights], atol=1e-5)


def test_kernels_and_their_means_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    X, C = rng.normal(size=(50, 3)), rng.normal(size=(4, 3))
    D = np.linalg.norm(X[:, None] - C, axis=2)
    assert_allclose(kernel_values(X, C, "gaussian", 0.7), np.exp(-0.7 * D**2))
    assert_allclose(kernel_values(X, C, "exponential", 0.7), np.exp(-0.7 * D))
    monkeypatch.setattr("skpapers.ranking._balanced_functions._BLOCK_CELLS", 28)
    expected = np.exp(-0.7 * D).mean(axis=0)
    assert_allclose(kernel_means(X, C, "exponential", 0.7), expected)


def test_matching_pursuit_finds_the_columns_of_a_sum():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(200, 20))
    A -= A.mean(axis=0)
    target = 3 * A[:, 4] - 2 * A[:, 11] + A[:, 17]
    assert matching_pursuit(A.T @ A, A.T @ target, 3) == [4, 11, 17]


def test_worst_function_has_the_largest_gap():
    """No function of unit norm has a larger gap than the one that is balanced first."""
    X, y = missing_at_random(0, 600)
    seen = ~np.isnan(y)
    fitted = KernelBalancingWeights(
        gamma_kernel=0.25, selection="worst", n_functions=1, random_state=0
    ).fit(X, y)
    gram = kernel_values(fitted.centers_, fitted.centers_, "gaussian", 0.25)
    values = kernel_values(X, fitted.centers_, "gaussian", 0.25)
    gap = values.mean(axis=0) - values[seen].mean(axis=0)

    def size(a):
        return abs(gap @ a) / np.sqrt(a @ gram @ a + 1e-3 * a @ a)

    others = np.random.default_rng(0).normal(size=(200, len(gram)))
    assert size(fitted.function_coef_[:, 0]) > max(size(a) for a in others)
    assert size(fitted.function_coef_[:, 0]) > max(size(a) for a in np.eye(len(gram)))
    loose = KernelBalancingWeights(selection="worst", balance_tol=10.0).fit(X, y)
    assert loose.gaps_.size == 0 and loose.transform(X).shape == (600, 0)


def test_stochastic_weights_approach_the_optimum():
    rng = np.random.default_rng(0)
    u, i = np.divmod(np.arange(200), 10)
    features = np.hstack([rng.random((20, 2))[u], rng.random((10, 2))[i]])
    observed = np.flatnonzero(rng.random(200) < 0.1 + 0.6 * features[:, 0])
    values = kernel_values(features, features[rng.permutation(200)[:10]], "gaussian", 2.0)
    targets, H = values.mean(axis=0), values[observed]
    base = np.full(len(observed), 1 / len(observed))
    exact = balancing_loss(
        dual_weights(H, targets, base, 1e-3, 1.0)[0], H, targets, base, 1e-3, 1.0
    )
    p = factorized_weights(
        u[observed],
        i[observed],
        lambda: (np.arange(len(observed)), H, targets),
        n_components=4,
        tol=1e-3,
        strength=1.0,
        lr=1e-2,
        n_steps=2000,
        rng=np.random.RandomState(0),
    )
    reached = balancing_loss(p, H, targets, base, 1e-3, 1.0)
    assert exact[0] - 1e-9 <= reached[0] <= 1.02 * exact[0]


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_factors_are_a_stationary_point(loss):
    rng = np.random.default_rng(0)
    u, i = (a.ravel() for a in np.indices((6, 5)))
    y, w = rng.random(30), rng.random(30)
    settings = {"n_components": 2, "biases": True, "loss": loss, "reg": 0.05, "max_iter": 2000}
    U, V, c, _ = fit_factors(u, i, y, w, (6, 5), rng=np.random.RandomState(0), **settings)

    def value(flat):
        A, B = flat[:18].reshape(6, 3), flat[18:].reshape(5, 3)
        z = c + (A[:, :2] @ B[:, :2].T + A[:, 2:] + B[:, 2]).ravel()
        each = (z - y) ** 2 if loss == "squared" else np.log1p(np.exp(z)) - y * z
        return w @ each + 0.05 * np.sum(flat**2)

    gradient = approx_fprime(np.concatenate([U.ravel(), V.ravel()]), value, 1e-7)
    assert_allclose(gradient, 0, atol=1e-3)


# The claims: means, then predictions.


def mean_error(seeds, **settings):
    """Root mean squared error of the weighted mean, which is 0 in truth."""
    found = []
    for seed in seeds:
        X, y = missing_at_random(seed)
        model = KernelBalancingWeights(gamma_kernel=0.25, random_state=seed, **settings)
        found.append(model.fit(X, y).estimate_mean(y))
    return np.sqrt(np.mean(np.square(found)))


def test_balancing_more_functions_removes_more_of_the_bias():
    naive, logistic = [], []
    for seed in range(2):
        X, y = missing_at_random(seed)
        seen = ~np.isnan(y)
        propensity = LogisticRegression().fit(X, seen).predict_proba(X[seen])[:, 1]
        naive.append(y[seen].mean())
        logistic.append(np.average(y[seen], weights=1 / propensity))
    errors = [mean_error(range(2), n_functions=J) for J in (10, 50, 200)]
    assert errors[2] <= 0.3
    assert errors[2] < errors[1] < errors[0] < np.mean(logistic) < np.mean(naive) + 0.05
    assert np.mean(logistic) > 0.9


@pytest.mark.slow
def test_balancing_more_functions_removes_more_of_the_bias_over_many_draws():
    errors = [mean_error(range(10), n_functions=J) for J in (10, 50, 200)]
    assert errors[2] <= 0.3
    assert errors[2] < errors[1] < errors[0]


def test_few_functions_do_if_they_are_those_that_matter():
    few = {s: mean_error(range(5), selection=s, n_functions=10)
           for s in ("adaptive", "worst", "random")}  # fmt: skip
    assert few["adaptive"] <= 0.25
    assert few["worst"] <= 0.2
    assert few["random"] >= 0.5


def exposure(seed):
    """Ratings of rank 3, seen where they are high; features; and the truth."""
    rng = np.random.default_rng(seed)
    A, B = rng.normal(size=(200, 3)), rng.normal(size=(150, 3))
    T = A @ B.T / np.sqrt(3)
    seen = rng.random(T.shape) < 0.05 + 0.45 * expit(2 * T)
    return np.where(seen, T + 0.3 * rng.normal(size=T.shape), np.nan), T, A, B


def recommendation_error(seed, n_components, **settings):
    R, T, A, B = exposure(seed)
    settings = {"n_functions": 100, "n_rounds": 2, "random_state": 0, **settings}
    model = KernelBalancedRecommender(n_components, **settings)
    model.fit(R, user_features=A, item_features=B)
    pairs = np.column_stack([index.ravel() for index in np.indices(T.shape)])
    return mean_squared_error(T.ravel(), model.predict(pairs))


NO_WEIGHTS = {"balance_strength": 0.0, "selection": "random"}


def gain(n_components, seeds=range(3), **settings):
    """Mean over draws of the part of the error that weights remove."""
    none = {"balance_strength": 0.0, "selection": "random"}
    plain = [recommendation_error(seed, n_components, **none) for seed in seeds]
    ours = [recommendation_error(seed, n_components, **settings) for seed in seeds]
    return 1 - np.mean(np.divide(ours, plain))


def test_weights_repair_a_predictor_that_is_too_simple():
    assert gain(2, [2], selection="adaptive") >= 0.08


@pytest.mark.slow
@pytest.mark.parametrize(("selection", "n_functions"), [("random", 200), ("adaptive", 100)])
def test_more_functions_repair_it_as_well(selection, n_functions):
    assert gain(2, selection=selection, n_functions=n_functions) >= 0.08


def test_doubly_robust_predictor_repairs_it_as_well():
    assert gain(2, [1], selection="random", estimator="dr") >= 0.08


def test_a_predictor_that_is_right_needs_no_weights():
    assert abs(gain(3, [0], selection="random")) <= 0.05


# The recommender's inputs.


def test_nothing_missing_is_ridge_or_logistic_regression():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 3)) * [1, 10, 0.1], rng.normal(size=80)
    Z = StandardScaler().fit_transform(X)
    model = KernelBalancedRecommender(random_state=0).fit(X, y)
    assert_allclose(model.predict(X), Ridge().fit(Z, y).predict(Z))
    assert_array_equal(model.sample_weight_, 1)
    clicks = (X[:, 0] + y > 0).astype(float)
    model = KernelBalancedRecommender(loss="logistic", reg=0.5).fit(X, clicks)
    expected = LogisticRegression(tol=1e-8).fit(Z, clicks).predict_proba(Z)[:, 1]
    assert_allclose(model.predict(X), expected, atol=1e-3)
    with pytest.raises(ValueError, match=r"y in \[0, 1\]"):
        KernelBalancedRecommender(loss="logistic").fit(X, y)


@pytest.mark.parametrize("estimator", ["ips", "dr"])
def test_features_of_pairs_with_missing_ratings(estimator):
    """A straight line is too simple for a square: weights move it to where all pairs are."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(3000, 1))
    y = np.where(rng.random(3000) < expit(4 * X[:, 0] - 1), X[:, 0] ** 2, np.nan)
    settings = {"n_functions": 30, "random_state": 0, "selection": "random"}
    model = KernelBalancedRecommender(estimator=estimator, **settings).fit(X, y)
    plain = Ridge().fit(X[~np.isnan(y)], y[~np.isnan(y)])
    truth = X[:, 0] ** 2
    error = mean_squared_error(truth, model.predict(X))
    assert error < 0.7 * mean_squared_error(truth, plain.predict(X))


def test_pairs_and_matrix_are_the_same():
    R = exposure(0)[0][:30, :20]
    u, i = np.nonzero(~np.isnan(R))
    settings = {"n_components": 2, "n_functions": 20, "n_rounds": 1, "random_state": 0}
    matrix = KernelBalancedRecommender(**settings).fit(R)
    pairs = KernelBalancedRecommender(**settings).fit(np.column_stack([u, i]), R[u, i])
    pairs_of_all = np.argwhere(np.isin(np.arange(30), u)[:, None] & np.isin(np.arange(20), i))
    assert_allclose(matrix.predict(pairs_of_all), pairs.predict(pairs_of_all), atol=1e-10)
    names = np.char.add("user", u.astype(str)), np.char.add("item", i.astype(str))
    named = KernelBalancedRecommender(**settings, input="pairs")
    named.fit(np.column_stack(names).astype(object), R[u, i])
    assert named.predict([["user3", "item5"], ["nobody", "nothing"]])[1] == named.intercept_
    items = matrix.recommend([4, 7], 5)
    scores = matrix.predict([[4, item] for item in range(20)])
    unseen = np.flatnonzero(np.isnan(R[4]))
    assert_array_equal(items[0], unseen[np.argsort(-scores[unseen])][:5])
    best = matrix.recommend([4], 20, exclude_observed=False)[0]
    assert_array_equal(best, np.argsort(-scores))
    assert matrix.score(np.column_stack([u, i]), R[u, i]) > 0.3


@pytest.mark.parametrize(("batch_size", "share"), [(32, 0.8), (10_000, 0.5)])
def test_stochastic_solver_balances_the_recommender(batch_size, share):
    R = exposure(0)[0][:40, :30]
    settings = {"n_functions": 10, "random_state": 0, "selection": "random", "n_components": 2}
    none = KernelBalancedRecommender(balance_strength=0.0, **settings).fit(R)
    trained = KernelBalancedRecommender(solver="sgd", batch_size=batch_size, **settings).fit(R)
    assert trained.balance_gap_ < share * none.balance_gap_
    with pytest.raises(ValueError, match="needs pairs of users and items"):
        KernelBalancedRecommender(solver="sgd").fit(np.eye(3), [0.0, 1.0, np.nan])


def test_clicks_are_probabilities():
    R, *_ = exposure(1)
    R = np.where(np.isnan(R), np.nan, R > 0)[:40, :30]
    for estimator in ("ips", "dr"):
        model = KernelBalancedRecommender(
            2, loss="logistic", estimator=estimator, n_rounds=1, n_functions=20, random_state=0
        ).fit(R)
        found = model.predict(np.argwhere(~np.isnan(R)))
        assert np.all((found > 0) & (found < 1))
        assert np.mean((found > 0.5) == R[~np.isnan(R)]) > 0.8


def test_wrong_inputs_are_named():
    X, y = missing_at_random(0, 20)
    with pytest.raises(ValueError, match="adaptive.*requires y"):
        KernelBalancingWeights(selection="adaptive").fit(X)
    with pytest.raises(ValueError, match="centres of 4 columns"):
        KernelBalancingWeights(selection=np.ones((3, 2))).fit(X, y)
    with pytest.raises(ValueError, match="observed must hold 20"):
        KernelBalancingWeights().fit(X, observed=np.zeros(20, dtype=bool))
    with pytest.raises(ValueError, match="base_weight must hold 20 positive"):
        KernelBalancingWeights().fit(X, y, base_weight=np.zeros(20))
    with pytest.raises(ValueError, match="infinity"):
        KernelBalancedRecommender().fit(X, np.full(20, np.inf))
    with pytest.raises(ValueError, match="repeated pairs"):
        KernelBalancedRecommender().fit([[0, 1], [0, 1]], [1.0, 2.0])
    with pytest.raises(ValueError, match="only NaN"):
        KernelBalancedRecommender().fit(np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="requires y"):
        KernelBalancedRecommender(input="pairs").fit([[0, 1]])
    with pytest.raises(ValueError, match="3 rows of features for 2 users"):
        KernelBalancedRecommender().fit([[1, np.nan], [2, 3]], user_features=np.eye(3))


def test_masks_and_weights_are_metadata():
    with sklearn.config_context(enable_metadata_routing=True):
        model = KernelBalancingWeights().set_fit_request(observed=True, base_weight=True)
        recommender = KernelBalancedRecommender().set_fit_request(user_features=True)
    assert model.get_metadata_routing().fit.requests["observed"] is True
    assert recommender.get_metadata_routing().fit.requests["user_features"] is True
