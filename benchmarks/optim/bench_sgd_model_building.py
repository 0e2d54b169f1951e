"""SMB against SGD: seconds an epoch where half of the steps are repaired, and the loss."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from benchmarks._harness import Case
from skpapers.neural_network import build_module, make_mlp
from skpapers.optim import SMB

PEER = torch.optim.SGD


def cases():
    for lr in (0.1, 1.5):
        for width in (100, 1000):
            rows = f"digits, 64-{width}-10 network, 20 epochs, lr={lr}"
            yield Case(
                name="SMB",
                size=rows,
                peer_name="torch.optim.SGD",
                ours=lambda lr=lr, width=width: train(SMB, lr, width),
                peer=lambda lr=lr, width=width: train(PEER, lr, width),
                accuracy=lambda result: result[0],
                metric="final cross-entropy",
                repeats=3,
                note=f"lr={lr}, width {width}: share of model steps "
                f"{train(SMB, lr, width)[1]:.2f}",
            )


def train(make, lr, width):
    """Final loss, and the share of model steps."""
    X, y = load_digits(return_X_y=True)
    X, y = torch.tensor((X / 16).astype("float32")), torch.tensor(y)
    generator = torch.Generator().manual_seed(0)
    module = build_module(lambda: make_mlp(64, (width,), 10), generator)
    optimizer = make(module.parameters(), lr=lr)
    for _ in range(20):
        for rows in torch.randperm(len(X), generator=generator)[:1792].split(128):
            optimizer.step(closure_of(module, optimizer, X[rows], y[rows]))
    with torch.no_grad():
        loss = F.cross_entropy(module(X), y).item()
    return loss, optimizer.n_model_steps / optimizer.n_steps if make is SMB else 0.0


def closure_of(module, optimizer, x, target):
    def closure(backward=True):
        if backward:
            optimizer.zero_grad()
        loss = F.cross_entropy(module(x), target)
        if backward:
            loss.backward()
        return loss

    return closure
