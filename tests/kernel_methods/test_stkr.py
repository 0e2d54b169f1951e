"""Tests of spectrally transformed kernel regression."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import linalg
from sklearn import config_context
from sklearn.datasets import load_digits, make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.semi_supervised import LabelSpreading

from skpapers.kernel_methods import (
    SpectrallyTransformedKernelClassifier as Classifier,
    SpectrallyTransformedKernelRegressor as Regressor,
    spectrally_transformed_kernel,
)


@pytest.fixture
def problem():
    """Rows, targets of which 30 of 80 are known, and new rows."""
    rng = np.random.RandomState(0)
    X, X_new = rng.normal(size=(80, 2)), rng.normal(size=(25, 2))
    y = np.where(np.arange(80) < 30, np.sin(X[:, 0]) + X[:, 1], np.nan)
    return X, y, X_new


def test_first_power_is_kernel_ridge_on_the_labelled_rows(problem):
    X, y, X_new = problem
    ours = Regressor("polynomial", coefs=[1], gamma=0.5, normalize=False, alpha=1e-2)
    peer = KernelRidge(kernel="rbf", gamma=0.5, alpha=30 * 1e-2).fit(X[:30], y[:30])
    assert_allclose(ours.fit(X, y).predict(X_new), peer.predict(X_new), atol=1e-10)
    assert_allclose(ours.dual_coef_[:, 0], peer.dual_coef_, atol=1e-8)


@pytest.mark.parametrize("normalize", [True, False])
def test_solvers_agree_with_the_series(problem, normalize):
    X, y, X_new = problem
    settings = {"gamma": 0.5, "eta": 0.9, "alpha": 1e-2, "normalize": normalize}
    fits = {s: Regressor(solver=s, **settings).fit(X, y) for s in ("direct", "eigen", "cg")}
    predictions = {name: model.predict(X_new) for name, model in fits.items()}

    gram, cross = rbf_kernel(X, gamma=0.5), rbf_kernel(X_new, X, gamma=0.5)
    if normalize:
        degrees = gram.mean(axis=1)
        cross = cross / np.sqrt(np.outer(cross.mean(axis=1), degrees))
        gram = gram / np.sqrt(np.outer(degrees, degrees))
    eta, n = fits["direct"].eta_, 80
    train, new, power, gram_sum = np.zeros((n, n)), np.zeros((25, n)), np.eye(n), gram / n
    for p in range(200):  # sum of eta^(p-1) A^p, and its rows at the new points
        train += eta**p * n * power @ gram_sum
        new += eta**p * cross @ power
        power = power @ gram_sum
    dual = np.linalg.solve(train[:30, :30] + 30 * 1e-2 * np.eye(30), y[:30])
    for prediction in predictions.values():
        assert_allclose(prediction, new[:, :30] @ dual, atol=1e-6)
    assert_allclose(fits["cg"].transduction_, train[:, :30] @ dual, atol=1e-6)


@pytest.mark.parametrize("coefs", [[0.5, 2.0, 1.0], [0, 0, 1.0]])
def test_polynomial_solvers_agree(problem, coefs):
    X, y, X_new = problem
    models = [
        Regressor("polynomial", coefs=coefs, solver=solver, gamma=0.5, alpha=1e-2).fit(X, y)
        for solver in ("direct", "eigen", "cg")
    ]
    if coefs[0] == 0:
        models.append(Regressor("power", degree=3, gamma=0.5, alpha=1e-2).fit(X, y))
    for model in models[1:]:
        assert_allclose(model.predict(X_new), models[0].predict(X_new), atol=1e-6)


def test_inductive_formula_at_the_training_rows_is_the_transductive_kernel(problem):
    gram = rbf_kernel(problem[0], gamma=0.5)
    top, n = linalg.eigvalsh(gram / 80)[-1], 80
    scaled = gram / n
    expected = n * scaled @ np.linalg.inv(np.eye(n) - 0.9 / top * scaled)
    assert_allclose(spectrally_transformed_kernel(gram, gram, eta=0.9), expected, atol=1e-9)
    assert_allclose(spectrally_transformed_kernel(gram, eta=0.9), expected, atol=1e-9)
    heat = n * scaled @ linalg.expm(2.0 / top * (scaled - top * np.eye(n)))
    ours = spectrally_transformed_kernel(gram, spectral_transform="heat", eta=2.0)
    assert_allclose(ours, heat, atol=1e-9)


def test_kernel_pca_is_ridge_on_unit_variance_components(problem):
    X, y, X_new = problem
    gram, cross = rbf_kernel(X, gamma=0.5), rbf_kernel(X_new, X, gamma=0.5)
    values, vectors = linalg.eigh(gram / 80)
    values, vectors = values[::-1][:7], vectors[:, ::-1][:, :7]
    features, new = (K @ vectors / (np.sqrt(80) * values) for K in (gram, cross))
    assert_allclose((features**2).mean(axis=0), 1)
    peer = Ridge(alpha=30 * 1e-2, fit_intercept=False).fit(features[:30], y[:30])
    ours = Regressor("kernel_pca", n_components=7, gamma=0.5, normalize=False, alpha=1e-2)
    assert_allclose(ours.fit(X, y).predict(X_new), peer.predict(new), atol=1e-8)


def test_kernel_pca_with_all_components_interpolates():
    X = np.random.RandomState(0).normal(size=(40, 3))
    y = np.random.RandomState(1).normal(size=40)
    model = Regressor("kernel_pca", n_components=40, gamma=2.0, alpha=1e-9).fit(X, y)
    assert_allclose(model.predict(X), y, atol=1e-5)


@pytest.mark.parametrize(
    "transform, function",
    [
        ("inverse_laplacian", lambda x, top: x / (1 - 0.9 * x / top)),
        ("power", lambda x, top: x**2),
        ("heat", lambda x, top: x * np.exp(0.9 * (x / top - 1))),
        (np.sqrt, lambda x, top: np.sqrt(x)),
    ],
)
def test_eigenvalues_are_mapped_and_the_kernel_stays_positive(problem, transform, function):
    gram = rbf_kernel(problem[0][:40], gamma=2.0)
    values = linalg.eigvalsh(gram / 40)
    kernel = spectrally_transformed_kernel(gram, spectral_transform=transform, eta=0.9)
    mapped = linalg.eigvalsh((kernel + kernel.T) / 2 / 40)
    assert_allclose(mapped, function(values, values[-1]), atol=1e-9)
    assert mapped[0] > -1e-12


def test_targets_may_be_two_and_precomputed_kernels_agree(problem):
    X, y, X_new = problem
    Y = np.c_[y, 2 * y]
    model = Regressor(gamma=0.5).fit(X, Y)
    assert_allclose(model.predict(X_new)[:, 1], 2 * model.predict(X_new)[:, 0], rtol=1e-6)
    assert_allclose(model.predict(X_new)[:, 0], Regressor(gamma=0.5).fit(X, y).predict(X_new))
    same = Regressor(kernel="precomputed").fit(rbf_kernel(X, gamma=0.5), Y)
    assert_allclose(same.predict(rbf_kernel(X_new, X, gamma=0.5)), model.predict(X_new))


def test_sparse_neighbour_kernel_solvers_agree(problem):
    X, y, X_new = problem
    settings = {"n_neighbors": 6, "gamma": 1.0, "alpha": 1e-2, "eta": 0.9}
    cg, direct = (Regressor(solver=s, **settings).fit(X, y) for s in ("auto", "direct"))
    assert cg.n_iter_ > 1
    assert_allclose(cg.predict(X_new), direct.predict(X_new), atol=1e-6)
    assert_allclose(cg.predict(X), cg.transduction_, atol=1e-6)


def test_test_rows_do_not_see_each_other(problem):
    X, y, X_new = problem
    model = Regressor(gamma=0.5).fit(X, y)
    alone = np.concatenate([model.predict(row[None]) for row in X_new])
    assert_allclose(model.predict(X_new), alone, rtol=1e-10)
    assert_array_equal(model.predict(np.full((1, 2), 1e9)), [0.0])


def test_labels_of_every_kind_mark_what_is_unknown(problem):
    X, _, X_new = problem
    truth = (X[:, 0] > 0).astype(int)
    known = np.arange(80) < 30
    model = Classifier(gamma=0.5).fit(X, np.where(known, truth, -1))
    expected = model.predict(X_new)
    names = np.array(["no", "yes"], dtype=object)
    for blank in (None, np.nan):
        partial = np.where(known, names[truth], blank)
        other = Classifier(gamma=0.5).fit(X, partial)
        assert_array_equal(other.predict(X_new), names[expected])
    assert_allclose(model.predict_proba(X_new).sum(axis=1), 1)
    assert_array_equal(model.labeled_indices_, np.arange(30))
    assert model.label_distributions_.shape == (80, 2)


@pytest.mark.parametrize(
    "settings, y, message",
    [
        ({}, [np.nan] * 4, "only NaN"),
        ({}, [1.0, np.nan, np.inf, 2.0], "infinity"),
        ({"eta": 1.0}, [1.0, 2.0, 3.0, 4.0], "eta"),
        ({"spectral_transform": "kernel_pca"}, [1.0, 2.0, 3.0, 4.0], "n_components"),
        ({"spectral_transform": "heat", "solver": "cg"}, [1.0, 2.0, 3.0, 4.0], "solver"),
        ({"spectral_transform": "polynomial", "coefs": [-1.0]}, [1.0, 2.0, 3.0, 4.0], "coefs"),
        ({"kernel": "linear"}, [1.0, 2.0, 3.0, 4.0], "normalize"),
        ({"kernel": "linear", "n_neighbors": 2}, [1.0, 2.0, 3.0, 4.0], "n_neighbors"),
        ({"spectral_transform": lambda x: -x}, [1.0, 2.0, 3.0, 4.0], "spectral_transform"),
    ],
)
def test_bad_settings_and_targets_raise(settings, y, message):
    X = np.array([[-1.0], [-0.5], [0.5], [1.0]])
    with pytest.raises(ValueError, match=message):
        Regressor(**settings).fit(X, np.array(y))


def test_all_rows_unlabelled_raises_for_classes():
    with pytest.raises(ValueError, match="unlabelled"):
        Classifier().fit(np.eye(3), [-1, -1, -1])


def test_cg_that_stops_early_says_so(problem):
    X, y, _ = problem
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        Regressor(solver="cg", max_iter=2).fit(X, y)


@pytest.mark.parametrize("namespace", ["torch", "array_api_strict"])
@pytest.mark.parametrize("solver", ["direct", "eigen", "cg"])
def test_other_array_namespaces_give_the_same_predictions(problem, namespace, solver):
    X, y, X_new = problem
    xp = pytest.importorskip(namespace)
    settings = {"gamma": "median", "solver": solver, "alpha": 1e-2, "eta": 0.9}
    expected = Regressor(**settings).fit(X, y).predict(X_new)
    labels = np.where(np.isnan(y), -1, (y > 0).astype(int))
    classes = Classifier(**settings).fit(X, labels).predict(X_new)
    with config_context(array_api_dispatch=True):
        ours = Regressor(**settings).fit(xp.asarray(X), xp.asarray(y)).predict(xp.asarray(X_new))
        model = Classifier(**settings).fit(xp.asarray(X), xp.asarray(labels))
        ours_classes = model.predict(xp.asarray(X_new))
    assert type(ours) is type(ours_classes) is type(xp.asarray(X))
    assert_allclose(np.asarray(ours), expected, atol=1e-8)
    assert_array_equal(np.asarray(ours_classes), classes)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_predictions_do_not_depend_on_the_unit_of_the_features(problem, scale):
    X, y, X_new = problem
    expected = Regressor().fit(X, y).predict(X_new)
    assert_allclose(Regressor().fit(scale * X, y).predict(scale * X_new), expected, atol=1e-6)


def moons(seed, n_unlabelled=463):
    """Two labels a class, unlabelled rows, and 233 test rows."""
    X, y = make_moons(700, noise=0.1, random_state=seed)
    rng = np.random.RandomState(seed)
    rows = rng.permutation(700)
    train, test = rows[:467], rows[467:]
    labelled = np.concatenate([train[y[train] == label][:2] for label in (0, 1)])
    unlabelled = np.setdiff1d(train, labelled)
    unlabelled = rng.permutation(unlabelled)[:n_unlabelled]
    return X, y, labelled, unlabelled, test


def moons_accuracy(seed, n_unlabelled=463):
    X, y, labelled, unlabelled, test = moons(seed, n_unlabelled)
    rows = np.concatenate([labelled, unlabelled])
    partial = np.where(np.isin(rows, labelled), y[rows], -1)
    model = Classifier(gamma=20.0, eta=0.999).fit(X[rows], partial)
    ridge = KernelRidge(kernel="rbf", gamma=20.0, alpha=4e-3)
    ridge.fit(X[labelled], 2 * y[labelled] - 1)
    return model.score(X[test], y[test]), np.mean((ridge.predict(X[test]) > 0) == y[test])


def test_two_moons_from_two_labels_a_class_where_kernel_ridge_fails():
    ours, ridge = np.mean([moons_accuracy(seed) for seed in range(5)], axis=0)
    assert ours >= 0.97
    assert ours >= ridge + 0.1


def test_more_unlabelled_rows_help():
    many, few = (np.mean([moons_accuracy(s, n)[0] for s in range(24)]) for n in (463, 30))
    assert many >= few + 0.04


def digits_accuracies(seed):
    """Inductive accuracy, kernel ridge's, transductive accuracy, label spreading's."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    rows = np.random.RandomState(seed).permutation(len(X))
    train, test = rows[:1198], rows[1198:]
    labelled = np.concatenate([train[y[train] == label][:5] for label in range(10)])
    known = np.isin(train, labelled)
    partial = np.where(known, y[train], -1)
    ours = Classifier(gamma=0.6, eta=0.999).fit(X[train], partial)
    ridge = KernelRidge(kernel="rbf", gamma=0.6, alpha=0.05)
    ridge.fit(X[labelled], np.eye(10)[y[labelled]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        spreading = LabelSpreading(kernel="rbf", gamma=0.6).fit(X[train], partial)
    truth = y[train][~known]
    return (
        ours.score(X[test], y[test]),
        np.mean(ridge.predict(X[test]).argmax(axis=1) == y[test]),
        np.mean(ours.transduction_[~known] == truth),
        np.mean(spreading.transduction_[~known] == truth),
    )


def test_digits_beat_kernel_ridge_and_match_label_spreading():
    ours, ridge, transductive, spreading = np.mean(
        [digits_accuracies(seed) for seed in range(3)], axis=0
    )
    assert ours >= ridge + 0.01
    assert transductive >= spreading - 0.01
