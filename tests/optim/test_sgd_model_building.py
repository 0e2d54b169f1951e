"""SMB and SMBi: the system behind the model step, the acceptance test, large learning rates."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from skpapers.neural_network import NeuralClassifier, build_module, get_registry, make_mlp
from skpapers.optim import SMB, SMBi
from skpapers.optim._sgd_model_building import model_coefficients

START = ((1.0, -2.0, 0.5), (0.3, 0.7))


def weights(dtype=torch.float64):
    return [torch.nn.Parameter(torch.tensor(w, dtype=dtype)) for w in START]


def quadratic(curvature):
    """Loss with another curvature in each coordinate; the same for all tensors."""
    return lambda params: sum(
        (curvature * torch.arange(1, p.numel() + 1) * p.double().square()).sum() for p in params
    )


def closure_of(optimizer, loss, params):
    def closure():
        optimizer.zero_grad()
        value = loss(params)
        value.backward()
        return value

    return closure


def run(make, loss, n_steps, params=None, **options):
    params = weights() if params is None else params
    optimizer = make(params, **options)
    closure = closure_of(optimizer, loss, params)
    losses = [optimizer.step(closure).item() for _ in range(n_steps)]
    return params, optimizer, losses


def model_step(g, g_trial, lr, eta, rejected=None):
    """The six inner products and the step, in NumPy, as the paper writes them."""
    r = g if rejected is None else rejected
    s, y = -lr * g, g_trial - g
    ss, yy, gg, ys, yg, sg = s @ s, y @ y, g @ g, y @ s, y @ r, s @ r
    sigma = (np.sqrt(ss) * (np.sqrt(yy) + np.sqrt(gg) / eta) - ys) / 2
    theta = (ys + 2 * sigma) ** 2 - ss * yy
    c_g = -ss / (2 * sigma)
    c_s = c_g / theta * (-(ys + 2 * sigma) * yg + yy * sg)
    c_y = c_g / theta * (-(ys + 2 * sigma) * sg + ss * yg)
    return c_s * s + c_g * r + c_y * y


# The model step.


def test_the_model_step_solves_its_system_within_the_trust_region():
    rng = np.random.default_rng(0)
    for _ in range(100):
        g, g_trial = rng.normal(size=(2, 8)) * rng.lognormal(size=(2, 1))
        lr, eta = rng.lognormal(), rng.uniform(0.05, 0.99)
        s, y = -lr * g, g_trial - g
        products = (s @ s, y @ y, g @ g, y @ s, y @ g, s @ g)
        columns = [torch.tensor([p], dtype=torch.float64) for p in products]
        c_s, c_g, c_y = model_coefficients(*columns, eta=eta)[:, 0].tolist()
        step = c_s * s + c_g * g + c_y * y
        sigma = (np.sqrt(s @ s) * (np.sqrt(y @ y) + np.sqrt(g @ g) / eta) - y @ s) / 2
        matrix = (2 * sigma * np.eye(8) + np.outer(y, s) + np.outer(s, y)) / (s @ s)
        lowest = np.linalg.eigvalsh(matrix)[0]
        assert lowest == pytest.approx(1 / (lr * eta), rel=1e-8)
        assert np.linalg.norm(matrix @ step + g) < 1e-10 * np.linalg.norm(g)
        assert np.linalg.norm(step) <= eta * np.linalg.norm(s) * (1 + 1e-10)


def test_accepted_steps_are_those_of_sgd_to_the_last_bit():
    loss = quadratic(0.1)
    found, optimizer, _ = run(SMB, loss, 20, lr=0.3)
    expected, _, _ = run(torch.optim.SGD, loss, 20, lr=0.3)
    assert (optimizer.n_steps, optimizer.n_model_steps) == (20, 0)
    for a, b in zip(found, expected):
        assert torch.equal(a, b)


@pytest.mark.parametrize("eta", [0.3, 0.99])
def test_rejected_steps_follow_the_formula_tensor_by_tensor(eta):
    params, optimizer, _ = run(SMB, quadratic(5.0), 1, lr=0.4, eta=eta)
    assert optimizer.n_model_steps == 1
    for p, start in zip(params, map(np.array, START)):
        slope = 10.0 * np.arange(1, len(start) + 1)
        g = slope * start
        step = model_step(g, slope * (start - 0.4 * g), 0.4, eta)
        np.testing.assert_allclose(p.detach().numpy(), start + step, rtol=1e-12)


def test_without_curvature_the_model_shortens_the_step_by_eta():
    (weight, _) = weights()
    slope = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    optimizer = SMB([weight], lr=0.5, eta=0.8)

    def closure():  # a linear function, that seems not to fall
        optimizer.zero_grad()
        loss = (slope * weight).sum()
        loss.backward()
        return loss.detach() * 0

    start = weight.detach().clone()
    optimizer.step(closure)
    assert optimizer.n_model_steps == 1
    torch.testing.assert_close(weight.data, start - 0.8 * 0.5 * slope, rtol=1e-14, atol=0)


def test_tensors_have_models_of_their_own():
    def loss(scale):
        return lambda ps: 5 * ps[0].square().sum() + scale * ps[1].square().sum()

    moved = [run(SMB, loss(scale), 1, lr=1.0)[0] for scale in (5.0, 500.0)]
    assert torch.equal(moved[0][0], moved[1][0])
    assert not torch.equal(moved[0][1], moved[1][1])


@pytest.mark.parametrize("grouping", ["group", "all"])
def test_tensors_may_share_a_model(grouping):
    params = [*weights(), torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))]
    start = [p.detach().numpy().copy() for p in params]
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.2}]
    optimizer = SMB(groups, lr=0.4, eta=0.9, grouping=grouping)
    optimizer.step(closure_of(optimizer, quadratic(5.0), params))
    gradients = [10 * np.arange(1, len(w) + 1) * w for w in start]
    trials = [
        10 * np.arange(1, len(w) + 1) * (w - lr * g)
        for w, g, lr in zip(start, gradients, (0.4, 0.4, 0.2))
    ]
    if grouping == "group":
        step = model_step(np.r_[tuple(gradients[:2])], np.r_[tuple(trials[:2])], 0.4, 0.9)
        expected = np.r_[step, model_step(gradients[2], trials[2], 0.2, 0.9)]
    else:  # the trial step has a rate for each coordinate
        rates = np.array([0.4] * 5 + [0.2])
        g, y = np.concatenate(gradients), np.concatenate(trials) - np.concatenate(gradients)
        s = -rates * g
        sigma = (np.sqrt(s @ s) * (np.sqrt(y @ y) + np.sqrt(g @ g) / 0.9) - y @ s) / 2
        matrix = (2 * sigma * np.eye(6) + np.outer(y, s) + np.outer(s, y)) / (s @ s)
        expected = -np.linalg.solve(matrix, g)
    found = np.concatenate([p.detach().numpy() - w for p, w in zip(params, start)])
    np.testing.assert_allclose(found, expected, rtol=1e-10)


# SMBi.


def test_smbi_undoes_a_failed_trial_and_then_makes_the_step_of_smb():
    expected, _, _ = run(SMB, quadratic(5.0), 1, lr=0.4)
    params, optimizer, _ = run(SMBi, quadratic(5.0), 1, lr=0.4)
    for p, start in zip(params, weights()):
        assert torch.equal(p, start)
    assert (optimizer.n_steps, optimizer.n_model_steps) == (1, 0)
    optimizer.step(closure_of(optimizer, quadratic(5.0), params))
    assert (optimizer.n_steps, optimizer.n_model_steps) == (2, 1)
    for a, b in zip(params, expected):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=0)


def test_smbi_builds_its_model_on_the_next_batch():
    params, optimizer, _ = run(SMBi, quadratic(5.0), 1, lr=0.4, eta=0.9)
    optimizer.step(closure_of(optimizer, quadratic(7.0), params))
    for p, start in zip(params, map(np.array, START)):
        slope = 14.0 * np.arange(1, len(start) + 1)
        g, rejected = slope * start, slope * start * 5 / 7
        step = model_step(g, slope * (start - 0.4 * g), 0.4, 0.9, rejected)
        np.testing.assert_allclose(p.detach().numpy(), start + step, rtol=1e-12)


def test_smbi_is_smb_with_independent_batches():
    found, _, _ = run(SMBi, quadratic(2.0), 20, lr=0.4)
    expected, _, _ = run(SMB, quadratic(2.0), 20, lr=0.4, independent_batch=True)
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


# Closures, learning rates, degenerate cases.


@pytest.mark.parametrize("make", [SMB, SMBi])
@pytest.mark.parametrize("curvature, rejected", [(0.1, False), (5.0, True)])
def test_closures_give_the_loss_alone_where_they_can(make, curvature, rejected):
    calls, params = [], weights()
    optimizer = make(params, lr=0.4)
    loss = quadratic(curvature)

    def closure(backward=True):
        calls.append(backward)
        if not backward:
            return loss(params)
        return closure_of(optimizer, loss, params)()

    optimizer.step(closure)
    needs_gradient = rejected and make is SMB
    assert calls == [True, False] + [True] * needs_gradient
    expected, _, _ = run(make, loss, 1, lr=0.4)
    assert all(torch.equal(a, b) for a, b in zip(params, expected))


def test_the_rate_follows_the_share_of_model_steps():
    options = {"autoschedule": True, "steps_per_epoch": 4, "beta": 0.5}
    _, raised, _ = run(SMB, quadratic(0.1), 8, lr=0.1, lr_max=0.25, **options)
    assert raised.param_groups[0]["lr"] == 0.2  # 0.4 would be above lr_max
    _, lowered, _ = run(SMB, quadratic(50.0), 4, lr=1.0, **options)
    assert lowered.param_groups[0]["lr"] == 0.5
    with pytest.raises(ValueError, match="steps_per_epoch must be given"):
        run(SMB, quadratic(1.0), 1, autoschedule=True)


@pytest.mark.parametrize("make", [SMB, SMBi])
def test_a_trial_that_is_no_number_is_rejected_and_does_no_harm(make):
    loss = lambda ps: sum(torch.exp(p.square()).sum() for p in ps)  # noqa: E731
    params, optimizer, losses = run(make, loss, 40, lr=100.0)
    assert np.isfinite(losses).all()
    assert all(torch.isfinite(p).all() for p in params)


def test_tensors_without_a_gradient_stay():
    used, zero, unused = *weights(), torch.nn.Parameter(torch.ones(2))
    loss = lambda _: 5 * used.square().sum() + 0 * zero.sum()  # noqa: E731
    run(SMB, loss, 3, [used, zero, unused], lr=1.0)
    assert torch.equal(zero, weights()[1])
    assert torch.equal(unused, torch.ones(2))
    assert torch.isfinite(used).all() and not torch.equal(used, weights()[0])
    with torch.no_grad():
        used.zero_()
    _, optimizer, _ = run(SMB, loss, 1, [used])  # at the minimum the trial step is kept
    assert optimizer.n_model_steps == 0


def test_the_penalty_is_part_of_the_loss():
    loss = quadratic(2.0)
    penalised = lambda ps: loss(ps) + 0.15 * sum(p.square().sum() for p in ps)  # noqa: E731
    for lr in (0.05, 0.5):
        found, optimizer, _ = run(SMB, loss, 10, lr=lr, weight_decay=0.3)
        expected, reference, _ = run(SMB, penalised, 10, lr=lr)
        assert optimizer.n_model_steps == reference.n_model_steps
        for a, b in zip(found, expected):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [SMB, SMBi])
def test_a_resumed_run_equals_an_uninterrupted_one(make):
    options = {"lr": 0.4, "autoschedule": True, "steps_per_epoch": 3}
    for n_steps in (1, 2, 5):  # SMBi with and without a rejected trial
        params, first, _ = run(make, quadratic(1.0), n_steps, **options)
        saved = [p.detach().clone() for p in params]
        copies = [torch.nn.Parameter(p) for p in saved]
        second = make(copies, **options)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        pickled = pickle.loads(pickle.dumps(first))
        for optimizer in (first, second, pickled):
            mine = optimizer.param_groups[0]["params"]
            for _ in range(5):
                optimizer.step(closure_of(optimizer, quadratic(1.0), mine))
        for other in (second, pickled):
            assert other.n_model_steps == first.n_model_steps
            pairs = zip(params, other.param_groups[0]["params"])
            assert all(torch.equal(a, b) for a, b in pairs)


def test_groups_have_rates_of_their_own():
    params = weights()
    groups = [{"params": params[:1], "lr": 0.01}, {"params": params[1:], "weight_decay": 0.1}]
    optimizer = SMB(groups, lr=0.02)
    optimizer.step(closure_of(optimizer, quadratic(1.0), params))
    first, second = weights()
    slopes = [2.0 * torch.arange(1, 4), 2.0 * torch.arange(1, 3) + 0.1]
    torch.testing.assert_close(params[0].data, (first * (1 - 0.01 * slopes[0])).data)
    torch.testing.assert_close(params[1].data, (second * (1 - 0.02 * slopes[1])).data)


@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 0.05), (torch.float32, 1e-5)])
def test_types_of_parameters_may_be_mixed(dtype, tolerance):
    found, optimizer, _ = run(SMB, quadratic(2.0), 4, weights(dtype) + weights(), lr=0.3)
    exact, _, _ = run(SMB, quadratic(2.0), 4, weights() + weights(), lr=0.3)
    assert optimizer.n_model_steps > 0
    assert [p.dtype for p in found] == [dtype] * 2 + [torch.float64] * 2
    for a, b in zip(found, exact):
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("make", [SMB, SMBi])
@pytest.mark.parametrize(
    "option, value",
    [
        ("lr", 0.0), ("eta", 1.0), ("c", 0.0), ("autoschedule", "yes"), ("steps_per_epoch", 0),
        ("gamma", 2.0), ("beta", 1.0), ("lr_max", 0.0), ("weight_decay", -1.0),
        ("grouping", "layer"),
    ],
)  # fmt: skip
def test_bad_options_are_named(make, option, value):
    with pytest.raises(ValueError, match=option):
        make(weights(), **{option: value})


def test_a_closure_is_needed_and_gradients_are_dense():
    with pytest.raises(ValueError, match="closure"):
        SMB(weights()).step(None)
    embedding = torch.nn.Parameter(torch.ones(3, 2))

    def closure():
        embedding.grad = torch.ones(3, 2).to_sparse()
        return torch.tensor(1.0)

    with pytest.raises(RuntimeError, match="sparse"):
        SMB([embedding]).step(closure)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_devices_agree():
    loss = lambda ps: 5 * sum(p.square().sum() for p in ps)  # noqa: E731
    on_gpu = [torch.nn.Parameter(w.detach().cuda()) for w in weights()]
    found, _, _ = run(SMB, loss, 10, on_gpu, lr=0.4)
    expected, _, _ = run(SMB, loss, 10, lr=0.4)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-10, atol=1e-12)


# The claim.

PIXELS, LABELS = load_digits(return_X_y=True)
PIXELS, LABELS = torch.tensor((PIXELS / 16).astype(np.float32)), torch.tensor(LABELS)


def final_loss(make, lr, seed, n_epochs=15, **options):
    """Digits, epochs of batches of 128, the last one of 5 rows."""
    generator = torch.Generator().manual_seed(seed)
    module = build_module(lambda: make_mlp(64, (100,), 10), generator)
    optimizer = make(module.parameters(), lr=lr, **options)
    for _ in range(n_epochs):
        for rows in torch.randperm(len(PIXELS), generator=generator).split(128):

            def closure(rows=rows):
                optimizer.zero_grad()
                loss = F.cross_entropy(module(PIXELS[rows]), LABELS[rows])
                loss.backward()
                return loss

            optimizer.step(closure)
    with torch.no_grad():
        return F.cross_entropy(module(PIXELS), LABELS).item()


def test_large_rates_are_usable_where_sgd_fails():
    seeds = range(3)
    sgd, smb = ([final_loss(make, 1.0, s) for s in seeds] for make in (torch.optim.SGD, SMB))
    assert np.mean(smb) <= 0.8 * np.mean(sgd)
    sgd, smb = ([final_loss(make, 2.0, s) for s in seeds] for make in (torch.optim.SGD, SMB))
    assert max(smb) < 0.1
    assert min(sgd) > 2


def test_small_rates_are_left_alone():
    assert final_loss(SMB, 0.05, 0) == final_loss(torch.optim.SGD, 0.05, 0)


def test_the_schedule_finds_its_way_from_a_rate_that_is_far_too_large():
    scheduled = {"autoschedule": True, "steps_per_epoch": 15}
    losses = [final_loss(SMB, 5.0, seed, 30, **scheduled) for seed in range(3)]
    assert max(losses) < 0.15


@pytest.mark.parametrize("name, make", [("smb", SMB), ("smbi", SMBi)])
def test_networks_train_by_name(name, make):
    assert get_registry("optimizer").resolve(name) is make
    X, y = PIXELS.numpy(), LABELS.numpy()
    model = NeuralClassifier(
        optimizer=name, optimizer_params={"autoschedule": True}, lr=5.0, max_epochs=30, tol=0,
        random_state=0,
    )  # fmt: skip
    assert model.fit(X[:1000], y[:1000]).score(X[1000:], y[1000:]) > 0.85
    optimizer = model.net_.optimizer_
    assert optimizer.param_groups[0]["steps_per_epoch"] == 8
    assert optimizer.param_groups[0]["lr"] < 5
    assert 0 < optimizer.n_model_steps < optimizer.n_steps == 240
