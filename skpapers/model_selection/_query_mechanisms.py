"""Answers to statistical queries that stay valid when the queries depend on earlier answers."""

from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import _num_samples

from skpapers.utils import check_random_state

__all__ = ["Answer", "BudgetExhaustedError", "GaussianQueries", "LaplaceQueries"]

_POSITIVE = [Interval(Real, 0, None, closed="neither")]
_PROBABILITY = [Interval(Real, 0, 1, closed="neither")]
_COUNT = [Interval(Integral, 1, None, closed="left")]
_SEED = ["random_state", np.random.Generator]


class BudgetExhaustedError(RuntimeError):
    """Error of a mechanism that has answered as much as its guarantee allows.

    Examples
    --------
    >>> from skpapers.model_selection import BudgetExhaustedError, LaplaceQueries
    >>> queries = LaplaceQueries(epsilon=1.0, n_queries=1, random_state=0).set_data([[0.0], [1.0]])
    >>> answer = queries.query(lambda X: X[:, 0])
    >>> try:
    ...     queries.query(lambda X: X[:, 0])
    ... except BudgetExhaustedError as error:
    ...     print(error)
    all 1 queries are answered
    """


class Answer(NamedTuple):
    """Answer to a query, and whether it cost budget."""

    answer: float
    overfits: bool


class _NoisyQueries:
    """Means of queries on one sample, each with independent noise."""

    def __init__(self, epsilon, n_queries, delta, random_state):
        self.epsilon = epsilon
        self.n_queries = n_queries
        self.delta = delta
        self.random_state = random_state

    def set_data(self, X, y=None):
        """Set the sample, and start anew.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Targets, passed on to the queries if given.

        Returns
        -------
        self : object
            The mechanism.
        """
        self._data = (np.asarray(X),) if y is None else (np.asarray(X), np.asarray(y))
        self.noise_scale_ = self._noise_scale(len(self._data[0]))
        self.n_queries_, self.history_ = 0, []
        self._rng = check_random_state(self.random_state)
        return self

    def query(self, function):
        """Answer a query.

        Parameters
        ----------
        function : callable
            Takes X, and y if there is one, and returns a value in [0, 1] a row.

        Returns
        -------
        float
            Mean of the values plus noise, clipped to [0, 1].

        Raises
        ------
        BudgetExhaustedError
            If `n_queries` were answered.
        ValueError
            If a value is outside [0, 1].
        """
        if self.n_queries_ >= self.n_queries:
            raise BudgetExhaustedError(f"all {self.n_queries} queries are answered")
        noise = self._draw(self._rng, scale=self.noise_scale_)
        answer = float(np.clip(bounded_values(function, *self._data).mean() + noise, 0, 1))
        self.n_queries_ += 1
        self.history_.append(Answer(answer, True))
        return answer


class LaplaceQueries(_NoisyQueries):
    """Answer statistical queries with Laplace noise, by differential privacy.

    Parameters
    ----------
    epsilon : float
        Privacy loss of all answers together; small values bind the answers to the distribution
        rather than to the sample.
    n_queries : int
        Number of queries that will be answered.
    delta : float, default=None
        None adds up the losses of the answers; a probability of failure allows for advanced
        composition, whose noise grows with the root of `n_queries` only.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the noise.

    Attributes
    ----------
    noise_scale_ : float
        Scale of the noise.
    n_queries_ : int
        Number of queries answered.
    history_ : list of Answer
        The answers.

    References
    ----------
    Dwork, Feldman, Hardt, Pitassi, Reingold and Roth, "Preserving Statistical Validity in
    Adaptive Data Analysis", STOC 2015, arXiv:1411.2664 (Section 4).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.model_selection import LaplaceQueries
    >>> X = np.random.RandomState(0).uniform(size=(1000, 1))
    >>> queries = LaplaceQueries(epsilon=1.0, n_queries=10, random_state=0).set_data(X)
    >>> abs(queries.query(lambda X: X[:, 0]) - 0.5) < 0.05
    True
    """

    @validate_params(
        {
            "epsilon": _POSITIVE,
            "n_queries": _COUNT,
            "delta": [*_PROBABILITY, None],
            "random_state": _SEED,
        },
        prefer_skip_nested_validation=True,
    )
    def __init__(self, epsilon, n_queries, delta=None, random_state=None):
        super().__init__(epsilon, n_queries, delta, random_state)

    def _noise_scale(self, n_samples):
        parts = self.n_queries
        if self.delta is not None:
            parts = np.sqrt(8 * self.n_queries * np.log(1 / self.delta))
        return float(parts / (n_samples * self.epsilon))

    def _draw(self, rng, scale):
        return rng.laplace(scale=scale)


class GaussianQueries(_NoisyQueries):
    """Answer statistical queries with Gaussian noise, by approximate differential privacy.

    Parameters
    ----------
    epsilon : float
        Privacy loss of all answers together, at most 1 for the guarantee.
    n_queries : int
        Number of queries that will be answered.
    delta : float, default=1e-6
        Probability of a larger loss.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the noise.

    Attributes
    ----------
    noise_scale_ : float
        Standard deviation of the noise.
    n_queries_ : int
        Number of queries answered.
    history_ : list of Answer
        The answers.

    References
    ----------
    Dwork, Feldman, Hardt, Pitassi, Reingold and Roth, "Preserving Statistical Validity in
    Adaptive Data Analysis", STOC 2015, arXiv:1411.2664 (Section 4).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.model_selection import GaussianQueries
    >>> X = np.random.RandomState(0).uniform(size=(1000, 1))
    >>> queries = GaussianQueries(epsilon=1.0, n_queries=10, random_state=0).set_data(X)
    >>> abs(queries.query(lambda X: X[:, 0]) - 0.5) < 0.1
    True
    """

    @validate_params(
        {
            "epsilon": _POSITIVE,
            "n_queries": _COUNT,
            "delta": _PROBABILITY,
            "random_state": _SEED,
        },
        prefer_skip_nested_validation=True,
    )
    def __init__(self, epsilon, n_queries, delta=1e-6, random_state=None):
        super().__init__(epsilon, n_queries, delta, random_state)

    def _noise_scale(self, n_samples):
        log_delta = np.log(1.25 / self.delta)
        return float(np.sqrt(2 * self.n_queries * log_delta) / (n_samples * self.epsilon))

    def _draw(self, rng, scale):
        return rng.normal(scale=scale)


def bounded_values(function, *data, bounds=(0.0, 1.0)):
    """Values of a query on the rows of the data, which must lie between the bounds."""
    values = check_array(function(*data), ensure_2d=False, dtype=np.float64, input_name="query")
    n_rows = _num_samples(data[0])
    if values.shape != (n_rows,):
        raise ValueError(f"a query must return one value for each of {n_rows} rows")
    if values.min() < bounds[0] or values.max() > bounds[1]:
        raise ValueError(f"a query must return values in [{bounds[0]}, {bounds[1]}]")
    return values
