import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.cross_decomposition import CCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import rbf_kernel

from skpapers.cross_decomposition import SVCCA, PrimalDualSparseCCA, primal_dual_scca_pair
from skpapers.cross_decomposition._box_lasso import minimize_box_lasso


def _problem(seed, n=30, p=50, q=6):
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=n)
    X, Y = rng.normal(size=(n, p)), rng.normal(size=(n, q))
    X[:, :5] += latent[:, None]
    Y += 0.5 * latent[:, None]
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    return X, Y @ Y.T, int(rng.integers(n))


def _objective(X, K, w, e, mu, gamma, tau=0.5):
    residual = tau * X @ w - (1 - tau) * K @ e
    return residual @ residual + mu * np.abs(w).sum() + gamma * np.abs(e).sum()


@pytest.mark.parametrize("tau", [0.3, 0.5])
def test_optimality_conditions_hold(tau):
    for seed in range(20):
        X, K, k = _problem(seed)
        pair = primal_dual_scca_pair(X, K, k, trade_off=tau)
        residual = tau * X @ pair.w - (1 - tau) * K @ pair.e
        g_w, g_e = 2 * tau * X.T @ residual, -2 * (1 - tau) * K @ residual + pair.gamma
        zero = pair.w == 0
        assert np.all(np.abs(g_w[zero]) <= pair.mu * (1 + 1e-5))
        np.testing.assert_allclose(g_w[~zero], -pair.mu * np.sign(pair.w[~zero]), rtol=1e-5)
        slack, rest = 1e-5 * pair.gamma, np.arange(len(K)) != k
        assert np.all(g_e[rest & (pair.e == 0)] >= -slack)
        assert np.all(g_e[rest & (pair.e == 1)] <= slack)
        assert np.all(np.abs(g_e[rest & (pair.e > 0) & (pair.e < 1)]) <= slack)
        assert pair.e[k] == 1 and np.all((pair.e >= 0) & (pair.e <= 1))


def test_objective_equals_a_general_solver():
    for seed in range(20):
        X, K, k = _problem(seed)
        pair = primal_dual_scca_pair(X, K, k)
        p, n = X.shape[1], len(K)
        A = 0.5 * np.hstack([X, -X, -K])
        cost = np.repeat([pair.mu, pair.mu, pair.gamma], [p, p, n])
        bounds = [(0, None)] * (2 * p) + [(0, 1)] * n
        bounds[2 * p + k] = (1, 1)
        scale = pair.objective  # so that the stopping rule of the solver is relative

        def split(z, A=A, cost=cost, scale=scale):
            r = A @ z
            return (r @ r + cost @ z) / scale, (2 * A.T @ r + cost) / scale

        options = {"maxiter": 20000, "maxfun": 200000, "ftol": 1e-15, "gtol": 1e-10}
        start = np.zeros(2 * p + n)
        start[2 * p + k] = 1.0
        peer = minimize(split, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        assert peer.fun == pytest.approx(1, abs=1e-6)
        assert pair.objective == pytest.approx(
            _objective(X, K, pair.w, pair.e, pair.mu, pair.gamma), rel=1e-12
        )


def _solve_from(start, X, K, k, mu, gamma, max_iter=1000):
    n, p = X.shape
    lower, upper = np.repeat([-np.inf, 0.0], [p, n]), np.repeat([np.inf, 1.0], [p, n])
    lower[p + k] = 1.0
    penalty, tolerance = np.repeat([mu, gamma], [p, n]), 1e-8 * np.repeat([mu, gamma], [p, n])
    A = 0.5 * np.hstack([X, -K])
    z, n_iter, converged = minimize_box_lasso(A, penalty, lower, upper, start, tolerance, max_iter)
    return z[:p], z[p:], n_iter, converged


def test_every_start_leads_to_the_same_solution():
    X, K, k = _problem(3)
    pair = primal_dual_scca_pair(X, K, k)
    rng = np.random.default_rng(0)
    for _ in range(5):
        start = np.concatenate([rng.normal(size=50), rng.uniform(size=30)])
        w, e, _, converged = _solve_from(start, X, K, k, pair.mu, pair.gamma)
        assert converged
        np.testing.assert_allclose(w, pair.w, atol=1e-4 * np.abs(pair.w).max())
        np.testing.assert_allclose(e, pair.e, atol=1e-4)


def test_no_sweep_increases_the_objective():
    X, K, k = _problem(3)
    pair = primal_dual_scca_pair(X, K, k)
    start = np.concatenate([np.random.default_rng(0).normal(size=50), np.ones(30)])
    values = []
    for sweeps in range(1, 100):
        w, e, n_iter, converged = _solve_from(start, X, K, k, pair.mu, pair.gamma, sweeps)
        values.append(_objective(X, K, w, e, pair.mu, pair.gamma))
        if converged:
            break
    assert converged and len(values) > 3
    assert np.all(np.diff(values) <= 1e-12 * values[0])


def test_penalties_are_set_from_the_data():
    X, K, k = _problem(0)
    tau = 0.4
    pair = primal_dual_scca_pair(X, K, k, trade_off=tau, scale_mu=1.5, scale_gamma=0.5)
    assert pair.mu == pytest.approx(1.5 * np.mean(np.abs(2 * tau * (1 - tau) * X.T @ K[:, k])))
    column = np.abs(2 * (1 - tau) ** 2 * K.T @ K)[:, k]
    column[k] = 0
    assert pair.gamma == pytest.approx(0.5 * column.mean())


def test_weights_vanish_at_the_critical_penalty():
    X, K, k = _problem(0)
    pair = primal_dual_scca_pair(X, K, k, scale_mu=1e6)
    assert not pair.w.any()
    critical = np.max(np.abs(0.5 * X.T @ K @ pair.e)) / (pair.mu / 1e6)
    assert not primal_dual_scca_pair(X, K, k, scale_mu=critical * 1.001).w.any()
    assert primal_dual_scca_pair(X, K, k, scale_mu=critical * 0.98).w.any()


def test_permutations_of_features_and_samples_carry_over():
    X, K, k = _problem(1)
    rng = np.random.default_rng(0)
    columns, rows = rng.permutation(50), rng.permutation(30)
    pair = primal_dual_scca_pair(X, K, k, tol=1e-9)
    moved = primal_dual_scca_pair(
        X[rows][:, columns], K[np.ix_(rows, rows)], int(np.flatnonzero(rows == k)[0]), tol=1e-9
    )
    np.testing.assert_allclose(moved.w, pair.w[columns], atol=1e-8 * np.abs(pair.w).max())
    np.testing.assert_allclose(moved.e, pair.e[rows], atol=1e-8)


def test_rotating_the_second_view_changes_nothing():
    X, Y, *_ = _paired(0, p=200)
    Q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(60, 60)))
    first = PrimalDualSparseCCA(3, tol=1e-9).fit(X, Y)
    second = PrimalDualSparseCCA(3, tol=1e-9).fit(X, (Y + 5) @ Q)
    np.testing.assert_allclose(second.x_weights_, first.x_weights_, atol=1e-8)
    np.testing.assert_allclose(second.dual_coef_, first.dual_coef_, atol=1e-8)
    np.testing.assert_allclose(second.x_rotations_, first.x_rotations_, atol=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_recovers_the_shared_features(seed):
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=60)
    X, Y = rng.normal(size=(60, 100)), rng.normal(size=(60, 10))
    X[:, :5] += 1.5 * latent[:, None]
    Y += 1.5 * latent[:, None]
    exemplar = int(np.argmax(np.abs(latent)))
    model = PrimalDualSparseCCA(seeds=[exemplar]).fit(X, Y)
    assert 2 <= np.sum(model.get_support()) <= 30
    assert np.sum(model.dual_coef_ > 0) <= 6
    size = np.abs(model.x_weights_[:, 0])
    assert size[:5].mean() > 5 * size[5:].mean()


def _paired(seed, n=280, p=3000, q=60):
    """Three latents, each in ten features of both views; 80 rows to train, the rest to test."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(n, 3))
    X, Y = rng.normal(size=(n, p)), rng.normal(size=(n, q))
    for i in range(3):
        X[:, 10 * i : 10 * i + 10] += 1.5 * latents[:, [i]]
        Y[:, 10 * i : 10 * i + 10] += 1.5 * latents[:, [i]]
    return X[:80], Y[:80], X[80:], Y[80:]


@pytest.mark.parametrize("seed", range(3))
def test_beats_dense_cca_with_a_few_features(seed):
    X, Y, X_test, Y_test = _paired(seed)
    model = PrimalDualSparseCCA(scores="sparse").fit(X, Y)
    x_scores, y_scores = CCA(n_components=1).fit(X, Y).transform(X_test, Y_test)
    dense = np.corrcoef(x_scores[:, 0], y_scores[:, 0])[0, 1]
    assert model.score(X_test, Y_test) > dense + 0.25
    assert model.get_support().mean() < 0.02


def _mean_rank(ranking):
    return np.mean(np.argmax(ranking == np.arange(len(ranking))[:, None], axis=1) + 1)


@pytest.mark.parametrize("seed", range(3))
def test_retrieves_mates_as_well_as_kernel_cca(seed):
    X, Y, X_test, Y_test = _paired(seed)
    model = PrimalDualSparseCCA(n_components=3).fit(X, Y)
    # ridge CCA of all singular directions is kernel CCA with linear kernels
    kcca = SVCCA(n_components=3, variance_threshold=1.0, reg=1.0, scale=True).fit(X, Y)
    x, y = (s / np.linalg.norm(s, axis=1)[:, None] for s in kcca.transform(X_test, Y_test))
    dense = _mean_rank(np.argsort(-x @ y.T, axis=1))
    assert _mean_rank(model.retrieve(X_test, Y_test)) <= 1.1 * dense < 60


def test_scores_of_successive_components_are_orthogonal():
    X, Y, *_ = _paired(0, p=200)
    model = PrimalDualSparseCCA(n_components=4, kernel="rbf", gamma=0.01).fit(X, Y)
    for scores in model.transform(X, Y):
        np.testing.assert_allclose(scores.T @ scores, np.eye(4), atol=1e-8)
    assert model.n_components_ == 4


def test_first_component_reports_its_own_correlation():
    X, Y, *_ = _paired(0, p=200)
    model = PrimalDualSparseCCA(n_components=2, scores="sparse").fit(X, Y)
    x_scores, y_scores = model.transform(X, Y)
    assert np.linalg.norm(x_scores[:, 0]) == pytest.approx(1)
    correlation = np.corrcoef(x_scores[:, 0], y_scores[:, 0])[0, 1]
    assert model.correlations_[0] == pytest.approx(correlation, abs=1e-10)


def test_precomputed_kernel_is_the_named_kernel():
    X, Y, X_test, Y_test = _paired(0, p=200)
    named = PrimalDualSparseCCA(2, kernel="rbf", gamma=0.01).fit(X, Y)
    given = PrimalDualSparseCCA(2, kernel="precomputed").fit(X, rbf_kernel(Y, gamma=0.01))
    a = named.transform(X_test, Y_test)
    b = given.transform(X_test, rbf_kernel(Y_test, Y, gamma=0.01))
    for first, second in zip(a, b):
        np.testing.assert_allclose(first, second, atol=1e-8)
    with pytest.raises(ValueError, match="square"):
        PrimalDualSparseCCA(kernel="precomputed").fit(X, Y)


def test_seed_rules():
    X, Y, X_test, Y_test = _paired(0, p=200)
    sequential = PrimalDualSparseCCA(3, seeds="sequential").fit(X, Y)
    given = PrimalDualSparseCCA(3, seeds=[0, 1, 2]).fit(X, Y)
    assert sequential.seeds_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(given.x_weights_, sequential.x_weights_)
    Yc = Y - Y.mean(axis=0)
    largest = np.argmax(np.linalg.norm(Yc @ Yc.T, axis=0))
    assert PrimalDualSparseCCA().fit(X, Y).seeds_[0] == largest
    best = [PrimalDualSparseCCA(seeds="best", random_state=0).fit(X, Y) for _ in range(2)]
    assert best[0].seeds_ == best[1].seeds_
    assert best[0].set_params(scores="sparse").score(X_test, Y_test) > 0.7
    for wrong in ([0, 0, 1], [0, 1], [0, 1, 80], [0.5, 1, 2]):
        with pytest.raises(ValueError, match="seeds"):
            PrimalDualSparseCCA(3, seeds=wrong).fit(X, Y)


def test_warns_when_nothing_is_left():
    X, Y, *_ = _paired(0, p=200)
    with pytest.warns(ConvergenceWarning, match="1 of 2 components"):
        model = PrimalDualSparseCCA(2).fit(X, Y[:, 0])  # a linear kernel of rank one
    assert model.n_components_ == 1 and model.seeds_[1] == -1
    assert np.all(np.isfinite(model.transform(X))) and not model.transform(X)[:, 1].any()
    with pytest.warns(ConvergenceWarning, match="scale_mu"):
        assert PrimalDualSparseCCA(scale_mu=1e6).fit(X, Y).n_components_ == 0
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        PrimalDualSparseCCA(max_iter=1).fit(X, Y)
    with pytest.raises(ValueError, match="no variance"):
        PrimalDualSparseCCA().fit(X, np.full(80, 0.1))


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_units_do_not_matter(scale):
    X, Y, *_ = _paired(0, p=200)
    expected = PrimalDualSparseCCA(2, scores="sparse").fit(X, Y)
    model = PrimalDualSparseCCA(2, scores="sparse").fit(X * scale, Y * scale + 3 * scale)
    np.testing.assert_allclose(model.x_weights_ * scale, expected.x_weights_, atol=1e-5)
    np.testing.assert_array_equal(model.get_support(), expected.get_support())
