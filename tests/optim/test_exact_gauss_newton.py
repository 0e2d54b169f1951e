"""EGN: directions against the large system, ridge regression, and fewer epochs than Adam."""

import copy
import functools
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.preprocessing import scale
from torch import nn

from skpapers.neural_network import (
    NeuralClassifier,
    NeuralRegressor,
    build_module,
    get_registry,
    make_mlp,
)
from skpapers.optim import ExactGaussNewton
from skpapers.optim._exact_gauss_newton import Model, adapted_damping
from skpapers.optim._gauss_newton_direction import (
    gauss_newton_direction,
    hessian_root,
    loss_curvature,
)
from skpapers.optim._loss_curvature import loss_derivatives
from skpapers.optim._output_jacobian import (
    LayeredJacobian,
    MatrixJacobian,
    observe,
    output_jacobian,
)

RNG = np.random.default_rng(0)
N_ROWS = 12
X = torch.from_numpy(RNG.normal(size=(N_ROWS, 3)))
CONTINUOUS = torch.from_numpy(RNG.normal(size=(N_ROWS, 2)))
BINARY = torch.from_numpy(RNG.integers(0, 2, (N_ROWS, 1)).astype(float))
LABELS = torch.from_numpy(RNG.integers(0, 4, N_ROWS))
LOSSES = {
    "squared_error": (2, functools.partial(nn.MSELoss(), target=CONTINUOUS)),
    "half_of_the_sum": (2, lambda z: (z - CONTINUOUS).square().sum(1).mean() / 2),
    "logistic": (1, functools.partial(nn.BCEWithLogitsLoss(), target=BINARY)),
    "cross_entropy": (4, functools.partial(nn.CrossEntropyLoss(), target=LABELS)),
    "smoothed": (4, functools.partial(nn.CrossEntropyLoss(label_smoothing=0.1), target=LABELS)),
    "weighted": (4, lambda z: F.cross_entropy(z, LABELS, weight=torch.arange(1.0, 5).double())),
    "huber": (2, functools.partial(nn.HuberLoss(delta=0.5), target=CONTINUOUS)),
    "poisson": (2, functools.partial(nn.PoissonNLLLoss(), target=CONTINUOUS.abs())),
}


def network(n_out, hidden=(5, 4), n_in=3, seed=0, **options):
    make = functools.partial(make_mlp, n_in, hidden, n_out, activation="tanh", **options)
    return build_module(make, torch.Generator().manual_seed(seed), torch.float64)


def run(optimizer, module, loss_function, n_steps=1, inputs=X):
    return [float(optimizer.step(lambda: (module(inputs), loss_function))) for _ in range(n_steps)]


def vector(tensors):
    return torch.cat([t.detach().flatten() for t in tensors])


def explicit(module, loss_function, inputs=X):
    """Jacobian, slopes and Hessian of the batch by torch.func, in its own order."""
    params = {name: p.detach() for name, p in module.named_parameters()}
    outputs = lambda p: torch.func.functional_call(module, p, (inputs,)).flatten()  # noqa: E731
    parts = torch.func.jacrev(outputs)(params)
    jacobian = torch.cat([parts[name].flatten(1) for name in params], 1)
    z, b = module(inputs).detach(), len(inputs)
    loss = lambda flat: loss_function(flat.view(z.shape))  # noqa: E731
    slopes = torch.func.grad(loss)(z.flatten()) * b
    hessian = torch.func.jacrev(torch.func.grad(loss))(z.flatten()) * b
    return jacobian, slopes, hessian


def reference(jacobian, slopes, hessian, damping, b=N_ROWS):
    """The system of the size of the parameters."""
    matrix = jacobian.T @ hessian @ jacobian / b
    matrix += damping * torch.eye(jacobian.shape[1], dtype=matrix.dtype)
    return torch.linalg.solve(matrix, -jacobian.T @ slopes / b)


def direction(module, loss_function, inputs=X, **options):
    """Step of rate 1."""
    module = copy.deepcopy(module)
    start = vector(module.parameters())
    optimizer = ExactGaussNewton(module.parameters(), lr=1.0, **options)
    run(optimizer, module, loss_function, inputs=inputs)
    return vector(module.parameters()) - start


# The direction.


@pytest.mark.parametrize("jacobian", ["vmap", "analytic"])
@pytest.mark.parametrize("solver", ["auto", "cholesky", "lu", "cg"])
@pytest.mark.parametrize("kind", LOSSES)
def test_directions_solve_the_system_of_the_parameters(kind, solver, jacobian):
    n_out, loss_function = LOSSES[kind]
    module = network(n_out)
    parts = explicit(module, loss_function)
    tolerance = 1e-8 if solver == "cg" else 1e-10
    for damping in (0.03, 1.0):
        found = direction(module, loss_function, damping=damping, solver=solver, jacobian=jacobian)
        expected = reference(*parts, damping)
        assert torch.linalg.norm(found - expected) <= tolerance * torch.linalg.norm(expected)


@pytest.mark.parametrize("kind", ["cross_entropy", "logistic"])
def test_solvers_agree_where_probabilities_are_near_zero_and_one(kind):
    n_out, loss_function = LOSSES[kind]
    module = network(n_out)
    with torch.no_grad():
        for p in module[-1].parameters():
            p.mul_(20)
    expected = reference(*explicit(module, loss_function), 0.1)
    for solver in ("cholesky", "lu", "cg"):
        found = direction(module, loss_function, damping=0.1, solver=solver)
        assert torch.linalg.norm(found - expected) <= 1e-8 * torch.linalg.norm(expected)


def test_conjugate_gradients_say_that_they_have_not_arrived():
    module = network(2).float()
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        loss_function = functools.partial(nn.MSELoss(), target=CONTINUOUS.float())
        direction(module, loss_function, X.float(), damping=1e-12, solver="cg")


def test_saturated_probabilities_are_no_harm():
    """A row far on the wrong side has a slope of 1 and no curvature."""
    layer = nn.utils.skip_init(nn.Linear, 1, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[400.0], [-400.0]]))
    inputs, labels = torch.ones(1, 1, dtype=torch.float64), torch.tensor([1])
    loss_function = functools.partial(nn.CrossEntropyLoss(), target=labels)
    for solver in ("cholesky", "lu", "cg"):
        found = direction(layer, loss_function, inputs, damping=2.0, solver=solver)
        torch.testing.assert_close(found, torch.tensor([-0.5, 0.5]).double())


def test_the_root_of_the_softmax_is_exact():
    outputs = torch.from_numpy(np.random.default_rng(1).normal(scale=5, size=(N_ROWS, 4)))
    curvature = loss_curvature(LOSSES["cross_entropy"][1], outputs)
    _, slopes, hessian = loss_derivatives(LOSSES["cross_entropy"][1], outputs, second=True)
    root, source = curvature.root, curvature.source
    torch.testing.assert_close(root @ root.mT, hessian, rtol=1e-13, atol=1e-14)
    found = (root @ source[:, :, None])[:, :, 0]
    torch.testing.assert_close(found, slopes, rtol=1e-13, atol=1e-13)
    general = hessian_root(hessian)
    torch.testing.assert_close(general @ general.mT, hessian, rtol=1e-10, atol=1e-14)


def test_halves_and_means_only_rescale_the_damping():
    """The mean squared error of torch has twice the curvature, over the number of outputs."""
    module = network(2)
    mean = direction(module, LOSSES["squared_error"][1], damping=0.1)
    half = direction(module, LOSSES["half_of_the_sum"][1], damping=0.1)  # 2 / 2 outputs
    torch.testing.assert_close(mean, half, rtol=1e-10, atol=1e-12)
    single = nn.Linear(3, 1, dtype=torch.float64)
    y = CONTINUOUS[:, :1]
    twice = direction(single, functools.partial(nn.MSELoss(), target=y), damping=0.2)
    once = direction(single, lambda z: (z - y).square().mean() / 2, damping=0.1)
    torch.testing.assert_close(twice, once, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("lam", [0.3, 1e-10])
def test_a_step_on_a_linear_model_is_ridge_regression(lam):
    y = CONTINUOUS[:, :1]
    layer = nn.utils.skip_init(nn.Linear, 3, 1, bias=False, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    coef = direction(layer, lambda z: (z - y).square().mean() / 2, damping=lam).numpy()
    ridge = Ridge(alpha=N_ROWS * lam, fit_intercept=False, solver="svd").fit(X, y[:, 0])
    np.testing.assert_allclose(coef, ridge.coef_, rtol=1e-9 if lam > 1e-9 else 1e-5)
    if lam < 1e-9:  # nearly singular, as there are more rows than features
        plain = LinearRegression(fit_intercept=False).fit(X, y[:, 0])
        np.testing.assert_allclose(coef, plain.coef_, rtol=1e-5)


@pytest.mark.parametrize("kind", LOSSES)
def test_heavy_damping_gives_the_gradient(kind):
    n_out, loss_function = LOSSES[kind]
    module = network(n_out)
    gradient = vector(torch.autograd.grad(loss_function(module(X)), list(module.parameters())))
    curvature, jacobian = parts_of(module, loss_function)
    found = 1e8 * vector(gauss_newton_direction(jacobian, curvature, 1e8))
    assert torch.linalg.norm(found + gradient) < 1e-4 * torch.linalg.norm(gradient)


def parts_of(module, loss_function, inputs=X):
    params = list(module.parameters())
    output, loss, calls = observe(lambda: (module(inputs), loss_function), params, "EGN")
    with torch.no_grad():
        return loss_curvature(loss, output), LayeredJacobian(output, params, calls)


# Jacobians.


@pytest.mark.parametrize("options", [{}, {"dropout": 0.3}])
def test_jacobians_have_the_same_products(options):
    module = network(3, **options)
    params = list(module.parameters())
    output, _, calls = observe(lambda: (module(X), torch.mean), params, "EGN")
    with torch.no_grad():
        layered = LayeredJacobian(output, params, calls)
        general = [
            output_jacobian(output, params, calls, "vmap", chunk).matrix for chunk in (None, 1, 7)
        ]
    first = MatrixJacobian(general[0], params)
    for other in general[1:]:
        torch.testing.assert_close(first.matrix, other, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(layered.gram(), first.gram(), rtol=1e-12, atol=1e-13)
    step = [torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(0))
            for p in params]  # fmt: skip
    weights = torch.linspace(-1, 1, 3 * N_ROWS, dtype=torch.float64)
    torch.testing.assert_close(layered.times(step), first.times(step), rtol=1e-12, atol=1e-13)
    pair = layered.transposed_times(weights), first.transposed_times(weights)
    torch.testing.assert_close(*map(vector, pair), rtol=1e-12, atol=1e-13)
    if not options:
        expected = explicit(module, torch.mean)[0]
        torch.testing.assert_close(first.matrix, expected, rtol=1e-12, atol=1e-13)


class Shared(nn.Module):
    """A layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = network(3, ())[0], network(2, ())[0]

    def forward(self, x):
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


class InPlace(nn.Module):
    """A layer whose output is overwritten."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = network(3, ())[0], network(2, ())[0]

    def forward(self, x):
        return self.head(self.layer(x).relu_())


@pytest.mark.parametrize(
    "make",
    [Shared, InPlace, lambda: network(2, normalization="layer"),
     lambda: nn.Sequential(nn.Unflatten(1, (1, 3)), network(2), nn.Flatten())],
)  # fmt: skip
def test_other_networks_take_the_general_way(make):
    module = make()
    loss_function = LOSSES["squared_error"][1]
    with pytest.raises(ValueError, match="analytic"):
        direction(module, loss_function, jacobian="analytic")
    found = direction(module, loss_function, damping=0.1)
    expected = reference(*explicit(module, loss_function), 0.1)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    start = vector(module.parameters())
    optimizer = ExactGaussNewton.from_module(module, lr=1.0, damping=0.1, chunk_size=5)
    run(optimizer, module, loss_function)
    torch.testing.assert_close(
        vector(module.parameters()) - start, expected, rtol=1e-9, atol=1e-11
    )


def test_dropout_is_not_lost_where_the_module_is_known():
    module = network(2, dropout=0.3, normalization="layer")
    other = copy.deepcopy(module)
    loss_function = LOSSES["squared_error"][1]
    run(ExactGaussNewton.from_module(module), module, loss_function, 3)
    run(ExactGaussNewton(other.parameters()), other, loss_function, 3)
    torch.testing.assert_close(vector(module.parameters()), vector(other.parameters()))


def test_the_closure_returns_the_output_of_the_module():
    module = network(2, normalization="layer")
    optimizer = ExactGaussNewton.from_module(module)
    bare = X[:, :2].clone().requires_grad_()
    for output in (lambda: 2 * module(X), lambda: 2 * bare):
        with pytest.raises(ValueError, match="output of the module"):
            optimizer.step(lambda output=output: (output(), LOSSES["squared_error"][1]))


def test_fixed_parameters_and_parts_of_a_network_stay_out_of_the_system():
    module, loss_function = network(2), LOSSES["squared_error"][1]
    module[0].weight.requires_grad_(False)
    module[2].bias.requires_grad_(False)
    kept = module[0].weight.clone(), module[2].bias.clone()
    common = {"module": module, "loss_function": loss_function, "damping": 0.1}
    both = [direction(jacobian=kind, **common) for kind in ("vmap", "analytic")]
    torch.testing.assert_close(*both, rtol=1e-10, atol=1e-12)
    optimizer = ExactGaussNewton(module[2:].parameters(), damping=0.1)
    before = module[0].bias.clone()
    losses = run(optimizer, module, loss_function, 5)
    assert losses[-1] < losses[0]
    assert torch.equal(module[0].bias, before)
    assert torch.equal(module[0].weight, kept[0]) and torch.equal(module[2].bias, kept[1])


# Momentum, line search, damping.


def test_the_first_step_with_momentum_is_the_plain_one():
    n_out, loss_function = LOSSES["cross_entropy"]
    module = network(n_out)
    plain = direction(module, loss_function)
    torch.testing.assert_close(direction(module, loss_function, momentum=0.9), plain)


def test_momentum_averages_directions():
    n_out, loss_function = LOSSES["squared_error"]
    module, mu = network(n_out), 0.7
    optimizer = ExactGaussNewton(module.parameters(), lr=0.2, momentum=mu)
    average, expected = 0, vector(module.parameters())
    for t in range(1, 5):
        curvature, jacobian = parts_of(module, loss_function)
        d = vector(gauss_newton_direction(jacobian, curvature, 1.0))
        average = mu * average + (1 - mu) * d
        expected = expected + 0.2 * average / (1 - mu**t)
        run(optimizer, module, loss_function)
        torch.testing.assert_close(vector(module.parameters()), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["squared_error", "cross_entropy", "huber"])
def test_with_a_line_search_the_loss_of_the_batch_never_rises(kind):
    n_out, loss_function = LOSSES[kind]
    module = network(n_out, hidden=(20,))
    options = {"lr": 5.0, "damping": 1e-4, "momentum": 0.5}
    free = copy.deepcopy(module)
    losses = run(ExactGaussNewton(free.parameters(), **options), free, loss_function, 15)
    assert max(np.diff(losses)) > 0
    optimizer = ExactGaussNewton(module.parameters(), line_search=True, **options)
    losses = run(optimizer, module, loss_function, 15)
    assert max(np.diff(losses)) <= 0
    assert losses[-1] < 0.95 * losses[0]


def test_the_line_search_grows_up_to_the_whole_solution():
    y = CONTINUOUS[:, :1]
    layer = network(1, ())
    optimizer = ExactGaussNewton(layer.parameters(), lr=0.5, damping=1e-6, line_search=True)
    scales = []
    for _ in range(4):
        run(optimizer, layer, lambda z: (z - y).square().mean() / 2)
        scales.append(optimizer.step_scale)
    assert scales[:3] == [1.0, 1.5, 2.0]


def test_a_line_search_without_success_leaves_the_weights():
    module = network(1)
    start = vector(module.parameters())
    calls = []

    def loss_function(z):  # seems to rise, whatever is done
        calls.append(1)
        return z.square().mean() * 0 + z.sum() - z.sum().detach() + len(calls)

    optimizer = ExactGaussNewton(module.parameters(), line_search=True, adaptive_damping=True)
    run(optimizer, module, loss_function)
    assert len(calls) == 16
    assert torch.equal(vector(module.parameters()), start)
    assert optimizer.step_scale == pytest.approx(0.8**15) and optimizer.damping == 1.5


def test_gains_and_their_model_are_those_of_explicit_matrices():
    n_out, loss_function = LOSSES["cross_entropy"]
    module = network(n_out)
    j, r, q = explicit(module, loss_function)
    loss = float(loss_function(module(X)).detach())
    optimizer = ExactGaussNewton(
        module.parameters(), lr=0.8, damping=0.2, adaptive_damping=True, momentum=0.5
    )
    step = 0.8 * reference(j, r, q, 0.2)
    curvature, jacobian = parts_of(module, loss_function)
    pieces = step.split([p.numel() for p in module.parameters()])
    shaped = [piece.view_as(p) for piece, p in zip(pieces, module.parameters())]
    moves = jacobian.times(shaped)
    torch.testing.assert_close(moves, j @ step, rtol=1e-12, atol=1e-14)
    model = Model(curvature, moves)
    slope, bend = float(r @ j @ step) / N_ROWS, float(step @ j.T @ q @ j @ step) / N_ROWS
    assert model.slope == pytest.approx(slope, rel=1e-12)
    assert model.curvature == pytest.approx(bend, rel=1e-12)
    run(optimizer, module, loss_function)
    gain = float(loss_function(module(X)).detach()) - loss
    assert optimizer.gain_ratio == pytest.approx(gain / (slope + bend / 2), rel=1e-9)
    assert 0.1 < optimizer.gain_ratio < 2


@pytest.mark.parametrize("factor, expected", [(1.0, 0.5), (0.4, 1.0), (0.1, 1.5), (-3.0, 1.5)])
def test_the_damping_follows_the_gain_of_a_quadratic(factor, expected):
    """Trial values that fall by a factor of what the model says."""
    layer = nn.utils.skip_init(nn.Linear, 1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(layer.weight, 3.0)
    inputs, first = torch.ones(4, 1, dtype=torch.float64), []

    def loss_function(z):
        loss = z.square().mean() / 2
        first.append(loss.detach())
        return loss if len(first) == 1 else first[0] + factor * (loss - first[0])

    optimizer = ExactGaussNewton(layer.parameters(), adaptive_damping=True)
    run(optimizer, layer, loss_function, inputs=inputs)
    assert optimizer.gain_ratio == pytest.approx(factor)
    assert optimizer.damping == expected
    assert layer.weight.item() == pytest.approx(3 - 0.5 * 1.5)  # kept, whatever the gain


def test_the_damping_stays_within_its_bounds():
    assert adapted_damping(1e-12, 1.0) == 1e-12
    assert adapted_damping(1e6, -5.0) == 1e6
    assert adapted_damping(0.3, None) == 0.3
    model = Model(loss_curvature(torch.mean, torch.zeros(2, 1).double()), torch.zeros(2).double())
    assert model.gain_ratio(0.0, 1.0) is None
    assert model.gain_ratio(float("nan"), 1.0) == -5


def test_weight_decay_is_decoupled_and_groups_have_rates_of_their_own():
    n_out, loss_function = LOSSES["squared_error"]
    module = network(n_out, hidden=(4,))
    start = [p.detach().clone() for p in module.parameters()]
    curvature, jacobian = parts_of(module, loss_function)
    d = gauss_newton_direction(jacobian, curvature, 1.0)
    params = list(module.parameters())
    groups = [{"params": params[:2], "lr": 0.1, "weight_decay": 0.3}, {"params": params[2:]}]
    run(ExactGaussNewton(groups, lr=0.4), module, loss_function)
    for i, p in enumerate(params):
        lr, decay = (0.1, 0.3) if i < 2 else (0.4, 0.0)
        expected = start[i] * (1 - lr * decay) + lr * d[i]
        torch.testing.assert_close(p.detach(), expected, rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match="damping of ExactGaussNewton must be the same"):
        ExactGaussNewton([groups[0], groups[1] | {"damping": 2.0}])


# State, types, errors.


def test_a_resumed_run_equals_an_uninterrupted_one():
    n_out, loss_function = LOSSES["cross_entropy"]
    module = network(n_out)
    options = {"momentum": 0.5, "line_search": True, "adaptive_damping": True}
    first = ExactGaussNewton(module.parameters(), **options)
    run(first, module, loss_function, 3)
    resumed = copy.deepcopy(module)
    second = ExactGaussNewton(resumed.parameters())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    third, pickled = pickle.loads(pickle.dumps((first, module)))
    for optimizer, own in ((first, module), (second, resumed), (third, pickled)):
        run(optimizer, own, loss_function, 3)
        assert torch.equal(vector(own.parameters()), vector(module.parameters()))
        assert optimizer.damping == first.damping


@pytest.mark.parametrize("kind", ["squared_error", "cross_entropy", "logistic"])
@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 0.1), (torch.float32, 1e-4)])
def test_narrow_types_train(kind, dtype, tolerance):
    n_out, loss_function = LOSSES[kind]
    exact, module = network(n_out), network(n_out).to(dtype)
    options = {"damping": 0.1, "momentum": 0.3}
    optimizer = ExactGaussNewton(module.parameters(), **options)
    losses = run(optimizer, module, loss_function, 5, X.to(dtype))
    expected = run(ExactGaussNewton(exact.parameters(), **options), exact, loss_function, 5)
    assert {p.dtype for p in module.parameters()} == {dtype}
    np.testing.assert_allclose(losses, expected, rtol=tolerance)


def test_repeated_rows_and_little_damping_in_single_precision():
    rows = X.float().repeat(8, 1)
    module = network(2).float()
    loss_function = functools.partial(nn.MSELoss(), target=CONTINUOUS.float().repeat(8, 1))
    optimizer = ExactGaussNewton(module.parameters(), lr=0.3, damping=1e-11)
    losses = run(optimizer, module, loss_function, 20, rows)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_batch_normalisation_needs_eval_mode():
    module, loss_function = network(2, normalization="batch"), LOSSES["squared_error"][1]
    with pytest.raises(ValueError, match="batch normalisation"):
        direction(module, loss_function)
    module.eval()
    found = direction(module, loss_function, damping=0.1)
    expected = reference(*explicit(module, loss_function), 0.1)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_closures_of_another_kind_are_an_error():
    module = network(1)
    optimizer = ExactGaussNewton(module.parameters())
    for closure in (lambda: module(X).mean(), None):
        with pytest.raises(TypeError, match="returns the pair"):
            optimizer.step(closure)


@pytest.mark.parametrize(
    "option, value",
    [
        ("lr", 0.0), ("damping", 0.0), ("adaptive_damping", "yes"), ("momentum", 1.0),
        ("line_search", "goldstein"), ("weight_decay", -1.0), ("solver", "qr"),
        ("chunk_size", 0), ("jacobian", "jvp"),
    ],
)  # fmt: skip
def test_bad_options_are_named(option, value):
    with pytest.raises(ValueError, match=option):
        ExactGaussNewton(network(1).parameters(), **{option: value})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("jacobian", ["vmap", "analytic"])
def test_devices_agree(jacobian):
    here, there = network(4), network(4).cuda()
    on_gpu = functools.partial(nn.CrossEntropyLoss(), target=LABELS.cuda())
    options = {"jacobian": jacobian, "adaptive_damping": True, "line_search": True}
    first = ExactGaussNewton(here.parameters(), **options)
    second = ExactGaussNewton(there.parameters(), **options)
    losses = run(first, here, LOSSES["cross_entropy"][1], 5)
    np.testing.assert_allclose(run(second, there, on_gpu, 5, X.cuda()), losses, rtol=1e-8)


# The claim.


def final_loss(make, data, hidden, batch_size, n_epochs, seed, **options):
    """Mean squared error on the last pair of `data` after training on the first."""
    (x, y), (x_test, y_test) = data
    generator = torch.Generator().manual_seed(seed)
    module = network(1, hidden, x.shape[1], seed)
    optimizer = make(module.parameters(), **options)
    for _ in range(n_epochs):
        for rows in torch.randperm(len(x), generator=generator).split(batch_size):
            loss_function = functools.partial(nn.MSELoss(), target=y[rows])
            optimizer.step(closure_of(optimizer, module, x[rows], loss_function))
    with torch.no_grad():
        return float((module(x_test) - y_test).square().mean() / y_test.var())


def closure_of(optimizer, module, x, loss_function):
    def closure():
        if isinstance(optimizer, ExactGaussNewton):
            return module(x), loss_function
        optimizer.zero_grad()
        loss = loss_function(module(x))
        loss.backward()
        return loss

    return closure


def waves(seed):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.uniform(-1, 1, size=(1024, 2)))
    y = torch.sin(5 * x[:, :1]) * torch.cos(3 * x[:, 1:])
    return (x[:512], y[:512]), (x[512:], y[512:])


def best(make, rates, *args):
    return min(final_loss(make, *args, lr=lr) for lr in rates)


def test_a_smooth_function_is_learnt_in_a_fraction_of_the_epochs():
    args = waves(0), (32, 32), 64, 20, 0
    egn = final_loss(ExactGaussNewton, *args, lr=0.5, damping=0.02)  # 0.01 for half the square
    adam = best(torch.optim.Adam, (3e-3, 1e-2, 3e-2), *args)
    sgd = best(torch.optim.SGD, (0.1, 0.3, 1.0), *args)
    assert egn <= 0.2 * min(adam, sgd)


@pytest.mark.slow
def test_a_smooth_function_is_learnt_in_a_fraction_of_the_epochs_for_any_seed():
    for seed in range(3):
        args = waves(seed), (32, 32), 64, 20, seed
        egn = final_loss(ExactGaussNewton, *args, lr=0.5, damping=0.02)
        adam = best(torch.optim.Adam, (1e-3, 3e-3, 1e-2, 3e-2, 1e-1), *args)
        assert egn <= 0.2 * adam


def noisy_losses(make, seeds, **options):
    x, y = load_diabetes(return_X_y=True)
    rows = torch.from_numpy(scale(x)), torch.from_numpy(scale(y))[:, None]
    results = [final_loss(make, (rows, rows), (32, 32), 32, 10, s, **options) for s in seeds]
    return np.mean(results)


@pytest.mark.slow
def test_noisy_data_are_fitted_better_than_by_adam_at_its_best_rate():
    seeds = range(12)
    egn = noisy_losses(ExactGaussNewton, seeds, lr=0.5, damping=0.2)
    adam = min(noisy_losses(torch.optim.Adam, seeds, lr=lr) for lr in (1e-2, 3e-2, 1e-1))
    sgd = min(noisy_losses(torch.optim.SGD, seeds, lr=lr) for lr in (0.03, 0.1, 0.3))
    assert egn <= adam
    assert egn <= 0.85 * sgd


def test_noisy_data_are_fitted_better_than_by_sgd():
    egn = noisy_losses(ExactGaussNewton, range(2), lr=0.5, damping=0.2)
    sgd = min(noisy_losses(torch.optim.SGD, range(2), lr=lr) for lr in (0.1, 0.3))
    assert egn <= 0.9 * sgd


def test_networks_train_by_name():
    assert get_registry("optimizer").resolve("egn") is ExactGaussNewton
    (x, y), (x_test, y_test) = waves(0)
    common = {"optimizer": "egn", "batch_size": 64, "tol": 0, "random_state": 0, "lr": 0.5}
    model = NeuralRegressor(
        (32, 32), activation="tanh", max_epochs=20, optimizer_params={"damping": 0.02}, **common
    )
    model.fit(x.numpy(), y[:, 0].numpy())
    assert model.score(x_test.numpy(), y_test[:, 0].numpy()) > 0.95
    labels = (x[:, 0] > x[:, 1] ** 2).numpy()
    weight = np.random.default_rng(0).uniform(0.5, 2, len(labels))
    model = NeuralClassifier((16,), max_epochs=5, dropout=0.1, weight_decay=1e-3, **common)
    model.set_params(optimizer_params={"adaptive_damping": True, "line_search": True})
    model.fit(x.numpy(), labels, sample_weight=weight)
    assert model.loss_curve_[-1] < 0.7 * model.loss_curve_[0]
    assert model.net_.optimizer_.damping != 1


def test_weights_of_rows_are_repetitions():
    counts = np.random.default_rng(2).integers(1, 4, N_ROWS)
    rows = np.repeat(np.arange(N_ROWS), counts)
    common = {"hidden_layer_sizes": (6,), "optimizer": "egn", "lr": 0.5, "batch_size": None}
    common |= {"max_epochs": 3, "tol": 0, "random_state": 0, "optimizer_params": {"damping": 0.1}}
    x = X.numpy()
    for make, y in ((NeuralClassifier, LABELS.numpy()), (NeuralRegressor, CONTINUOUS.numpy())):
        weighted = make(**common).fit(x, y, sample_weight=counts)
        repeated = make(**common).fit(x[rows], y[rows])
        pair = [vector(model.module_.parameters()) for model in (weighted, repeated)]
        torch.testing.assert_close(*pair, rtol=1e-8, atol=1e-8)
