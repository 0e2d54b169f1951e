"""
Matrix subspace projection: the digit apart from the handwriting
================================================================

An autoencoder mixes everything it knows about an image. ``MatrixSubspaceProjection`` is one that
is told the class of its training images, and keeps it in a subspace of its own: the class can be
read there, removed, or replaced by another one, with the handwriting left as it is. No adversary
is trained.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from skpapers.decomposition import LinearSubspaceProjection, MatrixSubspaceProjection

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=0)
model = MatrixSubspaceProjection(max_epochs=60, random_state=0).fit(X_train, y_train)

# %%
# Each row is a test image, and what becomes of it with its class set to 0, 1, ..., 9. Slant and
# weight of the stroke stay.
shown = [
    np.flatnonzero(y_test == digit)[i] for digit, i in [(1, 3), (3, 1), (7, 0), (4, 2), (0, 5)]
]
originals = X_test[shown]
grid = [originals] + [model.manipulate(originals, {0: digit}) for digit in range(10)]
fig, axes = plt.subplots(len(shown), 11, figsize=(9, 4.3), layout="constrained")
for column, images in enumerate(grid):
    for axis, image in zip(axes[:, column], images):
        axis.imshow(image.reshape(8, 8), cmap="gray_r" if column else "Blues", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
    axes[0, column].set_title("given" if column == 0 else f"as {column - 1}")
fig.suptitle("one attribute replaced, the rest kept")


# %%
# What a linear classifier can read off the features. Ordinary features tell the class, and so does
# the latent space as a whole; its residual part hardly does. ``LinearSubspaceProjection`` removes
# what is linear from given features, in closed form.
def accuracy(fitted):
    classifier = LogisticRegression(max_iter=1000).fit(fitted.transform(X_train), y_train)
    return classifier.score(fitted.transform(X_test), y_test)


values = {"PCA, 32": accuracy(PCA(32).fit(X_train))}
linear = LinearSubspaceProjection(part="residual", standardize=False).fit(X_train, y_train)
values["linear projection,\nresidual"] = accuracy(linear)
for part in ("all", "residual"):
    values[f"autoencoder,\n{part}"] = accuracy(model.set_params(part=part))
fig, axis = plt.subplots(figsize=(7, 3.5), layout="constrained")
colors = ["tab:gray", "tab:green", "tab:gray", "tab:green"]
bars = axis.bar(list(values), list(values.values()), color=colors)
axis.bar_label(bars, [f"{value:.2f}" for value in values.values()], padding=8)
axis.axhline(0.1, color="k", linestyle=":", label="chance")
axis.set(ylim=(0, 1.15), ylabel="test accuracy", title="can the class be told?")
axis.legend()
plt.show()
