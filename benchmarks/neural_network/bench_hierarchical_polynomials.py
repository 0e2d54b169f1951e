"""Layerwise learning against kernel ridge regression on a curve of a quadratic score."""

from sklearn.compose import TransformedTargetRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from benchmarks._harness import Case
from skpapers.neural_network import LayerwiseFeatureRegressor, make_hierarchical_polynomial


def cases():
    fixed = KernelRidge(kernel="poly", degree=4, gamma=1 / 20, coef0=1, alpha=1.0)
    yield case(4000, 2, fixed, "degree 4, one penalty")
    yield case(8000, 2, fixed, "degree 4, one penalty")
    grid = {"degree": [1, 2, 4], "alpha": [0.1, 1.0, 10.0]}
    search = GridSearchCV(fixed, grid, cv=2)
    yield case(4000, "auto", search, "degree and penalty by 2-fold cross-validation")


def case(n, degree, kernel_ridge, how):
    X, y, _ = make_hierarchical_polynomial(n + 4000, 20, link="quadratic", random_state=0)
    peer = TransformedTargetRegressor(kernel_ridge, transformer=StandardScaler())
    return Case(
        name=f"LayerwiseFeatureRegressor(degree={degree!r})",
        size=f"{n} rows, 20 features",
        peer_name=f"sklearn KernelRidge, {how}",
        ours=lambda: LayerwiseFeatureRegressor(degree, random_state=0).fit(X[:n], y[:n]),
        peer=lambda: peer.fit(X[:n], y[:n]),
        accuracy=lambda model: float(model.score(X[n:], y[n:])),
        metric="test R2",
        note="degree='auto' fits scores of degree 1, 2 and 3, the latter on 3080 units.",
    )
