"""Schedules, samplers, chains and likelihoods against densities that are known exactly."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import stats

from skpapers.datasets import GaussianMixtureDensity
from skpapers.neural_network import build_module, field_divergence, input_gradient
from skpapers.processes import (
    EnergyMLP,
    denoising_score_loss,
    energy_distance,
    flow_log_likelihood,
    get_schedule,
    implicit_score_loss,
    line_integral,
    metropolis_adjusted_langevin,
    probability_flow,
    random_walk_metropolis,
    reverse_diffusion,
    time_grid,
    unadjusted_langevin,
)

SCHEDULES = ["vp", "ou", "ve", "edm", "cosine", "flow"]
# standardised: mean 0, variance 0.8^2 + 0.36 = 1
MIXTURE = GaussianMixtureDensity([[-0.8], [0.8]], 0.36)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noisy_score(schedule, density=MIXTURE):
    def score(x, t):
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        return density.score_function(x, alpha=alpha, sigma=sigma)

    return score


@pytest.mark.parametrize("name", SCHEDULES)
def test_drift_and_diffusion_are_the_derivatives_of_the_schedule(name):
    schedule = get_schedule(name)
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    log_alpha_slope = input_gradient(lambda t: schedule.alpha(t).log() + 0 * t, t)[1]
    assert_allclose(schedule.beta(t), -2 * log_alpha_slope, atol=1e-12)
    variance_slope = input_gradient(lambda t: schedule.sigma(t) ** 2, t)[1]
    expected = variance_slope + schedule.beta(t) * schedule.sigma(t) ** 2
    assert_allclose(schedule.g2(t), expected, rtol=1e-9)
    assert_allclose(
        schedule.log_snr(t), 2 * torch.log(schedule.alpha(t) / schedule.sigma(t)), atol=1e-12
    )


def test_unknown_schedules_and_parameters_are_named():
    with pytest.raises(ValueError, match="schedule must be one of"):
        get_schedule("linear")
    with pytest.raises(ValueError, match="beta_min"):
        get_schedule("ou", beta_min=1.0)


@pytest.mark.parametrize("spacing", ["log", "uniform", "edm"])
def test_time_grids_go_from_noise_to_data(spacing):
    schedule = get_schedule("edm")
    times = time_grid(schedule, 9, spacing=spacing)
    assert (times.diff() < 0).all()
    assert times[0] == 80.0
    assert times[-1] == 2e-3
    assert len(times) == 10


@pytest.mark.parametrize("name", ["vp", "ou", "ve", "cosine", "flow"])
def test_both_samplers_reach_the_density(name):
    schedule = get_schedule(name)
    times = time_grid(schedule, 300, spacing="log" if name in ("ou", "flow") else "uniform")
    level = {"alpha": schedule.alpha(times[0]).item(), "sigma": schedule.sigma(times[0]).item()}
    start = torch.tensor(MIXTURE.sample(4000, 0, **level))
    score = noisy_score(schedule)
    ends = [
        reverse_diffusion(score, start, schedule, times, generator=generator()),
        probability_flow(score, start, schedule, times),
    ]
    for end in ends:
        # energy distance of two samples of 4000 from the mixture: below 0.004 in 99 % of draws
        assert energy_distance(end.numpy(), MIXTURE.sample(4000, 1)) < 0.005


def test_probability_flow_is_invertible():
    schedule = get_schedule("vp")
    times = time_grid(schedule, 400, spacing="uniform")
    x = torch.tensor(MIXTURE.sample(20, 0))
    latent = probability_flow(noisy_score(schedule), x, schedule, times.flip(0))
    back = probability_flow(noisy_score(schedule), latent, schedule, times)
    assert_allclose(back, x, atol=1e-3)


@pytest.mark.parametrize("name", ["vp", "ou"])
def test_flow_likelihood_is_the_density(name):
    """At t_min the density is the noisy one."""
    schedule = get_schedule(name, **({"t_max": 12.0} if name == "ou" else {}))
    mixture = GaussianMixtureDensity([[-0.8, 0.0], [0.8, 0.0]], [[0.36, 1.0]] * 2)
    x = torch.tensor(mixture.sample(50, 0))
    spacing = "log" if name == "ou" else "uniform"
    times = time_grid(schedule, 200, spacing=spacing)
    score = noisy_score(schedule, mixture)
    with torch.inference_mode():
        ours = flow_log_likelihood(score, x, schedule, times)
    level = {"alpha": schedule.alpha(times[-1]).item(), "sigma": schedule.sigma(times[-1]).item()}
    assert_allclose(ours, mixture.score_samples(x, **level), atol=2e-3)


def test_divergence_and_gradient_are_those_of_autograd():
    network = build_module(
        lambda: torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)),
        generator(),
        torch.float64,
    )
    x = torch.randn(4, 3, generator=generator(), dtype=torch.float64)
    expected = [torch.autograd.functional.jacobian(network, row).trace() for row in x]
    with torch.inference_mode():
        values, divergence = field_divergence(network, x)
    assert_allclose(divergence, expected)
    assert_allclose(values, network(x).detach())
    signs = torch.randint(2, (20_000, 4, 3), generator=generator(), dtype=torch.float64) * 2 - 1
    draws = torch.stack([field_divergence(network, x, s[None])[1] for s in signs[:2000]])
    error = draws.std(0) / 2000**0.5
    assert ((draws.mean(0) - torch.stack(expected)).abs() < 4 * error).all()
    assert field_divergence(torch.ones_like, x)[1].tolist() == [0.0] * 4


def test_gradient_of_the_gradient_trains_a_network():
    energy = build_module(lambda: EnergyMLP(2, (4,)), generator(), torch.float64)
    x = torch.randn(3, 2, generator=generator(), dtype=torch.float64)
    loss = input_gradient(energy, x, create_graph=True)[1].square().sum()
    weight = energy.network[0].weight
    (slope,) = torch.autograd.grad(loss, weight)
    step = 1e-6

    def at(change):
        with torch.no_grad():
            weight[0, 0] += change
        return input_gradient(energy, x)[1].square().sum()

    difference = (at(step) - at(-2 * step)) / (2 * step)
    assert_allclose(slope[0, 0], difference, rtol=1e-4)


def test_tail_of_the_energy_is_its_quadratic():
    energy = build_module(lambda: EnergyMLP(2, (4,), tail=2.0), generator(), torch.float64)
    x = torch.randn(3, 2, generator=generator(), dtype=torch.float64)
    assert_allclose((energy(x) - energy.network(x)[:, 0]).detach(), (x**2).sum(1) / 8)


@pytest.mark.parametrize("activation", ["softplus", "silu"])
def test_derivatives_propagated_forward_are_those_of_autograd(activation):
    make = lambda: EnergyMLP(3, (8, 5), activation, tail=2.0)  # noqa: E731
    energy = build_module(make, generator(), torch.float64)
    x = torch.randn(6, 3, generator=generator(), dtype=torch.float64)
    score, divergence = energy.score_and_divergence(x)
    expected = field_divergence(lambda z: -input_gradient(energy, z, create_graph=True)[1], x)
    assert_allclose(score.detach(), expected[0], atol=1e-12)
    assert_allclose(divergence.detach(), expected[1], atol=1e-12)


def test_implicit_loss_prefers_the_true_score():
    """E|s|^2 / 2 + div s = E|s - score|^2 / 2 - E|score|^2 / 2, here for linear scores."""
    x = torch.tensor(np.random.RandomState(0).normal(size=(100_000, 1)))
    for slope in (0.5, 1.0, 2.0):
        loss = implicit_score_loss(lambda x, k=slope: -k * x, x, create_graph=False).mean()
        assert_allclose(loss, 0.5 * (slope - 1) ** 2 - 0.5, atol=0.02)


def test_denoising_loss_has_the_noisy_score_as_minimiser():
    """For N(0, 1) with noise sigma: slope 1 / (1 + sigma^2), and loss sigma^2 / (1 + sigma^2)."""
    rng = np.random.RandomState(0)
    x, noise = (torch.tensor(rng.normal(size=(100_000, 1))) for _ in range(2))
    best = 1 / 1.25
    losses = [
        denoising_score_loss(lambda x, k=k: -k * x, x, 0.5, noise).mean().item()
        for k in (best - 0.2, best, best + 0.2)
    ]
    assert np.argmin(losses) == 1
    assert_allclose(losses[1], 1 / 1.25, rtol=0.02)


def test_unadjusted_langevin_has_its_known_bias():
    x = torch.zeros(40_000, 1, dtype=torch.float64)
    x = unadjusted_langevin(lambda x: -x, x, step_size=0.5, n_steps=60, generator=generator())
    expected = 1 / (1 - 0.25)
    assert abs(x.var() - expected) < 4 * expected * np.sqrt(2 / 40_000)


def test_adjusted_chains_have_no_bias():
    x = torch.zeros(20_000, 1, dtype=torch.float64)
    x, rate = metropolis_adjusted_langevin(
        lambda x: (-0.5 * (x**2).sum(1), -x), x, step_size=0.5, n_steps=60, generator=generator()
    )
    assert stats.kstest(x[:, 0].numpy(), "norm").pvalue > 0.01
    assert 0.5 < rate < 1

    def log_ratio(start, end):
        return line_integral(lambda z: -z, start, end, n_nodes=2)

    start = torch.zeros(20_000, 1, dtype=torch.float64)
    x, _ = random_walk_metropolis(log_ratio, start, scale=2.0, n_steps=60, generator=generator())
    assert stats.kstest(x[:, 0].numpy(), "norm").pvalue > 0.01


def test_line_integral_of_a_gradient_is_the_difference():
    mixture = GaussianMixtureDensity([[-1.0, 0.0], [1.0, 1.0]], 0.5)
    start, end = np.random.RandomState(0).normal(size=(2, 6, 2))
    difference = mixture.score_samples(end) - mixture.score_samples(start)
    assert_allclose(line_integral(mixture.score_function, start, end), difference, atol=1e-8)
    linear = line_integral(lambda x: -x, start, end, n_nodes=1)
    assert_allclose(linear, 0.5 * (start**2 - end**2).sum(1))
