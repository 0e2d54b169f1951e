"""Mean-field descent and ascent: oracles on a grid, the dynamics of the paper, the claim."""

import functools
import math

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from skpapers.optim import MixedNashEquilibrium, mixed_nash_equilibrium, nikaido_isoda_error
from skpapers.optim._mean_field_gda import mean_gradients
from skpapers.optim._nikaido_isoda import BOUNDARIES, as_matrix, entropic_values

TAU = 2 * math.pi
GRID = (torch.arange(256, dtype=torch.float64) + 0.5) / 256


def game(x, y):
    """A payoff on the torus without saddle points, pair by pair."""
    x, y = x[:, 0], y[:, 0]
    return (
        torch.sin(TAU * x) * torch.sin(TAU * y)
        + 0.5 * torch.cos(TAU * x)
        - 0.3 * torch.cos(TAU * y)
        + 0.4 * torch.cos(TAU * (x - 2 * y))
    )


def game_matrix(x, y):
    """The same for two clouds: a product of sines and cosines, cheap."""
    sx, cx, sy, cy = torch.sin(TAU * x), torch.cos(TAU * x), torch.sin(TAU * y), torch.cos(TAU * y)
    s2y, c2y = torch.sin(2 * TAU * y), torch.cos(2 * TAU * y)
    left = torch.cat([sx, 0.5 * cx, -0.3 * torch.ones_like(x), 0.4 * cx, 0.4 * sx], 1)
    right = torch.cat([sy, torch.ones_like(y), cy, c2y, s2y], 1)
    return left @ right.T


def on_grid(temperature, n_iter=3000, grid=GRID):
    """Equilibrium of the regularised game by damped fixed-point iteration: exact."""
    payoffs = game_matrix(grid[:, None], grid[:, None])
    mu = nu = torch.full_like(grid, 1 / len(grid))
    for _ in range(n_iter):
        mu, nu = (
            0.98 * mu + 0.02 * torch.softmax(-payoffs @ nu / temperature, 0),
            0.98 * nu + 0.02 * torch.softmax(mu @ payoffs / temperature, 0),
        )
    return payoffs, mu, nu


@functools.cache
def oracle():
    return on_grid(0.1)


def distance(cloud, mass):
    """Wasserstein distance on the line to probabilities on the grid."""
    return wasserstein_distance(cloud.ravel().numpy(), GRID.numpy(), None, mass.numpy())


def play(**options):
    options = {"n_particles": 200, "step_size": 5e-4, "random_state": 0} | options
    return MixedNashEquilibrium(game_matrix, pairwise=False, **options).solve()


@functools.cache
def five_times_faster():
    return play(scale_ratio=5.0, max_iter=2000)


# Oracles.


def test_regularised_error_is_zero_at_the_exact_equilibrium():
    _, mu, nu = oracle()
    x = GRID[:, None]
    error = functools.partial(nikaido_isoda_error, game, x, x, temperature=0.1)
    assert abs(error(x_weights=mu, y_weights=nu)) < 1e-12
    assert error() == pytest.approx(0.489, abs=5e-4)  # uniform strategies


def test_particles_settle_on_the_exact_equilibrium():
    _, mu, nu = oracle()
    found = five_times_faster()
    assert distance(found.x_cloud_, mu) <= 0.01
    assert distance(found.y_cloud_, nu) <= 0.01
    assert distance(GRID, mu) > 0.15  # what uniform strategies would have
    assert distance(GRID, nu) > 0.08
    error = nikaido_isoda_error(game, found.x_cloud_, found.y_cloud_, temperature=0.1, n_grid=64)
    assert 0 <= error <= 0.01


@pytest.mark.parametrize("seed", range(3))
def test_the_error_is_never_negative(seed):
    rng = np.random.default_rng(seed)
    for n in (1, 3, 50):
        x, y = rng.uniform(size=(n, 1)), rng.uniform(size=(n + 1, 1))
        assert nikaido_isoda_error(game, x, y) >= 0
        assert nikaido_isoda_error(game, x, y, temperature=0.2) >= -1e-12
    x, y = rng.uniform(size=(2, 5, 4))
    payoff = lambda x, y: torch.sin(TAU * (x * y.flip(1)).sum(1))  # noqa: E731
    domain = [(0.0, 1.0)] * 4
    error = nikaido_isoda_error(payoff, x, y, domain, domain, random_state=seed)
    assert 0 <= error <= 2


def test_the_error_of_matching_pennies_is_known():
    """A shifted point strategy loses 1 to the best reply; uniform strategies lose nothing."""
    pennies = lambda x, y: torch.cos(TAU * (x - y))[:, 0]  # noqa: E731
    uniform, point = GRID[:, None], GRID[:1, None] + 0.00123
    assert nikaido_isoda_error(pennies, uniform, uniform) < 1e-12
    # The best reply is between points of the grid: it is followed uphill.
    assert nikaido_isoda_error(pennies, point, uniform) == pytest.approx(1, abs=1e-9)
    assert nikaido_isoda_error(pennies, point, point) == pytest.approx(2, abs=1e-9)
    found = mixed_nash_equilibrium(
        pennies, n_particles=100, temperature=0.05, max_iter=1000, random_state=0
    )
    assert found.ni_error < 0.1
    assert abs(found.fun) < 0.05


def test_the_error_in_three_dimensions_finds_a_known_best_reply():
    """Mean payoff |y - c|^2-like with its best reply known, found by ascent from many starts."""
    center = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    payoff = lambda x, y: (x - center).square().sum(1) - (y - center).square().sum(1)  # noqa: E731
    domain = [(0.0, 1.0)] * 3
    x = torch.zeros(1, 3, dtype=torch.float64)
    expected = 2 * float(center.square().sum())
    for boundary in ("reflect", "none"):
        error = nikaido_isoda_error(
            payoff, x, x, domain, domain, boundary=boundary, random_state=0
        )
        assert error == pytest.approx(expected, abs=1e-6)


def test_gradients_of_all_pairs_are_those_of_the_mean_in_blocks_too(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = torch.from_numpy(rng.uniform(size=(7, 1))), torch.from_numpy(rng.uniform(size=(5, 1)))
    slope = TAU * (
        torch.cos(TAU * x) @ torch.sin(TAU * y).T
        - 0.5 * torch.sin(TAU * x)
        - 0.4 * torch.sin(TAU * (x - 2 * y.T))
    ).mean(1, keepdim=True)
    for block in (2**21, 10):
        monkeypatch.setattr("skpapers.optim._mean_field_gda._BLOCK", block)
        for payoff, pairwise in ((game, True), (game_matrix, False)):
            gx, gy, value = mean_gradients(as_matrix(payoff, pairwise), x, y)
            torch.testing.assert_close(gx, slope)
            torch.testing.assert_close(value, game_matrix(x, y).mean())
            shifted = game_matrix(x, y + 1e-6).mean() - game_matrix(x, y - 1e-6).mean()
            torch.testing.assert_close(gy.mean(), shifted / 2e-6, rtol=1e-6, atol=1e-9)


def test_boundaries():
    domain = torch.tensor([[-1.0, 1.0]])
    points = torch.tensor([[1.25], [-1.25], [3.5], [0.5]])
    assert BOUNDARIES["torus"](points, domain).ravel().tolist() == [-0.75, 0.75, -0.5, 0.5]
    assert BOUNDARIES["reflect"](points, domain).ravel().tolist() == [0.75, -0.75, -0.5, 0.5]


# The dynamics.


def gibbs_error(noise):
    """Relative L1 error of a histogram of x against frozen opponents; `noise` scales tau."""
    frozen = np.random.default_rng(0).beta(2, 5, size=(200, 1))
    found = MixedNashEquilibrium(
        game_matrix,
        pairwise=False,
        temperature=0.3 * noise,
        scale_ratio=0.0,
        step_size=1e-3,
        max_iter=1500,
        random_state=0,
    ).solve(y=frozen)
    assert np.array_equal(found.y_.numpy(), frozen)
    mass = torch.softmax(-game_matrix(GRID[:, None], found.y_).mean(1) / 0.3, 0)
    expected = mass.reshape(32, 8).sum(1).numpy()
    seen = np.histogram(found.x_cloud_.numpy(), 32, (0, 1))[0] / len(found.x_cloud_)
    return np.abs(seen - expected).sum()


def test_against_frozen_opponents_the_cloud_is_the_gibbs_distribution():
    assert gibbs_error(1.0) <= 0.1
    assert gibbs_error(0.5) > 0.2  # noise sqrt(tau h) instead of sqrt(2 tau h)


def scharfetter_gummel(potential, temperature, width):
    """Finite volumes with exponential fitting: generator on a periodic grid, exact at Gibbs."""
    n = len(potential)
    up = torch.roll(potential, -1) - potential
    bernoulli = lambda z: torch.where(z.abs() < 1e-8, 1 - z / 2, z / torch.expm1(z))  # noqa: E731
    forward = temperature * bernoulli(up / temperature) / width**2
    backward = temperature * bernoulli(-up / temperature) / width**2
    index, after = torch.arange(n), torch.roll(torch.arange(n), -1)
    generator = torch.zeros(n, n, dtype=potential.dtype)
    generator[after, index] += forward
    generator[index, index] -= forward
    generator[index, after] += backward
    generator[after, after] -= backward
    return generator


def lyapunov_curve(scale_ratio, gammas, dt=2e-3, n_steps=600):
    """L1 + gamma L2 along the mean-field equations."""
    n = 64
    grid = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    payoffs, mu_best, nu_best = on_grid(0.1, grid=grid)
    _, value_best, _ = entropic_values(payoffs, mu_best, nu_best, 0.1, 1 / n, 1 / n)
    mu, nu = (1 + 0.9 * torch.sin(TAU * grid)) / n, (1 - 0.9 * torch.cos(TAU * grid)) / n
    eye, parts = torch.eye(n, dtype=torch.float64), []
    for _ in range(n_steps):
        upper, value, _ = entropic_values(payoffs, mu, nu, 0.1, 1 / n, 1 / n)
        parts.append([upper - value_best, upper - value])
        flow_x = scharfetter_gummel(payoffs @ nu, 0.1, 1 / n)
        flow_y = scale_ratio * scharfetter_gummel(-mu @ payoffs, 0.1, 1 / n)
        mu, nu = (
            torch.linalg.solve(eye - dt * flow_x, mu),
            torch.linalg.solve(eye - dt * flow_y, nu),
        )
    first, second = np.array(parts).T
    return [first + gamma * second for gamma in gammas]


def test_the_lyapunov_function_falls_exponentially_at_two_scales():
    for curve in lyapunov_curve(20.0, (0.5, 0.1, 1.0)):
        curve = curve[: np.argmax(curve < 1e-9)] if (curve < 1e-9).any() else curve
        assert (np.diff(curve) < 0).all()
        time = 2e-3 * np.arange(len(curve))
        slope, start = np.polyfit(time, np.log(curve), 1)
        residual = np.log(curve) - slope * time - start
        assert slope < -10
        assert residual.var() / np.log(curve).var() < 0.01


@pytest.mark.parametrize("scale_ratio", [1.0, 5.0])
def test_at_nearer_scales_the_lyapunov_function_may_rise(scale_ratio):
    (curve,) = lyapunov_curve(scale_ratio, (0.5,))
    assert np.diff(curve[curve > 1e-9]).max() > 1e-5


@pytest.mark.slow
def test_the_limit_does_not_depend_on_the_scales():
    _, mu, nu = oracle()
    runs = [
        play(scale_ratio=1.0, max_iter=8000),
        play(scale_ratio=5.0, max_iter=8000),
        play(scale_ratio=20.0, step_size=2.5e-4, max_iter=16000),
    ]
    for name, mass in (("x_cloud_", mu), ("y_cloud_", nu)):
        clouds = [getattr(run, name).ravel().numpy() for run in runs]
        for i, cloud in enumerate(clouds):
            assert distance(torch.from_numpy(cloud), mass) <= 0.01
            for other in clouds[:i]:
                assert wasserstein_distance(cloud, other) <= 0.02


# The claim.


def wavy(x, y):
    """Matrix of payoffs of two clouds."""
    return x @ y.T + torch.sin(4 * math.pi * x) @ torch.sin(4 * math.pi * y).T


BOX = [(-1.0, 1.0)]


def last_iterate_error(n_runs=20, step_size=2e-3, n_steps=2500):
    """Mean error of the points where plain descent and ascent are after many steps."""
    z = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (2, n_runs, 1)))
    for _ in range(n_steps):
        z.requires_grad_()
        gx, gy = torch.autograd.grad(wavy(z[0], z[1]).trace(), z)[0]
        z = (z.detach() + step_size * torch.stack([-gx, gy])).clamp(-1, 1)
    errors = [
        nikaido_isoda_error(wavy, x[None], y[None], BOX, BOX, boundary="reflect", pairwise=False)
        for x, y in zip(*z)
    ]
    return np.mean(errors)


def test_mixed_strategies_solve_a_game_on_which_descent_and_ascent_fails():
    found = mixed_nash_equilibrium(
        wavy,
        BOX,
        BOX,
        pairwise=False,
        boundary="reflect",
        temperature=0.05,
        n_particles=150,
        step_size=5e-4,
        max_iter=4000,
        random_state=0,
    )
    plain = last_iterate_error()
    assert plain > 1
    assert found.ni_error <= 0.1 * plain


def test_annealing_approaches_the_game_without_entropy():
    errors = {}
    for temperature in (0.3, 0.1, 0.05):
        payoffs, mu, nu = on_grid(temperature)
        errors[temperature] = float((mu @ payoffs).max() - (payoffs @ nu).min())
    np.testing.assert_allclose(list(errors.values()), [0.302, 0.117, 0.054], atol=1e-3)
    warm = play(temperature=0.3, max_iter=1500, n_particles=100)
    annealed = play(temperature=0.9, schedule="log", max_iter=3000, n_particles=100)
    assert warm.ni_error_ == pytest.approx(errors[0.3], rel=0.1)
    assert annealed.ni_error_ <= 0.6 * warm.ni_error_
    assert annealed.history_["temperature"][-1] == pytest.approx(0.9 / math.log(math.e + 2990))


# The solver object.


def test_the_same_seed_gives_the_same_clouds_and_global_generators_rest():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second, other = (
        MixedNashEquilibrium(game, n_particles=20, max_iter=50, random_state=seed).solve()
        for seed in (0, 0, 1)
    )
    assert torch.equal(first.x_cloud_, second.x_cloud_)
    assert first.ni_error_ == second.ni_error_
    assert not torch.equal(first.x_, other.x_)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_snapshots_and_shapes():
    domain = [(0.0, 1.0), (2.0, 3.0)]
    found = MixedNashEquilibrium(
        lambda x, y: torch.cos(TAU * (x[:, 0] - y[:, 0])) * torch.cos(TAU * x[:, 1]),
        domain,
        n_particles=10,
        max_iter=101,
        dtype=torch.float32,
        random_state=0,
    ).solve()
    assert found.x_.shape == (10, 2)
    assert found.y_cloud_.shape == (50, 1)  # steps 60, 70, 80, 90, 100
    assert torch.equal(found.x_cloud_[-10:], found.x_)
    assert found.x_.dtype == torch.float32
    assert (found.x_[:, 1] >= 2).all() and (found.x_[:, 1] <= 3).all()
    assert found.history_["value"].shape == found.history_["iteration"].shape == (11,)
    assert not found.ni_error_is_lower_bound_


def test_confinement_holds_particles_without_walls():
    """min over x, max over y of xy + (x^2 - y^2) / 2: independent Gaussians of variance tau."""
    found = MixedNashEquilibrium(
        lambda x, y: (x * y)[:, 0],
        BOX,
        BOX,
        boundary="none",
        confinement=1.0,
        temperature=0.25,
        step_size=0.02,
        max_iter=1500,
        n_particles=100,
        random_state=0,
    ).solve()
    for cloud in (found.x_cloud_, found.y_cloud_):
        assert float(cloud.mean()) == pytest.approx(0, abs=0.05)
        assert float(cloud.var()) == pytest.approx(0.25, rel=0.1)


def test_the_step_found_is_stable_and_bounded_by_the_noise():
    steep = MixedNashEquilibrium(
        lambda x, y: 1e4 * game(x, y), temperature=1e3, max_iter=20, random_state=0
    ).solve()
    assert steep.step_size_ < 0.1 / (1e4 * TAU**2) / 5
    flat = MixedNashEquilibrium(
        lambda x, y: 1e-9 * game(x, y), temperature=1.0, scale_ratio=2.0, max_iter=1
    ).solve()
    assert flat.step_size_ == pytest.approx(0.01 / 2 / 2)


def test_bad_arguments_are_named():
    for name, value in {
        "payoff": 3,
        "n_particles": 0,
        "temperature": -1.0,
        "scale_ratio": -1.0,
        "step_size": "fast",
        "max_iter": 0,
        "schedule": "cosine",
        "boundary": "sphere",
        "confinement": -1.0,
        "average_from": 1.0,
        "pairwise": "no",
        "domain_x": [(1.0, 0.0)],
        "domain_y": [0.0, 1.0],
    }.items():
        with pytest.raises(ValueError, match=name):
            MixedNashEquilibrium(**({"payoff": game} | {name: value}))
    with pytest.raises(ValueError, match="payoff must return one number a pair"):
        MixedNashEquilibrium(lambda x, y: x * y).solve()
    with pytest.raises(ValueError, match="payoff must return shape"):
        MixedNashEquilibrium(lambda x, y: x, pairwise=False).solve()
    with pytest.raises(ValueError, match="no curvature"):
        MixedNashEquilibrium(
            lambda x, y: 0 * (x * y)[:, 0], temperature=0.0, boundary="none"
        ).solve()
    with pytest.raises(ValueError, match="diverged: lower step_size"):
        MixedNashEquilibrium(
            lambda x, y: (x**4 - y**4)[:, 0], boundary="none", step_size=1e3, max_iter=50
        ).solve()
    point = np.zeros((1, 1))
    with pytest.raises(ValueError, match="x_weights"):
        nikaido_isoda_error(game, point, point, x_weights=[-1.0])
    with pytest.raises(ValueError, match="y must have shape"):
        nikaido_isoda_error(game, point, point[0])
    with pytest.raises(ValueError, match="x has 1 columns, domain_x 2"):
        nikaido_isoda_error(game, point, point, [(0, 1)] * 2)
    with pytest.raises(ValueError, match="one or two dimensions"):
        cube = np.zeros((1, 3))
        nikaido_isoda_error(game, cube, cube, [(0, 1)] * 3, [(0, 1)] * 3, temperature=1.0)


@pytest.mark.gpu
def test_on_a_gpu():
    found = play(device="cuda", n_particles=50, max_iter=100)
    expected = play(n_particles=50, max_iter=100)
    assert found.x_.is_cuda
    torch.testing.assert_close(found.x_.cpu(), expected.x_, rtol=1e-6, atol=1e-6)
