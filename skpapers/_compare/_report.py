"""report.html: one page without network, from the rows and the catalogue."""

import datetime
import inspect
import re
from importlib import resources

import numpy as np
import sklearn

from skpapers._version import __version__
from skpapers.utils import import_optional

from ._code import expression
from ._plot import scatter


def render(run):
    """Fill the template."""
    jinja2 = import_optional("jinja2", "compare")
    source = resources.files("skpapers._compare") / "report.html.jinja"
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(source.read_text(encoding="utf-8"))
    rows = run.rows()
    good = [row for row in rows if row["status"] == "ok"]
    methods = {method.name: method for method in run.methods}
    sections = [_section(run, methods[row["method"]], row) for row in rows]
    return template.render(
        problem=run.problem,
        score=run.problem.score_names[0],
        second=run.problem.score_names[1],
        sections=sections,
        pending=len(run.methods) - len(rows),
        good=good,
        verdict=_verdict(good),
        scale=_bar_scale(good),
        plots=_plots(good, run.problem.score_names[0]),
        breakable=_breakable,
        protocol=protocol(run.problem),
        date=datetime.date.today().isoformat(),
        versions=f"skpapers {__version__}, scikit-learn {sklearn.__version__}",
    )


def _plots(good, score_name):
    """The picture for a screen and for a phone."""
    sizes = {"wide": (720, 420), "narrow": (370, 360)}
    return {kind: scatter(good, score_name, *size) for kind, size in sizes.items()}


def _breakable(name):
    """Let a long class name break between its words."""
    markup = import_optional("markupsafe", "compare")
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "\0", name).split("\0")
    return markup.Markup("<wbr>").join(words)


def _section(run, method, row):
    cls = type(method.estimator)
    defaults = inspect.signature(cls).parameters
    parameters = [
        {
            "name": name,
            "value": _short(value),
            "changed": repr(value) != repr(getattr(defaults.get(name), "default", None)),
        }
        for name, value in method.estimator.get_params(deep=False).items()
    ]
    return {
        "row": row,
        "method": method,
        "summary": _summary(cls),
        "role": _role(method, run.problem),
        "parameters": parameters,
        "code": run.code(row),
    }


def _short(value):
    text = expression(value, set()) if hasattr(value, "get_params") else repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _summary(cls):
    """First paragraph of the docstring, without markup."""
    paragraph = (inspect.getdoc(cls) or "").strip().split("\n\n")[0]
    plain = re.sub(r":\w+(?::\w+)*:`~?([^`]*)`", lambda m: m[1].rpartition(".")[2], paragraph)
    return " ".join(plain.replace("``", "").replace("`", "").split())


def _role(method, problem):
    if method.role != "transformer":
        return ""
    linear = "logistic regression" if problem.task == "classification" else "ridge regression"
    return f"A transformer: it competes as transformer and {linear}."


def _verdict(good):
    """The best of the papers and the best of scikit-learn's."""
    best = {}
    for row in good:
        best.setdefault(row["origin"], row)
    return best


def _bar_scale(good):
    """Scores as shares of the bar's width: from the lowest score drawn to the best."""
    if not good:
        return {}
    scores = np.array([row["score"] for row in good])
    low = max(scores.min(), np.median(scores) - 3 * max(scores.max() - np.median(scores), 0.05))
    width = max(scores.max() - low, 1e-12)
    shares = 4 + 96 * np.clip((scores - low) / width, 0, 1)
    return {row["method"]: f"{share:.1f}" for row, share in zip(good, shares)}


def protocol(problem):
    """Say in words how the scores came about."""
    folds = f"{problem.n_splits} {'stratified ' if 'Strat' in repr(problem.splitter) else ''}folds"
    lines = [f"Every method saw the same {folds} (seed {problem.seed})."]
    if problem.task == "clustering":
        lines += [
            "It was fitted on each fold's training rows and its clusters of them were scored."
        ]
        if problem.y is not None:
            lines += ["Methods that take a number of clusters were given the number of classes."]
    else:
        lines += ["Columns were encoded and scaled inside the folds."]
    if problem.task == "regression":
        lines += ["The target was standardised inside the folds."]
    if problem.labels is not None:
        lines += [
            f"{problem.labels:.0%} of the training labels were visible; methods marked "
            "“uses unlabelled rows” also learned from the rest."
        ]
    if problem.tune:
        lines += [f"{problem.tune} random settings a method were tried inside each fold."]
    return " ".join([*lines, f"Budget: {problem.budget:g} s a fit."])
