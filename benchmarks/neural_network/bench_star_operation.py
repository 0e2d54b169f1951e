"""Star layers against two linear layers, and a narrow block against a wide perceptron."""

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier

from benchmarks._harness import Case
from skpapers.neural_network import NeuralClassifier, StarLinear, build_module


class TwoMaps(torch.nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.first, self.second = torch.nn.Linear(width, inner), torch.nn.Linear(width, inner)

    def forward(self, x):
        return self.first(x) * self.second(x)


def cases():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4096, 256, generator=generator)
    ours = build_module(lambda: StarLinear(256, 1024), generator)
    peer = build_module(lambda: TwoMaps(256, 1024), generator)
    with torch.no_grad():
        for name, map_ in (("weight", peer.first), ("bias", peer.first)):
            getattr(map_, name).copy_(getattr(ours.maps, name)[:1024])
            getattr(peer.second, name).copy_(getattr(ours.maps, name)[1024:])

    def pass_through(module):
        y = module(x)
        y.square().mean().backward()
        return y.detach()

    yield Case(
        "star layer, forward and backward",
        "4096 rows, 256 to 1024, float32",
        "two torch.nn.Linear and a product",
        lambda: pass_through(ours),
        lambda: pass_through(peer),
        lambda y: float(y.square().mean()),
        "mean square of the output",
    )

    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 8)).astype(np.float32)
    y = (X[:, ::2] * X[:, 1::2]).sum(axis=1) > 0
    narrow = {"block": "star(ratio=1, branch_activation='none')", "normalization": "batch"}

    def perceptron():
        model = MLPClassifier((100,), learning_rate_init=1e-2, batch_size=128, random_state=0)
        for _ in range(20):
            model.partial_fit(X[:3000], y[:3000], classes=[False, True])
        return model

    yield Case(
        "sum of four products, one block of width 16",
        "3000 rows, 8 features, 20 epochs",
        "MLPClassifier((100,)), 20 epochs",
        lambda: NeuralClassifier(
            (16,), **narrow, optimizer="adamw", lr=1e-2, max_epochs=20, tol=0, random_state=0
        ).fit(X[:3000], y[:3000]),
        perceptron,
        lambda model: model.score(X[3000:], y[3000:]),
        "accuracy",
    )
