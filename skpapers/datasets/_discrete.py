"""Laws of discrete rows and of symbol sequences, small enough to be enumerated."""

from itertools import product

import numpy as np
from sklearn.utils import check_array

from skpapers.utils import check_random_state

__all__ = ["CategoricalTableDensity", "MarkovSequenceDensity"]


class CategoricalTableDensity:
    """Joint law of a few discrete columns, given by the table of its probabilities.

    Parameters
    ----------
    probabilities : array-like of shape (n_categories_1, ..., n_categories_d)
        Non-negative, normalised here; entry (i, j, ...) belongs to the row (i, j, ...).
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds `sample`.

    Raises
    ------
    ValueError
        If a probability is negative or all are zero.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.datasets import CategoricalTableDensity
    >>> xor = CategoricalTableDensity([[0.5, 0.0], [0.0, 0.5]])
    >>> np.exp(xor.score_samples([[1, 1], [1, np.nan]]))
    array([0.5, 0.5])
    """

    def __init__(self, probabilities, *, random_state=None):
        table = np.asarray(probabilities, dtype=np.float64)
        if table.ndim == 0 or not np.isfinite(table).all() or table.min() < 0 or not table.any():
            raise ValueError("probabilities must be a non-negative array that is not all zero")
        self.probabilities = table / table.sum()
        self.random_state = random_state

    def enumerate(self):
        """List all rows.

        Returns
        -------
        ndarray of shape (n_rows, n_features)
            Every combination of categories, the last column fastest.
        """
        return np.array(list(product(*map(range, self.probabilities.shape))))

    def score_samples(self, X):
        """Compute the log probability of rows, or of the entries of them that are known.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Categories; NaN where unknown.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log probabilities of the known entries.
        """
        X = check_array(X, dtype=np.float64, ensure_all_finite="allow-nan")
        with np.errstate(divide="ignore"):
            return np.log([self._marginal(row) for row in X])

    def _marginal(self, row):
        known = tuple(slice(None) if np.isnan(value) else int(value) for value in row)
        return self.probabilities[known].sum()

    def sample(self, n_samples=1, random_state=None):
        """Draw rows.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance, Generator or None, default=None
            Seed; None for that of the object.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Categories.
        """
        rng = check_random_state(self.random_state if random_state is None else random_state)
        flat = rng.choice(self.probabilities.size, size=n_samples, p=self.probabilities.ravel())
        return np.stack(np.unravel_index(flat, self.probabilities.shape), axis=1)


class MarkovSequenceDensity:
    """Law of symbol sequences that a Markov chain writes until it stops.

    Parameters
    ----------
    initial : array-like of shape (n_symbols,)
        Probabilities of the first symbol.
    transition : array-like of shape (n_symbols, n_symbols)
        Row i has the probabilities of the symbol after i.
    stop : float
        Probability to end after each symbol.
    max_length : int
        Length at which a sequence ends in any case.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds `sample`.

    Raises
    ------
    ValueError
        If probabilities do not sum to one, or `stop` or `max_length` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.datasets import MarkovSequenceDensity
    >>> chain = MarkovSequenceDensity([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], 0.5, 2)
    >>> np.exp(chain.log_prob([(0,), (0, 1)])).round(3)
    array([0.25 , 0.025])
    """

    def __init__(self, initial, transition, stop, max_length, *, random_state=None):
        self.initial = np.asarray(initial, dtype=np.float64)
        self.transition = np.asarray(transition, dtype=np.float64)
        n_symbols = len(self.initial)
        rows = np.vstack([self.initial, self.transition.reshape(-1, n_symbols)])
        if self.transition.shape != (n_symbols, n_symbols) or not (
            rows.min() >= 0 and np.allclose(rows.sum(axis=1), 1)
        ):
            raise ValueError("initial and the rows of transition must be probabilities")
        if not 0 < stop <= 1 or max_length < 1:
            raise ValueError(f"need 0 < stop <= 1 and max_length >= 1, got {stop}, {max_length}")
        self.stop = stop
        self.max_length = max_length
        self.random_state = random_state

    def enumerate(self):
        """List all sequences.

        Returns
        -------
        list of tuple of int
            By length, then in lexicographic order.
        """
        lengths = range(1, self.max_length + 1)
        return [word for n in lengths for word in product(range(len(self.initial)), repeat=n)]

    def log_prob(self, sequences):
        """Compute log probabilities.

        Parameters
        ----------
        sequences : list of sequences of int
            Symbols.

        Returns
        -------
        ndarray of shape (n_sequences,)
            Log probabilities; minus infinity for what the chain cannot write.
        """
        with np.errstate(divide="ignore"):
            return np.array([self._log_prob(np.asarray(word, dtype=int)) for word in sequences])

    def _log_prob(self, word):
        if not 1 <= len(word) <= self.max_length:
            return -np.inf
        steps = np.log(self.transition[word[:-1], word[1:]]).sum()
        goes_on = (len(word) - 1) * np.log1p(-self.stop) if len(word) > 1 else 0.0
        ends = np.log(self.stop) if len(word) < self.max_length else 0.0
        return np.log(self.initial[word[0]]) + steps + goes_on + ends

    def sample(self, n_samples=1, random_state=None):
        """Draw sequences.

        Parameters
        ----------
        n_samples : int, default=1
            Number of sequences.
        random_state : int, RandomState instance, Generator or None, default=None
            Seed; None for that of the object.

        Returns
        -------
        list of tuple of int
            Sequences of symbols.
        """
        rng = check_random_state(self.random_state if random_state is None else random_state)
        lengths = np.minimum(rng.geometric(self.stop, size=n_samples), self.max_length)
        draws = rng.uniform(size=(n_samples, self.max_length))
        cumulative = self.transition.cumsum(axis=1)
        symbols = np.empty((n_samples, self.max_length), dtype=int)
        last = len(self.initial) - 1
        symbols[:, 0] = (draws[:, :1] > self.initial.cumsum()[:-1]).sum(axis=1)
        for j in range(1, self.max_length):
            bounds = cumulative[symbols[:, j - 1], :last]
            symbols[:, j] = (draws[:, j : j + 1] > bounds).sum(axis=1)
        return [tuple(map(int, word[:n])) for word, n in zip(symbols, lengths)]
