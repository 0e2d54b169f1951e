"""
Two-parameter persistence: clusters behind a bridge of outliers
===============================================================

How far apart are two clusters? Persistence joins points as the scale grows and notes the lengths
at which components merge. A thin chain of outliers between the clusters merges them at once, and
the gap is lost. With density as second parameter the dense points come first: the components of
the dense part show the gap, and descent along the gradient widens it.
"""

# %%
# Two clusters of forty points, and twelve outliers between them.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from skpapers.manifold import TopologicalPointOptimizer, function_rips, hilbert_signed_measure

rng = np.random.default_rng(0)
clusters = rng.normal(size=(80, 2)) * 0.2 + np.repeat([[-1.0, 0.0], [1.0, 0.0]], 40, axis=0)
bridge = np.column_stack([np.linspace(-0.7, 0.7, 12), rng.uniform(-0.08, 0.08, 12)])
X = np.concatenate([clusters, bridge])

# %%
# The Hilbert function counts components at each scale among the points up to each codensity (the
# distance to their neighbours). The signed measure says where the count changes: up where a point
# comes in, down where two components merge. Adding it up over a grid gives the counts.
points, weights = hilbert_signed_measure(*function_rips(X))
scales = np.linspace(0, 1.4, 300)
densities = np.linspace(points[:, 1].min(), points[:, 1].max(), 200)
below = [
    (points[:, axis, None] <= grid).astype(float) for axis, grid in enumerate((scales, densities))
]
components = np.einsum("p,ps,pd->ds", weights, *below, optimize=True)

# %%
# Sixty steps along the gradient of the same loss, the squared lengths of merges above 0.3: with
# ten slices of density, and with one, which is one-parameter persistence.
moved = {
    "one parameter (scale)": TopologicalPointOptimizer(n_slices=1, threshold=0.3, lr=0.08),
    "two parameters (scale, density)": TopologicalPointOptimizer(threshold=0.3, lr=0.08),
}
fitted = {name: optimizer.fit(X) for name, optimizer in moved.items()}

# %%
# In the Hilbert function, two components live long as long as the bridge is not let in; in the top
# row, all that one parameter sees, the bridge joins them early. One parameter finds no merge above
# 0.3, and nothing moves: to it the data are one cluster, as they are to single linkage. Two
# parameters gather the dense points and draw the clusters apart.
fig, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
picture = axes[0, 1].pcolormesh(
    scales, densities, components, cmap=plt.get_cmap("Blues_r", 6), vmin=0.5, vmax=6.5
)
fig.colorbar(picture, ax=axes[0, 1], label="components (6 or more)", ticks=range(1, 7))
axes[0, 1].set(
    title="Hilbert function (top row: one parameter)",
    xlabel="scale: length of edges",
    ylabel="codensity of the points let in",
)

for place, text in (((0.6, 0.2), "two components"), ((1.15, 0.32), "one")):
    axes[0, 1].text(*place, text, color="white", ha="center")

panels = [(axes[0, 0], "data", X)]
panels += [(axis, name, fitted[name].points_) for axis, name in zip(axes[1], fitted)]
for axis, name, Z in panels:
    gap = np.linalg.norm(Z[:40].mean(axis=0) - Z[40:80].mean(axis=0))
    found = AgglomerativeClustering(2, linkage="single").fit_predict(Z)[:80]
    score = adjusted_rand_score(np.repeat([0, 1], 40), found)
    if Z is not X:
        axis.quiver(*X.T, *(Z - X).T, angles="xy", scale_units="xy", scale=1, width=0.002)
    for rows, color, label in (
        (slice(0, 40), "C0", "cluster 1"),
        (slice(40, 80), "C1", "cluster 2"),
        (slice(80, 92), "0.5", "outliers"),
    ):
        axis.scatter(*Z[rows].T, s=14, color=color, label=label)
    axis.set(xlim=(-2.2, 2.2), ylim=(-0.9, 0.9), aspect="equal")
    axis.set_title(f"{name}\ndistance of means {gap:.2f}, single linkage: Rand index {score:.2f}")
axes[0, 0].legend(loc="upper center", ncols=3, frameon=False)
plt.show()
