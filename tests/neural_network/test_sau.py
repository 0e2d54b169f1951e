"""SAU: the convolution itself by quadrature, derivatives, smoothness of what is learnt."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import integrate, stats
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skpapers.neural_network import (
    SAU,
    NeuralClassifier,
    NeuralRegressor,
    SmoothedActivation,
    build_module,
    smooth_activation,
)

DENSITIES = {
    "gaussian": (stats.norm.pdf, 40),
    "logistic": (stats.logistic.pdf, 80),
    "uniform": (stats.uniform(-1, 2).pdf, 1),
    "laplace": (stats.laplace.pdf, 80),
    "epanechnikov": (lambda u: 0.75 * (1 - u**2), 1),
}
BASES = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
    "hardsigmoid": F.hardsigmoid,
}
GRID = np.linspace(-3, 3, 41)


def sau(*args, **kwargs):
    """A module in double precision."""
    return build_module(lambda: SAU(*args, **kwargs), torch.Generator(), torch.float64)


def convolution(function, density, reach, n, x, kinks):
    """The integral of ``function(x - u / n)`` under the density of u, by Gauss's rule."""
    nodes, weights = np.polynomial.legendre.leggauss(30)
    edges = np.unique(np.r_[np.arange(-reach, reach + 1), n * (x - np.array(kinks))])
    edges = edges[abs(edges) <= reach]
    half = np.diff(edges)[:, None] / 2
    u = edges[:-1, None] + half * (1 + nodes)
    return np.sum(half * weights * function(x - u / n) * density(u))


@pytest.mark.parametrize("n", [1.0, 5.0, 50.0])
@pytest.mark.parametrize("slope", [0.0, 0.15, 1.0])
def test_sau_is_the_convolution_of_leaky_relu(n, slope):
    expected = [
        convolution(lambda t: np.where(t > 0, t, slope * t), stats.norm.pdf, 12, n, x, [0])
        for x in GRID
    ]
    found = sau(n, slope)(torch.from_numpy(GRID)).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("kernel", DENSITIES)
@pytest.mark.parametrize("base", BASES)
def test_every_kernel_smooths_every_base(kernel, base):
    (density, reach), n = DENSITIES[kernel], 4.0
    module = SmoothedActivation(base, kernel, n)
    points = np.linspace(-4, 7, 12)
    expected = [
        convolution(
            lambda t: BASES[base](torch.from_numpy(t)).numpy(),
            density,
            reach,
            n,
            x,
            module.pieces[0],
        )
        for x in points
    ]
    knots, slopes, value = module.pieces
    of_array = smooth_activation(points, knots, slopes, value=value, kernel=kernel, n=n)
    np.testing.assert_allclose(of_array, expected, atol=1e-9)
    np.testing.assert_allclose(module(torch.from_numpy(points)), of_array, atol=1e-14)


@pytest.mark.parametrize("n", [2.0, 4.0])
def test_distance_to_leaky_relu(n):
    x = torch.linspace(-4, 4, 8001, dtype=torch.float64)
    with torch.no_grad():
        gap = (sau(n, 0.15)(x) - F.leaky_relu(x, 0.15)).abs()
        assert torch.equal(sau(n, 1.0)(x), x)
    assert abs(x[gap.argmax()]) < 1e-12
    assert float(gap.max()) == pytest.approx(0.85 / (n * np.sqrt(2 * np.pi)), rel=1e-7)


def test_derivatives_are_the_closed_forms():
    x = torch.linspace(-3, 3, 601, dtype=torch.float64, requires_grad=True)
    module = sau(5.0, 0.25)
    (first,) = torch.autograd.grad(module(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    u = 5 * x.detach().numpy()
    np.testing.assert_allclose(first.detach(), 0.25 + 0.75 * stats.norm.cdf(u), atol=1e-12)
    np.testing.assert_allclose(second, 0.75 * 5 * stats.norm.pdf(u), atol=1e-12)
    assert (first > 0).all() and (second >= 0).all()
    assert integrate.simpson(second.numpy(), x=x.detach().numpy()) == pytest.approx(0.75)


def test_gradients_of_slope_and_sharpness():
    x = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(4, 3).requires_grad_()
    for n_slopes in (1, 3):
        module = sau(3.0, 0.2, learn_sharpness=True, num_parameters=n_slopes)

        def output(x, slope, n, module=module):
            params = {"negative_slope": slope, "n": n}
            return torch.func.functional_call(module, params, (x,))

        arguments = (x, module.negative_slope, module.n)
        assert torch.autograd.gradcheck(output, arguments)
        assert torch.autograd.gradgradcheck(output, arguments)


def test_logistic_kernel_is_softplus():
    x = torch.linspace(-15, 15, 301, dtype=torch.float64)
    found = SmoothedActivation("relu", "logistic", n=1.0)(x)
    torch.testing.assert_close(found, F.softplus(x), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_far_inputs_are_finite(dtype):
    x = torch.tensor([-1e4, -1.0, 0.0, 1.0, 1e4], dtype=dtype, requires_grad=True)
    for module in (SAU(), SAU(n=2.0, learn_sharpness=True)):
        y = module(x)
        y.sum().backward()
        assert y.dtype == dtype and y.isfinite().all() and x.grad.isfinite().all()
        assert all(p.grad.isfinite().all() for p in module.parameters() if p.requires_grad)


def test_slopes_follow_the_axis_of_the_features():
    module = SAU(num_parameters=3)
    with torch.no_grad():
        module.negative_slope.copy_(torch.tensor([0.0, 0.5, 1.0]))
        for shape in ((2, 3), (2, 3, 4, 5)):
            mean = module(-torch.ones(shape)).movedim(1, 0).flatten(1).mean(1)
            torch.testing.assert_close(mean, torch.tensor([0.0, -0.5, -1.0]))


@pytest.mark.parametrize("seed", range(3))
def test_second_derivative_is_learnt(seed):
    x = np.linspace(-2, 2, 256)[:, None]
    errors = {}
    for activation in ("sau(n=2.0)", "relu"):
        model = NeuralRegressor(
            (32, 32),
            activation=activation,
            lr=1e-2,
            lr_schedule="cosine",
            max_epochs=400,
            batch_size=None,
            tol=0,
            random_state=seed,
        ).fit(x, np.sin(3 * x[:, 0]))
        t = torch.from_numpy(x).requires_grad_()
        (first,) = torch.autograd.grad(model.module_(t).sum(), t, create_graph=True)
        second = torch.zeros_like(t)
        if first.requires_grad:
            (second,) = torch.autograd.grad(first.sum(), t, materialize_grads=True)
        second = second.numpy() * model.y_scale_
        exact = -9 * np.sin(3 * x)
        errors[activation] = np.linalg.norm(second - exact) / np.linalg.norm(exact)
    assert errors["sau(n=2.0)"] <= 0.8
    assert errors["relu"] == 1


def test_digits_are_learnt_as_with_relu():
    X, y = load_digits(return_X_y=True)
    X = StandardScaler().fit_transform(X).astype(np.float32)
    scores = {"sau": [], "relu": []}
    for seed in range(3):
        X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=seed)
        for activation, found in scores.items():
            model = NeuralClassifier(
                (64,), activation=activation, max_epochs=30, tol=0, random_state=seed
            )
            found.append(model.fit(X_train, y_train).score(X_test, y_test))
            if activation == "sau":
                assert abs(model.module_[1].negative_slope.item() - 0.15) > 1e-3
    assert np.mean(scores["sau"]) >= np.mean(scores["relu"]) - 0.01


def test_parameters_reach_the_estimator():
    model = NeuralClassifier(activation="sau", activation_params={"n": 3.0}, max_epochs=2, tol=0)
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    assert float(clone(model).fit(X, y).module_[1].n) == 3.0


def test_bad_arguments():
    with pytest.raises(ValueError, match="n must be a positive number, got 0"):
        SAU(n=0)
    with pytest.raises(ValueError, match="base must be one of"):
        SmoothedActivation("gelu")
    with pytest.raises(ValueError, match="kernel must be one of"):
        SmoothedActivation(kernel="cauchy")
    with pytest.raises(ValueError, match="increasing"):
        smooth_activation([0.0], [1, 0], [0, 1, 2])
    with pytest.raises(ValueError, match="one more than knots"):
        smooth_activation([0.0], [0], [0, 1, 2])
