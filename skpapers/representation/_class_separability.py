"""How well an embedding separates classes: the ICNN score, and losses that raise it."""

from numbers import Integral

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils import check_X_y
from sklearn.utils._param_validation import Interval, validate_params

__all__ = ["icnn_loss", "icnn_score", "icnn_separability", "proto_triplet_loss"]

_EPS = 1e-6  # under the root of squared distances, and next to a distance that is divided by


def distances(A, B):
    """Euclidean distances, with a gradient where points coincide."""
    squares = (A**2).sum(1)[:, None] + (B**2).sum(1) - 2 * A @ B.T
    return (squares.clamp(min=0) + _EPS).sqrt()


def proto_triplet_loss(Z, y, prototypes, *, margin=0.5):
    """Compute the triplet loss of queries, own prototype and nearest other prototype.

    Parameters
    ----------
    Z : torch.Tensor of shape (n_queries, n_components)
        Embedded queries.
    y : torch.Tensor of int of shape (n_queries,)
        Class of each query, a row of `prototypes`.
    prototypes : torch.Tensor of shape (n_classes, n_components)
        Prototypes, of two classes at least.
    margin : float, default=0.5
        By how much the own prototype is to be nearer.

    Returns
    -------
    torch.Tensor of shape ()
        Mean of ``max(0, d(own) - min d(other) + margin)``, where ``d = sqrt(|.|**2 + 1e-6)``.

    References
    ----------
    .. [1] M. Mendez-Ruiz et al., "SuSana Distancia is all you need: Enforcing class separability
       in metric learning via two novel distance-based loss functions for few-shot image
       classification", arXiv:2305.09062, 2023.

    Examples
    --------
    >>> import torch
    >>> from skpapers.representation import proto_triplet_loss
    >>> prototypes = torch.tensor([[0.0], [1.0]])
    >>> loss = proto_triplet_loss(torch.tensor([[0.4]]), torch.tensor([0]), prototypes)
    >>> round(loss.item(), 4)  # 0.4 - 0.6 + 0.5
    0.3
    """
    D = distances(Z, prototypes)
    own = F.one_hot(y, len(prototypes)).bool()
    nearest_other = D.masked_fill(own, torch.inf).amin(1)
    return F.relu(D[own] - nearest_other + margin).mean()


def icnn_loss(Z, y, *, n_neighbors=4, points_per_class=None):
    """Compute minus the log of the ICNN score of embedded rows.

    Parameters
    ----------
    Z : torch.Tensor of shape (n_samples, n_components)
        Embedded rows, at least two.
    y : torch.Tensor of int of shape (n_samples,)
        Their classes.
    n_neighbors : int, default=4
        Nearest neighbours that count.
    points_per_class : int, default=None
        How many nearest rows are searched for one of another class; None is the size of the
        largest class.

    Returns
    -------
    torch.Tensor of shape ()
        The loss. Its gradient is that of the distances; the share of neighbours of the same
        class is constant in pieces.

    References
    ----------
    .. [1] M. Mendez-Ruiz et al., "SuSana Distancia is all you need: Enforcing class separability
       in metric learning via two novel distance-based loss functions for few-shot image
       classification", arXiv:2305.09062, 2023.

    Examples
    --------
    >>> import torch
    >>> from skpapers.representation import icnn_loss
    >>> Z = torch.tensor([[0.0], [0.0], [9.0], [9.0]])
    >>> round(icnn_loss(Z, torch.tensor([0, 0, 1, 1]), n_neighbors=1).item(), 4)
    0.0
    """
    Z = Z - Z.detach().mean(0)  # little is lost in products of rows about the origin
    return -torch.log(_icnn(distances(Z, Z), y, n_neighbors, points_per_class))


@validate_params(
    {
        "Z": ["array-like", torch.Tensor],
        "y": ["array-like", torch.Tensor],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "points_per_class": [Interval(Integral, 1, None, closed="left"), None],
    },
    prefer_skip_nested_validation=True,
)
def icnn_score(Z, y, *, n_neighbors=4, points_per_class=None):
    """Score how well classes are separated: the inter- and intra-class nearest neighbour score.

    Parameters
    ----------
    Z : array-like or torch.Tensor of shape (n_samples, n_features)
        Rows, at least two, usually of an embedding.
    y : array-like or torch.Tensor of shape (n_samples,)
        Their classes.
    n_neighbors : int, default=4
        Nearest neighbours that count.
    points_per_class : int, default=None
        How many nearest rows are searched for one of another class; None is the size of the
        largest class.

    Returns
    -------
    float
        Between 0 and 1, where 1 is the best: the mean of the share of neighbours of the same
        class, and of how near these are and how far the others, in units of the nearest row of
        another class.

    Notes
    -----
    Time is O(n_samples ** 2 * n_features), memory O(n_samples ** 2).

    References
    ----------
    .. [1] M. Mendez-Ruiz et al., "SuSana Distancia is all you need: Enforcing class separability
       in metric learning via two novel distance-based loss functions for few-shot image
       classification", arXiv:2305.09062, 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skpapers.representation import icnn_score
    >>> X, y = load_iris(return_X_y=True)
    >>> icnn_score(X, y) > icnn_score(X[:, :1], y)
    True
    """
    if not isinstance(Z, torch.Tensor):
        Z, y = check_X_y(Z, y, dtype=np.float64, ensure_min_samples=2)
        Z = torch.from_numpy(np.array(Z))
    codes = torch.from_numpy(np.unique(np.asarray(y), return_inverse=True)[1])
    with torch.no_grad():
        D = torch.cdist(Z, Z, compute_mode="donot_use_mm_for_euclid_dist")  # exact
        D = (D**2 + _EPS).sqrt()
        return float(_icnn(D, codes.to(D.device), n_neighbors, points_per_class))


def icnn_separability(estimator, X, y):
    """Score the embedding of a fitted estimator: a `scoring` for searches.

    Parameters
    ----------
    estimator : estimator
        Fitted, with `transform`.
    X : array-like of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,)
        Their classes.

    Returns
    -------
    float
        :func:`icnn_score` of the transformed rows.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from skpapers.representation import icnn_separability
    >>> X, y = load_iris(return_X_y=True)
    >>> 0 < icnn_separability(PCA(2).fit(X), X, y) < 1
    True
    """
    return icnn_score(np.asarray(estimator.transform(X)), y)


def _icnn(D, y, n_neighbors, points_per_class):
    """The score from all distances; differentiable."""
    n = len(D)
    largest = int(torch.bincount(y).max()) if points_per_class is None else points_per_class
    n_seen = min(largest, n - 1)
    k = min(n_neighbors, n_seen)
    D = D + torch.diag(D.new_full((n,), torch.inf))  # a row is not its own neighbour
    near, columns = D.topk(n_seen, largest=False)
    same = y[columns] == y[:, None]
    nearest_other = near.masked_fill(same, torch.inf).amin(1, keepdim=True)
    near, same = near[:, :k], same[:, :k]
    relative = near / (nearest_other + _EPS)  # zero where no other class is seen
    relative = relative / relative.detach().amax(1, keepdim=True).clamp(min=1)
    closeness = 1 - _mean_over(relative, same)
    closeness = torch.where(same.any(), closeness, torch.zeros_like(closeness))
    far = near / near.detach().masked_fill(same, 0).amax().clamp(min=_EPS)
    remoteness = _mean_over(far, ~same)
    remoteness = torch.where(same.all(), torch.ones_like(remoteness), remoteness)
    share = same.to(D.dtype).mean()
    return ((closeness + remoteness) / 2 + share) / 2


def _mean_over(values, chosen):
    """Mean, over rows with a chosen entry, of the mean of these."""
    counts = chosen.sum(1)
    sums = torch.where(chosen, values, torch.zeros_like(values)).sum(1)
    rows = counts > 0
    means = sums / counts.clamp(min=1)
    return torch.where(rows, means, torch.zeros_like(means)).sum() / rows.sum().clamp(min=1)
