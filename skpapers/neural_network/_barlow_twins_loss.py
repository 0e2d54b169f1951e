"""The cross-correlation of two embeddings, and how far it is from the identity."""

import torch

__all__ = ["barlow_twins_loss", "cross_correlation", "redundancy"]


def barlow_twins_loss(Z1, Z2, *, lambd=5e-3, eps=1e-5):
    """Distance of the cross-correlation of two embeddings from the identity.

    ``sum_i (1 - C_ii)**2 + lambd * sum_{i != j} C_ij**2``, where C is the correlation of the
    columns of `Z1` with those of `Z2`.

    Parameters
    ----------
    Z1, Z2 : torch.Tensor of shape (n_samples, n_components)
        Embeddings of two distortions of the same rows.
    lambd : float, default=5e-3
        Weight of the off-diagonal entries, the redundancy of the components.
    eps : float, default=1e-5
        Added to the variances, so that a constant column has correlation 0.

    Returns
    -------
    torch.Tensor
        The loss, a scalar; 0 if and only if C is the identity, `n_components` if `Z1` or `Z2` is
        constant.

    Notes
    -----
    O(n_samples * n_components**2); of n_components**2 entries only C itself is kept, no copy
    without its diagonal. Where a ``torch.distributed`` process group is initialised, means,
    variances and C belong to the rows of all workers, and gradients flow to all of them: with
    ``DistributedDataParallel`` the result is that of a single worker with the whole batch.

    References
    ----------
    .. [1] J. Zbontar, L. Jing, I. Misra, Y. LeCun, S. Deny, "Barlow Twins: Self-Supervised
       Learning via Redundancy Reduction", ICML 2021, arXiv:2103.03230, equations 1 and 2.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import barlow_twins_loss
    >>> Z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> float(barlow_twins_loss(Z, Z, eps=0.0))
    0.0
    >>> float(barlow_twins_loss(Z, torch.ones(4, 2)))
    2.0
    """
    return redundancy(cross_correlation(Z1, Z2, eps=eps), lambd)


def cross_correlation(Z1, Z2, *, eps=1e-5):
    """Correlation of each column of one embedding with each column of another.

    Parameters
    ----------
    Z1, Z2 : torch.Tensor of shape (n_samples, n_components)
        Embeddings of the same rows.
    eps : float, default=1e-5
        Added to the variances, so that a constant column has correlation 0.

    Returns
    -------
    torch.Tensor of shape (n_components, n_components)
        The correlations, over the rows of all workers where there are several.

    Examples
    --------
    >>> import torch
    >>> from skpapers.neural_network import cross_correlation
    >>> Z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> cross_correlation(Z, Z.flip(1), eps=0.0)
    tensor([[0., 1.],
            [1., 0.]])
    """
    if Z1.shape != Z2.shape or Z1.ndim != 2:
        raise ValueError(
            f"embeddings must be two matrices of one shape, got {tuple(Z1.shape)} and "
            f"{tuple(Z2.shape)}"
        )
    n_rows = _over_workers(torch.full((), float(len(Z1)), dtype=Z1.dtype, device=Z1.device))
    return _over_workers(_standardize(Z1, n_rows, eps).T @ _standardize(Z2, n_rows, eps) / n_rows)


def redundancy(C, lambd):
    """Squared distance of C from the identity, its off-diagonal part weighted by `lambd`."""
    diagonal, entries = C.diagonal(), C.flatten()
    off_diagonal = entries @ entries - diagonal @ diagonal  # no copy of C without its diagonal
    return (1 - diagonal).square().sum() + lambd * off_diagonal


def _standardize(Z, n_rows, eps):
    """Batch normalisation without parameters: the variance is the biased one."""
    centred = Z - _over_workers(Z.sum(0)) / n_rows
    variance = _over_workers(centred.square().sum(0)) / n_rows
    return centred * torch.rsqrt(variance + eps)


def _over_workers(x):
    """Sum over the workers, in a way that lets gradients through."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return x
    from torch.distributed.nn.functional import all_reduce  # not in every build of torch

    return all_reduce(x)
