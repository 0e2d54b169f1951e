"""
Clusters from a few yes/no answers
==================================

Are these two the same? People answer that well, about customers, products or handwriting, where
no distance does. Answers alone leave all but the largest groups in pieces. Features alone know
no better than their distances. RGCA joins by answers first, and completes the pieces along a
graph of neighbours that may be partly wrong.
"""

# %%
# Three moons that touch, and 400 answers on random pairs of 600 points, which is less than one
# answer in four hundred.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.datasets import load_digits, make_moons
from sklearn.metrics import rand_score

from skpapers.cluster import RGCA, SACA, misclassification_error, sample_pairs

X, y = make_moons(400, noise=0.09, random_state=0)
third, _ = make_moons(400, noise=0.09, random_state=1)
X = np.concatenate([X, third[:200] + [2.0, 0.1]])
y = np.concatenate([y, np.full(200, 2)])
answers = sample_pairs(y, 400, random_state=0)

fig, axes = plt.subplots(1, 5, figsize=(16, 3.5), layout="constrained")
for same, color in ((True, "C0"), (False, "0.85")):
    ends = X[answers.pairs[answers.similar == same]][:150]
    axes[0].plot(*ends.transpose(2, 1, 0), color=color, lw=0.6)
axes[0].scatter(*X.T, s=3, color="k", zorder=3)
axes[0].set_title("some answers: same, different")

fitted = {
    "SpectralClustering(3)": SpectralClustering(
        3, affinity="nearest_neighbors", random_state=0
    ).fit(X),
    "RGCA(3)": RGCA(3, order="evidence", random_state=0).fit(X, **answers),
}
for axis, (name, model) in zip(axes[1:], fitted.items()):
    error = misclassification_error(y, model.labels_)
    axis.scatter(*X.T, s=5, c=model.labels_, cmap="tab10", vmax=9)
    axis.set_title(f"{name}: {error} misplaced")
for axis in axes[:3]:
    axis.set(xticks=[], yticks=[])

# %%
# Images of digits, by the number of answers an image. The pieces of SACA hardly fit together
# before there are some ten answers an image. The Rand index, the share of pairs that are told
# right, hides this: most pairs are different, and in a thousand pieces most pairs are apart.
X, y = load_digits(return_X_y=True)
amounts = [1, 2, 4, 8, 16]
models = {
    "SACA": SACA(),
    "RGCA": RGCA(random_state=0),
    "RGCA, evidence": RGCA(order="evidence", random_state=0),
}
found = {name: [] for name in models}
for amount in amounts:
    answers = sample_pairs(y, amount * len(y), random_state=0)
    for name, model in models.items():
        found[name].append(model.fit(X, **answers).labels_)
found["KMeans(10), no answers"] = [KMeans(10, n_init=3, random_state=0).fit(X).labels_] * 5

for name, partitions in found.items():
    style = "--" if name.startswith("KMeans") else "o-"
    misplaced = [misclassification_error(y, labels) / len(y) for labels in partitions]
    axes[3].plot(amounts, misplaced, style, ms=4, label=name)
    axes[4].plot(amounts, [1 - rand_score(y, labels) for labels in partitions], style, ms=4)
axes[3].set(title="share of misplaced images", ylim=(0, 1))
axes[4].set(title="share of pairs told wrong", ylim=(0, 1))
for axis in axes[3:]:
    axis.set_xscale("log", base=2)
    axis.set(xlabel="answers an image", xticks=amounts, xticklabels=amounts)
axes[3].legend(fontsize="small")
plt.show()
