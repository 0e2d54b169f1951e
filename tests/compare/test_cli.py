"""The command line: output, exit codes, and one clear line when something is wrong."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import skpapers
from skpapers.cli import main


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def table(tmp_path):
    rng = np.random.RandomState(0)
    frame = pd.DataFrame({"a": rng.randn(60), "b": rng.choice(["x", "y"], 60)})
    frame["kind"] = np.where(frame["a"] > 0, "up", "down")
    path = tmp_path / "table.csv"
    frame.to_csv(path, index=False)
    return path


def test_compare_prints_a_table_and_the_path_last(capsys, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "compare", table, "--target", "kind", "--include", "SVC",
                         "DummyClassifier", "--folds", 3, "--jobs", 2)  # fmt: skip
    assert (code, err) == (0, "")
    folder = tmp_path / "skpapers-compare" / "table"
    assert out.splitlines()[-1] == str(folder / "report.html")
    assert "SVC" in out and "accuracy" in out and "3 folds" in out
    assert sorted(p.name for p in folder.iterdir()) == ["report.html", "results.csv"]
    before = (folder / "results.csv").read_text()
    code, out, _ = run(capsys, "compare", table, "--target", "kind", "--include", "SVC",
                       "DummyClassifier", "--folds", 3)  # fmt: skip
    assert code == 0 and "2 of 2 methods are in results.csv already" in out
    assert (folder / "results.csv").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.csv"], "nothing.csv does not exist"),
        (["irsi"], "did you mean iris"),
        (["TABLE", "--target", "kinds"], "did you mean kind"),
        (
            ["TABLE", "--target", "kind", "--include", "SVCc"],
            "unknown method 'SVCc' (did you mean SVC",
        ),
        (["TABLE", "--target", "kind", "--exclude", "Nonsense"], "unknown method"),
        (["TABLE", "--target", "kind", "--labels", "0"], "labels must be in (0, 1], got 0.0"),
        (["TABLE", "--target", "kind", "--labels", "1.5"], "labels must be in (0, 1], got 1.5"),
        (["TABLE", "--target", "kind", "--task", "regression"], "holds text"),
        (["TABLE", "--task", "classification"], "--target"),
        (["TABLE", "--target", "kind", "--folds", "1"], "folds must be"),
        (["TABLE", "--target", "kind", "--budget", "-1"], "budget must be"),
        (["TABLE", "--target", "kind", "--jobs", "0"], "jobs must not be 0"),
        (["TABLE", "--target", "kind", "--device", "abacus"], "device 'abacus'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, table, tmp_path, arguments, message):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "results.csv").write_text("kept")
    arguments = [str(table) if a == "TABLE" else a for a in arguments]
    code, out, err = run(capsys, "compare", *arguments, "--output", folder)
    assert code == 2
    assert err.startswith("skpapers: ") and err.count("\n") == 1 and message in err
    assert "Traceback" not in err + out
    assert [(p.name, p.read_text()) for p in folder.iterdir()] == [("results.csv", "kept")]


@pytest.mark.parametrize("arguments", [["compare", "--labels", "some"], ["fly"], ["show"]])
def test_bad_arguments_exit_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_missing_package_is_one_line_naming_the_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "skrub", None)
    code, _, err = run(capsys, "compare", "iris")
    assert code == 2
    assert err == "skpapers: skrub is needed for this: pip install 'skpapers[compare]'\n"


def test_interruption_says_how_to_go_on(capsys, monkeypatch, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("skpapers._compare._api.make_problem", lambda *a, **k: interrupt())
    code, _, err = run(capsys, "compare", "iris", "--output", tmp_path)
    assert code == 130 and "goes on" in err


def test_version_and_help(capsys):
    for arguments, expected in [
        (["--version"], f"skpapers {skpapers.__version__}"),
        (["--help"], "skpapers compare houses.csv --target price"),
        (["compare", "--help"], "--budget"),
    ]:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        assert expected in capsys.readouterr().out
    assert run(capsys)[:1] == (0,)


def test_papers_searches_the_catalogue(capsys):
    code, out, _ = run(capsys, "papers")
    assert code == 0
    assert all(paper.slug in out for paper in skpapers.papers())
    code, out, _ = run(capsys, "papers", "canonical", "CORRELATION")
    assert code == 0 and "svcca" in out and "colide" not in out
    code, out, err = run(capsys, "papers", "zebra", "crossing")
    assert (code, out) == (1, "") and "'zebra crossing'" in err


def test_show_prints_one_paper(capsys):
    (paper,) = (paper for paper in skpapers.papers() if paper.slug == "svcca")
    code, out, _ = run(capsys, "show", paper.slug)
    assert code == 0
    flat = " ".join(out.split())
    for needed in (paper.title, paper.claim, ", ".join(paper.authors), paper.url, *paper.symbols,
                   *paper.evidence, ">>> "):  # fmt: skip
        assert needed in flat, needed


def test_every_paper_can_be_shown(capsys):
    for paper in skpapers.papers():
        assert run(capsys, "show", paper.slug)[0] == 0


def test_unknown_paper_names_the_nearest(capsys):
    code, _, err = run(capsys, "show", "svca")
    assert code == 2 and "svcca" in err and err.count("\n") == 1


def test_the_command_line_does_not_import_torch():
    script = (
        "import sys, skpapers, skpapers.cli; skpapers.cli.main(['papers']); "
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ
    )
    assert done.stderr.strip() == "False"


def test_python_m_skpapers():
    command = [sys.executable, "-m", "skpapers", "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"skpapers {skpapers.__version__}\n")
