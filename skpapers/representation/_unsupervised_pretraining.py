"""Pretraining: a latent-variable model on all rows, then a small head on the labelled ones."""

from math import sqrt
from numbers import Integral, Real

import numpy as np
from sklearn import config_context
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    RegressorMixin,
    TransformerMixin,
    _fit_context,
    clone,
)
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions, validate_params
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import (
    check_random_state,
    draw_seed,
    encode_partial_labels,
    seed_estimator,
    split_partial_targets,
)

from ._contrastive_latent import ContrastiveLatentModel
from ._latent_models import MixtureHead, best_by_bic, make_latent_model

__all__ = ["PretrainedClassifier", "PretrainedRegressor", "informative_excess_bound"]

_NAMES = ("gmm", "factor", "ppca", "contrastive")


@validate_params(
    {
        "m": [Interval(Real, 0, None, closed="neither")],
        "n": [Interval(Real, 0, None, closed="neither")],
        "complexity_latent": [Interval(Real, 0, None, closed="left")],
        "complexity_downstream": [Interval(Real, 0, None, closed="left")],
        "kappa": [Interval(Real, 0, None, closed="neither")],
        "fast": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def informative_excess_bound(
    m, n, complexity_latent, complexity_downstream, *, kappa=1.0, fast=True
):
    """Rate at which the excess risk of pretraining falls, without constants and logarithms.

    Parameters
    ----------
    m : float
        Number of rows without labels.
    n : float
        Number of labelled rows.
    complexity_latent : float
        Number of parameters, about, of the latent-variable model.
    complexity_downstream : float
        Number of parameters, about, of the head.
    kappa : float, default=1.0
        How much closer two models may be in what is seen than in what is latent: the model is
        1 / kappa weakly informative.
    fast : bool, default=True
        Whether the loss allows the fast rate (squared loss, or a noise-free problem).

    Returns
    -------
    float
        ``kappa**2 * complexity_latent / m + complexity_downstream / n`` if `fast`, else
        ``kappa * sqrt(complexity_latent / m) + sqrt(complexity_downstream / n)``.

    References
    ----------
    .. [1] J. Ge, S. Tang, J. Fan, C. Jin, "On the Provable Advantage of Unsupervised
       Pretraining", ICLR 2024, arXiv:2303.01566.

    Examples
    --------
    >>> from skpapers.representation import informative_excess_bound
    >>> informative_excess_bound(m=1000, n=10, complexity_latent=100, complexity_downstream=3)
    0.4
    """
    latent, downstream = complexity_latent / m, complexity_downstream / n
    if fast:
        return kappa**2 * latent + downstream
    return kappa * sqrt(latent) + sqrt(downstream)


def _latent_has(method):
    return lambda self: hasattr(self.latent_model_, method)


class _Pretrained(MetaEstimatorMixin, TransformerMixin, BaseEstimator):
    """Both phases; subclasses read targets and choose the default head."""

    _parameter_constraints = {
        "latent_model": [StrOptions(set(_NAMES)), HasMethods("fit")],
        "n_components": [Interval(Integral, 1, None, closed="left"), StrOptions({"bic"})],
        "head": [HasMethods(["fit", "predict"]), None],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def _fit_phases(self, X, X_unlabeled, targets, labelled):
        rng = check_random_state(self.random_state)
        known = X
        if X_unlabeled is not None:
            extra = validate_data(
                self, X_unlabeled, reset=False, dtype=[np.float64, np.float32], order="C"
            )
            X = np.concatenate([X, extra.astype(X.dtype, copy=False)])
        self.n_unlabeled_ = int(len(X) - np.sum(labelled))
        self._fit_latent(X, rng)
        self.log_likelihood_ = None
        if hasattr(self.latent_model_, "score_samples"):
            self.log_likelihood_ = float(np.mean(self._log_density(X)))
        self._head_seed = draw_seed(rng)
        self._fit_head(known[labelled], targets[labelled])
        return self

    def _fit_latent(self, X, rng):
        """Phase 1. Named models see rows over their overall spread: units do not matter."""
        self._scale = 1.0
        if not isinstance(self.latent_model, str):
            self.latent_model_ = seed_estimator(clone(self.latent_model), rng).fit(X)
            return
        self._scale = float(np.sqrt(np.mean(np.var(X, axis=0, dtype=np.float64)))) or 1.0
        with config_context(array_api_dispatch=False):  # the mixture's start does not know it
            self.latent_model_ = self._fit_named((X / self._scale).astype(X.dtype), draw_seed(rng))

    def _fit_named(self, X, seed):
        name, k = self.latent_model, self.n_components
        if name == "contrastive":
            if k == "bic":
                raise ValueError("n_components='bic' needs a likelihood: not 'contrastive'")
            return ContrastiveLatentModel(k, random_state=seed).fit(X)
        if k == "bic":
            return best_by_bic(name, X, self.n_init, seed)
        k = min(k, len(X) if name == "gmm" else min(X.shape))
        return make_latent_model(name, k, self.n_init, seed, X.shape[1]).fit(X)

    def _latent(self, X):
        """What the head sees: posterior means, or responsibilities."""
        X = (X / self._scale).astype(X.dtype, copy=False)
        if hasattr(self.latent_model_, "transform"):
            return self.latent_model_.transform(X)
        return self.latent_model_.predict_proba(X)

    def _log_density(self, X):
        logs = self.latent_model_.score_samples((X / self._scale).astype(X.dtype, copy=False))
        return logs - X.shape[1] * np.log(self._scale)

    def _fit_head(self, X, targets):
        """Phase 2."""
        Z = self._latent(X)
        self.n_components_ = Z.shape[1]
        head = self._default_head() if self.head is None else clone(self.head)
        self.head_ = seed_estimator(head, check_random_state(self._head_seed)).fit(Z, targets)

    def _is_mixture(self):
        latent = self.latent_model_
        return hasattr(latent, "predict_proba") and not hasattr(latent, "transform")

    def _validate(self, X):
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=[np.float64, np.float32], order="C")

    def transform(self, X):
        """Compute the posterior mean of the latent variable, or the responsibilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_components_)
            What the head sees.
        """
        return self._features(X)

    def _features(self, X):
        X = self._validate(X)
        return self._latent(X).astype(X.dtype, copy=False)

    def get_feature_names_out(self, input_features=None):
        """Name the columns that `transform` gives.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        ndarray of str of shape (n_components_,)
            Names.
        """
        check_is_fitted(self)
        name = type(self).__name__.lower()
        return np.asarray([f"{name}{k}" for k in range(self.n_components_)], dtype=object)

    @available_if(_latent_has("score_samples"))
    def score_samples(self, X):
        """Compute the marginal log density of rows under the latent-variable model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log densities in nats.
        """
        return self._log_density(self._validate(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class PretrainedClassifier(ClassifierMixin, _Pretrained):
    """Classifier on a latent variable that is learned from rows with and without labels.

    Phase 1 fits a latent-variable model to all rows, by maximum likelihood; phase 2 fits a small
    head to what the model says of the latent variable of the labelled rows. Where labels are
    few and rows are many this needs labels for the parameters of the head alone. Unlike a
    pipeline it uses rows without labels inside of `fit`, hence of cross-validation.

    Parameters
    ----------
    latent_model : {"gmm", "factor", "ppca", "contrastive"} or estimator, default="gmm"
        "gmm": mixture of spherical normal laws; "factor": linear factors and noise of each
        feature; "ppca": linear factors and equal noise; "contrastive":
        :class:`ContrastiveLatentModel`; or any estimator with `transform` or `predict_proba`.
    n_components : int or "bic", default=8
        Number of components or factors, at most what rows and features allow; "bic" takes up to
        ten by the Bayesian information criterion. Not used by an estimator.
    head : classifier, default=None
        Classifier of the latent variable. None is logistic regression, and for mixtures the
        maximum likelihood of class weights of the components.
    head_smoothing : float, default=0.1
        Rows of each class that every component of a mixture is given beforehand.
    n_init : int, default=3
        Number of starts of "gmm".
    random_state : int, RandomState instance or None, default=None
        Seeds both phases.

    Attributes
    ----------
    latent_model_ : estimator
        The model of phase 1.
    head_ : classifier
        The head of phase 2.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_unlabeled_ : int
        Number of rows without a label.
    n_components_ : int
        Number of columns that the head sees.
    log_likelihood_ : float or None
        Mean log density of the rows of phase 1, if the model has one.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    Named models see the rows divided by one number, their overall spread; scale the columns
    first where their units have nothing to do with each other.

    If the label depends on what the latent variable leaves out, pretraining throws it away:
    compare with a model of the rows themselves, in cross-validation. Where near rows share the
    label, a graph of neighbours can be the better use of rows: on the 8 x 8 digits with 2 % of
    the labels, a mixture of 40 components is right in 88 %, LabelSpreading in 95 %.

    The cost is that of the two phases: EM takes O(n_samples * n_features * n_components) an
    iteration, the factor model a decomposition of the rows an iteration.

    References
    ----------
    .. [1] J. Ge, S. Tang, J. Fan, C. Jin, "On the Provable Advantage of Unsupervised
       Pretraining", ICLR 2024, arXiv:2303.01566, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_blobs
    >>> from skpapers.representation import PretrainedClassifier
    >>> X, y = make_blobs(300, centers=3, random_state=0)
    >>> few = np.where(np.arange(300) < 12, y, -1)
    >>> PretrainedClassifier(n_components=3, random_state=0).fit(X, few).score(X, y) > 0.9
    True
    """

    _parameter_constraints = {
        **_Pretrained._parameter_constraints,
        "head_smoothing": [Interval(Real, 0, None, closed="neither")],
    }
    _search_space = {"latent_model": ["gmm", "factor"], "n_components": [4, 8, 16, 32]}

    def __init__(
        self,
        latent_model="gmm",
        *,
        n_components=8,
        head=None,
        head_smoothing=0.1,
        n_init=3,
        random_state=None,
    ):
        self.latent_model = latent_model
        self.n_components = n_components
        self.head = head
        self.head_smoothing = head_smoothing
        self.n_init = n_init
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, X_unlabeled=None):
        """Fit both phases.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Labels; -1 (in integers other than exactly {-1, 1}), None or NaN is unlabelled.
        X_unlabeled : array-like of shape (n_unlabeled, n_features), default=None
            More rows for phase 1.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], order="C")
        codes = self._read_labels(X, y)
        return self._fit_phases(X, X_unlabeled, codes, codes >= 0)

    def _read_labels(self, X, y):
        codes, self.classes_ = encode_partial_labels(y)
        if len(codes) != len(X):
            raise ValueError(f"X has {len(X)} rows, y has {len(codes)}: inconsistent numbers")
        return codes

    def _default_head(self):
        if self._is_mixture():
            return MixtureHead(self.head_smoothing)
        return LogisticRegression(max_iter=1000) if len(self.classes_) > 1 else MixtureHead()

    def refit_head(self, X, y):
        """Fit phase 2 anew, on the latent-variable model that there is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Labels, which need not be those of before.

        Returns
        -------
        self : object
            The estimator.
        """
        X = self._validate(X)
        codes = self._read_labels(X, y)
        self._fit_head(X[codes >= 0], codes[codes >= 0])
        return self

    def predict(self, X):
        """Predict the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels.
        """
        Z = self._features(X)
        codes = self.head_.predict(Z)
        return self.classes_[codes.astype(np.intp)]

    @available_if(lambda self: self.head is None or hasattr(self.head, "predict_proba"))
    def predict_proba(self, X):
        """Predict the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities.
        """
        Z = self._features(X)
        return self.head_.predict_proba(Z).astype(Z.dtype, copy=False)


class PretrainedRegressor(RegressorMixin, _Pretrained):
    """Regression on a latent variable that is learned from rows with and without targets.

    Phase 1 fits a latent-variable model to all rows, by maximum likelihood; phase 2 fits a small
    head to what the model says of the latent variable of the rows with a target. In a factor
    model of d features and r factors this needs targets for r numbers instead of d.

    Parameters
    ----------
    latent_model : {"factor", "ppca", "gmm", "contrastive"} or estimator, default="factor"
        "factor": linear factors and noise of each feature; "ppca": linear factors and equal
        noise; "gmm": mixture of spherical normal laws; "contrastive":
        :class:`ContrastiveLatentModel`; or any estimator with `transform` or `predict_proba`.
    n_components : int or "bic", default=8
        Number of components or factors, at most what rows and features allow; "bic" takes up to
        ten by the Bayesian information criterion. Not used by an estimator.
    head : regressor, default=None
        Regressor of the latent variable. None is ridge regression with the penalty of the least
        leave-one-out error, of twenty from 1e-3 to 1e4.
    n_init : int, default=3
        Number of starts of "gmm".
    random_state : int, RandomState instance or None, default=None
        Seeds both phases.

    Attributes
    ----------
    latent_model_ : estimator
        The model of phase 1.
    head_ : regressor
        The head of phase 2.
    n_unlabeled_ : int
        Number of rows without a target.
    n_components_ : int
        Number of columns that the head sees.
    log_likelihood_ : float or None
        Mean log density of the rows of phase 1, if the model has one.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    Named models see the rows divided by one number, their overall spread; scale the columns
    first where their units have nothing to do with each other.

    If the target depends on what the latent variable leaves out, pretraining throws it away:
    compare with a model of the rows themselves, in cross-validation.

    References
    ----------
    .. [1] J. Ge, S. Tang, J. Fan, C. Jin, "On the Provable Advantage of Unsupervised
       Pretraining", ICLR 2024, arXiv:2303.01566, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.representation import PretrainedRegressor
    >>> rng = np.random.RandomState(0)
    >>> Z = rng.normal(size=(500, 2))
    >>> X = Z @ rng.normal(size=(2, 20)) + 0.3 * rng.normal(size=(500, 20))
    >>> y = np.where(np.arange(500) < 10, Z[:, 0], np.nan)
    >>> model = PretrainedRegressor(n_components=2).fit(X, y)
    >>> model.n_unlabeled_, model.score(X, Z[:, 0]) > 0.9
    (490, True)
    """

    _search_space = {"latent_model": ["factor", "gmm"], "n_components": [4, 8, 16, 32]}

    def __init__(
        self, latent_model="factor", *, n_components=8, head=None, n_init=3, random_state=None
    ):
        self.latent_model = latent_model
        self.n_components = n_components
        self.head = head
        self.n_init = n_init
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, X_unlabeled=None):
        """Fit both phases.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets; NaN is unknown.
        X_unlabeled : array-like of shape (n_unlabeled, n_features), default=None
            More rows for phase 1.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], order="C")
        return self._fit_phases(X, X_unlabeled, *self._read_targets(X, y))

    def _read_targets(self, X, y):
        targets, labelled = split_partial_targets(y)
        if len(targets) != len(X):
            raise ValueError(f"X has {len(X)} rows, y has {len(targets)}: inconsistent numbers")
        return targets, labelled

    def _default_head(self):
        return RidgeCV(np.logspace(-3, 4, 20))

    def refit_head(self, X, y):
        """Fit phase 2 anew, on the latent-variable model that there is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.

        Returns
        -------
        self : object
            The estimator.
        """
        X = self._validate(X)
        targets, labelled = self._read_targets(X, y)
        self._fit_head(X[labelled], targets[labelled])
        return self

    def predict(self, X):
        """Predict the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predictions.
        """
        Z = self._features(X)
        return self.head_.predict(Z).astype(Z.dtype, copy=False)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
