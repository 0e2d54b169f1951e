import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.special import eval_legendre
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpapers.neural_network import build_module
from skpapers.structure import Ragged
from skpapers.time_series import (
    DiagonalSSM,
    S4DClassifier,
    S4DRegressor,
    S4DTransformer,
    s4d_init,
    s4d_kernel,
)
from skpapers.time_series._diagonal_ssm import causal_convolution, hippo_legs
from skpapers.time_series._s4d_network import pool_time
from tests.structure import _kit

KINDS = ("legs", "inv", "lin", "real")
QUICK = {"d_model": 8, "n_layers": 2, "d_state": 8, "max_epochs": 2, "random_state": 0}
RNG = np.random.RandomState(0)
SERIES = [RNG.standard_normal((2, t)) for t in RNG.randint(1, 12, size=30)]
TARGET = np.array([s.sum() for s in SERIES])


def padded(series, extra=0):
    out = np.full((len(series), 2, max(s.shape[1] for s in series) + extra), np.nan)
    for row, s in zip(out, series):
        row[:, : s.shape[1]] = s
    return out


# Mathematics.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
def test_kernel_equals_the_dense_discretised_system(kind, discretization):
    dt, length = 0.03, 200
    A, B = s4d_init(16, kind)
    C = RNG.standard_normal(8) + 1j * RNG.standard_normal(8)
    dense = np.diag(A)
    if discretization == "zoh":  # the exponential of the system with a constant input
        augmented = np.zeros((9, 9), dtype=complex)
        augmented[:8, :8], augmented[:8, 8] = dense, B
        discrete = expm(dt * augmented)
        A_bar, B_bar = discrete[:8, :8], discrete[:8, 8]
    else:
        left = np.linalg.inv(np.eye(8) - dt / 2 * dense)
        A_bar, B_bar = left @ (np.eye(8) + dt / 2 * dense), left @ (dt * B)
    expected, state = [], B_bar
    for _ in range(length):
        expected.append(2 * (C @ state).real)
        state = A_bar @ state
    found = s4d_kernel(A, B, C, dt, length, discretization)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    for short in (1, 2, 7, 50):
        np.testing.assert_allclose(
            s4d_kernel(A, B, C, dt, short, discretization), expected[:short], atol=1e-10
        )
    both = s4d_kernel(A, B, np.stack([C, 2 * C]), np.array([dt, dt]), length, discretization)
    np.testing.assert_allclose(both, [expected, 2 * np.array(expected)], atol=1e-10)


def transfer(A, b, s):
    return np.linalg.solve(s * np.eye(len(b)) - A, b)[:4]


def test_the_normal_part_converges_to_legs():
    sizes, points = np.array([16, 32, 64, 128, 256]), (0.5j, 2j, 5j)
    gaps = np.empty((len(sizes), 3))
    for i, n in enumerate(sizes):
        A, b, p = hippo_legs(n)
        normal = A + np.outer(p, p)
        for j, s in enumerate(points):
            gaps[i, j] = np.linalg.norm(transfer(A, b, s) - transfer(normal, b / 2, s))
    slopes = np.polyfit(np.log(sizes), np.log(gaps), 1)[0]
    np.testing.assert_allclose(slopes, -1, atol=0.15)


def test_the_full_system_has_legendre_kernels():
    A, b, _ = hippo_legs(16)
    for t in (0.0, 0.3, 1.0, 2.5):
        found = expm(t * A) @ b
        n = np.arange(6)
        expected = np.sqrt(2 * n + 1) * eval_legendre(n, 2 * np.exp(-t) - 1) * np.exp(-t)
        np.testing.assert_allclose(found[:6], expected, atol=1e-10)


def test_initial_modes_are_those_of_the_normal_matrix():
    A, b, p = hippo_legs(12)
    normal = A + np.outer(p, p)
    poles, inputs = s4d_init(12, "legs")
    for t in (0.1, 0.7):
        modes = 2 * (np.abs(inputs) ** 2 * np.exp(t * poles)).sum().real
        np.testing.assert_allclose(modes, b @ expm(t * normal) @ b, rtol=1e-10)


def test_frequencies():
    for kind in KINDS[:3]:
        A, B = s4d_init(256, kind)
        assert A.shape == B.shape == (128,) and (A.real < 0).all()
        assert (np.diff(A.imag) > 0).all() and A.imag[0] >= 0
        np.testing.assert_allclose(A.real, -0.5)
    largest = {kind: s4d_init(256, kind)[0].imag.max() for kind in ("legs", "inv")}
    assert abs(largest["inv"] / largest["legs"] - 1) < 0.01
    np.testing.assert_allclose(np.diff(s4d_init(64, "lin")[0].imag), np.pi)
    np.testing.assert_array_equal(s4d_init(6, "real")[0], [-1, -2, -3])
    for bad in (0, 3):
        with pytest.raises(ValueError, match="even"):
            s4d_init(bad)
    with pytest.raises(ValueError, match="legs"):
        s4d_init(4, "fourier")


def layer(dtype=torch.float64, **params):
    generator = torch.Generator().manual_seed(0)
    return build_module(lambda: DiagonalSSM(3, 16, **params), generator, dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_convolution_equals_recurrence(kind, dtype, atol):
    ssm = layer(dtype, init=kind, discretization="bilinear" if kind == "lin" else "zoh")
    u = torch.randn(3, 150, dtype=dtype, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for rate in (1.0, 2.0):
            system, state, outputs = ssm.recurrence(rate), 0.0, []
            for t in range(u.shape[1]):
                state, y = ssm.step(system, state, u[:, t].double())
                outputs.append(y)
            found = ssm(u, rate)
            assert found.dtype == dtype
            expected = torch.stack(outputs, dim=1)
            scale = expected.abs().max()
            assert ((found.double() - expected).abs().max() <= atol * max(scale, 1)).item()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_convolution_is_causal_and_does_not_wrap_around(bidirectional):
    ssm = layer(bidirectional=bidirectional)
    u = torch.randn(2, 3, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    changed = u.clone()
    changed[..., 25:] += 100
    with torch.no_grad():
        early = (ssm(u) - ssm(changed))[..., :25].abs().max()
    assert early > 1e-3 if bidirectional else early < 1e-10


def test_both_directions_are_sums_over_the_whole_series():
    u, past, ahead = np.random.RandomState(2).standard_normal((3, 1, 9))
    expected = [
        sum(past[0, t - s] * u[0, s] for s in range(t + 1))
        + sum(ahead[0, s - t - 1] * u[0, s] for s in range(t + 1, 9))
        for t in range(9)
    ]
    found = causal_convolution(*map(torch.from_numpy, (u, past, ahead)))[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_kernel_gradients_are_those_of_finite_differences():
    ssm = layer()
    parameters = dict(ssm.named_parameters())
    u = torch.randn(3, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def output(*values):
        return torch.func.functional_call(ssm, dict(zip(parameters, values)), (u,))

    values = tuple(p.detach().requires_grad_() for p in ssm.parameters())
    assert torch.autograd.gradcheck(output, values)


def test_state_space_parameters_have_their_own_learning_rate():
    model = S4DClassifier(**QUICK, ssm_lr=1e-3, train_B=False).fit(SERIES, TARGET > 0)
    ssm = model.module_.blocks[0].ssm
    groups = model.net_.optimizer_.param_groups
    own = {id(p) for g in groups if g["weight_decay"] == 0 and g["initial_lr"] == 1e-3
           for p in g["params"]}  # fmt: skip
    assert {id(ssm.log_dt), id(ssm.log_decay), id(ssm.frequency)} <= own
    assert id(ssm.C) not in own and not ssm.B.requires_grad


@pytest.mark.parametrize("how", ["mean", "max", "last"])
def test_pooling_ignores_what_is_padded(how):
    values, mask = map(torch.from_numpy, Ragged(SERIES, axis=1).to_padded(fill_value=99.0))
    pick = {"mean": np.mean, "max": np.max, "last": lambda s, axis: s[:, -1]}[how]
    expected = [pick(s, axis=1) for s in SERIES]
    np.testing.assert_allclose(pool_time(values, mask, how).numpy(), expected, atol=1e-12)
    assert pool_time(values[:1], mask[:1] & False, how).tolist() == [[0, 0]]


# Inputs and the estimator contract.


@pytest.mark.parametrize("params", [{}, {"bidirectional": True, "pooling": "max"}])
def test_all_forms_of_series_give_the_same_model(params):
    forms = [SERIES, padded(SERIES), padded(SERIES, extra=5), Ragged(SERIES, axis=1)]
    regressor = S4DRegressor(**QUICK, **params)
    _kit.check_equivalent_inputs(regressor, forms, TARGET)
    _kit.check_row_independence(regressor, Ragged(SERIES, axis=1), TARGET)


def test_selection_pickle_and_transformer_forms():
    X, classifier = Ragged(SERIES, axis=1), S4DClassifier(**QUICK)
    _kit.check_pickle_and_clone(classifier, X, TARGET > 0)
    _kit.check_selection(classifier, X, TARGET > 0, {"init": ["legs", "lin"]}, "accuracy")
    transformer = S4DTransformer(n_kernels=5, d_state=8, random_state=0)
    _kit.check_equivalent_inputs(transformer, [SERIES, padded(SERIES), X], TARGET)
    _kit.check_row_independence(transformer, X, TARGET)


def test_table_and_one_channel_agree_and_channels_are_checked():
    X = RNG.standard_normal((20, 15))
    models = [S4DRegressor(**QUICK).fit(x, X[:, 0]) for x in (X, X[:, None, :])]
    np.testing.assert_allclose(models[0].predict(X), models[1].predict(X[:, None, :]), atol=1e-10)
    with pytest.raises(ValueError, match="channels"):
        models[0].predict(np.zeros((2, 15, 15)))
    with pytest.raises(ValueError, match="features"):
        models[0].predict(X[:, :10])
    assert models[1].predict(X[:, None, :10]).shape == (20,)
    for bad in ({"d_state": 7}, {"dt_min": 0.2}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            S4DRegressor(**{**QUICK, **bad}).fit(X, X[:, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stream_agrees_with_transform(dtype):
    series = [s.astype(dtype) for s in SERIES]
    model = S4DRegressor(**QUICK).fit(series, TARGET)
    for s in series[:4]:
        outputs = list(model.stream(s.T))
        assert outputs[0].shape == (8,) and outputs[0].dtype == dtype
        np.testing.assert_allclose(np.mean(outputs, axis=0), model.transform([s])[0], atol=1e-5)
    model.set_params(bidirectional=True).fit(series, TARGET)
    with pytest.raises(ValueError, match="bidirectional"):
        next(model.stream(series[0].T))


def test_training_goes_on_after_the_schedule_has_ended():
    model = S4DRegressor(**QUICK).fit(SERIES, TARGET)
    before = model.predict(SERIES)
    model.partial_fit(SERIES, TARGET)
    assert not np.allclose(before, model.predict(SERIES)) and model.n_iter_ == 3


# The claim.


def cycles(n_samples, rng):
    """Four classes: 2, 4, 6 or 8 cycles in 128 steps, at any phase, in noise."""
    y = rng.randint(4, size=n_samples)
    phase = rng.uniform(0, 2 * np.pi, size=(n_samples, 1))
    X = np.sin(2 * np.pi * 2 * (y[:, None] + 1) * np.arange(128) / 128 + phase)
    return (X + 0.3 * rng.standard_normal(X.shape))[:, None].astype(np.float32), y


def test_another_sampling_rate_is_a_factor_on_the_step_size():
    rng = np.random.RandomState(0)
    (X, y), (X_test, y_test) = cycles(400, rng), cycles(200, rng)
    model = S4DClassifier(
        32, n_layers=2, max_epochs=6, batch_size=32, dropout=0.1, random_state=0
    ).fit(X, y)
    accuracy = model.score(X_test, y_test)
    half = X_test[:, :, ::2]
    assert accuracy >= 0.95
    assert (model.predict(half, rate=2.0) == y_test).mean() >= accuracy - 0.05
    assert (model.predict(half) == y_test).mean() <= 0.5
    with pytest.raises(ValueError, match="rate"):
        model.predict(half, rate=0)


def early_tone(n_samples, rng, length=500):
    """Which of four tones sounds in the first 20 steps; noise everywhere."""
    y = rng.randint(4, size=n_samples)
    X = 0.3 * rng.standard_normal((n_samples, length))
    phase = rng.uniform(0, 2 * np.pi, size=(n_samples, 1))
    X[:, :20] += np.sin(2 * np.pi * 0.05 * (y[:, None] + 1) * np.arange(20) + phase)
    return X[:, None].astype(np.float32), y


def s4d(epochs, **params):
    return S4DClassifier(
        32, n_layers=2, max_epochs=epochs, batch_size=32, dropout=0.1, random_state=0, **params
    )


def test_a_tone_is_remembered():
    rng = np.random.RandomState(0)
    (X, y), (X_test, y_test) = early_tone(400, rng, 200), early_tone(200, rng, 200)
    assert s4d(8).fit(X, y).score(X_test, y_test) >= 0.8


@pytest.mark.slow
def test_a_tone_is_remembered_for_five_hundred_steps():
    rng = np.random.RandomState(0)
    (X, y), (X_test, y_test) = early_tone(800, rng), early_tone(200, rng)
    assert s4d(5).fit(X, y).score(X_test, y_test) >= 0.9
    # Poles without frequencies can still learn them, but not as fast.
    assert damped(s4d(5), X, y).score(X_test, y_test) <= 0.6


@pytest.mark.slow
def test_a_recurrent_network_forgets_the_tone():
    rng = np.random.RandomState(0)
    (X, y), (X_test, y_test) = early_tone(800, rng), early_tone(200, rng)
    assert recurrent_accuracy(X, y, X_test, y_test, epochs=3) <= 0.6


class _Damped(S4DClassifier):
    """Frequencies 0 and real parts -10 at the start."""

    def _on_fit_begin(self, module, data):
        super()._on_fit_begin(module, data)
        for block in module.blocks:
            block.ssm.log_decay.fill_(np.log(10.0))
            block.ssm.frequency.zero_()


def damped(model, X, y):
    return _Damped(**model.get_params()).fit(X, y)


class _Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = torch.nn.GRU(1, 32, num_layers=2, batch_first=True)
        self.head = torch.nn.Linear(32, 4)

    def forward(self, u):
        return self.head(self.gru(u)[0][:, -1])


def recurrent_accuracy(X, y, X_test, y_test, epochs):
    """A GRU of the same width, read at the last step."""
    generator = torch.Generator().manual_seed(0)
    net = build_module(_Recurrent, generator)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    u, target = torch.from_numpy(X).mT, torch.from_numpy(y)
    for _ in range(epochs):
        for rows in torch.randperm(len(y), generator=generator).split(32):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(u[rows]), target[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        return float((net(torch.from_numpy(X_test).mT).argmax(1).numpy() == y_test).mean())


def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split(X.astype(np.float32), y, random_state=0, stratify=y)


def test_random_kernels_and_a_linear_model_read_digits():
    X, X_test, y, y_test = digits()
    transformer = S4DTransformer(random_state=0)
    model = make_pipeline(transformer, StandardScaler(), RidgeClassifierCV()).fit(X, y)
    assert model.score(X_test, y_test) >= 0.9


@pytest.mark.slow
def test_digits_as_series():
    X, X_test, y, y_test = digits()
    model = S4DClassifier(
        32, n_layers=2, d_state=32, max_epochs=12, batch_size=32, dropout=0.1, random_state=0
    )
    assert model.fit(X, y).score(X_test, y_test) >= 0.93
