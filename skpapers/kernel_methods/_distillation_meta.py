"""Self-distillation of any estimator."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    MultiOutputMixin,
    RegressorMixin,
    _fit_context,
    clone,
    is_classifier,
)
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import check_cv
from sklearn.utils import get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from skpapers.utils import check_random_state, draw_seed, one_hot

from ._self_distillation import optimal_distillation_weight

__all__ = ["SelfDistillationClassifier", "SelfDistillationRegressor"]


class _SelfDistillation(MetaEstimatorMixin, BaseEstimator):
    """Refit an estimator to a mix of the targets and its own predictions."""

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "target_weight": [
            Interval(Real, 0, 1, closed="both"),
            StrOptions({"optimal"}),
            "array-like",
        ],
        "cv": ["cv_object"],
        "random_state": ["random_state", np.random.Generator],
    }

    _search_space = {"n_steps": [2, 3, 5], "target_weight": ["optimal", 0.2, 0.5]}

    def __init__(
        self, estimator=None, *, n_steps=3, target_weight="optimal", cv=5, random_state=None
    ):
        self.estimator = estimator
        self.n_steps = n_steps
        self.target_weight = target_weight
        self.cv = cv
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = get_tags(self._base()).input_tags.sparse
        return tags

    def _base(self):
        return KernelRidge(kernel="rbf") if self.estimator is None else self.estimator

    def _clone(self):
        """Clone the estimator, with seeds of its own if `random_state` is given."""
        model = clone(self._base())
        if self.random_state is not None:
            seeds = [name for name in model.get_params() if name.endswith("random_state")]
            model.set_params(**{name: draw_seed(self._rng) for name in sorted(seeds)})
        return model

    def _distill(self, X, targets, folds):
        """Fit the steps; `targets` is what the estimator's outputs are mixed with."""
        self._rng = check_random_state(self.random_state)
        weights = self._find_weights(X, targets, folds)
        self.estimators_, fitted = [], targets
        for weight in weights:
            model = self._clone()
            self._fit_model(model, X, weight * targets + (1 - weight) * fitted)
            self.estimators_.append(model)
            fitted = self._outputs(model, X)
        self.target_weights_ = np.asarray(weights)
        self.estimator_ = self.estimators_[-1]
        del self._rng

    def _find_weights(self, X, targets, folds):
        later = self.n_steps - 1
        if isinstance(self.target_weight, str):
            return [1.0] + ([self._best_weight(X, targets, folds)] * later if later else [])
        weights = np.asarray(self.target_weight, dtype=np.float64)
        if weights.ndim and weights.shape != (later,):
            raise ValueError(f"target_weight must be a number or {later} of them, one a step")
        if not ((weights >= 0) & (weights <= 1)).all():
            raise ValueError(f"target_weight must lie in [0, 1], got {self.target_weight!r}")
        return [1.0, *np.broadcast_to(weights, (later,)).tolist()]

    def _best_weight(self, X, targets, folds):
        """Best weight of the second step, from out-of-fold outputs of teacher and student."""
        plain, distilled = np.zeros_like(targets), np.zeros_like(targets)
        for train, test in folds:
            teacher, student = self._clone(), self._clone()
            self._fit_model(teacher, X[train], targets[train])
            self._fit_model(student, X[train], self._outputs(teacher, X[train]))
            plain[test] = self._outputs(teacher, X[test])
            distilled[test] = self._outputs(student, X[test])
        return optimal_distillation_weight(targets, plain, distilled)


class SelfDistillationRegressor(MultiOutputMixin, RegressorMixin, _SelfDistillation):
    """Self-distillation of any regressor, with the best weight of the true targets.

    Each step fits a clone of `estimator` to `target_weight` times the targets plus
    (1 - `target_weight`) times the predictions of the step before.

    Parameters
    ----------
    estimator : regressor, default=None
        What is distilled; None is ``KernelRidge(kernel="rbf")``. Several targets need a
        regressor that predicts several.
    n_steps : int, default=3
        Number of fits; 1 is `estimator` itself.
    target_weight : {"optimal"}, float or array-like of shape (n_steps - 1,), default="optimal"
        Weight of the true targets from the second step on. "optimal" finds the best weight of
        the second step in closed form, from a teacher and a student a fold.
    cv : int, cross-validation generator or iterable, default=5
        Folds for "optimal".
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the clones of `estimator`; None leaves their own `random_state` alone.

    Attributes
    ----------
    estimator_ : regressor
        The last step, used to predict.
    estimators_ : list of regressor
        All steps.
    target_weights_ : ndarray of shape (n_steps,)
        Weight of the targets at every step; the first is 1.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had string column names.

    Notes
    -----
    `n_steps` fits, and 2 fits a fold for "optimal". The weight is exact for estimators that
    are linear in their targets; for others it is a line search along the predictions.

    References
    ----------
    Borup and Andersen, "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen
    Regularization Imposed by Self-Distillation", NeurIPS 2021, arXiv:2102.13088 (Section 5).

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.tree import DecisionTreeRegressor
    >>> from skpapers.kernel_methods import SelfDistillationRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = SelfDistillationRegressor(DecisionTreeRegressor(max_depth=3, random_state=0))
    >>> model.fit(X, y).predict(X).shape
    (442,)
    """

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y):
        """Fit all steps.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X, y = validate_data(
            self, X, y, accept_sparse="csr", copy=True, multi_output=True, y_numeric=True
        )
        y = y.astype(np.result_type(y, np.float32), copy=False)
        folds = check_cv(self.cv).split(X, y)
        self._distill(X, y, folds)
        return self

    def _fit_model(self, model, X, targets):
        model.fit(X, targets)

    def _outputs(self, model, X):
        return model.predict(X)

    def predict(self, X):
        """Predict with the last step.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predictions.
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", reset=False)
        return self.estimator_.predict(X)


class SelfDistillationClassifier(ClassifierMixin, _SelfDistillation):
    """Self-distillation of any classifier or regressor, for classification.

    Each step fits a clone of `estimator` to `target_weight` times the class indicators plus
    (1 - `target_weight`) times the outputs of the step before. A classifier's outputs are its
    probabilities, and it learns soft targets exactly: every row once a class, weighted by that
    class's target. A regressor (of several targets) is fitted to the indicators by squared loss.

    Parameters
    ----------
    estimator : classifier or regressor, default=None
        What is distilled; None is ``KernelRidge(kernel="rbf")`` on the indicators. A classifier
        needs `predict_proba` and `sample_weight` in `fit`.
    n_steps : int, default=3
        Number of fits; 1 is `estimator` itself.
    target_weight : {"optimal"}, float or array-like of shape (n_steps - 1,), default="optimal"
        Weight of the true labels from the second step on. "optimal" finds the weight of the
        second step with the least squared error, from a teacher and a student a fold.
    cv : int, cross-validation generator or iterable, default=5
        Folds for "optimal", stratified if a number.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds the clones of `estimator`; None leaves their own `random_state` alone.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    estimator_ : classifier or regressor
        The last step, used to predict.
    estimators_ : list of classifier or regressor
        All steps.
    target_weights_ : ndarray of shape (n_steps,)
        Weight of the labels at every step; the first is 1.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had string column names.

    Notes
    -----
    `n_steps` fits, and 2 fits a fold for "optimal"; a classifier sees up to n_classes times
    as many rows.

    References
    ----------
    Borup and Andersen, "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen
    Regularization Imposed by Self-Distillation", NeurIPS 2021, arXiv:2102.13088 (Section 5).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skpapers.kernel_methods import SelfDistillationClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = SelfDistillationClassifier(LogisticRegression(max_iter=500), target_weight=0.5)
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    """

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y):
        """Fit all steps.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Class labels.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If `estimator` is a classifier without `predict_proba` or `sample_weight`.
        """
        X, y = validate_data(self, X, y, accept_sparse="csr", copy=True)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        base = self._base()
        soft = hasattr(base, "predict_proba") and has_fit_parameter(base, "sample_weight")
        if is_classifier(base) and not soft:
            raise ValueError("estimator must have predict_proba and take sample_weight in fit")
        folds = check_cv(self.cv, codes, classifier=True).split(X, codes)
        self._distill(X, one_hot(codes, len(self.classes_)), folds)
        return self

    def _fit_model(self, model, X, targets):
        if not is_classifier(model):
            model.fit(X, targets)
            return
        rows, codes = np.nonzero(targets > 0)
        model.fit(X[rows], codes, sample_weight=targets[rows, codes])

    def _outputs(self, model, X):
        if not is_classifier(model):
            return np.reshape(model.predict(X), (X.shape[0], -1))
        outputs = np.zeros((X.shape[0], len(self.classes_)))
        outputs[:, model.classes_] = model.predict_proba(X)
        return outputs

    def predict(self, X):
        """Predict the classes with the last step.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels.
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", reset=False)
        return self.classes_[self._outputs(self.estimator_, X).argmax(axis=1)]

    @available_if(lambda self: is_classifier(self._base()))
    def predict_proba(self, X):
        """Predict class probabilities with the last step, if `estimator` is a classifier.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities.
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", reset=False)
        return self._outputs(self.estimator_, X)
