"""
An auto-encoder points to where the data are
============================================

Trained to remove a little noise, an auto-encoder moves every point along the gradient of the log
density. Integrated along lines this gives an energy, and chains that follow the energy give new
rows. The size of the move alone, the error of reconstruction, is no energy: it is small along the
ridges half-way between the arms, too.
"""

# %%
# A noisy spiral.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.neighbors import KernelDensity

from skpapers.density import ScoreAutoencoder

rng = np.random.RandomState(0)
t = rng.uniform(3, 12, 5000)
X = np.column_stack([t * np.cos(t), t * np.sin(t)]) / 10
X = (X + 0.05 * rng.normal(size=X.shape)).astype(np.float32)
model = ScoreAutoencoder(0.175, max_epochs=40, random_state=0).fit(X)
kernel = KernelDensity(bandwidth="scott").fit(X)

# %%
# Moves, error of reconstruction, energy, and samples next to those of a kernel density.
ticks = np.linspace(-1.4, 1.4, 80)
grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2).astype(np.float32)
moves = model.reconstruct(grid) - grid
extent = {"extent": (-1.4, 1.4, -1.4, 1.4), "origin": "lower"}

fig, axes = plt.subplots(1, 5, figsize=(16, 3.6), sharex=True, sharey=True, layout="constrained")
axes[0].scatter(*X[:1500].T, s=2, color="0.75")
few = (np.arange(len(grid)) % 4 == 0) & (np.arange(len(grid)) // 80 % 4 == 0)
axes[0].quiver(*grid[few].T, *moves[few].T, angles="xy", scale_units="xy", scale=0.7, color="C0")
axes[0].set_title("moves r(x) - x")
errors = np.linalg.norm(moves, axis=1).reshape(80, 80)
axes[1].imshow(-np.minimum(errors, np.quantile(errors, 0.8)), **extent)
axes[1].set_title("minus the error of reconstruction")
energy = model.score_samples(grid).reshape(80, 80)
axes[2].imshow(np.maximum(energy, np.quantile(energy, 0.2)), **extent)
axes[2].set_title("integrated moves: log density")
axes[3].scatter(*model.sample(1000).T, s=3, color="C1")
axes[3].set_title("samples of the auto-encoder")
axes[4].scatter(*kernel.sample(1000, random_state=0).T, s=3, color="C2")
axes[4].set_title("samples of KernelDensity (Scott)")
for ax in axes:
    ax.set(
        xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1]
    )
plt.show()
