"""Targets that are a curve of a polynomial score."""

from math import factorial
from numbers import Integral, Real

import numpy as np
from numpy.polynomial.hermite_e import hermeval
from sklearn.utils._param_validation import Interval, Options, StrOptions, validate_params

from skpapers.utils import check_random_state

__all__ = ["hermite", "make_hierarchical_polynomial"]


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "degree": [Options(Integral, {1, 2, 3})],
        "link": [StrOptions({"identity", "quadratic", "cubic"}), callable],
        "noise": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_hierarchical_polynomial(
    n_samples=100, n_features=20, *, degree=2, link="cubic", noise=0.0, random_state=None
):
    """Generate a target that is a curve of a polynomial score of standard normal features.

    Parameters
    ----------
    n_samples : int, default=100
        Number of rows.
    n_features : int, default=20
        Number of features, no fewer than `degree` (4 with degree 3).
    degree : {1, 2, 3}, default=2
        Degree of the score, which has mean zero and variance one: a linear form, a quadratic form
        whose eigenvalues are as often plus as minus one value, or a sum of products of three, all
        in a random basis.
    link : {"identity", "quadratic", "cubic"} or callable, default="cubic"
        The curve: the mean of the first 1, 2 or 3 normalised Hermite polynomials, scaled so that a
        normal score gives variance one; or a function of an array.
    noise : float, default=0.0
        Standard deviation of the normal noise on the target.
    random_state : int, RandomState instance or None, default=None
        Seed of everything.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        Standard normal features.
    y : ndarray of shape (n_samples,)
        Target.
    p : ndarray of shape (n_samples,)
        Score.

    Raises
    ------
    ValueError
        If there are too few features.

    References
    ----------
    .. [1] Z. Wang, E. Nichani, J. D. Lee, ICLR 2024, arXiv:2311.13774.

    Examples
    --------
    >>> from skpapers.neural_network import make_hierarchical_polynomial
    >>> X, y, p = make_hierarchical_polynomial(50, 10, link="identity", random_state=0)
    >>> X.shape, bool((y == p).all())
    ((50, 10), True)
    """
    least = {1: 1, 2: 2, 3: 4}[degree]
    if n_features < least:
        raise ValueError(f"degree={degree} needs n_features >= {least}, got {n_features}")
    rng = check_random_state(random_state)
    X = rng.standard_normal((n_samples, n_features))
    basis, triangle = np.linalg.qr(rng.standard_normal((n_features, n_features)))
    p = _score(X @ (basis * np.sign(np.diag(triangle))), degree)
    if callable(link):
        y = link(p)
    else:
        orders = range(1, 2 + ["identity", "quadratic", "cubic"].index(link))
        y = sum(hermite(p, order) for order in orders) / np.sqrt(len(orders))
    return X, y + noise * rng.standard_normal(n_samples), p


def _score(X, degree):
    """A polynomial of mean zero and variance one on standard normal columns."""
    if degree == 1:
        return X[:, 0]
    if degree == 2:
        half = X.shape[1] // 2
        squares = X**2
        plus, minus = squares[:, :half].sum(axis=1), squares[:, half : 2 * half].sum(axis=1)
        return (plus - minus) / np.sqrt(4 * half)
    return (X * np.roll(X, 1, axis=1) * np.roll(X, 2, axis=1)).sum(axis=1) / np.sqrt(X.shape[1])


def hermite(x, degree):
    """The Hermite polynomial of a degree, of variance one on a normal variable."""
    return hermeval(x, [*[0] * degree, 1 / np.sqrt(factorial(degree))])
