"""TruncatedSteinDensity: the discrepancy by definition, closed forms, and truncated samples."""

import numpy as np
import pytest
from matplotlib.path import Path
from numpy.testing import assert_allclose
from scipy.optimize import approx_fprime, minimize
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.mixture import GaussianMixture

from skpapers.density import TruncatedSteinDensity, truncated_ksd
from skpapers.density._stein_fits import mixture_packing
from skpapers.hypothesis_testing import KSDTest, stein_kernel_matrix


def sample(n_samples=40, n_features=2, seed=0):
    rng = np.random.RandomState(seed)
    return rng.normal(size=(n_samples, n_features)), rng.normal(size=(9, n_features))


def truncated_normal(n_samples, mean, inside, rng):
    """Rows of N(mean, I) inside a region."""
    rows = []
    while sum(map(len, rows)) < n_samples:
        draws = np.asarray(mean) + rng.normal(size=(5000, len(mean)))
        rows.append(draws[inside(draws)])
    return np.concatenate(rows)[:n_samples]


# Oracles.


def by_definition(X, scores, boundary, bandwidth, ridge):
    """Sum of the Stein kernel of the residual kernel, by numerical derivatives, pair by pair."""
    W = np.linalg.inv(rbf_kernel(boundary, gamma=1 / bandwidth) + ridge * np.eye(len(boundary)))

    def k(x, y):
        return np.exp(-((x - y) ** 2).sum(axis=-1) / bandwidth)

    def residual(x, y):
        return k(x, y) - k(x, boundary) @ W @ k(boundary, y)

    matrix, step = np.zeros((len(X), len(X))), 1e-4
    for i, (x, s) in enumerate(zip(X, scores)):
        for j, (y, t) in enumerate(zip(X, scores)):
            matrix[i, j] = s @ t * residual(x, y)
            for c, e in enumerate(np.eye(X.shape[1]) * step):
                dx = (residual(x + e, y) - residual(x - e, y)) / (2 * step)
                dy = (residual(x, y + e) - residual(x, y - e)) / (2 * step)
                up = residual(x + e, y + e) - residual(x + e, y - e)
                down = residual(x - e, y + e) - residual(x - e, y - e)
                matrix[i, j] += s[c] * dy + t[c] * dx + (up - down) / (4 * step**2)
    return matrix


def test_discrepancy_is_its_definition():
    X, boundary = sample(8)
    scores = 0.3 - X
    matrix = by_definition(X, scores, boundary, 2.5, 0.01)
    options = {"bandwidth": 2.5, "ridge": 0.01}
    ours = truncated_ksd(X, scores, boundary, statistic="v", **options)
    assert_allclose(ours, matrix.mean(), rtol=1e-5)
    ours = truncated_ksd(X, scores, boundary, statistic="u", **options)
    assert_allclose(ours, (matrix.sum() - np.trace(matrix)) / 56, rtol=1e-5)


def test_without_boundary_it_is_the_kernel_stein_discrepancy():
    X, _ = sample()

    def score(x):
        return 0.3 - x

    matrix = stein_kernel_matrix(X, score, kernel="rbf", bandwidth=2.0)
    ours = [truncated_ksd(X, score, bandwidth=2.0, statistic=s) for s in "uv"]
    off_diagonal = (matrix.sum() - np.trace(matrix)) / (40 * 39)
    assert_allclose(ours, [off_diagonal, matrix.mean()], rtol=1e-10)


def test_witness_attains_the_discrepancy_and_vanishes_at_the_boundary():
    rng = np.random.RandomState(0)
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    boundary = 1.5 * np.c_[np.cos(angle), np.sin(angle)]
    X = truncated_normal(150, [0.5, 0.5], lambda x: (x**2).sum(axis=1) < 2.25, rng)

    def model(x, mean):
        return mean - x

    density = TruncatedSteinDensity(model, boundary=boundary, initial_parameters=[0.5, 0.5])
    density.fit(X)
    density.parameters_ = np.array([2.0, 0.0])  # a misfit, so that there is something to see
    scores = model(X, density.parameters_)
    inside, edge = (np.linalg.norm(density.witness(X, rows), axis=1) for rows in (X, boundary))
    assert edge.max() < 1e-2 * inside.max()

    value = truncated_ksd(X, scores, boundary, statistic="v", bandwidth=density.bandwidth_)
    assert_allclose(operator(lambda x: density.witness(X, x), X, scores), value, rtol=1e-5)
    # no other function of unit norm that is zero at the boundary points reaches its root
    for seed in range(20):
        g = random_function(boundary, density.bandwidth_, np.random.RandomState(seed))
        assert np.abs(g(boundary)).max() < 1e-6
        assert 0 < abs(operator(g, X, scores)) <= value**0.5


def operator(g, X, scores, step=1e-5):
    """Mean of score . g + div g, by central differences."""
    divergence = sum(
        (g(X + step * e)[:, c] - g(X - step * e)[:, c]) / (2 * step)
        for c, e in enumerate(np.eye(X.shape[1]))
    )
    return np.mean((scores * g(X)).sum(axis=1) + divergence)


def random_function(boundary, bandwidth, rng):
    """A function of the kernel's space, of unit norm, that is zero at the boundary points."""
    anchors = rng.normal(size=(6, 2))

    def k(x, y):
        return rbf_kernel(x, y, gamma=1 / bandwidth)

    centres = np.r_[anchors, boundary]
    weights = rng.normal(size=(6, 2))
    fitted = np.linalg.lstsq(k(boundary, boundary), k(boundary, anchors) @ weights, rcond=1e-13)
    weights = np.r_[weights, -fitted[0]]
    norm = np.sqrt(np.sum(weights * (k(centres, centres) @ weights)))
    return lambda x: k(x, centres) @ weights / norm


@pytest.mark.parametrize("statistic", ["u", "v"])
def test_closed_form_of_the_mean_is_the_minimum(statistic):
    X, boundary = sample(60)
    density = fit_truncated("gaussian_mean", X, 4 * boundary, statistic=statistic)

    def value(mean):
        return truncated_ksd(X, mean - X, 4 * boundary, statistic=statistic)

    found = minimize(value, np.zeros(2), tol=1e-12).x
    assert_allclose(density.means_[0], found, atol=1e-5)


def fit_truncated(model, X, boundary, **params):
    return TruncatedSteinDensity(model, boundary=boundary, **params).fit(X)


@pytest.mark.parametrize("statistic", ["u", "v"])
@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_closed_form_of_the_gaussian_is_the_minimum(kind, statistic):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(150, 2)) @ [[1, 0.4], [0, 0.7]]
    boundary = 3 * rng.normal(size=(12, 2))
    density = fit_truncated("gaussian", X, boundary, statistic=statistic, covariance_type=kind)
    P = np.linalg.inv(density.covariances_[0])
    start = np.array([*(P @ density.means_[0]), P[0, 0], P[1, 1], P[0, 1]])
    n_free = {"full": 5, "diag": 4, "spherical": 3}[kind]

    def value(free):
        h1, h2, p11, p22, p12 = (
            np.r_[free, start[n_free:]] if kind != "spherical" else [*free, free[2], 0]
        )
        scores = np.array([h1, h2]) - X @ [[p11, p12], [p12, p22]]
        return truncated_ksd(X, scores, boundary, statistic=statistic)

    found = minimize(value, start[:n_free] + 0.1, tol=1e-12).x
    assert_allclose(start[:n_free], found, atol=2e-5)
    # at the closed form the gradient is zero
    assert_allclose(approx_fprime(start[:n_free], value, 1e-6), 0, atol=1e-4)
    assert_allclose(density.discrepancy_, value(start[:n_free]), rtol=1e-9)


def test_shift_rotation_and_scale_of_the_sample_carry_over():
    X, boundary = sample(150)
    boundary = 4 * boundary
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    expected = fit_truncated("gaussian", X, boundary)
    for scale in (1.0, 1e-9, 1e9):

        def f(Z, scale=scale):
            return scale * (Z @ turn.T + [5, -3])

        ours = fit_truncated("gaussian", f(X), f(boundary))
        assert_allclose(ours.means_, f(expected.means_), rtol=1e-7)
        covariances = scale**2 * turn @ expected.covariances_ @ turn.T
        assert_allclose(ours.covariances_, covariances, rtol=1e-6)
    plain = fit_truncated("gaussian_mean", X, boundary).means_
    ours = fit_truncated("gaussian_mean", X @ turn.T + 2, boundary @ turn.T + 2).means_
    assert_allclose(ours, plain @ turn.T + 2, rtol=1e-9)


def interval_sample(n_samples, seed):
    rng = np.random.RandomState(seed)
    return truncated_normal(n_samples, [0.5], lambda x: np.abs(x[:, 0]) < 1, rng)


def test_statistic_is_zero_at_the_truth_on_average_and_never_negative_as_v():
    ends = [[-1.0], [1.0]]
    draws = [interval_sample(200, seed) for seed in range(100)]
    values = np.array([truncated_ksd(X, 0.5 - X, ends) for X in draws])
    assert abs(values.mean()) < 3 * values.std(ddof=1) / 10
    assert all(truncated_ksd(X, 0.5 - X, ends, statistic="v") >= 0 for X in draws)
    # without the boundary the truth is refuted
    plain = np.array([truncated_ksd(X, 0.5 - X) for X in draws])
    assert plain.mean() > 10 * plain.std(ddof=1) / 10


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_gradient_of_the_mixture_is_the_finite_difference(kind):
    X, _ = sample(20, 3)
    unpack, pack, pack_derivatives = mixture_packing(2, 3, kind)
    G = np.random.RandomState(1).normal(size=(20, 3))
    n_parameters = 2 * (1 + 3 + {"full": 6, "diag": 3, "spherical": 1}[kind])
    vector = 0.5 * np.random.RandomState(2).normal(size=n_parameters)

    def loss(v):
        return np.sum(np.sin(unpack(v).score(X)) * G)

    _, derivatives = unpack(vector).pull_back(X, lambda s: (np.sum(np.sin(s) * G), np.cos(s) * G))
    ours = pack_derivatives(unpack(vector), derivatives)
    assert_allclose(ours, approx_fprime(vector, loss, 1e-7), atol=2e-5)
    assert_allclose(loss(pack(unpack(vector))), loss(vector), rtol=1e-12)


def test_density_is_that_of_scikit_learns_mixture():
    X, _ = sample(100)
    density = TruncatedSteinDensity("gmm", n_components=2, n_init=1, random_state=0).fit(X)
    twin = GaussianMixture(2)
    twin.weights_, twin.means_ = density.weights_, density.means_
    twin.covariances_ = density.covariances_
    twin.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(density.covariances_))
    assert_allclose(density.score_samples(X), twin.score_samples(X), rtol=1e-9)
    for c, e in enumerate(np.eye(2) * 1e-5):
        slope = (density.score_samples(X + e) - density.score_samples(X - e)) / 2e-5
        assert_allclose(density.score_function(X)[:, c], slope, atol=1e-6)
    draws = density.sample(20_000, random_state=0)
    mean = density.weights_ @ density.means_
    assert_allclose(draws.mean(axis=0), mean, atol=5 * draws.std() / 20_000**0.5)


def test_one_component_of_a_mixture_is_the_gaussian():
    X, boundary = sample(150)
    for kind in ("full", "diag", "spherical"):
        mixture = fit_truncated("gmm", X, 4 * boundary, n_init=1, covariance_type=kind)
        gaussian = fit_truncated("gaussian", X, 4 * boundary, covariance_type=kind)
        assert_allclose(mixture.means_, gaussian.means_, atol=1e-4)
        assert_allclose(mixture.covariances_, gaussian.covariances_, rtol=1e-4, atol=1e-4)


def test_region_truncates_density_and_draws():
    X = interval_sample(500, 0)
    density = TruncatedSteinDensity("gaussian_mean", boundary=[[-1.0], [1.0]], random_state=0)
    density.fit(X)

    def region(x):
        return np.abs(x[:, 0]) < 1

    grid = np.linspace(-1.5, 1.5, 3001)[:, None]
    values = np.exp(density.score_samples(grid, region=region))
    assert_allclose(values.sum() * 0.001, 1, atol=0.03)
    assert (values[~region(grid)] == 0).all()
    draws = density.sample(1000, region=region)
    assert draws.shape == (1000, 1) and region(draws).all()
    with pytest.raises(ValueError, match="region"):
        density.score_samples(X, region=lambda x: x[:, 0] > 99)
    with pytest.raises(ValueError, match="region"):
        density.sample(5, region=lambda x: x[:, 0] > 99)


def test_blocks_of_a_large_sample_give_what_the_stored_kernel_gives(monkeypatch):
    X, boundary = sample(60)
    params = {"n_components": 2, "n_init": 1, "random_state": 0}
    expected = fit_truncated("gmm", X, 4 * boundary, **params)
    monkeypatch.setattr("skpapers.density._truncated_discrepancy._MAX_STORED_ROWS", 10)
    ours = fit_truncated("gmm", X, 4 * boundary, **params)
    assert_allclose(ours.discrepancy_, expected.discrepancy_, rtol=1e-5)


@pytest.mark.parametrize("boundary", ["box", "hull"])
def test_boundary_drawn_from_the_sample(boundary):
    X = np.random.RandomState(0).uniform(size=(400, 2))
    density = fit_truncated("gaussian", X, boundary, n_boundary=500, random_state=0)
    points = density.boundary_
    nearest = np.minimum(points, 1 - points).min(axis=1)
    assert np.abs(nearest).max() < 0.1
    # all four sides have their share
    shares = [np.mean(np.abs(points[:, c] - side) < 0.02) for c in (0, 1) for side in (0, 1)]
    assert min(shares) > 0.15 if boundary == "box" else min(shares) > 0.05


def test_what_cannot_be_done_is_said():
    X, boundary = sample(8, 5)
    cases = {
        "small for its number": (X, {"statistic": "u"}),
        "Use statistic='v'": (X[:, :2], {"statistic": "u", "model": "gmm", "n_components": 3}),
        "equal rows": (np.ones((5, 2)), {}),
        "at most 3": (X, {"boundary": "hull"}),
        "constant": (np.c_[X[:, :1], np.ones(8)], {"boundary": "box"}),
        "boundary has 5": (X[:, :2], {"boundary": boundary}),
        "initial_parameters": (X, {"model": lambda x, t: -x}),
        "finite scores": (X, {"model": lambda x, t: x[:, :1], "initial_parameters": [0.0]}),
        "n_samples = 1|1 sample": (X[:1], {}),
    }
    for message, (rows, params) in cases.items():
        with pytest.raises(ValueError, match=message):
            TruncatedSteinDensity(random_state=0, **params).fit(rows)
    with pytest.warns(UserWarning, match="far from X"):
        TruncatedSteinDensity(boundary=np.full((200, 5), 99.0)).fit(X)
    with pytest.warns(UserWarning, match="few"):
        TruncatedSteinDensity(boundary=9 * np.r_[np.eye(5), -np.eye(5)]).fit(X)


# Claims.


def ball_errors(n_features, n_seeds):
    """Errors of the mean: ours, score matching with the distance to the sphere, sample mean."""
    radius, errors = n_features**0.53, []
    for seed in range(n_seeds):
        rng = np.random.RandomState(seed)

        def inside(x):
            return np.linalg.norm(x, axis=1) < radius

        X = truncated_normal(300, np.full(n_features, 0.5), inside, rng)
        edge = rng.normal(size=(8 * n_features**2, n_features))
        edge *= radius / np.linalg.norm(edge, axis=1, keepdims=True)
        ours = TruncatedSteinDensity("gaussian_mean", boundary=edge).fit(X).means_[0]
        norms = np.linalg.norm(X, axis=1, keepdims=True)
        matched = score_matching(X, radius - norms, -X / norms)
        estimates = np.array([ours, matched, X.mean(axis=0)])
        errors.append(np.linalg.norm(estimates - 0.5, axis=1))
    return np.mean(errors, axis=0)


def score_matching(X, distance, slope):
    """Mean of a unit Gaussian by truncated score matching, weights the distance to the edge."""
    return (distance * X - slope).sum(axis=0) / distance.sum()


@pytest.mark.parametrize("n_features", [2, 4, 8])
def test_mean_of_a_gaussian_truncated_to_a_ball_as_well_as_with_exact_distances(n_features):
    ours, matched, naive = ball_errors(n_features, 30)
    assert ours < 1.05 * matched
    assert ours < 0.5 * naive


def star():
    angle = np.pi / 2 + np.arange(10) * np.pi / 5
    return np.where(np.arange(10) % 2, 0.9, 2.0)[:, None] * np.c_[np.cos(angle), np.sin(angle)]


def outline(corners, n_points, rng):
    """Uniform points on a closed polygon."""
    edges = np.roll(corners, -1, axis=0) - corners
    lengths = np.linalg.norm(edges, axis=1)
    side = rng.choice(len(corners), n_points, p=lengths / lengths.sum())
    return corners[side] + rng.uniform(size=(n_points, 1)) * edges[side]


def test_mean_of_a_gaussian_truncated_to_a_star():
    mean, errors, corners = np.array([0.8, 0.3]), [], star()
    for seed in range(12):
        rng = np.random.RandomState(seed)
        X = truncated_normal(500, mean, Path(corners).contains_points, rng)
        points = outline(corners, 100, rng)
        ours = TruncatedSteinDensity("gaussian_mean", boundary=points).fit(X).means_[0]
        offsets = X[:, None] - points
        distances = np.linalg.norm(offsets, axis=2)
        nearest = (np.arange(500), distances.argmin(axis=1))
        distance = distances[nearest][:, None]
        matched = score_matching(X, distance, offsets[nearest] / distance)
        estimates = np.array([ours, matched, X.mean(axis=0)])
        errors.append(np.linalg.norm(estimates - mean, axis=1))
    ours, matched, naive = np.mean(errors, axis=0)
    assert ours < 0.4 * naive
    assert ours < matched


@pytest.mark.parametrize("statistic", ["u", "v"])
def test_mean_and_covariance_of_a_half_plane(statistic):
    edge, errors = np.c_[np.zeros(32), np.linspace(-3, 3, 32)], []
    for seed in range(5):
        rng = np.random.RandomState(seed)
        X = truncated_normal(1500, [0, 0], lambda x: x[:, 0] > 0, rng)
        density = fit_truncated("gaussian", X, edge, statistic=statistic)
        mean, covariance = density.means_[0], density.covariances_[0]
        errors.append([np.abs(mean).max(), np.abs(covariance - np.eye(2)).max()])
    assert (np.mean(errors, axis=0) < 0.2).all()
    assert X[:, 0].mean() > 0.7 and X[:, 0].var() < 0.45


def test_means_of_a_truncated_mixture():
    ours, naive, truth = [], [], np.array([[-1.5, 0.0], [1.5, 0.0]])
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    edge = 2 * np.c_[np.cos(angle), np.sin(angle)]
    for seed in range(3):
        rng = np.random.RandomState(seed)
        X = truth[rng.randint(2, size=4000)] + 0.6 * rng.normal(size=(4000, 2))
        X = X[np.linalg.norm(X, axis=1) < 2][:800]
        params = {"n_components": 2, "covariance_type": "spherical", "random_state": 0}
        density = TruncatedSteinDensity("gmm", boundary=edge, n_init=1, **params).fit(X)
        for errors, fitted in ((ours, density), (naive, GaussianMixture(**params).fit(X))):
            means = fitted.means_[np.argsort(fitted.means_[:, 0])]
            errors.append(np.abs(means - truth).max())
    assert np.mean(ours) < 0.5 * np.mean(naive)


def test_parameters_of_a_score_function():
    X, ends = interval_sample(400, 0), [[-1.0], [1.0]]

    def model(x, parameters):
        return parameters[0] - np.exp(parameters[1]) * x

    density = TruncatedSteinDensity(
        model, boundary=ends, initial_parameters=[0.0, 0.0], n_init=2, random_state=0
    ).fit(X)
    gaussian = TruncatedSteinDensity(boundary=ends).fit(X)
    precision = 1 / gaussian.covariances_[0, 0, 0]
    expected = [precision * gaussian.means_[0, 0], np.log(precision)]
    assert_allclose(density.parameters_, expected, atol=1e-4)
    assert_allclose(density.score_function(X), gaussian.score_function(X), atol=1e-3)
    assert not hasattr(density, "sample") and not hasattr(density, "score_samples")
    test = KSDTest(gaussian, n_bootstrap=50, random_state=0)
    assert np.isfinite(test.fit(X).statistic_)


def test_score_prefers_the_right_boundary_model():
    X, X_test = interval_sample(500, 0), interval_sample(500, 1)
    ends = [[-1.0], [1.0]]
    right = TruncatedSteinDensity(boundary=ends).fit(X)
    wrong = TruncatedSteinDensity(boundary=ends).fit(X)
    wrong.boundary_ = np.empty((0, 1))
    assert right.score(X_test) > wrong.score(X_test)
