"""Known attributes of rows as columns of numbers: classes in +-1, real values standardised."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils._array_api import get_namespace, move_to
from sklearn.utils.multiclass import type_of_target

from skpapers.utils import encode_partial_labels, one_hot
from skpapers.utils._labels import missing_mask

__all__ = ["Attribute", "AttributeCodes"]

_KINDS = ("class", "continuous")


@dataclass(frozen=True)
class Attribute:
    """One attribute and its code.

    Attributes
    ----------
    name : str
        Name: that of the column of a frame, or its position.
    classes : ndarray or None
        Labels of an attribute of kind "class".
    center, scale : float
        Mean and standard deviation of a continuous one.
    """

    name: str
    classes: Any = None
    center: float = 0.0
    scale: float = 1.0

    @property
    def kind(self):
        return "continuous" if self.classes is None else "class"

    @property
    def width(self):
        """Number of columns of the code: one, but a column a class where there are several."""
        return 1 if self.classes is None or len(self.classes) <= 2 else len(self.classes)

    def encode(self, values):
        """Code of shape (n_rows, width), and which rows are known."""
        if self.classes is None:
            values = np.asarray(values, dtype=np.float64)
            known = ~np.isnan(values)
            return np.where(known, (values - self.center) / self.scale, 0)[:, None], known
        known = ~missing_mask(values)
        if values.dtype.kind in "iu" and -1 not in self.classes:
            known &= values != -1
        unknown = set(values[known].tolist()) - set(self.classes.tolist())
        if unknown:
            raise ValueError(f"attribute {self.name!r} has unknown classes {sorted(unknown)}")
        index = np.zeros(len(values), dtype=np.int64)
        index[known] = np.searchsorted(self.classes, values[known].astype(self.classes.dtype))
        signs = 2.0 * one_hot(index, max(2, len(self.classes))) - 1
        return np.where(known[:, None], signs[:, -self.width :], 0), known

    def decode(self, code):
        """Values that codes stand for: the nearest class, or the number."""
        if self.classes is None:
            return code[:, 0] * self.scale + self.center
        if self.width > 1:
            return self.classes[code.argmax(axis=1)]
        return self.classes[np.minimum(code[:, 0] > 0, len(self.classes) - 1).astype(int)]


@dataclass(frozen=True)
class AttributeCodes:
    """The attributes of a target of one or several columns."""

    attributes: tuple
    one_column: bool = True

    @classmethod
    def learn(cls, y, kinds="auto"):
        """Read classes, means and deviations from the target."""
        columns, names, one_column = target_columns(y)
        kinds = [kinds] * len(columns) if isinstance(kinds, str) else list(kinds)
        if len(kinds) != len(columns) or not set(kinds) <= {"auto", *_KINDS}:
            raise ValueError(
                f"attribute_types must be 'auto' or one of {_KINDS} for each of the "
                f"{len(columns)} attributes, got {kinds!r}"
            )
        learnt = (_learn(*item) for item in zip(columns, names, kinds))
        return cls(tuple(learnt), one_column)

    @property
    def width(self):
        return sum(attribute.width for attribute in self.attributes)

    def slices(self):
        """Columns of the code of each attribute."""
        ends = np.cumsum([attribute.width for attribute in self.attributes])
        return [slice(end - a.width, end) for end, a in zip(ends, self.attributes)]

    def encode(self, y):
        """Codes, 0 where unknown, and which of them are known, both (n_rows, width)."""
        columns = target_columns(y)[0]
        if len(columns) != len(self.attributes):
            raise ValueError(f"y has {len(columns)} columns, fitted with {len(self.attributes)}")
        pairs = [a.encode(values) for a, values in zip(self.attributes, columns)]
        known = [np.repeat(known[:, None], code.shape[1], axis=1) for code, known in pairs]
        return np.hstack([code for code, _ in pairs]), np.hstack(known)

    def decode(self, codes):
        """Values of the attributes: (n_rows,) for a target of one column."""
        values = [a.decode(codes[:, cut]) for a, cut in zip(self.attributes, self.slices())]
        if self.one_column:
            return values[0]
        kinds = {value.dtype.kind for value in values}
        dtype = object if len(kinds) > 1 else None
        return np.stack([value.astype(dtype or value.dtype) for value in values], axis=1)

    def targets(self, wanted, n_rows):
        """Codes of wanted values, and the columns that they are for."""
        codes, columns = [], []
        names = [attribute.name for attribute in self.attributes]
        for key, value in wanted.items():
            position = key if isinstance(key, Integral) else _position(key, names)
            if not 0 <= position < len(names):
                raise ValueError(f"there is no attribute {key!r}; there are {names}")
            values = np.broadcast_to(np.asarray(value), (n_rows,))
            code, known = self.attributes[position].encode(values)
            if not known.all():
                raise ValueError(f"attribute {key!r} cannot be set to an unknown value")
            codes.append(code)
            columns.extend(range(self.width)[self.slices()[position]])
        return np.hstack(codes) if codes else np.zeros((n_rows, 0)), columns


def target_columns(y):
    """Columns of a target, their names, and whether it has one dimension."""
    names = [str(name) for name in getattr(y, "columns", ())]
    if names and hasattr(y, "get_column"):  # polars
        columns = [y.get_column(name).to_numpy() for name in y.columns]
    elif names:
        columns = [y[name].to_numpy() for name in y.columns]
    else:
        y = move_to(y, xp=np, device="cpu") if get_namespace(y)[1] else np.asarray(y)
        if y.ndim not in (1, 2) or 0 in y.shape:
            raise ValueError(f"y must have one or two dimensions and entries, got shape {y.shape}")
        columns = [y] if y.ndim == 1 else list(y.T)
        names = [str(j) for j in range(len(columns))]
        return [_numbers(column) for column in columns], names, y.ndim == 1
    return [_numbers(column) for column in columns], names, False


def _numbers(values):
    """Numbers held as objects become floats; labels stay."""
    if values.dtype == object:
        known = values[~missing_mask(values)]
        if all(isinstance(v, (int, float, np.number)) and v is not True for v in known.tolist()):
            values = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise ValueError("y contains infinity: attributes are classes, finite numbers or NaN")
    if values.dtype.kind == "c":
        raise ValueError("Complex data not supported: y has attributes that are complex")
    return values


def _learn(values, name, kind):
    if kind == "auto":
        kind = _kind(values)
    if kind == "class":
        classes = encode_partial_labels(values)[1]
        return Attribute(name, classes)
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if known.size == 0:
        raise ValueError(f"attribute {name!r} is unknown for every row")
    center, scale = float(known.mean()), float(known.std())
    tiny = scale <= 1e-12 * abs(center)
    return Attribute(name, None, center, 1.0 if tiny or scale == 0 else scale)


def _kind(values):
    known = values[~missing_mask(values)]
    continuous = known.dtype.kind == "f" and type_of_target(known).startswith("continuous")
    return "continuous" if continuous else "class"


def _position(name, names):
    return names.index(name) if name in names else -1
