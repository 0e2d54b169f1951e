"""Registries, layers, initialisation and parameter groups."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

from skpapers.neural_network import (
    Dropout,
    NeuralClassifier,
    build_module,
    get_registry,
    initialize,
    make_mlp,
)
from skpapers.neural_network._optimizer import make_optimizer, parameter_groups

X, y = load_iris(return_X_y=True)


def train(**params):
    return NeuralClassifier((8,), max_epochs=2, tol=0, random_state=0, **params).fit(X, y)


@pytest.mark.parametrize("name", get_registry("activation").names())
def test_every_activation_trains(name):
    assert np.isfinite(train(activation=name).predict_proba(X)).all()


@pytest.mark.parametrize("name", get_registry("optimizer").names())
def test_every_optimizer_trains(name):
    curve = train(optimizer=name, lr=1e-3, batch_size=None).loss_curve_
    assert np.isfinite(curve).all()
    assert curve[1] < curve[0]


@pytest.mark.parametrize("name", get_registry("normalization").names())
@pytest.mark.parametrize("parametrization", get_registry("parametrization").names())
def test_every_normalization_and_parametrization_trains(name, parametrization):
    model = train(normalization=name, parametrization=parametrization)
    assert np.isfinite(model.predict_proba(X)).all()


def test_a_part_is_a_name_with_parameters_a_class_or_a_module():
    by_name = train(activation="leaky_relu(negative_slope=0.2)")
    by_params = train(activation="leaky_relu", activation_params={"negative_slope": 0.2})
    by_module = train(activation=torch.nn.LeakyReLU(0.2))
    expected = by_name.predict_proba(X)
    np.testing.assert_array_equal(expected, by_params.predict_proba(X))
    np.testing.assert_array_equal(expected, by_module.predict_proba(X))
    assert not np.array_equal(expected, train(activation=torch.nn.LeakyReLU).predict_proba(X))
    train(optimizer=torch.optim.SGD)


@pytest.mark.parametrize("kind", ["activation", "normalization", "optimizer", "parametrization"])
def test_unknown_names_give_the_nearest(kind):
    name = get_registry(kind).names()[0]
    with pytest.raises(ValueError, match=f"unknown {kind} .*did you mean .*{name}"):
        train(**{kind: name + "x"})


def test_malformed_parameters_are_an_error():
    with pytest.raises(ValueError, match="not of the form"):
        train(activation="elu(alpha=")


def test_torch_layers_get_the_distribution_of_torch():
    """Variance 1/(3 fan_in) for weights and biases of a linear layer, and its bounds."""
    generator = torch.Generator().manual_seed(0)
    layer = build_module(lambda: torch.nn.Linear(100, 500), generator, torch.float64)
    for values in (layer.weight, layer.bias):
        assert float(values.detach().abs().max()) <= 0.1
    assert float(layer.weight.detach().var()) == pytest.approx(1 / 300, rel=0.02)
    conv = build_module(lambda: torch.nn.Conv2d(4, 64, 5), generator)
    assert float(conv.weight.detach().var()) == pytest.approx(1 / 300, rel=0.05)


def test_ntk_output_variance_does_not_depend_on_width():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 20, generator=generator)
    spread = {}
    for width in (64, 4096):
        make = lambda w=width: make_mlp(20, (w,), 50, parametrization="ntk")  # noqa: E731
        spread[width] = float(build_module(make, generator)(inputs).detach().std())
    assert spread[64] == pytest.approx(spread[4096], rel=0.15)
    assert spread[4096] == pytest.approx(math.sqrt(0.5), rel=0.1)  # half the units are off


def test_unknown_layers_with_parameters_must_say_how_to_initialise():
    class Mystery(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(3))

    with pytest.raises(TypeError, match="init_parameters"):
        initialize(Mystery(), torch.Generator())


def test_building_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    make = lambda: torch.nn.Sequential(  # noqa: E731
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.GRU(4, 4), torch.nn.PReLU()
    )
    build_module(make, torch.Generator().manual_seed(0))
    assert torch.equal(before, torch.get_rng_state())


def test_dropout_keeps_the_mean():
    layer = Dropout(0.3)
    layer.generator = torch.Generator().manual_seed(0)
    output = layer(torch.ones(100_000))
    assert float((output == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(output.mean()) == pytest.approx(1.0, abs=0.01)


def test_weight_decay_acts_on_matrices_only_and_tied_weights_once():
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 3)
    )
    module[2].weight = module[0].weight
    groups = {g["weight_decay"]: g["params"] for g in parameter_groups(module, 0.1, 0.5)}
    assert [p.shape for p in groups[0.5]] == [(3, 3)]
    assert len(groups[0.0]) == 4
    with pytest.raises(ValueError, match="weight_decay=0"):
        make_optimizer(module, "lbfgs", lr=1.0, weight_decay=0.1)
    (group,) = make_optimizer(torch.nn.Linear(2, 2), "adamw", lr=0.1).param_groups
    assert group["weight_decay"] == 0


def test_layers_may_ask_for_their_own_rate_and_decay():
    layer = torch.nn.Linear(2, 2)
    layer.optimizer_options = {
        "weight": {"lr": 0.01, "weight_decay": 0.0},
        "bias": {"lr_scale": 3},
    }
    rates = {g["params"][0].ndim: g["lr"] for g in parameter_groups(layer, 0.1, 0.5)}
    assert rates == {2: 0.01, 1: pytest.approx(0.3)}


@pytest.mark.parametrize("options", [{"normalization": "batch"}, {"block": "star"}])
def test_batch_statistics_come_from_batches_of_one_size(options):
    """A row more than a batch would otherwise be a batch of its own, which has no variance."""
    model = NeuralClassifier((8,), batch_size=149, max_epochs=2, tol=0, random_state=0, **options)
    assert np.isfinite(model.fit(X, y).predict_proba(X)).all()
