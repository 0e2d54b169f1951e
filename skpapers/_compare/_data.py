"""Read the data: files, bundled sets, frames and arrays."""

import difflib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sklearn import datasets
from sklearn.utils import check_array

from skpapers.utils import import_optional

from ._errors import CompareError

DEFAULT_DATA = "friedman"

_LOAD = {"return_X_y": True}
# name -> function of sklearn.datasets, its arguments
BUNDLED = {
    "iris": ("load_iris", _LOAD),
    "wine": ("load_wine", _LOAD),
    "breast_cancer": ("load_breast_cancer", _LOAD),
    "digits": ("load_digits", _LOAD),
    "diabetes": ("load_diabetes", _LOAD),
    "moons": ("make_moons", {"n_samples": 400, "noise": 0.3}),
    "circles": ("make_circles", {"n_samples": 400, "noise": 0.15, "factor": 0.5}),
    "blobs": ("make_blobs", {"n_samples": 400, "centers": 5, "cluster_std": 2.0}),
    "friedman": ("make_friedman1", {"n_samples": 300, "n_features": 10, "noise": 1.0}),
}


@dataclass(frozen=True)
class Data:
    """Features and target as they were read, and the code that reads them again."""

    name: str
    X: object
    y: object = None
    imports: tuple = ()
    code: tuple = ("# X, y: what was given to skpapers.compare",)
    target: str | None = None
    notes: tuple = field(default=())


def load_data(source=None, target=None):
    """Read a file or a bundled data set; `target` names the column to predict."""
    source = DEFAULT_DATA if source is None else str(source)
    if source in BUNDLED:
        return _bundled(source, target)
    path = Path(source)
    if path.is_file():
        return _from_file(path, target)
    if path.suffix or "/" in source or path.exists():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise CompareError(f"{source} {kind}; give a CSV or Parquet file")
    raise CompareError(
        f"no file and no bundled data set is called {source!r}"
        f"{nearest(source, BUNDLED)}; bundled: {', '.join(BUNDLED)}"
    )


def nearest(name, known):
    """Say which known names look like `name`."""
    lowered = {str(k).lower(): str(k) for k in known}
    found = difflib.get_close_matches(str(name).lower(), lowered, n=3, cutoff=0.5)
    found += [k for k in lowered if str(name).lower() in k and k not in found][: 3 - len(found)]
    return f" (did you mean {' or '.join(lowered[f] for f in found)}?)" if found else ""


def _bundled(name, target):
    if target not in (None, "target"):
        raise CompareError(f"the bundled data set {name} has one target; leave out --target")
    function, arguments = BUNDLED[name]
    if function.startswith("make"):
        arguments = arguments | {"random_state": 0}
    X, y = getattr(datasets, function)(**arguments)
    shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return Data(
        name=name,
        X=X,
        y=y,
        imports=(f"from sklearn.datasets import {function}",),
        code=(f"X, y = {function}({shown})",),
        target="target",
    )


def _from_file(path, target):
    reader, frame = _read(path)
    if frame.shape[0] == 0 or frame.shape[1] == 0:
        raise CompareError(f"{path} has no rows")
    code = [f"data = pd.{reader}({str(path.resolve())!r})"]
    y = None
    columns = [str(c) for c in frame.columns]
    frame.columns = columns
    if target is not None:
        if target not in columns:
            raise CompareError(
                f"{path} has no column {target!r}{nearest(target, columns)}; "
                f"columns: {', '.join(columns[:20])}{' ...' if len(columns) > 20 else ''}"
            )
        if len(columns) == 1:
            raise CompareError(f"{path} has no column but the target {target!r}")
        y = frame.pop(target)
        code.append(f"y = data.pop({target!r})")
    return Data(
        name=path.stem,
        X=frame,
        y=y,
        imports=("import pandas as pd",),
        code=(*code, "X = data"),
        target=target,
    )


def _read(path):
    pd = import_optional("pandas", "compare")
    readers = {".parquet": "read_parquet", ".pq": "read_parquet"}
    reader = readers.get(path.suffix.lower(), "read_csv")
    if reader == "read_parquet":
        import_optional("pyarrow", "compare")
    try:
        frame = getattr(pd, reader)(path)
    # what the parsers raise on bytes that are no table (pyarrow's errors are among them)
    except (ValueError, OSError, LookupError, ArithmeticError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CompareError(f"{path} cannot be read ({reader}): {reason[0]}") from error
    if frame.columns.duplicated().any():
        raise CompareError(f"{path} has two columns of one name")
    return reader, frame


def from_arrays(X, y, name="data"):
    """Take frames and arrays as they are given to :func:`skpapers.compare`."""
    X, y = _as_known(X, "X"), None if y is None else _as_known(y, "y")
    if not hasattr(X, "iloc"):
        X = _as_table(X)
    elif len(set(map(str, X.columns))) < X.shape[1]:
        raise CompareError("X has two columns of one name")
    else:
        X = X.set_axis([str(c) for c in X.columns], axis=1)
    if y is not None:
        y = _as_column(y)
        if len(y) != len(X):
            raise CompareError(f"X has {len(X)} rows and y has {len(y)}")
    if len(X) == 0:
        raise CompareError("X has no rows")
    return Data(name=name, X=X, y=y, target=None if y is None else getattr(y, "name", None) or "y")


def _as_column(y):
    y = y if hasattr(y, "iloc") else np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y.iloc[:, 0] if hasattr(y, "iloc") else y.ravel()
    if y.ndim != 1:
        raise CompareError(f"y must have one column, got shape {y.shape}")
    return y


def _as_known(values, name):
    """Turn a frame or series of another library into pandas."""
    if hasattr(values, "to_pandas"):
        return values.to_pandas()
    if hasattr(values, "toarray"):
        raise CompareError(f"{name} is sparse; give {name}.toarray()")
    return values


def _as_table(X):
    """A numeric 2-D array, or a frame when an array holds objects."""
    X = np.asarray(X)
    if X.dtype.kind in "OUS":
        pd = import_optional("pandas", "compare")
        if X.ndim != 2:
            raise CompareError(f"X must be 2-dimensional, got shape {X.shape}")
        return pd.DataFrame(X).infer_objects().set_axis(map(str, range(X.shape[1])), axis=1)
    try:
        return check_array(X, ensure_all_finite=False, copy=True)
    except ValueError as error:
        raise CompareError(str(error).splitlines()[0]) from error
