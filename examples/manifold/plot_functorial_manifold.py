"""
Functorial manifold learning: chains that stay together
=======================================================

Forty strains of DNA descend from one ancestor, and each goes through twenty more mutations. The
dissimilarity of two strings is either their distance, or the longest single step on the best
chain from one to the other. The same loss, the stress, then gives metric scaling (what
scikit-learn's MDS minimises) or single linkage scaling.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

from skpapers.manifold import FunctorialScaling

N_STRAINS, N_MUTATIONS = 40, 20
rng = np.random.default_rng(0)


def mutate(sequence):
    new, place = sequence.copy(), rng.integers(len(sequence))
    new[place] = (new[place] + rng.integers(1, 4)) % 4
    return new


ancestor, strings = rng.integers(0, 4, size=1000), []
for _ in range(N_STRAINS):
    strings.append(ancestor)
    for _ in range(100):
        strings[-1] = mutate(strings[-1])
    for _ in range(N_MUTATIONS):
        strings.append(mutate(strings[-1]))
X = np.array(strings)

# %%
# A strain is found again if its last string is nearest to its own first one.
fig, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
first = np.arange(N_STRAINS) * (N_MUTATIONS + 1)
last = first + N_MUTATIONS
clusterings = {"maximal": "distances: metric scaling", "single": "single linkage scaling"}
for axis, (clustering, title) in zip(axes, clusterings.items()):
    model = FunctorialScaling(clustering=clustering, metric="hamming", max_iter=1000)
    A = model.fit_transform(X)
    home = cdist(A[last], A[first]).argmin(axis=1) == np.arange(N_STRAINS)
    for strain, start in enumerate(first):
        path = A[start : start + N_MUTATIONS + 1]
        axis.plot(*path.T, lw=1.2, color=plt.cm.hsv(strain / N_STRAINS))
        axis.plot(*path[0], ".", ms=7, color=plt.cm.hsv(strain / N_STRAINS), mec="black", mew=0.5)
    axis.set(title=f"{title}\n{home.mean():.0%} of the strains found again", xticks=[], yticks=[])
    axis.set_aspect("equal", adjustable="datalim")

# %%
# Other compositions give other methods: UMAP's strengths with its loss, the cross-entropy.
digits, labels = load_digits(return_X_y=True)
digits, labels = digits[:600], labels[:600]
umap = FunctorialScaling(clustering="umap", loss="cross_entropy", eps=1e-3)
A = umap.fit_transform(digits)
drawn = axes[2].scatter(*A.T, c=labels, cmap="tab10", s=6)
axes[2].set(title="fuzzy strengths and cross-entropy (UMAP)\n600 digits", xticks=[], yticks=[])
fig.colorbar(drawn, ax=axes[2], label="digit", ticks=range(10))
plt.show()
