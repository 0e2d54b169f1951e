"""What holds for the package as a whole: imports, catalogue, README."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import skpapers
from skpapers.utils.discovery import all_estimators, public_symbols, rooms

ROOT = Path(__file__).parents[1]
PAPERS = skpapers.papers()
ids = pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.slug)

# Public names that belong to no single paper: the house, and what several papers share.
SHARED = {
    "skpapers.causal.graph_metrics",
    "skpapers.causal.make_linear_sem",
    "skpapers.hypothesis_testing.HypothesisTestResult",
    "skpapers.hypothesis_testing.adjust_pvalues",
    "skpapers.hypothesis_testing.stein_kernel_matrix",
    "skpapers.datasets.*",
    "skpapers.neural_network.*",
    "skpapers.processes.*",
    "skpapers.structure.*",
}


def run_python(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_brings_neither_torch_nor_a_room():
    code = "import sys, skpapers, skpapers.cli; skpapers.papers(); print(*sys.modules)"
    loaded = set(run_python(code).split())
    assert "torch" not in loaded
    assert not {f"skpapers.{room}" for room in rooms()} & loaded


def numpy_modules(room):
    """Modules of a room, without those that may import torch and what is built on them."""
    config = (ROOT / "pyproject.toml").read_text().partition("source_modules")[2]
    sources = {file.stem: file.read_text() for file in (ROOT / "skpapers" / room).glob("_*.py")}
    on_torch = set(re.findall(rf'"skpapers\.{room}\.(\w+) ->', config))
    while True:
        users = {
            name
            for name, source in sources.items()
            if any(re.search(rf"from \.{module} import", source) for module in on_torch)
        }
        if users <= on_torch:
            return sorted(set(sources) - on_torch - {"__init__"})
        on_torch |= users


@pytest.mark.parametrize("room", rooms())
def test_a_room_on_numpy_does_not_import_torch(room):
    config = (ROOT / "pyproject.toml").read_text()
    on_numpy = re.findall(r'"skpapers\.(\w+)",', config.partition("source_modules")[2])
    if room in on_numpy:
        modules = ", ".join(f"skpapers.{room}.{name}" for name in numpy_modules(room))
        assert run_python(f"import sys, {modules}; print('torch' in sys.modules)") == "False"


def test_every_paper_is_complete():
    assert len({paper.slug for paper in PAPERS}) == len(PAPERS) >= 13


@ids
def test_symbols_import(paper):
    assert paper.symbols
    for symbol in paper.symbols:
        module, _, name = symbol.rpartition(".")
        assert name in importlib.import_module(module).__all__
        assert module == f"skpapers.{paper.room}" or module.count(".") == 1


@ids
def test_evidence_exists(paper):
    assert paper.evidence
    for test in paper.evidence:
        path, _, function = test.partition("::")
        tree = ast.parse((ROOT / path).read_text())
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert function.partition("[")[0] in names, test
        assert function.startswith("test_")


@ids
def test_files_are_where_they_belong(paper):
    assert (ROOT / f"skpapers/{paper.room}/_{paper.slug}.py").exists()
    assert (ROOT / f"tests/{paper.room}/test_{paper.slug}.py").exists()
    assert (ROOT / f"examples/{paper.room}/plot_{paper.slug}.py").exists()
    if paper.peers:
        assert (ROOT / f"benchmarks/{paper.room}/bench_{paper.slug}.py").exists()


@ids
def test_entries_say_what_a_reader_wants_to_know(paper):
    assert paper.title
    assert len(paper.authors) > 0
    assert 1950 < paper.year < 2100
    assert re.fullmatch(r"\d{4}\.\d{4,5}|", paper.arxiv)
    assert 40 < len(paper.claim) < 400
    assert paper.claim.endswith(".")
    assert paper.claim.count("\n") == 0


def test_every_public_name_is_claimed():
    claimed = {symbol for paper in PAPERS for symbol in paper.symbols}
    unclaimed = set(public_symbols()) - claimed - SHARED
    unclaimed = {name for name in unclaimed if f"{name.rpartition('.')[0]}.*" not in SHARED}
    assert not unclaimed


def test_discovery_filters():
    classifiers = dict(all_estimators("classifier"))
    assert "NeuralClassifier" in classifiers
    assert "NeuralRegressor" not in classifiers
    with pytest.raises(ValueError, match="type_filter"):
        all_estimators("banana")


def test_papers_are_found_by_words():
    assert [p.slug for p in skpapers.papers("svcca RAGHU")] == ["svcca"]
    assert skpapers.papers("no such words anywhere") == []


def test_the_tables_generated_from_the_catalogue_are_current():
    done = subprocess.run(
        [sys.executable, "doc/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
