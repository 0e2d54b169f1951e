"""EF21 against gradient descent, closed forms, and processes that really talk to each other."""

import copy
import pickle
import time

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.preprocessing import scale
from torch.nn.parallel import DistributedDataParallel

from skpapers.neural_network import (
    ErrorFeedbackClassifier,
    ErrorFeedbackRegressor,
    NeuralClassifier,
    build_module,
)
from skpapers.neural_network._gloo_workers import train_in_processes
from skpapers.optim import (
    EF21,
    EF21State,
    Identity,
    NaturalCompression,
    RandK,
    SignNorm,
    TopK,
    ef21_hook,
    ef21_stepsize,
)
from skpapers.optim._compressed_exchange import pack, unpack
from skpapers.optim._error_feedback import compression_factor

COMPRESSORS = [Identity(), TopK(0.1), RandK(0.1), SignNorm(), NaturalCompression()]
name = lambda value: type(value).__name__  # noqa: E731


def generators(n):
    return [torch.Generator().manual_seed(i) for i in range(n)]


class Quadratics:
    """f_i(x) = mean of (A_i x - b_i)^2 / 2, of n workers."""

    def __init__(self, n_workers=4, n_values=6, seed=0, spread=1.0):
        rng = np.random.default_rng(seed)
        self.A = torch.tensor(rng.standard_normal((n_workers, 8, n_values)))
        self.A *= torch.tensor(np.exp(spread * rng.standard_normal((n_workers, 1, 1)) / 2))
        self.b = torch.tensor(rng.standard_normal((n_workers, 8)))

    def losses(self, x):
        return (self.A @ x - self.b).square().mean(1) / 2

    def gradients(self, x):
        return torch.einsum("nij,ni->nj", self.A, self.A @ x - self.b) / 8

    def smoothness(self):
        return torch.linalg.eigvalsh(self.A.mT @ self.A)[:, -1] / 8

    def total_smoothness(self):
        return float(torch.linalg.eigvalsh((self.A.mT @ self.A).mean(0))[-1] / 8)

    def run(self, n_rounds, lr, **options):
        """The iterates of EF21 from zero, gradients handed over as ``worker_grads``."""
        x = torch.nn.Parameter(torch.zeros(self.A.shape[2], dtype=torch.float64))
        optimizer = EF21([x], lr, n_workers=len(self.A), **options)
        iterates = [x.detach().clone()]
        for _ in range(n_rounds):
            x.worker_grads = self.gradients(x.detach())
            optimizer.step()
            iterates.append(x.detach().clone())
        return torch.stack(iterates)


def mlp(seed=0, n_in=5, dtype=torch.float64):
    make = lambda: torch.nn.Sequential(  # noqa: E731
        torch.nn.Linear(n_in, 7), torch.nn.Tanh(), torch.nn.Linear(7, 1)
    )
    return build_module(make, torch.Generator().manual_seed(seed), dtype)


def mlp_closures(module, n_workers, seed=0, n_in=5, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    X = torch.tensor(rng.standard_normal((n_workers, 20, n_in)), dtype=dtype)

    def closure_of(worker):
        def closure():
            loss = (module(X[worker])[:, 0] - X[worker, :, 0] * worker).square().mean()
            loss.backward()
            return loss

        return closure

    return [closure_of(worker) for worker in range(n_workers)]


# Compressors.


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=name)
@pytest.mark.parametrize("n_values", [1, 7, 100])
def test_compressors_contract(compressor, n_values):
    """E ||C(v) - v||^2 <= (1 - alpha) ||v||^2 on 1000 vectors, heavy tails included."""
    rng = np.random.default_rng(0)
    v = torch.tensor(rng.standard_t(2, (1000, n_values)))
    n_draws = 100 if compressor.random else 1
    error = torch.zeros(1000, dtype=torch.float64)
    for draw in range(n_draws):
        given = [torch.Generator().manual_seed(1000 * draw + i) for i in range(1000)]
        message = compressor.encode(v, given if compressor.random else None)
        error += (compressor.decode(message, n_values) - v).square().sum(1) / n_draws
    ratio = error / v.square().sum(1)
    bound = 1 - compressor.alpha(n_values)
    if compressor.random:  # of an expectation: on average over the vectors
        assert ratio.mean() <= bound * 1.02 + 1e-12
    else:
        assert (ratio <= bound + 1e-12).all()


def test_rand_k_error_is_its_constant_in_expectation():
    v = torch.arange(1.0, 11.0, dtype=torch.float64).expand(4000, -1)
    message = RandK(3).encode(v, generators(4000))
    error = (RandK(3).decode(message, 10) - v).square().sum(1).mean() / v[0].square().sum()
    assert float(error) == pytest.approx(0.7, rel=0.02)


def test_natural_compression_is_unbiased_but_for_its_scale():
    v = torch.tensor([3.0, -0.3, 1e-20, 4.0, 0.0]).expand(20000, -1)
    sent = NaturalCompression().decode(NaturalCompression().encode(v, generators(20000)), 5)
    torch.testing.assert_close(sent.mean(0) * 9 / 8, v[0], rtol=0.02, atol=0)
    magnitude = sent[:, :4].abs().double() * 9 / 8
    powers = magnitude.log2()
    torch.testing.assert_close(powers, powers.round(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("ratio, k", [(0.29, 29), (0.001, 1), (1.0, 100), (5, 5), (1000, 100)])
def test_top_k_keeps_exactly_k_with_ties(ratio, k):
    values, index = TopK(ratio).encode(torch.ones(3, 100))
    assert values.shape == index.shape == (3, k)
    assert all(len(set(row.tolist())) == k for row in index)
    assert torch.equal(TopK(ratio).decode((values, index), 100).sum(1), torch.full((3,), float(k)))


@pytest.mark.parametrize("order", ["random", "sorted", "reversed", "ties", "hidden"])
def test_top_k_of_a_long_vector_is_exact(order):
    """Whatever the sample says that the search starts from."""
    v = np.random.default_rng(0).standard_t(2, 50_000)
    v = {"sorted": np.sort(v), "reversed": np.sort(v)[::-1], "ties": np.rint(v)}.get(order, v)
    if order == "hidden":
        v[::64] = 1e6  # all that is sampled is large
    values, index = TopK(0.05).encode(torch.tensor(v.copy())[None])
    assert len(set(index[0].tolist())) == 2500
    sent = values[0].numpy()
    np.testing.assert_array_equal(v[index[0].numpy()], sent)
    np.testing.assert_array_equal(np.sort(np.abs(sent)), np.sort(np.abs(v))[-2500:])


def test_sign_norm_sends_a_bit_a_value():
    scales, octets = SignNorm().encode(torch.randn(2, 17, generator=generators(1)[0]))
    assert octets.dtype == torch.uint8 and octets.shape == (2, 3) and scales.shape == (2, 1)


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=name)
def test_sums_and_bytes_say_the_same_as_the_messages(compressor):
    v = torch.randn(3, 21, generator=generators(1)[0], dtype=torch.float64)
    message = compressor.encode(v, generators(3))
    weights = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    expected = weights @ compressor.decode(message, 21)
    total, rows = torch.ones(21, dtype=torch.float64), torch.ones_like(v)
    compressor.add_sum_(total, message, weights)
    compressor.add_(rows, message)
    torch.testing.assert_close(total - 1, expected)
    torch.testing.assert_close(rows - 1, compressor.decode(message, 21))
    rows = [[tuple(part[i : i + 1] for part in message)] for i in range(3)]
    (back,) = unpack([pack(row) for row in rows], rows[0])
    assert all(torch.equal(a, b) for a, b in zip(message, back))


# The optimizer.


def test_identity_is_distributed_gradient_descent():
    problem = Quadratics()
    x = torch.zeros(6, dtype=torch.float64)
    for iterate in problem.run(100, 0.05, compressor=Identity()):
        torch.testing.assert_close(iterate, x, rtol=0, atol=1e-12)
        x = x - 0.05 * problem.gradients(x).mean(0)


def test_one_worker_that_sends_all_is_sgd():
    ours, theirs = mlp(), mlp()
    optimizer = EF21(ours.parameters(), 0.1, compressor=TopK(1.0))
    peer = torch.optim.SGD(theirs.parameters(), 0.1)
    (closure,), (peer_closure,) = mlp_closures(ours, 1), mlp_closures(theirs, 1)
    for _ in range(100):
        optimizer.step(closure)
        peer.zero_grad()
        peer_closure()
        peer.step()
    for a, b in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_two_rounds_by_hand():
    """Gradients x - c_i, c = (4, 1), (0, 3); Top1 of a difference is added to each estimate."""
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    c = torch.tensor([[4.0, 1.0], [0.0, 3.0]], dtype=torch.float64)
    optimizer = EF21([x], 0.5, compressor=TopK(1), n_workers=2, g_init="zero")
    x.worker_grads = x.detach() - c
    optimizer.step()  # g = (-4, 0), (0, -3), mean (-2, -1.5)
    torch.testing.assert_close(x.data, torch.tensor([1.0, 0.75]).double())
    x.worker_grads = x.detach() - c  # (-3, -0.25), (1, -2.25); differences (1, -.25), (1, .75)
    optimizer.step()  # g = (-3, 0), (1, -3), mean (-1, -1.5)
    torch.testing.assert_close(x.data, torch.tensor([1.5, 1.5]).double())


@pytest.mark.parametrize("compressor", [TopK(2), RandK(2), SignNorm()], ids=name)
def test_weights_change_nothing_for_homogeneous_compressors(compressor):
    problem = Quadratics()
    plain = problem.run(200, 0.02, compressor=compressor)
    weighted = problem.run(200, 0.02, compressor=compressor, weights=[1, 2, 4, 8])
    torch.testing.assert_close(weighted, plain, rtol=0, atol=1e-10)
    by_smoothness = problem.run(
        200, 0.02, compressor=compressor, weights="smoothness", smoothness=problem.smoothness()
    )
    torch.testing.assert_close(by_smoothness, plain, rtol=0, atol=1e-10)


def test_weights_matter_for_natural_compression():
    problem = Quadratics()
    plain = problem.run(50, 0.02, compressor=NaturalCompression())
    weighted = problem.run(50, 0.02, compressor=NaturalCompression(), weights=[1, 2, 4, 7])
    assert float((weighted - plain).abs().max()) > 1e-4


def test_equal_weights_and_shares_are_the_default():
    problem = Quadratics()
    plain = problem.run(30, 0.02, compressor=TopK(1))
    same = problem.run(30, 0.02, compressor=TopK(1), weights=[3] * 4, shares=[2] * 4)
    torch.testing.assert_close(same, plain, rtol=0, atol=1e-13)


def test_shares_weigh_the_losses():
    problem, shares = Quadratics(), torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    x = problem.run(3000, 0.05, compressor=TopK(2), shares=shares)[-1]
    torch.testing.assert_close(
        shares @ problem.gradients(x), torch.zeros_like(x), atol=1e-9, rtol=0
    )


def test_closures_turns_and_given_gradients_are_the_same():
    results = []
    for way in ("closures", "turns", "given"):
        module = mlp()
        optimizer = EF21(module.parameters(), 0.05, compressor=TopK(0.2), n_workers=3)
        closures = mlp_closures(module, 3)
        for _ in range(20):
            if way == "closures":
                optimizer.step(closures)
            elif way == "turns":
                for closure in closures:
                    optimizer.step(closure)
            else:
                grads = []
                for closure in closures:
                    module.zero_grad()
                    closure()
                    grads.append([p.grad.clone() for p in module.parameters()])
                for p, rows in zip(module.parameters(), zip(*grads)):
                    p.worker_grads = torch.stack(rows)
                optimizer.step()
        results.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_global_granularity_compresses_all_parameters_as_one():
    A = torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64)
    first, second = (torch.nn.Parameter(torch.zeros(n, dtype=torch.float64)) for n in (1, 2))
    optimizer = EF21(
        [{"params": [first], "lr": 1.0}, {"params": [second], "lr": 10.0}],
        compressor=TopK(1),
        granularity="global",
        g_init="zero",
    )
    first.grad, second.grad = A[:1].clone(), A[1:].clone()
    optimizer.step()
    assert first.tolist() == [-3.0] and second.tolist() == [0.0, 0.0]
    optimizer.step()  # the estimate of the first is exact: the largest correction is the third
    assert first.tolist() == [-6.0] and second.tolist() == [0.0, -20.0]


def test_momentum_compresses_a_moving_average():
    problem = Quadratics()
    x, v = torch.zeros(6, dtype=torch.float64), None
    for iterate in problem.run(50, 0.05, compressor=Identity(), momentum=0.2):
        torch.testing.assert_close(iterate, x, rtol=0, atol=1e-12)
        gradient = problem.gradients(x)
        v = gradient if v is None else 0.8 * v + 0.2 * gradient
        x = x - 0.05 * v.mean(0)


def test_partial_participation_converges_and_sends_less():
    problem = Quadratics()
    x = torch.nn.Parameter(torch.zeros(6, dtype=torch.float64))
    optimizer = EF21([x], 0.02, compressor=TopK(2), n_workers=4, participation=0.5, refresh=None)
    for _ in range(4000):
        x.worker_grads = problem.gradients(x.detach())
        optimizer.step()
    assert float(problem.gradients(x.detach()).mean(0).norm()) < 1e-8
    first, others = 6 * 8, 3999 * 2 * (8 + 4)
    assert optimizer.bytes_sent == pytest.approx(first + others / 2, rel=0.03)
    assert optimizer.dense_bytes == 4000 * 6 * 8


def test_refresh_removes_rounding_drift():
    """In float32 the mean drifts off the mean of the estimates, until whole gradients are sent."""
    rng = np.random.default_rng(0)
    drift = {}
    for refresh in (None, 100):
        x = torch.nn.Parameter(torch.zeros(50))
        optimizer = EF21([x], 0.0, compressor=TopK(5), n_workers=5, refresh=refresh)
        for _ in range(1001):
            x.worker_grads = torch.tensor(rng.standard_normal((5, 50)) * 100, dtype=torch.float32)
            optimizer.step()
        state = optimizer.state[x]
        drift[refresh] = float((state["estimates"].mean(0) - state["mean"]).abs().max())
    assert drift[100] < drift[None] / 3


@pytest.mark.parametrize("compressor", [TopK(0.2), RandK(0.2), NaturalCompression()], ids=name)
def test_state_dict_and_pickle_resume(compressor):
    def run(n_rounds, module, state=None, through=lambda optimizer: optimizer):
        optimizer = EF21(module.parameters(), 0.05, compressor=compressor, n_workers=2)
        if state is not None:
            optimizer.load_state_dict(state)
        for _ in range(n_rounds):
            optimizer.step(mlp_closures(module, 2))
        return optimizer

    whole, parts = mlp(), mlp()
    expected = run(40, whole)
    state = copy.deepcopy(run(15, parts).state_dict())
    resumed = run(25, parts, state)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters()))
    assert resumed.bytes_sent == expected.bytes_sent
    again = pickle.loads(pickle.dumps(resumed))
    assert again.n_workers == 2 and again.bytes_sent == resumed.bytes_sent
    (group,) = again.param_groups
    torch.testing.assert_close(
        again.state[group["params"][0]]["mean"], resumed.state[next(parts.parameters())]["mean"]
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("compressor", COMPRESSORS, ids=name)
def test_dtypes(dtype, compressor):
    module = mlp(dtype=dtype)
    optimizer = EF21(module.parameters(), 0.01, compressor=compressor, n_workers=2)
    closures = mlp_closures(module, 2, dtype=dtype)
    losses = [float(optimizer.step(closures)) for _ in range(30)]
    assert losses[-1] < losses[0]
    for p in module.parameters():
        assert p.dtype == dtype and p.isfinite().all()


@pytest.mark.gpu
def test_cuda_equals_cpu():
    results = []
    for device in ("cpu", "cuda"):
        module = mlp().to(device)
        optimizer = EF21(module.parameters(), 0.05, compressor=TopK(0.2))
        X = torch.linspace(-1, 1, 100, dtype=torch.float64, device=device).view(20, 5)
        for _ in range(20):
            module.zero_grad()
            module(X).square().mean().backward()
            optimizer.step()
        results.append(torch.cat([p.detach().cpu().flatten() for p in module.parameters()]))
    torch.testing.assert_close(*results, rtol=0, atol=1e-10)


def test_frozen_parameters_stay_and_unused_ones_have_no_gradient():
    module = mlp()
    module[0].bias.requires_grad_(False)
    before = module[0].bias.clone()
    unused = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = EF21([*module.parameters(), unused], 0.05, n_workers=2)
    optimizer.step(mlp_closures(module, 2))
    assert torch.equal(before, module[0].bias) and torch.equal(unused.data, torch.ones(3))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lr": -1.0}, "'lr' parameter of EF21"),
        ({"compressor": "topk"}, "'compressor' parameter of EF21"),
        ({"n_workers": 0}, "'n_workers' parameter of EF21"),
        ({"granularity": "row"}, "'granularity' parameter of EF21"),
        ({"g_init": "one"}, "'g_init' parameter of EF21"),
        ({"participation": 0.0}, "'participation' parameter of EF21"),
        ({"momentum": 2.0}, "'momentum' parameter of EF21"),
        ({"refresh": 0}, "'refresh' parameter of EF21"),
        ({"weights": "none"}, "weights must be"),
        ({"weights": "smoothness"}, "needs smoothness"),
        ({"n_workers": 2, "weights": [1.0, -1.0]}, "weights must be 2 positive numbers"),
        ({"n_workers": 2, "shares": [1.0]}, "shares must be 2 positive numbers"),
        ({"n_workers": 2, "process_group": object()}, "process_group=None"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        EF21([torch.nn.Parameter(torch.zeros(1))], **{"lr": 0.1, **options})


def test_steps_that_lack_gradients_say_so():
    x = torch.nn.Parameter(torch.zeros(1))
    optimizer = EF21([x], 0.1, n_workers=2)
    with pytest.raises(ValueError, match="worker_grads"):
        optimizer.step()
    with pytest.raises(ValueError, match="2 closures, got 1"):
        optimizer.step([lambda: None])
    with pytest.raises(ValueError, match="ratio must be"):
        TopK(1.5)


# The step size, and the theorem.


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.5, 1.0])
def test_compression_factor_identities(alpha):
    theta = 1 - np.sqrt(1 - alpha)
    beta = (1 - alpha) / theta
    assert compression_factor(alpha) == pytest.approx(np.sqrt(beta / theta), rel=1e-12, abs=1e-12)
    assert compression_factor(alpha) == pytest.approx(np.sqrt(1 - alpha) / theta, abs=1e-12)


def test_step_sizes_of_unequal_workers():
    L, alpha = [1, 1, 1, 100], 0.1
    xi = compression_factor(alpha)
    assert ef21_stepsize(L, alpha) == pytest.approx(1 / (25.75 * (1 + xi)))
    quadratic = ef21_stepsize(L, alpha, mean="quadratic")
    assert quadratic == pytest.approx(1 / (25.75 + np.sqrt(10003 / 4) * xi))
    assert np.sqrt(10003 / 4) == pytest.approx(50.0075, abs=1e-4)
    assert ef21_stepsize(L, 1.0, total_smoothness=7.0) == pytest.approx(1 / 7)
    assert ef21_stepsize(L, TopK(2), n_values=20) == pytest.approx(ef21_stepsize(L, alpha))
    rare = ef21_stepsize(L, alpha, feature_share=0.25)
    assert rare == pytest.approx(1 / (25.75 * (1 + xi / 2)))
    for bad, message in (([1, -1], "smoothness"), ([[1]], "smoothness"), ("ab", "smoothness")):
        with pytest.raises(ValueError, match=message):
            ef21_stepsize(bad, alpha)
    with pytest.raises(ValueError, match="n_values"):
        ef21_stepsize(L, TopK(2))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weights", ["uniform", "smoothness"])
def test_the_bound_of_the_theorem_holds(seed, weights):
    """mean over t < T of |grad f(x_t)|^2 <= 2 (f(x_0) - f*) / (step * T), g_i exact at first."""
    problem = Quadratics(10, 8, seed)
    step = ef21_stepsize(
        problem.smoothness(), TopK(1), n_values=8, total_smoothness=problem.total_smoothness()
    )
    options = {"compressor": TopK(1), "weights": weights, "smoothness": problem.smoothness()}
    iterates = problem.run(1000, step, **options)
    norms = torch.stack([problem.gradients(x).mean(0).square().sum() for x in iterates[:-1]])
    A, b = problem.A.flatten(0, 1), problem.b.flatten()
    best = problem.losses(torch.linalg.lstsq(A, b[:, None]).solution[:, 0]).mean()
    start = problem.losses(iterates[0]).mean() - best
    for n_rounds in (10, 100, 1000):
        assert norms[:n_rounds].mean() <= 2 * start / (step * n_rounds)


# The claim.


class Heterogeneous:
    """The paper's kind of problem: least squares with a nonconvex penalty, unequal workers."""

    def __init__(self, sigma, seed, n_workers=50, n_values=20):
        rng = np.random.default_rng(seed)
        scales = np.exp(sigma * rng.standard_normal(n_workers)) ** 0.5
        A = scales[:, None, None] * rng.standard_normal((n_workers, 5, n_values))
        solution = rng.standard_normal(n_values)
        b = A @ solution + 0.5 * rng.standard_normal((n_workers, 5))
        self.A, self.b = torch.tensor(A), torch.tensor(b)
        self.smoothness = torch.linalg.eigvalsh(self.A.mT @ self.A)[:, -1] / 5 + 0.02
        total = torch.linalg.eigvalsh((self.A.mT @ self.A).mean(0) / 5)[-1]
        self.total = float(total + 0.02)

    def gradients(self, x):
        data = (self.A.mT @ (self.A @ x - self.b)[:, :, None])[:, :, 0] / 5
        return data + 0.02 * x / (1 + x**2) ** 2

    def step(self, mean):
        return ef21_stepsize(
            self.smoothness, TopK(1), n_values=20, total_smoothness=self.total, mean=mean
        )

    def rounds(self, mean, at_most=4000):
        """Rounds until the squared norm of the gradient has fallen to 1e-4 of the first."""
        x = torch.nn.Parameter(torch.zeros(20, dtype=torch.float64))
        optimizer = EF21([x], self.step(mean), compressor=TopK(1), n_workers=50)
        goal = 1e-4 * self.gradients(x.detach()).mean(0).square().sum()
        for n_rounds in range(at_most):
            x.worker_grads = self.gradients(x.detach())
            if x.worker_grads.mean(0).square().sum() <= goal:
                return n_rounds
            optimizer.step()
        raise AssertionError("no convergence")


def test_the_new_step_needs_fewer_rounds_where_workers_differ():
    problem = Heterogeneous(sigma=1.0, seed=0)
    assert problem.rounds("arithmetic") <= 0.75 * problem.rounds("quadratic")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_new_step_over_seeds_and_spreads(seed):
    unequal, equal = Heterogeneous(1.0, seed), Heterogeneous(0.0, seed)
    assert unequal.rounds("arithmetic") <= 0.75 * unequal.rounds("quadratic")
    assert equal.rounds("arithmetic") == pytest.approx(equal.rounds("quadratic"), rel=0.05)


def test_without_feedback_compression_does_not_converge():
    problem = Heterogeneous(sigma=0.0, seed=0)
    assert problem.rounds("arithmetic") < 2000
    x = torch.zeros(20, dtype=torch.float64)
    start, step = problem.gradients(x).mean(0).square().sum(), problem.step("arithmetic")
    for _ in range(10_000):
        gradients = problem.gradients(x)
        x = x - step * TopK(1).decode(TopK(1).encode(gradients), 20).mean(0)
    assert problem.gradients(x).mean(0).square().sum() > 5e-4 * start


# Estimators and the bridge.

X, y = load_breast_cancer(return_X_y=True)
X = scale(X)


def test_a_network_trains_by_name():
    features, target = load_iris(return_X_y=True)
    network = NeuralClassifier(
        (16,),
        optimizer="ef21",
        optimizer_params={"compressor": TopK(0.1)},
        lr=0.1,
        max_epochs=100,
        tol=0,
        random_state=0,
    )
    assert network.fit(scale(features), target).score(scale(features), target) > 0.9
    restored = pickle.loads(pickle.dumps(network))
    assert restored.partial_fit(scale(features), target).score(scale(features), target) > 0.9


def test_sending_a_tenth_reaches_the_accuracy_of_sending_all():
    """Bytes a round: Top1 of 60 weights and of 2 biases are 2 (8 + 4), instead of 62 * 8."""
    n_epochs = 400
    dense = ErrorFeedbackClassifier(compressor="identity", split="sorted", max_epochs=20).fit(X, y)
    sparse = ErrorFeedbackClassifier(split="sorted", max_epochs=n_epochs).fit(X, y)
    per_round = (3 + 1) * (8 + 4)
    assert sparse.bytes_sent_ == 62 * 8 + (n_epochs - 1) * per_round
    assert sparse.compression_ratio_ == sparse.bytes_sent_ / (n_epochs * 62 * 8) < 0.1
    assert dense.compression_ratio_ == 1.0
    assert sparse.score(X, y) >= dense.score(X, y) - 0.005
    assert (np.diff(sparse.loss_curve_) < 0).all()


def test_identity_classifier_is_gradient_descent_whatever_the_workers():
    """Workers of unequal size, given as labels, minimise the mean loss over all rows."""
    label = np.where(np.arange(len(y)) < 500, "large", "small")
    params = {"compressor": "identity", "lr": 0.1, "max_epochs": 50}
    two = ErrorFeedbackClassifier(**params).fit(X, y, worker=label)
    one = ErrorFeedbackClassifier(n_workers=1, **params).fit(X, y)
    assert two.n_workers_ == 2
    np.testing.assert_allclose(two.coef_, one.coef_, atol=1e-12)
    np.testing.assert_allclose(two.loss_curve_, one.loss_curve_, atol=1e-12)


@pytest.mark.parametrize("compressor", ["topk", "randk", "sign_norm", "natural", "identity"])
def test_regressor_descends_to_least_squares(compressor):
    features, target = load_diabetes(return_X_y=True)
    features = scale(features)[:, [0, 1, 2, 3, 7]]
    model = ErrorFeedbackRegressor(
        compressor=compressor, ratio=0.4, max_epochs=500, random_state=0, split="random"
    )
    model.fit(features, target)
    design = np.column_stack([features, np.ones(len(target))])
    best = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    assert np.abs(model.predict(features) - best).max() < 0.03 * target.std()


def test_smoothness_bounds_the_curvature_of_each_worker():
    model = ErrorFeedbackRegressor(n_workers=3, max_epochs=2).fit(X, y)
    design = np.column_stack([X, np.ones(len(y))])
    for constant, rows in zip(model.smoothness_, np.array_split(np.arange(len(y)), 3)):
        hessian = 2 * design[rows].T @ design[rows] / len(y) * 3
        assert constant == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-10)


def test_mini_batches_and_networks_train():
    model = ErrorFeedbackClassifier(
        (16,), activation="tanh", ratio=0.2, batch_size=32, max_epochs=60, random_state=0
    ).fit(X, y)
    assert model.score(X, y) > 0.95
    assert model.smoothness_ is None and model.step_size_ == 0.05
    with pytest.raises(AttributeError, match="linear model"):
        _ = model.coef_
    with pytest.raises(ValueError, match="weights='smoothness'"):
        ErrorFeedbackClassifier((4,), weights="smoothness").fit(X, y)


def test_partial_fit_continues_the_estimates():
    whole = ErrorFeedbackClassifier(max_epochs=10, random_state=0).fit(X, y)
    parts = ErrorFeedbackClassifier(max_epochs=10, random_state=0)
    for _ in range(10):
        parts.partial_fit(X, y, classes=[0, 1])
    np.testing.assert_array_equal(whole.coef_, parts.coef_)
    assert whole.bytes_sent_ == parts.bytes_sent_
    with pytest.raises(ValueError, match="4 workers"):
        parts.partial_fit(X[:3], y[:3])


# Real processes.


N_ROUNDS = 300


def hook_worker(rank, bucket_mb, restart):
    """Train a network under DDP with the hook; returns parameters and bytes."""
    module = mlp(n_in=10)
    state = EF21State(module.parameters(), TopK(0.1), g_init="zero")
    for part in (N_ROUNDS // 2,) * 2 if restart else (N_ROUNDS,):
        saved = copy.deepcopy((module.state_dict(), state.state_dict()))
        module = mlp(seed=1, n_in=10)
        module.load_state_dict(saved[0])
        state = EF21State(module.parameters(), TopK(0.1), g_init="zero")
        state.load_state_dict(saved[1])
        wrapped = DistributedDataParallel(module, bucket_cap_mb=bucket_mb)
        wrapped.register_comm_hook(state, ef21_hook)
        optimizer = torch.optim.SGD(module.parameters(), 0.05)
        closure = mlp_closures(wrapped, 3, n_in=10)[rank]
        for _ in range(part):
            optimizer.zero_grad()
            closure()
            optimizer.step()
    return flat(module), state.bytes_sent, state.dense_bytes


def optimizer_worker(rank, compressor):
    """Train a network with the optimizer, which finds the group by itself."""
    return simulated(None, compressor, rank=rank)


def simulated(n_workers, compressor, g_init="gradient", refresh=60, n_rounds=100, rank=0):
    module = mlp(n_in=10)
    options = {"compressor": compressor, "n_workers": n_workers, "g_init": g_init}
    optimizer = EF21(module.parameters(), 0.05, **options, refresh=refresh)
    closures = mlp_closures(module, 3, n_in=10)
    for _ in range(n_rounds):
        optimizer.step(closures if n_workers else closures[rank])
    return flat(module), optimizer.bytes_sent, optimizer.dense_bytes


def flat(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def worker(rank):
    tiny = hook_worker(rank, bucket_mb=1e-5, restart=False)
    whole = hook_worker(rank, bucket_mb=25, restart=True)
    others = [optimizer_worker(rank, c) for c in (RandK(0.1), NaturalCompression())]
    return [tiny, whole, *others]


@pytest.mark.slow
def test_three_processes_equal_the_simulation():
    """The hook with tiny and with default buckets, saved and restored; and the optimizer.

    Bytes: k = 7, 1, 1 and 1 of the 70 + 7 + 7 + 1 values, 8 each and 4 for their places.
    """
    results = train_in_processes(worker, 3, (), timeout=120)
    hooked = simulated(3, TopK(0.1), g_init="zero", refresh=None, n_rounds=N_ROUNDS)
    assert hooked[1:] == (N_ROUNDS * 10 * (8 + 4), N_ROUNDS * 85 * 8)
    expected = [hooked, hooked, simulated(3, RandK(0.1)), simulated(3, NaturalCompression())]
    for per_rank in results:
        for got, want, first in zip(per_rank, expected, results[0]):
            assert torch.equal(got[0], first[0])
            torch.testing.assert_close(got[0], want[0], rtol=0, atol=1e-12)
            assert got[1:] == want[1:]


@pytest.mark.slow
def test_four_processes_give_the_loss_curve_of_the_simulation():
    params = {"hidden_layer_sizes": (8,), "ratio": 0.1, "batch_size": 64, "split": "sorted"}
    params |= {"max_epochs": 30, "random_state": 0}
    simulation = ErrorFeedbackClassifier(**params).fit(X, y)
    processes = ErrorFeedbackClassifier(backend="gloo", timeout=120, **params).fit(X, y)
    np.testing.assert_allclose(processes.loss_curve_, simulation.loss_curve_, rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        processes.predict_proba(X), simulation.predict_proba(X), rtol=0, atol=1e-6
    )
    assert processes.bytes_sent_ == simulation.bytes_sent_
    assert processes.compression_ratio_ < 0.2
    assert pickle.loads(pickle.dumps(processes)).score(X, y) == simulation.score(X, y)
    for model in (processes, simulation):  # the estimates came back from the processes
        model.set_params(backend="simulated").partial_fit(X, y)
    np.testing.assert_allclose(processes.loss_curve_, simulation.loss_curve_, rtol=0, atol=1e-6)


def failing_worker(rank):
    if rank == 1:
        raise RuntimeError("worker 1 has no rows")
    time.sleep(300)  # to be ended from outside


@pytest.mark.slow
def test_a_worker_that_fails_ends_all():
    before = set(torch.multiprocessing.active_children())  # other tests may have left some
    with pytest.raises(torch.multiprocessing.ProcessRaisedException, match="has no rows"):
        train_in_processes(failing_worker, 2, (), timeout=60)
    assert set(torch.multiprocessing.active_children()) <= before
    assert not torch.distributed.is_initialized()


def test_processes_that_take_too_long_are_ended():
    before = set(torch.multiprocessing.active_children())
    with pytest.raises(TimeoutError, match="2 workers"):
        train_in_processes(failing_worker, 2, (), timeout=0.01)
    assert set(torch.multiprocessing.active_children()) <= before
