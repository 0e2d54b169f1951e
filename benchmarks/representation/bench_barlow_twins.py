"""BarlowTwins against a bare torch loop with the same networks, distortions and loss."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from benchmarks._harness import Case
from skpapers.representation import BarlowTwins

N_EPOCHS, WIDTH, BATCH = 30, 256, 270


def cases():
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    train, test, y_train, y_test = train_test_split(X, y, train_size=0.6, random_state=0)

    def accuracy(embed):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        return probe.fit(embed(train[:50]), y_train[:50]).score(embed(test), y_test)

    yield Case(
        name="BarlowTwins",
        size=f"digits, n={len(train)}, {N_EPOCHS} epochs, widths {WIDTH}",
        peer_name="bare torch loop",
        ours=lambda: BarlowTwins(max_epochs=N_EPOCHS, random_state=0).fit(train).transform,
        peer=lambda: _bare(train),
        accuracy=accuracy,
        metric="accuracy with 50 labels",
    )
    yield _loss_case()


def _bare(train):
    """What one would write by hand, with the off-diagonal entries copied out."""
    torch.manual_seed(0)
    X = torch.tensor(train)
    encoder = nn.Sequential(_block(64, WIDTH), nn.Linear(WIDTH, WIDTH, bias=False))
    projector = nn.Sequential(_block(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH, bias=False))
    parameters = [*encoder.parameters(), *projector.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-6, fused=True)
    for _ in range(N_EPOCHS):
        for batch in X[torch.randperm(len(X))].split(BATCH):
            views = [projector(encoder(_resample(batch))) for _ in range(2)]
            optimizer.zero_grad()
            _loss_by_copy(*views).backward()
            optimizer.step()
    encoder.eval()
    return lambda rows: encoder(torch.tensor(rows)).detach().numpy()


def _block(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, n_out, bias=False), nn.BatchNorm1d(n_out), nn.ReLU())


def _resample(X):
    drawn = X.gather(0, torch.randint(len(X), X.shape))
    return torch.where(torch.rand(X.shape) < 0.3, drawn, X)


def _loss_by_copy(Z1, Z2):
    n, d = Z1.shape
    C = F.batch_norm(Z1, None, None, training=True).T @ F.batch_norm(Z2, None, None, training=True)
    C = C / n
    off_diagonal = C[~torch.eye(d, dtype=torch.bool)]
    return (C.diagonal() - 1).square().sum() + 5e-3 * off_diagonal.square().sum()


def _loss_case():
    from skpapers.representation import barlow_twins_loss

    generator = torch.Generator().manual_seed(0)
    Z1, Z2 = (torch.randn(256, 2048, generator=generator) for _ in range(2))

    def forward_and_backward(loss):
        inputs = [Z.clone().requires_grad_() for Z in (Z1, Z2)]
        value = loss(*inputs)
        value.backward()
        return float(value.detach())

    return Case(
        name="barlow_twins_loss, with gradient",
        size="n=256, D=2048",
        peer_name="off-diagonal entries copied out",
        ours=lambda: forward_and_backward(barlow_twins_loss),
        peer=lambda: forward_and_backward(_loss_by_copy),
        accuracy=float,
        metric="loss",
        repeats=5,
    )
