"""
Noise comes off images without a clean example
==============================================

The score of the noisy digits, learned from noisy digits alone, says how to get from a noisy image
to the expected clean one. Wiener's filter and principal components, which see no clean image
either, know the covariance only.
"""

# %%
# Digits with Gaussian noise; half of them train, half are denoised.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skpapers.density import Noise2Score

clean = load_digits().data.astype(np.float32) / 16
noise = np.random.RandomState(0).normal(size=clean.shape)
noisy = (clean + 0.25 * noise).astype(np.float32)
train, test, truth = noisy[::2], noisy[1::2], clean[1::2]
model = Noise2Score(max_epochs=60, random_state=0).fit(train)
print(f"standard deviation of the noise: {model.noise_level_**0.5:.3f} estimated, 0.25 true")

# %%
# The same images by every method, and the error for every assumed strength of the noise.
precision = np.linalg.inv(np.cov(train.T))
principal = min(
    (PCA(k).fit(train) for k in range(2, 40, 2)),
    key=lambda pca: np.mean((pca.inverse_transform(pca.transform(test)) - truth) ** 2),
)
images = {
    "noisy": test,
    f"PCA ({principal.n_components}, the best)": principal.inverse_transform(
        principal.transform(test)
    ),
    "Wiener": test - 0.25**2 * (test - train.mean(axis=0)) @ precision,
    "Noise2Score": model.transform(test),
    "clean": truth,
}
fig = plt.figure(figsize=(11, 4.6), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=[1.5, 1])
axes = left.subplots(5, 8)
chosen = [5, 1, 11, 22, 33, 40, 51, 60]
for row, (name, X) in zip(axes, images.items()):
    for ax, image in zip(row, X[chosen]):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name.replace(" (", "\n("), rotation=0, ha="right", va="center")

deviations = np.linspace(0, 0.4, 30)
errors = [np.mean((model.transform(test, noise_level=s**2) - truth) ** 2) for s in deviations]
ax = right.subplots()
ax.plot(deviations, errors, color="C1", label="Noise2Score, one training")
ax.axvline(model.noise_level_**0.5, color="C1", ls=":", label="estimated strength")
for color, name in zip(("C0", "C2"), list(images)[1:3]):
    ax.axhline(np.mean((images[name] - truth) ** 2), color=color, ls="--", label=name)
ax.set(
    xlabel="assumed standard deviation of the noise", ylabel="mean squared error", ylim=(0, 0.08)
)
ax.legend()
plt.show()
