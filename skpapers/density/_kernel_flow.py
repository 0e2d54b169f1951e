"""Gradient descent on kernel least squares in closed form, and when to stop it."""

import math
from typing import NamedTuple

import numpy as np
from sklearn.externals.array_api_compat import array_namespace

__all__ = [
    "KernelFlow",
    "complexity",
    "exact_flow",
    "flow_filter",
    "noise_level",
    "nystroem_flow",
    "resolve_rate",
    "rule_iteration",
    "validation_iteration",
]

_RIDGES = 10.0 ** np.arange(-5, 1)


class KernelFlow(NamedTuple):
    """Spectrum of a kernel on N inputs, from which every iterate of gradient descent follows.

    values : eigenvalues of kernel / N, largest first, not negative.
    vectors : their unit eigenvectors, (N, n_values).
    centres : inputs that predictions are kernels with, (n_centres, n_inputs).
    lift : from coordinates along the eigenvectors to coefficients of the centres.
    """

    values: object
    vectors: object
    centres: object
    lift: object

    def coefficients(self, targets, n_iter, rate):
        """Coefficients of the centres after `n_iter` steps from zero."""
        gains = flow_filter(self.values, n_iter, rate) / self.vectors.shape[0]
        return self.lift @ (gains[:, None] * (self.vectors.T @ targets))


def exact_flow(kernel, inputs):
    """Flow with every input as a centre: one eigendecomposition, O(N^3)."""
    values, vectors = _eigenpairs(kernel(inputs, inputs))
    return KernelFlow(values / inputs.shape[0], vectors, inputs, vectors)


def nystroem_flow(kernel, inputs, centres):
    """Flow in the span of a few centres, O(N n_centres^2).

    The features F = K(inputs, centres) K(centres, centres)^(-1/2) have F F' near the kernel, and
    gradient descent on their coefficients is the flow of F F'.
    """
    xp = array_namespace(inputs)
    values, axes = _eigenpairs(kernel(centres, centres))
    kept = values > values[0] * centres.shape[0] * xp.finfo(values.dtype).eps
    root = axes[:, kept] / xp.sqrt(values[kept])
    features = kernel(inputs, centres) @ root
    values, axes = _eigenpairs(features.T @ features)
    lengths = xp.sqrt(values)
    vectors = features @ axes / xp.where(lengths > 0, lengths, xp.ones_like(lengths))
    return KernelFlow(values / inputs.shape[0], vectors, centres, (root @ axes) * lengths)


def _eigenpairs(matrix):
    """Eigenvalues, largest first, with what rounding made negative set to zero."""
    xp = array_namespace(matrix)
    values, vectors = xp.linalg.eigh(matrix)
    values, vectors = xp.flip(values, axis=0), xp.flip(vectors, axis=1)
    return xp.where(values > 0, values, xp.zeros_like(values)), vectors


def flow_filter(values, n_iter, rate):
    """(1 - (1 - rate v)^n_iter) / v at each value v, which at v = 0 is rate n_iter."""
    xp = array_namespace(values)
    shrink = rate * values
    small = shrink < 0.5
    # what is near zero loses its digits in 1 - (1 - x)^k
    logs = xp.log1p(-xp.where(small, shrink, xp.zeros_like(shrink)))
    done = xp.where(small, -xp.expm1(n_iter * logs), 1 - (1 - shrink) ** n_iter)
    positive = values > 0
    divided = done / xp.where(positive, values, xp.ones_like(values))
    return xp.where(positive, divided, xp.full_like(values, rate * n_iter))


def resolve_rate(values, learning_rate="auto"):
    """Step size: one over the largest eigenvalue, at which no direction overshoots."""
    top = float(values[0])
    rate = 1 / top if isinstance(learning_rate, str) else float(learning_rate)
    if rate * top >= 2:
        raise ValueError(
            f"learning_rate={rate} diverges on these data: it must be below {2 / top:.3g}"
        )
    return rate


def noise_level(flow, targets, group_size):
    """Standard deviation of the targets given the inputs.

    It is that of the residuals of kernel ridge regression with each group of `group_size`
    consecutive rows left out, for the best ridge. They follow from one fit: with the smoother H
    of all rows, (I - H_gg)^(-1) times the residuals of the group.
    """
    xp = array_namespace(targets)
    n_inputs, n_targets = targets.shape
    shape = (n_inputs // group_size, group_size)
    blocks = xp.reshape(flow.vectors, (*shape, -1))
    coordinates = flow.vectors.T @ targets
    eye = xp.eye(group_size, dtype=targets.dtype, device=targets.device)
    errors = []
    for ridge in _RIDGES:
        gains = flow.values / (flow.values + ridge)
        residuals = targets - flow.vectors @ (gains[:, None] * coordinates)
        smoother = (blocks * gains) @ xp.matrix_transpose(blocks)
        left_out = xp.linalg.solve(eye - smoother, xp.reshape(residuals, (*shape, n_targets)))
        errors.append(float(xp.mean(left_out**2)))
    return math.sqrt(min(errors))


def complexity(n_iter, values, n_inputs, rate, noise, constant):
    """What the stopping rule compares with one: constant noise eta k R(1 / sqrt(eta k)).

    R(e)^2 is the mean of min(v, e^2) over the eigenvalues v of kernel / N. It grows with k.
    """
    xp = array_namespace(values)
    time = rate * n_iter
    local = xp.where(values * time < 1, values, xp.full_like(values, 1 / time))
    return constant * noise * time * math.sqrt(float(xp.sum(local)) / n_inputs)


def rule_iteration(values, n_inputs, rate, noise, constant, max_iter):
    """Last of the iterations 1 to max_iter at which the complexity is at most one, or 1."""
    low, high = 1, max_iter + 1
    while high - low > 1:
        middle = (low + high) // 2
        below = complexity(middle, values, n_inputs, rate, noise, constant) <= 1
        low, high = (middle, high) if below else (low, middle)
    return low


def validation_iteration(flow, cross, targets, held_out, rate, max_iter):
    """Iteration, of 100 at equal ratios, with the least error on held-out rows.

    `cross` is the kernel between held-out inputs and centres.
    """
    steps = np.unique(np.geomspace(1, max_iter, 100).round().astype(int)).tolist()
    xp = array_namespace(targets)
    path, coordinates = cross @ flow.lift, flow.vectors.T @ targets
    errors = []
    for n_iter in steps:
        gains = flow_filter(flow.values, n_iter, rate) / flow.vectors.shape[0]
        errors.append(float(xp.mean((path @ (gains[:, None] * coordinates) - held_out) ** 2)))
    return steps[int(np.argmin(errors))]
