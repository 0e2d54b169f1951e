"""Density estimation from a truncated sample, with points of the boundary alone."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.mixture import GaussianMixture
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_random_state, draw_seed

from ._boundary import box_boundary, hull_boundary
from ._stein_fits import (
    Mixture,
    fit_gaussian,
    fit_mean,
    minimize_scores,
    mixture_packing,
)
from ._truncated_discrepancy import (
    check_scores,
    resolve_bandwidth,
    stein_objective,
    stein_witness,
    truncated_ksd,
    truncated_statistic,
)

__all__ = ["TruncatedSteinDensity", "truncated_ksd"]

_DRAWS = 20_000
_REACH = 7  # squared distance over bandwidth at which the kernel is below 0.001


def _has_density(estimator):
    return isinstance(estimator.model, str)


class TruncatedSteinDensity(DensityMixin, BaseEstimator):
    """Density fitted to a truncated sample, given points on the boundary of the region.

    Estimates the parameters that a density had before the sample was truncated to a region, of
    which no formula is needed, only points on its boundary. It minimises a Stein discrepancy over
    test functions that vanish at these points, and needs no normalising constant.

    Parameters
    ----------
    model : {"gaussian", "gaussian_mean", "gmm"} or callable, default="gaussian"
        A Gaussian, one with covariance I of which the mean is estimated, or a Gaussian mixture.
        A function is called as ``model(X, parameters)`` and returns the scores, the gradient
        of the log density at the rows, of shape (n_samples, n_features).
    n_components : int, default=1
        Number of components of "gmm".
    boundary : {"untruncated", "box", "hull"} or array-like of shape (n_points, n_features), \
            default="untruncated"
        Points on the boundary. "box" and "hull" draw them on the bounding box of the sample,
        widened by the expected spacing of its values, or on its convex hull (up to three
        features). "untruncated" uses none, which fits by the plain Stein discrepancy.
    n_boundary : int or "auto", default="auto"
        Number of points drawn for "box" and "hull"; "auto" is 8 n_features^2.
    statistic : {"u", "v"}, default="v"
        The V-statistic, which is never negative and suits every model, or the U-statistic,
        without bias, which for a flexible model or a small sample has no minimum.
    bandwidth : "median" or float, default="median"
        Squared length c of the kernel exp(-|x - y|^2 / c), in squared units of X; "median" is
        twice the median of the squared distances.
    ridge : float, default=0.001
        Added to the diagonal of the kernel matrix of the boundary points.
    covariance_type : {"full", "diag", "spherical"}, default="full"
        Shape of the covariances of "gaussian" and "gmm".
    initial_parameters : array-like of shape (n_parameters,), default=None
        Where the search of a callable `model` starts; required for one.
    n_init : int, default=5
        Number of starts of the search: for "gmm" from fits of
        :class:`sklearn.mixture.GaussianMixture`, for a callable from `initial_parameters` and from
        standard normal steps away from these.
    max_iter : int, default=500
        Largest number of iterations of the search.
    random_state : int, RandomState instance, Generator or None, default=None
        Seeds drawn boundary points, starts, and samples.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Weights of the components; not for a callable, as `means_` and `covariances_`.
    means_ : ndarray of shape (n_components, n_features)
        Means before truncation.
    covariances_ : ndarray of shape (n_components, n_features, n_features)
        Covariances before truncation.
    parameters_ : ndarray of shape (n_parameters,)
        Parameters of a callable `model`.
    boundary_ : ndarray of shape (n_points, n_features)
        Boundary points used.
    bandwidth_ : float
        Squared length used.
    discrepancy_ : float
        Squared discrepancy of the sample, by `statistic`, in squared inverse units of X.
    n_iter_ : int
        Iterations of the best search, 1 for a closed form.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had string column names.

    Notes
    -----
    With n samples, m boundary points and d features, a Gaussian takes O(n^2 d + n m d + m^3) time
    and memory for a block of the kernel; a search takes O(n^2 d) an iteration, and n^2 memory up
    to 5000 samples. A precision that comes out not positive definite is made so, with a warning.
    In directions in which the sample does not vary the variance is one millionth of the bandwidth.

    The V-statistic widens a full covariance, by a few percent at 60 rows of four features. The
    kernel has one bandwidth: standardise features of different scales, and the boundary with them.

    The densities are those of the untruncated model: give a `region` for the truncated one. The
    points must cover the boundary: random ones do so ever worse with the number of features.

    References
    ----------
    Williams and Liu, "Approximate Stein Classes for Truncated Density Estimation", ICML 2023,
    arXiv:2306.00602 (Sections 3 and 4).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.density import TruncatedSteinDensity
    >>> X = np.random.RandomState(0).normal(0.5, 1, size=(3000, 1))
    >>> X = X[np.abs(X[:, 0]) < 1]
    >>> model = TruncatedSteinDensity("gaussian_mean", boundary=[[-1.0], [1.0]]).fit(X)
    >>> print(f"{X.mean():.2f} {model.means_[0, 0]:.2f}")
    0.15 0.49
    """

    _parameter_constraints: dict = {
        "model": [StrOptions({"gaussian", "gaussian_mean", "gmm"}), callable],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "boundary": [StrOptions({"untruncated", "box", "hull"}), "array-like"],
        "n_boundary": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "statistic": [StrOptions({"u", "v"})],
        "bandwidth": [StrOptions({"median"}), Interval(Real, 0, None, closed="neither")],
        "ridge": [Interval(Real, 0, None, closed="neither")],
        "covariance_type": [StrOptions({"full", "diag", "spherical"})],
        "initial_parameters": ["array-like", None],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state", np.random.Generator],
    }

    _search_space = {"covariance_type": ["full", "diag", "spherical"]}

    def __init__(
        self,
        model="gaussian",
        *,
        n_components=1,
        boundary="untruncated",
        n_boundary="auto",
        statistic="v",
        bandwidth="median",
        ridge=1e-3,
        covariance_type="full",
        initial_parameters=None,
        n_init=5,
        max_iter=500,
        random_state=None,
    ):
        self.model = model
        self.n_components = n_components
        self.boundary = boundary
        self.n_boundary = n_boundary
        self.statistic = statistic
        self.bandwidth = bandwidth
        self.ridge = ridge
        self.covariance_type = covariance_type
        self.initial_parameters = initial_parameters
        self.n_init = n_init
        self.max_iter = max_iter
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Fit the density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The truncated sample, two rows at least.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If the U-statistic has no minimum, the rows are all equal, the boundary does not fit
            the sample, or a callable `model` has no `initial_parameters` or bad scores.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        X = X.astype(np.float64)
        if not np.ptp(X, axis=0).any():
            raise ValueError("X has equal rows only: there is no density to fit")
        rng = check_random_state(self.random_state)
        self.bandwidth_ = resolve_bandwidth(self.bandwidth, X)
        self.boundary_ = self._find_boundary(X, rng)
        self._centre, self._unit = X.mean(axis=0), self.bandwidth_**0.5
        # the kernel has bandwidth 1 in these units, so that no scale of X is special
        points, edge = ((Z - self._centre) / self._unit for Z in (X, self.boundary_))
        searched = callable(self.model) or self.model == "gmm"
        objective = stein_objective(points, edge, self.ridge, self.statistic, store=searched)
        self.n_iter_ = 1
        if callable(self.model):
            self._fit_callable(X, objective, rng)
        else:
            self._set_mixture(*self._fit_mixture(objective, rng))
        self.discrepancy_ = self._discrepancy(X, self.statistic)
        return self

    def _find_boundary(self, X, rng):
        n_features = X.shape[1]
        if not isinstance(self.boundary, str):
            boundary = check_array(self.boundary, dtype=np.float64, input_name="boundary")
            if boundary.shape[1] != n_features:
                raise ValueError(f"boundary has {boundary.shape[1]} features, X has {n_features}")
            return self._warn_of_boundary(boundary, X)
        if self.boundary == "untruncated":
            return np.empty((0, n_features))
        n_points = 8 * n_features**2 if self.n_boundary == "auto" else self.n_boundary
        draw = {"box": box_boundary, "hull": hull_boundary}[self.boundary]
        return draw(X, n_points, rng)

    def _warn_of_boundary(self, boundary, X):
        if len(boundary) < 4 * X.shape[1] ** 2 and X.shape[1] > 1:
            message = "There are fewer than 4 n_features^2 boundary points, which is few."
            warnings.warn(message, UserWarning)
        _, squared = pairwise_distances_argmin_min(boundary, X, metric="sqeuclidean")
        if squared.min() > _REACH * self.bandwidth_:
            message = "All boundary points are far from X and have no effect: check their units."
            warnings.warn(message, UserWarning)
        return boundary

    def _fit_mixture(self, objective, rng):
        """Weights, means and covariances in the units of the objective."""
        if self.model == "gmm":
            return self._search_mixture(objective, rng)
        if self.model == "gaussian_mean":
            mean, identity = fit_mean(objective, self.bandwidth_), np.eye(self.n_features_in_)
            return np.ones(1), mean[None], identity[None] / self.bandwidth_
        mean, covariance, projected = fit_gaussian(objective, self.covariance_type)
        if projected:
            warnings.warn(
                "The precision is not positive definite: the sample is too small, or near the "
                "uniform one. Its least eigenvalues were raised.",
                UserWarning,
            )
        return np.ones(1), mean[None], covariance[None]

    def _search_mixture(self, objective, rng):
        x, kind = objective.points, self.covariance_type
        unpack, pack, pack_derivatives = mixture_packing(self.n_components, x.shape[1], kind)

        def function(vector):
            mixture = unpack(vector)
            value, derivatives = mixture.pull_back(x, objective.value_and_gradient)
            return value, pack_derivatives(mixture, derivatives)

        starts = []
        for _ in range(self.n_init):
            start = GaussianMixture(self.n_components, random_state=draw_seed(rng)).fit(x)
            factors = np.linalg.cholesky(np.linalg.inv(start.covariances_))
            starts.append(pack(Mixture(np.log(start.weights_), start.means_, factors)))
        found = unpack(self._search(function, starts, True))
        covariances = np.linalg.inv(found.factors @ found.factors.transpose(0, 2, 1))
        return np.exp(found.log_weights), found.means, covariances

    def _fit_callable(self, X, objective, rng):
        if self.initial_parameters is None:
            raise ValueError("initial_parameters is needed where model is a function")
        first = check_array(self.initial_parameters, ensure_2d=False, dtype=np.float64)
        steps = rng.normal(size=(self.n_init - 1, first.size))
        check_scores(self.model(X, first), X)

        def function(parameters):
            scores = self.model(X, parameters) * self._unit
            return objective.value_and_gradient(scores)[0]

        self.parameters_ = self._search(function, [first, *(first + steps)], "3-point")

    def _search(self, function, starts, jac):
        bounded = self.statistic == "v"
        best = minimize_scores(function, starts, self.max_iter, jac, bounded=bounded)
        self.n_iter_ = max(best.nit, 1)
        if best.nit >= self.max_iter:
            message = f"The search stopped after {best.nit} iterations: raise max_iter."
            warnings.warn(message, ConvergenceWarning)
        return best.x

    def _set_mixture(self, weights, means, covariances):
        factors = np.linalg.cholesky(np.linalg.inv(covariances))
        self._mixture = Mixture(np.log(weights), means, factors)
        self.weights_ = weights
        self.means_ = self._centre + self._unit * means
        self.covariances_ = self._unit**2 * covariances

    def _scores(self, X):
        if callable(self.model):
            return check_scores(self.model(X, self.parameters_), X)
        return self._mixture.score((X - self._centre) / self._unit) / self._unit

    def _discrepancy(self, X, statistic):
        parts = X - self._centre, self._scores(X), self.boundary_ - self._centre
        return truncated_statistic(*parts, self.bandwidth_, self.ridge, statistic)

    def _validate(self, X, **kwargs):
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False, **kwargs)
        return X.astype(np.float64), X.dtype

    @available_if(_has_density)
    def score_samples(self, X, region=None):
        """Compute the log density of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        region : callable, default=None
            Maps rows to True inside the region. Then the density is that of the truncated
            model, normalised by 20 000 draws; None is the untruncated model.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log densities in nats, minus infinity outside of `region`.
        """
        X, dtype = self._validate(X)
        log_density = self._mixture.log_density((X - self._centre) / self._unit)
        log_density = log_density - X.shape[1] * np.log(self._unit)
        if region is not None:
            share = np.mean(region(self._draw(_DRAWS, check_random_state(self.random_state))))
            if share == 0:
                raise ValueError("no draw of the model falls into region")
            log_density = np.where(region(X), log_density - np.log(share), -np.inf)
        return log_density.astype(dtype)

    def score_function(self, X):
        """Compute the gradient of the log density at each row, the same with truncation.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The gradients.
        """
        X, dtype = self._validate(X)
        return self._scores(X).astype(dtype)

    def score(self, X, y=None):
        """Compute minus the U-statistic of the squared discrepancy: larger is a better fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Another sample of the same region, two rows at least.
        y : None
            Ignored.

        Returns
        -------
        float
            About zero where the density is right.
        """
        return -self._discrepancy(self._validate(X, ensure_min_samples=2)[0], "u")

    def witness(self, X, rows):
        """Evaluate the test function that attains the discrepancy of a sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The sample.
        rows : array-like of shape (n_rows, n_features)
            Where the function is evaluated.

        Returns
        -------
        ndarray of shape (n_rows, n_features)
            Near zero at the boundary points; largest where the density misfits most.
        """
        X, _ = self._validate(X)
        rows, dtype = self._validate(rows)
        parts = (Z - self._centre for Z in (rows, X, self.boundary_))
        rows, points, boundary = parts
        scores = self._scores(X)
        found = stein_witness(rows, points, scores, boundary, self.bandwidth_, self.ridge)
        return found.astype(dtype)

    @available_if(_has_density)
    def sample(self, n_samples=1, random_state=None, region=None):
        """Draw from the fitted density.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance, Generator or None, default=None
            Seeds the draws; None is that of the estimator.
        region : callable, default=None
            Maps rows to True inside the region, to which the draws are restricted by rejection.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The draws.
        """
        check_is_fitted(self)
        rng = check_random_state(self.random_state if random_state is None else random_state)
        if region is None:
            return self._draw(n_samples, rng)
        kept, n_kept, n_drawn = [], 0, 0
        while n_kept < n_samples:
            draws = self._draw(_DRAWS, rng)
            kept.append(draws[region(draws)])
            n_kept, n_drawn = n_kept + len(kept[-1]), n_drawn + _DRAWS
            if n_drawn >= 50 * _DRAWS and n_kept < n_drawn / 1e5:
                raise ValueError("next to no draw of the model falls into region")
        return np.concatenate(kept)[:n_samples]

    def _draw(self, n_samples, rng):
        component = rng.choice(len(self.weights_), n_samples, p=self.weights_)
        roots = np.linalg.cholesky(self.covariances_)
        noise = np.empty((n_samples, self.n_features_in_))
        normal = rng.normal(size=noise.shape)
        for k, root in enumerate(roots):
            noise[component == k] = normal[component == k] @ root.T
        return self.means_[component] + noise
