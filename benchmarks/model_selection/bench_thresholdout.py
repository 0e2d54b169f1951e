"""The search on one holdout against a grid search, and the vectorised queries against a loop."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.svm import SVC

from benchmarks._harness import Case
from skpapers.model_selection import ReusableHoldoutSearchCV, Thresholdout


def cases():
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, test_size=0.4, random_state=0)
    grid = {"C": [0.1, 1, 10], "gamma": [1e-3, 1e-2, 0.1]}
    yield Case(
        name="thresholdout",
        size="1078 rows, 64 features, 9 candidates",
        peer_name="GridSearchCV, 5 folds",
        ours=lambda: ReusableHoldoutSearchCV(SVC(), grid, random_state=0).fit(X, y),
        peer=lambda: GridSearchCV(SVC(), grid).fit(X, y),
        accuracy=lambda search: search.score(X_test, y_test),
        metric="test accuracy",
        note="one fit a candidate against five",
    )
    rng = np.random.RandomState(0)
    train = rng.uniform(size=100_000)
    holdout = train + 0.01 * rng.normal(size=100_000)
    yield Case(
        name="query_means",
        size="100000 queries",
        peer_name="one draw a query",
        ours=lambda: Thresholdout(budget=100_000, random_state=0).query_means(train, holdout),
        peer=lambda: one_by_one(train, holdout, 0.04, 0.004),
        accuracy=lambda answers: np.abs(answers - train).max(),
        metric="largest change of an answer",
    )


def one_by_one(train, holdout, threshold, noise):
    """The algorithm as it is printed."""
    rng = np.random.RandomState(0)
    shift = rng.laplace(scale=2 * noise)
    answers = []
    for t, h in zip(train, holdout):
        if abs(h - t) > threshold + shift + rng.laplace(scale=4 * noise):
            shift = rng.laplace(scale=2 * noise)
            answers.append(h + rng.laplace(scale=noise))
        else:
            answers.append(t)
    return np.array(answers)
