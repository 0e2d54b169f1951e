"""Exponential families whose potential is half a squared norm, and what normalises them."""

from typing import NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.utils import gen_batches
from sklearn.utils._array_api import _logsumexp, get_namespace, get_namespace_and_device, move_to
from sklearn.utils._chunking import get_chunk_n_rows

from skpapers.utils import one_hot

_P_GRID = (1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0, 4.0)
_BLOCK_MIB = 4
_TEMPERATURE_GRID = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)


class Evidence(NamedTuple):
    """Class means, the rows that estimate the normalisation, their log weights, log priors."""

    means: object
    rows: object
    log_weights: object
    log_prior: object


class Scales(NamedTuple):
    """Lengths by which rows are divided, half the squared q-norms of the divided rows."""

    lengths: object
    halves: object

    def rows(self, rows):
        """Scales of some rows."""
        return Scales(self.lengths[rows, :], self.halves[rows, :])


def conjugate(p):
    """The q with 1 / p + 1 / q = 1."""
    return p / (p - 1)


def row_norms(X, p):
    """p-norm of each row as a column; powers are taken of entries up to 1, so none overflows."""
    xp, _ = get_namespace(X)
    absolute = xp.abs(X)
    largest = xp.max(absolute, axis=1, keepdims=True)
    safe = xp.where(largest > 0, largest, xp.ones_like(largest))
    return largest * xp.sum((absolute / safe) ** p, axis=1, keepdims=True) ** (1 / p)


def unit_rows(X, p):
    """Rows of p-norm 1; rows of zeros stay."""
    return X / _positive(row_norms(X, p))


def _positive(norms):
    xp, _ = get_namespace(norms)
    return xp.where(norms > 0, norms, xp.ones_like(norms))


def row_scales(X, p, normalize):
    """Scales of the rows, by blocks that stay in the cache."""
    xp, _ = get_namespace(X)
    parts = []
    for rows in row_blocks(X, 0):
        norms = row_norms(X[rows, :], conjugate(p))
        lengths = _positive(row_norms(X[rows, :], p)) if normalize else xp.ones_like(norms)
        parts.append((lengths, 0.5 * (norms / lengths) ** 2))
    return Scales(*(xp.concat(columns) for columns in zip(*parts)))


def dual_map(X, q):
    """Gradient of half the squared q-norm at each row: sign(x) |x|^(q - 1) |x|_q^(2 - q)."""
    xp, _ = get_namespace(X)
    # with unit rows neither factor is a zero to a negative power
    return row_norms(X, q) * xp.sign(X) * xp.abs(unit_rows(X, q)) ** (q - 1)


def energies(X, scales, duals):
    """Log densities up to normalisation, -|x|_q^2 / 2 + <x, dual>, of the divided rows x."""
    return X @ duals.T / scales.lengths - scales.halves


def log_partition(scaled_energies, log_weights):
    """Log of the weighted sums of exp(energy / temperature), a class each."""
    return _logsumexp(scaled_energies + log_weights, axis=0)


def class_means(X, codes, n_classes):
    """Mean row of each class."""
    xp, _, device = get_namespace_and_device(X)
    members = one_hot(codes, n_classes)
    return xp.asarray((members / members.sum(axis=0)).T, dtype=X.dtype, device=device) @ X


def draw_proposal(X, codes, proposal, bootstrap, rng):
    """Rows for importance sampling, and their log weights of shape (n_rows, 1 or n_classes).

    The training rows are weighted by how often they are drawn, those of code -1 not at all for
    a class of its own rows.
    """
    n_draws = len(codes) if bootstrap is None else int(np.ceil(bootstrap * len(codes)))
    if callable(proposal):
        return _called_proposal(proposal, n_draws, X, rng)
    members = np.ones((len(codes), 1))
    if proposal == "class":
        members = one_hot(codes, codes.max() + 1)
    shares = members / members.sum(axis=0)
    if bootstrap is not None:
        draws = np.ceil(bootstrap * members.sum(axis=0)).astype(int)
        shares = np.stack([rng.multinomial(n, s) / n for n, s in zip(draws, shares.T)], axis=1)
    with np.errstate(divide="ignore"):
        return X, np.log(shares)


def _called_proposal(proposal, n_draws, X, rng):
    rows, log_density = proposal(n_draws, rng)
    if rows.shape != (n_draws, X.shape[1]) or log_density.shape != (n_draws,):
        raise ValueError(
            f"proposal must return rows of shape {(n_draws, X.shape[1])} and log densities of "
            f"shape {(n_draws,)}, got {tuple(rows.shape)} and {tuple(log_density.shape)}"
        )
    xp, _, device = get_namespace_and_device(X)
    log_weights = -move_to(log_density, xp=np, device="cpu")[:, None] - np.log(n_draws)
    return xp.asarray(rows, dtype=X.dtype, device=device), log_weights


def best_settings(evidence, inliers, outliers, normalize):
    """Norm and temperature of the grid with the largest area under the curve."""
    xp, _ = get_namespace(inliers)
    is_inlier = np.arange(2 * inliers.shape[0]) < inliers.shape[0]
    means, rows = evidence.means, xp.concat([inliers, outliers])
    areas = {}
    for p in _P_GRID:
        duals = dual_map(unit_rows(means, p) if normalize else means, conjugate(p))
        sampled, tested = (
            energies(part, row_scales(part, p, normalize), duals) for part in (evidence.rows, rows)
        )
        for temperature in _TEMPERATURE_GRID:
            partition = log_partition(sampled / temperature, evidence.log_weights)
            scores = tested / temperature - partition + evidence.log_prior
            scores = move_to(_logsumexp(scores, axis=1), xp=np, device="cpu")
            areas[p, temperature] = roc_auc_score(is_inlier, scores)
    return max(areas, key=areas.get)


def shuffle_columns(X, rng):
    """The rows with every column permuted on its own."""
    xp, _, device = get_namespace_and_device(X)
    order = np.argsort(rng.uniform(size=X.shape), axis=0)
    return xp.take_along_axis(X, xp.asarray(order, device=device), axis=0)


def row_blocks(X, n_columns):
    """Slices of rows so small that they and a matrix of `n_columns` stay in the cache."""
    row_bytes = 32 * (n_columns + X.shape[1])
    n_rows = get_chunk_n_rows(row_bytes, max_n_rows=max(X.shape[0], 1), working_memory=_BLOCK_MIB)
    return gen_batches(X.shape[0], n_rows)


def take_rows(X, mask):
    xp, _, device = get_namespace_and_device(X)
    return xp.take(X, xp.asarray(np.flatnonzero(mask), device=device), axis=0)
