"""Gradients through two-parameter topology: a loss, and points that follow it."""

from numbers import Integral, Real

import numpy as np
import torch
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skpapers.structure._base import to_numpy
from skpapers.utils import nearest_neighbors

from ._filtrations import codensity, function_rips
from ._signed_measures import hilbert_signed_measure, signed_measure_distance

__all__ = ["MultiparameterTopologyLoss", "TopologicalPointOptimizer"]

_LOWEST = 0.3  # share of the points, the densest ones, in the first slice


class MultiparameterTopologyLoss(torch.nn.Module):
    """Loss on the components of points at each scale, among the dense points and among all.

    Points are joined by length, and let in by density, the densest first. The signed measure of
    components under both has coordinates that are lengths and densities of single points, through
    which gradients flow to the points: the codes of an autoencoder, say.

    Parameters
    ----------
    functional : {"separate", "distance"} or callable, default="separate"
        "separate" is low if clusters are far apart: minus the squared excess over `threshold` of
        the lengths at which components merge, averaged over the slices. "distance" is the
        transport distance to the measure of a target. A callable gets the points of the measure,
        a tensor of shape (n_points, 2), and their weights, and returns a scalar tensor.
    n_slices : int, default=10
        Number of densities at which points are let in: the quantiles from 0.3 to 1. With 1, all
        points at once, as in one-parameter persistence.
    n_neighbors : int, default=8
        Points are dense if the root mean square distance to this many others is small.
    threshold : float, default=None
        Length from which on merging counts in "separate"; None is the median length of the edges
        of the minimum spanning tree of the points.
    kind : {"ot", "sliced"}, default="sliced"
        What "distance" is, see :func:`signed_measure_distance`.

    Notes
    -----
    O(n_points ** 2) and a spanning forest for each slice, on the CPU; a tensor on another device
    is copied there to find the forests, not to compute the loss. Gradients exist almost
    everywhere, and stochastic subgradient descent converges to critical points if the sum of the
    step lengths is infinite and that of their squares finite.

    The minimum found is a local one. A gap that closes opens again if an encoder moves all of a
    group at once, not always then, and rarely where codes are free, for each merge pulls at two
    points only.

    References
    ----------
    .. [1] L. Scoccola, S. Setlur, D. Loiseaux, M. Carriere, S. Oudot, "Differentiability and
       Optimization of Multiparameter Persistent Homology", ICML 2024, arXiv:2406.07224,
       Sections 3 to 5.

    Examples
    --------
    >>> import torch
    >>> from skpapers.manifold import MultiparameterTopologyLoss
    >>> points = torch.tensor([[0.0], [1.0], [5.0]], requires_grad=True)
    >>> loss = MultiparameterTopologyLoss(n_slices=1, threshold=1.0)(points)
    >>> loss.backward()
    >>> loss.item(), points.grad.ravel().tolist()
    (-9.0, [0.0, 6.0, -6.0])
    """

    def __init__(
        self, functional="separate", *, n_slices=10, n_neighbors=8, threshold=None, kind="sliced"
    ):
        super().__init__()
        if functional not in ("separate", "distance") and not callable(functional):
            raise ValueError(
                f"functional must be 'separate', 'distance' or a callable, got {functional!r}"
            )
        if n_slices < 1 or n_neighbors < 1:
            raise ValueError("n_slices and n_neighbors must be at least 1")
        if kind not in ("ot", "sliced"):
            raise ValueError(f"kind must be 'ot' or 'sliced', got {kind!r}")
        self.functional = functional
        self.n_slices = n_slices
        self.n_neighbors = n_neighbors
        self.threshold = threshold
        self.kind = kind

    def forward(self, points, target=None):
        """Compute the loss.

        Parameters
        ----------
        points : torch.Tensor of shape (n_points, n_features)
            Points.
        target : torch.Tensor of shape (n_target, n_target_features), default=None
            With ``functional="distance"``, points whose topology to take on.

        Returns
        -------
        torch.Tensor
            A scalar.
        """
        positions, weights = sliced_measure(points, self.n_slices, self.n_neighbors)
        if self.functional == "distance":
            if target is None:
                raise ValueError("functional='distance' needs a target")
            goal = sliced_measure(target, self.n_slices, self.n_neighbors)
            return signed_measure_distance((positions, weights), goal, self.kind)
        weights = torch.as_tensor(weights, dtype=positions.dtype, device=positions.device)
        if callable(self.functional):
            return self.functional(positions, weights)
        threshold = self.threshold
        if threshold is None:
            threshold = median_spanning_edge(to_numpy(points))
        return separation(positions, weights, threshold)


class TopologicalPointOptimizer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Move points by gradient descent on their topology under scale and density.

    Clusters are drawn apart although outliers bridge the gap between them: the density, as second
    parameter, asks for the distance of the dense parts. Where only scale counts, the chain of
    outliers hides the gap.

    Parameters
    ----------
    loss : {"separate"} or callable, default="separate"
        Functional of :class:`MultiparameterTopologyLoss`, which is minimised.
    n_steps : int, default=60
        Largest number of steps.
    lr : float, default=0.05
        Length of a step, the root of the sum of squares over all points, in units of the root
        mean square distance of the points to their mean.
    decay : float, default=0.0
        Step k is divided by ``(k + 1) ** decay``. Above 0.5, and at most 1, descent converges.
    n_slices : int, default=10
        Number of densities at which points are let in; 1 ignores density.
    n_neighbors : int, default=8
        Number of neighbours that tell the density.
    threshold : float, default=None
        Length from which on merging counts; None is the median edge of the minimum spanning tree
        of the points given.
    tol : float, default=1e-4
        Stop when a step changes the loss by at most this share of it.

    Attributes
    ----------
    points_ : ndarray of shape (n_samples, n_features)
        The rows given, moved.
    displacements_ : ndarray of shape (n_samples, n_features)
        How far each row was moved.
    loss_curve_ : list of float
        Loss before each step and at the end.
    threshold_ : float
        Length from which on merging counts.
    n_iter_ : int
        Number of steps made.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.

    Notes
    -----
    A step is O(n_samples ** 2 n_features) and `n_slices` spanning forests. Rows that are equal
    stay equal.

    References
    ----------
    .. [1] L. Scoccola, S. Setlur, D. Loiseaux, M. Carriere, S. Oudot, "Differentiability and
       Optimization of Multiparameter Persistent Homology", ICML 2024, arXiv:2406.07224,
       Sections 3 to 5.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.manifold import TopologicalPointOptimizer
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(40, 2)) * 0.2 + np.repeat([[-1.0, 0.0], [1.0, 0.0]], 20, axis=0)
    >>> moved = TopologicalPointOptimizer(n_steps=20).fit_transform(X)
    >>> gap = lambda X: X[20:, 0].min() - X[:20, 0].max()
    >>> bool(gap(moved) > gap(X))
    True
    """

    _parameter_constraints = {
        "loss": [StrOptions({"separate"}), callable],
        "n_steps": [Interval(Integral, 0, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "decay": [Interval(Real, 0, 1, closed="both")],
        "n_slices": [Interval(Integral, 1, None, closed="left")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "threshold": [Interval(Real, 0, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left")],
    }
    _search_space = {"n_slices": [1, 5, 10], "n_steps": [10, 30, 60], "lr": [0.02, 0.05, 0.1]}

    def __init__(
        self,
        loss="separate",
        *,
        n_steps=60,
        lr=0.05,
        decay=0.0,
        n_slices=10,
        n_neighbors=8,
        threshold=None,
        tol=1e-4,
    ):
        self.loss = loss
        self.n_steps = n_steps
        self.lr = lr
        self.decay = decay
        self.n_slices = n_slices
        self.n_neighbors = n_neighbors
        self.threshold = threshold
        self.tol = tol

    @staticmethod
    def _small_params():
        return {"n_steps": 10}

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Move the points.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted optimizer.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        start = X.astype(np.float64)
        self._mean = start.mean(axis=0)
        self.threshold_ = self.threshold
        if self.threshold is None:
            self.threshold_ = median_spanning_edge(start)
        distinct, copies = np.unique(start, axis=0, return_inverse=True)
        end = self._descend(torch.tensor(distinct), copies.ravel()).numpy()[copies.ravel()]
        self._start, self._moves = start, end - start
        self.points_ = end.astype(X.dtype)
        self.displacements_ = self._moves.astype(X.dtype)
        self._n_features_out = X.shape[1]
        return self

    def _descend(self, points, copies):
        """Step along the normalised gradient of points[copies]."""
        loss = MultiparameterTopologyLoss(
            self.loss,
            n_slices=self.n_slices,
            n_neighbors=self.n_neighbors,
            threshold=self.threshold_,
        )
        spread = torch.linalg.norm(points[copies] - points[copies].mean(dim=0))
        length = self.lr * spread / np.sqrt(len(copies))
        value, gradient = value_and_gradient(loss, points, copies)
        self.loss_curve_, self.n_iter_ = [value], 0
        for step in range(1, self.n_steps + 1):
            norm = torch.linalg.norm(gradient[copies])
            if norm == 0:
                break
            points = points - length * step**-self.decay * gradient / norm
            value, gradient = value_and_gradient(loss, points, copies)
            self.loss_curve_.append(value)
            self.n_iter_ = step
            last, new = self.loss_curve_[-2:]
            if abs(new - last) <= self.tol * abs(last):
                break
        return points

    def transform(self, X):
        """Move rows as the nearest of the points given to `fit` was moved.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Moved rows; those given to `fit` are moved to `points_`.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        rows = X.astype(np.float64)
        _, nearest = nearest_neighbors(rows - self._mean, 1, Y=self._start - self._mean)
        return (rows + self._moves[nearest[:, 0]]).astype(X.dtype)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def sliced_measure(points, n_slices, n_neighbors):
    """Signed measure of components of points under length and codensity, rounded up to slices.

    The slices are quantiles of the codensity, and depend on the points as well.
    """
    density = codensity(points, n_neighbors)
    levels = torch.linspace(_LOWEST if n_slices > 1 else 1.0, 1.0, n_slices).to(density)
    slices = torch.quantile(density, levels)
    number = np.searchsorted(to_numpy(slices), to_numpy(density))
    rounded = slices[np.minimum(number, n_slices - 1)]
    return hilbert_signed_measure(*function_rips(points, rounded))


def separation(positions, weights, threshold):
    """Minus the squared excess lengths of merges, averaged over the slices."""
    lengths, slices = positions[:, 0], positions[:, 1]
    range_ = slices.max() - slices.min()
    share = (slices.max() - slices) / range_ if range_ > 0 else torch.ones_like(slices)
    return torch.sum(weights * torch.relu(lengths - threshold) ** 2 * share)


def median_spanning_edge(points):
    """Median length of the edges of the minimum spanning tree, without those of length zero."""
    tree = minimum_spanning_tree(squareform(pdist(points)))
    return float(np.median(tree.data)) if tree.nnz else 0.0


def value_and_gradient(loss, points, copies):
    """Loss of points[copies] and its gradient by each of the points, over the number of copies."""
    points = points.detach().requires_grad_()
    value = loss(points[copies])
    (gradient,) = torch.autograd.grad(value, points, allow_unused=True)
    if gradient is None:
        gradient = torch.zeros_like(points)
    counts = torch.as_tensor(np.bincount(copies))[:, None]
    return value.item(), gradient / counts
