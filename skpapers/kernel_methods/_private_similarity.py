"""Private sums of similarities: one noisy summary of a data set answers any number of queries."""

import warnings
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.utils import check_random_state

from ._private_features import KERNELS, draw_frequencies, release_features
from ._private_noise import Budget
from ._private_trees import n_nodes, plant

__all__ = ["PrivacyLeakWarning", "PrivateSimilarity"]

# Shares of the budget: of the count where it is released by itself, and of (sum, count, scatter).
_COUNT_SHARE = 0.1
_MOMENT_SHARES = (0.8, 0.1, 0.1)


class PrivacyLeakWarning(UserWarning):
    """Warning that a bound was taken from private data, which the guarantee does not cover.

    Examples
    --------
    >>> from skpapers.kernel_methods import PrivacyLeakWarning
    >>> issubclass(PrivacyLeakWarning, UserWarning)
    True
    """


class Moments(NamedTuple):
    """Released count, sum and sum of squared norms, for squared distances."""

    count: float
    total: np.ndarray
    scatter: float
    noise: np.ndarray  # of count, an entry of the sum, scatter

    def answer(self, Y):
        """Sum of the squared distances between each row of Y and all records."""
        return self.count * (Y**2).sum(axis=1) - 2 * Y @ self.total + self.scatter

    def variance(self, Y):
        """Variance of the noise in the answers."""
        square = (Y**2).sum(axis=1)
        return np.stack([square**2, 4 * square, np.ones(len(Y))], axis=1) @ self.noise**2

    @property
    def mean(self):
        return self.total / max(self.count, 1.0)


class _PrivateSimilarity(BaseEstimator):
    """Parameters, the public part (projection, bounds, frequencies) and the private release."""

    _parameter_constraints: dict = {
        "similarity": [StrOptions(set(KERNELS) | {"l1", "l2", "sqeuclidean"})],
        "epsilon": [Interval(Real, 0, 1e4, closed="right"), Options(Real, {np.inf}), None],
        "delta": [Interval(Real, 0, 1, closed="neither")],
        "bandwidth": [Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, 1, closed="neither")],
        "method": [StrOptions({"prefix", "annuli"})],
        "bounds": ["array-like", None],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "n_components": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "n_cells": [Interval(Integral, 2, 2**20, closed="both")],
        "jl_dim": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"}), None],
        "mechanism": [StrOptions({"gaussian", "laplace"})],
        "neighbors": [StrOptions({"add_remove", "replace"})],
        "consistency": ["boolean"],
        "random_state": ["random_state", np.random.Generator],
    }

    def _prepare(self, X, n_summaries=1):
        """Draw the noise of all summaries, and the public part: all but bounds not given."""
        rng = None if self.random_state is None else check_random_state(self.random_state)
        public = check_random_state(rng)
        self._budget = Budget(
            self.epsilon, self.delta, self.mechanism, self.neighbors == "replace"
        )
        self.jl_components_ = self._draw_projection(X.shape[1], public)
        if self.similarity == "l2":
            self._norm = self._resolved_norm(X)
            X = clipped(X, self._norm)
        X = self._project(X)
        self.n_values_ = self._prepare_similarity(X, public)
        self.epsilon_spent_ = np.inf if self._budget.noiseless else float(self.epsilon)
        self.delta_ = self._budget.spent_delta
        self._noise = self._budget.noise(n_summaries * self.n_values_, rng)
        return X

    def _prepare_similarity(self, X, rng):
        """Set up what the similarity needs; return how many numbers will be released."""
        if self.similarity in KERNELS:
            n_components = self._resolved("n_components", np.ceil(4 / self.alpha**2))
            self._frequencies = draw_frequencies(
                self.similarity, self.bandwidth, X.shape[1], n_components, self.alpha, rng
            )
            return 2 * len(self._frequencies[1]) + 1
        if self.similarity == "sqeuclidean":
            self._norm = self._resolved_norm(X)
            return X.shape[1] + 2
        if self.n_cells & (self.n_cells - 1):
            raise ValueError(f"n_cells must be a power of two, got {self.n_cells}")
        self._box = self._resolved_box(X)
        return X.shape[1] * n_nodes(self.n_cells)

    def _resolved(self, name, automatic):
        value = getattr(self, name)
        return int(automatic) if value == "auto" else value

    def _draw_projection(self, n_features, rng):
        """Gaussian projection, or None: distances on average kept, l2 into l1 for trees."""
        if self.similarity in ("l1", "laplacian", "rational_l1"):
            if isinstance(self.jl_dim, Integral):
                raise ValueError(
                    f"jl_dim={self.jl_dim} projects Euclidean distances: it does not apply to "
                    f"similarity={self.similarity!r}"
                )
            return None
        if self.similarity == "l2":
            n_axes = self._resolved("jl_dim", np.ceil(1 / self.alpha**2)) or n_features
            return np.sqrt(np.pi / 2) / n_axes * rng.normal(size=(n_features, n_axes))
        automatic = np.ceil(np.log(1 / self.alpha) / self.alpha**2)
        smaller = self.similarity != "sqeuclidean" and n_features > automatic
        n_axes = self._resolved("jl_dim", automatic if smaller else 0)
        if not n_axes:
            return None
        return rng.normal(size=(n_features, n_axes)) / np.sqrt(n_axes)

    def _project(self, X):
        X = X.astype(np.float64, copy=False)
        return X if self.jl_components_ is None else X @ self.jl_components_

    def _resolved_norm(self, X):
        if self.clip_norm is not None:
            return float(self.clip_norm)
        self._warn("clip_norm")
        return float(np.sqrt((X.astype(np.float64) ** 2).sum(axis=1).max())) or 1.0

    def _resolved_box(self, X):
        """Lower and upper bounds of the axes."""
        if self.similarity == "l2":
            half = self._norm * np.linalg.norm(self.jl_components_, axis=0)
            return np.stack([-half, half])
        if self.bounds is None:
            self._warn("bounds")
            low, high = X.min(axis=0), X.max(axis=0)
            flat = high - low <= 1e-9 * np.abs(high)
            pad = np.where(flat, np.maximum(np.abs(high), 1.0) / 2, 0.0)
            return np.stack([low - pad, high + pad])
        low, high = (np.broadcast_to(np.asarray(b, float), X.shape[1]) for b in self.bounds)
        if not (low < high).all() or not np.isfinite([low, high]).all():
            raise ValueError(f"bounds must be finite, the lower below the upper: {self.bounds!r}")
        return np.stack([low, high])

    def _warn(self, name):
        if not self._budget.noiseless:
            warnings.warn(
                f"{name}=None takes {name} from the data, which leaks privacy that epsilon does "
                f"not count: pass {name}",
                PrivacyLeakWarning,
                stacklevel=5,
            )

    def _summarize(self, X):
        """Release the summary of prepared records: the one place where they are looked at."""
        relative = self._budget.relative_scale(self.n_values_)
        paid = {"budget": self._budget, "relative": relative, "noise": self._noise}
        if self.similarity in KERNELS:
            count = self._release_count(X, _COUNT_SHARE, relative)
            return release_features(X, *self._frequencies, count, 1 - _COUNT_SHARE, **paid)
        if self.similarity == "sqeuclidean":
            return self._release_moments(X, relative)
        return plant(
            X,
            *self._box,
            n_cells=self.n_cells,
            consistent=self.consistency,
            ratio=1 + self.alpha if self.method == "annuli" else None,
            **paid,
        )

    _moment_shares = _MOMENT_SHARES

    def _release_moments(self, X, relative):
        """Release (count, sum, sum of squared norms) of rows clipped to the norm B.

        Removing a row changes them by 1, a vector of l2 norm B (l1 norm sqrt(n_features) B), and
        B**2, in absolute value at most.
        """
        budget, norm, shares = self._budget, self._norm, self._moment_shares
        rows = clipped(X, norm)
        scale = budget.block_scale(relative, norm * np.sqrt(X.shape[1]), norm, shares[0])
        total = budget.release(rows, scale, self._noise)
        count = self._release_count(X, shares[1], relative)
        scatter, square_scale = np.nan, np.nan
        if len(shares) > 2:
            square_scale = budget.block_scale(relative, norm**2, norm**2, shares[2])
            squares = (rows**2).sum(axis=1, keepdims=True)
            scatter = budget.release(squares, square_scale, self._noise)[0]
        count_scale = budget.block_scale(relative, 1.0, 1.0, shares[1])
        noise = budget.standard_deviation(np.array([count_scale, scale, square_scale]))
        return Moments(count, total, float(scatter), noise)

    def _release_count(self, X, share, relative):
        scale = self._budget.block_scale(relative, 1.0, 1.0, share)
        return float(self._budget.release_counts(np.array([len(X)]), scale, self._noise)[0])

    def _forget(self):
        """Drop the drawn noise: who knows it knows the exact sums."""
        del self._noise

    def _query_rows(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self._project(X), X.dtype


class PrivateSimilarity(_PrivateSimilarity):
    """Differentially private sums of similarities, or distances, to a data set.

    `fit` releases a noisy summary of the records once; whatever is computed from it, in any
    number of queries, costs no more privacy. With f the similarity, a query y is answered with
    the sum of f(x, y) over the records x.

    Parameters
    ----------
    similarity : {"gaussian", "exponential", "laplacian", "cauchy", "rational", "rational_l1", \
            "l1", "l2", "sqeuclidean"}, default="gaussian"
        With s the `bandwidth` and |.| the Euclidean norm: exp(-|x - y|^2 / s^2),
        exp(-|x - y| / s), exp(-|x - y|_1 / s), 1 / (1 + |x - y|^2 / s^2), 1 / (1 + |x - y| / s),
        1 / (1 + |x - y|_1 / s), or the distance |x - y|_1, |x - y|, |x - y|^2.
    epsilon : float or None, default=1.0
        Privacy budget, at most 1e4; None or infinite for no noise and no privacy.
    delta : float, default=1e-6
        Probability with which the guarantee may fail; not used by `mechanism` "laplace".
    bandwidth : float, default=1.0
        Width of the kernel, in units of X. Must not be chosen by looking at the records.
    alpha : float, default=0.1
        Accuracy apart from noise, in (0, 1): sizes of automatic approximations, and the relative
        width of annuli.
    method : {"prefix", "annuli"}, default="prefix"
        How trees answer: exactly between centres of cells, or, as in the paper, by counts in
        annuli whose radii grow by 1 + `alpha`.
    bounds : tuple (low, high), default=None
        For "l1": range to which features are clipped, scalars or one number a feature. None takes
        it from the data, with a `PrivacyLeakWarning`.
    clip_norm : float, default=None
        For "l2" and "sqeuclidean": Euclidean norm to which rows (projected ones for
        "sqeuclidean") are clipped. None takes it from the data, with a `PrivacyLeakWarning`.
    n_components : int or "auto", default="auto"
        Number of random frequencies of a kernel; "auto" is 4 / alpha^2.
    n_cells : int, default=1024
        Leaves of the tree of each axis, a power of two. Distances are rounded to half a cell.
    jl_dim : int, "auto" or None, default="auto"
        Dimension of a Gaussian random projection: of the Johnson-Lindenstrauss kind for the
        Euclidean kernels ("auto" is log(1 / alpha) / alpha^2 where there are more features) and
        for "sqeuclidean" ("auto" is none); of l2 into l1 for "l2" ("auto" is 1 / alpha^2, None
        is the number of features).
    mechanism : {"gaussian", "laplace"}, default="gaussian"
        Noise; "laplace" has delta 0, and an error that grows with the square root of the number
        of released values.
    neighbors : {"add_remove", "replace"}, default="add_remove"
        Data sets that must be indistinguishable: with a record more or less, or one replaced
        (which doubles the noise).
    consistency : bool, default=True
        Reconcile the noisy counts of trees by least squares, which lowers the error.
    random_state : int, RandomState instance, Generator or None, default=None
        None draws the noise from the operating system's cryptographic source. Anything else
        makes the noise reproducible, and the result therefore not private.

    Attributes
    ----------
    epsilon_spent_ : float
        Budget that was spent; infinite if there is no noise.
    delta_ : float
        Delta of the guarantee; 0 for Laplace noise.
    count_ : float
        Noisy number of records.
    expected_error_ : float
        Standard deviation of the noise in a query at the origin (for kernels, anywhere).
    n_values_ : int
        Number of noisy values that were released.
    jl_components_ : ndarray of shape (n_features_in_, n_axes) or None
        Random projection, if there is one.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    Privacy. The release is a vector of sums over records, in blocks b, with shares that add
    up to one; removing a record changes block b by at most D_b in the l1 norm (Laplace) or the
    l2 norm (Gaussian). Rows are clipped, and what they add is truncated towards zero to a grid,
    which lowers the absolute value of every entry: the bounds hold for the truncated values.

    - Kernels: cosines and sines of m frequencies with weights w have l2 norm sqrt(sum w), and
      l1 norm at most sqrt(2) sum(sqrt(w)), as abs(cos) + abs(sin) <= sqrt(2); the count, 1.
    - Squared distances with norm B: B for the sum (l1: B sqrt(n_features)), 1 for the count,
      B^2 for the sum of squared norms.
    - Distances: a record is in one node on each of the log2(n_cells) + 1 levels on each axis:
      the l1 norm is their number, the l2 norm its root.

    Laplace noise of scale D_b / (epsilon share_b) makes the likelihood ratio of block b at most
    exp(epsilon share_b), and that of all of them exp(epsilon). Gaussian noise of standard
    deviation s D_b / sqrt(share_b) is, after division by it, one vector of l2 sensitivity 1/s;
    s is the least at which the exact delta of Balle and Wang, plus a bound of what the grid adds
    to it, is `delta`. The noise is an integer, drawn exactly from the discrete Laplace or Gaussian
    distribution with integer arithmetic, times a grid of 2^-24 of its scale: its low bits say
    nothing about the records, unlike those of floating-point noise. For "replace" all D_b are
    doubled. The fitted object holds no record. `bandwidth`, `bounds` and `clip_norm` must not
    come from the records.

    The sampler runs until it accepts: its running time is not constant.

    Cost: fit O(n_samples n_features log n_cells), or O(n_samples n_features n_components) for
    kernels; a query O(n_features), O(n_features log(n_cells) / alpha) in annuli, or O(n_features
    n_components). The count takes a tenth of the budget (for "sqeuclidean" the sum takes 80 %).

    The kernels 1 / (1 + z) are sums of exponentials, whose random frequencies are here released
    together instead of one structure a term, so that the noise does not grow with their number.

    References
    ----------
    Backurs, Lin, Mahabadi, Silwal and Tarnawski, "Efficiently Computing Similarities to Private
    Datasets", ICLR 2024, arXiv:2403.08917. Hay, Rastogi, Miklau and Suciu, "Boosting the Accuracy
    of Differentially Private Histograms Through Consistency", VLDB 2010. Balle and Wang,
    "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018 (Theorem 8). Canonne,
    Kamath and Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020 (Section 5).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.kernel_methods import PrivateSimilarity
    >>> X = np.random.RandomState(0).normal(size=(1000, 2))
    >>> model = PrivateSimilarity("gaussian", epsilon=1.0, random_state=0).fit(X)
    >>> mean = model.score_samples([[0.0, 0.0]])
    >>> bool(abs(mean[0] - 1 / 3) < 0.1)
    True
    """

    _search_space = {"bandwidth": [0.5, 1.0, 2.0, 4.0], "alpha": [0.05, 0.1, 0.2]}

    def __init__(
        self,
        similarity="gaussian",
        *,
        epsilon=1.0,
        delta=1e-6,
        bandwidth=1.0,
        alpha=0.1,
        method="prefix",
        bounds=None,
        clip_norm=None,
        n_components="auto",
        n_cells=1024,
        jl_dim="auto",
        mechanism="gaussian",
        neighbors="add_remove",
        consistency=True,
        random_state=None,
    ):
        self.similarity = similarity
        self.epsilon = epsilon
        self.delta = delta
        self.bandwidth = bandwidth
        self.alpha = alpha
        self.method = method
        self.bounds = bounds
        self.clip_norm = clip_norm
        self.n_components = n_components
        self.n_cells = n_cells
        self.jl_dim = jl_dim
        self.mechanism = mechanism
        self.neighbors = neighbors
        self.consistency = consistency
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Release the summary of the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Records.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If `bounds` or `n_cells` do not make sense, or `delta` is too small for the grid.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        self._summary = self._summarize(self._prepare(X))
        self._forget()
        self.count_ = self._summary.count
        origin = self._project(np.zeros((1, self.n_features_in_)))
        self.expected_error_ = float(np.sqrt(self._summary.variance(origin)[0]))
        return self

    def query(self, Y, return_std=False):
        """Sum of the similarities between each row of Y and the records.

        Parameters
        ----------
        Y : array-like of shape (n_queries, n_features)
            Queries.
        return_std : bool, default=False
            Also return the standard deviation of the noise.

        Returns
        -------
        sums : ndarray of shape (n_queries,)
            Noisy sums.
        std : ndarray of shape (n_queries,)
            Standard deviation of the noise in each, if `return_std`.
        """
        rows, dtype = self._query_rows(Y)
        sums = self._summary.answer(rows).astype(dtype, copy=False)
        if not return_std:
            return sums
        return sums, np.sqrt(self._summary.variance(rows)).astype(dtype, copy=False)

    def score_samples(self, X):
        """Mean similarity, or distance, between each row of X and the records.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Queries.

        Returns
        -------
        ndarray of shape (n_samples,)
            Noisy sums over the noisy number of records, which counts as one at least.
        """
        return self.query(X) / max(self.count_, 1.0)


def clipped(X, norm):
    """Rows of X, those longer than `norm` scaled to it."""
    lengths = np.sqrt((X**2).sum(axis=1, keepdims=True))
    return X * np.minimum(1.0, norm / np.maximum(lengths, 1e-300))
