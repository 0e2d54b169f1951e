"""
========================================================
A trained network learns a new region without retraining
========================================================

A network knows nothing of its own uncertainty, and learning new data means training again.
:class:`~skpapers.kernel_methods.SparseFunctionSpaceRegressor` turns it into a sparse Gaussian
process: it has error bars, and ``partial_fit`` adds data in one step of linear algebra, while
the weights stay and the old data are gone.
"""

# %%
# A network trained on the left
# -----------------------------
#
# Then a hundred rows arrive on the right. scikit-learn's network with ``partial_fit`` makes one
# pass over the new rows, or fifty.

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.neural_network import MLPRegressor

from skpapers.kernel_methods import SparseFunctionSpaceRegressor

rng = np.random.default_rng(0)


def sample(low, high, n_samples):
    x = rng.uniform(low, high, n_samples)
    return x[:, None], np.sin(2 * x) + 0.1 * rng.normal(size=n_samples)


old, new = sample(-2, 0, 200), sample(1, 2, 100)
grid = np.linspace(-3, 3, 300)[:, None]

start = time.perf_counter()
ours = SparseFunctionSpaceRegressor(n_inducing=100, random_state=0).fit(*old)
training = time.perf_counter() - start
before = ours.predict(grid, return_std=True, include_noise=False)
start = time.perf_counter()
ours.partial_fit(*new)
update = time.perf_counter() - start
after = ours.predict(grid, return_std=True, include_noise=False)

network = MLPRegressor(
    hidden_layer_sizes=(64, 64), activation="tanh", max_iter=1000, random_state=0
).fit(*old)
curves = {"trained": network.predict(grid)}
for epoch in range(1, 51):
    network.partial_fit(*new)
    if epoch in (1, 50):
        curves[f"+ {epoch} epoch{'s' * (epoch > 1)} on new rows"] = network.predict(grid)

# %%
# Before and after the update
# ---------------------------


def draw_process(ax, mean, std, title):
    ax.fill_between(
        grid[:, 0], mean - 2 * std, mean + 2 * std, color="tab:blue", alpha=0.2, label="2 std"
    )
    ax.plot(grid, mean, color="tab:blue", label="mean")
    ax.set_title(title)


fig, axes = plt.subplots(1, 3, figsize=(13, 4), sharey=True, layout="constrained")
draw_process(axes[0], *before, f"SFR, trained on the left ({training:.1f} s)")
draw_process(axes[1], *after, f"after partial_fit ({1000 * update:.0f} ms)")
for (name, curve), color in zip(curves.items(), ("0.6", "tab:orange", "tab:red")):
    axes[2].plot(grid, curve, color=color, label=name)
axes[2].set_title("MLPRegressor.partial_fit")
for i, ax in enumerate(axes):
    ax.plot(grid, np.sin(2 * grid), "k--", lw=1, label="truth")
    ax.scatter(*old, s=4, color="0.3", zorder=3)
    if i:
        ax.scatter(*new, s=4, color="tab:green", zorder=3, label="new rows")
    ax.set(xlabel="x", ylim=(-3.2, 4.5))
    ax.legend(loc="upper center", fontsize="small", ncols=2)

# %%
# The process follows the new rows and keeps the old ones. The network forgets the left while it
# learns the right.

plt.show()
