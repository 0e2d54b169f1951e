"""
======================================================
The probability of any part of a row, in a single pass
======================================================

Which digits could have this upper half, and how probable is it? A joint distribution answers both,
but an autoregressive model needs one network pass for every pixel, and a fixed order.
:class:`~skpapers.density.MarginalizationModel` has a network for the probability of any subset of
the columns, trained to agree with one for the conditionals: marginals come in one pass.
Scikit-learn fills in missing values with :class:`~sklearn.impute.KNNImputer`, which averages
neighbours: one answer, often a blend, and no probability.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.impute import KNNImputer
from sklearn.model_selection import train_test_split

from skpapers.density import MarginalizationModel

# %%
# Binary digits
# -------------
# The conditionals are trained first, then the marginals.

X = (load_digits().data > 7).astype(np.float32)
train, test = train_test_split(X, test_size=500, random_state=0)
model = MarginalizationModel(
    n_categories=2, n_layers=2, lr=2e-3, pretrain_epochs=40, max_epochs=40, random_state=0
)
model.fit(train)

# %%
# Half of the pixels, at random: their probability by one pass and by the chain rule, which asks
# the conditionals for a pixel after another.

rng = np.random.RandomState(0)
half = np.where(rng.uniform(size=test.shape) < 0.5, np.nan, test)
seconds, log_p = {}, {}
for method in ("marginal", "chain"):
    start = time.perf_counter()
    log_p[method] = model.score_samples(half, method=method)
    seconds[method] = time.perf_counter() - start
rank = spearmanr(log_p["marginal"], log_p["chain"])[0]

# %%
# The upper halves of six digits, and what the lower ones may be.

chosen = test[[0, 3, 5, 8, 10, 14]]
seen = np.where(np.arange(64) < 32, chosen, np.nan)
columns = [
    ("known", seen),
    ("truth", chosen),
    ("KNNImputer", KNNImputer().fit(train).transform(seen)),
    ("most probable\npixel by pixel", model.impute(seen, "sequential")),
    ("drawn", model.impute(seen, "sample", random_state=1)),
    ("drawn again", model.impute(seen, "sample", random_state=2)),
]

# %%
fig = plt.figure(figsize=(11, 5.4), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=[1.25, 1])
axes = left.subplots(len(chosen), len(columns))
for axes_of_column, (name, rows) in zip(axes.T, columns):
    axes_of_column[0].set_title(name, fontsize=9)
    for ax, row in zip(axes_of_column, rows):
        ax.imshow(row.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[], facecolor="#f3dcc4")
left.suptitle("Lower halves, given the upper ones", fontsize=11)

ax = right.subplots()
ax.plot(log_p["chain"], log_p["marginal"], ".", ms=4, alpha=0.6)
ends = [min(map(np.min, log_p.values())), max(map(np.max, log_p.values()))]
ax.plot(ends, ends, color="0.5", lw=1)
ax.set(
    xlabel=f"chain rule: 64 passes, {1e3 * seconds['chain']:.0f} ms",
    ylabel=f"marginal: one pass, {1e3 * seconds['marginal']:.0f} ms",
    title=f"Log probability of a random half of the pixels\n(rank correlation {rank:.2f})",
)
plt.show()
