"""Score functions, the gradients of log densities, of whatever describes a density."""

import sys

import numpy as np
from scipy import linalg
from scipy.special import softmax
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from sklearn.utils import check_array, gen_batches
from sklearn.utils._chunking import get_chunk_n_rows
from sklearn.utils.validation import check_is_fitted

from skpapers.processes._line_integral import line_integral

__all__ = ["GaussianDensity", "log_ratio", "stein_score"]


class GaussianDensity:
    """The Gaussian with the mean and covariance of a sample."""

    def fit(self, X):
        self.mean_ = X.mean(axis=0)
        covariance = np.atleast_2d(np.cov(X, rowvar=False, bias=True))
        # the pseudo-inverse leaves directions without variance out of the test
        self.precision_, self._rank = linalg.pinvh(covariance, return_rank=True)
        values, vectors = linalg.eigh(covariance)
        kept = slice(X.shape[1] - self._rank, None)
        self._root = vectors[:, kept] * np.sqrt(values[kept])
        return self

    def score_function(self, X):
        return (self.mean_ - X) @ self.precision_

    def score_samples(self, X):
        """Log density up to its constant."""
        return 0.5 * np.sum((X - self.mean_) * self.score_function(X), axis=1)

    def sample(self, n_samples, rng):
        return self.mean_ + rng.normal(size=(n_samples, self._rank)) @ self._root.T


def stein_score(density=None, X=None):
    """Turn a description of a density into its score function, the gradient of its logarithm.

    Parameters
    ----------
    density : object, default=None
        The first of these that fits: None, the Gaussian with the mean and covariance of `X`;
        an object with `score_function` or `grad_log_prob`; a torch module with `log_prob`
        (differentiated by autograd); a fitted estimator with `score_samples` (the closed form
        for :class:`~sklearn.mixture.GaussianMixture` and a Gaussian
        :class:`~sklearn.neighbors.KernelDensity`, central differences for the others), frozen
        or not; a function from points to scores.
    X : array-like of shape (n_samples, n_features), default=None
        Sample that the Gaussian is fitted to if `density` is None.

    Returns
    -------
    callable
        Maps points (n_samples, n_features) to scores of the same shape.

    Raises
    ------
    TypeError
        If `density` is none of these.
    ValueError
        If `density` and `X` are None.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.hypothesis_testing import stein_score
    >>> stein_score(X=[[-1.0], [1.0]])(np.array([[0.5]]))
    array([[-0.5]])
    """
    if density is None:
        if X is None:
            raise ValueError("stein_score needs X, to fit a Gaussian to, if density is None")
        return GaussianDensity().fit(check_array(X, dtype=np.float64)).score_function
    if isinstance(density, FrozenEstimator):
        return stein_score(density.estimator)
    for name in ("score_function", "grad_log_prob"):
        if hasattr(density, name):
            return getattr(density, name)
    if _is_torch_module(density):
        return lambda points: _torch_score(density, points)
    if hasattr(density, "score_samples"):
        return _estimator_score(density)
    if callable(density):
        return density
    raise TypeError(
        "density must be a function from points to scores, have score_function, grad_log_prob "
        f"or score_samples, or be a torch module with log_prob; got {density!r}"
    )


def _estimator_score(density):
    if isinstance(density, (GaussianMixture, KernelDensity)):
        check_is_fitted(density)
    if isinstance(density, GaussianMixture):
        return lambda points: _mixture_score(density, points)
    if isinstance(density, KernelDensity) and density.kernel == "gaussian":
        return lambda points: _kernel_density_score(density, points)
    return lambda points: _difference_score(density.score_samples, points)


def _is_torch_module(density):
    torch = sys.modules.get("torch")  # a torch module exists only where torch is imported
    return torch is not None and isinstance(density, torch.nn.Module)


def _torch_score(module, points):
    torch = sys.modules["torch"]
    if not hasattr(module, "log_prob"):
        raise TypeError("a torch module needs log_prob to have a score")
    if isinstance(points, torch.Tensor):
        inputs = points.detach().clone().requires_grad_()
    else:
        inputs = torch.tensor(np.asarray(points), **_torch_kind(module)).requires_grad_()
    with torch.enable_grad():
        (scores,) = torch.autograd.grad(module.log_prob(inputs).sum(), inputs)
    return (
        scores if isinstance(points, torch.Tensor) else scores.cpu().numpy().astype(points.dtype)
    )


def _torch_kind(module):
    """Type and device of the module's parameters, if it has any."""
    parameter = next(module.parameters(), None)
    return {} if parameter is None else {"dtype": parameter.dtype, "device": parameter.device}


def _mixture_score(mixture, points):
    """Mean of the components' scores under the responsibilities."""
    responsibilities = mixture.predict_proba(points)
    scores = np.zeros(points.shape, dtype=np.result_type(points, np.float32))
    for share, mean, precision in zip(responsibilities.T, mixture.means_, _precisions(mixture)):
        scores += share[:, None] * ((mean - points) @ precision)
    return scores


def _precisions(mixture):
    """Precision matrices of the components, of any covariance type."""
    n_components, n_features = mixture.means_.shape
    precisions, identity = mixture.precisions_, np.eye(n_features)
    if mixture.covariance_type == "diag":
        return precisions[:, :, None] * identity
    if mixture.covariance_type == "spherical":
        return precisions[:, None, None] * identity
    return np.broadcast_to(precisions, (n_components, n_features, n_features))


def _kernel_density_score(density, points):
    """(weighted mean of the training points - point) / bandwidth^2, by blocks of rows."""
    centres = np.asarray(density.tree_.data)
    weights = getattr(density.tree_, "sample_weight", None)
    log_weights = 0.0 if weights is None else np.log(np.asarray(weights))
    width = density.bandwidth_**2
    norms = np.sum(centres**2, axis=1)
    scores = np.empty(points.shape, dtype=np.result_type(points, np.float32))
    n_rows = get_chunk_n_rows(row_bytes=16 * len(centres), max_n_rows=len(points))
    for rows in gen_batches(len(points), n_rows):
        logits = (points[rows] @ centres.T - 0.5 * norms) / width + log_weights
        scores[rows] = (softmax(logits, axis=1) @ centres - points[rows]) / width
    return scores


def _difference_score(log_density, points):
    """Central differences of a log density, with the step that balances its two errors."""
    points = np.asarray(points, dtype=np.float64)
    scores = np.empty_like(points)
    steps = np.cbrt(np.finfo(np.float64).eps) * np.maximum(points.std(axis=0), 1e-300)
    steps = np.maximum(steps, 1e-10 * np.abs(points).max(axis=0, initial=1e-300))
    for j, step in enumerate(steps):
        shift = np.zeros(points.shape[1])
        shift[j] = step
        scores[:, j] = (log_density(points + shift) - log_density(points - shift)) / (2 * step)
    return scores


def log_ratio(density, score, start, end):
    """log p(end) - log p(start), from `score_samples` or as an integral of the score."""
    density = density.estimator if isinstance(density, FrozenEstimator) else density
    if hasattr(density, "score_samples"):
        return density.score_samples(end) - density.score_samples(start)
    return line_integral(score, start, end)
