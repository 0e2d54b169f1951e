"""Markov chains that sample a density from its score, one chain a row."""

import math

import torch

__all__ = ["metropolis_adjusted_langevin", "random_walk_metropolis", "unadjusted_langevin"]


def _normal(x, generator):
    """Draws of the shape of `x`, made on the CPU so that a seed means the same everywhere."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)


def unadjusted_langevin(score, x, *, step_size, n_steps, generator):
    """Run the unadjusted Langevin algorithm: x + h score(x) + sqrt(2h) noise.

    Parameters
    ----------
    score : callable
        Gradient of the log density, (n, d) to (n, d).
    x : torch.Tensor of shape (n_chains, n_features)
        Starting points.
    step_size : float
        The step h, in squared units of `x`.
    n_steps : int
        Number of steps.
    generator : torch.Generator
        Source of the draws.

    Returns
    -------
    torch.Tensor of shape (n_chains, n_features)
        End points. On a standard normal density their variance is 1 / (1 - h / 2).

    Examples
    --------
    >>> import torch
    >>> from skpapers.processes import unadjusted_langevin
    >>> generator = torch.Generator().manual_seed(0)
    >>> start = torch.zeros(1000, 1)
    >>> x = unadjusted_langevin(
    ...     lambda x: -x, start, step_size=0.1, n_steps=50, generator=generator
    ... )
    >>> bool((x.var() - 1 / 0.95).abs() < 0.2)
    True
    """
    scale = math.sqrt(2 * step_size)
    for _ in range(n_steps):
        x = x + step_size * score(x) + scale * _normal(x, generator)
    return x


def metropolis_adjusted_langevin(log_density_and_score, x, *, step_size, n_steps, generator):
    """Run Langevin steps with the correction that leaves the density exactly invariant.

    Parameters
    ----------
    log_density_and_score : callable
        Maps (n, d) to the log density, up to a constant, (n,), and its gradient (n, d).
    x : torch.Tensor of shape (n_chains, n_features)
        Starting points.
    step_size : float
        The step h, in squared units of `x`.
    n_steps : int
        Number of steps.
    generator : torch.Generator
        Source of the draws.

    Returns
    -------
    x : torch.Tensor of shape (n_chains, n_features)
        End points.
    acceptance_rate : float
        Share of the proposals that were accepted.

    Examples
    --------
    >>> import torch
    >>> from skpapers.processes import metropolis_adjusted_langevin
    >>> generator = torch.Generator().manual_seed(0)
    >>> x, rate = metropolis_adjusted_langevin(
    ...     lambda x: (-0.5 * (x**2).sum(1), -x),
    ...     torch.zeros(10, 2),
    ...     step_size=0.1,
    ...     n_steps=5,
    ...     generator=generator,
    ... )
    >>> rate > 0.9
    True
    """
    height, slope = log_density_and_score(x)
    accepted = 0.0
    for _ in range(n_steps):
        noise = _normal(x, generator)
        moved = x + step_size * slope + math.sqrt(2 * step_size) * noise
        new_height, new_slope = log_density_and_score(moved)
        back = (x - moved - step_size * new_slope).square().sum(1) / (4 * step_size)
        log_ratio = new_height - height + 0.5 * noise.square().sum(1) - back
        keep = _accept(log_ratio, generator)
        x = torch.where(keep[:, None], moved, x)
        slope = torch.where(keep[:, None], new_slope, slope)
        height = torch.where(keep, new_height, height)
        accepted += float(keep.double().mean())
    return x, accepted / max(n_steps, 1)


def random_walk_metropolis(log_ratio, x, *, scale, n_steps, generator):
    """Run Metropolis steps with normal proposals.

    Parameters
    ----------
    log_ratio : callable
        Maps two tensors (n, d), from and to, to log p(to) - log p(from), (n,); for example a
        :func:`line_integral` of a score.
    x : torch.Tensor of shape (n_chains, n_features)
        Starting points.
    scale : float
        Standard deviation of the proposals, in units of `x`.
    n_steps : int
        Number of steps.
    generator : torch.Generator
        Source of the draws.

    Returns
    -------
    x : torch.Tensor of shape (n_chains, n_features)
        End points.
    acceptance_rate : float
        Share of the proposals that were accepted.

    Examples
    --------
    >>> import torch
    >>> from skpapers.processes import random_walk_metropolis
    >>> generator = torch.Generator().manual_seed(0)
    >>> x, rate = random_walk_metropolis(
    ...     lambda start, end: 0.5 * (start**2 - end**2).sum(1),
    ...     torch.zeros(10, 1),
    ...     scale=1.0,
    ...     n_steps=20,
    ...     generator=generator,
    ... )
    >>> 0.5 < rate < 0.9
    True
    """
    accepted = 0.0
    for _ in range(n_steps):
        moved = x + scale * _normal(x, generator)
        keep = _accept(log_ratio(x, moved), generator)
        x = torch.where(keep[:, None], moved, x)
        accepted += float(keep.double().mean())
    return x, accepted / max(n_steps, 1)


def _accept(log_ratio, generator):
    uniform = torch.rand(log_ratio.shape, generator=generator, dtype=log_ratio.dtype)
    return uniform.log().to(log_ratio.device) < log_ratio
