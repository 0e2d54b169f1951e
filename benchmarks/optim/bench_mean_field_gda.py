"""Particles against solvers of the same games on a grid, and a robust classifier."""

import functools
import math

import numpy as np
import torch
from scipy.optimize import linprog
from sklearn.linear_model import LogisticRegression

from benchmarks._harness import Case
from skpapers.neural_network import RobustMixtureClassifier
from skpapers.optim import mixed_nash_equilibrium, nikaido_isoda_error

TAU = 2 * math.pi


def waves(n_dims, n_waves=12):
    """A random trigonometric payoff on the torus, as a product of waves of x and of y."""
    rng = np.random.default_rng(0)
    of_x, of_y = torch.from_numpy(rng.integers(-2, 3, (2, n_dims, n_waves)).astype(float))
    phase = torch.from_numpy(rng.uniform(0, TAU, n_waves))

    def payoff(x, y):
        a, b = TAU * x @ of_x, TAU * y @ of_y + phase
        return (torch.cos(a) @ torch.cos(b).T - torch.sin(a) @ torch.sin(b).T) / n_waves**0.5

    return payoff


def particles(n_dims):
    domain = [(0.0, 1.0)] * n_dims
    return mixed_nash_equilibrium(
        waves(n_dims),
        domain,
        domain,
        temperature=0.03,
        step_size=2e-4,
        max_iter=2000,
        pairwise=False,
        random_state=0,
    )


def on_grid(n_dims, n_grid):
    axis = (torch.arange(n_grid, dtype=torch.float64) + 0.5) / n_grid
    grid = torch.cartesian_prod(*[axis] * n_dims).reshape(-1, n_dims)
    return grid, waves(n_dims)(grid, grid)


def error(n_dims, grid, mu, nu):
    domain = [(0.0, 1.0)] * n_dims
    options = {"x_weights": mu, "y_weights": nu, "pairwise": False}
    return nikaido_isoda_error(waves(n_dims), grid, grid, domain, domain, **options)


def linear_program(n_dims, n_grid):
    """The exact equilibrium of the game on a grid: y's best mixture, x's from the dual."""
    grid, table = on_grid(n_dims, n_grid)
    n = len(grid)
    result = linprog(
        np.append(np.zeros(n), -1.0),
        A_ub=np.hstack([-table.numpy(), np.ones((n, 1))]),
        b_ub=np.zeros(n),
        A_eq=np.append(np.ones(n), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * n + [(None, None)],
    )
    mu, nu = np.maximum(-result.ineqlin.marginals, 0), np.maximum(result.x[:-1], 0)
    return error(n_dims, grid, mu, nu)


def mirror_descent(n_dims, n_grid, n_iter=2000, rate=0.05):
    """Entropic descent and ascent of the mixtures on a grid, averaged."""
    grid, table = on_grid(n_dims, n_grid)
    logits, mean = torch.zeros(2, len(grid), dtype=torch.float64), 0
    for _ in range(n_iter):
        mu, nu = logits.softmax(1)
        mean = mean + torch.stack([mu, nu])
        logits = logits + rate * torch.stack([-table @ nu, mu @ table])
    return error(n_dims, grid, *mean)


@functools.cache
def minority():
    rng = np.random.default_rng(0)
    y, rare = rng.choice([-1, 1], 2000), rng.random(2000) < 0.1
    easy = np.where(rare, -y, y) + 0.5 * rng.standard_normal(2000)
    hard = y + rng.standard_normal(2000)
    return np.column_stack([hard, easy, rng.standard_normal((2000, 3))]), y, rare


def worst_group(model):
    X, y, rare = minority()
    return min(model.score(X[rare == k], y[rare == k]) for k in (False, True))


def cases():
    for n_dims, n_grid, peer, name in (
        (1, 256, linear_program, "scipy.optimize.linprog, grid of 256"),
        (1, 256, mirror_descent, "entropic mirror descent, grid of 256"),
        (2, 48, mirror_descent, "entropic mirror descent, grid of 48 x 48"),
    ):
        yield Case(
            name="mixed_nash_equilibrium",
            size=f"torus of dimension {n_dims}, 200 particles, 2000 steps",
            peer_name=name,
            ours=lambda n_dims=n_dims: particles(n_dims),
            peer=lambda peer=peer, n_dims=n_dims, n_grid=n_grid: peer(n_dims, n_grid),
            accuracy=lambda result: float(getattr(result, "ni_error", result)),
            metric="Nikaido-Isoda error",
            repeats=1 if n_dims > 1 else 3,
            note="On an interval a grid is exact and small; its size is a power of the dimension.",
        )
    X, y, rare = minority()
    yield Case(
        name="RobustMixtureClassifier",
        size="2000 x 5, two groups",
        peer_name="sklearn LogisticRegression",
        ours=lambda: RobustMixtureClassifier(random_state=0).fit(X, y, groups=rare),
        peer=lambda: LogisticRegression().fit(X, y),
        accuracy=worst_group,
        metric="accuracy in the worst group",
        note="The peer fits one model and does not see the groups; ours fits 20.",
    )
