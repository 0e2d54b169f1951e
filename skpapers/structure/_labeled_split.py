"""Cross-validation with samples that have no label."""

import numpy as np
from sklearn.model_selection import BaseCrossValidator, check_cv
from sklearn.utils import _safe_indexing
from sklearn.utils.multiclass import type_of_target

from ._domains import is_unlabeled

__all__ = ["LabeledSplit"]


class LabeledSplit(BaseCrossValidator):
    """Split the labelled samples; the others are in every training set and in no test set.

    Scorers cannot score a missing label, and semi-supervised methods want the samples without
    one in training.

    Parameters
    ----------
    cv : int, cross-validation splitter or iterable, default=5
        How to split the labelled samples; an integer means stratified folds for classes and plain
        folds otherwise.
    unlabeled : int or None, default=-1
        The mark of a missing class; NaN is missing in any case, and None makes every integer a
        class.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.structure import LabeledSplit
    >>> y = np.array([0, 1, 0, 1, -1, -1])
    >>> [test.tolist() for _, test in LabeledSplit(cv=2).split(np.zeros((6, 1)), y)]
    [[0, 1], [2, 3]]
    """

    __metadata_request__split = {"groups": True}

    def __init__(self, cv=5, unlabeled=-1):
        self.cv = cv
        self.unlabeled = unlabeled

    def split(self, X, y=None, groups=None):
        """Generate the training and test indices of each split.

        Parameters
        ----------
        X : array-like or container of length n_samples
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets, with -1 or NaN where there is none.
        groups : array-like of shape (n_samples,), default=None
            Groups, for splitters that use them.

        Yields
        ------
        train : ndarray of int
            Labelled training samples and all samples without a label, ascending.
        test : ndarray of int
            Labelled test samples.

        Raises
        ------
        ValueError
            If `y` is missing or has no label.
        """
        if y is None:
            raise ValueError("LabeledSplit needs y, to know which samples have a label")
        missing = is_unlabeled(y, self.unlabeled)
        labeled, unlabeled = np.flatnonzero(~missing), np.flatnonzero(missing)
        if len(labeled) == 0:
            raise ValueError("LabeledSplit needs at least one labelled sample, y has none")
        y = np.asarray(y)[labeled]
        groups = None if groups is None else np.asarray(groups)[labeled]
        folds = self._splitter(y).split(_safe_indexing(X, labeled), y, groups)
        for train, test in folds:
            yield np.sort(np.concatenate([labeled[train], unlabeled])), labeled[test]

    def get_n_splits(self, X=None, y=None, groups=None):
        """Return the number of splits.

        Parameters
        ----------
        X : array-like, default=None
            Only used by splitters that depend on it.
        y : array-like of shape (n_samples,), default=None
            Targets; samples without a label do not count.
        groups : array-like of shape (n_samples,), default=None
            Groups, for splitters that use them.

        Returns
        -------
        int
            The number of splits.
        """
        if X is None or y is None:
            return check_cv(self.cv).get_n_splits(X, y, groups)
        labeled = np.flatnonzero(~is_unlabeled(y, self.unlabeled))
        y = np.asarray(y)[labeled]
        groups = None if groups is None else np.asarray(groups)[labeled]
        return self._splitter(y).get_n_splits(_safe_indexing(X, labeled), y, groups)

    def _splitter(self, y):
        classes = y.dtype.kind != "f" and type_of_target(y) in ("binary", "multiclass")
        return check_cv(self.cv, y, classifier=classes)
