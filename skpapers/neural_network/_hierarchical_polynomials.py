"""Regression on a curve of one learnt polynomial score, by two ridge regressions."""

import warnings
from math import comb
from numbers import Integral, Real

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    RegressorMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from skpapers.utils import check_random_state

from ._cross_validated_ridge import gradient_descent, ridge_path, whitening
from ._polynomial_scores import hermite

__all__ = ["LayerwiseFeatureRegressor"]

_MAX_INNER = 4000
_CHUNK = 2**20  # values of units in memory at a time
_CLIP = 4.0  # in standard deviations of the learnt feature


class LayerwiseFeatureRegressor(
    ClassNamePrefixFeaturesOutMixin, RegressorMixin, TransformerMixin, BaseEstimator
):
    """Three-layer network that learns one polynomial score and then a curve of it.

    The target is taken for ``g(p(x))``, with a polynomial score p of low degree and any curve g.
    The first ridge regression fits the target by random polynomial units, which finds p up to a
    factor where p is nearly Gaussian and g has a trend; the second, on other rows, fits the target
    by random ReLU units of the standardised score. Both are convex: no step size is tuned.

    Parameters
    ----------
    degree : {"auto", 1, 2, 3}, default="auto"
        Degree of the score, which has terms of this degree alone. "auto" takes the one with the
        lowest generalised cross-validation error of the second stage; it tries 3 only where all
        terms of degree 3 fit in 4000 units.
    n_inner : int or "auto", default="auto"
        Number of units of the first stage; "auto" is twice the number of terms, at most 4000.
        With no fewer Hermite units than terms the score can be any polynomial of this degree.
    n_outer : int, default=400
        Number of units of the second stage.
    inner_activation : {"hermite", "relu"} or callable, default="hermite"
        Units of the first stage: the Hermite polynomial of the degree on a random direction, or a
        function of an array, on a random direction plus a standard normal offset. The score then
        is not of one degree, and `degree` only says how many units there are.
    outer_activation : {"relu"} or callable, default="relu"
        Units of the second stage, a function of an array.
    bias_range : float, default=3.0
        Offsets of the second stage are uniform on minus to plus this value.
    alphas : array-like of shape (n_alphas,), default=None
        Ridge penalties, in units of the largest eigenvalue of the covariance of the units, from
        which generalised cross-validation chooses; None for 28 values from 1e-6 to 1e3.
    cross_fit : int, default=2
        Number of folds, at least 2. For each of them the second stage is fitted on its rows and
        the first stage on the other rows; the predictions are averaged.
    whiten : bool, default=True
        Whether features are centred and decorrelated first, with Ledoit-Wolf shrinkage. The
        score of the theory is one of standard normal features.
    solver : {"ridge", "gd"}, default="ridge"
        "ridge" solves both regressions in closed form, "gd" by gradient descent on all rows.
    max_epochs : int, default=2000
        Largest number of steps of gradient descent.
    tol : float, default=1e-6
        Gradient descent ends when the norm of the gradient is this share of the first one.
    random_state : int, RandomState instance or None, default=None
        Seed of the units and the folds.

    Attributes
    ----------
    degree_ : int
        Degree of the score.
    stages_ : list of dict
        For each fold the network: directions "v" and offsets "s" of the first layer, its weights
        "u" and "intercept", "mean" and "std" of the score and its "range" in the second stage,
        signs "w" and offsets "b" of the second layer, its weights "a" and "constant".
    alpha_inner_ : ndarray of shape (cross_fit, n_outputs)
        Penalty of the first stage, for each fold and target.
    alpha_outer_ : ndarray of shape (cross_fit, n_outputs)
        Penalty of the second stage.
    gcv_scores_ : dict
        For each degree tried, the generalised cross-validation error of the second stage, as a
        share of the variance of the target, averaged over folds and targets.
    mean_ : ndarray of shape (n_features_in_,)
        What is subtracted from the features.
    whitening_ : ndarray of shape (n_features_in_, n_features_in_)
        What they are multiplied by then.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    A fit takes ``O(n_samples * n_inner * min(n_samples, n_inner))`` operations for each fold and
    degree, and ``O(n_samples * n_inner)`` memory. Several targets have a score each.

    Where the paper lets the first stage see n rows and the second n others, both halves are used
    for both here, and the penalties are chosen by the data. More folds give the score more rows;
    five are often a little better than two, and take three times as long.

    The theory is one of many features. The score is found where ``E g'(z)``, for z standard
    normal, is not zero: of an even g it finds little, and the fit is hardly better than the mean.
    With few features (10, say) a kernel regression that can represent the whole of g(p) needs no
    such structure and is better, so that the choice is one for cross-validation. The paper's rates
    are for a score of a given degree; they are tested here for degree 2.

    References
    ----------
    .. [1] Z. Wang, E. Nichani, J. D. Lee, "Learning Hierarchical Polynomials with Three-Layer
       Neural Networks", ICLR 2024, arXiv:2311.13774, algorithm 1 and theorem 1.

    Examples
    --------
    >>> from skpapers.neural_network import (
    ...     LayerwiseFeatureRegressor, make_hierarchical_polynomial)
    >>> X, y, p = make_hierarchical_polynomial(2000, 10, link="quadratic", random_state=0)
    >>> model = LayerwiseFeatureRegressor(random_state=0).fit(X[:1500], y[:1500])
    >>> model.degree_
    2
    >>> bool(model.score(X[1500:], y[1500:]) > 0.6)
    True
    """

    _parameter_constraints = {
        "degree": [StrOptions({"auto"}), Options(Integral, {1, 2, 3})],
        "n_inner": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "n_outer": [Interval(Integral, 1, None, closed="left")],
        "inner_activation": [StrOptions({"hermite", "relu"}), callable],
        "outer_activation": [StrOptions({"relu"}), callable],
        "bias_range": [Interval(Real, 0, None, closed="neither")],
        "alphas": ["array-like", None],
        "cross_fit": [Interval(Integral, 2, None, closed="left")],
        "whiten": ["boolean"],
        "solver": [StrOptions({"ridge", "gd"})],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }
    _search_space = {"degree": ["auto", 1, 2], "cross_fit": [2, 3, 5], "n_outer": [100, 400]}

    def __init__(
        self,
        degree="auto",
        n_inner="auto",
        n_outer=400,
        *,
        inner_activation="hermite",
        outer_activation="relu",
        bias_range=3.0,
        alphas=None,
        cross_fit=2,
        whiten=True,
        solver="ridge",
        max_epochs=2000,
        tol=1e-6,
        random_state=None,
    ):
        self.degree = degree
        self.n_inner = n_inner
        self.n_outer = n_outer
        self.inner_activation = inner_activation
        self.outer_activation = outer_activation
        self.bias_range = bias_range
        self.alphas = alphas
        self.cross_fit = cross_fit
        self.whiten = whiten
        self.solver = solver
        self.max_epochs = max_epochs
        self.tol = tol
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Target.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If there are fewer than two rows a fold, or a penalty is not positive.
        """
        X, y = validate_data(
            self, X, y, dtype=[np.float64, np.float32], y_numeric=True, multi_output=True
        )
        if len(X) < 2 * self.cross_fit:
            raise ValueError(
                f"n_samples={len(X)}: cross_fit={self.cross_fit} folds need two rows each"
            )
        self._y_ndim = y.ndim
        Y = y.astype(np.float64).reshape(len(y), -1)
        self.mean_, self.whitening_ = whitening(X.astype(np.float64), self.whiten)
        Z = self._whitened(X)
        rng = check_random_state(self.random_state)
        folds = rng.permutation(len(X)) % self.cross_fit
        fits = {degree: self._fit_degree(Z, Y, folds, degree, rng) for degree in self._degrees()}
        self.gcv_scores_ = {degree: found[0] for degree, found in fits.items()}
        self.degree_ = min(fits, key=self.gcv_scores_.get)
        _, self.stages_, self.alpha_inner_, self.alpha_outer_ = fits[self.degree_]
        return self

    def _degrees(self):
        if self.degree != "auto":
            return (self.degree,)
        cubic = 2 * comb(self.n_features_in_ + 2, 3) <= _MAX_INNER
        return (1, 2, 3) if cubic else (1, 2)

    def _fit_degree(self, Z, Y, folds, degree, rng):
        """Error, stages and both penalties of a network whose score has this degree."""
        layers = self._draw_layers(Z.shape[1], degree, rng)
        units = self._inner_units(Z, layers, degree)
        variance = Y.var(axis=0)
        variance[variance == 0] = 1
        results = []
        for fold in range(self.cross_fit):
            second = folds == fold
            u, intercept, alpha_inner, _ = self._regress(units[~second], Y[~second])
            score = units[second] @ u + intercept
            mean, std = score.mean(axis=0), score.std(axis=0)
            std[std <= 1e-10 * np.abs(mean)] = 1
            z = np.clip((score - mean) / std, -_CLIP, _CLIP)
            stage = {**layers, "u": u, "intercept": intercept, "mean": mean, "std": std}
            stage["range"] = z.min(axis=0), z.max(axis=0)
            curves = [
                self._regress(self._outer_units(column, stage), target[:, None])
                for column, target in zip(z.T, Y[second].T)
            ]
            a, constant, alpha_outer, gcv = (np.concatenate(x, axis=-1) for x in zip(*curves))
            stage |= {"a": a, "constant": constant}
            results.append((np.mean(gcv / variance), stage, alpha_inner, alpha_outer))
        gcv, stages, alpha_inner, alpha_outer = zip(*results)
        return float(np.mean(gcv)), list(stages), np.array(alpha_inner), np.array(alpha_outer)

    def _draw_layers(self, n_features, degree, rng):
        """What is random in the network: the directions and offsets of both layers."""
        n_inner = self.n_inner
        if n_inner == "auto":
            n_inner = min(_MAX_INNER, 2 * comb(n_features + degree - 1, degree))
        v = rng.standard_normal((n_inner, n_features))
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        s = rng.standard_normal(n_inner) * (self.inner_activation != "hermite")
        w = rng.choice([-1.0, 1.0], self.n_outer)
        return {"v": v, "s": s, "w": w, "b": self.bias_range * rng.uniform(-1, 1, self.n_outer)}

    def _inner_units(self, Z, stage, degree):
        argument = Z @ stage["v"].T + stage["s"]
        if self.inner_activation == "hermite":
            return hermite(argument, degree)
        return _ACTIVATIONS.get(self.inner_activation, self.inner_activation)(argument)

    def _outer_units(self, z, stage):
        activation = _ACTIVATIONS.get(self.outer_activation, self.outer_activation)
        return activation(z[:, None] * stage["w"] + stage["b"])

    def _regress(self, units, Y):
        """Weights, intercept, penalty and cross-validation error of each target."""
        means = units.mean(axis=0), Y.mean(axis=0)
        units, Y = units - means[0], Y - means[1]
        coef, alpha, gcv, scale = ridge_path(units, Y, self._penalties())
        if self.solver == "gd" and scale > 0:
            coef, converged = gradient_descent(
                units, Y, alpha * scale, scale, self.max_epochs, self.tol
            )
            if not converged:
                warnings.warn(
                    f"gradient descent did not converge in max_epochs={self.max_epochs} steps: "
                    "raise max_epochs, or give larger alphas",
                    ConvergenceWarning,
                    stacklevel=5,
                )
        return coef, means[1] - means[0] @ coef, alpha, gcv

    def _penalties(self):
        if self.alphas is None:
            return np.logspace(3, -6, 28)
        alphas = check_array(self.alphas, ensure_2d=False, dtype=np.float64, input_name="alphas")
        if alphas.ndim != 1 or not (alphas > 0).all():
            raise ValueError(f"alphas must be a list of positive numbers, got {self.alphas!r}")
        return np.sort(alphas)[::-1]

    def _whitened(self, X):
        return (X.astype(np.float64) - self.mean_) @ self.whitening_

    def _scores(self, X):
        """The standardised scores, shape (cross_fit, n_samples, n_outputs)."""
        stages, Z = self.stages_, self._whitened(X)
        scores = np.empty((len(stages), len(X), self._n_features_out))
        for rows in gen_batches(len(X), max(1, _CHUNK // len(stages[0]["v"]))):
            units = self._inner_units(Z[rows], stages[0], self.degree_)
            for score, stage in zip(scores, stages):
                score[rows] = (units @ stage["u"] + stage["intercept"] - stage["mean"]) / stage[
                    "std"
                ]
        return scores

    def _curve(self, z, stage):
        """The fitted curves of the columns of z, constant where there was no data."""
        z = np.clip(z, *stage["range"])
        columns = [self._outer_units(x, stage) @ a for x, a in zip(z.T, stage["a"].T)]
        return np.column_stack(columns) + stage["constant"]

    def _checked(self, X):
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=[np.float64, np.float32])

    def predict(self, X):
        """Predict the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions.
        """
        X = self._checked(X)
        curves = [self._curve(z, stage) for z, stage in zip(self._scores(X), self.stages_)]
        values = np.mean(curves, axis=0).astype(X.dtype, copy=False)
        return values[:, 0] if self._y_ndim == 1 else values

    def transform(self, X):
        """Compute the learnt score.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs)
            For each target its score, of mean zero and variance one, averaged over the folds. It
            grows with the target, as each fold's score is a fit of it.
        """
        X = self._checked(X)
        return self._scores(X).mean(axis=0).astype(X.dtype, copy=False)

    def link(self, z):
        """Compute the learnt curve.

        Parameters
        ----------
        z : array-like of shape (n_points,) or (n_points, n_outputs)
            Values of the score; the curve is constant beyond those of the training data, and
            beyond -4 and 4.

        Returns
        -------
        ndarray of shape (n_points,) or (n_points, n_outputs)
            The curve at these points, averaged over the folds.
        """
        check_is_fitted(self)
        z = check_array(z, ensure_2d=False, dtype=np.float64, input_name="z")
        columns = z.reshape(len(z), -1)
        if columns.shape[1] != self._n_features_out:
            raise ValueError(f"z has {columns.shape[1]} columns, not {self._n_features_out}")
        return np.mean([self._curve(columns, s) for s in self.stages_], axis=0).reshape(z.shape)

    @property
    def _n_features_out(self):
        return self.stages_[0]["a"].shape[1]


def relu(x):
    """The positive part."""
    return np.maximum(x, 0)


_ACTIVATIONS = {"relu": relu}
