"""Tests of the kernel helpers."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn import config_context
from sklearn.gaussian_process.kernels import RBF
from sklearn.metrics.pairwise import rbf_kernel

from skpapers.utils import (
    kernel_matrix,
    kernel_product,
    median_squared_distance,
    positive_definite_solver,
    resolve_gamma,
)

X = np.random.RandomState(0).normal(size=(30, 3))


def test_kernels_by_name_by_function_and_by_object():
    expected = np.exp(-0.5 * ((X[:, None] - X[None]) ** 2).sum(axis=-1))
    assert_allclose(kernel_matrix(X, gamma=0.5), expected)
    assert_allclose(kernel_matrix(X, kernel=RBF(1.0)), expected)

    def function(a, b, width):
        return np.exp(-width * np.sum((a - b) ** 2))

    assert_allclose(kernel_matrix(X, kernel=function, kernel_params={"width": 0.5}), expected)
    assert_allclose(kernel_matrix(sparse.csr_array(X), gamma=0.5), expected)
    with pytest.raises(ValueError, match="square"):
        kernel_matrix(X, kernel="precomputed")


def test_product_by_blocks_is_the_product():
    coef = np.random.RandomState(1).normal(size=(30, 2))
    expected = rbf_kernel(X, gamma=0.5) @ coef
    with config_context(working_memory=1e-3):  # four rows a block
        assert_allclose(kernel_product(X, X, coef, gamma=0.5), expected)
        ready = kernel_product(rbf_kernel(X, gamma=0.5), X, coef, kernel="precomputed")
    assert_allclose(ready, expected)


def test_rules_for_gamma():
    pairs = [np.sum((X[i] - X[j]) ** 2) for i in range(30) for j in range(i)]
    assert_allclose(median_squared_distance(X), np.median(pairs))
    assert_allclose(resolve_gamma("median", X), 1 / np.median(pairs))
    assert_allclose(resolve_gamma("scale", X), 1 / (3 * X.var()))
    assert_allclose(resolve_gamma("scale", sparse.csr_array(X)), 1 / (3 * X.var()))
    assert resolve_gamma(0.3, X) == 0.3
    assert resolve_gamma("scale", np.ones((4, 2))) == resolve_gamma("median", np.ones((4, 2))) == 1


@pytest.mark.parametrize("namespace", ["numpy", "torch", "array_api_strict"])
def test_namespaces_agree(namespace):
    xp = pytest.importorskip(namespace)
    with config_context(array_api_dispatch=True):
        points = xp.asarray(X)
        kernel = kernel_matrix(points, gamma=resolve_gamma("median", points))
        solution = positive_definite_solver(kernel + xp.eye(30, dtype=xp.float64))(points)
    expected = rbf_kernel(X, gamma=1 / median_squared_distance(X))
    assert type(kernel) is type(points)
    assert_allclose(np.asarray(kernel), expected)
    assert_allclose(np.asarray(solution), np.linalg.solve(expected + np.eye(30), X))


@pytest.mark.parametrize("namespace", ["numpy", "torch", "array_api_strict"])
def test_indefinite_matrices_raise(namespace):
    xp = pytest.importorskip(namespace)
    with (
        config_context(array_api_dispatch=True),
        pytest.raises(ValueError, match="use another kernel"),
    ):
        positive_definite_solver(-xp.eye(3, dtype=xp.float64), "use another kernel")
