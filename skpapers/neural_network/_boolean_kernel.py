"""Bits, the kernel of their products, and the regressions on it."""

from itertools import combinations
from math import comb

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

_CHUNK = 2**22  # entries of a block of kernel values or monomials


def bit_thresholds(x, weight, n_thresholds):
    """Values of a column above which its bits are 1, distinct and increasing."""
    values = np.unique(x)
    if np.isin(values, (-1, 1)).all() or np.isin(values, (0, 1)).all():
        return np.zeros(1, dtype=x.dtype)
    if len(values) <= 2:
        return values[:1]
    order = np.argsort(x, kind="stable")
    below = np.cumsum(weight[order])
    levels = np.arange(1, n_thresholds + 1) / (n_thresholds + 1) - 1e-12
    quantiles = x[order][np.searchsorted(below / below[-1], levels)]
    return np.unique(np.minimum(quantiles, values[-2]))  # nothing is above the largest


def merge_rows(bits, targets, weight):
    """Replace rows of the same bits by one, with the mean target and the sum of the weights."""
    _, first, inverse = np.unique(
        np.packbits(bits > 0, axis=1), axis=0, return_index=True, return_inverse=True
    )
    sums, total = np.zeros((len(first), targets.shape[1])), np.zeros(len(first))
    np.add.at(sums, inverse.reshape(-1), weight[:, None] * targets)
    np.add.at(total, inverse.reshape(-1), weight)
    return bits[first], sums / total[:, None], total


def count_terms(n_bits, max_degree):
    """Number of products of up to `max_degree` bits."""
    return sum(comb(n_bits, k) for k in range(max_degree + 1))


def list_sets(n_bits, max_degree):
    """The sets of up to `max_degree` bits: for each degree k an array of shape (n_sets, k)."""
    return [
        np.array(list(combinations(range(n_bits), k)), dtype=np.intp).reshape(comb(n_bits, k), k)
        for k in range(max_degree + 1)
    ]


def monomials(bits, sets):
    """The products of the bits of each set, shape (n_rows, n_sets)."""
    products = np.ones((len(bits), len(sets)))
    for member in sets.T:
        products *= bits[:, member]
    return products


def hamming_distances(first, second):
    """Number of differing bits between rows of -1 and 1."""
    return ((first.shape[1] - first @ second.T) / 2).astype(np.intp)


def krawtchouk(n_bits, max_degree):
    """Sum of the products of k bits of ``x * x'`` at Hamming distance h, as an array [h, k].

    The recurrence ``(k + 1) K_{k+1} = (n - 2h) K_k - (n - k + 1) K_{k-1}`` in exact integers.
    """
    distance = np.arange(n_bits + 1).astype(object)
    columns = [distance * 0 + 1, n_bits - 2 * distance]
    for k in range(1, max_degree):
        following = columns[1] * columns[k] - (n_bits - k + 1) * columns[k - 1]
        columns.append(following // (k + 1))
    return np.stack(columns[: max_degree + 1], axis=1).astype(np.float64)


def kernel_table(n_bits, max_degree, decay):
    """Kernel of all products up to a degree, which cost ``decay**-k``, by Hamming distance."""
    if max_degree >= n_bits:
        distance = np.arange(n_bits + 1)
        return (1 + decay) ** (n_bits - distance) * (1 - decay) ** distance
    return krawtchouk(n_bits, max_degree) @ decay ** np.arange(max_degree + 1.0)


def solve_positive(matrix, right):
    """Solve with a positive definite matrix, which is overwritten."""
    try:
        return cho_solve(cho_factor(matrix, lower=True, overwrite_a=True), right)
    except LinAlgError as error:
        raise ValueError("the kernel matrix is singular to rounding: raise alpha") from error


def primal_ridge(bits, targets, weight, max_degree, decay, alpha):
    """Coefficients of all products, where these are no more than rows."""
    sets = list_sets(bits.shape[1], max_degree)
    scale = np.concatenate([np.full(len(s), decay ** (k / 2)) for k, s in enumerate(sets)])
    design = np.hstack([monomials(bits, s) for s in sets]) * scale
    weighted = design.T * weight
    moments = weighted @ design
    moments[np.diag_indices_from(moments)] += alpha
    return scale[:, None] * solve_positive(moments, weighted @ targets)


def graded_interpolation(bits, targets, weight, max_degree):
    """Coefficients of the best fit whose highest degrees weigh least, from the top down."""
    root = np.sqrt(weight / weight.mean())[:, None]
    cutoff = 1e-9 * np.sqrt(len(bits))  # absolute: a block may lie in the span of the others
    sets = list_sets(bits.shape[1], max_degree)
    blocks = [root * monomials(bits, s) for s in sets]
    basis, factors = np.zeros((len(bits), 0)), []
    for block in blocks:
        rest = block - basis @ (basis.T @ block)
        left, singular, right = np.linalg.svd(rest, full_matrices=False)
        kept = singular > cutoff
        factors.append((left[:, kept], singular[kept], right[kept]))
        basis = np.hstack([basis, left[:, kept]])
    residual = basis @ (basis.T @ (root * targets))
    coef = [None] * len(blocks)
    for degree in reversed(range(len(blocks))):
        left, singular, right = factors[degree]
        coef[degree] = right.T @ (left.T @ residual / singular[:, None])
        residual = residual - blocks[degree] @ coef[degree]
    return np.concatenate(coef)


def row_chunks(rows, width):
    """Cut rows into pieces whose products with `width` columns fit in the cache of a chunk."""
    size = max(1, _CHUNK // max(1, width))
    return (rows[start : start + size] for start in range(0, len(rows), size))
