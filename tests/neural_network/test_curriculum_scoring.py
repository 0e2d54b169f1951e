from math import ceil

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpapers.neural_network import (
    CurriculumClassifier,
    CurriculumRegressor,
    NeuralClassifier,
    compare_scores,
    difficulty_scores,
)
from skpapers.neural_network._curriculum_batches import batches, interleave, pacing

NETWORK = NeuralClassifier((128,), lr=4e-3)


def digits(seed, share):
    """Training rows with wrong labels, clean test rows, and the mask of the wrong ones."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        (X / 16).astype(np.float32), y, test_size=0.3, stratify=y, random_state=seed
    )
    rng = np.random.default_rng(seed)
    wrong = rng.uniform(size=len(y_train)) < share
    other = (y_train + rng.integers(1, 10, size=len(y_train))) % 10
    return X_train, np.where(wrong, other, y_train), X_test, y_test, wrong


class Recorder(SGDClassifier):
    """Keeps the rows of each call, which are numbered in the first column."""

    def partial_fit(self, X, y, classes=None):
        self.seen = [*getattr(self, "seen", []), X[:, 0].astype(int)]
        return super().partial_fit(X, y, classes=classes)


def numbered(n, n_classes=3):
    rng = np.random.default_rng(0)
    X = np.column_stack([np.arange(n), rng.normal(size=(n, 3))])
    return X, rng.integers(n_classes, size=n)


def test_no_curriculum_is_training_on_shuffled_batches():
    X, y = numbered(50)
    model = CurriculumClassifier(
        Recorder(random_state=0),
        scoring="feature:norm",
        schedule="none",
        max_epochs=4,
        batch_size=16,
        random_state=0,
    ).fit(X, y)
    seen = model.estimator_.seen
    assert [len(rows) for rows in seen] == [16, 16, 16, 2] * 4
    epochs = [np.concatenate(seen[4 * e : 4 * e + 4]) for e in range(4)]
    for rows in epochs:
        np.testing.assert_array_equal(np.sort(rows), np.arange(50))
    assert (epochs[0] != epochs[1]).any()
    plain = SGDClassifier(random_state=0)
    for rows in seen:
        plain.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
    np.testing.assert_allclose(model.estimator_.coef_, plain.coef_, rtol=0, atol=1e-10)


@pytest.mark.parametrize("schedule", ["fixed_exponential", "linear", "root", "step", "none"])
@pytest.mark.parametrize("n, start, ramp", [(1257, 0.1, 0.5), (97, 0.04, 0.9), (10, 0.3, 1.0)])
def test_pace_starts_small_grows_and_is_full_after_the_ramp(schedule, n, start, ramp):
    counts = pacing(schedule, 400, n, start=start, ramp=ramp)
    assert len(counts) == 400
    assert counts[0] == (n if schedule == "none" else ceil(start * n))
    assert (np.diff(counts) >= 0).all()
    assert (counts[ceil(ramp * 400) :] == n).all()
    capped = pacing(schedule, 400, n, start=start, ramp=ramp, end=0.65)
    np.testing.assert_array_equal(capped, np.minimum(counts, ceil(0.65 * n)))


def test_paces_are_those_of_the_formulas():
    n, T = 1000, 100
    exponential = pacing("fixed_exponential", T, n, growth=2.0)  # four levels of 12 steps
    expected = np.repeat([100, 200, 400, 800], 12)
    np.testing.assert_array_equal(exponential[:48], expected)
    assert (exponential[48:] == n).all()
    assert pacing("linear", T, n)[25] == 550
    assert pacing("root", T, n)[25] == ceil(1000 * np.sqrt(0.505))
    np.testing.assert_array_equal(pacing("step", T, n)[[49, 50]], [100, 1000])
    cyclic = pacing("cyclic", 20, n, growth=3.0, per_epoch=2)[::2]
    expected = [100, 300, 900, 1000, 334, 112, 100, 300, 900, 1000]
    np.testing.assert_array_equal(cyclic, expected)


def test_every_schedule_makes_as_many_steps():
    X, y = numbered(50)
    for schedule in ("fixed_exponential", "linear", "root", "step", "cyclic", "none"):
        for order in ("easy", "hard", "random"):
            model = CurriculumClassifier(
                Recorder(random_state=0),
                scoring="feature:norm",
                schedule=schedule,
                order=order,
                max_epochs=3,
                batch_size=16,
                random_state=0,
            ).fit(X, y)
            assert len(model.estimator_.seen) == len(model.pacing_) == 3 * 4
            for rows, available in zip(model.estimator_.seen, model.pacing_):
                assert set(rows) <= set(model.order_[:available])


@pytest.mark.parametrize("counts", [[5], [7, 1], [500, 300, 50, 3], [40] * 10, [1, 2, 3, 4, 99]])
def test_every_prefix_has_the_shares_of_the_classes(counts):
    counts = np.array(counts)
    taken = np.cumsum(np.eye(len(counts))[interleave(counts)], axis=0)
    np.testing.assert_array_equal(taken[-1], counts)
    quota = np.arange(1, counts.sum() + 1)[:, None] * counts / counts.sum()
    assert np.abs(taken - quota).max() <= 1


def test_order_is_by_difficulty_within_each_class():
    X, y = numbered(60)
    difficulty = np.random.default_rng(1).normal(size=60)
    params = {"estimator": SGDClassifier(random_state=0), "max_epochs": 1, "random_state": 0}
    for order, sign in (("easy", 1), ("hard", -1)):
        model = CurriculumClassifier(order=order, **params).fit(X, y, difficulty=difficulty)
        np.testing.assert_array_equal(model.difficulty_, difficulty)
        ordered = sign * difficulty[model.order_]
        for label in range(3):
            assert (np.diff(ordered[y[model.order_] == label]) > 0).all()
        free = CurriculumClassifier(order=order, balance=False, **params)
        free.fit(X, y, difficulty=difficulty)
        np.testing.assert_array_equal(free.order_, np.argsort(sign * difficulty))


def test_progress_counts_the_steps(capsys):
    X, y = numbered(50)
    model = CurriculumClassifier(SGDClassifier(), max_epochs=3, random_state=0, verbose=1)
    model.fit(X, y)
    assert "CurriculumClassifier: 100%" in (shown := capsys.readouterr().err) and "3/3" in shown


def test_batches_are_drawn_anew_when_the_prefix_grows_or_is_used_up():
    available = [4, 4, 4, 8, 8, 8]
    rows = list(batches(np.arange(10), available, 3, np.random.RandomState(0)))
    assert [len(r) for r in rows] == [3, 1, 3, 3, 3, 2]
    assert sorted(np.concatenate(rows[:2])) == [0, 1, 2, 3]
    assert sorted(np.concatenate(rows[3:])) == list(range(8))


def test_feature_scores_equal_brute_force():
    rng = np.random.default_rng(0)
    X, y = rng.uniform(size=(40, 12)), rng.integers(3, size=40)
    names = ["knn", "distance", "std", "edges", "entropy"]
    found = difficulty_scores(X, y, [f"feature:{n}" for n in names], image_shape=(3, 4))
    for i in range(40):
        distance = [(np.sum((X[i] - X[j]) ** 2), j) for j in range(40) if j != i]
        near = [j for _, j in sorted(distance)[:10]]
        assert found["feature:knn"][i] == pytest.approx(np.mean(y[near] != y[i]), abs=1e-14)
        to_class = [np.linalg.norm(X[i] - X[y == k].mean(axis=0)) for k in range(3)]
        other = min(d for k, d in enumerate(to_class) if k != y[i])
        assert found["feature:distance"][i] == pytest.approx(to_class[y[i]] / other, rel=1e-12)
        assert found["feature:std"][i] == pytest.approx(np.std(X[i]), rel=1e-12)
        down, right = np.gradient(X[i].reshape(3, 4))
        edges = np.mean(np.sqrt(down**2 + right**2))
        assert found["feature:edges"][i] == pytest.approx(edges, rel=1e-12)
        share = np.histogram(X[i], bins=256, range=(X.min(), X.max()))[0] / 12
        entropy = -sum(p * np.log(p) for p in share if p)
        assert found["feature:entropy"][i] == pytest.approx(entropy, rel=1e-10)


def test_scores_of_texts():
    texts = ["a a b", "a c", "a a a a"]
    found = difficulty_scores(texts, [0, 1, 0], ["feature:length", "feature:rarity"])
    assert found["feature:length"].tolist() == [3, 2, 4]
    a, b = -np.log(7 / 9), -np.log(1 / 9)
    expected = [(2 * a + b) / 3, (a + b) / 2, a]
    np.testing.assert_allclose(found["feature:rarity"], expected, rtol=1e-12)


def test_transfer_scores_are_out_of_fold():
    """A scorer that memorises would give every row a loss of zero, had it seen the row."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 5)), rng.integers(2, size=200)
    memory = KNeighborsClassifier(1)
    scores = difficulty_scores(X, y, scorer=memory, random_state=0)["transfer"]
    assert 0.35 < np.mean(scores > 0) < 0.65
    single = difficulty_scores(X, np.r_[2, y[1:]], scorer=memory, random_state=0)["transfer"]
    assert not single.any()  # a class of one row: the scorer has seen all


def test_scores_follow_a_permutation_of_the_rows():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), rng.integers(3, size=60)
    p = rng.permutation(60)
    for name in ("feature:knn", "feature:distance", "feature:std"):
        plain, moved = (difficulty_scores(a, b, name)[name] for a, b in ((X, y), (X[p], y[p])))
        np.testing.assert_allclose(moved, plain[p], rtol=1e-10)
    target = X[:, 0] + rng.normal(size=60)
    params = {"cv": 60, "task": "regression", "random_state": 0}  # each row a fold: the same folds
    plain = difficulty_scores(X, target, **params)["transfer"]
    moved = difficulty_scores(X[p], target[p], **params)["transfer"]
    np.testing.assert_allclose(moved, plain[p], rtol=1e-8)


class ClassProbabilities(ClassifierMixin, BaseEstimator):
    """Counts how often it is fitted; its output depends on the row alone."""

    calls = 0

    def fit(self, X, y):
        type(self).calls += 1
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def predict_proba(self, X):
        scores = np.exp(X[:, 20 : 20 + len(self.classes_)])
        return scores / scores.sum(axis=1, keepdims=True)


def test_feature_scores_fit_no_model():
    X, y, *_ = digits(0, 0.0)
    ClassProbabilities.calls = 0
    names = ["distance", "knn", "norm", "std", "entropy", "edges", "length", "rarity"]
    names = [f"feature:{name}" for name in names]
    difficulty_scores(X, y, names, scorer=ClassProbabilities(), image_shape=(8, 8))
    assert ClassProbabilities.calls == 0
    difficulty_scores(X, y, scorer=ClassProbabilities(), cv=4, random_state=0)
    assert ClassProbabilities.calls == 4


@pytest.mark.parametrize("seed", range(2))
def test_wrong_labels_are_difficult(seed):
    X, y, _, _, wrong = digits(seed, 0.15)
    names = ["transfer", "feature:knn", "self", "ensemble:self"]
    found = difficulty_scores(
        X, y, names, estimator=NETWORK, max_epochs=5, ensemble_size=2, random_state=seed
    )
    auc = {name: roc_auc_score(wrong, scores) for name, scores in found.items()}
    assert auc["transfer"] >= 0.97 and auc["feature:knn"] >= 0.97 and auc["self"] >= 0.95
    assert auc["ensemble:self"] >= auc["self"] - 0.002
    both = CurriculumClassifier(
        SGDClassifier(random_state=0),
        scoring=["transfer", "feature:knn"],
        max_epochs=1,
        random_state=seed,
    ).fit(X, y)
    members = np.mean([auc["transfer"], auc["feature:knn"]])
    assert roc_auc_score(wrong, both.difficulty_) >= members - 0.002


def test_ensemble_of_scorers_is_no_worse_than_its_members():
    X, y, _, _, wrong = digits(0, 0.15)
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    members = [linear, KNeighborsClassifier(10)]
    single = [difficulty_scores(X, y, scorer=m, random_state=0)["transfer"] for m in members]
    joint = difficulty_scores(X, y, "ensemble:transfer", scorer=members, random_state=0)
    mean = np.mean([roc_auc_score(wrong, s) for s in single])
    assert roc_auc_score(wrong, joint["ensemble:transfer"]) >= mean - 0.002


def test_rank_correlations_are_those_of_spearman():
    rng = np.random.default_rng(0)
    scores = {"a": rng.normal(size=30), "b": rng.integers(4, size=30), "c": np.ones(30)}
    found = compare_scores(scores)
    assert found[0, 1] == pytest.approx(spearmanr(scores["a"], scores["b"])[0], abs=1e-12)
    np.testing.assert_array_equal(found[2], 0)


def mean_accuracy(n_seeds, share, n_epochs, variants):
    """Mean test accuracy of each variant, with linear pacing."""
    totals = dict.fromkeys(variants, 0.0)
    for seed in range(n_seeds):
        X, y, X_test, y_test, _ = digits(seed, share)
        for name, params in variants.items():
            params = {"schedule": "linear", "ramp": 0.9, "batch_size": 128, **params}
            model = CurriculumClassifier(NETWORK, max_epochs=n_epochs, random_state=seed, **params)
            totals[name] += model.fit(X, y).score(X_test, y_test) / n_seeds
    return totals


VARIANTS = {
    "transfer": {"scoring": "transfer"},
    "knn": {"scoring": "feature:knn"},
    "none": {"schedule": "none", "scoring": "feature:norm"},
    "random": {"order": "random", "scoring": "feature:norm"},
    "cut": {"scoring": "transfer", "end_fraction": 0.65},
}


@pytest.mark.slow
def test_easy_first_orders_resist_wrong_labels_in_long_training():
    """Five seeds, 30 per cent wrong labels, 80 epochs."""
    mean = mean_accuracy(5, 0.3, 80, VARIANTS)
    for name in ("transfer", "knn"):
        assert mean[name] >= mean["none"] + 0.01
        assert mean[name] >= mean["random"] + 0.025
    assert mean["cut"] >= mean["none"] + 0.03


def test_easy_first_orders_resist_wrong_labels():
    variants = {name: VARIANTS[name] for name in ("knn", "none", "random", "cut")}
    mean = mean_accuracy(1, 0.3, 80, variants)
    assert mean["knn"] >= mean["none"] + 0.01 and mean["knn"] >= mean["random"] + 0.025
    assert mean["cut"] >= mean["none"] + 0.03


def test_nothing_is_gained_in_short_training_or_on_clean_labels():
    variants = {name: VARIANTS[name] for name in ("transfer", "knn", "none")}
    for share, n_epochs in ((0.3, 15), (0.0, 20)):
        mean = mean_accuracy(2, share, n_epochs, variants)
        assert max(mean["transfer"], mean["knn"]) <= mean["none"] + 0.01


def test_regressor_trains_on_the_standardised_target():
    X, y = load_diabetes(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    inner = SGDRegressor(random_state=0)
    for scoring in ("transfer", "feature:knn", "feature:distance", "self"):
        model = CurriculumRegressor(inner, scoring=scoring, random_state=0).fit(X, 1e6 * y)
        assert model.score(X, 1e6 * y) > 0.45
        assert len(model.difficulty_) == len(y) and model.difficulty_.min() >= 0


@pytest.mark.parametrize(
    "params, message",
    [
        ({"scoring": "feature:colour"}, "'feature:colour' is unknown; known are"),
        ({"scoring": [1.0, 2.0]}, "a finite number for each of the 60 rows"),
        ({"scoring": "feature:edges", "image_shape": (3, 3)}, r"image_shape=\(3, 3\)"),
        ({"scoring": "feature:length"}, "rows of counts"),
        ({"scorer": [LogisticRegression()]}, "for several 'ensemble:transfer'"),
        ({"scoring": "ensemble:transfer", "scorer": LogisticRegression()}, "list of scorers"),
        ({"estimator": LogisticRegression()}, "partial_fit"),
    ],
)
def test_what_does_not_fit_is_said(params, message):
    X, y = numbered(60)
    params = {"estimator": MLPClassifier((5,), random_state=0), **params}
    with pytest.raises(ValueError, match=message):
        CurriculumClassifier(max_epochs=1, random_state=0, **params).fit(X - 1, y)
