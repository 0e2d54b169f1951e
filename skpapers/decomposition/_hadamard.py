"""Hadamard matrices, and rotations that give a matrix a constant diagonal."""

from itertools import product
from math import isqrt, sqrt
from numbers import Integral

import numpy as np
from scipy.linalg import hadamard
from sklearn.utils._param_validation import Interval, validate_params

__all__ = ["equalizing_rotation", "hadamard_matrix"]


def equalizing_rotation(eigenvalues, kind):
    """Orthogonal R for which the diagonal of R diag(eigenvalues) R^T is constant."""
    n = len(eigenvalues)
    if kind == "none":
        return np.eye(n)
    matrix = None if kind == "givens" else _hadamard(n)
    if matrix is not None:
        return matrix / sqrt(n)
    if kind == "hadamard":
        raise ValueError(f"no Hadamard matrix for {n} columns: use rotation='auto' or 'givens'")
    return givens_equalizer(eigenvalues)


def givens_equalizer(eigenvalues):
    """The same by n - 1 plane rotations, each of which finishes one diagonal entry."""
    n, target = len(eigenvalues), np.mean(eigenvalues)
    C, Q, left = np.diag(eigenvalues), np.eye(n), list(range(n))
    for _ in range(n - 1):
        diagonal = C[left, left]
        i, j = left[np.argmin(diagonal)], left[np.argmax(diagonal)]
        left.remove(i)
        below, above = target - C[i, i], C[j, j] - target
        if below <= 0 or above <= 0:  # equal already, up to rounding
            continue
        root = sqrt(C[i, j] ** 2 + below * above)
        t = below / (C[i, j] + np.copysign(root, C[i, j]))  # the root of least modulus
        rotation = np.array([[1.0, t], [-t, 1.0]]) / sqrt(1.0 + t * t)
        C[[i, j]] = rotation @ C[[i, j]]
        C[:, [i, j]] = C[:, [i, j]] @ rotation.T
        Q[[i, j]] = rotation @ Q[[i, j]]
    return Q


@validate_params(
    {"n": [Interval(Integral, 1, None, closed="left")]}, prefer_skip_nested_validation=True
)
def hadamard_matrix(n):
    """A matrix of ones and minus ones with orthogonal rows.

    Sylvester's construction for powers of two, Paley's two for a prime power plus 1 and twice
    that, and Kronecker products of these.

    Parameters
    ----------
    n : int
        Number of rows and columns.

    Returns
    -------
    H : ndarray of shape (n, n)
        Integers 1 and -1 with ``H @ H.T == n * I``.

    Raises
    ------
    ValueError
        If n is neither 1, 2 nor a multiple of 4, where no such matrix exists, or these
        constructions do not reach n (the least such is 92).

    Notes
    -----
    O(n**2) time and memory.

    References
    ----------
    .. [1] R. E. A. C. Paley, "On orthogonal matrices", Journal of Mathematics and Physics, 1933.

    Examples
    --------
    >>> from skpapers.decomposition import hadamard_matrix
    >>> H = hadamard_matrix(12)
    >>> bool((H @ H.T == 12 * np.eye(12)).all())
    True
    """
    matrix = _hadamard(n)
    if matrix is None:
        raise ValueError(f"no construction of a Hadamard matrix of order n={n} is known here")
    return matrix


def _hadamard(n):
    """A Hadamard matrix, or None where no construction is known."""
    if n & (n - 1) == 0:
        return hadamard(n)
    if n % 4:
        return None
    if (n - 1) % 4 == 3 and (field := prime_power(n - 1)):
        return _paley_first(jacobsthal(*field))
    if (n // 2 - 1) % 4 == 1 and (field := prime_power(n // 2 - 1)):
        return _paley_second(jacobsthal(*field))
    for divisor in range(2, isqrt(n) + 1):
        if n % divisor == 0:
            factors = _hadamard(divisor), _hadamard(n // divisor)
            if factors[0] is not None and factors[1] is not None:
                return np.kron(*factors)
    return None


def _paley_first(Q):
    """Order q + 1, for q = 3 modulo 4: the identity plus a skew matrix."""
    skew = np.pad(Q, ((1, 0), (1, 0)), constant_values=1)
    skew[1:, 0], skew[0, 0] = -1, 0
    return skew + np.eye(len(skew), dtype=int)


def _paley_second(Q):
    """Order 2(q + 1), for q = 1 modulo 4, from a symmetric conference matrix."""
    conference = np.pad(Q, ((1, 0), (1, 0)), constant_values=1)
    conference[0, 0] = 0
    identity = np.eye(len(conference), dtype=int)
    return np.kron(conference, [[1, 1], [1, -1]]) + np.kron(identity, [[1, -1], [-1, -1]])


def prime_power(q):
    """The prime p and exponent k with q = p**k, or None."""
    p = next((p for p in range(2, isqrt(q) + 1) if q % p == 0), q)
    k = 0
    while q % p == 0 and q > 1:
        q, k = q // p, k + 1
    return (p, k) if q == 1 and k else None


def jacobsthal(p, k):
    """Whether the difference of two elements of the field of p**k is a square (1) or not (-1)."""
    powers = _powers_of_a_generator(p, k)
    place = p ** np.arange(k)
    character = np.zeros(p**k, dtype=int)
    character[powers[::2] @ place], character[powers[1::2] @ place] = 1, -1
    elements = np.arange(p**k)[:, None] // place % p
    difference = (elements[:, None] - elements) % p
    return character[difference @ place]


def _powers_of_a_generator(p, k):
    """All non-zero elements of the field as polynomials, in the order 1, x, x**2, ..."""
    for tail in product(range(p), repeat=k):  # x**k = tail; x generates for some tail
        element, seen = (1,) + (0,) * (k - 1), []
        while not seen or element != seen[0]:
            seen.append(element)
            shifted = (0,) + element[:-1]
            element = tuple((s + element[-1] * t) % p for s, t in zip(shifted, tail))
            if not any(element) or len(seen) == p**k:
                break
        if len(seen) == p**k - 1 and any(element):
            return np.array(seen)
    raise AssertionError(f"every field of p**k elements has a generator, {p=} {k=}")
