"""Star layers, blocks and networks."""

from itertools import combinations_with_replacement

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skpapers.neural_network import (
    NeuralClassifier,
    StarBlock,
    StarLinear,
    StarNet,
    StarNetClassifier,
    StarNetRegressor,
    build_module,
    polynomial_coefficients,
    star_feature_dimension,
)


def build(make, dtype=torch.float64, seed=0):
    return build_module(make, torch.Generator().manual_seed(seed), dtype)


def test_a_star_layer_is_a_quadratic_form():
    layer = build(lambda: StarLinear(6, 4))
    x = torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    padded = torch.cat([x, torch.ones(20, 1, dtype=torch.float64)], 1)
    forms = polynomial_coefficients(layer)
    expected = torch.einsum("ni,oij,nj->no", padded, forms, padded)
    np.testing.assert_allclose(layer(x).detach(), expected, rtol=1e-10)
    with pytest.raises(ValueError, match="branch_activation"):
        polynomial_coefficients(StarLinear(2, 2, operation="sum"))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_stack_has_exactly_twice_the_degree_a_layer(depth):
    """Finite differences along a line vanish above the degree of a polynomial, not at it."""
    stack = build(lambda: torch.nn.Sequential(*[StarLinear(5, 5) for _ in range(depth)]))
    generator = torch.Generator().manual_seed(1)
    start, way = torch.randn(2, 5, dtype=torch.float64, generator=generator)
    degree = 2**depth
    for order, is_zero in ((degree + 1, True), (degree, False)):
        steps = torch.linspace(-1, 1, order + 1, dtype=torch.float64)[:, None]
        values = stack(start + steps * way).detach().numpy()
        difference = np.abs(np.diff(values, n=order, axis=0)).max() / np.abs(values).max()
        assert (difference <= 1e-8) == is_zero


def test_star_features_have_full_rank_and_sums_that_of_the_input():
    x = torch.randn(2000, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    width = star_feature_dimension(6)
    assert width == 28
    rank = {
        operation: np.linalg.matrix_rank(
            build(lambda o=operation: StarLinear(6, width, operation=o))(x).detach().numpy()
        )
        for operation in ("star", "sum")
    }
    assert rank["star"] == 28
    assert rank["sum"] <= 7


def test_feature_dimension_counts_monomials():
    for n_features, depth in ((3, 1), (4, 2)):
        terms = combinations_with_replacement(range(n_features + 1), 2**depth)
        assert star_feature_dimension(n_features, depth) == len(list(terms))


@pytest.mark.parametrize(
    "base_width, depths, ratio, n_parameters",
    [
        (24, (2, 2, 8, 3), 4, 2_869_168),
        (32, (1, 2, 6, 2), 4, 3_682_024),
        (32, (2, 2, 8, 4), 4, 5_750_792),
        (32, (3, 3, 12, 5), 4, 7_482_728),
        (16, (1, 1, 3, 1), 3, 542_728),
        (20, (1, 2, 4, 1), 4, 1_043_280),
        (24, (1, 2, 4, 2), 3, 1_560_616),
    ],
)
def test_published_networks_have_the_published_sizes(base_width, depths, ratio, n_parameters):
    with torch.device("meta"):
        net = StarNet(base_width, depths, ratio)
    assert sum(p.numel() for p in net.parameters()) == n_parameters


def interactions(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(5000, 8)).astype(np.float32)
    y = np.sign((X[:, ::2] * X[:, 1::2]).sum(1))
    return X[:3000], y[:3000], X[3000:], y[3000:]


def block_accuracy(seed, block, sizes, lr):
    X, y, X_test, y_test = interactions(seed)
    model = NeuralClassifier(
        sizes,
        block=block,
        normalization="batch",
        optimizer="adamw",
        lr=lr,
        max_epochs=40,
        tol=0,
        random_state=seed,
    )
    return model.fit(X, y).score(X_test, y_test)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_products_need_no_activation_and_sums_collapse_without(seed):
    star, plain = (
        block_accuracy(
            seed, f"star(branch_activation='none', operation='{operation}')", (32, 32), 2e-3
        )
        for operation in ("star", "sum")
    )
    assert star >= 0.93
    assert plain <= 0.56


def test_narrow_networks_gain_most():
    """One block of width 8 or 64, products without activation against sums with one."""
    gaps = {}
    for width in (8, 64):
        star, activated = (
            block_accuracy(0, f"star(ratio=1, {options})", (width,), 1e-2)
            for options in ("branch_activation='none'", "operation='sum'")
        )
        gaps[width] = star - activated
    assert gaps[8] >= 0.07
    assert gaps[8] >= gaps[64] + 0.05


def test_a_block_is_its_formula():
    block = build(lambda: StarBlock(6, ratio=2, normalization="none"))
    x = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    first, second = (x @ m.weight.T + m.bias for m in (block.star.first, block.star.second))
    expected = x + (first.clamp(0, 6) * second) @ block.back.weight.T + block.back.bias
    np.testing.assert_allclose(block(x).detach(), expected.detach(), rtol=1e-12)


def test_dropped_paths_keep_the_mean_and_leave_rows_as_they_are():
    block = build(lambda: StarBlock(4, drop_path=0.3, normalization="none")).train()
    x = torch.ones(20_000, 4, dtype=torch.float64)
    change = (block(x) - x).detach()
    kept = (change != 0).any(1)
    assert float(kept.double().mean()) == pytest.approx(0.7, abs=0.02)
    expected = block.eval()(x[:1]).detach() - 1
    np.testing.assert_allclose(change.mean(0)[None], expected, rtol=0.05)


def test_images_come_as_arrays_or_as_rows_with_a_shape():
    X, y = load_digits(return_X_y=True)
    X = (X[:300] / 16).astype(np.float32)
    fit = {"base_width": 4, "max_epochs": 2, "random_state": 0}
    rows = StarNetClassifier(image_shape=(8, 8), **fit).fit(X, y[:300])
    images = StarNetClassifier(**fit).fit(X.reshape(-1, 8, 8), y[:300])
    channels = StarNetClassifier(**fit).fit(X.reshape(-1, 1, 8, 8), y[:300])
    expected = rows.predict_proba(X)
    np.testing.assert_array_equal(images.predict_proba(X.reshape(-1, 8, 8)), expected)
    np.testing.assert_array_equal(channels.predict_proba(X.reshape(-1, 1, 8, 8)), expected)
    assert rows.transform(X).shape == (300, 8)  # two stages
    with pytest.raises(ValueError, match="fitted with"):
        images.predict(X.reshape(-1, 8, 4, 2)[:, :, :, 0].reshape(300, 8, 4))
    with pytest.raises(ValueError, match="image_shape"):
        StarNetClassifier(image_shape=(7, 8), random_state=0).fit(X, y[:300])


def test_regression_on_interactions():
    X, _, X_test, _ = interactions(0)
    product = lambda X: (X[:, ::2] * X[:, 1::2]).sum(1)  # noqa: E731
    model = StarNetRegressor(base_width=16, depths=(2,), max_epochs=20, random_state=0)
    assert model.fit(X, product(X)).score(X_test, product(X_test)) > 0.9


@pytest.mark.slow
def test_digits_as_images_are_classified():
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.2, stratify=y, random_state=0)
    model = StarNetClassifier(image_shape=(8, 8), max_epochs=30, random_state=0).fit(X, y)
    assert model.score(X_test, y_test) >= 0.975
    assert model.n_parameters_ == 26_986


def test_options_that_a_block_has_of_its_own_are_not_ignored():
    X, y, _, _ = interactions(0)
    for options in ({"dropout": 0.1}, {"activation_params": {"alpha": 1.0}}):
        with pytest.raises(ValueError, match="not for a block"):
            NeuralClassifier(block="star", random_state=0, **options).fit(X, y)
