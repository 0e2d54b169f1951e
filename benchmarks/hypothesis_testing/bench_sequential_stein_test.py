"""The Stein test for sequences against a loop over neighbours."""

from collections import Counter

import numpy as np
from scipy.special import expit

from benchmarks._harness import Case
from skpapers.hypothesis_testing import SequentialKSDTest, sequence_neighbors

N_SYMBOLS, MAX_LENGTH, STOP = 5, 20, 0.12


class Chain:
    """Steps that repeat a symbol with probability 0.6."""

    alphabet, max_length = range(N_SYMBOLS), MAX_LENGTH

    def __init__(self, repeat=0.6):
        others = (1 - repeat) / (N_SYMBOLS - 1)
        self.steps = np.full((N_SYMBOLS, N_SYMBOLS), others)
        np.fill_diagonal(self.steps, repeat)

    def score_samples(self, X):
        steps = np.log(self.steps)
        inside = X[:, 1:] >= 0
        lengths = 1 + inside.sum(axis=1)
        moves = np.where(inside, steps[X[:, :-1], X[:, 1:]], 0).sum(axis=1)
        stops = np.where(lengths < MAX_LENGTH, np.log(STOP), 0)
        return moves + (lengths - 1) * np.log(1 - STOP) + stops

    def log_prob(self, word):
        moves = sum(np.log(self.steps[a, b]) for a, b in zip(word, word[1:]))
        stops = np.log(STOP) if len(word) < MAX_LENGTH else 0
        return moves + (len(word) - 1) * np.log(1 - STOP) + stops

    def draw(self, n_samples, rng):
        X = np.full((n_samples, MAX_LENGTH), -1)
        X[:, 0] = rng.randint(N_SYMBOLS, size=n_samples)
        going = np.ones(n_samples, dtype=bool)
        for column in range(1, MAX_LENGTH):
            going &= rng.uniform(size=n_samples) > STOP
            draws = rng.uniform(size=(n_samples, 1))
            following = np.sum(draws > np.cumsum(self.steps, axis=1)[X[:, column - 1]], axis=1)
            X[going, column] = following[going]
        return X


def cases():
    model, rng = Chain(), np.random.RandomState(0)
    X = Chain(0.45).draw(200, rng)
    words = [tuple(row[row >= 0].tolist()) for row in X]
    test = SequentialKSDTest(model, n_bootstrap=500, random_state=0)
    yield Case(
        name="sequential_stein_test",
        size="200 sequences, 5 symbols, up to 20 long, all places edited",
        peer_name="loop over neighbours",
        ours=lambda: test.fit(X),
        peer=lambda: loop_over_neighbors(model, words),
        accuracy=lambda fitted: fitted.statistic_,
        peer_accuracy=lambda statistic: statistic,
        metric="V-statistic",
        repeats=5,
        note="ours draws the bootstrap of 500 as well",
    )


def features(word, scale):
    """Counts of single symbols and pairs over the root of the length, and the length."""
    grams = Counter(word) + Counter(zip(word, word[1:]))
    return {"length": len(word) * scale} | {g: c / len(word) ** 0.5 for g, c in grams.items()}


def loop_over_neighbors(model, words):
    """The V-statistic, neighbour by neighbour."""
    scale = 1 / np.std([len(word) for word in words])
    total = Counter()
    for word in words:
        own, at = features(word, scale), model.log_prob(word)
        for neighbor in sequence_neighbors(word, range(N_SYMBOLS), max_length=MAX_LENGTH):
            weight = expit(model.log_prob(neighbor) - at)
            for key, value in features(neighbor, scale).items():
                total[key] += weight * value
            for key, value in own.items():
                total[key] -= weight * value
    return sum(value**2 for value in total.values()) / len(words) ** 2
