"""
Maximum likelihood for an energy model, without chains
======================================================

An energy model needs its partition function. Noise-contrastive estimation learns it as a
parameter, and stalls where the noise is far from the data; a moving average of importance
sampling estimates makes plain maximum likelihood work with small batches.
"""

# %%
# The mean of a Gaussian at 4, learned with noise around 0, which is far.
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import make_moons
from sklearn.neighbors import KernelDensity
from torch import nn

from skpapers.datasets import GaussianMixtureDensity
from skpapers.density import CompositionalEnergyDensity

rng = np.random.RandomState(0)
far = rng.normal(4.0, 1.0, size=(640, 1)).astype(np.float32)


class Location(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(n_features))

    def init_parameters(self, generator):
        self.w.fill_(-far.mean() / far.std())  # zero, in units of the data

    def forward(self, x):
        return 0.5 * (x - self.w).square().sum(1)


paths = {}
for solver in ("meco", "nce"):
    model = CompositionalEnergyDensity(
        Location,
        noise=GaussianMixtureDensity([[0.0]]),
        solver=solver,
        noise_ratio=1.0,
        optimizer="sgd",
        lr=0.05,
        batch_size=64,
        early_stopping=False,
        n_partition=100,
        random_state=0,
    )
    model.set_params(max_epochs=1)
    path = [0.0]
    for _ in range(20):  # ten steps each
        model.partial_fit(far)
        w = model.module_.energy.w.item()
        path.append(w * model.scale_[0] + model.mean_[0])
    paths[solver] = path

# %%
# Two moons: the log density of the energy model and of a kernel density.
X, _ = make_moons(2000, noise=0.1, random_state=0)
test, _ = make_moons(2000, noise=0.1, random_state=1)
energy = CompositionalEnergyDensity(random_state=0).fit(X.astype(np.float32))
kernel = KernelDensity(bandwidth=0.1).fit(X)

fig, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained")
for solver, name in (("meco", "moving average"), ("nce", "noise-contrastive")):
    axes[0].plot(np.arange(21) * 10, paths[solver], label=name)
axes[0].axhline(far.mean(), color="gray", linestyle=":", label="truth")
axes[0].set(title="Mean of far data", xlabel="step", ylabel="estimate")
axes[0].legend()

x, y = np.meshgrid(np.linspace(-1.8, 2.8, 120), np.linspace(-1.3, 1.8, 120))
grid = np.column_stack([x.ravel(), y.ravel()])
for ax, model, name in ((axes[1], energy, "energy model"), (axes[2], kernel, "KernelDensity")):
    log_density = model.score_samples(grid.astype(np.float32)).reshape(x.shape)
    ax.contourf(x, y, np.clip(log_density, -8, None), levels=24, cmap="viridis")
    mean = model.score_samples(test.astype(np.float32)).mean()
    ax.set(title=f"{name}\n{mean:.2f} nats a new row")
drawn = energy.sample(1000)
axes[3].scatter(*drawn.T, s=4, alpha=0.5)
axes[3].set(title="samples of the energy model", xlim=(-1.8, 2.8), ylim=(-1.3, 1.8))
plt.show()
