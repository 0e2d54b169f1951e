"""FAdam: its lines in NumPy, Adam's second moment, clipping, invariance, the Fisher."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skpapers.neural_network import NeuralClassifier, build_module, get_registry
from skpapers.optim import FAdam, diagonal_empirical_fisher

SHAPES = ((3, 4), (5,), (1,))


def weights(dtype=torch.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [torch.nn.Parameter(torch.tensor(rng.normal(size=s), dtype=dtype)) for s in SHAPES]


def run(optimizer, n_steps, seed=1, scale=1.0):
    """Steps along random gradients that depend on the weights."""
    rng = np.random.default_rng(seed)
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for _ in range(n_steps):
        for p in params:
            noise = torch.as_tensor(rng.normal(size=p.shape), dtype=p.dtype, device=p.device)
            p.grad = scale * (noise + 0.3 * p.detach())
        optimizer.step()
    return [p.detach().clone() for p in params]


def assert_equal(found, expected, tolerance=1e-12):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def rms(x):
    return np.sqrt(np.mean(x**2))


class ByHand:
    """One tensor, in NumPy, line by line of the algorithm."""

    def __init__(self, theta, eps_mode, clip_mode, p, clip, lr=0.01, weight_decay=0.1):
        self.theta, self.lr, self.weight_decay = theta, lr, weight_decay
        self.eps_mode, self.clip_mode, self.p, self.limit = eps_mode, clip_mode, p, clip
        self.f, self.m, self.t = np.ones_like(theta), np.zeros_like(theta), 0

    def clip(self, x):
        if self.clip_mode == "reference":
            return x * self.limit / max(1, rms(x))
        return x / max(1, rms(x) / self.limit)

    def step(self, g, eps=1e-4):
        self.t += 1
        rate = 0.999 * (1 - 0.999 ** (self.t - 1)) / (1 - 0.999**self.t)
        self.f = rate * self.f + (1 - rate) * g**2
        eps = {
            "relative": min(eps, 0.01 * rms(g)) ** (2 * self.p),
            "min": eps * min(1, rms(g)),
            "max": eps * max(1, rms(g)),
        }[self.eps_mode]
        metric = self.f**self.p + eps
        self.m = 0.9 * self.m + 0.1 * self.clip(g / metric)
        decay = self.weight_decay * self.clip(self.theta / metric)
        self.theta = self.theta - self.lr * (self.m + decay)


@pytest.mark.parametrize("eps_mode", ["relative", "min", "max"])
@pytest.mark.parametrize("clip_mode, clip", [("cap", 1.0), ("cap", 0.3), ("reference", 0.3)])
@pytest.mark.parametrize("p", [0.25, 0.5, 1.0])
def test_steps_follow_the_ten_lines_in_numpy(p, clip_mode, clip, eps_mode):
    modes = {"eps_mode": eps_mode, "clip_mode": clip_mode, "p": p, "clip": clip}
    params = weights()
    by_hand = [ByHand(w.detach().numpy().copy(), **modes) for w in params]
    optimizer = FAdam(params, lr=0.01, eps=1e-4, **modes)
    rng = np.random.default_rng(1)
    for _ in range(100):
        for param, expected in zip(params, by_hand):
            g = rng.normal(size=param.shape) * 3
            param.grad = torch.tensor(g)
            expected.step(g)
        optimizer.step()
    for param, expected in zip(params, by_hand):
        np.testing.assert_allclose(param.detach().numpy(), expected.theta, rtol=0, atol=1e-12)


def test_the_fisher_equals_the_corrected_second_moment_of_adam():
    (weight, *_) = weights()
    optimizer = FAdam([weight], betas=(0.9, 0.99))
    rng, moment = np.random.default_rng(0), 0.0
    for t in range(1, 201):
        g = rng.normal(size=weight.shape)
        moment = 0.99 * moment + 0.01 * g**2
        weight.grad = torch.tensor(g)
        optimizer.step()
        found = optimizer.state[weight]["fim"].numpy()
        np.testing.assert_allclose(found, moment / (1 - 0.99**t), rtol=1e-12)


def test_the_first_step_goes_a_tenth_of_the_rate_against_the_signs():
    weight = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    weight.grad = torch.tensor([3.0, -3.0, 3.0, 3.0], dtype=torch.float64)
    FAdam([weight], lr=0.5, weight_decay=0.0, eps=0.0).step()
    expected = -0.5 * 0.1 * weight.grad.sign()
    torch.testing.assert_close(weight.data, expected, rtol=1e-12, atol=0)


def test_the_scale_of_the_loss_does_not_matter():
    options = {"lr": 0.01, "weight_decay": 0.0, "eps": 0.0}
    base = run(FAdam(weights(), **options), 50)
    assert_equal(run(FAdam(weights(), **options), 50, scale=1000.0), base, 1e-10)


def test_the_inverse_fisher_shortens_the_steps_of_steep_losses():
    options = {"lr": 0.01, "weight_decay": 0.0, "eps": 0.0, "p": 1.0, "clip": 1e6}
    lengths = {}
    for scale in (1.0, 1000.0):
        moved = run(FAdam(weights(), **options), 1, scale=scale)
        lengths[scale] = float((moved[0] - weights()[0]).detach().norm())
    assert lengths[1000.0] == pytest.approx(lengths[1.0] / 1000, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("p", [0.5, 1.0])
def test_no_tensor_moves_further_than_the_clip_allows(p, scale):
    """By convexity: the momentum averages natural gradients that are clipped tensor by tensor."""
    lr, weight_decay, clip = 0.1, 0.5, 0.7
    params = weights()
    optimizer = FAdam(params, lr=lr, weight_decay=weight_decay, clip=clip, p=p)
    longest = np.zeros(len(params))
    for seed in range(60):
        before = [param.detach().clone() for param in params]
        run(optimizer, 1, seed, scale * 10.0 ** (seed % 5))
        moved = [rms((a - b).detach().numpy()) for a, b in zip(params, before)]
        longest = np.maximum(longest, moved)
        momenta = [optimizer.state[param]["momentum"] for param in params]
        assert max(rms(m.numpy()) for m in momenta) <= clip * (1 + 1e-12)
    assert longest.max() <= lr * clip * (1 + weight_decay) * (1 + 1e-12)


def test_one_wild_gradient_moves_adam_three_times_further():
    """Adam averages gradients: one that is 1000 times too large outweighs its own square root."""
    longest = {}
    for make in (FAdam, torch.optim.Adam):
        weight = torch.nn.Parameter(torch.zeros(100))
        optimizer = make([weight], lr=1.0, weight_decay=0.0)
        rng, longest[make] = np.random.default_rng(0), 0.0
        for step in range(1520):
            g = rng.normal(size=100).astype(np.float32)
            weight.grad = torch.tensor(g * (1000 if step == 1500 else 1))
            before = weight.detach().clone()
            optimizer.step()
            if step >= 1500:
                longest[make] = max(longest[make], rms((weight.detach() - before).numpy()))
    assert longest[torch.optim.Adam] > 2
    assert longest[FAdam] < 0.5


@pytest.mark.parametrize("eps_mode", ["relative", "min", "max"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_zero_are_finite_steps(dtype, eps_mode):
    weight = torch.nn.Parameter(torch.tensor([2.0, -1.0, 0.5], dtype=dtype))
    optimizer = FAdam([weight], lr=0.1, eps=0.0, eps_mode=eps_mode)
    for g in ([0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1e-20, 1e15, 0.0]):
        weight.grad = torch.tensor(g, dtype=dtype)
        optimizer.step()
        assert torch.isfinite(weight).all()
    assert weight[2] < 0.5  # it decays


# The contract of an optimizer.


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_resumed_run_equals_an_uninterrupted_one(dtype):
    first = FAdam(weights(dtype), lr=0.01)
    run(first, 10)
    second = FAdam(weights(dtype), lr=0.5)
    for p, q in zip(second.param_groups[0]["params"], first.param_groups[0]["params"]):
        p.data.copy_(q.data)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    restored = pickle.loads(pickle.dumps(first))
    expected = run(first, 10, seed=2)
    assert_equal(run(second, 10, seed=2), expected, 0)
    assert_equal(run(restored, 10, seed=2), expected, 0)


def test_a_fresh_state_can_be_loaded():
    optimizer = FAdam(weights())
    optimizer.load_state_dict(FAdam(weights(), lr=0.5).state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_groups_have_options_of_their_own():
    together, first, second = weights(), weights(), weights()
    groups = [{"params": together[:1], "lr": 0.5}, {"params": together[1:], "weight_decay": 0.0}]
    run(FAdam(groups), 3)
    run(FAdam(first, lr=0.5), 3)
    run(FAdam(second, weight_decay=0.0), 3)
    assert_equal(together, [first[0], *second[1:]], 0)


def test_parameters_may_start_late():
    params = weights()
    optimizer = FAdam(params, lr=0.1)
    params[0].grad = torch.ones_like(params[0])
    optimizer.step()
    assert [optimizer.state[p].get("step") for p in params] == [1, None, None]
    alone = weights()[1:]
    run(FAdam(alone, lr=0.1), 4)
    for p in params:
        p.grad = None
    run(FAdam(params[1:], lr=0.1), 4)
    assert_equal(params[1:], alone, 0)
    mixed = weights()
    optimizer = FAdam(mixed, lr=0.1)
    mixed[0].grad = torch.ones_like(mixed[0])
    optimizer.step()
    run(optimizer, 4)
    assert [optimizer.state[p]["step"] for p in mixed] == [5, 4, 4]


@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 0.05), (torch.float32, 1e-5)])
def test_types_of_parameters_may_be_mixed(dtype, tolerance):
    params = weights(dtype) + weights()
    exact = run(FAdam(weights() + weights(), lr=0.01), 5)
    optimizer = FAdam(params, lr=0.01)
    found = run(optimizer, 5)
    assert [p.dtype for p in found] == [dtype] * 3 + [torch.float64] * 3
    assert optimizer.state[params[0]]["fim"].dtype == torch.float32
    assert optimizer.state[params[3]]["fim"].dtype == torch.float64
    assert_equal([p.double() for p in found], exact, tolerance)


def test_buffers_may_be_short():
    params = weights(torch.float32)
    optimizer = FAdam(params, lr=0.01, momentum_dtype=torch.bfloat16, fim_dtype=torch.float64)
    exact = run(FAdam(weights(), lr=0.01), 20)
    assert_equal([p.double() for p in run(optimizer, 20)], exact, 5e-3)
    assert optimizer.state[params[0]]["momentum"].dtype == torch.bfloat16
    assert optimizer.state[params[0]]["fim"].dtype == torch.float64


def test_tiny_half_precision_gradients_do_not_underflow():
    weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.float16))
    weight.grad = torch.tensor([1e-5, -1e-5], dtype=torch.float16)  # squares below float16's
    FAdam([weight], lr=1.0, weight_decay=0.0).step()
    expected = torch.tensor([-0.1, 0.1], dtype=torch.float16)
    torch.testing.assert_close(weight.data, expected, rtol=5e-3, atol=0)


def test_large_tensors_and_lists_are_split_without_a_trace():
    sizes = (300_000, 10, 200_000, 5, 100_000)
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(n, generator=generator) for n in sizes]
    together = [torch.nn.Parameter(v.clone()) for v in values]
    run(FAdam(together), 2)
    for i, value in enumerate(values):
        alone = torch.nn.Parameter(value.clone())
        alone.grad = None
        optimizer = FAdam([alone])
        rng = np.random.default_rng(1)
        for _ in range(2):
            noises = [rng.normal(size=n) for n in sizes]
            alone.grad = torch.as_tensor(noises[i], dtype=torch.float32) + 0.3 * alone.detach()
            optimizer.step()
        torch.testing.assert_close(together[i].data, alone.data)


def test_up_is_down_with_the_gradient_negated():
    up, down = weights(), weights()
    for params, sign in ((up, 1), (down, -1)):
        for p in params:
            p.grad = sign * torch.ones_like(p)
        FAdam(params, maximize=sign == 1).step()
    assert_equal(up, down, 0)


def test_a_closure_is_evaluated_and_returned():
    (weight, *_) = weights()
    optimizer = FAdam([weight], lr=0.01)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(20)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "option, value",
    [
        ("lr", 0.0), ("betas", (0.9, 1.0)), ("betas", (0.9,)), ("weight_decay", -1.0),
        ("eps", -1e-8), ("clip", 0.0), ("p", 0.0), ("clip_mode", "norm"), ("eps_mode", "none"),
        ("momentum_dtype", "float32"), ("fim_dtype", 32), ("maximize", "yes"),
    ],
)  # fmt: skip
def test_bad_options_are_named(option, value):
    with pytest.raises(ValueError, match=option):
        FAdam(weights(), **{option: value})


def test_sparse_and_complex_are_errors():
    embedding = torch.nn.Parameter(torch.ones(3, 2))
    embedding.grad = torch.ones(3, 2).to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        FAdam([embedding]).step()
    with pytest.raises(TypeError, match="real"):
        FAdam([torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_devices_agree():
    on_gpu = [torch.nn.Parameter(w.detach().cuda()) for w in weights()]
    found = run(FAdam(on_gpu), 20)
    assert_equal([w.cpu() for w in found], run(FAdam(weights()), 20), 1e-10)


# The diagonal of the Fisher information.


def linear(n_features, n_outputs):
    generator = torch.Generator().manual_seed(0)
    return build_module(lambda: torch.nn.Linear(n_features, n_outputs), generator, torch.float64)


@pytest.mark.parametrize("batch_size", [7, 100])
def test_the_fisher_of_logistic_regression_is_closed(batch_size):
    rng = np.random.default_rng(0)
    X, y = torch.tensor(rng.normal(size=(50, 4))), torch.tensor(rng.integers(0, 2, (50, 1))) * 1.0
    module, loss = linear(4, 1), F.binary_cross_entropy_with_logits
    found = diagonal_empirical_fisher(module, X, y.double(), loss, batch_size)
    residual = (torch.sigmoid(module(X)) - y).detach().square()
    assert_equal([found["weight"]], [(X.square() * residual).mean(0, keepdim=True)])
    assert_equal([found["bias"]], [residual.mean(0)])
    assert all(p.grad is None for p in module.parameters())


def test_the_empirical_fisher_equals_a_loop_over_rows():
    rng = np.random.default_rng(0)
    X, y = torch.tensor(rng.normal(size=(20, 3))), torch.tensor(rng.integers(0, 5, 20))
    module = torch.nn.Sequential(linear(3, 6), torch.nn.Tanh(), linear(6, 5))
    expected = {name: 0.0 for name, _ in module.named_parameters()}
    for x, target in zip(X, y):
        module.zero_grad()
        F.cross_entropy(module(x[None]), target[None]).backward()
        for name, p in module.named_parameters():
            expected[name] = expected[name] + p.grad.square() / 20
    found = diagonal_empirical_fisher(module, X, y, F.cross_entropy)
    assert found.keys() == expected.keys()
    assert_equal(found.values(), expected.values())


def test_with_targets_of_the_model_it_is_the_true_fisher():
    rng = np.random.default_rng(0)
    module, n = linear(3, 4), 100_000
    X = torch.tensor(rng.normal(size=(n, 3)))
    p = torch.softmax(module(X).detach(), 1)
    y = (p.cumsum(1) < torch.tensor(rng.random((n, 1)))).sum(1)
    found = diagonal_empirical_fisher(module, X, y, F.cross_entropy, 5000)
    variance = p * (1 - p)  # of the indicator of each class
    torch.testing.assert_close(found["weight"], variance.T @ X.square() / n, rtol=0.05, atol=0)
    torch.testing.assert_close(found["bias"], variance.mean(0), rtol=0.05, atol=0)


def test_squares_of_batch_means_underestimate_the_fisher_by_the_batch_size():
    """At the true parameters the mean gradient is 0, so that only its variance is left."""
    rng = np.random.default_rng(0)
    module, n, size = linear(3, 1), 20_000, 50
    X = torch.tensor(rng.normal(size=(n, 3)))
    y = (torch.tensor(rng.random((n, 1))) < torch.sigmoid(module(X))).double()
    fisher = diagonal_empirical_fisher(module, X, y, F.binary_cross_entropy_with_logits)["weight"]
    residual = (torch.sigmoid(module(X)) - y).detach()
    means = (X * residual).reshape(-1, size, 3).mean(1)
    ratio = fisher / means.square().mean(0)
    torch.testing.assert_close(ratio, torch.full_like(ratio, size), rtol=0.2, atol=0)


def test_rows_of_inputs_and_targets_must_match():
    module = linear(3, 1)
    for n, m in ((0, 0), (3, 2)):
        with pytest.raises(ValueError, match="as many rows"):
            diagonal_empirical_fisher(module, torch.ones(n, 3), torch.ones(m, 1), F.mse_loss)
    with pytest.raises(ValueError, match="batch_size"):
        diagonal_empirical_fisher(module, torch.ones(2, 3), torch.ones(2, 1), F.mse_loss, 0)


# In the estimators, and the claim.


def test_it_is_an_optimizer_by_name():
    assert get_registry("optimizer").resolve("fadam") is FAdam


def test_networks_train_as_well_as_with_adam():
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    for seed in range(3):
        X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=seed)
        losses, scores = {}, {}
        for name in ("adam", "fadam"):
            network = NeuralClassifier(optimizer=name, max_epochs=30, tol=0, random_state=seed)
            scores[name] = network.fit(X_train, y_train).score(X_test, y_test)
            losses[name] = network.loss_curve_[-1]
        assert losses["fadam"] <= 1.25 * losses["adam"]
        assert scores["fadam"] >= scores["adam"] - 0.01
