"""Estimators that misbehave in a known way, in a module that other processes can import."""

import os
import time

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.tree import DecisionTreeClassifier


class Tree(DecisionTreeClassifier):
    """A quick classifier with something to tune."""

    _search_space = {"max_depth": [1, 2, 3]}

    def __init__(self, max_depth=1, random_state=None):
        super().__init__(max_depth=max_depth, random_state=random_state)


class _Fake(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


class Sleeper(_Fake):
    """Fits longer than any budget."""

    def __init__(self, seconds=600.0):
        self.seconds = seconds

    def fit(self, X, y):
        time.sleep(self.seconds)
        return super().fit(X, y)


class SlowPredictor(_Fake):
    """Predicts longer than any budget."""

    def predict(self, X):
        time.sleep(600)


class Raiser(_Fake):
    """Raises in fit."""

    def fit(self, X, y):
        raise RuntimeError("the matrix is\nnot to my liking")


class Glutton(_Fake):
    """Asks for more memory than there is."""

    def fit(self, X, y):
        np.empty(2**60, dtype=np.uint8)


class Crasher(_Fake):
    """Ends its process, as a segmentation fault would."""

    def fit(self, X, y):
        os._exit(7)


class Printer(_Fake):
    """Writes to standard output from Python and from below."""

    def fit(self, X, y):
        print("noise " * 1000, flush=True)
        os.write(1, b"more noise\n")
        return super().fit(X, y)


class Journal(_Fake):
    """Notes each fit in a file; sleeps a little."""

    def __init__(self, path="", seconds=0.0):
        self.path = path
        self.seconds = seconds

    def fit(self, X, y):
        with open(self.path, "a") as file:
            file.write("fit\n")
        time.sleep(self.seconds)
        return super().fit(X, y)


class LabelSpy(_Fake):
    """Understands -1, and predicts whether it has seen any."""

    def fit(self, X, y):
        self.classes_ = np.unique(y[y != -1])
        self.saw_unlabeled_ = bool((y == -1).any())
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[-1 if self.saw_unlabeled_ else 0])


class NaNSpy(RegressorMixin, BaseEstimator):
    """A regressor that understands NaN in the target."""

    def fit(self, X, y):
        known = ~np.isnan(y)
        self.coef_ = np.linalg.lstsq(np.c_[np.ones(known.sum()), X[known]], y[known])[0]
        return self

    def predict(self, X):
        return np.c_[np.ones(len(X)), X] @ self.coef_


class TargetTransformer(TransformerMixin, BaseEstimator):
    """A supervised transformer: least-squares projection onto a two-dimensional target."""

    def fit(self, X, y):
        Y = np.asarray(y, dtype=float).reshape(len(X), -1)
        self.coef_ = np.linalg.lstsq(X, Y - Y.mean(axis=0))[0]
        return self

    def transform(self, X):
        return X @ self.coef_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.two_d_labels = True
        return tags


class Gadget(BaseEstimator):
    """Has a device."""

    def __init__(self, device="auto"):
        self.device = device
