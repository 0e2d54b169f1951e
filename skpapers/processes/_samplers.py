"""From noise back to data with a score: stochastic and deterministic, and the likelihood."""

import math

import torch

from skpapers.neural_network import field_divergence

from ._mcmc import _normal

__all__ = ["flow_log_likelihood", "probability_flow", "reverse_diffusion"]


def reverse_diffusion(score, x, schedule, times, *, generator):
    """Solve the reverse stochastic differential equation by Euler-Maruyama steps.

    Parameters
    ----------
    score : callable
        Maps points (n, d) and a time (tensor without dimensions) to scores (n, d).
    x : torch.Tensor of shape (n, d)
        Draws from the law at the first time.
    schedule : NoiseSchedule
        The forward process.
    times : torch.Tensor of shape (n_steps + 1,)
        Decreasing times, as of :func:`time_grid`.
    generator : torch.Generator
        Source of the draws.

    Returns
    -------
    torch.Tensor of shape (n, d)
        Draws at the last time.

    Examples
    --------
    >>> import torch
    >>> from skpapers.processes import get_schedule, reverse_diffusion, time_grid
    >>> generator = torch.Generator().manual_seed(0)
    >>> schedule = get_schedule("ou")
    >>> start = torch.randn(1000, 1, generator=generator)
    >>> x = reverse_diffusion(
    ...     lambda x, t: -x, start, schedule, time_grid(schedule, 50), generator=generator
    ... )
    >>> bool((x.var() - 1).abs() < 0.2)
    True
    """
    for now, after in zip(times[:-1].to(x.dtype), times[1:].to(x.dtype)):
        step, spread = now - after, schedule.g2(now)
        drift = 0.5 * schedule.beta(now) * x + spread * score(x, now)
        x = x + step * drift + torch.sqrt(step * spread) * _normal(x, generator)
    return x


def probability_flow(score, x, schedule, times):
    """Solve the probability flow, a differential equation with the same marginals, by Heun steps.

    Parameters
    ----------
    score : callable
        Maps points (n, d) and a time (tensor without dimensions) to scores (n, d).
    x : torch.Tensor of shape (n, d)
        Points at the first time.
    schedule : NoiseSchedule
        The forward process.
    times : torch.Tensor of shape (n_steps + 1,)
        Times: decreasing to turn noise into data, increasing to encode data.

    Returns
    -------
    torch.Tensor of shape (n, d)
        Points at the last time.

    Examples
    --------
    >>> import torch
    >>> from skpapers.processes import get_schedule, probability_flow, time_grid
    >>> schedule = get_schedule("ou")
    >>> x = torch.ones(1, 1)
    >>> probability_flow(lambda x, t: -x, x, schedule, time_grid(schedule, 10))
    tensor([[1.]])
    """
    for now, after in zip(times[:-1].to(x.dtype), times[1:].to(x.dtype)):
        first = _velocity(score, x, now, schedule)
        second = _velocity(score, x + (after - now) * first, after, schedule)
        x = x + 0.5 * (after - now) * (first + second)
    return x


def _velocity(score, x, t, schedule):
    return -0.5 * schedule.beta(t) * x - 0.5 * schedule.g2(t) * score(x, t)


def flow_log_likelihood(score, x, schedule, times, *, probes=None):
    """Compute the log density of rows by the probability flow, in Runge-Kutta steps of order 4.

    Parameters
    ----------
    score : callable
        Maps points (n, d) and a time (tensor without dimensions) to scores (n, d).
    x : torch.Tensor of shape (n, d)
        Rows, taken to be draws at the last time.
    schedule : NoiseSchedule
        The forward process.
    times : torch.Tensor of shape (n_steps + 1,)
        Decreasing times, as of :func:`time_grid`. The law at the first one is taken to be
        N(0, alpha^2 + sigma^2): columns are to have zero mean and unit variance.
    probes : torch.Tensor of shape (n_probes, n, d), default=None
        Random signs, to estimate divergences; None for exact ones, in d backward passes.

    Returns
    -------
    torch.Tensor of shape (n,)
        Log densities in nats.

    Examples
    --------
    >>> import torch
    >>> from skpapers.processes import flow_log_likelihood, get_schedule, time_grid
    >>> schedule = get_schedule("ou")
    >>> x = torch.zeros(1, 2)
    >>> log_density = flow_log_likelihood(lambda x, t: -x, x, schedule, time_grid(schedule, 20))
    >>> round(log_density.item(), 4)  # -log(2 pi)
    -1.8379
    """
    times = times.flip(0).to(x.dtype)
    total = torch.zeros_like(x[:, 0])

    def slope(x, t):
        return field_divergence(lambda z: _velocity(score, z, t, schedule), x, probes)

    for now, after in zip(times[:-1], times[1:]):
        step, middle = after - now, 0.5 * (now + after)
        k1, d1 = slope(x, now)
        k2, d2 = slope(x + 0.5 * step * k1, middle)
        k3, d3 = slope(x + 0.5 * step * k2, middle)
        k4, d4 = slope(x + step * k3, after)
        x = x + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        total = total + step / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
    variance = schedule.alpha(times[-1]) ** 2 + schedule.sigma(times[-1]) ** 2
    base = -0.5 * (x.square().sum(1) / variance + x.shape[1] * torch.log(2 * math.pi * variance))
    return base + total
