"""Classifiers, regressors and transformers on the bridge."""

import numpy as np
import torch
from sklearn.base import (
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    RegressorMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import compute_sample_weight
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets

from ._bridge import TorchEstimator
from ._net import OutputLoss
from ._registry import get_registry

__all__ = ["TorchClassifier", "TorchRegressor", "TorchTransformer"]


class _Supervised(TorchEstimator):
    """A network with one output a class or target, and a registered loss."""

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Target.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; a row of weight zero is as if it were not there.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._fit(X, y, sample_weight)

    def _output(self, module, inputs):
        return module(*inputs)

    def _loss(self, module, batch):
        output, loss = self._output_and_loss(module, batch)
        return loss(output)

    def _output_and_loss(self, module, batch):
        name = getattr(self, "loss", self._default_loss)
        loss = OutputLoss(self._criterion(), getattr(name, "__name__", name), batch)
        return self._output(module, batch.inputs), loss

    def _criterion(self):
        return get_registry("loss").resolve(getattr(self, "loss", self._default_loss))

    def _loss_halves(self):
        return self._output_and_loss if type(self)._loss is _Supervised._loss else None


class TorchClassifier(ClassifierMixin, _Supervised):
    """Base of the classifiers trained with torch: the module gives one logit a class.

    The target a loss sees is the index of the class. A subclass may have a parameter
    ``class_weight``. See :class:`TorchEstimator` for the rest.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    Examples
    --------
    A classifier of your own is a network:

    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from skpapers.neural_network import TorchClassifier
    >>> class LogisticRegression(TorchClassifier):
    ...     def __init__(self, max_epochs=100, lr=0.1, random_state=None):
    ...         self.max_epochs = max_epochs
    ...         self.lr = lr
    ...         self.random_state = random_state
    ...
    ...     def _make_module(self):
    ...         return torch.nn.Linear(self.n_features_in_, len(self.classes_))
    >>> X, y = load_iris(return_X_y=True)
    >>> bool(LogisticRegression(random_state=0).fit(X, y).score(X, y) > 0.9)
    True
    """

    _default_loss = "cross_entropy"

    def _encode_target(self, y, weight, *, reset):
        check_classification_targets(y)
        if reset and not hasattr(self, "_declared_classes"):
            self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least two classes; y has one class with "
                f"positive weight: {self.classes_[0]!r}"
            )
        unknown = np.setdiff1d(y, self.classes_)
        if unknown.size:
            raise ValueError(f"y has classes unknown to the fitted model: {unknown.tolist()}")
        if getattr(self, "class_weight", None) is not None:
            balance = compute_sample_weight(self.class_weight, y)
            weight = balance if weight is None else weight * balance
        return np.searchsorted(self.classes_, y), weight

    def _n_outputs(self):
        return len(self.classes_)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Make one pass over the given rows, continuing from the present state.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Target.
        classes : array-like of shape (n_classes,), default=None
            All the classes there will be; required in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            The estimator.
        """
        if _check_partial_fit_first_call(self, classes):
            self._declared_classes = True
        try:
            return self._partial_fit(X, y, sample_weight)
        finally:
            vars(self).pop("_declared_classes", None)

    def decision_function(self, X):
        """Compute the logits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Logits; with two classes, the log-odds of the second.
        """
        logits = self._predict(self._output, X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

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
        return self._predict(lambda m, x: torch.softmax(self._output(m, x), dim=1), X)

    def predict(self, X):
        """Predict class labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,)
            The most probable class of each row.
        """
        index = self._predict(lambda m, x: self._output(m, x).argmax(1), X)
        return self.classes_[index]

    def _validation_score(self, module, data):
        index = self._output(module, data.inputs).argmax(1)
        weight = None if data.weight is None else data.weight.cpu()
        return accuracy_score(data.y.cpu(), index.cpu(), sample_weight=weight)


class TorchRegressor(RegressorMixin, _Supervised):
    """Base of the regressors trained with torch: the module gives one number a target.

    The target is standardised before the loss sees it, and predictions are scaled back. A loss
    that is a class has a head of its own: made without arguments, it offers
    ``fit(target, weight)`` with the standardised target, which returns itself,
    ``n_outputs(n_targets)`` of the network, ``decode(output)`` from those to targets, and is
    called like any loss. See :class:`TorchEstimator` for the rest.

    Attributes
    ----------
    n_outputs_ : int
        Number of targets.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_diabetes
    >>> from skpapers.neural_network import TorchRegressor
    >>> class LinearModel(TorchRegressor):
    ...     def _make_module(self):
    ...         return torch.nn.Linear(self.n_features_in_, self.n_outputs_)
    >>> X, y = load_diabetes(return_X_y=True)
    >>> LinearModel().fit(X, y).predict(X).shape
    (442,)
    """

    _default_loss = "squared_error"

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _target_checks(self):
        return {"y_numeric": True, "multi_output": True}

    def _encode_target(self, y, weight, *, reset):
        columns = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        if reset:
            self._y_ndim = np.ndim(y)
            self.n_outputs_ = columns.shape[1]
            self.y_mean_ = np.average(columns, axis=0, weights=weight)
            spread = np.average((columns - self.y_mean_) ** 2, axis=0, weights=weight) ** 0.5
            self.y_scale_ = np.where(spread > 0, spread, 1.0)
        elif columns.shape[1] != self.n_outputs_:
            raise ValueError(f"y has {columns.shape[1]} outputs, fitted with {self.n_outputs_}")
        target = (columns - self.y_mean_) / self.y_scale_
        if reset:
            self._head = self._make_head(target, weight)
        return target, weight

    def _make_head(self, target, weight):
        loss = super()._criterion()
        has_head = isinstance(getattr(loss, "func", loss), type)
        return loss().fit(target, weight) if has_head else None

    def _criterion(self):
        return self._head or super()._criterion()

    def _n_outputs(self):
        return self._head.n_outputs(self.n_outputs_) if self._head else self.n_outputs_

    def _decode(self, output):
        return self._head.decode(output) if self._head else output

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """Make one pass over the given rows, continuing from the present state.

        The scale of the target is that of the first call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Target.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X):
        """Predict the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions, in the data type of the network.
        """
        output = self._predict(lambda m, x: self._decode(self._output(m, x)), X)
        output = (output * self.y_scale_ + self.y_mean_).astype(output.dtype, copy=False)
        return output[:, 0] if self._y_ndim == 1 else output

    def _validation_score(self, module, data):
        output = self._decode(self._output(module, data.inputs))
        weight = None if data.weight is None else data.weight.cpu()
        return r2_score(data.y.cpu(), output.cpu(), sample_weight=weight)


class TorchTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, TorchEstimator):
    """Base of the unsupervised transformers trained with torch.

    A subclass provides ``_make_module``, ``_loss``, ``_embed(module, inputs)``, the output of
    ``transform``, and ``_n_features_out``, its width. See :class:`TorchEstimator` for the rest.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from skpapers.neural_network import TorchTransformer
    >>> class LinearAutoencoder(TorchTransformer):
    ...     _n_features_out = 2
    ...
    ...     def _make_module(self):
    ...         encode = torch.nn.Linear(self.n_features_in_, 2)
    ...         return torch.nn.Sequential(encode, torch.nn.Linear(2, self.n_features_in_))
    ...
    ...     def _loss(self, module, batch):
    ...         return (module(*batch.inputs) - batch.inputs[0]).square().mean(1)
    ...
    ...     def _embed(self, module, inputs):
    ...         return module[0](*inputs)
    >>> X, _ = load_iris(return_X_y=True)
    >>> LinearAutoencoder().fit_transform(X).shape
    (150, 2)
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _embed(self, module, inputs):
        return module(*inputs)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Make one pass over the given rows, continuing from the present state.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._partial_fit(X)

    def transform(self, X):
        """Embed the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            The embedding.
        """
        return self._predict(self._embed, X)
