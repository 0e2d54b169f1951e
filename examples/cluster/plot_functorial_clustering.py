"""
===================================================
Clusters that neither chain nor split as data comes
===================================================

Single linkage joins two groups as soon as a line of single points leads from one to the other.
DBSCAN, HDBSCAN and k-means do not, but give no guarantee for nested data: rows that were together
may be split when rows are added. Functorial clustering with a star of several points has both: it
needs density to join, and more data can only merge clusters.
"""

# %%
# Two groups and a bridge
# -----------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import DBSCAN, HDBSCAN, AgglomerativeClustering, KMeans

from skpapers.cluster import FunctorialClustering, check_functoriality

rng = np.random.default_rng(0)
blobs = [rng.normal((x, 0), 0.6, size=(200, 2)) for x in (0, 6)]
bridge = np.c_[np.linspace(1, 5, 15), np.zeros(15)]
X = np.vstack([*blobs, bridge])

single = AgglomerativeClustering(2, linkage="single").fit_predict(X)
star = FunctorialClustering(
    "star", n_points=8, distance_threshold=0.65, min_cluster_size=5
).fit_predict(X)

# %%
# Is a clustering consistent when rows are added?
# -----------------------------------------------
# 30 of 40 random points are clustered, then all 40. A functorial method never separates two of
# the 30 that were together. ``check_functoriality`` counts how often others do.

methods = {
    "k-means": KMeans(3, n_init=3, random_state=0),
    "average linkage": AgglomerativeClustering(None, linkage="average", distance_threshold=1),
    "HDBSCAN": HDBSCAN(min_cluster_size=3, copy=True),
    "DBSCAN": DBSCAN(eps=0.5, min_samples=5),
    "functorial (star)": FunctorialClustering("star", distance_threshold=0.5),
}
draws = [rng.normal(size=(40, 2)) for _ in range(100)]
broken = {
    name: sum(not check_functoriality(method, data, data[:30]) for data in draws)
    for name, method in methods.items()
}

# %%
# The picture
# -----------

fig, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
for ax, labels, title in (
    (axes[0], single, "scikit-learn: single linkage, 2 clusters"),
    (axes[1], star, "functorial clustering, star of 8 points"),
):
    noise = labels == -1
    if noise.any():
        ax.scatter(*X[noise].T, s=10, color="lightgray", label="no cluster")
    for label, color in zip(range(labels.max() + 1), ("tab:blue", "tab:orange", "tab:green")):
        chosen = labels == label
        ax.scatter(*X[chosen].T, s=10, color=color, label=f"cluster of {chosen.sum()}")
    ax.set(title=title, ylim=(-2.6, 4.2))
    ax.legend(loc="upper center", fontsize="small", handletextpad=0.1)
colors = ["tab:blue" if "functorial" in name else "tab:gray" for name in broken]
bars = axes[2].barh(list(broken), list(broken.values()), color=colors)
axes[2].bar_label(bars, padding=3)
axes[2].invert_yaxis()
axes[2].set(
    title="How often 10 more rows split a cluster",
    xlabel="of 100 data sets of 30 rows",
    xlim=(0, 110),
)
plt.show()
