"""results.csv: written row by row, never half a line, and read again to go on."""

import csv
import io
import os
import tempfile
from pathlib import Path

from ._errors import CompareError

COLUMNS = (
    "run", "method", "origin", "paper", "status", "score_name", "score", "score_std",
    "second_name", "second", "fit_seconds", "predict_seconds", "uses_unlabeled", "fold_scores",
    "settings", "notes", "reason", "budget", "parameters", "finished",
)  # fmt: skip
_NUMBERS = ("score", "score_std", "second", "fit_seconds", "predict_seconds", "budget")


class Store:
    """The rows of a run, in a folder or in memory only.

    Rows of another run (other data or settings) found in the folder are kept under the name
    ``results-<run>.csv``, and come back when that run goes on.

    Parameters
    ----------
    folder : path or None
        Where results.csv lies; None keeps the rows in memory.
    run : str
        Fingerprint of data and settings.
    """

    def __init__(self, folder, run):
        self.folder = None if folder is None else Path(folder)
        self.run = run
        self.rows = []
        if self.folder is not None:
            self._open()

    def is_done(self, method, budget):
        """Whether the method has its row; more budget gives another chance to what ran over it."""
        done = {row["method"]: row for row in self.rows}.get(method.name)
        if done is None or done["parameters"] != repr(method.estimator.get_params(deep=False)):
            return False
        return done["status"] != "over budget" or done["budget"] >= budget

    def add(self, row):
        """Keep a row, in place of an older one of the same method."""
        self.rows = [old for old in self.rows if old["method"] != row["method"]]
        self.rows.append(_typed({key: row[key] for key in COLUMNS}))
        if self.folder is not None:
            write_atomically(self.folder / "results.csv", _to_csv(self.rows))

    def _open(self):
        current = self.folder / "results.csv"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            rows = read_rows(current) if current.exists() else []
            if rows and rows[0]["run"] != self.run:
                self._swap(rows[0]["run"])
                rows = read_rows(current) if current.exists() else []
        except OSError as error:
            raise CompareError(f"cannot write to {self.folder}: {error.strerror}") from error
        self.rows = [row for row in rows if row["run"] == self.run]

    def _swap(self, old):
        """Put the files of the old run aside, and those of this run, if any, in their place."""
        for stem, ending in (("results", "csv"), ("report", "html")):
            path = self.folder / f"{stem}.{ending}"
            if path.exists():
                os.replace(path, self.folder / f"{stem}-{old}.{ending}")
            kept = self.folder / f"{stem}-{self.run}.{ending}"
            if kept.exists():
                os.replace(kept, path)


def read_rows(path):
    """Read the rows of a results.csv."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise CompareError(
                    f"{path} was not written by this version of skpapers compare; "
                    "choose another --output"
                )
            return [_typed(row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise CompareError(f"{path} is no results.csv; choose another --output") from error


def write_atomically(path, text):
    """Write a file so that a reader sees the old or the new one, whenever the power goes."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _to_csv(rows):
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _typed(row):
    """Numbers as floats (or empty), the rest as text: the same before and after the file."""
    typed = {key: "" if value in (None, "") else str(value) for key, value in row.items()}
    numbers = {key: float(typed[key]) for key in _NUMBERS if typed[key]}
    return typed | numbers
