"""Class densities of conjugate norms against the local outlier factor on wide features."""

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor

from benchmarks._harness import Case
from skpapers.density import ConjNormDetector


def cases():
    X, y, X_test, is_known = rectified_classes(20_000, 256, 100)

    def ours():
        detector = ConjNormDetector(random_state=0).fit(X, y)
        return detector.score_samples(X_test)

    peer = LocalOutlierFactor(novelty=True)
    yield Case(
        name="conjnorm",
        size="20000 rows, 256 features, 100 classes",
        peer_name="sklearn LocalOutlierFactor",
        ours=ours,
        peer=lambda: peer.fit(X).score_samples(X_test),
        accuracy=lambda scores: roc_auc_score(is_known, scores),
        metric="area under the curve, 20 unknown classes",
        note="fit, and score 4000 other rows; ours is given the classes",
    )


def rectified_classes(n_samples, n_features, n_classes):
    """Positive parts of Gaussian classes, and a test sample a fifth of which is of new classes."""
    rng = np.random.RandomState(0)
    centres = 0.3 * rng.normal(size=(n_classes + 20, n_features))

    def draw(y):
        return np.maximum(centres[y] + rng.normal(size=(len(y), n_features)), 0)

    y = rng.randint(n_classes, size=n_samples)
    y_test = np.r_[rng.randint(n_classes, size=3200), n_classes + rng.randint(20, size=800)]
    return draw(y), y, draw(y_test), y_test < n_classes
