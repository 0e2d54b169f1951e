"""What is to be learned: the task, the target in its encoded form, the folds."""

import hashlib
import json
import warnings
from dataclasses import dataclass, field

import numpy as np
import sklearn

from skpapers._version import __version__
from skpapers.utils import import_optional

from ._errors import CompareError
from ._split import hide_labels, is_labeled, make_splitter, split_labeled

TASKS = ("classification", "regression", "clustering")

# task -> main score, second score; the leaderboard is sorted by the main one
SCORES = {
    "classification": ("accuracy", "balanced accuracy"),
    "regression": ("R²", "mean absolute error"),
    "clustering": ("silhouette", "Calinski-Harabasz index"),
    "clustering with classes": ("adjusted Rand index", "adjusted mutual information"),
}


@dataclass(frozen=True)
class Problem:
    """Everything a fit needs to know but the method."""

    data: object
    task: str
    X: object
    y: object
    classes: tuple = ()
    n_splits: int = 5
    seed: int = 0
    labels: float | None = None
    budget: float = 30.0
    tune: int = 0
    device: str = "auto"
    target_code: tuple = ()
    notes: tuple = ()
    splits: tuple = field(default=(), repr=False)
    splitter: object = None
    fingerprint: str = ""

    @property
    def n_rows(self):
        return len(self.X)

    @property
    def is_frame(self):
        return hasattr(self.X, "iloc")

    @property
    def score_names(self):
        external = self.task == "clustering" and self.y is not None
        return SCORES["clustering with classes" if external else self.task]

    def training_target(self, fold):
        """Target of a fold's training rows, with its labels hidden if that is asked for."""
        if self.y is None:
            return None
        y = self.y[self.splits[fold][0]]
        return y if self.labels is None else hide_labels(y, self.labels, self.seed + fold)


def make_problem(data, *, task="auto", folds=5, labels=None, random_state=0, **settings):
    """Detect the task, encode the target, make the folds and the fingerprint of the run."""
    if task != "auto" and task not in TASKS:
        raise CompareError(f"task must be auto, {', '.join(TASKS)}; got {task!r}")
    _check_settings(folds, labels, random_state, **settings)
    if data.X.shape[1] == 0:
        raise CompareError("the data has no column to learn from")
    task = _detect(data.y) if task == "auto" else task
    if data.y is None and task != "clustering":
        raise CompareError(f"{task} needs a target: name its column with --target")
    if task == "clustering" and labels is not None:
        raise CompareError("labels can be hidden in classification and regression only")
    X, y, classes, code, notes = _encode(data, task, labels)
    X, code, notes = _without_infinity(X, code, notes)
    n_labeled = len(X) if y is None else int(is_labeled(y).sum())
    if n_labeled < 2 * folds:
        raise CompareError(
            f"{folds} folds need at least {2 * folds} rows with a target, got {n_labeled}"
        )
    splitter = make_splitter(y, task, folds, random_state)
    anything = np.zeros(len(X), dtype=int) if y is None or task == "clustering" else y
    parts = dict(
        data=data, task=task, X=X, y=y, classes=classes, n_splits=folds, seed=random_state,
        labels=labels, target_code=code, notes=(*data.notes, *notes), splitter=splitter,
        splits=tuple(split_labeled(splitter, anything)), **settings,
    )  # fmt: skip
    return Problem(fingerprint=_fingerprint(parts), **parts)


def _check_settings(folds, labels, seed, budget=30.0, tune=0, device="auto"):
    rules = [
        ("folds", folds, isinstance(folds, (int, np.integer)) and folds >= 2, "an integer >= 2"),
        ("labels", labels, labels is None or _is_number(labels) and 0 < labels <= 1, "in (0, 1]"),
        ("budget", budget, _is_number(budget) and budget > 0, "a number of seconds > 0"),
        ("tune", tune, isinstance(tune, (int, np.integer)) and tune >= 0, "an integer >= 0"),
        ("seed", seed, _is_number(seed) and seed == int(seed) and 0 <= seed < 2**31,
         "an integer in [0, 2**31)"),
    ]  # fmt: skip
    for name, value, good, allowed in rules:
        if not good:
            raise CompareError(f"{name} must be {allowed}, got {value!r}")
    if device not in ("auto", "cpu"):
        _check_device(device)


def _is_number(value):
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _check_device(device):
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise CompareError(
            f"device {device!r} cannot be used here: {str(error).splitlines()[0]}"
        ) from error


def _detect(y):
    """Guess the task from the target; --task overrules it."""
    if y is None:
        return "clustering"
    kind = _kind(y)
    if kind != "number":
        return "classification"
    values = np.asarray(y[~_missing(y)], dtype=float)
    n_unique = len(np.unique(values))
    few = n_unique <= 30 and n_unique * 5 <= len(values)
    return "classification" if few and np.all(values == np.round(values)) else "regression"


def _kind(y):
    """One of "number", "label", "date"; booleans are labels."""
    dtype = getattr(y, "dtype", None)
    if str(dtype).startswith("datetime") or str(dtype).startswith("timedelta"):
        return "date"
    if str(dtype) in ("bool", "boolean"):
        return "label"
    if getattr(dtype, "kind", "O") in "iuf":
        return "number"
    return "label"


def _missing(y):
    pd = import_optional("pandas", "compare")
    return np.asarray(pd.isna(y))


def _encode(data, task, labels):
    """Turn classes into 0, 1, ...; leave out rows without a target, or keep them unlabelled."""
    X, y, notes, code = data.X, data.y, [], []
    if y is None:
        return X, None, (), (), ()
    missing = _missing(y)
    if missing.all():
        raise CompareError(f"the target {data.target!r} is empty")
    if missing.any() and labels is None:
        notes.append(
            f"rows without a target were left out: {missing.sum()} "
            "(labels=1 keeps them as unlabelled rows)"
        )
        X, y = (X[~missing], y[~missing])
        code.append("X, y = X[~pd.isna(y)], y[~pd.isna(y)]")
    if task == "regression":
        return X, *_numbers(data, y), (*code, *_number_code(y)), tuple(notes)
    pd = import_optional("pandas", "compare")
    codes, classes = pd.factorize(y, sort=True)
    _check_classes(codes, classes, data)
    return X, codes.astype(int), tuple(map(str, classes)), (*code, *_class_code(y)), tuple(notes)


def _without_infinity(X, code, notes):
    """Infinite cells are missing ones: no method of any library takes them."""
    numbers = X.select_dtypes("number") if hasattr(X, "iloc") else X
    infinite = np.isinf(np.asarray(numbers, dtype=float)).sum()
    if not infinite:
        return X, code, notes
    notes = (*notes, f"infinite cells were taken as missing: {infinite}")
    if hasattr(X, "iloc"):
        line = "X = X.replace([np.inf, -np.inf], np.nan)"
        return X.replace([np.inf, -np.inf], np.nan), (*code, line), notes
    return np.where(np.isinf(X), np.nan, X), (*code, "X = np.where(np.isinf(X), np.nan, X)"), notes


def _class_code(y):
    consecutive = y.dtype.kind in "iu" and np.array_equal(np.unique(y), np.arange(np.max(y) + 1))
    if consecutive and not hasattr(y, "iloc"):
        return ()
    return ("y = pd.factorize(y, sort=True)[0]  # classes become 0, 1, ...",)


def _number_code(y):
    return ("y = np.asarray(y, dtype=float)",) if hasattr(y, "iloc") or y.dtype != float else ()


def _numbers(data, y):
    kind = _kind(y)
    if kind == "date":
        raise CompareError(f"the target {data.target!r} holds dates; turn it into numbers first")
    try:
        values = np.asarray(y, dtype=float)
    except (TypeError, ValueError) as error:
        raise CompareError(
            f"the target {data.target!r} holds text, which is no number: --task classification"
        ) from error
    if np.isinf(values).any():
        raise CompareError(f"the target {data.target!r} holds infinite values")
    if np.nanmax(values) == np.nanmin(values):
        raise CompareError(f"the target {data.target!r} is constant")
    return values, ()


def _check_classes(codes, classes, data):
    n = int((codes >= 0).sum())
    if _kind(data.y) == "date":
        raise CompareError(f"the target {data.target!r} holds dates, which are no classes")
    if len(classes) < 2:
        raise CompareError(f"the target {data.target!r} has one class only: {classes[0]}")
    if 2 * len(classes) > n:
        raise CompareError(
            f"the target {data.target!r} has {len(classes)} different values in {n} rows: "
            "it names rows instead of classes"
        )


def _fingerprint(parts):
    """Hash of the data and of every setting that changes a score."""
    keys = ("task", "n_splits", "seed", "labels", "tune", "device", "classes")
    settings = {key: str(parts[key]) for key in keys if key in parts}
    settings["versions"] = f"{__version__} {sklearn.__version__}"
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(_digest(parts["X"]))
    digest.update(b"" if parts["y"] is None else np.ascontiguousarray(parts["y"]).tobytes())
    return digest.hexdigest()[:12]


def _digest(X):
    if not hasattr(X, "iloc"):
        return f"{X.dtype}{X.shape}".encode() + np.ascontiguousarray(X).tobytes()
    pd = import_optional("pandas", "compare")
    header = json.dumps([list(X.columns), [str(t) for t in X.dtypes]]).encode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return header + pd.util.hash_pandas_object(X, index=False).to_numpy().tobytes()
        except TypeError:  # cells that cannot be hashed, such as lists
            return header + X.astype(str).to_csv(index=False).encode()
