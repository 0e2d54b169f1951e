"""Ours against the peers: ``python -m benchmarks [WORDS] [--output FOLDER]``.

Runs every case of the files ``benchmarks/<room>/bench_*.py`` whose path has one of the words,
prints a table, and merges the rows into ``results.json`` and ``results.md``.
"""

import argparse
import importlib
import json
import os
import platform
from pathlib import Path

from benchmarks._harness import run

HERE = Path(__file__).parent
COLUMNS = [
    ("case", "{name}"),
    ("size", "{size}"),
    ("peer", "{peer}"),
    ("ours (s)", "{seconds:.3g}"),
    ("peer (s)", "{peer_seconds:.3g}"),
    ("times faster", "{ratio:.2f}"),
    ("accuracy", "{metric}"),
    ("ours", "{accuracy:.4g}"),
    ("peer", "{peer_accuracy:.4g}"),
    ("peak MB", "{memory_mb:.0f} / {peer_memory_mb:.0f}"),
]


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("words", nargs="*", help="run the files whose path has one of these words")
    parser.add_argument("--output", type=Path, default=HERE)
    args = parser.parse_args(argv)
    args.output.mkdir(parents=True, exist_ok=True)
    print(_line(name for name, _ in COLUMNS))
    for path in _files(args.words):
        _save(_run_file(path), args.output)


def _files(words):
    paths = sorted(HERE.glob("*/bench_*.py"))
    return [p for p in paths if not words or any(w in str(p.relative_to(HERE)) for w in words)]


def _run_file(path):
    module = ".".join(("benchmarks", path.parent.name, path.stem))
    rows = []
    for case in importlib.import_module(module).cases():
        rows.append({"file": f"{path.parent.name}/{path.name}", **run(case)})
        print(_line(cell.format(**rows[-1]) for _, cell in COLUMNS), flush=True)
    return rows


def _save(rows, folder):
    """Replace the rows that ran, keep the others, write both files."""
    store = folder / "results.json"
    kept = json.loads(store.read_text())["rows"] if store.exists() else []
    ran = {row["file"] for row in rows}
    rows = sorted([r for r in kept if r["file"] not in ran] + rows, key=lambda r: r["file"])
    machine = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
    }
    store.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    (folder / "results.md").write_text(markdown(rows))


def markdown(rows):
    """Format the rows as a Markdown table, with the notes below it."""
    head = [_line(name for name, _ in COLUMNS), _line("---" for _ in COLUMNS)]
    body = [_line(cell.format(**row) for _, cell in COLUMNS) for row in rows]
    notes = [f"- {row['name']}, {row['size']}: {row['note']}" for row in rows if row["note"]]
    return "\n".join(head + body + [""] + notes).rstrip() + "\n"


def _line(cells):
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
