"""The estimator shell of low-rank models: structure, start, fit, codes, score."""

import warnings
from functools import partial
from math import isqrt, nan, sqrt
from numbers import Integral, Real

from sklearn.base import BaseEstimator, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import TransformerTags
from sklearn.utils._array_api import get_namespace_and_device, supported_float_dtypes
from sklearn.utils._missing import is_scalar_nan
from sklearn.utils._param_validation import Interval, MissingValues, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_random_state, check_same_namespace, truncated_svd

from ._low_rank_sweeps import (
    BiasedProduct,
    HadamardProduct,
    KhatriRaoProduct,
    best_factors,
    encode,
    hard_impute,
    masked,
    penalized_loss,
    start,
)

__all__ = ["LowRankModel"]


class LowRankModel(BaseEstimator):
    """What fitting, imputing and scoring have in common."""

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "method": [StrOptions({"als", "svd", "hadamard", "khatri_rao"})],
        "n_factors": [Interval(Integral, 2, None, closed="left")],
        "shape": [tuple, list, None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "fit_bias": ["boolean"],
        "missing_values": [MissingValues(numeric_only=True)],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"svd", "random"})],
        "svd_solver": [StrOptions({"auto", "full", "arpack", "randomized"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    _search_space = {
        "n_components": [1, 2, 3, 5, 10],
        "alpha": [0.01, 0.1, 1.0, 10.0],
        "method": ["als", "hadamard"],
    }

    def __init__(
        self,
        n_components=2,
        *,
        method="als",
        n_factors=2,
        shape=None,
        alpha=0.1,
        fit_bias=False,
        missing_values=nan,
        max_iter=200,
        tol=1e-5,
        n_init=1,
        init="svd",
        svd_solver="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.method = method
        self.n_factors = n_factors
        self.shape = shape
        self.alpha = alpha
        self.fit_bias = fit_bias
        self.missing_values = missing_values
        self.max_iter = max_iter
        self.tol = tol
        self.n_init = n_init
        self.init = init
        self.svd_solver = svd_solver
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Factorize the data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data; entries equal to `missing_values` are missing.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X = self._validate(X, reset=True)
        xp, _ = get_namespace_and_device(X)[:2]
        target, observed = self._split(X)
        self.mean_ = total_mean(target, observed) if self.fit_bias else 0.0
        target = self._centered(target, observed)
        structure, ranks = self._structure(X.shape)
        factors = self._factorize(structure, ranks, target, observed)
        if not factors.converged:
            self._warn("The factorization", "n_components")
        self._mean_codes = [xp.mean(C, axis=0) for C in factors.codes]
        self._store([xp.astype(D, X.dtype) for D in factors.components])
        squared_error = factors.losses[-1]
        if self.alpha > 0 and self.method != "svd":
            blocks = (factors.codes, factors.components)
            squared_error = penalized_loss(structure, *blocks, target, observed, 0.0)
        self.reconstruction_err_ = sqrt(squared_error)
        self.loss_curve_ = factors.losses[1:]
        self.n_iter_ = len(self.loss_curve_)
        return self

    def _validate(self, X, reset):
        xp, _, device = get_namespace_and_device(X)
        finite = "allow-nan" if is_scalar_nan(self.missing_values) else True
        dtypes = supported_float_dtypes(xp, device)
        return validate_data(self, X, reset=reset, dtype=dtypes, ensure_all_finite=finite)

    def _split(self, X):
        """X in float64 with 0 for what is missing, and what is observed, or None for all."""
        xp, _ = get_namespace_and_device(X)[:2]
        missing = self._missing(X)
        if not xp.any(missing):
            return xp.astype(X, xp.float64, copy=False), None
        filled = xp.where(missing, xp.zeros_like(X), X)
        return xp.astype(filled, xp.float64), xp.astype(~missing, xp.float64)

    def _centered(self, X, observed):
        return masked(X - self.mean_, observed) if self.fit_bias else X

    def _missing(self, X):
        xp, _ = get_namespace_and_device(X)[:2]
        return xp.isnan(X) if is_scalar_nan(self.missing_values) else self.missing_values == X

    def _structure(self, shape):
        """The structure of the model, and the rank of each of its factors."""
        if self.fit_bias and self.method != "als":
            raise ValueError(f'fit_bias=True needs method="als", got {self.method!r}')
        if self.method == "khatri_rao":
            structure = KhatriRaoProduct(_grid(self.shape, shape[1]))
            limits = [min(shape[0], width) for width in structure.shape]
        else:
            structure = BiasedProduct() if self.fit_bias else HadamardProduct()
            limits = [min(shape)] * (self.n_factors if self.method == "hadamard" else 1)
        return structure, _ranks(self.n_components, limits)

    def _factorize(self, structure, ranks, X, observed):
        if observed is not None and not observed.any():
            raise ValueError("every entry of X is missing: there is nothing to fit")
        rng = check_random_state(self.random_state)
        svd = partial(truncated_svd, solver=self.svd_solver, random_state=rng)
        if self.method == "svd":
            return hard_impute(X, observed, ranks[0], self.max_iter, self.tol, svd)
        drawn = self.init == "random" or self.method == "hadamard"
        starts = (
            start(structure, X, observed, ranks, self.init, rng, svd)
            for _ in range(self.n_init if drawn else 1)
        )
        options = (self.alpha, self.max_iter, self.tol, self.verbose)
        return best_factors(structure, starts, X, observed, *options)

    def _store(self, components):
        first = components[0]
        xp, _, device = get_namespace_and_device(first)
        self.bias_ = xp.zeros(self.n_features_in_, dtype=first.dtype, device=device)
        self._components = components
        if self.fit_bias:
            self.bias_, first = first[-1, :], first[:-1, :]
        several = len(components) > 1
        self.components_ = components if several else first
        self.n_components_ = [D.shape[0] for D in components] if several else first.shape[0]
        self._n_features_out = sum(D.shape[0] for D in components)

    def _warn(self, what, remedy):
        warnings.warn(
            f"{what} did not converge to tol={self.tol} in max_iter={self.max_iter} sweeps: raise "
            f"max_iter or alpha, or lower {remedy}",
            ConvergenceWarning,
            stacklevel=3,
        )

    def _encode(self, X, method):
        """Codes of rows, the model of them in float64, their target, and what is observed."""
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="bias_", method=method)
        X = self._validate(X, reset=False)
        xp, _ = get_namespace_and_device(X)[:2]
        target, observed = self._split(X)
        target = self._centered(target, observed)
        structure, _ = self._structure(X.shape)
        components = [xp.astype(D, xp.float64) for D in self._components]
        alpha = 0.0 if self.method == "svd" else self.alpha
        codes, converged = encode(
            structure,
            components,
            target,
            observed,
            alpha,
            self._mean_codes,
            self.max_iter,
            self.tol,
        )
        if not converged:
            self._warn("The codes of some rows", "n_components")
        return X, codes, structure.product(codes, components), target, observed

    def impute(self, X):
        """Fill what is missing; what is observed stays as it is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data; entries equal to `missing_values` are missing.

        Returns
        -------
        X_filled : array of shape (n_samples, n_features)
            The same without gaps.
        """
        return self._impute(X, "impute")

    def _impute(self, X, method):
        X, _, model, _, _ = self._encode(X, method)
        xp, _ = get_namespace_and_device(X)[:2]
        return xp.where(self._missing(X), xp.astype(model + self.mean_, X.dtype), X)

    def score(self, X, y=None):
        """Compute minus the mean squared error of the model on the observed entries.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data; entries equal to `missing_values` are missing.
        y : None
            Ignored.

        Returns
        -------
        score : float
            The score; 0 is the best there is.
        """
        _, _, model, target, observed = self._encode(X, "score")
        xp, _ = get_namespace_and_device(target)[:2]
        count = target.shape[0] * target.shape[1] if observed is None else float(xp.sum(observed))
        return -float(xp.sum((target - masked(model, observed)) ** 2)) / max(count, 1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.input_tags.allow_nan = is_scalar_nan(self.missing_values)
        tags.transformer_tags = TransformerTags(preserves_dtype=["float64", "float32"])
        return tags


def total_mean(X, observed):
    """Mean of the observed entries."""
    xp, _ = get_namespace_and_device(X)[:2]
    count = X.shape[0] * X.shape[1] if observed is None else float(xp.sum(observed))
    return float(xp.sum(X)) / max(count, 1)


def _grid(shape, n_features):
    """Sizes of the two factors of a row."""
    if shape is None:
        height = next(d for d in range(isqrt(n_features), 0, -1) if n_features % d == 0)
        return height, n_features // height
    if len(shape) != 2 or shape[0] * shape[1] != n_features:
        raise ValueError(f"shape must be two sizes whose product is {n_features}, got {shape!r}")
    return tuple(shape)


def _ranks(n_components, limits):
    """Rank of each factor."""
    if n_components is None:
        return limits
    wanted = [n_components] * len(limits) if isinstance(n_components, Integral) else n_components
    if len(wanted) != len(limits) or not all(isinstance(k, Integral) and k > 0 for k in wanted):
        raise ValueError(
            f"n_components must be one positive int, or {len(limits)} of them for this method, "
            f"got {n_components!r}"
        )
    return [min(k, limit) for k, limit in zip(wanted, limits)]
