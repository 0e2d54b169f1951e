"""Tests of the small U-Net."""

import pytest
import torch

from skpapers.neural_network import build_module
from skpapers.processes import SmallUNet


def make(*args, **params):
    network = build_module(
        lambda: SmallUNet(*args, **params), torch.Generator().manual_seed(0), torch.float64
    )
    with torch.no_grad():
        network.last.weight.fill_(0.1)
    return network


def images(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 3, 7, 13), (2, 3, 1, 5), (1, 3, 1, 1)])
@pytest.mark.parametrize("n_levels", [1, 2, 3])
def test_images_keep_their_size(shape, n_levels):
    network = make(3, width=4, n_levels=n_levels)
    assert network(images(*shape)).shape == shape
    assert make(3, 4, n_levels, n_outputs=2)(images(*shape)).shape == (shape[0], 2, *shape[2:])


def test_output_is_zero_before_training():
    network = build_module(lambda: SmallUNet(1, 4), torch.Generator().manual_seed(0))
    x = torch.ones(2, 1, 8, 8, requires_grad=True)
    assert network(x).abs().max() == 0
    network(x).sum().backward()
    assert network.last.bias.grad == 128


def test_every_parameter_learns():
    network = make(1, width=4, n_levels=3)
    network(images(2, 1, 8, 8)).square().sum().backward()
    assert all((p.grad != 0).any() for p in network.parameters())


def test_a_shift_by_the_coarsest_pixel_shifts_the_output():
    network = make(1, width=4, n_levels=3)
    x = images(1, 1, 96, 96)
    shifted = network(torch.roll(x, 4, dims=3))
    inner = slice(40, 56)  # away from the borders
    difference = shifted - torch.roll(network(x), 4, dims=3)
    assert difference[..., inner, inner].abs().max() < 1e-12


@pytest.mark.parametrize(("n_levels", "reach"), [(1, 2), (2, 11), (3, 30)])
def test_the_field_of_view_grows_with_the_levels(n_levels, reach):
    network = make(1, width=4, n_levels=n_levels)
    x = images(1, 1, 65, 65).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[0, 0, 32, 32], x)
    seen = (gradient[0, 0].abs() > 0).any(dim=0).nonzero()
    widest = (seen - 32).abs().max().item()
    assert 0.5 * reach <= widest <= reach


def test_rows_do_not_see_each_other():
    network = make(1, width=4)
    x = images(3, 1, 8, 8)
    together = network(x)
    torch.testing.assert_close(together[1:2], network(x[1:2]))
