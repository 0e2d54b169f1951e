"""The Mittag-Leffler function against mpmath's series, and its activation against torch's SiLU."""

import mpmath
import numpy as np
import scipy.special
import torch

from benchmarks._harness import Case
from skpapers.neural_network import MittagLefflerActivation, mittag_leffler

N_POINTS = 2000
SIDE = 2048


def cases():
    z = np.random.default_rng(0).uniform(-6, 3, N_POINTS)
    exact = scipy.special.erfcx(-z)
    yield Case(
        name="mittag_leffler",
        size=f"{N_POINTS} entries in [-6, 3], alpha = 0.5",
        peer_name="mpmath, power series",
        ours=lambda: mittag_leffler(z, 0.5),
        peer=lambda: np.array([series(t) for t in z]),
        accuracy=lambda values: float((abs(values / exact - 1)).max()),
        metric="largest relative error",
        note="the peer takes entries one by one, with as many digits as cancel",
    )
    x = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    for learnable in (False, True):
        yield Case(
            name=f"MittagLefflerActivation(learnable={learnable})",
            size=f"{SIDE} x {SIDE} float32, forward and backward",
            peer_name="torch.nn.SiLU",
            ours=lambda learnable=learnable: forward_backward(
                MittagLefflerActivation(learnable=learnable), x
            ),
            peer=lambda: forward_backward(torch.nn.SiLU(), x),
            accuracy=lambda gradient: error(gradient, x),
            metric="largest error of the gradients",
            repeats=5,
            note="the trained orders cost a table, its look-up, and their own gradients",
        )


def series(z):
    with mpmath.workdps(25 + int(z * z)):
        total, k, term = mpmath.mpf(0), 0, mpmath.mpf(1)
        while abs(term) > 1e-20:
            term = mpmath.mpf(z) ** k * mpmath.rgamma(mpmath.mpf(k) / 2 + 1)
            total, k = total + term, k + 1
        return float(total)


def forward_backward(module, x):
    x = x.detach().requires_grad_()
    module(x).sum().backward()
    return x.grad


def error(gradient, x):
    gate = torch.sigmoid(x.double())
    return float((gradient - gate * (1 + x * (1 - gate))).abs().max())
