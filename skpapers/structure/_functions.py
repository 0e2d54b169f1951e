"""Functions sampled at points, the same for all samples or not."""

import numpy as np
from sklearn.utils import assert_all_finite

from ._base import RowContainer, as_float, forms_error, is_array_like, to_numpy
from ._sets import Ragged, _parse

__all__ = ["Functions", "as_functions"]

FUNCTION_FORMS = (
    "a table of shape (n_samples, n_points), NaN where a function is not observed, with grid",
    "a Ragged or a list of arrays of shape (m_i, n_coordinates + 1): location, then value",
    "an array of shape (n_samples, n_points, n_coordinates + 1), rows of NaN for absent points",
    "a scikit-fda FDataGrid",
)


class Functions(RowContainer):
    """Sampled functions, as :func:`as_functions` returns them.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_points) or Ragged
        Values on a common grid, NaN where not observed; or samples of location and value.
    grid : array-like of shape (n_points,) or (n_points, n_coordinates), default=None
        The common locations; None for a Ragged.

    Attributes
    ----------
    values : ndarray or Ragged
        As given.
    grid : ndarray of shape (n_points, n_coordinates) or None
        The common locations.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.structure import Functions
    >>> curves = Functions(np.array([[1.0, np.nan], [2.0, 3.0]]), grid=[0.0, 1.0])
    >>> curves.to_ragged()[0]
    array([[0., 1.]])
    """

    def __init__(self, values, grid=None):
        grid = None if isinstance(values, Ragged) else _grid(grid, values.shape[1])
        self._set(values=values, grid=grid)

    @property
    def features(self):
        """The values (on a grid), or locations and values, as a 2-D array."""
        return self.values if self.grid is not None else self.values.features

    @property
    def n_features(self):
        """Number of grid points, or of coordinates plus one."""
        return self.features.shape[1]

    @property
    def shape(self):
        """Shape of the array form."""
        return self.values.shape

    @property
    def ndim(self):
        """Number of dimensions of the array form."""
        return self.values.ndim

    @property
    def dtype(self):
        """Data type of the values."""
        return self.values.dtype

    def take(self, rows):
        """Select functions.

        Parameters
        ----------
        rows : array-like of int or bool, or slice
            The samples to keep.

        Returns
        -------
        Functions
            The selected functions on the same grid.
        """
        return type(self)(self.values[self._positions(rows)], self.grid)

    def map_features(self, function):
        """Apply a function to the values (on a grid), or to the rows of location and value.

        Parameters
        ----------
        function : callable
            From an array of shape (n_rows, n_columns) to one of the same shape.

        Returns
        -------
        Functions
            The new functions at the same points.
        """
        if self.grid is None:
            return type(self)(self.values.map_features(function))
        return type(self)(np.asarray(function(self.values)), self.grid)

    def to_ragged(self):
        """List the observed points.

        Returns
        -------
        Ragged
            Of each function, rows of location and value.
        """
        if self.grid is None:
            return self.values
        observed = ~np.isnan(self.values)
        row, point = np.nonzero(observed)
        flat = np.column_stack([self.grid[point], self.values[row, point]])
        return Ragged.from_flat(flat.astype(self.dtype, copy=False), observed.sum(axis=1))

    def __len__(self):
        return len(self.values)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values).astype(dtype or self.dtype, copy=False)

    def __repr__(self):
        where = "own points" if self.grid is None else f"a grid of {len(self.grid)} points"
        return f"Functions({len(self)} functions on {where}, {self.dtype})"

    def _row(self, i):
        return self.values[i]

    def _parts(self):
        return self.values, self.grid


def as_functions(X, grid=None):
    """Parse samples that are functions observed at points.

    Parameters
    ----------
    X : array-like, Ragged, Functions or FDataGrid
        A table of values on a common grid, NaN where a function is not observed; or, for
        locations of their own, a :class:`Ragged` or a list of arrays of shape
        (m_i, n_coordinates + 1): location, then value (NaN marks a value that is asked for).
    grid : array-like of shape (n_points,) or (n_points, n_coordinates), default=None
        Locations of the columns of a table; by default equidistant from 0 to 1.

    Returns
    -------
    Functions
        ``values`` and ``grid`` on a common grid, ``to_ragged()`` in every case.

    Raises
    ------
    ValueError
        If `X` has another form or `grid` another length.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.structure import as_functions
    >>> as_functions(np.zeros((5, 3))).grid.ravel()
    array([0. , 0.5, 1. ])
    """
    if isinstance(X, Functions):
        return X
    if hasattr(X, "data_matrix") and hasattr(X, "grid_points"):
        X, grid = _from_fda(X)
    table = not isinstance(X, Ragged) and is_array_like(X) and _n_dimensions(X) == 2
    if table:
        functions = Functions(as_float(to_numpy(X)), grid)
    else:
        ragged = _parse(X, FUNCTION_FORMS, "sampled functions", Ragged.from_padded)
        if ragged.n_features < 2 or np.isnan(ragged.values[:, :-1]).any():
            raise forms_error(X, "sampled functions", FUNCTION_FORMS, "a location is missing")
        functions = Functions(ragged)
    assert_all_finite(functions.features, allow_nan=True, input_name="X")
    return functions


def _n_dimensions(X):
    """Return 2 for a table; a list of matrices has 3, of one size or not."""
    shape = getattr(X, "shape", None)
    if shape is not None:
        return 3 if len(shape) == 1 else len(shape)
    return 1 + np.ndim(to_numpy(X[0])) if len(X) else 2


def _grid(grid, n_points):
    grid = np.linspace(0, 1, n_points) if grid is None else as_float(to_numpy(grid))
    grid = grid[:, None] if grid.ndim == 1 else grid
    if grid.ndim != 2 or len(grid) != n_points:
        raise ValueError(f"grid has shape {grid.shape}, but X has {n_points} columns")
    assert_all_finite(grid, input_name="grid")
    return grid


def _from_fda(X):
    matrix = np.asarray(X.data_matrix)
    if matrix.shape[-1] != 1:
        raise forms_error(X, "sampled functions", FUNCTION_FORMS, "values have several components")
    axes = np.meshgrid(*X.grid_points, indexing="ij")
    return matrix.reshape(len(matrix), -1), np.column_stack([axis.ravel() for axis in axes])
