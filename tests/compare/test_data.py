"""Which data are accepted, as which task, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from compare_fakes import Tree

import skpapers
from skpapers._compare import CompareError
from skpapers._compare._data import BUNDLED, from_arrays, load_data
from skpapers._compare._task import make_problem

N = 120


@pytest.fixture(scope="module")
def mixed():
    """A table with everything that tables have."""
    rng = np.random.RandomState(0)
    frame = pd.DataFrame(
        {
            "age": np.where(rng.rand(N) < 0.1, np.nan, rng.randint(18, 80, N)),
            "city": rng.choice(["Oslo", "Rome", None], N),
            "born": pd.date_range("2001-01-01", periods=N).astype(str),
            "member": rng.rand(N) > 0.5,
            "user": [f"user {rng.randint(100)} of {rng.randint(100)}" for _ in range(N)],
            "constant": 1,
            "empty": np.nan,
            "size": rng.lognormal(size=N),
        }
    )
    frame.loc[3, "size"] = np.inf
    frame["label"] = np.where(frame["age"] > 50, "old", np.where(frame["member"], "in", "out"))
    frame.loc[0, "label"] = "alone"
    frame.loc[1, "label"] = None
    return frame


def problem_of(X, y=None, **settings):
    return make_problem(from_arrays(X, y), **settings)


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_sets_load_without_network(name):
    data = load_data(name)
    assert make_problem(data).task in ("classification", "regression")
    scope = {}
    exec("\n".join([*data.imports, *data.code]), scope)
    np.testing.assert_array_equal(scope["X"], data.X)


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (np.tile([0, 1], 60), "classification"),
        (np.tile(["a", "b", "c"], 40), "classification"),
        (np.tile([True, False], 60), "classification"),
        (np.tile([1.0, 2.0, np.nan], 40), "classification"),
        (pd.Series(np.tile(["x", "y"], 60), dtype="category"), "classification"),
        (np.arange(120) % 60, "regression"),
        (np.tile([0.5, 1.5], 60), "regression"),
        (None, "clustering"),
    ],
)
def test_task_is_told_by_the_target(y, task):
    assert problem_of(np.random.RandomState(0).randn(120, 2), y).task == task


def test_mixed_tables_are_encoded_inside_the_folds(mixed, tmp_path):
    path = tmp_path / "mixed.csv"
    mixed.to_csv(path, index=False)
    from skpapers._compare._api import run_comparison

    data = load_data(path, "label")
    names = ["LogisticRegression", "HistGradient*", Tree(max_depth=4)]
    run = run_comparison(data, names, None, 1, None, 0, folds=3)
    assert [row["status"] for row in run.rows()] == ["ok"] * 3
    assert run.problem.n_rows == N - 1  # the row without a label
    assert run.problem.classes == (
        "alone",
        "in",
        "old",
        "out",
    )  # one class is rarer than the folds
    assert any("infinite" in note for note in run.problem.notes)
    assert run.rows()[0]["score"] > 0.7
    scope = {}
    exec(run.code(run.rows()[0]), scope)
    assert np.mean(scope["scores"]) == pytest.approx(run.rows()[0]["score"])


def test_nothing_leaks_from_the_held_out_rows():
    """With noise as data, an encoding made before the split would beat chance."""
    rng = np.random.RandomState(0)
    frame = pd.DataFrame({"id": [f"{a:06d}" for a in rng.permutation(200)], "x": rng.randn(200)})
    board = skpapers.compare(
        frame, rng.randint(2, size=200), include=["LogisticRegression", "SVC"]
    )
    assert (board["score"] < 0.62).all()


def test_parquet_and_polars(mixed, tmp_path):
    import polars

    frame = mixed[["age", "city", "size"]].assign(price=mixed["age"].fillna(0) * 2.5)
    frame.to_parquet(tmp_path / "houses.parquet")
    data = load_data(tmp_path / "houses.parquet", "price")
    assert (data.name, make_problem(data).task) == ("houses", "regression")
    table = polars.from_pandas(frame)
    polars_problem = problem_of(table.drop("price"), table["price"])
    assert polars_problem.task == "regression" and polars_problem.is_frame


def test_twenty_five_classes_some_rarer_than_the_folds():
    rng = np.random.RandomState(0)
    y = np.r_[np.repeat(np.arange(20), 12), np.repeat(np.arange(20, 25), 2)]
    X = rng.randn(len(y), 3) + y[:, None]
    labels = np.array([f"class {k:02d}" for k in y])
    board = skpapers.compare(X, labels, include=["KNeighborsClassifier", "LogisticRegression"])
    assert (board["status"] == "ok").all() and (board["score"] > 0.2).all()


def test_more_folds_than_members_of_any_class():
    y = np.repeat(np.arange(4), 3)
    problem = problem_of(np.random.RandomState(0).randn(12, 2), y, task="classification", folds=5)
    assert type(problem.splitter).__name__ == "KFold"


BAD_TARGETS = {
    "one class": (np.zeros(40), {"task": "classification"}, "one class only"),
    "constant": (np.full(40, 2.5), {}, "constant"),
    "names": ([f"row {i}" for i in range(40)], {}, "names rows instead of classes"),
    "dates": (pd.Series(pd.date_range("2020", periods=40)), {}, "dates"),
    "empty": (np.full(40, np.nan), {}, "empty"),
    "infinite": (np.r_[np.inf, np.linspace(0, 1, 39)], {}, "infinite"),
    "text": (np.tile(["a", "b"], 20), {"task": "regression"}, "holds text"),
    "length": (np.zeros(39), {}, "40 rows and y has 39"),
    "two": (np.zeros((40, 2)), {}, "one column"),
    "absent": (None, {"task": "regression"}, "needs a target"),
}
BAD_SETTINGS = {
    "labels 0": ({"labels": 0.0}, r"labels must be in \(0, 1\], got 0.0"),
    "labels nan": ({"labels": float("nan")}, "labels must be"),
    "folds": ({"folds": 1}, "folds must be an integer >= 2, got 1"),
    "rows": ({"folds": 30}, "at least 60 rows"),
    "budget": ({"budget": 0}, "budget must be"),
    "budget nan": ({"budget": float("nan")}, "budget must be"),
    "tune": ({"tune": -1}, "tune must be"),
    "seed": ({"random_state": -1}, "seed must be"),
    "task": ({"task": "guess"}, "task must be"),
    "device": ({"device": "abacus"}, "device 'abacus' cannot be used"),
    "labels in clustering": ({"labels": 0.5, "task": "clustering"}, "hidden in"),
}


@pytest.mark.parametrize("case", BAD_TARGETS)
def test_bad_targets_are_refused_in_one_line(case):
    y, settings, message = BAD_TARGETS[case]
    with pytest.raises(CompareError, match=message) as caught:
        problem_of(np.random.RandomState(0).randn(40, 2), y, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_settings_are_refused_in_one_line(case):
    settings, message = BAD_SETTINGS[case]
    with pytest.raises(CompareError, match=message) as caught:
        problem_of(np.random.RandomState(0).randn(40, 2), np.tile([0, 1], 20), **settings)
    assert "\n" not in str(caught.value)


def test_bad_files(tmp_path):
    good = tmp_path / "good.csv"
    good.write_text("a,bee\n1,2\n3,4\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n1,2,3,4\n")
    (tmp_path / "fake.parquet").write_text("no parquet")
    (tmp_path / "header.csv").write_text("a,b\n")
    cases = [
        (good, "be", r"no column 'be' \(did you mean bee\?\); columns: a, bee"),
        (tmp_path / "missing.csv", None, "does not exist"),
        (tmp_path, None, "is a folder"),
        (tmp_path / "header.csv", "a", "no rows"),
        *(
            (tmp_path / f, "a", "cannot be read")
            for f in ("empty.csv", "binary.csv", "ragged.csv")
        ),
        (tmp_path / "fake.parquet", "a", "cannot be read"),
        ("wien", None, r"'wien' \(did you mean wine"),
        ("iris", "petal", "one target"),
    ]
    for source, target, message in cases:
        with pytest.raises(CompareError, match=message) as caught:
            load_data(source, target)
        assert "\n" not in str(caught.value)


def test_inputs_are_not_changed(mixed):
    frame, before = mixed.copy(), mixed.copy()
    X = np.r_[[[np.inf, 1.0]], np.random.RandomState(0).randn(39, 2)]
    kept = X.copy()
    problem_of(frame.drop(columns="label"), frame["label"])
    problem_of(X, np.tile([0, 1], 20))
    pd.testing.assert_frame_equal(frame, before)
    np.testing.assert_array_equal(X, kept)
