"""Gauss-Newton directions of a batch, from a system with one row an output."""

from typing import NamedTuple

import torch

from skpapers.utils import conjugate_gradients

from ._loss_curvature import loss_derivatives, loss_kind, row_weights

__all__ = ["Curvature", "blocks", "gauss_newton_direction", "hessian_root", "loss_curvature"]

_CG_OUTPUTS = 4000  # from so many outputs in a batch on no matrix of that size is built
_CG_ITERATIONS = 2  # at most so many an output
_MAX_JITTERS = 8


class Curvature(NamedTuple):
    """Derivatives of the loss by the outputs, times the number of rows."""

    loss: torch.Tensor
    slopes: torch.Tensor  # r, of shape (n_rows, n_outputs)
    hessian: torch.Tensor  # Q, of shape (n_rows, n_outputs, n_outputs)
    root: torch.Tensor | None  # L with LL' = Q
    source: torch.Tensor | None  # u with L u = r


def loss_curvature(loss_function, output):
    """Slopes and Hessian of the loss, and roots of the Hessian where they are simple."""
    kind = loss_kind(loss_function)
    if kind == "cross_entropy" and output.ndim == 2:
        return _softmax_curvature(loss_function, output)
    loss, slopes, hessian = loss_derivatives(loss_function, output, second=True)
    if kind in ("squared_error", "half_squared_error"):
        root = hessian.sqrt()
        return Curvature(loss, slopes, hessian, root, slopes / root.diagonal(dim1=1, dim2=2))
    return Curvature(loss, slopes, hessian, None, None)


def _softmax_curvature(loss_function, output):
    """For ``Q = diag(p) - pp'``, which is singular, ``L = diag(root p) - p (root p)'``.

    Slopes sum to zero, hence ``L (slopes / root p) = slopes``.
    """
    loss, slopes, _ = loss_derivatives(loss_function, output)
    p = output.detach().to(slopes.dtype).softmax(1)
    weights = row_weights(loss_function, slopes) + torch.zeros_like(p[:, :1])
    hessian = weights[:, :, None] * (torch.diag_embed(p) - p[:, :, None] * p[:, None, :])
    roots = p.clamp_min(torch.finfo(p.dtype).tiny).sqrt()
    root = torch.diag_embed(roots) - p[:, :, None] * roots[:, None, :]
    scales = weights.sqrt()
    return Curvature(loss, slopes, hessian, root * scales[:, :, None], slopes / roots / scales)


def hessian_root(hessian):
    """L with LL' the Hessian of each row."""
    values, vectors = torch.linalg.eigh(hessian)
    return vectors * values.clamp_min(0).sqrt()[:, None, :]


# The direction.


def gauss_newton_direction(jacobian, curvature, damping, solver="auto"):
    """Minus ``(J'QJ / n_rows + damping I)^-1 J'r / n_rows``, as a list of tensors.

    It is -J'v with ``(QJJ' + n_rows damping I) v = r``.
    """
    n_rows, n_outputs = curvature.slopes.shape
    shift = n_rows * damping
    if solver == "auto":
        direct = "lu" if curvature.source is None else "cholesky"
        solver = "cg" if n_rows * n_outputs > _CG_OUTPUTS else direct
    if solver == "lu":
        matrix = blocks(curvature.hessian, jacobian.gram())
        matrix.diagonal().add_(shift)
        rows = torch.linalg.solve(matrix, curvature.slopes.flatten())
    else:
        rows = _symmetric_rows(jacobian, curvature, shift, solver == "cg")
    return [-d for d in jacobian.transposed_times(rows)]


def _symmetric_rows(jacobian, curvature, shift, by_products):
    """The same v, by systems with the matrix ``L'JJ'L + shift I``."""
    root = hessian_root(curvature.hessian) if curvature.root is None else curvature.root
    gram, solve = (_by_products if by_products else _by_factor)(jacobian, root, shift)
    slopes = curvature.slopes.reshape(-1, 1)
    if curvature.source is not None:
        rows = blocks(root, solve(curvature.source.reshape(-1, 1)))
    else:
        rows = (slopes - blocks(root, solve(blocks(root.mT, gram(slopes))))) / shift
    return rows[:, 0]


def _by_products(jacobian, root, shift):
    """Products with JJ', and the solution of the system by them alone."""

    def gram(v):
        return jacobian.times(jacobian.transposed_times(v[:, 0]))[:, None]

    def product(v):
        return blocks(root.mT, gram(blocks(root, v))) + shift * v

    def solve(b):
        return conjugate_gradients(product, b, tol=0.0, max_iter=_CG_ITERATIONS * len(b))[0]

    return gram, solve


def _by_factor(jacobian, root, shift):
    """Products with JJ', and the solution of the system by a factor of its matrix."""
    matrix = jacobian.gram()
    factor = _cholesky(blocks(root.mT, blocks(root.mT, matrix).T), shift)
    return matrix.__matmul__, lambda b: torch.cholesky_solve(b, factor)


def blocks(matrices, columns):
    """Product of a block diagonal matrix with columns."""
    n_rows, n_outputs, _ = matrices.shape
    product = matrices @ columns.reshape(n_rows, n_outputs, -1)
    return product.reshape(n_rows * n_outputs, -1)


def _cholesky(matrix, shift):
    """Factor of the matrix plus a multiple of the identity, a larger one if that must be."""
    matrix.diagonal().add_(shift)
    factor, info = torch.linalg.cholesky_ex(matrix)
    jitter = torch.finfo(matrix.dtype).eps * matrix.diagonal().mean()
    for _ in range(_MAX_JITTERS):
        if not info:
            return factor
        matrix.diagonal().add_(jitter)
        jitter = 10 * jitter
        factor, info = torch.linalg.cholesky_ex(matrix)
    return torch.linalg.cholesky(matrix) if torch.isfinite(matrix).all() else matrix
