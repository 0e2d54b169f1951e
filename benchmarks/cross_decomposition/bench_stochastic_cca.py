"""StochasticCCA against cca-zoo's estimators of the same loss, and against scikit-learn's CCA."""

import numpy as np
from cca_zoo.linear.gradient import CCAEY
from cca_zoo.stochastic import StochasticCCAEY
from sklearn.cross_decomposition import CCA

from benchmarks._harness import Case
from skpapers.cross_decomposition import StochasticCCA

K, N_EPOCHS, BATCH = 5, 5, 100


def cases():
    X, Y = _planted(24_000, 200)
    train, test = slice(0, 20_000), slice(20_000, None)
    views = X[train], Y[train]

    def captured(transform):
        bases = [np.linalg.qr(Z - Z.mean(axis=0))[0] for Z in transform(X[test], Y[test])]
        return float(np.linalg.svd(bases[0].T @ bases[1], compute_uv=False).sum())

    def zoo(model):
        model.fit([*views])
        return lambda *rows: model.transform([*rows])

    settings = {"batch_size": BATCH, "max_epochs": N_EPOCHS, "random_state": 0}
    peers = {
        "cca_zoo StochasticCCAEY": lambda: zoo(
            StochasticCCAEY(K, batch_size=BATCH, max_iter=N_EPOCHS, random_state=0)
        ),
        "cca_zoo CCAEY": lambda: zoo(CCAEY(K, random_state=0)),
        "sklearn CCA": lambda: CCA(K).fit(*views).transform,
    }
    for name, peer in peers.items():
        yield Case(
            name="StochasticCCA",
            size="n=20000, p=q=200, K=5",
            peer_name=name,
            ours=lambda: StochasticCCA(K, **settings).fit(*views).transform,
            peer=peer,
            accuracy=captured,
            metric="held-out correlation in the subspaces found (sum)",
            repeats=1 if name == "sklearn CCA" else 3,
        )


def _planted(n_samples, n_features):
    rng = np.random.default_rng(0)
    rho = np.linspace(0.9, 0.5, K)
    X, Y = rng.normal(size=(2, n_samples, n_features))
    Y[:, :K] = rho * X[:, :K] + np.sqrt(1 - rho**2) * Y[:, :K]
    return X, Y
