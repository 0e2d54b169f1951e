"""Tests of the reusable holdout and of the other mechanisms that answer adaptive queries."""

import copy
import pickle
import warnings

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse, stats
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestCentroid
from sklearn.svm import SVC

from skpapers.model_selection import (
    BudgetExhaustedError,
    GaussianQueries,
    LaplaceQueries,
    PrivateMultiplicativeWeights,
    ReusableHoldoutSearchCV,
    Thresholdout,
    reusable_holdout_score,
)

pytestmark = pytest.mark.filterwarnings("ignore:threshold:UserWarning")


# The mechanism.


@pytest.mark.parametrize("distribution", ["laplace", "gaussian"])
def test_answers_that_overfit_are_the_holdout_mean_plus_noise(distribution):
    holdout = Thresholdout(0.04, 0.01, 20_000, distribution=distribution, random_state=0)
    answers = holdout.query_means(np.zeros(20_000), np.full(20_000, 0.5))
    law = stats.laplace if distribution == "laplace" else stats.norm
    assert stats.kstest(answers - 0.5, law(scale=0.01).cdf).pvalue > 0.01
    assert holdout.budget_remaining_ == 0


def test_answers_that_agree_are_the_training_mean_and_cost_nothing():
    holdout = Thresholdout(0.04, 0.0005, 7, random_state=0)
    means = np.random.RandomState(0).uniform(size=5000)
    assert_array_equal(holdout.query_means(means, means), means)
    assert (holdout.budget_remaining_, holdout.n_queries_) == (7, 5000)


def test_false_alarms_are_as_frequent_as_the_noise_says():
    """The threshold noise stays until an alarm: one query of each of many fresh objects."""
    repeats, threshold, noise = 2000, 0.04, 0.01
    alarms = 0
    rng = np.random.RandomState(0)
    for _ in range(repeats):
        holdout = Thresholdout(threshold, noise, 1, random_state=rng)
        holdout.query_means([0.5], [0.5])
        alarms += holdout.history_[0].overfits
    # P(L(4s) + L(2s) < -T) of independent Laplace variables, by partial fractions.
    wide, narrow = 4 * noise, 2 * noise
    terms = wide**2 * np.exp(-threshold / wide) - narrow**2 * np.exp(-threshold / narrow)
    expected = terms / (2 * (wide**2 - narrow**2))
    error = np.sqrt(expected * (1 - expected) / repeats)
    assert abs(alarms / repeats - expected) < 4 * error


def test_budget_falls_with_overfitting_answers_and_the_threshold_is_renewed_only_then():
    holdout = Thresholdout(0.04, 0.001, 2, random_state=0)
    shift = holdout._shift
    holdout.query_means([0.5, 0.6], [0.5, 0.6])
    assert holdout._shift == shift
    assert holdout.budget_remaining_ == 2
    holdout.query_means([0.9], [0.5])
    assert holdout._shift != shift
    assert holdout.budget_remaining_ == 1
    holdout.query_means([0.9], [0.5])
    with pytest.raises(BudgetExhaustedError, match="budget"):
        holdout.query_means([0.5], [0.5])
    assert [answer.overfits for answer in holdout.history_] == [False, False, True, True]
    assert holdout.n_queries_ == 4
    silent = Thresholdout(0.04, 0.001, 1, on_exhausted="nan", random_state=0)
    assert_array_equal(np.isnan(silent.query_means([0.9, 0.9], [0.5, 0.5])), [False, True])


def test_many_queries_at_once_are_the_same_as_one_after_the_other():
    rng = np.random.RandomState(0)
    train, holdout = rng.uniform(size=(2, 200))
    at_once = Thresholdout(0.3, 0.05, 150, random_state=1).query_means(train, holdout)
    single = Thresholdout(0.3, 0.05, 150, random_state=1)
    one_by_one = [single.query_means([t], [h])[0] for t, h in zip(train, holdout)]
    assert_array_equal(at_once, one_by_one)
    assert 0 < single.budget_remaining_ < 150


def test_queries_are_bounded_means_of_rows():
    y = np.arange(4000) % 2
    X = np.zeros((4000, 1))
    holdout = Thresholdout(0.05, 0.001, random_state=0).set_data(X, y, X, 1 - y)
    assert holdout.query(lambda X, y: y) == 0.5
    assert holdout.query(lambda X, y: 10.0 * y - 3, bounds=(-3, 7)) == 2.0
    assert abs(holdout.query(lambda X, y: y == y[0]) - 0.5) < 1e-12
    with pytest.raises(ValueError, match=r"\[0.0, 1.0\]"):
        holdout.query(lambda X, y: 2.0 * y)
    with pytest.raises(ValueError, match="one value"):
        holdout.query(lambda X, y: y[:5])
    with pytest.raises(ValueError, match="new Thresholdout"):
        holdout.set_data(X, y, X, y)
    with pytest.raises(ValueError, match="set_data"):
        Thresholdout().query(lambda X, y: y)
    with pytest.raises(ValueError, match="budget"):
        Thresholdout().query_means([0.1], [0.1])


def test_threshold_below_the_noise_of_the_holdout_warns():
    X, y = np.zeros((100, 1)), np.zeros(100)
    with pytest.warns(UserWarning, match=r"sqrt\(100\)"):
        Thresholdout(0.04).set_data(X, y, X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Thresholdout(0.21).set_data(X, y, X, y)


@pytest.mark.parametrize(
    "params",
    [{"threshold": 0}, {"noise": -1.0}, {"budget": 0}, {"distribution": "cauchy"}],
)
def test_bad_parameters_of_the_mechanism_are_named(params):
    with pytest.raises(ValueError, match=next(iter(params))):
        Thresholdout(**params)


# The mechanisms of differential privacy.


@pytest.mark.parametrize("delta", [None, 1e-3])
def test_noise_scales_are_those_of_the_composition_theorems(delta):
    X = np.zeros((100, 1))
    laplace = LaplaceQueries(0.5, 20, delta).set_data(X).noise_scale_
    basic, advanced = 20 / (100 * 0.5), np.sqrt(8 * 20 * np.log(1e3)) / (100 * 0.5)
    assert_allclose(laplace, basic if delta is None else advanced)
    gaussian = GaussianQueries(0.5, 20, 1e-3).set_data(X).noise_scale_
    assert_allclose(gaussian, np.sqrt(2 * 20 * np.log(1250)) / (100 * 0.5))


def test_answers_of_the_laplace_mechanism_hardly_tell_neighbouring_samples_apart():
    """In every bin the frequencies differ by the factor exp(epsilon) at most."""
    epsilon, counts, repeats = 0.5, [], 8000
    edges = np.r_[-np.inf, np.linspace(0.3, 0.7, 9), np.inf]
    for ones in (10, 11):  # samples that differ in one row
        X = (np.arange(20) < ones)[:, None]
        rng = np.random.RandomState(ones)
        queries = LaplaceQueries(epsilon * repeats, repeats, random_state=rng).set_data(X)
        answers = [queries.query(lambda X: X[:, 0]) for _ in range(repeats)]
        counts.append(np.histogram(answers, edges)[0])
    log_ratios = np.log(counts[0] / counts[1])
    errors = np.sqrt(1 / counts[0] + 1 / counts[1])
    assert (np.abs(log_ratios) <= epsilon + 4 * errors).all()
    assert (np.abs(log_ratios) > epsilon - 4 * errors)[[0, -1]].all()  # the noise is not larger


@pytest.mark.parametrize("kind", [LaplaceQueries, GaussianQueries])
def test_mechanisms_answer_in_the_unit_interval_as_often_as_agreed(kind):
    rng = np.random.RandomState(0)
    X, y = rng.uniform(size=(50, 1)), rng.randint(2, size=50)
    queries = kind(0.1, 30, random_state=0).set_data(X, y)
    answers = [queries.query(lambda X, y: y * X[:, 0]) for _ in range(30)]
    assert 0 <= min(answers) <= max(answers) <= 1
    assert len(set(answers)) > 2
    with pytest.raises(BudgetExhaustedError, match="30"):
        queries.query(lambda X, y: y)
    assert [a.answer for a in queries.history_] == answers


UNIVERSE = np.array(np.meshgrid(*[[0, 1]] * 8)).reshape(8, -1).T


def independent_bits(rng, n_samples=5000):
    return (rng.uniform(size=(n_samples, 8)) < rng.uniform(0.1, 0.9, size=8)).astype(int)


@pytest.mark.parametrize("seed", [0, 1])
def test_multiplicative_weights_answer_thousands_of_queries_with_few_updates(seed):
    rng = np.random.RandomState(seed)
    X = independent_bits(rng)
    queries = PrivateMultiplicativeWeights(UNIVERSE, 0.1, random_state=seed).set_data(X)
    errors = []
    for _ in range(2000):
        weights = rng.normal(size=8)
        cut = rng.normal()
        answer = queries.query(lambda Z, w=weights, c=cut: Z @ w > c)
        errors.append(abs(answer - np.mean(X @ weights > cut)))
        assert abs(queries.histogram_.sum() - 1) < 1e-12
    assert max(errors) <= 0.1
    assert 0 < queries.n_updates_ <= 300 <= queries.max_updates_
    assert queries.n_updates_ == sum(answer.overfits for answer in queries.history_)


def test_one_update_of_the_weights_is_its_formula():
    X = np.array([[1]] * 9 + [[0]])
    queries = PrivateMultiplicativeWeights(
        [[0], [1]], threshold=0.1, noise=1e-9, learning_rate=0.1, random_state=0
    ).set_data(X)
    assert_allclose(queries.query(lambda Z: Z[:, 0]), 0.9, atol=1e-6)
    assert_allclose(queries.histogram_, np.array([1, np.exp(0.1)]) / (1 + np.exp(0.1)))
    assert queries.max_updates_ == np.ceil(np.log(2) / (0.1 * 0.05))
    queries.n_updates_ = queries.max_updates_
    with pytest.raises(BudgetExhaustedError, match="updates"):
        queries.query(lambda Z: Z[:, 0])


def test_bad_universes_raise():
    with pytest.raises(ValueError, match="once"):
        PrivateMultiplicativeWeights([[0], [0]])
    with pytest.raises(ValueError, match="learning_rate"):
        PrivateMultiplicativeWeights([[0], [1]], threshold=0.1, learning_rate=0.2)
    with pytest.raises(ValueError, match="not in the universe"):
        PrivateMultiplicativeWeights([[0], [1]]).set_data([[2]])


# The experiment of the paper.


def selected_and_voted(seed, shift=0.0, n=2000, d=2000, k=200):
    """Reported and fresh accuracy of votes of features chosen with the help of a holdout.

    The first row is that of the plain holdout, the second that of the reusable one. The queries
    are (1 + correlation) / 2.
    """
    rng = np.random.default_rng(seed)
    y = rng.choice([-1.0, 1.0], (3, n)).astype(np.float32)
    X = rng.standard_normal((3, n, d), dtype=np.float32)
    X[:, :, :20] += shift / np.sqrt(n) * y[:, :, None]
    train, plain, _ = ((1 + Xp.T @ yp / n) / 2 for Xp, yp in zip(X, y))
    holdout = Thresholdout(0.04, budget=n, random_state=seed)
    found = []
    for answers in (plain, holdout.query_means(train, plain)):
        correlations = 2 * np.array([train, answers]) - 1
        strong = np.abs(correlations).min(axis=0) > 1 / np.sqrt(n)
        strong &= correlations.prod(axis=0) > 0
        best = np.argsort(-np.abs(correlations[0]) * strong)[:k]
        weights = np.zeros(d)
        weights[best] = (np.sign(correlations[0]) * strong)[best]
        found.append([np.mean(np.sign(Xp @ weights) == yp) for Xp, yp in zip(X, y)])
    found[1][1] = holdout.query_means(found[1][:1], found[1][1:2])[0]
    return np.array(found)[:, 1:]


@pytest.mark.parametrize("shift", [0.0, 6.0], ids=["no signal", "signal"])
def test_reusable_holdout_reports_what_fresh_data_say_and_a_plain_one_does_not(shift):
    plain, reusable = np.mean([selected_and_voted(seed, shift) for seed in range(4)], axis=0)
    assert plain[0] - plain[1] >= 0.1
    assert abs(reusable[0] - reusable[1]) <= 0.05
    if shift == 0:
        assert plain[0] >= 0.6


# The search.


class Vote(ClassifierMixin, BaseEstimator):
    """Majority of some columns of signs; nothing is learnt."""

    def __init__(self, columns=(0,)):
        self.columns = columns

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.where(X[:, list(self.columns)].sum(axis=1) > 0, 1, -1)


def propose_votes(history):
    """600 single columns, then the majority of those that seemed better than chance."""
    if len(history) < 600:
        return {"columns": (len(history),)}
    if len(history) > 600:
        return None
    good = [h["params"]["columns"][0] for h in history if h["score"] > 0.5]
    return {"columns": tuple(good[: len(good) - 1 + len(good) % 2])}


@pytest.fixture(scope="module")
def adaptive_scores():
    scores = {"thresholdout": [], "none": []}
    for seed in range(8):
        rng = np.random.RandomState(seed)
        X, y = rng.choice([-1, 1], (3000, 600)), rng.choice([-1, 1], 3000)
        for mechanism, found in scores.items():
            search = ReusableHoldoutSearchCV(
                Vote(),
                propose_votes,
                holdout_size=0.5,
                mechanism=mechanism,
                threshold=0.06,
                noise=0.005,
                random_state=seed,
            )
            found.append(search.fit(X, y).best_score_)
    return scores


def test_adaptive_search_in_noise_is_not_fooled(adaptive_scores):
    assert np.median(adaptive_scores["thresholdout"]) <= 0.57
    assert np.median(adaptive_scores["none"]) >= 0.62


def test_search_on_digits_is_as_good_as_with_a_plain_holdout():
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, test_size=0.4, random_state=0)
    grid = {"C": [0.01, 0.1, 1, 10, 100], "gamma": [1e-4, 1e-3, 1e-2, 0.1, 0.3, 1]}
    searches = [
        ReusableHoldoutSearchCV(SVC(), grid, mechanism=m, random_state=0).fit(X, y)
        for m in ("thresholdout", "none")
    ]
    reusable, plain = (search.score(X_test, y_test) for search in searches)
    assert reusable >= plain - 0.015
    assert len(searches[0].cv_results_["params"]) == 30


def test_candidates_that_overfit_by_themselves_get_no_help_and_a_warning():
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(3000, 300)), rng.choice([-1, 1], 3000)

    class Columns(NearestCentroid):
        def __init__(self, seed=0):
            super().__init__()
            self.seed = seed

        def chosen(self, X):
            return X[:, np.random.RandomState(self.seed).permutation(X.shape[1])[:150]]

        def fit(self, X, y):
            return super().fit(self.chosen(X), y)

        def predict(self, X):
            return super().predict(self.chosen(X))

    search = ReusableHoldoutSearchCV(
        Columns(), {"seed": list(range(100))}, holdout_size=0.5, refit=False, random_state=0
    )
    with pytest.warns(UserWarning, match="overfit the training part"):
        search.fit(X, y)
    assert search.cv_results_["overfits"].mean() > 0.9
    fresh = search.score(rng.normal(size=(20_000, 300)), rng.choice([-1, 1], 20_000))
    assert search.best_score_ > fresh + 0.015


def test_searches_share_a_holdout_and_its_budget():
    X, y = load_digits(return_X_y=True)
    holdout = Thresholdout(0.1, budget=3, random_state=0)
    forest = RandomForestClassifier(5, max_depth=2)
    depths = {"max_depth": [1, 2]}
    first = ReusableHoldoutSearchCV(forest, depths, holdout=holdout, random_state=0).fit(X, y)
    assert first.holdout_ is holdout is clone(first).holdout
    train = holdout._train[0]
    copy.deepcopy(first).fit(X, y)
    first.fit(X, y)
    assert holdout._train[0] is train
    assert holdout.n_queries_ == 4
    noise = np.random.RandomState(0).randint(10, size=len(y))
    other = Thresholdout(0.05, budget=2, random_state=0)
    search = ReusableHoldoutSearchCV(
        RandomForestClassifier(5), {"max_depth": [9, 10, 11]}, holdout=other, random_state=0
    )
    with (
        pytest.warns(UserWarning, match="after 2 candidates"),
        pytest.warns(UserWarning, match="overfit the training part"),
    ):
        search.fit(X, noise)
    assert len(search.cv_results_["params"]) == 2
    with pytest.raises(BudgetExhaustedError):
        search.fit(X, noise)
    search.set_params(holdout=None, budget=1, on_exhausted="raise")
    with pytest.raises(BudgetExhaustedError):
        search.fit(X, noise)


def test_regression_is_scored_by_clipped_squared_errors():
    X, y = load_diabetes(return_X_y=True)
    grid = {"alpha": stats.loguniform(1e-3, 1e3)}
    search = ReusableHoldoutSearchCV(Ridge(), grid, n_iter=6, mechanism="none", random_state=0)
    search.fit(X, y)
    assert len(search.cv_results_["params"]) == 6
    assert search.best_params_["alpha"] < 10
    errors = (search.predict(X) - y) ** 2 / search.scorer_.variance
    assert_allclose(search.score(X, y), np.mean(np.clip(1 - errors, 0, 1)))
    assert not hasattr(search, "predict_proba")


def test_laplace_mechanism_adds_noise_of_the_scale_asked_for():
    X, y = load_digits(return_X_y=True)
    params = {"noise": 0.01, "random_state": 0, "param_space": {"C": [0.01, 0.1, 1.0]}}
    model = LogisticRegression(max_iter=1000)
    noisy, plain = (
        ReusableHoldoutSearchCV(model, mechanism=m, **params).fit(X / 16, y)
        for m in ("laplace", "none")
    )
    assert_allclose(noisy.holdout_.noise_scale_, 0.01)
    gaps = noisy.cv_results_["mean_test_score"] - plain.cv_results_["mean_test_score"]
    assert (np.abs(gaps) > 0).all() and (np.abs(gaps) < 0.1).all()
    with pytest.raises(ValueError, match="noise"):
        noisy.set_params(noise=0).fit(X, y)


def test_scores_of_estimators_are_those_of_the_queries():
    X, y = load_digits(return_X_y=True)
    halves = X[:900], y[:900], X[900:], y[900:]
    models = [
        RandomForestClassifier(5, max_depth=d, random_state=0).fit(*halves[:2]) for d in (2, 9)
    ]
    scores = reusable_holdout_score(models, *halves, threshold=0.1, noise=0, random_state=0)
    assert scores[0] == models[0].score(*halves[:2])  # agrees: the training score
    assert scores[1] == models[1].score(*halves[2:])
    spent = reusable_holdout_score(models[::-1] * 2, *halves, threshold=0.1, noise=0, budget=1)
    assert_array_equal(np.isnan(spent), [False, True, True, True])


def test_parallel_sparse_and_pickled_searches_agree():
    X, y = load_digits(return_X_y=True)
    search = ReusableHoldoutSearchCV(SVC(), {"gamma": [1e-3, 1e-4]}, random_state=0).fit(X, y)
    with joblib.parallel_config("threading"):
        parallel = clone(search).set_params(n_jobs=2).fit(X, y)
    for other in (
        parallel,
        clone(search).fit(sparse.csr_array(X), y),
        pickle.loads(pickle.dumps(search)),
    ):
        assert other.best_score_ == search.best_score_
        assert other.best_params_ == search.best_params_
