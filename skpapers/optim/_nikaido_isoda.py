"""How far a pair of mixed strategies is from an equilibrium: the Nikaido-Isoda error."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skpapers.utils import check_random_state, draw_seed

__all__ = ["nikaido_isoda_error"]

_PAIRS = 2**22  # pairs whose payoffs are in memory at a time
_GRID = {1: 256, 2: 64}  # points a dimension
_RANDOM_STARTS = 512


def _wrap(points, domain):
    low, width = domain[:, 0], domain[:, 1] - domain[:, 0]
    return low + torch.remainder(points - low, width)


def _reflect(points, domain):
    low, width = domain[:, 0], domain[:, 1] - domain[:, 0]
    return low + width - (torch.remainder(points - low, 2 * width) - width).abs()


def _clamp(points, domain):
    return torch.clamp(points, domain[:, 0], domain[:, 1])


# How particles return to the domain, and how a search for the best deviation stays in it.
BOUNDARIES = {"torus": _wrap, "reflect": _reflect, "none": lambda points, domain: points}
_PROJECTIONS = BOUNDARIES | {"reflect": _clamp}


@validate_params(
    {
        "payoff": [callable],
        "x": "no_validation",
        "y": "no_validation",
        "domain_x": "no_validation",
        "domain_y": "no_validation",
        "temperature": [Interval(Real, 0, None, closed="left")],
        "x_weights": ["array-like", None],
        "y_weights": ["array-like", None],
        "boundary": [StrOptions(set(BOUNDARIES))],
        "n_grid": [Interval(Integral, 2, None, closed="left"), None],
        "pairwise": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def nikaido_isoda_error(
    payoff,
    x,
    y,
    domain_x=((0.0, 1.0),),
    domain_y=((0.0, 1.0),),
    *,
    temperature=0.0,
    x_weights=None,
    y_weights=None,
    boundary="torus",
    n_grid=None,
    pairwise=True,
    random_state=None,
):
    """Compute what two players of a zero-sum game could gain by deviating.

    It is ``max over y' of E[payoff(X, y')] - min over x' of E[payoff(x', Y)]``: not negative, and
    0 at a mixed Nash equilibrium only.

    Parameters
    ----------
    payoff : callable
        Differentiable torch function of pairs: from shapes (n, dx) and (n, dy) to (n,).
    x : array-like of shape (n, dx)
        Points of the mixed strategy that minimises.
    y : array-like of shape (m, dy)
        Points of the mixed strategy that maximises.
    domain_x : array-like of shape (dx, 2), default=((0.0, 1.0),)
        Lower and upper end in each dimension.
    domain_y : array-like of shape (dy, 2), default=((0.0, 1.0),)
        The same of the other player.
    temperature : float, default=0.0
        Above 0, the error of the game with ``temperature`` times the entropies as regularisers.
        The strategies are then densities: histograms of the points on the grid.
    x_weights : array-like of shape (n,), default=None
        Probabilities of the points, up to a factor; None for equal ones.
    y_weights : array-like of shape (m,), default=None
        The same of the other player.
    boundary : {"torus", "reflect", "none"}, default="torus"
        Whether the domains are periodic, boxes, or only where the search for deviations starts.
    n_grid : int, default=None
        Cells of the grid a dimension; None for 256 in one dimension, 64 in two.
    pairwise : bool, default=True
        Whether `payoff` takes pairs; if False, two clouds of shapes (n, dx) and (m, dy), for
        which it returns the matrix (n, m).
    random_state : int, RandomState instance or None, default=None
        Seed of the starts of the searches in more than two dimensions.

    Returns
    -------
    float
        The error, in units of the payoff. In more than two dimensions a lower bound, as the best
        deviations are searched for by gradient ascent from many starts.

    Raises
    ------
    ValueError
        If shapes do not match, or `temperature` is positive in more than two dimensions.

    Notes
    -----
    O(n n_grid^dy + m n_grid^dx) payoffs. Deviations are looked for on the grid and among the
    points, and then followed uphill.

    References
    ----------
    .. [1] Y. Lu, "Two-Scale Gradient Descent Ascent Dynamics Finds Mixed Nash Equilibria of
       Continuous Games: A Mean-Field Perspective", ICML 2023, arXiv:2212.08791, section 1.

    Examples
    --------
    >>> import torch
    >>> from skpapers.optim import nikaido_isoda_error
    >>> pennies = lambda x, y: torch.cos(2 * torch.pi * (x - y))[:, 0]
    >>> circle = torch.linspace(0, 1, 9, dtype=torch.float64)[:-1, None]
    >>> round(nikaido_isoda_error(pennies, circle, circle), 6)
    0.0
    >>> round(nikaido_isoda_error(pennies, circle[:1], circle), 6)
    1.0
    """
    clouds = _cloud(x, x_weights, "x"), _cloud(y, y_weights, "y")
    domains = check_domain(domain_x, "domain_x"), check_domain(domain_y, "domain_y")
    domains = [
        torch.as_tensor(d, dtype=c[0].dtype, device=c[0].device) for d, c in zip(domains, clouds)
    ]
    for name, (points, _), domain in zip("xy", clouds, domains):
        if points.shape[1] != len(domain):
            raise ValueError(f"{name} has {points.shape[1]} columns, domain_{name} {len(domain)}")
    matrix = as_matrix(payoff, pairwise)
    if temperature > 0:
        return entropic_gap(matrix, *clouds, *domains, temperature, n_grid)
    generator = torch.Generator().manual_seed(draw_seed(check_random_state(random_state)))
    return equilibrium_gap(matrix, *clouds, *domains, boundary, n_grid, generator)


def check_domain(domain, name):
    """Rows of lower and upper ends as an array, or a ValueError."""
    domain = np.asarray(domain.cpu() if torch.is_tensor(domain) else domain, dtype=float)
    good = domain.ndim == 2 and domain.shape[1] == 2 and np.isfinite(domain).all()
    if not (good and len(domain) and (domain[:, 0] < domain[:, 1]).all()):
        raise ValueError(f"{name} must have rows (low, high), low < high; got {domain.tolist()}")
    return domain


def _cloud(points, weights, name):
    """Points as a tensor of floats and their probabilities, or None for equal ones."""
    points = torch.as_tensor(points)
    points = points if points.is_floating_point() else points.double()
    if points.ndim != 2 or len(points) == 0:
        raise ValueError(f"{name} must have shape (n, dimensions), got {tuple(points.shape)}")
    if weights is None:
        return points, None
    weights = torch.as_tensor(weights, dtype=points.dtype, device=points.device)
    if weights.shape != points.shape[:1] or (weights < 0).any() or not weights.sum() > 0:
        raise ValueError(f"{name}_weights must be a number >= 0 for each of the points")
    return points, weights / weights.sum()


def as_matrix(payoff, pairwise, confinement=0.0):
    """The payoff as a function from two clouds to the matrix of payoffs."""

    def matrix(x, y):
        shape = (len(x), len(y))
        if pairwise:
            pairs = (x[:, None].expand(*shape, -1), y[None].expand(*shape, -1))
            values = payoff(*(p.reshape(-1, p.shape[-1]) for p in pairs))
            if values.shape != (shape[0] * shape[1],):
                raise ValueError(
                    f"payoff must return one number a pair, shape ({shape[0] * shape[1]},); "
                    f"got {tuple(values.shape)}"
                )
            values = values.reshape(shape)
        else:
            values = payoff(x, y)
            if values.shape != shape:
                raise ValueError(f"payoff must return shape {shape}, got {tuple(values.shape)}")
        if confinement:
            squares = x.square().sum(1)[:, None] - y.square().sum(1)
            values = values + confinement / 2 * squares
        return values

    return matrix


def uniform_points(domain, n_points, generator, dtype):
    """Independent uniform draws from a box, on the CPU."""
    domain = domain.cpu()
    share = torch.rand(n_points, len(domain), generator=generator, dtype=dtype)
    return domain[:, 0] + share * (domain[:, 1] - domain[:, 0])


def equilibrium_gap(matrix, cloud_x, cloud_y, domain_x, domain_y, boundary, n_grid, generator):
    """The error in the game itself; clouds are pairs of points and probabilities or None."""

    def against_x(y):
        return _expected(matrix(cloud_x[0], y), cloud_x[1], 0)

    def against_y(x):
        return -_expected(matrix(x, cloud_y[0]), cloud_y[1], 1)

    project = _PROJECTIONS[boundary]
    gap = 0.0
    for gain, (points, _), domain, n_opponents in (
        (against_x, cloud_y, domain_y, len(cloud_x[0])),
        (against_y, cloud_x, domain_x, len(cloud_y[0])),
    ):
        own = points[:: -(-len(points) // _RANDOM_STARTS)]  # evenly spaced, about that many
        starts = torch.cat([_starts(domain, n_grid, generator), own])
        size = max(1, _PAIRS // n_opponents)
        with torch.no_grad():
            values = torch.cat([gain(piece) for piece in starts.split(size)])
        n_best, n_steps = (8, 30) if len(domain) <= 2 else (32, 100)
        best = starts[values.topk(min(n_best, len(values))).indices]
        gap += float(climb(gain, best, lambda z, d=domain: project(z, d), n_steps)[1].max())
    return max(gap, 0.0)


def _expected(values, weights, dim):
    if weights is None:
        return values.mean(dim)
    return torch.tensordot(weights, values, ([0], [dim]))


def _starts(domain, n_grid, generator):
    if len(domain) <= 2:
        return grid_points(domain, n_grid)
    return uniform_points(domain, _RANDOM_STARTS, generator, domain.dtype).to(domain.device)


def grid_points(domain, n_grid=None):
    """Midpoints of the cells of a regular grid, the last dimension fastest."""
    n_grid = n_grid or _GRID[len(domain)]
    share = (torch.arange(n_grid, dtype=domain.dtype, device=domain.device) + 0.5) / n_grid
    axes = [low + share * (high - low) for low, high in domain]
    return torch.cartesian_prod(*axes).reshape(-1, len(domain))


def climb(function, points, project, n_steps):
    """Gradient ascent from every point at once, each with a step that adapts; no value falls.

    Returns the points and the values of `function`, one a point.
    """
    value, gradient = _value_and_gradient(function, points)
    step = torch.full_like(value, 0.1) / gradient.norm(dim=1).clamp_min(1e-30)
    for _ in range(n_steps):
        trial = project(points + step[:, None] * gradient)
        trial_value, trial_gradient = _value_and_gradient(function, trial)
        better = trial_value > value
        points = torch.where(better[:, None], trial, points)
        gradient = torch.where(better[:, None], trial_gradient, gradient)
        value = torch.where(better, trial_value, value)
        step = torch.where(better, 2 * step, step / 4)
    return points, value


def _value_and_gradient(function, points):
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        value = function(points)
    (gradient,) = torch.autograd.grad(value.sum(), points)
    return value.detach(), gradient


def entropic_gap(matrix, cloud_x, cloud_y, domain_x, domain_y, temperature, n_grid):
    """The error in the game with entropies, of the histograms of both clouds."""
    if max(len(domain_x), len(domain_y)) > 2:
        raise ValueError("temperature > 0 needs domains of one or two dimensions")
    grids = [grid_points(domain, n_grid) for domain in (domain_x, domain_y)]
    masses = [_histogram(*c, d, n_grid) for c, d in zip((cloud_x, cloud_y), (domain_x, domain_y))]
    cells = [
        float((d[:, 1] - d[:, 0]).prod()) / len(g) for d, g in zip((domain_x, domain_y), grids)
    ]
    with torch.no_grad():
        payoffs = matrix(*grids)
    upper, _, lower = entropic_values(payoffs, *masses, temperature, *cells)
    return float(upper - lower)


def _histogram(points, weights, domain, n_grid):
    """Probabilities of the cells of the grid; what lies outside counts in the nearest cell."""
    n_grid = n_grid or _GRID[len(domain)]
    share = (points - domain[:, 0]) / (domain[:, 1] - domain[:, 0])
    index = (share * n_grid).floor().long().clamp(0, n_grid - 1)
    flat = index[:, 0] if len(domain) == 1 else index[:, 0] * n_grid + index[:, 1]
    if weights is None:
        weights = points.new_full((len(points),), 1 / len(points))
    return points.new_zeros(n_grid ** len(domain)).index_add_(0, flat, weights)


def entropic_values(payoffs, mass_x, mass_y, temperature, cell_x=1.0, cell_y=1.0):
    """Value of the regularised game, if the opponent may deviate, as it is, if x may.

    `payoffs` is the matrix on a grid, `mass_x` and `mass_y` are probabilities of its cells, whose
    volumes are `cell_x` and `cell_y`. The best deviations are Gibbs distributions, so that their
    values are log-partition functions.
    """
    gain_y, loss_x = mass_x @ payoffs, payoffs @ mass_y
    entropy_x, entropy_y = _entropy(mass_x, cell_x), _entropy(mass_y, cell_y)
    free_y = temperature * (gain_y / temperature + np.log(cell_y)).logsumexp(0)
    free_x = -temperature * (-loss_x / temperature + np.log(cell_x)).logsumexp(0)
    value = gain_y @ mass_y + temperature * (entropy_y - entropy_x)
    return free_y - temperature * entropy_x, value, free_x + temperature * entropy_y


def _entropy(mass, cell):
    """Differential entropy of the density that is constant on cells."""
    return -torch.xlogy(mass, mass / cell).sum()
