"""Low-rank models with gaps: closed forms, structured products, completion."""

import numpy as np
import pytest
import torch
from scipy.linalg import khatri_rao
from sklearn import config_context
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import KNNImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from skpapers.decomposition import (
    LowRankApproximation,
    LowRankImputer,
    hadamard_approximation,
    khatri_rao_approximation,
    kronecker_approximation,
)
from skpapers.decomposition._low_rank_products import rearrange
from skpapers.decomposition._low_rank_sweeps import (
    BiasedProduct,
    HadamardProduct,
    KhatriRaoProduct,
    balance,
    penalized_loss,
    ridge_rows,
    update_codes,
    update_components,
)

METHODS = ["als", "svd", "hadamard", "khatri_rao"]


def tail(X, k):
    """What the best approximation of rank k leaves."""
    return np.sqrt((np.linalg.svd(X, compute_uv=False)[k:] ** 2).sum())


def multiplicative(seed):
    """Rank 3, times effects near one of rank 2."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(80, 3)) @ rng.normal(size=(3, 60))
    second = rng.normal(size=(80, 2)) @ rng.normal(size=(2, 60)) / np.sqrt(2)
    return first * (1 + 0.3 * second)


def with_gaps(X, share, seed=0):
    hidden = np.random.default_rng(seed).random(X.shape) < share
    return np.where(hidden, np.nan, X), hidden


def rebuilt(model, X):
    return model.inverse_transform(model.transform(X))


# Closed forms.


@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_rows_is_ridge_regression_of_each_row(weighted):
    rng = np.random.default_rng(0)
    basis, targets = rng.normal(size=(9, 4)), rng.normal(size=(7, 9))
    weights = rng.random((7, 9)) if weighted else np.ones((7, 9))
    found = ridge_rows(basis, weights if weighted else None, weights * targets, 0.3)
    for row in range(7):
        peer = Ridge(0.3, fit_intercept=False)
        peer.fit(basis, targets[row], sample_weight=weights[row])
        np.testing.assert_allclose(found[row], peer.coef_, rtol=1e-8)


@pytest.mark.parametrize("init", ["svd", "random"])
def test_als_without_gaps_or_ridge_is_the_truncated_svd(init):
    X = np.random.default_rng(0).normal(size=(60, 40))
    params = {"init": init, "random_state": 0, "tol": 1e-12, "max_iter": 3000}
    model = LowRankApproximation(5, alpha=0, **params).fit(X)
    assert model.reconstruction_err_ / tail(X, 5) < 1 + 1e-6
    assert np.linalg.norm(X - rebuilt(model, X)) / tail(X, 5) < 1 + 1e-6


@pytest.mark.parametrize("init", ["svd", "random"])
def test_ridge_lowers_singular_values_as_the_nuclear_norm_does(init):
    X = np.random.default_rng(0).normal(size=(60, 40))
    u, s, vt = np.linalg.svd(X, full_matrices=False)
    alpha = 0.5 * (s[3] + s[4])
    expected = (u * np.maximum(s - alpha, 0)) @ vt
    params = {"init": init, "random_state": 0, "tol": 1e-15, "max_iter": 5000}
    model = LowRankApproximation(8, alpha=alpha, **params).fit(X)
    assert np.abs(rebuilt(model, X) - expected).max() < 1e-5 * np.abs(expected).max()


def test_svd_is_scikit_learns():
    X = np.random.default_rng(0).normal(size=(60, 40))
    model = LowRankApproximation(5, method="svd").fit(X)
    peer = TruncatedSVD(5, algorithm="arpack").fit(X)
    expected = peer.inverse_transform(peer.transform(X))
    np.testing.assert_allclose(rebuilt(model, X), expected, atol=1e-10)
    assert model.reconstruction_err_ == pytest.approx(tail(X, 5), rel=1e-10)


def test_kronecker_products_are_found_and_the_error_is_the_tail_of_the_rearrangement():
    rng = np.random.default_rng(0)
    B, C = rng.normal(size=(3, 5)), rng.normal(size=(4, 2))
    left, right = kronecker_approximation(np.kron(B, C), (3, 5))
    assert np.abs(np.kron(left[0], right[0]) - np.kron(B, C)).max() < 1e-12
    np.testing.assert_allclose(rearrange(np.kron(B, C), (3, 5)), np.outer(B, C), atol=1e-14)
    X = rng.normal(size=(12, 10))
    for k in range(1, 9):
        left, right = kronecker_approximation(X, (3, 5), k)
        assert left.shape == (k, 3, 5)
        assert right.shape == (k, 4, 2)
        error = np.linalg.norm(X - sum(map(np.kron, left, right)))
        assert error == pytest.approx(tail(rearrange(X, (3, 5)), k), abs=1e-12)


def test_kronecker_product_is_found_from_a_part_of_its_entries():
    rng = np.random.default_rng(0)
    X = np.kron(rng.normal(size=(6, 5)), rng.normal(size=(4, 4)))
    left, right = kronecker_approximation(with_gaps(X, 0.4)[0], (6, 5), tol=1e-14, max_iter=2000)
    assert np.abs(np.kron(left[0], right[0]) - X).max() < 1e-4 * np.abs(X).max()


def test_khatri_rao_products_are_found_and_the_error_is_that_of_each_column():
    rng = np.random.default_rng(0)
    B, C = rng.normal(size=(3, 8)), rng.normal(size=(5, 8))
    found = khatri_rao(*khatri_rao_approximation(khatri_rao(B, C), (3, 5)))
    assert np.abs(found - khatri_rao(B, C)).max() < 1e-12
    X = rng.normal(size=(15, 8))
    errors = np.linalg.norm(X - khatri_rao(*khatri_rao_approximation(X, (3, 5))), axis=0)
    expected = [tail(column.reshape(3, 5), 1) for column in X.T]
    np.testing.assert_allclose(errors, expected, rtol=1e-12)


@pytest.mark.parametrize("share", [0, 0.3])
def test_low_rank_khatri_rao_factors_are_found(share):
    rng = np.random.default_rng(0)
    B = rng.normal(size=(6, 2)) @ rng.normal(size=(2, 40))
    C = rng.normal(size=(7, 2)) @ rng.normal(size=(2, 40))
    X, hidden = with_gaps(khatri_rao(B, C), share)
    found = khatri_rao_approximation(X, (6, 7), 2, tol=1e-14, max_iter=1000)
    assert [np.linalg.matrix_rank(F, tol=1e-6) for F in found] == [2, 2]
    assert np.linalg.norm(khatri_rao(*found) - khatri_rao(B, C)) < 1e-4 * np.linalg.norm(C)


def test_khatri_rao_rows_have_codes_of_both_factors():
    rng = np.random.default_rng(0)
    X = khatri_rao(rng.normal(size=(4, 30)), rng.normal(size=(5, 30))).T
    model = LowRankApproximation(None, method="khatri_rao", alpha=0).fit(X)
    assert model.transform(X).shape == (30, 9)
    np.testing.assert_allclose(rebuilt(model, X), X, atol=1e-10)
    noisy = rng.normal(size=(30, 20))
    error = np.linalg.norm(noisy - rebuilt(model.fit(noisy), noisy), axis=1)
    expected = [tail(row.reshape(4, 5), 1) for row in noisy]
    np.testing.assert_allclose(error, expected, rtol=1e-6)


# The loss never rises.


STRUCTURES = {
    "als": (HadamardProduct(), [3], [30]),
    "bias": (BiasedProduct(), [4], [30]),
    "hadamard": (HadamardProduct(), [3, 2, 2], [30, 30, 30]),
    "khatri_rao": (KhatriRaoProduct((5, 6)), [3, 2], [5, 6]),
}


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", STRUCTURES)
def test_no_update_of_a_block_raises_the_loss(name, gaps):
    structure, ranks, widths = STRUCTURES[name]
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 30))
    observed = (rng.random(X.shape) < 0.5).astype(float) if gaps else None
    X = X * observed if gaps else X
    codes = [rng.normal(size=(40, k)) for k in ranks]
    components = [rng.normal(size=(k, width)) for k, width in zip(ranks, widths)]
    data = (X, observed, 0.1)
    losses = [penalized_loss(structure, codes, components, *data)]
    for _ in range(30):
        if name != "bias":
            balance(codes, components)
            losses.append(penalized_loss(structure, codes, components, *data))
        for index in range(len(ranks)):
            for update in (update_components, update_codes):
                update(structure, index, codes, components, *data)
                losses.append(penalized_loss(structure, codes, components, *data))
    assert np.all(np.diff(losses) <= 1e-10 * np.array(losses[:-1]))
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("share", [0, 0.4])
@pytest.mark.parametrize("method", METHODS)
def test_loss_curves_fall_and_end_at_the_reported_error(method, share):
    X, hidden = with_gaps(np.random.default_rng(1).normal(size=(40, 30)), share)
    model = LowRankApproximation(3, method=method, alpha=0, max_iter=30, random_state=0).fit(X)
    curve = np.array(model.loss_curve_)
    assert np.all(np.diff(curve) <= 1e-10 * curve[:-1])
    assert model.n_iter_ == len(curve)
    assert model.reconstruction_err_**2 == pytest.approx(curve[-1], rel=1e-9)
    assert np.isfinite(rebuilt(model, X)).all()


# Claims.


@pytest.mark.parametrize("seed", range(4))
def test_elementwise_products_are_found_where_as_many_components_leave_an_eighth(seed):
    X = multiplicative(seed)
    params = {"method": "hadamard", "alpha": 1e-6, "n_init": 5, "tol": 1e-7}
    model = LowRankApproximation((3, 3), random_state=0, **params).fit(X)
    assert model.reconstruction_err_ < 1e-3 * np.linalg.norm(X)
    assert tail(X, 6) > 0.08 * np.linalg.norm(X)
    restored = np.linalg.norm(rebuilt(model, X) - X, axis=1) / np.linalg.norm(X, axis=1)
    assert restored.max() < 1e-3


def test_elementwise_product_has_a_rank_beyond_its_parameters():
    X = multiplicative(0)
    codes, components = hadamard_approximation(X, (3, 3), n_init=2, tol=1e-6, random_state=0)
    product = (codes[0] @ components[0]) * (codes[1] @ components[1])
    assert np.linalg.norm(product - X) < 1e-3 * np.linalg.norm(X)
    assert np.linalg.matrix_rank(product, tol=1e-4) == np.linalg.matrix_rank(X) == 9
    norms = [np.linalg.norm(block) for block in (*codes, *components)]
    assert max(norms) < 1.5 * min(norms)


@pytest.mark.parametrize("seed", range(3))
def test_gaps_are_filled_to_the_noise(seed):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(120, 4)) @ rng.normal(size=(4, 80))
    X, hidden = with_gaps(truth + 0.01 * rng.normal(size=truth.shape), 0.6, seed)

    def miss(filled):
        return np.sqrt(np.mean((filled - truth)[hidden] ** 2))

    imputer = LowRankImputer(4, fit_bias=False, max_iter=500)
    filled = imputer.fit_transform(X)
    assert miss(filled) < 0.03
    assert miss(KNNImputer().fit_transform(X)) > 1
    np.testing.assert_array_equal(filled[~hidden], X[~hidden])


def test_ratings_with_effects_of_users_and_items_need_the_biases():
    rng = np.random.default_rng(0)
    effects = np.add.outer(rng.normal(size=150), 3 + rng.normal(size=60))
    truth = effects + 0.3 * rng.normal(size=(150, 2)) @ rng.normal(size=(2, 60))
    X, hidden = with_gaps(truth + 0.1 * rng.normal(size=truth.shape), 0.8)
    errors = {}
    for bias in (False, True):
        filled = LowRankImputer(2, alpha=1, fit_bias=bias, max_iter=1000).fit_transform(X)
        errors[bias] = np.sqrt(np.mean((filled - truth)[hidden] ** 2))
    assert errors[True] < 0.5 * errors[False]


# New rows.


@pytest.mark.parametrize(("method", "bias"), [("als", False), ("als", True), ("svd", False)])
def test_training_rows_are_restored_as_fitted(method, bias):
    X, hidden = with_gaps(np.random.default_rng(0).normal(size=(50, 30)), 0.2 * (method == "als"))
    model = LowRankApproximation(4, method=method, fit_bias=bias, max_iter=1000).fit(X)
    error = np.linalg.norm((rebuilt(model, X) - X)[~hidden])
    assert error == pytest.approx(model.reconstruction_err_, rel=1e-6)
    assert model.score(X) == pytest.approx(-(error**2) / (~hidden).sum(), rel=1e-6)
    assert model.transform(X).shape == (50, 4 + bias)


@pytest.mark.parametrize("method", METHODS)
def test_codes_of_a_row_do_not_depend_on_other_rows(method):
    X, _ = with_gaps(multiplicative(0), 0.1)
    model = LowRankApproximation(3, method=method, max_iter=50, random_state=0).fit(X)
    alone = np.vstack([model.transform(X[[row]]) for row in range(8)])
    np.testing.assert_allclose(alone, model.transform(X)[:8], rtol=1e-6, atol=1e-8)


# Use.


def test_imputer_works_in_a_pipeline_and_marks_gaps_by_any_number():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 8))
    y = truth[:, 0]
    X, hidden = with_gaps(truth, 0.2)
    model = make_pipeline(LowRankImputer(max_iter=2000, alpha=1e-3), Ridge()).fit(X, y)
    assert model.score(X, y) > 0.99
    coded = np.where(hidden, -99.0, truth)
    params = {"max_iter": 2000, "alpha": 1e-3}
    found = LowRankImputer(missing_values=-99, **params).fit_transform(coded)
    np.testing.assert_allclose(found, LowRankImputer(**params).fit_transform(X), rtol=1e-12)
    with pytest.raises(ValueError, match="NaN"):
        LowRankImputer(missing_values=-99).fit(X)


def test_rows_and_columns_without_entries_get_the_mean_effects():
    X, _ = with_gaps(np.add.outer(np.arange(20.0), np.arange(10.0)), 0.2)
    X[3], X[:, 4] = np.nan, np.nan
    imputer = LowRankImputer(1, max_iter=500).fit(X)
    filled = imputer.transform(X)
    np.testing.assert_allclose(filled[3], imputer.mean_ + imputer.bias_, rtol=1e-10)
    assert imputer.bias_[4] == 0
    assert np.corrcoef(np.delete(filled[:, 4], 3), np.delete(np.arange(20), 3))[0, 1] > 0.99


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("method", METHODS)
def test_torch_tensors_give_what_arrays_give(method, dtype):
    X = with_gaps(multiplicative(0)[:30, :20], 0.2)[0].astype(dtype)
    params = {"method": method, "max_iter": 20, "random_state": 0, "alpha": 1.0}
    expected = LowRankApproximation(2, **params).fit(X)
    with config_context(array_api_dispatch=True):
        tensor = torch.from_numpy(X)
        model = LowRankApproximation(2, **params).fit(tensor)
        filled, codes = model.impute(tensor), model.transform(tensor)
        back = model.inverse_transform(codes)
    assert filled.dtype == codes.dtype == back.dtype == tensor.dtype
    tolerance = 1e-8 if dtype == np.float64 else 1e-3
    np.testing.assert_allclose(filled.numpy(), expected.impute(X), atol=tolerance)
    np.testing.assert_allclose(back.numpy(), rebuilt(expected, X), atol=tolerance)


def test_functions_take_tensors():
    X = np.random.default_rng(0).normal(size=(12, 10))
    with config_context(array_api_dispatch=True):
        tensor = torch.from_numpy(X)
        pairs = [
            (kronecker_approximation(X, (3, 5)), kronecker_approximation(tensor, (3, 5))),
            (khatri_rao_approximation(X, (3, 4)), khatri_rao_approximation(tensor, (3, 4))),
        ]
        blocks = hadamard_approximation(tensor, (2, 2), random_state=0)[0]
    for arrays, tensors in pairs:
        for array, found in zip(arrays, tensors):
            np.testing.assert_allclose(np.abs(found.numpy()), np.abs(array), atol=1e-10)
    assert all(isinstance(block, torch.Tensor) for block in blocks)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"fit_bias": True, "method": "svd"}, "fit_bias"),
        ({"method": "khatri_rao", "shape": (4, 4)}, "shape"),
        ({"n_components": (2, 3)}, "n_components"),
        ({"n_components": (2, 0), "method": "hadamard"}, "n_components"),
    ],
)
def test_what_makes_no_sense_raises(params, message):
    X = np.random.default_rng(0).normal(size=(12, 10))
    with pytest.raises(ValueError, match=message):
        LowRankApproximation(**params).fit(X)
    with pytest.raises(ValueError, match="missing"):
        LowRankApproximation().fit(np.full((4, 3), np.nan))
    with pytest.raises(ValueError, match="shape"):
        kronecker_approximation(X, (5, 5))
    with pytest.raises(ValueError, match="shape"):
        khatri_rao_approximation(X, (5, 5))
    with pytest.raises(ValueError, match="n_components"):
        hadamard_approximation(X, (0, 1))


def test_early_end_says_what_to_change():
    X = with_gaps(multiplicative(0), 0.3)[0]
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        LowRankApproximation(3, max_iter=2).fit(X)


def test_verbose_prints_the_loss(capsys):
    LowRankApproximation(verbose=1).fit(multiplicative(0))
    assert "loss" in capsys.readouterr().out
