"""
Short chains from the data keep the proportions of clusters
===========================================================

A score without noise levels knows the shape of every cluster, but not how much each weighs. Short
Langevin chains that start at training rows take the weights from the data. The same chains
started from a Gaussian, or run for long, lose them.
"""

# %%
# Two moons of which one has only a fifth of the rows, and a far cluster.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
from sklearn.neighbors import KernelDensity

from skpapers.density import ScoreMatchingSampler
from skpapers.processes import energy_distance


def draw(n_samples, seed):
    rng = np.random.RandomState(seed)
    n_moons = int(0.7 * n_samples)
    moons, _ = make_moons((n_moons * 4 // 5, n_moons // 5), noise=0.08, random_state=seed)
    cluster = rng.normal([4.0, 1.5], 0.15, size=(n_samples - n_moons, 2))
    return np.concatenate([moons, cluster]).astype(np.float32)


X, fresh = draw(800, 0), draw(800, 1)
sampler = ScoreMatchingSampler(hidden_layer_sizes=(64, 64), random_state=0).fit(X)

# %%
# The same model and step, three ways to run the chains; and a kernel density for comparison.
rng = np.random.RandomState(0)
normal = rng.normal(X.mean(axis=0), X.std(axis=0), size=(800, 2))
n_steps = sampler.n_steps_
samples = {
    "fresh data": fresh,
    f"from the data, {n_steps} steps": sampler.sample(800),
    f"from a Gaussian, {10 * n_steps} steps": sampler.sample(
        800, init=normal, n_steps=10 * n_steps
    ),
    "KernelDensity (Scott)": KernelDensity(bandwidth="scott").fit(X).sample(800, random_state=0),
}
fig, axes = plt.subplots(1, 4, figsize=(13, 3.4), sharex=True, sharey=True, layout="constrained")
for ax, (title, Z) in zip(axes, samples.items()):
    ax.scatter(*Z.T, s=4, alpha=0.4, color="C0" if title == "fresh data" else "C1")
    share = (Z[:, 0] > 3).mean()
    text = f"right cluster: {share:.0%}"
    if title != "fresh data":
        text += f"\nenergy distance: {energy_distance(Z, fresh):.3f}"
    ax.text(0.03, 0.97, text, transform=ax.transAxes, va="top", fontsize=9)
    ax.set(title=title, xlim=(-2, 5.2), ylim=(-1.6, 3.2))
plt.show()
