"""Canonical functions of convex polytopes: the volumes of their polars."""

from dataclasses import dataclass
from functools import cached_property
from math import factorial

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import ConvexHull, QhullError
from sklearn.utils import check_array, gen_batches

__all__ = [
    "Frame",
    "Polytope",
    "canonical_form",
    "polytope",
    "santalo_point",
    "simplex_canonical_form",
    "whitening_frame",
]

_CHUNK = 2**18  # terms of the canonical function at a time
_FLAT = "the points must span their space: their convex hull has no inner points"


def canonical_form(vertices, Y):
    """Evaluate the canonical function of a convex polytope.

    The canonical form is the only top form with simple poles on the boundary of the polytope,
    and nowhere else, whose residue on every facet is the canonical form of the facet. Its
    function, the coefficient of ``dy_1 ... dy_m``, is at an inner point the volume of the polar
    of the polytope about this point: small in the middle, infinite at the boundary, and its
    logarithm is convex.

    Parameters
    ----------
    vertices : array-like of shape (n_points, m)
        Points whose convex hull is the polytope; it must have inner points.
    Y : array-like of shape (n_samples, m)
        Where to evaluate.

    Returns
    -------
    ndarray of shape (n_samples,)
        Values, in the inverse unit of volume. Outside they are the continuation of the rational
        function, which may be negative; on the planes of the facets they are infinite.

    Raises
    ------
    ValueError
        If the points lie in a plane of fewer than m dimensions, or `Y` has other than m columns.

    Notes
    -----
    The hull costs O(n_points ** (m // 2)), for m > 3; a value O(m * n_simplices), where the polar
    has at least as many boundary simplices as the polytope has vertices.

    References
    ----------
    .. [1] N. Arkani-Hamed, Y. Bai, T. Lam, "Positive Geometries and Canonical Forms", JHEP 2017,
       arXiv:1703.04541, section 7 (dual polytopes).

    Examples
    --------
    >>> from skpapers.manifold import canonical_form
    >>> square = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
    >>> canonical_form(square, [[0.3, 0.6]]).round(4)  # 1 / (0.3 * 0.7) / (0.6 * 0.4) / 2
    array([9.9206])
    """
    frame, points = _full_frame(vertices)
    Y = _check_queries(Y, points.shape[1])
    return polytope(points).canonical_function(frame.enter(Y)) * frame.determinant


def simplex_canonical_form(vertices, Y):
    """Evaluate the canonical function of a simplex, from its vertices.

    Parameters
    ----------
    vertices : array-like of shape (m + 1, m)
        Vertices of the simplex.
    Y : array-like of shape (n_samples, m)
        Where to evaluate.

    Returns
    -------
    ndarray of shape (n_samples,)
        ``1 / (m! |det Z| prod(b))``, where the rows of Z are the vertices after a one, and b are
        the barycentric coordinates: positive inside, of either sign outside.

    Raises
    ------
    ValueError
        If there are other than m + 1 vertices, if they lie in a plane, or if `Y` has other than
        m columns.

    References
    ----------
    .. [1] N. Arkani-Hamed, Y. Bai, T. Lam, "Positive Geometries and Canonical Forms", JHEP 2017,
       arXiv:1703.04541, section 5 (simplices).

    Examples
    --------
    >>> from skpapers.manifold import simplex_canonical_form
    >>> simplex_canonical_form([[0.0], [2.0]], [[0.5]])  # 2 / (0.5 * 1.5)
    array([2.66666667])
    """
    vertices = _check_points(vertices)
    n_vertices, m = vertices.shape
    if n_vertices != m + 1:
        raise ValueError(f"a simplex in {m} dimensions has {m + 1} vertices, got {n_vertices}")
    Y = _check_queries(Y, m)
    Z = np.column_stack([np.ones(n_vertices), vertices])
    volume = abs(np.linalg.det(Z))
    if volume <= np.finfo(float).eps * np.prod(np.linalg.norm(Z, axis=1)):
        raise ValueError(_FLAT)
    barycentric = np.linalg.solve(Z.T, np.column_stack([np.ones(len(Y)), Y]).T)
    with np.errstate(divide="ignore"):
        return 1 / (factorial(m) * volume * np.prod(barycentric, axis=0))


def santalo_point(vertices):
    """Find the point about which the polar of a convex polytope has least volume.

    Parameters
    ----------
    vertices : array-like of shape (n_points, m)
        Points whose convex hull is the polytope; it must have inner points.

    Returns
    -------
    ndarray of shape (m,)
        The Santaló point, the minimum of the canonical function: a centre that moves with every
        affine map of the polytope.

    Raises
    ------
    ValueError
        If the points lie in a plane of fewer than m dimensions.

    Examples
    --------
    >>> from skpapers.manifold import santalo_point
    >>> santalo_point([[0.0], [2.0]])
    array([1.])
    """
    frame, points = _full_frame(vertices)
    return frame.leave(polytope(points).santalo_point)


@dataclass(frozen=True)
class Frame:
    """Affine coordinates ``(x - origin) @ axes`` in which points have unit covariance."""

    origin: np.ndarray  # (d,)
    axes: np.ndarray  # (d, m)
    back: np.ndarray  # (m, d), the pseudoinverse

    @property
    def determinant(self):
        return abs(np.linalg.det(self.axes))

    def enter(self, X):
        return (X - self.origin) @ self.axes

    def leave(self, Z):
        return self.origin + Z @ self.back


def whitening_frame(X, n_components=None, scale=1.0):
    """The frame of the leading principal components of ``X / scale``, none of them constant."""
    origin = X.mean(axis=0)
    centered = (X - origin) / scale
    _, s, vt = np.linalg.svd(centered, full_matrices=False)
    rank = int(np.sum(s > max(X.shape) * np.finfo(X.dtype).eps * s[0])) if s[0] > 0 else 0
    m = rank if n_components is None else min(rank, n_components)
    s, vt = s[:m] / np.sqrt(len(X)), vt[:m]
    return Frame(origin, (vt / s[:, None]).T / np.reshape(scale, (-1, 1)), vt * s[:, None] * scale)


def _full_frame(vertices):
    """The frame of points that span their space, and the points in it."""
    vertices = _check_points(vertices)
    frame = whitening_frame(vertices)
    if frame.axes.shape[1] < vertices.shape[1]:
        raise ValueError(_FLAT)
    return frame, frame.enter(vertices)


@dataclass(frozen=True)
class Polytope:
    """Facets ``normals @ y <= offsets`` and the boundary simplices of the polar.

    Every simplex is a set of m facets that meet in a vertex. Which they are does not depend on
    the point about which the polar is taken, so that one triangulation serves all points.
    """

    vertices: np.ndarray  # (n_vertices, m)
    normals: np.ndarray  # (n_facets, m)
    offsets: np.ndarray  # (n_facets,)
    simplices: np.ndarray  # (n_simplices, m): facets
    corners: np.ndarray  # (n_simplices,): the vertex in which they meet
    volume: float

    @property
    def n_dims(self):
        return self.normals.shape[1]

    @cached_property
    def weights(self):
        """|det of the normals| / m!, of every simplex."""
        return np.abs(np.linalg.det(self.normals[self.simplices])) / factorial(self.n_dims)

    @cached_property
    def incidence(self):
        """Which facets span which simplex, of shape (n_facets, n_simplices)."""
        n_simplices, m = self.simplices.shape
        columns = np.repeat(np.arange(n_simplices), m)
        return _indicator(self.simplices.ravel(), columns, (len(self.offsets), n_simplices))

    @cached_property
    def corner_incidence(self):
        """Which vertex lies on all facets of a simplex, of shape (n_vertices, n_simplices)."""
        n_simplices = len(self.corners)
        return _indicator(self.corners, np.arange(n_simplices), (len(self.vertices), n_simplices))

    def slacks(self, Y):
        """Distances to the planes of the facets, positive inside, of shape (n_facets, n)."""
        return self.offsets[:, None] - self.normals @ Y.T

    def terms(self, slacks):
        """Volumes of the cones that stand on the simplices of the polar, (n_simplices, n)."""
        products = np.ones((len(self.simplices), slacks.shape[1]))
        for facets in self.simplices.T:
            products *= slacks[facets]
        return self.weights[:, None] / products

    def canonical_function(self, Y):
        """The canonical function anywhere; infinite on the planes of the facets."""
        return self._in_batches(self._sum, Y)

    def _sum(self, Y):
        slacks = self.slacks(Y)
        on_plane = np.any(slacks == 0, axis=0)
        slacks[:, on_plane] = 1
        return np.where(on_plane, np.inf, np.sum(self.terms(slacks), axis=0))

    def gradient(self, Y):
        """Gradient of the log of the canonical function at inner points."""
        return self._in_batches(lambda y: self._derivatives(y)[0], Y)

    def _derivatives(self, Y):
        """Gradient of the log, the shares of the simplices in the whole, and slacks."""
        slacks = self.slacks(Y)
        terms = self.terms(slacks)
        shares = terms / np.sum(terms, axis=0)
        return (self.incidence @ shares / slacks).T @ self.normals, shares, slacks

    def hessian(self, y):
        """Hessian of the log of the canonical function at one inner point."""
        (gradient,), shares, slacks = self._derivatives(y[None, :])
        scaled = self.normals / slacks
        sums = self.incidence.T @ scaled
        own = scaled.T @ (self.incidence @ shares * scaled)
        return own + (sums * shares).T @ sums - np.outer(gradient, gradient)

    @cached_property
    def santalo_point(self):
        """Minimum of the canonical function, by Newton's method with backtracking."""
        y = self.vertices.mean(axis=0)
        for _ in range(100):
            gradient = self.gradient(y[None, :])[0]
            step = -np.linalg.solve(self.hessian(y), gradient)
            decrement = -gradient @ step
            if not decrement > 1e-24:  # gradient in the metric of the barrier, squared
                break
            y = self._backtrack(y, step, decrement)
        return y

    def _backtrack(self, y, step, decrement):
        """As much of a Newton step as stays inside and lowers the function."""
        length, value = 1.0, np.log(self.canonical_function(y[None, :])[0])
        while length > 1e-10:
            new = y[None, :] + length * step
            if (self.slacks(new) > 0).all():
                lower = value - 1e-4 * length * decrement
                # near the minimum the value changes less than it is rounded
                if decrement < 1e-10 or np.log(self.canonical_function(new)[0]) <= lower:
                    return new[0]
            length /= 2
        return y

    def wachspress(self, Y, least_slacks):
        """Shares of the vertices in the canonical function, of shape (n, n_vertices)."""

        def coordinates(Y):
            terms = self.terms(np.maximum(self.slacks(Y), least_slacks[:, None]))
            return (self.corner_incidence @ (terms / np.sum(terms, axis=0))).T

        return self._in_batches(coordinates, Y)

    def _in_batches(self, function, Y):
        """A function of rows, so many at a time that their terms stay in the cache."""
        if len(Y) == 0:
            return function(Y)
        batches = gen_batches(len(Y), max(1, _CHUNK // len(self.simplices)))
        return np.concatenate([function(Y[batch]) for batch in batches])


def _indicator(rows, columns, shape):
    return csr_array((np.ones(rows.size), (rows, columns)), shape=shape)


def polytope(points, qhull_options=None):
    """The convex hull of points, as facets and boundary simplices of its polar."""
    m = points.shape[1]
    if m == 0:  # a point, whose canonical function is 1
        return Polytope(
            points[:1], np.zeros((0, 0)), np.zeros(0), np.zeros((1, 0), int), np.zeros(1, int), 1.0
        )
    if m == 1:
        return _interval(points)
    try:
        hull = ConvexHull(points, qhull_options=qhull_options)
    except QhullError as error:
        raise ValueError(_FLAT) from error
    # the triangles of a facet with more than m corners have the same equation
    equations = np.unique(hull.equations, axis=0)
    normals, offsets = equations[:, :-1], -equations[:, -1]
    vertices = points[hull.vertices]
    slacks = offsets - normals @ vertices.mean(axis=0)
    simplices = ConvexHull(normals / slacks[:, None]).simplices
    corners = _common_vertices(vertices, normals, offsets, simplices)
    return Polytope(vertices, normals, offsets, simplices, corners, hull.volume)


def _interval(points):
    low, high = float(points.min()), float(points.max())
    if not low < high:
        raise ValueError(_FLAT)
    return Polytope(
        np.array([[low], [high]]),
        np.array([[-1.0], [1.0]]),
        np.array([-low, high]),
        np.array([[0], [1]]),
        np.array([0, 1]),
        high - low,
    )


def _common_vertices(vertices, normals, offsets, simplices):
    """The vertex that lies on all facets of a simplex."""
    distances = np.abs(offsets[:, None] - normals @ vertices.T)
    batches = gen_batches(len(simplices), max(1, _CHUNK // distances.shape[1]))
    nearest = [np.argmin(distances[simplices[batch]].max(axis=1), axis=1) for batch in batches]
    return np.concatenate(nearest)


def _check_points(vertices):
    return check_array(vertices, dtype=np.float64, input_name="vertices")


def _check_queries(Y, m):
    Y = check_array(Y, dtype=np.float64, input_name="Y")
    if Y.shape[1] != m:
        raise ValueError(f"Y has {Y.shape[1]} columns, but the polytope is in {m} dimensions")
    return Y
