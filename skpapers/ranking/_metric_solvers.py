"""Linear maps to given points that keep neighbours together, and their refinement by stress."""

import warnings

import numpy as np
from scipy import linalg, sparse
from sklearn.exceptions import ConvergenceWarning

from skpapers.utils import conjugate_gradients, nearest_neighbors, positive_definite_solver

_MAX_PRIMAL = 2000  # columns of a system that is formed
_MAX_PAIRS = 2_000_000
_MAX_HEADS = 3000
_NOT_DEFINITE = "The system of the metric is singular to working precision: increase alpha."


def level_neighbors(X, codes, n_neighbors):
    """Directed pairs of rows and their nearest rows of the same level: two arrays of indices.

    Of more than 3000 rows, evenly spaced ones of each level stand for all.
    """
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes))[:-1]
    step = -(-len(codes) // _MAX_HEADS)
    first, second = [np.empty(0, dtype=np.intp)], [np.empty(0, dtype=np.intp)]
    for rows in np.split(order, ends):
        k = min(n_neighbors, len(rows) - 1)
        if k > 0:
            heads = np.arange(0, len(rows), step)
            first.append(np.repeat(rows[heads], k))
            found = nearest_neighbors(X[rows], k, rows=heads)[1]
            second.append(rows[found].ravel())
    return np.concatenate(first), np.concatenate(second)


def local_weights(edges, n_samples, local_strength):
    """Matrix K of the quadratic form ``|Lx|^2 / n + local_strength |L(x - x')|^2 / n_edges``.

    The identity over n, and the Laplacian of the edges, of which those found from both ends
    count twice.
    """
    identity = sparse.eye_array(n_samples, format="csr") / n_samples
    n_edges = len(edges[0])
    if local_strength == 0 or n_edges == 0:
        return identity
    adjacency = sparse.coo_array((np.ones(n_edges), edges), shape=(n_samples, n_samples))
    both = (adjacency + adjacency.T).tocsr()
    laplacian = sparse.diags_array(both.sum(axis=1)) - both
    return (identity + laplacian * (local_strength / n_edges)).tocsr()


def ridge(X, mean, alpha):
    """Multiple of the identity: `alpha` times the mean variance of columns that vary."""
    if sparse.issparse(X):
        varies = (X.max(axis=0) - X.min(axis=0)).toarray().ravel() > 0
        variance = np.asarray(X.multiply(X).mean(axis=0)).ravel() - mean**2
    else:
        varies = X.max(axis=0) > X.min(axis=0)
        variance = np.einsum("ij,ij->j", X, X) / len(X)
    return alpha * variance[varies].mean() if varies.any() else 0.0


def choose_solver(solver, X):
    """The solver that suits the shape of X, or an error if the one asked for needs dense rows."""
    if sparse.issparse(X):
        if solver not in ("auto", "cg"):
            raise ValueError(f"solver={solver!r} needs a dense X, got a sparse one: use 'cg'")
        return "cg"
    if solver != "auto":
        return solver
    n_samples, n_features = X.shape
    if n_features > n_samples:
        return "dual"
    return "cholesky" if n_features <= _MAX_PRIMAL else "cg"


def linear_map(X, mean, Y, weights, penalty, solver):
    """Solve ``(X_c^T K X_c + penalty I) L^T = X_c^T Y / n`` for L.

    Parameters
    ----------
    X : {ndarray, sparse array} of shape (n_samples, n_features)
        Rows, centred if dense.
    mean : ndarray of shape (n_features,)
        What is to be subtracted: 0 if X is centred.
    Y : ndarray of shape (n_samples, n_components)
        Points, about their mean.
    weights : sparse array of shape (n_samples, n_samples)
        The matrix K, whose rows sum to 1 / n.
    penalty : float
        Multiple of the identity; 0 means that no column varies.
    solver : {"cholesky", "dual", "cg"}
        Form the matrix, form one of the size of n, or form none.

    Returns
    -------
    ndarray of shape (n_components, n_features)
        The map.
    """
    target = X.T @ Y / X.shape[0]  # Y is centred: X need not be
    if penalty == 0:
        return np.zeros_like(target.T)
    if solver == "cholesky":
        system = X.T @ (weights @ X)
        system.flat[:: len(system) + 1] += penalty
        return positive_definite_solver(system, _NOT_DEFINITE, overwrite=True)(target).T
    if solver == "dual":  # (A B + c)^-1 A = A (B A + c)^-1
        system = weights @ (X @ X.T)
        system.flat[:: len(system) + 1] += penalty
        return linalg.solve(system, Y / X.shape[0]).T @ X

    def product(V):
        return X.T @ (weights @ (X @ V)) - np.outer(mean, mean @ V) + penalty * V

    n_steps = 10 * X.shape[1] + 100
    return conjugate_gradients(product, target, tol=1e-10, max_iter=n_steps)[0].T


def sample_pairs(n_samples, rng):
    """All pairs of rows, or a random sample where there are too many."""
    if n_samples * (n_samples - 1) // 2 <= _MAX_PAIRS:
        return np.triu_indices(n_samples, k=1)
    first = rng.randint(n_samples, size=_MAX_PAIRS)
    return first, (first + rng.randint(1, n_samples, size=_MAX_PAIRS)) % n_samples


def minimize_stress(X, components, pairs, distances, max_iter, tol):
    """Bring the distances of mapped rows near to given ones (constrained SMACOF).

    Each step minimises, over linear maps, a quadratic that touches the stress from above: a
    least-squares problem in the metric of the Laplacian of the pairs.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Centred rows.
    components : ndarray of shape (n_components, n_features)
        Map to start from.
    pairs : tuple of two ndarrays of shape (n_pairs,)
        Rows that are compared.
    distances : ndarray of shape (n_pairs,)
        What their distances are to be.
    max_iter : int
        Number of steps.
    tol : float
        Relative decrease of the stress that ends them.

    Returns
    -------
    components : ndarray of shape (n_components, n_features)
        The map.
    stress : list of float
        Sum of squared errors, before the first step and after each.
    """
    incidence = signed_incidence(pairs, len(X))
    inverse = linalg.pinvh(X.T @ (incidence.T @ incidence @ X))
    stress = []
    for step in range(max_iter + 1):
        differences = incidence @ (X @ components.T)
        lengths = np.linalg.norm(differences, axis=1)
        stress.append(float(np.sum((lengths - distances) ** 2)))
        if step > 0 and stress[-2] - stress[-1] <= tol * stress[-2]:
            return components, stress
        if step < max_iter:
            ratio = np.divide(distances, lengths, out=np.zeros_like(lengths), where=lengths > 0)
            goal = X.T @ (incidence.T @ (ratio[:, None] * differences))
            components = (inverse @ goal).T
    warnings.warn(
        f"The stress still fell after max_iter={max_iter} steps: increase max_iter or tol.",
        ConvergenceWarning,
    )
    return components, stress


def signed_incidence(pairs, n_samples):
    """Matrix that maps values of rows to their differences over pairs."""
    n_pairs = len(pairs[0])
    indices = np.column_stack(pairs).ravel()
    signs = np.tile([1.0, -1.0], n_pairs)
    starts = np.arange(0, 2 * n_pairs + 1, 2)
    return sparse.csr_array((signs, indices, starts), shape=(n_pairs, n_samples))
