"""Tests of self-distillation."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import linalg, optimize
from sklearn import config_context
from sklearn.datasets import load_diabetes, load_iris
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler, scale
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from skpapers.kernel_methods import (
    SelfDistillationClassifier,
    SelfDistillationRegressor,
    SelfDistilledKernelRidge,
    optimal_distillation_weight,
)
from skpapers.kernel_methods._self_distillation import (
    choose_weights,
    leave_one_out_search,
    spectral_filters,
)

# The paper's notebook: eleven noisy values of sin(2 pi x), and the errors it prints.
NOTEBOOK_Y = [0.384766364652, 1.233396768342, 1.332322422181, 0.692015948890, -0.297561455319]
NOTEBOOK_Y += [-0.241892919014, -0.796448576918, -0.961648016703, -0.496725095099]
NOTEBOOK_Y += [-0.346906600399, 0.558951265060]
NOTEBOOK_ERRORS = {
    0.0: ([0.16477, 0.15076, 0.14915, 0.15561, 0.16735, 0.18251], 0.49505),
    0.25: ([0.16477, 0.15309, 0.14958, 0.14903, 0.14946, 0.15011], 0.15250),
    0.35: ([0.16477, 0.15424, 0.15089, 0.14983, 0.14954, 0.14948], 0.14959),
}


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return scale(X), scale(y)


@pytest.mark.parametrize("weight", NOTEBOOK_ERRORS)
def test_errors_of_the_papers_notebook(weight):
    X, X_new = np.linspace(0, 1, 11)[:, None], np.linspace(0, 1, 101)[:, None]
    truth = np.sin(2 * np.pi * X_new[:, 0])
    settings = {"target_weight": weight, "alpha": 0.2, "kernel": "rbf", "gamma": 80.0}
    steps, limit = NOTEBOOK_ERRORS[weight]
    model = SelfDistilledKernelRidge(6, **settings).fit(X, NOTEBOOK_Y)
    errors = [np.mean((p - truth) ** 2) for p in model.staged_predict(X_new)]
    assert_allclose(errors, steps, atol=5.1e-6)
    model = SelfDistilledKernelRidge(np.inf, **settings).fit(X, NOTEBOOK_Y)
    assert_allclose(np.mean((model.predict(X_new) - truth) ** 2), limit, atol=5.1e-6)


@pytest.mark.parametrize("weights", [0.35, 0.0, [0.1, 0.9, 0.5, 0.0]])
@pytest.mark.parametrize("weighted", [False, True])
def test_steps_equal_explicit_refits(diabetes, weights, weighted):
    X, y = diabetes[0][:80], np.c_[diabetes[1][:80], diabetes[0][:80, 0] ** 2]
    sample_weight = np.random.RandomState(0).uniform(size=80) if weighted else None
    model = SelfDistilledKernelRidge(5, weights, alpha=0.3, kernel="rbf", gamma=0.1)
    model.fit(X, y, sample_weight)
    fitted = y
    steps = list(model.staged_predict(X))
    for weight, ours in zip([1, *np.broadcast_to(weights, 4)], steps):
        peer = KernelRidge(alpha=0.3, kernel="rbf", gamma=0.1)
        peer.fit(X, weight * y + (1 - weight) * fitted, sample_weight)
        fitted = peer.predict(X)
        assert_allclose(ours, fitted, atol=1e-10)
    assert_allclose(model.predict(X), fitted, atol=1e-10)


def test_limit_and_plain_fits_are_kernel_ridge(diabetes):
    X, y = diabetes[0][:100], diabetes[1][:100]
    settings = {"alpha": 0.4, "kernel": "rbf", "gamma": 0.1}

    def predictions(n_steps, weight):
        return SelfDistilledKernelRidge(n_steps, weight, **settings).fit(X, y).predict(X)

    def ridge(alpha):
        return KernelRidge(alpha=alpha, kernel="rbf", gamma=0.1).fit(X, y).predict(X)

    assert_allclose(predictions(np.inf, 0.25), ridge(0.4 / 0.25), atol=1e-10)
    assert_allclose(predictions(1, 0.25), ridge(0.4), atol=1e-10)
    assert_allclose(predictions(7, 1.0), ridge(0.4), atol=1e-10)
    assert_array_equal(predictions(np.inf, 0.0), np.zeros(100))
    assert_allclose(predictions(400, 0.25), predictions(np.inf, 0.25), atol=1e-8)


def test_filter_is_the_closed_form_and_predicts_the_training_rows(diabetes):
    X, y = diabetes[0][:50], diabetes[1][:50]
    model = SelfDistilledKernelRidge(6, 0.3, alpha=0.2, kernel="rbf", gamma=0.05).fit(X, y)
    values, vectors = linalg.eigh(rbf_kernel(X, gamma=0.05))
    a = values / (values + 0.2)
    q = 0.7 * a
    closed = 0.3 * a * (1 - q**5) / (1 - q) + 0.7**5 * a**6
    assert_allclose(model.eigenvalues_, values, atol=1e-10)
    assert_allclose(model.spectrum_filter_, closed, atol=1e-10)
    assert_allclose(model.predict(X), vectors @ (closed * (vectors.T @ y)), atol=1e-8)
    limit = model.set_params(n_steps=np.inf).fit(X, y)
    assert_allclose(limit.spectrum_filter_, 0.3 * values / (0.3 * values + 0.2), atol=1e-10)


def filter_ratios(weight):
    """Filter at an eigenvalue over that at the next larger one, a row a step."""
    filters = spectral_filters(np.geomspace(1e-3, 10, 12), 0.5, [1.0] + [weight] * 29)
    filters = np.array(filters)
    return filters[:, :-1] / filters[:, 1:]


def test_pure_distillation_grows_sparser_with_every_step():
    assert (np.diff(filter_ratios(0.0), axis=0) < 0).all()


@pytest.mark.parametrize("weight", [0.1, 0.35, 0.8])
def test_distillation_is_sparser_than_the_first_fit_at_every_step(weight):
    ratios = filter_ratios(weight)
    assert (np.diff(ratios[:2], axis=0) < 0).all()
    assert (ratios[1:] < ratios[0]).all()


def test_pure_distillation_shrinks_the_norm_to_zero(diabetes):
    X, y = diabetes[0][:60], diabetes[1][:60]
    gram = rbf_kernel(X, gamma=0.1)
    model = SelfDistilledKernelRidge(2000, 0.0, alpha=5.0, kernel="rbf", gamma=0.1).fit(X, y)
    coefs = model.staged_dual_coef_[:, :, 0]
    norms = np.einsum("ti,ij,tj->t", coefs, gram, coefs)
    assert (np.diff(norms[:50]) < 0).all()
    assert norms[-1] < 1e-6 * norms[0]


def test_optimal_weight_is_the_minimiser_of_the_weighted_error():
    rng = np.random.RandomState(0)
    y, plain, distilled = rng.normal(size=(3, 30, 2))
    weight = rng.uniform(size=30)

    def error(a):
        return np.sum(weight[:, None] * (y - a * plain - (1 - a) * distilled) ** 2)

    brute = optimize.minimize_scalar(
        error, bounds=(-5, 5), method="bounded", options={"xatol": 1e-9}
    )
    ours = optimal_distillation_weight(y, plain, distilled, sample_weight=weight, clip=False)
    assert_allclose(ours, brute.x, atol=1e-6)
    assert optimal_distillation_weight(plain, plain, distilled) == 1.0
    assert optimal_distillation_weight(plain, distilled, plain) == 0.0
    assert optimal_distillation_weight(y, plain, plain) == 1.0


@pytest.mark.parametrize("weighted", [False, True])
def test_leave_one_out_equals_explicit_refits(diabetes, weighted):
    """Both predictions at step 4, with weights 0.3 and 0.8 before it, row by row."""
    X, y = diabetes[0][:60], diabetes[1][:60]
    root = np.sqrt(np.random.RandomState(0).uniform(0.5, 2, 60)) if weighted else np.ones(60)
    gram = rbf_kernel(X, gamma=0.1) * np.outer(root, root)
    advance, start, _ = leave_one_out_search(gram, (root * y)[:, None], 0.2)
    first, plain = advance(start)
    state = first
    for weight in (0.3, 0.8):
        state = weight * first + (1 - weight) * advance(state)[0]
    distilled = advance(state)[1]

    model = KernelRidge(alpha=0.2, kernel="rbf", gamma=0.1)
    for row in range(60):
        rest = np.arange(60) != row
        fit = [X[rest], y[rest], root[rest] ** 2]
        expected_plain = model.fit(*fit).predict(X[[row]])[0]
        fitted = model.predict(X[rest])
        for weight in (0.3, 0.8):
            fit[1] = weight * y[rest] + (1 - weight) * fitted
            fitted = model.fit(*fit).predict(X[rest])
        expected = model.fit(X[rest], fitted, fit[2]).predict(X[[row]])[0]
        assert_allclose(plain[row, 0], root[row] * expected_plain, atol=1e-8)
        assert_allclose(distilled[row, 0], root[row] * expected, atol=1e-8)


def test_weights_found_by_leave_one_out_minimise_its_error(diabetes):
    X, y = diabetes[0][:60], diabetes[1][:60]
    model = SelfDistilledKernelRidge(2, "per_step", alpha=2.0, kernel="rbf", gamma=0.05).fit(X, y)
    gram = rbf_kernel(X, gamma=0.05)

    def error(weight):
        total = 0
        for row in range(60):
            rest = np.arange(60) != row
            inverse = np.linalg.inv(gram[np.ix_(rest, rest)] + 2.0 * np.eye(59))
            fitted = gram[np.ix_(rest, rest)] @ inverse @ y[rest]
            mixed = weight * y[rest] + (1 - weight) * fitted
            total += (y[row] - gram[row, rest] @ inverse @ mixed) ** 2
        return total

    brute = optimize.minimize_scalar(error, bounds=(0, 1), method="bounded")
    assert_allclose(model.target_weights_, [1.0, brute.x], atol=1e-4)


def test_optimal_keeps_the_weight_of_the_second_step(diabetes):
    X, y = diabetes[0][:80], diabetes[1][:80]
    settings = {"alpha": 2.0, "kernel": "rbf", "gamma": 0.05}
    optimal = SelfDistilledKernelRidge(5, "optimal", **settings).fit(X, y).target_weights_
    per_step = SelfDistilledKernelRidge(5, "per_step", **settings).fit(X, y).target_weights_
    assert_allclose(optimal, [1] + [per_step[1]] * 4)
    limit = SelfDistilledKernelRidge(np.inf, "optimal", **settings).fit(X, y)
    assert_allclose(limit.target_weights_, per_step[1:2])


def test_split_finds_the_weight_on_the_held_out_rows(diabetes):
    X, y = diabetes[0][:80], diabetes[1][:80]
    settings = {"validation": "split", "alpha": 0.2, "kernel": "rbf", "gamma": 0.1}
    model = SelfDistilledKernelRidge(3, "per_step", random_state=0, **settings).fit(X, y)
    order = np.random.RandomState(0).permutation(80)
    train, held = order[16:], order[:16]
    ridge = KernelRidge(alpha=0.2, kernel="rbf", gamma=0.1)
    fitted = ridge.fit(X[train], y[train]).predict(X[train])
    plain = ridge.predict(X[held])
    for weight in model.target_weights_[1:]:
        distilled = ridge.fit(X[train], fitted).predict(X[held])
        assert_allclose(weight, optimal_distillation_weight(y[held], plain, distilled), atol=1e-7)
        mixed = weight * y[train] + (1 - weight) * fitted
        fitted = ridge.fit(X[train], mixed).predict(X[train])


def diabetes_scores(seed, alpha, n_steps, weights):
    """R2 on five shuffled folds: of kernel ridge, then of each of `weights`."""
    X, y = load_diabetes(return_X_y=True)
    settings = {"alpha": alpha, "kernel": "rbf", "gamma": 0.1}
    models = [SelfDistilledKernelRidge(n_steps, weight, **settings) for weight in weights]
    rows = []
    for train, test in KFold(5, shuffle=True, random_state=seed).split(X):
        scaler = StandardScaler().fit(X[train])
        A, B = scaler.transform(X[train]), scaler.transform(X[test])
        mean, spread = y[train].mean(), y[train].std()
        a, b = (y[train] - mean) / spread, (y[test] - mean) / spread
        rows.append([m.fit(A, a).score(B, b) for m in (KernelRidge(**settings), *models)])
    return np.array(rows)


def test_distillation_repairs_a_penalty_that_is_far_too_small():
    ridge, ours = diabetes_scores(0, 0.0316, 5, ["per_step"]).T
    assert (ours > ridge).all()
    assert np.mean(ours - ridge) > 0.1


def test_weights_found_avoid_the_collapse_of_pure_distillation():
    ridge, ours, pure = diabetes_scores(0, 3.16, 30, ["per_step", 0.0]).mean(axis=0)
    assert ours > ridge - 0.01
    assert pure < ridge - 0.3


def test_searches_of_weights_use_linear_states():
    """A state of a mix is the mix of the states: two routes to the same third weight."""
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(25, 2)), rng.normal(size=(25, 1))
    advance, start, held_out = leave_one_out_search(rbf_kernel(X), y, 0.5)
    weights = choose_weights(advance, start, held_out, 2)
    first, plain = advance(start)
    mixed = weights[0] * start + (1 - weights[0]) * first
    distilled = advance(advance(mixed)[0])[1]
    expected = optimal_distillation_weight(held_out, plain, distilled)
    assert_allclose(weights[1], expected, atol=1e-10)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"target_weight": [0.1, 0.2]}, "target_weight"),
        ({"target_weight": [0.1, 0.2, 1.5, 0.0]}, "target_weight"),
        ({"target_weight": "per_step", "n_steps": np.inf}, "n_steps"),
        ({"alpha": 1e-12, "kernel": "sigmoid", "coef0": -3}, "positive definite"),
    ],
)
def test_bad_settings_raise(diabetes, settings, message):
    with pytest.raises(ValueError, match=message):
        SelfDistilledKernelRidge(**settings).fit(diabetes[0][:40], diabetes[1][:40])


def test_precomputed_kernel_and_duplicates_agree(diabetes):
    X, y = np.repeat(diabetes[0][:20], 2, axis=0), np.repeat(diabetes[1][:20], 2)
    model = SelfDistilledKernelRidge(kernel="rbf", gamma=0.1).fit(X, y)
    same = SelfDistilledKernelRidge(kernel="precomputed").fit(rbf_kernel(X, gamma=0.1), y)
    assert_allclose(same.predict(rbf_kernel(X, gamma=0.1)), model.predict(X))
    half = SelfDistilledKernelRidge(kernel="rbf", gamma=0.1)
    half.fit(diabetes[0][:20], diabetes[1][:20], sample_weight=np.full(20, 2.0))
    assert_allclose(half.predict(X), model.predict(X), atol=1e-10)


@pytest.mark.parametrize("namespace", ["torch", "array_api_strict"])
@pytest.mark.parametrize("validation", ["loo", "split"])
def test_other_array_namespaces_give_the_same_steps(diabetes, namespace, validation):
    X, y = diabetes[0][:40], diabetes[1][:40]
    xp = pytest.importorskip(namespace)
    model = SelfDistilledKernelRidge(
        4, "per_step", kernel="rbf", gamma="median", validation=validation, random_state=0
    )
    weight = np.linspace(0.5, 2, 40)
    expected = list(model.fit(X, y, weight).staged_predict(X))
    expected_filter = model.spectrum_filter_
    with config_context(array_api_dispatch=True):
        model.fit(xp.asarray(X), xp.asarray(y), xp.asarray(weight))
        ours = list(model.staged_predict(xp.asarray(X)))
        ours_filter = model.spectrum_filter_
    assert type(ours[0]) is type(xp.asarray(X))
    assert_allclose(np.array([np.asarray(step) for step in ours]), expected, atol=1e-8)
    assert_allclose(np.asarray(ours_filter), expected_filter, atol=1e-10)


def test_any_regressor_is_distilled_like_kernel_ridge(diabetes):
    X, y = diabetes[0][:80], diabetes[1][:80]
    ridge = KernelRidge(kernel="rbf", gamma=0.1, alpha=0.3)
    general = SelfDistillationRegressor(ridge, n_steps=4, target_weight=[0.2, 0.6, 0.4]).fit(X, y)
    exact = SelfDistilledKernelRidge(4, [0.2, 0.6, 0.4], kernel="rbf", gamma=0.1, alpha=0.3).fit(
        X, y
    )
    assert_allclose(general.predict(X), exact.predict(X), atol=1e-8)
    cv = [(np.delete(np.arange(80), i), [i]) for i in range(80)]
    found = SelfDistillationRegressor(ridge, n_steps=2, cv=cv).fit(X, y).target_weights_
    exact = SelfDistilledKernelRidge(2, "optimal", kernel="rbf", gamma=0.1, alpha=0.3).fit(X, y)
    assert_allclose(found, exact.target_weights_, atol=1e-8)


def test_a_projection_is_its_own_student_and_keeps_the_targets(diabetes):
    """Least squares reproduces its own predictions: teacher and student are the same."""
    X, y = diabetes
    model = SelfDistillationRegressor(LinearRegression()).fit(X, y)
    assert_array_equal(model.target_weights_, [1, 1, 1])
    assert_allclose(model.predict(X), LinearRegression().fit(X, y).predict(X))


def test_classifier_learns_soft_targets_by_weighted_copies():
    X, y = load_iris(return_X_y=True)
    base = LogisticRegression(C=10.0, max_iter=2000, tol=1e-8)
    model = SelfDistillationClassifier(base, n_steps=2, target_weight=0.5).fit(X, y)
    teacher = base.fit(X, y)
    soft = 0.5 * np.eye(3)[y] + 0.5 * teacher.predict_proba(X)
    student = LogisticRegression(C=10.0, max_iter=2000, tol=1e-8)
    student.fit(np.repeat(X, 3, axis=0), np.tile([0, 1, 2], 150), soft.ravel())
    assert_allclose(model.predict_proba(X), student.predict_proba(X), atol=1e-4)
    names = np.array(["a", "b", "c"])
    named = SelfDistillationClassifier(base, n_steps=2, target_weight=0.5).fit(X, names[y])
    assert_array_equal(named.predict(X), names[model.predict(X)])


def test_classifier_on_a_regressor_is_least_squares_on_indicators():
    X, y = load_iris(return_X_y=True)
    ridge = KernelRidge(kernel="rbf", gamma=0.1)
    model = SelfDistillationClassifier(ridge, n_steps=3, target_weight=0.4).fit(X, y)
    exact = SelfDistilledKernelRidge(3, 0.4, kernel="rbf", gamma=0.1).fit(X, np.eye(3)[y])
    assert_array_equal(model.predict(X), exact.predict(X).argmax(axis=1))
    assert not hasattr(model, "predict_proba")


def test_random_state_seeds_the_clones():
    X, y = load_iris(return_X_y=True)
    tree = DecisionTreeClassifier(max_features=1)
    fits = [
        SelfDistillationClassifier(tree, random_state=seed, cv=2).fit(X, y).predict_proba(X)
        for seed in (0, 0)
    ]
    assert_array_equal(*fits)
    with pytest.raises(ValueError, match="predict_proba"):
        SelfDistillationClassifier(LinearSVC()).fit(X, y)
