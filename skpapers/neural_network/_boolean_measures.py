"""Functions of bits: their Fourier spectrum, influences and noise stability."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skpapers.utils import check_random_state

__all__ = ["boolean_influence", "noise_stability", "walsh_hadamard_coefficients"]

_MAX_EXACT_FEATURES = 22  # a truth table of 4 million rows


@validate_params(
    {"values": ["array-like"], "inverse": ["boolean"]}, prefer_skip_nested_validation=True
)
def walsh_hadamard_coefficients(values, *, inverse=False):
    """Compute the Fourier coefficients of a function of bits from its truth table.

    The coefficient of a set S of features is the mean, over all inputs x in {-1, 1}^d, of
    ``f(x) * prod(x[i] for i in S)``.

    Parameters
    ----------
    values : array-like of shape (2**n_features,)
        Truth table: row i is the input whose signs are the binary digits of i, feature 0 the
        most significant, digit 1 for +1. With `inverse`, coefficients.
    inverse : bool, default=False
        Compute the truth table from the coefficients.

    Returns
    -------
    ndarray of shape (2**n_features,)
        Coefficients: entry i is that of the set whose members are the digits 1 of i. With
        `inverse`, the truth table.

    Raises
    ------
    ValueError
        If the length is not a power of two.

    Notes
    -----
    Takes ``O(n_features * 2**n_features)`` operations.

    References
    ----------
    .. [1] R. O'Donnell, "Analysis of Boolean Functions", Cambridge, 2014, chapter 1.

    Examples
    --------
    The product of two bits is one coefficient:

    >>> from skpapers.neural_network import walsh_hadamard_coefficients
    >>> walsh_hadamard_coefficients([1, -1, -1, 1])
    array([0., 0., 0., 1.])
    """
    table = np.array(values, dtype=np.float64)
    n_features = _table_features(table)
    for axis in range(n_features):
        halves = table.reshape(2**axis, 2, -1)
        low, high = halves[:, 0].copy(), halves[:, 1].copy()
        if inverse:
            halves[:, 0], halves[:, 1] = low - high, low + high
        else:
            halves[:, 0], halves[:, 1] = (high + low) / 2, (high - low) / 2
    return table


@validate_params(
    {
        "f": [callable, dict, "array-like"],
        "n_features": [Interval(Integral, 1, None, closed="left"), None],
        "feature": [Interval(Integral, 0, None, closed="left"), None],
        "method": [StrOptions({"exact", "sample"})],
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def boolean_influence(
    f, n_features=None, feature=None, *, method="exact", n_samples=10000, random_state=None
):
    """Compute the influence of each feature of a function of bits.

    It is the mean of ``((f(x with x[k] = 1) - f(x with x[k] = -1)) / 2) ** 2`` over {-1, 1}^d,
    and half the mean squared error of a learner that has only ever seen ``x[k] = 1`` and takes
    the simplest function that fits.

    Parameters
    ----------
    f : callable, dict or array-like of shape (2**n_features,)
        Function from rows of -1 and 1, shape (n, n_features), to numbers, shape (n,); or Fourier
        coefficients ``{tuple of features: coefficient}``; or a truth table as for
        :func:`walsh_hadamard_coefficients`.
    n_features : int, default=None
        Number of features; required for a callable.
    feature : int, default=None
        The feature; None for all.
    method : {"exact", "sample"}, default="exact"
        "exact" takes all 2**n_features inputs of a callable, "sample" random ones.
    n_samples : int, default=10000
        Number of inputs drawn by "sample".
    random_state : int, RandomState instance or None, default=None
        Seed of the inputs drawn.

    Returns
    -------
    ndarray of shape (n_features,) or float
        Influences, or that of `feature`.

    Raises
    ------
    ValueError
        If `n_features` is missing or contradicts `f`, or is too large for "exact".

    Notes
    -----
    For targets in {0, 1} in place of {-1, 1} influences are a quarter. The influence of k is the
    sum of the squared Fourier coefficients of the sets that hold k.

    References
    ----------
    .. [1] E. Abbe et al., "Learning to Reason with Neural Networks: Generalization, Unseen Data
       and Boolean Measures", NeurIPS 2022, arXiv:2205.13647, section 4.

    Examples
    --------
    >>> from skpapers.neural_network import boolean_influence
    >>> boolean_influence(lambda x: x[:, 0] * x[:, 2], n_features=3)
    array([1., 0., 1.])
    """
    n_features = _n_features(f, n_features)
    if feature is not None and feature >= n_features:
        raise ValueError(f"feature={feature}, but there are n_features={n_features}")
    if method == "exact":
        members, coef = _spectrum(f, n_features)
        influence = coef**2 @ members
    else:
        rng = check_random_state(random_state)
        x = rng.choice([-1.0, 1.0], size=(n_samples, n_features))
        function, wanted = _function(f), range(n_features) if feature is None else [feature]
        influence = np.zeros(n_features)
        for k in wanted:
            high, low = _with_bit(x, k, 1.0), _with_bit(x, k, -1.0)
            influence[k] = np.mean((function(high) - function(low)) ** 2) / 4
    return influence if feature is None else float(influence[feature])


@validate_params(
    {
        "f": [callable, dict, "array-like"],
        "delta": [Interval(Real, 0, 1, closed="both")],
        "n_features": [Interval(Integral, 1, None, closed="left"), None],
        "method": [StrOptions({"exact", "sample"})],
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def noise_stability(
    f, delta, n_features=None, *, method="exact", n_samples=10000, random_state=None
):
    """Compute how much a function of bits agrees with itself when bits are flipped.

    It is the mean of ``f(x) * f(y)`` over x in {-1, 1}^d, where y is x with each bit flipped
    with probability `delta`. Networks with symmetric initial weights do not learn functions
    whose stability vanishes, such as products of many bits.

    Parameters
    ----------
    f : callable, dict or array-like of shape (2**n_features,)
        As for :func:`boolean_influence`.
    delta : float
        Probability that a bit is flipped, in [0, 1].
    n_features : int, default=None
        Number of features; required for a callable.
    method : {"exact", "sample"}, default="exact"
        "exact" takes all 2**n_features inputs of a callable, "sample" random ones.
    n_samples : int, default=10000
        Number of pairs drawn by "sample".
    random_state : int, RandomState instance or None, default=None
        Seed of the pairs drawn.

    Returns
    -------
    float
        The stability.

    Raises
    ------
    ValueError
        If `n_features` is missing or contradicts `f`, or is too large for "exact".

    Notes
    -----
    It is the sum of ``(1 - 2 * delta) ** len(S)`` times the squared Fourier coefficient of S.

    References
    ----------
    .. [1] E. Abbe et al., "Learning to Reason with Neural Networks: Generalization, Unseen Data
       and Boolean Measures", NeurIPS 2022, arXiv:2205.13647, section 3.

    Examples
    --------
    >>> from skpapers.neural_network import noise_stability
    >>> noise_stability({(0, 1): 1.0}, 0.25)
    0.25
    """
    n_features = _n_features(f, n_features)
    if method == "exact":
        members, coef = _spectrum(f, n_features)
        return float(coef**2 @ (1.0 - 2.0 * delta) ** members.sum(axis=1))
    rng = check_random_state(random_state)
    x = rng.choice([-1.0, 1.0], size=(n_samples, n_features))
    flipped = np.where(rng.uniform(size=x.shape) < delta, -x, x)
    return float(np.mean(_function(f)(x) * _function(f)(flipped)))


def hypercube(n_features):
    """List {-1, 1}^n_features in the order of truth tables."""
    if n_features > _MAX_EXACT_FEATURES:
        raise ValueError(
            f"n_features={n_features} has too many inputs to list them all (at most "
            f"{_MAX_EXACT_FEATURES} features): draw a sample (method='sample')"
        )
    digits = np.arange(2**n_features)[:, None] >> np.arange(n_features)[::-1] & 1
    return 2.0 * digits - 1.0


def _table_features(table):
    n_features = max(len(table).bit_length() - 1, 0) if table.ndim == 1 else -1
    if n_features < 0 or len(table) != 2**n_features:
        raise ValueError(f"a truth table has 2**n_features values, got shape {table.shape}")
    return n_features


def _n_features(f, n_features):
    if callable(f):
        if n_features is None:
            raise ValueError("n_features is required when f is a callable")
        return n_features
    if isinstance(f, dict):
        implied = 1 + max((max(term, default=0) for term in f), default=0)
        if n_features is not None and n_features < implied:
            raise ValueError(f"n_features={n_features}, but f has a feature {implied - 1}")
        return implied if n_features is None else n_features
    implied = _table_features(np.asarray(f))
    if n_features not in (None, implied):
        raise ValueError(f"n_features={n_features}, but the truth table f has {implied}")
    return implied


def _spectrum(f, n_features):
    """Sets as rows of 0 and 1, and their coefficients."""
    if isinstance(f, dict):
        terms = {}
        for term, value in f.items():  # (0, 1) and (1, 0) are one set
            terms[frozenset(term)] = terms.get(frozenset(term), 0.0) + value
        members = np.zeros((len(terms), n_features))
        for row, term in zip(members, terms):
            row[list(term)] = 1
        return members, np.fromiter(terms.values(), dtype=np.float64)
    cube = hypercube(n_features)
    return (cube + 1) / 2, walsh_hadamard_coefficients(_function(f)(cube))


def _function(f):
    """Any description of a function as a callable on rows."""
    if callable(f):
        return lambda x: np.asarray(f(x), dtype=np.float64)
    if isinstance(f, dict):
        return lambda x: sum((c * x[:, list(s)].prod(axis=1) for s, c in f.items()), 0.0)
    table = np.asarray(f, dtype=np.float64)
    return lambda x: table[row_number(x)]


def row_number(x):
    """The number whose binary digits are the signs of a row."""
    return (x > 0) @ (1 << np.arange(x.shape[1])[::-1])


def _with_bit(x, k, value):
    x = x.copy()
    x[:, k] = value
    return x
