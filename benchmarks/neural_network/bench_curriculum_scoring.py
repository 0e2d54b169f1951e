"""Training in order of difficulty against a plain loop of `partial_fit`, as many steps."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

from benchmarks._harness import Case
from skpapers.neural_network import CurriculumClassifier, NeuralClassifier

N_EPOCHS, BATCH_SIZE = 20, 64


def cases():
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(
        (X / 16).astype(np.float32), y, test_size=0.3, random_state=0
    )
    estimators = {
        "NeuralClassifier((128,))": lambda: NeuralClassifier((128,), random_state=0),
        "SGDClassifier": lambda: SGDClassifier(random_state=0),
    }
    for name, make in estimators.items():
        for scoring in ("feature:distance", "transfer"):
            yield Case(
                name=f"CurriculumClassifier({scoring})",
                size=f"{name}, digits, {N_EPOCHS} epochs of batches of {BATCH_SIZE}",
                peer_name="loop of partial_fit over shuffled batches",
                ours=lambda make=make, scoring=scoring: CurriculumClassifier(
                    make(),
                    scoring=scoring,
                    max_epochs=N_EPOCHS,
                    batch_size=BATCH_SIZE,
                    random_state=0,
                ).fit(X, y),
                peer=lambda make=make: plain_loop(make(), X, y),
                accuracy=lambda model: model.score(X_test, y_test),
                metric="test accuracy",
                repeats=5,
                note="the loop scores no rows: transfer fits five logistic regressions on top",
            )


def plain_loop(model, X, y):
    rng = np.random.default_rng(0)
    for _ in range(N_EPOCHS):
        order = rng.permutation(len(X))
        for start in range(0, len(X), BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            model.partial_fit(X[rows], y[rows], classes=np.arange(10))
    return model
