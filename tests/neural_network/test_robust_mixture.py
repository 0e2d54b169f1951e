"""Populations against adversaries: the games worked by hand, and the claim on a minority."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.preprocessing import scale

from skpapers.neural_network import (
    DivergenceError,
    RobustMixtureClassifier,
    RobustMixtureRegressor,
    build_module,
    make_mlp,
)
from skpapers.neural_network._population import (
    GroupGame,
    Population,
    ShiftGame,
    initial_particles,
    largest_moment,
)


def population(sizes, n_models=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    particles = initial_particles(n_models, sizes, generator, torch.float64)
    particles += 0.1 * torch.randn(particles.shape, generator=generator, dtype=torch.float64)
    identity = torch.zeros(sizes[0], dtype=torch.float64)
    return Population(particles, sizes, identity, identity + 1)


def draws(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


# Oracles.


@pytest.mark.parametrize("hidden", [(), (4,), (4, 3)])
def test_each_particle_is_a_network(hidden):
    """The outputs are those of an MLP with the same weights, shifts added to its input."""
    models, rows, shifts = population((5, *hidden, 2)), draws(7, 5), draws(4, 5, seed=1)
    make = lambda: make_mlp(5, hidden, 2, activation="tanh")  # noqa: E731
    network = build_module(make, torch.Generator().manual_seed(0), torch.float64)
    linear = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        outputs = models.outputs(models.particles, rows, shifts)
        assert outputs.shape == (3, 4, 7, 2)
        for i in range(3):
            for layer, (weight, bias) in zip(linear, models.layers(models.particles)):
                layer.weight.copy_(weight[i].T)
                layer.bias.copy_(bias[i, 0])
            torch.testing.assert_close(models(rows)[i], network(rows))
            for j in range(4):
                torch.testing.assert_close(outputs[i, j], network(rows + shifts[j]))


def test_payoffs_of_the_group_game_worked_row_by_row():
    rng = np.random.default_rng(0)
    models, rows, logits = population((2, 3)), draws(12, 2), draws(4, 2, seed=1)
    y, groups = rng.integers(3, size=12), np.array([0] * 9 + [1] * 3)
    game = GroupGame(models, 0.3, torch.from_numpy(groups), torch.float64)
    data = rows, torch.from_numpy(y)
    with torch.no_grad():
        payoffs = game.payoffs(data, torch.arange(12), models.particles, logits)
        outputs = models(rows)
    for i in range(3):
        probability = outputs[i].softmax(1).numpy()
        losses = -np.log(probability[np.arange(12), y])
        weights = models.particles[i, :6].detach().numpy()
        for j in range(4):
            v = logits[j].numpy()
            share = 0.7 * np.array([0.75, 0.25]) + 0.3 * np.exp(v) / np.exp(v).sum()
            expected = share @ [losses[:9].mean(), losses[9:].mean()]
            expected += 1e-3 * weights @ weights - 5e-3 * v @ v
            assert float(payoffs[i, j]) == pytest.approx(expected, rel=1e-12)


def test_batches_estimate_the_payoffs_without_bias():
    models, rows, logits = population((2, 1)), draws(12, 2), draws(4, 2, seed=1)
    game = GroupGame(models, 0.5, torch.arange(12) // 9, torch.float64)
    data = rows, draws(12, seed=2)
    with torch.no_grad():
        parts = [
            game.payoffs(data, part, models.particles, logits)
            for part in torch.randperm(12, generator=torch.Generator().manual_seed(0)).split(4)
        ]
        whole = game.payoffs(data, torch.arange(12), models.particles, logits)
    torch.testing.assert_close(torch.stack(parts).mean(0), whole)


def test_shifts_stay_in_the_ball():
    game = ShiftGame(population((2, 1)), 0.5)
    kept = game.keep(torch.tensor([[3.0, 4.0], [0.3, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(kept, torch.tensor([[0.3, 0.4], [0.3, 0.0], [0.0, 0.0]]))


def test_the_step_is_bounded_by_the_largest_eigenvalue():
    rows = draws(50, 3) @ torch.diag(torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64))
    expected = np.linalg.eigvalsh(rows.T @ rows / 50)[-1]
    found = largest_moment(rows, torch.Generator().manual_seed(0))
    assert found == pytest.approx(expected, rel=1e-3)
    X = np.tile(draws(60, 1).numpy(), (1, 400))  # one feature, 400 times
    y = X[:, 0]
    model = RobustMixtureRegressor(max_epochs=100, random_state=0).fit(X, y)
    assert model.step_size_ < 2e-3
    assert model.score(X, y) > 0.9


def test_without_an_adversary_it_is_ridge_regression():
    X, y = load_diabetes(return_X_y=True)
    X = X[:, :4]
    model = RobustMixtureRegressor(
        n_models=3, radius=0.0, temperature=0.0, lr=1.0, max_epochs=300, random_state=0
    ).fit(X, y)
    Z, target = scale(X), scale(y)
    peer = Ridge(alpha=2 * 1e-3 * len(X)).fit(Z, target)
    for particle in model.particles_x_:
        np.testing.assert_allclose(particle[:-1], peer.coef_, atol=1e-6)
    np.testing.assert_allclose(model.predict(X), peer.predict(Z) * y.std() + y.mean(), rtol=1e-5)


def test_full_power_equalises_the_losses_of_groups():
    """At the equilibrium with radius 1 no group that has weight is easier than another."""
    X, y, rare = minority(1000, np.random.default_rng(0))
    losses = {}
    for radius in (0.0, 1.0):
        model = RobustMixtureClassifier(n_models=5, radius=radius, random_state=0)
        probability = model.fit(X, y, groups=rare).predict_proba(X)
        losses[radius] = [log_loss(y[rare == k], probability[rare == k]) for k in (False, True)]
    assert losses[0.0][1] > 3 * losses[0.0][0]
    assert losses[1.0][1] < 1.3 * losses[1.0][0]


# The claim.


def minority(n, rng):
    """A feature that is right for nine tenths of the rows and wrong for the others."""
    y, rare = rng.choice([-1, 1], n), rng.random(n) < 0.1
    easy = np.where(rare, -y, y) + 0.5 * rng.standard_normal(n)
    hard = y + rng.standard_normal(n)
    return np.column_stack([hard, easy, rng.standard_normal((n, 3))]), y, rare


def worst_group(model, X, y, rare):
    return min(model.score(X[rare == k], y[rare == k]) for k in (False, True))


def test_the_worst_group_gains_over_logistic_regression():
    rng = np.random.default_rng(0)
    (X, y, rare), fresh = minority(2000, rng), minority(5000, rng)
    plain = worst_group(LogisticRegression().fit(X, y), *fresh)
    model = RobustMixtureClassifier(random_state=0).fit(X, y, groups=rare)
    assert worst_group(model, *fresh) >= plain + 0.15
    assert model.adversary_weights_[1] > 0.3  # of 0.1 of the rows
    assert model.ni_error_ < 0.05


@pytest.mark.slow
def test_the_worst_group_gains_by_the_radius():
    rng = np.random.default_rng(1)
    (X, y, rare), fresh = minority(2000, rng), minority(5000, rng)
    plain = worst_group(LogisticRegression().fit(X, y), *fresh)
    for options, low, high in (
        ({}, 0.15, 1.0),
        ({"radius": 1.0}, 0.15, 1.0),
        ({"radius": 0.0, "max_epochs": 1000}, -0.03, 0.03),
    ):
        model = RobustMixtureClassifier(n_models=10, random_state=1, **options).fit(
            X, y, groups=rare
        )
        assert plain + low <= worst_group(model, *fresh) <= plain + high


def test_shifts_of_a_linear_regression_are_a_ridge_penalty():
    """The worst shift of length r adds r^2 |w|^2 to the mean square of centred residuals."""
    rng = np.random.default_rng(0)
    X = scale(rng.standard_normal((300, 3)) @ [[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1]])
    y = scale(X @ [1, 0.5, -0.7] + 0.5 * rng.standard_normal(300))
    model = RobustMixtureRegressor(
        adversary="feature_shift", radius=0.5, temperature=1e-4, random_state=0
    ).fit(X, y)
    coef = model.particles_x_.mean(0)[:-1]
    peer, plain = Ridge(alpha=300 * (0.5**2 + 2e-3)).fit(X, y), Ridge(alpha=1e-9).fit(X, y)
    np.testing.assert_allclose(coef, peer.coef_, atol=0.02)
    assert np.abs(plain.coef_ - peer.coef_).max() > 0.1
    assert model.adversary_weights_ is None
    shift = model.particles_y_
    assert (np.linalg.norm(shift, axis=1) <= 0.5 + 1e-12).all()
    assert (np.abs(shift @ coef) > 0.95 * 0.5 * np.linalg.norm(coef)).all()  # along the weights


# The estimators.


@pytest.mark.parametrize("adversary", ["reweight", "feature_shift"])
def test_networks_classes_and_batches(adversary):
    X, y = load_iris(return_X_y=True)
    names = np.array(["a", "b", "c"])[y]
    model = RobustMixtureClassifier(
        n_models=4,
        hidden_layer_sizes=(8,),
        adversary=adversary,
        max_epochs=60,
        batch_size=32,
        lr=0.3,
        random_state=0,
    ).fit(X, names)
    assert model.score(X, names) > 0.9
    assert model.particles_x_.shape == (4, 4 * 8 + 8 + 8 * 3 + 3)
    assert len(model.loss_curve_) == model.n_iter_ == 60
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)


def test_groups_are_clusters_of_rows_where_none_are_given():
    X, y = load_diabetes(return_X_y=True)
    model = RobustMixtureRegressor(n_models=3, max_epochs=5, random_state=0).fit(X, y)
    assert model.groups_.tolist() == list(range(10))
    assert model.adversary_weights_.sum() == pytest.approx(1)
    few = RobustMixtureRegressor(n_models=3, max_epochs=5, random_state=0).fit(X[:14], y[:14])
    assert len(few.groups_) == 2


def test_bad_arguments_are_named():
    X, y = load_diabetes(return_X_y=True)
    with pytest.raises(ValueError, match="radius must be at most 1"):
        RobustMixtureRegressor(radius=1.5).fit(X, y)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        RobustMixtureRegressor().fit(X, y, groups=[0, 1])
    with pytest.raises(ValueError, match="one class"):
        RobustMixtureClassifier().fit(X, np.ones(len(X)))
    with pytest.raises(DivergenceError, match="lower lr"):
        RobustMixtureRegressor(
            n_models=2, hidden_layer_sizes=(20, 20, 20), lr=0.5, temperature=1e306, max_epochs=20
        ).fit(X, y)


@pytest.mark.gpu
def test_on_a_gpu():
    X, y = load_iris(return_X_y=True)
    params = {"n_models": 3, "max_epochs": 20, "random_state": 0}
    expected = RobustMixtureClassifier(device="cpu", **params).fit(X, y).predict_proba(X)
    found = RobustMixtureClassifier(device="cuda", **params).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(found, expected, atol=1e-5)
