"""
===========================================
Learning from sets: the order is no feature
===========================================

A sample is often a set: a bag of measurements, a point cloud, the items of a basket.
:class:`~skpapers.symmetry.DeepSetsRegressor` embeds every element, pools the embeddings and
predicts from the sum, so that its answer depends neither on the order of the elements nor on a
fixed number of them. Scikit-learn has no input for sets: one concatenates the elements, padded to
the longest set, or summarises each set by its mean.

The first panel is the paper's sum of digits: trained on sets of 1 to 10 images, tested on sets of
any size. The second is its population statistic: the entropy of a distribution from 300 draws.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_ridge import KernelRidge
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from skpapers.symmetry import DeepSetsRegressor

warnings.simplefilter("ignore", ConvergenceWarning)  # the perceptron has as many epochs

# %%
# Sum of digits
# -------------
# Only the sum of the labels of each set is known in training. The perceptron on concatenated,
# zero-padded images cannot take more than ten. The median of the sums of each size is the best
# guess that knows the size alone. As in the paper, rho is linear.

rng = np.random.RandomState(0)
images, labels = load_digits(return_X_y=True)
order = rng.permutation(len(images))
images, labels = images[order].astype(np.float32) / 16, labels[order].astype(float)


def draw(n_sets, sizes, first, last):
    index = [rng.randint(first, last, size=m) for m in rng.choice(sizes, size=n_sets)]
    return [images[i] for i in index], np.array([labels[i].sum() for i in index])


def concatenate(sets):
    table = np.zeros((len(sets), 10, 64), dtype=np.float32)
    for row, members in zip(table, sets):
        row[: len(members)] = members
    return table.reshape(len(sets), -1)


X, y = draw(6000, np.arange(1, 11), 0, 1200)
deep_sets = DeepSetsRegressor(
    n_rho_layers=1, loss="absolute_error", max_epochs=12, lr=3e-3, random_state=0
)
deep_sets.fit(X, y)
perceptron = MLPRegressor(hidden_layer_sizes=(64, 64), max_iter=12, tol=0, random_state=0)
perceptron.fit(concatenate(X), (y - y.mean()) / y.std())

sizes = np.array([1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20])
errors = {"Deep Sets": [], "MLPRegressor, concatenated": [], "median of these sets": []}
for size in sizes:
    X_test, y_test = draw(200, [size], 1200, len(images))
    found = {"Deep Sets": deep_sets.predict(X_test), "median of these sets": np.median(y_test)}
    if size <= 10:
        z = perceptron.predict(concatenate(X_test))
        found["MLPRegressor, concatenated"] = z * y.std() + y.mean()
    for name, prediction in found.items():
        errors[name].append(np.abs(prediction - y_test).mean())

# %%
# Entropy of a population
# -----------------------
# Each set has 300 draws of a rotated normal distribution; the target is the entropy of the first
# coordinate. All the means are zero, so kernel ridge on them learns nothing.


def population(angles):
    turn = np.array([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]])
    roots = turn.transpose(2, 0, 1) @ [[1.5, 0.4], [0.1, 0.5]]
    draws = rng.standard_normal((len(angles), 300, 2)) @ roots.transpose(0, 2, 1)
    variance = (roots[:, 0] ** 2).sum(axis=1)
    return draws.astype(np.float32), 0.5 * np.log(2 * np.pi * np.e * variance)


X, y = population(np.linspace(0, np.pi, 256))
angles = np.linspace(0, np.pi, 120)
X_test, y_test = population(angles)
entropy = DeepSetsRegressor(pooling="mean", max_epochs=60, random_state=0).fit(X, y)
scaler = StandardScaler().fit(X.mean(axis=1))
ridge = KernelRidge(kernel="rbf", gamma=0.5, alpha=0.1)
ridge.fit(scaler.transform(X.mean(axis=1)), y - y.mean())
ridge_entropy = ridge.predict(scaler.transform(X_test.mean(axis=1))) + y.mean()

# %%
colors = {"Deep Sets": "C0", "MLPRegressor, concatenated": "C1", "median of these sets": "0.6"}
fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")
left.axvspan(0.5, 10, color="0.94", zorder=0)
left.text(5.2, 0.2, "sizes in training", ha="center", color="0.4")
for name, values in errors.items():
    style = "--" if name.startswith("median") else "o-"
    left.plot(sizes[: len(values)], values, style, color=colors[name], label=name)
left.set(
    xlabel="images in the set",
    ylabel="mean absolute error of the sum",
    title="Sum of digits",
    xlim=(0.5, 20.5),
    ylim=(0, None),
    xticks=range(0, 21, 5),
)
left.legend(loc="upper left", frameon=False)
right.plot(angles, y_test, color="k", lw=1.5, label="truth")
right.plot(angles, entropy.predict(X_test), ".", color="C0", label="Deep Sets")
right.plot(angles, ridge_entropy, ".", color="C1", label="KernelRidge on the means")
right.set(
    xlabel="angle of the distribution",
    ylabel="entropy",
    title="Entropy from 300 draws",
    ylim=(0.5, 2.3),
)
right.legend(loc="upper center", frameon=False)
plt.show()
