"""
Predictions that are right for every group
==========================================

A regressor may be right on average and wrong for each of the groups the average is made of.
Refitting it on the level sets of its own predictions, round after round, makes it right for all.
"""

# %%
# The slope of the second feature turns its sign with the first one, which no linear model can
# say. The four groups are the quadrants of these two features.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_friedman1
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_squared_error

from skpapers.calibration import LevelSetBoostingRegressor, multicalibration_error

rng = np.random.default_rng(0)


def draw(n_samples):
    X = rng.uniform(size=(n_samples, 8))
    y = X[:, 0] + np.sign(X[:, 0] - 0.5) * (X[:, 1] - 0.5)
    return X, y + 0.1 * rng.normal(size=n_samples)


(X, y), (X_test, y_test) = draw(4000), draw(4000)
quadrant = 2 * (X_test[:, 0] > 0.5) + (X_test[:, 1] > 0.5)
groups = quadrant[:, None] == np.arange(4)
models = {
    "LinearRegression": LinearRegression(),
    "LevelSetBoostingRegressor\nof LinearRegression": LevelSetBoostingRegressor(
        LinearRegression(), n_levels=20
    ),
}

# %%
# With stumps on another problem, gradient boosting at its default rate and at rate 1 shows what
# a round is worth.
Z, t = make_friedman1(4000, noise=1, random_state=0)
Z_test, t_test = make_friedman1(4000, noise=1, random_state=100)
level_sets = LevelSetBoostingRegressor(n_levels=50, random_state=0).fit(Z, t)
stages = {"LevelSetBoostingRegressor": level_sets.staged_predict(Z_test)}
for rate in (1.0, 0.1):
    boosting = GradientBoostingRegressor(max_depth=1, n_estimators=40, learning_rate=rate)
    name = f"GradientBoostingRegressor, rate {rate:g}"
    stages[name] = boosting.fit(Z, t).staged_predict(Z_test)

# %%
# Left and middle: mean target against prediction, a line a group, which belongs on the diagonal.
# Right: test error of stumps over the rounds.
fig, axes = plt.subplots(1, 3, figsize=(14, 4.3), layout="constrained")
names = ["low, low", "low, high", "high, low", "high, high"]
for axis, (title, model) in zip(axes, models.items()):
    f = model.fit(X, y).predict(X_test)
    for group, name in enumerate(names):
        rows = np.flatnonzero(quadrant == group)
        parts = np.array_split(rows[np.argsort(f[rows])], 10)
        means = [(f[part].mean(), y_test[part].mean()) for part in parts]
        axis.plot(*np.transpose(means), "o-", ms=4, label=name)
    axis.plot([-0.3, 1.3], [-0.3, 1.3], color="0.6", ls="--", zorder=0)
    error = multicalibration_error(y_test, f, groups, n_levels=20).sum()
    axis.set(title=f"{title}\nmulticalibration error {error:.4f}", xlabel="prediction")
    axis.set(ylabel="mean of the target", xlim=(-0.35, 1.35), ylim=(-0.35, 1.35))
axes[0].legend(title="first, second feature", fontsize="small", loc="upper left")
for name, predictions in stages.items():
    axes[2].plot([mean_squared_error(t_test, p) for p in predictions], label=name)
axes[2].axhline(1, color="0.6", ls=":", label="noise")
axes[2].set(title="Stumps, make_friedman1\n", xlabel="round", ylabel="mean squared test error")
axes[2].set(ylim=(0, None))
axes[2].legend(fontsize="small")
plt.show()
