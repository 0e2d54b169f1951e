"""Conjugate gradients for many right-hand sides at once."""

import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.externals.array_api_compat import array_namespace

__all__ = ["conjugate_gradients", "metric_conjugate_gradients"]


def conjugate_gradients(product, rhs, *, preconditioner=None, tol=1e-10, max_iter=None):
    """Solve a symmetric positive definite system that is known by its products.

    Parameters
    ----------
    product : callable
        Maps an array of shape (n, k) to the product of the matrix with it.
    rhs : array of shape (n,) or (n, k)
        Right-hand sides, in any array API namespace; they are solved together.
    preconditioner : callable, default=None
        Maps an array of shape (n, k) to the product of an approximate inverse, symmetric and
        positive definite, with it. None is the identity.
    tol : float, default=1e-10
        Every column stops at a residual of `tol` times its right-hand side, both in the norm of
        the preconditioner. Not below ten times the precision of the dtype.
    max_iter : int, default=None
        Most iterations; None is ``10 * n``. One product each.

    Returns
    -------
    solution : array of the shape of `rhs`
        The solution.
    n_iter : int
        Number of iterations.

    Warns
    -----
    ConvergenceWarning
        If `max_iter` iterations do not reach `tol`.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.utils import conjugate_gradients
    >>> A = np.array([[2.0, 1.0], [1.0, 3.0]])
    >>> solution, n_iter = conjugate_gradients(lambda x: A @ x, np.array([3.0, 4.0]))
    >>> np.round(solution, 6), n_iter
    (array([1., 1.]), 2)
    """
    xp = array_namespace(rhs)
    columns = rhs if rhs.ndim == 2 else rhs[:, None]
    # With u = P^-1 x the system A P u = b is self-adjoint in the inner product of P.
    _, solution, n_iter = metric_conjugate_gradients(
        lambda _, image: product(image),
        preconditioner if preconditioner is not None else lambda residual: residual,
        columns,
        tol=max(tol, 10 * float(xp.finfo(rhs.dtype).eps)),
        max_iter=max_iter if max_iter is not None else 10 * rhs.shape[0],
    )
    return (solution if rhs.ndim == 2 else solution[:, 0]), n_iter


def metric_conjugate_gradients(product, metric, rhs, *, tol, max_iter):
    """Solve ``product(x, metric(x)) = rhs`` for all columns at once, from zero.

    `product` is self-adjoint and positive in the inner product of `metric`. Returns the
    solution, its image under `metric` and the number of iterations.
    """
    xp = array_namespace(rhs)

    def ratio(numerator, denominator):  # 0 for columns that are already solved
        positive = denominator > 0
        safe = xp.where(positive, denominator, xp.ones_like(denominator))
        return xp.where(positive, numerator / safe, xp.zeros_like(safe))

    x = image = xp.zeros_like(rhs)
    residual, direction = rhs, rhs
    residual_image = direction_image = metric(rhs)
    size = xp.sum(residual * residual_image, axis=0)
    target = tol**2 * size
    for n_iter in range(1, max_iter + 1):
        step = product(direction, direction_image)
        length = ratio(size, xp.sum(direction_image * step, axis=0))
        x, image = x + length * direction, image + length * direction_image
        residual = residual - length * step
        residual_image = metric(residual)
        old, size = size, xp.sum(residual * residual_image, axis=0)
        if bool(xp.all(size <= target)):
            return x, image, n_iter
        slope = ratio(size, old)
        direction = residual + slope * direction
        direction_image = residual_image + slope * direction_image
    warnings.warn(
        f"Conjugate gradients did not converge in {max_iter} iterations: increase max_iter or "
        "tol, regularise more, or use a direct solver.",
        ConvergenceWarning,
    )
    return x, image, max_iter
