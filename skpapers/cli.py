"""The command line: compare methods on data, search the catalogue, show a paper."""

import argparse
import importlib
import inspect
import shutil
import sys
import textwrap

from ._version import __version__

_DESCRIPTION = "Machine-learning papers as scikit-learn estimators."
_EXAMPLES = """\
examples:
  skpapers compare                               a bundled data set, every method that suits it
  skpapers compare houses.csv --target price     your own table
  skpapers compare digits --labels 0.1           with nine labels in ten hidden
  skpapers papers kernel                         papers about kernels
  skpapers show svcca                            one paper: claim, estimators, example
"""


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : list of str, default=None
        Arguments; None takes those of the process.

    Returns
    -------
    int
        0 when all went well, 2 for bad input, 130 when interrupted.
    """
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        print("skpapers: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except (_UsageError, ImportError) as error:
        print(f"skpapers: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        sys.stdout = None
        return 0


class _UsageError(Exception):
    """Bad input; the message is one line."""


def make_parser():
    """Describe the arguments."""
    parser = argparse.ArgumentParser(
        prog="skpapers",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"skpapers {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_compare(commands)
    search = commands.add_parser("papers", help="search the catalogue")
    search.add_argument("words", nargs="*", metavar="WORDS", help="words that must all occur")
    search.set_defaults(run=_papers)
    show = commands.add_parser("show", help="show one paper")
    show.add_argument("slug", metavar="SLUG", help="its short name, as `skpapers papers` lists it")
    show.set_defaults(run=_show)
    return parser


def _add_compare(commands):
    parser = commands.add_parser(
        "compare",
        help="fit every method that suits the data, beside scikit-learn's",
        description="Fit every method that suits the data under one cross-validation, and write "
        "a leaderboard: results.csv and report.html. The same command with the same folder goes "
        "on where it was stopped.",
    )
    _add_data_options(parser.add_argument)
    _add_run_options(parser.add_argument)
    parser.set_defaults(run=_compare)


def _add_data_options(add):
    add(
        "data",
        nargs="?",
        metavar="DATA",
        help="CSV or Parquet file, or a bundled data set: iris, wine, breast_cancer, digits, "
        "diabetes, moons, circles, blobs, friedman (the default)",
    )
    add("--target", metavar="COL", help="column to predict; without one: clustering")
    add(
        "--task",
        default="auto",
        choices=("auto", "classification", "regression", "clustering"),
        help="what to learn (default: by the target)",
    )
    add(
        "--labels",
        type=float,
        metavar="SHARE",
        help="share of the training labels to keep, in (0, 1]: semi-supervised learning",
    )


def _add_run_options(add):
    add(
        "--include",
        nargs="+",
        metavar="NAME",
        help='methods to run; wildcards, "papers" and "baselines" are understood',
    )
    add("--exclude", nargs="+", metavar="NAME", help="methods to leave out")
    add("--folds", type=int, default=5, metavar="K", help="number of folds (default: 5)")
    add(
        "--budget",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds that a fit may take (default: 30)",
    )
    add(
        "--tune",
        type=int,
        default=0,
        metavar="N",
        help="random settings to try for each method inside each fold (default: 0)",
    )
    add(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="methods to run at once; -1: one per core (default: 1)",
    )
    add("--device", default="auto", help='device of the torch methods, such as "cpu" or "cuda"')
    add("--seed", type=int, default=0, help="seed of folds and methods (default: 0)")
    add("--output", metavar="FOLDER", help="default: skpapers-compare/<name of the data>")


def _compare(arguments):
    from ._compare import CompareError
    from ._compare._api import check_installed, run_comparison
    from ._compare._data import load_data

    check_installed()
    if arguments.jobs == 0:
        raise _UsageError("jobs must not be 0")
    try:
        data = load_data(arguments.data, arguments.target)
        run = run_comparison(
            data, arguments.include, arguments.exclude, arguments.jobs,
            arguments.output or f"skpapers-compare/{data.name}", 1,
            task=arguments.task, folds=arguments.folds, labels=arguments.labels,
            budget=arguments.budget, tune=arguments.tune, device=arguments.device,
            random_state=arguments.seed,
        )  # fmt: skip
    except CompareError as error:
        raise _UsageError(str(error)) from error
    print(run.report)
    return 0


def _papers(arguments):
    from .utils import papers

    found = papers(" ".join(arguments.words))
    if not found:
        print(f"no paper matches {' '.join(arguments.words)!r}", file=sys.stderr)
        return 1
    width = _width()
    for paper in found:
        print(f"{paper.slug}  ({paper.room}, {paper.year})")
        print(_wrap(paper.title, width))
        print(_wrap(paper.claim, width, "    "))
        print()
    print(f"{len(found)} paper{'s' * (len(found) != 1)}; skpapers show SLUG tells more")
    return 0


def _show(arguments):
    from .utils import papers

    entries = {paper.slug: paper for paper in papers()}
    paper = entries.get(arguments.slug)
    if paper is None:
        raise _UsageError(
            f"no paper is called {arguments.slug!r}{_nearest(arguments.slug, entries)}"
        )
    print("\n".join(_describe_paper(paper, _width())))
    return 0


def _nearest(slug, entries):
    import difflib

    found = difflib.get_close_matches(slug, entries, n=3, cutoff=0.4)
    found = found or [known for known in entries if slug.lower() in known][:3]
    return f" (did you mean {' or '.join(found)}?)" if found else "; `skpapers papers` lists them"


def _describe_paper(paper, width):
    yield _wrap(paper.title, width, "")
    yield _wrap(", ".join(paper.authors), width, "")
    where = f"{paper.venue} {paper.year}".strip()
    yield f"{where}  {paper.url}".rstrip()
    yield from ("", "Claim", _wrap(paper.claim, width))
    objects = {symbol: _load(symbol) for symbol in paper.symbols}
    for symbol, thing in objects.items():
        yield from ("", symbol, _wrap(_summary(thing), width))
        yield from _parameters(thing)
    if paper.evidence:
        yield from ("", "Evidence", *(f"  {test}" for test in paper.evidence))
    if paper.peers:
        yield from ("", "Compared with", _wrap(", ".join(paper.peers), width))
    example = next(filter(None, map(_example, objects.values())), None)
    if example:
        yield from ("", "Example", textwrap.indent(example, "  "))


def _load(symbol):
    module, _, name = symbol.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _summary(thing):
    return (inspect.getdoc(thing) or "").partition("\n\n")[0].replace("\n", " ")


def _parameters(thing):
    """Names and defaults, one a line."""
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):  # no signature: a constant, or a class written in C
        return
    for parameter in parameters:
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        yield f"    {parameter.name}{default}"


def _example(thing):
    """The Examples section of a docstring."""
    lines = (inspect.getdoc(thing) or "").split("\n")
    if "Examples" not in lines:
        return None
    rest = lines[lines.index("Examples") + 2 :]
    ends = [i for i, line in enumerate(rest) if line and set(line) == {"-"}]
    return "\n".join(rest[: ends[0] - 1] if ends else rest).strip()


def _width():
    return min(shutil.get_terminal_size().columns, 100)


def _wrap(text, width, indent="  "):
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)
