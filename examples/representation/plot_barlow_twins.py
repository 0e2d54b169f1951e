"""
Barlow Twins: features from unlabelled rows
===========================================

Two distortions of every image go through one network. The correlation of each output of one view
with each output of the other is pushed to the identity: outputs ignore the distortion, and repeat
nothing. A linear classifier on what the network learnt then needs fewer labels than one on the
pixels, or on principal components.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpapers.representation import BarlowTwins, image_affine

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
unlabelled, test, y_train, y_test = train_test_split(X, y, train_size=0.6, random_state=0)

twins = BarlowTwins(augmentation="image_affine", image_shape=(8, 8), max_epochs=30, random_state=0)
redundant = BarlowTwins(**{**twins.get_params(), "lambd": 0.0}).fit(unlabelled)
twins.fit(unlabelled)

# %%
# Without the second term of the loss (lambda = 0) the outputs are invariant but repeat each other.
generator = torch.Generator().manual_seed(0)
fig, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained", width_ratios=[1, 1.3, 1.3])
images = torch.tensor(unlabelled[:4])
views = [images, *(image_affine(images, generator, (8, 8)) for _ in range(2))]
grid = np.vstack([np.hstack([v.reshape(8, 8) for v in row]) for row in zip(*views)])
axes[0].imshow(grid, cmap="gray_r")
axes[0].set_xticks([3.5, 11.5, 19.5], ["image", "view 1", "view 2"])
axes[0].set(yticks=[], title="distortions")
for axis, (model, title) in zip(axes[1:], [(redundant, "lambda = 0"), (twins, "Barlow Twins")]):
    C = model.cross_correlation_[:60, :60]
    drawn = axis.imshow(C, vmin=-1, vmax=1, cmap="RdBu_r")
    axis.set(title=f"{title}: correlation of the views", xlabel="output, view 2")
    axis.set_ylabel("output, view 1")
fig.colorbar(drawn, ax=axes[1:], label="correlation")

# %%
# Few labels: mean accuracy over five draws of the labelled rows.
counts = [1, 2, 5, 10, 20]
rng = np.random.default_rng(0)
features = {
    "Barlow Twins": twins.transform,
    "pixels": np.asarray,
    "PCA, 30 components": PCA(30).fit(unlabelled).transform,
}
scores = {name: np.zeros((len(counts), 5)) for name in features}
for i, count in enumerate(counts):
    for draw in range(5):
        labelled = np.concatenate(
            [rng.choice(np.flatnonzero(y_train == c), count, replace=False) for c in range(10)]
        )
        for name, embed in features.items():
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
            probe.fit(embed(unlabelled[labelled]), y_train[labelled])
            scores[name][i, draw] = probe.score(embed(test), y_test)

fig, axis = plt.subplots(figsize=(6, 4), layout="constrained")
for name, found in scores.items():
    axis.errorbar(counts, found.mean(1), found.std(1), marker="o", capsize=3, label=name)
axis.set(xscale="log", xlabel="labels a class", ylabel="test accuracy", title="linear classifier")
axis.set_xticks(counts, counts)
axis.minorticks_off()
axis.legend()
plt.show()
