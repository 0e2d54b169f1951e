"""Alternating ridge regressions for products of low-rank matrices with missing entries.

A matrix is modelled by pairs of codes C (n_samples, k) and components D (k, width), multiplied
out by a structure. With all but one block fixed the model is linear in that block, and every
block is the same problem: one ridge regression a row, with weights. A missing entry has weight
zero; X is zero there, and `observed` is None where nothing is missing.
"""

from dataclasses import dataclass
from functools import reduce
from math import sqrt
from operator import mul

from sklearn.utils import gen_batches
from sklearn.utils._array_api import get_namespace_and_device

__all__ = [
    "BiasedProduct",
    "Factors",
    "HadamardProduct",
    "KhatriRaoProduct",
    "alternate",
    "balance",
    "best_factors",
    "encode",
    "hard_impute",
    "masked",
    "penalized_loss",
    "ridge_rows",
    "start",
    "update_codes",
    "update_components",
]

_CHUNK = 2**22  # entries of the normal equations in memory at a time
_JITTER = 1e-12  # ridge, relative to the mean eigenvalue, that keeps singular systems solvable
_EXACT = 1e-26  # share of the squared norm that is rounding


def ridge_rows(basis, weights, response, alpha):
    """Solve ``(basis^T diag(w) basis + alpha I) c = basis^T r`` for every row.

    Parameters
    ----------
    basis : array of shape (m, k)
        Regressors, the same for every row.
    weights : array of shape (n_rows, m) or None
        w of each row; None is 1 throughout.
    response : array of shape (n_rows, m)
        r of each row: weight times target.
    alpha : float
        Ridge.

    Returns
    -------
    array of shape (n_rows, k)
        The coefficients of each row.
    """
    xp, _, device = get_namespace_and_device(basis)
    k = basis.shape[1]
    identity = xp.eye(k, dtype=basis.dtype, device=device)
    right = response @ basis
    if weights is None:
        return xp.linalg.solve(_shifted(basis.T @ basis, alpha, identity, xp), right.T).T
    pairs = [(i, j) for i in range(k) for j in range(i, k)]  # the matrices are symmetric
    first, second = (xp.asarray(side, device=device) for side in zip(*pairs))
    products = xp.take(basis, first, axis=1) * xp.take(basis, second, axis=1)
    place = {pair: n for n, pair in enumerate(pairs)}
    every = [place[min(i, j), max(i, j)] for i in range(k) for j in range(k)]
    every = xp.asarray(every, device=device)
    pieces = []
    for rows in gen_batches(response.shape[0], max(1, _CHUNK // k**2)):
        gram = xp.take(weights[rows, :] @ products, every, axis=1)
        gram = _shifted(xp.reshape(gram, (-1, k, k)), alpha, identity, xp)
        pieces.append(xp.linalg.solve(gram, right[rows, :][:, :, None])[:, :, 0])
    return xp.concat(pieces)


def _shifted(gram, alpha, identity, xp):
    """Add the ridge and what makes a singular matrix regular."""
    trace = xp.sum(gram * identity, axis=(-2, -1))[..., None, None]
    jitter = xp.where(trace > 0, _JITTER * trace, xp.ones_like(trace))
    return gram + (alpha + jitter) * identity


# Structures.


class HadamardProduct:
    """``X ~ (C1 D1) o (C2 D2) o ...``; with one pair, a low-rank matrix."""

    def product(self, codes, components):
        return reduce(mul, (C @ D for C, D in zip(codes, components)))

    def start_pairs(self, X, means, ranks, rng, svd):
        """Codes and components to start from, given X with its gaps filled."""
        first = svd_pair(X, ranks[0], svd)
        return [first, *(near_one_pair(X, k, rng) for k in ranks[1:])]

    def random_pairs(self, X, means, ranks, rng):
        return [normal_pair(X, k, X.shape[1], rng) for k in ranks]

    def code_system(self, index, codes, components, X, observed):
        """Basis, weights and response of the rows of ``codes[index]``."""
        basis = components[index].T
        if len(components) == 1:
            return basis, observed, X
        others = self.product(_without(codes, index), _without(components, index))
        weights = others**2 if observed is None else observed * others**2
        return basis, weights, X * others

    def component_system(self, index, codes, components, X, observed):
        """The same for the columns of ``components[index]``."""
        return _transposed(codes[index], *self.code_system(index, codes, components, X, observed))

    def start_codes(self, components, X, observed, mean_codes):
        """Codes from which `encode` starts: the mean ones."""
        return [_rows_of(code, X.shape[0]) for code in mean_codes]


class BiasedProduct:
    """``X ~ C D + a 1^T + 1 b^T``: a is the last column of the codes, b the last component."""

    def product(self, codes, components):
        (C,), (D,) = codes, components
        return C[:, :-1] @ D[:-1, :] + C[:, -1:] + D[-1:, :]

    def start_pairs(self, X, means, ranks, rng, svd):
        return [_with_bias(*svd_pair(X - means, ranks[0], svd), means)]

    def random_pairs(self, X, means, ranks, rng):
        return [_with_bias(*normal_pair(X, ranks[0], X.shape[1], rng), means)]

    def code_system(self, index, codes, components, X, observed):
        (D,) = components
        return _with_ones(D[:-1, :].T), observed, masked(X - D[-1:, :], observed)

    def component_system(self, index, codes, components, X, observed):
        (C,) = codes
        response = masked(X - C[:, -1:], observed)
        return _transposed(_with_ones(C[:, :-1]), None, observed, response)


@dataclass(frozen=True)
class KhatriRaoProduct:
    """Row i is ``kron(b_i, c_i)``, the rows of ``C1 D1`` and ``C2 D2``, of widths `shape`."""

    shape: tuple

    def product(self, codes, components):
        xp, _ = get_namespace_and_device(codes[0])[:2]
        left, right = (C @ D for C, D in zip(codes, components))
        return xp.reshape(left[:, :, None] * right[:, None, :], (left.shape[0], -1))

    def start_pairs(self, X, means, ranks, rng, svd):
        return [svd_pair(F, k, svd) for F, k in zip(self.rank_one(X), ranks)]

    def random_pairs(self, X, means, ranks, rng):
        return [normal_pair(X, k, width, rng) for k, width in zip(ranks, self.shape)]

    def code_system(self, index, codes, components, X, observed):
        other = codes[1 - index] @ components[1 - index]
        response = self._contract(X, other, index)
        if observed is None:
            xp, _ = get_namespace_and_device(X)[:2]
            weights = xp.ones_like(response) * xp.sum(other**2, axis=1)[:, None]
        else:
            weights = self._contract(observed, other**2, index)
        return components[index].T, weights, response

    component_system = HadamardProduct.component_system

    def _contract(self, X, other, index):
        """Sum the rows of X, as matrices, against the other factor."""
        X = self.matrices(X)
        if index == 0:
            return (X @ other[:, :, None])[:, :, 0]
        return (other[:, None, :] @ X)[:, 0, :]

    def matrices(self, X):
        xp, _ = get_namespace_and_device(X)[:2]
        return xp.reshape(X, (X.shape[0], *self.shape))

    def rank_one(self, X):
        """The best b_i and c_i of complete rows, of equal norms."""
        xp, _ = get_namespace_and_device(X)[:2]
        u, s, vt = xp.linalg.svd(self.matrices(X), full_matrices=False)
        size = xp.sqrt(s[:, :1])
        return size * u[:, :, 0], size * vt[:, 0, :]

    def start_codes(self, components, X, observed, mean_codes):
        return [ridge_rows(D.T, None, F, 0.0) for D, F in zip(components, self.rank_one(X))]


def _without(items, index):
    return [item for i, item in enumerate(items) if i != index]


def _transposed(basis, _, weights, response):
    return basis, None if weights is None else weights.T, response.T


def _with_ones(basis):
    xp, _ = get_namespace_and_device(basis)[:2]
    return xp.concat([basis, xp.ones_like(basis[:, :1])], axis=1)


def _with_bias(C, D, means):
    """The pair with a column of zeros more in the codes, and the means as last component."""
    xp, _ = get_namespace_and_device(C)[:2]
    codes = xp.concat([C, xp.zeros_like(C[:, :1])], axis=1)
    return codes, xp.concat([D, means[None, :]])


def masked(X, observed):
    return X if observed is None else X * observed


def _rows_of(row, n_rows):
    xp, _, device = get_namespace_and_device(row)
    return xp.ones((n_rows, 1), dtype=row.dtype, device=device) * row[None, :]


# Fitting.


@dataclass
class Factors:
    """Codes, components, and the penalised loss before the first and after every sweep."""

    codes: list
    components: list
    losses: list
    converged: bool


def update_components(structure, index, codes, components, X, observed, alpha):
    system = structure.component_system(index, codes, components, X, observed)
    components[index] = ridge_rows(*system, alpha).T


def update_codes(structure, index, codes, components, X, observed, alpha):
    system = structure.code_system(index, codes, components, X, observed)
    codes[index] = ridge_rows(*system, alpha)


def row_losses(structure, codes, components, X, observed, alpha):
    """Squared error and penalty of the codes, row by row."""
    xp, _ = get_namespace_and_device(X)[:2]
    errors = (X - masked(structure.product(codes, components), observed)) ** 2
    return xp.sum(errors, axis=1) + alpha * sum(xp.sum(C**2, axis=1) for C in codes)


def penalized_loss(structure, codes, components, X, observed, alpha):
    xp, _ = get_namespace_and_device(X)[:2]
    rows = row_losses(structure, codes, components, X, observed, alpha)
    return float(xp.sum(rows)) + alpha * sum(float(xp.sum(D**2)) for D in components)


def balance(codes, components):
    """Scale several pairs so that all blocks have the same norm, which is the least penalty."""
    xp, _ = get_namespace_and_device(codes[0])[:2]
    norms = [sqrt(float(xp.sum(block**2))) for block in (*codes, *components)]
    if len(codes) == 1 or min(norms) == 0:
        return
    target = reduce(mul, (norm ** (1 / len(norms)) for norm in norms))
    for blocks, sizes in ((codes, norms[: len(codes)]), (components, norms[len(codes) :])):
        blocks[:] = [block * (target / size) for block, size in zip(blocks, sizes)]


def alternate(structure, codes, components, X, observed, alpha, max_iter, tol, verbose=0):
    """Sweep over the blocks until the loss stands still; the loss never rises."""
    xp, _ = get_namespace_and_device(X)[:2]
    data = (X, observed, alpha)
    codes, components = list(codes), list(components)
    exact = _EXACT * float(xp.sum(X**2))
    losses = [penalized_loss(structure, codes, components, *data)]
    for sweep in range(max_iter):
        balance(codes, components)
        for index in range(len(codes)):
            update_components(structure, index, codes, components, *data)
            update_codes(structure, index, codes, components, *data)
        losses.append(penalized_loss(structure, codes, components, *data))
        if verbose:
            print(f"sweep {sweep + 1}: loss {losses[-1]:.6g}")
        if losses[-2] - losses[-1] <= max(tol * losses[-2], exact):
            return Factors(codes, components, losses, True)
    return Factors(codes, components, losses, False)


def best_factors(structure, starts, *args):
    """The result of least loss over several starts, pairs of codes and components."""
    runs = (alternate(structure, *start, *args) for start in starts)
    return min(runs, key=lambda factors: factors.losses[-1])


def hard_impute(X, observed, k, max_iter, tol, svd):
    """Truncated SVD; where entries are missing, of X completed by the last one."""
    structure = HadamardProduct()
    filled, losses = X, []
    for sweep in range(max_iter):
        u, s, vt = svd(filled, k)
        codes, components = [u * s], [vt]
        losses.append(penalized_loss(structure, codes, components, X, observed, 0.0))
        if observed is None:
            return Factors(codes, components, losses * 2, True)
        if sweep and losses[-2] - losses[-1] <= tol * losses[-2]:
            return Factors(codes, components, losses, True)
        filled = X + (1 - observed) * (codes[0] @ vt)
    return Factors(codes, components, losses, False)


def encode(structure, components, X, observed, alpha, mean_codes, max_iter, tol):
    """Codes of rows for given components, each row on its own, and whether all converged."""
    xp, _, device = get_namespace_and_device(X)
    if len(components) == 1:
        codes = [None]
        update_codes(structure, 0, codes, components, X, observed, alpha)
        return codes, True
    codes = structure.start_codes(components, X, observed, mean_codes)
    exact = _EXACT * xp.sum(X**2, axis=1)
    losses = xp.full(X.shape[0], xp.inf, dtype=X.dtype, device=device)
    moving = xp.ones(X.shape[0], dtype=xp.bool, device=device)
    for _ in range(max_iter):
        new = list(codes)
        for index in range(len(codes)):
            update_codes(structure, index, new, components, X, observed, alpha)
        codes = [xp.where(moving[:, None], N, C) for N, C in zip(new, codes)]
        last, losses = losses, row_losses(structure, codes, components, X, observed, alpha)
        moving = moving & (losses < last * (1 - tol)) & (losses > exact)
        if not xp.any(moving):
            return codes, True
    return codes, False


def svd_pair(X, k, svd):
    """Codes and components of a truncated SVD, of equal norms, and none of them zero."""
    xp, _ = get_namespace_and_device(X)[:2]
    u, s, vt = svd(X, k)
    size = xp.sqrt(xp.where(s > 1e-3 * s[0], s, 1e-3 * s[0]))
    return u * size, size[:, None] * vt


def column_means(X, observed):
    """Means of what is observed; 0 for a column without."""
    xp, _ = get_namespace_and_device(X)[:2]
    if observed is None:
        return xp.mean(X, axis=0)
    counts = xp.sum(observed, axis=0)
    return xp.sum(X, axis=0) / xp.where(counts > 0, counts, xp.ones_like(counts))


def start(structure, X, observed, ranks, init, rng, svd):
    """Codes and components to start from."""
    means = column_means(X, observed)
    if init == "random":
        pairs = structure.random_pairs(X, means, ranks, rng)
    else:
        filled = X if observed is None else X + (1 - observed) * means
        pairs = structure.start_pairs(filled, means, ranks, rng, svd)
    return [list(blocks) for blocks in zip(*pairs)]


def normal_pair(X, k, width, rng):
    """Codes and components from N(0, 1 / k)."""
    xp, _, device = get_namespace_and_device(X)
    draws = [rng.normal(size=size) / sqrt(k) for size in ((X.shape[0], k), (k, width))]
    return tuple(xp.asarray(draw, dtype=X.dtype, device=device) for draw in draws)


def near_one_pair(X, k, rng):
    """Codes and components whose product is near one everywhere, and not exactly."""
    xp, _, device = get_namespace_and_device(X)
    C, D = 0.1 * rng.normal(size=(X.shape[0], k)), 0.1 * rng.normal(size=(k, X.shape[1]))
    C[:, 0], D[0] = 1, 1
    C += 0.3 * rng.normal(size=C.shape)
    return tuple(xp.asarray(block, dtype=X.dtype, device=device) for block in (C, D))
