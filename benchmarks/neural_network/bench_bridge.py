"""NeuralClassifier against a bare torch loop and against scikit-learn's MLPClassifier."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from benchmarks._harness import Case
from skpapers.neural_network import NeuralClassifier

EPOCHS, BATCH = 20, 128
SIZES = [(100,), (256, 256), (512, 512), (1024, 1024)]


def cases():
    X, y = load_digits(return_X_y=True)
    X, y = np.tile(X / 16, (5, 1)).astype(np.float32), np.tile(y, 5)
    for sizes in SIZES:
        repeats = {100: 7, 256: 3, 512: 3, 1024: 1}[sizes[0]]
        common = {
            "name": "NeuralClassifier",
            "size": f"digits x5, {sizes}, {EPOCHS} epochs",
            "ours": lambda s=sizes: NeuralClassifier(
                s, max_epochs=EPOCHS, batch_size=BATCH, tol=0, random_state=0
            ).fit(X, y),
            "accuracy": lambda model: model.score(X, y),
            "metric": "training accuracy",
            "repeats": repeats,
        }
        yield Case(
            **common,
            peer_name="bare torch loop",
            peer=lambda s=sizes: bare_loop(s, torch.tensor(X), torch.tensor(y)),
            peer_accuracy=lambda module: float(
                (module(torch.tensor(X)).argmax(1).numpy() == y).mean()
            ),
        )
        yield Case(
            **common,
            peer_name="sklearn MLPClassifier",
            peer=lambda s=sizes: MLPClassifier(
                s,
                max_iter=EPOCHS,
                batch_size=BATCH,
                tol=0,
                n_iter_no_change=EPOCHS,
                random_state=0,
            ).fit(X, y),
        )


def bare_loop(sizes, X, y):
    """The same network, batches and fused optimizer, in the shortest loop."""
    widths = [X.shape[1], *sizes]
    hidden = [
        layer
        for pair in zip(widths, widths[1:])
        for layer in (torch.nn.Linear(*pair), torch.nn.ReLU())
    ]
    module = torch.nn.Sequential(*hidden, torch.nn.Linear(widths[-1], 10))
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)
    for _ in range(EPOCHS):
        order = torch.randperm(len(X))
        for rows in order.split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(module(X[rows]), y[rows]).backward()
            optimizer.step()
    return module
