"""A population of small networks as padded tensors."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

__all__ = ["Genomes", "initial_topology", "make_population"]

# Paddings are larger than all keys, so that sorting brings them to the end of a row, and powers of
# two, which pass through floating point unchanged.
NO_NODE = 2**30
NO_CONN = 2**62
_TARGET = 2**32 - 1


@dataclass(frozen=True)
class Genomes:
    """Genes of a population; what a row has less than the longest is padded at its end.

    Inputs have keys 0, ..., n_inputs - 1 and no genes; outputs have the next keys, hidden nodes
    larger ones. Both kinds of genes are sorted by key, which is what finding homologous genes
    needs; the key of a connection is ``source * 2**32 + target``.

    Attributes
    ----------
    keys, aggregations, activations : tensor of int64 of shape (n_genomes, n_nodes)
        Keys of the nodes, `NO_NODE` for a padding, and their functions as positions in the
        tables of ``_neat_networks``.
    biases : tensor of shape (n_genomes, n_nodes)
        Biases.
    codes : tensor of int64 of shape (n_genomes, n_conns)
        Keys of the connections, `NO_CONN` for a padding.
    weights : tensor of shape (n_genomes, n_conns)
        Their weights.
    n_inputs, n_outputs : int
        Numbers that all have in common.
    """

    keys: torch.Tensor
    biases: torch.Tensor
    aggregations: torch.Tensor
    activations: torch.Tensor
    codes: torch.Tensor
    weights: torch.Tensor
    n_inputs: int
    n_outputs: int

    def __len__(self):
        return len(self.keys)

    @property
    def n_nodes(self):
        return (self.keys != NO_NODE).sum(dim=1)

    @property
    def n_conns(self):
        return (self.codes != NO_CONN).sum(dim=1)

    @property
    def nodes(self):
        return self.keys, self.biases, self.aggregations, self.activations

    @property
    def conns(self):
        return self.codes, self.weights

    def replace(self, nodes=None, conns=None, **changes):
        """Exchange some tensors."""
        nodes = {} if nodes is None else dict(zip(_NODE_FIELDS, nodes))
        conns = {} if conns is None else dict(zip(_CONN_FIELDS, conns))
        return dataclasses.replace(self, **nodes, **conns, **changes)

    def take(self, index):
        """Select genomes."""
        return self.replace([x[index] for x in self.nodes], [x[index] for x in self.conns])

    def to(self, device):
        """Move to a device."""
        return self.replace([x.to(device) for x in self.nodes], [x.to(device) for x in self.conns])

    def pad(self, n_nodes, n_conns):
        """Append empty columns up to these widths, or cut them off."""
        if (n_nodes, n_conns) == self.shape:
            return self
        more_nodes, more_conns = n_nodes - self.keys.shape[1], n_conns - self.codes.shape[1]
        nodes = [
            F.pad(x, (0, more_nodes), value=v) for x, v in zip(self.nodes, (NO_NODE, 0, 0, 0))
        ]
        conns = [F.pad(x, (0, more_conns), value=v) for x, v in zip(self.conns, (NO_CONN, 0))]
        return self.replace(nodes, conns)

    def trim(self):
        """Cut off the columns that no genome uses."""
        counts = torch.stack([self.n_nodes.max(), self.n_conns.max()])
        return self.pad(*(max(1, n) for n in counts.tolist()))

    def sort(self):
        """Sort the genes of each genome by key; what is deleted becomes padding."""
        keys, by_key = self.keys.sort(dim=1)
        codes, by_code = self.codes.sort(dim=1)
        nodes = [x.gather(1, by_key).masked_fill(keys == NO_NODE, 0) for x in self.nodes[1:]]
        weights = self.weights.gather(1, by_code).masked_fill(codes == NO_CONN, 0)
        return self.replace([keys, *nodes], [codes, weights])

    def put(self, rows, genomes):
        """Exchange some genomes."""
        shape = [max(a, b) for a, b in zip(self.shape, genomes.shape)]
        one, two = self.pad(*shape), genomes.pad(*shape)
        nodes = [a.index_copy(0, rows, b) for a, b in zip(one.nodes, two.nodes)]
        conns = [a.index_copy(0, rows, b) for a, b in zip(one.conns, two.conns)]
        return self.replace(nodes, conns)

    @property
    def shape(self):
        return self.keys.shape[1], self.codes.shape[1]

    def slots(self):
        """Where each connection starts (inputs come first), where it ends, and if it is one."""
        there = self.codes != NO_CONN
        sources, targets = split_codes(self.codes)
        hidden = torch.searchsorted(self.keys, sources) + self.n_inputs
        sources = torch.where(sources < self.n_inputs, sources, hidden)
        targets = torch.searchsorted(self.keys, targets)
        return sources * there, targets * there, there

    def arrays(self, index=0):
        """Genes of one genome without padding: (key, bias, functions) and (from, to, weight)."""
        here, there = self.keys[index] != NO_NODE, self.codes[index] != NO_CONN
        nodes = [x[index][here] for x in self.nodes]
        conns = [*split_codes(self.codes[index][there]), self.weights[index][there]]
        return tuple(
            np.column_stack([x.cpu().double().numpy() for x in k]) for k in (nodes, conns)
        )


_NODE_FIELDS = ("keys", "biases", "aggregations", "activations")
_CONN_FIELDS = ("codes", "weights")


def concatenate(first, second):
    """Join two populations."""
    shape = [max(a, b) for a, b in zip(first.shape, second.shape)]
    one, two = first.pad(*shape), second.pad(*shape)
    nodes = [torch.cat(pair) for pair in zip(one.nodes, two.nodes)]
    return first.replace(nodes, [torch.cat(pair) for pair in zip(one.conns, two.conns)])


def join_codes(sources, targets):
    """Make the keys of connections."""
    return (sources << 32) | targets


def split_codes(codes):
    """Keys of the nodes that connections come from and go to."""
    return codes >> 32, codes & _TARGET


def find(ordered, wanted, padding):
    """Where each of `wanted` is in the sorted rows `ordered`, and whether it is there."""
    index = torch.searchsorted(ordered, wanted).clamp(max=ordered.shape[-1] - 1)
    return index, (ordered.gather(-1, index) == wanted) & (wanted != padding)


def initial_topology(n_inputs, n_outputs, hidden_layer_sizes=()):
    """Keys of the nodes and of the connections of fully connected layers."""
    n_hidden = sum(hidden_layer_sizes)
    keys = torch.arange(n_inputs, n_inputs + n_outputs + n_hidden)
    outputs, hidden = keys[:n_outputs], keys[n_outputs:]
    layers = [torch.arange(n_inputs), *hidden.split(list(hidden_layer_sizes)), outputs]
    pairs = [torch.cartesian_prod(a, b).view(-1, 2) for a, b in zip(layers, layers[1:])]
    return keys, join_codes(*torch.cat(pairs).T).sort().values


def make_population(
    size, topology, n_inputs, n_outputs, *, activations, aggregations, bound, generator, dtype
):
    """Draw genomes of one topology: normal weights and biases, functions out of those given."""
    keys, codes = (x.expand(size, -1).contiguous() for x in topology)

    def normal(shape):
        return torch.randn(shape, generator=generator, dtype=dtype).clamp(-bound, bound)

    return Genomes(
        keys,
        normal(keys.shape),
        choose(aggregations, keys.shape, generator),
        choose(activations, keys.shape, generator) * (keys >= n_inputs + n_outputs),
        codes,
        normal(codes.shape),
        n_inputs,
        n_outputs,
    )


def choose(values, shape, generator):
    """Draw uniformly out of a sequence of integers."""
    return torch.tensor(values)[torch.randint(len(values), shape, generator=generator)]
