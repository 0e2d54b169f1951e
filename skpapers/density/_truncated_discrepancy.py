"""Stein discrepancy of truncated densities: kernels projected to vanish at boundary points."""

from numbers import Real
from typing import NamedTuple

import numpy as np
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skpapers.processes._ksd import SteinSample, stein_sums
from skpapers.utils import kernel_product, median_squared_distance, positive_definite_solver

__all__ = [
    "SteinObjective",
    "boundary_solver",
    "check_scores",
    "resolve_bandwidth",
    "stein_objective",
    "stein_witness",
    "truncated_ksd",
    "truncated_statistic",
]

_MAX_STORED_ROWS = 5000


@validate_params(
    {
        "X": ["array-like"],
        "score": ["array-like", callable],
        "boundary": ["array-like", None],
        "bandwidth": [StrOptions({"median"}), Interval(Real, 0, None, closed="neither")],
        "ridge": [Interval(Real, 0, None, closed="neither")],
        "statistic": [StrOptions({"u", "v"})],
    },
    prefer_skip_nested_validation=True,
)
def truncated_ksd(X, score, boundary=None, *, bandwidth="median", ridge=1e-3, statistic="u"):
    """Estimate the squared Stein discrepancy between a truncated sample and a density.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The sample, two rows at least.
    score : callable or array-like of shape (n_samples, n_features)
        Scores of the untruncated density at the rows, or the function that gives them.
    boundary : array-like of shape (n_points, n_features), default=None
        Points on the boundary of the region; None is the plain Stein discrepancy.
    bandwidth : "median" or float, default="median"
        Squared length c of the kernel exp(-|x - y|^2 / c); "median" is twice the median of the
        squared distances.
    ridge : float, default=0.001
        Added to the diagonal of the kernel matrix of the boundary points.
    statistic : {"u", "v"}, default="u"
        The U-statistic, without bias, or the V-statistic, which is not negative.

    Returns
    -------
    float
        The estimate, in squared inverse units of X.

    References
    ----------
    Williams and Liu, "Approximate Stein Classes for Truncated Density Estimation", ICML 2023,
    arXiv:2306.00602 (Section 3).

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.density import truncated_ksd
    >>> X = np.random.RandomState(0).uniform(size=(200, 1))
    >>> flat = np.zeros_like(X)
    >>> print(f"{truncated_ksd(X, flat):.1f}")
    2.0
    >>> abs(truncated_ksd(X, flat, [[0.0], [1.0]])) < 0.05
    True
    """
    X = check_array(X, dtype=np.float64, ensure_min_samples=2)
    scores = check_scores(np.asarray(score(X) if callable(score) else score, dtype=float), X)
    if boundary is None:
        boundary = np.empty((0, X.shape[1]))
    else:
        boundary = check_array(boundary, dtype=np.float64, input_name="boundary")
    bandwidth, centre = resolve_bandwidth(bandwidth, X), X.mean(axis=0)
    parts = X - centre, scores, boundary - centre
    return truncated_statistic(*parts, bandwidth, ridge, statistic)


def check_scores(scores, X):
    """Scores, if they are finite numbers of the shape of X."""
    if np.shape(scores) != X.shape or not np.isfinite(scores).all():
        raise ValueError(f"model must return finite scores of shape {X.shape}")
    return scores


def resolve_bandwidth(bandwidth, X):
    """Squared length c of exp(-|x - y|^2 / c): by default twice the median squared distance."""
    if isinstance(bandwidth, str):
        return 2 * median_squared_distance(X) or 1.0
    return float(bandwidth)


def boundary_solver(boundary, bandwidth, ridge):
    """Solver of the ridged kernel matrix of the boundary points, for rows: F -> F W."""
    if not len(boundary):
        return lambda features: features
    matrix = rbf_kernel(boundary, gamma=1 / bandwidth)
    matrix.flat[:: len(matrix) + 1] += ridge
    why = "The kernel matrix of the boundary points is not positive definite: raise ridge."
    solve = positive_definite_solver(matrix, why)
    return lambda features: solve(features.T).T


def _boundary_kernel(X, boundary, bandwidth):
    if not len(boundary):
        return np.empty((len(X), 0))
    return rbf_kernel(X, boundary, gamma=1 / bandwidth)


def truncated_statistic(X, scores, boundary, bandwidth, ridge, statistic):
    """U-statistic or V-statistic of the squared discrepancy.

    The Stein kernel of the residual kernel k - k_B W k_B is that of k less the inner products of
    the boundary features score_c k(x, b) + dk(x, b) / dx_c.
    """
    sums, diagonal, _ = stein_sums([SteinSample(X, scores, bandwidth)], "rbf")
    total, on_diagonal = sums.sum(), diagonal.sum()
    solve = boundary_solver(boundary, bandwidth, ridge)
    kernel = _boundary_kernel(X, boundary, bandwidth)
    for x, score, b in zip(X.T, scores.T, boundary.T):
        features = kernel * (score[:, None] - 2 / bandwidth * (x[:, None] - b))
        column = features.sum(axis=0)[None]
        total -= np.sum(solve(column) * column)
        if statistic == "u":
            on_diagonal -= np.sum(solve(features) * features)
    if statistic == "v":
        return float(total / len(X) ** 2)
    return float((total - on_diagonal) / (len(X) * (len(X) - 1)))


def stein_witness(Y, X, scores, boundary, bandwidth, ridge):
    """Test function that attains the discrepancy of the sample X, at the rows of Y.

    It is the mean over the sample of score(x) k'(x, y) + grad_x k'(x, y).
    """
    from_x = np.c_[scores - 2 / bandwidth * X, np.ones(len(X))]
    d = X.shape[1]

    def embed(points):
        sums = kernel_product(points, X, from_x, kernel="rbf", gamma=1 / bandwidth)
        return (sums[:, :d] + 2 / bandwidth * points * sums[:, d:]) / len(X)

    witness = embed(Y)
    if len(boundary):
        solve = boundary_solver(boundary, bandwidth, ridge)
        witness -= solve(_boundary_kernel(Y, boundary, bandwidth)) @ embed(boundary)
    return witness


class SteinObjective(NamedTuple):
    """The discrepancy as a quadratic function of the scores, less the part without them.

    It is (<scores, P scores> + 2 <scores, linear>) / n_pairs, with P = K - solved @ features.T -
    diag(diagonal).
    """

    points: np.ndarray
    kernel: np.ndarray | None
    features: np.ndarray
    solved: np.ndarray
    diagonal: np.ndarray
    linear: np.ndarray
    n_pairs: int

    def product(self, V):
        """P times V."""
        if self.kernel is None:
            smooth = kernel_product(self.points, self.points, V, kernel="rbf", gamma=1.0)
        else:
            smooth = self.kernel @ V
        return smooth - self.solved @ (self.features.T @ V) - self.diagonal[:, None] * V

    def value_and_gradient(self, scores):
        """Value and gradient with respect to the scores."""
        product = self.product(scores)
        value = np.sum(scores * (product + 2 * self.linear)) / self.n_pairs
        return value, 2 * (product + self.linear) / self.n_pairs


def stein_objective(points, boundary, ridge, statistic, *, store):
    """Prepare the objective for points in units in which the bandwidth is 1.

    `linear` holds the sums over j of grad_y k'(x_i, x_j); the U-statistic leaves out j = i.
    """
    n_samples = len(points)
    stored = store and n_samples <= _MAX_STORED_ROWS
    kernel = rbf_kernel(points, gamma=1.0) if stored else None
    features = _boundary_kernel(points, boundary, 1.0)
    solved = boundary_solver(boundary, 1.0, ridge)(features)
    plain = SteinObjective(
        points, kernel, features[:, :0], solved[:, :0], np.zeros(n_samples), None, n_samples**2
    )
    sums = plain.product(np.c_[points, np.ones(n_samples)])
    slopes = features.T @ points - boundary * features.sum(axis=0)[:, None]
    linear = 2 * (points * sums[:, -1:] - sums[:, :-1] + solved @ slopes)
    diagonal, n_pairs = np.zeros(n_samples), n_samples**2
    if statistic == "u":
        share = solved * features
        linear -= 2 * (points * share.sum(axis=1)[:, None] - share @ boundary)
        diagonal, n_pairs = 1 - share.sum(axis=1), n_samples * (n_samples - 1)
    return SteinObjective(points, kernel, features, solved, diagonal, linear, n_pairs)
