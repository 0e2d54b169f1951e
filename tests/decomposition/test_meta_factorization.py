"""Meta-factorization: projector equations, exactness, optimality, replacement, one pass."""

import numpy as np
import pytest
import torch
from scipy import linalg, sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from skpapers.decomposition import (
    MetaFactorization,
    generalized_pinv,
    meta_factorize,
    replacement_criterion,
)
from skpapers.decomposition._column_bases import deim, leverage_sample, pivoted_qr, ulv, utv

METHODS = ["cur", "nystrom", "svd", "qr", "utv", "ulv"]
SELECTIONS = ["qr", "leverage", "deim", "uniform"]


def low_rank(m=60, n=40, rank=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, rank)) @ rng.normal(size=(rank, n))


def decaying(seed=0, m=100, n=80):
    """Singular values 1, 1/2, 1/4, ..."""
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.normal(size=(size, n)))[0] for size in (m, n))
    return u * 0.5 ** np.arange(n) @ v.T


def error(model, A):
    product = model.left_factor_ @ model.core_ @ model.right_factor_.T
    return np.linalg.norm(A - product)


def optimal_error(A, k):
    return np.linalg.norm(np.linalg.svd(A, compute_uv=False)[k:])


# Exactness and projector equations.


@pytest.mark.parametrize("n_components", [8, 12])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_exact_at_the_rank(method, n_components):
    A = low_rank()
    model = MetaFactorization(n_components, method=method, random_state=0).fit(A)
    assert error(model, A) <= 1e-10 * np.linalg.norm(A)
    assert model.reconstruction_err_ <= 1e-10 * np.linalg.norm(A)
    assert model.projector_residual_ < 1e-10
    np.testing.assert_allclose(model.inverse_transform(model.transform(A)), A, atol=1e-9)


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("core", ["projection", "cross"])
def test_every_cur_is_exact_at_the_rank(core, selection):
    A = low_rank()
    model = MetaFactorization(8, core=core, selection=selection, random_state=0).fit(A)
    assert error(model, A) <= 1e-10 * np.linalg.norm(A)
    np.testing.assert_array_equal(model.left_factor_, A[:, model.column_indices_])
    np.testing.assert_array_equal(model.components_, A[model.row_indices_])
    assert len(set(model.column_indices_)) == len(set(model.row_indices_)) == 8


def test_custom_bases_and_sketches_are_exact_for_any_mixing_matrix():
    rng = np.random.default_rng(1)
    A = low_rank()
    H0 = rng.normal(size=(60, 8))
    F, H = A @ rng.normal(size=(40, 8)), A.T @ H0
    B, D = rng.normal(size=(60, 8)), rng.normal(size=(40, 10))
    model = MetaFactorization(
        method="custom",
        column_basis=F,
        row_basis=lambda X: X.T @ H0,
        column_sketch=B,
        row_sketch=lambda X: D,
    ).fit(A)
    assert error(model, A) <= 1e-10 * np.linalg.norm(A)
    assert model.projector_residual_ < 1e-10
    for W in [None, rng.normal(size=(8, 8))]:
        for sketches in [(None, None), (B, D)]:
            factors = meta_factorize(A, F, H, *sketches, W)
            rebuilt = factors.left @ factors.core @ factors.right.T
            assert np.linalg.norm(rebuilt - A) <= 1e-10 * np.linalg.norm(A)


def test_mixing_matrix_is_free_where_the_bases_have_dependent_columns():
    A = low_rank(rank=3)
    F, H = np.hstack([A[:, :3], A[:, :2]]), A[:4].T
    W = np.random.default_rng(0).normal(size=(5, 4))
    plain, mixed = meta_factorize(A, F, H), meta_factorize(A, F, H, W=W)
    assert np.abs(plain.core - mixed.core).max() > 0.1
    np.testing.assert_allclose(F @ mixed.core @ H.T, A, atol=1e-10)


def test_oblique_projection_error_is_that_of_the_formula():
    rng = np.random.default_rng(2)
    A, F, H = rng.normal(size=(12, 9)), rng.normal(size=(12, 3)), rng.normal(size=(9, 3))
    B, D = rng.normal(size=(12, 3)), rng.normal(size=(9, 3))
    left = F @ np.linalg.inv(B.T @ F) @ B.T
    right = D @ np.linalg.inv(H.T @ D) @ H.T
    factors = meta_factorize(A, F, H, B, D)
    np.testing.assert_allclose(F @ factors.core @ H.T, left @ A @ right, atol=1e-10)


# Optimality and equivalence with what is known.


def test_projection_core_is_optimal():
    A = np.random.default_rng(0).normal(size=(30, 20))
    model = MetaFactorization(5).fit(A)
    F, H = model.left_factor_, model.right_factor_
    best = np.linalg.norm(A - F @ model.core_ @ H.T)
    assert model.reconstruction_err_ == pytest.approx(best, rel=1e-12)
    rng = np.random.default_rng(1)
    for size in 10.0 ** rng.uniform(-6, 1, size=500):
        G = model.core_ + size * rng.normal(size=(5, 5))
        assert np.linalg.norm(A - F @ G @ H.T) >= best
    cross = MetaFactorization(5, core="cross").fit(A)
    assert cross.reconstruction_err_ > best


@pytest.mark.parametrize("as_input", [np.asarray, sparse.csr_array, sparse.csc_array])
def test_svd_has_the_optimal_error(as_input):
    A = np.random.default_rng(0).normal(size=(50, 30))
    model = MetaFactorization(6, method="svd", random_state=0).fit(as_input(A))
    peer = TruncatedSVD(6, algorithm="arpack").fit(A)
    rebuilt = peer.inverse_transform(peer.transform(A))
    assert model.reconstruction_err_ == pytest.approx(np.linalg.norm(A - rebuilt), rel=1e-10)
    np.testing.assert_allclose(model.singular_values_, peer.singular_values_, rtol=1e-10)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30)])
def test_qr_is_scipys_pivoted_qr(shape):
    A = np.random.default_rng(0).normal(size=shape)
    Q, R, pivots = linalg.qr(A, pivoting=True, mode="economic")
    model = MetaFactorization(7, method="qr").fit(A)
    np.testing.assert_array_equal(model.column_indices_, pivots[:7])
    expected = Q[:, :7] @ R[:7][:, np.argsort(pivots)]
    rebuilt = model.left_factor_ @ model.core_ @ model.right_factor_.T
    np.testing.assert_allclose(rebuilt, expected, atol=1e-12)


def test_pivoted_qr_keeps_its_digits_over_sixteen_decades():
    A = decaying(n=60) * np.logspace(0, -3, 60)
    Q, R, pivots = linalg.qr(A, pivoting=True, mode="economic")
    ours, q, r = pivoted_qr(A, 40)
    np.testing.assert_allclose(q.T @ q, np.eye(40), atol=1e-13)
    assert ours[:25] == pivots[:25].tolist()
    sizes = np.abs(np.diag(r[:, ours]))
    np.testing.assert_allclose(sizes[:25], np.abs(np.diag(R))[:25], rtol=1e-6)


def test_pivoted_qr_of_duplicate_columns_takes_each_once():
    A = np.repeat(np.eye(4)[:, :3] * [3, 2, 1], 5, axis=1)
    pivots, Q, _ = pivoted_qr(A, 4)
    assert pivots[:3] == [0, 5, 10]
    assert len(set(pivots)) == 4
    assert not Q[:, 3].any()


def test_deim_interpolates_and_leverage_follows_the_scores():
    V = np.linalg.qr(np.random.default_rng(0).normal(size=(30, 4)))[0]
    chosen = deim(V)
    coefficients = np.linalg.solve(V[chosen[:3], :3], V[chosen[:3], 3])
    assert chosen[3] == np.argmax(np.abs(V[:, 3] - V[:, :3] @ coefficients))
    vt = np.sqrt([[0.5, 0.3, 0.15, 0.05, 0.0]])
    rng = np.random.RandomState(0)
    draws = np.bincount([leverage_sample(vt, rng)[0] for _ in range(4000)], minlength=5) / 4000
    np.testing.assert_allclose(draws, vt[0] ** 2, atol=0.03)


# The generalised Nystrom method.


def test_nystrom_is_near_optimal_in_one_pass():
    ratios = []
    for seed in range(20):
        A = decaying(seed)
        model = MetaFactorization(20, method="nystrom", random_state=seed).fit(A)
        ratios.append(error(model, A) / optimal_error(A, 20))
    assert np.mean(ratios) <= 20
    assert np.median(ratios) <= 14


def test_cur_by_pivots_is_near_optimal():
    projection, cross = [], []
    for seed in range(20):
        A = decaying(seed)
        best = optimal_error(A, 20)
        projection.append(MetaFactorization(20).fit(A).reconstruction_err_ / best)
        cross.append(MetaFactorization(20, core="cross").fit(A).reconstruction_err_ / best)
    assert np.max(projection) <= 5
    assert np.median(cross) <= 8


def test_power_iterations_sharpen_nystrom():
    A = decaying(0) + 0.01 * np.random.default_rng(0).normal(size=(100, 80))
    errors = [
        MetaFactorization(10, method="nystrom", n_power_iter=q, random_state=0).fit(A)
        for q in range(3)
    ]
    errors = [error(model, A) for model in errors]
    assert errors[0] > errors[1] > errors[2] > optimal_error(A, 10)


def test_nystrom_foretells_its_error():
    A = decaying(0) + 0.01 * np.random.default_rng(0).normal(size=(100, 80))
    sketch = MetaFactorization(10, method="nystrom", oversampling=1)
    models = [clone(sketch).set_params(random_state=seed).fit(A) for seed in range(200)]
    told = np.mean([model.reconstruction_err_**2 for model in models])
    true = np.mean([error(model, A) ** 2 for model in models])
    assert told == pytest.approx(true, rel=0.15)


@pytest.mark.parametrize("as_input", [np.asarray, sparse.csr_array])
def test_blocks_of_rows_give_what_one_fit_gives(as_input):
    A = decaying(0) + 0.1
    whole = MetaFactorization(6, method="nystrom", random_state=3).fit(as_input(A))
    blocks = MetaFactorization(6, method="nystrom", random_state=3)
    for block in np.array_split(A, 5):
        blocks.partial_fit(as_input(block))
    for name in ("left_factor_", "core_", "right_factor_", "components_"):
        np.testing.assert_allclose(getattr(blocks, name), getattr(whole, name), atol=1e-10)
    assert blocks.reconstruction_err_ == pytest.approx(whole.reconstruction_err_, rel=1e-10)
    np.testing.assert_allclose(blocks.transform(A), whole.transform(A), atol=1e-10)


# UTV and ULV.


@pytest.mark.parametrize("k", [10, 20, 40])
def test_utv_reveals_the_singular_values_of_digits(k):
    X = load_digits().data
    U, s, T, V = utv(X, k)
    np.testing.assert_allclose(U.T @ U, np.eye(k), atol=1e-12)
    np.testing.assert_allclose(V.T @ V, np.eye(64), atol=1e-12)
    np.testing.assert_allclose(U @ T @ V.T, U @ U.T @ X, atol=1e-9)
    assert np.abs(np.tril(T, -1)).max() == 0
    ratios = np.linalg.svd(X, compute_uv=False)[:k] / np.abs(np.diag(T))
    assert 1 - 1e-9 <= ratios.min() <= ratios.max() < 3


def test_ulv_has_orthonormal_factors_and_a_lower_triangular_core():
    for A in [np.random.default_rng(0).normal(size=(30, 20)), low_rank(30, 20, rank=4)]:
        U, L, V = ulv(A, 7)
        for basis in (U, V):
            np.testing.assert_allclose(basis.T @ basis, np.eye(7), atol=1e-12)
        assert not np.triu(L, 1).any()
        np.testing.assert_allclose(L, U.T @ A @ V, atol=1e-10)


# Pseudoinverse and replacement.


@pytest.mark.parametrize("as_input", [np.asarray, sparse.csr_array])
def test_sketched_pseudoinverse_is_the_pseudoinverse_where_rank_is_preserved(as_input):
    rng = np.random.default_rng(0)
    A = low_rank()
    P, Q = rng.normal(size=(60, 12)), rng.normal(size=(40, 9))
    inverse, preserved = generalized_pinv(as_input(A), P, Q)
    assert preserved
    np.testing.assert_allclose(inverse, np.linalg.pinv(A, rcond=1e-10), atol=1e-8)
    inverse, preserved = generalized_pinv(as_input(A), P[:, :5], Q)
    assert not preserved
    assert np.linalg.norm(A @ inverse @ A - A) > 0.1 * np.linalg.norm(A)


def network(edges, nodes=5):
    vectors = np.zeros((nodes, len(edges)))
    for column, (i, j) in enumerate(edges):
        vectors[i - 1, column], vectors[j - 1, column] = 1, -1
    return vectors


def test_a_spanning_tree_replaces_another_and_a_disconnected_graph_does_not():
    edges = network([(1, 2), (2, 3), (1, 3), (3, 4), (4, 5), (3, 5)])
    A = edges * [2, 1, 3, 1, 4, 2] @ edges.T
    F = network([(1, 2), (2, 3), (3, 4), (4, 5)])
    G = meta_factorize(A, F, F).core
    tree = network([(1, 3), (2, 3), (3, 5), (4, 5)])
    disconnected = network([(1, 2), (2, 3), (1, 3), (4, 5)])
    for Fc, loss, miss in [(tree, 0, 0), (disconnected, 390**0.5 / 6, 105**0.5 / 3)]:
        Yc = np.linalg.pinv(Fc).T
        S = Yc.T @ F
        assert replacement_criterion(F, Fc, Yc, G) == pytest.approx(loss, abs=1e-12)
        assert np.linalg.norm(A - Fc @ S @ G @ F.T) == pytest.approx(miss, abs=1e-12)
        assert loss or abs(np.linalg.det(S)) == pytest.approx(1, abs=1e-12)


# Use.


def test_real_columns_of_digits_classify_better_than_random_ones():
    X, y = load_digits(return_X_y=True)
    X = X / 16
    classifier = LogisticRegression(max_iter=300)
    cur = make_pipeline(MetaFactorization(15, mode="features"), classifier)
    found = cross_val_score(cur, X, y, cv=5).mean()
    rng = np.random.default_rng(0)
    draws = (rng.choice(64, 15, replace=False) for _ in range(5))
    random = [cross_val_score(classifier, X[:, draw], y, cv=5).mean() for draw in draws]
    assert found >= np.mean(random) + 0.1


def test_features_mode_gives_named_columns_and_predicts_the_others():
    A = low_rank()
    model = MetaFactorization(8, mode="features", center=True).fit(A)
    selected = model.transform(A)
    np.testing.assert_array_equal(selected, A[:, model.column_indices_])
    np.testing.assert_allclose(model.inverse_transform(selected), A, atol=1e-9)
    assert list(model.get_feature_names_out()) == [f"x{j}" for j in model.column_indices_]
    assert np.flatnonzero(model.get_support()).tolist() == sorted(model.column_indices_)


@pytest.mark.parametrize("method", METHODS)
def test_sparse_data_give_what_dense_data_give(method):
    A = sparse.random_array((80, 50), density=0.2, random_state=0, format="csr")
    models = [MetaFactorization(5, method=method, random_state=0).fit(X) for X in (A, A.toarray())]
    rebuilt = [m.left_factor_ @ m.core_ @ m.right_factor_.T for m in models]
    np.testing.assert_allclose(*rebuilt, atol=1e-9)
    projected = [m.inverse_transform(m.transform(A)) for m in models]
    np.testing.assert_allclose(*projected, atol=1e-9)
    assert models[0].reconstruction_err_ == pytest.approx(models[1].reconstruction_err_)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("method", METHODS)
def test_torch_tensors_give_what_arrays_give(method, dtype):
    A = (decaying(0)[:, :30] + 0.1).astype(dtype)
    model = MetaFactorization(5, method=method, random_state=0)
    expected = model.fit(A)
    rebuilt = expected.left_factor_ @ expected.core_ @ expected.right_factor_.T
    with config_context(array_api_dispatch=True):
        tensor = torch.from_numpy(A)
        model = MetaFactorization(5, method=method, random_state=0).fit(tensor)
        found = model.left_factor_ @ model.core_ @ model.right_factor_.T
        codes = model.inverse_transform(model.transform(tensor))
    assert isinstance(codes, torch.Tensor)
    assert codes.dtype == tensor.dtype
    tolerance = 1e-10 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(found.numpy(), rebuilt, atol=tolerance)
    reference = expected.inverse_transform(expected.transform(A))
    np.testing.assert_allclose(codes.numpy(), reference, atol=tolerance)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_selections_work_on_tensors(selection):
    A = decaying(0)[:, :30] + 0.1
    expected = MetaFactorization(4, selection=selection, random_state=0).fit(A)
    with config_context(array_api_dispatch=True):
        model = MetaFactorization(4, selection=selection, random_state=0)
        found = model.fit(torch.from_numpy(A)).column_indices_
        F = torch.from_numpy(A[:, :4])
        inverse = generalized_pinv(F, torch.from_numpy(A[:, :6]), torch.eye(4, dtype=F.dtype))
        assert replacement_criterion(F, F, inverse.inverse.T, F.T @ F) < 1e-8
    assert found.tolist() == expected.column_indices_.tolist()
    np.testing.assert_allclose(inverse.inverse.numpy(), np.linalg.pinv(A[:, :4]), atol=1e-8)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"mode": "features", "method": "svd"}, "mode"),
        ({"method": "custom"}, "column_basis"),
        (
            {"method": "custom", "column_basis": np.ones((3, 2)), "row_basis": np.ones((40, 2))},
            "60",
        ),
        ({"center": True}, "center"),
    ],
)
def test_what_makes_no_sense_raises(params, message):
    A = sparse.csr_array(low_rank())
    with pytest.raises(ValueError, match=message):
        MetaFactorization(**params).fit(A)


def test_partial_fit_is_for_what_needs_one_pass():
    assert not hasattr(MetaFactorization(), "partial_fit")
    with pytest.raises(ValueError, match="n_power_iter=0"):
        MetaFactorization(method="nystrom", n_power_iter=1).partial_fit(low_rank())


def test_shapes_that_do_not_fit_are_named():
    A = low_rank()
    for F, H, W, name in [(A[:5], A.T, None, "F"), (A, A, None, "H"), (A, A.T, A[:2], "W")]:
        with pytest.raises(ValueError, match=f"^{name} must"):
            meta_factorize(A, F, H, W=W)
    with pytest.raises(ValueError, match="same number of rows"):
        replacement_criterion(A, A[:5], A, A)
    with pytest.raises(ValueError, match="G must"):
        replacement_criterion(A, A, A, A)
