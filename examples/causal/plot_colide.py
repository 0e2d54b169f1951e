"""
CoLiDE: a causal graph whatever the noise level
===============================================

A directed acyclic graph is learnt from observational data, together with the noise level of every
column. The penalty is weighed against residuals *in units of the noise*, so that one ``alpha``
serves quiet and loud data alike. scikit-learn's ``GraphicalLasso`` sees conditional dependence
only: it has no directions, and its penalty has to be tuned anew.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.covariance import GraphicalLasso

from skpapers.causal import CoLiDE, graph_metrics, make_linear_sem

X, weights, scale = make_linear_sem(1000, 10, 12, equal_variance=False, random_state=3)
settings = {"max_iter": 1000, "max_iter_final": 3000}
model = CoLiDE(**settings).fit(X)
precision = GraphicalLasso(alpha=0.2, max_iter=500).fit(X).precision_
scales = np.sqrt(np.diag(precision))
partial_correlation = -precision / np.outer(scales, scales) * (1 - np.eye(10))

# %%
# Where the edges are. GraphicalLasso also joins the parents of a common child.
fig, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
found = graph_metrics(weights, model.adjacency_)
panels = [
    ("true graph", weights),
    (f"CoLiDE: {found['shd']} of 45 pairs wrong", model.adjacency_),
    ("GraphicalLasso: no directions (x3)", 3 * partial_correlation),
]
for axis, (title, matrix) in zip(axes, panels):
    image = axis.imshow(matrix, cmap="RdBu_r", vmin=-2, vmax=2)
    axis.set(title=title, xlabel="effect", xticks=range(10), yticks=range(10))
axes[0].set_ylabel("cause")
fig.colorbar(image, ax=axes, label="weight", shrink=0.8)

# %%
# Louder data, the same ``alpha``: the graph stays, and the noise scales grow with the noise.
factors = np.array([0.5, 1.0, 2.0, 4.0])
X, weights, scale = make_linear_sem(1000, 10, 12, random_state=3)
errors, scales = [], []
for factor in factors:
    fitted = CoLiDE(noise="equal", **settings).fit(X * factor)
    errors.append(graph_metrics(weights, fitted.adjacency_)["shd"])
    scales.append(fitted.noise_scale_[0])

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
left.bar(range(4), errors, color="tab:blue")
left.set(
    xticks=range(4),
    xticklabels=[f"x{factor:g}" for factor in factors],
    xlabel="noise level",
    ylabel="wrong pairs of 45",
    ylim=(0, 10),
    title="same alpha, same graph",
)
right.plot(factors, factors, "k--", label="truth")
right.plot(factors, scales, "o-", label="CoLiDE")
right.set(xlabel="noise level", ylabel="estimated noise scale", title="the noise is estimated too")
right.legend()
plt.show()
