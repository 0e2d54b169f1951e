"""Kernels on the nodes of a graph: power series of its adjacency matrix."""

from numbers import Integral, Real

import numpy as np
from scipy.sparse.linalg import eigsh
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skpapers.structure import Graph

from ._random_walks import step_matrix

__all__ = ["graph_kernel", "modulation_function"]

KERNEL_CONSTRAINTS = {
    "kernel": [
        StrOptions({"cosine", "diffusion", "random_walk", "regularized_laplacian"}),
        callable,
        "array-like",
    ],
    "degree": [Interval(Real, 0, None, closed="neither")],
    "n_steps": [Interval(Integral, 1, None, closed="left")],
}
GRAPH_CONSTRAINTS = {
    "sigma": [Interval(Real, 0, None, closed="neither")],
    "normalize": ["boolean"],
}


@validate_params(
    {
        **KERNEL_CONSTRAINTS,
        **GRAPH_CONSTRAINTS,
        "adjacency": ["array-like", "sparse matrix", Graph],
    },
    prefer_skip_nested_validation=True,
)
def graph_kernel(
    adjacency, kernel="diffusion", *, degree=2.0, n_steps=2, sigma=0.9, normalize=True
):
    """Compute a kernel on the nodes of a graph exactly.

    Parameters
    ----------
    adjacency : array-like, sparse array or Graph of shape (n_nodes, n_nodes)
        Symmetric edge weights.
    kernel : {"diffusion", "regularized_laplacian", "random_walk", "cosine"}, callable or \
            array-like, default="diffusion"
        See :class:`GraphRandomFeatures`.
    degree : float, default=2.0
        Exponent of the regularised Laplacian kernel.
    n_steps : int, default=2
        Exponent of the random-walk kernel.
    sigma : float, default=0.9
        Scale of the adjacency matrix.
    normalize : bool, default=True
        Whether to normalise by the degrees.

    Returns
    -------
    ndarray of shape (n_nodes, n_nodes)
        The kernel matrix.

    Raises
    ------
    ValueError
        If the graph is not symmetric, or the series does not converge on it.

    Notes
    -----
    A dense eigendecomposition, ``O(n_nodes**3)``.

    References
    ----------
    .. [1] I. Reid, K. Choromanski, E. Berger, A. Weller. General Graph Random Features.
           ICLR 2024, Table 1.

    Examples
    --------
    >>> from skpapers.graph import graph_kernel
    >>> graph_kernel([[0, 1], [1, 0]], "random_walk", n_steps=1, sigma=0.5)
    array([[1.  , 0.25],
           [0.25, 1.  ]])
    """
    adjacency = adjacency.adjacency if isinstance(adjacency, Graph) else adjacency
    steps = step_matrix(Graph(None, adjacency).adjacency, sigma, normalize)
    check_convergence(steps, kernel)
    values, vectors = np.linalg.eigh(steps.toarray())
    functions = {
        "diffusion": np.exp,
        "regularized_laplacian": lambda x: (1 - x) ** -degree,
        "random_walk": lambda x: (1 + x) ** n_steps,
        "cosine": lambda x: np.cos(x) + np.sin(x),
    }
    if isinstance(kernel, str):
        spectrum = functions[kernel](values)
    else:
        spectrum = sum_series(as_coefficients(kernel, 1000), values, finite=not callable(kernel))
    return (vectors * spectrum) @ vectors.T


@validate_params(
    {**KERNEL_CONSTRAINTS, "length": [Interval(Integral, 1, None, closed="left")]},
    prefer_skip_nested_validation=True,
)
def modulation_function(kernel="diffusion", length=20, *, degree=2.0, n_steps=2):
    """Compute the modulation function of a kernel, the discrete square root of its series.

    Parameters
    ----------
    kernel : {"diffusion", "regularized_laplacian", "random_walk", "cosine"}, callable or \
            array-like, default="diffusion"
        See :class:`GraphRandomFeatures`.
    length : int, default=20
        Number of values.
    degree : float, default=2.0
        Exponent of the regularised Laplacian kernel.
    n_steps : int, default=2
        Exponent of the random-walk kernel.

    Returns
    -------
    ndarray of shape (length,)
        The values ``f``, whose convolution with themselves is the series of the kernel.

    Raises
    ------
    ValueError
        If the first coefficient of the series is not positive.

    References
    ----------
    .. [1] I. Reid, K. Choromanski, E. Berger, A. Weller. General Graph Random Features.
           ICLR 2024, Theorem 2.1 and Equation 9.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.graph import modulation_function
    >>> f = modulation_function("diffusion", 4)
    >>> np.convolve(f, f)[:4] * [1, 1, 2, 6]
    array([1., 1., 1., 1.])
    """
    if isinstance(kernel, str) and kernel != "cosine":
        return series(kernel, length, degree, n_steps, power=0.5)
    alpha = np.zeros(length)
    given = series(kernel, length, degree, n_steps)[:length]
    alpha[: len(given)] = given
    return deconvolve(alpha)


def series(kernel, length, degree, n_steps, power=1.0):
    """Return coefficients of the kernel's power series raised to `power`."""
    t = np.arange(length - 1)
    ratios = {
        "diffusion": power / (t + 1),
        "regularized_laplacian": (power * degree + t) / (t + 1),
        "random_walk": (power * n_steps - t) / (t + 1),
    }
    if isinstance(kernel, str) and kernel in ratios:
        return np.cumprod(np.concatenate([[1.0], ratios[kernel]]))
    if isinstance(kernel, str):  # cosine: 1, 1, -1/2!, -1/3!, 1/4!, ...
        signs = np.array([1.0, 1.0, -1.0, -1.0])[np.arange(length) % 4]
        return signs * np.cumprod(np.concatenate([[1.0], 1 / (t + 1)]))
    return as_coefficients(kernel, length)


def as_coefficients(values, length):
    """Return an array as it is, or the first `length` values of a function."""
    if callable(values):
        values = [values(k) for k in range(length)]
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"kernel and modulation need finite coefficients in one dimension, got {values!r}"
        )
    return values


def sum_series(alpha, values, finite):
    """Evaluate a power series; one that goes on for ever must have negligible last terms."""
    rest = np.abs(alpha[-1]) * np.abs(values).max() ** (len(alpha) - 1)
    if not finite and rest > 1e-12 * np.abs(alpha).max():
        raise ValueError("the series of kernel diverges on this graph; use a smaller sigma")
    return np.polynomial.polynomial.polyval(values, alpha)


def deconvolve(alpha):
    """Find f with f * f = alpha term by term."""
    if not alpha[0] > 0:
        raise ValueError(f"the first coefficient of kernel must be positive, got {alpha[0]!r}")
    f = np.zeros_like(alpha)
    f[0] = np.sqrt(alpha[0])
    for k in range(1, len(f)):
        f[k] = (alpha[k] - f[1:k] @ f[k - 1 : 0 : -1]) / (2 * f[0])
    return f


def trim(modulation, radius, tol=1e-12):
    """Cut the end of a modulation function that adds nothing for a given spectral radius."""
    with np.errstate(divide="ignore"):
        log_terms = np.log(np.abs(modulation)) + np.arange(len(modulation)) * np.log(
            max(radius, tol)
        )
    terms = np.exp(log_terms - log_terms.max())
    tail = np.cumsum(terms[::-1])[::-1]
    return modulation[: max(1, np.count_nonzero(tail > tol * tail[0]))]


def check_convergence(steps, kernel):
    """Refuse the resolvent of a matrix whose spectral radius is 1 or more."""
    if not (isinstance(kernel, str) and kernel == "regularized_laplacian"):
        return
    if abs(steps).sum(axis=1).max() < 1:  # a bound that costs nothing
        return
    if steps.shape[0] < 100:
        radius = np.abs(np.linalg.eigvalsh(steps.toarray())).max()
    else:
        start = np.ones(steps.shape[0])
        radius = abs(eigsh(steps, k=1, which="LM", v0=start, return_eigenvectors=False)[0])
    if radius >= 1 - 1e-10:
        raise ValueError(
            f"the series of kernel='regularized_laplacian' diverges: U has spectral radius "
            f"{radius:.4g}, which must be below 1; use a smaller sigma"
        )
