"""Sets of unit vectors that are all almost orthogonal to each other."""

import math
import warnings
from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg import helmert
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skpapers.utils import check_random_state

from ._bridge import resolve_device
from ._random import torch_generator

__all__ = ["equiangular_basis_vectors"]

SLACK = 1e-4  # by how much a bound may be exceeded, as in the paper's code
PATIENCE = 500  # steps after which a bound that nobody asked for is raised
CHUNK = 4096


@validate_params(
    {
        "n_vectors": [Interval(Integral, 1, None, closed="left")],
        "n_dims": [Interval(Integral, 1, None, closed="left")],
        "max_cosine": [Interval(Real, 0, 1, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "method": [StrOptions({"auto", "hinge", "squared_hinge"})],
        "device": [str, torch.device],
        "chunk_size": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def equiangular_basis_vectors(
    n_vectors,
    n_dims,
    *,
    max_cosine=None,
    max_iter=10000,
    method="auto",
    random_state=None,
    device="cpu",
    chunk_size=CHUNK,
):
    r"""Make unit vectors of which no two have a cosine above a bound, in absolute value.

    Parameters
    ----------
    n_vectors : int
        Number of vectors.
    n_dims : int
        Their dimension.
    max_cosine : float, default=None
        Bound of the absolute cosines, in [0, 1); it is kept within 1e-4. None takes 1.2 times
        the least that is possible (1.4 times, for more than ``4 * n_dims`` vectors), at least
        0.01, and raises it by a tenth whenever 500 steps do not reach it.
    max_iter : int, default=10000
        Largest number of steps.
    method : {"auto", "hinge", "squared_hinge"}, default="auto"
        "squared_hinge" descends along the squared excess of the cosines over the bound, "hinge"
        along the excess itself, as in the paper, at its rate of 1e-3. "auto" takes an
        orthonormal set where there is one, the regular simplex for ``n_dims + 1`` vectors, and
        the squared hinge otherwise.
    random_state : int, RandomState instance or None, default=None
        Seed of the vectors.
    device : str or torch.device, default="cpu"
        Where to compute; "auto" is CUDA where there is one.
    chunk_size : int, default=4096
        Vectors whose cosines are computed at a time; it bounds the memory.

    Returns
    -------
    ndarray of shape (n_vectors, n_dims)
        The vectors, one a row.

    Raises
    ------
    ValueError
        If `max_cosine` is below the Welch bound, which no set can go below, or more than two
        vectors shall lie on a line.

    Warns
    -----
    ConvergenceWarning
        If a `max_cosine` that was asked for is not reached.

    Notes
    -----
    A step costs ``O(n_vectors**2 * n_dims)``. With N vectors in d < N dimensions the largest
    absolute cosine is at least the Welch bound :math:`\sqrt{(N - d) / (d (N - 1))}`.

    References
    ----------
    .. [1] Y. Shen, X. Sun, X.-S. Wei, "Equiangular Basis Vectors", CVPR 2023, arXiv:2303.11637,
       section 3.2 and algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.neural_network import equiangular_basis_vectors
    >>> W = equiangular_basis_vectors(4, 3, random_state=0)
    >>> (W @ W.T).round(3) + 0.0
    array([[ 1.   , -0.333, -0.333, -0.333],
           [-0.333,  1.   , -0.333, -0.333],
           [-0.333, -0.333,  1.   , -0.333],
           [-0.333, -0.333, -0.333,  1.   ]])
    """
    generator = torch_generator(check_random_state(random_state))
    vectors = make_vectors(
        n_vectors,
        n_dims,
        generator,
        max_cosine,
        method=method,
        max_iter=max_iter,
        device=resolve_device(device),
        chunk_size=chunk_size,
    )
    return vectors.cpu().numpy()


def welch_bound(n_vectors, n_dims):
    """Smallest largest absolute cosine that so many unit vectors can have."""
    if n_vectors <= n_dims:
        return 0.0
    return math.sqrt((n_vectors - n_dims) / (n_dims * (n_vectors - 1)))


def make_vectors(n_vectors, n_dims, generator, max_cosine=None, *, method="auto", **options):
    """Tensor of unit rows, in double precision; in closed form where "auto" finds one."""
    check_room(n_vectors, n_dims, max_cosine)
    device = options.get("device", "cpu")
    if method == "auto" and n_vectors <= n_dims:
        return orthonormal_rows(n_vectors, n_dims, generator).to(device)
    if method == "auto" and n_vectors == n_dims + 1:
        return simplex_rows(n_dims, generator).to(device)
    rows = F.normalize(gaussian(n_vectors, n_dims, generator))
    return spread_rows(rows, 0, max_cosine, squared=method != "hinge", **options)


def extend_vectors(vectors, n_new, generator, max_cosine=None):
    """Append unit rows that are far from each other and from the given ones, which stay."""
    n_old, n_dims = vectors.shape
    check_room(n_old + n_new, n_dims, max_cosine)
    vectors = vectors.double()
    new = gaussian(n_new, n_dims, generator).to(vectors.device)
    if n_old + n_new <= n_dims:  # there is room orthogonal to all
        basis = torch.linalg.qr(torch.cat([vectors, new]).T).Q
        return torch.cat([vectors, basis[:, n_old:].T])
    rows = torch.cat([vectors, F.normalize(new)])
    return spread_rows(rows, n_old, max_cosine, device=vectors.device)


def check_room(n_vectors, n_dims, max_cosine):
    """Refuse what no set of vectors can be."""
    if n_dims == 1 and n_vectors > 2:
        raise ValueError(f"n_dims=1 has room for two unit vectors, not for {n_vectors}")
    bound = welch_bound(n_vectors, n_dims)
    if max_cosine is not None and max_cosine < bound - 1e-12:
        raise ValueError(
            f"max_cosine={max_cosine} cannot be reached: of {n_vectors} unit vectors in {n_dims} "
            f"dimensions, two have an absolute cosine of at least {bound:.4g} (Welch bound)"
        )


def gaussian(n_rows, n_dims, generator):
    """Standard normal rows in double precision, drawn on the CPU."""
    shape = (n_rows, n_dims)
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")


def orthonormal_rows(n_rows, n_dims, generator):
    """At most n_dims orthonormal rows, in random directions."""
    return torch.linalg.qr(gaussian(n_dims, n_rows, generator)).Q.T.contiguous()


def simplex_rows(n_dims, generator):
    """The n_dims + 1 corners of a regular simplex, turned at random: all cosines -1/n_dims."""
    corners = torch.from_numpy(np.ascontiguousarray(helmert(n_dims + 1).T))
    return F.normalize(corners @ orthonormal_rows(n_dims, n_dims, generator))


def spread_rows(
    rows,
    n_fixed,
    max_cosine=None,
    *,
    squared=True,
    max_iter=10000,
    device="cpu",
    chunk_size=CHUNK,
):
    """Move the rows after the first `n_fixed` until no absolute cosine exceeds the bound."""
    rows = rows.to(device, copy=True)
    n_rows, n_dims = rows.shape
    bound = default_bound(n_rows, n_dims) if max_cosine is None else max_cosine
    # A squared hinge is smooth, and its curvature grows with the crowding N / d.
    lr = min(0.1, 0.25 * n_dims / n_rows) if squared else 1e-3
    for step in range(1, max_iter + 1):
        largest, gradient = hinge_gradient(rows, n_fixed, bound, squared, chunk_size)
        if largest <= bound + SLACK:
            return rows
        rows[n_fixed:] = F.normalize(rows[n_fixed:] - lr * gradient)
        if max_cosine is None and step % PATIENCE == 0:
            bound *= 1.1
    if max_cosine is not None:
        warnings.warn(
            f"max_iter={max_iter} steps ended at an absolute cosine of {largest:.4g}, above "
            f"max_cosine={max_cosine}: raise max_iter, max_cosine or n_dims",
            ConvergenceWarning,
            stacklevel=2,
        )
    return rows


def default_bound(n_vectors, n_dims):
    """A bound that the squared hinge reaches in some hundred steps."""
    factor = 1.2 if n_vectors <= 4 * n_dims else 1.4
    return max(factor * welch_bound(n_vectors, n_dims), 0.01)


def hinge_gradient(rows, n_fixed, bound, squared, chunk_size=CHUNK):
    """Largest absolute cosine, and the gradient of the penalty by the rows that may move.

    The penalty is the sum over ordered pairs of the excess over the bound, or of its square.
    """
    largest, gradient = 0.0, torch.empty_like(rows[n_fixed:])
    for start, excess, cosines in excesses(rows, n_fixed, bound, chunk_size):
        largest = max(largest, float(excess.max()) + bound)
        excess = excess.clamp_min(0)
        slope = 4 * excess if squared else 2 * (excess > 0)
        end = start + len(excess)
        gradient[start - n_fixed : end - n_fixed] = (slope * cosines.sign()) @ rows
    return largest, gradient


def excesses(rows, n_fixed, bound, chunk_size):
    """Chunks of the absolute cosines minus the bound, with their start and the cosines."""
    for start in range(n_fixed, len(rows), chunk_size):
        cosines = rows[start : start + chunk_size] @ rows.T
        excess = cosines.abs() - bound
        excess.diagonal(start).fill_(-bound)  # a row is no pair with itself
        yield start, excess, cosines


def largest_cosine(rows, chunk_size=CHUNK):
    """Largest absolute cosine of two different rows of unit norm; 0 for a single row."""
    return max(float(excess.max()) for _, excess, _ in excesses(rows, 0, 0.0, chunk_size))
