import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.metrics import pairwise_distances

from skpapers.utils import nearest_neighbors


def brute(D, k):
    D = D.copy()
    np.fill_diagonal(D, np.inf)
    return np.sort(D, axis=1)[:, :k]


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
def test_distances_equal_brute_force_without_the_row_itself(metric):
    X = np.random.default_rng(0).normal(size=(60, 4))
    D = pairwise_distances(X, metric=metric)
    distances, indices = nearest_neighbors(X, 5, metric=metric)
    np.testing.assert_allclose(distances, brute(D, 5), atol=1e-12)
    np.testing.assert_allclose(np.take_along_axis(D, indices, axis=1), distances, atol=1e-7)


def test_no_row_is_its_own_neighbour_even_among_many_duplicates():
    X = np.repeat(np.arange(3.0)[:, None], 20, axis=0)
    distances, indices = nearest_neighbors(X, 4)
    assert (indices != np.arange(60)[:, None]).all()
    assert (distances == 0).all()
    assert all(len(set(row)) == 4 for row in indices)


def test_largest_inner_products():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(30, 5)), 10 * rng.normal(size=(80, 5))
    distances, indices = nearest_neighbors(X, 6, Y=Y, metric="inner_product")
    products = X @ Y.T
    np.testing.assert_allclose(-distances, -np.sort(-products, axis=1)[:, :6])
    np.testing.assert_array_equal(indices, np.argsort(-products, axis=1)[:, :6])


def test_another_table_is_searched_whole():
    distances, indices = nearest_neighbors([[0.0], [2.0]], 1, Y=[[2.0], [0.5]])
    assert indices.ravel().tolist() == [1, 0]
    assert distances.ravel().tolist() == [0.5, 0.0]


@pytest.mark.slow  # pynndescent compiles for some 20 s
def test_approximate_neighbours_are_mostly_the_exact_ones():
    X = load_digits().data[:600]
    _, exact = nearest_neighbors(X, 10)
    distances, indices = nearest_neighbors(X, 10, method="approximate", random_state=0)
    assert (indices != np.arange(600)[:, None]).all()
    assert (np.diff(distances, axis=1) >= 0).all()
    assert np.mean([np.isin(a, b).mean() for a, b in zip(indices, exact)]) > 0.95


def test_bad_requests_name_the_parameter():
    with pytest.raises(ValueError, match="n_neighbors=3 must be between 1 and 2"):
        nearest_neighbors(np.eye(3), 3)
    with pytest.raises(ValueError, match="method='fast'"):
        nearest_neighbors(np.eye(3), 1, method="fast")


def test_chosen_rows_get_the_neighbours_they_have_among_all():
    X = np.random.default_rng(0).normal(size=(40, 3))
    rows = np.array([7, 0, 33])
    for whole, part in zip(nearest_neighbors(X, 4), nearest_neighbors(X, 4, rows=rows)):
        np.testing.assert_array_equal(part, whole[rows])
    sparse_X = sparse.csr_array(np.where(X > 0, X, 0))
    dense = nearest_neighbors(sparse_X.toarray(), 4)[0]
    np.testing.assert_allclose(nearest_neighbors(sparse_X, 4)[0], dense, atol=1e-12)
