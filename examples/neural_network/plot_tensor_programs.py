"""
=====================================================
One learning rate for all widths of a neural network
=====================================================

The best learning rate of a network moves when the network is widened, so a search on a small one
says little about the large one. The maximal update parametrization changes how initial weights
and learning rates depend on the width, and the optimum stays where it is.
"""

# %%
# The network is tuned at width 64, the base, where both parametrizations are the same but for the
# output weights, which start at zero. Then it is trained at eight times the width.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from skpapers.neural_network import NeuralClassifier, coordinate_check

X, y = load_digits(return_X_y=True)
X = StandardScaler().fit_transform(X).astype(np.float32)
rates, widths = 2.0 ** np.arange(-11, -5), (64, 128, 512)
gain = f"gain={6**0.5}"  # initial weights for ReLU units


def final_loss(parametrization, width, lr):
    network = NeuralClassifier(
        (width,) * 3,
        parametrization=parametrization,
        lr=lr,
        batch_size=64,
        max_epochs=5,
        tol=0,
        random_state=0,
    )
    return log_loss(y, network.fit(X, y).predict_proba(X))


fig, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
for ax, name in zip(axes, ("standard", "mup")):
    for width in widths:
        losses = [final_loss(f"{name}({gain})", width, lr) for lr in rates]
        (line,) = ax.loglog(rates, losses, label=f"width {width}")
        best = np.argmin(losses)
        ax.plot(rates[best], losses[best], "o", color=line.get_color())
    ax.set(title=name, xlabel="learning rate", ylim=(1e-3, 1))
    ax.set_xscale("log", base=2)
axes[0].set_ylabel("training loss after 5 epochs")
axes[0].legend()

# %%
# Why: after a few steps, the features of torch's own parametrization have moved further the wider
# the network is, those of the maximal update as far at every width.

for name, style in (("standard", "--"), ("mup", "-")):
    network = NeuralClassifier((64, 64, 64), parametrization=f"{name}({gain})", lr=0.01)
    check = coordinate_check(network, X[:128], y[:128], n_seeds=1, random_state=0)
    for layer in range(1, 3):
        label = f"{name}, layer {layer + 1}"
        axes[2].loglog(check["widths"], check["change"][:, layer], style, label=label)
axes[2].set(title="change of features in 5 steps", xlabel="width")
axes[2].set_xscale("log", base=2)
axes[2].legend()
plt.show()
