"""Means and medians of stacks of flags."""

from sklearn.utils._array_api import get_namespace_and_device

from skpapers.utils import check_random_state

from ._flag import ascend, block_product, chordal_distances, start_of_mean

__all__ = ["INNER", "best_mean", "reweighted_means", "weighted_sum"]

INNER = {"max_iter": 2000, "tol": 1e-12}  # of the means that a median is made of


def weighted_sum(flags, weights):
    """Sum of the matrices, each times its weight."""
    xp, _, _ = get_namespace_and_device(flags)
    return xp.sum(flags * weights[:, None, None], axis=0)


def cost(flags, Y, weights, dimensions):
    """Weighted sum of distances to Y."""
    xp, _, _ = get_namespace_and_device(flags)
    return float(xp.sum(weights * chordal_distances(flags, Y, dimensions)))


def best_mean(flags, weights, dimensions, n_init, random_state, solver, max_iter, tol):
    """The best of the means that are reached from `n_init` starts.

    Returns
    -------
    mean : array of shape (n_features, n_columns)
        The mean.
    n_iter : int
        Number of steps to it.
    converged : bool
        Whether `tol` was reached.
    """
    xp, _, _ = get_namespace_and_device(flags)
    weights, rng = weights / xp.sum(weights), check_random_state(random_state)
    product, runs = block_product(flags, weights, dimensions), []
    for start in range(n_init):
        Y = start_of_mean(flags, weights, dimensions) if start == 0 else random_start(flags, rng)
        runs.append(ascend(product, Y, solver=solver, max_iter=max_iter, tol=tol))
    mean, _, n_iter, converged = max(runs, key=lambda run: run[1])
    return mean, n_iter, converged


def random_start(flags, rng):
    """A random matrix with orthonormal columns."""
    xp, _, device = get_namespace_and_device(flags)
    normal = rng.standard_normal((flags.shape[1], flags.shape[2]))
    return xp.linalg.qr(xp.asarray(normal, dtype=flags.dtype, device=device))[0]


def reweighted_means(flags, weights, dimensions, median, solver, max_iter, tol, eps):
    """Means whose weights are divided by the distances to the one before.

    Returns
    -------
    median : array of shape (n_features, n_columns)
        The last mean.
    final : array of shape (n_flags,)
        Its weights, of sum 1.
    costs : list of float
        Sums of distances, of the start and of each mean.
    converged : bool
        Whether the last mean moved by at most `tol`.
    """
    xp, _, _ = get_namespace_and_device(flags)
    costs = [cost(flags, median, weights, dimensions)]
    for _ in range(max_iter):
        distances = chordal_distances(flags, median, dimensions)
        final = weights / xp.clip(distances, min=eps)
        final = final / xp.sum(final)
        product, before = block_product(flags, final, dimensions), median
        exact = len(dimensions) == 1  # then the start is the mean, however close eigenvalues are
        start = start_of_mean(flags, final, dimensions) if exact else before
        median, _, _, _ = ascend(product, start, solver=solver, **INNER)
        costs.append(cost(flags, median, weights, dimensions))
        if float(chordal_distances(median, before, dimensions)) <= tol:
            return median, final, costs, True
    return median, final, costs, False
