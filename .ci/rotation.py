"""Choose what this run looks at: ``slow`` test files, or three ``examples``.

Slow tests run for the papers whose files changed of late and for a tenth of the others; which
tenth, and which examples, moves on with every commit.
"""

import subprocess
import sys
from pathlib import Path

TURN = int(subprocess.check_output(["git", "rev-list", "--count", "HEAD"]))
SINCE = "12 hours ago"


def slow_tests():
    files = [p for p in sorted(Path("tests").rglob("test_*.py")) if "mark.slow" in p.read_text()]
    log = ["git", "log", f"--since={SINCE}", "--name-only", "--format="]
    changed = {Path(line).stem for line in subprocess.check_output(log, text=True).split()}
    for number, path in enumerate(files):
        slug = path.stem.removeprefix("test_")
        if {f"_{slug}", path.stem} & changed or (number + TURN) % 10 == 0:
            yield path


def examples():
    files = sorted(Path("examples").rglob("plot_*.py"))
    return [files[(3 * TURN + k) % len(files)] for k in range(min(3, len(files)))]


if __name__ == "__main__":
    print(*(slow_tests() if sys.argv[1] == "slow" else examples()), sep="\n")
