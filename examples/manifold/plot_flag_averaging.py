"""
Flag means: principal components of data in shards
==================================================

The rows of a table are kept at several sites, and each site sends only its principal axes. How
are they merged? A mean of matrices depends on the signs each site happened to choose. A mean of
subspaces does not, but forgets which axis came first. A mean of flags, which are nested subspaces,
keeps the order; and the median of flags holds when some sites send nonsense.
"""

# %%
# Digits in shards, three components. The error is the chordal distance to the principal
# components of all rows.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skpapers.manifold import (
    FlagAveragedPCA,
    chordal_flag_distance,
    flag_mean,
    flag_median,
)

X = load_digits().data
full = PCA(3).fit(X)
names = ["mean of matrices", "mean of subspaces", "flag mean"]
shard_counts = [2, 4, 6, 10]
errors, cosines = np.zeros((len(shard_counts), 10, 3)), np.zeros((3, 3))
for i, n_shards in enumerate(shard_counts):
    for seed in range(10):
        model = FlagAveragedPCA(3, n_splits=n_shards, random_state=seed).fit(X)
        bases = np.swapaxes(model.shard_components_, 1, 2)
        merged = [
            np.linalg.qr(bases.mean(axis=0))[0],
            flag_mean(bases, flag_type=[3]),
            model.components_.T,
        ]
        errors[i, seed] = [chordal_flag_distance(Y, full.components_.T) for Y in merged]
        if n_shards == 4:  # how well each component is found
            cosines += [np.abs(np.sum(Y * full.components_.T, axis=0)) / 10 for Y in merged]

# %%
# Bases about a center, in ten dimensions, and a growing share of outliers about another.
rng = np.random.default_rng(0)


def bases_about(center, n, noise=0.02):
    return np.linalg.qr(center + noise * rng.normal(size=(n, 10, 3)))[0]


center, other = np.linalg.qr(rng.normal(size=(2, 10, 3)))[0]
shares = np.arange(0, 45, 5)
robust = np.zeros((len(shares), 2))
for i, share in enumerate(shares):
    n_outliers = 40 * share // 100
    bases = [bases_about(center, 40 - n_outliers), bases_about(other, n_outliers)]
    for j, average in enumerate((flag_mean, flag_median)):
        robust[i, j] = chordal_flag_distance(average(np.concatenate(bases)), center)

# %%
# The mean of flags is the nearest to all of the data, and finds each component; the others mix
# them. Of the two averages of flags the median keeps to the majority.
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
spread = errors.std(axis=1)
for j, name in enumerate(names):
    left.errorbar(shard_counts, errors.mean(axis=1)[:, j], spread[:, j], capsize=3, label=name)
    middle.bar(np.arange(3) + 0.27 * (j - 1), cosines[j], width=0.25, label=name)
left.set(xlabel="number of shards", ylabel="distance to PCA of all rows", ylim=(0, 2.5))
left.set(xticks=shard_counts, title="digits, three components")
left.legend(loc="upper right", fontsize=8)
middle.set(xticks=np.arange(3), xticklabels=["first", "second", "third"], ylim=(0, 1.3))
middle.set(xlabel="component", ylabel="|cosine| with PCA of all rows", title="four shards")
middle.legend(loc="upper right", fontsize=8)

for j, name in enumerate(("flag mean", "flag median")):
    right.plot(shares, robust[:, j], "o-", color=("C2", "C3")[j], label=name)
right.set(xlabel="outliers, %", ylabel="distance to the center", title="forty bases")
right.legend()
plt.show()
