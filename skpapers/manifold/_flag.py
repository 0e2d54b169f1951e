"""Flags, nested subspaces as orthonormal columns in blocks: distances, and means by ascent."""

from itertools import pairwise
from math import sqrt
from numbers import Integral

from sklearn.utils._array_api import get_namespace_and_device

from skpapers.utils import polar_factor

__all__ = [
    "align",
    "ascend",
    "block_product",
    "blocks",
    "check_flag_type",
    "check_stack",
    "chordal_distances",
    "start_of_mean",
]


def check_flag_type(flag_type, n_columns):
    """Dimensions of the nested subspaces, as a tuple; None is a line, a plane, and so on."""
    if flag_type is None:
        return tuple(range(1, n_columns + 1))
    dimensions = tuple(flag_type)
    integers = all(isinstance(d, Integral) for d in dimensions)
    if not integers or not dimensions or any(b <= a for a, b in pairwise((0, *dimensions))):
        raise ValueError(f"flag_type must be increasing positive integers, got {flag_type!r}")
    if dimensions[-1] != n_columns:
        raise ValueError(f"flag_type ends at {dimensions[-1]}, but flags have {n_columns} columns")
    return dimensions


def check_stack(X, name):
    """Raise unless X is a stack of matrices with orthonormal columns."""
    if X.ndim != 3:
        raise ValueError(f"{name} must have two or three dimensions, got shape {tuple(X.shape)}")
    if not 1 <= X.shape[2] <= X.shape[1]:
        raise ValueError(f"Flags of {X.shape[2]} columns need as many features: {X.shape[1]}")
    _check_orthonormal(X, name)


def _check_orthonormal(X, name):
    xp, _, _ = get_namespace_and_device(X)
    error = xp.matrix_transpose(X) @ X - xp.eye(X.shape[-1], dtype=X.dtype, device=X.device)
    largest = float(xp.max(xp.abs(error)))
    if largest > 1e-4:
        raise ValueError(
            f"The columns of each flag in {name} must be orthonormal: their inner products are "
            f"wrong by up to {largest:.1e}"
        )


def blocks(dimensions):
    """Columns of each block, as slices."""
    return [slice(start, stop) for start, stop in pairwise((0, *dimensions))]


def chordal_distances(X, Y, dimensions):
    """Chordal distances of flags; either argument may be a stack.

    The trace formula loses half of the digits of small distances. This one does not: what Y
    leaves of X, in each block.
    """
    xp, _, device = get_namespace_and_device(X, Y)
    same_block = xp.zeros((X.shape[-1], X.shape[-1]), dtype=X.dtype, device=device)
    for block in blocks(dimensions):
        same_block[block, block] = 1.0
    rest = X - Y @ (same_block * (xp.matrix_transpose(Y) @ X))
    return xp.sqrt(xp.sum(rest**2, axis=(-2, -1)))


def block_product(X, weights, dimensions):
    """The function from Y to ``[P_1 Y_1, ..., P_k Y_k]`` with ``P_i = sum_j w_j X_i X_i'``.

    P_i is formed only where it is smaller than the data.
    """
    xp, _, _ = get_namespace_and_device(X)
    columns = blocks(dimensions)
    factors = block_factors(X, weights, dimensions)
    squares = [F @ F.T if F.shape[1] > F.shape[0] else None for F in factors]

    def product(Y):
        parts = [
            F @ (F.T @ Y[:, block]) if P is None else P @ Y[:, block]
            for F, P, block in zip(factors, squares, columns)
        ]
        return xp.concat(parts, axis=1)

    return product


def block_factors(X, weights, dimensions):
    """For each block, the columns of all flags side by side, times roots of the weights."""
    xp, _, _ = get_namespace_and_device(X)
    X = xp.permute_dims(X * xp.sqrt(weights)[:, None, None], (1, 0, 2))
    return [xp.reshape(X[:, :, block], (X.shape[0], -1)) for block in blocks(dimensions)]


def start_of_mean(X, weights, dimensions):
    """The flag of largest weight; with a single block the mean itself, by eigenvectors."""
    xp, _, _ = get_namespace_and_device(X)
    if len(dimensions) > 1:
        return X[int(xp.argmax(weights)), :, :]
    (F,) = block_factors(X, weights, dimensions)
    tall = F.shape[1] <= F.shape[0]
    vectors = xp.linalg.eigh(F.T @ F if tall else F @ F.T)[1]
    vectors = xp.flip(vectors, axis=1)[:, : X.shape[2]]
    return xp.linalg.qr(F @ vectors if tall else vectors)[0]


def inner(A, B, xp):
    """Inner product of matrices, as a float."""
    return float(xp.sum(A * B))


def tangent(Y, Z):
    """Projection of Z onto the tangent space of the Stiefel manifold at Y."""
    YZ = Y.T @ Z
    return Z - Y @ ((YZ + YZ.T) / 2)


def ascend(product, Y, *, solver, max_iter, tol):
    """Maximise ``sum_i tr(Y_i' P_i Y_i)`` over matrices with orthonormal columns.

    Parameters
    ----------
    product : callable
        From Y to ``[P_i Y_i]``.
    Y : array of shape (n, n_columns)
        Start.
    solver : {"polar", "trust-region"}
        The objective is convex, so that replacing Y by the polar factor of the product never
        decreases it; or Newton steps.
    max_iter : int
        Largest number of steps.
    tol : float
        Relative increase of the objective, in a step, at which to stop.

    Returns
    -------
    Y : array of shape (n, n_columns)
        Where it ended.
    value : float
        The objective there.
    n_iter : int
        Number of steps.
    converged : bool
        Whether the last step gained less than `tol`.
    """
    xp, _, _ = get_namespace_and_device(Y)
    M, radius = product(Y), 0.5
    value = inner(Y, M, xp)
    for n_iter in range(1, max_iter + 1):
        if solver == "polar":
            candidate, accurate = polar_factor(M), True
            new = inner(candidate, product_new := product(candidate), xp)
        else:
            step, predicted = newton_step(product, Y, M, radius, xp)
            candidate = polar_factor(Y + step)
            new = inner(candidate, product_new := product(candidate), xp)
            accurate = new - value > 0.1 * predicted or predicted <= tol * value
            radius = new_radius(radius, sqrt(inner(step, step, xp)), new - value, predicted)
        gain = new - value
        if accurate and gain >= 0:
            Y, M, value = candidate, product_new, new
        if accurate and gain <= tol * value:
            return Y, value, n_iter, True
    return Y, value, max_iter, False


def new_radius(radius, length, gain, predicted):
    """Smaller where the quadratic model was wrong, larger where it was right at the border."""
    if gain < 0.25 * predicted:
        return radius / 4
    if gain > 0.75 * predicted and length > 0.99 * radius:
        return min(2 * radius, 4.0)
    return radius


def newton_step(product, Y, M, radius, xp):
    """Truncated conjugate gradients for the Newton step within a radius (Steihaug).

    Parameters
    ----------
    product : callable
        From Y to ``[P_i Y_i]``.
    Y, M : array of shape (n, n_columns)
        The point and its product.
    radius : float
        Largest length of the step.
    xp : module
        Array namespace.

    Returns
    -------
    step : array of shape (n, n_columns)
        Tangent step.
    predicted : float
        Gain of the objective by the quadratic model.
    """
    YM = Y.T @ M
    symmetric = (YM + YM.T) / 2
    residual = gradient = tangent(Y, M)
    step, image = 0 * gradient, 0 * gradient
    direction, size = residual, inner(residual, residual, xp)
    target = size * min(0.01, size)
    for _ in range(Y.shape[0] * Y.shape[1]):
        if size <= target or size == 0:
            break
        applied = tangent(Y, direction @ symmetric - product(direction))
        curvature = inner(direction, applied, xp)
        length = size / curvature if curvature > 0 else float("inf")
        longest = to_border(step, direction, radius, xp)
        step = step + min(length, longest) * direction
        image = image + min(length, longest) * applied
        if longest <= length:
            break
        residual = residual - length * applied
        size, before = inner(residual, residual, xp), size
        direction = residual + (size / before) * direction
    return step, 2 * inner(gradient, step, xp) - inner(step, image, xp)


def to_border(step, direction, radius, xp):
    """How far to go along `direction` from `step` to reach length `radius`."""
    a, b = inner(direction, direction, xp), inner(step, direction, xp)
    c = radius**2 - inner(step, step, xp)
    return (-b + sqrt(max(b * b + a * c, 0.0))) / a


def align(Y, target, dimensions):
    """Turn each block of Y, which leaves the flag what it is, to be near that of `target`."""
    xp, _, _ = get_namespace_and_device(Y)
    turned = [Y[:, b] @ polar_factor(Y[:, b].T @ target[:, b]) for b in blocks(dimensions)]
    return xp.concat(turned, axis=1)
