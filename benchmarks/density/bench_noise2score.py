"""A trained Noise2Score against non-local means, image by image."""

import importlib.util

import numpy as np
from sklearn.datasets import load_digits

from benchmarks._harness import Case
from skpapers.density import Noise2Score


def cases():
    if importlib.util.find_spec("skimage") is None:
        print("scikit-image is not installed: pip install scikit-image")
        return
    from skimage.restoration import denoise_nl_means

    clean = load_digits().data.astype(np.float32) / 16
    noisy = clean + 0.25 * np.random.RandomState(0).normal(size=clean.shape)
    noisy = noisy.astype(np.float32)
    model = Noise2Score(noise_level=0.0625, max_epochs=60, random_state=0).fit(noisy[:900])
    test, truth = noisy[-500:], clean[-500:]

    def one_by_one():
        options = {"patch_size": 3, "patch_distance": 4, "h": 0.15, "sigma": 0.25}
        images = [denoise_nl_means(image.reshape(8, 8), **options) for image in test]
        return np.stack(images).reshape(test.shape)

    yield Case(
        name="noise2score",
        size="500 images of 8 x 8",
        peer_name="skimage denoise_nl_means",
        ours=lambda: model.transform(test),
        peer=one_by_one,
        accuracy=lambda denoised: float(np.mean((denoised - truth) ** 2)),
        metric="mean squared error",
        note="after training on 900 other images; the noisy ones have an error of 0.0625",
    )
