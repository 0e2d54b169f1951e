"""
=================================================
A few features and a few exemplars that correlate
=================================================

Two views of 80 samples, of 3000 and 60 features, share three latent signals; each signal is in
ten features of both views. Dense CCA gives a weight to every feature and fits the noise.
Primal-dual sparse CCA relates a handful of features of the first view to a handful of samples of
the second, finds the right ones, and its correlation holds on new data.
"""

# %%
# Two views that share three signals
# ----------------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cross_decomposition import CCA

from skpapers.cross_decomposition import PrimalDualSparseCCA


def draw(seed, n=280, p=3000, q=60):
    """80 samples to learn from and 200 to test on."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(n, 3))
    X, Y = rng.normal(size=(n, p)), rng.normal(size=(n, q))
    for i in range(3):
        X[:, 10 * i : 10 * i + 10] += 1.5 * latents[:, [i]]
        Y[:, 10 * i : 10 * i + 10] += 1.5 * latents[:, [i]]
    return X[:80], Y[:80], X[80:], Y[80:]


X, Y, X_test, Y_test = draw(0)
sparse = PrimalDualSparseCCA(n_components=3, scores="sparse").fit(X, Y)
dense = CCA(n_components=1).fit(X, Y)

# %%
# How much sparsity?
# ------------------
# The penalty is set from the data; ``scale_mu`` multiplies it. Over a wide range around 1 the
# correlation on new data stays far above that of dense CCA.


def dense_correlations(seed):
    X, Y, X_test, Y_test = draw(seed)
    x, y = CCA(n_components=1).fit(X, Y).transform(X_test, Y_test)
    return np.corrcoef(x[:, 0], y[:, 0])[0, 1]


scales = np.geomspace(0.25, 4, 9)
held_out, n_features = np.zeros((2, 3, len(scales)))
for seed in range(3):
    train_X, train_Y, *test = draw(seed)
    for j, scale in enumerate(scales):
        model = PrimalDualSparseCCA(scale_mu=scale, scores="sparse").fit(train_X, train_Y)
        held_out[seed, j] = model.score(*test)
        n_features[seed, j] = model.get_support().sum()
baseline = np.mean([dense_correlations(seed) for seed in range(3)])

# %%
# The picture
# -----------

fig, (top, bottom) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
shown = 100
scale = np.abs(dense.x_weights_[:, 0]).max()
top.stem(
    np.arange(shown),
    np.abs(dense.x_weights_[:shown, 0]) / scale + 3,
    linefmt="lightgray",
    markerfmt=".",
    basefmt="gray",
    bottom=3,
)
colors = ("tab:blue", "tab:green", "tab:red")
for i, color in enumerate(colors):
    weights = np.abs(sparse.x_weights_[:, i])
    used = np.flatnonzero(weights[:shown])
    bottom_line = 2 - i
    top.vlines(used, bottom_line, bottom_line + 0.8 * weights[used] / weights.max(), color=color)
    top.axhline(bottom_line, color="gray", linewidth=0.5)
for i in range(3):
    top.axvspan(10 * i - 0.5, 10 * i + 9.5, color="gold", alpha=0.12 + 0.1 * (i % 2), linewidth=0)
counts = [int(np.sum(sparse.x_weights_[:, i] != 0)) for i in range(3)]
labels = [f"sparse {i + 1}\n({counts[i]} features)" for i in (2, 1, 0)]
top.set_yticks([0.4, 1.4, 2.4, 3.4], [*labels, "scikit-learn CCA\n(3000 features)"])
top.set(
    title="Weights of the first 100 of 3000 features",
    xlabel="feature (shaded: the features of each latent signal)",
    xlim=(-1, shown),
    ylim=(-0.1, 4.15),
)
bottom.semilogx(scales, held_out.mean(axis=0), "o-", color="tab:blue", label="sparse CCA")
bottom.axhline(baseline, color="gray", linestyle="--", label="scikit-learn CCA")
for x, y, n in zip(scales, held_out.mean(axis=0), n_features.mean(axis=0)):
    bottom.annotate(
        f"{n:.0f}", (x, y), (0, 7), textcoords="offset points", ha="center", fontsize="small"
    )
bottom.set(
    title="Correlation on new data (numbers: features used)",
    xlabel="scale_mu: factor on the data-driven penalty",
    ylabel="held-out correlation, mean of 3 data sets",
    ylim=(0, 1.1),
)
bottom.set_xticks([0.25, 0.5, 1, 2, 4], ["1/4", "1/2", "1", "2", "4"])
bottom.minorticks_off()
bottom.legend(loc="lower left")
plt.show()
