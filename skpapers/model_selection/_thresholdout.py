"""Search for parameters on one holdout that many rounds of search may share."""

import warnings
from numbers import Integral, Real

import numpy as np
from joblib import Parallel, delayed
from scipy.stats import rankdata
from sklearn.base import (
    BaseEstimator,
    MetaEstimatorMixin,
    _fit_context,
    clone,
    is_classifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    ParameterGrid,
    ParameterSampler,
    ShuffleSplit,
    StratifiedShuffleSplit,
)
from sklearn.utils import _safe_indexing, column_or_1d, get_tags, indexable
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _num_samples, check_is_fitted, validate_data

from skpapers.utils import check_random_state, draw_seed, seed_estimator

from ._query_mechanisms import BudgetExhaustedError, LaplaceQueries, bounded_values
from ._reusable_holdout import _MECHANISM, _SCORING, Thresholdout, row_scorer

__all__ = ["ReusableHoldoutSearchCV"]

_DEFAULT_GRID = {"C": [1e-3, 1e-2, 1e-1, 1.0, 10.0]}
_N_SAMPLED = 10


def _has(method):
    return available_if(
        lambda self: hasattr(getattr(self, "best_estimator_", self._base()), method)
    )


class ReusableHoldoutSearchCV(MetaEstimatorMixin, BaseEstimator):
    """Search for parameters on one holdout, which the search cannot overfit.

    Every candidate is fitted once, to a training part of the data, and scored on the rest by
    :class:`Thresholdout`: by its training score where the holdout does not contradict that,
    else by a noisy holdout score, which costs budget. Candidates may depend on the scores of
    earlier ones, and several searches may share one holdout.

    Parameters
    ----------
    estimator : estimator, default=None
        Classifier or regressor; None is ``LogisticRegression(max_iter=1000)``.
    param_space : dict, list of dict, callable or None, default=None
        Lists of values: all combinations. With a scipy distribution among them: `n_iter` draws.
        A function is given the list of earlier `{"params": ..., "score": ...}`, and returns
        the next parameters, or None to end. None is a grid of `C` for the default estimator,
        else the estimator as it is.
    n_iter : int, default=None
        Largest number of candidates. None is 10 for distributions, else unlimited.
    holdout_size : float, default=0.3
        Share of the rows held out; stratified for classifiers.
    mechanism : {"thresholdout", "laplace", "none"}, default="thresholdout"
        What answers: "laplace" adds noise to every holdout score, "none" nothing.
    threshold : float, default=0.04
        As in :class:`Thresholdout`, in units of the score.
    noise : float, default=None
        As in :class:`Thresholdout`: None is `threshold` / 10.
    budget : int, default=None
        Number of answers from the holdout; None is its number of rows.
    holdout : Thresholdout, default=None
        A holdout to share with other searches, whose settings replace `mechanism`, `threshold`,
        `noise` and `budget`. Without data it is given the split of this search; with data,
        these are used for all candidates, and `X` and `y` for the last fit only.
    scoring : {"accuracy", "squared_error"}, callable or None, default=None
        Mean over rows of values in [0, 1]: accuracy; one minus the squared error over the variance
        of the training targets, at least 0; or a function of estimator, X and y that returns
        them. None is "squared_error" for regressors, else "accuracy".
    on_exhausted : {"stop", "raise"}, default="stop"
        End the search with a warning when the budget is used up, or raise.
    refit : bool, default=True
        Whether to fit the best candidate to all rows. False keeps its fit to the training part,
        of which alone `best_score_` speaks.
    n_jobs : int, default=None
        Number of jobs that fit candidates, unless `param_space` is a function.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the split, the noise, the draws of parameters, and (unless None) every
        `random_state` of the estimator that is None.

    Attributes
    ----------
    best_estimator_ : estimator
        The best candidate, fitted.
    best_params_ : dict
        Its parameters.
    best_score_ : float
        The answer to it. It may exceed the truth by `threshold`.
    best_index_ : int
        Its position in `cv_results_`.
    cv_results_ : dict of ndarrays
        `params`, `mean_test_score` (the answers), `mean_train_score`, `overfits` (whether an
        answer cost budget) and `rank_test_score`.
    holdout_ : object
        The mechanism, with its `history_`; None for "none".
    scorer_ : callable
        Function of estimator, X and y that gives the values a row that are averaged.
    classes_ : ndarray of shape (n_classes,)
        Class labels, if the estimator is a classifier.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had string column names.

    Raises
    ------
    BudgetExhaustedError
        If the budget does not suffice for one candidate, or `on_exhausted` is "raise".

    Notes
    -----
    One fit a candidate, against as many as there are folds in a grid search. It wins clearly
    where many candidates, each of which fits the training part about as well as the holdout, are
    combined by their scores: the attack of the paper. Candidates that overfit the training part by
    themselves, which is usual in tuning, are all answered by the holdout plus noise; then a plain
    holdout is as good, and a warning says so. Small holdouts (below 2500 rows for the
    default threshold) cannot tell overfitting from chance, which is also warned of.

    References
    ----------
    Dwork, Feldman, Hardt, Pitassi, Reingold and Roth, "Preserving Statistical Validity in
    Adaptive Data Analysis", STOC 2015, arXiv:1411.2664; "Generalization in Adaptive Data
    Analysis and Holdout Reuse", NeurIPS 2015, arXiv:1506.02629.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skpapers.model_selection import ReusableHoldoutSearchCV
    >>> X, y = load_digits(return_X_y=True)
    >>> search = ReusableHoldoutSearchCV(
    ...     GaussianNB(), {"var_smoothing": [1e-9, 1e-3, 1e-1]}, threshold=0.1, random_state=0
    ... )
    >>> search.fit(X, y).best_params_
    {'var_smoothing': 0.1}
    """

    _parameter_constraints: dict = {
        **_MECHANISM,
        "estimator": [HasMethods(["fit", "predict"]), None],
        "param_space": [dict, list, callable, None],
        "n_iter": [Interval(Integral, 1, None, closed="left"), None],
        "holdout_size": [Interval(Real, 0, 1, closed="neither")],
        "mechanism": [StrOptions({"thresholdout", "laplace", "none"})],
        "holdout": [Thresholdout, None],
        "scoring": _SCORING,
        "on_exhausted": [StrOptions({"stop", "raise"})],
        "refit": ["boolean"],
        "n_jobs": [Integral, None],
    }

    _search_space = {"holdout_size": [0.2, 0.3, 0.5], "threshold": [0.04, 0.08]}

    def __init__(
        self,
        estimator=None,
        param_space=None,
        *,
        n_iter=None,
        holdout_size=0.3,
        mechanism="thresholdout",
        threshold=0.04,
        noise=None,
        budget=None,
        holdout=None,
        scoring=None,
        on_exhausted="stop",
        refit=True,
        n_jobs=None,
        random_state=None,
    ):
        self.estimator = estimator
        self.param_space = param_space
        self.n_iter = n_iter
        self.holdout_size = holdout_size
        self.mechanism = mechanism
        self.threshold = threshold
        self.noise = noise
        self.budget = budget
        self.holdout = holdout
        self.scoring = scoring
        self.on_exhausted = on_exhausted
        self.refit = refit
        self.n_jobs = n_jobs
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags, inner = super().__sklearn_tags__(), get_tags(self._base())
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags, tags.regressor_tags = inner.classifier_tags, inner.regressor_tags
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.target_tags.required = True
        return tags

    def _base(self):
        return LogisticRegression(max_iter=1000) if self.estimator is None else self.estimator

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y):
        """Search, and fit the best candidate.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Targets.

        Returns
        -------
        self : object
            The fitted search.
        """
        X, y = self._validate(X, y)
        rng = check_random_state(self.random_state)
        split, noise, draws, models = (draw_seed(rng) for _ in range(4))
        model = clone(self._base())
        if self.random_state is not None:
            model = seed_estimator(model, check_random_state(models))
        parts = self._parts(X, y, split)
        self.scorer_ = row_scorer(model, self.scoring, parts[0][1])
        self.holdout_ = self._mechanism(parts, noise)
        best, results = self._search(model, parts, draws)
        self.cv_results_ = tabulated(results)
        if isinstance(self.holdout_, Thresholdout):
            warn_if_plain(self.cv_results_["overfits"])
        self.best_index_ = int(np.argmax(self.cv_results_["mean_test_score"]))
        self.best_params_ = results[self.best_index_]["params"]
        self.best_score_ = float(results[self.best_index_]["score"])
        self.best_estimator_ = best
        if self.refit:
            self.best_estimator_ = clone(model).set_params(**self.best_params_).fit(X, y)
        return self

    def _validate(self, X, y):
        validate_data(self, X, y, skip_check_array=True)
        X, y = indexable(X, y)
        if _num_samples(X) < 2:
            raise ValueError(f"a split needs 2 rows, got n_samples={_num_samples(X)}")
        if is_classifier(self._base()):
            y = column_or_1d(y, warn=True)
            check_classification_targets(y)
        return X, np.asarray(y)

    def _parts(self, X, y, seed):
        """Training part and holdout, each as rows and targets."""
        if self.holdout is not None and self.holdout.has_data:
            return self.holdout._train, self.holdout._holdout
        kind = StratifiedShuffleSplit if is_classifier(self._base()) else ShuffleSplit
        splitter = kind(n_splits=1, test_size=self.holdout_size, random_state=seed)
        rows = next(splitter.split(np.zeros(len(y)), y))
        parts = tuple((_safe_indexing(X, r), y[r]) for r in rows)
        if self.holdout is not None:
            self.holdout.set_data(*parts[0], *parts[1])
        return parts

    def _mechanism(self, parts, seed):
        """What answers; None for the plain holdout."""
        if self.holdout is not None or self.mechanism == "none":
            return self.holdout
        if self.mechanism == "laplace":
            n_holdout = _num_samples(parts[1][0])
            n_queries = n_holdout if self.budget is None else self.budget
            noise = self.threshold / 10 if self.noise is None else self.noise
            if noise == 0:
                raise ValueError("noise must be positive for mechanism='laplace'")
            epsilon = n_queries / (n_holdout * noise)  # the loss that this noise stands for
            return LaplaceQueries(epsilon, n_queries, random_state=seed).set_data(*parts[1])
        thresholdout = Thresholdout(self.threshold, self.noise, self.budget, random_state=seed)
        return thresholdout.set_data(*parts[0], *parts[1])

    def _search(self, model, parts, seed):
        """Answers to all candidates, and the best of them as it was fitted."""
        results, best, best_score = [], None, -np.inf
        for params, fitted, train_values, holdout_values in self._fits(
            model, parts, seed, results
        ):
            try:
                score, overfits = self._answer(train_values.mean(), holdout_values)
            except BudgetExhaustedError:
                if self.on_exhausted == "raise" or not results:
                    raise
                warnings.warn(
                    f"The budget of the holdout ended the search after {len(results)} candidates.",
                    UserWarning,
                )
                break
            if score > best_score:
                best, best_score = fitted, score
            result = {"params": params, "score": score}
            results.append({**result, "train": train_values.mean(), "overfits": overfits})
        return best, results

    def _fits(self, model, parts, seed, results):
        """Yield the candidates, fitted and with their values on both parts."""
        if not callable(self.param_space):
            space = self.param_space
            if space is None:
                space = _DEFAULT_GRID if self.estimator is None else {}
            yield from Parallel(n_jobs=self.n_jobs)(
                delayed(fitted_values)(model, params, parts, self.scorer_)
                for params in candidates(space, self.n_iter, seed)
            )
            return
        while self.n_iter is None or len(results) < self.n_iter:
            history = [{name: result[name] for name in ("params", "score")} for result in results]
            params = self.param_space(history)
            if params is None:
                return
            yield fitted_values(model, params, parts, self.scorer_)

    def _answer(self, train_mean, holdout_values):
        if self.holdout_ is None:
            return holdout_values.mean(), True
        if isinstance(self.holdout_, LaplaceQueries):
            return self.holdout_.query(lambda X, y: holdout_values), True
        budget = self.holdout_.budget_remaining_
        answer = self.holdout_.query_means([train_mean], [holdout_values.mean()])[0]
        if np.isnan(answer):  # how a shared holdout may say so
            raise BudgetExhaustedError("the holdout has answered all that its budget allows")
        return answer, self.holdout_.budget_remaining_ < budget

    @property
    def classes_(self):
        """Class labels, if the estimator is a classifier."""
        check_is_fitted(self)
        return self.best_estimator_.classes_

    def _call(self, method, X):
        check_is_fitted(self)  # what X must be is for the candidate to judge
        return getattr(self.best_estimator_, method)(X)

    def predict(self, X):
        """Predict with the best candidate.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predictions.
        """
        return self._call("predict", X)

    @_has("predict_proba")
    def predict_proba(self, X):
        """Predict class probabilities with the best candidate, if it can.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities.
        """
        return self._call("predict_proba", X)

    @_has("decision_function")
    def decision_function(self, X):
        """Compute the decision function of the best candidate, if it has one.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Values, as the candidate defines them.
        """
        return self._call("decision_function", X)

    def score(self, X, y):
        """Score the best candidate on other data, as the search does, without a mechanism.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Targets.

        Returns
        -------
        float
            Mean of the values of `scorer_`.
        """
        check_is_fitted(self)
        return float(np.mean(self.scorer_(self.best_estimator_, X, y)))


def candidates(space, n_iter, seed):
    """Parameters to try: all combinations of lists, or draws."""
    spaces = space if isinstance(space, list) else [space]
    if any(hasattr(values, "rvs") for s in spaces for values in s.values()):
        n_sampled = _N_SAMPLED if n_iter is None else n_iter
        return list(ParameterSampler(space, n_sampled, random_state=seed))
    return list(ParameterGrid(space))[:n_iter]


def fitted_values(model, params, parts, scorer):
    """Fit a candidate to the training part; its values on the rows of both parts."""
    fitted = clone(model).set_params(**params).fit(*parts[0])
    values = (bounded_values(lambda X, y: scorer(fitted, X, y), *part) for part in parts)
    return params, fitted, *values


def tabulated(results):
    """Results as columns."""
    scores = np.array([result["score"] for result in results])
    return {
        "params": np.array([result["params"] for result in results], dtype=object),
        "mean_test_score": scores,
        "mean_train_score": np.array([result["train"] for result in results]),
        "overfits": np.array([result["overfits"] for result in results]),
        "rank_test_score": rankdata(-scores, method="min").astype(int),
    }


def warn_if_plain(overfits):
    """Say so where most answers were holdout means."""
    if len(overfits) > 1 and np.mean(overfits) > 0.5:
        warnings.warn(
            f"{np.mean(overfits):.0%} of the candidates overfit the training part beyond the "
            "threshold: their scores are holdout means plus noise, and the best of many is as "
            "optimistic as with a plain holdout.",
            UserWarning,
        )
