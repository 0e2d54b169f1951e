"""Variational messages between the entries, factor functions, core and noise of a Tucker model."""

from dataclasses import dataclass, field
from functools import reduce

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from sklearn.utils import gen_batches

from ._funbat_markov import Chain, log_evidence, posterior

__all__ = [
    "Core",
    "Mode",
    "Noise",
    "batches",
    "by_evidence",
    "epoch",
    "first_moments",
    "moments_at",
    "squared_error",
    "tune_kernel",
]

_CHUNK = 2**22  # numbers of a batch in memory at a time


@dataclass
class Mode:
    """One coordinate: its knots, and the approximate posterior of its functions there."""

    knots: np.ndarray
    index: np.ndarray  # knot of each entry
    rank: int
    kernel: str
    length_scale: float
    variance: float
    mean: np.ndarray = None
    covariance: np.ndarray = None
    precision: np.ndarray = None  # sums of the messages of the entries at each knot
    linear: np.ndarray = None

    def start(self, rng):
        """Straight lines, functions of the coordinate alone, with messages near zero."""
        ends = rng.uniform(size=(2, self.rank))
        span = np.ptp(self.knots) or 1.0
        s = (self.knots[:, None] - self.knots[0]) / span
        lines = ends[0] + (ends[1] - ends[0]) * s
        # of unit root mean square over the range: products of many neither vanish nor explode
        self.mean = lines / np.sqrt((ends**2).sum(axis=0) / 3 + ends.prod(axis=0) / 3)
        self.covariance = np.tile(0.1 * np.eye(self.rank), (len(self.knots), 1, 1))
        self.precision = np.tile(1e-3 * np.eye(self.rank), (len(self.knots), 1, 1))
        self.linear = 1e-3 * self.mean

    def chain(self, knots=None):
        knots = self.knots if knots is None else knots
        return Chain.make(knots, self.kernel, self.length_scale, self.variance, self.rank)

    def update(self):
        self.mean, self.covariance = posterior(self.chain(), self.precision, self.linear)

    def second_moments(self):
        """E[u u'] at the knots, flat."""
        moments = self.covariance + self.mean[:, :, None] * self.mean[:, None, :]
        return moments.reshape(len(self.knots), -1)

    def with_queries(self, values):
        """Chain and messages with new values among the knots, and where these are."""
        knots, position = np.unique(np.concatenate([self.knots, values]), return_inverse=True)
        precision = np.zeros((len(knots), self.rank, self.rank))
        linear = np.zeros((len(knots), self.rank))
        own = position[: len(self.knots)]
        precision[own], linear[own] = self.precision, self.linear
        return self.chain(knots), precision, linear, position[len(self.knots) :]

    def at(self, values):
        """Means and covariances of the functions at any values."""
        chain, precision, linear, position = self.with_queries(values)
        mean, covariance = posterior(chain, precision, linear)
        return mean[position], covariance[position]


@dataclass
class Core:
    """Normal posterior of the core tensor; the superdiagonal tensor while it is frozen."""

    ranks: tuple
    diagonal: bool  # CP: sums over one index, and the core is never more than superdiagonal
    frozen: bool = True
    mean: np.ndarray = field(init=False)
    covariance: np.ndarray = field(init=False)

    def __post_init__(self):
        if self.diagonal:
            self.mean = self.covariance = None  # a tensor of many modes would be too large
            return
        self.mean = superdiagonal(self.ranks)
        size = self.mean.size
        self.covariance = np.zeros((size, size))
        self.precision, self.linear = 10 * np.eye(size), 10 * self.mean.ravel()

    def moments(self, core_covariance=True):
        """E[w w'] as a tensor of each index twice: (R_1, R_1, R_2, R_2, ...)."""
        w = self.mean.ravel()
        moments = np.outer(w, w) + (self.covariance if core_covariance else 0)
        n = len(self.ranks)
        order = [axis for k in range(n) for axis in (k, n + k)]
        return moments.reshape(*self.ranks, *self.ranks).transpose(order)

    def update(self, precision, linear, damping):
        self.precision = damping * self.precision + (1 - damping) * precision
        self.linear = damping * self.linear + (1 - damping) * linear
        self.covariance = np.linalg.inv(self.precision)
        self.mean = (self.covariance @ self.linear).reshape(self.ranks)


@dataclass
class Noise:
    """Gamma posterior of the noise precision."""

    shape: float
    rate: float

    @property
    def mean(self):
        return self.shape / self.rate


def superdiagonal(ranks):
    core = np.zeros(ranks)
    core[(np.arange(min(ranks)),) * len(ranks)] = 1
    return core


def row_products(factors):
    """All products of one column of each factor, row by row."""
    return reduce(lambda a, b: (a[:, :, None] * b[:, None, :]).reshape(len(a), -1), factors)


def contract(tensor, factors, keep=None):
    """Sum a tensor, row by row, against vectors for all of its modes but `keep`."""
    order = [k for k in range(tensor.ndim) if k != keep]
    if keep is not None:
        unfolded = np.moveaxis(tensor, keep, -1).reshape(-1, tensor.shape[keep])
        if not order:
            return np.broadcast_to(unfolded, (len(factors[0]), tensor.shape[keep]))
        return row_products([factors[k] for k in order]) @ unfolded
    half = (len(factors) + 1) // 2
    left = row_products(factors[:half])
    matrix = tensor.reshape(left.shape[1], -1)
    if half == len(factors):
        return left @ matrix[:, 0]
    return ((left @ matrix) * row_products(factors[half:])).sum(axis=1)


def first_moments(core, means, keep=None):
    """E[y] of each row, or, for a mode that is kept, what its functions are multiplied by."""
    if core.diagonal:
        others = [m for k, m in enumerate(means) if k != keep]
        product = reduce(np.multiply, others) if others else np.ones_like(means[0])
        return product if keep is not None else product.sum(axis=1)
    return contract(core.mean, means, keep)


def second_moments(core, flat, keep=None, core_covariance=True):
    """The same for E[y**2], from flat second moments of the factors."""
    if core.diagonal:
        return first_moments(core, flat, keep)
    moments = core.moments(core_covariance)
    return contract(moments.reshape([r * r for r in core.ranks]), flat, keep)


def batches(modes, core, n_rows, batch_size):
    """Slices of the entries whose products fit into memory."""
    width = 1 if core.diagonal else int(np.prod(core.ranks)) ** 2 // min(core.ranks) ** 2
    return gen_batches(n_rows, max(1, min(batch_size, _CHUNK // max(width, 1))))


def by_evidence(modes, core, noise, y, weight, batch_size):
    """The modes, the one first whose first messages are the most probable.

    What a coordinate without an effect would make of the target before the others know theirs is
    zero, and a product with zero stays there.
    """
    found = [
        log_evidence(m.chain(), *mode_messages(modes, core, noise, y, weight, k, batch_size))
        for k, m in enumerate(modes)
    ]
    return np.argsort(found, kind="stable")[::-1]


def epoch(modes, core, noise, y, weight, order, damping, priors, batch_size, core_covariance=True):
    """Update the modes in order, then the core and the noise; the relative change of the means.

    `damping` and `priors` are (factors, core, noise) and (a0, b0).
    """
    change = 0.0
    for k in order:
        mode = modes[k]
        old = mode.mean
        fresh = mode_messages(modes, core, noise, y, weight, k, batch_size, core_covariance)
        mode.precision = damping[0] * mode.precision + (1 - damping[0]) * fresh[0]
        mode.linear = damping[0] * mode.linear + (1 - damping[0]) * fresh[1]
        mode.update()
        size = np.linalg.norm(old)
        change = max(change, np.linalg.norm(mode.mean - old) / (size if size > 0 else 1.0))
    if not core.frozen:
        precision, linear = core_messages(modes, core, noise, y, weight, batch_size)
        core.update(precision, linear, damping[1])
    rate = priors[1] + 0.5 * squared_error(modes, core, y, weight, batch_size)
    noise.rate = damping[2] * noise.rate + (1 - damping[2]) * rate
    return change


def mode_messages(modes, core, noise, y, weight, k, batch_size, core_covariance=True):
    """Precisions and linear terms that the entries send to the knots of mode k, summed."""
    mode = modes[k]
    precision = np.zeros((len(mode.knots), mode.rank**2))
    linear = np.zeros((len(mode.knots), mode.rank))
    flat = [m.second_moments() for m in modes]
    for rows in batches(modes, core, len(y), batch_size):
        means = [m.mean[m.index[rows]] for m in modes]
        moments = [f[m.index[rows]] for f, m in zip(flat, modes)]
        tau = noise.mean * weight[rows][:, None]
        n = len(means[0])
        at = sparse.csr_array((np.ones(n), (mode.index[rows], np.arange(n))), (len(linear), n))
        linear += at @ (tau * y[rows][:, None] * first_moments(core, means, k))
        precision += at @ (tau * second_moments(core, moments, k, core_covariance))
    return precision.reshape(-1, mode.rank, mode.rank), linear


def core_messages(modes, core, noise, y, weight, batch_size):
    """Precision and linear term of the core, prior included."""
    size, n_modes = core.mean.size, len(modes)
    half = (n_modes + 1) // 2
    gram, linear = 0.0, np.zeros(size)
    flat = [m.second_moments() for m in modes]
    for rows in batches(modes, core, len(y), batch_size):
        tau = noise.mean * weight[rows]
        linear += (tau * y[rows]) @ row_products([m.mean[m.index[rows]] for m in modes])
        moments = [f[m.index[rows]] for f, m in zip(flat, modes)]
        left = row_products(moments[:half]) * tau[:, None]
        right = row_products(moments[half:]) if half < n_modes else np.ones((len(left), 1))
        gram = gram + left.T @ right
    pairs = gram.reshape([r for rank in core.ranks for r in (rank, rank)])
    gram = pairs.transpose([*range(0, 2 * n_modes, 2), *range(1, 2 * n_modes, 2)])
    return np.eye(size) + gram.reshape(size, size), linear


def squared_error(modes, core, y, weight, batch_size):
    """Expectation of the weighted squared error."""
    total = 0.0
    for rows in batches(modes, core, len(y), batch_size):
        mean, square = moments_at(
            core,
            [m.mean[m.index[rows]] for m in modes],
            [m.second_moments()[m.index[rows]] for m in modes],
        )
        total += weight[rows] @ (y[rows] ** 2 - 2 * y[rows] * mean + square)
    return total


def moments_at(core, means, moments):
    """E[f] and E[f**2] of rows with the given moments of the factors."""
    return first_moments(core, means), second_moments(core, moments)


def tune_kernel(mode):
    """Set length scale and variance to what makes the messages most probable."""

    def loss(logs):
        length_scale, variance = np.exp(logs)
        chain = Chain.make(mode.knots, mode.kernel, length_scale, variance, mode.rank)
        return -log_evidence(chain, mode.precision, mode.linear)

    start = np.log([mode.length_scale, mode.variance])
    bounds = [(np.log(1e-3), np.log(1e2))] * 2
    found = minimize(loss, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": 15})
    mode.length_scale, mode.variance = np.exp(found.x)
    mode.update()
