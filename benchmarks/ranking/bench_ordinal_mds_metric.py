"""The ordinal metric against scikit-learn's metric, and ordinal regression of mord."""

import numpy as np
from scipy.stats import spearmanr
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.preprocessing import StandardScaler

from benchmarks._harness import Case
from skpapers.ranking import OrdinalMDSMetric, OrdinalMDSRanker

try:
    from mord import LogisticAT
except ImportError:
    LogisticAT = None


def cases():
    X, X_test, y, y_test = _digits()
    yield Case(
        name="ordinal_mds_metric, fit",
        size="898 digits, 64 features",
        peer_name="sklearn NeighborhoodComponentsAnalysis",
        ours=lambda: OrdinalMDSMetric(power=0.5).fit(X, y),
        peer=lambda: NeighborhoodComponentsAnalysis(random_state=0).fit(X, y),
        accuracy=lambda m: _correlation(m.transform(X), y, m.transform(X_test), y_test),
        metric="correlation of distance with label gap",
    )
    if LogisticAT is not None:
        Z, target = load_diabetes(return_X_y=True)
        grade = np.searchsorted(np.quantile(target, [0.2, 0.4, 0.6, 0.8]), target)
        Z, Z_test, g, g_test = train_test_split(Z, grade, stratify=grade, random_state=0)
        scaler = StandardScaler().fit(Z)
        yield Case(
            name="ordinal_mds_metric, ranker",
            size="331 rows, 10 features, 5 grades",
            peer_name="mord.LogisticAT",
            ours=lambda: OrdinalMDSRanker(vote="mean", power=1.0).fit(scaler.transform(Z), g),
            peer=lambda: LogisticAT().fit(scaler.transform(Z), g),
            accuracy=lambda m: -np.abs(m.predict(scaler.transform(Z_test)) - g_test).mean(),
            metric="minus mean absolute error",
        )
    rng = np.random.default_rng(0)
    A = rng.normal(size=(50_000, 500))
    b = np.digitize(A[:, :5].sum(axis=1) / 5**0.5, [-1, 0, 1])
    for strength in (0.0, 0.1):
        yield Case(
            name="ordinal_mds_metric, large" + (", with neighbours" if strength else ""),
            size="50000 rows, 500 features",
            peer_name="sklearn Ridge, labels as numbers",
            ours=lambda strength=strength: OrdinalMDSMetric(local_strength=strength).fit(A, b),
            peer=lambda: Ridge(solver="cholesky").fit(A, b),
            accuracy=lambda m: float(np.corrcoef(A @ np.ravel(_coef(m)), b)[0, 1]),
            metric="correlation with label",
            repeats=1,
            note="Ridge has one target and no geometry of labels: a lower bound of the time.",
        )


def _coef(model):
    return model.components_ if hasattr(model, "components_") else model.coef_


def _digits():
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, train_size=0.5, stratify=y, random_state=0)
    scaler = StandardScaler().fit(X)
    return scaler.transform(X), scaler.transform(X_test), y, y_test


def _correlation(Z, y, Z_test, y_test):
    D, gaps = euclidean_distances(Z_test, Z), np.abs(np.subtract.outer(y_test, y))
    return float(np.mean([spearmanr(d, g).statistic for d, g in zip(D, gaps)]))
