"""Noise for differentially private sums: exact discrete samplers and their calibration."""

import os
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr
from sklearn.utils import gen_batches

from skpapers.utils import check_random_state

__all__ = [
    "Budget",
    "Entropy",
    "discrete_gaussian",
    "discrete_laplace",
    "gaussian_delta",
    "gaussian_scale",
]

# Noise has this scale in grid units, which makes the grid as fine as 64-bit integers allow.
UNITS = 2**24
# What a record adds is shrunk by this share, which is more than rounding can add to its norm.
_MARGIN = 1e-9
_BATCH = 512


class Entropy:
    """Uniform integers: the operating system's, or reproducible ones where there is a seed."""

    def __init__(self, random_state=None):
        secure = random_state is None
        self._bytes = os.urandom if secure else check_random_state(random_state).bytes

    def below(self, bound, size):
        """Draw `size` integers, exactly uniform in [0, bound), by rejection of 64-bit words."""
        last = np.uint64(2**64 - 2**64 % bound - 1)
        words = self._words(size)
        while (rejected := np.flatnonzero(words > last)).size:
            words[rejected] = self._words(rejected.size)
        return (words % np.uint64(bound)).astype(np.int64)

    def _words(self, size):
        return np.frombuffer(bytearray(self._bytes(8 * size)), dtype=np.uint64)


def bernoulli_exp(numerators, denominator, entropy):
    """Draw true with probability exp(-numerator / denominator), in integers alone."""
    whole, rest = np.divmod(numerators, denominator)
    success = _bernoulli_exp_fraction(rest, denominator, entropy)
    while (left := np.flatnonzero(success & (whole > 0))).size:
        success[left] = _bernoulli_exp_fraction(np.ones(left.size, np.int64), 1, entropy)
        whole[left] -= 1
    return success


def _bernoulli_exp_fraction(numerators, denominator, entropy):
    """Von Neumann's game, gamma <= 1: is the first k at which Bernoulli(gamma / k) fails odd?"""
    success = np.zeros(numerators.size, dtype=bool)
    playing, k = np.arange(numerators.size), 1
    while playing.size:
        goes_on = entropy.below(k * denominator, playing.size) < numerators[playing]
        success[playing[~goes_on]] = k % 2 == 1
        playing, k = playing[goes_on], k + 1
    return success


def discrete_laplace(scale, size, entropy):
    """Draw integers k with probability proportional to exp(-abs(k) / scale), `scale` an integer.

    Canonne, Kamath and Steinke (2020), Algorithm 2.
    """
    return _collect(lambda n: _laplace_candidates(scale, n, entropy), size)


def discrete_gaussian(scale, size, entropy):
    """Draw integers k with probability proportional to exp(-k**2 / (2 scale**2)).

    Canonne, Kamath and Steinke (2020), Algorithm 3. Its Laplace proposal may have any scale;
    taking that of the Gaussian keeps all integers below 2**63.
    """

    def candidates(n):
        found = _laplace_candidates(scale, n, entropy)
        excess = (np.abs(found) - scale) ** 2
        return found[bernoulli_exp(excess, 2 * scale**2, entropy)]

    return _collect(candidates, size)


def _laplace_candidates(scale, n, entropy):
    low = entropy.below(scale, n)
    low = low[bernoulli_exp(low, scale, entropy)]
    size = low + scale * _geometric(low.size, entropy)
    negative = entropy.below(2, low.size) == 1
    signed = np.where(negative, -size, size)
    return signed[~negative | (size > 0)]  # zero has one sign


def _geometric(n, entropy):
    """Count successes of probability exp(-1) before the first failure."""
    counts, playing = np.zeros(n, dtype=np.int64), np.arange(n)
    while playing.size:
        playing = playing[bernoulli_exp(np.ones(playing.size, np.int64), 1, entropy)]
        counts[playing] += 1
    return counts


def _collect(candidates, size):
    parts, missing = [], size
    while missing > 0:
        parts.append(candidates(2 * missing + 8)[:missing])
        missing -= parts[-1].size
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def gaussian_delta(scale, epsilon):
    """Delta of Gaussian noise of standard deviation `scale` on a sum of l2 sensitivity one.

    Balle and Wang (2018), Theorem 8: exact, in any dimension.
    """
    shift, tail = 0.5 / scale, epsilon * scale
    return ndtr(shift - tail) - np.exp(epsilon + log_ndtr(-shift - tail))


def gaussian_scale(epsilon, delta):
    """Least standard deviation that is (epsilon, delta)-private at l2 sensitivity one."""

    def excess(log_scale):
        return gaussian_delta(np.exp(log_scale), epsilon) - delta

    return np.exp(brentq(excess, -14, 35, xtol=1e-12)) * (1 + 1e-9)


def discretization_delta(n_values, scale, units=UNITS):
    """Bound of what the grid adds to delta, for noise of `units` grid units in each value.

    The sum over the grid that is the delta of discrete noise is compared with the integral of
    the continuous noise one coordinate at a time. In each, the trapezoidal rule errs by at most
    an eighth of the variation of the derivative of phi(y) max(0, 1 - exp(a + b y)), where
    b <= shift / units**2 and phi is the unnormalised density: (2.43 + 6 shift / units) / units.
    The shifts of all coordinates together have l2 norm units / scale.
    """
    return (0.13 * n_values + 0.3 * np.sqrt(n_values) / scale) / units**2


class Noise:
    """Integer noise that is given out once."""

    def __init__(self, drawn):
        self._drawn = drawn

    def take(self, shape):
        size = int(np.prod(shape))
        if size > self._drawn.size:
            raise RuntimeError(f"{size} values of noise asked for, {self._drawn.size} left")
        taken, self._drawn = self._drawn[:size], self._drawn[size:]
        return taken.reshape(shape)


class Budget(NamedTuple):
    """What privacy may cost, and how noise pays for it.

    Sums over records are released in blocks; a block has a share of the budget, and the shares
    add up to one. Without noise (`epsilon` None or infinite) the sums are exact.
    """

    epsilon: float | None
    delta: float
    mechanism: str
    replace: bool

    @property
    def noiseless(self):
        return self.epsilon is None or np.isinf(self.epsilon)

    @property
    def spent_delta(self):
        return 0.0 if self.noiseless or self.mechanism == "laplace" else self.delta

    def relative_scale(self, n_values):
        """Scale of the noise at sensitivity one, for `n_values` released numbers in all.

        Replacing a record is removing one and adding one: it doubles every sensitivity.
        """
        if self.noiseless:
            return 0.0
        factor = 2.0 if self.replace else 1.0
        if self.mechanism == "laplace":
            return factor / self.epsilon
        lost = discretization_delta(n_values, gaussian_scale(self.epsilon, self.delta))
        if lost > self.delta / 2:
            raise ValueError(
                f"delta={self.delta} is too small for {n_values} values with noise on a grid: "
                "raise delta, or use mechanism='laplace'"
            )
        return factor * gaussian_scale(self.epsilon, self.delta - lost)

    def block_scale(self, relative, l1, l2, share):
        """Scale of the noise of a block, from the norms of what one record adds to it.

        Gaussian noise: the blocks, each divided by its scale, are one vector, whose squared
        sensitivities add up; Laplace noise: the epsilons of the blocks do.
        """
        if self.mechanism == "laplace":
            return relative * l1 / share
        return relative * l2 / np.sqrt(share)

    def standard_deviation(self, scale):
        return scale * np.sqrt(2) if self.mechanism == "laplace" else scale

    def noise(self, size, random_state=None):
        """Draw all the noise of a release at once: integers that blocks take in turn."""
        if self.noiseless:
            return Noise(np.zeros(0, dtype=np.int64))
        draw = discrete_laplace if self.mechanism == "laplace" else discrete_gaussian
        return Noise(draw(UNITS, size, Entropy(random_state)))

    def release(self, rows, scale, noise, function=None):
        """Sum `function` of the rows, each truncated to the grid, and add noise once.

        Truncation towards zero leaves no entry, hence no norm, larger than it was; the margin
        before it covers the rounding of the norm itself. Sums of integers over a batch of rows
        are exact in floating point.
        """
        batches = (rows[batch] for batch in gen_batches(len(rows), _BATCH))
        values = batches if function is None else map(function, batches)
        if scale == 0:
            return sum(added.sum(axis=0) for added in values)
        grid = scale / UNITS
        factor = (1 - _MARGIN) / grid
        total = sum(np.trunc(added * factor).sum(axis=0).astype(np.int64) for added in values)
        return grid * (total + noise.take(total.shape))

    def release_counts(self, counts, scale, noise):
        """Add noise to counts, of which a record adds one to some."""
        if scale == 0:
            return counts.astype(np.float64)
        grid = scale / UNITS
        return grid * (counts * int((1 - _MARGIN) / grid) + noise.take(counts.shape))
