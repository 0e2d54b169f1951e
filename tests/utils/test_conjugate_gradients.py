import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning

from skpapers.utils import conjugate_gradients


def system(n=40, condition=1e6, seed=0):
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(n, n)))[0]
    return (basis * np.geomspace(1, condition, n)) @ basis.T, rng.normal(size=(n, 3))


def test_all_columns_equal_the_direct_solution():
    A, B = system(condition=1e3)
    solution, n_iter = conjugate_gradients(lambda x: A @ x, B, tol=1e-12)
    np.testing.assert_allclose(solution, np.linalg.solve(A, B), rtol=1e-8)
    one, _ = conjugate_gradients(lambda x: A @ x, B[:, 0], tol=1e-12)
    np.testing.assert_allclose(one, solution[:, 0], rtol=1e-8)
    assert n_iter <= 4 * 40


def test_few_distinct_eigenvalues_need_as_many_iterations():
    A = np.diag(np.repeat([1.0, 5.0, 9.0], 10))
    assert conjugate_gradients(lambda x: A @ x, np.arange(1.0, 31))[1] == 3


def test_the_inverse_as_preconditioner_needs_one_iteration():
    A, B = system()
    inverse = np.linalg.inv(A)
    solution, n_iter = conjugate_gradients(
        lambda x: A @ x, B, preconditioner=lambda r: inverse @ r, tol=1e-6
    )
    assert n_iter == 1
    np.testing.assert_allclose(A @ solution, B, atol=1e-4)


def test_a_diagonal_preconditioner_helps_badly_scaled_systems():
    A, B = system(condition=10)
    scale = np.geomspace(1, 1e3, 40)
    A = scale[:, None] * A * scale
    diagonal = np.diag(A)[:, None]
    _, plain = conjugate_gradients(lambda x: A @ x, B, tol=1e-8, max_iter=10_000)
    solution, helped = conjugate_gradients(
        lambda x: A @ x, B, preconditioner=lambda r: r / diagonal, tol=1e-8
    )
    assert helped < plain / 5
    np.testing.assert_allclose(A @ solution, B, atol=1e-3)


def test_a_zero_column_stays_zero_and_torch_agrees_with_numpy():
    A, B = system(condition=1e3)
    B[:, 1] = 0
    expected, _ = conjugate_gradients(lambda x: A @ x, B)
    assert (expected[:, 1] == 0).all()
    tensor = torch.as_tensor(A)
    with config_context(array_api_dispatch=True):
        solution, _ = conjugate_gradients(lambda x: tensor @ x, torch.as_tensor(B))
    np.testing.assert_allclose(solution.numpy(), expected, rtol=1e-6, atol=1e-10)


def test_too_few_iterations_are_told():
    A, B = system()
    with pytest.warns(ConvergenceWarning, match="did not converge in 2 iterations"):
        conjugate_gradients(lambda x: A @ x, B, max_iter=2)
