"""Kernel functions that are balanced, and the weights that balance them."""

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils import Bunch, gen_batches

from skpapers.utils import kernel_matrix, resolve_gamma

from ._balancing_solvers import dual_weights, error_functions, worst_functions

_POOL = 300
_BLOCK_CELLS = 2**22


def kernel_values(X, centers, kernel, gamma):
    """Kernel between rows and centres."""
    if callable(kernel):
        return np.asarray(kernel(X, centers), dtype=np.float64)
    if kernel == "gaussian":
        return kernel_matrix(X, centers, kernel="rbf", gamma=gamma)
    return np.exp(-gamma * euclidean_distances(X, centers))


def kernel_means(X, centers, kernel, gamma):
    """Means over the rows of X of the kernel with each centre, a block of rows at a time."""
    total = np.zeros(len(centers))
    for rows in gen_batches(len(X), max(_BLOCK_CELLS // len(centers), 1)):
        total += kernel_values(X[rows], centers, kernel, gamma).sum(axis=0)
    return total / len(X)


def kernel_width(gamma, kernel, X):
    """The width: for "auto", 1 over the (root, for the exponential kernel) total variance."""
    if gamma != "auto":
        return float(gamma)
    scale = resolve_gamma("scale", X)
    return float(np.sqrt(scale)) if kernel == "exponential" else scale


def draw_centers(X, selection, n_functions, rng):
    """Centres: given, as many rows as functions, or a pool to choose functions from."""
    if not isinstance(selection, str):
        centers = np.asarray(selection, dtype=np.float64)
        if centers.ndim != 2 or centers.shape[1] != X.shape[1] or len(centers) == 0:
            raise ValueError(
                f"selection must be a name or centres of {X.shape[1]} columns, got an array of "
                f"shape {centers.shape}"
            )
        return centers
    n_centers = min(n_functions if selection == "random" else _POOL, len(X))
    return X[rng.permutation(len(X))[:n_centers]]


def balance(X, observed, base, errors, settings, rng):
    """Weights under which observed rows have the kernel means of all rows.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        All rows.
    observed : ndarray of int of shape (n_observed,)
        Which of them are observed.
    base : ndarray of shape (n_observed,)
        Positive weights to stay near to.
    errors : ndarray of shape (n_observed,) or None
        What "adaptive" is to balance.
    settings : dict
        `kernel`, `gamma_kernel`, `selection`, `n_functions`, `balance_tol`, `balance_strength`.
    rng : RandomState
        Draws the centres.

    Returns
    -------
    Bunch
        `p`, weights that sum to 1; `centers` and `gamma`; `functions`, coefficients of the
        functions by centres; `dual`; `gaps` of the functions; `on_observed`, values there, and
        `targets`, of the centres.
    """
    kernel, selection = settings["kernel"], settings["selection"]
    tol, strength = settings["balance_tol"], settings["balance_strength"]
    gamma = kernel_width(settings["gamma_kernel"], kernel, X)
    centers = draw_centers(X, selection, settings["n_functions"], rng)
    values = kernel_values(X[observed], centers, kernel, gamma)
    targets = kernel_means(X, centers, kernel, gamma)
    base = base / base.sum()
    if isinstance(selection, str) and selection == "worst":
        gram = kernel_values(centers, centers, kernel, gamma)
        functions, p, dual = worst_functions(
            gram, values, targets, base, settings["n_functions"], tol, strength
        )
    else:
        functions = np.eye(len(centers))
        if isinstance(selection, str) and selection == "adaptive":
            functions = error_functions(values, errors, base, settings["n_functions"])
        p, dual = dual_weights(values @ functions, targets @ functions, base, tol, strength)
    return Bunch(
        p=p,
        centers=centers,
        gamma=gamma,
        functions=functions,
        dual=dual,
        gaps=(targets - p @ values) @ functions,
        on_observed=values,
        targets=targets,
    )
