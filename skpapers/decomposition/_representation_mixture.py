"""What transformers that hold a mixture of linear representations share."""

import numpy as np
from scipy.linalg import pinvh
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import Ridge
from sklearn.utils import check_array, gen_batches
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from skpapers.utils import check_random_state

from ._minimax_game import coordinates, orthonormal

__all__ = ["RepresentationMixture"]

_CHUNK = 1024  # rows centred at a time: bounds the float64 copies
_DTYPES = [np.float64, np.float32]


class RepresentationMixture(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Codes of a representation that is drawn from a mixture, and what the mixture guarantees."""

    def _prepare(self, X, y):
        """Set mean and coordinates; returns the validated rows."""
        X = validate_data(self, X, dtype=_DTYPES, ensure_min_samples=2)
        X = np.ascontiguousarray(X)  # the same sums, whatever X came in
        self.mean_ = X.mean(axis=0, dtype=np.float64)
        covariance = self._empirical_covariance(X)
        noise = 10 * np.finfo(float).eps * np.abs(self.mean_)
        self._varies = np.sqrt(np.diag(covariance)) > noise
        if not self._varies.any():
            raise ValueError("X has no variance: all columns are constant")
        covariance *= np.outer(self._varies, self._varies)
        self._prior = self._task_prior(X, y)
        self._coordinates = coordinates(self._covariance(X, covariance), self._prior)
        self.eigenvalues_ = self._coordinates.eigenvalues
        self.n_components_ = min(self.n_components, len(self.eigenvalues_))
        self._n_features_out = self.n_components_
        return X

    def _centred(self, X):
        return (X - self.mean_) * self._varies

    def _empirical_covariance(self, X):
        total = np.zeros((X.shape[1], X.shape[1]))
        for rows in gen_batches(len(X), _CHUNK):
            deviations = X[rows] - self.mean_
            total += deviations.T @ deviations
        return total / len(X)

    def _covariance(self, X, covariance):
        if self.covariance == "ledoit_wolf":
            return ledoit_wolf(self._centred(X), assume_centered=True)[0]
        if self.covariance == "empirical":
            return covariance
        return covariance + self.covariance * np.diag(covariance).mean() * np.eye(len(covariance))

    def _task_prior(self, X, y):
        d = X.shape[1]
        if self.task_prior is None:
            return np.eye(d)
        if isinstance(self.task_prior, str):
            return prior_of_targets(self._centred(X), y)
        prior = check_array(
            self.task_prior, dtype=np.float64, ensure_2d=False, input_name="task_prior"
        )
        prior = np.diag(prior) if prior.ndim == 1 else prior
        if prior.shape != (d, d) or not np.allclose(prior, prior.T):
            raise ValueError(
                f"task_prior must have shape ({d},), or ({d}, {d}) and be symmetric, got an array "
                f"of shape {np.shape(self.task_prior)}"
            )
        values = np.linalg.eigvalsh(prior)
        if values[0] < -1e-10 * np.abs(values).max() or values[-1] <= 0:
            raise ValueError("task_prior must be positive semidefinite, and not zero")
        return prior

    def _store(self, atoms, weights):
        """Keep representations in whitened coordinates, and draw the one that gives the codes."""
        self._atoms, self.mixture_weights_ = np.asarray(atoms), weights
        to_w, _, _ = self._coordinates
        self.mixture_components_ = np.einsum("dq,kqr->krd", to_w, self._atoms)
        self.representation_index_ = self.sample_representation(self.random_state)
        self.components_ = self.mixture_components_[self.representation_index_]

    def sample_representation(self, random_state=None):
        """Draw a representation from the mixture.

        Parameters
        ----------
        random_state : int, RandomState instance or None, default=None
            Seed.

        Returns
        -------
        index : int
            Index into `mixture_components_`, which `transform` takes.
        """
        check_is_fitted(self, "mixture_weights_")
        rng = check_random_state(random_state)
        return int(rng.choice(len(self.mixture_weights_), p=self.mixture_weights_))

    def transform(self, X, index=None):
        """Give the codes of one representation.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.
        index : int, default=None
            Which representation of the mixture; None is the one drawn in `fit`.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components_)
            Codes, of the identity as covariance on the data of `fit`.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_DTYPES, reset=False)
        index = self.representation_index_ if index is None else index
        return ((X - self.mean_) @ self.mixture_components_[index].T).astype(X.dtype, copy=False)

    def transform_all(self, X):
        """Give the codes of every representation of the mixture.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        codes : list of ndarray of shape (n_samples, n_components_)
            Codes, in the order of `mixture_weights_`.
        """
        check_is_fitted(self)
        return [self.transform(X, index) for index in range(len(self.mixture_weights_))]

    def inverse_transform(self, X, index=None):
        """Give the best linear estimate of the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes.
        index : int, default=None
            Which representation made them; None is the one drawn in `fit`.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            Least-squares estimates.
        """
        check_is_fitted(self)
        Z = check_array(X, dtype=_DTYPES, input_name="X")
        atom = self._atoms[self.representation_index_ if index is None else index]
        rows = Z @ (self._coordinates.from_w @ atom).T + self.mean_
        return rows.astype(Z.dtype, copy=False)

    def regret(self, f):
        """Give the expected regret of the mixture on tasks, on the data of `fit`.

        Parameters
        ----------
        f : array-like of shape (n_features,) or (n_tasks, n_features)
            Coefficients of tasks ``f^T (x - mean)``.

        Returns
        -------
        regret : float or ndarray of shape (n_tasks,)
            How much more the best predictor from codes loses than the best from features.
        """
        check_is_fitted(self)
        f = check_array(f, dtype=np.float64, ensure_2d=False, input_name="f")
        tasks = np.atleast_2d(f) @ self._coordinates.from_w
        regret = self.mixture_weights_ @ self._game.losses(self._atoms, tasks)
        return float(regret[0]) if f.ndim == 1 else regret

    def score(self, X, y=None):
        """Give minus the worst-case regret of the mixture on given rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.
        y : None
            Ignored.

        Returns
        -------
        score : float
            At most zero; larger is better. Predictors are the best for these rows.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_DTYPES, reset=False)
        there = coordinates(self._empirical_covariance(X), self._prior)
        if not len(there.eigenvalues):
            return 0.0
        components = self.mixture_components_
        atoms = [orthonormal(there.from_w.T @ rows.T) for rows in components]
        return -self._worst_case(np.array(atoms), X, there)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def prior_of_targets(deviations, y):
    """The ellipsoid of the ridge coefficients of past targets, large enough to hold them all."""
    if y is None:
        raise ValueError("task_prior='targets' needs the targets of past tasks as y")
    Y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
    check_consistent_length(deviations, Y)
    scale = deviations.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    # Ridge in units of standard deviations; coefficients back in the units of X.
    Y = Y.reshape(len(Y), -1)
    tasks = Ridge(alpha=1.0).fit(deviations / scale, Y).coef_.reshape(Y.shape[1], -1)
    return prior_of_tasks(tasks) / np.outer(scale, scale)


def prior_of_tasks(tasks):
    """``S = mean f f^T + eps I``, scaled so that ``f^T S^-1 f <= 1`` for all tasks."""
    second = tasks.T @ tasks / len(tasks)
    size = np.trace(second) / len(second)
    second = second / size if size > 0 else second
    prior = second + 1e-6 * np.eye(len(second))
    tasks = tasks / np.sqrt(size) if size > 0 else tasks
    largest = np.einsum("td,de,te->t", tasks, pinvh(prior), tasks).max()
    return prior * size * largest if size > 0 else prior
