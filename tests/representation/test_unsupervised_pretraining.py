"""Pretraining: closed forms of both phases, what the head sees, and gains in labels."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.decomposition import FactorAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import cross_val_score

from skpapers.representation import (
    ContrastiveLatentModel,
    PretrainedClassifier,
    PretrainedRegressor,
    informative_excess_bound,
)
from skpapers.representation._contrastive_latent import pair_likelihood
from skpapers.representation._latent_models import MixtureHead, ProbabilisticPCA

PENALTIES = np.logspace(-3, 4, 20)


def factor_data(n_samples, d=50, r=3, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    B, beta = rng.normal(size=(d, r)), rng.normal(size=r)
    Z = rng.normal(size=(n_samples, r))
    X = Z @ B.T + noise * rng.normal(size=(n_samples, d))
    return X, Z @ beta + 0.1 * rng.normal(size=n_samples), B, beta


# Phase 1.


def test_factors_are_the_posterior_mean():
    X, y, *_ = factor_data(300, d=10)
    model = PretrainedRegressor(n_components=3).fit(X, y)
    latent, scaled = model.latent_model_, X / model._scale
    B, S = latent.components_.T, np.diag(latent.noise_variance_)
    inner = np.eye(3) + B.T @ np.linalg.solve(S, B)
    centered = (scaled - scaled.mean(axis=0)).T
    expected = np.linalg.solve(inner, B.T @ np.linalg.solve(S, centered)).T
    assert_allclose(model.transform(X), expected, atol=1e-10)
    law = multivariate_normal(X.mean(axis=0), model._scale**2 * (B @ B.T + S))
    assert_allclose(model.score_samples(X), law.logpdf(X), rtol=1e-9)
    assert model.log_likelihood_ == pytest.approx(law.logpdf(X).mean())


def test_equal_noise_is_probabilistic_pca():
    X, *_ = factor_data(200, d=8)
    model = ProbabilisticPCA(3).fit(X)
    values, vectors = np.linalg.eigh(np.cov(X.T, bias=True))
    noise = values[:-3].mean()
    covariance = (vectors[:, -3:] * (values[-3:] - noise)) @ vectors[:, -3:].T
    assert model.noise_variance_ == pytest.approx(noise, rel=1e-10)
    assert_allclose(model.loadings_ @ model.loadings_.T, covariance, atol=1e-8)
    law = multivariate_normal(X.mean(axis=0), covariance + noise * np.eye(8))
    assert_allclose(model.score_samples(X), law.logpdf(X), rtol=1e-9)
    # the posterior mean solves the regression of the factors on the rows
    joint = np.linalg.solve(law.cov, model.loadings_).T @ (X - X.mean(axis=0)).T
    assert_allclose(model.transform(X), joint.T, atol=1e-10)


def test_pair_likelihood_is_that_of_logistic_regression_over_pairs():
    Z1, Z2 = (torch.randn(6, 3, generator=torch.Generator().manual_seed(i)) for i in range(2))
    probability = 1 / (1 + np.exp(-(Z1 @ Z2.T).numpy()))
    positive = -np.log(np.diag(probability)).mean()
    negative = -np.log(1 - probability)[~np.eye(6, dtype=bool)].mean()
    assert float(pair_likelihood(Z1, Z2)) == pytest.approx(positive + negative, rel=1e-5)


def test_contrastive_embedding_tells_pairs_of_one_latent_from_others():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(600, 2))
    first, second = (Z @ rng.normal(size=(2, 10)) + 0.1 * rng.normal(size=(600, 10)) for _ in "ab")
    second = second @ np.linalg.qr(rng.normal(size=(10, 10)))[0]
    views = Z @ rng.normal(size=(2, 10))
    X, X_pair = (views + 0.5 * rng.normal(size=views.shape) for _ in range(2))
    model = ContrastiveLatentModel(4, lr=1e-2, random_state=0).fit(X[:400], X_pair=X_pair[:400])
    new, partner = model.transform(X[400:]), model.transform(X_pair[400:])
    same, other = np.sum(new * partner, axis=1), np.sum(new * np.roll(partner, 1, axis=0), axis=1)
    assert np.mean(same > other) > 0.85
    assert model.loss_curve_[-1] < 0.8 * 2 * np.log(2)


# Phase 2.


def responsibilities(n_samples, k, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(k, 0.3), size=n_samples)


def test_class_weights_maximise_the_smoothed_likelihood():
    R = responsibilities(30, 4)
    y = np.random.default_rng(1).integers(3, size=30)
    head = MixtureHead(0.1).fit(R, y)

    def negative(logits):
        logs = logits.reshape(4, 3)
        psi = np.exp(logs - np.log(np.exp(logs).sum(axis=1, keepdims=True)))
        return -np.sum(np.log(np.sum(R * psi[:, y].T, axis=1))) - 0.1 * np.sum(np.log(psi))

    best = minimize(negative, np.zeros(12), method="BFGS", options={"gtol": 1e-9})
    assert negative(np.log(head.class_weights_).ravel()) == pytest.approx(best.fun, abs=1e-6)
    weights = np.exp(best.x.reshape(4, 3))
    weights /= weights.sum(axis=1, keepdims=True)
    assert_allclose(head.class_weights_, weights, atol=1e-4)


def test_order_of_components_does_not_matter():
    R, order = responsibilities(40, 5), np.array([3, 0, 4, 1, 2])
    y = np.random.default_rng(1).integers(2, size=40)
    first, second = MixtureHead().fit(R, y), MixtureHead().fit(R[:, order], y)
    assert_allclose(first.predict_proba(R), second.predict_proba(R[:, order]), atol=1e-8)


class Rotated(FactorAnalysis):
    """Factors in other axes."""

    def transform(self, X):
        turn = np.linalg.qr(np.random.default_rng(0).normal(size=(self.n_components,) * 2))[0]
        return super().transform(X) @ turn


def test_axes_of_factors_do_not_matter():
    X, y, *_ = factor_data(200)
    y[30:] = np.nan
    plain, turned = (
        PretrainedRegressor(kind(3, random_state=0)).fit(X, y)
        for kind in (FactorAnalysis, Rotated)
    )
    assert_allclose(plain.predict(X), turned.predict(X), atol=1e-8)


class Recorder(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_, self.seen_ = np.unique(y), X.copy()
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


def test_the_head_sees_the_labelled_rows_alone():
    X, y = make_blobs(100, centers=3, random_state=0)
    few = np.where(np.arange(100) % 7 == 0, y, -1)
    extra = X[:20] + 1
    model = PretrainedClassifier(head=Recorder(), random_state=0)
    model.fit(X, few, X_unlabeled=extra)
    assert_array_equal(model.head_.seen_, model.transform(X[few >= 0]))
    assert model.n_unlabeled_ == 120 - np.sum(few >= 0)
    assert not hasattr(model, "predict_proba")
    # phase 1 is that of all rows
    both = PretrainedClassifier(head=Recorder(), random_state=0)
    both.fit(np.concatenate([X, extra]), np.append(few, np.full(20, -1)))
    assert_allclose(both.transform(X), model.transform(X))


def test_labels_that_mean_nothing_give_chance():
    X, y = make_blobs(400, centers=4, random_state=0)
    y = np.random.default_rng(0).permutation(y % 2)
    scores = cross_val_score(PretrainedClassifier(random_state=0), X, y, cv=5)
    assert abs(scores.mean() - 0.5) < 0.1


def test_the_number_of_components_is_found():
    X, y = make_blobs(600, n_features=6, centers=5, random_state=0)
    model = PretrainedClassifier(n_components="bic", random_state=0).fit(X, y)
    assert model.n_components_ == 5
    X, y, *_ = factor_data(800, d=15, r=3)
    for name in ("factor", "ppca"):
        assert PretrainedRegressor(name, n_components="bic").fit(X, y).n_components_ == 3


def test_refitting_the_head_leaves_phase_one():
    X, y = make_blobs(200, centers=4, random_state=0)
    model = PretrainedClassifier(n_components=4, random_state=0).fit(X, y)
    latent, expected = model.latent_model_, model.transform(X)
    model.refit_head(X[:50], np.array(["even", "odd"])[y[:50] % 2])
    assert model.latent_model_ is latent
    assert_array_equal(model.transform(X), expected)
    assert model.score(X, np.array(["even", "odd"])[y % 2]) > 0.9


@pytest.mark.parametrize("latent", ["gmm", "factor", "ppca", "contrastive", GaussianMixture(4)])
def test_every_latent_model_serves_both_tasks_in_any_units(latent):
    X, y = make_blobs(160, n_features=5, centers=4, random_state=0)
    few = np.where(np.arange(160) < 40, y, -1)
    model = PretrainedClassifier(latent, n_components=4, random_state=0)
    assert model.fit(X, few).score(X, y) > 0.8
    assert_allclose(model.predict_proba(X).sum(axis=1), 1, atol=1e-6)
    if isinstance(latent, str):
        labels = model.predict(X)
        for scale in (1e-9, 1e9):
            assert np.mean(clone(model).fit(scale * X, few).predict(scale * X) == labels) > 0.99
    regressor = PretrainedRegressor(latent, n_components=4, random_state=0)
    assert regressor.fit(X, np.where(few >= 0, X[:, 0], np.nan)).score(X, X[:, 0]) > 0.5


def test_bad_requests_are_named():
    X = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(ValueError, match="unlabelled rows only"):
        PretrainedClassifier().fit(X, np.full(20, -1))
    with pytest.raises(ValueError, match="needs a likelihood"):
        PretrainedRegressor("contrastive", n_components="bic").fit(X, X[:, 0])
    with pytest.raises(ValueError, match="inconsistent"):
        PretrainedClassifier().fit(X, np.arange(19) % 2)
    with pytest.raises(ValueError, match="infinity"):
        PretrainedRegressor().fit(X, np.append(np.zeros(19), np.inf))
    with pytest.raises(ValueError, match="features"):
        PretrainedClassifier().fit(X, np.arange(20) % 2, X_unlabeled=np.zeros((5, 4)))
    model = PretrainedClassifier(KMeans(3, n_init=1), head=DummyClassifier()).fit(X, np.zeros(20))
    assert not hasattr(model, "score_samples") and model.log_likelihood_ is None


# Claims.


def factor_ratio(n, seed):
    X, y, *_ = factor_data(4000 + 1000, seed=seed)
    known = np.where(np.arange(4000) < n, y[:4000], np.nan)
    model = PretrainedRegressor(n_components=3, head=RidgeCV(PENALTIES), random_state=0)
    ridge = RidgeCV(PENALTIES).fit(X[:n], y[:n])
    new, target = X[4000:], y[4000:]
    ours = np.mean((model.fit(X[:4000], known).predict(new) - target) ** 2)
    return ours / np.mean((ridge.predict(new) - target) ** 2)


def test_few_targets_suffice_for_few_factors():
    ratios = {n: np.median([factor_ratio(n, seed) for seed in range(20)]) for n in (10, 20, 80)}
    assert ratios[10] <= 0.8 and ratios[20] <= 0.8
    assert ratios[80] > max(ratios[10], ratios[20])


def mixture_scores(n, seed):
    """Two classes, each two components of four: no single line between them."""
    rng = np.random.default_rng(seed)
    means = 0.9 * rng.normal(size=(4, 30))
    component = rng.integers(4, size=6000)
    X = means[component] + rng.normal(size=(6000, 30))
    y = np.isin(component, [0, 3]).astype(int)
    chosen = np.concatenate([np.flatnonzero(component[:4000] == k)[: n // 4] for k in range(4)])
    few = np.full(4000, -1)
    few[chosen] = y[chosen]
    ours = PretrainedClassifier(n_components=4, n_init=5, random_state=0).fit(X[:4000], few)
    line = LogisticRegression(max_iter=1000).fit(X[chosen], y[chosen])
    return ours.score(X[4000:], y[4000:]), line.score(X[4000:], y[4000:])


@pytest.mark.parametrize("n, gain", [(8, 0.05), (16, 0.03)])
def test_few_labels_suffice_for_few_components(n, gain):
    ours, line = np.mean([mixture_scores(n, seed) for seed in range(10)], axis=0)
    assert ours >= line + gain


def population_excess(m, seed, d=50, r=3):
    """Risk of the best head on estimated factors, over that on the true ones."""
    X, _, B, beta = factor_data(m, d, r, seed)
    covariance, cross = B @ B.T + np.eye(d), B @ beta
    loadings = FactorAnalysis(r, tol=1e-6, max_iter=5000).fit(X).components_.T

    def explained(W):
        part = W.T @ cross
        return part @ np.linalg.solve(W.T @ covariance @ W, part)

    noise = np.var(X, axis=0) - np.sum(loadings**2, axis=1)
    directions = loadings / noise[:, None]  # the posterior mean is linear in these
    return explained(np.linalg.solve(covariance, B)) - explained(directions)


def test_excess_risk_falls_like_the_number_of_rows():
    sizes = np.array([250, 500, 1000, 2000, 4000, 8000])
    risks = [np.median([population_excess(m, seed) for seed in range(8)]) for m in sizes]
    slope = np.polyfit(np.log(sizes), np.log(risks), 1)[0]
    assert slope == pytest.approx(-1, abs=0.25)
    bounds = [informative_excess_bound(m, 1e12, 150, 3) for m in sizes]
    assert np.polyfit(np.log(sizes), np.log(bounds), 1)[0] == pytest.approx(-1, abs=1e-3)


def test_what_the_latent_variable_leaves_out_is_lost():
    X, _, B, _ = factor_data(2000, d=20)
    direction = np.linalg.svd(B)[0][:, -1]  # orthogonal to all factors
    y = X @ direction
    known = np.where(np.arange(2000) < 200, y, np.nan)
    assert PretrainedRegressor(n_components=3).fit(X, known).score(X, y) < 0.1
    assert RidgeCV(PENALTIES).fit(X[:200], y[:200]).score(X, y) > 0.9


def test_slow_and_fast_rates():
    assert informative_excess_bound(100, 25, 4, 1, kappa=2, fast=False) == pytest.approx(0.6)
    assert informative_excess_bound(100, 25, 4, 1, kappa=2) == pytest.approx(0.2)
