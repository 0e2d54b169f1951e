"""
LCOT: a map of distributions on a clock
=======================================

Each row of the data is a handful of times of day: when one shop sells, when one machine fails.
Which rows are alike? Bins know only whether two events share a bin, and the ordinary Wasserstein
distance cuts the clock open at midnight. Linear circular optimal transport turns each row into a
vector that follows the clock, and compares all pairs at the price of comparing vectors.
"""

# %%
# Four groups of shops, eight sales each: about a peak at midnight, at 6 or at noon, or about two
# peaks, at 9 and at 21. Ninety shops in all, each with its own shift of up to two hours.
import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial.distance import pdist, squareform
from sklearn.manifold import MDS
from sklearn.metrics import silhouette_score
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from skpapers.manifold import pairwise_lcot

rng = np.random.default_rng(0)
peaks = {"midnight": [0, 0], "6": [6, 6], "noon": [12, 12], "9 and 21": [9, 21]}
y = rng.integers(4, size=90)
centers = np.array(list(peaks.values()))[y]
which = rng.integers(2, size=(90, 8))
shift = rng.uniform(-2, 2, size=(90, 1))
hours = (np.take_along_axis(centers, which, 1) + shift + rng.normal(0, 0.5, (90, 8))) % 24

# %%
# Three distances between rows: of histograms with a bin for each half hour, of sorted hours (the
# Wasserstein distance on a line that starts at midnight), and LCOT.
histograms = np.array([np.histogram(row, 48, (0, 24))[0] / 8 for row in hours])
distances = {
    "histograms, Euclidean": squareform(pdist(histograms)),
    "Wasserstein, cut at midnight": squareform(pdist(np.sort(hours, axis=1))) / np.sqrt(8),
    "LCOT": 24 * pairwise_lcot(hours, period=24),
}

# %%
# Multidimensional scaling draws each of them. The bins leave a cloud: all rows that share no bin
# are almost equally far. The cut tears the shops of midnight apart. LCOT keeps each group
# together, and puts the groups in the order of the clock.
fig = plt.figure(figsize=(12, 4), layout="constrained")
grid = fig.add_gridspec(1, 4, width_ratios=[1, 1, 1, 1])
clock = fig.add_subplot(grid[0], projection="polar")
clock.set(theta_zero_location="N", theta_direction=-1, yticks=[], ylim=(0, 5))
clock.set_xticks(np.arange(8) * np.pi / 4, [0, 3, 6, 9, 12, 15, 18, 21])
clock.set_title("three shops of each group")
for group in range(4):
    for k, row in enumerate(hours[y == group][:3]):
        radius = np.full(8, 1.2 + group + 0.25 * k)
        clock.scatter(row * np.pi / 12, radius, s=9, color=f"C{group}")

for column, (name, D) in enumerate(distances.items(), start=1):
    axis = fig.add_subplot(grid[column])
    scaling = MDS(metric="precomputed", init="classical_mds", n_init=1, random_state=0)
    Z = scaling.fit_transform(D)
    for group, label in enumerate(peaks):
        axis.scatter(*Z[y == group].T, s=14, color=f"C{group}", label=label)
    nearest = KNeighborsClassifier(1, metric="precomputed")
    accuracy = cross_val_score(nearest, D, y, cv=3).mean()
    silhouette = silhouette_score(D, y, metric="precomputed")
    axis.set(title=name, xticks=[], yticks=[], aspect="equal", adjustable="datalim")
    axis.set_xlabel(f"1-NN accuracy {accuracy:.2f}\nsilhouette {silhouette:.2f}")
fig.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4, title="peak at")
plt.show()
