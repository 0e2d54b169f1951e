"""The convolution of DiagonalSSM against the recurrence, step by step."""

import functools

import torch

from benchmarks._harness import Case
from skpapers.neural_network import build_module
from skpapers.time_series import DiagonalSSM


def cases():
    """Batches of long series; the accuracy is the largest gap to the recurrence in float64."""
    for n_rows, n_channels, length in ((4, 32, 512), (4, 64, 2048)):
        generator = torch.Generator().manual_seed(0)
        make = functools.partial(DiagonalSSM, n_channels)
        ssm = build_module(make, generator, torch.float32)
        u = torch.randn(n_rows, n_channels, length, generator=generator)
        exact = recurrence(ssm.double(), u.double())
        ssm.float()
        yield Case(
            name="DiagonalSSM",
            size=f"{n_rows} series, {n_channels} channels, {length} steps, 64 states",
            peer_name="recurrence in torch, step by step",
            ours=functools.partial(convolution, ssm, u),
            peer=functools.partial(recurrence, ssm, u),
            accuracy=functools.partial(largest_gap, exact),
            metric="largest relative gap to the recurrence in float64",
            repeats=3,
        )


def convolution(ssm, u):
    with torch.inference_mode():
        return ssm(u)


def recurrence(ssm, u):
    """Step all series and channels at once through time, in the precision of `u`."""
    with torch.inference_mode():
        dtype = torch.complex64 if u.dtype == torch.float32 else torch.complex128
        A, B, C, D = (x.to(dtype if x.is_complex() else u.dtype) for x in ssm.recurrence())
        state, outputs = 0.0, []
        for step in u.unbind(-1):
            state, y = ssm.step((A, B, C, D), state, step)
            outputs.append(y)
        return torch.stack(outputs, dim=-1)


def largest_gap(exact, found):
    return float((found.double() - exact).abs().max() / exact.abs().max())
