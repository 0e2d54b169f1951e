"""Losses, draws and the chain rule of a network that knows any part of a row.

The network has ``log_marginal(codes)``, (n,), and ``log_conditionals(codes)``, (n, d, k), of rows
of codes in which -1 is unknown.
"""

import torch

from ._binning import UNKNOWN

__all__ = [
    "chain_log_prob",
    "conditional_loss",
    "consistency_loss",
    "fill_in",
    "fill_modes",
    "fill_most_certain_first",
    "gibbs_step",
    "random_order",
    "random_prefix",
    "reinforce_loss",
]


def random_order(codes, generator):
    """Draw an order of the columns for each row, the unknown ones first, (n, d)."""
    keys = torch.rand(codes.shape, generator=generator).to(codes.device)
    return (keys + (codes >= 0)).argsort(1)


def random_prefix(known, generator):
    """Draw an order of the known columns of each row, and how many of them are seen.

    Returns the masks of the columns that are seen and of the next one.
    """
    rank = random_order(-known.long(), generator).argsort(1)  # the known ones come first
    n_known = known.sum(1, keepdim=True)
    share = torch.rand(n_known.shape, generator=generator).to(known.device)
    n_seen = (share * n_known).long().minimum((n_known - 1).clamp(min=0))
    return rank < n_seen, (rank == n_seen) & known


def _log_prob(network, seen, codes):
    """Log conditional probabilities of `codes`, each given the known columns of `seen`, (n, d)."""
    log_p = network.log_conditionals(seen)
    return log_p.gather(2, codes.clamp(min=0)[:, :, None])[:, :, 0]


def conditional_loss(network, codes, generator):
    """Negative log-likelihood of an any-order autoregressive model, an unbiased draw a row."""
    known = codes >= 0
    seen, _ = random_prefix(known, generator)
    unseen = known & ~seen
    log_p = _log_prob(network, codes.where(seen, UNKNOWN), codes)
    scale = known.sum(1) / unseen.sum(1).clamp(min=1)
    return -scale * log_p.where(unseen, 0).sum(1)


def consistency_loss(network, codes, generator, frozen=False):
    """Squared violation of the self-consistency, one random step a row, times the columns.

    With `frozen`, the conditionals get no gradient.
    """
    seen, following = random_prefix(codes >= 0, generator)
    before, after = codes.where(seen, UNKNOWN), codes.where(seen | following, UNKNOWN)
    log_before, log_after = network.log_marginal(torch.cat([before, after])).chunk(2)
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        log_p = _log_prob(network, before, codes).where(following, 0).sum(1)
    return codes.shape[1] * (log_after - log_before - log_p).square()


def reinforce_loss(log_p, energy):
    """Loss whose gradient is that of the divergence from exp(energy), per row of model samples."""
    reward = (log_p - energy).detach()
    reward = (reward - reward.mean()) / (reward.std(correction=0) + 1e-6)
    return reward * log_p


def fill_in(network, codes, order, generator):
    """Draw the unknown columns of each row one after another, in the `order` of that row."""
    codes, rows = codes.clone(), torch.arange(len(codes), device=codes.device)
    n_steps = int((codes < 0).sum(1).max()) if len(codes) else 0
    for column in order.T[:n_steps]:
        log_p = network.log_conditionals(codes)[rows, column]
        noise = torch.rand(log_p.shape, generator=generator, dtype=log_p.dtype).to(log_p.device)
        drawn = (log_p - (-noise.log()).log()).argmax(1)  # the Gumbel trick
        present = codes[rows, column]
        codes[rows, column] = torch.where(present < 0, drawn, present)
    return codes


def gibbs_step(network, codes, n_columns, generator):
    """Erase `n_columns` random columns of each row and draw them again, one after another."""
    order = torch.rand(codes.shape, generator=generator).to(codes.device).argsort(1)
    order = order[:, :n_columns]
    return fill_in(network, codes.scatter(1, order, UNKNOWN), order, generator)


def fill_modes(network, codes):
    """Fill in the most probable code of every unknown column, in one pass."""
    return codes.where(codes >= 0, network.log_conditionals(codes).argmax(2))


def fill_most_certain_first(network, codes):
    """Fill in the most certain unknown column of each row, and so on with what is left."""
    codes, rows = codes.clone(), torch.arange(len(codes), device=codes.device)
    while bool((codes < 0).any()):
        best, mode = network.log_conditionals(codes).max(2)
        column = best.where(codes < 0, -torch.inf).argmax(1)
        present = codes[rows, column]
        codes[rows, column] = torch.where(present < 0, mode[rows, column], present)
    return codes


def chain_log_prob(network, codes, order):
    """Log probability of the known columns by the chain rule, in a given order of the columns."""
    prefix = torch.full_like(codes, UNKNOWN)
    total = 0.0
    for column in order:
        log_p = network.log_conditionals(prefix)[:, column]
        code = codes[:, column]
        term = log_p.gather(1, code.clamp(min=0)[:, None])[:, 0]
        total = total + term.where(code >= 0, 0)
        prefix[:, column] = code
    return total
