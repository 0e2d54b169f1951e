"""Signed measures of components against multipers: images on a grid, and one point cloud."""

import numpy as np
from sklearn.datasets import load_digits

from benchmarks._harness import Case
from skpapers.manifold import MultiparameterPersistence, function_rips, hilbert_signed_measure

try:
    import multipers
except ImportError:  # the peer is optional
    multipers = None


def cases():
    if multipers is None:
        return
    yield _images()
    yield from map(_cloud, (50, 100, 200))


def _images():
    X = load_digits().data[:900]
    persistence = MultiparameterPersistence(
        "image", image_shape=(8, 8), resolution=(17, 8), vectorization="hilbert"
    ).fit(X)
    edges = _grid_edges()
    columns = np.tile(np.arange(8.0), 8)

    def peer():
        complexes = [np.column_stack([-row, columns]) for row in X]
        return [_peer_measure(v, edges, np.maximum(*v[edges.T])) for v in complexes]

    reference = [_counts(measure, persistence.grid_) for measure in peer()]
    return Case(
        name="Hilbert functions of images",
        size="900 images of 8 x 8, 17 x 8 grid",
        peer_name="multipers.signed_measure",
        ours=lambda: persistence.transform(X),
        peer=peer,
        accuracy=lambda F: float(np.abs(F - np.stack(reference)).max()),
        peer_accuracy=lambda measures: 0.0,
        metric="largest difference from the peer's counts",
    )


def _cloud(n_points):
    X = np.random.default_rng(0).normal(size=(n_points, 2))
    arguments = function_rips(X)
    reference = _peer_measure(*arguments)
    return Case(
        name="exact measure of a point cloud",
        size=f"{n_points} points, {len(arguments[1])} edges",
        peer_name="multipers.signed_measure",
        ours=lambda: hilbert_signed_measure(*arguments),
        peer=lambda: _peer_measure(*arguments),
        accuracy=lambda measure: _difference(measure, reference),
        peer_accuracy=lambda measure: 0.0,
        metric="Diracs that differ from the peer's",
    )


def _grid_edges():
    pixels = np.arange(64).reshape(8, 8)
    pairs = [(pixels[:, :-1], pixels[:, 1:]), (pixels[:-1], pixels[1:])]
    return np.concatenate([np.stack(pair, axis=-1).reshape(-1, 2) for pair in pairs])


def _peer_measure(vertex_values, edges, edge_values):
    tree = multipers.SimplexTreeMulti(num_parameters=2, dtype=np.float64)
    tree.insert_batch(np.arange(len(vertex_values))[None].astype(np.int32), vertex_values)
    tree.insert_batch(edges.T.astype(np.int32), edge_values)
    ((points, weights),) = multipers.signed_measure(tree, degree=0, n_jobs=1)
    return np.asarray(points), np.asarray(weights)


def _counts(measure, grid):
    points, weights = measure
    counts = np.zeros((len(grid[0]), len(grid[1])))
    places = [np.searchsorted(axis, values) for axis, values in zip(grid, points.T)]
    np.add.at(counts, tuple(places), weights)
    return counts.cumsum(axis=0).cumsum(axis=1).ravel()


def _difference(measure, reference):
    points = np.concatenate([measure[0], reference[0]])
    weights = np.concatenate([measure[1], -reference[1]])
    _, group = np.unique(points, axis=0, return_inverse=True)
    return float(np.abs(np.bincount(group.ravel(), weights)).sum())
