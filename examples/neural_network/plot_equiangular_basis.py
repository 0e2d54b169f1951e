"""
Equiangular basis vectors: a fixed output layer
===============================================

The last layer of a classifier usually has a trained vector for each class. Here it is a set of
unit vectors that are made once, all almost orthogonal, and never trained: the network learns to
point at the vector of the class. Their number is not tied to the width of the embedding, and a
class that comes later gets a vector of its own while the others stay where they are.
"""

# %%
# How close to orthogonal can N vectors in d dimensions be? Not below the Welch bound. Random
# unit vectors are far above it; the descent along the squared excess of the cosines, or a closed
# form, comes within 20 per cent.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skpapers.neural_network import EquiangularBasisClassifier, equiangular_basis_vectors


def cosines(W):
    return np.abs(W @ W.T)[np.triu_indices(len(W), 1)]


sizes = np.array([33, 40, 48, 64, 96, 128])
rng = np.random.default_rng(0)
noise = [rng.normal(size=(n, 32)) for n in sizes]
noise = [cosines(W / np.linalg.norm(W, axis=1, keepdims=True)).max() for W in noise]
ours = [cosines(equiangular_basis_vectors(n, 32, random_state=0)).max() for n in sizes]
welch = np.sqrt((sizes - 32) / (32 * (sizes - 1)))

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
left.plot(sizes, noise, "s--", color="tab:gray", label="random unit vectors")
left.plot(sizes, ours, "o-", color="tab:blue", label="equiangular basis vectors")
left.plot(sizes, welch, "k:", label="Welch bound: none can be lower")
left.set(
    xlabel="number of vectors in 32 dimensions",
    ylabel="largest absolute cosine",
    title="almost orthogonal sets",
    ylim=(0, 1),
)
left.legend()

# %%
# Digits, at several widths of the embedding, next to scikit-learn's network, whose output layer
# is trained. Six dimensions are enough for ten classes.
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    (X / 16).astype(np.float32), y, test_size=0.3, stratify=y, random_state=0
)
settings = {"hidden_layer_sizes": (64,), "random_state": 0}
training = {"lr": 0.01, "max_epochs": 30, "tol": 0}
widths = [2, 3, 4, 6, 10, 16]
scores = []
for width in widths:
    network = EquiangularBasisClassifier(width, **training, **settings)
    scores.append(network.fit(X_train, y_train).score(X_test, y_test))
peer = MLPClassifier(learning_rate_init=0.01, batch_size=128, **settings)
trained = peer.fit(X_train, y_train).score(X_test, y_test)
right.plot(widths, scores, "o-", color="tab:blue", label="fixed vectors")
right.axhline(trained, color="k", ls="--", label="MLPClassifier: trained output layer")
right.axvline(10, color="tab:gray", lw=0.8, ls=":", label="number of classes")
right.set(xlabel="dimensions of the embedding", ylabel="test accuracy", title="digits")
right.legend(loc="lower right")

# %%
# A class that comes later. The network sees the digits 0 to 8; then `partial_fit` brings the 9,
# whose vector is orthogonal to the others because there was room in ten dimensions. Each panel
# shows the mean cosine of the rows of a digit with the vector of each class.
network = EquiangularBasisClassifier(10, **training, **settings)
old = y_train < 9
network.fit(X_train[old], y_train[old])


def mean_cosines():
    scores = network.decision_function(X_test)
    return np.stack([scores[y_test == digit].mean(axis=0) for digit in range(10)])


before = mean_cosines()
for _ in range(10):
    network.partial_fit(X_train, y_train)
fig, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
titles = "nine classes: the 9 is between all", "after ten passes with the 9"
for axis, title, table in zip(axes, titles, (before, mean_cosines())):
    image = axis.imshow(table, cmap="RdBu_r", vmin=-1, vmax=1)
    axis.set(
        title=title,
        xlabel="class vector",
        ylabel="digit shown",
        xticks=range(table.shape[1]),
        yticks=range(10),
    )
fig.colorbar(image, ax=axes, label="mean cosine", shrink=0.8)
print(f"test accuracy after the tenth class: {network.score(X_test, y_test):.3f}")
plt.show()
