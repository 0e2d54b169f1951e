"""Which methods suit a problem: the library's estimators by their tags, and scikit-learn's."""

import fnmatch
import inspect
import re
from dataclasses import dataclass

from scipy.stats import loguniform
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import HDBSCAN, AgglomerativeClustering, KMeans
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from sklearn.svm import SVC, SVR
from sklearn.utils import get_tags

from skpapers.utils import papers
from skpapers.utils.discovery import all_estimators

from ._data import nearest
from ._errors import CompareError

ROLES = {"classification": "classifier", "regression": "regressor", "clustering": "clusterer"}

_FOREST = {"max_depth": [None, 4, 8], "max_features": ["sqrt", 0.5, 1.0]}
_BOOSTING = {"learning_rate": loguniform(0.01, 0.5), "max_leaf_nodes": [7, 15, 31]}
_NEIGHBORS = {"n_neighbors": [1, 3, 5, 9, 15, 25], "weights": ["uniform", "distance"]}
_NETWORK = {"alpha": loguniform(1e-6, 1e-1), "learning_rate_init": loguniform(1e-4, 1e-2)}
_KERNEL = {"C": loguniform(1e-2, 1e3), "gamma": loguniform(1e-4, 1e1)}
_CLUSTERS = {"n_clusters": list(range(2, 11))}

# task -> baselines with what --tune may try, in the form of the library's `_search_space`
BASELINES = {
    "classification": [
        (DummyClassifier(), {}),
        (LogisticRegression(max_iter=1000), {"C": loguniform(1e-3, 1e3)}),
        (HistGradientBoostingClassifier(), _BOOSTING),
        (RandomForestClassifier(), _FOREST),
        (SVC(), _KERNEL),
        (KNeighborsClassifier(), _NEIGHBORS),
        (MLPClassifier(max_iter=500), _NETWORK),
    ],
    "regression": [
        (DummyRegressor(), {}),
        (Ridge(), {"alpha": loguniform(1e-3, 1e3)}),
        (HistGradientBoostingRegressor(), _BOOSTING),
        (RandomForestRegressor(), _FOREST),
        (SVR(), _KERNEL),
        (KNeighborsRegressor(), _NEIGHBORS),
        (MLPRegressor(max_iter=500), _NETWORK),
    ],
    "clustering": [
        (KMeans(n_init=10), _CLUSTERS),
        (AgglomerativeClustering(n_clusters=8), _CLUSTERS),
        (HDBSCAN(copy=True), {"min_cluster_size": [3, 5, 10, 20]}),
        (GaussianMixture(n_components=8), {"n_components": list(range(2, 11))}),
    ],
    "semi-supervised": [
        (LabelSpreading(kernel="knn", max_iter=200), {"n_neighbors": [3, 5, 7, 11]}),
        (
            SelfTrainingClassifier(LogisticRegression(max_iter=1000)),
            {"threshold": [0.6, 0.75, 0.9]},
        ),
    ],
}


@dataclass(frozen=True)
class Method:
    """One row of the leaderboard to be."""

    name: str
    estimator: object
    role: str
    origin: str
    paper: object = None
    space: object = None


def find_methods(problem, include=None, exclude=None):
    """List the methods that suit `problem`, the baselines first.

    Names of `include` (wildcards, and the words "papers" and "baselines", allowed) restrict the
    list, and bring in what is left out by default; estimators in it compete as they are.
    """
    own = [value for value in include or () if not isinstance(value, str)]
    names = [value for value in include or () if isinstance(value, str)]
    known = _baselines(problem) + _library(problem)
    every = {method.name: method for method in known}
    chosen = known if not include else _pick(names, every, problem)
    chosen = [m for m in chosen if m.role is not None and (names or _is_default(m, problem))]
    dropped = {m.name for m in _pick(exclude or (), every, problem, strict=False)}
    chosen = [m for m in chosen if m.name not in dropped] + [_own(e, problem) for e in own]
    if not chosen:
        raise CompareError("no method is left after --include and --exclude")
    return _unique([_prepare(method, problem) for method in chosen])


def _baselines(problem):
    pairs = list(BASELINES[problem.task])
    if problem.task == "classification" and problem.labels is not None:
        pairs += BASELINES["semi-supervised"]
    role = ROLES[problem.task]
    return [Method(type(e).__name__, e, role, "scikit-learn", None, space) for e, space in pairs]


def _library(problem):
    by_symbol = {symbol: paper for paper in papers() for symbol in paper.symbols}
    methods = []
    for name, cls in all_estimators():
        if public_module(cls) == "skpapers.structure":
            continue  # containers and their helpers are no methods
        estimator = _construct(cls, problem)
        if estimator is not None:
            paper = by_symbol.get(f"{public_module(cls)}.{name}")
            space = getattr(cls, "_search_space", None)
            methods.append(
                Method(name, estimator, _role(estimator, problem), "skpapers", paper, space)
            )
    return methods


def _construct(cls, problem):
    """The class with its defaults; a meta-estimator that asks for one gets a linear model."""
    needed = [
        name
        for name, p in inspect.signature(cls).parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    if not needed:
        return cls()
    if needed != ["estimator"]:
        return None
    return cls(Ridge() if problem.task == "regression" else LogisticRegression(max_iter=1000))


def _role(estimator, problem):
    """How the estimator can take part, by its tags; None if it cannot."""
    tags = get_tags(estimator)
    if tags.estimator_type == ROLES[problem.task]:
        return tags.estimator_type
    if problem.task == "clustering":
        return "clusterer" if hasattr(estimator, "fit_predict") and _is_mixture(tags) else None
    others = ("classifier", "regressor", "clusterer", "outlier_detector")
    if tags.transformer_tags is None or tags.estimator_type in others:
        return None
    if tags.target_tags.required and problem.task == "classification":
        takes_indicators = tags.target_tags.multi_output or tags.target_tags.two_d_labels
        return "transformer" if takes_indicators else None
    return "transformer"


def _is_mixture(tags):
    return tags.estimator_type == "density_estimator"


def _is_default(method, problem):
    """Leave out what says of itself that it predicts poorly on tables, or is made for series,
    sets or images, as which the rows of a table make no sense.
    """
    if method.origin == "scikit-learn":
        return True
    tags = get_tags(method.estimator)
    if tags.input_tags.three_d_array:
        return False
    poor = [t.poor_score for t in (tags.classifier_tags, tags.regressor_tags) if t is not None]
    n_classes = len(problem.classes)
    binary_only = tags.classifier_tags is not None and not tags.classifier_tags.multi_class
    return not any(poor) and not (binary_only and n_classes > 2)


def _pick(patterns, every, problem, strict=True):
    found = []
    for pattern in patterns:
        names = _matching(str(pattern), every, problem)
        if not names:
            raise CompareError(f"unknown method {pattern!r}{nearest(pattern, _all_names(every))}")
        unsuitable = [n for n in names if n not in every or every[n].role is None]
        if strict and len(unsuitable) == len(names):
            raise CompareError(f"{unsuitable[0]} does not suit {problem.task}")
        found += [every[n] for n in names if n in every and every[n] not in found]
    return found


def _matching(pattern, every, problem):
    origins = {"papers": "skpapers", "baselines": "scikit-learn"}
    if pattern.lower() in origins:
        origin = origins[pattern.lower()]
        suitable = [n for n, m in every.items() if m.origin == origin and m.role is not None]
        if not suitable:
            raise CompareError(f"no method of {origin} suits {problem.task}")
        return [n for n in suitable if _is_default(every[n], problem)]
    return [n for n in _all_names(every) if fnmatch.fnmatch(n.lower(), pattern.lower())]


def _all_names(every):
    baselines = (type(e).__name__ for pairs in BASELINES.values() for e, _ in pairs)
    library = (name for name, _ in all_estimators())
    return list(dict.fromkeys([*every, *baselines, *library]))


def _own(estimator, problem):
    """An estimator of the user's."""
    if not isinstance(estimator, BaseEstimator) and not hasattr(estimator, "get_params"):
        raise CompareError(f"include takes names and estimators, got {estimator!r}")
    role = _role(estimator, problem)
    if role is None:
        raise CompareError(f"{type(estimator).__name__} does not suit {problem.task}")
    space = getattr(type(estimator), "_search_space", None)
    return Method(type(estimator).__name__, estimator, role, "yours", None, space)


def _prepare(method, problem):
    """Set the seed, the device and, where the classes are known, the number of clusters."""
    estimator = clone(method.estimator)
    for name, value in estimator.get_params().items():
        last = name.rpartition("__")[2]
        if last == "random_state" and value is None:
            estimator.set_params(**{name: problem.seed})
        elif last == "device" and problem.device != "auto":
            estimator.set_params(**{name: problem.device})
        elif name in ("n_clusters", "n_components") and _counts_clusters(method, name, problem):
            estimator.set_params(**{name: len(problem.classes)})
    return Method(method.name, estimator, method.role, method.origin, method.paper, method.space)


def _counts_clusters(method, name, problem):
    if method.role != "clusterer" or not problem.classes:
        return False
    return name == "n_clusters" or _is_mixture(get_tags(method.estimator))


def _unique(methods):
    """Number the names that occur twice."""
    names = [m.name for m in methods]
    totals = {n: names.count(n) for n in names}
    seen = dict.fromkeys(names, 0)
    result = []
    for m in methods:
        seen[m.name] += 1
        name = f"{m.name} ({seen[m.name]})" if totals[m.name] > 1 else m.name
        result.append(Method(name, m.estimator, m.role, m.origin, m.paper, m.space))
    return result


def public_module(cls):
    """Name the module a class is imported from: its path up to the first private part."""
    return re.split(r"\._", cls.__module__)[0]
