"""
=============================================
Regression by classification, with quantiles
=============================================

A network that predicts a histogram of the target, and is trained by cross-entropy, is hurt less
by noise and outliers than one trained by squared error. It gives quantiles besides.
"""

# %%
# The target is a sine; its noise grows from left to right, and some targets are far off.

import matplotlib.pyplot as plt
import numpy as np

from skpapers.neural_network import HistogramLossRegressor, NeuralRegressor

rng = np.random.default_rng(0)
x = np.sort(rng.uniform(0, 3, 1500)).astype(np.float32)
clean = np.sin(3 * x) * 2
y = clean + (0.1 + 0.3 * x) * rng.standard_t(1.5, len(x))
y = np.clip(y, -30, 30)
X = x[:, None]

common = {"hidden_layer_sizes": (128, 128), "max_epochs": 60, "batch_size": 64, "lr": 3e-3}
histogram = HistogramLossRegressor(n_bins=201, **common, random_state=0).fit(X, y)
squared = NeuralRegressor(**common, tol=0, random_state=0).fit(X, y)

# %%
# The means of the histograms, their quantiles, and one of the histograms.

fig, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
for ax in axes[:2]:
    ax.plot(x, y, ".", color="0.8", ms=3)
    ax.set(ylim=(-6, 6), xlabel="x")
for model, name in ((squared, "squared error"), (histogram, "hl_gauss")):
    error = np.sqrt(np.mean((model.predict(X) - clean) ** 2))
    axes[0].plot(x, model.predict(X), label=f"{name}, error {error:.2f}")
axes[0].plot(x, clean, "k--", lw=1, label="without noise")
axes[0].set_title("mean")
axes[0].legend(loc="lower left", fontsize=8)

low, median, high = histogram.predict_quantile(X, [0.1, 0.5, 0.9]).T
inside = np.mean((low <= y) & (y <= high))
axes[1].fill_between(x, low, high, alpha=0.3, label=f"80 % interval, covers {inside:.0%}")
axes[1].plot(x, median, label="median")
axes[1].set_title("quantiles")
axes[1].legend(loc="lower left", fontsize=8)

centers = histogram.bin_centers_[0]
for place in (0.3, 2.7):
    shares = histogram.predict_histogram(np.array([[place]], dtype=np.float32))[0]
    axes[2].step(centers, shares, where="mid", label=f"x = {place}")
axes[2].set(title="histograms", xlim=(-6, 6), xlabel="target")
axes[2].legend()
plt.show()
