"""The representation game: closed-form regrets, saddle points, mixtures, double oracle."""

import numpy as np
import pytest
from scipy.linalg import sqrtm, subspace_angles
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.datasets import load_diabetes
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from skpapers.decomposition import (
    GameRepresentation,
    MinimaxRepresentation,
    representation_regret,
)
from skpapers.decomposition._minimax_game import (
    LogisticRegret,
    fit_logistic,
    solve_game,
    systematic_subsets,
    water_filling,
)


def problem(d=6, n=200, seed=0):
    """Correlated rows, their covariance, and a prior of tasks."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)
    root = rng.normal(size=(d, d))
    return X, np.cov(X.T, bias=True), root @ root.T


def regret(R, f, Sigma):
    """The definition: explained variance that is lost."""
    cross = Sigma @ R
    return f @ (Sigma - cross @ np.linalg.solve(R.T @ cross, cross.T)) @ f


def ellipsoid(S, n, seed):
    unit = np.random.default_rng(seed).normal(size=(n, len(S)))
    return unit / np.linalg.norm(unit, axis=1, keepdims=True) @ np.real(sqrtm(S))


def spectrum(lam):
    """Rows whose covariance is exactly diag(lam)."""
    rng = np.random.default_rng(0)
    W = rng.normal(size=(4 * len(lam), len(lam)))
    W = np.linalg.qr(W - W.mean(axis=0))[0]
    return W * np.sqrt(len(W) * np.asarray(lam))


# Theorem 2: one representation.


def test_pure_regret_is_the_next_eigenvalue_and_is_attained():
    X, Sigma, S = problem()
    model = MinimaxRepresentation(2, task_prior=S).fit(X)
    lam = np.sort(np.linalg.eigvals(Sigma @ S).real)[::-1]
    np.testing.assert_allclose(model.eigenvalues_, lam, rtol=1e-9)
    assert model.regret_ == pytest.approx(lam[2], rel=1e-10)
    R = model.components_.T
    tasks = ellipsoid(S, 10_000, seed=1)
    regrets = model.regret(tasks)
    assert regrets.max() <= lam[2] + 1e-10
    assert regrets[0] == pytest.approx(regret(R, tasks[0], Sigma), rel=1e-9)
    worst = model.worst_task_
    assert worst @ np.linalg.solve(S, worst) == pytest.approx(1, abs=1e-8)
    assert regret(R, worst, Sigma) == pytest.approx(lam[2], rel=1e-8)
    assert representation_regret(R, Sigma, S) == pytest.approx(lam[2], rel=1e-9)
    rng = np.random.default_rng(2)
    others = [representation_regret(rng.normal(size=(6, 2)), Sigma, S) for _ in range(200)]
    assert min(others) > lam[2]


def test_representation_regret_is_the_supremum_of_the_definition():
    _, Sigma, S = problem(d=4)
    R = np.random.default_rng(3).normal(size=(4, 2))
    root = np.real(sqrtm(S))

    def negative(u):
        return -regret(R, root @ u / np.linalg.norm(u), Sigma)

    found = max(-minimize(negative, start).fun for start in np.eye(4) + 0.1)
    assert representation_regret(R, Sigma, S) == pytest.approx(found, rel=1e-6)


def test_identity_prior_gives_the_principal_subspace():
    X, _, _ = problem()
    model = MinimaxRepresentation(3).fit(X)
    angles = subspace_angles(model.components_.T, PCA(3).fit(X).components_.T)
    assert angles.max() < 1e-8
    codes = model.transform(X)
    np.testing.assert_allclose(codes.T @ codes / len(X), np.eye(3), atol=1e-10)
    peer = PCA(3).fit(X)
    restored = peer.inverse_transform(peer.transform(X))
    np.testing.assert_allclose(model.inverse_transform(codes), restored, atol=1e-8)


@pytest.mark.parametrize("strategy", ["pure", "mixed"])
def test_change_of_units_changes_nothing(strategy):
    X, _, S = problem()
    A = np.random.default_rng(5).normal(size=(6, 6))
    back = np.linalg.inv(A)
    model = MinimaxRepresentation(2, task_prior=S, strategy=strategy, random_state=0)
    codes, expected = model.fit_transform(X), model.regret_
    changed = MinimaxRepresentation(
        2, task_prior=back.T @ S @ back, strategy=strategy, random_state=0
    )
    found = changed.fit_transform(X @ A.T)
    assert changed.regret_ == pytest.approx(expected, rel=1e-8)
    assert subspace_angles(codes, found).max() < 1e-6


# Theorem 3: mixtures.


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("r", [1, 3, 6])
def test_mixture_has_the_marginals_and_the_regret_of_water_filling(r, seed):
    lam = np.sort(np.random.default_rng(seed).gamma(0.7, size=9))[::-1]
    c, b = water_filling(lam, r)
    assert b.sum() == pytest.approx(r, abs=1e-12)
    assert b.min() >= 0
    assert b.max() <= 1
    weights, subsets = systematic_subsets(b)
    assert subsets.shape == (len(weights), r)
    assert len(weights) <= np.count_nonzero(b)
    held = np.zeros(9)
    for weight, subset in zip(weights, subsets):
        assert len(set(subset)) == r
        held[subset] += weight
    np.testing.assert_allclose(held, b, atol=1e-12)
    assert (lam * (1 - b)).max() == pytest.approx(c, abs=1e-10)
    assert c < lam[r]
    size = np.count_nonzero(b)
    inverse = (1 / lam[:size]).sum()
    assert (size - r) / lam[size - 1] <= inverse * (1 + 1e-12)
    assert size == 9 or inverse <= (size - r) / lam[size] * (1 + 1e-12)


def test_mixed_estimator_attains_its_regret_exactly():
    X, Sigma, S = problem()
    model = MinimaxRepresentation(2, task_prior=S, strategy="mixed", random_state=0).fit(X)
    atoms = model.mixture_components_.swapaxes(1, 2)
    worst = representation_regret(atoms, Sigma, S, model.mixture_weights_)
    assert worst == pytest.approx(model.regret_, rel=1e-9)
    assert model.regret_ < MinimaxRepresentation(2, task_prior=S).fit(X).regret_
    assert model.regret(model.worst_task_) == pytest.approx(model.regret_, rel=1e-8)
    assert model.score(X) == pytest.approx(-model.regret_, rel=1e-8)
    assert model.regret(ellipsoid(S, 2000, seed=0)).max() <= model.regret_ * (1 + 1e-9)
    codes = model.transform_all(X)
    assert len(codes) == len(model.mixture_weights_)
    drawn = model.representation_index_
    np.testing.assert_array_equal(codes[drawn], model.transform(X))
    draws = [model.sample_representation(seed) for seed in range(500)]
    found = np.bincount(draws, minlength=len(codes)) / 500
    np.testing.assert_allclose(found, model.mixture_weights_, atol=0.1)


def test_equal_eigenvalues_and_a_mixture_of_all_axes():
    X = spectrum(np.ones(5))
    assert MinimaxRepresentation(2).fit(X).regret_ == pytest.approx(1)
    mixed = MinimaxRepresentation(2, strategy="mixed", random_state=0).fit(X)
    assert mixed.regret_ == pytest.approx(1 - 2 / 5)


def test_least_favourable_tasks_force_the_mixed_regret_on_everyone():
    X, Sigma, S = problem()
    model = MinimaxRepresentation(2, task_prior=S, strategy="mixed", random_state=0).fit(X)
    root = np.real(sqrtm(Sigma))
    lam, V = np.linalg.eigh(root @ S @ root)
    lam, V = lam[::-1], V[:, ::-1]
    size = np.count_nonzero(model.marginals_)
    axes = np.linalg.solve(root, V[:, :size]) / np.sqrt((1 / lam[:size]).sum())
    rng = np.random.default_rng(0)
    candidates = [rng.normal(size=(6, 2)) for _ in range(200)]
    for R in [*candidates, *model.mixture_components_.swapaxes(1, 2)]:
        # Independent signs: the mean over tasks is the sum over axes.
        assert sum(regret(R, f, Sigma) for f in axes.T) >= model.regret_ * (1 - 1e-9)
    task = axes @ np.ones(size)
    assert task @ np.linalg.solve(S, task) == pytest.approx(1)


# The iterative game.


@pytest.mark.parametrize("seed", range(4))
def test_game_approaches_the_best_mixture(seed):
    X = spectrum(1 / np.arange(1, 21))
    mixed = MinimaxRepresentation(3, strategy="mixed", random_state=0).fit(X)
    assert mixed.regret_ == pytest.approx(1 / 7)
    for n_representations, margin in [(10, 1.25), (40, 1.05)]:
        game = GameRepresentation(3, n_representations=n_representations, random_state=seed)
        game.fit(X)
        atoms = game.mixture_components_.swapaxes(1, 2)
        Sigma = np.diag(1 / np.arange(1, 21))
        exact = representation_regret(atoms, Sigma, np.eye(20), game.mixture_weights_)
        assert exact == pytest.approx(game.regret_, rel=1e-8)
        assert exact <= margin / 7
        assert game.value_ <= 1 / 7 + 1e-9
        assert game.regret_ >= 1 / 7 - 1e-9


def test_game_stops_when_its_certificate_is_tight():
    X = spectrum(1 / np.arange(1, 6))
    game = GameRepresentation(2, n_representations=200, tol=0.01, random_state=0).fit(X)
    assert game.n_iter_ < 200
    assert game.value_ >= 0.99 * game.regret_
    tasks = game.tasks_ * np.sqrt(1 / np.arange(1, 6))
    np.testing.assert_allclose((game.tasks_**2).sum(axis=1), 1, rtol=1e-8)
    second = (tasks.T * game.task_weights_) @ tasks
    assert np.linalg.eigvalsh(second)[:3].sum() == pytest.approx(game.value_, rel=1e-6)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_given_tasks_that_fit_into_the_codes_have_no_regret(loss):
    X, _, _ = problem()
    tasks = np.random.default_rng(0).normal(size=(2, 6)) / 5
    game = GameRepresentation(2, task_class=tasks, loss=loss, random_state=0).fit(X)
    assert game.regret_ < 1e-6
    assert game.regret(tasks).max() < 1e-6
    assert PCA(2).fit(X).explained_variance_ratio_.sum() < 0.95


def test_matching_pennies_and_a_game_of_known_value():
    for solver, tolerance in [("linprog", 1e-9), ("mwu", 0.05)]:
        p, o, value = solve_game(np.array([[1.0, 0.0], [0.0, 1.0]]), solver)
        np.testing.assert_allclose([*p, *o, value], 0.5, atol=tolerance)
        p, o, value = solve_game(np.array([[3.0, 1.0], [0.0, 2.0]]), solver)
        np.testing.assert_allclose([p[0], o[0], value], [0.5, 0.25, 1.5], atol=2 * tolerance)


def test_multiplicative_weights_come_near_linear_programming():
    X = spectrum(1 / np.arange(1, 9))
    models = [
        GameRepresentation(2, solver=solver, n_representations=20, random_state=0).fit(X)
        for solver in ("linprog", "mwu")
    ]
    best = MinimaxRepresentation(2, strategy="mixed", random_state=0).fit(X).regret_
    assert best - 1e-9 <= models[1].regret_ <= 1.3 * best
    assert best - 1e-9 <= models[0].regret_ <= 1.1 * best


# The logistic loss.


def test_logistic_fit_is_the_minimum():
    rng = np.random.default_rng(0)
    Z, targets = rng.normal(size=(80, 3)), rng.uniform(size=(80, 2))
    targets = np.column_stack([targets, expit(Z @ [30.0, -20.0, 5.0]), expit(Z[:, 0])])
    Q = fit_logistic(Z, targets)
    for q, t in zip(Q.T, targets.T):
        np.testing.assert_allclose(Z.T @ (expit(Z @ q) - t) / 80, 0, atol=1e-4)
    np.testing.assert_allclose(Q[:, -1], [1, 0, 0], atol=1e-4)


def test_gradient_of_the_logistic_regret_is_its_finite_difference():
    rng = np.random.default_rng(0)
    game = LogisticRegret(rng.normal(size=(60, 4)), np.ones(4))
    atoms = np.linalg.qr(rng.normal(size=(2, 4, 2)))[0]
    task, weights = rng.normal(size=(1, 4)), np.array([0.3, 0.7])
    _, gradient = game._climb(atoms, weights, task)
    shifts = 1e-5 * np.eye(4)
    rise = [
        weights @ (game.losses(atoms, task + s) - game.losses(atoms, task - s))[:, 0] / 2e-5
        for s in shifts
    ]
    np.testing.assert_allclose(gradient[0], rise, atol=1e-4)


def test_logistic_regret_is_zero_for_what_codes_hold_and_positive_else():
    rng = np.random.default_rng(0)
    game = LogisticRegret(rng.normal(size=(500, 3)), np.ones(3))
    found = game.losses(np.eye(3)[None, :, :2], 2 * np.eye(3))[0]
    np.testing.assert_allclose(found[:2], 0, atol=1e-5)
    # A feature that is missing costs the information that the label has on it.
    p = expit(2 * game.W[:, 2])
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean()
    assert found[2] == pytest.approx(np.log(2) - entropy, abs=0.02)


def test_logistic_game_beats_one_representation():
    X = spectrum(np.ones(4)) * 3
    X = np.vstack([X, np.random.default_rng(0).normal(size=(200, 4)) * 3])
    options = {"loss": "logistic", "max_iter": 15, "random_state": 0}
    one = GameRepresentation(1, n_representations=1, **options).fit(X)
    game = GameRepresentation(1, n_representations=8, **options).fit(X)
    assert game.regret_ < 0.9 * one.regret_
    assert game.regret(ellipsoid(np.eye(4), 300, seed=0)).max() <= game.regret_ * 1.02
    assert game.score(X) == pytest.approx(-game.regret_, rel=0.05)


# Use, and what can go wrong.


def diabetes_tasks(X, n, rng):
    """Tasks on two of the four columns of least variance."""
    low, tasks = np.argsort(X.std(axis=0))[:4], np.zeros((n, 10))
    for task in tasks:
        columns = rng.choice(low, 2, replace=False)
        task[columns] = rng.normal(size=2) / X[:, columns].std(axis=0)
    return tasks


def test_codes_for_the_class_of_tasks_lose_less_than_principal_components():
    X = load_diabetes(scaled=False).data
    X = X - X.mean(axis=0)
    Sigma = X.T @ X / len(X)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        past, new = diabetes_tasks(X, 30, rng), diabetes_tasks(X, 500, rng)
        model = MinimaxRepresentation(3, task_prior="targets").fit(X, X @ past.T)
        components = [model.components_, PCA(3).fit(X).components_]
        ours, peer = (
            np.array([regret(R.T, f, Sigma) / (f @ Sigma @ f) for f in new]) for R in components
        )
        assert ours.mean() <= 0.4 * peer.mean()
        assert ours.max() < peer.max()


def test_prior_of_targets_holds_all_past_tasks():
    X, _, _ = problem()
    Y = X @ np.random.default_rng(0).normal(size=(6, 4))
    model = MinimaxRepresentation(2, task_prior="targets").fit(X, Y)
    tasks = Ridge(alpha=1.0).fit((X - X.mean(axis=0)) / X.std(axis=0), Y).coef_ / X.std(axis=0)
    size = np.einsum("td,de,te->t", tasks, np.linalg.inv(model._prior), tasks)
    assert size.max() == pytest.approx(1, rel=1e-6)
    # A sum over four tasks of equal weight: none is far inside.
    assert size.min() > 0.5
    with pytest.raises(ValueError, match="targets"):
        MinimaxRepresentation(2, task_prior="targets").fit(X)


@pytest.mark.parametrize("strategy", ["pure", "mixed"])
def test_singular_covariance_is_treated_on_its_range(strategy):
    X, _, S = problem()
    wide = np.hstack([X, X[:, :2]])
    prior = np.zeros((8, 8))
    prior[:6, :6] = S
    model = MinimaxRepresentation(2, task_prior=prior, strategy=strategy, random_state=0)
    expected = MinimaxRepresentation(2, task_prior=S, strategy=strategy, random_state=0).fit(X)
    assert model.fit(wide).regret_ == pytest.approx(expected.regret_, rel=1e-8)
    assert len(model.eigenvalues_) == 6


@pytest.mark.parametrize("prior", [np.ones(4), np.ones((6, 5)), -np.eye(6), np.zeros(6)])
def test_priors_that_are_none_raise(prior):
    with pytest.raises(ValueError, match="task_prior"):
        MinimaxRepresentation(task_prior=prior).fit(problem()[0])


def test_covariance_estimates_and_shapes():
    X, Sigma, _ = problem(n=30)
    ridge = MinimaxRepresentation(2, covariance=0.5).fit(X)
    expected = Sigma + 0.5 * np.trace(Sigma) / 6 * np.eye(6)
    assert ridge.regret_ == pytest.approx(np.linalg.eigvalsh(expected)[-3], rel=1e-9)
    shrunk = MinimaxRepresentation(2, covariance="ledoit_wolf").fit(X)
    assert shrunk.eigenvalues_[0] < MinimaxRepresentation(2).fit(X).eigenvalues_[0]
    with pytest.raises(ValueError, match="6 columns"):
        GameRepresentation(task_class=np.ones((2, 3))).fit(X)
    with pytest.raises(ValueError, match="weights"):
        representation_regret(np.eye(6)[:, :2], Sigma, Sigma, weights=[2.0])
    with pytest.raises(ValueError, match="as many rows"):
        representation_regret(np.eye(5), Sigma, Sigma)
