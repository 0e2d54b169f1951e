import itertools

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import r2_score
from sklearn.neural_network import MLPClassifier

from skpapers.neural_network import build_module
from skpapers.structure import Ragged
from skpapers.symmetry import (
    DeepSetsClassifier,
    DeepSetsOutlierDetector,
    DeepSetsRegressor,
    PermutationEquivariantLinear,
    SetExpansionRanker,
)
from skpapers.symmetry._odd_element import make_odd
from skpapers.symmetry._set_expansion import draw_pairs, leave_one_out, nth_outside
from skpapers.symmetry._set_layers import DeepSetsNetwork, pool
from tests.structure import _kit

RNG = np.random.RandomState(0)
SIZES = RNG.randint(0, 7, size=40)
SIZES[:2] = 0, 6
BAGS = [RNG.standard_normal((m, 3)) for m in SIZES]
TARGET = np.array([bag.sum() for bag in BAGS])
QUICK = {"hidden": 16, "latent": 8, "max_epochs": 3, "random_state": 0}


def padded(bags, extra=0):
    out = np.full((len(bags), max(map(len, bags)) + extra, bags[0].shape[1]), np.nan)
    for row, bag in zip(out, bags):
        row[: len(bag)] = bag
    return out


def regressor(**params):
    return DeepSetsRegressor(**{**QUICK, **params})


# Symmetry.


@pytest.mark.parametrize("pooling", ["sum", "mean", "max"])
@pytest.mark.parametrize("equivariant_layers", [0, 2])
@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_order_and_padding_do_not_matter(pooling, equivariant_layers, dtype, atol):
    bags = [bag.astype(dtype) for bag in BAGS]
    model = regressor(pooling=pooling, equivariant_layers=equivariant_layers).fit(bags, TARGET)
    expected = model.predict(bags)
    assert expected.dtype == dtype and np.ptp(expected) > 0
    rng = np.random.RandomState(1)
    wide = padded(bags, extra=4).astype(dtype)
    shuffled = np.stack([row[rng.permutation(len(row))] for row in wide])
    for X in ([rng.permutation(bag) for bag in bags], wide, shuffled, Ragged(bags)):
        np.testing.assert_allclose(model.predict(X), expected, atol=atol)


def test_full_and_ragged_paths_agree():
    X = np.random.RandomState(2).standard_normal((10, 5, 3))
    with_empty = [*X, np.empty((0, 3))]
    for pooling in ("sum", "mean", "max"):
        model = regressor(pooling=pooling, equivariant_layers=1).fit(BAGS, TARGET)
        np.testing.assert_allclose(model.predict(X), model.predict(with_empty)[:-1], atol=1e-10)


def test_copies_of_one_element_as_array_and_as_list():
    copies = np.repeat(np.random.RandomState(3).standard_normal((4, 1, 3)), 5, axis=1)
    model = regressor().fit(BAGS, TARGET)
    np.testing.assert_allclose(model.predict(list(copies)), model.predict(copies), atol=1e-10)
    average = regressor(pooling="mean").fit(BAGS, TARGET)
    np.testing.assert_allclose(average.predict(copies), average.predict(copies[:, :1]), atol=1e-10)


@pytest.mark.parametrize("pooling", ["mean", "max", "sum"])
@pytest.mark.parametrize("tied", [False, True])
def test_layer_is_equivariant(pooling, tied):
    generator = torch.Generator().manual_seed(0)
    layer = build_module(
        lambda: PermutationEquivariantLinear(3, 4, pooling, tied), generator, torch.float64
    )
    x = torch.randn(6, 3, dtype=torch.float64, generator=generator)
    for order in itertools.islice(itertools.permutations(range(6)), 0, 720, 37):
        order = torch.tensor(order)
        assert torch.allclose(layer(x[order]), layer(x)[order], atol=1e-10, rtol=0)
    flat, lengths = torch.cat([x, x[:2]]), torch.tensor([6, 0, 2])
    expected = torch.cat([layer(x), layer(x[:2])])
    assert torch.allclose(layer(flat, lengths), expected, atol=1e-10, rtol=0)
    assert sum(p.numel() for p in layer.parameters()) == (2 - tied) * 3 * 4 + 4


def test_averaging_over_all_permutations_leaves_two_parameters():
    theta = np.random.RandomState(4).standard_normal((4, 4))
    permutations = [np.eye(4)[list(p)] for p in itertools.permutations(range(4))]
    projected = np.mean([P.T @ theta @ P for P in permutations], axis=0)
    off_diagonal = projected[~np.eye(4, dtype=bool)]
    np.testing.assert_allclose(off_diagonal, off_diagonal[0], atol=1e-12)
    np.testing.assert_allclose(np.diag(projected), projected[0, 0], atol=1e-12)
    layer = PermutationEquivariantLinear(1, 1, pooling="mean").double()
    with torch.no_grad():  # diagonal lambda + gamma, elsewhere gamma; the mean divides by 4
        layer.element.weight.fill_(projected[0, 0] - off_diagonal[0])
        layer.context.weight.fill_(-4 * off_diagonal[0])
        layer.element.bias.zero_()
        found = layer(torch.eye(4, dtype=torch.float64)[..., None])[..., 0].numpy()
    np.testing.assert_allclose(found, projected, atol=1e-10)


def test_mean_and_variance_are_represented_exactly():
    phi = _Function(lambda x: torch.cat([x, x**2], dim=-1))
    rho = _Function(lambda s: torch.stack([s[:, 0], s[:, 1] - s[:, 0] ** 2], dim=1))
    network = DeepSetsNetwork(phi, rho, "mean")
    bags = [bag[:, :1] for bag in BAGS if len(bag)]
    values, mask = map(torch.from_numpy, Ragged(bags).to_padded())
    expected = [[bag.mean(), bag.var()] for bag in bags]
    np.testing.assert_allclose(network(values, mask).numpy(), expected, atol=1e-10)


class _Function(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
def test_pooling_equals_numpy_and_an_empty_set_gives_zeros(how):
    bags = [-abs(bag) - 1 for bag in BAGS]  # a padded zero would be the maximum
    lengths = torch.from_numpy(SIZES)
    found = pool(torch.from_numpy(np.concatenate(bags)), how, lengths).numpy()
    expected = [getattr(bag, how)(axis=0) if len(bag) else np.zeros(3) for bag in bags]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert pool(torch.zeros(2, 0, 3), how).tolist() == [[0, 0, 0]] * 2


def test_gradients_of_the_ragged_path_are_those_of_finite_differences():
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([2, 0, 3])
    for how in ("sum", "mean", "max"):
        assert torch.autograd.gradcheck(pool, (x.requires_grad_(), how, lengths))


# The input forms and the estimator contract.


def test_all_forms_of_sets_give_the_same_model():
    forms = [BAGS, padded(BAGS), padded(BAGS, extra=2), Ragged(BAGS)]
    _kit.check_equivalent_inputs(regressor(), forms, TARGET)
    _kit.check_equivalent_inputs(
        DeepSetsClassifier(**QUICK), forms, np.where(TARGET > 0, "up", "down")
    )
    for model in (regressor(), DeepSetsOutlierDetector(hidden=8, max_epochs=2, random_state=0)):
        _kit.check_row_independence(model, Ragged(BAGS), TARGET)
        _kit.check_pickle_and_clone(model, Ragged(BAGS), TARGET)
    _kit.check_selection(regressor(), Ragged(BAGS), TARGET, {"pooling": ["sum", "max"]}, "r2")


def test_only_empty_sets():
    X = Ragged([np.empty((0, 2))] * 4)
    for pooling in ("sum", "mean", "max"):
        model = regressor(pooling=pooling, equivariant_layers=1).fit(X, np.ones(4))
        assert np.isfinite(model.predict(X)).all()
    model = DeepSetsOutlierDetector(max_epochs=2, random_state=0)
    with pytest.raises(ValueError, match="all sets of X are empty"):
        model.fit(X)
    model.fit([bag[:, :2] for bag in BAGS])
    assert model.predict(X).tolist() == [-1] * 4
    assert [len(scores) for scores in model.score_elements(X)] == [0] * 4


def test_width_of_the_elements_is_checked():
    model = regressor().fit(BAGS, TARGET)
    with pytest.raises(ValueError, match="1 features.*3 features"):
        model.predict(np.zeros((2, 3)))
    _kit.check_error_text(regressor(), np.zeros((2, 2, 2, 2)), [0, 1], "Accepted forms")


def test_constant_and_badly_scaled_channels():
    scale = np.array([1e12, 1e-12, 0.0])
    X = [bag * scale + [0, 1, 7] for bag in BAGS]
    assert np.isfinite(regressor().fit(X, TARGET).predict(X)).all()


def test_augmentation_is_used_in_training_only():
    calls = []

    def augment(values, generator):
        calls.append(values.shape)
        return values + torch.randn(values.shape, generator=generator, dtype=values.dtype)

    first = regressor(augment=augment, early_stopping=True).fit(BAGS, TARGET)
    n_calls = len(calls)
    assert n_calls == first.n_iter_
    second = regressor(augment=augment, early_stopping=True).fit(BAGS, TARGET)
    np.testing.assert_array_equal(first.predict(BAGS), second.predict(BAGS))
    assert len(calls) == 2 * n_calls
    plain = regressor(early_stopping=True).fit(BAGS, TARGET)
    assert not np.allclose(plain.predict(BAGS), first.predict(BAGS))


def test_several_targets_transform_and_partial_fit():
    y = np.column_stack([TARGET, SIZES])
    model = regressor().fit(BAGS, y)
    assert model.predict(BAGS).shape == (40, 2) and model.transform(BAGS).shape == (40, 8)
    model.partial_fit(BAGS, y)
    assert model.n_iter_ == 4


# The claim.


def digit_sums(n_sets, seed=0):
    """Sets of 1 to 10 images to train on, and of 20 and of 1 to 10 other images to test on."""
    rng = np.random.RandomState(seed)
    images, labels = load_digits(return_X_y=True)
    order = rng.permutation(len(images))
    images, labels = images[order].astype(np.float32) / 16, labels[order].astype(float)

    def draw(n_sets, sizes, first, last):
        index = [rng.randint(first, last, size=m) for m in rng.choice(sizes, size=n_sets)]
        return [images[i] for i in index], np.array([labels[i].sum() for i in index])

    short = np.arange(1, 11)
    return draw(n_sets, short, 0, 1200), draw(500, [20], 1200, 1797), draw(500, short, 1200, 1797)


def digit_adder(**params):
    """As in the paper, rho is linear."""
    return DeepSetsRegressor(n_rho_layers=1, loss="absolute_error", random_state=0, **params)


def mae(prediction, y):
    return np.abs(prediction - y).mean()


def test_sums_of_digits_in_sets_longer_than_in_training():
    train, long, short = digit_sums(6000)
    model = digit_adder(max_epochs=12, lr=3e-3).fit(*train)
    assert mae(model.predict(long[0]), long[1]) <= 0.5 * mae(np.median(long[1]), long[1])
    assert mae(model.predict(short[0]), short[1]) <= 0.2 * mae(np.median(short[1]), short[1])


@pytest.mark.slow
def test_sums_of_digits_at_full_size_and_a_recurrent_network():
    train, long, short = digit_sums(6000)
    model = digit_adder(max_epochs=40).fit(*train)
    error = mae(model.predict(long[0]), long[1])
    assert error <= 0.5 * mae(np.median(long[1]), long[1])
    assert mae(model.predict(short[0]), short[1]) <= 0.2 * mae(np.median(short[1]), short[1])
    assert mae(recurrent_prediction(train, long[0], epochs=10), long[1]) >= 2 * error


def recurrent_prediction(train, X, epochs):
    """Predict with a GRU of the same width, trained on the same sets in the order given."""
    generator = torch.Generator().manual_seed(0)
    net = build_module(_Recurrent, generator)
    mean, scale = train[1].mean(), train[1].std()
    target = torch.from_numpy((train[1] - mean) / scale).float()
    values, mask = map(torch.from_numpy, Ragged(train[0]).to_padded())
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(target), generator=generator).split(64):
            optimizer.zero_grad()
            (net(values[rows], mask[rows]) - target[rows]).abs().mean().backward()
            optimizer.step()
    values, mask = map(torch.from_numpy, Ragged(X).to_padded())
    with torch.no_grad():
        return net(values, mask).numpy() * scale + mean


class _Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = torch.nn.GRU(64, 64, batch_first=True)
        self.head = torch.nn.Linear(64, 1)

    def forward(self, values, mask):
        states, _ = self.gru(values)
        return self.head(states[torch.arange(len(values)), mask.sum(dim=1) - 1])[:, 0]


def population(rng, A, angles, n_points=300):
    """Samples of N(0, R A A' R'), and the entropy of their first coordinate."""
    turn = np.array([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]])
    roots = turn.transpose(2, 0, 1) @ A
    X = rng.standard_normal((len(angles), n_points, 2)) @ roots.transpose(0, 2, 1)
    variance = (roots[:, 0] ** 2).sum(axis=1)
    return X, 0.5 * np.log(2 * np.pi * np.e * variance)


def test_population_statistics_that_the_mean_does_not_tell():
    rng = np.random.RandomState(0)
    A = rng.standard_normal((2, 2))
    X, y = population(rng, A, np.linspace(0, np.pi, 256))
    X_test, y_test = population(rng, A, rng.uniform(0, np.pi, 256))
    model = DeepSetsRegressor(32, 32, pooling="mean", max_epochs=60, lr=2e-3, random_state=0)
    model.fit(X.astype(np.float32), y)
    assert model.score(X_test.astype(np.float32), y_test) >= 0.95
    means = X.mean(axis=1), X_test.mean(axis=1)
    gamma = 1 / (2 * means[0].var())
    ridge = KernelRidge(kernel="rbf", gamma=gamma, alpha=0.1).fit(means[0], y - y.mean())
    assert r2_score(y_test, ridge.predict(means[1]) + y.mean()) <= 0.2


def odd_points(n_sets, rng, d=5):
    """Eight points, seven of one cluster and one beside it."""
    X = rng.standard_normal((n_sets, 8, d)) + 5 * rng.standard_normal((n_sets, 1, d))
    u = rng.standard_normal((n_sets, d))
    odd = rng.randint(8, size=n_sets)
    X[np.arange(n_sets), odd] += 4 * u / np.linalg.norm(u, axis=1, keepdims=True)
    return X.astype(np.float32), odd


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_odd_element_of_a_set():
    rng = np.random.RandomState(0)
    (X, odd), (X_test, odd_test) = odd_points(3000, rng), odd_points(1000, rng)
    model = DeepSetsOutlierDetector(random_state=0).fit(X, odd_index=odd)
    assert (model.predict(X_test) == odd_test).mean() >= 0.79
    scores = model.score_elements(X_test)
    np.testing.assert_allclose([s.sum() for s in scores], 1, atol=1e-5)
    assert [s.argmax() for s in scores] == model.predict(X_test).tolist()

    alone = MLPClassifier((64, 64), max_iter=8, random_state=0)
    alone.fit(X.reshape(-1, 5), (np.arange(8) == odd[:, None]).ravel())
    probability = alone.predict_proba(X_test.reshape(-1, 5))[:, 1].reshape(-1, 8)
    assert (probability.argmax(axis=1) == odd_test).mean() <= 0.45


def test_the_odd_element_without_labels():
    rng = np.random.RandomState(1)
    clean = (rng.standard_normal((1000, 8, 5)) + 5 * rng.standard_normal((1000, 1, 5))).astype("f")
    X_test, odd_test = odd_points(500, rng)
    model = DeepSetsOutlierDetector(max_epochs=20, random_state=0).fit(clean)
    assert (model.predict(X_test) == odd_test).mean() >= 0.6


def test_made_up_odd_elements_come_from_another_set():
    values = torch.arange(12.0).reshape(4, 3, 1)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        changed, odd = make_odd(values, mask, generator)
        different = (changed != values)[..., 0]
        assert not different[3].any() and different.sum() <= 3
        for i in torch.nonzero(different.any(dim=1))[:, 0]:
            assert different[i].nonzero()[:, 0].tolist() == [int(odd[i])] and mask[i, odd[i]]
            origin = int(changed[i, odd[i], 0])
            assert origin // 3 != i and mask[origin // 3, origin % 3]


def test_positions_of_odd_elements_are_checked():
    for odd in ([6] * 40, [-1] * 40, [0.5] * 40, [[0]] * 40):
        with pytest.raises(ValueError, match="odd_index"):
            DeepSetsOutlierDetector().fit(BAGS, odd_index=odd)


# Set expansion.

IDS = torch.tensor([[0, 2, 3], [1, 4, 5], [5, 6, 6], [6, 6, 6]])  # of 6 items, padded with 6


def test_numbers_outside_a_set_are_counted_right():
    for row, members in zip(IDS, [{0, 2, 3}, {1, 4, 5}, {5}, set()]):
        outside = sorted(set(range(6)) - members)
        n = torch.arange(len(outside))
        assert nth_outside(row.expand(len(n), -1), n, 6).tolist() == outside


def test_pairs_are_uniform_and_consistent():
    generator = torch.Generator().manual_seed(0)
    context, inside, outside, valid = draw_pairs(IDS.repeat(3000, 1), 6, generator)
    assert valid.tolist() == [True, True, False, False] * 3000
    for row, members in enumerate([{0, 2, 3}, {1, 4, 5}]):
        taken = inside[row::4]
        assert all(
            set(c.tolist()) - {6} == members - {int(x)} for c, x in zip(context[row::4], taken)
        )
        for draws, support in ((taken, members), (outside[row::4], set(range(6)) - members)):
            counts = torch.bincount(draws, minlength=6)
            assert set(counts.nonzero()[:, 0].tolist()) == support
            assert (counts[list(support)] / 3000 - 1 / 3).abs().max() < 0.05


def test_every_member_is_left_out_once():
    held_out, rest = leave_one_out(IDS, 6)
    assert held_out.tolist() == [0, 2, 3, 1, 4, 5, 5]
    assert rest[1].tolist() == [0, 6, 3] and rest[6].tolist() == [6, 6, 6]


def topics(n_sets, rng, n_topics=5, width=12):
    """Sets of four items of one topic."""
    topic = rng.randint(n_topics, size=n_sets)
    return [width * t + rng.choice(width, 4, replace=False) for t in topic]


def test_sets_are_extended_by_their_topic():
    rng = np.random.RandomState(0)
    train, test = topics(400, rng), topics(50, rng)
    model = SetExpansionRanker(lr=5e-3, random_state=0).fit(train)
    found = model.recommend(test, k=8)
    topic = np.array([ids[0] // 12 for ids in test])
    assert (found // 12 == topic[:, None]).mean() >= 0.95
    assert not any(set(items) & set(ids) for items, ids in zip(found, test))
    # A member of the topic has 9 candidates of equal merit: the mean of 1/1 ... 1/9.
    assert model.score(test) >= 0.9 * np.mean(1 / np.arange(1, 10))


def test_features_extend_sets_by_items_never_seen():
    rng = np.random.RandomState(1)
    features = np.repeat(rng.standard_normal((5, 4)), 12, axis=0)
    features += 0.1 * rng.standard_normal(features.shape)
    seen = [ids[ids % 12 < 9] for ids in topics(400, rng)]
    model = SetExpansionRanker(lr=5e-3, random_state=0).fit(seen, item_features=features)
    query = [[12 * t, 12 * t + 1] for t in range(5)]
    scores = model.predict_scores(query)
    unseen = np.flatnonzero(np.arange(60) % 12 >= 9)
    assert (unseen[scores[:, unseen].argmax(axis=1)] // 12 == np.arange(5)).all()


def test_lists_and_indicators_are_the_same_sets():
    rng = np.random.RandomState(2)
    sets = topics(60, rng)
    table = np.zeros((60, 60), dtype=np.float32)
    table[np.arange(60)[:, None], sets] = 1
    fits = [
        SetExpansionRanker(max_epochs=3, random_state=0).fit(X)
        for X in (sets, [list(ids[::-1]) for ids in sets], table)
    ]
    first = fits[0].predict_scores(sets)
    assert first.shape == (60, table.shape[1]) and first.dtype == np.float32
    np.testing.assert_array_equal(np.isneginf(first), table > 0)
    for model in fits[1:]:
        np.testing.assert_allclose(model.predict_scores(table), first, atol=1e-5)


def test_sets_without_a_pair_leave_the_initial_network():
    with pytest.warns(UserWarning, match="nothing to learn from"):
        model = SetExpansionRanker(max_epochs=2, random_state=0).fit([[0], [1], []])
    assert np.isfinite(model.score([[0], [1]]))
    with pytest.warns(UserWarning, match="nothing to learn from"):
        again = SetExpansionRanker(max_epochs=9, random_state=0).fit([[0], [1], []])
    np.testing.assert_array_equal(model.predict_scores([[0]]), again.predict_scores([[0]]))
    assert model.recommend([[0, 1], [1]], k=2).tolist() == [[-1, -1], [0, -1]]
    with pytest.raises(ValueError, match="0 to 1"):
        model.predict_scores([[2]])
    with pytest.raises(ValueError, match="all sets of X are empty"):
        model.score(np.zeros((2, 2)))
