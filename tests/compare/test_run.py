"""What `compare` measures: tasks, scores, budgets, hidden labels, tuning, reproducing code."""

import inspect

import numpy as np
import pandas as pd
import pytest
from compare_fakes import (
    Crasher,
    Gadget,
    Glutton,
    LabelSpy,
    NaNSpy,
    Printer,
    Raiser,
    Sleeper,
    SlowPredictor,
    TargetTransformer,
    Tree,
)
from sklearn.base import is_classifier, is_clusterer, is_regressor
from sklearn.datasets import load_diabetes, load_iris, load_wine, make_regression
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils import get_tags

import skpapers
from skpapers._compare import CompareError, OneHotTarget, OnLabeledRows, hide_labels
from skpapers._compare._data import from_arrays, load_data
from skpapers._compare._methods import Method, _prepare, find_methods
from skpapers._compare._models import build
from skpapers._compare._split import is_labeled, make_splitter, split_labeled
from skpapers._compare._task import make_problem
from skpapers.utils.discovery import all_estimators

IRIS = load_iris(return_X_y=True)
# the library's estimators that need no arguments
CLASSES = [
    cls
    for _, cls in all_estimators()
    if not cls.__module__.startswith("skpapers.structure")
    and all(p.default is not p.empty for p in inspect.signature(cls).parameters.values())
]


def problem_of(X, y=None, **settings):
    return make_problem(from_arrays(X, y), **settings)


def names_of(problem, **choice):
    return {method.name for method in find_methods(problem, **choice)}


def run_code(code, **names):
    """Execute the code of a row, and return the scores it found."""
    scope = dict(names)
    exec(code, scope)
    return np.mean(scope["scores"])


def test_scores_are_those_of_cross_val_score():
    board = skpapers.compare(*IRIS, include=["SVC", "DummyClassifier"])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    model = make_pipeline(StandardScaler(), SVC())
    scores = cross_val_score(model, *IRIS, cv=folds)
    assert board["method"].tolist() == ["SVC", "DummyClassifier"]
    np.testing.assert_allclose(
        board.loc[0, ["score", "score_std"]].astype(float), [scores.mean(), scores.std()]
    )
    assert board.loc[1, "score"] == pytest.approx(1 / 3)
    assert board.attrs == {"score": "accuracy", "second": "balanced accuracy"}
    assert (board[["fit_seconds", "predict_seconds"]] > 0).all(axis=None)


def test_every_task_has_its_baselines():
    X, y = IRIS
    classification = names_of(problem_of(X, y))
    both = ["Dummy{}", "HistGradientBoosting{}", "RandomForest{}", "KNeighbors{}", "MLP{}"]
    assert {n.format("Classifier") for n in both} | {"LogisticRegression", "SVC"} <= classification
    regression = names_of(problem_of(X, X[:, 0] * 1.5))
    assert {n.format("Regressor") for n in both} | {"Ridge", "SVR"} <= regression
    clustering = names_of(problem_of(X))
    assert {"KMeans", "AgglomerativeClustering", "HDBSCAN", "GaussianMixture"} <= clustering
    semi = names_of(problem_of(X, y, labels=0.5))
    assert {"LabelSpreading", "SelfTrainingClassifier"} <= semi
    assert not {"LabelSpreading", "SelfTrainingClassifier"} & classification


def test_the_library_s_estimators_are_found_by_their_tags():
    X, y = IRIS
    targets = {"classification": y, "regression": X[:, 0] * 1.5, "clustering": y}
    kinds = {
        "classification": is_classifier,
        "regression": is_regressor,
        "clustering": is_clusterer,
    }
    for task, is_kind in kinds.items():
        methods = find_methods(problem_of(X, targets[task], task=task))
        ours = [m for m in methods if m.origin == "skpapers"]
        for m in ours:
            if m.role == "transformer":
                assert task != "clustering" and hasattr(m.estimator, "transform")
                assert not any(kind(m.estimator) for kind in kinds.values())
            else:
                assert is_kind(m.estimator)
        suitable = {
            name
            for name, cls in all_estimators()
            if cls in CLASSES and is_kind(cls()) and not is_no_match_for_tables(cls())
        }
        assert suitable <= {m.name for m in ours}


def is_no_match_for_tables(estimator):
    tags = get_tags(estimator)
    kinds = (tags.classifier_tags, tags.regressor_tags)
    return tags.input_tags.three_d_array or any(t.poor_score for t in kinds if t is not None)


@pytest.mark.timeout(120)  # a sleeper that is not ended sleeps on
def test_failures_become_rows_and_the_run_goes_on():
    fakes = [Sleeper(), SlowPredictor(), Raiser(), Glutton(), Crasher(), Printer(), Tree()]
    board = skpapers.compare(*IRIS, include=fakes, budget=1.0, folds=2, n_jobs=2)
    rows = board.set_index("method")
    assert rows["status"].to_dict() == {
        "Sleeper": "over budget", "SlowPredictor": "over budget", "Raiser": "failed",
        "Glutton": "out of memory", "Crasher": "crashed", "Printer": "ok", "Tree": "ok",
    }  # fmt: skip
    assert rows.loc["Sleeper", "reason"] == "the fit took longer than 1 s"
    assert rows.loc["Raiser", "reason"] == "RuntimeError: the matrix is not to my liking"
    assert "exit code 7" in rows.loc["Crasher", "reason"]
    assert board["method"].tolist()[:2] == ["Tree", "Printer"]  # failures come last
    assert rows.loc["Raiser", "score":"fit_seconds"].isna().all()


def test_same_scores_whatever_n_jobs_and_seed_decides():
    choice = {"include": ["SVC", "RandomForestClassifier", Tree()], "folds": 3}
    one = skpapers.compare(*IRIS, n_jobs=1, **choice)
    two = skpapers.compare(*IRIS, n_jobs=2, **choice)
    other = skpapers.compare(*IRIS, n_jobs=1, random_state=1, **choice)
    columns = ["method", "score", "score_std", "second"]
    pd.testing.assert_frame_equal(one[columns], two[columns])
    assert not one[columns].equals(other[columns])


def test_hidden_labels():
    X, y = IRIS
    fakes = [LabelSpy(), Tree(), TargetTransformer(), PCA(2), "LabelSpreading", "SVC"]
    board = skpapers.compare(X, y, include=fakes, labels=0.2).set_index("method")
    assert (board["status"] == "ok").all()
    learns = board["uses_unlabeled"].to_dict()
    knowing = {"LabelSpy": True, "LabelSpreading": True, "PCA": True}
    assert learns == knowing | {"Tree": False, "SVC": False, "TargetTransformer": False}
    for name in board.index:
        assert run_code(board.loc[name, "code"], X=X, y=y) == pytest.approx(
            board.loc[name, "score"]
        )


def test_hidden_labels_in_regression():
    X, y = make_regression(120, 4, noise=1.0, random_state=0)
    y[:20] = np.nan  # rows without a target are unlabelled rows
    board = skpapers.compare(X, y, include=[NaNSpy(), "Ridge"], labels=0.5).set_index("method")
    assert board["uses_unlabeled"].to_dict() == {"NaNSpy": True, "Ridge": False}
    assert (board["score"] > 0.9).all()
    for name in board.index:
        assert run_code(board.loc[name, "code"], X=X, y=y) == pytest.approx(
            board.loc[name, "score"]
        )


def test_hide_labels_keeps_a_share_of_every_class():
    y = np.repeat([0, 1, 2, -1], [50, 20, 3, 10])
    hidden = hide_labels(y, 0.1, random_state=0)
    assert np.bincount(hidden[hidden >= 0]).tolist() == [5, 2, 1]
    assert np.all((hidden == y) | (hidden == -1))
    numbers = hide_labels(np.r_[np.arange(40.0), np.nan], 0.25, random_state=0)
    assert np.isfinite(numbers).sum() == 10
    assert np.array_equal(hide_labels(y, 1.0, random_state=0), y)


def test_unlabeled_rows_are_trained_on_and_never_scored_on():
    y = np.r_[np.tile([0, 1], 10), -np.ones(7, dtype=int)]
    splits = list(split_labeled(make_splitter(y, "classification", 4, 0), y))
    assert sorted(np.concatenate([test for _, test in splits])) == list(range(20))
    assert all(set(range(20, 27)) <= set(train) for train, _ in splits)
    assert is_labeled(y).sum() == 20


def test_tuning_beats_the_defaults_and_its_code_reproduces_it():
    X, y = load_wine(return_X_y=True)
    plain = skpapers.compare(X, y, include=[Tree()], folds=3)
    tuned = skpapers.compare(X, y, include=[Tree()], folds=3, tune=3)
    assert tuned.loc[0, "score"] > plain.loc[0, "score"] + 0.1
    assert "max_depth" in tuned.loc[0, "settings"]
    assert run_code(tuned.loc[0, "code"], X=X, y=y) == pytest.approx(tuned.loc[0, "score"])


@pytest.mark.parametrize("name", ["wine", "diabetes"])
def test_code_of_rows_on_bundled_data_runs_as_it_is_written(name):
    from skpapers._compare._api import run_comparison

    include = ["LogisticRegression", "KNeighbors*", "Ridge", "SVC*", "SVR"]
    include = [n for n in include if find_or_none(name, n)]
    run = run_comparison(load_data(name), include, None, 1, None, 0)
    assert len(run.rows()) >= 4
    for row in run.rows():
        assert run_code(run.code(row)) == pytest.approx(row["score"], abs=1e-9), row["method"]


def find_or_none(data, name):
    try:
        return find_methods(make_problem(load_data(data)), [name])
    except CompareError:
        return None


def test_regression_standardises_the_target_inside_the_folds():
    X, y = load_diabetes(return_X_y=True)
    one = skpapers.compare(X, y, include=["SVR"], folds=3)
    two = skpapers.compare(X, 1e6 * y + 1e9, include=["SVR"], folds=3)
    assert one.loc[0, "score"] == pytest.approx(two.loc[0, "score"], abs=1e-6)
    assert one.loc[0, "score"] > 0.35


def test_clustering_with_and_without_classes():
    X, y = IRIS
    inside = skpapers.compare(X, include=["KMeans", "AgglomerativeClustering"], folds=3)
    assert inside.attrs["score"] == "silhouette"
    outside = skpapers.compare(
        X, y, task="clustering", include=["KMeans", "GaussianMixture"], folds=3
    )
    assert outside.attrs == {
        "score": "adjusted Rand index",
        "second": "adjusted mutual information",
    }
    assert outside.loc[0, "method"] == "GaussianMixture" and outside.loc[0, "score"] > 0.8
    for board in (inside, outside):
        for _, row in board.iterrows():
            assert run_code(row["code"], X=X, y=y) == pytest.approx(row["score"])
    assert "n_clusters=3" in outside.loc[1, "code"]  # as many as there are classes


def test_one_cluster_has_no_silhouette():
    X = np.random.RandomState(0).uniform(size=(60, 2))
    board = skpapers.compare(X, include=["HDBSCAN", "KMeans"], folds=2)
    assert board.set_index("method").loc["HDBSCAN", "reason"].endswith("no silhouette")


def test_transformers_compete_with_a_linear_model():
    board = skpapers.compare(*IRIS, include=[TargetTransformer()], folds=3)
    assert "OneHotTarget(TargetTransformer())" in board.loc[0, "code"]
    assert board.loc[0, "score"] > 0.8
    X, y = load_diabetes(return_X_y=True)
    board = skpapers.compare(X, y, include=[TargetTransformer()], folds=3)
    assert board.loc[0, "score"] > 0.4


def test_wrappers_do_what_they_say():
    X, y = IRIS
    hidden = hide_labels(y, 0.3, random_state=0)
    wrapped = OnLabeledRows(LogisticRegression()).fit(X, hidden)
    plain = LogisticRegression().fit(X[hidden >= 0], y[hidden >= 0])
    np.testing.assert_array_equal(wrapped.predict(X), plain.predict(X))
    assert not hasattr(wrapped, "transform")
    transformer = OneHotTarget(TargetTransformer()).fit(X, y)
    Y = np.eye(3)[y] - 1 / 3
    expected = X @ np.linalg.lstsq(X, Y)[0]
    np.testing.assert_allclose(transformer.transform(X), expected)


def test_device_seed_and_clusters_are_set():
    problem = problem_of(*IRIS, device="cpu", random_state=5)
    gadget = _prepare(Method("Gadget", Gadget(), "classifier", "yours"), problem)
    assert gadget.estimator.device == "cpu"
    forest = find_methods(problem, ["RandomForestClassifier"])[0]
    assert forest.estimator.random_state == 5


def test_include_and_exclude():
    problem = problem_of(*IRIS)
    assert names_of(problem, include=["svc", "Dummy*"]) == {"SVC", "DummyClassifier"}
    assert "SVC" not in names_of(problem, exclude=["SVC"])
    assert names_of(problem, exclude=["papers"]) == names_of(problem, include=["baselines"])
    two = find_methods(problem, [Tree(), Tree(max_depth=2)])
    assert [m.name for m in two] == ["Tree (1)", "Tree (2)"]
    with pytest.raises(CompareError, match=r"unknown method 'SVV' \(did you mean SV[CR]"):
        find_methods(problem, ["SVV"])
    with pytest.raises(CompareError, match="Ridge does not suit classification"):
        find_methods(problem, ["Ridge"])
    with pytest.raises(CompareError, match="no method is left"):
        find_methods(problem, ["SVC"], ["SVC"])


def test_what_is_made_for_other_inputs_is_left_out_unless_named():
    problem = problem_of(*IRIS)
    poor = {
        cls.__name__ for cls in CLASSES if is_classifier(cls()) and is_no_match_for_tables(cls())
    }
    assert not poor & names_of(problem)
    for name in poor:
        assert names_of(problem, include=[name]) == {name}


def test_pipelines_hold_only_what_the_data_needs():
    X, y = IRIS
    frame = pd.DataFrame(X).assign(city=np.where(y > 0, "Oslo", "Rome"))
    holes = X.copy()
    holes[0, 0] = np.nan
    steps = {}
    for name, table in {"numbers": X, "holes": holes, "mixed": frame}.items():
        problem = problem_of(table, y)
        model = build(find_methods(problem, ["SVC"])[0], problem)
        steps[name] = [type(step).__name__ for _, step in model.steps]
    assert steps["numbers"] == ["StandardScaler", "SVC"]
    assert steps["holes"] == ["SimpleImputer", "StandardScaler", "SVC"]
    assert steps["mixed"] == ["TableVectorizer", "SimpleImputer", "StandardScaler", "SVC"]
    boosting = find_methods(problem_of(holes, y), ["HistGradient*"])[0]
    assert len(build(boosting, problem_of(holes, y)).steps) == 2  # takes missing values itself
