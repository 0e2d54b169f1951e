"""Log density ratios as line integrals of the score."""

from functools import cache

import numpy as np

__all__ = ["line_integral"]


@cache
def _gauss_legendre(n_nodes):
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    return 0.5 * (nodes + 1), 0.5 * weights


def line_integral(score, start, end, *, n_nodes=16):
    """Integrate a score along straight segments, by Gauss-Legendre quadrature.

    Parameters
    ----------
    score : callable
        Maps points (n, n_features) to vectors of the same shape.
    start : ndarray or torch.Tensor of shape (n_samples, n_features)
        Where the segments begin.
    end : ndarray or torch.Tensor of shape (n_samples, n_features)
        Where they end.
    n_nodes : int, default=16
        Number of points on each segment: exact for fields that are polynomials of degree
        2 n_nodes - 1 along it.

    Returns
    -------
    ndarray or torch.Tensor of shape (n_samples,)
        Differences log p(end) - log p(start), where the score is the gradient of log p.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.processes import line_integral
    >>> line_integral(lambda x: -x, np.zeros((1, 2)), np.array([[1.0, 1.0]]))
    array([-1.])
    """
    step = end - start
    total = 0.0
    for node, weight in zip(*_gauss_legendre(n_nodes)):
        total = total + float(weight) * (score(start + float(node) * step) * step).sum(1)
    return total
