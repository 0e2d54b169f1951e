"""Losses that learn a score from samples."""

from skpapers.neural_network import field_divergence

__all__ = ["denoising_score_loss", "implicit_score_loss"]


def denoising_score_loss(score, x, sigma, noise):
    """Compute the denoising score matching loss of each row, in units of the noise.

    Its minimiser is the score of the law of x + sigma z.

    Parameters
    ----------
    score : callable
        Maps noisy rows to vectors of their shape.
    x : torch.Tensor of shape (n, ...)
        Rows.
    sigma : float or torch.Tensor
        Standard deviation of the noise; a tensor that broadcasts against `x`.
    noise : torch.Tensor of shape (n, ...)
        Standard normal draws.

    Returns
    -------
    torch.Tensor of shape (n,)
        Means over the entries of (sigma score(x + sigma z) + z)^2; 1 for a score of zero.

    References
    ----------
    Vincent, "A connection between score matching and denoising autoencoders", 2011.

    Examples
    --------
    >>> import torch
    >>> from skpapers.processes import denoising_score_loss
    >>> denoising_score_loss(lambda x: -x, torch.zeros(1, 2), 1.0, torch.ones(1, 2))
    tensor([0.])
    """
    return (sigma * score(x + sigma * noise) + noise).square().flatten(1).mean(1)


def implicit_score_loss(score, x, probes=None, *, create_graph=True):
    """Compute the loss of Hyvarinen of each row, half the squared score plus its divergence.

    Its expectation is half the squared distance to the true score, up to a constant that does not
    depend on the model.

    Parameters
    ----------
    score : callable
        Maps (n, d) to (n, d); row i of the result depends on row i alone.
    x : torch.Tensor of shape (n, d)
        Rows.
    probes : torch.Tensor of shape (n_probes, n, d), default=None
        Random signs, to estimate divergences; None for exact ones, in d backward passes.
    create_graph : bool, default=True
        Keep the graph, to train with the result.

    Returns
    -------
    torch.Tensor of shape (n,)
        Losses.

    References
    ----------
    Hyvarinen, "Estimation of non-normalized statistical models by score matching", 2005.

    Examples
    --------
    >>> import torch
    >>> from skpapers.processes import implicit_score_loss
    >>> implicit_score_loss(lambda x: -x, torch.tensor([[1.0, 1.0]]), create_graph=False)
    tensor([-1.])
    """
    values, divergence = field_divergence(score, x, probes, create_graph=create_graph)
    return 0.5 * values.square().sum(1) + divergence
