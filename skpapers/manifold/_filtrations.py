"""Series, images, point clouds and graphs as graphs whose vertices and edges have two values."""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.externals.array_api_compat import array_namespace

from skpapers.structure import Ragged, as_graphs, as_images, as_panel, as_sets
from skpapers.structure._base import as_float, to_numpy
from skpapers.utils import nearest_neighbors

from ._signed_measures import row_norms

__all__ = ["Complexes", "codensity", "function_rips"]

PARSERS = {"signal": as_panel, "image": as_images, "point_cloud": as_sets, "graph": as_graphs}
AUTO = {
    "signal": ("value", "roughness"),
    "image": ("-value", "column"),
    "point_cloud": ("scale", "codensity"),
    "graph": (0, 1),
}
NAMES = {
    "signal": {"value", "-value", "roughness", "position", "constant"},
    "image": {"value", "-value", "row", "column", "constant"},
    "point_cloud": {"codensity", "constant"},
    "graph": {"value", "-value", "constant"},
}


def function_rips(X, function=None, *, n_neighbors=8, max_edge_length=None):
    """Build the graph of pairs of points, valued by length and by a function of the points.

    Parameters
    ----------
    X : array-like or tensor of shape (n_points, n_features)
        Points.
    function : array-like or tensor of shape (n_points,), default=None
        Second value of the points; by default the root mean square distance to the nearest
        neighbours, which is large for outliers.
    n_neighbors : int, default=8
        Number of those neighbours, at most all other points.
    max_edge_length : float, default=None
        Leave out longer pairs.

    Returns
    -------
    vertex_values : ndarray or tensor of shape (n_points, 2)
        Zero, and the function.
    edges : ndarray of int of shape (n_edges, 2)
        Pairs of points.
    edge_values : ndarray or tensor of shape (n_edges, 2)
        Distances, and the larger function value of the two points.

    Notes
    -----
    O(n_points ** 2 n_features) time and memory. Gradients flow through tensors.

    References
    ----------
    .. [1] L. Scoccola, S. Setlur, D. Loiseaux, M. Carriere, S. Oudot, "Differentiability and
       Optimization of Multiparameter Persistent Homology", ICML 2024, arXiv:2406.07224,
       Section 2.

    Examples
    --------
    >>> from skpapers.manifold import function_rips
    >>> _, edges, edge_values = function_rips([[0.0], [3.0]], [5.0, 7.0])
    >>> edges, edge_values
    (array([[0, 1]]), array([[3., 7.]]))
    """
    X = X if hasattr(X, "detach") else as_float(X)
    xp = array_namespace(X)
    values = codensity(X, n_neighbors) if function is None else function
    values = values if hasattr(values, "detach") else xp.asarray(values, dtype=X.dtype)
    if X.ndim != 2 or values.shape != X.shape[:1]:
        raise ValueError(
            f"X must be (n_points, n_features) and function (n_points,), got {tuple(X.shape)} "
            f"and {tuple(values.shape)}"
        )
    i, j = np.triu_indices(len(X), 1)
    lengths = row_norms(X[i] - X[j])
    if max_edge_length is not None:
        kept = np.flatnonzero(to_numpy(lengths) <= max_edge_length)
        i, j, lengths = i[kept], j[kept], lengths[kept]
    vertex_values = xp.stack([xp.zeros_like(values), values], axis=1)
    edge_values = xp.stack([lengths, xp.maximum(values[i], values[j])], axis=1)
    return vertex_values, np.column_stack([i, j]), edge_values


def codensity(X, n_neighbors):
    """Root mean square distance to the nearest other points, at most all of them."""
    xp = array_namespace(X)
    n_neighbors = min(n_neighbors, len(X) - 1)
    if n_neighbors < 1:
        return xp.zeros_like(X[:, 0])
    _, indices = nearest_neighbors(to_numpy(X), n_neighbors)
    moves = X[np.repeat(np.arange(len(X)), n_neighbors)] - X[indices.ravel()]
    lengths = row_norms(moves) / np.sqrt(n_neighbors)
    return row_norms(xp.reshape(lengths, (len(X), n_neighbors)))


class Complexes(NamedTuple):
    """Samples that are graphs with two values on vertices and edges, one after the other.

    `sample` is that of each vertex. `cells` are squares of vertices that fill loops.
    """

    n_samples: int
    sample: np.ndarray
    vertex_values: np.ndarray
    edges: np.ndarray
    edge_values: np.ndarray
    cells: np.ndarray

    @property
    def values(self):
        """Values of vertices, edges and cells."""
        corners = self.vertex_values[self.cells].max(axis=1, initial=-np.inf)
        return np.concatenate([self.vertex_values, self.edge_values, corners])

    @property
    def counts(self):
        """Number of vertices, edges and cells."""
        return [len(self.vertex_values), len(self.edges), len(self.cells)]

    @property
    def samples(self):
        """Samples of vertices, edges and cells."""
        ends = self.sample[self.edges[:, 0]], self.sample[self.cells[:, 0]]
        return np.concatenate([self.sample, *ends])


def resolve_functions(functions, input_type):
    """The pair of functions, checked against what the inputs have."""
    if isinstance(functions, str) and functions == "auto":
        return AUTO[input_type]
    if not isinstance(functions, (tuple, list)) or len(functions) != 2:
        raise ValueError(f"functions must be 'auto' or a pair, got {functions!r}")
    if input_type == "point_cloud" and functions[0] != "scale":
        raise ValueError(f"functions must begin with 'scale' for point clouds, got {functions!r}")
    for function in functions[1:] if input_type == "point_cloud" else functions:
        number = isinstance(function, (int, np.integer)) and input_type != "point_cloud"
        if not (callable(function) or number or function in NAMES[input_type]):
            raise ValueError(
                f"functions for input_type={input_type!r} are callables or "
                f"{sorted(NAMES[input_type])}, got {function!r}"
            )
    return tuple(functions)


def build(parsed, input_type, functions, n_neighbors=8, max_edge_length=None):
    """Turn parsed samples into complexes."""
    if input_type == "signal":
        return signal_complexes(parsed, functions)
    if input_type == "image":
        return image_complexes(parsed, functions)
    if input_type == "graph":
        return graph_complexes(parsed, functions)
    return cloud_complexes(parsed, functions[1], n_neighbors, max_edge_length)


def lower_star(n_samples, sample, vertex_values, edges, cells=None):
    """Complexes whose edges are present when both ends are."""
    cells = np.empty((0, 4), dtype=np.intp) if cells is None else cells
    edge_values = np.maximum(vertex_values[edges[:, 0]], vertex_values[edges[:, 1]])
    return Complexes(n_samples, sample, vertex_values, edges, edge_values, cells)


def signal_complexes(panel, functions):
    """Paths along series."""
    step = np.arange(len(panel.values)) - panel.offsets[panel.segment_ids]
    values = np.column_stack([_signal_function(panel, step, f) for f in functions])
    later = np.flatnonzero(step > 0)
    edges = np.column_stack([later - 1, later])
    return lower_star(len(panel), panel.segment_ids, as_type(values, panel), edges)


def _signal_function(panel, step, function):
    if callable(function):
        return _concatenated(function, (panel[i] for i in range(len(panel))), panel.sizes)
    if function == "position":
        return step
    if function == "roughness":
        jumps = np.abs(np.diff(panel.values[:, 0], prepend=0))
        return np.where(step > 0, jumps, 0)
    return _attribute(panel.values, function)


def image_complexes(images, functions):
    """Grids of pixels, with the squares between four of them."""
    n_samples, _, height, width = images.shape
    values = np.stack([_image_function(images, f) for f in functions], axis=-1).reshape(-1, 2)
    pixels = np.arange(n_samples * height * width).reshape(n_samples, height, width)
    right = pixels[:, :, :-1], pixels[:, :, 1:]
    down = pixels[:, :-1], pixels[:, 1:]
    edges = np.concatenate([np.stack(pair, axis=-1).reshape(-1, 2) for pair in (right, down)])
    corners = pixels[:, :-1, :-1], pixels[:, :-1, 1:], pixels[:, 1:, :-1], pixels[:, 1:, 1:]
    cells = np.stack(corners, axis=-1).reshape(-1, 4)
    sample = np.repeat(np.arange(n_samples), height * width)
    return lower_star(n_samples, sample, as_type(values, images), edges, cells)


def _image_function(images, function):
    shape = images[:, 0].shape
    if callable(function):
        values = np.asarray(function(images), dtype=float)
        if values.shape != shape:
            raise ValueError(f"functions must return shape {shape}, got {values.shape}")
        return values
    if function in ("row", "column"):
        return np.indices(shape)[1 if function == "row" else 2]
    return _attribute(images.transpose(0, 2, 3, 1), function)


def graph_complexes(graphs, functions):
    """Graphs with node attributes, the direction and weight of edges ignored."""
    features, adjacency, sample = graphs.to_block_diagonal()
    values = [
        _concatenated(function, graphs, graphs.sizes)
        if callable(function)
        else _attribute(features, function)
        for function in functions
    ]
    links = sparse.triu(adjacency + adjacency.T, 1).tocoo()
    edges = np.column_stack([links.row, links.col]).astype(np.intp)
    return lower_star(len(graphs), sample, as_type(np.column_stack(values), features), edges)


def cloud_complexes(clouds, function, n_neighbors, max_edge_length):
    """Pairs of points of each cloud."""
    parts = [
        function_rips(
            cloud, _cloud_function(cloud, function, n_neighbors), max_edge_length=max_edge_length
        )
        for cloud in clouds
    ]
    vertex_values, edges, edge_values = zip(*parts)
    edges = [start + pairs for start, pairs in zip(clouds.offsets, edges)]
    return Complexes(
        len(clouds),
        clouds.segment_ids,
        np.concatenate(vertex_values),
        np.concatenate(edges),
        np.concatenate(edge_values),
        np.empty((0, 4), dtype=np.intp),
    )


def _cloud_function(cloud, function, n_neighbors):
    if callable(function):
        return np.asarray(function(cloud), dtype=cloud.dtype)
    return codensity(cloud, n_neighbors) if function == "codensity" else np.zeros(len(cloud))


def _attribute(table, function):
    """A channel by its number; "value" is the first."""
    if function == "constant":
        return np.zeros(table.shape[:-1])
    channel = {"value": 0, "-value": 0}.get(function, function)
    if not 0 <= channel < table.shape[-1]:
        raise ValueError(
            f"functions ask for number {channel}, but X has {table.shape[-1]} of them; name "
            "functions that X has"
        )
    return -table[..., 0] if function == "-value" else table[..., channel]


def _concatenated(function, items, sizes):
    """Values of a callable on samples of different sizes."""
    values = [np.asarray(function(item), dtype=float) for item in items]
    if [v.shape for v in values] != [(size,) for size in sizes]:
        raise ValueError("functions must return one value for each vertex of a sample")
    return np.concatenate(values)


def as_type(values, given):
    """Values in the type of floats of the input, and finite."""
    values = values.astype(given.dtype, copy=False)
    if not np.isfinite(values).all():
        raise ValueError("functions must have finite values; X is too large, or a callable fails")
    return values


def take(parsed, rows):
    """Some samples of what a parser returned."""
    return parsed.take(rows) if isinstance(parsed, Ragged) else parsed[rows]
