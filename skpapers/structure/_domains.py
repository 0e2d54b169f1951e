"""Domains, groups, treatments and missing labels: metadata with one value a sample."""

import numpy as np
from sklearn.utils import check_consistent_length, column_or_1d

__all__ = ["check_groups", "check_sample_domain", "is_unlabeled", "split_treatment"]


def is_unlabeled(y, unlabeled=-1):
    """Find the samples without a label.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets: NaN is no value; an integer equal to `unlabeled` is no class.
    unlabeled : int or None, default=-1
        The mark of a missing class; None if every integer is a class.

    Returns
    -------
    ndarray of bool of shape (n_samples,)
        Which samples have no label.

    Examples
    --------
    >>> from skpapers.structure import is_unlabeled
    >>> is_unlabeled([0, -1, 1])
    array([False,  True, False])
    >>> is_unlabeled([0.5, -1.0, float("nan")])
    array([False, False,  True])
    """
    y = np.asarray(y)
    if y.dtype.kind == "f":
        missing = np.isnan(y)
    elif y.dtype.kind in "iu" and unlabeled is not None:
        missing = y == unlabeled
    else:
        missing = np.zeros(y.shape, dtype=bool)
    return missing if y.ndim == 1 else missing.any(axis=1)


def check_sample_domain(sample_domain, n_samples, y=None, fit=True, unlabeled=-1):
    """Validate domain numbers: positive for sources, negative for targets.

    Parameters
    ----------
    sample_domain : array-like of int of shape (n_samples,) or None
        Domain of each sample. None means, in ``fit``, one source (1) and a target (-2) of the
        samples without a label; in ``predict``, the target (-2).
    n_samples : int
        Number of samples.
    y : array-like of shape (n_samples,), default=None
        Targets, to find the samples without a label.
    fit : bool, default=True
        Whether the default is that of ``fit``.
    unlabeled : int or None, default=-1
        See :func:`is_unlabeled`.

    Returns
    -------
    ndarray of int of shape (n_samples,)
        The domains.

    Raises
    ------
    ValueError
        If the numbers are not integers, contain 0, or are not one a sample.

    Examples
    --------
    >>> from skpapers.structure import check_sample_domain
    >>> check_sample_domain(None, 3, y=[0, 1, -1])
    array([ 1,  1, -2])
    """
    if sample_domain is None:
        missing = is_unlabeled(y, unlabeled) if fit and y is not None else not fit
        return np.where(np.broadcast_to(missing, n_samples), -2, 1)
    domain = column_or_1d(sample_domain)
    if len(domain) != n_samples:
        raise ValueError(f"sample_domain has {len(domain)} values for {n_samples} samples")
    if domain.dtype.kind not in "iuf" or np.any(domain != np.floor(domain)) or np.any(domain == 0):
        raise ValueError(
            "sample_domain must hold integers other than 0: positive for source domains, "
            f"negative for target domains; got {domain!r}"
        )
    return domain.astype(int)


def check_groups(groups, n_samples):
    """Validate group numbers; without any, all samples are one group.

    Parameters
    ----------
    groups : array-like of shape (n_samples,) or None
        Group of each sample, integers or strings.
    n_samples : int
        Number of samples.

    Returns
    -------
    ndarray of int of shape (n_samples,)
        Groups numbered from 0, in sorted order.

    Raises
    ------
    ValueError
        If there is not one group a sample.

    Examples
    --------
    >>> from skpapers.structure import check_groups
    >>> check_groups(["b", "a", "b"], 3)
    array([1, 0, 1])
    """
    if groups is None:
        return np.zeros(n_samples, dtype=int)
    groups = column_or_1d(groups)
    if len(groups) != n_samples:
        raise ValueError(f"groups has {len(groups)} values for {n_samples} samples")
    return np.unique(groups, return_inverse=True)[1]


def split_treatment(X, treatment):
    """Separate the treatment from the covariates.

    Parameters
    ----------
    X : array-like or frame of shape (n_samples, n_features)
        The covariates, with the treatment among the columns if `treatment` is a name.
    treatment : array-like of shape (n_samples,) or str
        The treatment of each sample, or the name of its column in a frame.

    Returns
    -------
    X : array-like or frame
        The covariates without the treatment.
    treatment : ndarray of shape (n_samples,)
        The treatment of each sample.

    Raises
    ------
    ValueError
        If no treatment is given, the column does not exist, or the lengths differ.

    Examples
    --------
    >>> import pandas as pd
    >>> from skpapers.structure import split_treatment
    >>> X, treatment = split_treatment(pd.DataFrame({"age": [30, 40], "drug": [0, 1]}), "drug")
    >>> list(X.columns), treatment
    (['age'], array([0, 1]))
    """
    if treatment is None:
        raise ValueError("treatment is required: one value a sample, or the name of a column of X")
    if isinstance(treatment, str):
        columns = list(getattr(X, "columns", ()))
        if treatment not in columns:
            raise ValueError(f"treatment={treatment!r} is not a column of X: {columns}")
        rest = X[[column for column in columns if column != treatment]]
        return rest, np.asarray(X[treatment])
    check_consistent_length(X, treatment)
    return X, column_or_1d(treatment)
