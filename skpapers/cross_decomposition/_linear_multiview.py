"""Base of the linear multi-view estimators that are trained by gradient descent."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    MultiOutputMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.extmath import _incremental_mean_and_var
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_random_state, draw_seed

from ._canonical import center, check_view, column_correlations, validate_views
from ._ey_descent import (
    State,
    initial_weights,
    largest_variance,
    loss_and_gradients,
    n_kept,
    take_step,
)
from ._gep import centre_columns, column_signs, latent_rotations

__all__ = ["LinearMultiview"]

_PATIENCE = 5  # epochs without progress after which early stopping ends the training


class LinearMultiview(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, MultiOutputMixin, BaseEstimator
):
    """What CCA and PLS share: everything but the ridge and the scale of the variates."""

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left"), None],
        "lr": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "optimizer": [StrOptions({"sgd", "adam"})],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "two_batches": ["boolean"],
        "auto_terms": ["boolean"],
        "center": ["boolean"],
        "scale": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Fit the model to two views.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            First view, at least two rows.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Second view of the same samples.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a view has no variance, or the training diverged.
        """
        X, y, self._y_1d = validate_views(self, X, y)
        return self._fit([X, y])

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_views(self, views):
        """Fit the model to two or more views.

        Parameters
        ----------
        views : list of array-like of shape (n_samples, n_features_i)
            Views of the same samples.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        if len(views) < 2:
            raise ValueError(f"views must hold at least two matrices, got {len(views)}")
        X, y, self._y_1d = validate_views(self, views[0], views[1])
        others = [check_view(view, X, copy=True)[0] for view in views[2:]]
        return self._fit([X, y, *others])

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y):
        """Make one pass over the given rows, continuing from the present state.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            First view, more than ten rows a component: the final rotation is made from them.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Second view of the same samples.

        Returns
        -------
        self : object
            The estimator.
        """
        first = not hasattr(self, "weights_")
        if first:
            X, y, self._y_1d = validate_views(self, X, y)
        else:
            X = self._check_first(X)
            y = self._check_other(y, 1, X)
            if len(self.weights_) > 2:
                raise ValueError(f"partial_fit is for two views, fitted {len(self.weights_)}")
        views = [X, y]
        k = n_kept(self.n_components, views)
        if len(X) <= 10 * k:
            raise ValueError(f"partial_fit needs more than {10 * k} rows, found {len(X)}")
        self._update_moments(views, first)
        views = [(V - m) / s for V, m, s in zip(views, self._centres, self._scales)]
        if first:
            self._start(views, check_random_state(self.random_state), streaming=True)
        self._run_epoch(views, [self._rate] * len(self._batches(len(X))))
        return self._finish(views)

    def _fit(self, views):
        rng = check_random_state(self.random_state)
        self._centres, self._scales = zip(*(center(V, scale=self.scale) for V in views))
        self._variances = [scale**2 for scale in self._scales]
        self._counts = [np.full(V.shape[1], len(V)) for V in views]
        self._start(views, rng)
        n_batches = len(self._batches(len(views[0])))
        rates = np.full((self.max_epochs, n_batches), self._rate)
        if n_batches > 1 and self.lr == "auto":
            rates *= 1 - np.arange(rates.size).reshape(rates.shape) / rates.size
        self._run(views, rates)
        return self._finish(views)

    def _run(self, views, rates):
        """All epochs, or as many as early stopping lets through."""
        misses = 0
        for epoch_rates in rates:
            try:
                self._run_epoch(views, epoch_rates)
            except KeyboardInterrupt:
                self._warn("training was interrupted; what was learnt so far is kept")
                return
            if len(self.loss_curve_) > 1:
                before, now = self.loss_curve_[-2:]
                misses = misses + 1 if abs(before - now) <= self.tol * abs(now) else 0
            if self.early_stopping and misses >= _PATIENCE:
                return
        if self.early_stopping:
            self._warn(
                f"the loss still changed by more than tol={self.tol} after "
                f"max_epochs={self.max_epochs}: raise max_epochs or tol"
            )

    @staticmethod
    def _warn(message):
        warnings.warn(message, ConvergenceWarning, stacklevel=5)

    def _batches(self, n_rows):
        n_batches = max(1, round(n_rows / (self.batch_size or n_rows)))
        return np.array_split(np.arange(n_rows), n_batches)

    def _start(self, views, rng, streaming=False):
        """Initial weights and learning rate, from a first batch."""
        for i, view in enumerate(views):
            if not view.any():
                raise ValueError(f"view {i} has no variance: every column is constant")
        k = n_kept(self.n_components, views)
        self._generator = np.random.default_rng(draw_seed(rng))
        rows = self._batches(len(views[0]))[0]
        rows = self._generator.permutation(len(views[0]))[rows]
        batch = [view[rows] for view in views]
        weights = initial_weights(batch, k, self._ridge(), self._generator)
        if not self.auto_terms:  # V is then a sum over the views, not their mean
            weights = [(W / len(views) ** 0.5).astype(W.dtype) for W in weights]
        self._state = State(
            weights, *([np.zeros_like(W) for W in weights] for _ in range(2)), n_steps=0
        )
        self._rate = self._auto_rate(batch, weights) if self.lr == "auto" else self.lr
        noisy = streaming or len(rows) < len(views[0])
        if noisy and self.lr == "auto" and self.optimizer == "sgd":
            self._rate *= 1 - self.momentum
        self.n_components_, self._n_features_out = k, k
        self.loss_curve_, self.n_iter_ = [], 0

    def _auto_rate(self, batch, weights):
        if self.optimizer == "adam":
            return 0.05 * float(np.sqrt(np.mean([np.mean(W**2) for W in weights])))
        rate = 1 / (4 * max(self._ridge(), *map(largest_variance, batch)))
        return rate if self.auto_terms else rate / len(batch)

    def _run_epoch(self, views, rates):
        """One pass over shuffled batches; the second batch of a step is of another shuffle."""
        n_rows, options = len(views[0]), {"reg": self._ridge(), "auto_terms": self.auto_terms}
        shuffles = [self._generator.permutation(n_rows) for _ in range(1 + self.two_batches)]
        total = 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            for rows, rate in zip(self._batches(n_rows), rates):
                whole = len(rows) == n_rows
                batches = [views] if whole else [[V[s[rows]] for V in views] for s in shuffles]
                value, gradients = loss_and_gradients(batches, self._state.weights, **options)
                self._state = take_step(
                    self._state, gradients, rate, self.optimizer, self.momentum
                )
                total += value * len(rows) / n_rows
        if not np.isfinite(total):
            raise ValueError("training diverged: lower lr, raise batch_size, or add a ridge")
        self.loss_curve_.append(float(total))
        self.n_iter_ += 1
        if self.verbose:
            print(f"{type(self).__name__} epoch {self.n_iter_}: loss={total:.6g}")

    def _finish(self, views):
        """Rotate to ordered variates, and back to the units of the data."""
        dtype, weights = views[0].dtype, self._state.weights
        embeddings = [V @ W for V, W in zip(views, weights)]
        rotations, eigenvalues = latent_rotations(embeddings, weights, self._ridge())
        Z = [centre_columns(E.astype(np.float64) @ R) for E, R in zip(embeddings, rotations)]
        self._set_values(Z, eigenvalues)
        units = [self._units(z) * column_signs(weights[0] @ rotations[0]) for z in Z]
        Z = [z * u for z, u in zip(Z, units)]
        pairs = zip(weights, rotations, units, self._scales)
        self.weights_ = [(W @ R * u / s[:, None]).astype(dtype) for W, R, u, s in pairs]
        inverses = [np.linalg.pinv(z, rcond=1e-10) for z in Z]
        self.loadings_ = [
            ((P @ V).T * s[:, None]).astype(dtype)
            for P, V, s in zip(inverses, views, self._scales)
        ]
        self._regression = ((inverses[0] @ views[1]) * self._scales[1]).astype(dtype)
        keep = 1.0 if self.center else 0.0
        self.means_ = [(m * keep).astype(dtype) for m in self._centres]
        return self

    def _update_moments(self, views, first):
        """Running means and variances of the columns, as they stream by."""
        if first:
            self._counts = [np.zeros(V.shape[1], dtype=np.int64) for V in views]
            self._centres = self._variances = [np.zeros(V.shape[1]) for V in views]
        pieces = zip(views, self._centres, self._variances, self._counts)
        found = [_incremental_mean_and_var(V, m, v, n) for V, m, v, n in pieces]
        centres, variances, self._counts = (list(part) for part in zip(*found))
        self._centres, self._variances, dtype = centres, variances, views[0].dtype
        rounding = [n**0.5 * np.finfo(dtype).eps * abs(m) for n, m in zip(self._counts, centres)]
        varies = [self.scale & (v > r**2) for v, r in zip(variances, rounding)]
        pairs = zip(varies, variances)
        self._scales = [np.where(k, v, 1.0).astype(dtype) ** 0.5 for k, v in pairs]
        self._centres = [m.astype(dtype) for m in centres]

    def _check_first(self, X):
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=[np.float64, np.float32])

    def _check_other(self, view, i, like):
        view = check_array(view, dtype=like.dtype, ensure_2d=False, input_name="y")
        view = view.reshape(-1, 1) if view.ndim == 1 else view
        check_consistent_length(like, view)
        if view.shape[1] != len(self.weights_[i]):
            raise ValueError(
                f"view {i} has {view.shape[1]} features, fitted with {len(self.weights_[i])}"
            )
        return view

    def _variates(self, view, i):
        variates = (view - self.means_[i]) @ self.weights_[i]
        return variates.astype(view.dtype, copy=False)

    def transform(self, X, y=None):
        """Compute the canonical variates.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            First view.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            Second view.

        Returns
        -------
        x_variates : ndarray of shape (n_samples, n_components)
            Variates of the first view.
        y_variates : ndarray of shape (n_samples, n_components)
            Variates of the second view; only where `y` is given.
        """
        X = self._check_first(X)
        if y is None:
            return self._variates(X, 0)
        return self._variates(X, 0), self._variates(self._check_other(y, 1, X), 1)

    def fit_transform(self, X, y):
        """Fit, then compute the variates of the first view.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            First view.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Second view of the same samples.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Variates of the first view.
        """
        return self.fit(X, y).transform(X)

    def transform_views(self, views):
        """Compute the variates of every view.

        Parameters
        ----------
        views : list of array-like of shape (n_samples, n_features_i)
            Views in the order of fit.

        Returns
        -------
        list of ndarray of shape (n_samples, n_components)
            The variates.
        """
        X = self._check_first(views[0])
        others = [self._check_other(view, i, X) for i, view in enumerate(views[1:], start=1)]
        return [self._variates(view, i) for i, view in enumerate([X, *others])]

    def inverse_transform(self, X, y=None):
        """Reconstruct views from variates, by least squares on the training rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Variates of the first view.
        y : array-like of shape (n_samples, n_components), default=None
            Variates of the second view.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            First view.
        y_original : ndarray of shape (n_samples, n_targets)
            Second view; only where `y` is given.
        """
        check_is_fitted(self)
        X = check_array(X, dtype=[np.float64, np.float32])
        first = X @ self.loadings_[0].T + self._centres[0]
        if y is None:
            return first
        y = check_array(y, dtype=[np.float64, np.float32])
        return first, y @ self.loadings_[1].T + self._centres[1]

    def predict(self, X):
        """Predict the second view by least squares on the variates of the first.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            First view.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_targets)
            Second view.
        """
        X = self._check_first(X)
        predicted = (X - self._centres[0]) @ self.weights_[0] @ self._regression
        predicted = (predicted + self._centres[1]).astype(X.dtype, copy=False)
        return predicted[:, 0] if self._y_1d else predicted

    def score(self, X, y):
        """Mean correlation of the variates of both views on given rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            First view.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Second view.

        Returns
        -------
        float
            In [-1, 1].
        """
        return float(np.mean(column_correlations(*self.transform(X, y))))

    @property
    def x_weights_(self):
        """Weights of the first view."""
        return self.weights_[0]

    @property
    def y_weights_(self):
        """Weights of the second view."""
        return self.weights_[1]
