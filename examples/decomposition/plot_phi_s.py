"""
PHI-S: several teachers in one loss
===================================

A student is to imitate two teachers whose outputs differ in size by four orders of magnitude, and
whose own variances span four more. Left alone, the larger teacher takes all of the loss.
``StandardScaler`` and whitening make all variances 1, and in doing so blow up the directions that
hardly matter. ``PHIStandardScaler`` rotates first, so that one scale is enough: all variances are
1, and all distances stay what they were.
"""

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.neural_network import MLPRegressor

from skpapers.decomposition import MultiTeacherRegressor, PHIStandardScaler

rng = np.random.default_rng(0)
X = rng.normal(size=(1500, 20))


def teacher(scale):
    """Sixteen outputs with variances from 1 to 1e-4, times a scale."""
    output = np.tanh(X @ rng.normal(size=(20, 16)) / np.sqrt(20))
    output = (output - output.mean(axis=0)) / output.std(axis=0)
    return scale * output * np.geomspace(1, 1e-2, 16)


teachers = [teacher(100), teacher(0.01)]

# %%
# What each map does to a correlated cloud of points. The ring around it holds equal errors after
# the map: PHI-S keeps it a circle, whitening makes it an ellipse of the data's shape.
names = {
    "global": "one scale",
    "standard": "standard",
    "pca_whiten": "whitening",
    "phi_s": "PHI-S",
}
cloud = rng.normal(size=(300, 2)) @ np.array([[3.0, 1.0], [0.0, 0.5]])
angle = np.linspace(0, 2 * np.pi, 100)
ring = np.c_[np.cos(angle), np.sin(angle)]

fig, axes = plt.subplots(2, 4, figsize=(11, 4), layout="constrained", sharex="row", sharey="row")
for (above, below), (method, name) in zip(axes.T, names.items()):
    scaler = PHIStandardScaler(method).fit(cloud)
    mapped = scaler.transform(cloud)
    variances = mapped.var(axis=0, ddof=1)
    above.scatter(*cloud.T, s=4, alpha=0.4)
    above.plot(*scaler.inverse_transform(ring).T, color="tab:red")
    above.set(title=name, aspect="equal")
    below.scatter(*mapped.T, s=4, alpha=0.4)
    below.plot(*ring.T, color="tab:red")
    below.set(xlabel=f"variances {variances[0]:.2f}, {variances[1]:.2f}", aspect="equal")
axes[0, 0].set_ylabel("original")
axes[1, 0].set_ylabel("mapped")

# %%
# A network with twelve hidden units learns both teachers from each kind of target. The score is
# the share of a teacher's variance that is explained on held-out rows. One scale a teacher makes
# the same squared error as PHI-S, without equal variances: here that is most of the gain.
scores = {}
for normalizer, name in [(None, "none"), *names.items()]:
    student = MLPRegressor(hidden_layer_sizes=(12,), max_iter=300, random_state=0)
    model = MultiTeacherRegressor(student, normalizer=normalizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X[:1000], [target[:1000] for target in teachers])
    scores[name] = [
        r2_score(target[1000:], found, multioutput="variance_weighted")
        for target, found in zip(teachers, model.predict(X[1000:]))
    ]

fig, axis = plt.subplots(figsize=(8, 3.5), layout="constrained")
positions = np.arange(len(scores))
for shift, label, values in zip((-0.2, 0.2), ("scale 100", "scale 0.01"), zip(*scores.values())):
    bars = axis.bar(positions + shift, np.maximum(values, 0), width=0.4, label=label)
    axis.bar_label(bars, [f"{value:.2f}" for value in values], fontsize=8)
axis.set(
    xticks=positions,
    xticklabels=list(scores),
    xlabel="normalisation of the targets",
    ylabel="explained variance",
    ylim=(0, 1.1),
    title="what the student learns of each teacher",
)
axis.legend(title="teacher", loc="upper left")
plt.show()
