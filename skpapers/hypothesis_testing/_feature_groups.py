"""Groups of discrete features that carry joint information, found by greedy merging."""

from itertools import combinations, count
from typing import NamedTuple

import numpy as np

from ._entropies import compress, count_entropy, join_codes

__all__ = ["group_features"]


class Group(NamedTuple):
    """Columns, the codes of their cells, the number of cells, Shannon entropy in nats."""

    columns: tuple
    codes: np.ndarray
    n_cells: int
    entropy: float


def group_features(codes, *, max_order, n_groups, threshold, max_cells):
    """Merge the groups with the largest gain until none passes the threshold.

    Sets of three groups are tried when no pair passes, and so on up to `max_order`: that finds
    features that inform about others only together.
    """
    numbers = count()
    groups = {next(numbers): _group((j,), *compress(column)) for j, column in enumerate(codes.T)}
    gains, order = {}, 2
    while order <= min(max_order, len(groups) - (n_groups or 1) + 1):
        for parts in combinations(groups, order):
            if parts not in gains:
                gains[parts] = merge_gain([groups[part] for part in parts], max_cells)
        best = max(combinations(groups, order), key=gains.get)
        if gains[best] < threshold:
            order += 1
            continue
        merged = merge([groups.pop(part) for part in best])
        gains = {parts: gain for parts, gain in gains.items() if not set(parts) & set(best)}
        groups[next(numbers)] = merged
        order = 2
    return sorted(group.columns for group in groups.values())


def merge(groups):
    """One group of the columns of all."""
    codes, counts = groups[0].codes, None
    for group in groups[1:]:
        codes, counts = join_codes(codes, group.codes, group.n_cells)
    return _group(sorted(sum((group.columns for group in groups), ())), codes, counts)


def _group(columns, codes, counts):
    return Group(tuple(columns), codes, len(counts), count_entropy(counts))


def merge_gain(groups, max_cells):
    """Total correlation of groups, less its bias, over what it can be; -inf above `max_cells`.

    Under independence twice n times the plug-in total correlation is about chi-squared.
    """
    merged = merge(groups)
    if merged.n_cells > max_cells:
        return -np.inf
    entropies = np.array([group.entropy for group in groups])
    sizes = np.array([group.n_cells for group in groups], dtype=float)
    largest = entropies.sum() - entropies.max()
    if largest <= 0:
        return 0.0
    bias = (sizes.prod() - 1 - np.sum(sizes - 1)) / (2 * len(merged.codes))
    return (entropies.sum() - merged.entropy - bias) / largest
