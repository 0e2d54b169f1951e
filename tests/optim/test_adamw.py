"""Decoupled weight decay: torch's optimizers, the paper's propositions, restarts, mechanism."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss

from skpapers.neural_network import NeuralClassifier, get_registry
from skpapers.optim import SGDW, AdamW, CosineWarmRestarts, normalized_weight_decay

OPTIMIZERS = [SGDW, AdamW]


def weights(shapes=((3, 4), (5,)), dtype=torch.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [torch.nn.Parameter(torch.tensor(rng.normal(size=s), dtype=dtype)) for s in shapes]


def run(optimizer, n_steps, seed=1, schedule=None):
    """Steps along random gradients that depend on the weights."""
    rng = np.random.default_rng(seed)
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for _ in range(n_steps):
        for p in params:
            noise = torch.as_tensor(rng.normal(size=p.shape), dtype=p.dtype, device=p.device)
            p.grad = noise + 0.3 * p.detach()
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return [p.detach().clone() for p in params]


def assert_equal(found, expected, tolerance=1e-12):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# The update rules.


@pytest.mark.parametrize("lr", [1e-4, 0.1, 10.0])
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_without_gradients_weights_decay_geometrically_at_every_rate(make, lr):
    (weight,) = weights([(4,)])
    start = weight.detach().clone()
    optimizer = make([weight], lr=lr, weight_decay=0.01)
    for _ in range(50):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    assert_equal([weight.data], [start * 0.99**50])


@pytest.mark.parametrize("weight_decay", [1e-4, 1.0])
def test_the_penalty_inside_adam_moves_weights_by_the_rate_whatever_the_decay(weight_decay):
    weight = torch.nn.Parameter(torch.tensor([5.0, -2.0], dtype=torch.float64))
    optimizer = AdamW([weight], lr=1e-3, weight_decay=weight_decay, decay="l2")
    for _ in range(10):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    expected = torch.tensor([4.99, -1.99], dtype=torch.float64)
    torch.testing.assert_close(weight.data, expected, rtol=0, atol=1e-4)


def test_sgdw_without_momentum_equals_a_penalty_divided_by_the_rate():
    lr, decay = 0.05, 0.01
    for momentum in (0.0, 0.9):
        ours = run(SGDW(weights(), lr, momentum, weight_decay=decay), 50)
        penalised = torch.optim.SGD(weights(), lr, momentum, weight_decay=decay / lr)
        theirs = run(penalised, 50)
        if momentum:
            ours, theirs = (torch.cat([w.flatten() for w in ws]) for ws in (ours, theirs))
            assert float((ours - theirs).norm() / ours.norm()) > 0.1
        else:
            assert_equal(ours, theirs)


@pytest.mark.parametrize("nesterov", [False, True])
def test_coupled_sgdw_equals_torch(nesterov):
    ours = SGDW(weights(), 0.05, nesterov=nesterov, weight_decay=0.1, decay="l2")
    theirs = torch.optim.SGD(weights(), 0.05, 0.9, weight_decay=0.1, nesterov=nesterov)
    assert_equal(run(ours, 50), run(theirs, 50))


@pytest.mark.parametrize("implementation", [{}, {"foreach": True}, {"fused": True}], ids=str)
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("decay, peer", [("lr", torch.optim.AdamW), ("l2", torch.optim.Adam)])
def test_adamw_equals_torch(decay, peer, amsgrad, implementation):
    options = {"lr": 0.01, "weight_decay": 0.1, "amsgrad": amsgrad, "maximize": amsgrad}
    ours = run(AdamW(weights(), decay=decay, **options, **implementation), 100)
    assert_equal(ours, run(peer(weights(), **options), 100))


def test_steps_follow_a_loop_in_numpy():
    lr, decay, beta1, beta2, eta = 0.05, 0.02, 0.9, 0.99, 0.5
    gradients = np.random.default_rng(0).normal(size=(20, 3))
    expected = {SGDW: np.ones(3), AdamW: np.ones(3)}
    m, v, momentum = np.zeros(3), np.zeros(3), np.zeros(3)
    for t, g in enumerate(gradients, 1):
        momentum = beta1 * momentum + eta * lr * g
        expected[SGDW] = expected[SGDW] - momentum - eta * decay * expected[SGDW]
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        direction = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + 1e-8)
        expected[AdamW] = expected[AdamW] - eta * (lr * direction + decay * expected[AdamW])
    for make, own in ((SGDW, {"momentum": beta1}), (AdamW, {"betas": (beta1, beta2)})):
        weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
        optimizer = make([weight], lr=lr, weight_decay=decay, **own)
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: eta)
        for g in gradients:
            weight.grad = torch.tensor(g)
            optimizer.step()
        np.testing.assert_allclose(weight.detach().numpy(), expected[make], rtol=0, atol=1e-12)


def test_with_a_fixed_preconditioner_decay_is_a_penalty_scaled_by_it():
    """Proposition 3. In the coordinates theta * sqrt(s), the preconditioned step is plain."""
    rng = np.random.default_rng(0)
    s, start, target = rng.uniform(0.1, 10, 6), rng.normal(size=6), rng.normal(size=6)
    lr, decay = 0.02, 0.03
    theta = start.copy()
    for _ in range(40):
        penalty = decay / lr * theta * s  # gradient of decay / (2 lr) ||theta sqrt(s)||^2
        theta = theta - lr * ((theta - target) ** 3 + penalty) / s
    phi = torch.nn.Parameter(torch.tensor(start * np.sqrt(s)))
    optimizer = SGDW([phi], lr, momentum=0.0, weight_decay=decay)
    for _ in range(40):
        optimizer.zero_grad()
        ((phi / torch.tensor(np.sqrt(s)) - torch.tensor(target)) ** 4).sum().div(4).backward()
        optimizer.step()
    np.testing.assert_allclose(phi.detach().numpy() / np.sqrt(s), theta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_schedule_drives_rate_and_decay_alike(make):
    (weight,) = weights([(4,)])
    start = weight.detach().clone()
    optimizer = make([weight], lr=0.1, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for _ in range(3):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        schedule.step()
    assert_equal([weight.data], [start * (1 - 0.01) * (1 - 0.005) * (1 - 0.0025)])


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_rate_of_zero_at_the_end_of_a_schedule_changes_nothing(make):
    params = weights()
    optimizer = make(params, weight_decay=0.1)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    assert_equal(run(optimizer, 3), weights(), 0)


# Normalised decay and restarts.


def test_normalised_decay_has_the_values_of_the_formula():
    base = normalized_weight_decay(0.05, 128, 50_000, 100)
    assert base == pytest.approx(2.5298e-4, rel=1e-4)
    assert base == pytest.approx(0.05 * math.sqrt(128 / 5e6), rel=1e-15)
    assert normalized_weight_decay(0.05, 128, 50_000, 400) == pytest.approx(base / 2)
    assert normalized_weight_decay(0.05, 512, 50_000, 100) == pytest.approx(base * 2)
    with pytest.raises(ValueError, match="batch_size"):
        normalized_weight_decay(0.05, 0, 50_000, 100)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_normalised_decay_of_an_optimizer_is_that_of_the_function(make):
    decay = normalized_weight_decay(0.05, 100, 1000, 40)
    by_steps = make(weights(), weight_decay=0.05, normalize_decay=True, total_steps=400)
    assert_equal(run(by_steps, 20), run(make(weights(), weight_decay=decay), 20))
    with pytest.raises(ValueError, match="total_steps must be given"):
        run(make(weights(), weight_decay=0.05, normalize_decay=True), 1)


def test_restarts_fall_where_they_should_and_renormalise_the_decay():
    (weight,) = weights([(1,)])
    optimizer = AdamW([weight], weight_decay=0.1, normalize_decay=True)
    schedule = CosineWarmRestarts(optimizer, t_0=2, t_mult=2, steps_per_epoch=10)
    multipliers, decays = [], []
    for _ in range(140):
        multiplier = schedule.get_last_lr()[0] / 1e-3
        before = weight.item()
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        schedule.step()
        multipliers.append(multiplier)
        decays.append((1 - weight.item() / before) / multiplier)
    periods = [np.arange(n) / n for n in (20, 40, 80)]
    expected = (1 + np.cos(np.pi * np.concatenate(periods))) / 2
    np.testing.assert_allclose(multipliers, expected, atol=1e-12)
    assert np.flatnonzero(np.isclose(multipliers, 1)).tolist() == [0, 20, 60]
    lengths = np.repeat([20, 40, 80], [20, 40, 80])
    np.testing.assert_allclose(decays, 0.1 / np.sqrt(lengths), rtol=1e-9)


def test_restarts_leave_other_decays_alone():
    for options in ({}, {"normalize_decay": True, "total_steps": 7}):
        optimizer = SGDW(weights(), weight_decay=0.1, **options)
        CosineWarmRestarts(optimizer, t_0=2, renormalize_decay=False)
        assert optimizer.param_groups[0]["total_steps"] == options.get("total_steps")
    torch_optimizer = torch.optim.SGD(weights(), lr=0.1)
    CosineWarmRestarts(torch_optimizer, t_0=2)
    assert "total_steps" not in torch_optimizer.param_groups[0]
    with pytest.raises(ValueError, match="t_mult"):
        CosineWarmRestarts(torch_optimizer, t_0=2, t_mult=0)


# The contract of an optimizer.


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_resumed_run_equals_an_uninterrupted_one(make):
    def make_run():
        optimizer = make(weights(), weight_decay=0.01, normalize_decay=True)
        return optimizer, CosineWarmRestarts(optimizer, t_0=1, steps_per_epoch=8)

    first, schedule = make_run()
    run(first, 10, schedule=schedule)
    second, resumed = make_run()
    for p, q in zip(second.param_groups[0]["params"], first.param_groups[0]["params"]):
        p.data.copy_(q.data)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    resumed.load_state_dict(schedule.state_dict())
    found = run(second, 10, seed=2, schedule=resumed)
    assert_equal(found, run(first, 10, seed=2, schedule=schedule), 0)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_initial_rate_is_kept_by_a_state_dict(make):
    first = make(weights(), lr=0.1, weight_decay=0.01)
    run(first, 1, schedule=torch.optim.lr_scheduler.ExponentialLR(first, 0.5))
    second = make(weights(), lr=0.3)
    second.load_state_dict(first.state_dict())
    group = second.param_groups[0]
    assert (group["lr"], group["initial_lr"]) == (0.05, 0.1)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_groups_have_options_of_their_own(make):
    together, first, second = weights(), weights(), weights()
    groups = [
        {"params": together[:1], "lr": 0.5, "decay": "lr"},
        {"params": together[1:], "weight_decay": 0.0},
    ]
    run(make(groups, weight_decay=0.1), 3)
    run(make(first, weight_decay=0.1, lr=0.5, decay="lr"), 3)
    run(make(second, weight_decay=0.0), 3)
    assert_equal(together, [first[0], second[1]], 0)
    with pytest.raises(ValueError, match="decay"):
        make([{"params": weights(), "decay": "both"}])


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_types_of_parameters_may_be_mixed(make, dtype):
    params = weights(dtype=dtype) + weights(dtype=torch.float64)
    exact = run(make(weights() + weights(), lr=0.01, weight_decay=0.01), 5)
    found = run(make(params, lr=0.01, weight_decay=0.01), 5)
    assert [p.dtype for p in found] == [dtype, dtype, torch.float64, torch.float64]
    tolerance = {torch.bfloat16: 0.05, torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    assert_equal([p.double() for p in found], exact, tolerance)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_up_is_down_with_the_gradient_negated(make):
    found = []
    for sign, maximize in ((1, False), (-1, True)):
        (weight,) = weights([(3,)])
        optimizer = make([weight], weight_decay=0.1, maximize=maximize)
        for _ in range(3):
            weight.grad = sign * torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
            optimizer.step()
        found.append(weight.data)
    assert_equal(found[:1], found[1:], 0)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_closures_missing_gradients_and_pickles(make):
    used, unused = weights()
    optimizer = make([used, unused], weight_decay=0.1)

    def closure():
        optimizer.zero_grad()
        loss = used.square().sum()
        loss.backward()
        return loss

    before = unused.detach().clone()
    losses = [optimizer.step(closure).item() for _ in range(3)]
    assert losses[2] < losses[0]
    assert_equal([unused.data], [before], 0)
    restored = pickle.loads(pickle.dumps(optimizer))
    assert_equal(run(restored, 3), run(optimizer, 3), 0)


@pytest.mark.parametrize(
    "make, option, value",
    [(make, name, value) for make in OPTIMIZERS for name, value in (
        ("lr", 0.0), ("lr", float("nan")), ("weight_decay", -1.0), ("decay", "none"),
        ("normalize_decay", "yes"), ("total_steps", 0),
    )]
    + [(SGDW, "momentum", 1.0), (AdamW, "betas", (0.9, 1.0)), (AdamW, "betas", 0.9),
       (AdamW, "eps", -1.0), (AdamW, "amsgrad", None)],
)  # fmt: skip
def test_bad_options_are_named(make, option, value):
    with pytest.raises(ValueError, match=option):
        make(weights(), **{option: value})


def test_sparse_gradients_are_an_error():
    embedding = torch.nn.Parameter(torch.ones(3, 2))
    for make in OPTIMIZERS:
        embedding.grad = torch.ones(3, 2).to_sparse()
        with pytest.raises(RuntimeError, match="sparse"):
            make([embedding]).step()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_devices_agree(make):
    on_gpu = [torch.nn.Parameter(w.detach().cuda()) for w in weights()]
    found = run(make(on_gpu, weight_decay=0.1), 20)
    assert_equal([w.cpu() for w in found], run(make(weights(), weight_decay=0.1), 20), 1e-10)


# In the estimators, and the claim.


@pytest.mark.parametrize("name, make", [("sgdw", SGDW), ("decoupled_adamw", AdamW)])
def test_networks_train_by_name(name, make):
    assert get_registry("optimizer").resolve(name) is make
    X, y = load_digits(return_X_y=True)
    model = NeuralClassifier(
        optimizer=name, lr=0.02, weight_decay=1e-4, max_epochs=20, tol=0, random_state=0
    )
    assert model.fit(X[:1000] / 16, y[:1000]).score(X[1000:] / 16, y[1000:]) > 0.9
    decays = {g["weight_decay"]: g["params"][0].ndim for g in model.net_.optimizer_.param_groups}
    assert decays == {1e-4: 2, 0.0: 1}


def mean_weights(decay, weight_decay, seed):
    """500 copies of two weights that start at 1, under noise of scale 1 and 100."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([[1.0], [100.0]])
    weight = torch.nn.Parameter(torch.ones(2, 500))
    optimizer = AdamW([weight], lr=1e-4, weight_decay=weight_decay, decay=decay)
    for _ in range(3000):
        weight.grad = scale * torch.randn(2, 500, generator=generator)
        optimizer.step()
    return weight.detach().mean(1).numpy()


@pytest.mark.parametrize("seed", range(3))
def test_a_penalty_spares_weights_of_large_gradients_and_decay_does_not(seed):
    np.testing.assert_allclose(mean_weights("l2", 1.0, seed), [0.803, 0.997], atol=0.01)
    np.testing.assert_allclose(mean_weights("independent", 1e-4, seed), math.exp(-0.3), atol=3e-3)


def test_the_best_decay_and_the_best_penalty_do_as_well_on_a_small_network():
    """400 digits, a fifth of them mislabelled: nothing is lost by decoupling."""
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    X, order = (X / 16).astype(np.float32), rng.permutation(len(y))
    train, test = order[:400], order[400:]
    noisy = np.where(rng.random(400) < 0.2, rng.integers(0, 10, 400), y[train])

    def held_out_loss(decay, weight_decay):
        model = NeuralClassifier(
            optimizer="decoupled_adamw", optimizer_params={"decay": decay}, lr=4e-3,
            weight_decay=weight_decay, lr_schedule="cosine", batch_size=100, max_epochs=60,
            tol=0, random_state=0,
        )  # fmt: skip
        return log_loss(y[test], model.fit(X[train], noisy).predict_proba(X[test]))

    decoupled = min(held_out_loss("independent", decay) for decay in (2e-4, 5e-4, 1e-3))
    coupled = min(held_out_loss("l2", decay) for decay in (5e-4, 1e-3, 2e-3))
    assert abs(decoupled - coupled) < 0.02
