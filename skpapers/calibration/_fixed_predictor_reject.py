"""Learn where a given predictor had better abstain."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, _fit_context, clone, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import check_cv
from sklearn.preprocessing import StandardScaler
from sklearn.utils import _safe_indexing, check_consistent_length, column_or_1d, get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    has_fit_parameter,
    validate_data,
)

from skpapers.utils import check_random_state, seed_estimator

from ._rejection_losses import check_error, rejection_loss
from ._rejectors import (
    EXP_LIMIT,
    LinearRejector,
    confidence_scores,
    coverage_threshold,
    error_threshold,
    fit_classifier,
    fit_linear,
    fitting_columns,
    outputs,
)

__all__ = ["FixedPredictorRejector"]


def _has(method):
    return available_if(lambda self: hasattr(getattr(self, "estimator_", self._base()), method))


class FixedPredictorRejector(MetaEstimatorMixin, BaseEstimator):
    """A predictor that stays as it is, with a learnt rule of where to reject what it says.

    A second model, the rejector, is trained on where the predictor is wrong. It accepts where the
    probability of an error is less than the cost of a rejection. Unlike a threshold on the largest
    probability, this also finds where the predictor is wrong and sure of itself.

    Parameters
    ----------
    estimator : estimator, default=None
        The predictor, a classifier or regressor; None is ``LogisticRegression(max_iter=1000)``.
    prefit : bool, default=False
        Whether `estimator` is fitted already and used as it is; then fit the rejector to
        rows that it was not fitted to. It may be None here, if `fit` is told what was `correct`.
        Cloning forgets what a fitted estimator has learnt, unless it is a ``FrozenEstimator``.
    cost : float, default=0.1
        Cost of a rejection, in (0, 1), where that of an accepted error is 1.
    alpha : float, default=2.0
        Scale of the rejector: multiplying `alpha` and `beta` divides its output.
    beta : float, default=None
        None is `alpha` / 2, which accepts where the probability of an error is below `cost`; in
        general the bound is 2 * `beta` * `cost` / `alpha`.
    rejector : {"linear", "mlp"} or classifier, default="linear"
        A linear function, a network with 64 hidden units, or a classifier that takes
        `sample_weight` and is trained with the logistic surrogate, whatever `alpha` and `beta`.
    features : {"input", "input+scores"}, default="input"
        What the rejector sees, standardised: the features, or these and the logarithms of the
        three largest probabilities of the predictor (or the three largest values of its decision
        function, or its prediction).
    error : callable, default=None
        Function of the targets and the predictions that returns the error of each row, 0, 1 or
        between. None is whether they differ; for regressors, by more than `tolerance`.
    tolerance : float, default=None
        Largest difference, in units of the target, that is no error; needed for regressors.
    cv : int, cross-validation generator or iterable, default=5
        How to split the rows so that errors are those on rows not fitted to.
    target : float, default=None
        Coverage or error to reach, in (0, 1]; see `target_kind`.
    target_kind : {"cost", "coverage", "error"}, default="cost"
        Accept where the surrogate says so; or move its threshold, by cross-validated outputs, such
        that a share `target` of the rows is accepted, or as many as leave an error of `target`
        among them.
    l2 : float, default=1e-2
        Half the factor of the squared coefficients for "linear", weight decay for "mlp".
    max_iter : int, default=200
        Largest number of iterations for "linear", epochs for "mlp".
    random_state : int, RandomState instance or None, default=None
        Seeds every `random_state` of predictor and rejector that is None.
    device : str, default="auto"
        Where the network is trained: "auto" is CUDA where there is one, else the CPU.
    verbose : int, default=0
        1 shows the progress of the network.
    reject_label : object, default=None
        What `predict_with_reject` says of a rejected row; None masks it.

    Attributes
    ----------
    estimator_ : estimator
        The predictor.
    rejector_ : object
        The rejector, with ``decision_function`` or ``predict_proba`` of standardised features.
    scaler_ : StandardScaler
        What standardises them.
    threshold_ : float
        A row is accepted where the output of the rejector is larger.
    error_rate_ : float
        Share of errors that the rejector was trained on.
    n_iter_ : int
        Number of iterations or epochs of the rejector, unless it is a classifier.
    classes_ : ndarray of shape (n_classes,)
        Class labels, if the predictor is a classifier.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had string column names.

    Notes
    -----
    `cv` + 1 fits of the predictor, or none, and one of the rejector; the linear one costs
    O(n_samples * n_features) an iteration. Where the probabilities of the predictor are a good
    guide, the rejector is not better than a threshold on them, and pays some variance.

    References
    ----------
    Mohri, Andor, Choi, Collins, Mao and Zhong, "Learning to Reject with a Fixed Predictor:
    Application to Decontextualization", ICLR 2024, arXiv:2301.09044, sections 2 to 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.calibration import FixedPredictorRejector
    >>> X = np.random.RandomState(0).normal(size=(1000, 3))
    >>> y = (X[:, 0] > 0) ^ (X[:, 2] > 1)  # a linear classifier is wrong where X[:, 2] > 1
    >>> model = FixedPredictorRejector(cost=0.2).fit(X, y)
    >>> {name: round(value, 2) for name, value in model.selective_score(X, y).items()}
    {'coverage': 0.83, 'selective_error': 0.02, 'rejection_loss': 0.05}
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "prefit": ["boolean"],
        "cost": [Interval(Real, 0, 1, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "beta": [Interval(Real, 0, None, closed="neither"), None],
        "rejector": [StrOptions({"linear", "mlp"}), HasMethods(["fit", "predict"])],
        "features": [StrOptions({"input", "input+scores"})],
        "error": [callable, None],
        "tolerance": [Interval(Real, 0, None, closed="left"), None],
        "cv": ["cv_object"],
        "target": [Interval(Real, 0, 1, closed="right"), None],
        "target_kind": [StrOptions({"cost", "coverage", "error"})],
        "l2": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "device": [str],
        "verbose": ["verbose"],
        "reject_label": "no_validation",
    }

    _search_space = {
        "cost": [0.05, 0.1, 0.2],
        "features": ["input", "input+scores"],
        "l2": [1e-3, 1e-2, 1e-1],
    }

    def __init__(
        self,
        estimator=None,
        *,
        prefit=False,
        cost=0.1,
        alpha=2.0,
        beta=None,
        rejector="linear",
        features="input",
        error=None,
        tolerance=None,
        cv=5,
        target=None,
        target_kind="cost",
        l2=1e-2,
        max_iter=200,
        random_state=None,
        device="auto",
        verbose=0,
        reject_label=None,
    ):
        self.estimator = estimator
        self.prefit = prefit
        self.cost = cost
        self.alpha = alpha
        self.beta = beta
        self.rejector = rejector
        self.features = features
        self.error = error
        self.tolerance = tolerance
        self.cv = cv
        self.target = target
        self.target_kind = target_kind
        self.l2 = l2
        self.max_iter = max_iter
        self.random_state = random_state
        self.device = device
        self.verbose = verbose
        self.reject_label = reject_label

    def __sklearn_tags__(self):
        tags, inner = super().__sklearn_tags__(), get_tags(self._base())
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags, tags.regressor_tags = inner.classifier_tags, inner.regressor_tags
        tags.target_tags.required = True
        return tags

    def _base(self):
        return LogisticRegression(max_iter=1000) if self.estimator is None else self.estimator

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, sample_weight=None, correct=None):
        """Fit the predictor, unless it is fitted, and the rejector.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Targets; not needed for a fitted predictor if `correct` is given.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; the predictor must take them.
        correct : array-like of shape (n_samples,), default=None
            Whether each prediction is right, for a predictor that is fitted.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        self._check_settings(y, correct)
        X, y, table = self._validate(X, y, correct)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        rng = check_random_state(self.random_state)
        self.estimator_ = self.estimator
        if not self.prefit:
            template = seed_estimator(clone(self._base()), rng)
            weights = None if sample_weight is None else weight
            self.estimator_ = fit_weighted(clone(template), table, y, weights)
            error, scores = self._cross_fitted(template, table, y, weights)
        else:
            wrong = None if correct is None else 1 - np.asarray(correct, dtype=float)
            error = self._errors(self.estimator_, table, y) if correct is None else wrong
            scores = self._scores(self.estimator_, table)
        self._fit_rejector(self._joined(X, scores), check_error(error), weight, rng)
        return self

    def _check_settings(self, y, correct):
        if (self.target is None) != (self.target_kind == "cost"):
            raise ValueError("target is for target_kind='coverage' or 'error', which need it")
        if correct is not None and not self.prefit:
            raise ValueError("correct is for prefit=True: here the predictor is fitted to y")
        if self.prefit and self.estimator is None:
            if correct is None:
                raise ValueError("prefit=True needs an estimator, or correct")
            if self.features != "input":
                raise ValueError("features='input+scores' needs an estimator")

    def _validate(self, X, y, correct):
        """Rows as an array, targets, and rows as the predictor takes them."""
        dtype = [np.float64, np.float32]
        if correct is not None:
            checked, y = validate_data(self, X, dtype=dtype), None
            check_consistent_length(X, correct)
        else:
            numeric = not is_classifier(self._base())
            checked, y = validate_data(self, X, y, dtype=dtype, y_numeric=numeric)
            if not numeric:
                check_classification_targets(y)
        return checked, y, X if hasattr(X, "columns") else checked

    def _cross_fitted(self, template, table, y, weight):
        """Errors and scores on rows that the predictor was not fitted to."""
        error, scores = np.empty(len(y)), None
        cv = check_cv(self.cv, y, classifier=is_classifier(template))
        for train, test in cv.split(table, y):
            part = _safe_indexing(table, train), y[train]
            model = fit_weighted(clone(template), *part, None if weight is None else weight[train])
            rows = _safe_indexing(table, test)
            error[test] = self._errors(model, rows, y[test])
            found = self._scores(model, rows)
            if found is not None:
                scores = np.zeros((len(y), found.shape[1])) if scores is None else scores
                scores[test] = fitting_columns(found, scores.shape[1])
        return error, scores

    def _errors(self, model, rows, y):
        predicted = model.predict(rows)
        if self.error is not None:
            return check_error(self.error(y, predicted))
        if is_classifier(self._base()):
            return (predicted != y).astype(float)
        if self.tolerance is None:
            raise ValueError("tolerance or error must say what an error of a regressor is")
        return (np.abs(y - predicted) > self.tolerance).astype(float)

    def _scores(self, model, rows):
        return None if self.features == "input" else confidence_scores(model, rows)

    def _joined(self, X, scores):
        """What the rejector sees, before it is standardised."""
        X = X.astype(np.float64, copy=False)
        return X if scores is None else np.column_stack([X, scores])

    def _fit_rejector(self, Z, error, weight, rng):
        equal = np.ptp(weight) == 0  # then the scaler is faster without
        self.scaler_ = StandardScaler().fit(Z, sample_weight=None if equal else weight)
        Z = self.scaler_.transform(Z)
        self.error_rate_ = float(np.average(error, weights=weight))
        if self.error_rate_ in (0, 1):
            warnings.warn(
                f"every prediction is {'wrong' if self.error_rate_ else 'right'}: there is "
                "nothing to tell apart, and all rows are treated alike",
                UserWarning,
            )
        template = self._rejector_template(rng)
        self.rejector_ = self._trained(template, Z, error, weight)
        if isinstance(self.rejector, str):
            self.n_iter_ = self.rejector_.n_iter_
        self.threshold_ = 0.0
        if self.target_kind != "cost":
            r = np.empty(len(Z))
            for train, test in check_cv(self.cv, error > 0, classifier=True).split(Z, error > 0):
                model = self._trained(template, Z[train], error[train], weight[train])
                r[test] = outputs(model, Z[test])
            choose = coverage_threshold if self.target_kind == "coverage" else error_threshold
            self.threshold_ = choose(error, r, weight, self.target)

    def _rejector_template(self, rng):
        """The unfitted model of the rejector; None is the linear one."""
        if self.rejector == "linear":
            return None
        if self.rejector != "mlp":
            return seed_estimator(clone(self.rejector), rng)
        from ._rejection_network import RejectionNetwork  # needs torch, unlike the rest

        settings = {"weight_decay": self.l2, "max_epochs": self.max_iter, "device": self.device}
        network = RejectionNetwork(self.cost, self.alpha, self._beta(), **settings)
        return seed_estimator(network.set_params(verbose=self.verbose), rng)

    def _beta(self):
        return self.alpha / 2 if self.beta is None else self.beta

    def _trained(self, template, Z, error, weight):
        if not error.any():  # the surrogate has no minimum
            return LinearRejector(np.zeros(Z.shape[1]), EXP_LIMIT)
        if template is None:
            scales = self.cost, self.alpha, self._beta()
            return fit_linear(Z, error, weight, *scales, self.l2, self.max_iter)
        if self.rejector == "mlp":
            return clone(template).fit(Z, error, weight)
        return fit_classifier(clone(template), Z, error, weight, self.cost)

    @property
    def classes_(self):
        """Class labels, if the predictor is a classifier."""
        check_is_fitted(self, "rejector_")
        return self.estimator_.classes_

    def _checked(self, X):
        """Rows as an array, and as the predictor takes them."""
        check_is_fitted(self)
        checked = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return checked, X if hasattr(X, "columns") else checked

    def _call(self, method, X):
        _, table = self._checked(X)
        return getattr(self.estimator_, method)(table)

    def rejection_function(self, X):
        """Compute the output of the rejector.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            The larger, the surer the prediction; 0 where an error is as likely as `cost`.
        """
        X, table = self._checked(X)
        Z = self._joined(X, self._scores(self.estimator_, table))
        return outputs(self.rejector_, self.scaler_.transform(Z))

    def accept(self, X):
        """Tell which predictions to accept.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of bool of shape (n_samples,)
            Whether to accept.
        """
        return self.rejection_function(X) > self.threshold_

    @_has("predict")
    def predict(self, X):
        """Predict with the predictor, rejecting nothing.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predictions.
        """
        return self._call("predict", X)

    @_has("predict")
    def predict_with_reject(self, X):
        """Predict, and reject where that is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of object or masked array of shape (n_samples,)
            Predictions, those rejected replaced by `reject_label` or, without one, masked.
        """
        predicted, rejected = self.predict(X), ~self.accept(X)
        if self.reject_label is None:
            return np.ma.masked_array(predicted, rejected)
        labels = predicted.astype(object)
        labels[rejected] = self.reject_label
        return labels

    @_has("predict_proba")
    def predict_proba(self, X):
        """Compute the class probabilities of the predictor, if it can.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities.
        """
        return self._call("predict_proba", X)

    @_has("decision_function")
    def decision_function(self, X):
        """Compute the decision function of the predictor, if it has one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Values.
        """
        return self._call("decision_function", X)

    @_has("predict")
    def score(self, X, y, sample_weight=None):
        """Score the predictor on all rows: accuracy, or R2 for regressors.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        float
            The score.
        """
        metric = accuracy_score if is_classifier(self) else r2_score
        return metric(y, self.predict(X), sample_weight=sample_weight)

    def selective_score(self, X, y=None, correct=None):
        """Score what is accepted.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Targets.
        correct : array-like of shape (n_samples,), default=None
            In place of `y`: whether each prediction is right.

        Returns
        -------
        dict of str to float
            `coverage`, the share accepted; `selective_error`, the share of errors among these (NaN
            if there are none); and `rejection_loss`.
        """
        accepted = self.accept(X)
        if correct is None:
            error = self._errors(self.estimator_, self._checked(X)[1], column_or_1d(y))
        else:
            error = 1 - np.asarray(correct, dtype=float)
        return {
            "coverage": float(accepted.mean()),
            "selective_error": float(error[accepted].mean()) if accepted.any() else float("nan"),
            "rejection_loss": rejection_loss(error, accepted, self.cost),
        }


def fit_weighted(model, X, y, weight):
    """Fit, with weights if there are any."""
    if weight is None:
        return model.fit(X, y)
    if not has_fit_parameter(model, "sample_weight"):
        raise ValueError(f"sample_weight is given, but {model} does not take it")
    return model.fit(X, y, sample_weight=weight)
