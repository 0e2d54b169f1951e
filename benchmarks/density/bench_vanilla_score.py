"""Sampling with a learned score against a kernel density."""

import numpy as np
from sklearn.neighbors import KernelDensity

from benchmarks._harness import Case
from skpapers.datasets import GaussianMixtureDensity
from skpapers.density import ScoreMatchingSampler
from skpapers.processes import energy_distance


def cases():
    """10000 rows of 5 and of 20 columns: three clusters, 1500 training rows."""
    for n_features in (5, 20):
        centres = np.zeros((3, n_features))
        centres[1, 0] = centres[2, 1] = 10
        truth = GaussianMixtureDensity(centres, 1.0, [0.2, 0.3, 0.5])
        X, fresh = truth.sample(1500, 0).astype(np.float32), truth.sample(4000, 1)
        sampler = ScoreMatchingSampler(random_state=0).fit(X)
        kernel = KernelDensity(bandwidth="scott").fit(X)
        yield Case(
            name="ScoreMatchingSampler.sample",
            size=f"10000 samples, {n_features} columns",
            peer_name="KernelDensity.sample (Scott)",
            ours=lambda sampler=sampler: sampler.sample(10_000),
            peer=lambda kernel=kernel: kernel.sample(10_000, random_state=0),
            accuracy=lambda drawn, fresh=fresh: energy_distance(drawn[:4000], fresh),
            metric="energy distance to fresh rows",
            note="A kernel density adds noise to a row; a chain takes 100 steps of a network.",
        )
