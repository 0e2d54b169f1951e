"""Boosting by level sets, which ends multicalibrated."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, _fit_context, clone
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils import _safe_indexing, get_tags, indexable
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import (
    _check_sample_weight,
    _check_y,
    check_is_fitted,
    has_fit_parameter,
    validate_data,
)

from skpapers.utils import check_random_state, draw_seed, seed_estimator

from ._calibration_errors import nearest_level, quantile_levels, uniform_levels

__all__ = ["LevelSetBoostingRegressor"]

_FIRST_ROUNDS = 3  # the error may rise by rounding at first: no stop before


class LevelSetBoostingRegressor(MetaEstimatorMixin, RegressorMixin, BaseEstimator):
    """Boosting that refits a regressor on each level set of its own predictions.

    Each round rounds the predictions to a grid and, on every set of rows with the same value,
    replaces them by a regressor fitted to the targets there. Where this no longer lowers the
    squared error, the predictions are multicalibrated: among the rows with prediction v, no
    function that `estimator` can express, and so no group it can tell, correlates with the
    residual. With `init` it repairs a model that exists.

    Parameters
    ----------
    estimator : estimator, default=None
        The weak learner, a regressor; None is ``DecisionTreeRegressor(max_depth=1)``.
    init : estimator or "mean", default=None
        What gives the first predictions: a regressor, which is fitted unless it is already (wrap
        it in ``FrozenEstimator`` so that it survives cloning), or the mean of the targets. None is
        `estimator`, fitted to all rows.
    n_levels : int or "auto", default="auto"
        Number of intervals between the values predictions are rounded to; "auto" is one per 80
        rows, between 5 and 50. Many levels on few rows overfit.
    max_rounds : int, default=100
        Largest number of rounds.
    learning_rate : float, default=1.0
        Weight, in (0, 1], of the new predictions against those they replace.
    tol : float, default=1e-4
        Stop when, in the third round or later, the mean squared error on the training rows, in
        units of the squared range of the targets, falls by no more.
    min_samples_level : int, default=20
        A level set of no more rows keeps its value.
    binning : {"uniform", "quantile"}, default="uniform"
        Values that are equally spaced over the range of the targets, or the mid-points of bins
        between their quantiles.
    center : {"grid", "mean"}, default="grid"
        What predictions are rounded to: the value of the grid, or the mean target of the
        training rows that are nearest to it.
    round_output : bool, default=False
        Whether to round what the last round predicts.
    validation_fraction : float, default=None
        Share of the rows held out. Then a level set gets a new regressor only if that lowers the
        error of the held-out rows in it by a share of `val_gain`, and the rounds end when none
        does, whatever `tol`. None is no such check.
    val_gain : float, default=0.02
        Share, in [0, 1), by which the held-out error must fall.
    n_jobs : int, default=None
        Number of threads that fit the regressors of a round; None is one.
    random_state : int, RandomState instance or None, default=None
        Seeds the held-out split and every `random_state` of the regressors that is None.
    verbose : int, default=0
        1 prints the error of each round.

    Attributes
    ----------
    init_ : estimator
        What gives the first predictions.
    rounds_ : list of dict
        A dict a round, from the index of a level to the regressor fitted to its rows.
    levels_ : ndarray of shape (n_levels + 1,)
        The grid, in units of the targets.
    values_ : ndarray of shape (n_rounds_ + 1, n_levels + 1)
        What predictions in each cell of the grid are rounded to before each round and, last, after
        all; `levels_` throughout, unless `center` is "mean".
    y_range_ : tuple of float
        Smallest and largest target; predictions are clipped to them.
    train_errors_ : list of float
        Mean squared error on the training rows, in units of the squared range of the targets, of
        the first predictions and after each round.
    validation_errors_ : list of float
        The same on the held-out rows, if there are any.
    n_rounds_ : int
        Number of rounds.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had string column names.

    Notes
    -----
    A round costs as much as fitting `estimator` once to all rows, if that is linear in their
    number, and a level set is a task of its own. The paper stops when the error falls by less than
    0.1 / `n_levels`, which at the default sizes is far too early.

    The theory needs a weak learner that beats the mean on every level set where the best
    prediction does; where it sees no signal, as a linear model on the exclusive or, the level sets
    do not separate and the error stays. With rows of 0 and 1 as targets the predictions
    are probabilities of the class 1.

    References
    ----------
    Globus-Harris, Harrison, Kearns, Roth and Sorrell, "Multicalibration as Boosting for
    Regression", ICML 2023, arXiv:2301.13767, algorithm 1 and section 4.

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> from skpapers.calibration import LevelSetBoostingRegressor
    >>> X, y = make_friedman1(2000, noise=1, random_state=0)
    >>> model = LevelSetBoostingRegressor(random_state=0).fit(X[:1000], y[:1000])
    >>> bool(model.score(X[1000:], y[1000:]) > 0.65)
    True
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "init": [HasMethods(["predict"]), StrOptions({"mean"}), None],
        "n_levels": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "max_rounds": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, 1, closed="right")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "min_samples_level": [Interval(Integral, 0, None, closed="left")],
        "binning": [StrOptions({"uniform", "quantile"})],
        "center": [StrOptions({"grid", "mean"})],
        "round_output": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
        "val_gain": [Interval(Real, 0, 1, closed="left")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    _search_space = {
        "n_levels": [5, 10, 20, 50],
        "learning_rate": [0.3, 1.0],
        "min_samples_level": [10, 20, 50],
    }

    def __init__(
        self,
        estimator=None,
        *,
        init=None,
        n_levels="auto",
        max_rounds=100,
        learning_rate=1.0,
        tol=1e-4,
        min_samples_level=20,
        binning="uniform",
        center="grid",
        round_output=False,
        validation_fraction=None,
        val_gain=0.02,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.init = init
        self.n_levels = n_levels
        self.max_rounds = max_rounds
        self.learning_rate = learning_rate
        self.tol = tol
        self.min_samples_level = min_samples_level
        self.binning = binning
        self.center = center
        self.round_output = round_output
        self.validation_fraction = validation_fraction
        self.val_gain = val_gain
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags, inner = super().__sklearn_tags__(), get_tags(self._base())
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        return tags

    def _base(self):
        return DecisionTreeRegressor(max_depth=1) if self.estimator is None else self.estimator

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Fit the rounds.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows, as `estimator` takes them.
        y : array-like of shape (n_samples,)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts, in `min_samples_level` and `n_levels` too. `estimator` must
            take weights.

        Returns
        -------
        self : object
            The fitted regressor.
        """
        X, y, weight = self._validate(X, y, sample_weight)
        rng = check_random_state(self.random_state)
        train, held_out = self._split(X, y, weight, draw_seed(rng))
        self.y_range_ = (float(train.y.min()), float(train.y.max()))
        self.levels_ = self._grid(train)
        self.init_ = self._fit_init(train, rng)
        self._boost(train, held_out, rng)
        return self

    def _validate(self, X, y, sample_weight):
        X, y = validate_data(self, X, y, skip_check_array=True)
        X, y = indexable(X, _check_y(y, y_numeric=True, estimator=self).astype(np.float64))
        if sample_weight is None:
            return X, y, None
        if not has_fit_parameter(self._base(), "sample_weight"):
            raise ValueError(f"sample_weight is given, but {self._base()} does not take it")
        weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        rows = np.flatnonzero(weight)
        return _safe_indexing(X, rows), y[rows], weight[rows]

    def _split(self, X, y, weight, seed):
        """Training rows and, if some are to be held out, these."""
        rows = Rows(X, y, weight)
        if self.validation_fraction is None:
            return rows, None
        size = self.validation_fraction
        parts = train_test_split(np.arange(len(y)), test_size=size, random_state=seed)
        return tuple(map(rows.take, parts))

    def _grid(self, train):
        n_levels = self.n_levels
        if n_levels == "auto":
            n_levels = int(np.clip(train.count(slice(None)) // 80, 5, 50))
        if self.binning == "quantile":
            return quantile_levels(train.y, n_levels, train.weight)
        return uniform_levels(*self.y_range_, n_levels)

    def _fit_init(self, train, rng):
        if self.init is not None and not isinstance(self.init, str) and is_fitted(self.init):
            return self.init
        init = self._base() if self.init is None else self.init
        init = DummyRegressor() if isinstance(init, str) else clone(init)
        return train.fit(seed_estimator(init, rng), slice(None))

    def _boost(self, train, held_out, rng):
        """Add rounds until the error no longer falls."""
        parts = [train] if held_out is None else [train, held_out]
        for part in parts:
            part.f = clipped(self.init_.predict(part.X), self.y_range_)
            part.errors = [part.error(self.y_range_)]
        self.rounds_, values = [], [self._values(train)]
        while len(self.rounds_) < self.max_rounds:
            models = self._fit_level_sets(train, rng)
            if held_out is not None:
                models = self._accepted(models, values[-1], held_out)
            if not models:
                break
            for part in parts:
                part.f = self._replaced(part.X, part.f, models, values[-1])
                part.errors.append(part.error(self.y_range_))
            self.rounds_.append(models)
            values.append(self._values(train))
            if self.verbose:
                print(f"[LevelSetBoosting] round {self.n_rounds_}, error {train.errors[-1]:.6g}")
            if held_out is None and self._is_flat(train.errors):
                break
        else:
            self._warn(held_out)
        self.values_, self.train_errors_ = np.array(values), train.errors
        if held_out is not None:
            self.validation_errors_ = held_out.errors

    def _values(self, train):
        """What a prediction in each cell is rounded to."""
        if self.center == "grid":
            return self.levels_
        return cell_means(train, nearest_level(train.f, self.levels_), self.levels_)

    def _fit_level_sets(self, train, rng):
        """Fit a regressor to every level set that is large enough."""
        template = seed_estimator(clone(self._base()), rng)
        sets = rows_of_cells(nearest_level(train.f, self.levels_))
        large = {k: r for k, r in sets.items() if train.count(r) > self.min_samples_level}
        fitted = Parallel(n_jobs=self.n_jobs, prefer="threads")(
            delayed(train.fit)(clone(template), rows) for rows in large.values()
        )
        return dict(zip(large, fitted))

    def _accepted(self, models, values, held_out):
        """Keep the regressors that lower the held-out error of their level set enough."""
        cells = nearest_level(held_out.f, self.levels_)
        new = self._replaced(held_out.X, held_out.f, models, values)
        before = cell_sums(held_out.weighted((held_out.y - values[cells]) ** 2), cells, values)
        after = cell_sums(held_out.weighted((held_out.y - new) ** 2), cells, values)
        return {k: m for k, m in models.items() if after[k] < (1 - self.val_gain) * before[k]}

    def _replaced(self, X, f, models, values):
        """Predictions after a round."""
        cells = nearest_level(f, self.levels_)
        f = values[cells]
        for cell, rows in rows_of_cells(cells).items():
            if cell in models:
                h = models[cell].predict(take_rows(X, rows))
                f[rows] += self.learning_rate * (h - f[rows])
        return clipped(f, self.y_range_)

    def _is_flat(self, errors):
        return self.n_rounds_ >= _FIRST_ROUNDS and errors[-2] - errors[-1] <= self.tol

    def _warn(self, held_out):
        if held_out is None and self.tol > 0:
            warnings.warn(
                f"max_rounds={self.max_rounds} ended before the error stopped falling by "
                f"tol={self.tol}: raise max_rounds or tol",
                ConvergenceWarning,
            )

    @property
    def n_rounds_(self):
        """Number of rounds."""
        return len(self.rounds_)

    def staged_predict(self, X):
        """Predict with the first regressor alone, and after each round.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Yields
        ------
        ndarray of shape (n_samples,)
            Predictions; there are `n_rounds_` + 1 of them.
        """
        check_is_fitted(self)
        f = clipped(self.init_.predict(X), self.y_range_)  # its words on X are the clearer
        (X,) = indexable(validate_data(self, X, reset=False, skip_check_array=True))
        dtype = np.float32 if getattr(X, "dtype", None) == np.float32 else np.float64
        for models, values in zip([*self.rounds_, None], self.values_):
            output = values[nearest_level(f, self.levels_)] if self.round_output else f
            yield output.astype(dtype)
            if models is not None:
                f = self._replaced(X, f, models, values)

    def predict(self, X):
        """Predict the target.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predictions.
        """
        *_, last = self.staged_predict(X)
        return last

    def level_set(self, X):
        """Tell which level set each row is in.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Index of the value of `levels_` that is nearest to the prediction.
        """
        return nearest_level(self.predict(X), self.levels_)


class Rows:
    """Rows with their targets, weights, and the predictions so far."""

    def __init__(self, X, y, weight):
        self.X, self.y, self.weight = X, y, weight

    def take(self, rows):
        weight = None if self.weight is None else self.weight[rows]
        return Rows(take_rows(self.X, rows), self.y[rows], weight)

    def count(self, rows):
        return len(self.y[rows]) if self.weight is None else self.weight[rows].sum()

    def weighted(self, values):
        return values if self.weight is None else self.weight * values

    def error(self, y_range):
        """Mean squared error, in units of the squared range."""
        square = np.average((self.y - self.f) ** 2, weights=self.weight)
        return float(square / span(y_range) ** 2)

    def fit(self, model, rows):
        weight = {} if self.weight is None else {"sample_weight": self.weight[rows]}
        return model.fit(take_rows(self.X, rows), self.y[rows], **weight)


def take_rows(X, rows):
    """Select rows; for arrays without the search for what kind of table it is."""
    return X[rows] if isinstance(X, np.ndarray) else _safe_indexing(X, rows)


def span(y_range):
    """Length of the range; 1 where all targets are the same."""
    low, high = y_range
    return high - low if high > low else 1.0


def clipped(f, y_range):
    """Predictions as one float64 column, within the range of the targets."""
    return np.clip(np.asarray(f, dtype=np.float64).reshape(-1), *y_range)


def is_fitted(estimator):
    """Whether an estimator says that it is fitted."""
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True


def rows_of_cells(cells):
    """The rows in each cell that has some, by one sort."""
    order = np.argsort(cells, kind="stable")
    present, first = np.unique(cells[order], return_index=True)
    return dict(zip(present.tolist(), np.split(order, first[1:])))


def cell_sums(values, cells, levels):
    """Sum of `values` over the rows of each cell."""
    return np.bincount(cells, values, minlength=len(levels))


def cell_means(train, cells, levels):
    """Mean target in each cell; the level itself where there is no row."""
    share = cell_sums(train.weighted(np.ones(len(cells))), cells, levels)
    total = cell_sums(train.weighted(train.y), cells, levels)
    return np.where(share > 0, total / np.where(share > 0, share, 1), levels)
