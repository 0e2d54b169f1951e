"""Gradient descent on the Eckart-Young loss of linear maps of several views, in NumPy."""

from typing import NamedTuple

import numpy as np
from sklearn.utils.extmath import randomized_svd

from ._gep import centre_columns, ey_gradients, ey_loss, latent_rotations, metric

__all__ = [
    "State",
    "initial_weights",
    "largest_variance",
    "loss_and_gradients",
    "n_kept",
    "take_step",
]

_ADAM = (0.9, 0.999, 1e-8)


class State(NamedTuple):
    """Weights of the views, and the moments of their gradients."""

    weights: list
    first: list
    second: list
    n_steps: int


def n_kept(n_components, views):
    """Number of components that all views have columns and rows for."""
    return min(n_components, len(views[0]) - 1, *(view.shape[1] for view in views))


def initial_weights(batch, n_components, reg, generator):
    """Orthonormal random weights, scaled so that the metric of each view is the identity."""
    weights = []
    for X in batch:
        W, _ = np.linalg.qr(generator.normal(size=(X.shape[1], n_components)))
        (rotation, _), _ = latent_rotations([X @ W] * 2, [W] * 2, reg)
        weights.append((W @ rotation).astype(X.dtype))
    return weights


def largest_variance(X):
    """Largest eigenvalue of the covariance of X."""
    X = centre_columns(X)
    (value,) = randomized_svd(X, 1, random_state=0)[1]
    return float(value) ** 2 / (len(X) - 1)


def loss_and_gradients(batches, weights, *, reg, auto_terms):
    """Eckart-Young loss of one batch, or of two independent ones, and its gradients."""
    n_views = len(weights)
    scale = 1 / n_views if auto_terms else 1.0
    embeddings = [[centre_columns(X @ W) for X, W in zip(batch, weights)] for batch in batches]
    metrics = [metric(Z, weights, reg) * scale for Z in embeddings]
    parts = [
        ey_gradients(batch, weights, Z, V, reg=reg, auto_terms=auto_terms)
        for batch, Z, V in zip(batches, embeddings, reversed(metrics))
    ]
    value = ey_loss(embeddings[0], weights, reg=reg, auto_terms=auto_terms, second=embeddings[-1])
    return float(value), [sum(pieces) / len(parts) for pieces in zip(*parts)]


def take_step(state, gradients, rate, optimizer, momentum):
    """One step of SGD with momentum, or of Adam."""
    n_steps = state.n_steps + 1
    if optimizer == "sgd":
        first = [momentum * m + g for m, g in zip(state.first, gradients)]
        weights = [W - W.dtype.type(rate) * m for W, m in zip(state.weights, first)]
        return State(weights, first, state.second, n_steps)
    beta1, beta2, eps = _ADAM
    first = [beta1 * m + (1 - beta1) * g for m, g in zip(state.first, gradients)]
    second = [beta2 * v + (1 - beta2) * g * g for v, g in zip(state.second, gradients)]
    rate = rate / (1 - beta1**n_steps)
    steps = [rate * m / (np.sqrt(v / (1 - beta2**n_steps)) + eps) for m, v in zip(first, second)]
    weights = [(W - s).astype(W.dtype, copy=False) for W, s in zip(state.weights, steps)]
    return State(weights, first, second, n_steps)
