"""Training in the maximal update parametrization, and tuning on a narrow network.

The peer of the first case is the same network in torch's own parametrization; that of the second
is a search over the same learning rates at the full width.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from benchmarks._harness import Case
from skpapers.neural_network import NeuralClassifier

HE = f"gain={6**0.5}"
RATES = 2.0 ** np.arange(-11, -5)


def cases():
    X, y = load_digits(return_X_y=True)
    X = StandardScaler().fit_transform(X).astype(np.float32)

    def fit(parametrization, width, lr=2.0**-8):
        return NeuralClassifier(
            (width,) * 3,
            parametrization=f"{parametrization}({HE})",
            lr=float(lr),
            batch_size=64,
            max_epochs=5,
            tol=0,
            random_state=0,
        ).fit(X, y)

    def search(parametrization, width):
        models = [fit(parametrization, width, lr) for lr in RATES]
        return RATES[np.argmin([loss(model) for model in models])]

    def loss(model):
        return log_loss(y, model.predict_proba(X))

    yield Case(
        "a fit",
        "digits, three layers of 512, 5 epochs",
        "NeuralClassifier, standard",
        lambda: fit("mup", 512),
        lambda: fit("standard", 512),
        loss,
        "log loss",
    )
    yield Case(
        "search for the rate, and a fit",
        "digits, three layers of 512; searched at width 64",
        "the same, standard, searched at width 512",
        lambda: fit("mup", 512, search("mup", 64)),
        lambda: fit("standard", 512, search("standard", 512)),
        loss,
        "log loss",
        repeats=1,
    )
