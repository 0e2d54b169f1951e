"""The step of FAdam against Adam's and another implementation's, and digits."""

import importlib.util

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from benchmarks._harness import Case
from skpapers.neural_network import NeuralClassifier
from skpapers.optim import FAdam

N_TENSORS, SHAPE, N_STEPS = 200, (250, 200), 10


def cases():
    yield step_case("no decay", {"weight_decay": 0.0}, torch.optim.Adam, {"foreach": True})
    yield step_case("decay 0.1", {}, torch.optim.Adam, {"foreach": True})
    if importlib.util.find_spec("pytorch_optimizer"):
        from pytorch_optimizer import FAdam as Peer

        yield step_case("decay 0.1", {}, Peer, {"foreach": False})
        yield step_case("decay 0.1", {}, Peer, {"foreach": True})
    X_train, X_test, y_train, y_test = digits()
    yield Case(
        name="FAdam",
        size="digits, 64-100-10 network, 50 epochs",
        peer_name="NeuralClassifier(optimizer='adam')",
        ours=lambda: fit("fadam", X_train, y_train),
        peer=lambda: fit("adam", X_train, y_train),
        accuracy=lambda network: network.score(X_test, y_test),
        metric="test accuracy",
        repeats=5,
        note="Adam is torch's fused kernel",
    )


def step_case(name, options, peer, peer_options):
    ours, theirs = prepare(FAdam, **options), prepare(peer, **peer_options)
    words = ", ".join(f"{key}={value}" for key, value in peer_options.items())
    return Case(
        name=f"FAdam, {name}",
        size=f"{N_STEPS} steps of 10^7 parameters in {N_TENSORS} tensors",
        peer_name=f"{peer.__module__.partition('.')[0]} {peer.__name__}({words})",
        ours=lambda: steps(ours),
        peer=lambda: steps(theirs),
        accuracy=largest_step,
        metric="largest root mean square of a step of a tensor, in learning rates",
        repeats=7,
    )


def prepare(make, **options):
    generator = torch.Generator().manual_seed(0)
    params = [torch.randn(SHAPE, generator=generator) for _ in range(N_TENSORS)]
    params = [torch.nn.Parameter(p) for p in params]
    for p in params:
        p.grad = torch.randn(SHAPE, generator=generator)
    return make(params, lr=1e-3, **options)


def steps(optimizer):
    for _ in range(N_STEPS):
        optimizer.step()
    return optimizer


def largest_step(optimizer):
    params = optimizer.param_groups[0]["params"]
    before = [p.detach().clone() for p in params]
    optimizer.step()
    moved = [(p.detach() - b).square().mean().sqrt() for p, b in zip(params, before)]
    return float(max(moved)) / 1e-3


def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split((X / 16).astype("float32"), y, stratify=y, random_state=0)


def fit(optimizer, X, y):
    return NeuralClassifier(optimizer=optimizer, max_epochs=50, tol=0, random_state=0).fit(X, y)
