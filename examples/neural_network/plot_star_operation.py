"""
============================================
Products of two linear maps see interactions
============================================

A star block multiplies two linear maps of its input, entry by entry. That alone is a
nonlinearity, and one that suits targets made of products.
"""

# %%
# The class is the sign of a sum of four products. Networks of one block without an activation are
# compared with those that add the two maps and use ReLU6, with as many weights, and with gradient
# boosting.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from skpapers.neural_network import NeuralClassifier, star_feature_dimension

rng = np.random.default_rng(0)
X = rng.normal(size=(5000, 8)).astype(np.float32)
y = (X[:, ::2] * X[:, 1::2]).sum(axis=1) > 0
X, X_test, y, y_test = X[:3000], X[3000:], y[:3000], y[3000:]
widths = (2, 4, 8, 16, 32, 64)
blocks = {
    "star, no activation": "star(ratio=1, branch_activation='none')",
    "star, ReLU6": "star(ratio=1)",
    "sum, ReLU6": "star(ratio=1, operation='sum')",
    "sum, no activation": "star(ratio=1, operation='sum', branch_activation='none')",
}


def accuracy(block, width):
    network = NeuralClassifier(
        (width,),
        block=block,
        normalization="batch",
        optimizer="adamw",
        lr=1e-2,
        max_epochs=20,
        tol=0,
        random_state=0,
    )
    return network.fit(X, y).score(X_test, y_test)


fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for (name, block), style in zip(blocks.items(), ("o-", "o--", "s-", "s--")):
    axes[0].plot(widths, [accuracy(block, width) for width in widths], style, label=name)
boosting = HistGradientBoostingClassifier(random_state=0).fit(X, y).score(X_test, y_test)
axes[0].axhline(boosting, color="k", lw=1, ls=":", label="gradient boosting")
axes[0].set(xlabel="width of the block", ylabel="accuracy on test rows", xticks=widths)
axes[0].set_xscale("log", base=2)
axes[0].legend(fontsize=8)

# %%
# Each layer doubles the degree: the number of monomials that narrow layers reach.

for depth in (1, 2, 3):
    monomials = [star_feature_dimension(width, depth) for width in widths]
    axes[1].loglog(widths, monomials, "o-", label=f"{depth} layers" if depth > 1 else "1 layer")
axes[1].set(xlabel="width", ylabel="monomials", xticks=widths)
axes[1].set_xscale("log", base=2)
axes[1].legend()
plt.show()
