"""
=======================================================
Images by generators that call smaller generators
=======================================================

Scikit-learn has no likelihood model of images: a :class:`~sklearn.naive_bayes.CategoricalNB` gives
every pixel a distribution of its own. :class:`~skpapers.density.FractalDensity` models all of them
jointly: a transformer over patches tells each patch's own transformer what came before it, which
does the same with its pixels. Probabilities are exact, samples look like digits, and attention
stays cheap where images get larger.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.naive_bayes import CategoricalNB

from skpapers.density import FractalDensity

# %%
# Digits
# ------
# 17 gray values; half of the digits to fit, half to test. Both models know the labels.

X, y = load_digits(return_X_y=True)
X = X.astype(np.float32)
train, test, y_train, y_test = X[::2], X[1::2], y[::2], y[1::2]
fractal = FractalDensity(
    (8, 8), widths=(64, 32, 32), depths=(2, 1, 1), batch_size=32, lr=4e-3, random_state=0
)
fractal.set_params(max_epochs=18).fit(train, y_train)
naive = CategoricalNB(min_categories=17).fit(train, y_train)
log_share = np.stack(naive.feature_log_prob_, axis=1)  # (class, pixel, gray value)

# %%
# The bits that a pixel of a new digit takes, on average.

marginal = np.stack([(train == k).sum(axis=0) for k in range(17)], axis=1) + 1.0
marginal = np.log(marginal / marginal.sum(axis=1, keepdims=True))
pixels = np.arange(64)
bits = {
    "pixels independent": -marginal[pixels, test.astype(int)].mean() / np.log(2),
    "CategoricalNB, label known": -log_share[y_test[:, None], pixels, test.astype(int)].mean()
    / np.log(2),
    "FractalDensity": fractal.bits_per_dim(test),
    "FractalDensity, label known": fractal.bits_per_dim(test, y_test),
}

# %%
# Three samples a class. The naive Bayes model draws every pixel by itself.

labels = np.repeat(np.arange(10), 3)
rng = np.random.RandomState(0)
uniform = rng.uniform(size=(30, 64, 1))
naive_samples = (np.exp(log_share[labels]).cumsum(axis=2) < uniform).sum(axis=2)
samples = fractal.sample(30, y=labels)


def sheet(images):
    """Three rows of ten digits, with a gap between them."""
    grid = np.pad(images.reshape(10, 3, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))
    return grid.transpose(1, 2, 0, 3).reshape(30, 100)


# %%
# Attention compares all pairs of patches within a patch of the level above, in each of these.


def attention_pairs(sizes):
    n_patches = [(sizes[0] // size) ** 2 for size in sizes]
    return sum(fine**2 // coarse for coarse, fine in zip(n_patches, n_patches[1:]))


# %%
fig = plt.figure(figsize=(11, 5.2), layout="constrained")
grid = fig.add_gridspec(2, 2, width_ratios=[1.35, 1])
for row, (name, images) in enumerate(
    {"CategoricalNB": naive_samples, "FractalDensity": samples}.items()
):
    ax = fig.add_subplot(grid[row, 0])
    ax.imshow(sheet(images), cmap="gray_r")
    ax.set(xticks=[], yticks=[], title=f"Samples of {name}")

ax = fig.add_subplot(grid[0, 1])
bars = ax.barh(list(bits), list(bits.values()), color=["C1", "C1", "C0", "C0"])
ax.bar_label(bars, fmt="%.2f", padding=3)
ax.invert_yaxis()
ax.set(xlabel="bits per pixel of new digits", xlim=(0, 2.9), title="Fewer is better")

ax = fig.add_subplot(grid[1, 1])
sides = np.array([8, 16, 32, 64, 128, 256])
flat = [attention_pairs([s, 1]) for s in sides]
split = [attention_pairs([s, 4, 1]) for s in sides]
deep = [attention_pairs([s, 16, 4, 1]) for s in sides[1:]]
ax.loglog(sides, flat, "o-", color="C1", label="flat transformer")
ax.loglog(sides, split, "o-", color="C0", label="patches of 4 x 4")
ax.loglog(sides[1:], deep, "o--", color="C0", label="patches of 16 x 16 and 4 x 4")
ax.set(
    xlabel="side of the image",
    ylabel="query-key pairs",
    title="Cost of attention",
    xticks=sides,
    xticklabels=sides,
    ylim=(500, 1e13),
)
ax.minorticks_off()
ax.legend(frameon=False)
plt.show()
