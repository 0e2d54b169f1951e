"""
Depth and coordinates from the canonical form of a polytope
===========================================================

A convex polytope carries exactly one rational function with simple poles on its facets, and
nowhere else, that falls back to the same kind of function on every facet. From a point inside, it
is the volume of the polar. It gives data a depth that no change of units can alter, and corners
coordinates that are smooth.
"""

# %%
# A cloud of skewed measurements with a few far rows, in two units: as measured, and with
# one column in other units and mixed into the other.
import matplotlib.pyplot as plt
import numpy as np
from scipy.interpolate import LinearNDInterpolator
from sklearn.neighbors import LocalOutlierFactor

from skpapers.manifold import PolytopeCanonicalForm, WachspressCoordinates

rng = np.random.default_rng(0)
X = np.column_stack([rng.normal(size=300), rng.gamma(4, 0.5, size=300)])
angles = rng.uniform(0, 2 * np.pi, 15)
far = X.mean(0) + rng.uniform(6, 9, (15, 1)) * np.column_stack([np.cos(angles), np.sin(angles)])
X = np.concatenate([X, far])
other_units = X @ np.array([[1.0, 60.0], [0.5, 0.0]])

# %%
# The depth is the least value of the canonical function over its value at the row. Its contours
# take the shape of the hull at the boundary, and are round about the deepest point, the Santaló
# point. A nearest-neighbour detector changes its mind about some rows with the units; the depth
# does not.
fig, axes = plt.subplots(1, 4, figsize=(15, 3.9), layout="constrained")
labels = {}
for axis, data, title in zip(axes, (X, other_units), ("as measured", "other units, mixed")):
    model = PolytopeCanonicalForm(contamination=0.06).fit(data)
    labels[title] = model.predict(data)
    low, high = model.vertices_.min(0), model.vertices_.max(0)
    x, y = np.meshgrid(*np.linspace(low, high, 200).T)
    depth = np.exp(model.score_samples(np.column_stack([x.ravel(), y.ravel()])))
    axis.contourf(x, y, depth.reshape(x.shape), [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 1], cmap="Blues")
    axis.plot(*model.vertices_[np.r_[: len(model.vertices_), 0]].T, "k-", lw=1)
    axis.scatter(*data[labels[title] > 0].T, s=4, color="k")
    axis.scatter(*data[labels[title] < 0].T, s=14, color="C3", label="outliers")
    axis.plot(*model.santalo_point_, "w*", ms=13, mec="k", label="Santaló point")
    axis.set(title=f"depth, {title}")
    axis.legend(loc="upper left", fontsize="small")

neighbours = LocalOutlierFactor(contamination=0.06)
changed = neighbours.fit_predict(X) != neighbours.fit_predict(other_units)
by_depth = labels["as measured"] != labels["other units, mixed"]
print(f"rows that change label: {by_depth.sum()} by depth, {changed.sum()} by LocalOutlierFactor")

# %%
# The same function, with its terms grouped by vertex, gives every vertex a smooth share. Values
# at the corners of a heptagon are so interpolated without the creases of a triangulation.
turns = 2 * np.pi * np.arange(7) / 7
corners = np.column_stack([np.cos(turns), np.sin(turns)])
values = np.array([0.0, 1.0, 0.2, 0.9, 0.1, 0.6, 0.3])
coordinates = WachspressCoordinates(outside="project").fit(corners)
order = [int(np.argmin(np.linalg.norm(corners - v, axis=1))) for v in coordinates.vertices_]

x, y = np.meshgrid(*[np.linspace(-1, 1, 300)] * 2)
grid = np.column_stack([x.ravel(), y.ravel()])
triangles = LinearNDInterpolator(corners, values)(grid)
smooth = np.where(np.isnan(triangles), np.nan, coordinates.transform(grid) @ values[order])
for axis, surface, title in zip(
    axes[2:], (triangles, smooth), ("on triangles (scipy)", "Wachspress coordinates")
):
    levels = np.linspace(0, 1, 21)
    axis.contourf(x, y, surface.reshape(x.shape), levels, cmap="viridis")
    axis.contour(x, y, surface.reshape(x.shape), levels, colors="w", linewidths=0.4)
    axis.scatter(
        *corners.T, c=values, cmap="viridis", s=60, edgecolor="k", vmin=0, vmax=1, zorder=3
    )
    axis.set(title=f"seven values, {title}", aspect="equal", xticks=[], yticks=[])
plt.show()
