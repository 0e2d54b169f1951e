"""
A curve of a polynomial score, learnt layer by layer
====================================================

The target is a bent score: ``y = tanh(2 p) + abs(p)``, where p is a quadratic form of 20 features.
As a polynomial it has a high degree, for which kernels need far more rows than there are. A
network of three layers, trained layer by layer, first finds the score and then its curve.
"""

# %%
# One of the features says nothing about the target, and neither does any linear combination.
# The score that the first stage learns, without knowing the curve, is nearly the true one, and the
# second stage fits the curve to it.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV

from skpapers.neural_network import LayerwiseFeatureRegressor, make_hierarchical_polynomial


def curve(z):
    return np.tanh(2 * z) + np.abs(z)


X, y, p = make_hierarchical_polynomial(7000, 20, link=curve, random_state=0)
X_test, y_test, p_test = X[4000:], y[4000:], p[4000:]
model = LayerwiseFeatureRegressor(random_state=0).fit(X[:4000], y[:4000])
z = model.transform(X_test)[:, 0]
fig, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
axes[0].scatter(X_test[:, 0], y_test, s=4, alpha=0.4)
axes[0].set(xlabel="a feature", ylabel="target", title="What is seen")
axes[1].scatter(p_test, z, s=4, alpha=0.4)
axes[1].plot([-3, 3], [-3, 3], "k--", lw=1)
correlation = np.corrcoef(p_test, z)[0, 1]
axes[1].set(
    xlabel="true score", ylabel="learnt score", title=f"First stage: correlation {correlation:.2f}"
)
grid = np.linspace(-3, 3, 200)
axes[2].scatter(z, y_test, s=4, alpha=0.3)
axes[2].plot(grid, model.link(grid), color="C1", lw=2, label="learnt curve")
axes[2].plot(grid, curve(grid), "k--", lw=1, label="true curve of the true score")
axes[2].set(xlabel="learnt score", title="Second stage", xlim=(-3.5, 3.5))
axes[2].legend()

# %%
# With more rows the score gets better and better. Kernels stop at what a quadratic function of the
# features explains, until there are rows enough for polynomials of degree four and more. (The
# degree of the score is given here; above, cross-validation found it.)
sizes = [250, 500, 1000, 2000, 4000]
kernels = {
    "kernel ridge, degree 2": {"kernel": "poly", "degree": 2, "gamma": 1 / 20},
    "kernel ridge, degree 4": {"kernel": "poly", "degree": 4, "gamma": 1 / 20},
    "kernel ridge, Gaussian": {"kernel": "rbf", "gamma": 1 / 40},
}
fig, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
layerwise = LayerwiseFeatureRegressor(model.degree_, random_state=0)
scores = [layerwise.fit(X[:n], y[:n]).score(X_test, y_test) for n in sizes]
axis.semilogx(sizes, scores, "o-", lw=2, label="layerwise")
for label, settings in kernels.items():
    search = GridSearchCV(KernelRidge(**settings), {"alpha": [0.1, 1, 10]}, cv=3)
    scores = [search.fit(X[:n], y[:n]).score(X_test, y_test) for n in sizes[:4]]
    axis.semilogx(sizes[:4], scores, ".-", label=label)
axis.set(xlabel="training rows", ylabel="test R²", ylim=(-0.1, 1))
axis.set_xticks(sizes, [str(n) for n in sizes])
axis.minorticks_off()
axis.legend()
plt.show()
