"""Canonical functions against the polar hull of every point, and depth against its peers."""

import numpy as np
from scipy.spatial import ConvexHull
from sklearn.covariance import EllipticEnvelope
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor

from benchmarks._harness import Case
from skpapers.manifold import PolytopeCanonicalForm, canonical_form


def cases():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(100, 3))
    Y = 0.2 * rng.normal(size=(10_000, 3))
    expected = _polar_volumes(points, Y[:100])
    yield Case(
        name="canonical function",
        size="10,000 points in the hull of 100 rows, 3 columns",
        peer_name="scipy.spatial.ConvexHull of each polar",
        ours=lambda: canonical_form(points, Y),
        peer=lambda: _polar_volumes(points, Y),
        accuracy=lambda values: float(np.max(np.abs(values[:100] / expected - 1))),
        metric="largest relative error of the first 100",
        repeats=1,
    )
    for n in (2_000, 16_000):
        X, far = _cloud(n)
        for peer in (EllipticEnvelope(contamination=0.05), LocalOutlierFactor(contamination=0.05)):
            yield Case(
                name="PolytopeCanonicalForm, labels",
                size=f"{n} rows, 3 columns, 5 % far",
                peer_name=type(peer).__name__,
                ours=lambda X=X: PolytopeCanonicalForm(contamination=0.05).fit_predict(X),
                peer=lambda X=X, peer=peer: peer.fit_predict(X),
                accuracy=lambda labels, far=far: float(roc_auc_score(far, -labels)),
                metric="AUROC of the labels",
            )


def _polar_volumes(points, Y):
    equations = ConvexHull(points).equations
    normals, offsets = equations[:, :-1], -equations[:, -1]
    return np.array([ConvexHull(normals / (offsets - normals @ y)[:, None]).volume for y in Y])


def _cloud(n):
    rng = np.random.default_rng(0)
    far = np.arange(n) < n // 20
    directions = rng.normal(size=(n, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    X = np.where(far[:, None], rng.uniform(6, 9, (n, 1)) * directions, rng.normal(size=(n, 3)))
    return X @ rng.normal(size=(3, 3)), far
