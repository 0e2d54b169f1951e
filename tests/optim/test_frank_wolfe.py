"""Frank-Wolfe: oracles, certificates, closed forms, and the claim about simple steps."""

import functools
import itertools
import pickle

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import linprog, minimize, minimize_scalar
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso, LogisticRegression
from sklearn.preprocessing import scale

from skpapers.neural_network import NeuralClassifier
from skpapers.optim import (
    FrankWolfe,
    FrankWolfeClassifier,
    FrankWolfeRegressor,
    frank_wolfe,
    lmo_birkhoff,
    lmo_k_sparse,
    lmo_l1,
    lmo_l2,
    lmo_linf,
    lmo_nuclear,
    lmo_simplex,
)
from skpapers.optim._frank_wolfe_steps import second_order_step
from skpapers.optim._linear_losses import LogisticLoss, PoissonLoss, SoftmaxLoss, SquaredLoss

# Oracles.


def feasible(name, rng, n, radius):
    """A random point of the set, of n entries or n x n."""
    v = rng.standard_normal(n)
    if name == "l1":
        return radius * v / np.abs(v).sum()
    if name == "l2":
        return radius * v / np.linalg.norm(v)
    if name == "linf":
        return radius * rng.uniform(-1, 1, n)
    if name == "simplex":
        return radius * rng.dirichlet(np.full(n, 0.3))
    if name == "k_sparse":  # a mixture of vertices with two entries
        pairs = [rng.choice(n, 2, replace=False) for _ in range(2)]
        rows = np.zeros((2, n))
        for row, pair in zip(rows, pairs):
            row[pair] = radius * rng.choice([-1, 1], 2)
        return rng.dirichlet([1, 1]) @ rows
    if name == "nuclear":
        matrix = rng.standard_normal((n, n))
        return radius * matrix / np.linalg.svd(matrix, compute_uv=False).sum()
    permutations = [np.eye(n)[rng.permutation(n)] for _ in range(3)]
    return radius * np.tensordot(rng.dirichlet([0.3] * 3), permutations, 1)


ORACLES = {
    "l1": lmo_l1,
    "l2": lmo_l2,
    "linf": lmo_linf,
    "simplex": lmo_simplex,
    "k_sparse": functools.partial(lmo_k_sparse, k=2),
    "nuclear": lmo_nuclear,
    "birkhoff": lmo_birkhoff,
}


@pytest.mark.parametrize("name", ORACLES)
def test_oracles_beat_random_points_of_the_set(name):
    rng = np.random.default_rng(0)
    gradient = rng.standard_normal((5, 5) if name in ("nuclear", "birkhoff") else 5)
    best = np.sum(gradient * ORACLES[name](gradient, radius=2.0))
    points = (feasible(name, rng, 5, 2.0) for _ in range(10_000))
    assert best <= min(np.sum(gradient * point) for point in points)


def test_oracles_are_the_support_functions():
    """The least product is minus the dual norm; of a permutation that of the best of all."""
    g = np.random.default_rng(1).standard_normal((4, 4))
    least = lambda lmo, **kw: np.sum(g * lmo(g, radius=3.0, **kw))  # noqa: E731
    np.testing.assert_allclose(least(lmo_l1), -3 * np.abs(g).max())
    np.testing.assert_allclose(least(lmo_l2), -3 * np.linalg.norm(g))
    np.testing.assert_allclose(least(lmo_linf), -3 * np.abs(g).sum())
    np.testing.assert_allclose(least(lmo_simplex), 3 * g.min())
    np.testing.assert_allclose(
        least(lmo_k_sparse, k=3), -3 * np.sort(np.abs(g).ravel())[-3:].sum()
    )
    np.testing.assert_allclose(least(lmo_nuclear), -3 * np.linalg.svd(g)[1][0])
    u, s, vt = np.linalg.svd(g)
    np.testing.assert_allclose(lmo_nuclear(g, 3.0), -3 * np.outer(u[:, 0], vt[0]), atol=1e-12)
    sums = [g[range(4), list(p)].sum() for p in itertools.permutations(range(4))]
    np.testing.assert_allclose(least(lmo_birkhoff), 3 * min(sums))


@pytest.mark.parametrize("name", ORACLES)
def test_oracles_give_the_same_on_torch(name):
    rng = np.random.default_rng(2)
    gradient = rng.standard_normal((4, 4) if name in ("nuclear", "birkhoff") else (2, 3))
    vertex = ORACLES[name](torch.tensor(gradient, dtype=torch.float32))
    assert vertex.dtype == torch.float32
    np.testing.assert_allclose(vertex.numpy(), ORACLES[name](gradient), atol=1e-6)


@pytest.mark.parametrize("lmo", [lmo_l1, lmo_linf, lmo_k_sparse])
def test_a_zero_gradient_gives_a_vertex(lmo):
    assert np.abs(lmo(np.zeros(3))).max() == 1


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_euclidean_oracle_neither_over_nor_underflows(scale):
    np.testing.assert_allclose(lmo_l2(scale * np.array([3.0, -4.0])), [-0.6, 0.8])


def test_bad_arguments_of_oracles():
    with pytest.raises(ValueError, match="radius must be"):
        lmo_l1(np.ones(2), radius=-1.0)
    with pytest.raises(ValueError, match="k must be"):
        lmo_k_sparse(np.ones(2), k=3)
    for lmo in (lmo_nuclear, lmo_birkhoff):
        with pytest.raises(ValueError, match="gradient must be"):
            lmo(np.ones(3))


# The function.


def simplex_projection(b):
    ordered = np.sort(b)[::-1]
    excess = (np.cumsum(ordered) - 1) / np.arange(1, len(b) + 1)
    return np.maximum(b - excess[ordered > excess][-1], 0)


def project(b, **options):
    start = np.eye(len(b))[0]
    f = lambda x: float(np.sum((x - b) ** 2)) / 2  # noqa: E731
    return frank_wolfe(f, lambda x: x - b, lmo_simplex, start, **options)


@pytest.mark.parametrize("seed", range(3))
def test_away_steps_project_on_the_simplex(seed):
    b = 0.5 * np.random.default_rng(seed).standard_normal(20)
    result = project(b, step="away", tol=1e-11)
    assert result.success and result.gap <= 1e-10 and result.nit < 200
    assert np.linalg.norm(result.x - simplex_projection(b)) < 1e-4
    result = project(b, step="away", tol=1e-18)
    assert result.nit < 300
    assert np.linalg.norm(result.x - simplex_projection(b)) < 1e-9
    atoms, weights = result.active_set
    np.testing.assert_allclose(weights @ atoms, result.x, atol=1e-12)
    assert weights.min() > 0 and weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_the_gap_bounds_the_distance(seed):
    b = 0.5 * np.random.default_rng(seed).standard_normal(20)
    for step in ("monotonic", "halving", "open_loop", "adaptive", "away"):
        result = project(b, step=step, max_iter=100)
        assert np.sum((result.x - simplex_projection(b)) ** 2) / 2 <= result.gap + 1e-12


def test_monotonic_gap_falls_like_one_over_t():
    rng = np.random.default_rng(0)
    b = 3 * rng.uniform(size=50) / 50
    history = project(b, max_iter=10_000, tol=0).history
    best = np.minimum.accumulate(history[:, 1]) * np.arange(len(history))
    assert best[10:].min() > 0.5 and best[10:].max() < 2


class Portfolio:
    """-sum log <r_t, x> over the simplex; not defined where a product is not positive."""

    M, nu = 2.0, 3

    def __init__(self, seed=0, n_times=100, n_assets=50):
        rng = np.random.default_rng(seed)
        self.R = rng.uniform(size=(n_times, n_assets))
        self.R[rng.uniform(size=self.R.shape) < 0.05] = 0
        self.x0 = np.full(n_assets, 1 / n_assets)
        self.lmo = lmo_simplex

    def f(self, x):
        with np.errstate(divide="ignore", invalid="ignore"):
            return -np.sum(np.log(self.R @ x))

    def grad(self, x):
        with np.errstate(divide="ignore"):
            return -self.R.T @ (1 / (self.R @ x))

    def hessian(self, x, d):
        return np.sum((self.R @ d / (self.R @ x)) ** 2)

    def domain(self, x):
        return bool((self.R @ x > 0).all())


class Poisson(Portfolio):
    """Mean of m - y log m with m = A x."""

    def __init__(self, seed=0):
        super().__init__(seed, 60, 20)
        self.y = np.random.default_rng(seed).poisson(3 * self.R @ self.x0) + 0.0
        self.M = 2 / np.sqrt(self.y[self.y > 0].min() / 60)

    def f(self, x):
        return np.mean(self.R @ x - self.y * np.log(self.R @ x))

    def grad(self, x):
        return self.R.T @ (1 - self.y / (self.R @ x)) / 60

    def hessian(self, x, d):
        return np.mean(self.y * (self.R @ d / (self.R @ x)) ** 2)


class Logistic:
    nu = 2

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.A = rng.standard_normal((80, 30)) * rng.choice([-1, 1], (80, 1))
        self.M = np.linalg.norm(self.A, axis=1).max()
        self.x0 = np.zeros(30)
        self.lmo = functools.partial(lmo_l1, radius=5.0)
        self.domain = None

    def f(self, x):
        return np.mean(np.logaddexp(0, -self.A @ x))

    def grad(self, x):
        return -self.A.T @ (1 / (1 + np.exp(self.A @ x))) / 80

    def hessian(self, x, d):
        p = 1 / (1 + np.exp(self.A @ x))
        return np.mean(p * (1 - p) * (self.A @ d) ** 2)


def solve(problem, step="monotonic", **options):
    return frank_wolfe(
        problem.f,
        problem.grad,
        problem.lmo,
        problem.x0,
        step,
        **{"domain": problem.domain, **options},
        hessian=problem.hessian,
        self_concordance=(problem.M, problem.nu),
    )


@pytest.mark.parametrize("make", [Logistic, Portfolio, Poisson])
@pytest.mark.parametrize("step", ["monotonic", "halving", "adaptive", "second_order", "away"])
def test_gap_is_a_certificate_and_f_never_rises(make, step):
    problem = make()
    best = solve(problem, "away", max_iter=20_000, tol=1e-12)
    lower = best.fun - best.gap
    result = solve(problem, step, max_iter=300, tol=0)
    fun, gap = result.history.T
    assert (gap >= fun - best.fun - 1e-12).all() and (fun - gap <= best.fun + 1e-12).all()
    assert fun.min() >= lower - 1e-12
    if step in ("monotonic", "halving"):
        assert (np.diff(fun) <= 0).all()  # exactly
    else:
        assert (np.diff(fun) <= 1e-9).all()
    assert fun[-1] < fun[0]


def test_rejected_steps_cost_a_value_and_no_gradient():
    problem, calls = Portfolio(), {"f": 0, "grad": 0}

    def counted(name):
        def call(x):
            calls[name] += 1
            return getattr(problem, name)(x)

        return call

    options = {"max_iter": 200, "tol": 0, "domain": problem.domain}
    result = frank_wolfe(counted("f"), counted("grad"), lmo_simplex, problem.x0, **options)
    moved = int((np.diff(result.history[:, 0]) != 0).sum())
    assert calls["grad"] <= moved + 2 < 200
    assert calls["f"] <= 201


def test_the_counter_goes_on_after_a_null_step():
    """f = (x - 0.095)^2 on [0, 1] falls from 0 for steps below 0.19: 2/10 is not, 2/11 is."""
    f = lambda x: float((x[0] - 0.095) ** 2)  # noqa: E731
    segment = lambda g: np.array([1.0 if g[0] < 0 else 0.0])  # noqa: E731
    grad = lambda x: 2 * (x - 0.095)  # noqa: E731
    funs = [row[0] for row in frank_wolfe(f, grad, segment, np.zeros(1), max_iter=15).history]
    assert funs[:10] == [funs[0]] * 10
    assert funs[10] == pytest.approx((2 / 11 - 0.095) ** 2)


# The claim.


@pytest.mark.parametrize("seed", range(3))
def test_simple_steps_stay_in_the_domain_and_converge_like_one_over_t(seed):
    problem = Portfolio(seed)
    gone = solve(problem, "open_loop", domain=None, max_iter=5)
    assert not np.isfinite(gone.history[-1]).all()
    history = solve(problem, max_iter=10_001, tol=0).history
    assert np.isfinite(history).all()
    best = np.minimum.accumulate(history[:, 1])
    t = np.arange(len(best))
    scaled = (t * best)[100:]
    assert scaled.max() / scaled.min() < 3
    slope = np.polyfit(np.log(t[100:]), np.log(best[100:]), 1)[0]
    assert slope <= -0.8


def test_halving_for_good_is_slower_in_the_long_run():
    problem, t = Portfolio(), np.arange(100, 5000)
    slopes = {}
    for step in ("monotonic", "halving"):
        gaps = solve(problem, step, max_iter=5000, tol=0).history[:, 1]
        best = np.minimum.accumulate(gaps)[100:]
        slopes[step] = np.polyfit(np.log(t), np.log(best), 1)[0]
    assert slopes["monotonic"] < -0.8 < -0.7 < slopes["halving"]


@pytest.mark.parametrize("seed", range(100))
def test_second_order_steps_minimise_an_upper_bound(seed):
    rng = np.random.default_rng(seed)
    problem = Logistic(seed) if seed % 2 else Portfolio(seed, 40, 20)
    x = rng.dirichlet(np.ones(len(problem.x0))) * (3 if seed % 2 else 1)
    d = problem.lmo(problem.grad(x)) - x
    g, e, norm = -problem.grad(x) @ d, problem.hessian(x, d), np.linalg.norm(d)
    gamma = second_order_step(g, e, norm, problem.M, problem.nu)
    if problem.nu == 2:
        delta = problem.M * norm
        bound = lambda s: -g * s + e / delta**2 * (np.expm1(s * delta) - s * delta)  # noqa: E731
        largest = 50 / delta
    else:
        delta = problem.M / 2 * np.sqrt(e)
        bound = lambda s: -g * s + e / delta**2 * (-s * delta - np.log1p(-s * delta))  # noqa: E731
        largest = (1 - 1e-9) / delta
    brute = minimize_scalar(bound, bounds=(0, largest), method="bounded", options={"xatol": 1e-12})
    assert gamma == pytest.approx(brute.x, rel=1e-6, abs=1e-6 / delta)
    for s in np.linspace(0.01, 0.99, 20) * min(1.0, 0.95 / delta if problem.nu == 3 else 1.0):
        assert problem.f(x + s * d) - problem.f(x) <= bound(s) + 1e-12


def test_birkhoff_and_nuclear_sets_against_linear_programs_and_soft_thresholding():
    """The nearest matrix of a nuclear ball has its singular values projected on the simplex."""
    B = np.random.default_rng(0).standard_normal((5, 4))
    f, grad = lambda x: float(np.sum((x - B) ** 2)) / 2, lambda x: x - B
    start = np.zeros((5, 4))
    result = frank_wolfe(f, grad, lmo_nuclear, start, step="adaptive", max_iter=3000, tol=1e-6)
    u, s, vt = np.linalg.svd(B, full_matrices=False)
    nearest = u * simplex_projection(s) @ vt
    assert f(result.x) - f(nearest) <= result.gap + 1e-12
    np.testing.assert_allclose(result.x, nearest, atol=2e-3)
    C = np.random.default_rng(1).standard_normal((4, 4))
    target = frank_wolfe(lambda x: float(np.sum(C * x)), lambda x: C, lmo_birkhoff, np.eye(4))
    sums = np.vstack([np.kron(np.eye(4), np.ones(4)), np.kron(np.ones(4), np.eye(4))])
    assert target.fun == pytest.approx(linprog(C.ravel(), A_eq=sums, b_eq=np.ones(8)).fun)


@pytest.mark.parametrize("step", ["monotonic", "away"])
def test_torch_and_numpy_agree(step):
    b = np.random.default_rng(0).standard_normal(10)
    other = torch.tensor(b)
    result = frank_wolfe(
        lambda x: ((x - other) ** 2).sum() / 2,
        lambda x: x - other,
        lmo_simplex,
        torch.eye(10, dtype=torch.float64)[0],
        step,
        max_iter=60,
    )
    assert torch.is_tensor(result.x)
    np.testing.assert_allclose(result.x.numpy(), project(b, step=step, max_iter=60).x, atol=1e-9)


def test_bad_arguments_of_the_function():
    problem = Portfolio()
    with pytest.raises(ValueError, match="outside the domain"):
        solve(problem, "monotonic", domain=lambda x: False)
    with pytest.raises(ValueError, match="needs hessian"):
        project(np.ones(3), step="second_order")
    with pytest.raises(ValueError, match="'step' parameter"):
        project(np.ones(3), step="newton")
    with pytest.raises(ValueError, match="nu in self_concordance"):
        project(np.ones(3), self_concordance=(1.0, 4))
    seen = []
    stopped = project(np.ones(3), callback=lambda x, fun, gap: seen.append(fun) or len(seen) == 2)
    assert stopped.nit == 2


# Losses and estimators.

RNG = np.random.default_rng(0)
LOSSES = {
    "logistic": (LogisticLoss(RNG.integers(0, 2, 12), np.full(12, 1 / 12)), 1),
    "softmax": (SoftmaxLoss(RNG.integers(0, 3, 12), np.full(12, 1 / 12), 3), 3),
    "squared": (SquaredLoss(RNG.standard_normal(12), np.full(12, 1 / 12)), 1),
    "poisson": (PoissonLoss(RNG.poisson(1.0, 12) + 0.0, np.full(12, 1 / 12)), 1),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_have_their_derivatives(name):
    loss, n_outputs = LOSSES[name]
    rng = np.random.default_rng(1)
    m, d = rng.uniform(1, 2, (12, n_outputs)), rng.standard_normal((12, n_outputs))
    line = lambda s: loss.value(m + s * d)  # noqa: E731
    slope = (line(1e-5) - line(-1e-5)) / 2e-5
    assert np.sum(loss.gradient(m) * d) == pytest.approx(slope, rel=1e-7)
    bend = (line(1e-4) - 2 * line(0) + line(-1e-4)) / 1e-8
    assert loss.curvature(m, d) == pytest.approx(bend, rel=1e-5)


def test_poisson_is_infinite_outside_its_domain_and_kullback_a_divergence():
    loss = PoissonLoss(np.array([2.0, 0.0]), np.array([0.5, 0.5]), divergence=True)
    assert loss.value(np.array([[2.0], [0.0]])) == pytest.approx(0, abs=1e-15)
    assert loss.value(np.array([[0.0], [1.0]])) == np.inf
    assert loss.value(np.array([[1.0], [-1.0]])) == np.inf
    assert loss.value(np.array([[1.0], [3.0]])) > 0


X, y = load_breast_cancer(return_X_y=True)
X = scale(X)


def check_agreement(C, max_iter):
    peer = LogisticRegression(
        C=C, l1_ratio=1, solver="liblinear", fit_intercept=False, tol=1e-12, max_iter=100_000
    ).fit(X, y)
    radius = np.abs(peer.coef_).sum()
    params = {"step": "away", "fit_intercept": False, "tol": 1e-8, "max_iter": max_iter}
    ours = FrankWolfeClassifier(radius=radius, **params).fit(X, y)
    loss = np.mean(np.logaddexp(0, -(2 * y - 1) * (X @ peer.coef_[0])))
    assert abs(ours.objective_ - loss) < 1e-6
    np.testing.assert_array_equal(np.abs(ours.coef_) > 1e-4, np.abs(peer.coef_) > 1e-4)
    assert np.abs(ours.coef_).sum() <= radius * (1 + 1e-12)


def test_agrees_with_l1_logistic_regression():
    check_agreement(C=0.1, max_iter=20_000)


@pytest.mark.slow
def test_agrees_with_weak_l1_logistic_regression():
    check_agreement(C=1.0, max_iter=20_000)


def test_squared_loss_agrees_with_the_lasso():
    features, target = load_diabetes(return_X_y=True)
    features = scale(features)
    lasso = Lasso(alpha=5.0, tol=1e-12).fit(features, target)
    radius = np.abs(lasso.coef_).sum()
    model = FrankWolfeRegressor(radius=radius, step="away", tol=1e-10, max_iter=20_000)
    model.fit(features, target)
    np.testing.assert_allclose(model.coef_, lasso.coef_, atol=1e-3)
    assert model.intercept_ == pytest.approx(lasso.intercept_)
    np.testing.assert_allclose(model.predict(features), lasso.predict(features), atol=1e-2)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_large_l2_ball_is_penalised_logistic_regression(n_classes):
    features, target = load_iris(return_X_y=True)
    features, target = scale(features)[target < n_classes], target[target < n_classes]
    peer = LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000).fit(features, target)
    model = FrankWolfeClassifier(
        "l2",
        radius=np.linalg.norm(peer.coef_) * 2,
        alpha=1 / (0.1 * len(target)),
        step="adaptive",
        tol=1e-8,
        max_iter=20_000,
    ).fit(features, target)
    np.testing.assert_allclose(
        model.predict_proba(features), peer.predict_proba(features), atol=2e-3
    )


@pytest.mark.parametrize("step", ["monotonic", "halving", "adaptive", "second_order", "away"])
def test_estimator_and_function_take_the_same_steps(step):
    """The margins that are kept give what the function computes from scratch."""
    signed = X * (2 * y - 1)[:, None]

    def grad(w):
        return -signed.T @ (1 / (1 + np.exp(signed @ w))) / len(y)

    def hessian(w, d):
        p = 1 / (1 + np.exp(signed @ w))
        return np.mean(p * (1 - p) * (signed @ d) ** 2)

    lmo = functools.partial(lmo_l1, radius=4.0)
    f = lambda w: np.mean(np.logaddexp(0, -signed @ w))  # noqa: E731
    options = {"max_iter": 60, "tol": 0.0}
    M = np.linalg.norm(X, axis=1).max()
    start = lmo(grad(np.zeros(30)))
    function = frank_wolfe(
        f, grad, lmo, start, step, hessian=hessian, self_concordance=(M, 2), **options
    )
    model = FrankWolfeClassifier(radius=4.0, step=step, fit_intercept=False, **options)
    with pytest.warns(ConvergenceWarning, match="duality gap"):
        model.fit(X, y)
    np.testing.assert_allclose(model.coef_[0], function.x, atol=1e-10)
    np.testing.assert_allclose(model.history_, function.history, atol=1e-10)


def test_the_intercept_is_optimal_and_outside_the_ball():
    model = FrankWolfeClassifier(radius=0.5, step="away").fit(X + 10, y)
    residual = model.predict_proba(X + 10)[:, 1] - y
    assert abs(residual.mean()) < 1e-10
    assert abs(model.intercept_[0]) > 1 and np.abs(model.coef_).sum() <= 0.5 + 1e-12


@pytest.mark.parametrize("loss", ["poisson", "kullback"])
@pytest.mark.parametrize("step", ["monotonic", "away", "second_order"])
def test_poisson_regression_against_scipy(loss, step):
    rng = np.random.default_rng(0)
    features = rng.uniform(size=(200, 5))
    target = rng.poisson(features @ [4.0, 0, 0, 2.0, 0])
    params = {"constraint": "simplex", "radius": 6.0, "tol": 1e-3, "max_iter": 20_000}
    model = FrankWolfeRegressor(loss, step=step, **params).fit(features, target)

    def objective(w):
        return np.mean(features @ w - target * np.log(np.maximum(features @ w, 1e-300)))

    best = minimize(
        objective,
        np.full(5, 1.2),
        method="SLSQP",
        bounds=[(0, None)] * 5,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 6},
        options={"ftol": 1e-12, "maxiter": 1000},
    )
    ours = objective(model.coef_)
    assert best.fun - 1e-9 <= ours <= best.fun + model.dual_gap_
    assert model.coef_.min() >= 0 and model.predict(-features).min() == 0
    if loss == "poisson":
        assert model.objective_ == pytest.approx(ours)
    else:
        assert model.objective_ > 0


def test_losses_with_a_domain_say_what_they_need():
    with pytest.raises(ValueError, match="negative"):
        FrankWolfeRegressor("poisson").fit(np.ones((3, 2)), [-1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="positive"):
        FrankWolfeRegressor("poisson").fit(-np.ones((3, 2)), [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="constraint='l1' or 'simplex'"):
        FrankWolfeRegressor("poisson", "l2").fit(np.ones((3, 2)), [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="polytope"):
        FrankWolfeClassifier("l2", step="away").fit(X, y)
    R = Portfolio().R
    with pytest.raises(ValueError, match="left its domain"):
        FrankWolfeRegressor("poisson", "simplex", step="open_loop").fit(R, np.ones(100))


def test_sparse_input_gives_the_same():
    rng = np.random.default_rng(0)
    features = sparse.random_array((200, 50), density=0.1, rng=rng, format="csr")
    target = (features @ rng.standard_normal(50) > 0).astype(int)
    for constraint in ("l1", "l2"):
        model = FrankWolfeClassifier(constraint, 5.0, step="adaptive", tol=1e-2)
        dense = clone(model).fit(features.toarray(), target)
        np.testing.assert_allclose(model.fit(features, target).coef_, dense.coef_, atol=1e-8)


def test_path_and_warm_start_save_iterations():
    model = FrankWolfeClassifier(step="away", tol=1e-6)
    radii = [1.0, 1.5, 2.0]
    coefs, intercepts, gaps = model.path(X, y, radii)
    assert coefs.shape == (3, 1, 30) and intercepts.shape == (3, 1)
    for radius, coef, gap in zip(radii, coefs, gaps):
        cold = clone(model).set_params(radius=radius).fit(X, y)
        assert gap <= 1e-6
        np.testing.assert_allclose(coef, cold.coef_, atol=0.02)
    again = model.set_params(radius=2.0, warm_start=True).fit(X, y)
    n_cold = again.n_iter_
    assert again.fit(X, y).n_iter_ == 1 < n_cold
    assert again.set_params(radius=2.1).fit(X, y).n_iter_ < n_cold


def test_nuclear_ball_gives_low_rank_classifiers():
    features, target = load_digits(return_X_y=True)
    features = features / 16
    model = FrankWolfeClassifier("nuclear", 20.0, step="adaptive", tol=0.02).fit(features, target)
    singular = np.linalg.svd(model.coef_, compute_uv=False)
    assert singular.sum() <= 20 + 1e-9
    assert model.score(features, target) > 0.9
    small = FrankWolfeClassifier("nuclear", 2.0, step="adaptive", tol=0.02).fit(features, target)
    rank = lambda m: int((np.linalg.svd(m.coef_)[1] > 0.02).sum())  # noqa: E731
    assert rank(small) < rank(model)


# The optimizer.


def linear_problem(dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    A = torch.randn(60, 8, generator=g, dtype=torch.float64).to(dtype)
    b = torch.randn(60, 2, generator=g, dtype=torch.float64).to(dtype)
    weight = torch.nn.Parameter(torch.zeros(2, 8, dtype=dtype))
    bias = torch.nn.Parameter(torch.zeros(2, dtype=dtype))

    def closure():
        weight.grad = bias.grad = None
        loss = (A @ weight.T + bias - b).square().mean()
        loss.backward()
        return loss

    return weight, bias, closure


def test_optimizer_takes_the_steps_of_the_function():
    weight, bias, closure = linear_problem()
    optimizer = FrankWolfe([weight, bias], lr=0.0, radius=0.5)
    start = lmo_l1(-weight.detach(), 0.5)

    def f(x):
        weight.data.copy_(x)
        return float(closure().detach())

    def grad(x):
        f(x)
        return weight.grad.clone()

    expected = frank_wolfe(
        f, grad, functools.partial(lmo_l1, radius=0.5), start, max_iter=50, tol=0
    ).x
    weight.data.zero_()
    for _ in range(50):
        optimizer.step(closure)
    torch.testing.assert_close(weight.data, expected, rtol=0, atol=1e-12)
    assert torch.equal(bias.data, torch.zeros(2))


def test_biases_follow_sgd_from_the_point_that_is_kept():
    """By hand: loss (w - 2)^2 + (c - 1)^2 over |w| <= 1; from w = 1 every move is rejected."""
    w = torch.nn.Parameter(torch.ones(1, 1, dtype=torch.float64))
    c = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def closure():
        w.grad = c.grad = None
        loss = (w - 2).square().sum() + (c - 1).square().sum()
        loss.backward()
        return loss

    optimizer = FrankWolfe([w, c], lr=0.25)
    for expected in (0.5, 0.75, 0.875):
        optimizer.step(closure)
        assert c.item() == expected and w.item() == 1.0


@pytest.mark.parametrize("step", ["monotonic", "halving", "open_loop"])
@pytest.mark.parametrize("constraint", ["l1", "l2", "linf", "nuclear"])
def test_optimizer_descends_and_stays_in_the_set(step, constraint):
    weight, bias, closure = linear_problem()
    optimizer = FrankWolfe([weight, bias], lr=0.0, constraint=constraint, radius=0.3, step=step)
    losses = [optimizer.step(closure).item() for _ in range(40)]
    norms = {
        "l1": weight.abs().sum(),
        "l2": weight.norm(),
        "linf": weight.abs().max(),
        "nuclear": torch.linalg.svdvals(weight).sum(),
    }
    assert float(norms[constraint].detach()) <= 0.3 + 1e-9
    assert losses[-1] < losses[0]
    if step != "open_loop":
        assert (np.diff(losses) <= 0).all()


def test_one_set_for_all_tensors_and_groups_of_their_own():
    first, second = (torch.nn.Parameter(torch.ones(1, 2)) for _ in range(2))

    def closure():
        first.grad = second.grad = None
        loss = (first - 5).square().sum() + (second - torch.tensor([1.0, 9.0])).square().sum()
        loss.backward()
        return loss

    FrankWolfe([first, second], per_tensor=False, step="open_loop").step(closure)
    assert (first.abs().sum() + second.abs().sum()).item() == 1 and second[0, 1].item() == 1
    groups = [{"params": [first], "radius": 2.0}, {"params": [second], "constraint": "linf"}]
    FrankWolfe(groups, step="open_loop").step(closure)
    assert first.abs().sum().item() == 2 and second.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("step", ["monotonic", "halving"])
def test_optimizer_resumes_from_its_state(step):
    weight, bias, closure = linear_problem()
    optimizer = FrankWolfe([weight, bias], step=step)
    for _ in range(30):
        optimizer.step(closure)
    expected = weight.detach().clone()
    weight, bias, closure = linear_problem()
    optimizer = FrankWolfe([weight, bias], step=step)
    for _ in range(12):
        optimizer.step(closure)
    state = pickle.loads(pickle.dumps(optimizer.state_dict()))
    optimizer = FrankWolfe([weight, bias], step=step)
    optimizer.load_state_dict(state)
    for _ in range(18):
        optimizer.step(closure)
    assert torch.equal(weight.data, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_optimizer_dtypes(dtype):
    weight, bias, closure = linear_problem(dtype)
    optimizer = FrankWolfe([weight, bias], constraint="l2", radius=0.3)
    losses = [optimizer.step(closure).item() for _ in range(20)]
    assert losses[-1] < losses[0] and weight.dtype == dtype and weight.isfinite().all()


@pytest.mark.gpu
def test_optimizer_on_cuda():
    weight = torch.nn.Parameter(torch.zeros(3, 4, device="cuda"))
    target = torch.arange(12.0, device="cuda").view(3, 4)

    def closure():
        weight.grad = None
        loss = (weight - target).square().sum()
        loss.backward()
        return loss

    optimizer = FrankWolfe([weight], radius=2.0)
    losses = [optimizer.step(closure).item() for _ in range(10)]
    assert losses[-1] < losses[0] and float(weight.abs().sum()) <= 2.0 + 1e-5


@pytest.mark.parametrize(
    "options",
    [{"lr": -1.0}, {"constraint": "l3"}, {"radius": 0.0}, {"step": "away"}, {"per_tensor": 3}],
    ids=str,
)
def test_bad_options_of_the_optimizer_are_named(options):
    with pytest.raises(ValueError, match=f"'{next(iter(options))}' parameter of FrankWolfe"):
        FrankWolfe([torch.nn.Parameter(torch.zeros(1, 1))], **options)


@pytest.mark.parametrize("sizes, constraint, radius", [((), "l1", 10.0), ((16,), "l2", 8.0)])
def test_networks_train_by_name(sizes, constraint, radius):
    features, target = load_iris(return_X_y=True)
    network = NeuralClassifier(
        sizes,
        optimizer="frank_wolfe",
        optimizer_params={"constraint": constraint, "radius": radius},
        lr=0.1,
        batch_size=None,
        max_epochs=200,
        tol=0,
        random_state=0,
    ).fit(scale(features), target)
    assert network.score(scale(features), target) > 0.9
    for weight in network.module_.parameters():
        if weight.ndim > 1:
            norm = weight.abs().sum() if constraint == "l1" else weight.norm()
            assert float(norm.detach()) <= radius * (1 + 1e-5)
    assert (np.diff(network.loss_curve_) <= 1e-6).all()
