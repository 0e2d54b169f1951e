"""What the densities trained with torch share: standardised columns, scores in data units."""

import numpy as np
from sklearn.base import DensityMixin

from skpapers.neural_network import TorchEstimator, torch_generator
from skpapers.utils import check_random_state

__all__ = ["Standardization", "StandardizedDensity"]


class Standardization:
    """Columns brought to mean zero and variance one, and back."""

    def _learn_scale(self, X):
        self.mean_ = X.mean(axis=0, dtype=np.float64)
        # scaled first: squares of huge or tiny entries are not representable
        centred = np.abs(X - self.mean_)
        size = np.where(centred.max(axis=0) > 0, centred.max(axis=0), 1.0)
        spread = size * np.sqrt(np.mean((centred / size) ** 2, axis=0))
        noise = 10 * np.finfo(X.dtype).eps * np.abs(self.mean_)
        self.scale_ = np.where(spread > noise, spread, 1.0)

    def _standardize(self, X):
        return ((X - self.mean_) / self.scale_).astype(X.dtype)

    def _to_data_units(self, Z):
        """Undo the standardisation of an array, in its data type."""
        return (Z * self.scale_ + self.mean_).astype(Z.dtype)

    def _log_scale(self):
        """Log density in data units minus that in standardised ones."""
        return -float(np.log(self.scale_).sum())

    def _sampling_generator(self, random_state):
        """The torch generator of a draw; None stands for the estimator's own seed."""
        seed = self.random_state if random_state is None else random_state
        return torch_generator(check_random_state(seed))


class StandardizedDensity(Standardization, DensityMixin, TorchEstimator):
    """Base of the densities trained with torch on standardised columns.

    A subclass provides ``_make_module`` and ``_loss`` (see
    :class:`skpapers.neural_network.TorchEstimator`; rows reach both standardised), and
    ``_standardized_score(module, x)``, the score there.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Means of the columns.
    scale_ : ndarray of shape (n_features,)
        Standard deviations of the columns, 1 where a column is constant.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skpapers.processes import StandardizedDensity, implicit_score_loss
    >>> class GaussianScore(StandardizedDensity):
    ...     def _make_module(self):
    ...         return torch.nn.Linear(self.n_features_in_, self.n_features_in_)
    ...
    ...     def _loss(self, module, batch):
    ...         return implicit_score_loss(module, batch.inputs[0])
    ...
    ...     def _standardized_score(self, module, x):
    ...         return module(x)
    >>> X = np.random.RandomState(0).normal(size=(100, 2))
    >>> GaussianScore().fit(X).score_function(X).shape
    (100, 2)
    """

    def _parse(self, X, y="no_validation", *, reset):
        (X, *others), y = super()._parse(X, y, reset=reset)
        if reset:
            self._learn_scale(X)
        return (self._standardize(X), *others), y

    def score_function(self, X):
        """Compute the score, the gradient of the log density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Scores, in one over the units of X.
        """
        scores = self._predict(lambda m, inputs: self._standardized_score(m, inputs[0]), X)
        return (scores / self.scale_).astype(scores.dtype)
