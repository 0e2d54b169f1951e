"""Which rows a training in order of difficulty sees at each step."""

from math import ceil, floor, log

import numpy as np

SCHEDULES = ("fixed_exponential", "linear", "root", "step", "cyclic", "none")


def pacing(schedule, n_steps, n_rows, *, start=0.1, end=1.0, growth=1.9, ramp=0.5, per_epoch=1):
    """Number of rows available at each of `n_steps` steps."""
    step = np.arange(n_steps)
    progress = step / (ramp * n_steps)
    if schedule == "none" or start == 1:
        share = np.ones(n_steps)
    elif schedule == "fixed_exponential":
        n_levels = ceil(log(1 / start) / log(growth))
        length = max(1, floor(ramp * n_steps / n_levels))
        share = start * growth ** np.minimum(step // length, n_levels)
    elif schedule == "linear":
        share = start + (1 - start) * progress
    elif schedule == "root":
        share = np.sqrt(start**2 + (1 - start**2) * progress)
    elif schedule == "step":
        share = np.where(progress < 1, start, 1.0)
    else:
        share = cycle(start, growth, ceil(n_steps / per_epoch)).repeat(per_epoch)[:n_steps]
    share = np.minimum(share, min(end, 1.0))
    return np.maximum(np.ceil(share * n_rows - 1e-9).astype(np.intp), 1)


def cycle(start, growth, n_epochs):
    """Shares that grow by a factor each epoch up to 1, then shrink to `start`, and so on."""
    share, factor, shares = start, growth, []
    for _ in range(n_epochs):
        shares.append(share)
        share = min(max(share * factor, start), 1.0)
        factor = 1 / growth if share == 1 else growth if share == start else factor
    return np.array(shares)


def easy_first(difficulty, labels, rng):
    """Rows by difficulty, ties at random; with labels, every prefix has the shares of them."""
    order = np.lexsort((rng.permutation(len(difficulty)), difficulty))
    if labels is None:
        return order
    index = np.unique(labels, return_inverse=True)[1][order]
    turns = interleave(np.bincount(index))
    mixed = np.empty_like(order)
    # The k-th turn of a class is that of its k-th easiest row.
    mixed[np.argsort(turns, kind="stable")] = order[np.argsort(index, kind="stable")]
    return mixed


def interleave(counts):
    """A sequence of classes in whose every prefix each class is within one of its quota.

    Tijdeman's algorithm: of the classes that are behind enough, the one with the next deadline.
    It is sequential by nature: a loop over the rows, of a few operations on classes.
    """
    if len(counts) == 1:
        return np.zeros(counts[0], dtype=np.intp)
    quota, slack = counts / counts.sum(), 1 / (2 * len(counts) - 2)
    taken, turns = np.zeros(len(counts)), np.empty(counts.sum(), dtype=np.intp)
    for position in range(len(turns)):
        behind = quota * (position + 1) - taken >= slack - 1e-9
        deadline = np.where(behind, (taken + 1 - slack) / quota, np.inf)
        turns[position] = chosen = deadline.argmin()
        taken[chosen] += 1
    return turns


def batches(order, available, batch_size, rng):
    """Rows of each step: consecutive pieces of permutations of the rows available.

    A new permutation is drawn when one is used up, and when the number available changes.
    """
    size, position, shuffled = 0, 0, order[:0]
    for n_available in available:
        if n_available != size or position >= size:
            shuffled = order[rng.permutation(n_available)]
            size, position = n_available, 0
        yield shuffled[position : position + batch_size]
        position += batch_size


def train(estimator, X, y, rows, classes=None):
    """One `partial_fit` for each entry of `rows`."""
    first = {} if classes is None else {"classes": classes}
    for index in rows:
        estimator.partial_fit(X[index], y[index], **first)
        first = {}
    return estimator
