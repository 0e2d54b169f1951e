"""Pretraining against the same two steps by hand, and against peers that use all rows."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import FactorAnalysis
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.semi_supervised import LabelSpreading

from benchmarks._harness import Case
from skpapers.representation import PretrainedClassifier, PretrainedRegressor

_PENALTIES = np.logspace(-3, 4, 20)


def cases():
    for n in (2_000, 16_000):
        yield _factor_case(n)
    X, y = load_digits(return_X_y=True)
    X = X / 16
    few = np.where(np.random.default_rng(0).random(len(y)) < 0.02, y, -1)
    ours = PretrainedClassifier(n_components=40, random_state=0)
    peer = LabelSpreading(kernel="knn", max_iter=100)
    yield Case(
        name="PretrainedClassifier, mixture",
        size="1797 digits, 2 % labelled",
        peer_name="LabelSpreading",
        ours=lambda: ours.fit(X, few).predict(X),
        peer=lambda: peer.fit(X, few).predict(X),
        accuracy=lambda found: float(np.mean(found == y)),
        metric="accuracy",
        note="EM of forty components against products with a sparse graph.",
    )


def _factor_case(n):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(n, 3))
    X = Z @ rng.normal(size=(3, 50)) + rng.normal(size=(n, 50))
    y, known = Z[:, 0], np.where(np.arange(n) < 20, Z[:, 0], np.nan)

    def by_hand():
        factors = FactorAnalysis(3, tol=1e-4, random_state=0).fit(X)
        head = RidgeCV(_PENALTIES).fit(factors.transform(X[:20]), y[:20])
        return make_pipeline(factors, head).predict(X)

    return Case(
        name="PretrainedRegressor, factors",
        size=f"{n} rows, 50 columns, 20 targets",
        peer_name="FactorAnalysis and RidgeCV by hand",
        ours=lambda: PretrainedRegressor(n_components=3, random_state=0).fit(X, known).predict(X),
        peer=by_hand,
        accuracy=lambda found: float(np.mean((found - y) ** 2)),
        metric="mean squared error",
        note="The same steps; factor analysis takes more iterations on scaled rows.",
    )
