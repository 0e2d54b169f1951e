"""A run that was stopped goes on; nothing of an older one is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from compare_fakes import Journal, Sleeper, Tree
from sklearn.datasets import load_iris

import skpapers
from skpapers._compare import CompareError
from skpapers._compare._pool import POOL
from skpapers._compare._store import COLUMNS, Store, read_rows, write_atomically

X, y = load_iris(return_X_y=True)

SCRIPT = """
import sys
from compare_fakes import Journal, Sleeper, Tree
from sklearn.datasets import load_iris
import skpapers

X, y = load_iris(return_X_y=True)
folder = sys.argv[1]
slow = Journal(path=folder + "/journal", seconds=float(sys.argv[2]))
skpapers.compare(X, y, include=[Tree(), slow], folds=3, output=folder + "/out", budget=100)
"""


def start(folder, seconds):
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", SCRIPT, str(folder), str(seconds)]
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_a_stopped_run_goes_on(tmp_path, name):
    results, journal = tmp_path / "out" / "results.csv", tmp_path / "journal"
    process = start(tmp_path, 60)
    wait_for(lambda: results.exists() and journal.exists())  # one method done, one running
    process.send_signal(getattr(signal, name))
    stopped = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - stopped < 15  # not a minute, as the fit would take
    assert process.returncode != 0
    (first,) = read_rows(results)
    assert first["method"] == "Tree"
    journal.unlink()
    board = skpapers.compare(
        X, y, include=[Tree(), Journal(str(journal))], folds=3, output=tmp_path / "out"
    )
    assert (board["status"] == "ok").all()
    assert read_rows(results)[0] == first  # not fitted again
    assert journal.read_text().count("fit") == 3


def test_finished_rows_are_not_fitted_again_and_new_ones_are_added(tmp_path):
    spy = Journal(str(tmp_path / "journal"))
    one = skpapers.compare(X, y, include=[spy], folds=3, output=tmp_path / "out")
    two = skpapers.compare(X, y, include=[spy, Tree()], folds=3, output=tmp_path / "out")
    assert (tmp_path / "journal").read_text().count("fit") == 3
    assert two.set_index("method").loc["Journal", "fit_seconds"] == one.loc[0, "fit_seconds"]
    changed = Journal(str(tmp_path / "journal"), seconds=0.001)
    skpapers.compare(X, y, include=[changed], folds=3, output=tmp_path / "out")
    assert (tmp_path / "journal").read_text().count("fit") == 6  # other hyper-parameters


def test_more_budget_is_another_chance(tmp_path):
    choice = {"include": [Sleeper(1.0)], "folds": 2, "output": tmp_path}
    assert skpapers.compare(X, y, budget=0.3, **choice).loc[0, "status"] == "over budget"
    assert skpapers.compare(X, y, budget=0.2, **choice).loc[0, "reason"].endswith("0.3 s")
    assert skpapers.compare(X, y, budget=30.0, **choice).loc[0, "status"] == "ok"


def test_other_data_or_settings_start_fresh_and_keep_the_old_rows(tmp_path):
    choice = {"include": [Tree()], "folds": 3, "output": tmp_path}
    skpapers.compare(X, y, **choice)
    old = (tmp_path / "results.csv").read_text()
    run = read_rows(tmp_path / "results.csv")[0]["run"]
    changed = X.copy()
    changed[0, 0] += 1.0
    for other in [lambda: skpapers.compare(changed, y, **choice),
                  lambda: skpapers.compare(X, y, **choice, random_state=1)]:  # fmt: skip
        other()
        assert (tmp_path / f"results-{run}.csv").read_text() == old
        assert (tmp_path / f"report-{run}.html").exists()
        assert read_rows(tmp_path / "results.csv")[0]["run"] != run
    skpapers.compare(X, y, **choice)  # and back again: its rows return
    assert (tmp_path / "results.csv").read_text() == old


def test_what_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "results.csv").write_text("my,precious\n1,2\n")
    with pytest.raises(CompareError, match="choose another --output"):
        skpapers.compare(X, y, include=[Tree()], output=tmp_path)
    assert (tmp_path / "results.csv").read_text() == "my,precious\n1,2\n"
    (tmp_path / "file").write_text("")
    with pytest.raises(CompareError, match="is a file"):
        skpapers.compare(X, y, include=[Tree()], output=tmp_path / "file")


def test_rows_are_never_half_written(tmp_path, monkeypatch):
    store = Store(tmp_path, "run")
    row = dict.fromkeys(COLUMNS, "") | {"run": "run", "method": "A", "reason": 'a "quoted",\nline'}
    store.add(row)
    before = (tmp_path / "results.csv").read_bytes()
    assert read_rows(tmp_path / "results.csv") == store.rows

    def fails(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="no space"):
        store.add(row | {"method": "B"})
    assert (tmp_path / "results.csv").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]


def test_write_atomically_replaces(tmp_path):
    for text in ("one", "two"):
        write_atomically(tmp_path / "f", text)
        assert (tmp_path / "f").read_text() == text


def test_one_process_serves_many_methods_until_it_is_killed(monkeypatch):
    started = []
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(1) or start(*a, **k))
    POOL.close()
    trees = [Tree(max_depth=d) for d in (1, 2, 3)]
    board = skpapers.compare(X, y, include=trees, folds=2, n_jobs=1)
    assert len(started) == 1 and len(board) == 3
    skpapers.compare(X, y, include=[Sleeper(), Tree()], folds=2, budget=0.3, n_jobs=1)
    assert len(started) == 2
    assert np.isfinite(board["score"]).all()
