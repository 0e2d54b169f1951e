"""FractalDensity against a flat autoregressive transformer over all pixels, in bare torch."""

import functools

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from benchmarks._harness import Case
from skpapers.density import FractalDensity

EPOCHS, BATCH, WIDTH, DEPTH = 3, 8, 64, 3


def cases():
    """Binary digits, enlarged: one pass over the images, and training with one."""
    for side, n_train in ((32, 48), (64, 8)):
        X = (load_digits().images[: n_train + 16] > 7).astype(np.float32)
        X = np.kron(X, np.ones((side // 8, side // 8), dtype=np.float32)).reshape(len(X), -1)
        train, test = X[:n_train], X[n_train:]
        model = FractalDensity(
            (side, side),
            sizes=(side, 8, 1),
            widths=WIDTH,
            depths=(DEPTH, DEPTH, 1),
            max_epochs=EPOCHS,
            batch_size=BATCH,
            lr_schedule=None,
            random_state=0,
        )
        yield Case(
            name="FractalDensity",
            size=f"{n_train} images of {side} x {side}, {EPOCHS} epochs, width {WIDTH}",
            peer_name="flat causal transformer in torch",
            ours=functools.partial(lambda m, t: m.fit(t).bits_per_dim, model, train),
            peer=functools.partial(fit_flat, train),
            accuracy=functools.partial(lambda X, bits: bits(X), test),
            metric="bits per pixel of 16 other images",
            repeats=3 if side == 32 else 1,
        )


class Flat(nn.Module):
    def __init__(self, n_pixels):
        super().__init__()
        self.value = nn.Embedding(3, WIDTH)  # 2 is the start
        self.position = nn.Parameter(0.02 * torch.randn(n_pixels, WIDTH))
        layer = nn.TransformerEncoderLayer(
            WIDTH, 4, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, DEPTH, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2))

    def forward(self, x):
        before = F.pad(x[:, :-1], (1, 0), value=2)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        h = self.blocks(self.value(before) + self.position, mask=mask, is_causal=True)
        return F.cross_entropy(self.head(h).flatten(0, 1), x.flatten())


def fit_flat(train):
    X = torch.tensor(train, dtype=torch.long)
    with torch.random.fork_rng():  # torch's layers draw from the global generator
        torch.random.manual_seed(0)
        net = Flat(X.shape[1])
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, betas=(0.9, 0.95), fused=True)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(X), generator=generator).split(BATCH):
            optimizer.zero_grad()
            net(X[rows]).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 3.0)
            optimizer.step()
    return functools.partial(_bits, net.eval())


def _bits(net, X):
    with torch.no_grad():
        return float(net(torch.tensor(X, dtype=torch.long))) / np.log(2)
