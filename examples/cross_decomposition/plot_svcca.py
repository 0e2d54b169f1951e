"""
===========================================
How alike are two layers of neural networks
===========================================

Two layers may hold the same information in quite different neurons. SVCCA first reduces each
layer to the directions that hold 99 % of its variance, and then looks for the canonical
correlations between what remains. Here it finds the subspace that two layers share, where plain
CCA drowns in noise directions, and it shows that a network converges from the bottom up.
"""

# %%
# Two layers that share a subspace
# --------------------------------
# Both layers have 200 neurons that mix the same 20 latent signals, each in its own way, plus a
# little noise. Scikit-learn's ``CCA`` (like any CCA without truncation) finds the 20 signals too,
# but its average over all directions says that the layers have little in common.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cross_decomposition import CCA
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from skpapers.cross_decomposition import SVCCA, svcca_similarity

rng = np.random.default_rng(0)
latent = rng.normal(size=(2000, 20))
first, second = (
    latent @ rng.normal(size=(20, 200)) + 0.05 * rng.normal(size=(2000, 200)) for _ in range(2)
)
noise = rng.normal(size=(2000, 200))

svcca = SVCCA().fit(first, second)
baseline = SVCCA().fit(first, noise)
plain = CCA(n_components=60, scale=False, tol=1e-4).fit(first, second)
plain_correlations = [
    np.corrcoef(x, y)[0, 1] for x, y in zip(*(s.T for s in plain.transform(first, second)))
]
plain_similarity = svcca_similarity(first, second, variance_threshold=1.0)

# %%
# A network converges from the bottom up
# --------------------------------------
# A network with three hidden layers learns to read digits. After each epoch, each layer is
# compared with its own final state.

X, y = load_digits(return_X_y=True)
X = X / 16


def activations(network):
    """Outputs of the three hidden layers."""
    layers, hidden = [], X
    for weights, bias in zip(network.coefs_[:-1], network.intercepts_[:-1]):
        hidden = np.maximum(hidden @ weights + bias, 0)
        layers.append(hidden)
    return layers


n_epochs = 40
curves = []
for seed in range(3):
    network = MLPClassifier((64, 64, 64), batch_size=100, random_state=seed)
    states = []
    for _ in range(n_epochs):
        states.append(activations(network.partial_fit(X, y, classes=range(10))))
    curves.append([[svcca_similarity(*pair) for pair in zip(s, states[-1])] for s in states])
curves = np.array(curves)

# %%
# The picture
# -----------

fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
left.plot(
    np.arange(1, 61),
    plain_correlations,
    color="tab:gray",
    label=f"scikit-learn CCA, first 60 pairs (mean of all 200: {plain_similarity:.2f})",
)
left.plot(
    np.arange(1, svcca.n_components_ + 1),
    svcca.correlations_,
    "o",
    color="tab:blue",
    markersize=4,
    label=f"SVCCA, all {svcca.n_components_} pairs (mean {svcca.similarity_:.2f})",
)
left.plot(
    np.arange(1, baseline.n_components_ + 1),
    baseline.correlations_,
    "x",
    color="tab:orange",
    markersize=5,
    label=f"SVCCA of a layer and noise (mean {baseline.similarity_:.2f})",
)
left.set(
    title="Two layers that share 20 signals",
    xlabel="canonical pair",
    ylabel="canonical correlation",
    ylim=(0, 1.45),
    yticks=np.linspace(0, 1, 6),
)
left.legend(loc="upper right", fontsize="small")

epochs = np.arange(1, n_epochs + 1)
for layer, color in enumerate(("tab:blue", "tab:green", "tab:red")):
    mean, spread = curves[:, :, layer].mean(axis=0), curves[:, :, layer].std(axis=0)
    right.plot(epochs, mean, color=color, label=f"hidden layer {layer + 1}")
    right.fill_between(epochs, mean - spread, mean + spread, color=color, alpha=0.2, linewidth=0)
right.set(
    title="Lower layers reach their final state first",
    xlabel="epoch",
    ylabel="SVCCA similarity to the final state",
)
right.legend(loc="lower right", title="mean and spread of 3 networks")
plt.show()
