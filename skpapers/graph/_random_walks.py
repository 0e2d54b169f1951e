"""Importance-weighted random walks on a graph, all walkers advancing together."""

import warnings

import numpy as np
from joblib import Parallel, delayed
from scipy import sparse

_WALKERS_PER_BLOCK = 2**20
_LARGE_LOAD = 1e8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def step_matrix(adjacency, sigma, normalize):
    """Return U, the adjacency matrix scaled by `sigma` and, if asked, by the degrees."""
    asymmetry = abs(adjacency - adjacency.T)
    if asymmetry.nnz and asymmetry.max() > 1e-8 * abs(adjacency).max():
        raise ValueError("adjacency must be symmetric: kernels are defined on undirected graphs")
    steps = sparse.csr_array(adjacency * float(sigma) ** 2, dtype=np.float64)
    if not normalize:
        return steps
    root = inverse_root(abs(adjacency).sum(axis=1))
    steps.data *= np.repeat(root, np.diff(steps.indptr)) * root[steps.indices]
    return steps


def attached_steps(links, adjacency, sigma, normalize):
    """Return the steps from new nodes, scaled as those of a training node are."""
    steps = sparse.csr_array(links * float(sigma) ** 2, dtype=np.float64)
    if not normalize:
        return steps
    degree = abs(adjacency).sum(axis=1)[steps.indices]
    # A training node without edges has, with the link to the new node, that one.
    degree = np.where(degree > 0, degree, np.abs(links.data))
    own = np.repeat(inverse_root(abs(links).sum(axis=1)), np.diff(steps.indptr))
    steps.data *= own * inverse_root(degree)
    return steps


def inverse_root(degree):
    return np.where(degree > 0, 1 / np.sqrt(np.where(degree > 0, degree, 1)), 0)


def walk_matrices(steps, starts, keys, n_walks, halt_probability, length, n_jobs=None):
    """Walk from `starts`; return the mean loads after 1, 2, ... ``length - 1`` steps.

    The random numbers of a walk depend on its key alone, so that blocks, order and `n_jobs`
    change nothing.
    """
    n_blocks = -(-len(starts) * n_walks // _WALKERS_PER_BLOCK)
    blocks = np.array_split(np.arange(len(starts)), max(1, n_blocks))
    parts = Parallel(n_jobs=n_jobs, prefer="threads")(
        delayed(_walk_block)(steps, starts[b], keys[b], n_walks, halt_probability, length)
        for b in blocks
    )
    walks, loads = zip(*parts)
    if max(loads) > _LARGE_LOAD:
        warnings.warn(
            f"the load of a walk reaches {max(loads):.1e}: estimates have a huge variance; "
            "normalise the graph, or use a smaller sigma or halt_probability",
            stacklevel=2,
        )
    if len(walks) == 1:
        return walks[0]
    longest = max(map(len, walks))
    empty = [sparse.csr_array((len(b), steps.shape[1])) for b in blocks]
    return [
        sparse.vstack([w[t] if t < len(w) else e for w, e in zip(walks, empty)], format="csr")
        for t in range(longest)
    ]


def _walk_block(steps, starts, keys, n_walks, halt_probability, length):
    row = np.repeat(np.arange(len(starts)), n_walks)
    node = starts[row]
    walker = np.tile(np.arange(n_walks, dtype=np.uint64), len(starts))
    key, load = mix(keys[row] + walker * _GOLDEN), np.ones(len(row))
    walks, largest = [], 1.0
    for t in range(1, length):
        moving, node, factor = _advance(steps, node, uniform(key, t), halt_probability)
        row, key, load = row[moving], key[moving], load[moving] * factor
        if len(row) == 0:
            break
        largest = max(largest, np.abs(load).max())
        walks.append(_deposit(row, node, load / n_walks, (len(starts), steps.shape[1])))
    return walks, largest


def _advance(steps, node, u, halt_probability):
    """Halt or move to a random neighbour; the load grows by weight over probability."""
    degree = steps.indptr[node + 1] - steps.indptr[node]
    moving = (u >= halt_probability) & (degree > 0)
    node, degree = node[moving], degree[moving]
    # Given that the walk goes on, what is left of u is uniform again.
    choice = ((u[moving] - halt_probability) / (1 - halt_probability) * degree).astype(np.intp)
    edge = steps.indptr[node] + np.minimum(choice, degree - 1)
    return moving, steps.indices[edge], steps.data[edge] * degree / (1 - halt_probability)


def _deposit(row, node, load, shape):
    """Add up loads; walkers are in the order of their rows, so the csr form is at hand."""
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=shape[0]))])
    deposited = sparse.csr_array((load, node.copy(), indptr), shape=shape)  # sorted in place
    deposited.sum_duplicates()
    return deposited


def combine_walks(walks, modulation, shape):
    """Add up the walk matrices, the smallest first, weighted by the modulation function."""
    features = sparse.csr_array(shape)
    for matrix, weight in reversed(list(zip(walks, modulation))):
        features = features + weight * matrix
    return features.tocsr()


def mix(x):
    """Scramble 64-bit integers (the finaliser of the SplitMix64 generator)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(key, t):
    """Return number `t` of the random sequence of each key, uniform in [0, 1)."""
    return (mix(key + np.uint64([t]) * _GOLDEN) >> np.uint64(11)) * 2.0**-53


def row_keys(X):
    """Return a 64-bit digest of each row."""
    bits = (np.asarray(X, dtype=np.float64) + 0.0).view(np.uint64)  # + 0 turns -0 into 0
    keys = np.zeros(len(X), dtype=np.uint64)
    for column in bits.T:
        keys = mix(keys + column + _GOLDEN)
    return keys
