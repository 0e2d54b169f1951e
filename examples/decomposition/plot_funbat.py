"""
Functional Tucker decomposition: curves instead of a grid
=========================================================

Readings at places and times that lie on no grid: ``FunctionalTuckerRegressor`` learns one curve a
coordinate, whose products are the surface, and says how sure it is of each.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import RandomForestRegressor

from skpapers.decomposition import FunctionalTuckerRegressor

rng = np.random.default_rng(0)
X = rng.uniform(size=(500, 2))


def f1(u):
    return np.exp(-2 * u) * np.sin(3 * np.pi * u)


def f2(v):
    return np.sin(2 * np.pi * v) ** 2 * np.cos(2 * np.pi * v)


y = f1(X[:, 0]) * f2(X[:, 1]) + 0.02 * rng.normal(size=500)
params = {"kernel": "matern32", "length_scale": 0.3, "max_iter": 100, "tol": 3e-3}
model = FunctionalTuckerRegressor(1, random_state=0, **params).fit(X, y)
cells = (np.floor(X * 20) + 0.5) / 20
gridded = FunctionalTuckerRegressor(1, random_state=0, **params).fit(cells, y)
forest = RandomForestRegressor(random_state=0).fit(X, y)

# %%
# The surface, from 500 noisy points of it.
grid = np.linspace(0, 1, 80)
U, V = np.meshgrid(grid, grid)
Z = np.column_stack([U.ravel(), V.ravel()])
truth = f1(Z[:, 0]) * f2(Z[:, 1])
surfaces = {
    "truth and data": truth,
    "functional Tucker": model.predict(Z),
    "on a 20 x 20 grid": gridded.predict((np.minimum(np.floor(Z * 20), 19) + 0.5) / 20),
    "random forest": forest.predict(Z),
}
fig, axes = plt.subplots(1, 4, figsize=(13, 3.4), layout="constrained", sharey=True)
for axis, (name, surface) in zip(axes, surfaces.items()):
    image = surface.reshape(80, 80)
    axis.imshow(image, origin="lower", extent=(0, 1, 0, 1), cmap="RdBu", vmin=-0.25, vmax=0.25)
    error = np.sqrt(np.mean((surface - truth) ** 2))
    axis.set(title=name if error == 0 else f"{name}\nerror {error:.4f}", xlabel="u")
axes[0].plot(*X.T, "k.", markersize=2)
axes[0].set_ylabel("v")

# %%
# The curves of the two coordinates, with two standard deviations. Sign and size are shared
# between them, so that each is drawn at unit root mean square.
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for k, (axis, f, name) in enumerate(zip(axes, (f1, f2), "uv")):
    mean, std = (values[:, 0] for values in model.factors(k, grid))
    curve = f(grid) / np.sqrt(np.mean(f(grid) ** 2))
    sign = np.sign(mean @ curve)
    axis.plot(grid, curve, "k--", label="true")
    axis.plot(grid, sign * mean, label="learnt")
    axis.fill_between(grid, sign * mean - 2 * std, sign * mean + 2 * std, alpha=0.3)
    axis.set(xlabel=name, title=f"function of {name}")
axes[0].legend()
plt.show()
