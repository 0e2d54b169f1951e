"""Private multiplicative weights: exponentially many adaptive queries on a finite universe."""

from numbers import Real

import numpy as np
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, validate_params

from skpapers.utils import check_random_state

from ._query_mechanisms import Answer, BudgetExhaustedError, bounded_values

__all__ = ["PrivateMultiplicativeWeights"]

_POSITIVE = [Interval(Real, 0, None, closed="neither"), None]


class PrivateMultiplicativeWeights:
    """Answer exponentially many adaptive queries on a finite universe.

    A hypothesis, a histogram over the universe, answers all queries on which it agrees with
    the sample up to noise; each of the others gets a noisy answer, and improves the hypothesis.
    Only these are limited in number, and few of them are ever needed.

    Parameters
    ----------
    universe : array-like of shape (n_atoms, n_features)
        All rows that may occur, each once.
    accuracy : float, default=0.1
        Largest error aimed at, from which the defaults of the rest follow.
    threshold : float, default=None
        Disagreement that triggers an update; None is `accuracy` / 2.
    noise : float, default=None
        Scale of the Laplace noise; None is `accuracy` / 20.
    learning_rate : float, default=None
        Step of the updates; None is `accuracy` / 2.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the noise.

    Attributes
    ----------
    histogram_ : ndarray of shape (n_atoms,)
        The hypothesis: probabilities of the universe, uniform at first.
    max_updates_ : int
        log(n_atoms) / (learning_rate (threshold - learning_rate / 2)) rounded up: with exact
        answers there are never more.
    n_updates_ : int
        Number of updates.
    n_queries_ : int
        Number of queries answered.
    history_ : list of Answer
        Answers, and whether each cost an update.

    Raises
    ------
    ValueError
        If rows of the universe repeat, or `learning_rate` is at least twice the threshold.

    Notes
    -----
    O(n_atoms) time and memory a query; the universe must be small enough to list.

    References
    ----------
    Dwork, Feldman, Hardt, Pitassi, Reingold and Roth, "Preserving Statistical Validity in
    Adaptive Data Analysis", STOC 2015, arXiv:1411.2664 (Section 4); Hardt and Rothblum,
    "A Multiplicative Weights Mechanism for Privacy-Preserving Data Analysis", FOCS 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.model_selection import PrivateMultiplicativeWeights
    >>> X = np.random.RandomState(0).randint(2, size=(1000, 1))
    >>> queries = PrivateMultiplicativeWeights([[0], [1]], random_state=0).set_data(X)
    >>> queries.query(lambda X: X[:, 0])  # the uniform hypothesis is near enough
    0.5
    """

    @validate_params(
        {
            "universe": ["array-like"],
            "accuracy": [Interval(Real, 0, 1, closed="neither")],
            "threshold": _POSITIVE,
            "noise": _POSITIVE,
            "learning_rate": _POSITIVE,
            "random_state": ["random_state", np.random.Generator],
        },
        prefer_skip_nested_validation=True,
    )
    def __init__(
        self,
        universe,
        accuracy=0.1,
        *,
        threshold=None,
        noise=None,
        learning_rate=None,
        random_state=None,
    ):
        self.universe = check_array(universe, input_name="universe")
        self.accuracy = accuracy
        self.threshold = accuracy / 2 if threshold is None else threshold
        self.noise = accuracy / 20 if noise is None else noise
        self.learning_rate = accuracy / 2 if learning_rate is None else learning_rate
        self.random_state = random_state
        if len(np.unique(self.universe, axis=0)) < len(self.universe):
            raise ValueError("universe must list every row once")
        if self.learning_rate >= 2 * self.threshold:
            raise ValueError("learning_rate must be less than twice the threshold")

    def set_data(self, X):
        """Set the sample, and start anew.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the universe.

        Returns
        -------
        self : object
            The mechanism.

        Raises
        ------
        ValueError
            If a row is not in the universe.
        """
        X = check_array(X)
        n_atoms = len(self.universe)
        _, index = np.unique(np.vstack([self.universe, X]), axis=0, return_inverse=True)
        atoms, rows = np.split(index.ravel(), [n_atoms])
        if index.max() >= n_atoms:
            raise ValueError("X has a row that is not in the universe")
        self._sample = np.bincount(rows, minlength=n_atoms)[atoms] / len(X)
        progress = self.learning_rate * (self.threshold - self.learning_rate / 2)
        self.max_updates_ = int(np.ceil(np.log(n_atoms) / progress))
        self.histogram_ = np.full(n_atoms, 1 / n_atoms)
        self.n_updates_, self.n_queries_, self.history_ = 0, 0, []
        self._rng = check_random_state(self.random_state)
        return self

    def query(self, function):
        """Answer a query.

        Parameters
        ----------
        function : callable
            Takes the universe and returns a value in [0, 1] a row.

        Returns
        -------
        float
            Estimate of the mean of the values, in [0, 1].

        Raises
        ------
        BudgetExhaustedError
            If `max_updates_` updates were made.
        ValueError
            If a value is outside [0, 1].
        """
        values = bounded_values(function, self.universe)
        if self.n_updates_ >= self.max_updates_:
            raise BudgetExhaustedError(f"all {self.max_updates_} updates are used up")
        answer = values @ self.histogram_
        gap = values @ self._sample - answer + self._rng.laplace(scale=self.noise)
        overfits = bool(abs(gap) > self.threshold)
        if overfits:
            answer += gap
            self.histogram_ = reweighted(
                self.histogram_, self.learning_rate * np.sign(gap) * values
            )
        answer = float(np.clip(answer, 0, 1))
        self.n_updates_ += overfits
        self.n_queries_ += 1
        self.history_.append(Answer(answer, overfits))
        return answer


def reweighted(histogram, exponents):
    """Histogram proportional to the old one times the exponentials."""
    weights = histogram * np.exp(exponents)
    return weights / weights.sum()
