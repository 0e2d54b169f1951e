"""Tests of the classifier that learns its own proper loss."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

from skpapers.calibration import LegendreLink, LegendreTronClassifier, log_softmax_plus
from skpapers.neural_network import build_module

X_IRIS, Y_IRIS = scale(load_iris().data), load_iris().target
QUICK = {"max_epochs": 30, "lr": 0.05, "tol": 0, "random_state": 0}
WHOLE = {"batch_size": None, "lr": 0.1, "lr_decay": 0.99, "tol": 0, "random_state": 0}


def make_link(n_scores, seed=0, **settings):
    """A link in double precision whose layers are normalised on normal scores."""
    generator = torch.Generator().manual_seed(seed)
    link = build_module(lambda: LegendreLink(n_scores, **settings), generator, torch.float64)
    s = draw(200, n_scores)
    with torch.no_grad():
        link.normalize_(s)
    return link, s


def draw(n, k, seed=1, spread=2.0):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(n, k, generator=generator, dtype=torch.float64)


def noisy_softmax(rng, n_samples, n_classes, noise, W):
    """Softmax probabilities, kept away from 0 and 1 by uniform label noise."""
    X = rng.normal(size=(n_samples, 8))
    odds = np.exp(1.5 * X @ W)
    P = (1 - noise) * odds / odds.sum(axis=1, keepdims=True) + noise / n_classes
    return X, (P.cumsum(axis=1) > rng.uniform(size=(n_samples, 1))).argmax(axis=1)


def losses(seed, n_classes, noise, **settings):
    """Test log loss with the learnt link and with the softmax."""
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(8, n_classes))
    (X, y), (Z, t) = (noisy_softmax(rng, 3000, n_classes, noise, W) for _ in range(2))
    found = []
    for n_blocks in (1, 0):
        model = LegendreTronClassifier(
            n_blocks, 8, alpha=1e-4, tol=0, random_state=seed, **settings
        ).fit(X, y)
        found.append(log_loss(t, model.predict_proba(Z)))
    return found


# The link.


def test_log_softmax_plus_has_one_class_of_score_zero():
    z = draw(20, 3)
    expected = z.numpy() - np.logaddexp(0, np.logaddexp.reduce(z.numpy(), axis=1))[:, None]
    found = log_softmax_plus(z).numpy()
    assert_allclose(found[:, :3], expected, atol=1e-12)
    assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-12)
    assert_allclose(log_softmax_plus(z, reference=1).numpy(), found[:, [0, 3, 1, 2]], atol=1e-12)
    for extreme in (1e4, -1e4):
        assert torch.isfinite(log_softmax_plus(torch.full((1, 3), extreme))).all()


@pytest.mark.parametrize(("n_scores", "width", "depth"), [(1, 2, 2), (3, 4, 4), (5, 8, 3)])
def test_network_is_convex_and_its_gradient_that_of_the_potential(n_scores, width, depth):
    link, s = make_link(n_scores, width=width, depth=depth)
    (block,) = link.blocks
    with torch.no_grad():
        a, b = draw(10_000, n_scores, 2, 5.0), draw(10_000, n_scores, 3, 5.0)
        middle = block.convex((a + b) / 2)
        assert (middle <= (block.convex(a) + block.convex(b)) / 2 + 1e-10).all()
        assert (middle < (block.convex(a) + block.convex(b)) / 2).any()
    s.requires_grad_()
    (gradient,) = torch.autograd.grad(block.potential(s).sum(), s)
    assert_allclose(block(s).detach(), gradient, atol=1e-12)
    least = torch.nn.functional.softplus(block.curvature).item()
    for row in s.detach()[:20]:
        hessian = torch.autograd.functional.hessian(lambda x: block.potential(x[None])[0], row)
        assert_allclose(hessian, hessian.T, atol=1e-12)
        assert torch.linalg.eigvalsh(hessian)[0] >= least - 1e-10


def test_layers_start_normalised_on_the_training_rows():
    link, s = make_link(3, n_blocks=2)
    with torch.no_grad():
        assert_allclose(link.blocks[0].convex(s).std(unbiased=False), 1, rtol=2e-3)
        after = link.blocks[0](s)
        assert_allclose(link.blocks[1].convex(after).std(unbiased=False), 1, rtol=2e-3)
        weight = torch.arange(200, dtype=torch.float64) % 3
        weighted, repeated = make_link(3)[0].blocks[0], make_link(3)[0].blocks[0]
        weighted.normalize_(s, weight)
        repeated.normalize_(s.repeat_interleave(weight.long(), dim=0))
        assert_allclose(weighted(s), repeated(s), rtol=1e-10)
        constant = make_link(3)[0]
        constant.normalize_(torch.ones(5, 3, dtype=torch.float64))
        assert torch.isfinite(constant(s)).all()


@pytest.mark.parametrize("n_blocks", [0, 1, 2])
@pytest.mark.parametrize("n_scores", [1, 4])
def test_inverse_of_the_link(n_scores, n_blocks):
    link, s = make_link(n_scores, n_blocks=n_blocks)
    with torch.no_grad():
        assert_allclose(link.inverse(link(s)), s, atol=1e-8)


def test_parameters_learn_through_the_gradient():
    link, s = make_link(2)
    names = dict(link.named_parameters())

    def outputs(*values):
        return torch.func.functional_call(link, dict(zip(names, values)), s[:3])

    assert torch.autograd.gradcheck(outputs, tuple(link.parameters()))


@pytest.mark.parametrize("settings", [{"width": 3}, {"width": 0}, {"depth": 1}])
def test_impossible_sizes_are_named(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=name):
        LegendreLink(2, **settings)


# The estimator.


def test_jacobian_of_one_block_has_real_eigenvalues_that_are_not_negative():
    model = LegendreTronClassifier(**QUICK).fit(X_IRIS, Y_IRIS)
    S = model.scores(X_IRIS)
    J = model.link_jacobian(S)
    eigenvalues = np.linalg.eigvals(J)
    assert np.abs(eigenvalues.imag).max() <= 1e-9
    assert eigenvalues.real.min() >= 0
    step = 1e-6 * np.array([1.0, 0])
    change = model.inverse_link(S + step) - model.inverse_link(S - step)
    assert_allclose(J[:, :, 0], change[:, :2] / 2e-6, atol=1e-6)


@pytest.mark.parametrize("n_blocks", [1, 2])
def test_two_classes_have_an_increasing_link_with_an_inverse(n_blocks):
    model = LegendreTronClassifier(n_blocks, **QUICK).fit(X_IRIS, Y_IRIS == 1)
    s = np.linspace(-3, 3, 201)[:, None]
    P = model.inverse_link(s)
    assert (np.diff(P[:, 0]) > 0).all()
    assert_allclose(model.link(P), s, atol=1e-6)
    assert_allclose(model.inverse_link(model.scores(X_IRIS)), model.predict_proba(X_IRIS))
    assert_allclose(model.scores(X_IRIS), X_IRIS @ model.coef_.T + model.intercept_)


def test_scores_and_probabilities_invert_each_other():
    model = LegendreTronClassifier(2, hidden_layer_sizes=(6,), **QUICK).fit(X_IRIS, Y_IRIS)
    S = model.scores(X_IRIS)
    assert S.shape == (150, 2)
    assert_allclose(model.link(model.inverse_link(S)), S, atol=1e-6)
    assert model.coef_.shape == (2, 6)
    assert_allclose(np.exp(model.predict_log_proba(X_IRIS)), model.predict_proba(X_IRIS))
    with pytest.raises(ValueError, match="P must"):
        model.link([[0.5, 0.5, 0.0]])
    with pytest.raises(ValueError, match="S must"):
        model.inverse_link([[0.5, 0.5, 0.0]])


def test_without_blocks_two_classes_are_logistic_regression():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 4))
    y = rng.uniform(size=400) < 1 / (1 + np.exp(-X @ [1, -1, 0.5, 0] - 0.3))
    model = LegendreTronClassifier(0, alpha=1e-2, max_epochs=200, **WHOLE)
    ones = np.column_stack([X, np.ones(400)])  # the constant is penalised too
    peer = LogisticRegression(C=1 / (400 * 1e-2), fit_intercept=False).fit(ones, y)
    expected = peer.predict_proba(ones)
    assert_allclose(model.fit(X, y).predict_proba(X), expected, atol=1e-3)


def test_without_blocks_three_classes_minimise_the_penalised_likelihood():
    X = np.column_stack([X_IRIS, np.ones(150)])

    def log_probabilities(theta):
        odds = np.column_stack([X @ theta.reshape(2, 5).T, np.zeros(150)])
        return odds - np.logaddexp.reduce(odds, axis=1)[:, None]

    def objective(theta):
        likelihood = log_probabilities(theta)[np.arange(150), Y_IRIS].mean()
        return -likelihood + 0.02 / 2 * theta @ theta

    expected = np.exp(log_probabilities(minimize(objective, np.zeros(10)).x))
    model = LegendreTronClassifier(0, alpha=0.02, max_epochs=300, **WHOLE)
    assert_allclose(model.fit(X_IRIS, Y_IRIS).predict_proba(X_IRIS), expected, atol=1e-3)


def test_the_reference_class():
    y = np.array(["a", "b", "c"])[Y_IRIS]
    last = LegendreTronClassifier(**QUICK).fit(X_IRIS, y)
    assert last.classes_[last.reference_] == "c"
    y[:70] = "a"
    largest = LegendreTronClassifier(reference_class="largest", **QUICK).fit(X_IRIS, y)
    assert largest.classes_[largest.reference_] == "a"
    assert largest.score(X_IRIS, y) > 0.8
    P = largest.predict_proba(X_IRIS)
    odds = largest.module_.link(torch.as_tensor(largest.scores(X_IRIS))).detach().numpy()
    assert_allclose(np.log(P[:, 1:] / P[:, :1]), odds, atol=1e-8)


def test_the_rate_falls_and_early_stopping_judges_the_likelihood():
    model = LegendreTronClassifier(**{**QUICK, "max_epochs": 9}, lr_decay=0.5)
    (group,) = model.fit(X_IRIS, Y_IRIS).net_.optimizer_.param_groups
    assert_allclose(group["lr"], 0.05 * 0.5**2)
    assert group["weight_decay"] == model.alpha
    n_parameters = sum(p.numel() for p in group["params"])
    assert n_parameters == sum(p.numel() for p in model.module_.parameters())
    model = LegendreTronClassifier(**{**QUICK, "tol": 1e-4}, early_stopping=True)
    model.fit(X_IRIS, Y_IRIS)
    assert max(model.validation_scores_) < 0
    assert model.best_iter_ == 1 + np.argmax(model.validation_scores_)


def test_partial_fit_and_warm_start_go_on():
    settings = {**QUICK, "max_epochs": 4, "batch_size": None, "lr_decay": 1.0}
    whole = LegendreTronClassifier(**settings).fit(X_IRIS, Y_IRIS)
    parts = LegendreTronClassifier(**settings)
    for _ in range(4):
        parts.partial_fit(X_IRIS, Y_IRIS, classes=[0, 1, 2])
    assert_allclose(parts.predict_proba(X_IRIS), whole.predict_proba(X_IRIS))
    warm = LegendreTronClassifier(**{**settings, "max_epochs": 2}, warm_start=True)
    warm.fit(X_IRIS, Y_IRIS).fit(X_IRIS, Y_IRIS)
    assert_array_equal(warm.predict_proba(X_IRIS), whole.predict_proba(X_IRIS))


# The claims.


def test_the_loss_is_proper_probabilities_are_frequencies():
    rng = np.random.default_rng(1)
    cell = rng.integers(10, size=20_000)
    P = rng.dirichlet(np.ones(4), size=10)[cell]
    y = (P.cumsum(axis=1) > rng.uniform(size=(20_000, 1))).argmax(axis=1)
    frequencies = [np.bincount(y[cell == k], minlength=4) / np.sum(cell == k) for k in range(10)]
    model = LegendreTronClassifier(
        alpha=1e-5, batch_size=1000, max_epochs=40, lr=0.05, lr_decay=0.7, tol=0, random_state=0
    ).fit(np.eye(10)[cell], y)
    assert np.min(frequencies) < 0.05
    assert_allclose(model.predict_proba(np.eye(10)), frequencies, atol=0.03)


def test_two_noisy_classes_have_better_probabilities_than_by_the_softmax():
    settings = {"max_epochs": 60, "batch_size": 300, "lr": 0.02}
    found = np.array([losses(seed, 2, 0.2, **settings) for seed in range(3)])
    gain = found[:, 1] - found[:, 0]
    assert gain.mean() >= 0.01
    assert gain.min() >= -0.002


@pytest.mark.slow
def test_twelve_noisy_classes_have_better_probabilities_than_by_the_softmax():
    settings = {"max_epochs": 60, "batch_size": 128}
    found = np.array([losses(seed, 12, 0.4, **settings) for seed in range(3)])
    gain = found[:, 1] - found[:, 0]
    assert gain.mean() >= 0.003
    assert gain.min() >= 0


def test_digits_are_a_tie():
    X, y = load_digits(return_X_y=True)
    X, Z, y, t = train_test_split(scale(X), y, random_state=0)
    scores = [
        LegendreTronClassifier(n_blocks, **{**QUICK, "lr": 0.02}).fit(X, y).score(Z, t)
        for n_blocks in (1, 0)
    ]
    assert abs(scores[0] - scores[1]) <= 0.01
    assert min(scores) > 0.94
