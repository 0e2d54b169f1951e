"""Coding rates of features, the rate that a partition saves, and doubly stochastic membership."""

from numbers import Integral, Real

import numpy as np
import torch

__all__ = ["coding_rate", "rate_reduction", "sinkhorn_membership"]


def coding_rate(Z, *, eps=0.5):
    """Compute how many nats a row takes when all rows are coded together up to a distortion.

    Parameters
    ----------
    Z : array-like or torch.Tensor of shape (n_samples, n_components)
        Features, rows usually of unit length.
    eps : float, default=0.5
        Squared distortion.

    Returns
    -------
    float or torch.Tensor
        ``logdet(I + n_components / (n_samples * eps) * Z.T @ Z) / 2``; a differentiable scalar
        for a tensor.

    References
    ----------
    .. [1] T. Ding, S. Tong, K. H. R. Chan, X. Dai, Y. Ma and B. D. Haeffele, "Unsupervised
       Manifold Linearizing and Clustering", ICCV 2023, arXiv:2301.01805, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.cluster import coding_rate
    >>> bool(np.isclose(coding_rate(np.eye(2), eps=1.0), np.log(2)))
    True
    """
    features = _check_matrix("Z", Z)
    _check_positive("eps", eps)
    rate = total_rate(features, eps)
    return rate if torch.is_tensor(Z) else float(rate)


def rate_reduction(Z, membership, *, eps=0.5):
    """Compute the coding rate that is saved by coding each group of rows by itself.

    Parameters
    ----------
    Z : array-like or torch.Tensor of shape (n_samples, n_components)
        Features, rows usually of unit length.
    membership : array-like or torch.Tensor of shape (n_samples,) or (n_samples, n_groups)
        Labels, or the shares that each row has in the groups, which sum to 1 for each row; a
        doubly stochastic matrix has a group for each row.
    eps : float, default=0.5
        Squared distortion.

    Returns
    -------
    float or torch.Tensor
        Coding rate less compressed rate, not negative; a differentiable scalar for a tensor.

    References
    ----------
    .. [1] T. Ding, S. Tong, K. H. R. Chan, X. Dai, Y. Ma and B. D. Haeffele, "Unsupervised
       Manifold Linearizing and Clustering", ICCV 2023, arXiv:2301.01805, section 3.

    Examples
    --------
    Two orthogonal directions, told apart and mixed:

    >>> import numpy as np
    >>> from skpapers.cluster import rate_reduction
    >>> Z = np.repeat(np.eye(2), 3, axis=0)
    >>> round(rate_reduction(Z, [0, 0, 0, 1, 1, 1]), 3)
    0.294
    >>> round(rate_reduction(Z, [0, 1, 0, 1, 0, 1]), 3)
    0.025
    """
    features = _check_matrix("Z", Z)
    _check_positive("eps", eps)
    shares = _check_membership(membership, features)
    reduction = total_rate(features, eps) - compressed_rate(features, shares, eps)
    return reduction if torch.is_tensor(Z) else float(reduction)


def sinkhorn_membership(affinity, *, reg=0.175, n_iter=200):
    """Project an affinity on the doubly stochastic matrices, with an entropy.

    The result maximises ``sum(P * affinity) + reg * entropy(P)`` over the matrices P whose rows
    and columns sum to 1.

    Parameters
    ----------
    affinity : array-like or torch.Tensor of shape (n_samples, n_samples)
        Similarity of the rows, such as absolute cosines.
    reg : float, default=0.175
        Weight of the entropy. The smaller it is, the closer to a permutation the result.
    n_iter : int, default=200
        Number of times that rows, then columns, are normalised.

    Returns
    -------
    ndarray or torch.Tensor of shape (n_samples, n_samples)
        Membership; its columns sum to 1 after any number of iterations, its rows in the limit. A
        differentiable tensor for a tensor.

    References
    ----------
    .. [1] T. Ding, S. Tong, K. H. R. Chan, X. Dai, Y. Ma and B. D. Haeffele, "Unsupervised
       Manifold Linearizing and Clustering", ICCV 2023, arXiv:2301.01805, section 3.
    .. [2] M. Cuturi, "Sinkhorn Distances", NeurIPS 2013, arXiv:1306.0895.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.cluster import sinkhorn_membership
    >>> sinkhorn_membership(np.eye(2), reg=1 / np.log(3))
    array([[0.75, 0.25],
           [0.25, 0.75]])
    """
    matrix = _check_matrix("affinity", affinity)
    _check_positive("reg", reg)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"affinity must be square, got shape {tuple(matrix.shape)}")
    if not isinstance(n_iter, Integral) or n_iter < 1:
        raise ValueError(f"n_iter={n_iter!r} must be a positive integer")
    log_kernel = matrix / reg
    rows, columns = sinkhorn_potentials(log_kernel, n_iter)
    plan = torch.exp(log_kernel + rows[:, None] + columns)
    return plan if torch.is_tensor(affinity) else plan.numpy()


def sinkhorn_potentials(log_kernel, n_iter):
    """Log scales of rows and columns that make both sum to 1, the columns last."""
    columns = torch.zeros_like(log_kernel[0])
    for _ in range(n_iter):
        rows = -torch.logsumexp(log_kernel + columns, dim=1)
        columns = -torch.logsumexp(log_kernel + rows[:, None], dim=0)
    return rows, columns


def symmetric_scaling(kernel, n_iter):
    """Scale u for which rows and columns of ``u[:, None] * kernel * u`` sum to 1.

    For a symmetric kernel with a positive diagonal; one product an iteration, nothing overflows.
    """
    scale = torch.ones_like(kernel[0])
    for _ in range(n_iter):
        scale = torch.sqrt(scale / (kernel @ scale))
    return scale


def total_rate(Z, eps):
    """Nats a row when all rows are coded together."""
    n_rows, n_components = Z.shape
    return half_logdet(Z.T @ Z * (n_components / (n_rows * eps)))


def compressed_rate(Z, shares, eps):
    """Nats a row when each column of `shares` weights the rows of a group coded by itself."""
    n_rows, n_components = Z.shape
    sizes = shares.sum(dim=0)
    safe = sizes.clamp_min(torch.finfo(Z.dtype).tiny)
    outer = (Z[:, :, None] * Z[:, None, :]).reshape(n_rows, -1)
    scatter = (shares / safe).T @ outer  # one product for the matrices of all groups
    scatter = scatter.reshape(-1, n_components, n_components)
    return (sizes * half_logdet(scatter * (n_components / eps))).sum() / n_rows


def half_logdet(scatter):
    """Half of logdet(I + scatter) of each matrix; double precision, as I may be far smaller."""
    eye = torch.eye(scatter.shape[-1], dtype=torch.float64, device=scatter.device)
    factor = torch.linalg.cholesky(scatter.double() + eye)
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1).to(scatter.dtype)


def coding_length(Z, shares, eps):
    """Nats that code the rows of `Z` and the group of each, for hard groups (one-hot shares)."""
    n_components = Z.shape[1]
    length = Z.new_zeros(())
    for group in shares.T.bool():
        size = int(group.sum())
        if size:
            rate = total_rate(Z[group], eps)
            length = length + (size + n_components) * rate + size * np.log(len(Z) / size)
    return length


def hard_membership(labels, like):
    """One-hot matrix of labels, of the type of a tensor."""
    values, groups = np.unique(np.asarray(labels), return_inverse=True)
    groups = torch.from_numpy(groups.reshape(-1))
    return torch.nn.functional.one_hot(groups, len(values)).to(like)


def _check_matrix(name, values):
    matrix = values if torch.is_tensor(values) else torch.from_numpy(np.array(values, dtype=float))
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"{name} must be a matrix with entries, got shape {tuple(matrix.shape)}")
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError(f"{name} has entries that are NaN or infinite")
    return matrix


def _check_positive(name, value):
    if not isinstance(value, Real) or not 0 < value < float("inf"):
        raise ValueError(f"{name}={value!r} must be a positive number")


def _check_membership(membership, Z):
    if np.ndim(membership) == 1:
        labels = membership.cpu() if torch.is_tensor(membership) else membership
        shares = hard_membership(labels, Z)
    else:
        shares = _check_matrix("membership", membership).to(Z)
    if len(shares) != len(Z):
        raise ValueError(f"membership has {len(shares)} rows, Z has {len(Z)}")
    return shares
