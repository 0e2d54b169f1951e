"""Tensorised NEAT against neat-python a generation, and against scikit-learn's perceptron."""

import math
import tempfile

import numpy as np
import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._harness import Case
from skpapers.neural_network import NEATClassifier, NEATRegressor

try:
    import neat
except ImportError:  # the comparison with it is left out
    neat = None

XOR = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([0.0, 1.0, 1.0, 0.0])


def cases():
    X, y = load_iris(return_X_y=True)
    iris = StandardScaler().fit_transform(X), y
    sizes = [("cpu", 1000), *([("cuda", 5000)] if torch.cuda.is_available() else [])]
    for device, pop_size in sizes if neat is not None else []:
        run = {"device": device, "pop_size": pop_size}
        yield evolution(NEATRegressor, "exclusive or", XOR, squared_error, n_generations=60, **run)
        yield evolution(NEATClassifier, "iris", iris, log_loss, n_generations=20, **run)
    yield iris_accuracy(X, y)


def evolution(estimator, name, data, loss, *, pop_size, n_generations, device):
    options = {"standardize": False, "early_stopping": False, "random_state": 0}
    model = estimator(pop_size, n_generations, device=device, **options)
    return Case(
        name=f"{estimator.__name__} ({device})",
        size=f"{name}, population {pop_size}, {n_generations} generations",
        peer_name="neat-python 2.0",
        ours=lambda: -model.fit(*data).best_fitness_,
        peer=lambda: evolve_with_neat_python(*data, loss, pop_size, n_generations),
        accuracy=float,
        metric="loss of the best",
        note="neat-python has its usual threshold of species, 3: with 2, ours, it is slower.",
    )


def iris_accuracy(X, y):
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    perceptron = MLPClassifier(max_iter=2000, random_state=0)
    return Case(
        name="NEATClassifier(150, 40)",
        size="iris, 5 folds",
        peer_name="sklearn MLPClassifier(100)",
        ours=lambda: cross_val_score(NEATClassifier(150, 40, random_state=0), X, y, cv=folds),
        peer=lambda: cross_val_score(make_pipeline(StandardScaler(), perceptron), X, y, cv=folds),
        accuracy=np.mean,
        metric="accuracy",
        note="The evolved networks have some 20 weights, the perceptron has 803.",
    )


def squared_error(outputs, y):
    return sum((out[0] - target) ** 2 for out, target in zip(outputs, y)) / len(y)


def log_loss(outputs, y):
    total = 0.0
    for out, code in zip(outputs, y):
        top = max(out)
        total += top + math.log(sum(math.exp(v - top) for v in out)) - out[code]
    return total / len(y)


def evolve_with_neat_python(X, y, loss, pop_size, n_generations):
    """Least loss after the same number of generations, with the same rates where they exist."""
    rows, targets = X.tolist(), y.tolist()
    sizes = {
        "n_inputs": X.shape[1],
        "n_outputs": 1 if loss is squared_error else len(set(targets)),
    }

    def evaluate(genomes, config):
        for _, genome in genomes:
            for key in config.genome_config.output_keys:
                genome.nodes[key].activation = "identity"  # outputs are linear, as ours are
            network = neat.nn.FeedForwardNetwork.create(genome, config)
            genome.fitness = -loss([network.activate(row) for row in rows], targets)

    with tempfile.NamedTemporaryFile("w", suffix=".ini") as file:
        file.write(CONFIG.format(pop_size=pop_size, **sizes))
        file.flush()
        config = neat.Config(
            neat.DefaultGenome,
            neat.DefaultReproduction,
            neat.DefaultSpeciesSet,
            neat.DefaultStagnation,
            file.name,
        )
    return -neat.Population(config, seed=0).run(evaluate, n_generations).fitness


CONFIG = """
[NEAT]
pop_size = {pop_size}
fitness_criterion = max
fitness_threshold = 1e9
no_fitness_termination = True
reset_on_extinction = False

[DefaultSpeciesSet]
compatibility_threshold = 3.0

[DefaultStagnation]
species_fitness_func = max
max_stagnation = 15
species_elitism = 2

[DefaultReproduction]
elitism = 2
survival_threshold = 0.2
min_species_size = 1

[DefaultGenome]
num_inputs = {n_inputs}
num_outputs = {n_outputs}
num_hidden = 0
feed_forward = True
initial_connection = full_direct
compatibility_disjoint_coefficient = 1.0
compatibility_weight_coefficient = 0.4
conn_add_prob = 0.2
conn_delete_prob = 0.2
node_add_prob = 0.1
node_delete_prob = 0.1
activation_default = identity
activation_options = identity tanh
activation_mutate_rate = 0.1
aggregation_default = sum
aggregation_options = sum
aggregation_mutate_rate = 0.0
bias_init_mean = 0.0
bias_init_stdev = 1.0
bias_init_type = gaussian
bias_max_value = 5.0
bias_min_value = -5.0
bias_mutate_power = 0.15
bias_mutate_rate = 0.2
bias_replace_rate = 0.015
response_init_mean = 1.0
response_init_stdev = 0.0
response_init_type = gaussian
response_max_value = 5.0
response_min_value = -5.0
response_mutate_power = 0.0
response_mutate_rate = 0.0
response_replace_rate = 0.0
weight_init_mean = 0.0
weight_init_stdev = 1.0
weight_init_type = gaussian
weight_max_value = 5.0
weight_min_value = -5.0
weight_mutate_power = 0.15
weight_mutate_rate = 0.2
weight_replace_rate = 0.015
enabled_default = True
enabled_mutate_rate = 0.0
enabled_rate_to_true_add = 0.0
enabled_rate_to_false_add = 0.0
"""
