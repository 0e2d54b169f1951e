"""Mittag-Leffler activations: the series in many digits, identities, derivatives, learning."""

import mpmath
import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skpapers.neural_network import (
    MITTAG_LEFFLER_PRESETS,
    MittagLefflerActivation,
    NeuralClassifier,
    NeuralRegressor,
    build_module,
    mittag_leffler,
)
from skpapers.neural_network._mittag_leffler_function import log_mittag_leffler

NATIVE = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "softsign": F.softsign,
    "elu": F.elu,
    "gaussian": lambda x: torch.exp(-x.square()),
    "sine": torch.sin,
}


def activation(*args, **kwargs):
    """A module in double precision."""
    make = lambda: MittagLefflerActivation(*args, **kwargs)  # noqa: E731
    return build_module(make, torch.Generator(), torch.float64)


def series(z, alpha, beta):
    """The power series with as many digits as cancel; far left, that in inverse powers."""
    if alpha < 0.4 and z < -6:
        with mpmath.workdps(60):
            powers = range(1, 80)
            z, alpha, beta = map(mpmath.mpf, (z, alpha, beta))
            return float(-sum(z**-k * mpmath.rgamma(beta - alpha * k) for k in powers))
    with mpmath.workdps(40 + int(abs(z) ** (1 / alpha))):
        z, alpha, beta = map(mpmath.mpf, (z, alpha, beta))
        total, k, small = mpmath.mpf(0), 0, 0
        while small < 3:  # one small term may be a zero of 1 / gamma
            term = z**k * mpmath.rgamma(alpha * k + beta)
            total, k = total + term, k + 1
            small = small + 1 if abs(term) < mpmath.mpf("1e-25") * max(1, abs(total)) else 0
        return float(total)


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.8, 1.0, 1.3, 2.0])
def test_function_is_the_series(alpha):
    z = np.array([-20, -13, -7.5, -5, -3.2, -2, -1.1, -0.4, 0, 0.3, 0.9, 1.2, 1.7, 2.4, 4, 6])
    if alpha < 0.4:  # hundreds of thousands of digits would cancel or be there
        z = z[(z < -6) | (z > -3.5) & (z < 2.2)]
    for beta in (0.5, 1.0, 2.0):
        expected = np.array([series(t, alpha, beta) for t in z])
        scale = np.maximum(abs(expected), 1e-2)
        found = mittag_leffler(z, alpha, beta)
        assert (abs(found - expected) / scale).max() < 1e-11
        single = mittag_leffler(z.astype(np.float32), alpha, beta)
        rounded = mittag_leffler(z.astype(np.float32).astype(float), alpha, beta)
        finite = abs(rounded) < 1e10
        assert single.dtype == np.float32
        assert (abs(single - rounded) / np.maximum(abs(rounded), 1e-2))[finite].max() < 1e-5


def test_special_values():
    z = np.linspace(-15, 15, 61)
    root, positive = np.sqrt(abs(z)), z > 0
    nonzero = np.where(z == 0, 1, root)
    cosine = np.where(positive, np.cosh(root), np.cos(root))
    sine = np.where(z == 0, 1, np.where(positive, np.sinh(root), np.sin(root)) / nonzero)
    growth = np.where(z == 0, 1, np.expm1(z) / np.where(z == 0, 1, z))
    half = z[abs(z) < 5]
    for (alpha, beta), expected in {
        (1, 1): np.exp(z),
        (1, 2): growth,
        (2, 1): cosine,
        (2, 2): sine,
        (0, 1): 1 / (1 - np.where(z == 1, 2, z)),
    }.items():
        used = z != 1
        found = mittag_leffler(z[used], alpha, beta)
        np.testing.assert_allclose(found, expected[used], rtol=1e-12, atol=2e-13)
    found = mittag_leffler(half, 0.5)
    np.testing.assert_allclose(found, scipy.special.erfcx(-half), rtol=1e-12)
    at_zero = mittag_leffler(0.0, 0.7, np.array([-2.0, -1.0, 0.0, 0.5, 3.0]))
    np.testing.assert_allclose(at_zero, scipy.special.rgamma([-2, -1, 0, 0.5, 3]), atol=1e-13)


def test_orders_broadcast_and_far_arguments():
    z, alpha = np.linspace(-4, 2, 7), np.array([[0.5], [1.2], [0.0]])
    found = mittag_leffler(z[:, None, None] - 0.1, alpha, [1.0, 2.0])
    assert found.shape == (7, 3, 2)
    np.testing.assert_allclose(found[:, 1, 1], mittag_leffler(z - 0.1, 1.2, 2.0), rtol=1e-12)
    far = mittag_leffler([-np.inf, -1e300, 1e300, np.inf, np.nan], 0.5)
    np.testing.assert_allclose(far, [0, 0, np.inf, np.inf, np.nan], atol=1e-100)
    assert mittag_leffler([], 0.5).shape == (0,)
    assert mittag_leffler(2, 1).dtype == np.float64


@pytest.mark.parametrize("name", NATIVE)
def test_presets_are_the_activations_of_torch(name):
    x = torch.linspace(-20, 20, 1601, dtype=torch.float64)
    trained, fixed = activation(name), activation(name, learnable=False)
    assert torch.equal(fixed(x), NATIVE[name](x))
    torch.testing.assert_close(trained(x).detach(), NATIVE[name](x), atol=1e-10, rtol=1e-10)
    y = trained(x.float())
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.detach(), NATIVE[name](x.float()), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.3, 0.7, 1.0, 1.3, 1.9])
def test_derivatives_are_those_of_the_series(alpha):
    z = np.array([-5.0, -2.0, -0.7, 0.0, 0.4, 1.3, 2.0])[2 if alpha < 0.5 else 0 :]
    beta, step = 1.2, 1e-5
    tensors = torch.from_numpy(z), *torch.tensor([alpha, beta], dtype=torch.float64)
    for argument in range(3):
        shifts = [np.eye(3)[argument] * step * sign for sign in (1, -1)]
        high, low = (np.array([series(t + a, alpha + b, beta + c) for t in z])
                     for a, b, c in shifts)  # fmt: skip
        tangent = torch.zeros_like(tensors[0])
        moved = tensors[argument].expand(len(z)).clone().requires_grad_()
        arguments = [*tensors[:argument], moved, *tensors[argument + 1 :]]
        (tangent,) = torch.autograd.grad(mittag_leffler(*arguments).sum(), moved)
        expected = (high - low) / (2 * step)
        np.testing.assert_allclose(tangent, expected, rtol=1e-6, atol=1e-6)
    by_z = mittag_leffler(z, alpha, beta - 1) - (beta - 1) * mittag_leffler(z, alpha, beta)
    (slope,) = torch.autograd.grad(mittag_leffler(
        t := torch.from_numpy(z).requires_grad_(), alpha, beta).sum(), t)  # fmt: skip
    np.testing.assert_allclose(alpha * z * slope.numpy(), by_z, rtol=1e-9, atol=1e-10)


def test_gradcheck():
    z = torch.tensor([-9.0, -2.0, -0.5, 0.0, 0.7, 1.3], dtype=torch.float64).requires_grad_()
    beta = torch.tensor(1.2, dtype=torch.float64, requires_grad=True)
    for alpha in (0.4, 1.0, 1.5):
        alpha = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(mittag_leffler, (z, alpha, beta))
        positive = torch.tensor([0.1, 2.0, 90.0], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(log_mittag_leffler, (positive, alpha, beta))
    orders = torch.full((len(z),), 0.6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mittag_leffler, (z, orders, beta))


@pytest.mark.parametrize("alpha", [0.05, 0.3, 0.7, 0.95, 1.0])
def test_complete_monotonicity(alpha):
    values = mittag_leffler(-np.linspace(0, 10, 501), alpha)
    assert values[0] == pytest.approx(1, abs=1e-14)
    assert (values > 0).all() and (values <= 1 + 1e-14).all()
    assert (np.diff(values) < 0).all()
    assert (np.diff(values, 2) > 0).all()


RATIOS = [(1.0, 1.0), (1.5, 1.0), (2.0, 1.0), (1.5, 1.5), (2.0, 2.0)]


@pytest.mark.parametrize(
    ("preset", "orders"),
    [(name, {}) for name in MITTAG_LEFFLER_PRESETS]
    + [("silu", {"alpha1": alpha}) for alpha in (0.05, 0.3, 0.7, 1.0)]
    + [("tanh", {"alpha1": a, "alpha2": b, "beta1": 0.5, "beta2": 3.0}) for a, b in RATIOS],
)
def test_far_inputs_are_finite(preset, orders):
    half = torch.logspace(-6, 3, 60)
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.cat([-half, torch.zeros(1), half]).to(dtype).requires_grad_()
        module = MittagLefflerActivation(preset, **orders)
        y = module(x)
        y.sum().backward()
        assert y.dtype == dtype and y.isfinite().all() and x.grad.isfinite().all()
        assert all(order.grad.isfinite().all() for order in module.parameters())


@pytest.mark.parametrize(("preset", "alpha"), [("silu", 0.6), ("tanh", 1.7), ("softsign", 0.3)])
def test_the_table_agrees_with_the_function(preset, alpha):
    x = torch.linspace(-9, 12, 6000)
    outputs = []
    for dtype in (torch.float32, torch.float64):
        module = MittagLefflerActivation(preset, alpha1=alpha, **(
            {"alpha2": 1.2} if preset == "tanh" else {})).to(dtype)  # fmt: skip
        moved = x.detach().to(dtype).requires_grad_()
        y = module(moved)
        (y * torch.sin(3 * moved.detach())).sum().backward()
        orders = torch.cat([order.grad for order in module.parameters()])
        outputs.append([y.detach(), moved.grad, orders])
    for single, double in zip(*outputs):
        torch.testing.assert_close(single.double(), double, atol=3e-6, rtol=3e-4)


def test_orders_stay_within_their_bounds():
    module = MittagLefflerActivation("tanh")
    with torch.no_grad():
        for order, value in zip(module.parameters(), (1.5, 9.0, 1.8, 0.0)):
            order.fill_(value)
    assert [order.item() for order in module.orders()] == [1.5, 3.0, 1.5, 0.5]
    for grad, expected in ((1.0, 1.0), (-1.0, 0.0)):  # a step goes against the gradient
        module.zero_grad()
        (grad * module.orders()[1]).backward()
        assert module.beta1.grad.item() == expected
    x = torch.ones(2, 3, 4)
    with torch.no_grad():
        gates = MittagLefflerActivation("silu", num_parameters=3)
        gates.alpha1.copy_(torch.tensor([0.3, 0.6, 1.0]))
        one = [MittagLefflerActivation("silu", alpha1=a)(x) for a in (0.3, 0.6, 1.0)]
        for feature in range(3):
            torch.testing.assert_close(gates(x)[:, feature], one[feature][:, feature])


@pytest.mark.parametrize("seed", range(3))
def test_trained_orders_fit_better(seed):
    x = np.linspace(-2, 2, 200)[:, None]
    y = np.tanh(3 * x[:, 0])
    errors = {}
    for learnable in (True, False):
        model = NeuralRegressor(
            (8,),
            activation="mittag_leffler",
            activation_params={"alpha1": 0.8, "learnable": learnable},
            lr=1e-2,
            max_epochs=200,
            batch_size=None,
            tol=0,
            random_state=seed,
        ).fit(x, y)
        errors[learnable] = np.mean((model.predict(x) - y) ** 2)
        if learnable:
            assert abs(model.module_[1].alpha1.item() - 0.8) > 1e-3
    assert errors[True] <= errors[False]


def test_digits_are_learnt_as_with_silu():
    X, y = load_digits(return_X_y=True)
    X = StandardScaler().fit_transform(X).astype(np.float32)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    models = [
        NeuralClassifier((64,), activation=name, max_epochs=15, tol=0, random_state=0).fit(
            X_train, y_train
        )
        for name in ("silu", "mittag_leffler(learnable=False)", "mittag_leffler")
    ]
    native, fixed, trained = models
    np.testing.assert_allclose(
        fixed.predict_proba(X_test), native.predict_proba(X_test), atol=1e-4
    )
    assert abs(trained.score(X_test, y_test) - native.score(X_test, y_test)) <= 0.02


def test_bad_arguments():
    with pytest.raises(ValueError, match="preset must be one of"):
        MittagLefflerActivation("relu")
    with pytest.raises(ValueError, match=r"alpha1 must be in \[0.05, 1.0\], got 1.5"):
        MittagLefflerActivation("silu", alpha1=1.5)
    with pytest.raises(ValueError, match="alpha2 is an order of preset='tanh' only"):
        MittagLefflerActivation("silu", alpha2=1.5)
    with pytest.raises(ValueError, match="alpha2 must not exceed alpha1"):
        MittagLefflerActivation("tanh", alpha1=1.5)
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 2\]"):
        mittag_leffler(1.0, 2.5)
    with pytest.raises(ValueError, match="beta must be finite"):
        mittag_leffler(1.0, 1.0, np.nan)
    with pytest.raises(TypeError, match="z must be real"):
        mittag_leffler(1j, 1.0)
