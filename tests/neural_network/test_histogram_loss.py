"""Histograms of targets, and values of states."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.datasets import load_diabetes, make_friedman1

from skpapers.neural_network import (
    FittedValueIterationRegressor,
    HistogramLossRegressor,
    NeuralRegressor,
    histogram_targets,
)
from skpapers.neural_network._fitted_value_iteration import moved_histograms
from skpapers.neural_network._histogram_loss import HistogramLoss

EDGES = np.linspace(-2.0, 3.0, 21)  # bins of a quarter
CENTERS = (EDGES[1:] + EDGES[:-1]) / 2
WIDTH = 0.25


def test_two_hot_keeps_the_mean_and_has_two_neighbours():
    y = np.random.default_rng(0).uniform(CENTERS[0], CENTERS[-1], 500)
    shares = histogram_targets(y, EDGES, "two_hot")
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(shares @ CENTERS, y, atol=1e-12)
    assert ((shares > 0).sum(1) <= 2).all()
    outside = histogram_targets(np.array([-5.0, 7.0]), EDGES, "two_hot")
    np.testing.assert_allclose(outside @ CENTERS, CENTERS[[0, -1]], atol=1e-12)


def test_hl_gauss_is_the_mass_of_the_truncated_normal_density():
    for y, sigma in ((0.1, 0.19), (-1.9, 0.3), (2.99, 0.1)):
        shares = histogram_targets(np.array([y]), EDGES, sigma=sigma)[0]
        density = norm(y, sigma).pdf
        masses = [quad(density, a, b, epsabs=1e-14)[0] for a, b in zip(EDGES, EDGES[1:])]
        np.testing.assert_allclose(shares, np.array(masses) / np.sum(masses), atol=1e-10)
        assert shares.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("ratio, bound", [(0.75, 1e-5), (0.5, 3e-3)])
def test_the_mean_of_hl_gauss_is_nearly_the_target(ratio, bound):
    edges = np.linspace(-10, 10, 81)
    y = np.linspace(-5, 5, 1001)
    shares = histogram_targets(y, edges, sigma=ratio * WIDTH)
    assert np.abs(shares @ ((edges[1:] + edges[:-1]) / 2) - y).max() <= bound * WIDTH


def test_torch_and_numpy_agree_and_bad_edges_are_an_error():
    y = np.random.default_rng(0).normal(size=50)
    for kind in ("hl_gauss", "two_hot"):
        ours = histogram_targets(torch.from_numpy(y), torch.from_numpy(EDGES), kind)
        np.testing.assert_allclose(ours, histogram_targets(y, EDGES, kind), atol=1e-14)
    with pytest.raises(ValueError, match="edges"):
        histogram_targets(y, np.array([0.0, 1.0]))


@pytest.mark.parametrize("kind", ["hl_gauss", "two_hot"])
def test_gradient_is_prediction_minus_target_and_bounded(kind):
    generator = torch.Generator().manual_seed(0)
    loss = HistogramLoss(21, kind=kind).fit(np.linspace(-1, 1, 5)[:, None])
    logits = torch.randn(8, 21, dtype=torch.float64, generator=generator).requires_grad_()
    y = 1e6 * torch.randn(8, 1, dtype=torch.float64, generator=generator)
    loss(logits, y, reduction="none").sum().backward()
    expected = torch.softmax(logits, 1) - loss.histograms(y)[:, 0]
    np.testing.assert_allclose(logits.grad, expected.detach(), atol=1e-10)
    assert logits.grad.abs().max() <= 1


def small(**params):
    defaults = {"hidden_layer_sizes": (16,), "max_epochs": 10, "lr": 0.01, "random_state": 0}
    return HistogramLossRegressor(**{**defaults, **params})


def test_predictions_follow_the_scale_of_the_target():
    X, y = load_diabetes(return_X_y=True)
    expected = small().fit(X, y).predict(X)
    moved = small().fit(X, 1e-3 * y + 7).predict(X)
    np.testing.assert_allclose((moved - 7) * 1e3, expected, rtol=1e-4)


@pytest.mark.parametrize("loss", ["hl_gauss", "two_hot"])
def test_linear_logits_converge_to_the_mean_histogram_of_equal_rows(loss):
    X = np.repeat(np.eye(3), 20, axis=0)
    y = np.random.default_rng(0).normal(size=60)
    model = small(loss=loss, hidden_layer_sizes=(), lr=0.05, max_epochs=2000, batch_size=None)
    shares = model.fit(X, y).predict_histogram(np.eye(3))
    (edges,) = model.bin_edges_
    sigma = 0.75 * (edges[1] - edges[0])
    targets = histogram_targets(y, edges, loss, sigma).reshape(3, 20, -1).mean(axis=1)
    np.testing.assert_allclose(shares, targets, atol=1e-3)


def noisy_friedman(noise, seed):
    X, y = make_friedman1(1500, 10, random_state=seed)
    rng = np.random.default_rng(seed)
    X_test, y_test = make_friedman1(2000, 10, random_state=seed + 100)
    return X, np.clip(y + noise(rng, len(y)), -40, 70), X_test, y_test


def rmse(model, X, y, X_test, y_test):
    return np.sqrt(np.mean((model.fit(X, y).predict(X_test) - y_test) ** 2))


def both_errors(noise, seed, **params):
    data = noisy_friedman(noise, seed)
    common = {"hidden_layer_sizes": (128, 128), "max_epochs": 150, "batch_size": 64}
    common |= {"dtype": "float32", "random_state": seed}
    squared = rmse(NeuralRegressor(**common, tol=0), *data)
    return rmse(HistogramLossRegressor(**common, **params), *data), squared


def test_outliers_do_less_harm_than_under_squared_error():
    """Noise of a t distribution with 1.5 degrees of freedom on the training targets."""
    ours, squared = both_errors(lambda rng, n: 2 * rng.standard_t(1.5, n), 0)
    assert ours <= 0.65 * squared


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_normal_noise_does_less_harm_than_under_squared_error(seed):
    ours, squared = both_errors(lambda rng, n: rng.normal(0, 3, n), seed)
    assert ours <= 0.9 * squared


def test_quantiles_cover_what_they_say():
    rng = np.random.default_rng(0)
    x, fresh = rng.uniform(-2, 2, (5000, 1)), rng.uniform(-2, 2, (4000, 1))
    respond = lambda x: x[:, 0] + (0.2 + np.abs(x[:, 0])) * rng.normal(size=len(x))  # noqa: E731
    y, y_fresh = respond(x), respond(fresh)
    model = HistogramLossRegressor(
        sigma_ratio=0.5, max_epochs=40, dtype="float32", random_state=0
    ).fit(x, y)
    low, high = model.predict_quantile(fresh, [0.05, 0.95]).T
    assert 0.87 <= np.mean((low <= y_fresh) & (y_fresh <= high)) <= 0.95


def test_quantiles_draws_and_densities_belong_to_one_histogram():
    X, y = load_diabetes(return_X_y=True)
    model = small().fit(X, y)
    rows, (edges,) = X[:5], model.bin_edges_
    shares, width = model.predict_histogram(rows), edges[1] - edges[0]
    levels = np.cumsum(shares, axis=1)[:, 30]
    reached = [model.predict_quantile(rows[[i]], levels[i])[0] for i in range(5)]
    np.testing.assert_allclose(reached, edges[31], rtol=1e-6)
    draws = model.sample(rows, 20_000, random_state=0)
    np.testing.assert_allclose(draws.mean(1), model.predict(rows), rtol=0.02)
    np.testing.assert_allclose(draws.std(1), model.predict_std(rows), rtol=0.02)
    centers = model.bin_centers_[0]
    np.testing.assert_allclose(
        np.exp(-model.nll(rows, np.full(5, centers[20]))), shares[:, 20] / width, rtol=1e-5
    )
    assert np.isinf(model.nll(rows, np.full(5, edges[-1] + 1))).all()
    with pytest.raises(ValueError, match=r"q must be levels in \[0, 1\]"):
        model.predict_quantile(rows, 1.5)


def test_two_targets_have_two_heads():
    X, y = load_diabetes(return_X_y=True)
    model = small().fit(X, np.c_[y, -5 * y])
    assert model.predict(X).shape == (442, 2)
    assert model.predict_histogram(X).shape == (442, 2, 51)
    assert model.predict_quantile(X, [0.1, 0.5, 0.9]).shape == (442, 2, 3)
    assert model.bin_edges_.shape == (2, 52)
    assert model.score(X, np.c_[y, -5 * y]) > 0.2


def test_networks_take_the_loss_by_name():
    X, y = load_diabetes(return_X_y=True)
    common = {"hidden_layer_sizes": (16,), "lr": 0.01, "batch_size": 64, "random_state": 0}
    for name, ours in (("hl_gauss(n_bins=31)", "hl_gauss"), ("two_hot(n_bins=31)", "two_hot")):
        network = NeuralRegressor(**common, max_epochs=10, tol=0, loss=name).fit(X, y)
        expected = small(batch_size=64, loss=ours, n_bins=31).fit(X, y)
        np.testing.assert_allclose(network.predict(X), expected.predict(X), rtol=1e-10)


def test_bins_are_those_of_the_first_call_and_say_so():
    X, y = load_diabetes(return_X_y=True)
    model = small().partial_fit(X, y)
    edges = model.bin_edges_
    model.partial_fit(X, y)
    with pytest.warns(UserWarning, match="beyond the bins"):
        model.partial_fit(X, 10 * y)
    np.testing.assert_array_equal(model.bin_edges_, edges)


def test_the_support_is_the_data_and_three_sigma_or_what_is_given():
    X, y = load_diabetes(return_X_y=True)
    for support, (low, high) in (("auto", (y.min(), y.max())), ((0.0, 400.0), (0.0, 400.0))):
        (edges,) = small(support=support, max_epochs=1).fit(X, y).bin_edges_
        margin = 3 * 0.75 * (edges[1] - edges[0])
        np.testing.assert_allclose([edges[0] + margin, edges[-1] - margin], [low, high], atol=1e-9)
    assert small(max_epochs=1).fit(X, np.full(442, 3)).predict(X) == pytest.approx(3, abs=0.5)


@pytest.mark.parametrize(
    "params, message",
    [({"n_bins": 4}, "n_bins=4 must be above"), ({"support": (2, 1)}, "support must be")],
)
def test_impossible_bins_are_errors_that_say_so(params, message):
    X, y = load_diabetes(return_X_y=True)
    with pytest.raises(ValueError, match=message):
        small(**params).fit(X, y)


def random_walk():
    """Both steps from each of 19 states; +1 for leaving on the right, -1 on the left."""
    states = np.repeat(np.arange(19), 2)
    following = states + np.tile([-1, 1], 19)
    rewards = (following == 19).astype(float) - (following == -1)
    terminal = (following < 0) | (following > 18)
    return np.eye(19)[states], rewards, np.eye(19)[following.clip(0, 18)], terminal


# Histograms of returns, which are -1 or 1 here, take longer than those of their mean.
@pytest.mark.parametrize("loss, bound", [("hl_gauss", 0.03), ("c51", 0.06)])
def test_values_of_the_random_walk_are_found(loss, bound):
    network = HistogramLossRegressor(
        loss, support=(-1.0, 1.0), hidden_layer_sizes=(), lr=0.1, batch_size=None
    )
    model = FittedValueIterationRegressor(network, gamma=1.0, random_state=0)
    values = model.fit(*random_walk()).predict(np.eye(19))
    assert np.sqrt(np.mean((values - (np.arange(1, 20) / 10 - 1)) ** 2)) <= bound


def test_moved_histograms_have_the_mean_of_the_target():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(20), 6)
    rewards, discount = rng.uniform(-0.1, 0.1, 6), np.array([0.5, 0.5, 0.9, 0.9, 0.0, 0.0])
    moved = moved_histograms(shares, CENTERS, EDGES, rewards, discount)[:, 0]
    np.testing.assert_allclose(moved.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(
        moved @ CENTERS, rewards + discount * (shares @ CENTERS), atol=1e-12
    )


def test_values_without_next_states_are_the_rewards():
    X, y = load_diabetes(return_X_y=True)
    network = small()
    model = FittedValueIterationRegressor(
        network, n_iterations=2, epochs_per_iteration=5, random_state=0
    )
    plain = model.fit(X, y)
    assert plain.score(X, y) > 0.3
    terminal = model.fit(X, y, X, np.ones(442, bool))
    np.testing.assert_allclose(terminal.predict(X), plain.predict(X), rtol=1e-10)
    with pytest.raises(ValueError, match="next_X must be given"):
        model.fit(X, y, terminal=np.zeros(442, bool))
    with pytest.raises(ValueError, match="set support"):
        model.set_params(gamma=1.0).fit(X, y, X)
    with pytest.raises(ValueError, match="next_X has 3 features"):
        model.fit(X, y, X[:, :3])


def test_value_iteration_takes_any_network():
    model = FittedValueIterationRegressor(
        NeuralRegressor((), lr=0.1, batch_size=None, tol=0, random_state=0), gamma=0.5
    )
    values = model.set_params(n_iterations=50).fit(*random_walk()).predict(np.eye(19))
    transition = (np.eye(19, k=1) + np.eye(19, k=-1)) / 2
    reward = np.r_[-0.5, np.zeros(17), 0.5]
    expected = np.linalg.solve(np.eye(19) - 0.5 * transition, reward)
    np.testing.assert_allclose(values, expected, atol=0.02)
