"""Densities of new rows, and training against chains."""

import numpy as np
import torch
from sklearn.datasets import make_moons
from sklearn.neighbors import KernelDensity

from benchmarks._harness import Case
from skpapers.density import CompositionalEnergyDensity
from skpapers.density._partition_solvers import PartitionSolver
from skpapers.neural_network import build_module, input_gradient
from skpapers.processes import EnergyMLP, unadjusted_langevin


def cases():
    """Log densities of 20000 rows; one epoch of training against contrastive divergence."""
    X = make_moons(2000, noise=0.1, random_state=0)[0].astype(np.float32)
    test = make_moons(20_000, noise=0.1, random_state=1)[0].astype(np.float32)
    ours = CompositionalEnergyDensity(random_state=0).fit(X)
    kernel = KernelDensity(bandwidth=0.1).fit(X)
    yield Case(
        name="CompositionalEnergyDensity.score_samples",
        size="20000 rows, fitted to 2000",
        peer_name="KernelDensity.score_samples",
        ours=lambda: ours.score_samples(test),
        peer=lambda: kernel.score_samples(test),
        accuracy=lambda logs: float(np.mean(logs)),
        metric="nats a row",
    )
    yield Case(
        name="an epoch of CompositionalEnergyDensity",
        size="2000 rows, batches of 256",
        peer_name="contrastive divergence, 20 Langevin steps",
        ours=lambda: epoch(X, compositional_loss()),
        peer=lambda: epoch(X, contrastive_divergence),
        accuracy=lambda loss: loss,
        metric="mean energy of the rows",
    )


def epoch(X, loss):
    """One epoch of Adam; the mean energy of the rows after it."""
    generator = torch.Generator().manual_seed(0)
    energy = build_module(lambda: EnergyMLP(2, (64, 64)), generator)
    optimizer = torch.optim.Adam(energy.parameters(), lr=1e-3)
    x = torch.from_numpy(X)
    for batch in x.split(256):
        optimizer.zero_grad()
        loss(energy, batch, generator).backward()
        optimizer.step()
    return energy(x).mean().item()


class Normal:
    """Standard normal noise."""

    def log_density(self, z):
        return -0.5 * z.square().sum(1) - np.log(2 * np.pi)


def compositional_loss():
    """The moving-average loss with as many draws as rows."""
    solver = PartitionSolver("meco")

    def loss(energy, x, generator):
        z = torch.randn(x.shape, generator=generator)
        return solver.loss(energy, x, z, Normal(), 0.1)

    return loss


def contrastive_divergence(energy, x, generator):
    """Energy of rows less that of chains that start there."""
    with torch.no_grad():
        chain = unadjusted_langevin(
            lambda z: -input_gradient(energy, z)[1],
            x,
            step_size=0.01,
            n_steps=20,
            generator=generator,
        )
    return energy(x).mean() - energy(chain).mean()
