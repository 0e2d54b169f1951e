"""
Canonical correlations by mini-batches
======================================

The loss of Eckart and Young has the canonical subspaces as its only minima and needs no whitening,
so that plain stochastic gradient descent finds them: here in a fraction of one pass over the rows.
The same loss trains networks, which find relations that no linear map sees.
"""

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cross_decomposition import CCA

from skpapers.cross_decomposition import DeepCCA, StochasticCCA

rng = np.random.default_rng(0)
n_samples, n_features, rho = 20_000, 100, np.linspace(0.9, 0.5, 5)
X, Y = rng.normal(size=(2, n_samples, n_features))
Y[:, :5] = rho * X[:, :5] + np.sqrt(1 - rho**2) * Y[:, :5]
X, Y = (V @ np.linalg.qr(rng.normal(size=(n_features, n_features)))[0] for V in (X, Y))
train, test = slice(0, 15_000), slice(15_000, None)

# %%
# Rows stream by in chunks of 1000; after each the variates are tested on rows not seen.
model, seconds, captured = StochasticCCA(5, batch_size=100, random_state=0), [], []
for _ in range(2):
    for chunk in np.array_split(np.arange(15_000), 15):
        start = time.perf_counter()
        model.partial_fit(X[chunk], Y[chunk])
        seconds.append(time.perf_counter() - start)
        captured.append(5 * model.score(X[test], Y[test]))
start = time.perf_counter()
exact = CCA(5).fit(X[train], Y[train])
exact_seconds = time.perf_counter() - start
variates = exact.transform(X[test], Y[test])
exact_captured = sum(np.corrcoef(*pair)[0, 1] for pair in zip(*(Z.T for Z in variates)))

# %%
# Two nonlinear views of one number: a spiral, and the number itself with its square.
t = rng.uniform(0, 4 * np.pi, 2500)
spiral = np.column_stack([t * np.cos(t), t * np.sin(t)]) + 0.1 * rng.normal(size=(2500, 2))
other = np.column_stack([t, t**2])
views = [np.hstack([V, rng.normal(size=(2500, 4))]).astype("float32") for V in (spiral, other)]
(A, A_test), (B, B_test) = (np.split(V, [1500]) for V in views)
deep = DeepCCA(1, hidden_layer_sizes=(64, 64), lr=5e-3, max_epochs=30, random_state=0).fit(A, B)
linear = CCA(1).fit(A, B)

fig, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
axes[0].plot(np.arange(1, 31) / 15, captured, marker=".", label="StochasticCCA, chunk by chunk")
axes[0].axhline(exact_captured, color="k", ls="--", label="sklearn CCA, all rows at once")
axes[0].set(xlabel="passes over the rows", ylabel="sum of 5 test correlations", ylim=(0, None))
axes[0].set_title(f"{sum(seconds):.1f} s for two passes, CCA {exact_seconds:.1f} s")
axes[0].legend(loc="lower right")
for axis, (name, fitted) in zip(axes[1:], [("sklearn CCA", linear), ("DeepCCA", deep)]):
    first, second = (np.ravel(Z) for Z in fitted.transform(A_test, B_test))
    drawn = axis.scatter(first, second, c=t[1500:], s=6, cmap="viridis")
    correlation = np.corrcoef(first, second)[0, 1]
    axis.set_title(f"{name}: test correlation {correlation:.2f}")
    axis.set(xlabel="variate of the spiral", ylabel="variate of the second view")
fig.colorbar(drawn, ax=axes[2], label="the number both views share")
plt.show()
