"""Semi-structured networks: exact projections, unchanged predictions, identified effects."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import GammaRegressor, LinearRegression, PoissonRegressor, Ridge
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from skpapers.neural_network import (
    NeuralRegressor,
    SemiStructuredClassifier,
    SemiStructuredRegressor,
    post_hoc_orthogonalize,
)
from skpapers.neural_network._orthogonal_projection import projection, second_differences

SMALL = {"hidden_layer_sizes": (20, 20), "max_epochs": 20, "tol": 0, "random_state": 0}
STOPPED = {
    "batch_size": 32, "max_epochs": 300, "early_stopping": True, "n_iter_no_change": 20,
    "dropout": 0.2,
}  # fmt: skip


def design(seed=0, n=200, q=4, n_outputs=2):
    rng = np.random.default_rng(seed)
    Z = np.c_[np.ones(n), rng.normal(size=(n, q - 1)) * [1, 10, 0.1][: q - 1]]
    return Z, rng.normal(size=(n, n_outputs)) + 5, rng.normal(size=(q, n_outputs)), rng


def with_ones(X):
    return np.c_[np.ones(len(X)), X]


def linear_data(seed, n=1000):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return X, X @ [-2.5, -2.0, -1.5] + rng.normal(size=n)


def curved_data(seed, n=300):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1.5, 1.5, (n, 3))
    effects = [np.cos(5 * X[:, 0]), np.tanh(3 * X[:, 1]), -(X[:, 2] ** 3)]
    return X, sum(effects) + 0.1 * rng.normal(size=n), effects


def rms(x):
    return np.sqrt(np.mean(np.square(x)))


def test_projection_leaves_a_residual_that_is_orthogonal_and_has_none_itself():
    Z, g, coef, _ = design()
    orthogonal, correction = post_hoc_orthogonalize(Z, g, coef)
    left = g - Z @ correction
    assert abs(Z.T @ left).max() <= 1e-8 * np.linalg.norm(Z) * np.linalg.norm(g)
    np.testing.assert_allclose(Z @ orthogonal + left, Z @ coef + g, rtol=1e-12)
    again, second = post_hoc_orthogonalize(Z, left, orthogonal)
    np.testing.assert_allclose(second, 0, atol=1e-12)
    eta = Z @ coef + g
    parts = np.sum((Z @ orthogonal) ** 2, 0) + np.sum(left**2, 0)
    np.testing.assert_allclose(np.sum(eta**2, 0), parts, rtol=1e-10)


def test_what_is_shifted_between_the_parts_does_not_matter():
    Z, g, coef, rng = design()
    shift = rng.normal(size=coef.shape) * 100
    expected, _ = post_hoc_orthogonalize(Z, g, coef)
    shifted, _ = post_hoc_orthogonalize(Z, g + Z @ shift, coef - shift)
    np.testing.assert_allclose(shifted, expected, rtol=1e-8, atol=1e-10)


def test_projection_in_chunks_is_least_squares():
    Z, g, _, rng = design()
    weight = rng.integers(0, 4, len(Z)).astype(float)
    cuts = [slice(0, 3), slice(3, 50), slice(50, 200)]
    found = projection((Z[c], g[c], weight[c]) for c in cuts)
    repeated = np.repeat(Z, weight.astype(int), 0), np.repeat(g, weight.astype(int), 0)
    np.testing.assert_allclose(found, np.linalg.lstsq(*repeated)[0], rtol=1e-8)
    S = np.diag([0.0, 1, 2, 3])
    gram = Z.T @ (weight[:, None] * Z)
    ridge = np.linalg.solve(gram + S, Z.T @ (weight[:, None] * g))
    _, penalised = post_hoc_orthogonalize(Z, g, np.zeros((4, 2)), S, weight)
    np.testing.assert_allclose(penalised, ridge, rtol=1e-8)
    chunks = ((Z[c], g[c], weight[c]) for c in cuts)
    np.testing.assert_allclose(projection(chunks, S / weight.sum()), ridge, rtol=1e-8)


def test_dependent_columns_share_their_coefficient():
    Z, g, _, _ = design()
    _, once = post_hoc_orthogonalize(Z, g[:, 0], np.zeros(4))
    _, twice = post_hoc_orthogonalize(Z[:, [0, 1, 2, 3, 3]], g[:, 0], np.zeros(5))
    np.testing.assert_allclose(twice, [*once[:3], once[3] / 2, once[3] / 2], rtol=1e-8)


def test_second_differences_of_all_coefficients():
    coef = np.random.default_rng(0).normal(size=6)
    form = second_differences(7)
    assert coef @ form @ coef == pytest.approx(np.sum(np.diff([*coef, 0], 2) ** 2))


@pytest.mark.parametrize("structured", ["linear", "spline"])
def test_predictions_are_untouched_and_the_parts_add_up(structured):
    X, y, _ = curved_data(0)
    new = np.random.default_rng(1).uniform(-2, 2, (100, 3))
    post, raw = (
        SemiStructuredRegressor(structured, orthogonalization=o, dropout=0.1, **SMALL).fit(X, y)
        for o in ("post", "none")
    )
    for rows in (X, new):
        expected = raw.predict(rows)
        np.testing.assert_allclose(post.predict(rows), expected, rtol=1e-10, atol=1e-12)
        for model in (post, raw):
            parts = model.predictor(rows, part="structured") + model.predictor(rows, part="deep")
            np.testing.assert_allclose(parts, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(post.coef_raw_, raw.coef_, rtol=1e-12)
    np.testing.assert_allclose(post.coef_, post.coef_raw_ + post.alpha_, rtol=1e-10, atol=1e-12)
    assert not raw.alpha_.any() and abs(post.alpha_).max() > 1e-3
    Z, deep = post.structured_transformer_.transform(X), post.predictor(X, part="deep")
    assert abs(with_ones(Z).T @ deep).max() <= 1e-8 * np.linalg.norm(Z) * np.linalg.norm(deep)
    found = np.linalg.lstsq(with_ones(Z), post.predict(X))[0]
    np.testing.assert_allclose(post.coef_, found[1:], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(post.intercept_, found[0], atol=1e-8)
    share = np.var(deep) / np.var(post.predict(X))
    assert post.deep_share_ == pytest.approx(share)


def test_projection_uses_the_rows_held_out_for_early_stopping():
    X, y = linear_data(0, 200)
    model = SemiStructuredRegressor(early_stopping=True, **SMALL).fit(X, y)
    found = LinearRegression().fit(X, model.predict(X))
    np.testing.assert_allclose(model.coef_, found.coef_, rtol=1e-8)


def test_without_a_network_it_is_the_linear_model():
    X, y = linear_data(0, 200)
    X = X * [1, 100, 1e-3] + 7
    least_squares = LinearRegression().fit(X, y)
    model = SemiStructuredRegressor(deep_features=[], random_state=0).fit(X, y)
    np.testing.assert_allclose(model.coef_, least_squares.coef_, rtol=1e-8)
    assert model.intercept_ == pytest.approx(least_squares.intercept_)
    assert model.deep_share_ == 0 and not hasattr(model, "partial_fit")
    Z = with_ones(X)
    inverse = np.linalg.inv(Z.T @ Z)
    squares = (y - least_squares.predict(X)) ** 2
    sandwich = inverse @ (Z.T @ (Z * squares[:, None])) @ inverse
    np.testing.assert_allclose(model.coef_std_, np.sqrt(np.diag(sandwich))[1:], rtol=1e-6)


@pytest.mark.parametrize(
    ("family", "peer"), [("poisson", PoissonRegressor), ("gamma", GammaRegressor)]
)
def test_without_a_network_it_is_the_generalised_linear_model(family, peer):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    mean = np.exp(X @ [0.5, -0.3] + 3)
    y = rng.poisson(mean) if family == "poisson" else rng.gamma(2, mean / 2)
    model = SemiStructuredRegressor(deep_features=[], family=family, random_state=0).fit(X, y)
    exact = peer(alpha=0, tol=1e-10, max_iter=1000).fit(X, y)
    np.testing.assert_allclose(model.coef_, exact.coef_, atol=1e-4)
    np.testing.assert_allclose(model.predict(X), exact.predict(X), rtol=1e-3)
    np.testing.assert_allclose(np.exp(model.predictor(X)), model.predict(X), rtol=1e-8)
    with pytest.raises(ValueError, match=f"family='{family}' is for targets"):
        model.fit(X, y - y.max())


@pytest.mark.parametrize("family", ["poisson", "gamma"])
def test_log_families_with_a_network(family):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    mean = np.exp(0.5 * X[:, 0] + np.sin(2 * X[:, 1]))
    y = rng.poisson(mean) if family == "poisson" else rng.gamma(4, mean / 4)
    model = SemiStructuredRegressor(family=family, lr=0.01, **SMALL).fit(X, y)
    assert np.corrcoef(model.predict(X), mean)[0, 1] > 0.9
    found = LinearRegression().fit(X, model.predictor(X))
    np.testing.assert_allclose(model.coef_, found.coef_, rtol=1e-8)


def test_coefficients_are_those_of_the_linear_model():
    for seed in range(2):
        X, y = linear_data(seed)
        exact = LinearRegression().fit(X, y).coef_
        model = SemiStructuredRegressor(init_structured="zeros", random_state=seed, **STOPPED).fit(
            X, y
        )
        after, before = rms(model.coef_ - exact), rms(model.coef_raw_ - exact)
        assert after <= 0.1 and after <= before / 5


def effect_correlations(model, X, effects):
    found = (model.partial_effect(X, j) for j in range(3))
    return [np.corrcoef(f, e)[0, 1] for f, e in zip(found, effects)]


@pytest.mark.parametrize("seed", range(2))
def test_effects_are_those_of_the_additive_model(seed):
    X, y, effects = curved_data(seed, 1000)
    settings = {"structured": "spline", "n_knots": 20, "random_state": seed, **STOPPED}
    model = SemiStructuredRegressor(**settings).fit(X, y)
    found = effect_correlations(model, X, effects)
    assert min(found) >= 0.99
    for j in range(3):
        assert model.partial_effect(X, j).mean() == pytest.approx(0, abs=1e-9)
    total = sum(model.partial_effect(X, j) for j in range(3))
    structured = model.predictor(X, part="structured")
    np.testing.assert_allclose(total - total[0], structured - structured[0], atol=1e-9)
    raw = SemiStructuredRegressor(
        orthogonalization="none", init_structured="zeros", **settings
    ).fit(X, y)
    assert 1 - min(effect_correlations(raw, X, effects)) >= 10 * (1 - min(found))


def test_smoothing_makes_effects_smooth():
    X, y, _ = curved_data(0)
    rough, smooth = (
        SemiStructuredRegressor("spline", deep_features=[], n_knots=30, smoothing=s).fit(X, y)
        for s in (0.0, 0.1)
    )
    grid = np.linspace(-1.4, 1.4, 200)[:, None].repeat(3, axis=1)
    bends = [np.sum(np.diff(m.partial_effect(grid, 0), 2) ** 2) for m in (rough, smooth)]
    assert bends[1] < bends[0] / 2


@pytest.mark.slow
def test_predictions_are_as_good_as_those_of_the_network_and_of_the_linear_model():
    X, y = load_diabetes(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    cv = KFold(10, shuffle=True, random_state=0)
    net = {
        "hidden_layer_sizes": (20, 20), "batch_size": 32, "max_epochs": 500,
        "early_stopping": True, "n_iter_no_change": 30, "dropout": 0.1, "random_state": 0,
    }  # fmt: skip
    models = {
        "post": SemiStructuredRegressor(**net),
        "online": SemiStructuredRegressor(orthogonalization="online", **net),
        "network": NeuralRegressor(**net),
        "ridge": Ridge(1.0),
    }
    error = {name: rms(cross_val_predict(m, X, y, cv=cv) - y) for name, m in models.items()}
    assert error["post"] <= 1.02 * error["network"]
    assert error["post"] <= 1.02 * error["ridge"]
    assert error["post"] <= 1.02 * error["online"]


def test_online_projection_is_orthogonal_too():
    X, y, _ = curved_data(0)
    model = SemiStructuredRegressor(orthogonalization="online", **SMALL).fit(X, y)
    deep = model.predictor(X, part="deep")
    assert abs(with_ones(X).T @ deep).max() <= 1e-8 * np.linalg.norm(X) * np.linalg.norm(deep)
    parts = model.predictor(X, part="structured") + deep
    np.testing.assert_allclose(parts, model.predict(X), atol=1e-10)


def test_classification():
    X, y = load_breast_cancer(return_X_y=True)
    for target in (y, np.where(X[:, 0] > 15, 2, y)):
        model = SemiStructuredClassifier(structured_features=[0, 1], **SMALL).fit(X, target)
        assert model.score(X, target) > 0.93
        assert model.coef_.shape == ((1, 2) if len(np.unique(target)) == 2 else (3, 2))
        eta = model.decision_function(X)
        np.testing.assert_allclose(model.predictor(X), eta, atol=1e-9)
        found = LinearRegression().fit(X[:, :2], eta)
        np.testing.assert_allclose(model.coef_, np.atleast_2d(found.coef_), rtol=1e-7)


def test_columns_by_name_and_transformers():
    X, y, _ = curved_data(0)
    frame = pd.DataFrame(X, columns=list("abc"))
    model = SemiStructuredRegressor(structured_features=["a", "c"], deep_features=[1], **SMALL)
    model.fit(frame, y)
    assert model.coef_.shape == (2,)
    assert model.partial_effect(frame, "c").shape == (300,)
    np.testing.assert_array_equal(model.partial_effect(frame, "c"), model.partial_effect(frame, 2))
    for feature in ("b", "d", 7):
        with pytest.raises(ValueError, match=repr(feature)):
            model.partial_effect(frame, feature)
    squares = PolynomialFeatures(2, include_bias=False)
    model = SemiStructuredRegressor(squares, deep_features=[], random_state=0).fit(X, y)
    exact = LinearRegression().fit(squares.fit_transform(X), y)
    np.testing.assert_allclose(model.coef_, exact.coef_, rtol=1e-7)
    with pytest.raises(ValueError, match="partial_effect is for"):
        model.partial_effect(X, 0)


def test_passes_over_parts_and_several_targets():
    X, y, _ = curved_data(0)
    model = SemiStructuredRegressor(random_state=0)
    for _ in range(5):
        model.partial_fit(X, np.c_[y, 2 * y])
    assert model.coef_.shape == model.coef_std_.shape == (2, 3)
    found = LinearRegression().fit(X, model.predict(X))
    np.testing.assert_allclose(model.coef_, found.coef_, rtol=1e-8)


def test_bad_arguments():
    X, y, _ = curved_data(0)
    with pytest.raises(ValueError, match="structured_features is empty"):
        SemiStructuredRegressor(structured_features=[]).fit(X, y)
    with pytest.raises(ValueError, match="deep_features has 9"):
        SemiStructuredRegressor(deep_features=[9]).fit(X, y)
    with pytest.raises(ValueError, match="part must be"):
        SemiStructuredRegressor(**SMALL).fit(X, y).predictor(X, part="half")
    with pytest.raises(ValueError, match="coef has shape"):
        post_hoc_orthogonalize(X, y, [1.0, 2.0])
