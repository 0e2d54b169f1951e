"""
Low-rank models with gaps, and products of them
===============================================

A truncated singular value decomposition needs every entry, and pays for each unit of rank with
one number a row and one a column. ``LowRankApproximation`` fits what is there, and can multiply
low-rank matrices entry by entry: the rank of such a product is the product of the ranks.
``LowRankImputer`` fills the gaps.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.impute import KNNImputer, SimpleImputer

from skpapers.decomposition import LowRankApproximation, LowRankImputer

# %%
# Sales of 80 products in 60 weeks, say: three trends, and effects that multiply them, two more.
# Their product is not of low rank, but each of them is.
rng = np.random.default_rng(0)
trends = rng.normal(size=(80, 3)) @ rng.normal(size=(3, 60))
effects = rng.normal(size=(80, 2)) @ rng.normal(size=(2, 60)) / np.sqrt(2)
X = trends * (1 + 0.3 * effects)
X += 0.01 * X.std() * rng.normal(size=X.shape)
size = np.linalg.norm(X)

ranks = np.arange(2, 11)
values = np.linalg.svd(X, compute_uv=False)
svd = [np.sqrt((values[k:] ** 2).sum()) / size for k in ranks]
pairs = [(1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (4, 3), (4, 4), (5, 4), (5, 5)]
params = {"method": "hadamard", "alpha": 1e-6, "max_iter": 300, "tol": 3e-4}
models = [LowRankApproximation(p, n_init=3, random_state=0, **params).fit(X) for p in pairs]
product = [model.reconstruction_err_ / size for model in models]

fig, axis = plt.subplots(figsize=(7, 4), layout="constrained")
axis.plot(ranks, svd, "o-", label="truncated SVD")
axis.plot(ranks, product, "s-", label="product of two low-rank matrices")
axis.set(
    yscale="log",
    xlabel="numbers a row and a column (components in all)",
    ylabel="relative error",
    title="effects that multiply",
)
axis.legend()

# %%
# Digits with gaps: two pixels in three are unknown. Each image has its own gaps, so that there is
# no complete row and no complete column to learn from.
digits = load_digits().data / 16
hidden = rng.random(digits.shape) < 0.65
gaps = np.where(hidden, np.nan, digits)
imputers = {
    "column means": SimpleImputer(),
    "5 nearest neighbours": KNNImputer(),
    "LowRankImputer": LowRankImputer(10, alpha=1, tol=1e-4, max_iter=500),
}
filled = {name: imputer.fit_transform(gaps) for name, imputer in imputers.items()}

fig, axes = plt.subplots(1, 5, figsize=(13, 3.3), layout="constrained")
shown = np.arange(9)
for axis, (name, images) in zip(axes, {"true": digits, "given": gaps, **filled}.items()):
    padded = np.pad(
        images[shown].reshape(3, 3, 8, 8), [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=0
    )
    axis.set_facecolor("#f2b8b5")
    axis.imshow(padded.swapaxes(1, 2).reshape(30, 30), cmap="gray_r", vmin=0, vmax=1)
    error = np.sqrt(np.mean((images - digits)[hidden] ** 2))
    axis.set_title(name if np.isnan(error) or error == 0 else f"{name}\nerror {error:.3f}")
    axis.set(xticks=[], yticks=[])
axes[1].set_title("given (gaps in pink)")
plt.show()
