"""Folds and hidden labels."""

import warnings

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from skpapers.utils import check_random_state

UNLABELED = -1


def make_splitter(y, task, n_splits, seed):
    """Stratify where the rarest thing that can be stratified allows it."""
    if task == "classification" and np.bincount(y[y >= 0]).max() >= n_splits:
        return StratifiedKFold(n_splits, shuffle=True, random_state=seed)
    return KFold(n_splits, shuffle=True, random_state=seed)


def is_labeled(y):
    """Tell the labelled rows: not -1 for classes, not NaN for numbers."""
    return ~np.isnan(y) if y.dtype.kind == "f" else y != UNLABELED


def split_labeled(splitter, y):
    """Split the labelled rows into folds; every training part also gets the unlabelled rows.

    Parameters
    ----------
    splitter : cross-validation generator
        What makes the folds.
    y : ndarray of shape (n_samples,)
        Classes (-1 = unlabelled) or numbers (NaN = unlabelled).

    Yields
    ------
    train : ndarray of int
        Rows to fit on.
    test : ndarray of int
        Labelled rows to score on.
    """
    labeled = np.flatnonzero(is_labeled(y))
    unlabeled = np.flatnonzero(~is_labeled(y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes rarer than the number of folds
        for train, test in splitter.split(labeled, y[labeled]):
            yield np.concatenate([labeled[train], unlabeled]), labeled[test]


def hide_labels(y, share, random_state=None):
    """Hide all but a share of the labels; every class keeps at least one.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Classes as integers (-1 = unlabelled) or numbers (NaN = unlabelled).
    share : float
        Share of the labels to keep, in (0, 1].
    random_state : None, int, RandomState or Generator, default=None
        Which labels stay visible.

    Returns
    -------
    ndarray of shape (n_samples,)
        `y` with -1 or NaN in place of the hidden labels.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers._compare import hide_labels
    >>> (hide_labels(np.repeat([0, 1], 10), 0.2, random_state=0) >= 0).sum()
    np.int64(4)
    """
    rng = check_random_state(random_state)
    hidden = y.astype(float) if y.dtype.kind == "f" else y.astype(int)
    groups = np.zeros(len(y), dtype=int) if y.dtype.kind == "f" else y
    labeled = is_labeled(y)
    for group in np.unique(groups[labeled]):
        rows = rng.permutation(np.flatnonzero(labeled & (groups == group)))
        least = 2 if y.dtype.kind == "f" else 1
        hidden[rows[max(least, round(share * len(rows))) :]] = (
            np.nan if y.dtype.kind == "f" else UNLABELED
        )
    return hidden
