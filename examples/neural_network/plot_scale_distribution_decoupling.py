"""
==============================================================
Deep networks that do not mind the size of their first weights
==============================================================

In a network of many linear layers the size of the initial weights is multiplied from layer to
layer. ``linear="sdd"`` normalises what a layer computes and learns its scale apart, so that the
size has no influence on the output, nor on how gradients travel.
"""

# %%
# Networks of growing depth on digits, plain gradient descent at one learning rate. He's initial
# weights are those that suit ReLU units; then three times these.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skpapers.neural_network import DivergenceError, NeuralClassifier

X, y = load_digits(return_X_y=True)
X = StandardScaler().fit_transform(X).astype(np.float32)
X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, random_state=0)
depths, he = (2, 4, 8, 12, 16), 6**0.5  # times the weights of torch


def accuracy(linear, gain, depth):
    network = NeuralClassifier(
        (64,) * depth,
        linear=linear,
        parametrization=f"standard(gain={gain})",
        optimizer="sgd",
        lr=0.1,
        batch_size=64,
        max_epochs=10,
        tol=0,
        random_state=0,
    )
    try:
        return network.fit(X, y).score(X_test, y_test)
    except DivergenceError:
        return 0.0


fig, axes = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True, layout="constrained")
for ax, factor in zip(axes, (1, 3)):
    for linear, style in (("dense", "s--"), ("sdd", "o-")):
        ax.plot(depths, [accuracy(linear, factor * he, d) for d in depths], style, label=linear)
    ax.set(title=f"initial weights {factor} x He", xlabel="hidden layers", xticks=depths)
axes[0].set_ylabel("accuracy on held-out digits")
axes[0].legend(title="linear")
axes[0].set_ylim(-0.03, 1.03)
plt.show()
