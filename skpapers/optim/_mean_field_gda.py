"""Mixed Nash equilibria of continuous games by the noisy descent and ascent of two clouds."""

import math
from numbers import Integral, Real

import numpy as np
import torch
from scipy.optimize import OptimizeResult
from sklearn.utils._param_validation import Interval, StrOptions

from skpapers.utils import check_random_state, draw_seed

from ._foreach import check_options
from ._nikaido_isoda import (
    BOUNDARIES,
    as_matrix,
    check_domain,
    equilibrium_gap,
    nikaido_isoda_error,
    uniform_points,
)

__all__ = ["MixedNashEquilibrium", "mixed_nash_equilibrium", "nikaido_isoda_error"]

_BLOCK = 2**21  # pairs whose payoffs are in memory at a time
_EVERY = 10  # steps between snapshots
_THIN = 2048  # points of a cloud that the mean payoff is taken over

_POSITIVE = Interval(Real, 0, None, closed="neither")
_CONSTRAINTS = {
    "payoff": [callable],
    "n_particles": [Interval(Integral, 1, None, closed="left")],
    "temperature": [Interval(Real, 0, None, closed="left")],
    "scale_ratio": [Interval(Real, 0, None, closed="left")],
    "step_size": [_POSITIVE, StrOptions({"auto"})],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "schedule": [StrOptions({"constant", "log"})],
    "boundary": [StrOptions(set(BOUNDARIES))],
    "confinement": [Interval(Real, 0, None, closed="left")],
    "average_from": [Interval(Real, 0, 1, closed="left")],
    "pairwise": ["boolean"],
    "random_state": ["random_state"],
    "device": [str, torch.device],
    "dtype": [torch.dtype],
}


class MixedNashEquilibrium:
    """Solver of ``min over x, max over y of payoff(x, y)`` in mixed strategies.

    Games whose payoff is not convex and concave may have no equilibrium in points, and descent
    and ascent then run in cycles. They do have one in distributions. Two clouds of particles
    follow the gradients of the mean payoff, x down and y up, with noise of a temperature; on two
    time scales they settle on the unique equilibrium of the game with entropy as regulariser:
    the density of x is ``exp(-E[payoff(x, Y)] / temperature)`` up to a factor, that of y
    ``exp(E[payoff(X, y)] / temperature)``.

    Parameters
    ----------
    payoff : callable
        Differentiable torch function of pairs: from shapes (n, dx) and (n, dy) to (n,); see
        `pairwise`.
    domain_x : array-like of shape (dx, 2), default=((0.0, 1.0),)
        Lower and upper end in each dimension of the strategies of the player who minimises.
    domain_y : array-like of shape (dy, 2), default=((0.0, 1.0),)
        The same of the player who maximises.
    n_particles : int, default=200
        Size of each cloud.
    temperature : float, default=0.1
        Weight of the entropies, in units of the payoff. It changes the equilibrium: smooth and
        found fast where it is large, that of the game itself as it goes to 0.
    scale_ratio : float, default=5.0
        Speed of y relative to x. Away from 1 on either side; 0 freezes y.
    step_size : float or "auto", default="auto"
        Step of x in time. "auto" is a tenth of the inverse of the largest curvature found, divided
        by `scale_ratio` where that is above 1; and small enough for the noise of a step to be a
        tenth of the domain at most.
    max_iter : int, default=5000
        Number of steps.
    schedule : {"constant", "log"}, default="constant"
        "log" anneals: the temperature of step t is ``temperature / log(e + t)``.
    boundary : {"torus", "reflect", "none"}, default="torus"
        Whether the domains are periodic, boxes with walls, or only where the particles start.
    confinement : float, default=0.0
        Adds ``confinement / 2 * (|x|^2 - |y|^2)`` to the payoff, with which the equilibrium exists
        for ``boundary="none"``.
    average_from : float, default=0.5
        Share of the steps after which snapshots are taken, in [0, 1).
    pairwise : bool, default=True
        Whether `payoff` takes pairs. If False, it takes two clouds of shapes (n, dx) and (m, dy)
        and returns the matrix (n, m) of payoffs, which is faster where that is a product.
    random_state : int, RandomState instance or None, default=None
        Seed of the first positions and of the noise.
    device : str or torch.device, default="cpu"
        Where the particles live.
    dtype : torch.dtype, default=torch.float64
        Type of the particles.

    Attributes
    ----------
    x_ : torch.Tensor of shape (n_particles, dx)
        Particles after the last step, a sample of the mixed strategy.
    y_ : torch.Tensor of shape (n_particles, dy)
        The same of the other player.
    x_cloud_ : torch.Tensor of shape (n_snapshots * n_particles, dx)
        Every tenth step of those after `average_from`, stacked: a larger sample.
    y_cloud_ : torch.Tensor of shape (n_snapshots * n_particles, dy)
        The same of the other player.
    value_ : float
        Mean payoff over the clouds (2048 evenly spaced points of each at most).
    ni_error_ : float
        :func:`nikaido_isoda_error` of the clouds in the game without entropy: what both players
        together could gain by deviating.
    ni_error_is_lower_bound_ : bool
        Whether more than two dimensions left only local searches for the best deviations.
    step_size_ : float
        Step used.
    history_ : dict of ndarray
        ``"iteration"``, ``"temperature"`` and ``"value"`` (the mean payoff) of every tenth step.

    Raises
    ------
    ValueError
        If an option is out of its range, or, by `solve`, if the particles leave all bounds.

    Notes
    -----
    A step evaluates the payoff and its gradient on all pairs, n_particles squared. Convergence
    is exponential without any convexity, for a `scale_ratio` large or small enough; the proven
    bound for it grows like ``exp(range of the payoff / temperature)``, while 1 to 20 are good in
    practice, as particles have noise that hides the cycles at equal speeds. Histograms of a single
    snapshot have the noise of `n_particles` draws: use the clouds. Annealed gaps fall slowly,
    like ``log log t / log t``.

    References
    ----------
    .. [1] Y. Lu, "Two-Scale Gradient Descent Ascent Dynamics Finds Mixed Nash Equilibria of
       Continuous Games: A Mean-Field Perspective", ICML 2023, arXiv:2212.08791, section 1
       (the game with entropy, the two-scale dynamics, its annealing).

    Examples
    --------
    Matching pennies on a circle: no pair of points is an equilibrium, uniform strategies are.

    >>> import torch
    >>> from skpapers.optim import MixedNashEquilibrium
    >>> game = MixedNashEquilibrium(
    ...     lambda x, y: torch.cos(2 * torch.pi * (x - y))[:, 0],
    ...     n_particles=50, max_iter=500, random_state=0)
    >>> solution = game.solve()
    >>> bool(solution.ni_error_ < 0.2), abs(solution.value_) < 0.05
    (True, True)
    """

    def __init__(
        self,
        payoff,
        domain_x=((0.0, 1.0),),
        domain_y=((0.0, 1.0),),
        n_particles=200,
        temperature=0.1,
        scale_ratio=5.0,
        step_size="auto",
        max_iter=5000,
        schedule="constant",
        boundary="torus",
        confinement=0.0,
        average_from=0.5,
        pairwise=True,
        random_state=None,
        device="cpu",
        dtype=torch.float64,
    ):
        self.payoff = payoff
        self.domain_x = domain_x
        self.domain_y = domain_y
        self.n_particles = n_particles
        self.temperature = temperature
        self.scale_ratio = scale_ratio
        self.step_size = step_size
        self.max_iter = max_iter
        self.schedule = schedule
        self.boundary = boundary
        self.confinement = confinement
        self.average_from = average_from
        self.pairwise = pairwise
        self.random_state = random_state
        self.device = device
        self.dtype = dtype
        options = {name: getattr(self, name) for name in _CONSTRAINTS}
        check_options(options, _CONSTRAINTS, type(self).__name__)
        check_domain(domain_x, "domain_x")
        check_domain(domain_y, "domain_y")

    def solve(self, x=None, y=None):
        """Let the clouds find the equilibrium.

        Parameters
        ----------
        x : array-like of shape (n, dx), default=None
            First positions; None for `n_particles` uniform draws from the domain.
        y : array-like of shape (m, dy), default=None
            The same of the other player.

        Returns
        -------
        self : object
            The solver, with the attributes above.
        """
        seed = draw_seed(check_random_state(self.random_state))
        generator = torch.Generator().manual_seed(seed)
        domains = self._tensor(self.domain_x), self._tensor(self.domain_y)
        x, y = (
            self._tensor(uniform_points(domain, self.n_particles, generator, self.dtype))
            if start is None
            else self._tensor(start)
            for start, domain in zip((x, y), domains)
        )
        matrix = as_matrix(self.payoff, self.pairwise, self.confinement)
        self.step_size_ = self._step_size(matrix, domains, generator)
        self._play(matrix, x, y, domains, generator)
        both = torch.cat([self.x_cloud_.ravel(), self.y_cloud_.ravel()])
        if not torch.isfinite(both).all():
            raise ValueError(f"the particles diverged: lower step_size={self.step_size_:.2g}")
        self.value_ = float(matrix(_thin(self.x_cloud_), _thin(self.y_cloud_)).mean())
        clouds = (self.x_cloud_, None), (self.y_cloud_, None)
        self.ni_error_ = equilibrium_gap(matrix, *clouds, *domains, self.boundary, None, generator)
        self.ni_error_is_lower_bound_ = max(map(len, domains)) > 2
        return self

    def _tensor(self, values):
        return torch.as_tensor(values, dtype=self.dtype, device=self.device)

    def _step_size(self, matrix, domains, generator):
        if self.step_size != "auto":
            return float(self.step_size)
        curvature = largest_curvature(matrix, domains, generator)
        extent = min(float((d[:, 1] - d[:, 0]).min()) for d in domains)
        noise_limit = (
            (0.1 * extent) ** 2 / (2 * self.temperature) if self.temperature else math.inf
        )
        slow_step = min(0.1 / curvature if curvature else math.inf, noise_limit)
        if math.isinf(slow_step):
            raise ValueError("step_size must be given: the payoff has no curvature")
        return slow_step / max(1.0, self.scale_ratio)

    def _temperature(self, t):
        return self.temperature / (math.log(math.e + t) if self.schedule == "log" else 1.0)

    def _play(self, matrix, x, y, domains, generator):
        keep = BOUNDARIES[self.boundary]
        steps = particle_steps(
            lambda x, y: mean_gradients(matrix, x, y),
            x,
            y,
            n_steps=self.max_iter,
            step_size=self.step_size_,
            scale_ratio=self.scale_ratio,
            temperature=self._temperature,
            keep_x=lambda x: keep(x, domains[0]),
            keep_y=lambda y: keep(y, domains[1]),
            generator=generator,
        )
        snapshots, values, last = [], [], self.max_iter - 1
        for t, (x, y, value) in enumerate(steps):
            if t % _EVERY == 0:
                values.append(value)
            if t == last or (t % _EVERY == 0 and t >= self.average_from * self.max_iter):
                snapshots.append((x, y))
        self.x_, self.y_ = x, y
        self.x_cloud_, self.y_cloud_ = (torch.cat(cloud) for cloud in zip(*snapshots))
        iteration = np.arange(0, self.max_iter, _EVERY)
        self.history_ = {
            "iteration": iteration,
            "temperature": np.array([self._temperature(t) for t in iteration]),
            "value": torch.stack(values).cpu().numpy(),
        }


def mixed_nash_equilibrium(payoff, domain_x=((0.0, 1.0),), domain_y=((0.0, 1.0),), **options):
    """Find a mixed Nash equilibrium of ``min over x, max over y of payoff(x, y)``.

    Parameters
    ----------
    payoff : callable
        Differentiable torch function of pairs: from shapes (n, dx) and (n, dy) to (n,).
    domain_x : array-like of shape (dx, 2), default=((0.0, 1.0),)
        Lower and upper end in each dimension of the strategies of the player who minimises.
    domain_y : array-like of shape (dy, 2), default=((0.0, 1.0),)
        The same of the player who maximises.
    **options : dict
        Further parameters of :class:`MixedNashEquilibrium`.

    Returns
    -------
    scipy.optimize.OptimizeResult
        With `x` and `y`, the particles, `x_cloud` and `y_cloud`, snapshots of them over time,
        `fun`, the mean payoff, `ni_error`, the certificate, `ni_error_is_lower_bound`,
        `step_size`, `nit` and `history`.

    Notes
    -----
    See :class:`MixedNashEquilibrium`.

    References
    ----------
    .. [1] Y. Lu, "Two-Scale Gradient Descent Ascent Dynamics Finds Mixed Nash Equilibria of
       Continuous Games: A Mean-Field Perspective", ICML 2023, arXiv:2212.08791.

    Examples
    --------
    >>> from skpapers.optim import mixed_nash_equilibrium
    >>> result = mixed_nash_equilibrium(  # a saddle at (0, 0)
    ...     lambda x, y: (x**2 - y**2)[:, 0], [(-1, 1)], [(-1, 1)], boundary="reflect",
    ...     temperature=0.01, n_particles=50, max_iter=500, random_state=0)
    >>> bool(result.x_cloud.abs().mean() < 0.1), result.ni_error < 0.1
    (True, True)
    """
    solver = MixedNashEquilibrium(payoff, domain_x, domain_y, **options).solve()
    names = ("x", "y", "x_cloud", "y_cloud", "ni_error", "ni_error_is_lower_bound", "step_size")
    found = {name: getattr(solver, f"{name}_") for name in names}
    return OptimizeResult(fun=solver.value_, nit=solver.max_iter, history=solver.history_, **found)


def particle_steps(
    gradients,
    x,
    y,
    *,
    n_steps,
    step_size,
    scale_ratio,
    temperature,
    keep_x,
    keep_y,
    generator,
):
    """Yield both clouds after each step of two-scale Langevin descent and ascent.

    `gradients(x, y)` gives those of the mean payoff, by particle, and the mean payoff itself;
    `temperature(t)` that of a step; `keep_x` and `keep_y` bring particles back to their domain.
    """
    for t in range(n_steps):
        gradient_x, gradient_y, value = gradients(x, y)
        x = keep_x(_langevin(x, -gradient_x, step_size, temperature(t), generator))
        # The fast player lives in a time of its own: drift and noise both have its step.
        y = keep_y(_langevin(y, gradient_y, scale_ratio * step_size, temperature(t), generator))
        yield x, y, value


def _langevin(points, drift, step_size, temperature, generator):
    noise = torch.randn(points.shape, generator=generator, dtype=points.dtype)
    scale = math.sqrt(2 * temperature * step_size)
    return points + step_size * drift + scale * noise.to(points.device)


def mean_gradients(matrix, x, y):
    """Gradients, at each particle, of its mean payoff against the other cloud; the mean payoff.

    Rows of x are taken in blocks, so that memory is bounded.
    """
    y = y.detach().requires_grad_()
    total, pieces, gradient_y = 0.0, [], torch.zeros_like(y)
    for block in x.detach().split(max(1, _BLOCK // len(y))):
        block = block.requires_grad_()
        with torch.enable_grad():
            sum_of_payoffs = matrix(block, y).sum()
        piece, share = torch.autograd.grad(sum_of_payoffs, (block, y))
        pieces.append(piece)
        gradient_y += share
        total = total + sum_of_payoffs.detach()
    return torch.cat(pieces) / len(y), gradient_y / len(x), total / (len(x) * len(y))


def largest_curvature(matrix, domains, generator, n_points=64, n_iter=5):
    """Largest norm of the Hessian of the payoff that power iterations find at random points."""
    x, y = (uniform_points(d, n_points, generator, d.dtype).to(d.device) for d in domains)
    size = x.shape[1]

    def gradient(z):
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            total = matrix(z[:, :size], z[:, size:]).diagonal().sum()
        return torch.autograd.grad(total, z)[0]

    z = torch.cat([x, y], 1)
    reach = 1e-3 * min((d[:, 1] - d[:, 0]).min() for d in domains)
    base = gradient(z)
    direction = torch.randn(z.shape, generator=generator, dtype=z.dtype).to(z.device)
    for _ in range(n_iter):
        direction = direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-30)
        direction = (gradient(z + reach * direction) - base) / reach
    return float(direction.norm(dim=1).max())


def _thin(cloud):
    return cloud[:: math.ceil(len(cloud) / _THIN)]
