"""
Clusters that become subspaces of their own
===========================================

Images of one digit lie on a curved manifold. A network trained without labels, by the coding rate
that a soft partition saves, unrolls each manifold into a linear subspace, nearly orthogonal to the
others: clusters, and features that linear methods work on.
"""

# %%
# One fit, without labels. Inner products of the rows show what happened: standardised pixels
# overlap all over; the features are ten blocks. The membership, a doubly stochastic matrix that
# the clusters are read from, has the same blocks.
import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix
from sklearn.preprocessing import StandardScaler, normalize

from skpapers.cluster import ManifoldLinearizingClustering

X, y = load_digits(return_X_y=True)
scaled = StandardScaler().fit_transform(X)
model = ManifoldLinearizingClustering(10, random_state=0).fit(X)
shifted = ManifoldLinearizingClustering(
    10, augment="shift", image_shape=(8, 8), random_state=0
).fit(X)


def accuracy(labels):
    counts = confusion_matrix(y, labels)
    return counts[linear_sum_assignment(-counts)].sum() / len(y)


def spectrum(Z):
    """Share of the energy of a class beyond each number of directions, mean over classes."""
    squares = [np.linalg.svd(Z[y == k], compute_uv=False) ** 2 for k in range(10)]
    return np.mean([1 - np.cumsum(s) / s.sum() for s in squares], axis=0)


def mean_cosine(Z):
    means = normalize(np.stack([Z[y == k].mean(axis=0) for k in range(10)]))
    return np.abs(means @ means.T)[~np.eye(10, dtype=bool)].mean()


order = np.argsort(y, kind="stable")[::6]
features = {
    "standardised pixels": scaled,
    "features, views are nearest rows": model.transform(X),
    "features, views are shifted": shifted.transform(X),
}

fig = plt.figure(figsize=(13, 7.4), layout="constrained")
top, bottom = fig.subfigures(2, 1, height_ratios=[1.15, 1])
pictures = top.subplots(1, 3)
middles = np.searchsorted(y[order], np.arange(10)) + len(order) / 20
images = [np.abs(normalize(Z)[order] @ normalize(Z)[order].T) for Z in list(features.values())[:2]]
titles = ["|cosine| of standardised pixels", "|cosine| of the features", "membership"]
for axis, image, title in zip(pictures, [*images, model.membership(X[order])], titles):
    limit = 1 if title != "membership" else 0.02
    shown = axis.imshow(image, cmap="magma_r", vmin=0, vmax=limit)
    axis.set(title=title, xticks=middles, yticks=middles)
    axis.set_xticklabels(range(10))
    axis.set_yticklabels(range(10))
    top.colorbar(shown, ax=axis, shrink=0.8)
pictures[0].set_ylabel("digit")

# %%
# Few directions hold a class, and the means of different classes are nearly orthogonal. Features
# learn from views of a row: its nearest rows by default, which are better here than the image
# shifted by a pixel. The clusters themselves, against scikit-learn's:
curve, cosine, scores = bottom.subplots(1, 3)
for (name, Z), color in zip(features.items(), ("0.6", "C0", "C1")):
    curve.semilogy(np.arange(1, 26), spectrum(Z)[:25], "o-", ms=3, color=color, label=name)
curve.set(xlabel="directions for each digit", ylabel="energy left out", title="linear?")
curve.legend(fontsize="small")
names = ["pixels", "nearest\nrows", "shifted\nviews"]
bars = cosine.bar(names, [mean_cosine(Z) for Z in features.values()], color=("0.6", "C0", "C1"))
cosine.bar_label(bars, fmt="%.2f")
cosine.set(ylabel="mean |cosine| of class means", title="orthogonal?", ylim=(0, 0.24))
spectral = SpectralClustering(10, affinity="nearest_neighbors", random_state=0)
found = {
    "KMeans,\nstandardised": KMeans(10, n_init=5, random_state=0).fit_predict(scaled),
    "KMeans": KMeans(10, n_init=5, random_state=0).fit_predict(X),
    "Spectral-\nClustering": spectral.fit_predict(X),
    "shifted\nviews": shifted.labels_,
    "nearest\nrows": model.labels_,
}
colors = ("0.6", "0.6", "0.6", "C1", "C0")
bars = scores.bar(list(found), [accuracy(labels) for labels in found.values()], color=colors)
scores.bar_label(bars, fmt="%.2f")
scores.tick_params(axis="x", labelsize="small")
scores.set(ylabel="accuracy of the clusters", title="clustered?", ylim=(0, 1.05))
plt.show()
