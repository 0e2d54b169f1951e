"""A holdout set that may be asked again and again."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import is_regressor
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skpapers.utils import check_random_state, draw_seed

from ._query_mechanisms import Answer, BudgetExhaustedError, bounded_values

__all__ = ["Thresholdout", "reusable_holdout_score"]

_BLOCK = 512  # queries compared at once
_MECHANISM = {
    "threshold": [Interval(Real, 0, None, closed="neither")],
    "noise": [Interval(Real, 0, None, closed="left"), None],
    "budget": [Interval(Integral, 1, None, closed="left"), None],
    "random_state": ["random_state", np.random.Generator],
}
_SCORING = [StrOptions({"accuracy", "squared_error"}), callable, None]


class Thresholdout:
    """Holdout set that answers adaptively chosen questions without being overfitted.

    A question is answered from the training data, as long as the holdout agrees with these
    up to a noisy threshold. Where it does not, the answer is the mean on the holdout plus
    noise, and costs one unit of the budget. So only questions that overfit the training data are
    limited in number.

    Parameters
    ----------
    threshold : float, default=0.04
        Disagreement of the means that is put up with. It should exceed the noise of sampling,
        about 2 / sqrt(n_holdout); a warning says where it does not.
    noise : float, default=None
        Scale of the noise in answers; that of the threshold is twice, that of each comparison
        four times as large. None is `threshold` / 10: much more lets overfitting slip through.
    budget : int, default=None
        Number of answers from the holdout; None is its number of rows.
    distribution : {"laplace", "gaussian"}, default="laplace"
        Law of the noise; the scale is the standard deviation of a Gaussian.
    on_exhausted : {"raise", "nan"}, default="raise"
        What follows when the budget is used up: an error, or NaN for an answer.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the noise.

    Attributes
    ----------
    budget_remaining_ : int
        Answers from the holdout that are left.
    n_queries_ : int
        Number of queries answered.
    history_ : list of Answer
        Answers, and whether each overfitted and cost budget.

    Notes
    -----
    A query must be a mean over rows, of values within bounds: accuracy is one, the area under
    the ROC curve and R2 are not. An answer from the training data may be off by the threshold.
    Models that each overfit the training data, as nearly all flexible ones do, are all answered
    by the holdout mean plus noise: for these it is no better than a plain holdout.
    Whoever looks at the holdout rows directly voids the guarantee.

    References
    ----------
    Dwork, Feldman, Hardt, Pitassi, Reingold and Roth, "Generalization in Adaptive Data Analysis
    and Holdout Reuse", NeurIPS 2015, arXiv:1506.02629 (Figure 1), and "The reusable holdout",
    Science 349, 2015; the theory is in "Preserving Statistical Validity in Adaptive Data
    Analysis", STOC 2015, arXiv:1411.2664.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.model_selection import Thresholdout
    >>> rng = np.random.RandomState(0)
    >>> X, y = rng.normal(size=(8000, 50)), rng.choice([-1, 1], 8000)
    >>> holdout = Thresholdout(random_state=0).set_data(X[:4000], y[:4000], X[4000:], y[4000:])
    >>> answer = holdout.query(lambda X, y: X[:, 0] * y > 0)
    >>> abs(answer - 0.5) < 0.05, holdout.budget_remaining_
    (True, 4000)
    """

    @validate_params(
        {
            **_MECHANISM,
            "distribution": [StrOptions({"laplace", "gaussian"})],
            "on_exhausted": [StrOptions({"raise", "nan"})],
        },
        prefer_skip_nested_validation=True,
    )
    def __init__(
        self,
        threshold=0.04,
        noise=None,
        budget=None,
        *,
        distribution="laplace",
        on_exhausted="raise",
        random_state=None,
    ):
        self.threshold = threshold
        self.noise = threshold / 10 if noise is None else noise
        self.budget = budget
        self.distribution = distribution
        self.on_exhausted = on_exhausted
        self.random_state = random_state
        rng = check_random_state(random_state)
        streams = (check_random_state(draw_seed(rng)) for _ in range(3))
        self._thresholds, self._comparisons, self._answers = streams
        self._shift = self._draw(self._thresholds, 2)
        self.budget_remaining_, self.n_queries_, self._answered = budget, 0, []

    def __sklearn_clone__(self):
        return self  # the budget is shared

    def _draw(self, rng, factor, size=None):
        draw = rng.laplace if self.distribution == "laplace" else rng.normal
        return draw(scale=factor * self.noise, size=size)

    def set_data(self, X_train, y_train, X_holdout, y_holdout):
        """Set the data, once.

        Parameters
        ----------
        X_train : array-like or sparse matrix of shape (n_train, n_features)
            Rows to learn from, which may be looked at.
        y_train : array-like of shape (n_train,)
            Their targets.
        X_holdout : array-like or sparse matrix of shape (n_holdout, n_features)
            Rows to be asked through this object alone.
        y_holdout : array-like of shape (n_holdout,)
            Their targets.

        Returns
        -------
        self : object
            The holdout.

        Raises
        ------
        ValueError
            If there are data already, or numbers of rows differ.
        """
        if self.has_data:
            raise ValueError("the data are set: new data need a new Thresholdout")
        check_consistent_length(X_train, y_train)
        check_consistent_length(X_holdout, y_holdout)
        self._train, self._holdout = (X_train, y_train), (X_holdout, y_holdout)
        n_holdout = len(y_holdout)
        if self.budget is None:
            self.budget_remaining_ = n_holdout
        if self.threshold < 2 / np.sqrt(n_holdout):
            warnings.warn(
                f"threshold={self.threshold:.3g} is below 2 / sqrt({n_holdout}), the noise of the "
                "means of so few holdout rows: answers that do not overfit will cost budget.",
                UserWarning,
            )
        return self

    @property
    def has_data(self):
        """Whether the data are set."""
        return hasattr(self, "_holdout")

    def _check_data(self):
        if not self.has_data:
            raise ValueError("set_data must come before query and score")

    def query(self, function, *, bounds=(0.0, 1.0)):
        """Answer a query.

        Parameters
        ----------
        function : callable
            Takes X and y, and returns a value a row.
        bounds : tuple of (float, float), default=(0.0, 1.0)
            Least and largest value possible. Threshold and noise are in units of the range.

        Returns
        -------
        float
            Estimate of the mean of the values.

        Raises
        ------
        BudgetExhaustedError
            If the budget is used up, and `on_exhausted` is "raise".
        ValueError
            If there are no data, or a value is out of bounds.
        """
        self._check_data()
        low, width = bounds[0], bounds[1] - bounds[0]
        parts = (self._train, self._holdout)
        means = (bounded_values(function, *part, bounds=bounds).mean() for part in parts)
        train, holdout = ([(mean - low) / width] for mean in means)
        return float(low + width * self.query_means(train, holdout)[0])

    def query_means(self, train_means, holdout_means):
        """Answer queries whose means are known, one after the other.

        Parameters
        ----------
        train_means : array-like of shape (n_queries,)
            Means on the training data.
        holdout_means : array-like of shape (n_queries,)
            Means on the holdout, in the same order.

        Returns
        -------
        ndarray of shape (n_queries,)
            The answers.

        Raises
        ------
        BudgetExhaustedError
            If the budget is used up, and `on_exhausted` is "raise".
        ValueError
            If there are neither data nor a `budget`.
        """
        if self.budget_remaining_ is None:
            raise ValueError("without data, a budget must be given")
        means = [
            check_array(m, ensure_2d=False, dtype=np.float64).ravel()
            for m in (train_means, holdout_means)
        ]
        check_consistent_length(*means)
        gaps = np.abs(means[0] - means[1]) - self._draw(self._comparisons, 4, len(means[0]))
        answers, start = means[0].copy(), 0
        while start < len(answers):
            if self.budget_remaining_ < 1:
                if self.on_exhausted == "raise":
                    raise BudgetExhaustedError("the holdout has answered all its budget allows")
                answers[start:] = np.nan
                break
            rows = slice(start, start + _BLOCK)
            alarms = np.flatnonzero(gaps[rows] > self.threshold + self._shift)
            if alarms.size:
                rows = slice(start, start + alarms[0] + 1)
                answers[rows.stop - 1] = self._overfitting_answer(means[1][rows.stop - 1])
            self._answered.append((answers[rows].copy(), alarms.size > 0))
            self.n_queries_ += len(answers[rows])
            start = rows.stop
        return answers

    def _overfitting_answer(self, holdout_mean):
        self.budget_remaining_ -= 1
        self._shift = self._draw(self._thresholds, 2)
        return holdout_mean + self._draw(self._answers, 1)

    @property
    def history_(self):
        """Answers, and whether each overfitted and cost budget."""
        return [
            Answer(answer, last_overfits and index == len(answers) - 1)
            for answers, last_overfits in self._answered
            for index, answer in enumerate(answers.tolist())
        ]

    def score(self, estimator, scoring=None):
        """Score a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted to the training data.
        scoring : {"accuracy", "squared_error"}, callable or None, default=None
            What is averaged over the rows: see :class:`ReusableHoldoutSearchCV`.

        Returns
        -------
        float
            The answer.
        """
        self._check_data()
        values = row_scorer(estimator, scoring, self._train[1])
        return self.query(lambda X, y: values(estimator, X, y))


@validate_params(
    {**_MECHANISM, "estimators": [list, tuple], "scoring": _SCORING},
    prefer_skip_nested_validation=True,
)
def reusable_holdout_score(
    estimators,
    X_train,
    y_train,
    X_holdout,
    y_holdout,
    *,
    scoring=None,
    threshold=0.04,
    noise=None,
    budget=None,
    random_state=None,
):
    """Score fitted estimators, in their order, on one holdout by :class:`Thresholdout`.

    Parameters
    ----------
    estimators : list of estimator
        Fitted to the training data.
    X_train : array-like of shape (n_train, n_features)
        Training rows.
    y_train : array-like of shape (n_train,)
        Their targets.
    X_holdout : array-like of shape (n_holdout, n_features)
        Holdout rows.
    y_holdout : array-like of shape (n_holdout,)
        Their targets.
    scoring : {"accuracy", "squared_error"}, callable or None, default=None
        What is averaged over the rows: see :class:`ReusableHoldoutSearchCV`.
    threshold : float, default=0.04
        As in :class:`Thresholdout`.
    noise : float, default=None
        As in :class:`Thresholdout`.
    budget : int, default=None
        As in :class:`Thresholdout`.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the noise.

    Returns
    -------
    ndarray of shape (n_estimators,)
        Scores; NaN once the budget is used up.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skpapers.model_selection import reusable_holdout_score
    >>> X, y = load_digits(return_X_y=True)
    >>> halves = X[:900], y[:900], X[900:], y[900:]
    >>> model = GaussianNB().fit(*halves[:2])
    >>> reusable_holdout_score([model], *halves, threshold=0.1, random_state=0).round(1)
    array([0.9])
    """
    holdout = Thresholdout(
        threshold, noise, budget, on_exhausted="nan", random_state=random_state
    ).set_data(X_train, y_train, X_holdout, y_holdout)
    return np.array([holdout.score(estimator, scoring) for estimator in estimators])


def row_scorer(estimator, scoring, y_train):
    """Function of an estimator, X and y that gives a value in [0, 1] a row; large is good."""
    if callable(scoring):
        return scoring
    if scoring == "accuracy" or (scoring is None and not is_regressor(estimator)):
        return correct_rows
    variance = np.var(np.asarray(y_train, dtype=np.float64))
    return SquaredErrorRows(variance if variance > 0 else 1.0)


def correct_rows(estimator, X, y):
    """Whether each row is classified correctly."""
    return (estimator.predict(X) == np.asarray(y)).astype(np.float64)


class SquaredErrorRows:
    """One minus the squared error over a variance, at least 0."""

    def __init__(self, variance):
        self.variance = variance

    def __call__(self, estimator, X, y):
        y = np.asarray(y, dtype=np.float64)
        errors = (estimator.predict(X) - y).reshape(len(y), -1) ** 2
        return np.clip(1 - errors.mean(axis=1) / self.variance, 0, 1)
