"""The closed form with its rule against KernelRidge with a cross-validated penalty.

Both regress rows of two Gaussians on four noisy copies of each, with the same kernel. No public
code of the authors is known.
"""

import numpy as np
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, GroupKFold

from benchmarks._harness import Case
from skpapers.datasets import GaussianMixtureDensity
from skpapers.density import EarlyStoppedScoreEstimator, score_ntk

_DENSITY = GaussianMixtureDensity([[-0.93, 0.0], [0.93, 0.0]], 0.35**2)


def cases():
    X = _DENSITY.sample(300, 0)
    ours = EarlyStoppedScoreEstimator(random_state=0)
    yield Case(
        name="nn_score_estimation",
        size="300 rows, 2 features, 1200 inputs",
        peer_name="KernelRidge, GridSearchCV",
        ours=lambda: ours.fit(X).posterior_mean,
        peer=lambda: ridge(X),
        accuracy=mean_error,
        metric="squared error of the posterior mean",
        note="the peer chooses among 6 penalties by 5 folds of whole rows, on one kernel matrix",
    )


def ridge(X):
    """Posterior mean by kernel ridge regression on inputs drawn as ours are."""
    rng = np.random.RandomState(0)
    mean, scale = X.mean(axis=0), X.std(axis=0)
    rows = np.repeat((X - mean) / scale, 4, axis=0)
    t = np.exp(rng.uniform(np.log(0.01), np.log(3), len(rows)))
    noise = np.sqrt(-np.expm1(-t))[:, None] * rng.normal(size=rows.shape)
    inputs = np.c_[np.exp(-t / 2)[:, None] * rows + noise, t - 0.01, np.ones(len(t))]
    model = GridSearchCV(
        KernelRidge(kernel="precomputed"),
        {"alpha": len(rows) * 10.0 ** np.arange(-5, 1)},
        cv=GroupKFold(5),
        scoring="neg_mean_squared_error",
    )
    model.fit(score_ntk(inputs), rows, groups=np.repeat(np.arange(len(X)), 4))

    def posterior_mean(X, t):
        fresh = np.c_[(X - mean) / scale, np.full(len(X), t - 0.01), np.ones(len(X))]
        return mean + scale * model.predict(score_ntk(fresh, inputs))

    return posterior_mean


def mean_error(posterior_mean):
    """Mean over times of the error against the exact mean, at fresh rows."""
    rng, errors = np.random.RandomState(1), []
    centre, scale = np.zeros(2), np.sqrt([0.93**2 + 0.35**2, 0.35**2])
    for t in np.geomspace(0.01, 3, 12):
        alpha, sigma = np.exp(-t / 2), np.sqrt(-np.expm1(-t))
        rows = _DENSITY.sample(200, rng) / scale
        noisy = alpha * rows + sigma * rng.normal(size=rows.shape)
        standard = GaussianMixtureDensity(
            _DENSITY.means / scale, np.tile(0.35**2 / scale**2, (2, 1))
        )
        truth = scale * standard.denoise(noisy, alpha=alpha, sigma=sigma)
        errors.append(np.mean((posterior_mean(centre + scale * noisy, t) - truth) ** 2))
    return np.mean(errors)
