import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score

from skpapers.structure import LabeledSplit, Ragged

Y = np.array([0, -1, 1, 0, -1, 1, 0, 1, 0, 1])


def test_tests_are_labelled_and_the_rest_always_trains():
    X = Ragged([np.zeros((1, 1))] * len(Y))
    tested = []
    for train, test in LabeledSplit(4).split(X, Y):
        assert {1, 4} <= set(train) and not set(train) & set(test)
        assert len(train) + len(test) == len(Y) and (np.diff(train) > 0).all()
        assert set(Y[test]) == {0, 1}
        tested.extend(test)
    assert sorted(tested) == np.flatnonzero(Y != -1).tolist()


def test_missing_targets_are_nan_in_regression():
    y = np.where(Y == -1, np.nan, Y + 0.5)
    folds = list(LabeledSplit(KFold(2)).split(np.zeros((10, 1)), y))
    assert all(not np.isnan(y[test]).any() for _, test in folds)
    assert LabeledSplit(KFold(2)).get_n_splits() == 2


def test_minus_one_can_be_a_class():
    folds = list(LabeledSplit(2, unlabeled=None).split(np.zeros((10, 1)), Y))
    assert sum(len(test) for _, test in folds) == 10


def test_groups_reach_the_inner_splitter_with_routing():
    groups = np.arange(10) // 2
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            DummyClassifier(), {"strategy": ["prior"]}, cv=LabeledSplit(GroupKFold(2))
        )
        search.fit(np.zeros((10, 1)), Y, groups=groups)
    assert search.n_splits_ == 2
    for train, test in LabeledSplit(GroupKFold(2)).split(np.zeros((10, 1)), Y, groups):
        labelled = train[Y[train] != -1]
        assert not set(groups[labelled]) & set(groups[test])


def test_works_as_cv_of_scikit_learn():
    scores = cross_val_score(DummyClassifier(), np.zeros((10, 1)), Y, cv=LabeledSplit(3))
    assert len(scores) == 3 and np.isfinite(scores).all()
    assert LabeledSplit(3).get_n_splits(np.zeros((10, 1)), Y) == 3
    assert "LabeledSplit(cv=3" in repr(LabeledSplit(3))
    assert clone(DummyClassifier()) is not None


def test_errors():
    with pytest.raises(ValueError, match="needs y"):
        next(LabeledSplit().split(np.zeros((3, 1))))
    with pytest.raises(ValueError, match="at least one labelled"):
        next(LabeledSplit().split(np.zeros((3, 1)), [-1, -1, -1]))
