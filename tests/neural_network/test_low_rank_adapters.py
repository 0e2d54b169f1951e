"""Low-rank adapters: their changes, without the matrices, at the start and merged."""

import copy

import pytest
import torch
from torch import nn

from skpapers.neural_network import (
    LoHALinear,
    LoKHLinear,
    LoKrLinear,
    LoRALinear,
    build_module,
)

KINDS = [LoRALinear, LoHALinear, LoKrLinear, LoKHLinear]
each = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def make_linear(n_in=12, n_out=20, dtype=torch.float64, seed=0):
    return build_module(lambda: nn.Linear(n_in, n_out), torch.Generator().manual_seed(seed), dtype)


def randomized(kind, linear, rank=3, seed=1, **params):
    """An adapter whose change is not zero any more."""
    generator = torch.Generator().manual_seed(seed)
    layer = kind(linear, rank, generator=generator, **params)
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.requires_grad:
                parameter.normal_(generator=generator)
    return layer


def trainable(layer):
    return [p for p in layer.parameters() if p.requires_grad]


def inputs(n_in=12, dtype=torch.float64, seed=2):
    return torch.randn(5, 2, n_in, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@each
def test_change_is_zero_at_the_start_and_can_be_learnt(kind):
    linear, x = make_linear(), inputs()
    expected = linear(x)
    layer = kind(linear, rank=3)
    assert torch.equal(layer.delta(), torch.zeros(20, 12, dtype=torch.float64))
    assert torch.equal(layer(x), expected)
    layer(x).square().sum().backward()
    assert linear.weight.grad is None
    assert any(p.grad.abs().max() > 0 for p in trainable(layer))


@each
def test_forward_is_that_of_the_matrix(kind):
    linear, x = make_linear(), inputs()
    layer = randomized(kind, linear, alpha=2.0)
    expected = linear(x) + x @ layer.delta().T
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_changes_are_those_of_the_definitions():
    linear = make_linear()
    lora, loha, lokr, lokh = (randomized(kind, linear, alpha=6.0) for kind in KINDS)
    torch.testing.assert_close(lora.delta(), 2 * lora.B @ lora.A)
    entry = 2 * (loha.B1[4] @ loha.A1[:, 7]) * (loha.B2[4] @ loha.A2[:, 7])
    torch.testing.assert_close(loha.delta()[4, 7], entry)
    block = lokr.delta().reshape(4, 5, 3, 4)[2, :, 1, :]
    torch.testing.assert_close(block, 2 * lokr.C[2, 1] * (lokr.B @ lokr.A))
    u, v = lokh.B1 @ lokh.A1[:, 7], lokh.B2 @ lokh.A2[:, 7]
    torch.testing.assert_close(lokh.delta()[:, 7], 2 * torch.kron(u, v))


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_merging_keeps_the_outputs_and_unmerging_restores_the_weights(kind, dtype):
    linear, x = make_linear(dtype=dtype), inputs(dtype=dtype)
    layer, weight = randomized(kind, linear), linear.weight.clone()
    with torch.no_grad():
        for parameter in trainable(layer):
            parameter.mul_(0.3)
    before = layer(x)
    assert layer.merge() is layer.merge() is linear
    tolerance = 1e-6 if dtype == torch.float32 else 1e-13
    for after in (layer(x), linear(x)):
        assert (after - before).abs().max() <= tolerance * max(1, before.abs().max())
    assert layer.unmerge() is layer.unmerge() is linear
    assert torch.equal(linear.weight, weight)
    assert torch.equal(layer(x), before)


def test_structured_changes_have_a_higher_rank_than_their_parameters_say():
    linear, ranks = make_linear(40, 36), {}
    for kind in KINDS:
        layer = randomized(kind, linear, rank=4)
        ranks[kind] = int(torch.linalg.matrix_rank(layer.delta()))
    assert ranks[LoRALinear] == 4
    assert ranks[LoHALinear] == ranks[LoKHLinear] == 16
    assert ranks[LoKrLinear] == 4 * 5
    sizes = [sum(p.numel() for p in trainable(kind(linear, 4))) for kind in KINDS]
    assert sizes == [4 * 76, 8 * 76, 6 * 5 + 4 * (6 + 8), 4 * (6 + 6 + 80)]


@each
def test_gradients_are_those_of_finite_differences(kind):
    linear = make_linear(6, 4)
    layer = randomized(kind, linear, rank=2)
    names = [name for name, p in layer.named_parameters() if p.requires_grad]
    x = inputs(6).requires_grad_()

    def output(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values)), (x,))

    assert torch.autograd.gradcheck(output, (x, *trainable(layer)))


@each
def test_generator_decides_and_the_global_one_is_not_read(kind):
    linear, state = make_linear(), torch.get_rng_state()
    first, second = (kind(linear, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    other, built = (
        kind(linear),
        build_module(lambda: kind(nn.Linear(6, 4)), torch.Generator()),
    )
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert not all(map(torch.equal, first.parameters(), other.parameters()))
    assert torch.equal(built.delta(), torch.zeros(4, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(copy.deepcopy(first)(inputs()), first(inputs()))


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="rank"):
        LoRALinear(make_linear(), rank=0)
    with pytest.raises(ValueError, match="shape"):
        LoKrLinear(make_linear(), shape=(3, 3))
    with pytest.raises(ValueError, match="height"):
        LoKHLinear(make_linear(), height=3)
