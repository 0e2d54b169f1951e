"""
COSMO: nonlinear causes by annealing an orientation
===================================================

Every column has a priority, and edges point from low to high priority: softly at first, sharply as
the temperature falls. No step evaluates acyclicity, and the result has no cycle. Equations may be
nonlinear: below, a linear model reverses an arrow, and the nonlinear one finds the truth,
x0 -> x1 -> x2.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np

from skpapers.causal import COSMO

rng = np.random.default_rng(0)
x0 = rng.normal(size=500)
x1 = np.sin(2 * x0) + 0.3 * rng.normal(size=500)
x2 = x1**2 + 0.3 * rng.normal(size=500)
X = np.column_stack([x0, x1, x2])

nonlinear = COSMO((10,), max_epochs=2000, random_state=0).fit(X)
linear = COSMO(max_epochs=2000, random_state=0).fit(X)

# %%
# Each panel is one relation of the data; the graphs found stand beside it.
fig, axes = plt.subplots(1, 4, figsize=(13, 3.4), layout="constrained")
for axis, (cause, effect) in zip(axes, [(0, 1), (1, 2)]):
    axis.plot(X[:, cause], X[:, effect], ".", alpha=0.4, color="tab:gray")
    axis.set(xlabel=f"x{cause}", ylabel=f"x{effect}", title=f"x{cause} causes x{effect}")
for axis, (title, model) in zip(axes[2:], [("linear COSMO", linear), ("nonlinear", nonlinear)]):
    corners = np.array([[0, 0], [1, 0.9], [2, 0]])
    for node, (x, y) in enumerate(corners):
        axis.text(x, y, f"x{node}", ha="center", va="center", fontsize=14, zorder=3)
    for cause, effect in np.argwhere(model.adjacency_):
        right = (cause, effect) in {(0, 1), (1, 2)}
        style = {"arrowstyle": "-|>", "lw": 2, "color": "tab:green" if right else "tab:red"}
        style |= {"shrinkA": 16, "shrinkB": 16, "mutation_scale": 20}
        axis.annotate("", corners[effect], corners[cause], arrowprops=style)
    axis.set(xlim=(-0.5, 2.5), ylim=(-0.4, 1.3), title=title)
    axis.axis("off")

# %%
# What an intervention does: x1 held at 1.5, where it is rarely seen.
base, forced = nonlinear.sample(500, 0), nonlinear.intervene({1: 1.5}, 500, 0)
fig, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
bins = np.linspace(-1.5, 4, 45)
axis.hist(base[:, 2], bins, alpha=0.6, label="as observed")
axis.hist(forced[:, 2], bins, alpha=0.6, label="x1 set to 1.5")
axis.axvline(1.5**2, color="k", ls="--", label="true mean after setting")
axis.set(xlabel="x2", ylabel="samples", title="sampling from the learnt equations")
axis.legend()
plt.show()
