"""A layer with a scale of its own, forward and backward, against torch's linear and RMS norm."""

import torch

from benchmarks._harness import Case
from skpapers.neural_network import ScaleDistributionLinear, build_module

ROWS, WIDTH = 8192, 1024


def cases():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, WIDTH, generator=generator)
    ours = build_module(lambda: ScaleDistributionLinear(WIDTH, WIDTH, bias=False), generator)
    peer = build_module(
        lambda: torch.nn.Sequential(
            torch.nn.Linear(WIDTH, WIDTH, bias=False), torch.nn.RMSNorm(WIDTH, eps=1e-6)
        ),
        generator,
    )
    with torch.no_grad():
        peer[0].weight.copy_(ours.distribution.weight)

    def pass_through(module):
        y = module(x)
        y.square().mean().backward()
        return y.detach()

    yield Case(
        "forward and backward",
        f"{ROWS} rows, {WIDTH} to {WIDTH}, float32",
        "torch.nn.Linear and RMSNorm",
        lambda: pass_through(ours),
        lambda: pass_through(peer),
        lambda y: float(y.square().mean()),
        "mean square of the output",
    )
