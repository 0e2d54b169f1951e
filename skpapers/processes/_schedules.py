"""Noise schedules: how a signal turns into noise over time."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

__all__ = ["NoiseSchedule", "get_schedule", "time_grid"]


@dataclass(frozen=True)
class NoiseSchedule:
    """Gaussian forward process, x_t = alpha(t) x_0 + sigma(t) z.

    It is the solution of dx = -beta(t) x / 2 dt + g(t) dW. All functions map tensors of times to
    tensors of the same shape.

    Parameters
    ----------
    name : str
        Name of the schedule.
    alpha : callable
        Factor of the signal.
    sigma : callable
        Standard deviation of the noise.
    beta : callable
        -2 d log alpha / dt.
    g2 : callable
        Squared diffusion, d sigma^2 / dt + beta sigma^2.
    t_min : float
        Time where sampling ends.
    t_max : float
        Time where sampling starts.

    Examples
    --------
    >>> import torch
    >>> from skpapers.processes import get_schedule
    >>> schedule = get_schedule("ou")
    >>> t = torch.tensor([1.0])
    >>> (schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2).item()
    1.0
    """

    name: str
    alpha: Callable
    sigma: Callable
    beta: Callable
    g2: Callable
    t_min: float
    t_max: float

    def log_snr(self, t):
        """Compute the log of the signal-to-noise ratio, 2 log(alpha / sigma).

        Parameters
        ----------
        t : torch.Tensor
            Times.

        Returns
        -------
        torch.Tensor
            Of the same shape.
        """
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def diffuse(self, x, t, noise):
        """Apply the forward process to rows.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...)
            Signals.
        t : torch.Tensor of shape (n,)
            Time of each row.
        noise : torch.Tensor of shape (n, ...)
            Standard normal draws.

        Returns
        -------
        torch.Tensor of shape (n, ...)
            Noisy rows, alpha(t) x + sigma(t) noise.
        """
        t = t.reshape(-1, *[1] * (x.ndim - 1))
        return self.alpha(t) * x + self.sigma(t) * noise


def get_schedule(name, **params):
    """Make a noise schedule.

    Parameters
    ----------
    name : {"vp", "ou", "ve", "edm", "cosine", "flow"}
        "vp": linear beta from `beta_min` 0.1 to `beta_max` 20 over [0, 1]. "ou": beta = 1, the
        Ornstein-Uhlenbeck process. "ve": alpha = 1, sigma geometric from `sigma_min` 0.01 to
        `sigma_max` 50. "edm": alpha = 1, sigma = t. "cosine": cos and sin of pi t / 2. "flow":
        alpha = 1 - t, sigma = t.
    **params : dict
        The parameters named above, and `t_min` and `t_max` of any schedule.

    Returns
    -------
    NoiseSchedule
        The schedule.

    Raises
    ------
    ValueError
        If the name or a parameter is unknown.

    Examples
    --------
    >>> from skpapers.processes import get_schedule
    >>> get_schedule("edm", t_max=80.0).t_max
    80.0
    """
    if name not in _SCHEDULES:
        raise ValueError(f"schedule must be one of {sorted(_SCHEDULES)}, got {name!r}")
    try:
        return _SCHEDULES[name](**params)
    except TypeError as error:
        raise ValueError(f"schedule {name!r}: {error}") from error


def _variance_preserving(name, beta, integral, t_min, t_max):
    """alpha^2 = exp(-integral of beta), sigma^2 = 1 - alpha^2."""
    return NoiseSchedule(
        name,
        alpha=lambda t: torch.exp(-0.5 * integral(t)),
        sigma=lambda t: torch.sqrt(-torch.expm1(-integral(t))),
        beta=beta,
        g2=beta,
        t_min=t_min,
        t_max=t_max,
    )


def _vp(beta_min=0.1, beta_max=20.0, t_min=1e-3, t_max=1.0):
    slope = beta_max - beta_min
    return _variance_preserving(
        "vp",
        lambda t: beta_min + slope * t,
        lambda t: beta_min * t + 0.5 * slope * t**2,
        t_min,
        t_max,
    )


def _ou(t_min=1e-2, t_max=5.0):
    return _variance_preserving("ou", torch.ones_like, lambda t: t, t_min, t_max)


def _cosine(t_min=1e-3, t_max=1 - 1e-3):
    half = math.pi / 2
    return NoiseSchedule(
        "cosine",
        alpha=lambda t: torch.cos(half * t),
        sigma=lambda t: torch.sin(half * t),
        beta=lambda t: math.pi * torch.tan(half * t),
        g2=lambda t: math.pi * torch.tan(half * t),
        t_min=t_min,
        t_max=t_max,
    )


def _ve(sigma_min=0.01, sigma_max=50.0, t_min=0.0, t_max=1.0):
    rate = math.log(sigma_max / sigma_min)

    def sigma(t):
        return sigma_min * torch.exp(rate * t)

    return NoiseSchedule(
        "ve",
        alpha=torch.ones_like,
        sigma=sigma,
        beta=torch.zeros_like,
        g2=lambda t: 2 * rate * sigma(t) ** 2,
        t_min=t_min,
        t_max=t_max,
    )


def _edm(t_min=2e-3, t_max=80.0):
    return NoiseSchedule(
        "edm", torch.ones_like, lambda t: t, torch.zeros_like, lambda t: 2 * t, t_min, t_max
    )


def _flow(t_min=1e-3, t_max=1 - 1e-3):
    return NoiseSchedule(
        "flow",
        alpha=lambda t: 1 - t,
        sigma=lambda t: t,
        beta=lambda t: 2 / (1 - t),
        g2=lambda t: 2 * t / (1 - t),
        t_min=t_min,
        t_max=t_max,
    )


_SCHEDULES = {"vp": _vp, "ou": _ou, "ve": _ve, "edm": _edm, "cosine": _cosine, "flow": _flow}


def time_grid(schedule, n_steps, *, spacing="log", dtype=torch.float64):
    """Choose decreasing times for a sampler.

    Parameters
    ----------
    schedule : NoiseSchedule
        The schedule.
    n_steps : int
        Number of steps, one less than the times.
    spacing : {"log", "uniform", "edm"}, default="log"
        Equal ratios, equal differences, or equal differences of t^(1/7).
    dtype : torch.dtype, default=torch.float64
        Data type.

    Returns
    -------
    torch.Tensor of shape (n_steps + 1,)
        From `t_max` down to `t_min`.

    Examples
    --------
    >>> from skpapers.processes import get_schedule, time_grid
    >>> time_grid(get_schedule("edm", t_min=0.25, t_max=4.0), 2)
    tensor([4.0000, 1.0000, 0.2500], dtype=torch.float64)
    """
    forward, inverse = _SPACINGS[spacing]
    start, stop = (forward(torch.tensor(t, dtype=dtype)) for t in (schedule.t_max, schedule.t_min))
    times = inverse(torch.linspace(start, stop, n_steps + 1, dtype=dtype))
    times[0], times[-1] = schedule.t_max, schedule.t_min
    return times


_SPACINGS = {
    "log": (torch.log, torch.exp),
    "uniform": (lambda t: t, lambda t: t.clone()),
    "edm": (lambda t: t ** (1 / 7), lambda t: t**7),
}
