"""Fit the methods, one row each, in parallel."""

import datetime
import itertools
import threading

import joblib
import numpy as np
from joblib.parallel import get_active_backend
from sklearn.model_selection import ParameterSampler
from sklearn.utils import get_tags

from ._errors import Failure
from ._pool import POOL
from ._split import make_splitter, split_labeled

_INNER_FOLDS = 3
_RUNS = {}
_NUMBERS = itertools.count()


class _Listener:
    """What this process knows of a run: whom to tell what is running, and whether it goes on."""

    def __init__(self, on_start):
        self.on_start = on_start
        self.cancelled = threading.Event()


def run_methods(problem, methods, n_jobs=None, on_start=None):
    """Yield the row of each method as soon as it is there.

    `on_start(name)` is called when a method starts in this process.
    """
    run = next(_NUMBERS)
    listener = _RUNS[run] = _Listener(on_start)
    n_workers = joblib.effective_n_jobs(n_jobs)
    threads = max(1, joblib.cpu_count() // n_workers)
    calls = [joblib.delayed(run_method)(problem, method, threads, run) for method in methods]
    try:
        for row in _dispatch(calls, n_jobs, n_workers):
            if row is not None:
                yield row
    except BaseException:  # Ctrl-C, or nobody wants the rows any more: end what is running
        listener.cancelled.set()
        POOL.close()
        raise
    finally:
        del _RUNS[run]


def _dispatch(calls, n_jobs, n_workers):
    """Hand the calls to joblib; to Dask, whose answers come all at once, in batches."""
    options = {"n_jobs": n_jobs, "prefer": "threads"}
    backend, _ = get_active_backend(prefer="threads")
    if backend.supports_return_generator:
        options |= {"return_as": "generator_unordered", "pre_dispatch": "n_jobs", "batch_size": 1}
        yield from joblib.Parallel(**options)(calls)
        return
    for first in range(0, len(calls), n_workers):
        yield from joblib.Parallel(**options)(calls[first : first + n_workers])


def run_method(problem, method, threads=1, run=None):
    """Fit one method on every fold; whatever goes wrong becomes part of the row."""
    listener = _RUNS.get(run, _Listener(None))
    if listener.cancelled.is_set():
        return None
    if listener.on_start is not None:
        listener.on_start(method.name)
    results, settings, failure = [], [], None
    with POOL.borrow(threads) as worker:
        learns = problem.labels is not None and _takes_unlabeled(worker, problem, method)
        try:
            for fold in range(len(problem.splits)):
                if listener.cancelled.is_set():
                    return None
                settings.append(_tune(worker, problem, method, fold, learns))
                results.append(_fit_fold(worker, problem, method, settings[-1], fold, learns))
        except Failure as error:
            failure = error
    return make_row(problem, method, learns, results, settings, failure)


def _takes_unlabeled(worker, problem, method):
    """A transformer without a target learns from every row; the others are tried."""
    if method.role == "transformer":
        return not get_tags(method.estimator).target_tags.required
    return worker.understands_unlabeled(problem, method)


def _fit_fold(worker, problem, method, setting, fold, learns):
    train, test = problem.splits[fold]
    y_train = problem.training_target(fold)
    return worker.fit(problem, method, setting, train, test, y_train, learns, False)


def _tune(worker, problem, method, fold, learns):
    """Try the defaults and random settings by cross-validation inside the training rows."""
    if not problem.tune or not method.space:
        return {}
    candidates = _candidates(method.space, problem.tune, problem.seed + fold)
    inner = list(_inner_splits(problem, fold))
    scores, failure = [], None
    for setting in candidates:
        try:
            parts = [worker.fit(problem, method, setting, *part, learns, True) for part in inner]
            scores.append(np.mean([part["score"] for part in parts]))
        except Failure as error:
            scores.append(-np.inf)
            failure = error
    if not np.isfinite(scores).any():
        raise failure
    return candidates[int(np.argmax(scores))]


def _candidates(space, n_iter, seed):
    """The defaults, then `n_iter` settings (all of them where there are fewer)."""
    values = space.values()
    if all(isinstance(v, (list, tuple)) for v in values):
        n_iter = min(n_iter, int(np.prod([len(v) for v in values])))
    drawn = ParameterSampler(space, n_iter, random_state=seed)
    return [{}, *({k: _plain(v) for k, v in setting.items()} for setting in drawn)]


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def _inner_splits(problem, fold):
    """Inner folds as (train, test, target of the training rows); only visible labels are used."""
    train, _ = problem.splits[fold]
    y_train = problem.training_target(fold)
    if problem.task == "clustering":
        yield train, train, y_train
        return
    splitter = make_splitter(y_train, problem.task, _INNER_FOLDS, problem.seed)
    for inner_train, inner_test in split_labeled(splitter, y_train):
        yield train[inner_train], train[inner_test], y_train[inner_train]


def make_row(problem, method, learns, results, settings, failure):
    """One line of results.csv, every value a string or a number."""
    scores = [result["score"] for result in results]
    row = {
        "run": problem.fingerprint,
        "method": method.name,
        "origin": method.origin,
        "paper": method.paper.slug if method.paper else "",
        "status": failure.status if failure else "ok",
        "score_name": problem.score_names[0],
        "score": "" if failure else np.mean(scores),
        "score_std": "" if failure else np.std(scores),
        "second_name": problem.score_names[1],
    }
    for key in ("second", "fit_seconds", "predict_seconds"):
        row[key] = "" if failure else np.mean([result[key] for result in results])
    return row | {
        "uses_unlabeled": learns,
        "fold_scores": " ".join(repr(score) for score in scores),
        "settings": repr(settings) if any(settings) else "",
        "notes": next((result["notes"] for result in results if result["notes"]), ""),
        "reason": failure.reason if failure else "",
        "budget": problem.budget,
        "parameters": repr(method.estimator.get_params(deep=False)),
        "finished": datetime.datetime.now().isoformat(timespec="seconds"),
    }
