"""Low-rank models against scikit-learn's truncated SVD and nearest-neighbour imputation."""

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.impute import KNNImputer

from benchmarks._harness import Case
from skpapers.decomposition import LowRankApproximation, LowRankImputer


def cases():
    """Accuracy is the relative error on what was hidden, or of the rows restored."""
    rng = np.random.default_rng(0)
    n, p, k = 2000, 500, 10
    truth = rng.normal(size=(n, k)) @ rng.normal(size=(k, p))
    X = truth + 0.1 * rng.normal(size=truth.shape)
    hidden = rng.random(X.shape) < 0.7
    gaps = np.where(hidden, np.nan, X)
    yield Case(
        name="LowRankImputer.fit_transform",
        size=f"n={n}, p={p}, k={k}, 70 % missing",
        peer_name="sklearn KNNImputer",
        ours=lambda: LowRankImputer(k, fit_bias=False).fit_transform(gaps),
        peer=lambda: KNNImputer().fit_transform(gaps),
        accuracy=lambda filled: relative((filled - truth)[hidden], truth[hidden]),
        metric="relative error on hidden entries",
    )
    yield Case(
        name="LowRankApproximation(method='svd').fit",
        size=f"n={n}, p={p}, k={k}, complete",
        peer_name="sklearn TruncatedSVD (arpack)",
        ours=lambda: LowRankApproximation(k, method="svd", svd_solver="arpack").fit(X),
        peer=lambda: TruncatedSVD(k, algorithm="arpack").fit(X),
        accuracy=lambda model: relative(X - model.inverse_transform(model.transform(X)), X),
        metric="relative error of restored rows",
    )


def relative(error, reference):
    return float(np.linalg.norm(error) / np.linalg.norm(reference))
