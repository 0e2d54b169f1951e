from itertools import combinations, product
from math import comb

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score

from skpapers.neural_network import (
    BooleanFourierClassifier,
    BooleanFourierRegressor,
    CanonicalHoldout,
    NeuralRegressor,
    boolean_influence,
    make_pointer_value_retrieval,
    noise_stability,
    walsh_hadamard_coefficients,
)
from skpapers.neural_network._boolean_kernel import (
    hamming_distances,
    kernel_table,
    krawtchouk,
    list_sets,
    monomials,
)


def cube(n_features):
    return np.array(list(product([-1.0, 1.0], repeat=n_features)))


def all_sets(n_features, max_degree=None):
    degrees = range((n_features if max_degree is None else max_degree) + 1)
    return [s for k in degrees for s in combinations(range(n_features), k)]


def evaluate(coef, X):
    return sum(c * X[:, list(s)].prod(axis=1) for s, c in coef.items())


def random_function(rng, n_features, max_degree):
    return {s: rng.normal() for s in all_sets(n_features, max_degree)}


def mask(term, n_features):
    return sum(1 << (n_features - 1 - i) for i in term)


def test_coefficients_are_correlations_with_products_and_invert():
    f = np.random.default_rng(0).normal(size=64)
    coef = walsh_hadamard_coefficients(f)
    for s in all_sets(6):
        expected = np.mean(f * cube(6)[:, list(s)].prod(axis=1))
        assert coef[mask(s, 6)] == pytest.approx(expected, abs=1e-13)
    assert np.sum(coef**2) == pytest.approx(np.mean(f**2), rel=1e-13)
    back = walsh_hadamard_coefficients(coef, inverse=True)
    np.testing.assert_allclose(back, f, rtol=0, atol=1e-12)


def test_a_parity_is_one_coefficient():
    coef = walsh_hadamard_coefficients(cube(6)[:, [0, 2, 5]].prod(axis=1))
    expected = np.zeros(64)
    expected[mask((0, 2, 5), 6)] = 1
    np.testing.assert_array_equal(coef, expected)


def test_measures_equal_their_definitions():
    """Enumeration of all pairs of inputs, for a table, a callable and a dict of one function."""
    rng = np.random.default_rng(1)
    table, X = rng.normal(size=256), cube(8)
    flips = (X[:, None] != X[None]).sum(axis=2)
    pairs = 0.2**flips * 0.8 ** (8 - flips) / 256
    expected_stability = table @ pairs @ table
    expected = []
    for k in range(8):
        other = X.copy()
        other[:, k] *= -1
        index = ((other > 0) * 2 ** np.arange(8)[::-1]).sum(axis=1).astype(int)
        expected.append(np.mean((table - table[index]) ** 2) / 4)
    coef = walsh_hadamard_coefficients(table)
    described = {s: coef[mask(s, 8)] for s in all_sets(8)}
    for f, n in ((table, None), (described, 8), (lambda x: evaluate(described, x), 8)):
        np.testing.assert_allclose(boolean_influence(f, n), expected, rtol=0, atol=1e-12)
        assert boolean_influence(f, n, feature=3) == pytest.approx(expected[3], abs=1e-12)
        assert noise_stability(f, 0.2, n) == pytest.approx(expected_stability, abs=1e-12)


@pytest.mark.parametrize("w", [1, 3, 5])
def test_measures_of_parity_and_majority(w):
    parity = cube(6)[:, :w].prod(axis=1)
    np.testing.assert_allclose(boolean_influence(parity), [1.0] * w + [0.0] * (6 - w))
    for delta in (0.0, 0.1, 0.5, 0.9):
        assert noise_stability(parity, delta) == pytest.approx((1 - 2 * delta) ** w, abs=1e-14)
    majority = np.sign(cube(3).sum(axis=1))
    np.testing.assert_allclose(boolean_influence(majority), 0.5)
    np.testing.assert_allclose(boolean_influence((majority + 1) / 2), 0.125)


def test_sampled_measures_come_near_the_exact_ones():
    f = random_function(np.random.default_rng(0), 6, 3)
    scale = sum(c**2 for c in f.values())
    sampled = {"method": "sample", "n_samples": 40000, "random_state": 0}
    difference = boolean_influence(f, **sampled) - boolean_influence(f)
    assert np.abs(difference).max() < 0.02 * scale
    assert abs(noise_stability(f, 0.2, **sampled) - noise_stability(f, 0.2)) < 0.02 * scale
    assert boolean_influence(f, feature=2, **sampled) == boolean_influence(f, feature=2, **sampled)


def test_orders_of_a_set_are_one_term():
    assert noise_stability({(0, 1): 1.0, (1, 0): 2.0}, 0.0) == 9
    np.testing.assert_array_equal(boolean_influence({(0, 1): 1.0, (1, 0): 2.0}), [9, 9])


def test_krawtchouk_kernel_equals_the_gram_of_products():
    X = cube(7)
    distance = hamming_distances(X, X)
    np.testing.assert_array_equal(distance, (X[:, None] != X[None]).sum(axis=2))
    blocks = [monomials(X, s) for s in list_sets(7, 7)]
    for degree in range(8):
        gram = sum(0.3**k * P @ P.T for k, P in enumerate(blocks[: degree + 1]))
        kernel = kernel_table(7, degree, 0.3)[distance]
        np.testing.assert_allclose(kernel, gram, rtol=0, atol=1e-10)
        last = krawtchouk(7, degree)[distance, degree]
        np.testing.assert_allclose(last, blocks[degree] @ blocks[degree].T, rtol=0, atol=1e-10)
    product_form = np.prod(1 + 0.3 * X[:, None] * X[None], axis=2)
    np.testing.assert_allclose(kernel, product_form, rtol=1e-12)


def test_canonical_holdout_error_is_the_influence():
    """Theorem 2, for fifty functions: the fit is f with the frozen bit put to its value."""
    rng, X = np.random.default_rng(0), cube(8)
    model = BooleanFourierRegressor(max_degree=8, decay="min_degree")
    for _ in range(50):
        coef, k = random_function(rng, 8, 3), int(rng.integers(8))
        frozen = X.copy()
        frozen[:, k] = 1
        f = evaluate(coef, X)
        ((train, test),) = CanonicalHoldout(k, test="all").split(X)
        fitted = model.fit(X[train], f[train]).predict(X[test])
        np.testing.assert_allclose(fitted, evaluate(coef, frozen), rtol=0, atol=1e-8)
        influence = boolean_influence(coef, 8, feature=k)
        assert np.mean((f - fitted) ** 2) / 2 == pytest.approx(influence, abs=1e-8)


def test_small_decay_tends_to_the_graded_limit():
    rng, X = np.random.default_rng(3), cube(6)
    f, train = rng.normal(size=64), np.random.default_rng(4).permutation(64)[:20]
    limit = BooleanFourierRegressor(decay="min_degree").fit(X[train], f[train]).predict(X)
    np.testing.assert_allclose(limit[train], f[train], rtol=0, atol=1e-10)
    errors = []
    for decay in (1e-2, 1e-3, 1e-4):
        model = BooleanFourierRegressor(decay=decay, alpha=1e-15)
        errors.append(np.abs(model.fit(X[train], f[train]).predict(X) - limit).max())
    assert errors[1] < errors[0] / 5
    assert errors[2] == pytest.approx(errors[1] / 10, rel=0.1)  # the error is linear in decay
    assert errors[2] < 0.02


@pytest.mark.parametrize("seed", range(3))
def test_quadratic_functions_are_recovered_exactly(seed):
    rng = np.random.default_rng(seed)
    coef = random_function(rng, 12, 2)
    X = rng.choice([-1.0, 1.0], size=(int(1.5 * (1 + 12 + comb(12, 2))), 12))
    y = evaluate(coef, X)
    model = BooleanFourierRegressor(2, decay="min_degree").fit(X, y)
    found = dict(zip(model.terms_, model.coef_))
    assert found.keys() == coef.keys()
    np.testing.assert_allclose([found[s] for s in coef], list(coef.values()), rtol=0, atol=1e-8)
    np.testing.assert_allclose(model.influence_, boolean_influence(coef, 12), rtol=1e-8)
    profile = [sum(c**2 for s, c in coef.items() if len(s) == k) for k in range(3)]
    np.testing.assert_allclose(model.degree_profile_, profile, rtol=1e-8)


@pytest.mark.parametrize("n_rows", [40, 200])
def test_kernel_and_primal_ridge_minimise_the_same_objective(n_rows):
    """Both against the normal equations of the penalised products, with weights and repeats."""
    rng = np.random.default_rng(0)
    X = np.vstack([cube(7)[rng.permutation(128)[: n_rows // 2]]] * 2)
    y, w = rng.normal(size=len(X)), rng.uniform(0.5, 2, size=len(X))
    model = BooleanFourierRegressor(3, decay=0.3, alpha=0.7).fit(X, y, sample_weight=w)
    assert (model.dual_coef_ is None) == (n_rows == 200)
    P = np.hstack([monomials(X, s) for s in list_sets(7, 3)])
    penalty = 0.7 * np.repeat(0.3 ** -np.arange(4.0), [comb(7, k) for k in range(4)])
    mean = np.average(y, weights=w)
    coef = np.linalg.solve(P.T @ (w[:, None] * P) + np.diag(penalty), P.T @ (w * (y - mean)))
    np.testing.assert_allclose(model.predict(X), mean + P @ coef, rtol=0, atol=1e-10)
    coef[0] += mean
    found = dict(zip(model.terms_, model.coef_))
    expected = [found[s] for s in all_sets(7, 3)]
    np.testing.assert_allclose(expected, coef, rtol=0, atol=1e-10)
    assert np.all(np.diff(np.abs(model.coef_)) <= 0)


def test_a_shallow_linear_model_splits_the_frozen_mass():
    """Gradient descent from zero shares it between bias and weight, unlike the simplest fit."""
    X, k, coef = cube(5), 2, {(): 0.7, (0,): 1.0, (2,): -1.3, (4,): 0.4}
    f, train = evaluate(coef, X), X[:, k] == 1
    design = np.column_stack([np.ones(32), X])
    weights = np.zeros(6)
    for _ in range(500):
        residual = design[train] @ weights - f[train]
        weights -= 0.2 * design[train].T @ residual / train.sum()
    half = (coef[()] + coef[(k,)]) / 2
    np.testing.assert_allclose(weights[[0, 1 + k]], half, rtol=0, atol=1e-6)
    error = np.mean((design @ weights - f) ** 2) / 2
    assert error == pytest.approx((coef[(k,)] - coef[()]) ** 2 / 4, abs=1e-6)
    deep = BooleanFourierRegressor(1, decay="min_degree").fit(X[train], f[train])
    deep_error = np.mean((deep.predict(X) - f) ** 2) / 2
    assert deep_error == pytest.approx(coef[(k,)] ** 2, abs=1e-10)
    assert deep_error > error


def test_pointer_value_retrieval_by_hand():
    kw = {"pointer_bits": 2, "window": 3, "return_target": True, "random_state": 0}
    row = np.array([[1, -1, 1, -1, -1, 1.0]])  # pointer 2, values + - - +
    results = {"parity": -1, "majority": 1, "min": -1, "max": 1}
    for aggregation, expected in results.items():
        *_, target = make_pointer_value_retrieval(5, aggregation=aggregation, **kw)
        assert target(row) == expected  # window - + and, around the end, +
    *_, cut = make_pointer_value_retrieval(5, aggregation="majority", wrap=False, **kw)
    assert cut(row) == 1  # - + is a tie
    assert cut(-row) == 1 and cut(row * [1, 1, 1, 1, 1, -1]) == -1
    X, y, target = make_pointer_value_retrieval(None, **kw)
    np.testing.assert_array_equal(X, cube(6))
    np.testing.assert_array_equal(y, target(X))
    with pytest.raises(ValueError, match="aggregation='mod_sum' with base=2"):
        make_pointer_value_retrieval(aggregation="mod_sum")
    with pytest.raises(ValueError, match="window=9"):
        make_pointer_value_retrieval(window=9)


def test_pointer_value_retrieval_of_digits_by_hand():
    row = np.array([[8, 0, 1, 2, 3, 4, 5, 6, 7, 9, 9]])  # values at 8, 9 and, wrapped, 0: 9 9 0
    results = {"mod_sum": (8, 8), "median": (9, 9), "majority": (9, 9), "min": (0, 9)}
    for aggregation, expected in (results | {"max": (9, 9)}).items():
        for wrap, value in zip((True, False), expected):
            kw = {"base": 10, "aggregation": aggregation, "wrap": wrap, "return_target": True}
            X, y, target = make_pointer_value_retrieval(7, random_state=0, **kw)
            assert target(row) == value, (aggregation, wrap)
            assert X.shape == (7, 11) and set(np.unique(X)) <= set(range(10))
            np.testing.assert_array_equal(target(X), y)


def test_columns_become_bits_as_documented():
    zero_one, signs, frozen = [0, 1, 1, 0.0], [-1, -1, 1, 1.0], [1, 1, 1, 1.0]
    pair, real = [3, 7, 7, 3.0], [0.1, 0.4, 0.3, 0.2]
    X = np.column_stack([zero_one, signs, frozen, pair, real, [5.0] * 4])
    model = BooleanFourierRegressor(1, n_thresholds=2).fit(X, np.arange(4.0))
    assert [t.tolist() for t in model.thresholds_] == [[0], [0], [0], [3], [0.2, 0.3], [5]]
    assert model.bit_features_.tolist() == [0, 1, 2, 3, 4, 4, 5]
    bits = [[-1, -1, 1, -1, -1, -1, -1], [1, -1, 1, 1, 1, 1, -1]]
    np.testing.assert_array_equal(model._bits(X)[:2], bits)


def test_holdout_splits_by_the_value_and_says_what_is_wrong():
    X = np.array([[1, -1], [-1, -1], [1, -1.0]])
    ((train, test),) = CanonicalHoldout(0).split(X)
    assert train.tolist() == [0, 2] and test.tolist() == [1]
    ((train, test),) = CanonicalHoldout(0, value=1, test="all").split(X)
    assert train.tolist() == [1] and test.tolist() == [0, 1, 2]
    for feature in (1, 0):
        with pytest.raises(ValueError, match=r"in (every|no) row"):
            list(CanonicalHoldout(feature, value=-1 if feature else 5).split(X))
    with pytest.raises(ValueError, match="test must be"):
        list(CanonicalHoldout(test="none").split(X))


def test_too_many_terms_are_said():
    X = np.random.default_rng(0).choice([-1.0, 1.0], size=(30, 40))
    with pytest.raises(ValueError, match="max_terms=100.*max_degree.*decay=0.05"):
        BooleanFourierRegressor(2, decay="min_degree", max_terms=100).fit(X, X[:, 0])
    model = BooleanFourierRegressor(5, max_terms=100).fit(X, X[:, 0])
    assert np.corrcoef(model.predict(X), X[:, 0])[0, 1] > 0.999
    with pytest.raises(AttributeError, match="max_terms=100"):
        model.coef_  # noqa: B018
    with pytest.raises(ValueError, match="n_features is required"):
        boolean_influence(lambda x: x[:, 0])
    with pytest.raises(ValueError, match="too many inputs"):
        boolean_influence(lambda x: x[:, 0], n_features=40)


def test_simplest_fit_extrapolates_where_main_effects_cannot():
    """Half of a quadratic function's table decides the rest; the linear model misses it."""
    rng, X = np.random.default_rng(0), cube(10)
    f = evaluate(random_function(rng, 10, 2), X)
    train = rng.permutation(1024)[:150]
    ours = BooleanFourierRegressor().fit(X[train], f[train]).score(X, f)
    assert ours > 0.99
    assert LinearRegression().fit(X[train], f[train]).score(X, f) < 0.5


def test_classifier_on_real_columns():
    X, y = load_breast_cancer(return_X_y=True)
    assert cross_val_score(BooleanFourierClassifier(2), X, y, cv=3).mean() > 0.93


def frozen_errors(X, y, seed, hidden, n_epochs):
    """Half the squared error of networks that saw each bit at +1 only."""
    X, y = X.astype(np.float32), y.astype(np.float32)
    errors = []
    for k in range(X.shape[1]):
        ((train, test),) = CanonicalHoldout(k, test="all").split(X)
        settings = {"optimizer": "sgd", "lr": 0.05, "batch_size": None, "tol": 0}
        network = NeuralRegressor(hidden, max_epochs=n_epochs, random_state=seed, **settings)
        network.fit(X[train], y[train])
        assert network.loss_curve_[-1] < 0.01
        errors.append(np.mean((network.predict(X[test]) - y[test]) ** 2) / 2)
    return errors


@pytest.mark.slow
def test_networks_follow_the_influence_on_pointer_value_retrieval():
    """On average over seeds; a single run may be off by 0.3."""
    error, influence = [], []
    for aggregation, window in (("parity", 2), ("min", 2), ("majority", 3)):
        X, y = make_pointer_value_retrieval(
            None, pointer_bits=2, window=window, aggregation=aggregation
        )
        runs = [frozen_errors(X, y, seed, (128, 128, 128), 400) for seed in range(4)]
        error.extend(np.mean(runs, axis=0))
        influence.extend(boolean_influence(y))
    assert np.corrcoef(error, influence)[0, 1] >= 0.75
    assert np.abs(np.subtract(error, influence)).max() <= 0.2


def test_networks_follow_the_influence():
    coef, X = {(0, 1): 1.0, (2,): 0.5, (1, 3): 0.7}, cube(5)
    influence = boolean_influence(coef, 5)
    for seed in range(2):
        errors = frozen_errors(X, evaluate(coef, X), seed, (128, 128), 300)
        assert np.corrcoef(errors, influence)[0, 1] >= 0.9


@pytest.mark.parametrize("seed", range(2))
def test_networks_do_not_learn_unstable_targets(seed):
    """Both targets are fitted; the parity of six bits is not learnt, their majority is."""
    X = cube(12)
    rows = np.random.default_rng(seed).choice(len(X), 400, replace=False)
    errors = {}
    parity, majority = X[:, :6].prod(axis=1), np.where(X[:, :6].sum(axis=1) >= 0, 1.0, -1.0)
    for name, f in {"parity": parity, "majority": majority}.items():
        network = NeuralRegressor(
            (128, 128), lr=2e-3, max_epochs=150, batch_size=100, tol=0, random_state=seed
        )
        network.fit(X[rows].astype(np.float32), f[rows])
        squares = (network.predict(X.astype(np.float32)) - f) ** 2
        assert squares[rows].mean() <= 0.01
        errors[name] = squares.mean()
    assert errors["parity"] >= 0.9 and errors["majority"] <= 0.3
    assert noise_stability(parity, 0.2) < 0.05 < 0.4 < noise_stability(majority, 0.2)
