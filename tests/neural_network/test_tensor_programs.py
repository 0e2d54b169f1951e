"""Maximal update parametrization."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_classification
from torch.optim import Optimizer

from skpapers.neural_network import (
    NeuralClassifier,
    NeuralRegressor,
    build_module,
    coordinate_check,
    make_mlp,
    width_scaling,
)
from skpapers.neural_network._optimizer import make_optimizer, parameter_groups

WIDTHS = (64, 128, 256, 512, 1024)
HE = f"gain={6**0.5}"  # weights of standard deviation sqrt(2 / n_in)


class SignDescent(Optimizer):
    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure):
        loss = torch.enable_grad()(closure)()
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad.sign(), alpha=group["lr"])
        return loss


def slopes(parametrization, optimizer, lr):
    X, y = make_classification(128, 20, n_informative=10, n_classes=5, random_state=0)
    network = NeuralClassifier(
        (64, 64, 64), parametrization=parametrization, optimizer=optimizer, lr=lr
    )
    return coordinate_check(network, X, y, WIDTHS, random_state=0)["slopes"]


def groups_of(module, optimizer, **params):
    """The group of each parameter."""
    groups = make_optimizer(module, optimizer, lr=1.0, **params).param_groups
    return {id(p): group for group in groups for p in group["params"]}


def test_at_the_base_width_it_is_the_standard_parametrization_bit_by_bit():
    X, y = load_digits(return_X_y=True)
    common = {"hidden_layer_sizes": (32, 32), "max_epochs": 3, "tol": 0, "random_state": 0}
    for optimizer in ("adam", "sgd"):
        standard = NeuralClassifier(**common, optimizer=optimizer).fit(X / 16, y)
        mup = NeuralClassifier(
            **common, optimizer=optimizer, parametrization="mup(base_width=32, output_gain=1.0)"
        ).fit(X / 16, y)
        assert standard.loss_curve_ == mup.loss_curve_
        np.testing.assert_array_equal(standard.predict_proba(X), mup.predict_proba(X))


@pytest.mark.parametrize(
    "optimizer, lr, bound", [("adam", 1e-2, 0.1), ("sgd", 0.1, 0.15), ("adagrad", 1e-2, 0.15)]
)
def test_features_move_as_much_at_every_width(optimizer, lr, bound):
    """The coordinate check: no layer's change depends on the width; it does in torch's own."""
    assert np.abs(slopes(f"mup({HE})", optimizer, lr)).max() <= bound
    assert slopes(f"standard({HE})", optimizer, lr).max() >= 0.7


def test_features_move_as_much_under_sign_descent():
    assert np.abs(slopes(f"mup({HE})", SignDescent, 1e-2)).max() <= 0.15
    assert slopes(f"standard({HE})", SignDescent, 1e-2).max() >= 0.7


@pytest.mark.parametrize("optimizer, lr", [("sgd", 0.1), ("adam", 1e-2)])
def test_the_tangent_parametrization_learns_no_features(optimizer, lr):
    *hidden, output = slopes("ntk", optimizer, lr)
    assert max(hidden) <= -0.35
    assert abs(output) <= 0.25


def test_the_output_starts_smaller_the_wider_the_network():
    """Its variance over the initialisations falls like 1 / width."""
    inputs = torch.randn(1, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    variances = []
    for width in (64, 1024):
        generator = torch.Generator().manual_seed(1)
        build = {"parametrization": "mup(output_gain=1.0)"}
        make = lambda w=width: make_mlp(20, (w, w), 50, **build)  # noqa: B023, E731
        outputs = [build_module(make, generator, torch.float64)(inputs) for _ in range(40)]
        # Biases of the output do not shrink: at most 1 / (3 base width).
        variances.append(float(torch.cat(outputs).detach().var()) - 1 / (3 * 64))
    assert variances[0] / variances[1] == pytest.approx(16, rel=0.25)


def test_groups_follow_the_table_of_the_mup_package():
    """MuAdam divides the rate of hidden matrices by the ratio of their inputs and multiplies
    their decay; MuSGD multiplies that of vectors by the width and of matrices by out over in."""
    make = lambda: make_mlp(  # noqa: E731
        20, (128, 512), 5, normalization="layer", parametrization="mup(base_width=64)"
    )
    module = build_module(make, torch.Generator().manual_seed(0))
    first, norm, _, second, _, _, output = module
    adam = groups_of(module, "adamw", weight_decay=0.1)
    sgd = groups_of(module, "sgd")
    rates = {
        first.weight: (1, 2),
        first.bias: (1, 2),
        norm.weight: (1, 2),
        second.weight: (1 / 2, 8 / 2),
        second.bias: (1, 8),
        output.weight: (1, 8),
        output.bias: (1, 1),
    }
    for parameter, (adam_rate, sgd_rate) in rates.items():
        assert adam[id(parameter)]["lr"] == adam_rate
        assert sgd[id(parameter)]["lr"] == sgd_rate
    decays = [adam[id(layer.weight)]["weight_decay"] for layer in (first, second, output)]
    assert decays == pytest.approx([0.1, 0.2, 0.1])
    eps = [adam[id(layer.weight)]["eps"] for layer in (first, second, output)]
    assert eps == pytest.approx([1e-8 / 2, 1e-8 / 8, 1e-8 / 8])
    assert len({id(group) for group in adam.values()}) == 6  # as many as there are settings


def test_eps_scales_as_the_gradients_do():
    """Entries of the gradients, times the width, do not depend on it."""
    X, y = make_classification(128, 20, n_informative=10, random_state=0)
    sizes = []
    for width in (64, 1024):
        model = NeuralClassifier(
            (width,) * 3,
            parametrization="mup(output_gain=1.0)",
            max_epochs=1,
            batch_size=None,
            tol=0,
            random_state=0,
        ).fit(X, y)
        layers = [layer for layer in model.module_ if hasattr(layer, "width_role")]
        sizes.append([float(layer.weight.grad.abs().mean()) * width for layer in layers])
    np.testing.assert_allclose(sizes[0], sizes[1], rtol=0.35)


def test_scaling_is_neutral_at_the_base_width_and_takes_two_ratios():
    for role in ("input", "hidden", "output", "vector", "fixed"):
        for optimizer in ("adam", "sgd"):
            for parametrization in ("mup", "ntk"):
                factors = width_scaling(role, 1.0, optimizer, parametrization)
                assert set(factors.values()) == {1.0}
    assert width_scaling("hidden", (2.0, 8.0), "sgd")["lr"] == 4
    assert width_scaling("output", (4.0, 1.0))["forward"] == 1 / 4
    with pytest.raises(ValueError, match="role"):
        width_scaling("middle", 2.0)


def test_a_schedule_and_partial_fit_keep_the_ratios_of_the_rates():
    X, y = load_digits(return_X_y=True)
    model = NeuralClassifier(
        (256, 256), parametrization="mup", lr_schedule="step", max_epochs=4, tol=0, random_state=0
    ).fit(X / 16, y)
    rates = sorted({group["lr"] for group in model.net_.optimizer_.param_groups})
    assert rates[1] / rates[0] == pytest.approx(4)
    model.partial_fit(X / 16, y)
    rates = sorted({group["lr"] for group in model.net_.optimizer_.param_groups})
    assert rates == pytest.approx([1e-3 / 4, 1e-3])


def test_layers_without_a_role_have_one_rate():
    module = torch.nn.Linear(3, 2)
    groups = parameter_groups(module, 0.1, 0.0)
    assert [set(group) for group in groups] == [{"params", "lr", "weight_decay"}]


def test_bad_widths_are_errors_that_say_so():
    X, y = load_digits(return_X_y=True)
    with pytest.raises(ValueError, match="base_width"):
        NeuralClassifier(parametrization="mup(base_width=0)", random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="widths"):
        coordinate_check(NeuralClassifier((8,)), X, y, widths=(64,))


def test_regressors_and_linear_models_work():
    X, y = make_classification(60, 5, random_state=0)
    for sizes in ((), (128,)):
        model = NeuralRegressor(sizes, parametrization="mup", lr=0.01, tol=0, random_state=0)
        assert model.fit(X, y).score(X, y) > 0.3


@pytest.mark.slow
def test_the_best_learning_rate_is_that_of_the_narrow_network():
    """Tuned at width 64 and used at 512, against torch's own parametrization."""
    X, y = load_digits(return_X_y=True)
    X = ((X - X.mean(0)) / np.maximum(X.std(0), 1e-9)).astype(np.float32)
    rates = 2.0 ** np.arange(-11, -5)

    def final_loss(parametrization, width, lr):
        losses = []
        for seed in range(2):
            model = NeuralClassifier(
                (width,) * 3,
                parametrization=f"{parametrization}({HE})",
                lr=float(lr),
                batch_size=64,
                max_epochs=5,
                tol=0,
                random_state=seed,
            ).fit(X, y)
            losses.append(-np.log(model.predict_proba(X)[np.arange(len(y)), y] + 1e-12).mean())
        return np.mean(losses)

    losses = {
        (name, width): np.array([final_loss(name, width, lr) for lr in rates])
        for name in ("mup", "standard")
        for width in (64, 512)
    }
    best = {key: int(np.argmin(curve)) for key, curve in losses.items()}
    cost = {
        name: losses[name, 512][best[name, 64]] / losses[name, 512].min()
        for name in ("mup", "standard")
    }
    assert abs(best["mup", 64] - best["mup", 512]) <= 1
    assert cost["mup"] <= 1.5
    assert cost["standard"] >= 2.5
    assert losses["mup", 512].min() < losses["mup", 64].min()
