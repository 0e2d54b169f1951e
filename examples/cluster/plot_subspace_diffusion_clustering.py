"""
What a diffusion model learns from low-dimensional data
=======================================================

Images have many pixels and few degrees of freedom. For data on a few linear subspaces all that a
diffusion model has to learn is known: its denoiser is a soft choice among projections, and to
train it is to cluster by subspaces. One fit gives labels, a denoiser, new images, and directions
to edit along.
"""

# %%
# How many rows does it take? Three subspaces of six dimensions, in 48 features: from six rows of
# each on, they are recovered to rounding; with five there is no hope.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from skpapers.cluster import LowRankMixtureDiffusion, make_low_rank_gaussian_mixture

amounts = [3, 4, 5, 6, 7, 9, 12, 18, 36]
agreement = {"LowRankMixtureDiffusion": [], "KMeans": [], "GaussianMixture": []}
errors = []
for n_each in amounts:
    mixture = make_low_rank_gaussian_mixture(
        3 * n_each, 48, (6, 6, 6), orthogonal=True, random_state=0
    )
    models = (
        LowRankMixtureDiffusion(3, 6, random_state=0),
        KMeans(3, n_init=3, random_state=0),
        GaussianMixture(3, random_state=0),
    )
    for scores, model in zip(agreement.values(), models):
        scores.append(adjusted_rand_score(mixture.target, model.fit_predict(mixture.data)))
    projectors = [basis @ basis.T for basis in models[0].subspaces_]
    errors.append(
        max(
            min(np.linalg.norm(basis @ basis.T - P, 2) for P in projectors)
            for basis in mixture.subspaces
        )
    )

fig = plt.figure(figsize=(13, 6), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=[1, 1.9])
top, bottom = left.subplots(2, 1, sharex=True)
top.semilogy(amounts, errors, "o-")
top.axvline(6, color="0.6", ls=":")
top.set(ylabel="error of the worst projector", title="subspaces of six dimensions")
for name, scores in agreement.items():
    bottom.plot(amounts, scores, "o-", ms=4, label=name)
bottom.axvline(6, color="0.6", ls=":")
bottom.set(xlabel="rows of each subspace", ylabel="adjusted Rand index")
bottom.legend(fontsize="small")

# %%
# The same on images of digits. At a level of noise where a single projection blurs, the mixture
# of subspaces denoises; edits move along one direction of a cluster; the probability flow turns
# noise into new digits.
X, y = load_digits(return_X_y=True)
model = LowRankMixtureDiffusion(10, 10, random_state=0).fit(X / 16)
rng = np.random.default_rng(0)
clean = X[[1, 12, 23, 4, 25, 36, 17, 8]] / 16
noisy = clean + 0.4 * rng.normal(size=clean.shape)
cluster = int(model.predict(clean[:1])[0])
rows = {
    "clean": clean,
    "noisy": noisy,
    "denoised": model.denoise(noisy, sigma=0.4),
    "edited": np.vstack([model.edit(clean[:1], cluster, 1, s) for s in np.linspace(-2.5, 2.5, 8)]),
    "sampled": model.sample(8, random_state=3, method="reverse_ode", n_steps=100)[0],
}
axes = right.subplots(5, 8)
for line, (name, images) in zip(axes, rows.items()):
    for axis, image in zip(line, images):
        axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
    line[0].set_ylabel(name)
right.suptitle("one fit of ten subspaces: denoiser, edits, samples")
error = [np.mean((found - clean) ** 2) for found in (noisy, rows["denoised"])]
print(f"mean squared error: noisy {error[0]:.3f}, denoised {error[1]:.3f}")
plt.show()
