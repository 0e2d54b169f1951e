"""Pointer value retrieval, and the holdout of the rows where a feature has one value."""

from functools import partial
from numbers import Integral

import numpy as np
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import _num_samples

from skpapers.utils import check_random_state

from ._boolean_measures import hypercube, row_number

__all__ = ["CanonicalHoldout", "make_pointer_value_retrieval"]

_AGGREGATIONS = {
    2: ("parity", "majority", "min", "max"),
    10: ("mod_sum", "median", "majority", "min", "max"),
}


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left"), None],
        "pointer_bits": [Interval(Integral, 1, 8, closed="both")],
        "window": [Interval(Integral, 1, None, closed="left")],
        "aggregation": [StrOptions(set().union(*_AGGREGATIONS.values()))],
        "wrap": ["boolean"],
        "base": [Interval(Integral, 2, 10, closed="both")],
        "random_state": ["random_state"],
        "return_target": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_pointer_value_retrieval(
    n_samples=100,
    *,
    pointer_bits=3,
    window=3,
    aggregation="parity",
    wrap=True,
    base=2,
    random_state=None,
    return_target=False,
):
    """Generate the pointer value retrieval task, a benchmark of reasoning.

    The first bits of a row are a number, which points at one of the bits that follow; the target
    is an aggregate of the window of bits that starts there.

    Parameters
    ----------
    n_samples : int or None, default=100
        Number of random rows; None for every input once (only with ``base=2``).
    pointer_bits : int, default=3
        Bits of the pointer, most significant first, +1 for the digit 1; ``2**pointer_bits``
        value bits follow. Not used with ``base=10``, which has one pointer digit.
    window : int, default=3
        Number of values that are aggregated.
    aggregation : {"parity", "majority", "min", "max", "mod_sum", "median"}, default="parity"
        What is computed of the window. "parity" (the product) is for bits, "mod_sum" (the sum
        modulo ten) and "median" (the lower one) for digits. Ties of "majority" go to +1, or the
        smallest digit.
    wrap : bool, default=True
        Continue a window that runs over the end at the first value; False cuts it off.
    base : {2, 10}, default=2
        2 for bits -1 and 1, 10 for digits: one pointer digit and ten value digits.
    random_state : int, RandomState instance or None, default=None
        Seed of the rows.
    return_target : bool, default=False
        Also return the target as a function of X.

    Returns
    -------
    X : ndarray of shape (n_samples, pointer_bits + 2**pointer_bits) or (n_samples, 11)
        Rows of -1 and 1, or of digits.
    y : ndarray of shape (n_samples,)
        Targets, -1 and 1, or digits.
    target : callable
        Function from X to y; with `return_target` only.

    Raises
    ------
    ValueError
        If `aggregation` does not suit `base`, the window is too long, or there are too many
        inputs to list.

    References
    ----------
    .. [1] C. Zhang et al., "Pointer Value Retrieval: A New Benchmark for Understanding the
       Limits of Neural Network Generalization", 2021, arXiv:2107.12580.
    .. [2] E. Abbe et al., NeurIPS 2022, arXiv:2205.13647, section 2.

    Examples
    --------
    >>> from skpapers.neural_network import make_pointer_value_retrieval
    >>> X, y = make_pointer_value_retrieval(None, pointer_bits=1, window=1)
    >>> X[5], y[5].item()
    (array([ 1., -1.,  1.]), 1.0)
    """
    if aggregation not in _AGGREGATIONS.get(base, ()):
        raise ValueError(
            f"aggregation={aggregation!r} with base={base}: allowed are base=2 with "
            f"{_AGGREGATIONS[2]} and base=10 with {_AGGREGATIONS[10]}"
        )
    n_pointers, n_values = (pointer_bits, 2**pointer_bits) if base == 2 else (1, 10)
    if window > n_values:
        raise ValueError(f"window={window} is longer than the {n_values} values")
    target = partial(retrieve, n_pointers, window, aggregation, wrap, base)
    rng = check_random_state(random_state)
    if base == 10 and n_samples is None:
        raise ValueError("n_samples=None lists every input, which base=10 has too many of")
    if base == 10:
        X = rng.randint(10, size=(n_samples, 11))
    elif n_samples is None:
        X = hypercube(n_pointers + n_values)
    else:
        X = rng.choice([-1.0, 1.0], size=(n_samples, n_pointers + n_values))
    return (X, target(X), target) if return_target else (X, target(X))


class CanonicalHoldout(BaseCrossValidator):
    """Train on the rows where a binary feature is frozen, and test on the others.

    Parameters
    ----------
    feature : int or str, default=0
        Column of X, by position or by name.
    value : float, default=-1
        The value of the feature that is withheld from training.
    test : {"rest", "all"}, default="rest"
        Test on the withheld rows, or on all of them.

    Notes
    -----
    On a function of bits f a learner that prefers simple functions has the squared error
    ``2 * boolean_influence(f)[feature]`` on all rows, and twice that on the withheld ones.

    References
    ----------
    .. [1] E. Abbe et al., "Learning to Reason with Neural Networks: Generalization, Unseen Data
       and Boolean Measures", NeurIPS 2022, arXiv:2205.13647, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.neural_network import CanonicalHoldout
    >>> X = np.array([[1, 1], [-1, 1], [1, -1]])
    >>> list(CanonicalHoldout(feature=1).split(X))
    [(array([0, 1]), array([2]))]
    """

    def __init__(self, feature=0, value=-1, test="rest"):
        self.feature = feature
        self.value = value
        self.test = test

    def split(self, X, y=None, groups=None):
        """Generate the one pair of training and test indices.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,), default=None
            Ignored.
        groups : array-like of shape (n_samples,), default=None
            Ignored.

        Yields
        ------
        train : ndarray
            Indices of the rows whose feature differs from `value`.
        test : ndarray
            Indices of the other rows, or of all.

        Raises
        ------
        ValueError
            If a parameter is bad, or one side is empty.
        """
        if self.test not in ("rest", "all"):
            raise ValueError(f"test must be 'rest' or 'all', got {self.test!r}")
        withheld = np.asarray(_safe_indexing(X, self.feature, axis=1)) == self.value
        if withheld.all() or not withheld.any():
            which = "every" if withheld.all() else "no"
            raise ValueError(f"feature={self.feature!r} is value={self.value!r} in {which} row")
        rest = np.flatnonzero(withheld)
        yield (
            np.flatnonzero(~withheld),
            rest if self.test == "rest" else np.arange(_num_samples(X)),
        )

    def get_n_splits(self, X=None, y=None, groups=None):
        """Count the splits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), default=None
            Ignored.
        y : array-like of shape (n_samples,), default=None
            Ignored.
        groups : array-like of shape (n_samples,), default=None
            Ignored.

        Returns
        -------
        int
            Always 1.
        """
        return 1


def retrieve(n_pointers, window, aggregation, wrap, base, X):
    """Target of pointer value retrieval."""
    X = np.asarray(X)
    pointers, values = X[:, :n_pointers], X[:, n_pointers:]
    start = row_number(pointers) if base == 2 else pointers[:, 0].astype(np.intp)
    index = start[:, None] + np.arange(window)
    inside = index < values.shape[1]
    index %= values.shape[1]
    seen = np.take_along_axis(values, index, axis=1)
    return _aggregate(seen, inside | wrap, aggregation, base)


def _aggregate(values, inside, aggregation, base):
    low, high = (-1, 1) if base == 2 else (0, 9)
    if aggregation == "parity":
        return np.where(inside, values, 1).prod(axis=1)
    if aggregation == "mod_sum":
        return np.where(inside, values, 0).sum(axis=1) % 10
    if aggregation == "min":
        return np.where(inside, values, high).min(axis=1)
    if aggregation == "max":
        return np.where(inside, values, low).max(axis=1)
    if aggregation == "median":
        ordered = np.sort(np.where(inside, values, high + 1), axis=1)
        middle = (inside.sum(axis=1) - 1) // 2
        return np.take_along_axis(ordered, middle[:, None], axis=1)[:, 0]
    if base == 2:
        return np.where(np.where(inside, values, 0).sum(axis=1) >= 0, 1.0, -1.0)
    counts = ((values[:, :, None] == np.arange(10)) & inside[:, :, None]).sum(axis=1)
    return counts.argmax(axis=1)
