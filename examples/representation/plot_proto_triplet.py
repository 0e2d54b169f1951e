"""
New classes from a handful of examples
======================================

A classifier that has learned a metric on many classes takes new ones from a few examples, without
training. What carries over is which directions matter; how well, the ICNN score tells.
"""

# %%
# A hundred classes that differ in six hidden directions of forty; the other directions vary more.
# The metric is trained on 64 of them. The other 36 are told in episodes of five classes.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.neighbors import NeighborhoodComponentsAnalysis

from skpapers.representation import ProtoTripletClassifier, icnn_score

rng = np.random.default_rng(0)
y = np.repeat(np.arange(100), 30)
signal = rng.normal(size=(100, 6))[y] + 0.5 * rng.normal(size=(3000, 6))
X = np.column_stack([signal, 2 * rng.normal(size=(3000, 34))])
X = X @ np.linalg.qr(rng.normal(size=(40, 40)))[0] / 3
base = y < 64


def few_shot_accuracy(Z, n_shot, rng):
    """Accuracy of the nearest mean of `n_shot` examples, among five classes not trained on."""
    Z, hits = Z.reshape(36, 30, -1), []
    for _ in range(200):
        episode = rng.permuted(Z[rng.choice(36, 5, replace=False)], axis=1)
        means, queries = episode[:, :n_shot].mean(axis=1), episode[:, n_shot:]
        squares = ((queries[:, :, None] - means) ** 2).sum(axis=3)
        hits.append(np.mean(squares.argmin(axis=2) == np.arange(5)[:, None]))
    return np.mean(hits)


model = ProtoTripletClassifier(random_state=0).fit(X[base], y[base])
nca = NeighborhoodComponentsAnalysis(6, max_iter=10, random_state=0).fit(
    X[base][::3], y[base][::3]
)
embeddings = {
    "features": X[~base],
    "NeighborhoodComponentsAnalysis": nca.transform(X[~base]),
    "ProtoTripletClassifier": model.transform(X[~base]),
}
shots = [1, 2, 5, 10]

# %%
# The first two principal components of five classes that were never seen, in the features and in
# the embedding, with the few-shot accuracy and the score.
fig, axes = plt.subplots(1, 4, figsize=(15, 3.8), layout="constrained")
five = y[~base] < 69
for axis, (name, Z) in zip(axes, embeddings.items()):
    part = Z[five] - Z[five].mean(axis=0)
    plane = part @ np.linalg.svd(part, full_matrices=False)[2][:2].T
    axis.scatter(*plane.T, c=y[~base][five], cmap="tab10", s=12)
    axis.set(xticks=[], yticks=[], title=f"{name}\nICNN score {icnn_score(Z, y[~base]):.2f}")
    accuracy = [few_shot_accuracy(Z, n, np.random.default_rng(0)) for n in shots]
    axes[3].plot(shots, accuracy, "o-", label=name)
axes[3].axhline(0.2, color="0.6", ls=":", label="chance")
axes[3].set(ylim=(0, 1.02), xlabel="examples of each new class", ylabel="accuracy", xticks=shots)
axes[3].legend(fontsize="small")
plt.show()
