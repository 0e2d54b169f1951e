"""Joining pieces step by step, unless something forbids it: along a line, or by weight."""

import heapq

import numpy as np
from scipy import sparse

__all__ = ["Merger", "join_by_weight", "join_largest_first", "sparse_weights"]


class Merger:
    """Pieces that are joined step by step, unless an answer forbids it."""

    def __init__(self, sizes, apart):
        self.size = sizes.tolist()
        self._parent = list(range(len(sizes)))
        self._forbidden = [set() for _ in self.size]
        self.count = len(self.size)
        for a, b in apart[apart[:, 0] != apart[:, 1]].tolist():
            self._forbidden[a].add(b)
            self._forbidden[b].add(a)

    def find(self, piece):
        parent = self._parent
        while parent[piece] != piece:
            parent[piece] = piece = parent[parent[piece]]
        return piece

    def roots(self):
        return np.array([self.find(piece) for piece in range(len(self.size))])

    def allows(self, a, b):
        """Whether no answer tells two roots apart."""
        return b not in self._forbidden[a]

    def join(self, a, b):
        """Join the clusters of two pieces if they are two and may be one; return the new root."""
        a, b = self.find(a), self.find(b)
        if a == b or not self.allows(a, b):
            return None
        if len(self._forbidden[a]) < len(self._forbidden[b]):
            a, b = b, a
        self._parent[b] = a
        self.size[a] += self.size[b]
        self.count -= 1
        for other in self._forbidden[b]:
            self._forbidden[other].discard(b)
            self._forbidden[other].add(a)
        self._forbidden[a] |= self._forbidden[b]
        self._forbidden[b] = set()
        return a


def join_largest_first(merger, steps):
    """Join along the line, the pair with the largest product of sizes first."""
    heap = [(-merger.size[a] * merger.size[b], a, b) for a, b in steps.tolist()]
    heapq.heapify(heap)
    while heap:
        product, a, b = heapq.heappop(heap)
        a, b = merger.find(a), merger.find(b)
        if a == b or not merger.allows(a, b):
            continue
        now = -merger.size[a] * merger.size[b]
        if now < product:  # one of them has grown
            heapq.heappush(heap, (now, a, b))
        else:
            merger.join(a, b)


def sparse_weights(graph, pieces):
    """Total weight between pieces, as a dictionary of each one."""
    n_pieces = pieces.max() + 1
    member = sparse.csr_array((np.ones(len(pieces)), (pieces, np.arange(len(pieces)))))
    total = (member @ graph @ member.T).tocoo()
    weights = [{} for _ in range(n_pieces)]
    for a, b, weight in zip(total.row.tolist(), total.col.tolist(), total.data.tolist()):
        if a != b:
            weights[a][b] = weight
    return weights


def join_by_weight(merger, weights, n_clusters):
    """Join the clusters with the most weight between them, down to a number of clusters."""
    for piece in range(len(weights)):
        root = merger.find(piece)
        if root != piece:
            _move_weights(weights, piece, root)
    heap = [(-weight, a, b) for a, row in enumerate(weights) for b, weight in row.items()]
    heapq.heapify(heap)
    while heap and merger.count > n_clusters:
        weight, a, b = heapq.heappop(heap)
        if weights[a].get(b) != -weight:  # of a pair that has been joined since
            continue
        root = merger.join(a, b)
        if root is None:
            continue
        gone = b if root == a else a
        for other in _move_weights(weights, gone, root):
            heapq.heappush(heap, (-weights[root][other], root, other))


def _move_weights(weights, gone, root):
    """Give the edges of one cluster to another; return at whose other ends they are."""
    moved, weights[gone] = weights[gone], {}
    moved.pop(root, None)
    for other, weight in moved.items():
        del weights[other][gone]
        if other != root:
            weights[root][other] = weights[other][root] = weights[root].get(other, 0.0) + weight
    weights[root].pop(gone, None)
    return moved
