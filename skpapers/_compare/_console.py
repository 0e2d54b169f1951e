"""Progress bar and leaderboard in the terminal."""

import threading

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress as Bar,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

_COLORS = {"skpapers": "cyan", "yours": "magenta"}


class Progress:
    """A bar that names what is running, and a line for each method that has finished.

    Parameters
    ----------
    run : Comparison
        The run.
    missing : list of Method
        What is still to be fitted.
    """

    def __init__(self, run, missing):
        self.run = run
        self.total = len(missing)
        self.running = []
        self._lock = threading.Lock()
        self._console = Console()
        self._bar = Bar(
            TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), console=self._console, transient=True,
        )  # fmt: skip

    def __enter__(self):
        print_problem(self._console, self.run, self.total)
        self._bar.start()
        self._task = self._bar.add_task("starting", total=self.total)
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def started(self, name):
        """Show that a method is running."""
        with self._lock:
            self.running.append(name)
            self._describe()

    def finished(self, row):
        """Print what came out of a method."""
        with self._lock:
            if row["method"] in self.running:
                self.running.remove(row["method"])
            self._describe()
        self._bar.advance(self._task)
        self._bar.print(f"  {row['method']:<34} {_outcome(row)}", highlight=False)

    def _describe(self):
        self._bar.update(self._task, description=", ".join(self.running) or "waiting")


def print_problem(console, run, n_missing):
    """Say what is about to happen."""
    problem, done = run.problem, len(run.methods) - n_missing
    shape = f"{problem.n_rows} rows, {problem.X.shape[1]} columns"
    classes = f", {len(problem.classes)} classes" if problem.classes else ""
    console.print(
        f"[bold]{problem.data.name}[/]: {problem.task}, {shape}{classes}; "
        f"{problem.n_splits} folds, {problem.budget:g} s a fit"
    )
    for note in problem.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    if done:
        console.print(f"{done} of {len(run.methods)} methods are in results.csv already")


def print_leaderboard(run, console=None):
    """Print the table, best first."""
    console = console or Console()
    score, second = run.problem.score_names
    wide = console.width >= 100
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("method", no_wrap=True)
    for name in (score, "fit s", second, "predict s")[: 4 if wide else 2]:
        table.add_column(name, justify="right", no_wrap=True)
    for rank, row in enumerate(run.rows(), 1):
        table.add_row(*_cells(rank, row)[: 6 if wide else 4], style=_COLORS.get(row["origin"], ""))
    console.print(table)
    failed = [row for row in run.rows() if row["status"] != "ok"]
    for row in failed:
        console.print(f"{row['method']}: {_outcome(row)}", highlight=False, markup=False)
    console.print("[cyan]skpapers[/], scikit-learn; mean ± standard deviation over the folds")


def _cells(rank, row):
    if row["status"] != "ok":
        return "", row["method"], row["status"], "", "", ""
    return (
        str(rank),
        row["method"],
        f"{row['score']:.3f} ± {row['score_std']:.3f}",
        f"{row['fit_seconds']:.3g}",
        f"{row['second']:.4g}",
        f"{row['predict_seconds']:.2g}",
    )


def _outcome(row):
    if row["status"] != "ok":
        return f"{row['status']}: {row['reason']}"
    return f"{row['score']:.3f} ± {row['score_std']:.3f}  {row['fit_seconds']:.3g} s"
