"""Outputs of a whole population of small networks at once."""

from typing import NamedTuple

import torch
from torch.nn import functional as F

from ._neat_genomes import NO_NODE

__all__ = ["ACTIVATIONS", "AGGREGATIONS", "Networks"]

# The first of each is what a node is inserted with; the limits keep values finite.
ACTIVATIONS = {
    "identity": lambda z: z,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "relu": torch.relu,
    "leaky_relu": lambda z: F.leaky_relu(z, 0.005),
    "inverse": lambda z: torch.sign(z) / z.abs().clamp(min=1e-7),
    "log": lambda z: z.clamp(min=1e-7).log(),
    "exp": lambda z: z.clamp(max=30.0).exp(),
    "abs": torch.abs,
    "scaled_sigmoid": lambda z: 3 * torch.sigmoid(z),
    "scaled_tanh": lambda z: 3 * torch.tanh(z),
}


def _maxabs(terms, there):
    high, low = _masked_max(terms, there), -_masked_max(-terms, there)
    return torch.where(high.abs() >= low.abs(), high, low)


def _masked_max(terms, there):
    return terms.masked_fill(~there, -torch.inf).amax(dim=1)


def _masked_median(terms, there):
    ordered = terms.masked_fill(~there, torch.inf).sort(dim=1).values
    count = there.sum(dim=1, keepdim=True).expand(-1, -1, terms.shape[2])
    middle = torch.cat([(count - 1).clamp(min=0) // 2, count // 2], dim=1)
    return ordered.gather(1, middle.clamp(max=terms.shape[1] - 1)).mean(dim=1)


# Functions of terms of shape (nodes, sources, rows) and of which of them are there. The sum is
# a matrix product and is never called.
AGGREGATIONS = {
    "sum": None,
    "product": lambda terms, there: terms.masked_fill(~there, 1.0).prod(dim=1).clamp(-1e13, 1e13),
    "max": _masked_max,
    "min": lambda terms, there: -_masked_max(-terms, there),
    "maxabs": _maxabs,
    "median": _masked_median,
    "mean": lambda terms, there: terms.masked_fill(~there, 0.0).sum(dim=1) / there.sum(dim=1),
}


def node_levels(genomes):
    """Length of the longest path that ends at each node, not counting the step from an input."""
    sources, targets, there = genomes.slots()
    inner = there & (sources >= genomes.n_inputs)
    sources = (sources - genomes.n_inputs).clamp(min=0)
    levels = torch.zeros_like(genomes.keys)
    while True:
        longer = (levels.gather(1, sources) + 1) * inner
        longer = levels.scatter_reduce(1, targets, longer, "amax")
        if torch.equal(longer, levels):
            return levels
        levels = longer


class Networks:
    """Genomes that are called as one function.

    Genomes of like depth and size share a block, which is trimmed to what they need.

    Parameters
    ----------
    genomes : Genomes
        The population.
    block_size : int, default=None
        Genomes computed at a time; None for as many as the caches hold.
    """

    def __init__(self, genomes, block_size=None):
        self.genomes = genomes
        self.n_inputs, self.n_outputs = genomes.n_inputs, genomes.n_outputs
        self.block_size = block_size
        self._depths = node_levels(genomes)[:, : genomes.n_outputs].amax(dim=1) + 1
        self._blocks = {}

    def __len__(self):
        return len(self.genomes)

    @property
    def device(self):
        return self.genomes.weights.device

    @property
    def dtype(self):
        return self.genomes.weights.dtype

    def blocks(self, n_rows):
        """All genomes, in blocks of a size that suits so many rows."""
        largest = max(64, cells(self.device) // (n_rows * self.genomes.shape[0]))
        size = min(len(self), self.block_size or largest)
        if size not in self._blocks:
            order = (self._depths * NO_NODE + self.genomes.n_nodes).argsort()
            self._blocks[size] = [
                make_block(index, self.genomes.take(index), int(self._depths[index[-1]]))
                for index in order.split(size)
            ]
        return self._blocks[size]

    def __call__(self, X):
        """Compute the outputs, of shape (n_genomes, n_samples, n_outputs).

        Parameters
        ----------
        X : tensor of shape (n_samples, n_inputs) or (n_genomes, n_samples, n_inputs)
            Inputs that all networks share, or those of each.
        """
        X = torch.as_tensor(X, dtype=self.dtype, device=self.device)
        blocks = self.blocks(X.shape[-2])
        outputs = [block(X if X.ndim == 2 else X[block.index]) for block in blocks]
        order = torch.cat([block.index for block in blocks])
        return torch.cat(outputs)[order.argsort()].transpose(1, 2)


def cells(device):
    """How many values of nodes are computed at a time: what a cache, or a GPU, holds."""
    return 2**17 if device.type == "cpu" else 2**27


class Block(NamedTuple):
    """Dense weights of some genomes; nodes are addressed by their place in ``biases``."""

    index: torch.Tensor
    from_inputs: torch.Tensor
    inner: torch.Tensor
    biases: torch.Tensor
    there: torch.Tensor | None
    aggregators: list
    activators: list
    n_outputs: int
    depth: int

    def in_slices(self, X):
        """Outputs for all rows, a slice at a time, so that what lies between fits the memory."""
        rows = max(16, cells(X.device) // self.biases.numel())
        return torch.cat([self(x) for x in X.split(rows)], dim=2)

    def __call__(self, X):
        """Outputs of shape (genomes, outputs, rows): `depth` rounds settle every path to one."""
        X = X.transpose(-1, -2)
        if X.ndim == 2:
            base = (self.from_inputs.flatten(0, 1) @ X).unflatten(0, self.biases.shape[:2])
        else:
            base = self.from_inputs @ X
        base = base + self.biases
        values = torch.zeros_like(base)
        for step in range(self.depth):
            last = step == self.depth - 1
            n_rows = self.n_outputs if last else base.shape[1]
            sums = base[:, :n_rows]
            if step > 0:
                sums = torch.baddbmm(sums, self.inner[:, :n_rows], values)
            sums = self._aggregate(sums, X, values)
            values = sums if last else self._activate(sums)
        return values

    def _activate(self, sums):
        flat = sums.flatten(0, 1)
        for function, rows in self.activators:
            flat = flat.index_copy(0, rows, function(flat[rows]))
        return flat.view(sums.shape)

    def _aggregate(self, sums, X, values):
        for function, genome, node in self.aggregators:
            computed = node < sums.shape[1]
            g, k = genome[computed], node[computed]
            weights = torch.cat([self.from_inputs[g, k], self.inner[g, k]], dim=1)
            sources = X.expand(len(g), -1, -1) if X.ndim == 2 else X[g]
            terms = weights[:, :, None] * torch.cat([sources, values[g]], dim=1)
            there = self.there[g, k][:, :, None]
            result = function(terms, there).where(there.any(dim=1), terms.new_zeros(()))
            sums = sums.index_put((g, k), self.biases[g, k] + result)
        return sums


def make_block(index, genomes, depth):
    """Scatter the genes of some genomes into dense tensors."""
    genomes = genomes.trim()
    n_genomes, n_nodes = genomes.keys.shape
    sources, targets, there = genomes.slots()
    row = torch.arange(n_genomes, device=sources.device)[:, None].expand_as(sources)
    place = (row[there], targets[there], sources[there])
    shape = n_genomes, n_nodes, genomes.n_inputs + n_nodes
    dense = genomes.weights.new_zeros(shape).index_put(place, genomes.weights[there])
    aggregators = _rows_of(AGGREGATIONS, genomes.aggregations)
    mask = torch.zeros_like(dense, dtype=torch.bool).index_put(place, there[there])
    return Block(
        index,
        dense[:, :, : genomes.n_inputs].contiguous(),
        dense[:, :, genomes.n_inputs :].contiguous(),
        genomes.biases[:, :, None],
        mask if aggregators else None,
        [(f, rows // n_nodes, rows % n_nodes) for f, rows in aggregators],
        _rows_of(ACTIVATIONS, genomes.activations),
        genomes.n_outputs,
        depth,
    )


def _rows_of(table, choice):
    """Functions in use but the first of the table, each with the nodes that have it."""
    functions = list(table.values())
    used = choice.unique().tolist()
    return [(functions[i], (choice.flatten() == i).nonzero()[:, 0]) for i in used if i > 0]
