import functools
import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, truncnorm
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from skpapers.density import FractalDensity
from skpapers.density._fractal_geometry import attention_pairs, patch_sizes
from skpapers.density._fractal_network import (
    Architecture,
    FractalNetwork,
    Generator,
    scaled,
    training_mask,
    uniform_mask,
)
from skpapers.density._fractal_sampler import Sampler, cosine_schedule
from skpapers.density._transformer import grid_rotation
from skpapers.neural_network import build_module

STATES = np.array(list(itertools.product([0, 1], repeat=4)))
TABLE = np.random.RandomState(0).dirichlet(np.ones(16))
ROWS = STATES[np.random.RandomState(1).choice(16, 1500, p=TABLE)]
TINY = {"widths": 16, "depths": 1, "lr": 5e-3, "random_state": 0}


def density(*args, **params):
    return FractalDensity(*args, **{**TINY, **params})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n_rows=40, shape=(2, 4, 4), seed=0):
    return np.random.RandomState(seed).randint(3, size=(n_rows, np.prod(shape)))


def raster(shape, patches):
    """Indices of the entries of (c, h, w) in the order in which the levels visit them."""
    index = np.arange(np.prod(shape)).reshape(shape)
    for height, width in patches[1:]:
        index = [
            part[:, i : i + height, j : j + width]
            for part in (index if isinstance(index, list) else [index])
            for i in range(0, part.shape[1], height)
            for j in range(0, part.shape[2], width)
        ]
    return np.concatenate([part.ravel() for part in index])


def network(patches, masked=(), width=16, n_channels=1, n_codes=3, depth=1, **options):
    levels = len(patches) - 1
    architecture = Architecture(
        n_channels=n_channels,
        n_codes=n_codes,
        patches=patches,
        masked=masked or (False,) * levels,
        widths=(width,) * (levels + 1),
        depths=(depth,) * (levels + 1),
        n_heads=2,
        n_labels=0,
    )
    n_codes = torch.full((n_channels, *patches[0]), n_codes)
    make = functools.partial(FractalNetwork, architecture, n_codes)
    return build_module(make, generator(), **{"dtype": torch.float64, **options}).eval()


# Exact likelihoods.


@pytest.mark.parametrize("sizes", [(4, 1), (4, 2, 1), (8, 4, 2, 1), (6, 3, 1)])
@pytest.mark.parametrize(("epochs", "lr"), [(1, 1e-12), (4, 5e-3)])
def test_probabilities_sum_to_one_before_and_after_training(sizes, epochs, lr):
    model = density(sizes=sizes, max_epochs=epochs, lr=lr).fit(ROWS)
    assert abs(np.exp(model.score_samples(STATES)).sum() - 1) < 1e-5


@pytest.mark.parametrize(
    ("shape", "sizes"), [((2, 4, 4), (4, 1)), ((2, 4, 4), (4, 2, 1)), ((1, 1, 8), (8, 4, 2, 1))]
)
def test_an_entry_changes_its_own_term_and_later_ones_only(shape, sizes):
    X = images(shape=shape)
    image_shape = None if shape[1] == 1 else shape
    model = density(image_shape, sizes=sizes, max_epochs=1).fit(X)
    order = raster(shape, model.sizes_)
    terms = model.token_log_prob(X[:1])
    for position, entry in enumerate(order):
        changed = X[:1].copy()
        changed[0, entry] = (changed[0, entry] + 1) % 3
        moved = np.abs(model.token_log_prob(changed) - terms)[0, order] > 1e-12
        assert not moved[:position].any() and moved[position]
        assert moved[position + 1 :].any() or position == len(order) - 1


class Recorder(Sampler):
    """A sampler that notes the log probability of every code it is made to draw."""

    def __init__(self, *args):
        super().__init__(*args)
        self.terms = []

    def _draw(self, log_p, known):
        self.terms.append(log_p.gather(1, known[:, None])[:, 0])
        return super()._draw(log_p, known)


@pytest.mark.parametrize("sizes", [(4, 1), (4, 2, 1)])
def test_one_pass_equals_one_step_after_another(sizes):
    X = images()
    model = density((2, 4, 4), sizes=sizes, max_epochs=2, depths=2).fit(X)
    recorder = Recorder(model.module_, generator())
    codes = torch.from_numpy(X).reshape(-1, 2, 4, 4)
    with torch.no_grad():
        drawn = recorder.sample(torch.zeros(len(X), dtype=torch.long), codes)
    assert torch.equal(drawn, codes)
    sequential = torch.stack(recorder.terms, 1).numpy()
    order = raster((2, 4, 4), model.sizes_)
    np.testing.assert_allclose(sequential, model.token_log_prob(X)[:, order], atol=1e-10)


@pytest.mark.parametrize("sizes", [(4, 1), (4, 2, 1)])
def test_samples_have_the_probabilities_of_the_scores(sizes):
    model = density(sizes=sizes, max_epochs=3).fit(ROWS)
    counts = np.bincount(model.sample(20000).astype(int) @ [8, 4, 2, 1], minlength=16)
    assert chisquare(counts, 20000 * np.exp(model.score_samples(STATES))).pvalue > 1e-3
    model.fit(ROWS)
    np.testing.assert_allclose(np.exp(model.score_samples(STATES)), TABLE, atol=0.15)


def test_bins_of_a_continuous_density_sum_to_one():
    X = np.random.RandomState(0).standard_normal((200, 2)) * [1, 100]
    for binning in ("uniform", "quantile"):
        model = density(n_levels=6, binning=binning, max_epochs=5).fit(X)
        edges = model.bin_edges_
        cells = np.array(list(itertools.product(*((e[1:] + e[:-1]) / 2 for e in edges))))
        volume = np.outer(*map(np.diff, edges)).ravel()
        assert abs((np.exp(model.score_samples(cells)) * volume).sum() - 1) < 1e-5
        assert abs(np.exp(model.score_samples(cells, discrete=True)).sum() - 1) < 1e-5
        draws = model.sample(500)
        assert (draws >= [e[0] for e in edges]).all() and (draws <= [e[-1] for e in edges]).all()


# The recursion.


def flat_log_prob(net, codes):
    """A flat autoregressive transformer with an explicit mask, on the parameters of `net`."""
    (level,), pixel, n = net.levels, net.pixel, codes.shape[1]
    tokens = level.embed_patch(scaled(codes, torch.tensor(3))[:, :-1, None].to(torch.float64))
    start = level.embed_condition(net.labels(torch.zeros(len(codes), dtype=torch.long)))
    x = torch.cat([start[:, None], tokens], 1) + level.position
    angle = torch.cat([torch.zeros(1), torch.arange(1, n)])  # of the second half of the pairs
    mask = torch.ones(n, n, dtype=torch.bool).tril()
    for block in level.blocks:
        query, key, value = block.query_key_value(block.norm_attention(x)).chunk(3, -1)
        heads = []
        for q, k, v in zip(query.chunk(2, -1), key.chunk(2, -1), value.chunk(2, -1)):
            q, k = turn(q, angle), turn(k, angle)
            weights = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf).softmax(-1)
            heads.append(weights @ v)
        x = x + block.out(torch.cat(heads, -1))
        x = x + block.mlp(block.norm_mlp(x))
    x = pixel.embed_condition(level.norm(x)) + pixel.position
    for block in pixel.blocks:  # attention over a single token is its value
        x = x + block.out(block.query_key_value(block.norm_attention(x)).chunk(3, -1)[2])
        x = x + block.mlp(block.norm_mlp(x))
    log_p = (pixel.norm(x) @ pixel.embedding.T + pixel.bias).log_softmax(-1)
    return log_p.gather(2, codes[..., None])[..., 0]


def turn(x, position):
    """Rotate pairs (i, i + 4) of 8 numbers: row 1 for all but the start, and the position."""
    frequency = torch.tensor([1.0, 0.1], dtype=torch.float64)
    angle = torch.cat([(position > 0)[:, None] * frequency, position[:, None] * frequency], 1)
    turned = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([turned.real, turned.imag], -1)


def test_one_level_is_a_flat_transformer():
    net = network(((1, 12), (1, 1)), depth=2)
    codes = torch.from_numpy(images(5, (12,)))
    with torch.no_grad():
        found, weight = net(codes[:, None, None], torch.zeros(5, dtype=torch.long))
        expected = flat_log_prob(net, codes)
    assert torch.allclose(found[:, 0, 0], expected, atol=1e-10) and (weight == 1).all()


def test_parameters_are_shared_by_all_patches():
    def count(side, position):
        net = network(((side, side), (4, 4), (1, 1)))
        named = net.named_parameters()
        return sum(p.numel() for name, p in named if ("position" in name) == position)

    assert count(8, False) == count(32, False)
    assert count(32, True) - count(8, True) == 16 * (64 - 4)


def test_rotations_depend_on_relative_positions_only():
    rows, columns = torch.meshgrid(torch.arange(3.0), torch.arange(3.0), indexing="ij")
    cos, sin = grid_rotation(rows.flatten().double(), columns.flatten().double(), 8)
    relative = cos[:, None] * cos + sin[:, None] * sin  # cosine of the difference of angles
    assert torch.allclose(relative[0, 4], relative[4, 8]) and torch.allclose(
        relative[0, 1], relative[7, 8]
    )
    assert not torch.allclose(relative[0, 1], relative[0, 3])


def test_splitting_and_joining_are_inverse():
    level = network(((4, 6), (2, 3), (1, 1)), n_channels=2).levels[0]
    x = torch.arange(2 * 48).reshape(2, 2, 4, 6)
    parts = level.split(x)
    assert torch.equal(parts[1, 1], x[1, :, :2, 3:]) and torch.equal(parts[0, 2], x[0, :, 2:, :3])
    assert torch.equal(level.join(parts), x)


def test_query_key_pairs_are_fewer():
    flat = attention_pairs(((32, 32), (1, 1)))
    fractal = attention_pairs(((32, 32), (8, 8), (1, 1)))
    assert flat == 1024**2 and fractal == 16**2 + 16 * 64**2
    assert flat / fractal >= 15


def test_sizes():
    assert patch_sizes("auto", (1, 64), 1) == [(1, 64), (1, 16), (1, 1)]
    assert patch_sizes("auto", (8, 8), 2) == [(8, 8), (4, 4), (1, 1)]
    assert patch_sizes("auto", (64, 50), 2) == [(64, 64), (4, 4), (1, 1)]
    for side in (1, 2, 7, 13, 17, 101):
        for n_dims in (1, 2):
            sizes = patch_sizes("auto", (side, side), n_dims)
            assert sizes[0][1] >= side and sizes[-1] == (1, 1)
            assert all(a % b == 0 for (_, a), (_, b) in itertools.pairwise(sizes))


# Masked generators.


def test_weights_of_the_bound_average_to_one():
    net = network(((4, 4), (2, 2), (1, 1)), masked=(True, True))
    codes, labels = torch.zeros(1, 1, 4, 4, dtype=torch.long), torch.zeros(1, dtype=torch.long)
    draw = generator()
    with torch.no_grad():
        weights = torch.stack([net(codes, labels, draw)[1] for _ in range(400)])
    error = weights.std(0) / 400**0.5
    assert ((weights.mean(0) - 1).abs() < 4.5 * error).all()


def test_masks_of_training_follow_the_truncated_normal():
    share = training_mask(4000, 50, generator()).double().mean(1).numpy()
    law = truncnorm(-4, 0, loc=1, scale=0.25)
    assert share.min() > 0 and share.max() == 1
    for level in (0.5, 0.7, 0.9):
        assert abs((share <= level).mean() - law.cdf(level)) < 0.03
    counts = torch.bincount(uniform_mask(8000, 4, generator()).sum(1), minlength=5)
    np.testing.assert_allclose(counts / 8000, [0, 0.25, 0.25, 0.25, 0.25], atol=0.02)


def test_conditions_are_those_of_the_patch_and_its_neighbours():
    level = network(((4, 6), (2, 2), (1, 1)), masked=(True, False)).levels[0]
    outputs = torch.randn(2, 6, 16, generator=generator(), dtype=torch.float64)
    found, grid = level.conditions(outputs), outputs.reshape(2, 2, 3, 16)
    for i, j in itertools.product(range(2), range(3)):
        around = [(i, j), (i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
        for position, (a, b) in enumerate(around):
            inside = 0 <= a < 2 and 0 <= b < 3
            expected = grid[:, a, b] if inside else torch.zeros(2, 16, dtype=torch.float64)
            assert torch.equal(found[:, 3 * i + j, position], expected)


def test_masked_outputs_see_visible_patches_only():
    level = network(((1, 4), (1, 1)), masked=(True,)).levels[0]
    assert isinstance(level, Generator)
    patches = torch.zeros(1, 4, 1, 1, 1, dtype=torch.float64)
    conds = torch.zeros(1, 1, 16, dtype=torch.float64)
    visible = torch.tensor([[True, False, True, False]])
    with torch.no_grad():
        before = level(patches, conds, visible)
        for k in range(4):
            changed = patches.clone()
            changed[0, k] = 1
            assert torch.equal(level(changed, conds, visible), before) == (not visible[0, k])


def test_masked_models_complete_from_both_sides():
    first = np.random.RandomState(0).randint(2, size=(1500, 1))
    X = np.hstack([first, np.zeros((1500, 2), dtype=int), first])
    holes = np.where(np.arange(4) == 0, np.nan, X[:300])
    right = {}
    for kind in ("ar", "mar"):
        model = density(sizes=(4, 1), generators=kind, lr=1e-2, max_epochs=8).fit(X)
        filled = model.complete(holes)
        np.testing.assert_array_equal(filled[:, 1:], X[:300, 1:])
        right[kind] = (filled[:, 0] == X[:300, 0]).mean()
    assert right["mar"] > 0.95 and right["ar"] < 0.6  # which knows the past only


def test_the_bound_is_below_the_best_likelihood_and_the_same_for_any_batch():
    model = density(sizes=(4, 2, 1), generators=["mar", "ar"], max_epochs=6, batch_size=32)
    model.fit(ROWS)
    entropy = -(TABLE * np.log(TABLE)).sum()
    assert TABLE @ model.score_samples(STATES) < -entropy
    assert TABLE @ model.score_samples(STATES) > -entropy - 0.3
    alone = np.concatenate([model.score_samples(STATES[i : i + 1]) for i in range(16)])
    np.testing.assert_allclose(model.score_samples(STATES), alone, atol=1e-10)


def test_samples_of_a_masked_model_follow_its_conditionals():
    """Two patches in a random order: one given nothing, the other given the first."""
    model = density(sizes=(4, 2, 1), generators=["mar", "ar"], max_epochs=2, lr=2e-2).fit(ROWS)
    net = model.module_
    codes, labels = torch.from_numpy(STATES)[:, None, None], torch.zeros(16, dtype=torch.long)

    def terms(*visible):
        forced = torch.tensor(visible).expand(16, 2)
        masks = lambda level, n, weight, _: (  # noqa: E731
            forced if level.masked else None,
            weight.repeat_interleave(level.size),
        )
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            patch.setattr(net, "_masks", masks)
            return net(codes, labels)[0].reshape(16, 2, 2).sum(2).numpy()

    first, left, right = terms(False, False), terms(True, False), terms(False, True)
    law = np.exp(first[:, 0] + left[:, 1]) / 2 + np.exp(first[:, 1] + right[:, 0]) / 2
    counts = np.bincount(model.sample(20000).astype(int) @ [8, 4, 2, 1], minlength=16)
    assert chisquare(counts, 20000 * law).pvalue > 1e-3


def test_the_schedule_reveals_all_patches():
    for size, n_steps in itertools.product((1, 2, 5, 16, 64), (1, 4, 64)):
        stops = cosine_schedule(size, n_steps)
        steps = np.diff([0, *stops])
        assert stops[-1] == size and (steps > 0).all() and len(stops) <= max(n_steps, 1)


# Labels and sampling.


def test_labels_and_guidance():
    y = np.array(["a", "b"])[ROWS[:, 0]]
    model = density(sizes=(4, 2, 1), max_epochs=8).fit(ROWS[:, 1:], y)
    assert model.classes_.tolist() == ["a", "b"]
    rows = np.unique(ROWS[:, 1:], axis=0)
    for label, share in zip("ab", (TABLE[:8], TABLE[8:])):
        found = np.exp(model.score_samples(rows, [label] * 8))
        assert abs(found.sum() - 1) < 1e-5
        np.testing.assert_allclose(found, share / share.sum(), atol=0.12)
    for scale in (1.0, 1.0 + 1e-9):  # the second one runs with and without label
        model.set_params(guidance_scale=scale)
        draws = model.sample(4000, y=["b"] * 4000).astype(int) @ [4, 2, 1]
        expected = np.exp(model.score_samples(rows, ["b"] * 8))
        np.testing.assert_allclose(np.bincount(draws, minlength=8) / 4000, expected, atol=0.03)
    with pytest.raises(ValueError, match="out of those given to fit"):
        model.score_samples(rows, ["c"] * 8)


def test_guidance_extrapolates_and_suppresses_what_is_impossible():
    sampler = Sampler(None, generator(), guidance=3.0)
    log_p = torch.tensor([[0.6, 0.39995, 0.00005], [0.3, 0.3, 0.4]]).log()
    guided = sampler._guide(log_p)[0]
    expected = log_p[1] + 3 * (log_p[0] - log_p[1])
    assert torch.allclose(guided[:2], expected[:2]) and guided[2] == -torch.inf
    sampler.progress = 0.0
    assert torch.allclose(sampler._guide(log_p)[0, :2], log_p[0, :2])


def test_high_temperature_factor_draws_the_mode():
    model = density(sizes=(4, 1), temperature=1e4, max_epochs=4).fit(ROWS)
    draws = model.sample(20)
    assert (draws == draws[0]).all()


def test_continuous_targets_are_no_labels():
    model = density(max_epochs=1).fit(ROWS[:50], np.linspace(0, 1.5, 50))
    assert model.classes_ is None
    plain = density(max_epochs=1).fit(ROWS[:50])
    np.testing.assert_array_equal(model.score_samples(ROWS), plain.score_samples(ROWS))
    with pytest.raises(ValueError, match="out of those given to fit"):
        model.score_samples(ROWS, ROWS[:, 0])


def test_padded_images_and_several_channels():
    X = images(30, (3, 3, 5))
    model = density((3, 3, 5), sizes=(6, 2, 1), max_epochs=1).fit(X)
    assert np.isfinite(model.score_samples(X)).all() and model.sample(4).shape == (4, 45)
    holes = np.where(np.arange(45) % 2, np.nan, X.astype(float))
    np.testing.assert_array_equal(model.complete(holes)[:, ::2], X[:, ::2])


def test_the_first_channel_weighs_more_in_training_only():
    X = images(30, (3, 2, 2))
    model = density((3, 2, 2), max_epochs=1, lr=1e-12).fit(X)
    terms = model.token_log_prob(X).reshape(30, 3, 4).mean(axis=(0, 2))
    assert model.loss_curve_[0] == pytest.approx(-(terms * [5 / 7, 1 / 7, 1 / 7]).sum(), rel=1e-6)
    bits = -terms.mean() / np.log(2)
    assert model.bits_per_dim(X) == pytest.approx(bits, rel=1e-9)


def test_wrong_geometry():
    for params, message in (
        ({"image_shape": (2, 3)}, "image_shape"),
        ({"sizes": (4, 3, 1)}, "each a multiple"),
        ({"sizes": (2, 1)}, "at least 4"),
        ({"widths": 12}, "multiples of 4"),
        ({"widths": (16,)}, "two positive"),
        ({"generators": ["ar", "mar"]}, "for each of the 1 levels"),
    ):
        with pytest.raises(ValueError, match=message):
            density(**params).fit(ROWS)


def test_values_that_were_not_seen():
    model = density(max_epochs=1).fit(ROWS)
    assert model.score_samples([[0, 1, 2, 0]]).tolist() == [-np.inf]
    with pytest.raises(ValueError, match="not seen in fit"):
        model.complete([[0, 2, np.nan, 0]])


# The claim.


def split_digits():
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    return X[::2], X[1::2], y[::2], y[1::2]


def histogram_bits(train, test):
    """Bits per pixel of a smoothed histogram of every pixel."""
    share = np.stack([(train == k).sum(0) for k in range(17)]) + 1.0
    share /= share.sum(0)
    return -np.log2(share[test.astype(int), np.arange(64)]).mean()


def test_digits_take_fewer_bits_than_with_independent_pixels():
    train, test, _, _ = split_digits()
    model = FractalDensity((8, 8), widths=32, depths=1, lr=6e-3, batch_size=32, random_state=0)
    model.set_params(max_epochs=7)
    assert model.fit(train).bits_per_dim(test) <= histogram_bits(train, test) - 0.3


@pytest.mark.slow
def test_digits_given_their_labels():
    train, test, y_train, y_test = split_digits()
    model = FractalDensity((8, 8), widths=(64, 32, 32), depths=(2, 1, 1), random_state=0)
    model.set_params(max_epochs=20, batch_size=32, lr=4e-3).fit(train, y_train)
    assert model.bits_per_dim(test) <= histogram_bits(train, test) - 0.3
    assert model.bits_per_dim(test, y_test) < model.bits_per_dim(test)
    y = np.arange(300) % 10
    draws = model.sample(300, y=y)
    assert SVC().fit(test, y_test).score(draws, y) >= 0.7
