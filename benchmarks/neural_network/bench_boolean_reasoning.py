"""The Hamming-distance kernel of all products against their explicit design matrix."""

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from benchmarks._harness import Case
from skpapers.neural_network import BooleanFourierRegressor


def cases():
    for n_features, degree, n_samples in [(30, 3, 2000), (200, 2, 1000)]:
        X, y, X_test, y_test = sparse_cubic(n_features, n_samples)
        yield Case(
            name="BooleanFourierRegressor",
            size=f"{n_samples} x {n_features} bits, degree {degree}",
            peer_name="PolynomialFeatures(interaction_only=True) + Ridge",
            ours=lambda X=X, y=y, d=degree: BooleanFourierRegressor(d, alpha=0.01).fit(X, y),
            peer=lambda X=X, y=y, d=degree: products(d).fit(X, y),
            accuracy=lambda model, X=X_test, y=y_test: model.score(X, y),
            metric="test R2",
        )
    X, y, X_test, y_test = sparse_cubic(200, 2000)
    yield Case(
        name="BooleanFourierRegressor",
        size="2000 x 200 bits, degree 3 (peer: degree 2)",
        peer_name="PolynomialFeatures(interaction_only=True) + Ridge",
        ours=lambda: BooleanFourierRegressor(3, alpha=0.01).fit(X, y),
        peer=lambda: products(2).fit(X, y),
        accuracy=lambda model: model.score(X_test, y_test),
        metric="test R2",
        repeats=1,
        note="degree 3 has 1.3 million products: the peer's design matrix would take 21 GB",
    )


def products(degree):
    return make_pipeline(
        PolynomialFeatures(degree, interaction_only=True, include_bias=False), Ridge(1.0)
    )


def sparse_cubic(n_features, n_samples):
    rng = np.random.default_rng(0)
    parts = []
    for n in (n_samples, 1000):
        X = rng.choice([-1.0, 1.0], size=(n, n_features))
        y = X[:, :5].sum(axis=1) + X[:, 0] * X[:, 1] + 0.2 * X[:, 2] * X[:, 3] * X[:, 4]
        parts += [X, y]
    return parts
