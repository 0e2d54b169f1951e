"""
Ordinal metric learning: distances that know the order of labels
================================================================

Grades, ages and degrees of relevance are ordered labels. A metric learnt from labels without an
order separates them, in no particular order; confusing grade 0 with grade 4 costs it no more than
confusing 0 with 1. This one puts the grades on a line, or on a curve, by classical scaling, and
maps the features there by one linear solve.
"""

# %%
# Five grades of the progression of diabetes, from ten measurements, among thirty columns of noise.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import NearestNeighbors, NeighborhoodComponentsAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skpapers.ranking import OrdinalMDSMetric

X, target = load_diabetes(return_X_y=True)
y = np.searchsorted(np.quantile(target, [0.2, 0.4, 0.6, 0.8]), target)
X = np.column_stack([X, np.random.default_rng(0).normal(size=(len(X), 30))])
maps = {
    "Euclidean": FunctionTransformer(),
    "NeighborhoodComponentsAnalysis": NeighborhoodComponentsAnalysis(2, random_state=0),
    "OrdinalMDSMetric": OrdinalMDSMetric(2, power=0.5, local_strength=1.0),
}

# %%
# Queries are left out in turn, and the other rows ranked by their distance from each. The grades
# of what comes first should be near to that of the query.
folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y))
n_ranked = 340


def gaps_by_rank(model):
    """Mean difference of grades between queries and the rows at each place of their ranking."""
    found = []
    for train, test in folds:
        model = make_pipeline(StandardScaler(), clone(model)).fit(X[train], y[train])
        near = NearestNeighbors(n_neighbors=n_ranked).fit(model.transform(X[train]))
        order = near.kneighbors(model.transform(X[test]), return_distance=False)
        found.append(np.abs(y[train][order] - y[test][:, None]))
    return np.concatenate(found)


gaps = {name: gaps_by_rank(model) for name, model in maps.items()}
for name, found in gaps.items():
    print(f"{name:32s} mean gap of the ten first {found[:, :10].mean():.2f}")

# %%
# Rows that were left out, mapped to the plane: the unordered metric mixes the grades, as it tries
# to tell each from all others; the ordinal one lays them out in order.
train, test = folds[0]
fig, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
for axis, name in zip(axes, ["NeighborhoodComponentsAnalysis", "OrdinalMDSMetric"]):
    model = make_pipeline(StandardScaler(), maps[name]).fit(X[train], y[train])
    Z = model.transform(X[test])
    points = axis.scatter(*Z.T, c=y[test], cmap="viridis", s=25)
    axis.set(title=f"{name}:\nrows that were left out", xticks=[], yticks=[])
bar = fig.colorbar(points, ax=axes[1], ticks=range(5))
bar.set_label("grade")

place = np.arange(1, n_ranked + 1)
for name, color in zip(gaps, ("0.5", "C1", "C0")):
    curve = gaps[name].mean(axis=0)
    smooth = np.cumsum(curve) / place
    axes[2].plot(place, smooth, color=color, label=name)
axes[2].axhline(np.abs(np.subtract.outer(y, y)).mean(), color="0.7", linestyle=":")
axes[2].text(0, 1.605, "random order", color="0.5", va="bottom", fontsize=9)
axes[2].set(xlabel="results shown", ylabel="mean difference of grade", ylim=(0.8, 1.68))
axes[2].set_title("ranking by distance:\nlower is better")
axes[2].legend(fontsize=9, loc="lower right")
plt.show()
