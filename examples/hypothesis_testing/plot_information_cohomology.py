"""
===================================================
Information that features have only when together
===================================================

The parity of two fair bits tells nothing about either of them: mutual information of pairs is
blind to it. :class:`~skpapers.hypothesis_testing.InformationStructure` computes the entropies of
all small sets of features, and groups what belongs together. Information cohomology says why
entropy: it solves an equation that nothing else solves.
"""

# %%
# Entropies are the only cocycles
# -------------------------------
#
# Two variables with two values, of which three pairs occur. We ask for any function f of their
# laws that obeys the chain rule f[XY](P) = f[X](P) + (X.f[Y])(P), with conditional terms weighted
# by P(x) to the power alpha, at all laws that are fractions with small denominators. Up to a
# factor the solution is the entropy of degree alpha.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import mutual_info_score

from skpapers.hypothesis_testing import (
    InformationStructure,
    information_cocycles,
    tsallis_entropy,
)

fig, axes = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
grid = np.linspace(0, 1, 101)
for alpha, color in zip([0.5, 2, 3], ["tab:blue", "tab:orange", "tab:green"]):
    found = information_cocycles([[0, 0], [1, 0], [1, 1]], alpha=alpha, max_count=10)
    small = [i for i, (_, law) in enumerate(found.unknowns) if sum(law) <= 5]
    binary = [i for i in small if len(found.unknowns[i][1]) == 2]
    shares = [found.unknowns[i][1][0] / sum(found.unknowns[i][1]) for i in binary]
    # the space of solutions has one dimension at these laws: its leading direction
    direction = np.linalg.svd(found.basis[small])[2][0]
    values = found.basis[binary] @ direction
    curve = np.array([tsallis_entropy([p, 1 - p], alpha) for p in grid])
    values *= curve[50] / values[np.argmin(np.abs(np.array(shares) - 0.5))]
    axes[0, 0].plot(grid, curve, color=color, label=f"Tsallis entropy, alpha = {alpha}")
    axes[0, 0].plot(shares, values, "o", color=color, ms=5)
axes[0, 0].set(title="Solutions of the chain rule (dots)", xlabel="P(X = 0)", ylabel="f[X](P)")
axes[0, 0].legend(fontsize="small")

# %%
# Pairs, and sets of three
# ------------------------
#
# Twelve bits: x2 is the parity of x0 and x1, x5 that of x3 and x4 but for 5 % of the rows, and x7
# is a copy of x6 but for 10 %. scikit-learn's mutual information sees the copy alone.

rng = np.random.RandomState(0)
X = rng.randint(2, size=(300, 12))
X[:, 2] = X[:, 0] ^ X[:, 1]
X[:, 5] = X[:, 3] ^ X[:, 4] ^ (rng.uniform(size=300) < 0.05)
X[:, 7] = X[:, 6] ^ (rng.uniform(size=300) < 0.1)

pairs = np.array([[mutual_info_score(a, b) for a in X.T] for b in X.T])
np.fill_diagonal(pairs, np.nan)
image = axes[0, 1].imshow(pairs, cmap="viridis", vmin=0)
fig.colorbar(image, ax=axes[0, 1], label="nats")
axes[0, 1].set(
    title="Pairs (mutual_info_score):\nonly x6 and x7",
    xlabel="bit",
    ylabel="bit",
    xticks=range(12),
)

structure = InformationStructure(max_order=3).fit(X)
print("groups:", [group.tolist() for group in structure.groups_])
triples = {s: v for s, v in structure.information_.items() if len(s) == 3}
ranked = sorted(triples, key=triples.get)
axes[1, 0].plot([triples[s] for s in ranked], ".", color="0.5")
for place, columns in enumerate(ranked[:2]):
    axes[1, 0].plot(place, triples[columns], "o", color="tab:red")
    name = ", ".join(f"x{j}" for j in sorted(columns))
    axes[1, 0].annotate(name, (place, triples[columns]), (10, 4), textcoords="offset points")
axes[1, 0].axhline(-np.log(2), color="k", ls=":", lw=1)
axes[1, 0].annotate("one bit of synergy", (110, -np.log(2)), (0, 4), textcoords="offset points")
axes[1, 0].set(
    title="Sets of three: both parities stand out",
    xlabel="sets of three bits, by their information",
    ylabel="information (nats)",
)

# %%
# Groups of pixels
# ----------------
#
# Groups of the pixels of digits, black and white: neighbours, and strokes that exclude each
# other. As a model of held-out digits, independent groups beat independent pixels.

digits = (load_digits().data > 7).astype(int)
order = rng.permutation(len(digits))
train, test = digits[order[:1200]], digits[order[1200:]]
pixels = InformationStructure(n_groups=20, max_cells=64).fit(train)
single = InformationStructure(n_groups=64).fit(train)
gain = pixels.score(test) - single.score(test)
sizes = np.bincount(pixels.labels_)
shown = np.where(sizes[pixels.labels_] > 1, pixels.labels_, np.nan).reshape(8, 8)
axes[1, 1].imshow(shown, cmap="tab20")
for place, label in enumerate(pixels.labels_):
    if sizes[label] > 1:
        row, column = divmod(place, 8)
        letter = chr(ord("A") + label)
        axes[1, 1].text(column, row, letter, ha="center", va="center", fontsize=9)
axes[1, 1].set(
    title=f"Groups of pixels: a held-out digit\nis {gain:.1f} nats likelier than by pixels",
    xticks=[],
    yticks=[],
)
plt.show()
