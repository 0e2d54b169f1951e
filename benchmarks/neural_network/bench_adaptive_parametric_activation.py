"""The adaptive gated linear unit against torch's SiLU, which it contains."""

import torch

from benchmarks._harness import Case
from skpapers.neural_network import AdaptiveGatedLinearUnit

SIDE = 4096


def cases():
    x = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    for learnable in (False, True):
        yield Case(
            name=f"AdaptiveGatedLinearUnit(learnable={learnable})",
            size=f"{SIDE} x {SIDE} float32, forward and backward",
            peer_name="torch.nn.SiLU",
            ours=lambda learnable=learnable: forward_backward(
                AdaptiveGatedLinearUnit(learnable=learnable), x
            ),
            peer=lambda: forward_backward(torch.nn.SiLU(), x),
            accuracy=lambda gradient: error(gradient, x),
            metric="largest error of 4096 gradients",
            note="the peer is one fused kernel without parameters; ours takes several passes",
        )


def forward_backward(module, x):
    x = x.detach().requires_grad_()
    module(x).sum().backward()
    return x.grad


def error(gradient, x):
    gate = torch.sigmoid(x[0].double())
    return float((gradient[0] - gate * (1 + x[0] * (1 - gate))).abs().max())
