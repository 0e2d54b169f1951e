"""Neuroevolution of augmenting topologies for an objective of one's own."""

from dataclasses import dataclass, field
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from tqdm.auto import tqdm

from skpapers.utils import check_random_state

from ._bridge import resolve_device
from ._neat_genomes import Genomes, concatenate, initial_topology, make_population
from ._neat_networks import ACTIVATIONS, AGGREGATIONS, Networks
from ._neat_species import Species, choose_parents, rank_species, speciate
from ._neat_variation import Rates, crossover, mutate
from ._random import torch_generator

__all__ = ["EVOLUTION_CONSTRAINTS", "Evolution", "NEATSearch", "Settings"]

_COUNT = [Interval(Integral, 1, None, closed="left")]
_NUMBER = [Interval(Integral, 0, None, closed="left")]
_POSITIVE = [Interval(Real, 0, None, closed="neither")]
_SHARE = [Interval(Real, 0, 1, closed="both")]

EVOLUTION_CONSTRAINTS = {
    "pop_size": _COUNT,
    "max_nodes": _COUNT,
    "max_conns": [*_COUNT, StrOptions({"auto"})],
    "init_hidden_layers": ["array-like"],
    "species_size": _COUNT,
    "max_stagnation": _NUMBER,
    "species_elitism": _NUMBER,
    "genome_elitism": _NUMBER,
    "survival_threshold": _SHARE,
    "compatibility_threshold": [Interval(Real, 0, None, closed="left")],
    "conn_add": _SHARE,
    "conn_delete": _SHARE,
    "node_add": _SHARE,
    "node_delete": _SHARE,
    "weight_mutate_rate": _SHARE,
    "weight_mutate_power": [Interval(Real, 0, None, closed="left")],
    "weight_replace_rate": _SHARE,
    "weight_bound": _POSITIVE,
    "function_replace_rate": _SHARE,
    "activations": ["array-like"],
    "aggregations": ["array-like"],
}


@dataclass(frozen=True)
class Settings:
    """How a population evolves; see :class:`NEATClassifier` for what the fields mean."""

    pop_size: int = 200
    max_nodes: int = 50
    max_conns: int | str = "auto"
    init_hidden_layers: tuple = ()
    species_size: int = 10
    max_stagnation: int = 15
    species_elitism: int = 2
    genome_elitism: int = 2
    survival_threshold: float = 0.2
    compatibility_threshold: float = 2.0
    conn_add: float = 0.2
    conn_delete: float = 0.2
    node_add: float = 0.1
    node_delete: float = 0.1
    weight_mutate_rate: float = 0.2
    weight_mutate_power: float = 0.15
    weight_replace_rate: float = 0.015
    weight_bound: float = 5.0
    function_replace_rate: float = 0.1
    activations: tuple = ("tanh",)
    aggregations: tuple = ("sum",)

    def rates(self, n_conns):
        """Rates of mutation, for genomes that start with so many connections."""
        names = Rates.__dataclass_fields__
        common = {name: getattr(self, name) for name in names if name not in _TRANSLATED}
        return Rates(
            **common,
            activations=_positions("activations", self.activations, ACTIVATIONS),
            aggregations=_positions("aggregations", self.aggregations, AGGREGATIONS),
            max_conns=n_conns + 100 if self.max_conns == "auto" else self.max_conns,
        )


_TRANSLATED = ("activations", "aggregations", "max_conns")


def _positions(name, values, table):
    names = list(table)
    if isinstance(values, str) or not len(values) or not set(values) <= set(names):
        raise ValueError(f"{name} must be one or more of {names}, got {values!r}")
    return tuple(names.index(value) for value in values)


@dataclass
class Evolution:
    """A population with its species, the best genome so far, and how it goes on."""

    settings: Settings
    generator: torch.Generator
    rates: Rates
    population: Genomes
    species: Species | None = None
    fitness: torch.Tensor | None = None
    best: Genomes | None = None
    best_fitness: float = -np.inf
    history: list = field(default_factory=list)

    @classmethod
    def start(cls, settings, n_inputs, n_outputs, generator, dtype, device):
        """Draw the first population."""
        layers = _layer_sizes(settings.init_hidden_layers)
        topology = initial_topology(n_inputs, n_outputs, layers)
        rates = settings.rates(n_conns=len(topology[1]))
        for name, needed in zip(("max_nodes", "max_conns"), map(len, topology)):
            if getattr(rates, name) < needed:
                message = f"{name} must be at least {needed}, the size of the first networks"
                raise ValueError(f"{message}, got {getattr(rates, name)}")
        options = {"activations": rates.activations, "aggregations": rates.aggregations}
        options |= {"bound": rates.weight_bound, "generator": generator, "dtype": dtype}
        population = make_population(settings.pop_size, topology, n_inputs, n_outputs, **options)
        evolution = cls(settings, generator, rates, population.to(device))
        evolution.species = evolution._speciate(evolution.population, None)
        return evolution

    @property
    def dtype(self):
        return self.population.weights.dtype

    def to(self, device):
        """Move to a device, in place."""
        for name in ("population", "species", "fitness", "best"):
            value = getattr(self, name)
            setattr(self, name, None if value is None else value.to(device))

    def run(self, evaluate, n_generations, *, confirm=None, stop=None, verbose=0):
        """Go on for some generations, or until `stop` says so of the best fitness of each."""
        start = len(self.history)
        for _ in tqdm(range(n_generations), "generations", disable=not verbose):
            try:
                self.step(evaluate, confirm)
            except KeyboardInterrupt:
                if self.best is None:
                    raise
                break
            if stop is not None and stop([row["best"] for row in self.history[start:]]):
                break

    def step(self, evaluate, confirm=None):
        """Make the next generation, unless this one is new, and evaluate it."""
        if self.fitness is not None:
            children, species = self._reproduce()
            species = self._speciate(children, species)
            self.population, self.species, self.fitness = children, species, None
        fitness = torch.as_tensor(evaluate(Networks(self.population)))
        fitness = fitness.detach().to(self.population.weights)
        if fitness.shape != (len(self.population),):
            raise ValueError(
                "the objective must give one number a network, of shape "
                f"({len(self.population)},), got shape {tuple(fitness.shape)}"
            )
        self.fitness = rounded(fitness.nan_to_num(nan=-torch.inf))
        self._record(confirm)

    def _record(self, confirm):
        winner = self.fitness.argmax()
        candidate = self.population.take(winner[None]).trim()
        value = float(self.fitness[winner] if confirm is None else confirm(Networks(candidate)))
        if self.best is None or value > self.best_fitness:
            self.best, self.best_fitness = candidate, value
        finite = self.fitness[self.fitness.isfinite()]
        row = {"best": self.best_fitness, "mean": float(finite.mean()) if len(finite) else -np.inf}
        self.history.append(row | {"species_sizes": self.species.sizes.tolist()})

    def _reproduce(self):
        """The next population, and the species that had children."""
        s, population, fitness = self.settings, self.population, self.fitness
        species, order = rank_species(
            self.species, fitness, len(self.history), s.max_stagnation, s.species_elitism
        )
        copied, winners, losers = choose_parents(
            species,
            order,
            fitness,
            s.pop_size,
            s.survival_threshold,
            s.genome_elitism,
            self.generator,
        )
        children = crossover(population.take(winners), population.take(losers), self.generator)
        children = mutate(children, self.rates, self.generator)
        return concatenate(population.take(copied), children), species.take(order)

    def _speciate(self, population, species):
        s = self.settings
        return speciate(
            population,
            species,
            s.compatibility_threshold,
            s.species_size,
            len(self.history),
        )


def _layer_sizes(sizes):
    if isinstance(sizes, str) or not all(isinstance(k, Integral) and k > 0 for k in sizes):
        raise ValueError(f"init_hidden_layers must hold positive integers, got {sizes!r}")
    return tuple(int(k) for k in sizes)


def rounded(fitness):
    """Round to two thirds of the digits: equals stay equals however their sums are ordered.

    A mutation that leaves the outputs as they are would else be told from its parent by the last
    bits, and the course of evolution would depend on the machine.
    """
    bits = round(-2 / 3 * np.log2(torch.finfo(fitness.dtype).eps))
    mantissa, exponent = torch.frexp(fitness)
    return torch.ldexp((mantissa * 2**bits).round() / 2**bits, exponent)


class NEATSearch:
    """Evolve networks, topology and weights, that maximise any function of what they do.

    The objective is called with the whole population as one function, and needs no gradient: a
    simulation steps all networks together.

    Parameters
    ----------
    objective : callable
        ``objective(networks)`` returns the fitness, of shape (n_networks,), the higher the better
        (NaN is the worst). ``networks(X)`` computes the outputs, of shape (n_networks, n_samples,
        n_outputs), for a tensor X of shape (n_samples, n_inputs), or (n_networks, n_samples,
        n_inputs) where each has inputs of its own; ``len(networks)`` and ``networks.device`` say
        what to allocate.
    n_inputs : int
        Number of inputs.
    n_outputs : int
        Number of outputs, which are linear.
    n_generations : int, default=50
        Generations that :meth:`run` makes.
    target : float, default=None
        Fitness that ends the search when it is reached; None for all generations.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of all draws; those of the objective are its own.
    verbose : int, default=0
        1 shows a progress bar.
    **settings : dict
        Parameters of evolution of :class:`NEATClassifier`: `pop_size`, `max_nodes`, `max_conns`,
        `init_hidden_layers`, `species_size`, `max_stagnation`, `species_elitism`,
        `genome_elitism`, `survival_threshold`, `compatibility_threshold`, `conn_add`,
        `conn_delete`, `node_add`, `node_delete`, `weight_mutate_rate`, `weight_mutate_power`,
        `weight_replace_rate`, `weight_bound`, `function_replace_rate`, `activations` and
        `aggregations`.

    Attributes
    ----------
    best_network_ : callable
        The best network found, called as the population is (``best_network_(X)[0]``).
    best_nodes_ : ndarray of shape (n_nodes, 4)
        Its output and hidden nodes: key, bias, aggregation and activation.
    best_conns_ : ndarray of shape (n_connections, 3)
        Its connections: source key, target key, weight.
    best_fitness_ : float
        Its fitness.
    history_ : list of dict
        One entry a generation, with the ``best`` fitness so far, the ``mean`` fitness and the
        ``species_sizes``.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    TypeError
        If a parameter of evolution is unknown.

    Notes
    -----
    A generation costs O(pop_size * n_conns * log n_conns * species_size) besides the objective.
    The genomes are float32.

    Where the objective is noisy the best fitness is that of a lucky draw: average it over several
    episodes.

    References
    ----------
    .. [1] L. Wang, M. Zhao, E. Liu, K. Sun, R. Cheng, "Tensorized NeuroEvolution of Augmenting
       Topologies for GPU Acceleration", GECCO 2024, arXiv:2404.01817, sections 3 and 4.

    Examples
    --------
    Networks of two inputs whose output is the larger one:

    >>> import torch
    >>> from skpapers.neural_network import NEATSearch
    >>> X = torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
    >>> def objective(networks):
    ...     return -(networks(X)[:, :, 0] - X.amax(dim=1)).abs().mean(dim=1)
    >>> search = NEATSearch(objective, 2, 1, activations=("relu", "abs"), random_state=0).run()
    >>> search.best_fitness_ > -0.1
    True
    """

    _parameter_constraints = {
        "objective": [callable],
        "n_inputs": _COUNT,
        "n_outputs": _COUNT,
        "n_generations": _COUNT,
        "target": [Interval(Real, None, None, closed="neither"), None],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        **EVOLUTION_CONSTRAINTS,
    }

    def __init__(
        self,
        objective,
        n_inputs,
        n_outputs,
        *,
        n_generations=50,
        target=None,
        device="auto",
        random_state=None,
        verbose=0,
        **settings,
    ):
        self.objective = objective
        self.n_inputs = n_inputs
        self.n_outputs = n_outputs
        self.n_generations = n_generations
        self.target = target
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.settings = Settings(**settings)
        given = {k: v for k, v in vars(self).items() if k in self._parameter_constraints}
        given |= vars(self.settings)
        validate_parameter_constraints(self._parameter_constraints, given, "NEATSearch")

    def run(self):
        """Evolve for `n_generations`, or on where the last call ended.

        Returns
        -------
        self : object
            The search, with what it has found.
        """
        device = resolve_device(self.device)
        if not hasattr(self, "_evolution"):
            generator = torch_generator(check_random_state(self.random_state))
            sizes = self.n_inputs, self.n_outputs
            self._evolution = Evolution.start(
                self.settings, *sizes, generator, torch.float32, device
            )
        evolution = self._evolution
        evolution.to(device)
        evolution.run(
            self.objective,
            self.n_generations,
            stop=None if self.target is None else lambda best: best[-1] >= self.target,
            verbose=self.verbose,
        )
        evolution.to("cpu")
        self.best_network_ = Networks(evolution.best)
        self.best_nodes_, self.best_conns_ = evolution.best.arrays()
        self.best_fitness_, self.history_ = evolution.best_fitness, evolution.history
        return self
