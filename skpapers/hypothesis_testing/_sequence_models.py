"""Models of sequences: what is asked of them, and Markov chains of variable length."""

import numpy as np
from scipy.special import expit
from sklearn.frozen import FrozenEstimator

from skpapers.utils import check_random_state

from ._sequences import (
    Sequences,
    edited,
    encode,
    is_sequence_list,
    padded_values,
    symbol_values,
    symbols_at,
)

__all__ = ["MarkovChain", "draw_sequences", "edit_weights", "is_unfitted"]


class MarkovChain:
    """Markov chain of order 1 that may stop after every symbol.

    Parameters
    ----------
    initial : ndarray of shape (n_symbols,)
        Probabilities of the first symbol.
    transition : ndarray of shape (n_symbols, n_symbols)
        Probabilities of the next symbol.
    stop : float
        Probability to stop after a symbol; at `max_length` the sequence stops anyway.
    max_length : int
        Largest length.
    """

    def __init__(self, initial, transition, stop, max_length):
        self.initial, self.transition = np.asarray(initial), np.asarray(transition)
        self.stop, self.max_length = stop, max_length

    @classmethod
    def estimate(cls, sequences, n_symbols, max_length):
        """Count, and add one to all counts (Laplace smoothing)."""
        codes, lengths = sequences
        initial = np.bincount(codes[:, 0], minlength=n_symbols) + 1
        follows = codes[:, 1:] >= 0
        pairs = codes[:, :-1][follows] * n_symbols + codes[:, 1:][follows]
        transition = np.bincount(pairs, minlength=n_symbols**2).reshape(n_symbols, -1) + 1
        n_stops = np.count_nonzero(lengths < max_length) + 1
        n_chances = np.minimum(lengths, max_length - 1).sum() + 2
        transition = transition / transition.sum(axis=1, keepdims=True)
        return cls(initial / initial.sum(), transition, n_stops / n_chances, max_length)

    def score_samples(self, codes):
        """Log probabilities of sequences padded with -1."""
        codes = np.asarray(codes)
        lengths = (codes >= 0).sum(axis=1)
        steps = self._log_steps()
        before = np.column_stack([np.full(len(codes), -1), codes[:, :-1]])
        return steps[before, codes].sum(axis=1) + self._log_length(lengths)

    def edit_log_ratios(self, sequences, edits):
        """Log probabilities of the edited sequences minus those of their origins.

        Only the steps into and out of the edited position change.
        """
        codes, lengths = sequences
        row, position, symbol, change = edits
        before = symbols_at(codes, row, position - 1)
        old = symbols_at(codes, row, position)
        after = np.where(change > 0, old, symbols_at(codes, row, position + 1))
        steps = self._log_steps()
        bridged = steps[before, after]
        through_new = steps[before, symbol] + steps[symbol, after]
        through_old = steps[before, old] + steps[old, after]
        gain = np.where(change < 0, bridged, through_new)
        loss = np.where(change > 0, bridged, through_old)
        lengths = lengths[row]
        return gain - loss + self._log_length(lengths + change) - self._log_length(lengths)

    def sample(self, n_samples=1, random_state=None):
        """Draw sequences, padded with -1."""
        rng = check_random_state(random_state)
        codes = np.full((n_samples, self.max_length), -1)
        cumulative = np.cumsum(np.vstack([self.transition, self.initial]), axis=1)
        cumulative[:, -1] = 1
        going = np.ones(n_samples, dtype=bool)
        current = np.full(n_samples, -1)
        for column in range(self.max_length):
            draws = rng.uniform(size=(n_samples, 2))
            if column:
                going &= draws[:, 1] >= self.stop
            current = np.sum(draws[:, :1] >= cumulative[current], axis=1)
            codes[going, column] = current[going]
        return codes

    def _log_steps(self):
        """Log probabilities of steps; index -1 is the start, and the end, which costs nothing."""
        n_symbols = len(self.initial)
        steps = np.zeros((n_symbols + 1, n_symbols + 1))
        with np.errstate(divide="ignore"):
            steps[:-1, :-1], steps[-1, :-1] = np.log(self.transition), np.log(self.initial)
        return steps

    def _log_length(self, lengths):
        with np.errstate(divide="ignore"):
            go, stop = np.log1p(-self.stop), np.log(self.stop)
        return (lengths - 1) * go + np.where(lengths < self.max_length, stop, 0.0)


def is_unfitted(model):
    """Whether the model is to be fitted to the sample."""
    if model is None:
        return True
    estimator = hasattr(model, "fit") and hasattr(model, "get_params")
    return estimator and not isinstance(model, FrozenEstimator)


def edit_weights(model, sequences, edits, alphabet, max_length, balancing):
    """Weights g(P(x') / P(x)) of the edits, all of them in one call of the model."""
    at = log_probabilities(model, sequences, alphabet, max_length)
    if np.isneginf(at).any():
        impossible = sequences.rows(np.flatnonzero(np.isneginf(at))[:1]).symbols(alphabet)[0]
        raise ValueError(f"the model gives the sequence {impossible} probability zero")
    if isinstance(model, MarkovChain):
        return balance(model.edit_log_ratios(sequences, edits), balancing)
    neighbors = log_probabilities(model, edited(sequences, edits), alphabet, max_length)
    return balance(neighbors - at[edits.row], balancing)


def log_probabilities(model, sequences, alphabet, max_length):
    """Log probabilities of a model of any kind."""
    n_samples = len(sequences.lengths)
    if n_samples == 0:
        return np.empty(0)
    if isinstance(model, MarkovChain):
        values = model.score_samples(sequences.codes)
    elif hasattr(model, "score_samples"):
        values = model.score_samples(sequences.padded(alphabet, max_length))
    else:
        values = getattr(model, "log_prob", model)(sequences.symbols(alphabet))
    values = values.detach().cpu() if hasattr(values, "detach") else values
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (n_samples,):
        raise ValueError(f"the model must return shape ({n_samples},), got {values.shape}")
    if np.isnan(values).any() or np.isposinf(values).any():
        raise ValueError("the model returned log probabilities that are NaN or +inf")
    return values


def draw_sequences(model, n_samples, alphabet, seed):
    """Draw sequences from a model, as its `sample` writes them."""
    drawn = model.sample(n_samples, random_state=seed)
    if isinstance(model, MarkovChain):
        return Sequences(drawn, (drawn >= 0).sum(axis=1))
    values = padded_values(drawn) if is_sequence_list(drawn) else np.asarray(drawn, np.float64)
    return encode(symbol_values(values), alphabet)


def balance(log_ratios, balancing):
    """Balancing function g(t) = t g(1/t) of probability ratios, from their logarithms."""
    if balancing == "barker":
        return expit(log_ratios)
    if balancing == "metropolis":
        return np.exp(np.minimum(log_ratios, 0))
    with np.errstate(over="ignore"):
        weights = np.exp(log_ratios / 2)
    if not np.isfinite(weights).all():
        raise ValueError("probability ratios are too large for balancing='mpf': use 'barker'")
    return weights
