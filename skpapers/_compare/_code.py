"""The Python that reproduces a row."""

import ast
import inspect
import re

from ._evaluate import SILHOUETTE_ROWS
from ._methods import public_module
from ._models import build

_WIDTH = 88


def row_code(problem, method, row):
    """Write a script that ends with the score of each fold in ``scores``."""
    imports = {"import numpy as np", *problem.data.imports}
    learns = row["uses_unlabeled"] == "True"
    settings = ast.literal_eval(row["settings"]) if row["settings"] else [{}]
    models = [expression(build(method, problem, s, learns), imports) for s in settings]
    lines = [*problem.data.code, *problem.target_code, ""]
    if len(models) == 1:
        lines += [f"model = {models[0]}"]
    else:
        lines += ["models = [  # settings chosen inside each fold", *_indent(_comma(models)), "]"]
    lines += [f"folds = {expression(problem.splitter, imports)}"]
    simple = problem.task != "clustering" and problem.labels is None and len(models) == 1
    lines += _simple(problem, imports) if simple else _loop(problem, len(models) > 1, imports)
    lines += ['print(f"{np.mean(scores):.4f} ± {np.std(scores):.4f}")']
    text = "\n".join(lines)
    if "pd." in text:
        imports.add("import pandas as pd")
    return "\n".join([*_sorted_imports(imports), "", text]) + "\n"


def _simple(problem, imports):
    imports.add("from sklearn.model_selection import cross_val_score")
    metric = "accuracy" if problem.task == "classification" else "r2"
    return [f'scores = cross_val_score(model, X, y, cv=folds, scoring="{metric}")']


def _loop(problem, tuned, imports):
    """Folds one by one: for hidden labels, tuned settings and clusterings."""
    body = ["model = models[fold]"] if tuned else []
    body += (_cluster if problem.task == "clustering" else _supervise)(problem, imports)
    if problem.labels is not None:
        imports.add("from skpapers._compare import split_labeled")
        splits = "split_labeled(folds, y)"
    else:
        splits = "folds.split(X)" if problem.task == "clustering" else "folds.split(X, y)"
    header = f"for fold, (train, test) in enumerate({splits}):"
    return ["scores = []", header, *_indent(body)]


def _cluster(problem, imports):
    X_train = _rows(problem, "train")
    lines = [f"labels = model.fit_predict({X_train})"]
    if problem.y is not None:
        imports.add("from sklearn.metrics import adjusted_rand_score")
        return [*lines, "scores.append(adjusted_rand_score(y[train], labels))"]
    imports.add("from sklearn.metrics import silhouette_score")
    large = max(len(train) for train, _ in problem.splits) > SILHOUETTE_ROWS
    sample = f", sample_size={SILHOUETTE_ROWS}, random_state={problem.seed}" if large else ""
    lines += [f"Z = model[:-1].transform({X_train})"]
    return [*lines, f"scores.append(silhouette_score(Z, labels{sample}))"]


def _supervise(problem, imports):
    metric = "accuracy_score" if problem.task == "classification" else "r2_score"
    imports.add(f"from sklearn.metrics import {metric}")
    lines, target, predicted = [], "y[train]", f"model.predict({_rows(problem, 'test')})"
    if problem.labels is not None:
        imports.add("from skpapers._compare import hide_labels")
        seed = f"{problem.seed} + fold"
        lines += [f"target = hide_labels(y[train], {problem.labels!r}, random_state={seed})"]
        target = "target"
        if problem.task == "regression":
            lines += ["center, scale = np.nanmean(target), np.nanstd(target)"]
            target, predicted = "(target - center) / scale", f"center + scale * {predicted}"
    lines += [f"model.fit({_rows(problem, 'train')}, {target})"]
    return [*lines, f"scores.append({metric}(y[test], {predicted}))"]


def _rows(problem, rows):
    return f"X.iloc[{rows}]" if problem.is_frame else f"X[{rows}]"


def expression(value, imports):
    """Write `value` as Python, and add what has to be imported for it to `imports`."""
    if isinstance(value, (list, tuple)):
        inner = [expression(v, imports) for v in value]
        closing = ",)" if isinstance(value, tuple) and len(value) == 1 else ")"
        ends = ("[", "]") if isinstance(value, list) else ("(", closing)
        return _join(ends[0], inner, ends[1])
    if not hasattr(value, "get_params"):
        return (
            _splitter(value, imports)
            if hasattr(value, "split") and not isinstance(value, str)
            else repr(value)
        )
    cls = type(value)
    if cls.__name__ == "Pipeline":
        imports.add("from sklearn.pipeline import make_pipeline")
        steps = [expression(step, imports) for _, step in value.steps]
        return _join("make_pipeline(", steps, ")")
    imports.add(f"from {_module(cls)} import {cls.__name__}")
    return _join(f"{cls.__name__}(", _arguments(value, imports), ")")


def _arguments(estimator, imports):
    """The arguments that differ from their defaults; a lone estimator goes without a keyword."""
    defaults = {n: p.default for n, p in _signature(type(estimator)).items()}
    changed = {
        name: value
        for name, value in estimator.get_params(deep=False).items()
        if repr(value) != repr(defaults.get(name))
    }
    first = next(iter(defaults), None)
    return [
        expression(value, imports) if name == first and hasattr(value, "fit")
        else f"{name}={expression(value, imports)}"
        for name, value in sorted(changed.items(), key=lambda item: item[0] != first)
    ]  # fmt: skip


def _splitter(value, imports):
    imports.add(f"from sklearn.model_selection import {type(value).__name__}")
    return repr(value)


def _signature(cls):
    return inspect.signature(cls).parameters


def _module(cls):
    """Where a class is imported from; what is not published is named by its full path."""
    module = public_module(cls)
    if module == "skpapers" and cls.__module__.startswith("skpapers._compare"):
        return "skpapers._compare"
    return module


def _join(start, parts, end):
    flat = f"{start}{', '.join(parts)}{end}"
    if len(flat) <= _WIDTH and "\n" not in flat:
        return flat
    return "\n".join([start, *_indent(_comma(parts)), end.lstrip(",")])


def _comma(parts):
    return [f"{part}," for part in parts]


def _indent(parts):
    return [f"    {line}" for part in parts for line in part.split("\n")]


def _sorted_imports(imports):
    """One line a module, plain imports first."""
    names = {}
    for line in imports:
        match = re.fullmatch(r"from (\S+) import (\S+)", line)
        if match:
            names.setdefault(match[1], set()).add(match[2])
    plain = sorted(line for line in imports if line.startswith("import"))
    return plain + [f"from {m} import {', '.join(sorted(n))}" for m, n in sorted(names.items())]
