"""The step of AdamW and SGDW against torch's, and test accuracy of networks on digits."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from benchmarks._harness import Case
from skpapers.neural_network import NeuralClassifier
from skpapers.optim import SGDW, AdamW

N_TENSORS, SHAPE, N_STEPS = 200, (250, 200), 10


def cases():
    for implementation in ("foreach", "fused"):
        yield step_case("AdamW", AdamW, torch.optim.AdamW, {implementation: True}, "lr")
    yield step_case("SGDW", SGDW, torch.optim.SGD, {}, "l2", {"momentum": 0.9, "foreach": True})
    data = digits()
    yield Case(
        name="AdamW",
        size="digits, 64-100-10 network, 50 epochs",
        peer_name="NeuralClassifier(optimizer='adamw')",
        ours=lambda: fit("decoupled_adamw", 1e-4, data),
        peer=lambda: fit("adamw", 1e-1, data),
        accuracy=lambda network: network.score(*data[1]),
        metric="test accuracy",
        repeats=5,
    )


def step_case(name, ours, peer, options, decay, peer_options=None):
    shared = {"lr": 1e-3, "weight_decay": 0.01}
    settings = {
        ours: {**shared, **options, "decay": decay},
        peer: {**shared, **(peer_options or options)},
    }
    built = {make: prepare(make, arguments) for make, arguments in settings.items()}
    return Case(
        name=name,
        size=f"{N_STEPS} steps of 10^7 parameters in {N_TENSORS} tensors",
        peer_name=f"{peer.__module__}.{peer.__name__}({list(peer_options or options)[-1]}=True)",
        ours=lambda: steps(built[ours]),
        peer=lambda: steps(built[peer]),
        accuracy=lambda params: deviation(settings[ours], ours, peer, settings[peer]),
        metric="largest difference of the two after 10 steps",
        repeats=7,
    )


def prepare(make, options, dtype=torch.float32, n_tensors=N_TENSORS):
    generator = torch.Generator().manual_seed(0)
    params = [torch.randn(SHAPE, generator=generator, dtype=dtype) for _ in range(n_tensors)]
    params = [torch.nn.Parameter(p) for p in params]
    for p in params:
        p.grad = torch.randn(SHAPE, generator=generator, dtype=dtype)
    return make(params, **options)


def steps(optimizer):
    for _ in range(N_STEPS):
        optimizer.step()
    return optimizer.param_groups[0]["params"]


def deviation(options, ours, peer, peer_options):
    pair = [
        prepare(make, o, torch.float64, 2) for make, o in ((ours, options), (peer, peer_options))
    ]
    return max(float((a - b).detach().abs().max()) for a, b in zip(*map(steps, pair)))


def digits():
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        (X / 16).astype("float32"), y, stratify=y, random_state=0
    )
    return (X_train, y_train), (X_test, y_test)


def fit(optimizer, weight_decay, data):
    network = NeuralClassifier(
        optimizer=optimizer, weight_decay=weight_decay, max_epochs=50, tol=0, random_state=0
    )
    return network.fit(*data[0])
