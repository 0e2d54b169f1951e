"""SAU against torch's GELU, which costs an error function too."""

import torch
from scipy.stats import norm

from benchmarks._harness import Case
from skpapers.neural_network import SAU

SIDE = 4096


def cases():
    x = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    points = x[0].double().numpy()
    gelu = norm.cdf(points) + points * norm.pdf(points)
    yield Case(
        name="SAU",
        size=f"{SIDE} x {SIDE} float32, forward and backward",
        peer_name="torch.nn.GELU",
        ours=lambda: forward_backward(SAU(), x),
        peer=lambda: forward_backward(torch.nn.GELU(), x),
        accuracy=lambda gradient: error(gradient, 0.15 + 0.85 * norm.cdf(20000 * points)),
        peer_accuracy=lambda gradient: error(gradient, gelu),
        metric="largest error of 4096 gradients",
        repeats=5,
        note="another function, in one fused kernel; SAU takes several passes, one for its slope",
    )


def forward_backward(module, x):
    x = x.detach().requires_grad_()
    module(x).sum().backward()
    return x.grad


def error(gradient, exact):
    return float(abs(gradient[0].numpy() - exact).max())
