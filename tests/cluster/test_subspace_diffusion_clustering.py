"""Low-rank mixtures: closed forms against brute force, PCA as a limit, and sample complexity."""

import functools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from skpapers.cluster import LowRankMixtureDiffusion, make_low_rank_gaussian_mixture
from skpapers.cluster._low_rank_mixture import LowRankMixture
from skpapers.cluster._subspace_diffusion import low_rank_denoiser, padded, train_denoiser
from skpapers.cluster._subspace_solvers import alternate, expectation_maximization
from skpapers.utils import check_random_state, qr_factor


def random_mixture(n_features=6, ranks=(1, 3), seed=0, unit=False):
    rng = np.random.default_rng(seed)
    bases = [qr_factor(rng.normal(size=(n_features, rank))) for rank in ranks]
    variances = [np.ones(rank) if unit else rng.uniform(0.5, 4, size=rank) for rank in ranks]
    return LowRankMixture(bases, variances, np.array([0.3, 0.7]))


def covariances(mixture, variance):
    eye = variance * np.eye(mixture.n_features)
    return [(b * v) @ b.T + eye for b, v in zip(mixture.bases, mixture.variances)]


def projector_error(first, second):
    return np.linalg.norm(first @ first.T - second @ second.T, 2)


def fitted_error(model, bases):
    """Largest distance of the projectors, clusters matched to the true ones."""
    return max(min(projector_error(basis, found) for found in model.subspaces_) for basis in bases)


# Closed forms.


def test_denoiser_is_the_posterior_mean_by_importance_sampling():
    mixture = random_mixture(3, (1, 1), unit=True)
    rng = np.random.default_rng(0)
    labels = rng.choice(2, size=10**6, p=mixture.weights)
    clean = rng.normal(size=(10**6, 1)) * np.stack([b[:, 0] for b in mixture.bases])[labels]
    scale, sigma = 0.8, 0.6
    for x in scale * clean[:4] + sigma * rng.normal(size=(4, 3)):
        logits = -0.5 * np.sum((x - scale * clean) ** 2, axis=1) / sigma**2
        weights = np.exp(logits - logits.max())
        expected = weights @ clean / weights.sum()
        assert_allclose(mixture.denoise(x[None], scale, sigma)[0], expected, atol=5e-3)


@pytest.mark.parametrize("scale, sigma", [(1.0, 0.5), (0.3, 0.95), (1.0, 0.05)])
def test_denoiser_follows_tweedie_for_the_explicit_density(scale, sigma):
    mixture = random_mixture()
    X = mixture.sample(20, 0.1, np.random.RandomState(0))[0]
    x = torch.tensor(X, requires_grad=True)
    logs = [
        np.log(weight)
        + torch.distributions.MultivariateNormal(
            torch.zeros(6, dtype=x.dtype), torch.tensor(scale**2 * C + sigma**2 * np.eye(6))
        ).log_prob(x)
        for weight, C in zip(mixture.weights, covariances(mixture, 0))
    ]
    gradient = torch.autograd.grad(torch.logsumexp(torch.stack(logs), dim=0).sum(), x)[0].numpy()
    assert_allclose(mixture.score(X, scale, sigma), gradient, rtol=1e-9, atol=1e-9)
    tweedie = (X + sigma**2 * gradient) / scale
    assert_allclose(mixture.denoise(X, scale, sigma), tweedie, atol=1e-9)


def test_jacobian_equals_finite_differences():
    mixture = random_mixture()
    x = mixture.sample(1, 0.1, np.random.RandomState(1))[0][0]
    steps = 1e-6 * np.eye(6)
    up, down = (mixture.denoise(x + sign * steps, 0.9, 0.4) for sign in (1, -1))
    assert_allclose(mixture.jacobian(x, 0.9, 0.4), (up - down).T / 2e-6, atol=1e-7)


def test_torch_denoiser_equals_the_closed_form():
    mixture = random_mixture(unit=True)
    X = mixture.sample(10, 0.1, np.random.RandomState(0))[0]
    bases = padded([torch.tensor(basis) for basis in mixture.bases])
    level = torch.tensor(0.7, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    found = low_rank_denoiser(bases, torch.tensor(mixture.weights).log(), torch.tensor(X), *level)
    assert_allclose(found.numpy(), mixture.denoise(X, 0.7, 0.4), atol=1e-12)


def fitted(seed=0, **settings):
    mixture = make_low_rank_gaussian_mixture(300, 8, (2, 1), noise=0.2, random_state=seed)
    settings = {"n_clusters": 2, "n_components": [1, 2], "random_state": 0, **settings}
    return LowRankMixtureDiffusion(**settings).fit(mixture.data), mixture


@pytest.mark.parametrize("learn_spectrum", [True, False])
def test_density_is_that_of_a_mixture_of_normal_laws(learn_spectrum):
    model, mixture = fitted(learn_spectrum=learn_spectrum)
    if not learn_spectrum:
        assert all((v == 1).all() for v in model.explained_variance_)
    laws = covariances(model._mixture, model.noise_variance_)
    densities = [multivariate_normal(np.zeros(8), C).pdf(mixture.data) for C in laws]
    expected = np.log(model.weights_ @ densities)
    assert_allclose(model.score_samples(mixture.data), expected, rtol=1e-8, atol=1e-8)
    joint = model.weights_ * np.transpose(densities)
    shares = joint / joint.sum(axis=1, keepdims=True)
    assert_allclose(model.predict_proba(mixture.data), shares, atol=1e-8)
    step = 1e-5 * np.eye(8)[0]
    up, down = (model.score_samples(mixture.data[:5] + s * step) for s in (1, -1))
    assert_allclose(model.score_function(mixture.data[:5])[:, 0], (up - down) / 2e-5, rtol=1e-4)


def test_samples_have_the_covariances_of_the_mixture():
    model, _ = fitted()
    X, labels = model.sample(40_000, random_state=0)
    for k, law in enumerate(covariances(model._mixture, model.noise_variance_)):
        error = np.linalg.norm(np.cov(X[labels == k].T) - law, 2)
        assert error < 0.05 * np.linalg.norm(law, 2)


@pytest.mark.parametrize("schedule", ["vp", "edm"])
def test_the_probability_flow_ends_on_the_subspaces(schedule):
    model, _ = fitted(schedule=schedule)
    X, labels = model.sample(4000, random_state=0, method="reverse_ode", n_steps=100)
    distances = model.transform(X)[np.arange(4000), labels]
    assert np.median(distances) < 0.05
    assert_allclose(np.bincount(labels) / 4000, model.weights_, atol=0.05)
    for k, variances in enumerate(model.explained_variance_):
        coordinates = X[labels == k] @ model.subspaces_[k]
        assert_allclose(coordinates.var(axis=0), variances, rtol=0.2)


# Solvers.


def test_one_cluster_is_pca_without_centring():
    X = make_low_rank_gaussian_mixture(200, 20, (4,), noise=0.3, random_state=0).data
    expected = TruncatedSVD(4, algorithm="arpack").fit(X).components_.T
    model = LowRankMixtureDiffusion(1, 4).fit(X)
    assert projector_error(model.subspaces_[0], expected) < 1e-10


def test_training_a_denoiser_from_a_random_start_is_pca():
    X = make_low_rank_gaussian_mixture(200, 10, (2,), noise=0.1, random_state=0).data
    start = qr_factor(np.random.default_rng(0).normal(size=(10, 2)))
    (basis,), losses = train_denoiser(
        X, [start], np.ones(1), "vp", 600, check_random_state(0), torch.device("cpu")
    )
    expected = TruncatedSVD(2, algorithm="arpack").fit(X).components_.T
    assert projector_error(start, expected) > 0.5
    assert projector_error(basis, expected) < 0.05
    assert np.mean(losses[-50:]) < np.mean(losses[:5])


def test_all_solvers_find_the_clusters():
    mixture = make_low_rank_gaussian_mixture(240, 15, (2, 2, 2), noise=0.1, random_state=0)
    for solver in ("ksubspaces", "em", "score"):
        model = LowRankMixtureDiffusion(3, 2, solver=solver, max_iter=30, random_state=0)
        assert adjusted_rand_score(mixture.target, model.fit_predict(mixture.data)) > 0.95
        assert fitted_error(model, mixture.subspaces) < 0.2
        assert_array_equal(model.predict(mixture.data), model.labels_)


def test_energy_never_falls_over_sweeps():
    mixture = make_low_rank_gaussian_mixture(150, 10, (2, 2, 2), noise=0.3, random_state=0)
    rng = np.random.default_rng(0)
    for _ in range(5):
        start = [qr_factor(rng.normal(size=(10, 2))) for _ in range(3)]
        energies = [alternate(mixture.data, start, [2] * 3, n).objective for n in range(15)]
        assert (np.diff(energies) >= -1e-9 * energies[-1]).all()
        assert energies[-1] > energies[0]


def test_likelihood_never_falls_over_em():
    mixture = make_low_rank_gaussian_mixture(300, 8, (2, 1), noise=0.2, random_state=0)
    rng = np.random.default_rng(1)
    start = [qr_factor(b + 0.3 * rng.normal(size=b.shape)) for b in mixture.subspaces]
    partition = alternate(mixture.data, start, [2, 1], 0)
    settings = [2, 1], None, True, 100, 0.0
    _, noise, curve = expectation_maximization(mixture.data, partition, *settings)
    assert (np.diff(curve) >= -1e-9).all() and len(curve) > 3
    assert noise == pytest.approx(0.04, rel=0.1)


def test_labels_do_not_depend_on_signs_and_scale():
    mixture = make_low_rank_gaussian_mixture(200, 12, (2, 3, 2), noise=0.2, random_state=0)
    rng = np.random.default_rng(0)
    model = LowRankMixtureDiffusion(3, 2, random_state=0)
    labels = model.fit_predict(mixture.data)
    signs = rng.choice([-1, 1], size=(200, 1))
    for rows in (signs * mixture.data, 1e-9 * mixture.data, 1e9 * mixture.data):
        assert_array_equal(model.fit_predict(rows), labels)
    clean = make_low_rank_gaussian_mixture(60, 12, (2, 2, 2), random_state=0)
    scales = rng.uniform(0.5, 2, size=(60, 1))
    expected = LowRankMixtureDiffusion(3, 2, random_state=0).fit_predict(clean.data)
    assert_array_equal(model.fit_predict(scales * clean.data), expected)


def test_dimensions_are_found_from_the_spectra_and_given_ones_matched():
    mixture = make_low_rank_gaussian_mixture(300, 20, (1, 3, 5), noise=0.05, random_state=0)
    for n_components in ("auto", [5, 1, 3]):
        model = LowRankMixtureDiffusion(3, n_components, random_state=0).fit(mixture.data)
        assert sorted(basis.shape[1] for basis in model.subspaces_) == [1, 3, 5]
        assert adjusted_rand_score(mixture.target, model.labels_) > 0.9


# Claims.


@functools.cache
def recovery_error(n_each, seed):
    mixture = make_low_rank_gaussian_mixture(
        3 * n_each, 48, (6, 6, 6), orthogonal=True, random_state=seed
    )
    model = LowRankMixtureDiffusion(3, 6, random_state=0).fit(mixture.data)
    return fitted_error(model, mixture.subspaces)


@pytest.mark.parametrize("n_each", [6, 7, 9, 12, 18])
def test_as_many_rows_as_dimensions_recover_the_subspaces(n_each):
    assert max(recovery_error(n_each, seed) for seed in range(5)) < 1e-6


def test_one_row_less_does_not():
    assert min(recovery_error(5, seed) for seed in range(5)) > 0.5


def test_subspaces_are_found_where_centres_and_full_covariances_are_not():
    others = []
    for seed in range(3):
        mixture = make_low_rank_gaussian_mixture(240, 30, (3,) * 4, noise=0.05, random_state=seed)
        model = LowRankMixtureDiffusion(4, 3, random_state=0)
        assert adjusted_rand_score(mixture.target, model.fit_predict(mixture.data)) > 0.95
        peers = KMeans(4, n_init=3, random_state=0), GaussianMixture(4, random_state=0)
        others.append(
            [adjusted_rand_score(mixture.target, p.fit_predict(mixture.data)) for p in peers]
        )
    assert (np.mean(others, axis=0) < 0.5).all()


def test_at_little_noise_the_jacobian_has_the_rank_of_one_subspace():
    mixture = make_low_rank_gaussian_mixture(350, 48, (7, 7), random_state=0)
    model = LowRankMixtureDiffusion(2, 7, random_state=0).fit(mixture.data)
    assert all(model.jacobian_rank(x, t=0.01) == 7 for x in mixture.data[::50])
    # between the subspaces, at a lot of noise, it answers in both
    assert model.jacobian_rank(np.zeros(48), sigma=5.0, energy=0.999) > 7


# The estimator.


def test_edits_move_one_coordinate_by_standard_deviations():
    model, mixture = fitted()
    moved = model.edit(mixture.data[:4], 0, 0, 2.0) - mixture.data[:4]
    direction = model.subspaces_[0][:, 0]
    assert_allclose(
        moved, np.tile(2 * np.sqrt(model.explained_variance_[0][0]) * direction, (4, 1))
    )


def test_denoising_is_as_good_as_knowing_the_law():
    mixture = make_low_rank_gaussian_mixture(400, 40, (3, 3), random_state=0)
    model = LowRankMixtureDiffusion(2, 3, random_state=0).fit(mixture.data[::2])
    noisy = mixture.data + 0.5 * np.random.default_rng(0).normal(size=(400, 40))
    law = LowRankMixture(mixture.subspaces, [np.ones(3)] * 2, np.full(2, 0.5))
    errors = [
        np.mean((clean - mixture.data) ** 2)
        for clean in (model.denoise(noisy, sigma=0.5), law.denoise(noisy, 1.0, 0.5), noisy)
    ]
    assert errors[0] < 1.05 * errors[1] < 0.3 * errors[2]


def test_bad_requests_are_named():
    model, mixture = fitted()
    with pytest.raises(ValueError, match="n_clusters=5 must be at most n_samples=4"):
        LowRankMixtureDiffusion(5).fit(np.eye(4))
    with pytest.raises(ValueError, match="either t or sigma"):
        model.denoise(mixture.data)
    with pytest.raises(ValueError, match=r"t=2 must be in \(0, 1\]"):
        model.denoise(mixture.data, 2)
    with pytest.raises(ValueError, match="method='ode'"):
        model.sample(method="ode")
    with pytest.raises(ValueError, match="must be positive and fit"):
        make_low_rank_gaussian_mixture(10, 4, (3, 3), orthogonal=True)
