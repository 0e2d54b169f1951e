"""Signed measures of two-parameter filtrations, and distances between them."""

from numbers import Integral

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist
from sklearn.externals.array_api_compat import array_namespace, device
from sklearn.utils import assert_all_finite
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skpapers.structure._base import as_float, to_numpy

__all__ = ["euler_signed_measure", "hilbert_signed_measure", "signed_measure_distance"]


@validate_params(
    {"degree": [Interval(Integral, 0, 1, closed="both")]}, prefer_skip_nested_validation=True
)
def hilbert_signed_measure(vertex_values, edges, edge_values=None, *, degree=0):
    """Compute the signed measure whose distribution function counts components or loops.

    A vertex or an edge is present at (a, b) if both of its values are at most a and b. The
    measure is the one whose mass of ``(-inf, a] x (-inf, b]`` is the Betti number of the graph
    present at (a, b), for all a and b.

    Parameters
    ----------
    vertex_values : array-like or tensor of shape (n_vertices, 2)
        Values of the vertices.
    edges : array-like of int of shape (n_edges, 2)
        The vertices that each edge joins; no edge is listed twice.
    edge_values : array-like or tensor of shape (n_edges, 2), default=None
        Values of the edges, none below those of its vertices; by default the larger of those.
    degree : {0, 1}, default=0
        Count components (0) or independent loops (1).

    Returns
    -------
    points : ndarray or tensor of shape (n_points, 2)
        Where the measure has mass. Each coordinate is that of one vertex or edge; of tensors,
        gradients flow to it.
    weights : ndarray of int of shape (n_points,)
        Masses, none of them zero.

    Raises
    ------
    ValueError
        If an edge repeats, joins a vertex to itself, or is present before its vertices.

    Notes
    -----
    For each of the R distinct second values in turn, the minimum spanning forest by first values
    is updated from the last forest and the new edges: O(n_edges log n_edges + R n_vertices log
    n_vertices). An edge that enters the forest ends a component from there on; an edge that
    leaves it gives its mass back.

    References
    ----------
    .. [1] L. Scoccola, S. Setlur, D. Loiseaux, M. Carriere, S. Oudot, "Differentiability and
       Optimization of Multiparameter Persistent Homology", ICML 2024, arXiv:2406.07224,
       Section 2.

    Examples
    --------
    Two vertices of values (0, 0) and (1, 0) are joined from (2, 3) on.

    >>> from skpapers.manifold import hilbert_signed_measure
    >>> points, weights = hilbert_signed_measure([[0, 0], [1, 0]], [[0, 1]], [[2, 3]])
    >>> points
    array([[0., 0.],
           [1., 0.],
           [2., 3.]])
    >>> weights
    array([ 1,  1, -1])
    """
    vertex_values, edges, edge_values = _check_complex(vertex_values, edges, edge_values)
    first_values = to_numpy(edge_values)[:, 0]
    columns = np.unique(to_numpy(edge_values)[:, 1], return_inverse=True)[1]
    diracs = component_diracs(len(vertex_values), edges, first_values, columns)
    if degree == 1:
        diracs = loop_diracs(diracs, [len(vertex_values), len(edges)])
    return _collect(diracs, vertex_values, edge_values)


def euler_signed_measure(vertex_values, edges, edge_values=None):
    """Compute the signed measure whose distribution function is the Euler characteristic.

    It has mass 1 at the values of each vertex and -1 at those of each edge, and is the signed
    measure of components minus that of loops.

    Parameters
    ----------
    vertex_values : array-like or tensor of shape (n_vertices, 2)
        Values of the vertices.
    edges : array-like of int of shape (n_edges, 2)
        The vertices that each edge joins; no edge is listed twice.
    edge_values : array-like or tensor of shape (n_edges, 2), default=None
        Values of the edges, none below those of its vertices; by default the larger of those.

    Returns
    -------
    points : ndarray or tensor of shape (n_points, 2)
        Where the measure has mass.
    weights : ndarray of int of shape (n_points,)
        Masses, none of them zero.

    Raises
    ------
    ValueError
        If an edge repeats, joins a vertex to itself, or is present before its vertices.

    References
    ----------
    .. [1] L. Scoccola, S. Setlur, D. Loiseaux, M. Carriere, S. Oudot, "Differentiability and
       Optimization of Multiparameter Persistent Homology", ICML 2024, arXiv:2406.07224,
       Section 2.

    Examples
    --------
    >>> from skpapers.manifold import euler_signed_measure
    >>> euler_signed_measure([[0, 0], [1, 0]], [[0, 1]])
    (array([[0., 0.]]), array([1]))
    """
    vertex_values, edges, edge_values = _check_complex(vertex_values, edges, edge_values)
    diracs = euler_diracs([len(vertex_values), len(edges)])
    return _collect(diracs, vertex_values, edge_values)


@validate_params(
    {
        "kind": [StrOptions({"ot", "sliced"})],
        "metric": [StrOptions({"cityblock", "euclidean"})],
        "n_directions": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def signed_measure_distance(mu, nu, kind="ot", *, metric="euclidean", n_directions=50):
    """Compute the transport distance between two signed measures of the same total mass.

    The positive part of their difference is moved onto its negative part, which is to move the
    positive part of the one and the negative part of the other onto the rest.

    Parameters
    ----------
    mu : tuple of (points, weights)
        Points of shape (n_points, 2), an array or a tensor, and integer weights of shape
        (n_points,), as :func:`hilbert_signed_measure` gives them.
    nu : tuple of (points, weights)
        The other measure.
    kind : {"ot", "sliced"}, default="ot"
        Optimal transport in the plane, or the mean of that of projections on lines.
    metric : {"cityblock", "euclidean"}, default="euclidean"
        What moving a unit costs, with ``kind="ot"``.
    n_directions : int, default=50
        Number of lines through the origin, in equal angles, with ``kind="sliced"``.

    Returns
    -------
    distance : float or tensor
        The distance; of tensors, a scalar with a gradient.

    Raises
    ------
    ValueError
        If the total masses differ or weights are no integers.

    Notes
    -----
    Weights are integers, so that optimal transport is an assignment of T units to T units:
    O(T ** 3) time, O(T ** 2) memory. Sliced: O(`n_directions` T log T).

    References
    ----------
    .. [1] L. Scoccola, S. Setlur, D. Loiseaux, M. Carriere, S. Oudot, "Differentiability and
       Optimization of Multiparameter Persistent Homology", ICML 2024, arXiv:2406.07224,
       Section 4.

    Examples
    --------
    >>> from skpapers.manifold import signed_measure_distance
    >>> mu = [[0.0, 0.0], [1.0, 0.0], [3.0, 4.0]], [1, 1, -1]
    >>> nu = [[1.0, 0.0]], [1]
    >>> float(signed_measure_distance(mu, nu))
    5.0
    """
    points, weights = _difference(mu, nu)
    if kind == "ot":
        return _transport_cost(points, weights, metric)
    return _sliced_cost(points, weights, n_directions)


def component_diracs(n_vertices, edges, first_values, columns):
    """Diracs of the measure that counts components.

    Parameters
    ----------
    n_vertices : int
        Number of vertices.
    edges : ndarray of shape (n_edges, 2)
        Edges.
    first_values : ndarray of shape (n_edges,)
        Values that decide which edges are in the minimum spanning forest.
    columns : ndarray of int of shape (n_edges,)
        Order of the second values.

    Returns
    -------
    first, second : ndarray of shape (n_diracs,)
        Simplices (vertices, then edges) whose first and second values are the coordinates.
    weights : ndarray of shape (n_diracs,)
        1 or -1.
    """
    vertices = np.arange(n_vertices)
    first, second, weights = [vertices], [vertices], [np.ones(n_vertices, dtype=np.intp)]
    for newest, entering, leaving in forest_changes(n_vertices, edges, first_values, columns):
        first += [n_vertices + entering, n_vertices + leaving]
        second += [n_vertices + entering, np.full(len(leaving), n_vertices + newest)]
        weights += [np.full(len(entering), -1), np.full(len(leaving), 1)]
    return np.concatenate(first), np.concatenate(second), np.concatenate(weights)


def forest_changes(n_vertices, edges, values, columns):
    """Yield, column after column, what changes in the minimum spanning forest.

    Of the edges up to a column only those of the last forest and the new ones can be in the next
    one. Yields a new edge, the edges that enter (all of them new), and those that leave.
    """
    order = np.argsort(values, kind="stable")
    rank = np.empty(len(edges))  # distinct weights above 0, which stands for no edge
    rank[order] = np.arange(1, len(edges) + 1)
    by_column = np.argsort(columns, kind="stable")
    starts = np.flatnonzero(np.diff(columns[by_column])) + 1
    inside = np.zeros(len(edges), dtype=bool)
    forest = by_column[:0]
    for new in np.split(by_column, starts) if len(edges) else ():
        candidates = np.concatenate([forest, new])
        kept = order[spanning_forest(n_vertices, edges[candidates], rank[candidates]) - 1]
        entering = kept[~inside[kept]]
        inside[forest] = False
        inside[kept] = True
        yield new[0], entering, forest[~inside[forest]]
        forest = kept


def spanning_forest(n_vertices, edges, rank):
    """Ranks of the edges of the minimum spanning forest."""
    by_row = np.argsort(edges[:, 0], kind="stable")
    rows, columns = edges[by_row].T
    ends = np.searchsorted(rows, np.arange(n_vertices + 1))  # much cheaper than a coo array
    graph = csr_array((rank[by_row], columns, ends), shape=(n_vertices, n_vertices))
    return minimum_spanning_tree(graph, overwrite=True).data.astype(np.intp)


def euler_diracs(counts):
    """Diracs of all simplices, given their number in each dimension."""
    simplices = np.arange(sum(counts))
    return simplices, simplices, np.repeat(np.resize([1, -1], len(counts)), counts)


def loop_diracs(components, counts):
    """Diracs of loops, in complexes without voids: components minus Euler characteristic."""
    euler = euler_diracs(counts)
    signed = (*euler[:2], -euler[2])
    return tuple(np.concatenate(parts) for parts in zip(components, signed))


def _collect(diracs, *values):
    """Add up the Diracs at the same point, and look up the coordinates of those left."""
    first, second, weights = diracs
    plain = np.concatenate([to_numpy(part) for part in values])
    coordinates = np.column_stack([plain[first, 0], plain[second, 1]])
    _, kept, group = np.unique(coordinates, axis=0, return_index=True, return_inverse=True)
    total = np.bincount(group.ravel(), weights, len(kept)).astype(np.intp)
    kept, total = kept[total != 0], total[total != 0]
    xp = array_namespace(*values)
    values = xp.concat(values)
    return xp.stack([values[first[kept], 0], values[second[kept], 1]], axis=1), total


def _check_complex(vertex_values, edges, edge_values):
    vertex_values = _check_points(vertex_values, "vertex_values")
    edges = _check_edges(edges, len(vertex_values))
    xp = array_namespace(vertex_values)
    lower = xp.maximum(vertex_values[edges[:, 0]], vertex_values[edges[:, 1]])
    if edge_values is None:
        return vertex_values, edges, lower
    edge_values = _check_points(edge_values, "edge_values")
    if len(edge_values) != len(edges):
        raise ValueError(
            f"edge_values has {len(edge_values)} rows, but there are {len(edges)} edges"
        )
    if np.any(to_numpy(edge_values) < to_numpy(lower)):
        raise ValueError("edge_values must not be below the values of the vertices of the edge")
    return vertex_values, edges, edge_values


def _check_points(values, name):
    """Return arrays and tensors of floats as they are, other input as an array of floats."""
    if not hasattr(values, "detach"):
        values = as_float(values)
        values = values.reshape(0, 2) if values.size == 0 else values
    if values.ndim != 2 or values.shape[1] != 2:
        raise ValueError(f"{name} must have shape (n, 2), got {tuple(values.shape)}")
    assert_all_finite(to_numpy(values), input_name=name)
    return values


def _check_edges(edges, n_vertices):
    edges = to_numpy(edges)
    edges = edges.reshape(0, 2).astype(np.intp) if edges.size == 0 else edges
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "iu":
        raise ValueError(f"edges must be integers of shape (n_edges, 2), got {edges.shape}")
    if edges.min(initial=0) < 0 or edges.max(initial=-1) >= n_vertices:
        raise ValueError(f"edges must join vertices from 0 to {n_vertices - 1}")
    low, high = edges.min(axis=1).astype(np.intp), edges.max(axis=1).astype(np.intp)
    if np.any(low == high):
        raise ValueError("edges must not join a vertex to itself")
    if len(np.unique(low * n_vertices + high)) < len(edges):
        raise ValueError("edges must not be listed twice")
    return np.column_stack([low, high])


def _difference(mu, nu):
    """Points and weights of mu - nu."""
    (x, u), (y, v) = mu, nu
    x, y = _check_points(x, "points of mu"), _check_points(y, "points of nu")
    weights = np.concatenate([to_numpy(u), -to_numpy(v)])
    if len(weights) != len(x) + len(y) or np.any(weights != np.rint(weights)):
        raise ValueError("a signed measure needs an integer weight for each point")
    if weights.sum() != 0:
        raise ValueError(
            f"the total masses {np.sum(to_numpy(u))} and {np.sum(to_numpy(v))} must be equal"
        )
    return array_namespace(x, y).concat([x, y]), weights.astype(np.intp)


def _transport_cost(points, weights, metric):
    xp = array_namespace(points)
    simplices = np.arange(len(weights))
    sources = np.repeat(simplices, np.maximum(weights, 0))
    targets = np.repeat(simplices, np.maximum(-weights, 0))
    plain = to_numpy(points)
    rows, columns = linear_sum_assignment(cdist(plain[sources], plain[targets], metric))
    moves = points[sources[rows]] - points[targets[columns]]
    return xp.sum(xp.abs(moves)) if metric == "cityblock" else xp.sum(row_norms(moves))


def _sliced_cost(points, weights, n_directions):
    """Mean over lines of the integral of the absolute distribution function."""
    xp = array_namespace(points)
    angles = (np.arange(n_directions) + 0.5) * np.pi / n_directions
    lines = xp.asarray(
        np.stack([np.cos(angles), np.sin(angles)]), dtype=points.dtype, device=device(points)
    )
    projected = points @ lines
    order = np.argsort(to_numpy(projected), axis=0, kind="stable")
    mass = np.abs(np.cumsum(weights[order], axis=0))[:-1]
    ascending = projected[order, np.arange(n_directions)]
    gaps = ascending[1:] - ascending[:-1]
    mass = xp.asarray(mass, dtype=points.dtype, device=device(points))
    return xp.sum(gaps * mass) / n_directions


def row_norms(moves):
    """Euclidean norms of rows; those of zero rows have the gradient zero."""
    xp = array_namespace(moves)
    squared = xp.sum(moves * moves, axis=1)
    positive = squared > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, squared, 1.0)), 0.0)
