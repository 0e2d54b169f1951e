"""
================================================
Unlabelled rows reshape the spectrum of a kernel
================================================

Two labels a class are not enough for kernel ridge regression: its kernel knows distances, not the
shape of the data. :class:`~skpapers.kernel_methods.SpectrallyTransformedKernelClassifier` uses the
unlabelled rows to transform the spectrum of the same kernel, so that functions vary slowly along
the data. Unlike label spreading, it then predicts at any new row.
"""

# %%
# Two moons, four labels
# ----------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
from sklearn.kernel_ridge import KernelRidge

from skpapers.kernel_methods import SpectrallyTransformedKernelClassifier

X, y = make_moons(700, noise=0.1, random_state=0)
rng = np.random.RandomState(0)
rows = rng.permutation(700)
train, test = rows[:467], rows[467:]
labelled = np.concatenate([train[y[train] == label][:2] for label in (0, 1)])
partial = np.where(np.isin(train, labelled), y[train], -1)

ours = SpectrallyTransformedKernelClassifier(gamma=20.0, eta=0.999).fit(X[train], partial)
ridge = KernelRidge(kernel="rbf", gamma=20.0, alpha=4e-3).fit(X[labelled], 2 * y[labelled] - 1)

# %%
# Both decision functions over the plane
# --------------------------------------

xx, yy = np.meshgrid(np.linspace(-1.5, 2.5, 160), np.linspace(-1.0, 1.6, 120))
grid = np.c_[xx.ravel(), yy.ravel()]
surfaces = {
    "KernelRidge, 4 labelled rows": (ridge.predict(grid) > 0, ridge.predict(X[test]) > 0),
    "STKR, and 463 unlabelled ones": (ours.predict(grid), ours.predict(X[test])),
}

fig, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
for ax, (name, (surface, predicted)) in zip(axes, surfaces.items()):
    ax.contourf(xx, yy, surface.reshape(xx.shape), levels=1, cmap="RdBu_r", alpha=0.3)
    ax.scatter(*X[train].T, s=5, c="0.5", label="unlabelled")
    for label, color in enumerate(("tab:blue", "tab:red")):
        chosen = labelled[y[labelled] == label]
        ax.scatter(*X[chosen].T, s=90, c=color, edgecolor="k", label=f"label {label}")
    ax.set(
        title=f"{name}\ntest accuracy {np.mean(predicted == y[test]):.2f}", xticks=[], yticks=[]
    )
axes[0].legend(loc="lower left", fontsize="small")

# %%
# How much do unlabelled rows help?
# ---------------------------------
#
# The same labels, more and more unlabelled rows, over twelve data sets.


def accuracy(seed, n_unlabelled, eta):
    X, y = make_moons(700, noise=0.1, random_state=seed)
    rows = np.random.RandomState(seed).permutation(700)
    train, test = rows[:467], rows[467:]
    labelled = np.concatenate([train[y[train] == label][:2] for label in (0, 1)])
    others = np.setdiff1d(train, labelled, assume_unique=True)[:n_unlabelled]
    known = np.concatenate([y[labelled], np.full(len(others), -1)])
    model = SpectrallyTransformedKernelClassifier(gamma=20.0, eta=eta)
    model.fit(X[np.concatenate([labelled, others])], known)
    return model.score(X[test], y[test])


sizes = [0, 30, 100, 200, 463]
for eta, marker in ((0.5, "s"), (0.9, "^"), (0.999, "o")):
    scores = [np.mean([accuracy(seed, size, eta) for seed in range(12)]) for size in sizes]
    axes[2].plot(sizes, scores, marker=marker, label=f"eta = {eta}")
axes[2].set(
    xlabel="unlabelled rows", ylabel="mean test accuracy", title="More unlabelled rows,\n12 draws"
)
axes[2].legend()
plt.show()
