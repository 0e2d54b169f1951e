"""Mish against torch's kernel, and the array function against SciPy's logistic function."""

import mpmath
import numpy as np
import torch
from scipy.special import expit

from benchmarks._harness import Case
from skpapers.neural_network import Mish, mish

SIDE = 4096


def cases():
    x = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    yield Case(
        name="Mish",
        size=f"{SIDE} x {SIDE} float32, forward and backward",
        peer_name="torch.nn.Mish",
        ours=lambda: forward_backward(Mish(), x),
        peer=lambda: forward_backward(torch.nn.Mish(), x),
        accuracy=lambda gradient: gradient_error(gradient, x),
        metric="largest error of 100 gradients",
        repeats=5,
    )
    for dtype in (np.float32, np.float64):
        array = x.numpy().astype(dtype)
        yield Case(
            name="mish",
            size=f"{SIDE} x {SIDE} {np.dtype(dtype)}",
            peer_name="scipy.special.expit",
            ours=lambda array=array: mish(array),
            peer=lambda array=array: expit(array),
            accuracy=lambda values, array=array: value_error(values, array, exact_mish),
            peer_accuracy=lambda values, array=array: value_error(values, array, exact_logistic),
            metric="largest error of 100 values",
            repeats=5,
            note="another function of the same cost",
        )


def forward_backward(module, x):
    x = x.detach().requires_grad_()
    module(x).sum().backward()
    return x.grad


def exact_mish(x):
    return x * mpmath.tanh(mpmath.log1p(mpmath.exp(x)))


def exact_logistic(x):
    return 1 / (1 + mpmath.exp(-x))


def value_error(values, x, exact):
    pairs = zip(values[0, :100].tolist(), x[0, :100].tolist())
    return max(float(abs(value - exact(mpmath.mpf(point)))) for value, point in pairs)


def gradient_error(gradient, x):
    return value_error(gradient, x, lambda point: mpmath.diff(exact_mish, point))
