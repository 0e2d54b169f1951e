"""
Effects that a network cannot take over
=======================================

An additive model and a network that are trained together predict well, but the network learns a
share of the effects that the additive model is there to report. A projection after the training
gives them back, and changes no prediction.
"""

# %%
# Three effects and an interaction. Both models below are the same after training, and so are their
# predictions; one has been projected.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.neural_network import MLPRegressor

from skpapers.neural_network import SemiStructuredRegressor

rng = np.random.default_rng(0)
X = rng.uniform(-1.5, 1.5, (3000, 3))
effects = [lambda x: np.cos(5 * x), lambda x: np.tanh(3 * x), lambda x: -(x**3)]
y = sum(f(x) for f, x in zip(effects, X.T)) + X[:, 0] * X[:, 1]
y += 0.1 * rng.normal(size=len(y))
X, X_test, y, y_test = X[:1500], X[1500:], y[:1500], y[1500:]

settings = {
    "structured": "spline", "n_knots": 15, "init_structured": "zeros", "batch_size": 32,
    "max_epochs": 60, "tol": 0, "random_state": 0,
}  # fmt: skip
models = {
    "as trained": SemiStructuredRegressor(orthogonalization="none", **settings).fit(X, y),
    "projected": SemiStructuredRegressor(**settings).fit(X, y),
}
grid = np.linspace(-1.5, 1.5, 200)
fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained", sharey=True)
for j, (axis, effect) in enumerate(zip(axes, effects)):
    mean = effect(X[:, j]).mean()
    axis.plot(grid, effect(grid) - mean, "k--", label="truth")
    for label, model in models.items():
        rows = np.repeat(grid[:, None], 3, axis=1)
        axis.plot(grid, model.partial_effect(rows, j), label=label)
    axis.set(xlabel=f"feature {j}")
axes[0].set_ylabel("effect")
axes[0].legend(loc="lower center")

# %%
# The predictions of both are the same, and better than those of the additive model alone, which
# has no interaction, and of scikit-learn's network alone, which has no splines.
additive = SemiStructuredRegressor("spline", deep_features=[], n_knots=15, random_state=0)
network = MLPRegressor(
    hidden_layer_sizes=(100, 50), batch_size=32, early_stopping=True, random_state=0
)
scores = {label: model.score(X_test, y_test) for label, model in models.items()}
scores["additive alone"] = additive.fit(X, y).score(X_test, y_test)
scores["MLPRegressor"] = network.fit(X, y).score(X_test, y_test)
fig, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
bars = axis.barh(list(scores), list(scores.values()), color=["C0", "C1", "0.7", "0.7"])
axis.bar_label(bars, fmt="%.4f", padding=3)
axis.set(xlabel="test R²", xlim=(0, 1.15))
axis.invert_yaxis()
plt.show()
