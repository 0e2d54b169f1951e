"""Embeddings of strengths: Laplacian eigenvectors, and the fuzzy cross-entropy of UMAP."""

import warnings

import numpy as np
from scipy.optimize import curve_fit, minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import gen_batches

from skpapers.utils import truncated_eigh

__all__ = ["cross_entropy_and_gradient", "cross_entropy_embedding", "laplacian_embedding"]

_BLOCK = 2**17  # pairs held at a time
_SOFTENING = 1e-4  # added to squared distances, so that equal points repel by a finite force


def laplacian_embedding(strength, n_components, random_state=None):
    """Eigenvectors of the random walk on the samples, the constant one left out.

    Returns them, with unit norm in the metric of the degrees, and the matching eigenvalues of
    the normalised Laplacian, ascending.
    """
    weights = strength.copy()
    np.fill_diagonal(weights, 0.0)
    degrees = weights.sum(axis=1)
    if not (degrees > 0).all():
        raise ValueError(
            f"{(degrees == 0).sum()} samples have no strength to any other one: the distances "
            "are too large for exp(-distance); rescale X"
        )
    roots = np.sqrt(degrees)
    trivial = roots / np.linalg.norm(roots)
    walk = weights / roots / roots[:, None] - 2 * np.outer(
        trivial, trivial
    )  # moved out of the way
    n_found = min(n_components, len(walk) - 1)
    values, vectors = truncated_eigh(walk, n_found, random_state=random_state)
    embedding = np.zeros((len(walk), n_components))
    embedding[:, :n_found] = vectors / roots[:, None]
    return embedding, 1 - values


def laplacian_of_new(strength_new, embedding, eigenvalues):
    """Extension of the eigenvectors to new samples, exact for the old ones (Nystrom)."""
    means = weighted_means(strength_new, embedding)
    kept = 1 - eigenvalues
    means[:, : len(kept)] /= np.where(np.abs(kept) > 1e-3, kept, 1.0)
    return means


def weighted_means(strength_new, embedding):
    """Means of the embedding under the strengths; that of the strongest where all are zero."""
    weights = strength_new.copy()
    lonely = weights.sum(axis=1) == 0
    weights[lonely] = 1.0
    return weights @ embedding / weights.sum(axis=1, keepdims=True)


def curve_parameters(spread=1.0, min_dist=0.1):
    """Parameters a, b for which ``1 / (1 + a * e ** (2 b))`` is near UMAP's target curve."""
    e = np.linspace(0, 3 * spread, 300)
    target = np.where(e < min_dist, 1.0, np.exp(-(e - min_dist) / spread))
    (a, b), _ = curve_fit(lambda e, a, b: 1 / (1 + a * e ** (2 * b)), e, target, p0=(1, 1))
    return a, b


def cross_entropy_embedding(strength, init, *, max_iter=300, eps=1e-6):
    """Move points until the strengths of their distances fit, by L-BFGS on all pairs."""
    a, b = curve_parameters()
    shape = init.shape

    def objective(flat):
        value, gradient = cross_entropy_and_gradient(strength, flat.reshape(shape), a, b)
        return value, gradient.ravel()

    options = {"maxiter": max_iter, "ftol": eps, "gtol": 0.0}
    found = minimize(objective, init.ravel(), jac=True, method="L-BFGS-B", options=options)
    if found.nit >= max_iter:
        warnings.warn(
            f"max_iter={max_iter} steps ended before the cross-entropy stopped falling: raise "
            "max_iter or eps",
            ConvergenceWarning,
        )
    embedding = found.x.reshape(shape)
    return embedding - embedding.mean(axis=0), float(found.fun), max(1, found.nit)


def cross_entropy_and_gradient(strength, X, a, b):
    """Fuzzy cross-entropy over pairs, ``-s log w - (1 - s) log(1 - w)``, and its gradient.

    The strength of a squared distance r is ``w = 1 / (1 + a r**b)``, so that the terms are
    ``log(1 + a r**b) - (1 - s) log(a r**b)``.
    """
    value, gradient = 0.0, np.empty_like(X)
    norms = (X * X).sum(axis=1)
    for rows in gen_batches(len(X), max(1, _BLOCK // len(X))):
        squares = norms[rows, None] + norms - 2 * X[rows] @ X.T
        r = np.maximum(squares, 0) + _SOFTENING
        own = np.arange(rows.start, rows.stop)
        s = strength[rows]
        log_odds = np.log(a) + b * np.log(r)
        odds = np.exp(log_odds)
        terms = np.log1p(odds) - (1 - s) * log_odds
        slopes = b / r * (odds / (1 + odds) - (1 - s))
        for matrix in (terms, slopes):
            matrix[own - rows.start, own] = 0.0
        value += terms.sum() / 2
        gradient[rows] = 2 * (slopes.sum(axis=1, keepdims=True) * X[rows] - slopes @ X)
    return value, gradient
