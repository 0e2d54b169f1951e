"""
Meta-factorization: real pixels and real digits instead of abstract components
==============================================================================

The truncated singular value decomposition of the digits has the least error there is, but its
components are images of mixed sign that belong to no digit. ``MetaFactorization`` takes any basis
of the columns and any basis of the rows, and finds the core between them: with
``method="cur"`` these are fifteen actual pixels and fifteen actual digits.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from skpapers.decomposition import MetaFactorization

X, y = load_digits(return_X_y=True)
X = X / 16
k = 15
cur = MetaFactorization(k, mode="features").fit(X)
svd = TruncatedSVD(k).fit(X)

# %%
# What stands for the data: singular vectors, or rows of the data themselves.
fig, axes = plt.subplots(2, 8, figsize=(10, 3), layout="constrained")
for axis, component in zip(axes[0], svd.components_):
    axis.imshow(component.reshape(8, 8), cmap="RdBu", vmin=-0.4, vmax=0.4)
for axis, component in zip(axes[1], cur.components_):
    axis.imshow(component.reshape(8, 8), cmap="gray_r")
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("TruncatedSVD")
axes[1, 0].set_ylabel("CUR")
fig.suptitle("components: singular vectors above (red is negative), digits of the data below")

# %%
# Fifteen pixels are enough to restore whole images, and to classify them: left, where they are
# and in which order they were chosen; next to it, digits restored from these pixels alone.
fig, axes = plt.subplots(
    1, 4, figsize=(11, 3), layout="constrained", gridspec_kw={"width_ratios": [2, 3, 3, 3.5]}
)
order = np.full(64, np.nan)
order[cur.column_indices_] = np.arange(1, k + 1)
axes[0].imshow(X.mean(axis=0).reshape(8, 8), cmap="gray_r", vmax=2)
for pixel in cur.column_indices_:
    row, column = divmod(pixel, 8)
    axes[0].text(column, row, int(order[pixel]), color="tab:red", ha="center", va="center")
shown = np.arange(20, 29)
restored = cur.inverse_transform(cur.transform(X[shown]))
for axis, images, title in [
    (axes[1], X[shown], "digits"),
    (axes[2], restored, f"restored from {k} of 64 pixels"),
]:
    padded = np.pad(images.reshape(3, 3, 8, 8), [(0, 0), (0, 0), (1, 1), (1, 1)])
    mosaic = padded.swapaxes(1, 2).reshape(30, 30)
    axis.imshow(mosaic, cmap="gray_r", vmin=0, vmax=1)
    axis.set_title(title)
axes[0].set_title("chosen pixels")
for axis in axes[:3]:
    axis.set(xticks=[], yticks=[])


def accuracy(pixels):
    return cross_val_score(LogisticRegression(max_iter=300), X[:, pixels], y, cv=5).mean()


rng = np.random.default_rng(0)
random = np.mean([accuracy(rng.choice(64, k, replace=False)) for _ in range(5)])
values = [random, accuracy(cur.column_indices_), accuracy(np.arange(64))]
bars = axes[3].bar(["15 random\npixels", "15 by\nCUR", "all 64"], values, color="tab:blue")
axes[3].bar_label(bars, [f"{value:.2f}" for value in values])
axes[3].set(ylim=(0, 1.1), title="accuracy of logistic regression")

# %%
# What interpretability, or a single pass over the data, costs in error. All have the same
# form ``F G H^T`` and differ in their bases only.
sizes = [5, 10, 15, 20, 30, 40, 50]
names = {
    "svd": "svd: optimal",
    "utv": "utv: pivots, then a rotation",
    "qr": "qr: pivots",
    "cur": "cur: columns and rows",
    "nystrom": "nystrom: one pass",
}
fig, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for marker, (method, name) in zip("os^vD", names.items()):
    errors = []
    for size in sizes:
        model = MetaFactorization(size, method=method, random_state=0).fit(X)
        error = X - model.left_factor_ @ model.core_ @ model.right_factor_.T
        errors.append(np.linalg.norm(error) / np.linalg.norm(X))
    axis.plot(sizes, errors, marker=marker, label=name)
axis.set(
    yscale="log",
    xlabel="components",
    ylabel="relative error of the reconstruction",
    title="one factorization, five choices of bases",
)
axis.legend()
plt.show()
