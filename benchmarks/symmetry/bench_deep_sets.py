"""DeepSetsRegressor against the same network in a bare torch loop on padded sets."""

import functools

import numpy as np
import torch
from torch import nn

from benchmarks._harness import Case
from skpapers.symmetry import DeepSetsRegressor

EPOCHS, BATCH, WIDTH = 5, 64, 64


def cases():
    """6000 sets of 64 features, all of 10 elements and of 1 to 10."""
    for name, smallest in (("10 elements", 10), ("1 to 10 elements", 1)):
        sets, y = make_sets(smallest)
        values, mask = padded(sets)
        model = DeepSetsRegressor(max_epochs=EPOCHS, random_state=0)
        yield Case(
            name="DeepSetsRegressor",
            size=f"6000 sets of {name}, 64 features, {EPOCHS} epochs",
            peer_name="bare torch loop, padded and masked",
            ours=functools.partial(model.fit, sets, y),
            peer=functools.partial(bare_loop, values, mask, torch.from_numpy(y)),
            accuracy=lambda m, sets=sets, y=y: m.score(sets, y),
            peer_accuracy=lambda m, v=values, k=mask, y=y: torch_r2(m, v, k, y),
            metric="R2 on the training sets",
            repeats=3,
        )


def make_sets(smallest, seed=0):
    rng = np.random.RandomState(seed)
    sets = [
        rng.standard_normal((m, 64)).astype(np.float32)
        for m in rng.randint(smallest, 11, size=6000)
    ]
    y = np.array([np.tanh(s[:, 0]).sum() for s in sets], dtype=np.float32)
    return sets, (y - y.mean()) / y.std()


def padded(sets):
    values = torch.zeros(len(sets), 10, 64)
    mask = torch.zeros(len(sets), 10)
    for row, present, members in zip(values, mask, sets):
        row[: len(members)] = torch.from_numpy(members)
        present[: len(members)] = 1
    return values, mask


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.phi = nn.Sequential(
            nn.Linear(64, WIDTH), nn.ELU(), nn.Linear(WIDTH, WIDTH), nn.ELU(),
            nn.Linear(WIDTH, WIDTH),
        )  # fmt: skip
        self.rho = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ELU(), nn.Linear(WIDTH, 1))

    def forward(self, values, mask):
        return self.rho((self.phi(values) * mask[..., None]).sum(1))[:, 0]


def bare_loop(values, mask, y):
    module = Network()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, weight_decay=1e-7, fused=True)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(y)).split(BATCH):
            optimizer.zero_grad()
            (module(values[rows], mask[rows]) - y[rows]).square().mean().backward()
            nn.utils.clip_grad_norm_(module.parameters(), 5.0)
            optimizer.step()
    return module


def torch_r2(module, values, mask, y):
    with torch.no_grad():
        error = module(values, mask).numpy() - y
    return float(1 - (error**2).sum() / ((y - y.mean()) ** 2).sum())
