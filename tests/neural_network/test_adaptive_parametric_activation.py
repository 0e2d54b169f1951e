"""APA and AGLU: special cases, exact gradients, fitting an asymmetric link, rare classes."""

import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from scipy import optimize, stats
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skpapers.neural_network import (
    AdaptiveGatedLinearUnit,
    AdaptiveParametricActivation,
    NeuralClassifier,
    SqueezeExcitation,
    adaptive_parametric_activation,
    build_module,
    class_prior_correction,
)

Z = torch.linspace(-5, 5, 201, dtype=torch.float64)
SHAPES = [1e-4, 0.01, 0.3, 1.0, 4.0]


def double(make):
    return build_module(make, torch.Generator(), torch.float64)


def test_special_cases():
    gate, unit = double(AdaptiveParametricActivation), double(AdaptiveGatedLinearUnit)
    with torch.no_grad():
        torch.testing.assert_close(gate(Z), torch.sigmoid(Z), atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(unit(Z), F.silu(Z), atol=1e-12, rtol=1e-12)
        gelu = double(lambda: AdaptiveGatedLinearUnit(init_kappa=1.702))
        torch.testing.assert_close(gelu(Z), Z * torch.sigmoid(1.702 * Z))
        relu = double(lambda: AdaptiveGatedLinearUnit(init_kappa=1e4))
        torch.testing.assert_close(relu(Z), F.relu(Z), atol=1e-4, rtol=0)
    z = Z.numpy()
    gumbel = np.exp(-np.exp(-z))
    assert abs(adaptive_parametric_activation(z, 1e-4, 1.0) - gumbel).max() < 1e-3
    for shape in SHAPES:
        constant = adaptive_parametric_activation(z, shape, 0.0)
        np.testing.assert_allclose(constant, (1 + shape) ** (-1 / shape), rtol=1e-10)


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_gate_is_the_generalised_logistic_curve(shape):
    z = Z.numpy()
    for slope in (-2.0, -0.5, 0.7, 3.0):
        # Richards: A + (K - A) / (C + Q exp(-B t)) ** (1 / nu)
        growth = np.exp(-slope * z.astype(np.longdouble))  # its powers overflow float64
        richards = (1 / (1 + shape * growth) ** (1 / shape)).astype(np.float64)
        found = adaptive_parametric_activation(z, shape, slope)
        np.testing.assert_allclose(found, richards, rtol=1e-9, atol=1e-300)
        mirrored = adaptive_parametric_activation(-z, shape, -slope)
        np.testing.assert_array_equal(found, mirrored)
        of_tensor = adaptive_parametric_activation(Z, shape, slope)
        np.testing.assert_allclose(of_tensor, found, rtol=1e-10, atol=1e-300)


@pytest.mark.parametrize("shape", [0.05, 0.3, 1.0, 4.0])
def test_gradients_are_those_of_the_stable_form(shape):
    closed = [Z.clone(), *torch.tensor([shape, 0.8], dtype=torch.float64)]
    plain = [t.clone().requires_grad_() for t in closed]
    closed = [t.clone().requires_grad_() for t in closed]
    weight = torch.cos(Z)
    (adaptive_parametric_activation(*closed) * weight).sum().backward()
    z, lam, kappa = plain
    (torch.exp(-F.softplus(lam.log() - kappa * z) / lam) * weight).sum().backward()
    for ours, theirs in zip(closed, plain):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-10, rtol=1e-10)


def test_gradcheck():
    z = torch.linspace(-4, 4, 9, dtype=torch.float64, requires_grad=True)
    for shape, slope in ((0.01, 1.0), (1.0, -0.5), (3.0, 2.0)):
        lam, kappa = (
            torch.tensor(p, dtype=torch.float64, requires_grad=True) for p in (shape, slope)
        )
        assert torch.autograd.gradcheck(adaptive_parametric_activation, (z, lam, kappa))
        assert torch.autograd.gradgradcheck(adaptive_parametric_activation, (z, lam, kappa))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [1.1e-4, 1.0, 50.0])
def test_far_inputs_are_finite(dtype, shape):
    x = torch.tensor([-1e4, -90.0, -1.0, 0.0, 1.0, 90.0, 1e4], dtype=dtype, requires_grad=True)
    for make in (AdaptiveParametricActivation, AdaptiveGatedLinearUnit):
        module = make(init_lambda=shape)
        y = module(x)
        y.sum().backward()
        assert y.dtype == dtype and y.isfinite().all() and x.grad.isfinite().all()
        assert all(p.grad.isfinite().all() for p in module.parameters())


def test_parameters():
    module = AdaptiveGatedLinearUnit(3, init_lambda=0.5, init_kappa=-0.5)
    torch.testing.assert_close(module.lambda_.detach(), torch.full((3,), 0.5))
    with torch.no_grad():
        module.kappa_.copy_(torch.tensor([0.0, 1.0, 2.0]))
        for shape in ((2, 3), (2, 3, 4, 5)):
            found = module(torch.ones(shape)).movedim(1, 0).flatten(1).mean(1)
            expected = adaptive_parametric_activation(np.ones(3), 0.5, [0.0, 1.0, 2.0])
            np.testing.assert_allclose(found, expected, rtol=1e-5)
    make = lambda: AdaptiveParametricActivation(1000, init="uniform")  # noqa: E731
    drawn = build_module(make, torch.Generator().manual_seed(0))
    for values in (drawn.lambda_, drawn.kappa_):
        assert stats.kstest(values.detach().numpy(), "uniform").pvalue > 0.01
    assert not any(p.requires_grad for p in AdaptiveGatedLinearUnit(learnable=False).parameters())


def test_squeeze_excitation_is_its_formula():
    make = lambda: SqueezeExcitation(8, reduction=4, gate="logistic")  # noqa: E731
    module = build_module(make, torch.Generator().manual_seed(0), torch.float64)
    x = torch.randn(5, 8, 3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        w1, b1, w2, b2 = (p.numpy() for p in module.parameters())
        hidden = np.maximum(x.numpy().mean((2, 3)) @ w1.T + b1, 0)
        gate = scipy.special.expit(hidden @ w2.T + b2)
        np.testing.assert_allclose(module(x), x.numpy() * gate[:, :, None, None], rtol=1e-12)
        torch.testing.assert_close(module(x.mean((2, 3)))[:, :, None, None], module(
            x.mean((2, 3), keepdim=True)))  # fmt: skip
    assert isinstance(SqueezeExcitation(8).gate, AdaptiveParametricActivation)
    assert module.squeeze.out_features == 2


def test_class_prior_corrections_are_their_formulas():
    counts = np.array([70, 20, 10])
    share = counts / 100
    expected = {
        "raw": -np.log(share),
        "rel": np.log((1 - share) / share),
        "smooth": np.log(101 / (counts + 1)) + 1,
        "normit": -stats.norm.ppf(share),
        "gombit": -np.log(-np.log(1 - share)),
    }
    for kind, shift in expected.items():
        np.testing.assert_allclose(class_prior_correction(counts, kind), shift, rtol=1e-12)
        assert (np.diff(shift) > 0).all()


def binary_fit(link, z, y, start):
    """Maximum likelihood of a link's parameters."""

    def loss(parameters):
        p = link(z, *parameters).clip(1e-12, 1 - 1e-12)
        return -np.mean(np.where(y, np.log(p), np.log1p(-p)))

    result = optimize.minimize(loss, start, method="Nelder-Mead", options={"maxiter": 2000})
    return result.x


def apa_link(z, log_shape, kappa, shift):
    return adaptive_parametric_activation(z + shift, np.exp(log_shape).clip(1e-4, 50), kappa)


def logistic_link(z, slope, shift):
    return scipy.special.expit(slope * z + shift)


@pytest.mark.parametrize("seed", range(3))
def test_an_asymmetric_link_is_found(seed):
    rng = np.random.default_rng(seed)
    z = rng.uniform(-2, 4, 40000)
    truth = np.exp(-np.exp(-z))
    y = rng.random(len(z)) < truth
    train, test = slice(0, 20000), slice(20000, None)
    log_shape, kappa, shift = binary_fit(apa_link, z[train], y[train], [0.0, 1.0, 0.0])
    logistic = binary_fit(logistic_link, z[train], y[train], [1.0, 0.0])
    assert np.exp(log_shape) < 0.15
    assert kappa == pytest.approx(1, abs=0.1)
    losses = [
        log_loss(y[test], p[test])
        for p in (apa_link(z, log_shape, kappa, shift), logistic_link(z, *logistic), truth)
    ]
    assert losses[0] <= losses[1] - 0.003
    assert losses[0] <= losses[2] + 0.001


def rare_digits(seed):
    """Half for the test; of class c only round(89 * 100 ** (-c / 9)) rows are kept."""
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=seed)
    sizes = (np.bincount(y).min() * 100 ** (-np.arange(10) / 9)).round().astype(int).clip(1)
    kept = np.concatenate([np.flatnonzero(y == c)[:n] for c, n in enumerate(sizes)])
    scaler = StandardScaler().fit(X[kept])
    X, X_test = (scaler.transform(part).astype(np.float32) for part in (X[kept], X_test))
    return X, X_test, y[kept], y_test


def test_rare_classes_are_found_with_the_correction():
    scores = {"relu": [], "aglu": [], "aglu corrected": []}
    for seed in range(3):
        X, X_test, y, y_test = rare_digits(seed)
        shift = class_prior_correction(np.bincount(y))
        for name in ("relu", "aglu"):
            model = NeuralClassifier(
                (64, 64), activation=name, max_epochs=100, tol=0, random_state=seed
            ).fit(X, y)
            logits = model.decision_function(X_test)
            scores[name].append(balanced_accuracy_score(y_test, logits.argmax(1)))
        corrected = (logits + shift).argmax(1)
        scores["aglu corrected"].append(balanced_accuracy_score(y_test, corrected))
    mean = {name: np.mean(values) for name, values in scores.items()}
    assert mean["aglu corrected"] >= mean["relu"] + 0.06
    assert mean["aglu"] >= mean["relu"] - 0.015


def test_bad_arguments():
    with pytest.raises(ValueError, match="init_lambda must exceed lambda_min"):
        AdaptiveParametricActivation(init_lambda=0)
    with pytest.raises(ValueError, match="init must be"):
        AdaptiveGatedLinearUnit(init="normal")
    with pytest.raises(ValueError, match="lam must be positive"):
        adaptive_parametric_activation([0.0], 0, 1)
    with pytest.raises(ValueError, match="kind must be one of"):
        class_prior_correction([1, 2], "log")
    with pytest.raises(ValueError, match="two or more positive"):
        class_prior_correction([1, 0])


def test_large_inputs_are_cut_into_blocks_with_the_same_results():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(3, 2**15 + 5, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(z.shape, dtype=torch.float64, generator=generator)
    module = AdaptiveGatedLinearUnit(init_lambda=0.7, init_kappa=1.3).double()
    whole = module(z)
    (whole * weight).sum().backward()
    gradients = [t.grad.clone() for t in (z, module.rho, module.kappa)]
    for t in (z, module.rho, module.kappa):
        t.grad = None
    pieces = torch.cat([module(piece) for piece in z.split(2**12, dim=1)], dim=1)
    (pieces * weight).sum().backward()
    torch.testing.assert_close(whole, pieces, rtol=1e-14, atol=0)
    for t, expected in zip((z, module.rho, module.kappa), gradients):
        torch.testing.assert_close(t.grad, expected, rtol=1e-10, atol=1e-14)
