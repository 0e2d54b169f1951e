"""Sets, bags and point clouds: samples that are lists of vectors."""

import numpy as np
from sklearn.utils import assert_all_finite

from ._base import RowContainer, as_float, forms_error, is_array_like, to_numpy

__all__ = ["Ragged", "as_sets"]

SET_FORMS = (
    "an array of shape (n_sets, n_elements, n_features) in which rows of NaN are absent elements",
    "a Ragged",
    "a list or object array of arrays of shape (m_i, n_features)",
    "a table of shape (n_sets, n_elements): sets of scalars",
)


class Ragged(RowContainer):
    """Samples of different sizes: sets, series or sampled functions.

    All elements lie in one array, sample after sample, so that selecting, padding and summing
    cost no Python loop.

    Parameters
    ----------
    items : sequence of array-like
        One array a sample, of shape (m_i, n_features), or (n_features, m_i) with ``axis=1``.
        One-dimensional items are samples of scalars.
    axis : {0, 1}, default=0
        The axis along which the sizes differ: 0 for sets, 1 for series of shape (n_channels,
        n_timepoints).

    Attributes
    ----------
    values : ndarray of shape (n_elements, n_features)
        All elements, sample after sample; read-only.
    offsets : ndarray of shape (n_samples + 1,)
        Sample ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
    axis : int
        As given.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.structure import Ragged
    >>> bags = Ragged([np.ones((2, 3)), np.zeros((0, 3)), np.ones((5, 3))])
    >>> bags
    Ragged(3 samples of 0 to 5 elements, 3 features, float64)
    >>> values, mask = bags[[0, 2]].to_padded()
    >>> values.shape, mask.sum(axis=1)
    ((2, 5, 3), array([2, 5]))
    """

    def __init__(self, items, axis=0):
        if axis not in (0, 1):
            raise ValueError(f"axis must be 0 or 1, got {axis!r}")
        arrays = [_matrix(item, axis) for item in items]
        width = _common_width(arrays)
        arrays = [a.reshape(0, width) if len(a) == 0 else a for a in arrays]
        dtype = np.result_type(*arrays) if arrays else np.float64
        values = np.concatenate(arrays) if arrays else np.empty((0, width), dtype)
        self._set(values=as_float(values), offsets=_offsets([len(a) for a in arrays]), axis=axis)

    @classmethod
    def from_flat(cls, values, sizes, axis=0):
        """Build from elements that already lie one after the other.

        Parameters
        ----------
        values : ndarray of shape (n_elements, n_features)
            The elements; not copied.
        sizes : array-like of shape (n_samples,)
            Number of elements of each sample.
        axis : {0, 1}, default=0
            See the class.

        Returns
        -------
        Ragged
            The container.

        Raises
        ------
        ValueError
            If `sizes` does not add up to the number of elements.
        """
        values, offsets = as_float(values), _offsets(sizes)
        if values.ndim != 2 or offsets[-1] != len(values) or np.any(np.diff(offsets) < 0):
            raise ValueError(
                f"sizes add up to {offsets[-1]}, values has shape {values.shape}: expected a "
                "2-D array with as many rows"
            )
        container = cls.__new__(cls)
        container._set(values=values, offsets=offsets, axis=axis)
        return container

    @classmethod
    def from_padded(cls, X, mask=None, axis=0):
        """Build from a padded array.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_elements, n_features)
            The padded elements (not copied if none is absent).
        mask : array-like of bool of shape (n_samples, n_elements), default=None
            Which elements are present; by default those that are not NaN in every feature.
        axis : {0, 1}, default=0
            See the class; `X` has the elements in its second axis in either case.

        Returns
        -------
        Ragged
            The container.
        """
        X = as_float(X)
        mask = ~np.isnan(X).all(axis=2) if mask is None else np.asarray(mask, dtype=bool)
        flat = X.reshape(-1, X.shape[2])
        values = flat if mask.all() else flat[mask.ravel()]
        return cls.from_flat(values, mask.sum(axis=1), axis)

    @property
    def sizes(self):
        """Number of elements of each sample, an array of shape (n_samples,)."""
        return np.diff(self.offsets)

    @property
    def n_features(self):
        """Number of features of an element."""
        return self.values.shape[1]

    @property
    def features(self):
        """The elements of all samples, an array of shape (n_elements, n_features)."""
        return self.values

    @property
    def segment_ids(self):
        """Number of the sample each element belongs to, an array of shape (n_elements,)."""
        return np.repeat(np.arange(len(self)), self.sizes)

    @property
    def dtype(self):
        """Data type of the elements."""
        return self.values.dtype

    @property
    def ndim(self):
        """Number of dimensions of the padded array: 3."""
        return 3

    @property
    def shape(self):
        """Shape of the padded array."""
        longest = int(self.sizes.max(initial=0))
        sample = (longest, self.n_features)
        return (len(self), *(sample if self.axis == 0 else sample[::-1]))

    def take(self, rows):
        """Select samples.

        Parameters
        ----------
        rows : array-like of int or bool, or slice
            The samples to keep.

        Returns
        -------
        Ragged
            The selected samples.
        """
        rows = self._positions(rows)
        sizes = self.sizes[rows]
        shift = np.repeat(self.offsets[rows] - _offsets(sizes)[:-1], sizes)
        elements = np.arange(len(shift)) + shift
        return type(self).from_flat(self.values[elements], sizes, self.axis)

    def map_features(self, function):
        """Apply a function to the elements and keep the sizes.

        Parameters
        ----------
        function : callable
            From an array of shape (n_elements, n_features) to one of shape (n_elements, n_new).

        Returns
        -------
        Ragged
            The container with the new elements.
        """
        return type(self).from_flat(np.asarray(function(self.values)), self.sizes, self.axis)

    def to_padded(self, fill_value=0.0):
        """Pad all samples to the size of the largest.

        Parameters
        ----------
        fill_value : float, default=0.0
            The value of absent elements.

        Returns
        -------
        values : ndarray of shape (n_samples, max_size, n_features)
            The padded elements (a new array, the elements in the second axis whatever `axis` is).
        mask : ndarray of bool of shape (n_samples, max_size)
            Which elements are present.
        """
        sizes = self.sizes
        longest = int(sizes.max(initial=0))
        mask = np.arange(longest) < sizes[:, None]
        values = np.full((len(self), longest, self.n_features), fill_value, dtype=self.dtype)
        values[mask] = self.values
        return values, mask

    def __len__(self):
        return len(self.offsets) - 1

    def __array__(self, dtype=None, copy=None):
        values, _ = self.to_padded(np.nan)
        values = values if self.axis == 0 else values.transpose(0, 2, 1)
        return values.astype(dtype or self.dtype, copy=False)

    def __repr__(self):
        sizes = self.sizes
        return (
            f"Ragged({len(self)} samples of {sizes.min(initial=sizes.max(initial=0))} to "
            f"{sizes.max(initial=0)} elements, {self.n_features} features, {self.dtype})"
        )

    def _row(self, i):
        item = self.values[self.offsets[i] : self.offsets[i + 1]]
        return item if self.axis == 0 else item.T

    def _parts(self):
        return self.values, self.offsets, self.axis


def _matrix(item, axis):
    """Return one sample as (m, d)."""
    array = as_float(to_numpy(item))
    if array.ndim == 1:
        return array[:, None]
    if array.ndim != 2:
        raise ValueError(f"every sample must have 1 or 2 dimensions, got shape {array.shape}")
    return array if axis == 0 else array.T


def _common_width(arrays):
    """Return the number of features; samples written as [] have none of their own."""
    widths = {a.shape[1] for a in arrays if len(a)} or {a.shape[1] for a in arrays} or {1}
    if len(widths) > 1:
        raise ValueError(f"samples have different numbers of features: {sorted(widths)}")
    return widths.pop()


def _offsets(sizes):
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.intp)]).astype(np.intp)


def as_sets(X):
    """Parse samples that are sets of vectors.

    Parameters
    ----------
    X : array-like or Ragged
        An array of shape (n_sets, n_elements, n_features) in which rows of NaN are absent
        elements; a :class:`Ragged`; a list or object array of arrays of shape (m_i, n_features);
        or a table of shape (n_sets, n_elements): sets of scalars. Empty sets are legal.

    Returns
    -------
    Ragged
        The sets: ``values`` and ``offsets`` for segment operations, ``to_padded()`` for an array
        and its mask.

    Raises
    ------
    ValueError
        If `X` has another form, contains infinity, or an element has some features missing.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.structure import as_sets
    >>> as_sets([np.zeros((2, 3)), np.zeros((4, 3))]).sizes
    array([2, 4])
    >>> as_sets([[0.5, np.nan], [1.0, 2.0]]).sizes
    array([1, 2])
    """
    sets = _parse(X, SET_FORMS, "sets of vectors", Ragged.from_padded)
    assert_all_finite(sets.values, allow_nan=True, input_name="X")
    absent = np.isnan(sets.values)
    if absent.any():
        empty = absent.all(axis=1)
        if (absent.any(axis=1) & ~empty).any():
            raise forms_error(
                X, "sets of vectors", SET_FORMS, "some elements are NaN in a part of the features"
            )
        counts = np.bincount(sets.segment_ids[~empty], minlength=len(sets))
        sets = Ragged.from_flat(sets.values[~empty], counts, sets.axis)
    return sets


def _parse(X, forms, expected, from_array, axis=0):
    """Turn any accepted form into a Ragged; `from_array` reads an (n, m, d) array."""
    if isinstance(X, Ragged):
        return X
    if not is_array_like(X):
        raise forms_error(X, expected, forms)
    try:
        array = _regular(X)
        if array is None:
            return Ragged(X, axis)
        array = as_float(array)
    except (ValueError, TypeError) as error:
        raise forms_error(X, expected, forms, str(error)) from error
    if array.ndim == 2:
        return from_array(array[:, :, None])
    if array.ndim == 3:
        return from_array(array if axis == 0 else array.transpose(0, 2, 1))
    raise forms_error(X, expected, forms)


def _regular(X):
    """Return `X` as one array, or None if its samples are arrays of their own."""
    if hasattr(X, "shape"):
        array = to_numpy(X)
        nested = array.dtype == object and array.ndim == 1 and len(array)
        return None if nested and is_array_like(array[0]) else array
    shapes = {np.shape(to_numpy(item)) for item in X}
    return np.asarray([to_numpy(item) for item in X]) if len(shapes) == 1 else None
