"""Networks as sparse Gaussian processes: oracles by dense algebra, and the paper's claims."""

import copy

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris, make_friedman1, make_moons
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from skpapers.kernel_methods import SparseFunctionSpaceClassifier, SparseFunctionSpaceRegressor
from skpapers.kernel_methods._dual_gaussian_process import (
    DualGaussianProcess,
    cholesky_with_jitter,
)
from skpapers.kernel_methods._latent_likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
)
from skpapers.kernel_methods._tangent_features import kernel, kernel_diagonal, tangent_map
from skpapers.neural_network import NeuralClassifier, NeuralRegressor, build_module, make_mlp


def make_network(n_in=2, sizes=(5, 4), n_out=3, seed=0, activation="tanh"):
    generator = torch.Generator().manual_seed(seed)
    return build_module(
        lambda: make_mlp(n_in, sizes, n_out, activation=activation), generator, torch.float64
    ).eval()


def draws(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def sine(low, high, n_samples, seed):
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(low, high, n_samples))
    return x[:, None], np.sin(2 * x) + 0.1 * rng.normal(size=n_samples)


def prefit(module, **params):
    return SparseFunctionSpaceRegressor(module, prefit=True, random_state=0, **params)


def finite_difference_jacobian(module, X, names, step=1e-6):
    """(n_outputs, n, n_weights), by central differences of every weight."""
    columns = []
    with torch.no_grad():
        for name in names:
            flat = module.get_parameter(name).view(-1)
            for i in range(len(flat)):
                value, values = float(flat[i]), []
                for sign in (1, -1):
                    flat[i] = value + sign * step
                    values.append(module(X).reshape(len(X), -1).clone())
                flat[i] = value
                columns.append((values[0] - values[1]) / (2 * step))
    return torch.stack(columns, -1).transpose(0, 1)


class SharedLayer(nn.Module):
    """A linear layer that is called twice."""

    def __init__(self):
        super().__init__()
        self.layer, self.scale = nn.Linear(2, 2), nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x))) * self.scale


class UsedElsewhere(nn.Module):
    """A linear layer whose weight is used outside of it too."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return torch.tanh(self.layer(x)) @ self.layer.weight


class InPlace(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(2, 6), nn.ReLU(inplace=True), nn.Linear(6, 2))


# The tangent kernel.


@pytest.mark.parametrize(
    ("make", "layers"),
    [
        (make_network, True),
        (lambda: make_network(activation="gelu", sizes=()), True),
        (lambda: nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4), nn.Linear(4, 2)), False),
        (SharedLayer, False),
        (UsedElsewhere, False),
        (InPlace, False),
    ],
    ids=["mlp", "linear", "norm", "shared", "elsewhere", "inplace"],
)
@pytest.mark.parametrize("jacobian", ["full", "last_layer"])
def test_kernel_is_that_of_finite_differences(make, layers, jacobian):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make().double().eval()
    X, Z = draws(7, 2), draws(4, 2, seed=1)
    features = tangent_map(module, X[:3], jacobian)
    if jacobian == "full":
        assert (features.layers is not None) == layers
    outputs, of_x = features(X)
    of_z = features(Z)[1]
    jx = finite_difference_jacobian(module, X, features.names)
    jz = finite_difference_jacobian(module, Z, features.names)
    torch.testing.assert_close(outputs, module(X).detach())
    torch.testing.assert_close(kernel(of_z, of_x), jz @ jx.mT, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(kernel_diagonal(of_x), jx.square().sum(2), rtol=1e-5, atol=1e-7)


def test_last_layer_and_frozen_weights():
    module = make_network()
    assert tangent_map(module, draws(3, 2), "last_layer").names == ["4.weight", "4.bias"]
    module[4].requires_grad_(False)
    assert tangent_map(module, draws(3, 2)).names[-1] == "2.bias"
    module[2].weight.requires_grad_(False)  # a bias alone: no outer product
    assert tangent_map(module, draws(3, 2)).layers is None
    with pytest.raises(ValueError, match="no trainable"):
        tangent_map(module.requires_grad_(False), draws(3, 2))


# The process.


def dense_problem(n_seen=12, n_inducing=5, n_outputs=2, n_weights=40):
    jacobian = draws(n_outputs, n_seen + n_inducing + 6, n_weights)
    K = jacobian @ jacobian.mT
    z, x, test = torch.arange(len(K[0])).split([n_inducing, n_seen, 6])
    beta = draws(n_seen, n_outputs, seed=1).abs()
    return K, z, x, test, beta, draws(n_seen, n_outputs, seed=2)


def block(K, rows, columns):
    return K[:, rows][:, :, columns]


def test_process_equals_the_formulas_of_the_paper():
    K, z, x, test, beta, target = dense_problem()
    scale, jitter = 3.0, 1e-9
    process = DualGaussianProcess(block(K, z, z), jitter)
    process.add(block(K, z, x), beta, target)
    process.set_scale(scale)
    mean, variance = process.marginals(block(K, z, test), K.diagonal(dim1=1, dim2=2)[:, test])
    joint = process.covariance(block(K, z, test), block(K, test, test))
    alpha_u, beta_u, t_u = process.dual_parameters()
    for c in range(2):
        Kzz, Kzx, Kzt = (block(K, z, other)[c] for other in (z, x, test))
        expected_beta = Kzx @ torch.diag(beta[:, c]) @ Kzx.T / scale
        expected_t = Kzx @ target[:, c]
        expected_alpha = torch.linalg.solve(Kzz + expected_beta, expected_t)
        shrink = torch.linalg.inv(Kzz) - torch.linalg.inv(Kzz + expected_beta)
        expected = (block(K, test, test)[c] - Kzt.T @ shrink @ Kzt) / scale
        torch.testing.assert_close(beta_u[c], expected_beta)
        torch.testing.assert_close(t_u[c], expected_t)
        torch.testing.assert_close(alpha_u[c], expected_alpha, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(
            mean[:, c], Kzt.T @ expected_alpha / scale, rtol=1e-6, atol=1e-9
        )
        torch.testing.assert_close(variance[:, c], expected.diagonal(), rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(joint[c], expected, rtol=1e-6, atol=1e-7)


def test_jitter_grows_until_a_singular_kernel_factorises():
    indefinite = torch.ones(1, 3, 3, dtype=torch.float64)
    indefinite[0, 0, 1] = indefinite[0, 1, 0] = 1 + 1e-6
    factor = cholesky_with_jitter(indefinite, 1e-9)
    assert (factor @ factor.mT - indefinite).abs().max() < 2e-5
    with pytest.raises(ValueError, match="overflows"):
        cholesky_with_jitter(torch.full((1, 2, 2), torch.inf), 1e-6)


def test_data_beyond_double_precision_is_an_error_that_says_so():
    X, y = sine(-1, 1, 30, 0)
    with pytest.raises(ValueError, match="noise_std"):
        prefit(make_network(1, (4,), 1), noise_std=1e-200).fit(X, y)


# The likelihoods.


@pytest.mark.parametrize("name", ["gaussian", "bernoulli", "categorical"])
def test_duals_are_derivatives_of_the_log_likelihood(name):
    f = draws(6, 1 if name == "bernoulli" else 3).requires_grad_()
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    if name == "gaussian":
        noise, y = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64), draws(6, 3, seed=1)
        likelihood = GaussianLikelihood(noise)
        log_p = torch.distributions.Normal(f, noise).log_prob(y).sum()
    elif name == "bernoulli":
        likelihood, y = BernoulliLikelihood(), labels
        log_p = torch.distributions.Bernoulli(logits=f[:, 0]).log_prob(labels.double()).sum()
    else:
        likelihood, y = CategoricalLikelihood(draws(5, 3)), labels
        log_p = torch.distributions.Categorical(logits=f).log_prob(labels).sum()
    (first,) = torch.autograd.grad(log_p, f, create_graph=True)
    second = torch.zeros_like(f)
    for i, j in np.ndindex(*f.shape) if first.requires_grad else ():
        second[i, j] = torch.autograd.grad(first[i, j], f, retain_graph=True)[0][i, j]
    alpha, beta = likelihood.duals(f.detach(), y)
    torch.testing.assert_close(alpha, first.detach())
    torch.testing.assert_close(beta, -second.detach())


def test_bernoulli_probability_is_close_to_the_integral():
    likelihood = BernoulliLikelihood()
    for mean, variance in [(0.5, 0.0), (1.0, 1.0), (-2.0, 4.0), (3.0, 25.0)]:
        m, v = (torch.tensor([[value]], dtype=torch.float64) for value in (mean, variance))
        got = float(likelihood.probabilities(m, v)[0, 1])
        sd = max(np.sqrt(variance), 1e-9)
        nodes = mean + sd * np.linspace(-9, 9, 4001)
        density = stats.norm.pdf((nodes - mean) / sd)
        exact = integrate.trapezoid(density / (1 + np.exp(-nodes)), (nodes - mean) / sd)
        assert abs(got - exact) < (1e-12 if variance == 0 else 0.02)


def test_categorical_probability_is_the_mean_over_normal_draws():
    mean, variance = draws(4, 3), draws(4, 3, seed=1).abs()
    got = CategoricalLikelihood(draws(20_000, 3, seed=2)).probabilities(mean, variance)
    sample = mean + variance.sqrt() * draws(20_000, 4, 3, seed=3)
    assert (got - torch.softmax(sample, 2).mean(0)).abs().max() < 0.01
    flat = CategoricalLikelihood(draws(5, 3)).probabilities(mean, 0 * variance)
    torch.testing.assert_close(flat, torch.softmax(mean, 1))


# Must be the exact process, and stay one.


@pytest.mark.parametrize(("jitter", "delta", "reach"), [(1e-6, 1e-2, 0.0), (1e-10, 1e-3, 1.0)])
def test_all_rows_as_inducing_points_give_the_exact_gaussian_process(jitter, delta, reach):
    X, y = sine(-3, 3, 60, 0)
    noise = 0.1
    module = make_network(1, (32, 32), 1)
    model = prefit(
        module, n_inducing=60, prior_precision=delta, noise_std=noise, jitter=jitter
    ).fit(X, y)
    test = np.linspace(X.min() - reach, X.max() + reach, 50)[:, None]
    rows = torch.from_numpy(np.vstack([X, test]))
    jacobian = tangent_map(module, rows[:2])._replace(layers=None)(rows)[1][0][1][0].numpy()
    K = jacobian @ jacobian.T / (delta * 60)
    gain = np.linalg.solve(K[:60, :60] + noise**2 * np.eye(60), K[:60, 60:]).T
    mean, covariance = model.predict(test, return_cov=True, include_noise=False)
    expected = K[60:, 60:] - gain @ K[:60, 60:]
    std = model.predict(test, return_std=True, include_noise=False)[1]
    np.testing.assert_allclose(mean, gain @ y, atol=1e-4)
    np.testing.assert_allclose(std, np.sqrt(expected.diagonal()), atol=1e-4)
    np.testing.assert_allclose(covariance, expected, atol=1e-4)


def test_linear_network_is_bayesian_ridge_regression():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    y = X @ [1.0, -2.0, 0.5] + 0.3 + 0.2 * rng.normal(size=80)
    delta, noise = 1e-2, 0.2
    model = prefit(make_network(3, (), 1), prior_precision=delta, noise_std=noise).fit(X, y)
    design, test = np.c_[X, np.ones(80)], np.c_[rng.normal(size=(20, 3)), np.ones(20)]
    covariance = np.linalg.inv(design.T @ design / noise**2 + delta * 80 * np.eye(4))
    weights = covariance @ design.T @ y / noise**2
    mean, std = model.predict(test[:, :3], return_std=True)
    np.testing.assert_allclose(mean, test @ weights, atol=1e-4)
    spread = np.einsum("ij,jk,ik->i", test, covariance, test) + noise**2
    np.testing.assert_allclose(std, np.sqrt(spread), atol=1e-4)


@pytest.mark.parametrize("kind", ["regressor", "classifier"])
def test_dual_updates_equal_one_shot_in_any_order(kind):
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(150)
    X, y = X[order], y[order] if kind == "classifier" else X[order] @ [1.0, 2.0, -1.0, 0.5]
    regression = kind == "regressor"
    cls = SparseFunctionSpaceRegressor if regression else SparseFunctionSpaceClassifier
    model = cls(max_epochs=5, n_inducing=20, hidden_layer_sizes=(8,), random_state=0)
    model.fit(X[:60], y[:60])
    weights = copy.deepcopy(model.module_.state_dict())
    together, there, back = (copy.deepcopy(model) for _ in range(3))
    together.partial_fit(X[60:], y[60:])
    there.partial_fit(X[60:70], y[60:70]).partial_fit(X[70:], y[70:])
    back.partial_fit(X[70:], y[70:]).partial_fit(X[60:70], y[60:70])
    one_shot = dense_duals(model, X, y)
    for updated in (together, there, back):
        assert updated.n_seen_ == 150
        for name, expected in zip(("alpha_u_", "beta_u_", "t_u_"), one_shot):
            got = getattr(updated, name)
            np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10 * abs(expected).max())
        probe = [
            m.predict_proba(X) if kind == "classifier" else m.predict(X)
            for m in (updated, together)
        ]
        np.testing.assert_allclose(*probe, rtol=1e-10)
        assert all(torch.equal(v, weights[k]) for k, v in updated.module_.state_dict().items())


def dense_duals(model, X, y):
    """Duals of all rows at once, at the weights, inducing points and scale of `model`."""
    together = copy.deepcopy(model)
    data = together._encode(X, y, None, reset=False)
    f, features = together._tangent(data.inputs[0].double())
    target = data.y.double() if data.y.is_floating_point() else data.y
    alpha, beta = together._likelihood.duals(f, target)
    old = together._process
    process = DualGaussianProcess(old.factor @ old.factor.mT, 1e-300)
    process.add(kernel(together._inducing, features), beta, alpha + beta * f)
    process.set_scale(old.scale)
    return [values.numpy() for values in process.dual_parameters()]


def test_variance_lies_between_zero_and_the_prior_and_never_rises():
    X, y = sine(-3, 3, 200, 0)
    model = SparseFunctionSpaceRegressor(max_epochs=30, n_inducing=30, random_state=0)
    model.fit(X[:50], y[:50])
    test = np.linspace(-6, 6, 200)[:, None]
    rows, _ = model._rows(test)
    prior = kernel_diagonal(model._tangent(rows)[1])[0] / (model.prior_precision_ * 50)
    bound = prior.numpy() * model.y_scale_**2
    for start in range(50, 200, 50):
        variance = model.predict(test, return_std=True, include_noise=False)[1] ** 2
        assert (variance >= 0).all()
        assert (variance <= bound * (1 + 1e-9)).all()
        bound = variance + 1e-12
        model.partial_fit(X[start : start + 50], y[start : start + 50])


@pytest.mark.parametrize("inducing", ["random", "kmeans"])
def test_prediction_converges_in_the_number_of_inducing_points(inducing):
    X, y = sine(-3, 3, 300, 0)
    network = SparseFunctionSpaceRegressor(max_epochs=60, random_state=0).fit(X, y).module_
    test = np.linspace(-3, 3, 200)[:, None]

    def predicted(n_inducing, inducing):
        model = prefit(network, n_inducing=n_inducing, inducing=inducing)
        return model.fit(X, y).predict(test)

    full = predicted(300, "random")
    gaps = [np.mean(abs(predicted(m, inducing) - full)) for m in (10, 50, 75, 200)]
    assert gaps[0] > gaps[1] > gaps[3]
    assert gaps[2] < 0.01 * y.std()


# What the method is for.


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dual_update_learns_a_new_region_and_keeps_the_old_one(seed):
    X, y = sine(-2, 0, 200, seed)
    X_new, y_new = sine(1, 2, 100, seed + 100)
    model = SparseFunctionSpaceRegressor(n_inducing=100, max_epochs=100, random_state=seed)
    model.fit(X, y)
    old, new = np.linspace(-2, 0, 100)[:, None], np.linspace(1, 2, 100)[:, None]

    def state():
        rmse = [
            np.sqrt(np.mean((model.predict(g) - np.sin(2 * g[:, 0])) ** 2)) for g in (old, new)
        ]
        return (*rmse, model.predict(new, return_std=True, include_noise=False)[1].mean())

    before = state()
    model.partial_fit(X_new, y_new)
    after = state()
    assert after[1] < 0.4 * before[1]
    data_rmse = 0.1  # errors on noisy targets
    assert np.hypot(after[0], data_rmse) < 1.2 * np.hypot(before[0], data_rmse)
    assert after[2] < before[2]


def test_uncertainty_grows_between_and_beyond_the_data():
    (X1, y1), (X2, y2) = sine(-2, 0, 200, 0), sine(1, 2, 100, 1)
    model = SparseFunctionSpaceRegressor(random_state=0, max_epochs=100)
    model.fit(np.vstack([X1, X2]), np.r_[y1, y2])
    spread = [
        model.predict(g[:, None], return_std=True, include_noise=False)[1].mean()
        for g in (np.linspace(0.2, 0.8, 50), np.r_[X1[:, 0], X2[:, 0]], np.linspace(4, 5, 50))
    ]
    assert spread[0] > 2 * spread[1]
    assert spread[2] > 10 * spread[1]


def network_nlpd(model, X, y):
    return -stats.norm.logpdf(y, model.predict_network(X), model.noise_std_[0]).mean()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ["diabetes", "friedman1"])
def test_process_is_better_calibrated_than_the_network_with_constant_noise(name, seed):
    if name == "diabetes":
        X, y = load_diabetes(return_X_y=True)
    else:
        X, y = make_friedman1(1000, noise=1.0, random_state=seed)
    X, X_test, y, y_test = train_test_split(X, y, random_state=seed)
    model = SparseFunctionSpaceRegressor(
        prior_precision="auto", early_stopping=False, max_epochs=60, random_state=seed
    ).fit(X, y)
    assert model.nlpd(X_test, y_test) < network_nlpd(model, X_test, y_test)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_moons_keep_their_accuracy_and_are_uncertain_far_away(seed):
    X, y = make_moons(400, noise=0.2, random_state=seed)
    X, X_test, y, y_test = train_test_split(X, y, random_state=seed)
    model = SparseFunctionSpaceClassifier(max_epochs=100, random_state=seed).fit(X, y)
    network = np.mean(model.predict_network(X_test).argmax(1) == y_test)
    assert model.score(X_test, y_test) >= network - 0.03
    far = stats.entropy(model.predict_proba(10 * X_test), axis=1).mean()
    assert far > 5 * stats.entropy(model.predict_network(10 * X_test), axis=1).mean()


def test_dual_update_does_not_train():
    X, y = make_friedman1(600, noise=1.0, random_state=0)
    model = SparseFunctionSpaceRegressor(early_stopping=False, max_epochs=20, random_state=0)
    model.fit(X[:500], y[:500])
    before = copy.deepcopy(model.module_.state_dict())
    predicted = model.predict(X[500:])
    model.partial_fit(X[500:], y[500:])
    assert model.n_iter_ == 20
    assert all(torch.equal(before[name], w) for name, w in model.module_.state_dict().items())
    assert np.abs(model.predict(X[500:]) - predicted).max() > 1e-3


def test_regularizer_is_the_paper_s_quadratic_form_and_has_gradients():
    X, y = sine(-3, 3, 80, 0)
    model = prefit(make_network(1, (6,), 1), n_inducing=5, jitter=1e-10, noise_std=0.5).fit(X, y)
    penalty = model.function_regularizer(strength=3.0)
    assert float(penalty(model.module_).detach()) == 0
    other = make_network(1, (6,), 1, seed=1)
    Z = torch.from_numpy(model.inducing_points_)
    change = (other(Z) - model.module_(Z)).detach().numpy()[:, 0]
    features = tangent_map(model.module_, Z)(Z)[1]
    inverse = np.linalg.inv(kernel(features, features)[0].numpy())
    expected = 1.5 / 5 * change @ inverse @ model.beta_u_[0] @ inverse @ change
    value = penalty(other)
    assert abs(float(value.detach()) / expected - 1) < 1e-3
    value.backward()
    assert all(p.grad.abs().max() > 0 for p in other.parameters())


def test_regularizer_keeps_an_old_task_while_a_new_one_is_learnt():
    (X1, y1), (X2, y2) = sine(-3, 0, 150, 0), sine(0, 3, 150, 1)
    network = NeuralRegressor((32, 32), activation="tanh", lr=1e-2, tol=0, random_state=0)
    first = SparseFunctionSpaceRegressor(
        FrozenEstimator(network.fit(X1, y1)), prefit=True, n_inducing=50, random_state=0
    ).fit(X1, y1)
    inputs, targets = torch.from_numpy(X2), torch.from_numpy((y2 - first.y_mean_) / first.y_scale_)

    def error_on_old(penalty):
        module = copy.deepcopy(first.module_)
        optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)
        for _ in range(400):
            optimizer.zero_grad()
            loss = 0.5 * (module(inputs)[:, 0] - targets).square().mean()
            (loss + (penalty(module) if penalty else 0)).backward()
            optimizer.step()
        f = module(torch.from_numpy(X1)).detach().numpy()[:, 0]
        error = np.mean((f * first.y_scale_ + first.y_mean_ - y1) ** 2)
        return error, float(loss.detach())

    forgotten, _ = error_on_old(None)
    kept, new = error_on_old(first.function_regularizer(strength=0.01))
    assert kept < 0.2 * forgotten
    assert new < 0.02


# The estimators.


def test_fitted_networks_are_adopted_as_they_are():
    X, y = load_iris(return_X_y=True)
    X32 = X.astype(np.float32)
    regressor = NeuralRegressor(max_epochs=5, random_state=0).fit(X, X[:, :2])
    model = prefit(FrozenEstimator(regressor), n_inducing=20)
    for fitted in (prefit(regressor), model, clone(model)):
        fitted.fit(X, X[:, :2])
        np.testing.assert_allclose(fitted.predict_network(X), regressor.predict(X), rtol=1e-9)
    classifier = NeuralClassifier(max_epochs=20, random_state=0).fit(X, y.astype(str))
    labels = SparseFunctionSpaceClassifier(classifier, prefit=True, random_state=0)
    labels.fit(X[:100], y[:100].astype(str))  # two of the three classes
    np.testing.assert_array_equal(labels.classes_, ["0", "1", "2"])
    np.testing.assert_allclose(labels.predict_network(X), classifier.predict_proba(X), rtol=1e-9)
    with torch.random.fork_rng():
        net = NeuralNetRegressor(nn.Linear(4, 1), max_epochs=1, verbose=0)
        net.fit(X32, X32[:, :1])
    got = prefit(net).fit(X32, X32[:, 0]).predict_network(X32)
    np.testing.assert_allclose(got, net.predict(X32)[:, 0], rtol=1e-5)


def test_what_cannot_be_adopted_is_an_error():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="module=None"):
        SparseFunctionSpaceRegressor(prefit=True).fit(X, y)
    with pytest.raises(ValueError, match="fitted module|module_"):
        prefit(NeuralRegressor()).fit(X, y)
    with pytest.raises(ValueError, match="3 outputs"):
        prefit(make_network(4, (), 3)).fit(X, y)
    with pytest.raises(ValueError, match="2 logits"):
        SparseFunctionSpaceClassifier(make_network(4, (), 2), prefit=True).fit(X, y)
    with torch.random.fork_rng():
        module = nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1))
        net = NeuralNetClassifier(module, max_epochs=1, verbose=0).fit(X.astype(np.float32), y)
    with pytest.raises(ValueError, match="logits"):
        SparseFunctionSpaceClassifier(net, prefit=True).fit(X, y)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_binary_classification_by_one_logit_or_two(n_outputs):
    X, y = make_moons(100, noise=0.2, random_state=0)
    module = NeuralClassifier(max_epochs=200, random_state=0, tol=0).fit(X, y).module_
    if n_outputs == 1:
        module[-1] = difference_of(module[-1])
    model = SparseFunctionSpaceClassifier(module, prefit=True, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.85
    np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)


def difference_of(layer):
    """One logit from two."""
    single = nn.Linear(layer.in_features, 1).to(layer.weight.dtype)
    with torch.no_grad():
        single.weight.copy_(layer.weight[1:] - layer.weight[:1])
        single.bias.copy_(layer.bias[1:] - layer.bias[:1])
    return single


def test_module_of_ones_own_is_trained_and_left_alone():
    X, y = sine(-3, 3, 100, 0)
    own = make_network(1, (16,), 1)
    before = copy.deepcopy(own.state_dict())
    model = SparseFunctionSpaceRegressor(own, max_epochs=60, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.5
    assert all(torch.equal(v, before[k]) for k, v in own.state_dict().items())
    made = SparseFunctionSpaceRegressor(lambda n_in, n_out: nn.Linear(n_in, n_out), max_epochs=5)
    assert made.fit(X, y).module_.in_features == 1


def test_units_outputs_and_kinds_of_spread():
    X, y = make_friedman1(120, random_state=0)
    Y = np.c_[y, 1000 * y + 5]
    model = SparseFunctionSpaceRegressor(max_epochs=20, random_state=0).fit(X, Y)
    mean, std = model.predict(X, return_std=True)
    _, function_std = model.predict(X, return_std=True, include_noise=False)
    _, cov = model.predict(X[:7], return_cov=True)
    assert mean.shape == std.shape == (120, 2)
    assert cov.shape == (7, 7, 2)
    np.testing.assert_allclose(std**2, function_std**2 + model.noise_std_**2)
    np.testing.assert_allclose(cov.diagonal().T, std[:7] ** 2, rtol=1e-6)
    expected = -stats.norm.logpdf(Y, mean, std).sum(1).mean()
    assert abs(model.nlpd(X, Y) - expected) < 1e-9
    with pytest.raises(ValueError, match="exclude each other"):
        model.predict(X, return_std=True, return_cov=True)


def test_nn_prediction_keeps_the_mean_of_the_network():
    X, y = sine(-3, 3, 80, 0)
    model = SparseFunctionSpaceRegressor(prediction="nn", max_epochs=20, random_state=0).fit(X, y)
    np.testing.assert_allclose(model.predict(X), model.predict_network(X), rtol=1e-12)


def test_result_does_not_depend_on_the_batches_of_the_duals():
    X, y = sine(-3, 3, 80, 0)
    module = make_network(1, (8,), 1)
    whole, pieces = (prefit(module, dual_batch_size=size).fit(X, y) for size in (256, 7))
    np.testing.assert_allclose(whole.predict(X), pieces.predict(X), rtol=1e-8)


def test_tuned_precision_is_no_worse_on_the_rows_held_out():
    X, y = make_friedman1(300, noise=1.0, random_state=0)
    model = SparseFunctionSpaceRegressor(
        NeuralRegressor(max_epochs=50, random_state=0).fit(X, y),
        prefit=True, prior_precision="auto", random_state=0,
    )  # fmt: skip
    losses = []
    best = model._best_precision

    def spy(held_out):
        precision = best(held_out)
        f, features = model._tangent(held_out.inputs[0])
        for value in (precision, 1e-3):
            model._process.set_scale(value * 300)
            mean, variance = model._process.marginals(
                kernel(model._inducing, features), kernel_diagonal(features)
            )
            losses.append(-model._likelihood.log_density(mean, variance, held_out.y).mean())
        return precision

    model._best_precision = spy
    model.fit(X, y)
    assert losses[0] <= losses[1]
    assert model.n_seen_ == 300


def test_first_partial_fit_is_a_fit_and_needs_the_classes():
    X, y = load_iris(return_X_y=True)
    model = SparseFunctionSpaceClassifier(max_epochs=5, random_state=0)
    with pytest.raises(ValueError, match="classes"):
        model.partial_fit(X, y)
    model.partial_fit(X[:100], y[:100], classes=[0, 1, 2])
    before = model.predict_proba(X[100:])[:, 2].mean()
    model.partial_fit(X[100:], y[100:])
    assert model.n_seen_ == 150
    assert model.predict_proba(X[100:])[:, 2].mean() > before
