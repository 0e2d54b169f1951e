"""
================================================
The Gaussian behind a sample cut out by a border
================================================

Points are observed inside a region only. The fit of a Gaussian to them is far off, and its
likelihood needs an integral over the region.
:class:`~skpapers.density.TruncatedSteinDensity` needs neither integral nor formula: a list of
points on the border is enough.
"""

# %%
# A star cuts out 500 points
# --------------------------

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.path import Path
from sklearn.mixture import GaussianMixture

from skpapers.density import TruncatedSteinDensity

angle = np.pi / 2 + np.arange(10) * np.pi / 5
radius = np.where(np.arange(10) % 2, 0.9, 2.0)
star = radius[:, None] * np.c_[np.cos(angle), np.sin(angle)]
mean = np.array([0.8, 0.3])


def observe(rng, n_samples=500):
    X = mean + rng.normal(size=(20 * n_samples, 2))
    return X[Path(star).contains_points(X)][:n_samples]


def outline(n_points, rng):
    """Uniform points on the border."""
    edges = np.roll(star, -1, axis=0) - star
    side = rng.randint(10, size=n_points)  # all sides of the star are equally long
    return star[side] + rng.uniform(size=(n_points, 1)) * edges[side]


rng = np.random.RandomState(0)
X, border = observe(rng), outline(100, rng)
ours = TruncatedSteinDensity("gaussian_mean", boundary=border).fit(X)
naive = GaussianMixture(random_state=0).fit(X)

# %%
# The error of the mean over 12 samples, and by the number of border points
# -------------------------------------------------------------------------

counts = [16, 25, 40, 80, 160]
errors, naive_errors = np.empty((12, len(counts))), np.empty(12)
for seed in range(12):
    rng = np.random.RandomState(seed)
    sample = observe(rng)
    naive_errors[seed] = np.linalg.norm(GaussianMixture().fit(sample).means_[0] - mean)
    for j, count in enumerate(counts):
        density = TruncatedSteinDensity("gaussian_mean", boundary=outline(count, rng))
        errors[seed, j] = np.linalg.norm(density.fit(sample).means_[0] - mean)
print(f"error of the mean: {errors[:, -1].mean():.3f}, naive {naive_errors.mean():.3f}")

fig, (left, middle, right) = plt.subplots(1, 3, figsize=(14.5, 4.4), layout="constrained")
axis = np.linspace(-2.4, 2.8, 120)
grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
fits = [
    (left, naive, "GaussianMixture"),
    (middle, ours, "TruncatedSteinDensity"),
]
for ax, density, title in fits:
    values = np.exp(density.score_samples(grid)).reshape(120, 120)
    ax.contour(axis, axis, values, levels=6, cmap="Blues", vmin=-0.1 * values.max())
    ax.plot(*X.T, ".", ms=3, color="0.5", label="sample")
    ax.plot(*star[[*range(10), 0]].T, "k", lw=0.8)
    ax.plot(*density.means_[0], "o", color="tab:blue", ms=9, label="fitted mean")
    ax.plot(*mean, "r*", ms=14, label="true mean")
    ax.set(title=title, xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
middle.plot(*border.T, "k.", ms=5, label="border points")
left.legend(fontsize="small", loc="upper left")
middle.legend(fontsize="small", loc="upper left")
right.axhline(naive_errors.mean(), color="0.5", ls="--", label="GaussianMixture")
right.errorbar(
    counts, errors.mean(axis=0), errors.std(axis=0) / 12**0.5, fmt="o-", label="ours, +- 1 s.e."
)
right.set(
    title="Error of the mean, 12 samples",
    xlabel="number of border points",
    ylabel="distance from the true mean",
    xscale="log",
    xticks=counts,
    xticklabels=counts,
    ylim=(0, None),
)
right.minorticks_off()
right.legend()
plt.show()
