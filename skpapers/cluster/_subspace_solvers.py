"""Clustering by linear subspaces: spectral start, alternating projections, EM."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp

from skpapers.utils import qr_factor, truncated_eigh, truncated_svd

from ._affinity_clustering import affinity_coordinates, cluster_coordinates
from ._low_rank_mixture import LowRankMixture

__all__ = [
    "Partition",
    "alternate",
    "best_partition",
    "eigengap_ranks",
    "expectation_maximization",
    "projection_energies",
    "spectral_labels",
]

_START_ROWS = 2000  # starts are compared on so many rows, and only the best goes on with all
_BETTER = 1e-9  # relative gain by which a random start replaces the spectral one
_LEAST_WEIGHT = 1e-12


class Partition(NamedTuple):
    """Subspaces, the cluster of each row, and the energy of the rows in their subspaces."""

    bases: list
    labels: np.ndarray
    objective: float
    n_iter: int


def projection_energies(X, bases):
    """Squared lengths of the projections of rows on subspaces, of shape (n, n_clusters)."""
    return np.stack([np.sum((X @ basis) ** 2, axis=1) for basis in bases], axis=1)


def leading_directions(X, rank, weights=None):
    """The subspace of a rank that holds most of the energy of weighted rows."""
    X = X if weights is None else np.sqrt(weights)[:, None] * X
    rank = min(rank, *X.shape)
    if len(X) > 2 * X.shape[1]:
        return truncated_eigh(X.T @ X, rank, random_state=0)[1]
    return truncated_svd(X, rank, random_state=0)[2].T


def alternate(X, bases, ranks, max_iter):
    """Assign rows to the nearest subspaces and fit these anew, until labels repeat.

    Each step can only raise the energy of the rows in their subspaces, of which there are
    finitely many values.
    """
    labels, n_iter = None, 0
    while True:
        energies = projection_energies(X, bases)
        new = np.argmax(energies, axis=1)
        if n_iter == max_iter or np.array_equal(new, labels):
            return Partition(bases, new, float(np.sum(np.max(energies, axis=1))), n_iter)
        labels, n_iter = new, n_iter + 1
        bases = fit_subspaces(X, labels, ranks, energies)


def fit_subspaces(X, labels, ranks, energies=None):
    """Leading directions of each cluster; an empty one gets the rows that are fitted worst."""
    bases = []
    for k, rank in enumerate(ranks):
        members = X[labels == k]
        if len(members) == 0:
            residuals = np.sum(X**2, axis=1) - energies.max(axis=1)
            members = X[np.argsort(-residuals, kind="stable")[:rank]]
        bases.append(leading_directions(members, rank))
    return bases


def best_partition(X, n_clusters, ranks, n_init, max_iter, rng):
    """Alternate from the spectral start and from random ones, and keep the best.

    Among many rows the starts are compared on some of them.
    """
    rows = X
    if len(X) > _START_ROWS:
        rows = X[rng.choice(len(X), _START_ROWS, replace=False)]
    labels = spectral_labels(rows, n_clusters, rng)
    ranks = match_ranks(rows, labels, eigengap_ranks(rows, labels) if ranks is None else ranks)
    best = alternate(
        rows, fit_subspaces(rows, labels, ranks, np.zeros((len(rows), 1))), ranks, max_iter
    )
    for _ in range(n_init if n_clusters > 1 else 0):
        start = [qr_factor(rng.normal(size=(X.shape[1], rank))) for rank in ranks]
        other = alternate(rows, start, ranks, max_iter)
        if other.objective > best.objective * (1 + _BETTER):
            best = other
    return best if rows is X else alternate(X, best.bases, ranks, max_iter)


def spectral_labels(X, n_clusters, rng):
    """Thresholded subspace clustering: spectral clustering of the largest cosines of each row."""
    if n_clusters == 1:
        return np.zeros(len(X), dtype=np.intp)
    n_top = min(len(X) - 1, max(3, int(np.ceil(np.sqrt(len(X) / n_clusters)))))
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    U = X / np.where(lengths > 0, lengths, 1)
    affinity = np.exp(-2 * np.arccos(np.clip(np.abs(U @ U.T), 0, 1)))
    np.fill_diagonal(affinity, 0)
    vectors = affinity_coordinates(affinity, n_clusters, n_top, rng)
    return cluster_coordinates(vectors, n_clusters, rng)


def eigengap_ranks(X, labels):
    """Where the largest gap of each cluster's spectrum is, within the first half of it."""
    ranks = []
    for label in range(labels.max() + 1):
        members = X[labels == label]
        values = np.linalg.svd(members, compute_uv=False) ** 2
        n_seen = max(1, min(members.shape) // 2)
        gaps = values[:n_seen] - np.append(values, 0.0)[1 : n_seen + 1]
        ranks.append(int(np.argmax(gaps)) + 1)
    return ranks


def match_ranks(X, labels, ranks):
    """Given ranks in the order of clusters, so that these hold the most energy."""
    spectra = [np.linalg.svd(X[labels == k], compute_uv=False) ** 2 for k in range(len(ranks))]
    energies = [[spectrum[:rank].sum() for rank in ranks] for spectrum in spectra]
    return [ranks[j] for j in linear_sum_assignment(energies, maximize=True)[1]]


def spread_of(X, bases, labels, learn):
    """Variances along the directions of each cluster, and that of the rest."""
    sizes = np.bincount(labels, minlength=len(bases))
    shares = np.eye(len(bases))[labels]
    return weighted_spread(X, bases, shares, sizes, learn)


def weighted_spread(X, bases, shares, sizes, learn):
    """The same for shares of rows in clusters."""
    n_features = X.shape[1]
    squares, left, n_left, energies = np.sum(X**2, axis=1), 0.0, 0.0, []
    for share, size, basis in zip(shares.T, sizes, bases):
        along = share @ (X @ basis) ** 2
        energies.append(along / max(size, _LEAST_WEIGHT))
        left += max(float(share @ squares - along.sum()), 0.0)
        n_left += size * (n_features - basis.shape[1])
    floor = np.finfo(float).eps * max(float(squares.mean()), np.finfo(float).tiny)
    noise = max(left / max(n_left, 1.0), floor)
    if not learn:
        return [np.ones(basis.shape[1]) for basis in bases], noise
    return [np.maximum(energy - noise, noise) for energy in energies], noise


def expectation_maximization(X, partition, ranks, noise, learn, max_iter, tol):
    """Fit the mixture with noise by maximum likelihood, from a partition.

    Returns the mixture, the noise variance and the mean log-likelihood of each iteration.
    """
    bases, fixed = partition.bases, noise
    spread, noise = spread_of(X, bases, partition.labels, learn)
    noise = noise if fixed is None else fixed
    sizes = np.maximum(np.bincount(partition.labels, minlength=len(bases)), _LEAST_WEIGHT)
    mixture, curve = LowRankMixture(bases, spread, sizes / sizes.sum()), []
    for _ in range(max_iter):
        joint = mixture.log_joint(X, 1.0, noise)
        total = logsumexp(joint, axis=1, keepdims=True)
        curve.append(float(total.mean()))
        if len(curve) > 1 and abs(curve[-1] - curve[-2]) <= tol * abs(curve[-1]):
            break
        shares = np.exp(joint - total)
        sizes = np.maximum(shares.sum(axis=0), _LEAST_WEIGHT)
        bases = [leading_directions(X, rank, share) for rank, share in zip(ranks, shares.T)]
        spread, estimate = weighted_spread(X, bases, shares, sizes, learn)
        noise = estimate if fixed is None else fixed
        mixture = LowRankMixture(bases, spread, sizes / sizes.sum())
    return mixture, noise, curve
