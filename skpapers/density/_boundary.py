"""Points on the boundary of the region that a sample fills."""

import numpy as np
from scipy.spatial import ConvexHull, QhullError

__all__ = ["box_boundary", "hull_boundary"]


def box_boundary(X, n_points, rng):
    """Uniform points on the bounding box, widened on each side by the expected spacing."""
    low, high = X.min(axis=0), X.max(axis=0)
    if (low == high).any():
        raise ValueError("boundary='box' needs columns that are not constant")
    spacing = (high - low) / (len(X) - 1)
    low, sides = low - spacing, high - low + 2 * spacing
    area = sides.min() / sides  # of the faces across each axis, up to a factor
    axis = rng.choice(len(sides), n_points, p=area / area.sum())
    points = rng.uniform(size=(n_points, len(sides)))
    points[np.arange(n_points), axis] = rng.randint(2, size=n_points)
    return np.unique(low + sides * points, axis=0)


def hull_boundary(X, n_points, rng):
    """Uniform points on the convex hull, in one to three dimensions."""
    if X.shape[1] > 3:
        raise ValueError(f"boundary='hull' needs at most 3 features, got {X.shape[1]}")
    if X.shape[1] == 1:
        return np.array([X.min(axis=0), X.max(axis=0)])
    try:
        hull = ConvexHull(X)
    except QhullError as error:
        raise ValueError("boundary='hull' needs rows that span all dimensions") from error
    corners = X[hull.simplices]  # (n_facets, d, d)
    edges = corners[:, 1:] - corners[:, :1]
    area = np.sqrt(np.linalg.det(edges @ edges.transpose(0, 2, 1)).clip(min=0))
    facets = rng.choice(len(area), n_points, p=area / area.sum())
    weights = rng.dirichlet(np.ones(X.shape[1]), n_points)
    return np.einsum("ni,nid->nd", weights, corners[facets])
