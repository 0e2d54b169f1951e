"""Primal-dual sparse canonical correlation analysis."""

import warnings
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    MultiOutputMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import PAIRWISE_KERNEL_FUNCTIONS, pairwise_kernels
from sklearn.preprocessing import KernelCenterer, normalize
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_random_state

from ._box_lasso import minimize_box_lasso
from ._canonical import center, check_view, column_correlations, validate_views
from ._deflation import Deflation, vanished

_SHIFT_INVARIANT = {"linear", "rbf", "laplacian"}  # a shift of y changes nothing once centred


class Pair(NamedTuple):
    """Solution for one seed, before it is normalised."""

    w: np.ndarray
    e: np.ndarray
    objective: float
    mu: float
    gamma: float
    n_iter: int


class PrimalDualSparseCCA(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, MultiOutputMixin, BaseEstimator
):
    """Sparse canonical correlation between features of one view and exemplars of a kernel view.

    The first view has features that mean something (words, genes); the second is known through
    a kernel (a text in another language, images, graphs). Each component is a sparse weight
    vector over the features and a small set of exemplar samples whose projections correlate
    most. The problem of each component is convex, its amount of sparsity is set from the data,
    and no covariance is inverted, so that many more features than samples do no harm.

    Parameters
    ----------
    n_components : int, default=1
        Number of components.
    kernel : {"linear", "poly", "rbf", "sigmoid", "cosine", "laplacian", "precomputed"} or \
callable, default="linear"
        Kernel of the second view (any name of
        :func:`sklearn.metrics.pairwise.pairwise_kernels`). With ``"precomputed"``, `y` is the
        matrix of the kernel with the training samples.
    gamma : float, default=None
        Coefficient of the rbf, laplacian, poly and sigmoid kernels; None is one over the number
        of features of `y`.
    degree : float, default=3
        Degree of the poly kernel.
    coef0 : float, default=1
        Independent term of the poly and sigmoid kernels.
    kernel_params : dict, default=None
        Parameters of a callable kernel.
    scale_mu : float, default=1.0
        Factor on the data-driven penalty on feature weights; more gives fewer features.
    scale_gamma : float, default=1.0
        Factor on the data-driven penalty on exemplar weights; more gives fewer exemplars.
    trade_off : float, default=0.5
        Weight of the first view in the residual, in (0, 1); the second has the rest.
    seeds : {"max_norm", "sequential", "best"} or array-like of shape (n_components,), \
default="max_norm"
        The sample around which each component is built: the one of largest kernel column not yet
        used, the first samples in order (as in the paper), the best of `n_seed_trials` random
        ones by the correlation on a fifth of the rows left out, or given indices.
    n_seed_trials : int, default=10
        Number of random seeds tried where ``seeds="best"``.
    max_iter : int, default=1000
        Largest number of sweeps of coordinate descent, of each component.
    tol : float, default=1e-5
        Largest violation of the optimality conditions, relative to the data-driven penalties.
    scale : bool, default=True
        Whether to divide the features of X by their standard deviations. The second view is
        centred in the feature space of its kernel, and never scaled.
    scores : {"deflated", "sparse"}, default="deflated"
        What `transform` gives: the mutually orthogonal scores of the deflation, whose weights
        are dense, or the projections on the sparse weights themselves, which are not orthogonal.
    random_state : int, RandomState instance or None, default=None
        Seed of the trials of ``seeds="best"``.

    Attributes
    ----------
    x_weights_ : ndarray of shape (n_features, n_components)
        Sparse weights of the features, such that each training score has unit norm.
    dual_coef_ : ndarray of shape (n_samples, n_components)
        Sparse, non-negative weights of the exemplars, of the same normalisation.
    x_rotations_ : ndarray of shape (n_features, n_components)
        Dense weights whose scores are mutually orthogonal.
    dual_rotations_ : ndarray of shape (n_samples, n_components)
        Dense dual weights whose scores are mutually orthogonal.
    correlations_ : ndarray of shape (n_components,)
        Training correlation of each component, on the deflated data.
    mu_ : ndarray of shape (n_components,)
        Penalty on the feature weights of each component.
    gamma_ : ndarray of shape (n_components,)
        Penalty on the exemplar weights of each component (not the kernel coefficient).
    seeds_ : ndarray of shape (n_components,)
        Index of the seed of each component; -1 where nothing was left to find.
    n_iter_ : ndarray of shape (n_components,)
        Sweeps of coordinate descent of each component.
    n_components_ : int
        Number of components that are not zero.
    x_mean_ : ndarray of shape (n_features,)
        Means of the features of X.
    y_mean_ : ndarray of shape (n_targets,)
        What is subtracted from y before the kernel (zero where that would change the kernel).
    Y_fit_ : ndarray of shape (n_samples, n_targets)
        Second view of the training samples, less `y_mean_`.
    kernel_centerer_ : KernelCenterer
        Centres the kernel in its feature space.
    n_features_in_ : int
        Number of features of X seen during :term:`fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features of X, where they are all strings.

    Notes
    -----
    For a seed k each component solves ``min ||t X w - (1 - t) K e||^2 + mu ||w||_1 + gamma
    ||e||_1`` subject to ``0 <= e <= 1`` and ``e_k = 1``, by coordinate descent on a growing
    working set. A sweep costs the square of the size of that set, screening O(n_samples *
    (n_features + n_samples)), the memory is O(n_samples * (n_features + n_samples)). A component
    whose feature weights are all zero stays zero, with a warning: so it often is for a second view
    of one column and few features, where exemplars of opposite sign cancel.

    Held-out correlations of the sparse scores are higher than those of the deflated ones. Where
    the two views share dense directions, kernel CCA retrieves mates better; the paper's figures
    on bilingual corpora are not reproduced here.

    References
    ----------
    .. [1] D. R. Hardoon, J. Shawe-Taylor, "Sparse Canonical Correlation Analysis", Machine
       Learning 83, 2011, :arxiv:`0908.2724`, sections 3 and 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.cross_decomposition import PrimalDualSparseCCA
    >>> rng = np.random.default_rng(0)
    >>> latent = rng.normal(size=60)
    >>> X, Y = rng.normal(size=(60, 200)), rng.normal(size=(60, 10))
    >>> X[:, :5] += 2 * latent[:, None]
    >>> Y += latent[:, None]
    >>> model = PrimalDualSparseCCA(scores="sparse").fit(X, Y)
    >>> bool(model.get_support()[:5].all()), int(model.get_support().sum()) < 30
    (True, True)
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "kernel": [StrOptions({*PAIRWISE_KERNEL_FUNCTIONS, "precomputed"}), callable],
        "gamma": [None, Interval(Real, 0, None, closed="left")],
        "degree": [Interval(Real, 0, None, closed="left")],
        "coef0": [Interval(Real, None, None, closed="neither")],
        "kernel_params": [None, dict],
        "scale_mu": [Interval(Real, 0, None, closed="left")],
        "scale_gamma": [Interval(Real, 0, None, closed="left")],
        "trade_off": [Interval(Real, 0, 1, closed="neither")],
        "seeds": [StrOptions({"max_norm", "sequential", "best"}), "array-like"],
        "n_seed_trials": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "scale": ["boolean"],
        "scores": [StrOptions({"deflated", "sparse"})],
        "random_state": ["random_state"],
    }
    _search_space = {
        "scale_mu": [0.5, 1.0, 1.5, 2.0],
        "scale_gamma": [0.5, 1.0, 2.0],
        "trade_off": [0.3, 0.5, 0.7],
    }

    def __init__(
        self,
        n_components=1,
        *,
        kernel="linear",
        gamma=None,
        degree=3,
        coef0=1,
        kernel_params=None,
        scale_mu=1.0,
        scale_gamma=1.0,
        trade_off=0.5,
        seeds="max_norm",
        n_seed_trials=10,
        max_iter=1000,
        tol=1e-5,
        scale=True,
        scores="deflated",
        random_state=None,
    ):
        self.n_components = n_components
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.kernel_params = kernel_params
        self.scale_mu = scale_mu
        self.scale_gamma = scale_gamma
        self.trade_off = trade_off
        self.seeds = seeds
        self.n_seed_trials = n_seed_trials
        self.max_iter = max_iter
        self.tol = tol
        self.scale = scale
        self.scores = scores
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Find the components one after the other, deflating both views in between.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            First view.
        y : array-like of shape (n_samples,), (n_samples, n_targets) or (n_samples, n_samples)
            Second view of the same samples, or its kernel.

        Returns
        -------
        PrimalDualSparseCCA
            The fitted estimator.

        Raises
        ------
        ValueError
            If a view has no variance, or the seeds given are not distinct rows.
        """
        X, y, _ = validate_views(self, X, y)
        dtype = X.dtype
        X, y = X.astype(np.float64), y.astype(np.float64)
        if self.kernel == "precomputed" and y.shape[0] != y.shape[1]:
            raise ValueError(f"y must be a square kernel matrix, got shape {y.shape}")
        x_mean, x_scale = center(X, scale=self.scale)
        self.y_mean_ = np.zeros(y.shape[1])
        if self.kernel in _SHIFT_INVARIANT:
            self.y_mean_ = y.mean(axis=0)
        self.Y_fit_ = y - self.y_mean_
        self.kernel_centerer_ = KernelCenterer()
        raw = self._kernel(self.Y_fit_)
        K = self.kernel_centerer_.fit_transform(raw)
        if not X.any() or vanished(K, raw):
            raise ValueError("X and y must vary over the samples: a view has no variance")
        self._find(X, K)
        self.x_mean_ = x_mean.astype(dtype, copy=False)
        self.x_weights_ = (self.x_weights_ / x_scale[:, None]).astype(dtype, copy=False)
        self.x_rotations_ = (self.x_rotations_ / x_scale[:, None]).astype(dtype, copy=False)
        return self

    def _kernel(self, y):
        params = self.kernel_params or {}
        if isinstance(self.kernel, str):
            params = {"gamma": self.gamma, "degree": self.degree, "coef0": self.coef0}
        return pairwise_kernels(
            y,
            self.Y_fit_,
            metric=self.kernel,
            filter_params=isinstance(self.kernel, str),
            **params,
        )

    def _find(self, X, K):
        """Fill the attributes that hold one value or column a component."""
        n_components = self.n_components
        given = _given_seeds(self.seeds, n_components, X.shape[0])
        rng = check_random_state(self.random_state)
        deflation = Deflation(X, K)
        self.seeds_ = np.full(n_components, -1)
        self.n_iter_ = np.zeros(n_components, dtype=int)
        self.mu_, self.gamma_, self.correlations_ = np.zeros((3, n_components))
        self.x_weights_ = np.zeros((X.shape[1], n_components))
        self.dual_coef_ = np.zeros((X.shape[0], n_components))
        for i in range(n_components):
            if deflation.exhausted:
                break
            seed = self._choose(deflation, i, rng) if given is None else given[i]
            pair = self._solve(deflation.X, deflation.K, seed)
            self.seeds_[i], self.n_iter_[i] = seed, pair.n_iter
            self.mu_[i], self.gamma_[i] = pair.mu, pair.gamma
            if not pair.w.any():
                continue
            found = deflation.normalise(pair.w, pair.e)
            self.x_weights_[:, i], self.dual_coef_[:, i], self.correlations_[i] = found
            deflation.remove(i, pair.w, pair.e)
        self.x_rotations_, self.dual_rotations_ = deflation.rotations(X, K, n_components)
        self._finish()

    def _finish(self):
        self.n_components_ = int(np.any(self.x_weights_ != 0, axis=0).sum())
        self._n_features_out = self.n_components
        if self.n_components_ < self.n_components:
            warnings.warn(
                f"{self.n_components - self.n_components_} of {self.n_components} components "
                "have no feature left and are zero: lower n_components or scale_mu",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _solve(self, X, K, seed):
        return primal_dual_scca_pair(
            X,
            K,
            seed,
            trade_off=self.trade_off,
            scale_mu=self.scale_mu,
            scale_gamma=self.scale_gamma,
            max_iter=self.max_iter,
            tol=self.tol,
        )

    def _choose(self, deflation, i, rng):
        """Seed of component i among the samples not used yet."""
        left = np.setdiff1d(np.arange(len(deflation.K)), self.seeds_[:i])
        if self.seeds == "sequential":
            return i
        if self.seeds == "max_norm":
            return left[np.argmax(np.linalg.norm(deflation.K[:, left], axis=0))]
        trials = rng.choice(left, min(self.n_seed_trials, len(left)), replace=False)
        return trials[np.argmax([self._held_out(deflation, seed, rng) for seed in trials])]

    def _held_out(self, deflation, seed, rng):
        """Correlation of the component of a seed on a fifth of the rows, left out of it."""
        n_samples = len(deflation.K)
        others = rng.permutation(np.delete(np.arange(n_samples), seed))
        test = others[: min(max(2, n_samples // 5), n_samples - 1)]
        train = np.append(others[len(test) :], seed)
        pair = self._solve(deflation.X[train], deflation.K[np.ix_(train, train)], len(train) - 1)
        x_scores = deflation.X[test] @ pair.w[:, None]
        y_scores = deflation.K[np.ix_(test, train)] @ pair.e[:, None]
        return column_correlations(x_scores, y_scores)[0]

    def transform(self, X, y=None):
        """Give the scores of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the first view.
        y : array-like of shape (n_samples,), (n_samples, n_targets) or (n_samples, n_fitted), \
default=None
            The second view (of the same or of other samples), or its kernel with the training
            samples.

        Returns
        -------
        x_scores : ndarray of shape (n_samples, n_components)
            Scores of the first view.
        y_scores : ndarray of shape (n_samples, n_components)
            Scores of the second view; only where `y` is given.
        """
        X = self._check_rows(X)
        return self._x_scores(X) if y is None else (self._x_scores(X), self._y_scores(y, X))

    def fit_transform(self, X, y):
        """Fit, then give the scores of the first view, so that the estimator fits in a pipeline.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            First view.
        y : array-like of shape (n_samples,), (n_samples, n_targets) or (n_samples, n_samples)
            Second view of the same samples, or its kernel.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Scores of the first view.
        """
        return self.fit(X, y).transform(X)

    def score(self, X, y):
        """Mean correlation of the scores of both views on given rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the first view.
        y : array-like of shape (n_samples,), (n_samples, n_targets) or (n_samples, n_fitted)
            The same rows in the second view, or their kernel with the training samples.

        Returns
        -------
        float
            In [-1, 1]; components that are zero count as 0.
        """
        X = self._check_rows(X)
        return float(column_correlations(self._x_scores(X), self._y_scores(y, X)).mean())

    def retrieve(self, X, y):
        """Rank the samples of the second view as mates of each sample of the first.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)
            Rows of the first view.
        y : array-like of shape (n_candidates,), (n_candidates, n_targets) or \
(n_candidates, n_fitted)
            Rows of the second view, or their kernel with the training samples.

        Returns
        -------
        ndarray of shape (n_queries, n_candidates)
            Indices of the candidates of each query, by decreasing cosine of the scores.
        """
        X = self._check_rows(X)
        y_scores = self._y_scores(y, X, same_rows=False)
        cosines = normalize(self._x_scores(X)) @ normalize(y_scores).T
        return np.argsort(-cosines, axis=1, kind="stable")

    def get_support(self, indices=False):
        """Tell which features some component uses.

        Parameters
        ----------
        indices : bool, default=False
            Whether to return their indices instead of a mask.

        Returns
        -------
        ndarray
            Mask of shape (n_features,), or integer indices.
        """
        check_is_fitted(self)
        mask = np.any(self.x_weights_ != 0, axis=1)
        return np.flatnonzero(mask) if indices else mask

    def _check_rows(self, X):
        check_is_fitted(self)
        return validate_data(self, X, dtype=[np.float64, np.float32], reset=False)

    def _x_scores(self, X):
        weights = self.x_rotations_ if self.scores == "deflated" else self.x_weights_
        return (X - self.x_mean_) @ weights

    def _y_scores(self, y, X, same_rows=True):
        y, _ = check_view(y, X if same_rows else np.empty((np.shape(y)[0], 0), X.dtype))
        if y.shape[1] != self.Y_fit_.shape[1]:
            raise ValueError(f"y has {y.shape[1]} columns, expected {self.Y_fit_.shape[1]}")
        weights = self.dual_rotations_ if self.scores == "deflated" else self.dual_coef_
        kernel = self._kernel(y.astype(np.float64) - self.y_mean_)
        return (self.kernel_centerer_.transform(kernel) @ weights).astype(X.dtype, copy=False)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def primal_dual_scca_pair(
    X, K, seed, *, trade_off=0.5, scale_mu=1.0, scale_gamma=1.0, max_iter=1000, tol=1e-5
):
    """Solve the convex problem of one component of primal-dual sparse CCA.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        First view, its columns centred.
    K : ndarray of shape (n_samples, n_samples)
        Centred kernel of the second view.
    seed : int
        Index of the sample whose exemplar weight is fixed to 1.
    trade_off : float, default=0.5
        Weight of the first view in the residual, in (0, 1).
    scale_mu : float, default=1.0
        Factor on the data-driven penalty on the feature weights.
    scale_gamma : float, default=1.0
        Factor on the data-driven penalty on the exemplar weights.
    max_iter : int, default=1000
        Largest number of sweeps.
    tol : float, default=1e-5
        Largest violation of the optimality conditions, relative to the penalties at scale 1.

    Returns
    -------
    Pair
        Named tuple ``(w, e, objective, mu, gamma, n_iter)``; w and e are not normalised.

    References
    ----------
    .. [1] D. R. Hardoon, J. Shawe-Taylor, "Sparse Canonical Correlation Analysis", Machine
       Learning 83, 2011, :arxiv:`0908.2724`, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.cross_decomposition import primal_dual_scca_pair
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(2, 50, 20))
    >>> Y[:, 0] = X[:, 0]
    >>> X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    >>> pair = primal_dual_scca_pair(X, Y @ Y.T, np.argmax(np.abs(X[:, 0])))
    >>> int(np.argmax(np.abs(pair.w))), int(np.sum(pair.e > 0)) < 10
    (0, True)
    """
    n_samples, n_features = X.shape
    A = np.hstack([trade_off * X, (trade_off - 1) * K])
    cross = np.abs(2 * A.T @ A[:, n_features + seed])
    mu = cross[:n_features].mean()
    exemplars = cross[n_features:].copy()
    exemplars[seed] = 0.0
    gamma = exemplars.mean()
    sizes = (n_features, n_samples)
    penalty = np.repeat([scale_mu * mu, scale_gamma * gamma], sizes)
    lower, upper = np.repeat([-np.inf, 0.0], sizes), np.repeat([np.inf, 1.0], sizes)
    lower[n_features + seed] = 1.0
    start = np.maximum(lower, 0.0) * (np.arange(len(lower)) == n_features + seed)
    tolerance = tol * np.repeat([mu or 1.0, gamma or 1.0], sizes)
    z, n_iter, converged = minimize_box_lasso(A, penalty, lower, upper, start, tolerance, max_iter)
    if not converged:
        warnings.warn(
            f"coordinate descent did not converge in {max_iter} sweeps: increase max_iter or tol",
            ConvergenceWarning,
            stacklevel=2,
        )
    objective = float(np.sum((A @ z) ** 2) + penalty @ np.abs(z))
    w, e = z[:n_features], z[n_features:]
    return Pair(w, e, objective, float(penalty[0]), float(penalty[-1]), n_iter)


def _given_seeds(seeds, n_components, n_samples):
    """Seeds given as indices, or None where a rule chooses them."""
    if isinstance(seeds, str):
        return None
    seeds = np.asarray(seeds)
    distinct = seeds.ndim == 1 and len(np.unique(seeds)) == n_components == len(seeds)
    if (
        not distinct
        or seeds.dtype.kind not in "iu"
        or not np.all((seeds >= 0) & (seeds < n_samples))
    ):
        raise ValueError(
            f"seeds must hold n_components={n_components} distinct integers in "
            f"[0, {n_samples}), got {seeds!r}"
        )
    return seeds
