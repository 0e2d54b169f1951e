"""Exact canonical correlations of two views, and what two-view estimators share.

Everything here follows the array API: torch tensors on a GPU stay there.
"""

from typing import Any, NamedTuple

from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._array_api import get_namespace_and_device, move_to
from sklearn.utils.extmath import randomized_svd
from sklearn.utils.validation import validate_data

__all__ = [
    "Directions",
    "Pairs",
    "adjoint",
    "canonical_pairs",
    "center",
    "check_view",
    "column_correlations",
    "leading_directions",
    "shrinkage",
    "validate_views",
]


class Directions(NamedTuple):
    """Leading singular directions of a centred view: ``U * s @ Vh``, where U may be ``A @ W``."""

    A: Any
    s: Any
    Vh: Any
    W: Any = None

    @property
    def U(self):
        return self.A if self.W is None else self.A @ self.W


class Pairs(NamedTuple):
    """Canonical pairs in the coordinates of the two sets of directions."""

    left: Any
    correlations: Any
    right: Any


def validate_views(estimator, X, y):
    """Check and copy both views for `fit`; returns X, y in 2-D, and whether y was 1-D."""
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None"
        )
    xp, _, _ = get_namespace_and_device(X)
    X = validate_data(
        estimator,
        X,
        dtype=[xp.float64, xp.float32],
        copy=True,
        force_writeable=True,
        ensure_min_samples=2,
    )
    y, one_dimensional = check_view(y, X, copy=True)
    return X, y, one_dimensional


def check_view(y, X, *, copy=False):
    """Check a second view against X, whose namespace, device and dtype it takes."""
    xp, _, device = get_namespace_and_device(X)
    y = check_array(y, input_name="y", dtype="numeric", ensure_2d=False)
    y = check_array(
        move_to(y, xp=xp, device=device),
        input_name="y",
        dtype=X.dtype,
        copy=copy,
        force_writeable=copy,
        ensure_2d=False,
    )
    check_consistent_length(X, y)
    one_dimensional = y.ndim == 1
    return (xp.reshape(y, (-1, 1)) if one_dimensional else y), one_dimensional


def center(X, *, scale=False):
    """Centre the columns of X in place, and divide by their standard deviations if `scale`.

    Returns the mean and the divisor (1 where nothing was divided). A column whose spread is
    nothing but the rounding error of its mean becomes exactly zero.
    """
    xp, _, _ = get_namespace_and_device(X)
    n_samples = X.shape[0]
    mean = xp.mean(X, axis=0)
    X -= mean
    spread = xp.max(xp.abs(X), axis=0)
    constant = spread <= n_samples**0.5 * xp.finfo(X.dtype).eps * xp.abs(mean)
    if xp.any(constant):
        X *= xp.astype(~constant, X.dtype)
    one = xp.ones_like(mean)
    if not scale:
        return mean, one
    spread = xp.where(constant, one, spread)  # squares of the ratio neither over- nor underflow
    deviation = spread * xp.sqrt(xp.sum((X / spread) ** 2, axis=0) / (n_samples - 1))
    deviation = xp.where(constant, one, deviation)
    X /= deviation
    return mean, deviation


def adjoint(A):
    """Conjugate transpose of a real or complex matrix."""
    xp, _, _ = get_namespace_and_device(A)
    return xp.conj(A.T) if xp.isdtype(A.dtype, "complex floating") else A.T


def leading_directions(X, share=1.0, *, svd_solver="full", random_state=None, floor=0.0):
    """Singular directions of the centred matrix X that hold a share of its variance.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        Centred, real or complex.
    share : float or int, default=1.0
        A float keeps the smallest number of directions that reaches this share of the sum of
        squared singular values; an int keeps that many.
    svd_solver : {"auto", "full", "covariance_eigh", "randomized"}, default="full"
        How the directions are found. ``"auto"`` takes ``"covariance_eigh"`` for tall matrices
        whose retained directions it resolves to ``eps ** (2 / 3)``, else ``"full"``.
    random_state : RandomState, default=None
        For ``"randomized"``.
    floor : float, default=0.0
        Singular values up to this one count as zero.

    Returns
    -------
    Directions
        Retained directions; singular values at rounding level are dropped in any case.
    """
    if svd_solver == "randomized":
        return _randomized(X, share, random_state, floor)
    tall = X.shape[0] >= 4 * X.shape[1]
    if svd_solver == "covariance_eigh" or (svd_solver == "auto" and tall):
        found = _by_covariance(X, share, floor)
        if svd_solver == "covariance_eigh" or _well_resolved(found.s, share, X.shape[1]):
            return found
    return _by_svd(X, share, floor)


def _by_svd(X, share, floor):
    xp, _, _ = get_namespace_and_device(X)
    U, s, Vh = xp.linalg.svd(X, full_matrices=False)
    k = _n_retained(s, share, max(X.shape), floor)
    return Directions(U[:, :k], s[:k], Vh[:k, :])


def _by_covariance(X, share, floor):
    """Eigendecomposition of X'X: one product of matrices instead of a singular decomposition."""
    xp, _, _ = get_namespace_and_device(X)
    largest = float(xp.max(xp.abs(X)))
    unit = 1.0 if largest == 0 or 1e-6 < largest < 1e6 else largest
    Z = X if unit == 1.0 else X / unit  # squares neither over- nor underflow
    eigenvalues, V = xp.linalg.eigh(adjoint(Z) @ Z)
    eigenvalues, V = xp.flip(eigenvalues, axis=0), xp.flip(V, axis=1)
    noise = max(X.shape) * xp.finfo(X.dtype).eps * eigenvalues[:1]
    s = xp.sqrt(xp.where(eigenvalues > noise, eigenvalues, xp.zeros_like(eigenvalues)))
    k = _n_retained(s, share, max(X.shape), floor / unit)
    V = V[:, :k]
    return Directions(Z, s[:k] * unit, adjoint(V), V / s[:k])


def _well_resolved(s, share, n_features):
    """Whether X'X, which squares the condition number, has lost no more than eps^(2/3).

    It must not have hidden a weak direction that was asked for either.
    """
    xp, _, _ = get_namespace_and_device(s)
    k = s.shape[0]
    wanted = share if isinstance(share, int) else n_features * int(share)
    if k == 0 or k < min(wanted, n_features):
        return False
    return float(s[-1] / s[0]) ** 2 > xp.finfo(s.dtype).eps ** (1 / 3)


def _randomized(X, share, random_state, floor):
    """Randomized decomposition; its size doubles until the share of the variance is reached."""
    xp, _, _ = get_namespace_and_device(X)
    rank = min(X.shape)
    largest = float(xp.max(xp.abs(X))) or 1.0
    total = float(xp.sum((X / largest) ** 2))
    size = share if isinstance(share, int) else 16
    while size < rank:
        U, s, Vh = randomized_svd(X, size, random_state=random_state)
        if isinstance(share, int) or float(xp.sum((s / largest) ** 2)) >= share * total:
            relative = total * (largest / (float(s[0]) or 1.0)) ** 2
            k = _n_retained(s, share, max(X.shape), floor, relative)
            return Directions(U[:, :k], s[:k], Vh[:k, :])
        size *= 2
    return _by_svd(X, share, floor)


def _n_retained(s, share, size, floor=0.0, total=None):
    """How many of the sorted singular values are above rounding and make up the share.

    `total` is the sum of all squares in units of the first, where `s` does not hold them all.
    """
    xp, _, _ = get_namespace_and_device(s)
    first = float(s[0])
    rank = int(xp.sum(xp.astype(s > max(size * xp.finfo(s.dtype).eps * first, floor), xp.int64)))
    if isinstance(share, int):
        return min(rank, share)
    if rank == 0 or share == 1.0:
        return rank
    energy = xp.cumulative_sum((s / first) ** 2)
    total = float(energy[-1]) if total is None else total
    reached = xp.astype(energy < share * total * (1 - 4 * xp.finfo(s.dtype).eps), xp.int64)
    return min(rank, int(xp.sum(reached)) + 1)


def canonical_pairs(x, y, *, ridge=0.0):
    """Canonical pairs of two sets of directions: cosines of the principal angles.

    Parameters
    ----------
    x, y : Directions
        Retained directions of the two views.
    ridge : float, default=0.0
        Added to the squared singular values of both views in the whitening.

    Returns
    -------
    Pairs
        Unitary coordinates of the pairs in both views, and the sorted correlations.
    """
    xp, _, _ = get_namespace_and_device(x.s)
    cross = _cross_product(x, y)
    if ridge:
        cross = shrinkage(x.s, ridge)[:, None] * cross * shrinkage(y.s, ridge)
    left, correlations, right = xp.linalg.svd(cross, full_matrices=False)
    return Pairs(left, xp.clip(correlations, 0.0, 1.0), adjoint(right))


def _cross_product(x, y):
    """U'U of two sets of directions; the large product comes first where they are many."""
    if x.W is None or y.W is None or 2 * min(x.s.shape[0], y.s.shape[0]) < y.A.shape[1]:
        return adjoint(x.U) @ y.U
    return adjoint(x.W) @ (adjoint(x.A) @ y.A) @ y.W


def shrinkage(s, ridge):
    """Factor ``s / sqrt(s ** 2 + ridge)`` by which the ridge shortens each direction."""
    xp, _, _ = get_namespace_and_device(s)
    return s / xp.hypot(s, xp.full_like(s, ridge**0.5))


def column_correlations(A, B):
    """Pearson correlation of each column of A with the same column of B (0 if one is constant)."""
    xp, _, _ = get_namespace_and_device(A)
    A, B = _unit_columns(A), _unit_columns(B)
    return xp.sum(A * B, axis=0)


def _unit_columns(A):
    xp, _, _ = get_namespace_and_device(A)
    A = xp.asarray(A, copy=True)
    center(A)
    largest = xp.max(xp.abs(A), axis=0)
    A = A / xp.where(largest > 0, largest, xp.ones_like(largest))
    norm = xp.sqrt(xp.sum(A * A, axis=0))
    return A / xp.where(norm > 0, norm, xp.ones_like(norm))
