"""Matern processes on a line as Markov chains, and their exact posterior in linear time.

R independent processes of one kernel are observed together, by terms ``exp(-u' L u / 2 + h' u)``
with a precision L (R, R) and a linear term h (R,) a knot, which may be zero. A state holds, for
each process, the value, and for the kernel "matern32" the derivative in units of its own standard
deviation. Filter and smoother are associative scans: some 2 log2(n) steps, each vectorised.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np

__all__ = ["Chain", "log_evidence", "posterior", "prior_draw", "transitions"]


class Chain(NamedTuple):
    """Prior of R processes at sorted knots."""

    A: np.ndarray  # (n_knots, D, D), from the last state to this one; the first is zero
    Q: np.ndarray  # (n_knots, D, D), the covariance that is added
    rank: int

    @classmethod
    def make(cls, knots, kernel, length_scale, variance, rank):
        A, Q = transitions(np.diff(knots), kernel, length_scale)
        order = A.shape[-1]
        A = np.concatenate([np.zeros((1, order, order)), A])
        Q = variance * np.concatenate([np.eye(order)[None], Q])
        return cls(_blocks(A, rank), _blocks(Q, rank), rank)

    @property
    def values(self):
        """Where in the state the values of the processes are."""
        return np.arange(self.rank) * (self.A.shape[-1] // self.rank)


def transitions(gaps, kernel, length_scale):
    """Transition matrices and covariances of a Matern process of unit variance."""
    if kernel == "matern12":
        a = gaps / length_scale
        return np.exp(-a)[:, None, None], -np.expm1(-2 * a)[:, None, None]
    a = sqrt(3) * gaps / length_scale
    decay = np.exp(-2 * a)
    A = np.exp(-a) * np.array([[1 + a, a], [-a, 1 - a]])
    first = -np.expm1(-2 * a) - 2 * a * (1 + a) * decay
    mixed = 2 * a**2 * decay
    second = -np.expm1(-2 * a) + 2 * a * (1 - a) * decay
    return np.moveaxis(A, -1, 0), np.moveaxis(np.array([[first, mixed], [mixed, second]]), -1, 0)


def _blocks(matrices, rank):
    """Block-diagonal matrices of `rank` equal blocks."""
    n, order = matrices.shape[:2]
    stacked = np.zeros((n, rank, order, rank, order))
    stacked[:, np.arange(rank), :, np.arange(rank), :] = matrices
    return stacked.reshape(n, rank * order, rank * order)


def posterior(chain, precision, linear):
    """Means (n_knots, R) and covariances (n_knots, R, R) of the processes at the knots."""
    m, P = filtered(chain, precision, linear)
    A, Q = chain.A[1:], chain.Q[1:]
    predicted = A @ P[:-1] @ _t(A) + Q
    E = _t(np.linalg.solve(predicted, A @ P[:-1]))
    g = m.copy()
    g[:-1] -= _v(E, _v(A, m[:-1]))
    L = P.copy()
    L[:-1] -= E @ A @ P[:-1]
    E = np.concatenate([E, np.zeros_like(P[:1])])
    _, g, L = (a[::-1] for a in scan(_smooth_two, tuple(a[::-1] for a in (E, g, L))))
    keep = chain.values
    L = L[:, keep[:, None], keep]
    return g[:, keep], (L + _t(L)) / 2


def filtered(chain, precision, linear):
    """Means and covariances of the states, given what is observed up to each knot."""
    A, Q = chain.A, chain.Q
    J = np.zeros_like(Q)
    keep = chain.values
    J[:, keep[:, None], keep] = precision
    h = np.zeros(Q.shape[:2])
    h[:, keep] = linear
    gain = np.linalg.inv(np.eye(Q.shape[-1]) + Q @ J)  # covariance of the update is gain Q
    moved = gain @ A
    elements = (moved, _v(gain @ Q, h), gain @ Q, _v(_t(moved), h), _t(A) @ J @ moved)
    _, m, P, _, _ = scan(_filter_two, elements)
    return m, (P + _t(P)) / 2


def _filter_two(first, second):
    """Two stretches of the filter as one (Sarkka and Garcia-Fernandez, 2021)."""
    A1, b1, C1, h1, J1 = first
    A2, b2, C2, h2, J2 = second
    gain = A2 @ np.linalg.inv(np.eye(C1.shape[-1]) + C1 @ J2)
    back = _t(A1) @ np.linalg.inv(np.eye(C1.shape[-1]) + J2 @ C1)
    return (
        gain @ A1,
        _v(gain, b1 + _v(C1, h2)) + b2,
        gain @ C1 @ _t(A2) + C2,
        _v(back, h2 - _v(J2, b1)) + h1,
        back @ J2 @ A1 + J1,
    )


def _smooth_two(later, earlier):
    E1, g1, L1 = earlier
    E2, g2, L2 = later
    return E1 @ E2, _v(E1, g2) + g1, E1 @ L2 @ _t(E1) + L1


def scan(combine, elements):
    """All running combinations of the elements, in a logarithmic number of steps."""
    n = len(elements[0])
    if n == 1:
        return elements
    pairs = combine(
        tuple(e[: n - 1 : 2] for e in elements),
        tuple(e[1::2] for e in elements),
    )
    odd = scan(combine, pairs)
    even = combine(
        tuple(o[: (n - 1) // 2] for o in odd),
        tuple(e[2::2] for e in elements),
    )
    return tuple(map(_interleaved, elements, odd, even))


def _interleaved(elements, odd, even):
    out = np.empty_like(elements)
    out[0], out[1::2], out[2::2] = elements[0], odd, even
    return out


def log_evidence(chain, precision, linear):
    """Log of the expectation of the product of all observation terms under the prior."""
    m, P = filtered(chain, precision, linear)
    A, Q, keep = chain.A, chain.Q, chain.values
    before = np.zeros_like(m)
    before[1:] = _v(A[1:], m[:-1])
    spread = Q.copy()
    spread[1:] += A[1:] @ P[:-1] @ _t(A[1:])
    u, S = before[:, keep], spread[:, keep[:, None], keep]
    shift = linear - _v(precision, u)
    widened = np.eye(chain.rank) + S @ precision
    gain = np.linalg.solve(widened, _v(S, shift)[:, :, None])[:, :, 0]
    exponent = 2 * linear * u - u * _v(precision, u) + shift * gain
    return 0.5 * (exponent.sum() - np.linalg.slogdet(widened)[1].sum())


def prior_draw(chain, rng):
    """One draw of the states from the prior."""
    values, vectors = np.linalg.eigh(chain.Q)
    roots = vectors * np.sqrt(np.maximum(values, 0))[:, None, :]
    noise = _v(roots, rng.normal(size=roots.shape[:2]))

    def move(first, second):
        return second[0] @ first[0], _v(second[0], first[1]) + second[1]

    return scan(move, (chain.A, noise))[1][:, chain.values]


def _t(matrices):
    return np.swapaxes(matrices, -1, -2)


def _v(matrices, vectors):
    return (matrices @ vectors[:, :, None])[:, :, 0]
