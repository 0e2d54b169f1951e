"""
===============================================
A diffusion model that does not learn by heart
===============================================

A wide network that learns to remove noise from a small table follows, step by step, a kernel
regression. Trained on, it learns the rows by heart: the density turns into spikes.
:class:`~skpapers.density.EarlyStoppedScoreEstimator` computes all steps at once and stops by a
rule, without held-out data.
"""

# %%
# 150 rows, and the error on fresh ones by the number of steps
# ------------------------------------------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity

from skpapers.density import EarlyStoppedScoreEstimator

X, _ = make_moons(650, noise=0.1, random_state=0)
X, fresh = X[:150], X[150:]


def fit(**params):
    return EarlyStoppedScoreEstimator(random_state=0, **params).fit(X)


steps = np.unique(np.geomspace(3, 1e5, 13).astype(int))
path = [fit(stopping=None, max_iter=int(k)) for k in steps]
loss = [-model.score(fresh) for model in path]
stopped, endless = fit(), path[-1]

# %%
# Densities, beside a kernel density estimate
# -------------------------------------------
#
# The stopped density is smooth and the endless one learns the noise of its rows by heart. The
# kernel density estimate, whose width is cross-validated, remains the sharper one here.

search = GridSearchCV(KernelDensity(), {"bandwidth": np.geomspace(0.05, 0.5, 12)})
peer = search.fit(X).best_estimator_
models = [
    (stopped, f"stopped by the rule, {stopped.n_iter_} steps"),
    (endless, "100000 steps"),
    (peer, "KernelDensity, cross-validated"),
]
axes_x, axes_y = np.linspace(-1.6, 2.6, 44), np.linspace(-1.1, 1.6, 34)
grid = np.stack(np.meshgrid(axes_x, axes_y), axis=-1).reshape(-1, 2)

fig, panels = plt.subplots(2, 2, figsize=(10.5, 7.2), layout="constrained")
curve = panels[0, 0]
curve.plot(steps, loss, "o-", ms=4, label="fresh rows")
curve.axvline(stopped.n_iter_, color="k", ls="--", label="the rule stops here")
curve.set(
    title="Denoising loss by the number of steps",
    xlabel="steps of gradient descent",
    ylabel="squared error of the noise",
    xscale="log",
)
curve.legend()
for ax, (model, title) in zip(panels.flat[1:], models):
    density = np.exp(model.score_samples(grid)).reshape(len(axes_y), len(axes_x))
    ax.pcolormesh(axes_x, axes_y, density, cmap="Blues", shading="gouraud", vmax=0.9)
    ax.plot(*X.T, ".", ms=3, color="tab:orange", label="rows")
    log_density = model.score_samples(fresh[:150]).mean()
    ax.set(
        title=f"{title}\nmean log density of fresh rows {log_density:.2f}",
        xlabel="$x_1$",
        ylabel="$x_2$",
    )
panels[0, 1].legend(loc="lower left")
plt.show()
