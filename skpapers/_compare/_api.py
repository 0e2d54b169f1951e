"""The public function."""

import contextlib
from pathlib import Path

from skpapers.utils import import_optional

from ._data import from_arrays
from ._errors import CompareError
from ._methods import find_methods
from ._run import run_methods
from ._store import Store, write_atomically
from ._task import make_problem

_EXTRA = ("pandas", "skrub", "rich", "jinja2")
_LEADERBOARD = (
    "method", "origin", "paper", "status", "score", "score_std", "second", "fit_seconds",
    "predict_seconds", "uses_unlabeled", "settings", "notes", "reason", "code",
)  # fmt: skip


def compare(
    X,
    y=None,
    *,
    task="auto",
    include=None,
    exclude=None,
    folds=5,
    labels=None,
    budget=30.0,
    tune=0,
    n_jobs=None,
    device="auto",
    output=None,
    random_state=0,
    verbose=0,
):
    """Fit every method that suits the data under one cross-validation.

    The estimators of the library compete with scikit-learn's, each behind the same encoding and
    scaling, which are fitted inside the folds. A transformer competes as transformer and linear
    model. A method that raises, crashes, runs out of memory or over its budget becomes a row
    that says so.

    Parameters
    ----------
    X : DataFrame or array-like of shape (n_samples, n_features)
        The data. Columns of text, dates, categories and booleans, and missing values, are
        encoded by skrub's ``TableVectorizer`` inside the folds.
    y : Series or array-like of shape (n_samples,), default=None
        The target: classes of any type, or numbers. Rows without one (None or NaN) are left out,
        or are unlabelled rows when `labels` is given. Without `y` the task is clustering.
    task : {"auto", "classification", "regression", "clustering"}, default="auto"
        What to learn. "auto" takes text, booleans and at most 30 different integers (each
        5 times or more on average) as classes and other numbers as a regression target. With
        "clustering", `y` holds the classes that clusters are scored against.
    include : list of str or estimator, default=None
        Names of the methods to run, with wildcards; "papers" and "baselines" stand for all of
        the library's and of scikit-learn's. Estimators in the list compete as they are.
    exclude : list of str, default=None
        Names of methods to leave out, as in `include`.
    folds : int, default=5
        Number of folds; classes are spread evenly over them where that is possible.
    labels : float, default=None
        Share of the training labels that stay visible, in (0, 1]: semi-supervised learning.
        Methods that understand unlabelled rows get -1 or NaN in their place, others learn from
        the visible ones only. Scores are those on held-out rows, whose labels are known.
    budget : float, default=30.0
        Seconds that a fit, and that a prediction, may take.
    tune : int, default=0
        Number of random settings to try for each method, besides its defaults, by a
        cross-validation inside each fold's training rows.
    n_jobs : int, default=None
        Number of methods that run at once, through joblib: ``joblib.parallel_config("dask")``
        spreads them over a cluster. None means 1.
    device : str, default="auto"
        Set on the estimators that have a parameter of that name ("cpu", "cuda", ...).
    output : str or path, default=None
        Folder for ``results.csv`` and ``report.html``. A second call with the same folder, data
        and settings goes on where the first one stopped. None writes nothing.
    random_state : int, default=0
        Seed of the folds and of every method.
    verbose : int, default=0
        1 shows a progress bar and the leaderboard.

    Returns
    -------
    pandas.DataFrame
        The leaderboard, best first: method, origin ("skpapers", "scikit-learn" or "yours"), paper,
        status, mean score over the folds (accuracy, R², the adjusted Rand index, or the
        silhouette where no classes are known) and its standard deviation, a second score
        (balanced accuracy, mean absolute error, adjusted mutual information, Calinski-Harabasz
        index), seconds to fit and to predict, and the Python code that reproduces the row.
        ``attrs["score"]`` and ``attrs["second"]`` name the scores.

    Raises
    ------
    CompareError
        A ValueError: the input cannot be compared on, and why.
    ImportError
        If what the extra ``compare`` installs is missing.

    Notes
    -----
    The cost is that of ``folds`` fits a method, at most ``2 * folds * budget`` seconds, and
    ``3 * (tune + 1)`` times that for tuning. Fits run in processes of their own with one
    share of the processor's cores each, so that times are comparable within a run.

    Examples
    --------
    >>> import skpapers
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> board = skpapers.compare(X, y, include=["LogisticRegression", "DummyClassifier"])
    >>> board["method"].tolist()
    ['LogisticRegression', 'DummyClassifier']
    """
    check_installed()
    settings = {
        "task": task, "folds": folds, "labels": labels, "random_state": random_state,
        "budget": budget, "tune": tune, "device": device,
    }  # fmt: skip
    run = run_comparison(from_arrays(X, y), include, exclude, n_jobs, output, verbose, **settings)
    return run.leaderboard()


def check_installed():
    """Import what the extra brings, or say what is missing."""
    for module in _EXTRA:
        import_optional(module, "compare")


class Comparison:
    """A run: the problem, the methods and the rows so far.

    Parameters
    ----------
    problem : Problem
        Data and settings.
    methods : list of Method
        What competes.
    store : Store
        The rows.
    """

    def __init__(self, problem, methods, store):
        self.problem = problem
        self.methods = methods
        self.store = store

    def rows(self):
        """Rows of the methods that take part, best first; failures last."""
        names = {method.name for method in self.methods}
        rows = [row for row in self.store.rows if row["method"] in names]
        return sorted(rows, key=lambda r: (r["status"] != "ok", -(r["score"] or 0), r["method"]))

    def code(self, row):
        """The Python that reproduces a row."""
        from ._code import row_code

        method = next(m for m in self.methods if m.name == row["method"])
        return row_code(self.problem, method, row)

    def leaderboard(self):
        """The rows as a frame."""
        pd = import_optional("pandas", "compare")
        rows = [row | {"code": self.code(row)} for row in self.rows()]
        frame = pd.DataFrame(rows, columns=list(_LEADERBOARD)).replace({"score": {"": None}})
        numbers = ["score", "score_std", "second", "fit_seconds", "predict_seconds"]
        frame[numbers] = frame[numbers].apply(pd.to_numeric)
        frame["uses_unlabeled"] = frame["uses_unlabeled"] == "True"
        names = zip(("score", "second"), self.problem.score_names)
        frame.attrs.update(names)
        return frame

    def write_report(self):
        """Write report.html and say where it is."""
        from ._report import render

        path = self.store.folder / "report.html"
        write_atomically(path, render(self))
        return path.resolve()


def run_comparison(data, include, exclude, n_jobs, output, verbose, **settings):
    """Fit what has no row yet; the report is written even if the run is interrupted."""
    if isinstance(include, str) or isinstance(exclude, str):
        raise CompareError("include and exclude are lists of names")
    problem = make_problem(data, **settings)
    methods = find_methods(problem, include, exclude)
    if output is not None and Path(output).exists() and not Path(output).is_dir():
        raise CompareError(f"{output} is a file; --output is a folder")
    store = Store(output, problem.fingerprint)
    run = Comparison(problem, methods, store)
    missing = [method for method in methods if not store.is_done(method, problem.budget)]
    try:
        with _progress(run, missing, verbose) as progress:
            for row in run_methods(problem, missing, n_jobs, progress.started):
                store.add(row)
                progress.finished(row)
    finally:
        if output is not None:
            run.report = run.write_report()
    if verbose:
        from ._console import print_leaderboard

        print_leaderboard(run)
    return run


def _progress(run, missing, verbose):
    if verbose:
        from ._console import Progress

        return Progress(run, missing)
    return contextlib.nullcontext(_Silence())


class _Silence:
    """Progress that nobody looks at."""

    def started(self, name):
        """A method starts."""

    def finished(self, row):
        """A method has its row."""
