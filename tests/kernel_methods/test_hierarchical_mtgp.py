"""Tests of the multitask Gaussian process with interacting components."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate
from scipy.optimize import check_grad
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel

from skpapers.kernel_methods import (
    HierarchicalMultitaskGPRegressor,
    HierarchicalSpectralMixtureKernel,
)


def random_kernel(seed, n_latent, n_tasks, n_features=1, **params):
    rng = np.random.RandomState(seed)
    shape = (n_latent, n_features)
    return HierarchicalSpectralMixtureKernel(
        rng.uniform(0.2, 2, n_latent),
        rng.uniform(0, 1, shape),
        rng.uniform(0.01, 0.3, shape),
        rng.normal(size=(n_latent, n_tasks, n_tasks)),
        rng.normal(size=shape),
        rng.uniform(0, 6, n_latent),
        **params,
    )


def spectral_mixture(kernel, q, tau):
    """Real spectral-mixture kernel of one component."""
    decay = np.exp(-2 * np.pi**2 * (tau**2 * kernel.bandwidths[q]).sum(-1))
    return kernel.weights[q] * decay * np.cos(2 * np.pi * (tau @ kernel.frequencies[q]))


def problem(n_samples=30, seed=0):
    rng = np.random.RandomState(seed)
    X = np.sort(rng.uniform(0, 5, (n_samples, 1)), axis=0)
    Y = np.c_[np.sin(3 * X[:, 0]), np.cos(3 * X[:, 0]), np.sin(5 * X[:, 0])]
    return X, Y + 0.1 * rng.normal(size=Y.shape)


def lagged(seed, n_samples=100):
    """A narrow-band signal and the same half a unit later, of which the second half is missing."""
    rng = np.random.RandomState(seed)
    x = np.linspace(0, 20, n_samples)
    frequencies = rng.normal(0.5, 0.08, size=60)
    a, b = rng.normal(size=(2, 60)) / np.sqrt(60)

    def signal(x):
        angles = 2 * np.pi * np.outer(x, frequencies)
        return np.cos(angles) @ a + np.sin(angles) @ b

    truth = np.c_[signal(x), signal(x - 0.5)]
    Y = truth + 0.05 * rng.normal(size=truth.shape)
    Y[n_samples // 2 :, 1] = np.nan
    return x[:, None], Y, truth


# The kernel.


@pytest.mark.parametrize("n_latent", [1, 2, 3])
@pytest.mark.parametrize("n_tasks", [1, 2, 3])
def test_kernel_is_symmetric_and_positive_semidefinite(n_latent, n_tasks):
    for seed in range(50):
        rng = np.random.RandomState(seed)
        n_features = 1 + seed % 2
        X, tasks = rng.uniform(0, 4, (25, n_features)), rng.randint(n_tasks, size=25)
        kernel = random_kernel(seed, n_latent, n_tasks, n_features)
        matrix = kernel(X, tasks)
        assert_allclose(matrix, matrix.T, atol=1e-12 * np.abs(matrix).max())
        assert_allclose(matrix, kernel(X, tasks, X, tasks), atol=1e-12 * np.abs(matrix).max())
        assert np.linalg.eigvalsh(matrix).min() > -1e-8 * np.trace(matrix)


@pytest.mark.parametrize("seed", range(3))
def test_interaction_is_the_integral_of_two_lobes(seed):
    kernel = random_kernel(seed, 2, 1)
    kernel.coregionalization[:] = 1.0
    tau = np.array([0.0, 0.7, -1.3])
    alone = [
        HierarchicalSpectralMixtureKernel(
            *(values[[q]] for values in (kernel.weights, kernel.frequencies, kernel.bandwidths)),
            np.ones((1, 1, 1)),
        )(tau[:, None], [0] * 3, [[0.0]], [0])[:, 0]
        for q in range(2)
    ]
    both = kernel(tau[:, None], [0] * 3, [[0.0]], [0])[:, 0] - sum(alone)

    def lobe(q, s):
        """Filter of a component, with its delay and phase; the square is its spectrum."""
        (variance,), (center,) = kernel.bandwidths[q], kernel.frequencies[q]
        size = kernel.weights[q] / np.sqrt(2 * np.pi * variance)
        turn = 2 * np.pi * s * kernel.delays[q, 0] + kernel.phases[q]
        return np.sqrt(size * np.exp(-((s - center) ** 2) / (2 * variance))) * np.exp(1j * turn)

    def crossed(s, t):
        wave = np.exp(2j * np.pi * s * t)
        forward = lobe(0, s) * np.conj(lobe(1, s)) * wave
        return np.real(forward + lobe(1, s) * np.conj(lobe(0, s)) * wave)

    expected = [integrate.quad(crossed, -8, 8, args=(t,), limit=400)[0] for t in tau]
    assert_allclose(both, expected, atol=1e-6)


@pytest.mark.parametrize("n_latent, interacting", [(1, True), (3, False)])
def test_without_interaction_it_is_a_linear_model_of_coregionalisation(n_latent, interacting):
    rng = np.random.RandomState(0)
    kernel = random_kernel(0, n_latent, 3, 2, interacting=interacting)
    X, tasks = rng.normal(size=(20, 2)), rng.randint(3, size=20)
    tau, expected = X[:, None] - X[None], 0.0
    for q in range(n_latent):
        mixing = kernel.coregionalization[q] @ kernel.coregionalization[q].T
        expected = expected + mixing[np.ix_(tasks, tasks)] * spectral_mixture(kernel, q, tau)
    assert_allclose(kernel(X, tasks), expected, atol=1e-10)
    strength = kernel.interaction_strength()
    assert_allclose(strength, np.diag(np.diag(strength)))


def test_different_lengths_are_an_error():
    with pytest.raises(ValueError, match="differ"):
        HierarchicalSpectralMixtureKernel([1.0, 2.0], [[0.1]], [[0.1]], [[[1.0]]])


# The regression.


def test_one_component_at_frequency_zero_is_scikit_learns_rbf():
    X, y = problem()[0], problem()[1][:, 0]
    params = {"normalize_x": False, "normalize_y": False, "optimizer": None, "alpha": 1e-9}
    model = HierarchicalMultitaskGPRegressor(1, **params).fit(X, y)
    raw = {name: values.copy() for name, values in model._raw.items()}
    raw["frequencies"][:] = -40.0  # the logit of zero
    model._factorize({name: model._tensor(values) for name, values in raw.items()})
    length = 1 / (2 * np.pi * np.sqrt(model.bandwidths_[0, 0]))
    variance = model.weights_[0] * model.coregionalization_[0, 0, 0] ** 2
    kernel = variance * RBF(length) + WhiteKernel(model.noise_variance_[0])
    peer = GaussianProcessRegressor(kernel, alpha=1e-9, optimizer=None).fit(X, y)
    X_new = np.linspace(-1, 6, 25)[:, None]
    for found, expected in zip(
        model.predict(X_new, return_std=True, include_noise=True),
        peer.predict(X_new, return_std=True),
    ):
        assert_allclose(found, expected, atol=1e-6)
    cov = model.predict(X_new, return_cov=True, include_noise=True)[1]
    assert_allclose(cov, peer.predict(X_new, return_cov=True)[1], atol=1e-6)


@pytest.mark.parametrize("interaction", ["full", "none", "function", "coefficient"])
def test_gradient_of_the_marginal_likelihood(interaction):
    X, Y = problem()
    model = HierarchicalMultitaskGPRegressor(2, interaction=interaction, max_iter=3).fit(X, Y)
    rng = np.random.RandomState(0)
    shapes = {name: values.shape for name, values in model._raw.items()}
    vector = np.concatenate([values.ravel() for values in model._raw.values()])
    vector = vector + 0.1 * rng.normal(size=vector.shape)
    error = check_grad(
        lambda v: model._loss(v, shapes)[0],
        lambda v: model._loss(v, shapes)[1],
        vector,
        epsilon=1e-6,
    )
    assert error < 1e-5 * max(1, np.linalg.norm(model._loss(vector, shapes)[1]))


def fixed(X, Y, **params):
    """Predictions with the parameters at one start, so that equal models agree exactly."""
    model = HierarchicalMultitaskGPRegressor(2, optimizer=None, random_state=0, **params)
    return model.fit(X, Y)


def test_permuted_rows_give_the_same_predictions():
    X, Y = problem()
    order = np.random.RandomState(0).permutation(len(X))
    X_new = np.linspace(0, 5, 11)[:, None]
    assert_allclose(
        fixed(X, Y).predict(X_new), fixed(X[order], Y[order]).predict(X_new), atol=1e-8
    )


def test_permuted_tasks_permute_predictions():
    X, Y = problem()
    model, order = fixed(X, Y), [2, 0, 1]
    permuted = fixed(X, Y[:, order], coregionalization_rank=3)
    raw = dict(model._raw, noise=model._raw["noise"][order])
    raw["coregionalization"] = np.tril(model._raw["coregionalization"])[:, order]
    permuted._factorize({name: permuted._tensor(values) for name, values in raw.items()})
    X_new = np.linspace(0, 5, 11)[:, None]
    assert_allclose(permuted.predict(X_new), model.predict(X_new)[:, order], atol=1e-8)


def test_missing_values_are_dropped_observations():
    X, Y = problem()
    holes = Y.copy()
    holes[3:9, 1] = holes[20:, 2] = np.nan
    model = fixed(X, holes, normalize_x=False, normalize_y=False)
    rows, tasks = np.nonzero(~np.isnan(holes))
    gram = model.kernel_(X[rows], tasks) + np.diag(model.noise_variance_[tasks] + model.alpha)
    X_new = np.linspace(0, 5, 7)[:, None]
    for task in range(3):
        cross = model.kernel_(X_new, [task] * 7, X[rows], tasks)
        expected = cross @ np.linalg.solve(gram, Y[rows, tasks])
        assert_allclose(model.predict(X_new)[:, task], expected, atol=1e-8)
    targets = Y[rows, tasks]
    expected = -0.5 * (
        targets @ np.linalg.solve(gram, targets)
        + np.linalg.slogdet(gram)[1]
        + len(rows) * np.log(2 * np.pi)
    )
    assert_allclose(model.log_marginal_likelihood(), expected, atol=1e-8)


def test_draws_have_the_posterior_mean_and_spread():
    X, Y = problem()
    model = fixed(X, Y)
    X_new = np.linspace(0, 6, 6)[:, None]
    draws = model.sample_y(X_new, 4000, random_state=0)
    mean, std = model.predict(X_new, return_std=True)
    assert draws.shape == (6, 3, 4000)
    assert_allclose(draws.mean(2), mean, atol=6 * std.max() / np.sqrt(4000) + 1e-3)
    assert_allclose(draws.std(2), std, rtol=0.08, atol=2e-3)


def test_frequencies_are_found_and_stay_below_nyquist():
    x = np.linspace(0, 8, 80)
    model = HierarchicalMultitaskGPRegressor(1, random_state=0)
    model.fit(x[:, None], np.sin(2 * np.pi * 1.1 * x))
    assert_allclose(model.frequencies_, 1.1, atol=0.05)
    noise = np.random.RandomState(0).normal(size=80)
    assert model.fit(x[:, None], noise).frequencies_.max() <= 0.5 / (x[1] - x[0])


def test_task_without_values_and_too_many_values():
    X, Y = problem()
    with pytest.raises(ValueError, match="every task"):
        HierarchicalMultitaskGPRegressor().fit(X, np.c_[Y, np.full(len(Y), np.nan)])
    with pytest.warns(UserWarning, match="max_observations"):
        fixed(X, Y, max_observations=40)
    with pytest.raises(ValueError, match="return_std or return_cov"):
        fixed(X, Y).predict(X, return_std=True, return_cov=True)


# The claim.


def missing_error(model, X, Y, truth):
    missing = np.isnan(Y)
    error = (model.fit(X, Y).predict(X) - truth)[missing]
    return np.sqrt(np.mean(error**2) / np.mean(truth[missing] ** 2))


def test_interaction_carries_a_lagged_pattern_to_the_task_with_a_gap():
    errors = []
    for seed in range(2):
        X, Y, truth = lagged(seed)
        models = [
            HierarchicalMultitaskGPRegressor(3, interaction=kind, max_iter=80, random_state=seed)
            for kind in ("full", "none")
        ]
        errors.append([missing_error(model, X, Y, truth) for model in models])
        assert models[0].log_marginal_likelihood() > models[1].log_marginal_likelihood() + 5
    full, none = np.mean(errors, axis=0)
    assert full < 0.6 * none


@pytest.mark.slow
def test_lagged_pattern_over_more_seeds():
    errors = []
    for seed in range(6):
        X, Y, truth = lagged(seed)
        models = (
            HierarchicalMultitaskGPRegressor(3, interaction=kind, max_iter=80, random_state=seed)
            for kind in ("full", "none")
        )
        errors.append([missing_error(model, X, Y, truth) for model in models])
    full, none = np.mean(errors, axis=0)
    assert full < 0.6 * none


def two_waves(seed):
    """Two waves, the same later, and their product, with gaps in the last two."""
    rng = np.random.RandomState(seed)
    x = np.linspace(0, 8, 120)
    slow, fast = (lambda x, f=f: np.sin(2 * np.pi * f * x) for f in (0.5, 1.1))
    truth = np.c_[slow(x) + 0.5 * fast(x), slow(x - 0.3) + 0.5 * fast(x - 0.3), slow(x) * fast(x)]
    Y = truth + 0.05 * rng.normal(size=truth.shape)
    Y[-36:, 1] = Y[45:75, 2] = np.nan
    return x[:, None], Y, truth


@pytest.mark.slow
def test_gaps_are_filled_better_than_by_independent_processes():
    errors = []
    for seed in range(4):
        X, Y, truth = two_waves(seed)
        model = HierarchicalMultitaskGPRegressor(3, max_iter=80, random_state=seed)
        ours = missing_error(model, X, Y, truth)
        alone = np.empty_like(Y)
        for task in range(3):
            seen = ~np.isnan(Y[:, task])
            peer = GaussianProcessRegressor(RBF() + WhiteKernel(0.01), normalize_y=True)
            alone[:, task] = peer.fit(X[seen], Y[seen, task]).predict(X)
        missing = np.isnan(Y)
        error = (alone - truth)[missing]
        alone = np.sqrt(np.mean(error**2) / np.mean(truth[missing] ** 2))
        model.set_params(interaction="none")
        errors.append([ours, missing_error(model, X, Y, truth), alone])
    ours, none, alone = np.mean(errors, axis=0)
    assert ours <= 0.6 * alone
    assert ours <= 1.1 * none  # bands this narrow do not overlap: there is little to interact


@pytest.mark.slow
def test_full_interaction_is_as_likely_from_the_optimum_without():
    for seed in range(2):
        X, Y, _ = two_waves(seed)
        params = {"max_iter": 80, "random_state": seed}
        none = HierarchicalMultitaskGPRegressor(interaction="none", **params).fit(X, Y)
        full = HierarchicalMultitaskGPRegressor(max_iter=2, random_state=seed).fit(X, Y)
        loss = full._search(none._raw, 80)[0]
        assert -loss >= none.log_marginal_likelihood() - 1
