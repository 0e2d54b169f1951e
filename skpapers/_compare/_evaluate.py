"""One fit and its scores; runs inside the process that the budget can end."""

import time
import warnings

import numpy as np
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import (
    accuracy_score,
    adjusted_mutual_info_score,
    adjusted_rand_score,
    balanced_accuracy_score,
    calinski_harabasz_score,
    mean_absolute_error,
    r2_score,
    silhouette_score,
)

from ._models import build
from ._split import UNLABELED

SILHOUETTE_ROWS = 5000


def evaluate(problem, method, setting, train, test, y_train, uses_unlabeled, internal, fitted):
    """Fit on `train`, score on `test`; calls `fitted()` between the two.

    Clusterings are scored on the rows they were fitted on, since most of them cannot predict;
    `internal` asks for the score that knows no classes.
    """
    model = build(method, problem, setting, uses_unlabeled)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if problem.task == "clustering":
            result = _cluster(model, problem, train, internal, fitted)
        else:
            result = _supervise(model, problem, train, test, y_train, fitted)
    result["notes"] = _convergence(caught)
    return result


def _supervise(model, problem, train, test, y_train, fitted):
    standardise = problem.task == "regression" and problem.labels is not None
    center, scale = _center_scale(y_train) if standardise else (0.0, 1.0)
    start = time.perf_counter()
    model.fit(_rows(problem.X, train), (y_train - center) / scale if standardise else y_train)
    middle = time.perf_counter()
    fitted()
    predicted = np.asarray(model.predict(_rows(problem.X, test)))
    end = time.perf_counter()
    truth = problem.y[test]
    if problem.task == "classification":
        scores = accuracy_score(truth, predicted), balanced_accuracy_score(truth, predicted)
    else:
        predicted = predicted.reshape(len(test)) * scale + center
        if not np.isfinite(predicted).all():
            raise ValueError("the predictions are not finite")
        scores = r2_score(truth, predicted), mean_absolute_error(truth, predicted)
    return _result(scores, middle - start, end - middle)


def _center_scale(y):
    """Mean and standard deviation of the known targets (1 where they are constant)."""
    return np.nanmean(y), np.nanstd(y) or 1.0


def _cluster(model, problem, train, internal, fitted):
    X = _rows(problem.X, train)
    start = time.perf_counter()
    labels = np.asarray(model.fit_predict(X))
    end = time.perf_counter()
    fitted()
    if problem.y is not None and not internal:
        truth = problem.y[train]
        scores = adjusted_rand_score(truth, labels), adjusted_mutual_info_score(truth, labels)
        return _result(scores, end - start, 0.0)
    n_found = len(np.unique(labels))
    if not 2 <= n_found < len(labels):
        raise ValueError(f"found {n_found} cluster(s) in {len(labels)} rows: no silhouette")
    Z = model[:-1].transform(X)
    sample = SILHOUETTE_ROWS if len(labels) > SILHOUETTE_ROWS else None
    silhouette = silhouette_score(Z, labels, sample_size=sample, random_state=problem.seed)
    return _result((silhouette, calinski_harabasz_score(Z, labels)), end - start, 0.0)


def _result(scores, fit_seconds, predict_seconds):
    return {
        "score": float(scores[0]),
        "second": float(scores[1]),
        "fit_seconds": fit_seconds,
        "predict_seconds": predict_seconds,
    }


def _rows(X, rows):
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def _convergence(caught):
    """First line of the convergence warnings: a score with a reservation."""
    messages = [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)]
    return " ".join(messages[0].split())[:160] if messages else ""


def understands_unlabeled(method, problem):
    """Try it: does the estimator take -1 (or NaN) as "not known", rather than as a target?"""
    estimator = clone(method.estimator)
    if hasattr(estimator, "_small_params"):
        estimator.set_params(**estimator._small_params())
    X, y = make_blobs(n_samples=60, centers=[[-2.0] * 4, [2.0] * 4], random_state=0)
    classify = problem.task == "classification"
    hidden = np.where(np.arange(60) % 3 > 0, UNLABELED if classify else np.nan, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(X, hidden.astype(int) if classify else hidden)
        if classify:
            return UNLABELED not in estimator.classes_
        return bool(np.isfinite(estimator.predict(X)).all())
