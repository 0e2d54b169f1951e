"""Linear layers with a scale of their own."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skpapers.neural_network import (
    NeuralClassifier,
    ScaleDistributionLinear,
    build_module,
    make_mlp,
)

LARGE = f"standard(gain={3 * 6**0.5})"  # three times He's weights, which are sqrt(6) times torch's


def layer_and_input(n_in=7, n_out=5, dtype=torch.float64, **params):
    generator = torch.Generator().manual_seed(0)
    layer = build_module(lambda: ScaleDistributionLinear(n_in, n_out, **params), generator, dtype)
    with torch.no_grad():
        layer.scale.uniform_(0.5, 2, generator=generator)
        if layer.bias is not None:
            layer.bias.normal_(generator=generator)
    return layer, torch.randn(11, n_in, dtype=dtype, generator=generator)


@pytest.mark.parametrize("bias", [True, False])
def test_output_is_the_formula_in_numpy(bias):
    layer, x = layer_and_input(bias=bias)
    u = x.numpy() @ layer.distribution.weight.detach().numpy().T
    expected = layer.scale.detach().numpy() * u / np.sqrt((u**2).mean(1, keepdims=True) + 1e-6)
    if bias:
        expected = expected + layer.bias.detach().numpy()
    np.testing.assert_allclose(layer(x).detach(), expected, rtol=1e-12)


def test_rows_over_the_scale_have_mean_square_one_and_the_size_of_the_matrix_is_free():
    layer, x = layer_and_input(bias=False, eps=1e-14)
    y = layer(x).detach()
    np.testing.assert_allclose((y / layer.scale.detach()).square().mean(1), 1, rtol=1e-10)
    for factor in (1e-3, 1e3):
        with torch.no_grad():
            layer.distribution.weight.mul_(factor)
            np.testing.assert_allclose(layer(x), y, rtol=1e-5)
            layer.distribution.weight.div_(factor)


def test_gradients_are_the_closed_forms_and_orthogonal_to_the_matrix():
    layer, x = layer_and_input(eps=1e-12)
    slopes = torch.randn(11, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (layer(x) * slopes).sum().backward()
    V, scale = layer.distribution.weight.detach(), layer.scale.detach()
    u = x @ V.T
    r = (u.square().mean(1, keepdim=True) + 1e-12).sqrt()
    direction, weighted = u / r, scale * slopes
    du = (weighted - direction * (weighted * direction).mean(1, keepdim=True)) / r
    np.testing.assert_allclose(layer.scale.grad, (slopes * direction).sum(0), rtol=1e-10)
    gradient = layer.distribution.weight.grad
    np.testing.assert_allclose(gradient, du.T @ x, rtol=1e-9, atol=1e-12)
    assert abs(float((gradient * V).sum())) <= 1e-8 * float(gradient.norm() * V.norm())


def test_orthogonal_matrices_give_outputs_of_one_length():
    layer, x = layer_and_input(6, 6, bias=False, eps=1e-14)
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))
    with torch.no_grad():
        layer.distribution.weight.copy_(torch.from_numpy(rotation))
        layer.scale.fill_(1.0)
        np.testing.assert_allclose(layer(x).norm(dim=1), np.sqrt(6), rtol=1e-10)


def test_agrees_with_linear_and_rms_norm_of_torch():
    layer, x = layer_and_input(dtype=torch.float32, bias=False)
    norm = torch.nn.RMSNorm(5, eps=1e-6)
    with torch.no_grad():
        norm.weight.copy_(layer.scale)
        expected = norm(x @ layer.distribution.weight.T)
    np.testing.assert_allclose(layer(x).detach(), expected, atol=1e-6)


def test_zeros_stay_zeros_with_finite_gradients():
    layer, _ = layer_and_input(bias=False)
    x = torch.zeros(2, 7, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert not y.detach().any()
    assert torch.isfinite(x.grad).all()


def test_the_scale_of_the_data_starts_near_the_linear_layer():
    generator = torch.Generator().manual_seed(0)
    make = lambda: ScaleDistributionLinear(200, 400, init_scale="data")  # noqa: E731
    layer = build_module(make, generator).train()
    x = torch.randn(64, 200, generator=generator)
    u = layer.distribution(x).detach()
    y = layer(x).detach()
    assert float((y - u).norm() / u.norm()) < 0.1
    kept = layer.scale.detach().clone()
    layer(10 * x)  # taken once
    assert torch.equal(layer.scale.detach(), kept)
    linear, error = layer.eval().to_linear(x)
    assert error < 0.1
    assert float((linear(x) - y).detach().norm() / y.norm()) == pytest.approx(error, rel=1e-5)


def first_gradient(linear, depth):
    generator = torch.Generator().manual_seed(0)
    module = build_module(
        lambda: make_mlp(20, (64,) * depth, 3, parametrization=LARGE, linear=linear),
        generator,
        torch.float64,
    )
    x = torch.randn(32, 20, dtype=torch.float64, generator=generator)
    torch.nn.functional.cross_entropy(module(x), torch.arange(32) % 3).backward()
    first = module[0] if linear == "dense" else module[0].distribution
    return float(first.weight.grad.norm())


def test_gradients_do_not_compound_over_depth():
    """Weights three times those of He: the gradients of the plain network explode."""
    ours = [first_gradient("sdd", depth) for depth in (4, 16, 64)]
    assert max(ours) / min(ours) <= 10
    plain = [first_gradient("dense", depth) for depth in (4, 16)]
    assert plain[1] / plain[0] >= 1e4


def accuracy(linear, seed):
    X, y = load_digits(return_X_y=True)
    X = StandardScaler().fit_transform(X).astype(np.float32)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, random_state=seed)
    model = NeuralClassifier(
        (64,) * 12,
        linear=linear,
        parametrization=LARGE,
        optimizer="sgd",
        lr=0.1,
        batch_size=64,
        max_epochs=20,
        tol=0,
        random_state=seed,
    )
    try:
        return model.fit(X, y).score(X_test, y_test)
    except FloatingPointError:  # the loss of a network that diverges is infinite
        return 0.1


def test_deep_networks_train_from_weights_that_are_far_too_large():
    """Twelve layers, plain descent at rate 0.1."""
    assert accuracy("sdd", 0) >= 0.85
    assert accuracy("dense", 0) <= 0.3


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_deep_networks_train_from_large_weights_on_other_seeds(seed):
    assert accuracy("sdd", seed) >= 0.85
    assert accuracy("dense", seed) <= 0.3


@pytest.mark.parametrize("parametrization", ["standard", "mup", "ntk"])
def test_it_composes_with_parametrizations_and_weight_decay(parametrization):
    X, y = load_digits(return_X_y=True)
    model = NeuralClassifier(
        (32, 1, 16),  # a layer of one unit stays linear
        linear="sdd(init_scale='data')",
        parametrization=parametrization,
        optimizer="adamw",
        weight_decay=0.1,
        max_epochs=2,
        tol=0,
        random_state=0,
    ).fit(X / 16, y)
    assert np.isfinite(model.loss_curve_).all()
    layer = model.module_[0]
    assert layer.distribution.bias is None
    decay = {
        id(p): g["weight_decay"] for g in model.net_.optimizer_.param_groups for p in g["params"]
    }
    assert decay[id(layer.distribution.weight)] > 0
    assert decay[id(layer.scale)] == decay[id(layer.bias)] == 0


@pytest.mark.parametrize(
    "params, name",
    [
        ({"in_features": 3, "out_features": 1}, "out_features"),
        ({"in_features": 0, "out_features": 2}, "in_features"),
        ({"in_features": 3, "out_features": 2, "eps": 0.0}, "eps"),
        ({"in_features": 3, "out_features": 2, "init_scale": "batch"}, "init_scale"),
    ],
)
def test_bad_options_are_errors_that_name_them(params, name):
    with pytest.raises(ValueError, match=name):
        ScaleDistributionLinear(**params)
