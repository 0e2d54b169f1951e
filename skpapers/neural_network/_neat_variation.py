"""Mutation and crossover of whole populations of genomes."""

from dataclasses import dataclass

import torch

from ._neat_genomes import NO_CONN, NO_NODE, choose, find, join_codes, split_codes

__all__ = ["Rates", "crossover", "mutate"]


@dataclass(frozen=True)
class Rates:
    """Probabilities and bounds of mutations; functions are positions in their tables."""

    node_add: float
    node_delete: float
    conn_add: float
    conn_delete: float
    weight_mutate_rate: float
    weight_mutate_power: float
    weight_replace_rate: float
    weight_bound: float
    function_replace_rate: float
    activations: tuple
    aggregations: tuple
    max_nodes: int
    max_conns: int


def mutate(genomes, rates, generator):
    """Change structure, then values; each change of structure has a coin a genome of its own."""
    device = genomes.keys.device
    coins, draws = torch.rand(2, 5, len(genomes), generator=generator).to(device)
    changes = [
        (rates.node_add, can_add_node, add_node, draws[:1]),
        (rates.node_delete, can_delete_node, delete_node, draws[1:2]),
        (rates.conn_add, can_add_conn, add_conn, draws[2:4]),
        (rates.conn_delete, can_delete_conn, delete_conn, draws[4:]),
    ]
    for coin, (rate, possible, change, draw) in zip(coins, changes):
        rows = ((coin < rate) & possible(genomes, rates)).nonzero()[:, 0]
        if len(rows):
            genomes = genomes.put(rows, change(genomes.take(rows), *draw[:, rows]))
    return mutate_values(genomes.trim(), rates, generator)


def pick(mask, draw):
    """Index of a True in each row of `mask`, uniform where `draw` is uniform in [0, 1)."""
    nth = (draw * mask.sum(dim=1)).long()
    return (mask.cumsum(dim=1) > nth[:, None]).int().argmax(dim=1)


def can_add_node(genomes, rates):
    """Where there is a connection to split and room for one node and one connection."""
    n_conns = genomes.n_conns
    return (n_conns > 0) & (n_conns < rates.max_conns) & (genomes.n_nodes < rates.max_nodes)


def add_node(genomes, draw):
    """Split a connection of each genome by a node that passes its sum on: outputs stay."""
    rows = torch.arange(len(genomes), device=draw.device)
    slot = pick(genomes.codes != NO_CONN, draw)
    n_nodes, n_conns = genomes.n_nodes, genomes.n_conns
    keys = genomes.keys
    new = keys.where(keys != NO_NODE, keys.new_zeros(())).max() + 1 + rows  # new to all genomes
    wider = genomes.pad(*(n + 1 for n in genomes.shape))
    source, target = split_codes(genomes.codes[rows, slot])
    codes = wider.codes.index_put((rows, slot), join_codes(source, new))
    codes = codes.index_put((rows, n_conns), join_codes(new, target))
    weights = wider.weights.index_put((rows, n_conns), wider.weights[rows, slot])
    weights = weights.index_put((rows, slot), weights.new_ones(()))
    keys = wider.keys.index_put((rows, n_nodes), new)
    return wider.replace(conns=[codes, weights], keys=keys).sort()


def _is_hidden(genomes):
    return (genomes.keys >= genomes.n_inputs + genomes.n_outputs) & (genomes.keys != NO_NODE)


def can_delete_node(genomes, rates):
    """Where there is a hidden node."""
    return _is_hidden(genomes).any(dim=1)


def delete_node(genomes, draw):
    """Delete a hidden node of each genome, with its connections."""
    rows = torch.arange(len(genomes), device=draw.device)
    slot = pick(_is_hidden(genomes), draw)
    gone = genomes.keys[rows, slot][:, None]
    source, target = split_codes(genomes.codes)
    keys = genomes.keys.index_put((rows, slot), gone.new_tensor(NO_NODE))
    codes = genomes.codes.masked_fill((source == gone) | (target == gone), NO_CONN)
    return genomes.replace(keys=keys, codes=codes).sort()


def can_add_conn(genomes, rates):
    """Where there is room."""
    return genomes.n_conns < rates.max_conns


def add_conn(genomes, source_draw, target_draw):
    """Connect two nodes by weight 0, unless they are connected or that would close a cycle."""
    rows = torch.arange(len(genomes), device=source_draw.device)
    n_inputs, n_nodes = genomes.n_inputs, genomes.n_nodes
    source_slot = (source_draw * (n_inputs + n_nodes)).long() - n_inputs
    target_slot = (target_draw * n_nodes).long()
    source = genomes.keys[rows, source_slot.clamp(min=0)]
    source = source.where(source_slot >= 0, source_slot + n_inputs)
    new = join_codes(source, genomes.keys[rows, target_slot])
    closes = reachable(genomes, target_slot)[rows, source_slot.clamp(min=0)] & (source_slot >= 0)
    refused = closes | (genomes.codes == new[:, None]).any(dim=1)
    wider = genomes.pad(genomes.shape[0], genomes.shape[1] + 1)
    new = new.masked_fill(refused, NO_CONN)
    return wider.replace(codes=wider.codes.index_put((rows, genomes.n_conns), new)).sort()


def reachable(genomes, start):
    """Nodes that a path leads to from the node at `start`, itself among them."""
    sources, targets, there = genomes.slots()
    inner = there & (sources >= genomes.n_inputs)
    sources = (sources - genomes.n_inputs).clamp(min=0)
    reached = torch.zeros_like(genomes.keys).scatter(1, start[:, None], 1)
    while True:
        further = reached.scatter_reduce(1, targets, reached.gather(1, sources) * inner, "amax")
        if torch.equal(further, reached):
            return reached.bool()
        reached = further


def can_delete_conn(genomes, rates):
    """Where there is a connection."""
    return genomes.n_conns > 0


def delete_conn(genomes, draw):
    """Delete a connection of each genome."""
    rows = torch.arange(len(genomes), device=draw.device)
    slot = pick(genomes.codes != NO_CONN, draw)
    codes = genomes.codes.index_put((rows, slot), genomes.codes.new_tensor(NO_CONN))
    return genomes.replace(codes=codes).sort()


def mutate_values(genomes, rates, generator):
    """Move or replace weights and biases, replace functions."""
    here = genomes.keys != NO_NODE
    hidden = _is_hidden(genomes)
    return genomes.replace(
        weights=_mutate_numbers(genomes.weights, genomes.codes != NO_CONN, rates, generator),
        biases=_mutate_numbers(genomes.biases, here, rates, generator),
        activations=_mutate_functions(
            genomes.activations, hidden, rates.activations, rates, generator
        ),
        aggregations=_mutate_functions(
            genomes.aggregations, here, rates.aggregations, rates, generator
        ),
    )


def _mutate_numbers(values, there, rates, generator):
    kwargs = {"generator": generator, "dtype": values.dtype}
    coin = torch.rand(values.shape, **kwargs).to(values.device)
    noise = torch.randn(values.shape, **kwargs).to(values.device)
    replaced = coin < rates.weight_replace_rate
    moved = coin < rates.weight_replace_rate + rates.weight_mutate_rate
    moved = torch.where(moved, values + rates.weight_mutate_power * noise, values)
    values = torch.where(replaced, noise, moved).clamp(-rates.weight_bound, rates.weight_bound)
    return values * there


def _mutate_functions(values, there, options, rates, generator):
    coin = torch.rand(values.shape, generator=generator).to(values.device)
    drawn = choose(options, values.shape, generator).to(values.device)
    return torch.where((coin < rates.function_replace_rate) & there, drawn, values)


def crossover(winners, losers, generator):
    """Children with the genes of the winners; of homologous ones each value is a coin's choice."""
    conn, shared_conn = find(losers.codes, winners.codes, NO_CONN)
    node, shared_node = find(losers.keys, winners.keys, NO_NODE)

    def mix(name, index, shared):
        value = getattr(winners, name)
        coin = torch.rand(value.shape, generator=generator).to(value.device)
        other = getattr(losers, name).gather(1, index)
        return torch.where(shared & (coin < 0.5), other, value)

    mixed = {name: mix(name, node, shared_node) for name in _NODE_VALUES}
    return winners.replace(weights=mix("weights", conn, shared_conn), **mixed)


_NODE_VALUES = ("biases", "aggregations", "activations")
