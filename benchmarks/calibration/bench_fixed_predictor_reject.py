"""The learnt rejector against a threshold on calibrated probabilities."""

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression

from benchmarks._harness import Case
from skpapers.calibration import FixedPredictorRejector, rejection_loss

COST = 0.2


def draw(rng, n_samples):
    X = rng.normal(size=(n_samples, 50))
    flipped = (X[:, 2] > 0.5) & (rng.uniform(size=n_samples) < 0.8)
    return X, ((X[:, 0] + X[:, 1] > 0) ^ flipped).astype(int)


def cases():
    rng = np.random.default_rng(0)
    (X, y), (X_test, y_test) = draw(rng, 20_000), draw(rng, 20_000)
    classifier = LogisticRegression(max_iter=1000)

    def by_threshold(model):
        """Accept where the calibrated probability of an error is below the cost."""
        accepted = model.predict_proba(X_test).max(axis=1) > 1 - COST
        return rejection_loss(model.predict(X_test) != y_test, accepted, COST)

    yield Case(
        name="FixedPredictorRejector",
        size="20000 rows, 50 features",
        peer_name="CalibratedClassifierCV and a threshold",
        ours=lambda: FixedPredictorRejector(classifier, cost=COST).fit(X, y),
        peer=lambda: CalibratedClassifierCV(classifier, ensemble=False).fit(X, y),
        accuracy=lambda model: model.selective_score(X_test, y_test)["rejection_loss"],
        peer_accuracy=by_threshold,
        metric="test rejection loss",
        repeats=7,
        note="both fit the classifier to five folds and to all rows",
    )
