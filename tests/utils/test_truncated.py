import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn import config_context

from skpapers.utils import polar_factor, qr_factor, truncated_eigh, truncated_svd


def matrix_with_spectrum(m, n, values, seed=0):
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.normal(size=(k, len(values))))[0] for k in (m, n))
    return (left * values) @ right.T


SPECTRUM = 0.8 ** np.arange(30)


@pytest.mark.parametrize("solver", ["auto", "full", "arpack", "randomized"])
def test_leading_triplets_have_the_singular_values_of_construction(solver):
    A = matrix_with_spectrum(60, 40, SPECTRUM)
    u, s, vt = truncated_svd(A, 5, solver=solver, random_state=0)
    # a random subspace does not find the values to the last digit
    tol = 1e-4 if solver == "randomized" else 1e-12
    np.testing.assert_allclose(s, SPECTRUM[:5], rtol=tol)
    np.testing.assert_allclose(A @ vt.T, u * s, atol=10 * tol)
    np.testing.assert_allclose(u.T @ u, np.eye(5), atol=1e-10)


@pytest.mark.parametrize("solver", ["auto", "full", "arpack"])
def test_a_sparse_matrix_gives_what_its_array_gives(solver):
    A = sparse.random(80, 50, density=0.1, random_state=0, format="csr")
    for one, other in zip(
        truncated_svd(A, 4, solver=solver, random_state=0), truncated_svd(A.toarray(), 4)
    ):
        np.testing.assert_allclose(one, other, atol=1e-10)
    gram = A @ A.T
    for one, other in zip(
        truncated_eigh(gram, 4, solver=solver, random_state=0), truncated_eigh(gram.toarray(), 4)
    ):
        np.testing.assert_allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("solver", ["full", "arpack"])
def test_extreme_eigenpairs_from_the_extreme_inwards(solver, largest):
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 50)))[0]
    values = np.linspace(-3, 2, 50)
    A = (basis * values) @ basis.T
    found, vectors = truncated_eigh(A, 4, largest=largest, solver=solver, random_state=0)
    np.testing.assert_allclose(found, (values[::-1] if largest else values)[:4], atol=1e-10)
    np.testing.assert_allclose(A @ vectors, vectors * found, atol=1e-8)


def test_large_matrices_go_to_arpack_and_signs_do_not_depend_on_the_solver():
    A = matrix_with_spectrum(1500, 1100, SPECTRUM)
    for one, other in zip(truncated_svd(A, 3, random_state=1), truncated_svd(A, 3, solver="full")):
        np.testing.assert_allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_tensors_give_what_numpy_gives(dtype):
    A = matrix_with_spectrum(60, 40, SPECTRUM).astype(dtype)
    gram = A.T @ A
    tol = 1e-5 if dtype == "float32" else 1e-12
    with config_context(array_api_dispatch=True):
        results = [
            (truncated_svd(torch.as_tensor(A), 3), truncated_svd(A, 3)),
            (truncated_eigh(torch.as_tensor(gram), 3), truncated_eigh(gram, 3)),
            ([polar_factor(torch.as_tensor(A))], [polar_factor(A)]),
        ]
    for found, expected in results:
        for one, other in zip(found, expected):
            assert isinstance(one, torch.Tensor)
            assert str(one.dtype) == f"torch.{dtype}"
            if other.shape != (60, 40):  # the polar factor of a singular matrix is not unique
                np.testing.assert_allclose(one.numpy(), other, atol=tol)


@pytest.mark.parametrize("function", [truncated_svd, truncated_eigh])
def test_bad_requests_name_the_parameter(function):
    with pytest.raises(ValueError, match=r"n_components=0 must be between 1 and 3"):
        function(np.eye(3), 0)
    with pytest.raises(ValueError, match=r"n_components=4 must be between 1 and 3"):
        function(np.eye(3), 4)
    with pytest.raises(ValueError, match="solver='lanczos'"):
        function(np.eye(3), 1, solver="lanczos")
    with pytest.raises(ValueError, match="fewer components"):
        function(np.eye(3), 3, solver="arpack")


def test_polar_factor_is_the_nearest_orthonormal_matrix():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(7, 3))
    Q = polar_factor(A)
    np.testing.assert_allclose(Q.T @ Q, np.eye(3), atol=1e-12)
    # A = Q P with P symmetric positive definite
    P = Q.T @ A
    np.testing.assert_allclose(P, P.T, atol=1e-12)
    assert np.linalg.eigvalsh(P).min() > 0
    others = np.linalg.qr(rng.normal(size=(500, 7, 3)))[0]
    assert np.linalg.norm(A - Q) <= np.linalg.norm(A - others, axis=(1, 2)).min()


def test_qr_factor_is_unique_and_spans_the_columns():
    A = np.random.default_rng(0).normal(size=(4, 7, 3))
    Q = qr_factor(A)
    R = Q.swapaxes(1, 2) @ A
    np.testing.assert_allclose(Q @ R, A, atol=1e-12)
    np.testing.assert_allclose(np.tril(R, -1), 0, atol=1e-12)
    assert (np.diagonal(R, axis1=1, axis2=2) > 0).all()
    np.testing.assert_allclose(qr_factor(2 * A), Q, atol=1e-12)


@pytest.mark.parametrize("function", [polar_factor, qr_factor])
def test_wide_matrices_cannot_be_made_orthonormal(function):
    with pytest.raises(ValueError, match="more columns than rows"):
        function(np.ones((2, 3)))
