"""What evolved classifiers and regressors share: data in, fitness of networks, the best out."""

import copy
from dataclasses import dataclass, replace
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, _fit_context
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.metrics._scorer import _BaseScorer
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from torch.nn import functional as F

from skpapers.utils import check_random_state, weighted_rows

from ._bridge import resolve_device
from ._neat_formula import active_connections, genome_to_sympy
from ._neat_networks import Networks, make_block, node_levels
from ._neat_search import EVOLUTION_CONSTRAINTS, Evolution, Settings
from ._random import torch_generator

__all__ = ["NEATEstimator", "absolute_error", "log_loss", "minus_hits", "squared_error"]


class NEATEstimator(BaseEstimator):
    """Fit the network that evolves; subclasses encode targets and name their losses.

    They define `_losses`, from the names of the fitnesses that are means over rows to functions
    of the outputs (genomes, outputs, rows) and the encoded target that give the loss of each row;
    `_default_fitness`, one of these that has a gradient; `_target_checks`, `_encode` and
    `_descale`.
    """

    _parameter_constraints = {
        **EVOLUTION_CONSTRAINTS,
        "n_generations": [Interval(Integral, 1, None, closed="left")],
        "fitness": [StrOptions({"auto", *get_scorer_names()}), callable],
        "parsimony": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "refine_epochs": [Interval(Integral, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "standardize": ["boolean"],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
    }
    _search_space = {
        "activations": [("tanh",), ("tanh", "relu"), ("tanh", "sin", "abs")],
        "compatibility_threshold": [1.0, 2.0],
        "node_add": [0.1, 0.2],
        "refine_epochs": [0, 50],
    }

    @staticmethod
    def _small_params():
        return {"pop_size": 40, "n_generations": 4, "refine_epochs": 40}

    def __init__(
        self,
        pop_size=200,
        n_generations=50,
        *,
        max_nodes=50,
        max_conns="auto",
        init_hidden_layers=(),
        species_size=10,
        max_stagnation=15,
        species_elitism=2,
        genome_elitism=2,
        survival_threshold=0.2,
        compatibility_threshold=2.0,
        conn_add=0.2,
        conn_delete=0.2,
        node_add=0.1,
        node_delete=0.1,
        weight_mutate_rate=0.2,
        weight_mutate_power=0.15,
        weight_replace_rate=0.015,
        weight_bound=5.0,
        function_replace_rate=0.1,
        activations=("tanh",),
        aggregations=("sum",),
        fitness="auto",
        parsimony=0.0,
        batch_size=None,
        refine_epochs=0,
        early_stopping=True,
        n_iter_no_change=20,
        tol=1e-4,
        standardize=True,
        device="auto",
        random_state=None,
        verbose=0,
        warm_start=False,
    ):
        self.pop_size = pop_size
        self.n_generations = n_generations
        self.max_nodes = max_nodes
        self.max_conns = max_conns
        self.init_hidden_layers = init_hidden_layers
        self.species_size = species_size
        self.max_stagnation = max_stagnation
        self.species_elitism = species_elitism
        self.genome_elitism = genome_elitism
        self.survival_threshold = survival_threshold
        self.compatibility_threshold = compatibility_threshold
        self.conn_add = conn_add
        self.conn_delete = conn_delete
        self.node_add = node_add
        self.node_delete = node_delete
        self.weight_mutate_rate = weight_mutate_rate
        self.weight_mutate_power = weight_mutate_power
        self.weight_replace_rate = weight_replace_rate
        self.weight_bound = weight_bound
        self.function_replace_rate = function_replace_rate
        self.activations = activations
        self.aggregations = aggregations
        self.fitness = fitness
        self.parsimony = parsimony
        self.batch_size = batch_size
        self.refine_epochs = refine_epochs
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.standardize = standardize
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.warm_start = warm_start

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Evolve networks on data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,)
            Target; a regressor takes (n_samples, n_outputs) too.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; None for equal ones.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        fresh = not (self.warm_start and hasattr(self, "_evolution"))
        return self._evolve(X, y, sample_weight, self.n_generations, fresh)

    def _evolve(self, X, y, sample_weight, n_generations, fresh, classes=None):
        device = resolve_device(self.device)
        X, y, weight = self._check(X, y, sample_weight, fresh)
        if fresh:
            self._scaler = StandardScaler().fit(X, sample_weight=weight)
        target = self._encode(y, weight, fresh, classes)
        inputs = self._scale(X)
        if fresh:
            self._evolution = self._start(inputs.dtype, device)
        evolution = self._evolution
        evolution.to(device)
        weight = None if weight is None else torch.from_numpy(weight / weight.mean())
        data = _Rows(inputs, torch.from_numpy(target), weight, X, y).to(device, evolution.dtype)
        if not fresh:  # what was the best on other rows need not be so on these
            evolution.best_fitness = float(self._measure(Networks(evolution.best), data))
        self._run(evolution, data, n_generations)
        best, fitness = evolution.best, evolution.best_fitness
        if self.refine_epochs:
            best, fitness = self._refine(best, fitness, data)
        evolution.to("cpu")
        self._record(best.to("cpu"), fitness)
        return self

    def _check(self, X, y, sample_weight, fresh):
        """Validate, and drop rows without weight."""
        dtype = [np.float64, np.float32]
        X, y = validate_data(self, X, y, dtype=dtype, reset=fresh, **self._target_checks)
        if sample_weight is None:
            return X, y, None
        index, weight = weighted_rows(sample_weight, X)
        return X[index], y[index], weight.astype(X.dtype)

    def _scale(self, X):
        return torch.tensor(self._scaler.transform(X) if self.standardize else X)

    def _start(self, dtype, device):
        settings = Settings(**{name: getattr(self, name) for name in EVOLUTION_CONSTRAINTS})
        generator = torch_generator(check_random_state(self.random_state))
        sizes = self.n_features_in_, self._n_outputs
        return Evolution.start(settings, *sizes, generator, dtype, device)

    def _run(self, evolution, data, n_generations):
        size = self.batch_size
        whole = size is None or size >= len(data.X)

        def evaluate(networks):
            return self._measure(networks, data if whole else data.draw(size, evolution.generator))

        evolution.run(
            evaluate,
            n_generations,
            confirm=None if whole else lambda network: self._measure(network, data),
            stop=self._has_stalled if self.early_stopping else None,
            verbose=self.verbose,
        )

    def _has_stalled(self, best):
        n = self.n_iter_no_change
        return len(best) > n and best[-1] - best[-1 - n] <= self.tol

    def _measure(self, networks, data):
        """Fitness of each network."""
        genomes = networks.genomes
        fitness = torch.empty_like(genomes.weights[:, 0])
        for block in networks.blocks(len(data.X)):
            fitness[block.index] = self._measure_block(block, genomes, data).to(fitness)
        return fitness - self.parsimony * genomes.n_conns

    def _measure_block(self, block, genomes, data):
        name = self._default_fitness if self.fitness == "auto" else self.fitness
        if isinstance(name, str) and name in self._losses:
            return -self._losses_of(block, name, data).mean(dim=1)
        if isinstance(name, (str, _BaseScorer)):
            return self._scores(get_scorer(name), genomes.take(block.index), data)
        if data.weight is not None:
            raise ValueError("with a fitness function of your own sample_weight must be None")
        outputs = block.in_slices(data.X).transpose(1, 2)
        return torch.as_tensor(name(self._descale(outputs), self._descale(data.y.movedim(0, -1))))

    def _losses_of(self, block, name, data):
        losses = self._losses[name](block.in_slices(data.X), data.y)
        return losses if data.weight is None else losses * data.weight

    def _scores(self, scorer, genomes, data):
        """Scores by scikit-learn, which knows one model at a time."""
        weight = {} if data.weight is None else {"sample_weight": data.weight.cpu().numpy()}
        model, scores = copy.copy(self), []
        for i in range(len(genomes)):
            model._best = genomes.take(slice(i, i + 1)).trim()
            scores.append(scorer(model, data.given_X, data.given_y, **weight))
        return torch.tensor(scores)

    def _refine(self, genomes, fitness, data, lr=0.01):
        """Adam on the weights and biases, kept where the fitness does not fall."""
        numbers = [x.clone().requires_grad_() for x in (genomes.weights, genomes.biases)]
        optimizer = torch.optim.Adam(numbers, lr=lr)
        depth = int(node_levels(genomes)[:, : genomes.n_outputs].max()) + 1
        index = torch.zeros(1, dtype=torch.int64, device=data.X.device)
        for _ in range(self.refine_epochs):
            optimizer.zero_grad()
            weights, biases = numbers
            block = make_block(index, genomes.replace(weights=weights, biases=biases), depth)
            self._losses_of(block, self._default_fitness, data).mean().backward()
            optimizer.step()
            for x in numbers:
                x.data.clamp_(-self.weight_bound, self.weight_bound)
        weights, biases = (x.detach() for x in numbers)
        refined = genomes.replace(weights=weights, biases=biases)
        value = float(self._measure(Networks(refined), data))
        return (refined, value) if value >= fitness else (genomes, fitness)

    def _record(self, best, fitness):
        self._best = best
        self.best_nodes_, self.best_conns_ = best.arrays()
        self.best_fitness_ = fitness
        self.history_ = list(self._evolution.history)
        self.n_iter_ = len(self.history_)
        self.population_ = self._evolution.population
        outputs = range(best.n_inputs, best.n_inputs + best.n_outputs)
        self.n_active_connections_ = int(active_connections(self.best_conns_, [*outputs]).sum())

    def _outputs(self, X):
        """Outputs of the best network, of shape (n_samples, n_outputs)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        network = Networks(self._best.to(resolve_device(self.device)))
        inputs = self._scale(X).to(network.device, network.dtype)
        (block,) = network.blocks(len(X))
        return self._descale(block.in_slices(inputs)[0].T).cpu()

    @property
    def formula_(self):
        """The outputs as sympy expressions of the features: one, or a list."""
        import sympy  # torch brings it; it takes a while to import

        check_is_fitted(self)
        n_features = self.n_features_in_
        names = getattr(self, "feature_names_in_", [f"x{j}" for j in range(n_features)])
        inputs = [sympy.Symbol(str(name)) for name in names]
        if self.standardize:
            moments = zip(inputs, self._scaler.mean_, self._scaler.scale_)
            inputs = [(x - mean) / scale for x, mean, scale in moments]
        sizes = n_features, self._n_outputs
        formulas = genome_to_sympy(self.best_nodes_, self.best_conns_, *sizes, inputs=inputs)
        formulas = self._descale_formulas(formulas)
        return formulas[0] if len(formulas) == 1 else formulas


@dataclass(frozen=True)
class _Rows:
    """Rows as the networks see them, and as they were given, which scorers want."""

    X: torch.Tensor
    y: torch.Tensor
    weight: torch.Tensor | None
    given_X: np.ndarray
    given_y: np.ndarray

    def to(self, device, dtype):
        y = self.y.to(device, dtype if self.y.is_floating_point() else None)
        weight = None if self.weight is None else self.weight.to(device, dtype)
        return replace(self, X=self.X.to(device, dtype), y=y, weight=weight)

    def draw(self, size, generator):
        """Some rows, without replacement."""
        chosen = torch.randperm(len(self.given_X), generator=generator)[:size]
        index, rows = chosen.to(self.X.device), chosen.numpy()
        weight = None if self.weight is None else self.weight[index]
        return _Rows(
            self.X[index], self.y[..., index], weight, self.given_X[rows], self.given_y[rows]
        )


def log_loss(logits, codes):
    """Minus the log-probability of each class; one logit tells two classes apart."""
    if logits.shape[1] == 1:
        return F.softplus(logits[:, 0] * (1 - 2 * codes))
    return F.cross_entropy(logits, codes.expand(len(logits), -1), reduction="none")


def minus_hits(logits, codes):
    """-1 where the class is the right one."""
    guess = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(dim=1)
    return -(guess == codes).to(logits.dtype)


def squared_error(outputs, y):
    """Squared error, the mean over outputs."""
    return (outputs - y).square().mean(dim=1)


def absolute_error(outputs, y):
    """Absolute error, the mean over outputs."""
    return (outputs - y).abs().mean(dim=1)
