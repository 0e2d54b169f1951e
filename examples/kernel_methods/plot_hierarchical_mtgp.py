"""
================================================
A lagged sensor fills the gap of another sensor
================================================

Two sensors see the same narrow-band signal, the second half a unit later, and it fails half way.
A Gaussian process of its own knows nothing about the gap, and a linear model of coregionalisation
has covariances between tasks that are even in time, so that it cannot express the lag.
:class:`~skpapers.kernel_methods.HierarchicalMultitaskGPRegressor` has latent components that
interact, with phases and delays of their own.
"""

# %%
# The data
# --------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel

from skpapers.kernel_methods import HierarchicalMultitaskGPRegressor

rng = np.random.RandomState(1)
x = np.linspace(0, 20, 100)
frequencies = rng.normal(0.5, 0.08, size=60)
a, b = rng.normal(size=(2, 60)) / np.sqrt(60)


def signal(x):
    angles = 2 * np.pi * np.outer(x, frequencies)
    return np.cos(angles) @ a + np.sin(angles) @ b


truth = np.c_[signal(x), signal(x - 0.5)]
Y = truth + 0.05 * rng.normal(size=truth.shape)
Y[50:, 1] = np.nan
X = x[:, None]

# %%
# Three models of the failed sensor
# ---------------------------------
#
# The searches stop at their hundred steps, and warn of it: the likelihood still creeps up, by
# which the picture no longer changes.

predictions = {}
kernel = RBF() + WhiteKernel(0.01)
peer = GaussianProcessRegressor(kernel, normalize_y=True).fit(X[:50], Y[:50, 1])
predictions["scikit-learn, the sensor alone"] = peer.predict(X, return_std=True)
for interaction, name in (("none", "coregionalisation, no interaction"), ("full", "interacting")):
    model = HierarchicalMultitaskGPRegressor(3, interaction=interaction, random_state=0)
    mean, std = model.fit(X, Y).predict(X, return_std=True)
    predictions[name] = mean[:, 1], std[:, 1]

fig, axes = plt.subplots(3, 1, figsize=(9, 7), sharex=True, layout="constrained")
for ax, (name, (mean, std)) in zip(axes, predictions.items()):
    error = np.sqrt(np.mean((mean - truth[:, 1])[50:] ** 2))
    ax.axvspan(x[50], x[-1], color="0.93")
    ax.plot(x, truth[:, 1], "k--", lw=1, label="truth")
    ax.plot(x, mean, color="tab:blue", label="prediction")
    ax.fill_between(x, mean - 2 * std, mean + 2 * std, color="tab:blue", alpha=0.2)
    ax.plot(x, Y[:, 1], ".", color="tab:red", ms=4, label="observed")
    ax.set(title=f"{name}: error in the gap {error:.2f}", ylim=(-2, 2))
axes[0].legend(loc="upper right", ncols=3, fontsize="small")
axes[-1].set_xlabel("time (grey: sensor failed)")
plt.show()

# %%
# How strongly the components interact
# ------------------------------------

print(model.interaction_strength_.round(2))
