"""What every container and parser shares: row indexing, equality, error texts, validation."""

import numbers

import numpy as np
from scipy import sparse
from sklearn.utils import check_consistent_length, get_tags
from sklearn.utils.validation import validate_data

__all__ = ["RowContainer", "validate_structured"]

FLOATS = (np.float64, np.float32)


class Immutable:
    """An object whose attributes are set once and compared by value.

    Subclasses define ``_parts()``, everything that equality compares.
    """

    def __setattr__(self, name, value):
        raise AttributeError(f"{type(self).__name__} is immutable, {name!r} cannot be set")

    def _set(self, **attributes):
        """Store attributes once, arrays as read-only views."""
        self.__dict__.update({name: _frozen(value) for name, value in attributes.items()})

    def __setstate__(self, state):
        self._set(**state)

    def __eq__(self, other):
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = self._parts(), other._parts()
        return len(mine) == len(theirs) and all(map(_same, mine, theirs))

    __hash__ = None


class RowContainer(Immutable):
    """Rows that are not vectors, selected the way scikit-learn selects rows of an array.

    Containers are immutable: selecting rows or replacing features gives a new one. Subclasses
    define ``take(rows)``, ``__len__`` and ``_row(i)``.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.structure import Ragged, RowContainer
    >>> bags = Ragged([np.ones((2, 3)), np.ones((5, 3))])
    >>> isinstance(bags, RowContainer), len(bags[[1]])
    (True, 1)
    """

    def __getitem__(self, key):
        rows, *rest = key if isinstance(key, tuple) else (key,)
        if any(part is not Ellipsis and part != slice(None) for part in rest):
            raise IndexError(f"{type(self).__name__} is indexed by rows only, got {key!r}")
        if isinstance(rows, numbers.Integral):
            return self._row(range(len(self))[rows])
        return self.take(rows)

    def __iter__(self):
        return (self._row(i) for i in range(len(self)))

    def _positions(self, rows):
        """Turn any row selection (mask, slice, list, negative numbers) into positions."""
        rows = rows if isinstance(rows, slice) or rows is Ellipsis else np.asarray(rows)
        if isinstance(rows, np.ndarray) and rows.size == 0:
            rows = rows.astype(np.intp)
        return np.arange(len(self))[rows]


def _frozen(value):
    if not isinstance(value, np.ndarray):
        return value
    view = value.view()
    view.flags.writeable = False
    return view


def _same(a, b):
    if sparse.issparse(a) and sparse.issparse(b):
        return a.shape == b.shape and (a != b).nnz == 0
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b, equal_nan=a.dtype.kind == b.dtype.kind == "f")
    return type(a) is type(b) and bool(a == b)


def describe(X):
    """Say in words what was given: type, shape or length, dtype."""
    name = f"{type(X).__module__}.{type(X).__name__}".removeprefix("builtins.")
    if hasattr(X, "shape"):
        dtype = f" and dtype {X.dtype}" if hasattr(X, "dtype") else ""
        return f"a {name} of shape {tuple(X.shape)}{dtype}"
    if isinstance(X, (list, tuple)) and len(X):
        return f"a {name} of {len(X)} items, the first {describe(X[0])}"
    return f"a {name}"


def forms_error(X, expected, forms, problem=""):
    """Build the error of all parsers: what was given, what is wrong, what is accepted."""
    message = f"Expected {expected}, got {describe(X)}"
    message += f": {problem}. " if problem else ". "
    message += "Accepted forms: " + "; ".join(forms) + "."
    known = hasattr(X, "shape") or isinstance(X, (list, tuple))
    return ValueError(message) if known else TypeError(message)


def as_float(array):
    """Return `array` as float32 (if it is that) or float64, without a copy where possible."""
    array = np.asarray(array)
    if array.dtype.kind == "c":
        raise ValueError("Complex data not supported")
    return array if array.dtype in FLOATS else array.astype(np.float64)


def to_numpy(array):
    """Turn a tensor, a frame or an array into a NumPy array."""
    array = array.detach().cpu() if hasattr(array, "detach") else array
    return np.asarray(array)


def is_array_like(item):
    return hasattr(item, "shape") or isinstance(item, (list, tuple))


def is_table(X):
    """Tell an ordinary table (scikit-learn's business) from an input with structure."""
    if isinstance(X, RowContainer):
        return False
    if sparse.issparse(X):
        return True
    if hasattr(X, "iloc"):
        return not is_panel_frame(X)
    if hasattr(X, "shape"):
        items = X if len(X.shape) == 1 and X.dtype == object else ()
        return len(X.shape) <= 2 and not (len(items) and is_array_like(items[0]))
    if isinstance(X, (list, tuple)):
        return _is_list_table(X)
    return True


def _is_list_table(X):
    """Rows of scalars, all of one length (or not even rows: scikit-learn's error says so)."""
    if not X or not is_array_like(X[0]):
        return not X or isinstance(X[0], (numbers.Number, str, bytes, type(None)))
    if isinstance(X[0], RowContainer) or len(getattr(X[0], "shape", (0,))) != 1:
        return False
    if not hasattr(X[0], "shape") and any(is_array_like(item) for item in X[0]):
        return False
    return len({len(item) if is_array_like(item) else -1 for item in X}) == 1


def is_panel_frame(X):
    """Recognise sktime's frames: series in the cells, or a (series, time) index."""
    if getattr(X.index, "nlevels", 1) == 2:
        return True
    return (
        len(X) > 0
        and X.ndim == 2
        and hasattr(X.iloc[0, 0], "__array__")
        and (np.ndim(X.iloc[0, 0]) == 1)
    )


def validate_structured(
    estimator,
    X,
    y="no_validation",
    *,
    parser,
    reset=True,
    multi_output=False,
    y_numeric=False,
    **params,
):
    """Validate the input of an estimator that accepts tables and one kind of structure.

    A table goes through :func:`sklearn.utils.validation.validate_data` once, so that messages,
    ``n_features_in_`` and ``feature_names_in_`` are scikit-learn's; NaN is accepted in it if the
    estimator's tag ``input_tags.allow_nan`` is on. Anything else goes straight to the parser, and
    ``n_features_in_`` is the width of an element.

    Parameters
    ----------
    estimator : estimator instance
        The estimator being fitted or asked for a prediction.
    X : array-like or container
        The input.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), None or "no_validation", \
            default="no_validation"
        The targets. With ``"no_validation"``, or None, only the parsed input is returned.
    parser : callable
        One of the parsers of this package, such as :func:`as_sets`.
    reset : bool, default=True
        Whether to learn (``fit``) or to check (``predict``) the number of features.
    multi_output : bool, default=False
        Whether `y` may have two dimensions.
    y_numeric : bool, default=False
        Whether `y` must be numeric.
    **params : dict
        Further parameters of `parser`.

    Returns
    -------
    parsed : object
        What `parser` returns.
    y : ndarray
        The validated targets; only if `y` was given.

    Raises
    ------
    ValueError
        If the input is of no accepted form, or differs in width from the one seen in ``fit``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator
    >>> from skpapers.structure import as_sets, validate_structured
    >>> estimator = BaseEstimator()
    >>> sets = validate_structured(estimator, np.ones((4, 5, 2)), parser=as_sets)
    >>> sets.sizes, estimator.n_features_in_
    (array([5, 5, 5, 5]), 2)
    """
    y_params = {"multi_output": multi_output, "y_numeric": y_numeric}
    no_y = y is None or (isinstance(y, str) and y == "no_validation")
    if is_table(X):
        return _validate_table(estimator, X, y, no_y, parser, reset, y_params, params)
    parsed = parser(X, **params)
    if len(parsed) == 0:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
    width = getattr(parsed, "n_features", None) or parsed.shape[1]
    shape_only = np.broadcast_to(np.float32(0), (len(parsed), width))
    validate_data(estimator, shape_only, y=y, reset=reset, skip_check_array=True)
    if no_y:
        return parsed
    y = validate_data(estimator, X="no_validation", y=y, reset=reset, **y_params)
    check_consistent_length(parsed, y)
    return parsed, y


def _validate_table(estimator, X, y, no_y, parser, reset, y_params, params):
    finite = "allow-nan" if get_tags(estimator).input_tags.allow_nan else True
    out = validate_data(
        estimator,
        X,
        y,
        reset=reset,
        dtype=FLOATS,
        ensure_all_finite=finite,
        **({} if no_y else y_params),
    )
    return parser(out, **params) if no_y else (parser(out[0], **params), out[1])
