"""
Many densities, one test
========================

Ten models of one table: their densities, what they draw, and whether a Stein test believes
them. Any model with a score or a density is tested in one line,
``KSDTest(FrozenEstimator(model)).fit(X_new)``; p-values are corrected for the number of models.

The test sees shapes, not the proportions of separated clusters: a model may be kept whose samples
are far from the data in energy distance. :class:`skpapers.hypothesis_testing.PerturbedKSDTest`
sees those too.
"""

# %%
# Two moons and a far cluster; rows to fit, and rows to test with.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from skpapers.density import (
    CompositionalEnergyDensity,
    EarlyStoppedScoreEstimator,
    FractalDensity,
    MarginalizationModel,
    ScoreAutoencoder,
    ScoreMatchingSampler,
    TruncatedSteinDensity,
)
from skpapers.hypothesis_testing import KSDTest, adjust_pvalues
from skpapers.processes import energy_distance


def draw(n_samples, seed):
    rng = np.random.RandomState(seed)
    n_far = n_samples // 4
    moons, _ = make_moons(n_samples - n_far, noise=0.1, random_state=seed)
    far = rng.normal([2.6, 1.6], 0.2, size=(n_far, 2))
    return rng.permutation(np.concatenate([moons, far])).astype(np.float32)


X, X_new = draw(1000, 0), draw(300, 1)
models = {
    "GaussianMixture(1)": GaussianMixture(1, random_state=0),
    "GaussianMixture(6)": GaussianMixture(6, random_state=0),
    "KernelDensity": KernelDensity(bandwidth=0.1),
    "TruncatedSteinDensity": TruncatedSteinDensity(
        "gmm", n_components=3, n_init=1, max_iter=1000, random_state=0
    ),
    "ScoreMatchingSampler": ScoreMatchingSampler(random_state=0),
    "ScoreAutoencoder": ScoreAutoencoder(0.1, random_state=0),
    "EarlyStoppedScoreEstimator": EarlyStoppedScoreEstimator(
        rule_constant=0.1, n_noise=4, time_input="log", random_state=0
    ),
    "CompositionalEnergyDensity": CompositionalEnergyDensity(max_epochs=100, random_state=0),
    "MarginalizationModel": MarginalizationModel(
        n_bins=16, pretrain_epochs=20, max_epochs=10, random_state=0
    ),
    "FractalDensity": FractalDensity(widths=16, depths=1, max_epochs=20, random_state=0),
}
rows = {name: X[:300] if "Early" in name else X for name in models}
models = {name: model.fit(rows[name]) for name, model in models.items()}

# %%
# The last two put the columns in bins and have no score: the Stein test is for the others.
testable = [name for name in models if name not in ("MarginalizationModel", "FractalDensity")]
pvalues = [
    KSDTest(FrozenEstimator(models[name]), random_state=0).fit(X_new).pvalue_ for name in testable
]
adjusted = dict(zip(testable, adjust_pvalues(pvalues)))

# %%
# Colours: log density, or where there is none, the length of the score. Dots: 500 samples.
x, y = np.meshgrid(np.linspace(-1.8, 3.6, 45), np.linspace(-1.3, 2.6, 45))
grid = np.column_stack([x.ravel(), y.ravel()]).astype(np.float32)
fig, axes = plt.subplots(2, 5, figsize=(15, 5.6), sharex=True, sharey=True, layout="constrained")
for ax, (name, model) in zip(axes.ravel(), models.items()):
    if hasattr(model, "score_samples"):
        values = np.maximum(model.score_samples(grid), -9)
    else:
        values = -np.log1p(np.linalg.norm(model.score_function(grid), axis=1))
    ax.contourf(x, y, values.reshape(x.shape), levels=20, cmap="Blues")
    drawn = model.sample(500)
    drawn = drawn[0] if isinstance(drawn, tuple) else drawn
    ax.plot(*drawn.T, ".", color="C1", markersize=2)
    verdict = "no score"
    if name in adjusted:
        verdict = f"{'rejected' if adjusted[name] <= 0.05 else 'kept'}, p = {adjusted[name]:.3f}"
    text = f"Stein test: {verdict}\nenergy distance: {energy_distance(drawn, X_new):.3f}"
    ax.text(0.02, 0.98, text, transform=ax.transAxes, va="top", fontsize=8)
    ax.set(title=name, xlim=(-1.8, 3.6), ylim=(-1.3, 2.6))
plt.show()
