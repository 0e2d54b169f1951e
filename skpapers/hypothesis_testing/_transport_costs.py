"""Transport between a paired sample and the product of its marginals, under the sum metric.

The rows of the paired sample are (x_i, y_pi(i)): `permutations` holds one pi a row, the identity
being the sample as it was given. Only the distance matrices of the two blocks enter. `products`
holds permutations s without a fixed point: the pairs (x_j, y_pi(s(j))), of different rows, are a
sample of the product law. They move with pi, so that every permuted sample is treated as the
given one is.
"""

import warnings

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from scipy.optimize import linear_sum_assignment
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._array_api import get_namespace_and_device

__all__ = ["dependence_costs", "disjoint_products"]

_MAX_EXACT = 40
_REGULARIZATION = 0.05  # of the mean cost
_MAX_ROUNDS, _SCALINGS, _TOL = 100, 20, 1e-3  # of Sinkhorn's algorithm


def dependence_costs(distances_x, distances_y, permutations, products, method, *, n_jobs=None):
    """Distance of every permuted sample to the product of its marginals."""
    if method == "sinkhorn":
        return sinkhorn_costs(distances_x, distances_y, permutations, products)
    costs, arguments = (exact_costs, ()) if method == "exact" else (matching_costs, (products,))
    blocks = np.array_split(permutations, min(effective_n_jobs(n_jobs), len(permutations)))
    results = Parallel(n_jobs=n_jobs, prefer="threads")(  # assignments release the global lock
        delayed(costs)(distances_x, distances_y, block, *arguments) for block in blocks
    )
    return np.concatenate(results)


def matching_costs(distances_x, distances_y, permutations, products):
    """Cheapest matching of the permuted pairs with each product sample, averaged over these."""
    costs = []
    for rows in permutations:
        of_rows = distances_y[rows]
        matched = [assignment_cost(distances_x + of_rows[:, rows[s]]) for s in products]
        costs.append(sum(matched) / len(matched))
    return np.array(costs)


def exact_costs(distances_x, distances_y, permutations):
    """Wasserstein distance to the law of all n^2 pairs, of which every row supplies n."""
    n = len(distances_x)
    if n > _MAX_EXACT:
        raise ValueError(f"method='exact' takes at most {_MAX_EXACT} rows, got n_samples={n}")
    pairs = (distances_x[:, :, None] + distances_y[rows][:, None, :] for rows in permutations)
    return np.array(
        [assignment_cost(np.repeat(cost.reshape(n, n * n), n, axis=0)) for cost in pairs]
    )


def assignment_cost(cost):
    """Mean cost of the cheapest perfect matching."""
    return cost[linear_sum_assignment(cost)].sum() / len(cost)


def sinkhorn_costs(distances_x, distances_y, permutations, products):
    """Debiased entropic transport to each product sample, averaged; on the arrays' device."""
    xp, _, device = get_namespace_and_device(distances_x)
    scale = float(xp.mean(distances_x) + xp.mean(distances_y))  # the same for all permutations
    if scale == 0:
        return np.zeros(len(permutations))
    permutations, products = (
        [xp.asarray(p, device=device) for p in group] for group in (permutations, products)
    )

    def transport(x_rows, y_rows, x_columns, y_columns):
        cost = _block(distances_x, x_rows, x_columns, xp)
        cost = cost + _block(distances_y, y_rows, y_columns, xp)
        return entropic_cost(cost / scale, _REGULARIZATION, xp) * scale

    same = xp.arange(distances_x.shape[0], device=device)
    costs = []
    for rows in permutations:
        joint = transport(same, rows, same, rows)
        moved = [xp.take(rows, product) for product in products]
        excess = [
            transport(same, rows, same, pairs) - transport(same, pairs, same, pairs) / 2
            for pairs in moved
        ]
        costs.append(np.mean(excess) - joint / 2)
    return np.array(costs)


def _block(distances, rows, columns, xp):
    return xp.take(xp.take(distances, rows, axis=0), columns, axis=1)


def entropic_cost(cost, epsilon, xp):
    """Entropic transport cost between uniform laws, by Sinkhorn's algorithm.

    Potentials are updated in the log domain, which nothing overflows; between two such updates
    their plan is rescaled, which costs two products instead of two exponentials of the matrix.
    """
    n_rows, n_columns = cost.shape
    left, right = xp.zeros_like(cost[:, 0]), xp.zeros_like(cost[0, :])
    tiny = float(xp.finfo(cost.dtype).smallest_normal)
    for _ in range(_MAX_ROUNDS):
        left = _soft_minimum(cost - right[None, :], epsilon, 1, xp)
        right = _soft_minimum(cost - left[:, None], epsilon, 0, xp)
        plan = xp.exp((left[:, None] + right[None, :] - cost) / epsilon)
        column_scale = xp.ones_like(right)
        for _ in range(_SCALINGS):
            row_scale = n_columns / xp.clip(plan @ column_scale, tiny, None)
            column_scale = n_rows / xp.clip(row_scale @ plan, tiny, None)
        left = left + epsilon * xp.log(row_scale)
        right = right + epsilon * xp.log(column_scale)
        error = xp.mean(xp.abs(row_scale * (plan @ column_scale) / n_columns - 1))
        if float(error) <= _TOL:
            return float(xp.mean(left) + xp.mean(right))
    warnings.warn(
        f"Sinkhorn's algorithm did not converge in {_MAX_ROUNDS * _SCALINGS} iterations: its "
        f"marginals are off by {float(error):.1g}; use method='matching'.",
        ConvergenceWarning,
    )
    return float(xp.mean(left) + xp.mean(right))


def _soft_minimum(values, epsilon, axis, xp):
    """Minus epsilon times the log of the mean of exp(-values / epsilon)."""
    low = xp.min(values, axis=axis, keepdims=True)
    mean = xp.mean(xp.exp((low - values) / epsilon), axis=axis)
    return xp.squeeze(low, axis=axis) - epsilon * xp.log(mean)


def disjoint_products(n_samples, n_products, rng):
    """Permutations without fixed points, no two of which agree anywhere: shifts of one cycle."""
    order = rng.permutation(n_samples)
    shifts = 1 + rng.permutation(n_samples - 1)[:n_products]
    products = np.empty((len(shifts), n_samples), dtype=int)
    for product, shift in zip(products, shifts):
        product[order] = np.roll(order, shift)
    return products
