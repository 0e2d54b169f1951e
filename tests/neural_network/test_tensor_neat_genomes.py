"""Tensor genomes against graphs of Python objects, and against examples worked by hand."""

import dataclasses
import graphlib
import math
import statistics

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from skpapers.neural_network import genome_to_sympy
from skpapers.neural_network._neat_genomes import (
    NO_CONN,
    NO_NODE,
    Genomes,
    initial_topology,
    join_codes,
    make_population,
)
from skpapers.neural_network._neat_networks import (
    ACTIVATIONS,
    AGGREGATIONS,
    Networks,
    node_levels,
)
from skpapers.neural_network._neat_search import Settings
from skpapers.neural_network._neat_species import (
    Species,
    choose_parents,
    distance,
    rank_species,
    spawn_numbers,
    speciate,
)
from skpapers.neural_network._neat_variation import (
    add_conn,
    add_node,
    crossover,
    mutate,
)

N_INPUTS, N_OUTPUTS = 3, 2
ALL = {"activations": tuple(range(len(ACTIVATIONS)))[1:], "aggregations": tuple(range(7))}


def rates_of(**changes):
    return dataclasses.replace(Settings().rates(n_conns=0), **changes)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def population(size, *, seed=0, hidden=(), activations=(2,), aggregations=(0,)):
    return make_population(
        size,
        initial_topology(N_INPUTS, N_OUTPUTS, hidden),
        N_INPUTS,
        N_OUTPUTS,
        activations=activations,
        aggregations=aggregations,
        bound=5.0,
        generator=generator(seed),
        dtype=torch.float64,
    )


def mutated(size, n_generations, *, seed=0, **rates):
    """Genomes after many random mutations, additions more frequent than deletions."""
    options = {k: rates[k] for k in ("activations", "aggregations") if k in rates}
    genomes, rng = population(size, seed=seed, **options), generator(seed)
    rates = rates_of(node_add=0.3, conn_add=0.6, **rates)
    for _ in range(n_generations):
        genomes = mutate(genomes, rates, rng)
    return genomes


def genome(biases, conns, functions=None, n_inputs=2, n_outputs=1):
    """One genome: biases by key, weights by (source, target), functions (aggregation, act)."""
    keys, pairs = sorted(biases), sorted(conns)
    functions = functions or {}
    chosen = np.array([functions.get(key, (0, 0)) for key in keys])
    return Genomes(
        torch.tensor([keys]),
        torch.tensor([[biases[key] for key in keys]], dtype=torch.float64),
        torch.tensor(chosen[None, :, 0]),
        torch.tensor(chosen[None, :, 1]),
        torch.tensor([[(a << 32) + b for a, b in pairs]]),
        torch.tensor([[conns[pair] for pair in pairs]], dtype=torch.float64),
        n_inputs,
        n_outputs,
    )


# A network as a graph of Python numbers.

SCALAR_ACTIVATIONS = {
    "identity": lambda z: z,
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)) if z > -700 else 0.0,
    "tanh": math.tanh,
    "sin": math.sin,
    "relu": lambda z: max(z, 0.0),
    "leaky_relu": lambda z: z if z > 0 else 0.005 * z,
    "inverse": lambda z: math.copysign(1, z) / max(abs(z), 1e-7) if z else 0.0,
    "log": lambda z: math.log(max(z, 1e-7)),
    "exp": lambda z: math.exp(min(z, 30)),
    "abs": abs,
    "scaled_sigmoid": lambda z: 3 / (1 + math.exp(-z)) if z > -700 else 0.0,
    "scaled_tanh": lambda z: 3 * math.tanh(z),
}
SCALAR_AGGREGATIONS = {
    "sum": math.fsum,
    "product": lambda terms: min(max(math.prod(terms), -1e13), 1e13),
    "max": max,
    "min": min,
    "maxabs": lambda terms: max(max(terms), min(terms), key=abs),
    "median": statistics.median,
    "mean": statistics.fmean,
}


def graph_outputs(genomes, index, row):
    nodes, conns = genomes.arrays(index)
    sources = {int(key): [] for key in nodes[:, 0]}
    for source, target, weight in conns:
        sources[int(target)].append((int(source), weight))
    order = graphlib.TopologicalSorter({k: [s for s, _ in v] for k, v in sources.items()})
    genes = {int(key): values for key, *values in nodes}
    values = dict(enumerate(row))
    for key in order.static_order():
        if key >= genomes.n_inputs:
            bias, aggregation, activation = genes[key]
            terms = [weight * values[source] for source, weight in sources[key]]
            total = list(SCALAR_AGGREGATIONS.values())[int(aggregation)](terms) if terms else 0.0
            act = list(SCALAR_ACTIVATIONS.values())[int(activation)]
            values[key] = act(total + bias)
    return [values[genomes.n_inputs + j] for j in range(genomes.n_outputs)]


@pytest.mark.parametrize("functions", [{}, ALL], ids=["tanh", "all functions"])
def test_batched_forward_equals_a_graph_evaluator(functions):
    genomes = mutated(100, 40, **functions)
    assert genomes.n_nodes.max() > 8
    assert node_levels(genomes).max() >= 4
    if functions:
        assert len(genomes.activations.unique()) == len(ACTIVATIONS)
        assert len(genomes.aggregations.unique()) == len(AGGREGATIONS)
    X = torch.randn(4, N_INPUTS, generator=generator(1), dtype=torch.float64)
    outputs = Networks(genomes, block_size=30)(X)
    expected = [[graph_outputs(genomes, i, row) for row in X.tolist()] for i in range(100)]
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


def test_the_tables_of_functions_have_one_order():
    assert list(SCALAR_ACTIVATIONS) == list(ACTIVATIONS)
    assert list(SCALAR_AGGREGATIONS) == list(AGGREGATIONS)


def test_inputs_of_each_network_and_blocks():
    genomes = mutated(20, 15, **ALL)
    X = torch.randn(20, 5, N_INPUTS, generator=generator(1), dtype=torch.float64)
    outputs = Networks(genomes)(X)
    assert outputs.shape == (20, 5, N_OUTPUTS)
    for i in range(20):
        alone = Networks(genomes.take(slice(i, i + 1)))(X[i])
        torch.testing.assert_close(outputs[i : i + 1], alone, rtol=1e-9, atol=1e-9)
    for block in Networks(genomes, block_size=7).blocks(5):
        shared = block.in_slices(X[0])
        torch.testing.assert_close(shared, block(X[0]))


def test_genomes_stay_valid_over_200_generations_of_mutation():
    rates = rates_of(node_add=0.3, conn_add=0.5, max_nodes=12, max_conns=25, **ALL)
    genomes, rng = population(30), generator(0)
    largest = 0
    for _ in range(200):
        genomes = mutate(genomes, rates, rng)
        largest = max(largest, int(genomes.n_nodes.max()))
        assert genomes.n_nodes.max() <= 12 and genomes.n_conns.max() <= 25
        assert (genomes.biases.abs() <= 5).all() and (genomes.weights.abs() <= 5).all()
        assert (genomes.weights[genomes.codes == NO_CONN] == 0).all()
        for i in range(len(genomes)):
            assert_valid(*genomes.arrays(i))
    assert largest == 12


def assert_valid(nodes, conns):
    keys, pairs = nodes[:, 0], [tuple(pair) for pair in conns[:, :2].astype(int)]
    assert (np.diff(keys) > 0).all() and pairs == sorted(set(pairs))
    assert set(range(N_INPUTS, N_INPUTS + N_OUTPUTS)) <= set(keys)
    assert set(conns[:, 0]) <= {*range(N_INPUTS), *keys} and set(conns[:, 1]) <= set(keys)
    graph = {int(key): [s for s, t in pairs if t == key] for key in keys}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_new_nodes_and_connections_leave_the_outputs_unchanged():
    genomes = mutated(100, 20)
    X = torch.randn(6, N_INPUTS, generator=generator(1), dtype=torch.float64)
    before = Networks(genomes)(X)
    draws = torch.rand(3, 100, generator=generator(2))
    more = add_node(genomes, draws[0])
    assert (more.n_nodes == genomes.n_nodes + 1).all()
    assert (more.n_conns == genomes.n_conns + 1).all()
    torch.testing.assert_close(Networks(more)(X), before, rtol=0, atol=1e-6)
    connected = add_conn(more, *draws[1:])
    added = connected.n_conns - more.n_conns
    assert 0 < added.sum() < 100  # some would have closed a cycle
    torch.testing.assert_close(Networks(connected)(X), before, rtol=0, atol=1e-6)


def test_a_node_splits_its_connection():
    one = genome({2: 0.5}, {(0, 2): 3.0})
    nodes, conns = add_node(one, torch.tensor([0.0])).arrays()
    np.testing.assert_array_equal(nodes, [[2, 0.5, 0, 0], [3, 0, 0, 0]])
    np.testing.assert_array_equal(conns, [[0, 3, 1.0], [3, 2, 3.0]])


def test_all_pairs_are_tried_and_only_cycles_and_duplicates_refused():
    one = genome({2: 0.0, 3: 0.0, 4: 0.0}, {(0, 3): 1.0, (3, 4): 1.0, (4, 2): 1.0})
    sources, targets = torch.meshgrid(torch.arange(5) / 5, torch.arange(3) / 3, indexing="ij")
    copies = one.take(torch.zeros(15, dtype=torch.int64))
    grown = add_conn(copies, sources.flatten() + 0.01, targets.flatten() + 0.01)
    new = {tuple(c[:2]) for i in range(15) for c in grown.arrays(i)[1]} - {(0, 3), (3, 4), (4, 2)}
    assert new == {(0, 2), (0, 4), (1, 2), (1, 3), (1, 4), (3, 2)}


def test_crossover():
    genomes, rng = population(60, hidden=(3,), **ALL), generator(0)
    for _ in range(5):
        genomes = mutate(genomes, rates_of(**ALL), rng)
    same = crossover(genomes, genomes, generator(0))
    for one, two in zip((*same.nodes, *same.conns), (*genomes.nodes, *genomes.conns)):
        assert torch.equal(one, two)
    winners, losers = genomes.take(slice(0, 30)), genomes.take(slice(30, 60))
    children = crossover(winners, losers, generator(0))
    assert torch.equal(children.keys, winners.keys)
    assert torch.equal(children.codes, winners.codes)
    taken = homologous = 0
    for i in range(30):
        theirs = {(a, b): w for a, b, w in losers.arrays(i)[1]}
        rows = zip(children.arrays(i)[1], winners.arrays(i)[1])
        for (a, b, weight), (_, _, own) in rows:
            assert weight in (own, theirs.get((a, b), own))
            homologous += theirs.get((a, b), own) != own
            taken += weight != own
    assert homologous > 100
    assert abs(taken / homologous - 0.5) < 0.15


def test_distance_by_hand():
    one = genome({2: 0.5, 3: 1.0}, {(0, 2): 1.0, (0, 3): 2.0, (3, 2): -1.0})
    two = genome(
        {2: 0.0, 3: -1.0},
        {(0, 2): 0.5, (0, 3): 2.5, (3, 2): 1.0, (1, 2): 4.0},
        {3: (3, 2)},
    )
    conns = (1 * 1.0 + 0.4 * (0.5 + 0.5 + 2.0)) / 4
    nodes = 0.4 * (0.5 + 2.0 + 1 + 1) / 2
    assert distance(one, two).item() == pytest.approx(conns + nodes, rel=1e-12)
    assert distance(two, one).item() == pytest.approx(conns + nodes, rel=1e-12)


def test_distance_is_symmetric_and_zero_to_oneself():
    first, second = mutated(40, 20, seed=0, **ALL), mutated(30, 10, seed=1, **ALL)
    apart = distance(first, second)
    assert apart.shape == (40, 30)
    torch.testing.assert_close(apart, distance(second, first).T, rtol=1e-12, atol=0)
    assert (apart > 0).all()
    assert (distance(first, first).diagonal() == 0).all()


def test_spawn_numbers():
    np.testing.assert_array_equal(spawn_numbers(10, np.array([2, 4, 4])), [5, 3, 2])
    np.testing.assert_array_equal(spawn_numbers(10, np.array([5, 3, 1])), [6, 3, 1])


def test_spawn_numbers_sum_to_the_size_of_the_population():
    rng = np.random.default_rng(0)
    for _ in range(500):
        n_species = rng.integers(1, 21)
        size = n_species + rng.integers(0, 100)
        left = rng.multinomial(
            rng.integers(0, size - n_species + 1), rng.dirichlet([0.5] * n_species)
        )
        spawn = spawn_numbers(size, 1 + left)
        assert spawn.sum() == size and spawn.min() >= 1


def test_speciation_keeps_close_genomes_together_up_to_the_limit():
    def line(*biases):
        parts = [genome({2: b}, {(0, 2): 1.0}) for b in biases]
        joined = [torch.cat(x) for x in zip(*(part.nodes for part in parts))]
        codes, weights = (torch.cat(x) for x in zip(*(part.conns for part in parts)))
        return parts[0].replace(joined, [codes, weights])

    # the distance is 0.4 times the difference of the biases
    first = speciate(line(0.0, 4.0, 0.5, 4.5, -4.0), None, 1.0, 10, 0)
    assert first.labels.tolist() == [0, 1, 0, 1, 2]
    assert (first.best == -np.inf).all()
    limited = speciate(line(0.0, 4.0, 0.5, 4.5, -4.0), None, 1.0, 2, 0)
    assert limited.labels.tolist() == [0, 1, 0, 1, 1]
    after = speciate(line(1.9, 3.0, 5.2, -0.4), first, 1.0, 10, 1)
    # centers move to -0.4, 3.0 and, the nearest that is left to -4.0, to 1.9
    assert after.labels.tolist() == [2, 1, 1, 0]
    np.testing.assert_array_equal(after.sizes, [1, 2, 1])


def test_stagnation_spares_the_fittest_species():
    labels = torch.tensor([0, 0, 1, 2, 3])
    best, since = np.array([5.0, 4.0, 3.0, 2.0]), np.array([0, 0, 0, 0])
    species = Species(population(4), labels, best, since)
    fitness = torch.tensor([1.0, 5.0, 4.0, 3.0, 2.5])
    after, order = rank_species(species, fitness, 16, max_stagnation=15, elitism=2)
    assert order.tolist() == [0, 1, 3]
    np.testing.assert_array_equal(after.improved_at, [0, 0, 0, 16])
    np.testing.assert_array_equal(after.best, [5.0, 4.0, 3.0, 2.5])
    _, order = rank_species(species, fitness, 15, max_stagnation=15, elitism=0)
    assert order.tolist() == [0, 1, 2, 3]


def test_parents_are_the_fittest_of_their_species():
    labels = torch.tensor([0] * 10 + [1] * 10)
    species = Species(population(2), labels, np.full(2, -np.inf), np.zeros(2))
    fitness = torch.arange(20.0)
    order = np.array([1, 0])
    copied, winners, losers = choose_parents(species, order, fitness, 20, 0.3, 2, generator(0))
    assert copied.tolist() == [19, 18, 9, 8]
    assert len(winners) == 16
    assert set(winners.tolist()) | set(losers.tolist()) <= {17, 18, 19, 7, 8, 9}
    assert (fitness[winners] >= fitness[losers]).all()
    assert (labels[winners] == labels[losers]).all()


def test_the_number_of_tensor_operations_does_not_grow_with_the_population():
    class Count(TorchDispatchMode):
        total = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.total += 1
            return function(*args, **kwargs or {})

    def operations(size):
        genomes = mutated(size, 5)
        X = torch.zeros(4, N_INPUTS, dtype=torch.float64)
        with Count() as count:
            Networks(genomes, block_size=size)(X)
            children = crossover(genomes, genomes.take(torch.arange(size).flip(0)), generator(0))
            mutate(children, rates_of(), generator(0))
            speciate(genomes, None, 2.0, 10, 0)
        return count.total

    assert operations(2000) < 2 * operations(100)


def test_empty_rows_and_sums_of_nothing():
    lone = genome({2: 0.25, 3: 1.0}, {(0, 3): 2.0}, {2: (2, 0), 3: (0, 2)})
    outputs = Networks(lone)(torch.ones(3, 2, dtype=torch.float64))
    np.testing.assert_array_equal(outputs, np.full((1, 3, 1), 0.25))
    assert lone.pad(5, 4).trim().shape == (2, 1)
    assert (lone.pad(5, 4).keys[0, 2:] == NO_NODE).all()


def test_codes_are_pairs_of_keys():
    keys, codes = initial_topology(2, 1, (2,))
    assert keys.tolist() == [2, 3, 4]
    pairs = [(0, 3), (0, 4), (1, 3), (1, 4), (3, 2), (4, 2)]
    assert codes.tolist() == [a * 2**32 + b for a, b in pairs]
    assert join_codes(torch.tensor(7), torch.tensor(9)).item() == 7 * 2**32 + 9


@pytest.mark.parametrize("aggregation", range(len(AGGREGATIONS)))
def test_formulas_of_all_functions(aggregation):
    activation = {3: (0, 1 + aggregation), 4: (aggregation, 11 - aggregation)}
    conns = {(0, 3): 2.0, (1, 3): -1.0, (0, 4): 0.5, (1, 4): 1.5, (3, 4): 1.0, (4, 2): -2.0}
    one = genome({2: 0.3, 3: 0.1, 4: 0.7}, conns, activation)
    (formula,) = genome_to_sympy(*one.arrays(), 2, 1)
    X = np.array([[0.3, -0.8], [1.2, 0.4], [-0.5, -0.1]])
    values = [float(formula.subs(dict(zip(sorted(formula.free_symbols, key=str), x)))) for x in X]
    expected = [graph_outputs(one, 0, row)[0] for row in X]
    np.testing.assert_allclose(values, expected, rtol=1e-9)


def test_a_genome_with_a_cycle_has_no_formula():
    nodes = [[2, 0, 0, 0], [3, 0, 0, 0], [4, 0, 0, 0]]
    conns = [[3, 4, 1.0], [4, 3, 1.0], [4, 2, 1.0]]
    with pytest.raises(ValueError, match="cycle"):
        genome_to_sympy(nodes, conns, 2, 1)
