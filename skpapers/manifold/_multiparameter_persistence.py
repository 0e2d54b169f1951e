"""Topology under two functions at once, as vectors."""

from numbers import Integral, Real

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import gen_even_slices
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skpapers.structure import validate_structured

from ._filtrations import PARSERS, build, resolve_functions, take
from ._signed_measures import component_diracs, euler_diracs, loop_diracs

__all__ = ["MultiparameterPersistence"]


class MultiparameterPersistence(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Count components and loops under two functions at once, as a vector for each sample.

    A sample is a series, an image, a point cloud or a graph, with two functions on its points:
    intensity and place, or scale and density. For each pair of thresholds the points below both
    are kept, and the components (or loops, or both) of what is left are counted. With a second
    function a few outliers no longer decide on the topology, and shapes are told apart that one
    function takes for the same.

    Parameters
    ----------
    input_type : {"signal", "image", "point_cloud", "graph"}, default="signal"
        What a sample is: a path along a series, a grid of pixels, the pairs of points of a cloud,
        or a graph with node features.
    functions : "auto" or pair of str, int or callable, default="auto"
        The two functions, of which `auto` takes the first two listed.
        Signals: "value", "roughness" (size of the last step), "-value", "position", "constant".
        Images: "-value", "column", "row", "value", "constant".
        Point clouds: "scale", the length of an edge, which is always the first, and then
        "codensity" (root mean square distance to `n_neighbors` points) or "constant".
        Graphs: 0 and 1, the first two node features; "value", "-value", "constant".
        Numbers are channels, or node features; "value" is number 0. A callable gets a series of
        shape (n_channels, n_timepoints), all images of shape (n_samples, n_channels, height,
        width), a cloud or a graph, and returns a value for each time, pixel, point or node.
    homology_dims : tuple of int, default=(0,)
        0 for components, 1 for loops; the columns of the one come after those of the other. Point
        clouds have 0 only. In images, the square between four pixels is filled.
    descriptor : {"hilbert", "euler"}, default="hilbert"
        Betti numbers in the dimensions asked for, or the Euler characteristic.
    resolution : int or pair of int, default=20
        Number of thresholds, at most, for each function.
    vectorization : {"measure", "image", "hilbert"}, default="measure"
        Masses of the signed measure on the grid of thresholds, those masses smoothed by a
        Gaussian, or their cumulative sums: the counts themselves.
    bandwidth : float, default=0.1
        Standard deviation of the Gaussian, in units of the range of the grid.
    grid : {"quantile", "uniform"}, default="quantile"
        Thresholds at quantiles of the distinct values of the training data that bear on the
        descriptor, or evenly between the smallest and the largest of those.
    image_shape : tuple of int, default=None
        Shape (height, width) or (n_channels, height, width) of images in the rows of a table.
    n_neighbors : int, default=8
        Number of neighbours of "codensity".
    max_edge_length : float, default=None
        Longest edge of a point cloud; None keeps all pairs.
    n_jobs : int, default=None
        Number of threads, each with a part of the samples.

    Attributes
    ----------
    grid_ : list of two ndarray
        Thresholds of each function, ascending. Values are rounded up to them; those above all
        thresholds count as the last.
    functions_ : tuple
        The two functions.
    n_features_out_ : int
        Number of columns: the product of the lengths of `grid_`, for each dimension.
    n_features_in_ : int
        Number of columns of a table, of channels, coordinates or node features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if X had string column names.

    Notes
    -----
    For each threshold of the second function, one minimum spanning forest of all samples side by
    side: O(resolution n_edges log n_edges). A cloud of m points has m (m - 1) / 2 edges.

    The mass of a row is the Betti number of its whole graph, or the Euler characteristic.

    References
    ----------
    .. [1] L. Scoccola, S. Setlur, D. Loiseaux, M. Carriere, S. Oudot, "Differentiability and
       Optimization of Multiparameter Persistent Homology", ICML 2024, arXiv:2406.07224,
       Section 2.
    .. [2] D. Loiseaux, L. Scoccola, M. Carriere, M. B. Botnan, S. Oudot, "Stable Vectorization of
       Multiparameter Persistent Homology using Signed Barcodes as Measures", NeurIPS 2023,
       arXiv:2306.03801.

    Examples
    --------
    Two peaks of a series are apart until the valley between them is included.

    >>> import numpy as np
    >>> from skpapers.manifold import MultiparameterPersistence
    >>> X = np.array([[3.0, 1.0, 2.0], [3.0, 2.0, 1.0]])
    >>> persistence = MultiparameterPersistence(
    ...     functions=("-value", "constant"), vectorization="hilbert"
    ... )
    >>> persistence.fit_transform(X)
    array([[1., 2., 1.],
           [1., 1., 1.]])
    """

    _parameter_constraints = {
        "input_type": [StrOptions({"signal", "image", "point_cloud", "graph"})],
        "functions": [StrOptions({"auto"}), tuple, list],
        "homology_dims": [tuple, list],
        "descriptor": [StrOptions({"hilbert", "euler"})],
        "resolution": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "vectorization": [StrOptions({"measure", "image", "hilbert"})],
        "bandwidth": [Interval(Real, 0, None, closed="neither")],
        "grid": [StrOptions({"quantile", "uniform"})],
        "image_shape": [tuple, list, None],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "max_edge_length": [Interval(Real, 0, None, closed="left"), None],
        "n_jobs": [Integral, None],
    }
    _search_space = {
        "resolution": [5, 10, 20],
        "vectorization": ["measure", "image", "hilbert"],
        "descriptor": ["hilbert", "euler"],
    }

    def __init__(
        self,
        input_type="signal",
        *,
        functions="auto",
        homology_dims=(0,),
        descriptor="hilbert",
        resolution=20,
        vectorization="measure",
        bandwidth=0.1,
        grid="quantile",
        image_shape=None,
        n_neighbors=8,
        max_edge_length=None,
        n_jobs=None,
    ):
        self.input_type = input_type
        self.functions = functions
        self.homology_dims = homology_dims
        self.descriptor = descriptor
        self.resolution = resolution
        self.vectorization = vectorization
        self.bandwidth = bandwidth
        self.grid = grid
        self.image_shape = image_shape
        self.n_neighbors = n_neighbors
        self.max_edge_length = max_edge_length
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the grid of thresholds.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or list of arrays or graphs
            Samples. Rows of a table are series of one channel, images of `image_shape`, or clouds
            of points on a line.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        ValueError
            If a function or a dimension is not one of the input type, or X of no accepted form.
        """
        dims, resolution = self._check_dims(), self._check_resolution()
        self.functions_ = resolve_functions(self.functions, self.input_type)
        complexes = self._build(self._parse(X, reset=True))
        if len(complexes.sample) == 0:
            raise ValueError("X has no points, only empty samples")
        second = thresholds(complexes.vertex_values[:, 1], self.grid, resolution[1])
        first = relevant_values(complexes, second, self._kinds(dims))
        self.grid_ = [thresholds(first, self.grid, resolution[0]), second]
        self.n_features_out_ = len(self._kinds(dims)) * len(self.grid_[0]) * len(second)
        return self

    def transform(self, X):
        """Compute the descriptor on the grid.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or list of arrays or graphs
            Samples, in the form of those of `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out_)
            The grid row by row, the thresholds of the second function next to each other.
        """
        check_is_fitted(self)
        parsed = self._parse(X, reset=False)
        parts = gen_even_slices(len(parsed), min(effective_n_jobs(self.n_jobs), len(parsed)))
        rows = Parallel(n_jobs=self.n_jobs, prefer="threads")(
            delayed(self._transform)(take(parsed, part)) for part in parts
        )
        return np.concatenate(rows)

    def _transform(self, parsed):
        complexes = self._build(parsed)
        masses = grid_masses(complexes, self.grid_, self._kinds(self._check_dims()))
        if self.vectorization == "hilbert":
            masses = masses.cumsum(axis=2).cumsum(axis=3)
        elif self.vectorization == "image":
            first, second = (smoother(axis, self.bandwidth) for axis in self.grid_)
            masses = first @ masses @ second
        return masses.reshape(complexes.n_samples, -1).astype(self.grid_[0].dtype)

    @property
    def _n_features_out(self):
        return self.n_features_out_

    def _parse(self, X, reset):
        params = {"image_shape": self.image_shape} if self.input_type == "image" else {}
        return validate_structured(self, X, parser=PARSERS[self.input_type], reset=reset, **params)

    def _build(self, parsed):
        return build(
            parsed, self.input_type, self.functions_, self.n_neighbors, self.max_edge_length
        )

    def _kinds(self, dims):
        return ("euler",) if self.descriptor == "euler" else dims

    def _check_dims(self):
        dims = tuple(self.homology_dims)
        allowed = (0,) if self.input_type == "point_cloud" else (0, 1)
        if not dims or any(dim not in allowed for dim in dims):
            raise ValueError(
                f"homology_dims={self.homology_dims!r} must be some of {allowed} for "
                f"input_type={self.input_type!r}"
            )
        return dims

    def _check_resolution(self):
        pair = (self.resolution,) * 2 if isinstance(self.resolution, Integral) else self.resolution
        if len(pair) != 2 or not all(isinstance(r, Integral) and r >= 1 for r in pair):
            raise ValueError(
                f"resolution={self.resolution!r} must be a positive int or a pair of them"
            )
        return tuple(pair)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def thresholds(values, grid, resolution):
    """At most `resolution` ascending thresholds, the last of which is the largest value."""
    values = np.unique(values)
    if grid == "uniform":
        return np.unique(np.linspace(values[0], values[-1], resolution, dtype=values.dtype))
    levels = np.arange(1, resolution + 1) * len(values)
    return values[np.unique(-(-levels // resolution)) - 1]


def round_up(values, grid):
    """Numbers of the first thresholds that are not below the values, or of the last one."""
    return np.minimum(np.searchsorted(grid, values), len(grid) - 1)


def relevant_values(complexes, second_grid, kinds):
    """First values of what has mass in the descriptors asked for."""
    if kinds != (0,):
        return complexes.values[:, 0]
    columns = round_up(complexes.edge_values[:, 1], second_grid)
    first, _, _ = component_diracs(
        len(complexes.sample), complexes.edges, complexes.edge_values[:, 0], columns
    )
    return complexes.values[first, 0]


def grid_masses(complexes, grid, kinds):
    """Signed measures of values rounded up to the grid.

    Parameters
    ----------
    complexes : Complexes
        Samples.
    grid : list of two ndarray
        Thresholds.
    kinds : tuple
        0 for components, 1 for loops, "euler" for the Euler characteristic.

    Returns
    -------
    ndarray of shape (n_samples, n_kinds, n_first, n_second)
        Masses.
    """
    shape = complexes.n_samples, len(grid[0]), len(grid[1])
    rows, columns = (round_up(complexes.values[:, axis], grid[axis]) for axis in (0, 1))
    samples = complexes.samples
    masses = []
    for first, second, weights in _diracs(complexes, rows, columns, kinds):
        places = np.ravel_multi_index((samples[first], rows[first], columns[second]), shape)
        masses.append(np.bincount(places, weights, np.prod(shape)).reshape(shape))
    return np.stack(masses, axis=1)


def _diracs(complexes, rows, columns, kinds):
    counts = complexes.counts
    edges = slice(counts[0], counts[0] + counts[1])
    known = {"euler": euler_diracs(counts)}
    if kinds != ("euler",):
        known[0] = component_diracs(counts[0], complexes.edges, rows[edges], columns[edges])
        known[1] = loop_diracs(known[0], counts)
    return [known[kind] for kind in kinds]


def smoother(axis, bandwidth):
    """Gaussian weights between thresholds, in units of their range."""
    units = (axis - axis[0]) / (axis[-1] - axis[0] or 1)
    return np.exp(-((units[:, None] - units) ** 2) / (2 * bandwidth**2))
