"""SSO: the surrogate as a bound, its solvers against closed forms, and gradients saved."""

import copy
import functools
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale
from torch import nn

from skpapers.neural_network import NeuralClassifier, build_module, get_registry, make_mlp
from skpapers.optim import SSO
from skpapers.optim._loss_curvature import loss_derivatives, loss_kind, smoothness

RNG = np.random.default_rng(0)
X = torch.from_numpy(RNG.normal(size=(24, 5)))
TARGETS = {
    "squared_error": torch.from_numpy(RNG.normal(size=(24, 3))),
    "logistic": torch.from_numpy(RNG.integers(0, 2, (24, 3)).astype(float)),
    "cross_entropy": torch.from_numpy(RNG.integers(0, 3, 24)),
    "huber": torch.from_numpy(3 * RNG.normal(size=(24, 3))),
}
CRITERIA = {
    "squared_error": nn.MSELoss(),
    "logistic": nn.BCEWithLogitsLoss(),
    "cross_entropy": nn.CrossEntropyLoss(),
    "huber": nn.HuberLoss(delta=0.7),
}


def loss_of(kind):
    return functools.partial(CRITERIA[kind], target=TARGETS[kind])


def network(hidden=(7,), n_out=3, n_in=5):
    generator = torch.Generator().manual_seed(0)
    make = functools.partial(make_mlp, n_in, hidden, n_out, activation="tanh")
    return build_module(make, generator, torch.float64)


def run(optimizer, module, loss_function, n_steps, inputs=X):
    return [float(optimizer.step(lambda: (module(inputs), loss_function))) for _ in range(n_steps)]


def vector(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


# The surrogate.


@pytest.mark.parametrize("kind", CRITERIA)
def test_one_inner_step_of_fixed_length_is_sgd(kind):
    ours, theirs = network((7, 6)), network((7, 6))
    optimizer = SSO(ours.parameters(), inner_steps=1, inner_solver="gd", inner_lr=0.3, lr=0.01)
    reference = torch.optim.SGD(theirs.parameters(), lr=0.3)
    losses = run(optimizer, ours, loss_of(kind), 5)
    for loss in losses:
        reference.zero_grad()
        expected = loss_of(kind)(theirs(X))
        expected.backward()
        reference.step()
        assert loss == pytest.approx(float(expected.detach()), rel=1e-12)
    torch.testing.assert_close(vector(ours), vector(theirs), rtol=1e-12, atol=1e-12)
    assert optimizer.n_gradient_calls == optimizer.n_model_calls == 5


def surrogate_value(kind, outputs, trial, lr):
    """Mean over rows of the loss, its slope, and the square of the move: as the paper has it."""
    b = len(outputs)
    loss, slopes, _ = loss_derivatives(loss_of(kind), outputs)
    move = trial - outputs
    rows = (slopes * move).sum(1) + move.square().sum(1) / (2 * lr)
    return float(loss) + float(rows.sum()) / b


@pytest.mark.parametrize("kind", CRITERIA)
def test_the_surrogate_is_an_upper_bound_at_the_reciprocal_of_the_smoothness(kind):
    module, generator = network(), torch.Generator().manual_seed(1)
    start = module(X).detach()
    lr = 1 / smoothness(kind, 3)
    gaps, wide_gaps = [], []
    for i in range(1000):
        with torch.no_grad():
            for p in module.parameters():
                scale = 10 ** (-2 + 3 * i / 1000)
                p.copy_(scale * torch.randn(p.shape, dtype=p.dtype, generator=generator))
            trial = module(X)
            value = float(loss_of(kind)(trial))
        gaps.append(surrogate_value(kind, start, trial, lr) - value)
        wide_gaps.append(surrogate_value(kind, start, trial, 4 * lr) - value)
    assert min(gaps) >= -1e-12
    if kind == "squared_error":  # its own surrogate
        assert max(gaps) < 1e-10
        assert min(wide_gaps) < -1e-3


def test_the_values_of_the_surrogate_are_those_of_the_paper():
    module = network()
    optimizer = SSO(module.parameters(), inner_steps=7, lr=0.9)
    start = module(X).detach()
    run(optimizer, module, loss_of("cross_entropy"), 1)
    first, *_, last = optimizer.surrogate_values
    assert len(optimizer.surrogate_values) == 8
    assert first == pytest.approx(float(loss_of("cross_entropy")(start)), rel=1e-12)
    expected = surrogate_value("cross_entropy", start, module(X).detach(), 0.9)
    assert last == pytest.approx(expected, rel=1e-12)
    assert (np.diff(optimizer.surrogate_values) < 0).all()


@pytest.mark.parametrize("kind", CRITERIA)
def test_slopes_and_hessians_are_those_of_the_rows(kind):
    outputs = torch.from_numpy(np.random.default_rng(3).normal(size=(24, 3)))
    _, slopes, hessian = loss_derivatives(loss_of(kind), outputs, second=True)
    row = lambda z, y: CRITERIA[kind](z[None], y[None])  # noqa: E731
    for i in range(3):
        target = TARGETS[kind][i]
        first = torch.func.grad(row)(outputs[i], target)
        second = torch.func.jacrev(torch.func.grad(row))(outputs[i], target)
        torch.testing.assert_close(slopes[i], first, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(hessian[i], second, rtol=1e-12, atol=1e-14)
    largest = float(torch.linalg.eigvalsh(hessian).max())
    assert largest <= smoothness(kind, 3) * (1 + 1e-12)


def test_losses_are_known_by_name_or_by_criterion():
    y = torch.zeros(2, 1)
    known = {kind: loss_kind(loss_of(kind)) for kind in CRITERIA}
    assert known == {kind: kind for kind in CRITERIA}
    assert loss_kind(functools.partial(F.mse_loss, target=y)) == "squared_error"
    for other in (
        functools.partial(F.mse_loss, target=y, reduction="sum"),
        functools.partial(nn.MSELoss(reduction="sum"), target=y),
        functools.partial(nn.CrossEntropyLoss(weight=torch.ones(2)), target=y),
        functools.partial(nn.PoissonNLLLoss(), target=y),
        lambda z: z.mean(),
    ):
        assert loss_kind(other) is None


# Linear models.


def test_a_step_on_the_squared_loss_is_least_squares():
    module = network(())
    optimizer = SSO.from_module(module, inner_solver="exact")
    run(optimizer, module, loss_of("squared_error"), 1)
    assert optimizer.last_lr == 1.5  # 1/L of the mean over three outputs
    design = np.c_[X.numpy(), np.ones(24)]
    solution = np.linalg.lstsq(design, TARGETS["squared_error"].numpy(), rcond=None)[0]
    np.testing.assert_allclose(module[0].weight.detach().numpy(), solution[:-1].T, atol=1e-9)
    np.testing.assert_allclose(module[0].bias.detach().numpy(), solution[-1], atol=1e-9)


@pytest.mark.parametrize("kind", CRITERIA)
def test_models_that_can_fit_all_rows_descend_in_the_space_of_the_outputs(kind):
    wide = torch.from_numpy(np.random.default_rng(1).normal(size=(24, 40)))
    module = network((), n_in=40)
    outputs = module(wide).detach()
    run(SSO.from_module(module, inner_solver="exact", lr=0.4), module, loss_of(kind), 4, wide)
    for _ in range(4):
        outputs = outputs - 0.4 * loss_derivatives(loss_of(kind), outputs)[1]
    torch.testing.assert_close(module(wide).detach(), outputs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", ["squared_error", "logistic", "cross_entropy"])
@pytest.mark.parametrize("solver", ["armijo", "gd", "lbfgs"])
@pytest.mark.parametrize("divergence", ["euclidean", "newton"])
@pytest.mark.parametrize("n_features", [5, 40])
def test_the_shortcut_of_linear_models_makes_the_same_steps(kind, solver, divergence, n_features):
    options = {"inner_solver": solver, "inner_lr": 0.01, "divergence": divergence}
    inputs = torch.from_numpy(np.random.default_rng(4).normal(size=(24, n_features)))
    short, long = (network((), n_in=n_features) for _ in range(2))
    first = SSO.from_module(short, **options)
    second = SSO(long.parameters(), **options)
    losses = [
        run(first, short, loss_of(kind), 3, inputs), run(second, long, loss_of(kind), 3, inputs)
    ]  # fmt: skip
    np.testing.assert_allclose(*losses, rtol=1e-8)
    torch.testing.assert_close(vector(short), vector(long), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(first.surrogate_values, second.surrogate_values, rtol=1e-8)


def test_the_shortcut_needs_no_line_search_of_evaluations():
    module = network(())
    optimizer = SSO.from_module(module, inner_steps=20)
    run(optimizer, module, loss_of("logistic"), 5)
    assert optimizer.n_gradient_calls == 5
    assert optimizer.n_model_calls == 5 * 21
    slow = SSO(module.parameters(), inner_steps=20)
    run(slow, module, loss_of("logistic"), 5)
    assert slow.n_model_calls > 5 * 21


def test_l_bfgs_solves_the_surrogate():
    exact, approximate = network(()), network(())
    run(SSO.from_module(exact, inner_solver="exact"), exact, loss_of("logistic"), 3)
    solver = SSO(approximate.parameters(), inner_solver="lbfgs", inner_steps=100, tol=1e-12)
    run(solver, approximate, loss_of("logistic"), 3)
    torch.testing.assert_close(vector(exact), vector(approximate), rtol=1e-5, atol=1e-5)


def test_newton_steps_of_logistic_regression_are_those_of_iteratively_reweighted_least_squares():
    target = TARGETS["logistic"][:, :1]
    module = network((), n_out=1)
    design, weight = np.c_[X.numpy(), np.ones(24)], vector(module).numpy()
    options = {"divergence": "newton", "inner_solver": "lbfgs", "inner_steps": 200, "tol": 1e-13}
    optimizer = SSO(module.parameters(), **options)
    loss_function = functools.partial(CRITERIA["logistic"], target=target)
    for _ in range(3):
        p = 1 / (1 + np.exp(-design @ weight))
        hessian = design.T @ (design * (p * (1 - p))[:, None])
        weight = weight - np.linalg.solve(hessian, design.T @ (p - target[:, 0].numpy()))
        run(optimizer, module, loss_function, 1)
        np.testing.assert_allclose(vector(module).numpy(), weight, rtol=1e-4, atol=1e-4)
        with torch.no_grad():  # errors shall not add up
            module[0].weight.copy_(torch.from_numpy(weight[None, :-1]))
            module[0].bias.copy_(torch.from_numpy(weight[-1:]))


def test_weights_of_rows_are_repetitions():
    counts = np.random.default_rng(2).integers(1, 4, 24)
    rows = np.repeat(np.arange(24), counts)
    common = {"hidden_layer_sizes": (), "optimizer": "sso", "lr": 2.0, "batch_size": None}
    common |= {
        "max_epochs": 5,
        "tol": 0,
        "random_state": 0,
        "optimizer_params": {"inner_steps": 4},
    }
    x, y = X.numpy(), TARGETS["cross_entropy"].numpy()
    weighted = NeuralClassifier(**common).fit(x, y, sample_weight=counts)
    repeated = NeuralClassifier(**common).fit(x[rows], y[rows])
    found, expected = vector(weighted.module_), vector(repeated.module_)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


# Schedules.


def test_steps_of_the_outputs_follow_their_schedules():
    def rates(**options):
        module = network()
        optimizer = SSO(module.parameters(), lr=0.8, inner_steps=2, **options)
        found = []
        for _ in range(4):
            run(optimizer, module, loss_of("squared_error"), 1)
            found.append(optimizer.last_lr)
        return found

    assert rates() == [0.8] * 4
    expected = [0.8 / np.sqrt(t) for t in (1, 2, 3, 4)]
    np.testing.assert_allclose(rates(lr_schedule="decreasing"), expected)
    expected = [0.8 * (1 / 8) ** (t / 8) for t in (1, 2, 3, 4)]
    np.testing.assert_allclose(rates(lr_schedule="exponential", total_steps=8), expected)
    with pytest.raises(ValueError, match="total_steps"):
        rates(lr_schedule="exponential")


def test_the_line_search_of_the_outputs_finds_the_smoothness_of_a_quadratic():
    module = network(())
    optimizer = SSO.from_module(module, lr=100.0, lr_schedule="armijo", inner_solver="exact")
    run(optimizer, module, loss_of("squared_error"), 1)
    assert 0.9 * 1.5 <= optimizer.last_lr <= 1.5  # 1/L, up to a shrink by 0.9
    first = optimizer.last_lr
    run(optimizer, module, loss_of("squared_error"), 1)
    trials = 1.8 * first * 0.9 ** np.arange(50)
    assert optimizer.last_lr == pytest.approx(trials[trials <= 1.5 * (1 + 1e-9)][0])


def test_automatic_steps_are_reciprocals_of_the_smoothness():
    for kind, expected in {"squared_error": 1.5, "logistic": 12.0, "cross_entropy": 2.0}.items():
        module = network()
        optimizer = SSO(module.parameters())
        run(optimizer, module, loss_of(kind), 1)
        assert optimizer.last_lr == pytest.approx(expected)
    run(optimizer, module, lambda z: z.square().mean(), 1)
    assert optimizer.last_lr == 1.0


# The protocol, degenerate cases.


def test_the_loss_may_be_known_by_its_gradient_only():
    class Oracle:
        calls = 0

        def value_and_gradient(self, outputs):
            self.calls += 1
            return loss_derivatives(loss_of("squared_error"), outputs)[:2]

    oracle, modules = Oracle(), (network(), network())
    optimizer = SSO(modules[0].parameters(), lr=1.5)
    losses = run(optimizer, modules[0], oracle, 4)
    assert losses == run(SSO(modules[1].parameters()), modules[1], loss_of("squared_error"), 4)
    assert torch.equal(*map(vector, modules))
    assert oracle.calls == optimizer.n_gradient_calls == 4 < optimizer.n_model_calls
    for options in ({"lr_schedule": "armijo"}, {"divergence": "newton"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            run(SSO(modules[0].parameters(), **options), modules[0], oracle, 1)


def test_closures_of_another_kind_are_an_error():
    module = network()
    optimizer = SSO(module.parameters())
    with pytest.raises(TypeError, match="returns the pair"):
        optimizer.step(lambda: module(X).square().mean())
    with pytest.raises(TypeError, match="returns the pair"):
        optimizer.step(None)
    linear = nn.Linear(5, 1, dtype=torch.float64)
    for closure in (lambda: (2 * linear(X), torch.sum), lambda: (X[:, :1], torch.sum)):
        with pytest.raises(ValueError, match="output of the module"):
            SSO.from_module(linear).step(closure)
    with pytest.raises(ValueError, match="from_module"):
        run(SSO(module.parameters(), inner_solver="exact"), module, loss_of("huber"), 1)


@pytest.mark.parametrize(
    "option, value",
    [
        ("lr", 0.0), ("lr", "large"), ("inner_steps", 0), ("inner_solver", "adam"),
        ("inner_solver", "gd"), ("inner_lr", -1.0), ("lr_schedule", "cosine"),
        ("total_steps", 0), ("steps_per_epoch", 0), ("divergence", "kl"), ("tol", -1.0),
    ],
)  # fmt: skip
def test_bad_options_are_named(option, value):
    with pytest.raises(ValueError, match="inner_lr" if value == "gd" else option):
        SSO(network().parameters(), **{option: value})


def test_options_are_those_of_all_groups():
    modules = network(), network()
    groups = [{"params": [p]} for p in modules[0].parameters()]
    run(SSO(groups, lr=0.7), modules[0], loss_of("huber"), 3)
    run(SSO(modules[1].parameters(), lr=0.7), modules[1], loss_of("huber"), 3)
    assert torch.equal(*map(vector, modules))
    with pytest.raises(ValueError, match="lr of SSO must be the same"):
        SSO([groups[0], {**groups[1], "lr": 0.1}], lr=0.7)
    for options in ({"inner_solver": "exact"}, {"lr_schedule": "armijo"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            SSO(groups, divergence="newton", **options)


@pytest.mark.parametrize("hidden", [(), (7,)])
def test_a_resumed_run_equals_an_uninterrupted_one(hidden):
    module = network(hidden)
    first = SSO.from_module(module, lr_schedule="armijo")
    run(first, module, loss_of("cross_entropy"), 3)
    resumed = copy.deepcopy(module)
    second = SSO.from_module(resumed)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    third, pickled = pickle.loads(pickle.dumps((first, module)))
    for optimizer, own in ((first, module), (second, resumed), (third, pickled)):
        run(optimizer, own, loss_of("cross_entropy"), 3)
        assert torch.equal(vector(own), vector(module))
        assert optimizer.n_model_calls == first.n_model_calls


@pytest.mark.parametrize("hidden", [(), (7,)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 0.1), (torch.float32, 1e-4)])
def test_narrow_types_train(hidden, dtype, tolerance):
    module, exact = network(hidden).to(dtype), network(hidden)
    losses = run(SSO.from_module(module), module, loss_of("cross_entropy"), 10, X.to(dtype))
    expected = run(SSO.from_module(exact), exact, loss_of("cross_entropy"), 10)
    assert {p.dtype for p in module.parameters()} == {dtype}
    np.testing.assert_allclose(losses, expected, rtol=tolerance)


def test_outputs_may_be_vectors_and_parameters_unused_or_fixed():
    module, unused = network((7,), 1), nn.Parameter(torch.ones(2))
    module[0].bias.requires_grad_(False)
    before = module[0].bias.clone()
    optimizer = SSO([*module.parameters(), unused])
    loss_function = functools.partial(nn.MSELoss(), target=TARGETS["squared_error"][:, 0])
    losses = [float(optimizer.step(lambda: (module(X)[:, 0], loss_function))) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert torch.equal(unused, torch.ones(2)) and torch.equal(module[0].bias, before)


def test_the_surrogate_never_rises_however_large_the_inputs():
    module = network((), 3)
    huge = 1e6 * X
    losses = run(SSO.from_module(module), module, loss_of("cross_entropy"), 5, huge)
    assert np.isfinite(losses).all()
    assert (np.diff(losses) <= 0).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("solver", ["armijo", "lbfgs", "exact"])
def test_devices_agree(solver):
    here, there = network(()), network(()).cuda()
    target = TARGETS["cross_entropy"].cuda()
    loss_function = functools.partial(nn.CrossEntropyLoss(), target=target)
    run(SSO.from_module(here, inner_solver=solver), here, loss_of("cross_entropy"), 5)
    run(SSO.from_module(there, inner_solver=solver), there, loss_function, 5, X.cuda())
    torch.testing.assert_close(vector(here), vector(there).cpu(), rtol=1e-8, atol=1e-8)


# The claim.


@pytest.mark.parametrize("inner_steps", [1, 5, 20])
@pytest.mark.parametrize("kind", ["squared_error", "cross_entropy"])
def test_the_loss_of_a_whole_data_set_never_rises(inner_steps, kind):
    module = network((16,))
    optimizer = SSO(module.parameters(), inner_steps=inner_steps)
    losses = run(optimizer, module, loss_of(kind), 100)
    assert np.diff(losses).max() <= 1e-12
    assert losses[-1] < 0.8 * losses[0]


def test_more_inner_steps_save_gradients():
    data = load_breast_cancer()
    inputs = torch.from_numpy(scale(data.data))
    target = torch.from_numpy(data.target.astype(float))[:, None]
    loss_function = functools.partial(nn.BCEWithLogitsLoss(), target=target)

    def final_loss(make):
        layer = nn.utils.skip_init(nn.Linear, 30, 1, bias=False, dtype=torch.float64)
        nn.init.zeros_(layer.weight)
        optimizer = make(layer)
        for _ in range(100):
            optimizer.step(closure_of(optimizer, layer))
        return float(loss_function(layer(inputs)).detach())

    def closure_of(optimizer, layer):
        def closure():
            if isinstance(optimizer, SSO):
                return layer(inputs), loss_function
            optimizer.zero_grad()
            loss = loss_function(layer(inputs))
            loss.backward()
            return loss

        return closure

    largest = float(torch.linalg.eigvalsh(inputs.T @ inputs).max()) / (4 * len(inputs))
    descent = final_loss(lambda m: torch.optim.SGD(m.parameters(), lr=1 / largest))
    ours = [final_loss(lambda m, k=k: SSO.from_module(m, inner_steps=k)) for k in (1, 5, 20, 100)]
    assert largest == pytest.approx(3.32, abs=0.01)
    assert descent == pytest.approx(0.0779, abs=1e-4)
    assert ours[2] <= 0.060
    assert (np.diff([descent, *ours]) < 0).all()


def test_networks_train_by_name():
    assert get_registry("optimizer").resolve("sso") is SSO
    data = load_breast_cancer()
    x, y = scale(data.data), data.target
    model = NeuralClassifier(
        (16,), optimizer="sso", optimizer_params={"lr": "auto", "lr_schedule": "exponential"},
        dropout=0.1, max_epochs=10, tol=0, random_state=0,
    )  # fmt: skip
    assert model.fit(x[:400], y[:400]).score(x[400:], y[400:]) > 0.94
    optimizer = model.net_.optimizer_
    assert optimizer.n_gradient_calls == optimizer.param_groups[0]["total_steps"] == 40
    assert optimizer.param_groups[0]["steps_per_epoch"] == 4
