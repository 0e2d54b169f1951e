"""Linear minimisation oracles: the point of a convex set that is furthest down a gradient."""

from numbers import Integral, Real

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.externals.array_api_compat import array_namespace, is_numpy_namespace

from skpapers.utils import truncated_svd

__all__ = [
    "lmo_birkhoff",
    "lmo_k_sparse",
    "lmo_l1",
    "lmo_l2",
    "lmo_linf",
    "lmo_nuclear",
    "lmo_simplex",
]


def lmo_l1(gradient, radius=1.0):
    """Minimise <gradient, v> over the ball ``sum |v| <= radius``.

    Parameters
    ----------
    gradient : array of any shape
        NumPy array, torch tensor, or any array of the array API standard.
    radius : float, default=1.0
        Radius of the ball.

    Returns
    -------
    array
        ``-radius * sign(gradient_j) * e_j`` with j the place of the largest modulus.

    References
    ----------
    .. [1] M. Jaggi, "Revisiting Frank-Wolfe: Projection-Free Sparse Convex Optimization",
       ICML 2013, table 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.optim import lmo_l1
    >>> lmo_l1(np.array([1.0, -3.0, 2.0]), radius=2.0)
    array([0., 2., 0.])
    """
    xp, flat = _flat(gradient, radius)
    place = xp.argmax(xp.abs(flat))
    return _unit(xp, gradient, place, -radius * _sign(xp, flat)[place])


def lmo_simplex(gradient, radius=1.0):
    """Minimise <gradient, v> over ``v >= 0, sum v = radius``.

    Parameters
    ----------
    gradient : array of any shape
        NumPy array, torch tensor, or any array of the array API standard.
    radius : float, default=1.0
        Sum of the entries.

    Returns
    -------
    array
        ``radius * e_j`` with j the place of the smallest entry.

    References
    ----------
    .. [1] M. Jaggi, "Revisiting Frank-Wolfe: Projection-Free Sparse Convex Optimization",
       ICML 2013, table 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.optim import lmo_simplex
    >>> lmo_simplex(np.array([1.0, -3.0, 2.0]))
    array([0., 1., 0.])
    """
    xp, flat = _flat(gradient, radius)
    return _unit(xp, gradient, xp.argmin(flat), radius)


def lmo_l2(gradient, radius=1.0):
    """Minimise <gradient, v> over the Euclidean ball.

    Parameters
    ----------
    gradient : array of any shape
        NumPy array, torch tensor, or any array of the array API standard.
    radius : float, default=1.0
        Radius of the ball.

    Returns
    -------
    array
        ``-radius * gradient / ||gradient||``; zero where the gradient is.

    References
    ----------
    .. [1] M. Jaggi, "Revisiting Frank-Wolfe: Projection-Free Sparse Convex Optimization",
       ICML 2013, table 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.optim import lmo_l2
    >>> lmo_l2(np.array([3.0, -4.0]))
    array([-0.6,  0.8])
    """
    xp, flat = _flat(gradient, radius)
    largest = xp.max(xp.abs(flat))
    scaled = gradient / xp.where(largest > 0, largest, xp.ones_like(largest))  # no overflow
    norm = xp.sqrt(xp.sum(scaled * scaled))
    return scaled * (-radius / xp.where(norm > 0, norm, xp.ones_like(norm)))


def lmo_linf(gradient, radius=1.0):
    """Minimise <gradient, v> over the box ``max |v| <= radius``.

    Parameters
    ----------
    gradient : array of any shape
        NumPy array, torch tensor, or any array of the array API standard.
    radius : float, default=1.0
        Half the side of the box.

    Returns
    -------
    array
        ``-radius * sign(gradient)``.

    References
    ----------
    .. [1] M. Jaggi, "Revisiting Frank-Wolfe: Projection-Free Sparse Convex Optimization",
       ICML 2013, table 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.optim import lmo_linf
    >>> lmo_linf(np.array([3.0, -4.0]))
    array([-1.,  1.])
    """
    xp, _ = _flat(gradient, radius)
    return -radius * _sign(xp, gradient)


def lmo_k_sparse(gradient, k=1, radius=1.0):
    """Minimise <gradient, v> over the convex hull of the k-sparse vectors with entries +-radius.

    Parameters
    ----------
    gradient : array of any shape
        NumPy array, torch tensor, or any array of the array API standard.
    k : int, default=1
        Number of entries that are not zero; 1 is the l1 ball, all is the box.
    radius : float, default=1.0
        Modulus of the entries.

    Returns
    -------
    array
        ``-radius * sign(gradient)`` at the k places of largest modulus, zero elsewhere.

    References
    ----------
    .. [1] A. Carderera, M. Besancon, S. Pokutta, "Simple steps are all you need: Frank-Wolfe and
       generalized self-concordant functions", NeurIPS 2021, arXiv:2105.13913, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.optim import lmo_k_sparse
    >>> lmo_k_sparse(np.array([1.0, -3.0, 2.0]), k=2)
    array([ 0.,  1., -1.])
    """
    xp, flat = _flat(gradient, radius)
    if not (isinstance(k, Integral) and 1 <= k <= flat.shape[0]):
        raise ValueError(f"k must be an integer from 1 to {flat.shape[0]}, got {k!r}")
    places = xp.argsort(-xp.abs(flat))[:k]
    vertex = xp.zeros_like(flat)
    vertex[places] = -radius * _sign(xp, flat)[places]
    return xp.reshape(vertex, gradient.shape)


def lmo_nuclear(gradient, radius=1.0):
    """Minimise <gradient, V> over the matrices whose singular values sum to `radius` at most.

    Parameters
    ----------
    gradient : array of shape (m, n)
        NumPy array, torch tensor, or any array of the array API standard.
    radius : float, default=1.0
        Radius of the ball.

    Returns
    -------
    array of shape (m, n)
        ``-radius * u v'`` of the leading singular vectors: rank 1.

    References
    ----------
    .. [1] M. Jaggi, "Revisiting Frank-Wolfe: Projection-Free Sparse Convex Optimization",
       ICML 2013, table 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.optim import lmo_nuclear
    >>> abs(lmo_nuclear(np.diag([1.0, -3.0])))
    array([[0., 0.],
           [0., 1.]])
    """
    xp, _ = _flat(gradient, radius)
    if gradient.ndim != 2:
        raise ValueError(f"gradient must be a matrix, got shape {tuple(gradient.shape)}")
    if is_numpy_namespace(xp):
        u, _, vt = truncated_svd(gradient, 1, random_state=0)
    else:
        u, _, vt = xp.linalg.svd(gradient, full_matrices=False)
    return -radius * (u[:, :1] @ vt[:1])


def lmo_birkhoff(gradient, radius=1.0):
    """Minimise <gradient, V> over the doubly stochastic matrices, scaled by `radius`.

    Parameters
    ----------
    gradient : array of shape (n, n)
        NumPy array, torch tensor, or any array of the array API standard.
    radius : float, default=1.0
        Sum of a row and of a column.

    Returns
    -------
    array of shape (n, n)
        `radius` times a permutation matrix, found by an assignment in O(n^3) on the CPU.

    References
    ----------
    .. [1] A. Carderera, M. Besancon, S. Pokutta, "Simple steps are all you need: Frank-Wolfe and
       generalized self-concordant functions", NeurIPS 2021, arXiv:2105.13913, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.optim import lmo_birkhoff
    >>> lmo_birkhoff(np.array([[2.0, 1.0], [1.0, 2.0]]))
    array([[0., 1.],
           [1., 0.]])
    """
    xp, _ = _flat(gradient, radius)
    if gradient.ndim != 2 or gradient.shape[0] != gradient.shape[1]:
        raise ValueError(f"gradient must be a square matrix, got {tuple(gradient.shape)}")
    costs = gradient if is_numpy_namespace(xp) else np.asarray(gradient.tolist())
    rows, columns = linear_sum_assignment(costs)
    vertex = np.zeros(costs.shape)
    vertex[rows, columns] = radius
    return xp.asarray(vertex, dtype=gradient.dtype, device=gradient.device)


def _flat(gradient, radius):
    if not (isinstance(radius, Real) and 0 < radius < float("inf")):
        raise ValueError(f"radius must be a positive number, got {radius!r}")
    xp = array_namespace(gradient)
    return xp, xp.reshape(gradient, (-1,))


def _sign(xp, values):
    """1 or -1, so that a zero gives a vertex too."""
    return xp.where(values < 0, -xp.ones_like(values), xp.ones_like(values))


def _unit(xp, like, place, value):
    vertex = xp.zeros_like(xp.reshape(like, (-1,)))
    vertex[place] = value
    return xp.reshape(vertex, like.shape)
