"""Curriculum learning: easy rows first, by a choice of what easy means."""

from math import ceil
from numbers import Integral, Real

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    RegressorMixin,
    _fit_context,
)
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from tqdm.auto import tqdm

from skpapers.utils import check_random_state

from ._curriculum_batches import SCHEDULES, batches, easy_first, pacing, train
from ._difficulty_scores import _SCORING, new_model, score_rows

__all__ = ["CurriculumClassifier", "CurriculumRegressor"]


class _Curriculum(MetaEstimatorMixin, BaseEstimator):
    """What the classifier and the regressor share: scores, order, pacing, training."""

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "partial_fit", "predict"]), None],
        "scoring": _SCORING,
        "schedule": [StrOptions(set(SCHEDULES))],
        "order": [StrOptions({"easy", "hard", "random"})],
        "start_fraction": [Interval(Real, 0, 1, closed="right")],
        "end_fraction": [Interval(Real, 0, 1, closed="right")],
        "growth": [Interval(Real, 1, None, closed="neither")],
        "ramp": [Interval(Real, 0, 1, closed="right")],
        "ensemble_size": [Interval(Integral, 1, None, closed="left")],
        "cv": [Interval(Integral, 2, None, closed="left")],
        "scorer": [HasMethods(["fit", "predict"]), "array-like", None],
        "image_shape": [tuple, list, None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    _search_space = {
        "scoring": ["transfer", "feature:knn"],
        "schedule": ["fixed_exponential", "linear", "none"],
        "end_fraction": [0.7, 1.0],
    }

    @staticmethod
    def _small_params():
        return {"max_epochs": 20, "cv": 3}

    def _fit_in_order(self, X, y, difficulty, labels):
        rng = check_random_state(self.random_state)
        self.difficulty_ = self._difficulty(X, y, difficulty, labels is not None, rng)
        model = self.estimator_ = new_model(self.estimator, labels is not None, rng)
        key = {"easy": self.difficulty_, "hard": -self.difficulty_, "random": np.zeros(len(X))}
        balance = labels if getattr(self, "balance", False) else None
        self.order_ = easy_first(key[self.order], balance, rng)
        per_epoch = ceil(len(X) / self.batch_size)
        self.pacing_ = pacing(
            self.schedule,
            self.max_epochs * per_epoch,
            len(X),
            start=self.start_fraction,
            end=self.end_fraction,
            growth=self.growth,
            ramp=self.ramp,
            per_epoch=per_epoch,
        )
        rows = tqdm(
            batches(self.order_, self.pacing_, self.batch_size, rng),
            total=len(self.pacing_),
            desc=type(self).__name__,
            disable=not self.verbose,
        )
        train(model, X, y, rows, None if labels is None else self.classes_)
        return self

    def _difficulty(self, X, y, difficulty, is_labels, rng):
        if difficulty is not None:
            difficulty = column_or_1d(difficulty)
            check_consistent_length(X, difficulty)
        return score_rows(
            self.scoring if difficulty is None else difficulty,
            X,
            y,
            rng=rng,
            is_labels=is_labels,
            estimator=self.estimator,
            scorer=self.scorer,
            cv=self.cv,
            ensemble_size=self.ensemble_size,
            image_shape=self.image_shape,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
        )

    def _ask(self, method, X):
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return getattr(self.estimator_, method)(X)


def _has(method):
    """Whether the estimator, fitted or to be fitted, has a method; the default network does."""

    def check(self):
        inner = getattr(self, "estimator_", self.estimator)
        return inner is None or hasattr(inner, method)

    return available_if(check)


class CurriculumClassifier(ClassifierMixin, _Curriculum):
    """Train a classifier on easy rows first, by a choice of what easy means.

    Every row gets a score of difficulty. Training starts on the easiest share of the rows, which
    grows by a schedule; the number of steps is that of ordinary training. Whether, and with which
    score, this helps is a question to the data: labels that are wrong are difficult, and a
    network that sees them late, or never, memorises fewer of them.

    Parameters
    ----------
    estimator : estimator, default=None
        Classifier with ``partial_fit``, called once a batch; None for
        :class:`NeuralClassifier` with its default parameters.
    scoring : str, callable, array-like or list, default="transfer"
        Score of difficulty: a name or function as of :func:`difficulty_scores`; a list of these
        for the mean of their ranks; or the scores themselves.
    schedule : str, default="fixed_exponential"
        How the share of the rows grows: "fixed_exponential" by a factor at equal intervals,
        "linear", "root" (its square is linear), "step" at once, "cyclic" (by a factor each epoch,
        up and down again), or "none", all rows from the start.
    order : {"easy", "hard", "random"}, default="easy"
        Which rows come first; "random" is the control that shows what the order is worth.
    start_fraction : float, default=0.1
        Share of the rows at the start, in (0, 1].
    end_fraction : float, default=1.0
        Largest share; below 1 the last rows of the order are never shown.
    growth : float, default=1.9
        Factor of "fixed_exponential" and "cyclic".
    ramp : float, default=0.5
        Share of the steps after which all rows are available; not used by "cyclic".
    balance : bool, default=True
        Keep the shares of the classes: they are ordered one by one, and interleaved.
    ensemble_size : int, default=1
        Number of trainings of ``scoring="ensemble:self"``.
    cv : int, default=5
        Number of folds of ``scoring="transfer"``.
    scorer : estimator or list of estimators, default=None
        For ``scoring="transfer"`` and ``"ensemble:transfer"``.
    image_shape : tuple of int, default=None
        Shape of the image in a row, for ``scoring="feature:edges"``.
    max_epochs : int, default=50
        Length of the training, in steps that would be passes over all rows.
    batch_size : int, default=64
        Rows in a batch.
    random_state : int, RandomState instance or None, default=None
        Seed of scores, order, batches, and of an estimator that has none.
    verbose : int, default=0
        1 shows a progress bar over the steps.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    estimator_ : estimator
        The trained estimator.
    difficulty_ : ndarray of shape (n_samples,)
        Scores, low for easy rows.
    order_ : ndarray of shape (n_samples,)
        Rows in the order in which they become available.
    pacing_ : ndarray of shape (n_steps,)
        Number of rows available at each step.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    Training costs what it does without a curriculum, and "transfer" `cv` fits of the scorer on
    top. With 30 per cent wrong labels in the digits, and a training long enough to memorise them,
    easy-first orders gain two to four points of accuracy, and two to six with
    ``end_fraction=0.65``; a scorer that fits the wrong labels itself gains less.
    After a short training, and on clean labels, they gain nothing, and lose up to some points: a
    training that stops early does as well as any of these.

    There is no `sample_weight`: the pace counts rows.

    References
    ----------
    .. [1] H. T. Kesgin, M. F. Amasyali, "Development and Comparison of Scoring Functions in
       Curriculum Learning", 2022, arXiv:2202.06823.
    .. [2] G. Hacohen, D. Weinshall, "On The Power of Curriculum Learning in Training Deep
       Networks", ICML 2019, arXiv:1904.03626, section 2.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skpapers.neural_network import CurriculumClassifier, NeuralClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> network = NeuralClassifier(lr=0.01)
    >>> model = make_pipeline(StandardScaler(), CurriculumClassifier(network, random_state=0))
    >>> bool(model.fit(X, y).score(X, y) > 0.95)
    True
    """

    _parameter_constraints = {**_Curriculum._parameter_constraints, "balance": ["boolean"]}

    def __init__(
        self,
        estimator=None,
        *,
        scoring="transfer",
        schedule="fixed_exponential",
        order="easy",
        start_fraction=0.1,
        end_fraction=1.0,
        growth=1.9,
        ramp=0.5,
        balance=True,
        ensemble_size=1,
        cv=5,
        scorer=None,
        image_shape=None,
        max_epochs=50,
        batch_size=64,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.scoring = scoring
        self.schedule = schedule
        self.order = order
        self.start_fraction = start_fraction
        self.end_fraction = end_fraction
        self.growth = growth
        self.ramp = ramp
        self.balance = balance
        self.ensemble_size = ensemble_size
        self.cv = cv
        self.scorer = scorer
        self.image_shape = image_shape
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, difficulty=None):
        """Score the rows, and train on them in order.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Class labels.
        difficulty : array-like of shape (n_samples,), default=None
            Scores that are known already, in place of `scoring`.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If there are fewer than two classes, or scores are not finite.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError(f"y needs at least two classes, got one class: {self.classes_[0]!r}")
        return self._fit_in_order(X, y, difficulty, y)

    def predict(self, X):
        """Predict class labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels.
        """
        return self._ask("predict", X)

    @_has("predict_proba")
    def predict_proba(self, X):
        """Compute class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, in the order of ``classes_``.
        """
        return self._ask("predict_proba", X)

    @_has("decision_function")
    def decision_function(self, X):
        """Compute the decision function of the estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Its values.
        """
        return self._ask("decision_function", X)


class CurriculumRegressor(RegressorMixin, _Curriculum):
    """Train a regressor on easy rows first, by a choice of what easy means.

    As :class:`CurriculumClassifier`, for a numeric target, which is standardised.

    Parameters
    ----------
    estimator : estimator, default=None
        Regressor with ``partial_fit``, called once a batch; None for :class:`NeuralRegressor`
        with its default parameters.
    scoring : str, callable, array-like or list, default="transfer"
        Score of difficulty: a name or function as of :func:`difficulty_scores`; a list of these
        for the mean of their ranks; or the scores themselves.
    schedule : str, default="fixed_exponential"
        How the share of the rows grows: "fixed_exponential", "linear", "root", "step", "cyclic"
        or "none"; see :class:`CurriculumClassifier`.
    order : {"easy", "hard", "random"}, default="easy"
        Which rows come first; "random" is the control that shows what the order is worth.
    start_fraction : float, default=0.1
        Share of the rows at the start, in (0, 1].
    end_fraction : float, default=1.0
        Largest share; below 1 the last rows of the order are never shown.
    growth : float, default=1.9
        Factor of "fixed_exponential" and "cyclic".
    ramp : float, default=0.5
        Share of the steps after which all rows are available; not used by "cyclic".
    ensemble_size : int, default=1
        Number of trainings of ``scoring="ensemble:self"``.
    cv : int, default=5
        Number of folds of ``scoring="transfer"``.
    scorer : estimator or list of estimators, default=None
        For ``scoring="transfer"`` and ``"ensemble:transfer"``.
    image_shape : tuple of int, default=None
        Shape of the image in a row, for ``scoring="feature:edges"``.
    max_epochs : int, default=50
        Length of the training, in steps that would be passes over all rows.
    batch_size : int, default=64
        Rows in a batch.
    random_state : int, RandomState instance or None, default=None
        Seed of scores, order, batches, and of an estimator that has none.
    verbose : int, default=0
        1 shows a progress bar over the steps.

    Attributes
    ----------
    estimator_ : estimator
        The trained estimator.
    difficulty_ : ndarray of shape (n_samples,)
        Scores, low for easy rows.
    order_ : ndarray of shape (n_samples,)
        Rows in the order in which they become available.
    pacing_ : ndarray of shape (n_steps,)
        Number of rows available at each step.
    y_mean_ : float
        Mean of the target.
    y_scale_ : float
        Standard deviation of the target; 1 for a constant one.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    Cost and what to expect are those of :class:`CurriculumClassifier`. The target is standardised
    with all rows, as the easiest of them may all be alike.

    References
    ----------
    .. [1] H. T. Kesgin, M. F. Amasyali, "Development and Comparison of Scoring Functions in
       Curriculum Learning", 2022, arXiv:2202.06823.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skpapers.neural_network import CurriculumRegressor, NeuralRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = CurriculumRegressor(NeuralRegressor(lr=0.01), random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.5)
    True
    """

    def __init__(
        self,
        estimator=None,
        *,
        scoring="transfer",
        schedule="fixed_exponential",
        order="easy",
        start_fraction=0.1,
        end_fraction=1.0,
        growth=1.9,
        ramp=0.5,
        ensemble_size=1,
        cv=5,
        scorer=None,
        image_shape=None,
        max_epochs=50,
        batch_size=64,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.scoring = scoring
        self.schedule = schedule
        self.order = order
        self.start_fraction = start_fraction
        self.end_fraction = end_fraction
        self.growth = growth
        self.ramp = ramp
        self.ensemble_size = ensemble_size
        self.cv = cv
        self.scorer = scorer
        self.image_shape = image_shape
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, difficulty=None):
        """Score the rows, and train on them in order.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Target.
        difficulty : array-like of shape (n_samples,), default=None
            Scores that are known already, in place of `scoring`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], y_numeric=True)
        y = y.astype(np.float64)
        self.y_mean_, spread = float(y.mean()), float(y.std())
        self.y_scale_ = spread if spread > 0 else 1.0
        return self._fit_in_order(X, (y - self.y_mean_) / self.y_scale_, difficulty, None)

    def predict(self, X):
        """Predict the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predictions.
        """
        output = self._ask("predict", X)
        return (output * self.y_scale_ + self.y_mean_).astype(output.dtype, copy=False)
