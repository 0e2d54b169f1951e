"""Mish: values, derivatives, memory, smoothness, depth."""

from itertools import pairwise

import array_api_strict
import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skpapers.neural_network import Mish, NeuralClassifier, get_registry, mish, mish_derivatives

POINTS = np.r_[np.linspace(-40, 40, 200), -700.0, 700.0]


def exact_mish(x):
    return x * mpmath.tanh(mpmath.log1p(mpmath.exp(x)))


def softplus_tanh(x):
    """The gate of mish in double precision, by the definition."""
    return np.tanh(np.log1p(np.exp(x)))


@pytest.fixture
def x():
    return torch.linspace(-8, 8, 41, dtype=torch.float64, requires_grad=True)


def test_values_equal_fifty_digits():
    with mpmath.workdps(50), np.errstate(over="raise", invalid="raise", divide="raise"):
        exact = [exact_mish(mpmath.mpf(point)) for point in POINTS.tolist()]
        errors = [abs((ours - value) / value) for ours, value in zip(mish(POINTS).tolist(), exact)]
    assert max(errors) <= 2e-15


@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_equal_fifty_digits(order):
    points = np.linspace(-20, 20, 21)
    with mpmath.workdps(50):
        exact = [float(mpmath.diff(exact_mish, mpmath.mpf(p), order)) for p in points.tolist()]
    np.testing.assert_allclose(mish_derivatives(points, order), exact, rtol=1e-13, atol=1e-18)


def test_values_equal_torch():
    x = torch.linspace(-30, 30, 2001)
    expected = F.mish(x)
    for ours in (Mish()(x), Mish(memory_efficient=False)(x), mish(x)):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(mish(x.numpy()), expected.numpy(), rtol=1e-6, atol=1e-6)


def test_closed_derivatives_equal_autograd(x):
    (first,) = torch.autograd.grad(F.mish(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(mish_derivatives(x), first, rtol=0, atol=1e-12)
    torch.testing.assert_close(mish_derivatives(x, order=2), second, rtol=0, atol=1e-12)


@pytest.mark.parametrize("memory_efficient", [True, False])
def test_module_passes_gradcheck(x, memory_efficient):
    module = Mish(memory_efficient)
    assert torch.autograd.gradcheck(module, x)
    assert torch.autograd.gradgradcheck(module, x)
    assert torch.autograd.gradcheck(mish, x)


def test_third_derivative_of_the_lean_module(x):
    third = []
    for function in (Mish(), F.mish):
        value = function(x)
        for _ in range(3):
            (value,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        third.append(value.detach())
    torch.testing.assert_close(third[0], third[1], rtol=0, atol=1e-12)


def test_lean_module_keeps_only_its_input(x):
    def kept(module):
        tensors = []
        with torch.autograd.graph.saved_tensors_hooks(tensors.append, lambda tensor: tensor):
            module(x)
        return [tensor.data_ptr() for tensor in tensors]

    assert kept(Mish()) == [x.data_ptr()]
    assert len(set(kept(Mish(memory_efficient=False)))) == 2


def test_minimum_and_slope_at_zero():
    lowest = minimize_scalar(mish, bracket=(-2, -1, 0), tol=1e-10)
    assert lowest.x == pytest.approx(-1.1924, abs=1e-4)
    assert lowest.fun == pytest.approx(-0.3088, abs=1e-4)
    assert mish_derivatives(lowest.x) == pytest.approx(0, abs=1e-7)
    assert mish(POINTS).min() >= lowest.fun
    assert mish(0.0) == 0
    assert mish_derivatives(0.0) == pytest.approx(0.6, abs=1e-15)


def test_slope_is_preconditioned_swish():
    x = POINTS[(POINTS != 0) & (np.abs(POINTS) <= 40)]
    preconditioner = 1 / np.cosh(np.log1p(np.exp(x))) ** 2
    expected = preconditioner * x * expit(x) + softplus_tanh(x)
    np.testing.assert_allclose(mish_derivatives(x), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        mish_derivatives(x) - preconditioner * x * expit(x), mish(x) / x, rtol=0, atol=1e-12
    )


def test_limits():
    ends = np.array([-np.inf, np.inf])
    np.testing.assert_array_equal(mish(ends), [0, np.inf])
    np.testing.assert_array_equal(mish_derivatives(ends), [0, 1])
    np.testing.assert_allclose(mish_derivatives(ends, order=2), [0, 0], atol=1e-30)
    assert np.isnan(mish(np.nan))
    assert np.isnan(mish_derivatives(np.nan))


@pytest.mark.parametrize(
    "x",
    [
        np.linspace(-3, 30, 7, dtype=np.float16),
        np.linspace(-3, 30, 7, dtype=np.float32),
        np.linspace(-3, 30, 8).reshape(2, 4),
        torch.linspace(-3, 30, 7, dtype=torch.bfloat16),
        torch.linspace(-3, 30, 7),
        array_api_strict.linspace(-3, 30, 7, dtype=array_api_strict.float32),
    ],
    ids=lambda x: f"{type(x).__module__}-{x.dtype}",
)
def test_library_shape_and_type_are_those_of_the_input(x):
    for function in (mish, mish_derivatives, lambda x: mish_derivatives(x, order=2)):
        result = function(x)
        assert type(result) is type(x)
        assert (result.dtype, result.shape) == (x.dtype, x.shape)
        exact = function(np.asarray(x.tolist() if hasattr(x, "tolist") else x, dtype=float))
        values = np.asarray(result.tolist() if hasattr(result, "tolist") else result)
        precision = 2**-7 if x.dtype == torch.bfloat16 else np.finfo(np.float16).eps
        np.testing.assert_allclose(values, exact, rtol=precision, atol=1e-7)


def test_inputs_are_not_changed():
    x = np.linspace(-2000, 2000, 9)
    x.setflags(write=False)
    before = x.copy()
    mish(x)
    mish_derivatives(x)
    np.testing.assert_array_equal(x, before)


def test_integers_become_floats_and_the_rest_is_an_error():
    np.testing.assert_array_equal(mish([-1, 0, 2]), mish([-1.0, 0.0, 2.0]))
    assert mish(torch.tensor([1, 2])).dtype == torch.float32
    with pytest.raises(TypeError, match="x must be real"):
        mish(np.array([1j]))
    with pytest.raises(ValueError, match="order must be 1 or 2"):
        mish_derivatives(0.0, order=3)


def test_registered_with_its_parameter():
    assert get_registry("activation").resolve("mish") is Mish
    network = NeuralClassifier(activation="mish(memory_efficient=False)", max_epochs=1)
    network.fit(np.array([[0.0], [1.0]]), [0, 1])
    layers = [layer for layer in network.module_.modules() if isinstance(layer, Mish)]
    assert [layer.memory_efficient for layer in layers] == [False]


def gain(activation):
    """The factor on the weights that keeps the second moment of standard normal inputs."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    squares = activation(torch.tensor(nodes)).numpy() ** 2
    return (squares @ weights / weights.sum()) ** -0.5


def landscape(activation, seed, width=64, n_layers=5, n_points=100):
    """Standardised output of a random network on a grid over [-5, 5]^2."""
    rng = np.random.default_rng(seed)
    line = np.linspace(-5, 5, n_points)
    z = torch.tensor(np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2))
    factor = 1.0
    for n_in, n_out in pairwise([2] + [width] * n_layers):
        z = activation(z @ torch.tensor(rng.normal(size=(n_in, n_out)) * factor / n_in**0.5))
        factor = gain(activation)
    out = (z @ torch.tensor(rng.normal(size=width))).numpy().reshape(n_points, n_points)
    return out / out.std()


def roughness(surface):
    """Mean absolute second difference, and number of changes of sign of the slope."""
    slope = np.diff(surface, axis=0)
    turns = np.diff(np.sign(slope), axis=0) != 0
    return np.abs(np.diff(slope, axis=0)).mean(), turns.sum()


@pytest.mark.parametrize("seed", range(5))
def test_random_networks_are_smoother_than_with_relu(seed):
    ours, relu = (roughness(landscape(f, seed)) for f in (Mish(), torch.nn.ReLU()))
    assert ours[0] <= 0.7 * relu[0]
    assert ours[1] < relu[1]


def test_large_arrays_are_computed_in_blocks():
    x = np.random.default_rng(0).normal(size=(300, 170))
    for function in (mish, mish_derivatives, lambda x: mish_derivatives(x, order=2)):
        expected = np.stack([function(row) for row in x])
        np.testing.assert_allclose(function(x), expected, rtol=1e-14)
        np.testing.assert_allclose(function(x.T), expected.T, rtol=1e-14)


@pytest.mark.slow
def test_deep_networks_learn_sooner():
    """The claim: five epochs through 15 hidden layers, ahead of ReLU and other smooth gates."""
    scores = {name: [] for name in ("mish", "relu", "silu", "gelu")}
    X, y = load_digits(return_X_y=True)
    for seed in range(3):
        parts = train_test_split(X.astype(np.float32), y, random_state=seed, stratify=y)
        scaler = StandardScaler().fit(parts[0])
        train, test = scaler.transform(parts[0]), scaler.transform(parts[1])
        for name, score in scores.items():
            network = NeuralClassifier(
                (64,) * 15,
                activation=name,
                normalization="batch",
                optimizer="sgd",
                lr=0.05,
                max_epochs=5,
                tol=0,
                random_state=seed,
            )
            score.append(network.fit(train, parts[2]).score(test, parts[3]))
    scores = {name: np.array(score) for name, score in scores.items()}
    assert (scores["mish"] > scores["relu"]).all()
    assert scores["mish"].mean() >= scores["relu"].mean() + 0.04
    for name in ("silu", "gelu"):
        assert scores["mish"].mean() >= scores[name].mean() + 0.02
