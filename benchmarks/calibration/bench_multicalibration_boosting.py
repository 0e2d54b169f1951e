"""Boosting by level sets against the authors' code and against gradient boosting."""

import importlib.util

import numpy as np
from sklearn.datasets import make_friedman1
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_squared_error

from benchmarks._harness import Case
from skpapers.calibration import LevelSetBoostingRegressor


def cases():
    if importlib.util.find_spec("LSBoost"):
        yield official()
    X, y = make_friedman1(4000, noise=1, random_state=0)
    X_test, y_test = make_friedman1(4000, noise=1, random_state=100)
    yield Case(
        name="LevelSetBoostingRegressor",
        size="4000 rows, 10 features, stumps",
        peer_name="GradientBoostingRegressor, 120 stages",
        ours=lambda: LevelSetBoostingRegressor(n_levels=50, random_state=0).fit(X, y),
        peer=lambda: GradientBoostingRegressor(max_depth=1, n_estimators=120).fit(X, y),
        accuracy=lambda model: model.score(X_test, y_test),
        metric="test R2",
        note="gradient boosting with so many stages that it is as accurate",
    )


def official():
    """The authors' LSBoost, with as many rounds as ours makes."""
    from LSBoost import LSBoostingRegressor

    rng = np.random.default_rng(0)
    X = rng.uniform(size=(50_000, 8))
    y = X[:, 0] + np.sign(X[:, 0] - 0.5) * (X[:, 1] - 0.5) + 0.1 * rng.normal(size=50_000)
    settings = {"n_levels": 50, "max_rounds": 5, "tol": 0, "min_samples_level": 1}
    ours = LevelSetBoostingRegressor(LinearRegression(), **settings)
    n_rounds = ours.fit(X, y).n_rounds_

    def peer():
        model = LSBoostingRegressor(
            T=n_rounds, num_bins=50, global_gamma=-np.inf, weak_learner=LinearRegression()
        )
        model.fit(X, y)
        return model

    return Case(
        name="LevelSetBoostingRegressor",
        size=f"50000 rows, 8 features, 50 levels, linear, {n_rounds} rounds",
        peer_name="LSBoost (authors)",
        ours=lambda: ours.fit(X, y),
        peer=peer,
        accuracy=lambda model: mean_squared_error(y, model.predict(X)),
        metric="training MSE",
    )
