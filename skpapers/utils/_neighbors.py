"""Nearest neighbours, exact or approximate, of the rows of a table."""

import numpy as np
from scipy.sparse import issparse
from sklearn.neighbors import NearestNeighbors

from ._optional import import_optional
from ._random import check_random_state, draw_seed

__all__ = ["nearest_neighbors"]


def nearest_neighbors(
    X,
    n_neighbors,
    *,
    rows=None,
    Y=None,
    metric="euclidean",
    method="exact",
    random_state=None,
    n_jobs=None,
):
    """Find the nearest neighbours of the rows of `X`.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Rows.
    n_neighbors : int
        Number of neighbours, at most ``n_samples - 1``, or the rows of `Y`.
    rows : ndarray of int of shape (n_queries,), default=None
        Rows of `X` whose neighbours are wanted; None for all.
    Y : array-like of shape (n_reference, n_features), default=None
        Rows to search. None searches the other rows of `X`: a row is not its own neighbour,
        its duplicates are.
    metric : str or callable, default="euclidean"
        Metric of :class:`sklearn.neighbors.NearestNeighbors`, or "inner_product", whose
        neighbours have the largest inner products.
    method : {"exact", "approximate"}, default="exact"
        "approximate" searches a graph of neighbours by pynndescent (extra `neighbors`): worth it
        from some ten thousand rows in more than ten dimensions.
    random_state : int, RandomState instance or None, default=None
        Randomness of "approximate".
    n_jobs : int, default=None
        Number of threads.

    Returns
    -------
    distances : ndarray of shape (n_queries, n_neighbors)
        Distances, ascending; for "inner_product" the negative inner products.
    indices : ndarray of shape (n_queries, n_neighbors)
        Rows of `Y`, or of `X`.

    Raises
    ------
    ValueError
        If `n_neighbors` is not between 1 and the number of rows that can be neighbours.
    ImportError
        If "approximate" is asked for and pynndescent is not installed.

    Examples
    --------
    >>> from skpapers.utils import nearest_neighbors
    >>> distances, indices = nearest_neighbors([[0.0], [1.0], [3.0]], 1)
    >>> indices.ravel(), distances.ravel()
    (array([1, 0, 1]), array([1., 1., 2.]))
    """
    X = X if issparse(X) else np.asarray(X)
    reference = X if Y is None else np.asarray(Y)
    rows = np.arange(X.shape[0]) if rows is None else rows
    queries = X[rows]
    _check_n_neighbors(n_neighbors, reference.shape[0] - (Y is None))
    n_found = n_neighbors + (Y is None)
    if metric == "inner_product":
        lifted, high = _lift(queries, reference)
        _, indices = _search(high, lifted, n_found, "euclidean", method, random_state, n_jobs)
        distances = -np.einsum("ij,ikj->ik", queries, reference[indices])
    else:
        search = _search(reference, queries, n_found, metric, method, random_state, n_jobs)
        distances, indices = search
    return (distances, indices) if Y is not None else _without_self(distances, indices, rows)


def _search(reference, queries, n_neighbors, metric, method, random_state, n_jobs):
    if method == "exact":
        index = NearestNeighbors(n_neighbors=n_neighbors, metric=metric, n_jobs=n_jobs)
        return index.fit(reference).kneighbors(queries)
    if method != "approximate":
        raise ValueError(f"method={method!r} must be 'exact' or 'approximate'.")
    pynndescent = import_optional("pynndescent", "neighbors")
    seed = draw_seed(check_random_state(random_state))
    options = {"metric": metric, "random_state": seed, "n_jobs": n_jobs}
    index = pynndescent.NNDescent(reference, n_neighbors=max(15, n_neighbors), **options)
    indices, distances = index.query(queries, k=n_neighbors)
    return distances, indices


def _lift(X, Y):
    """One column more, after which the nearest rows are those with the largest products."""
    squares = np.einsum("ij,ij->i", Y, Y)
    height = np.sqrt(squares.max() - squares)
    return np.column_stack([X, np.zeros_like(X[:, 0])]), np.column_stack([Y, height])


def _without_self(distances, indices, rows):
    """Take each row out of its own neighbours; its last one where duplicates crowd it out."""
    others = indices != rows[:, None]
    others[others.all(axis=1), -1] = False
    shape = (len(indices), indices.shape[1] - 1)
    return distances[others].reshape(shape), indices[others].reshape(shape)


def _check_n_neighbors(n_neighbors, n_available):
    if not 1 <= n_neighbors <= n_available:
        raise ValueError(
            f"n_neighbors={n_neighbors} must be between 1 and {n_available}, the number of rows "
            "that can be neighbours."
        )
