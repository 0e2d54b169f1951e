"""Motifs: the smallest scale at which one holds two given points."""

from functools import partial

import numpy as np
from sklearn.utils import check_array

_BLOCK = 2**24  # distances held at a time


def check_motifs(shape, motifs):
    """Motifs of shape 'custom' as arrays; each must be a small metric space."""
    if shape != "custom":
        return []
    if not motifs:
        raise ValueError("motifs must hold at least one distance matrix where shape='custom'")
    found = [check_array(motif, dtype=np.float64, input_name="motifs") for motif in motifs]
    for w in found:
        n = len(w)
        metric = w.shape == (n, n) and 2 <= n <= 5 and np.all(w == w.T) and not w.diagonal().any()
        off = ~np.eye(n, dtype=bool)
        if not metric or np.any(w[off] <= 0) or np.any(w > _shortest(w) * (1 + 1e-12)):
            raise ValueError(
                f"each of motifs must be the distance matrix of 2 to 5 distinct points, got {w}"
            )
    return found


def _shortest(w):
    """Length of the shortest way of two steps."""
    return (w[:, :, None] + w[None, :, :]).min(axis=1)


def motif_diameters(D, shape, n_points, motifs=(), core=None):
    if shape == "pair" or (shape == "simplex" and n_points == 2):
        return D
    if shape == "custom":
        found = np.minimum.reduce([_custom(D, motif) for motif in motifs])
    elif len(D) < n_points:
        found = np.full(D.shape, np.inf)
    elif shape == "star":
        if core is None:
            core = np.partition(D, n_points - 1, axis=1)[:, n_points - 1]
        found = np.maximum(D, np.minimum(core[:, None], core))
    elif n_points == 3:
        found = _triangles(D)
    else:
        found = _cliques(D, n_points)
    np.fill_diagonal(found, 0.0)
    return found


def _triangles(D):
    """Smallest diameter of three samples that include both."""
    apart = D.copy()
    np.fill_diagonal(apart, np.inf)  # the third sample is another one
    found = np.zeros_like(D)
    for i in range(len(D) - 1):
        third = np.maximum(apart[i], apart[i + 1 :]).min(axis=1)
        found[i, i + 1 :] = found[i + 1 :, i] = np.maximum(D[i, i + 1 :], third)
    return found


def _cliques(D, n_points):
    """Smallest diameter of `n_points` samples that include both.

    Edges enter the graph by increasing length; a pair is settled at the first length at which a
    clique of that many samples, which must hold the new edge, holds the pair. Sets of samples are
    bits of integers.
    """
    n_samples = len(D)
    found = np.full(D.shape, np.inf)
    rows, columns = np.triu_indices(n_samples, 1)
    adjacent = [0] * n_samples
    unsettled = [0] * n_samples  # adjacent to the sample, but not in a clique with it
    pending = 0  # samples with such neighbours
    for edge in np.argsort(D[rows, columns], kind="stable"):
        a, b = int(rows[edge]), int(columns[edge])
        adjacent[a] |= 1 << b
        adjacent[b] |= 1 << a
        unsettled[a] |= 1 << b
        unsettled[b] |= 1 << a
        ends = 1 << a | 1 << b
        pending |= ends
        both = adjacent[a] & adjacent[b]
        if both.bit_count() < n_points - 2:
            continue
        for p in _bits((both | ends) & pending):
            for q in _bits(unsettled[p] & (both | ends) & -(2 << p)):
                inside = ends | 1 << p | 1 << q
                rest = both & (adjacent[p] | 1 << p) & (adjacent[q] | 1 << q) & ~inside
                if _has_clique(adjacent, rest, n_points - inside.bit_count()):
                    found[p, q] = found[q, p] = D[a, b]
                    unsettled[p] &= ~(1 << q)
                    unsettled[q] &= ~(1 << p)
            pending &= ~(1 << p) if unsettled[p] == 0 else -1
    return found


def _bits(members):
    """Members of a set of samples."""
    while members:
        lowest = members & -members
        yield lowest.bit_length() - 1
        members ^= lowest


def _has_clique(adjacent, members, size):
    if size <= 1:
        return members != 0 or size == 0
    return any(
        _has_clique(adjacent, members & adjacent[v] & -(2 << v), size - 1) for v in _bits(members)
    )


def _custom(D, motif):
    """Smallest scale of a motif at which a non-expanding copy of it holds both samples.

    All injections of the motif are tried, those of one image of its first point at a time.
    """
    n_samples, k = len(D), len(motif)
    found = np.full(D.shape, np.inf)
    if n_samples < k:
        return found
    apart = D.copy()
    np.fill_diagonal(apart, np.inf)
    ratios = partial(_ratio, apart, motif)
    inner = np.zeros((n_samples,) * (k - 1))
    for a in range(1, k):
        for b in range(a + 1, k):
            np.maximum(inner, ratios(a, b), out=inner)
    for i in range(n_samples):
        scale = inner
        for a in range(1, k):
            scale = np.maximum(scale, _along(apart[i] / motif[0, a], a - 1, k - 1))
        for a in range(k - 1):
            others = tuple(axis for axis in range(k - 1) if axis != a)
            found[i] = np.minimum(found[i], scale.min(axis=others))
            for b in range(a + 1, k - 1):
                rest = tuple(axis for axis in others if axis != b)
                np.minimum(found, scale.min(axis=rest), out=found)
    return np.minimum(found, found.T)


def _along(values, axis, n_axes):
    """A vector laid along one axis."""
    return values.reshape([-1 if i == axis else 1 for i in range(n_axes)])


def _ratio(apart, motif, a, b):
    """Distances of the images of points a and b of the motif over their own, as a tensor."""
    n_axes = len(motif) - 1
    shape = [len(apart) if i in (a - 1, b - 1) else 1 for i in range(n_axes)]
    return (apart / motif[a, b]).reshape(shape)
