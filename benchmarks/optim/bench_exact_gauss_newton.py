"""EGN: seconds a step against Adam's, and losses after equal time and equal epochs."""

import functools

import numpy as np
import torch
from torch import nn

from benchmarks._harness import Case
from skpapers.neural_network import build_module, make_mlp
from skpapers.optim import ExactGaussNewton

N_STEPS = 20
HIDDEN, N_FEATURES = (256, 256, 64), 64  # 10^5 parameters


def cases():
    for n_outputs in (1, 10):
        for jacobian in ("analytic", "vmap"):
            if (n_outputs, jacobian) == (10, "vmap"):
                continue  # a Jacobian of 10^8 numbers
            x, loss_function = problem(n_outputs)
            yield Case(
                name=f"EGN, {jacobian}",
                size=f"{N_STEPS} steps, 10^5 parameters, 128 rows, {n_outputs} outputs",
                peer_name="torch.optim.Adam",
                ours=functools.partial(steps, egn, x, loss_function, jacobian=jacobian),
                peer=functools.partial(steps, adam, x, loss_function),
                accuracy=float,
                metric="loss of the batch",
                note="a system of 1280 rows, solved by Cholesky" if n_outputs == 10 else "",
            )
    data = waves()
    common = {"ours": functools.partial(train, egn, data, 20, lr=0.5, damping=0.02)}
    common |= {"accuracy": float, "metric": "test squared error over the variance"}
    yield Case(
        name="EGN, 20 epochs",
        size="sin(5 x0) cos(3 x1), 512 rows, 2-32-32-1 network, batches of 64",
        peer_name="torch.optim.Adam, lr=0.03, 200 epochs",
        peer=functools.partial(train, adam, data, 200, lr=0.03),
        note="ten times the epochs for Adam; 0.03 is the best of its rates on 20 epochs",
        **common,
    )
    yield Case(
        name="EGN, 20 epochs",
        size="sin(5 x0) cos(3 x1), 512 rows, 2-32-32-1 network, batches of 64",
        peer_name="torch.optim.LBFGS, all rows, 160 iterations",
        peer=functools.partial(train_lbfgs, data, 160),
        note="160 steps each",
        **common,
    )


def egn(module, **options):
    return ExactGaussNewton.from_module(module, **{"lr": 0.1} | options)


def adam(module, lr=1e-3):
    return torch.optim.Adam(module.parameters(), lr=lr)


def problem(n_outputs):
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(128, N_FEATURES))).float()
    if n_outputs == 1:
        target = torch.from_numpy(rng.normal(size=(128, 1))).float()
        return x, functools.partial(nn.MSELoss(), target=target)
    labels = torch.from_numpy(rng.integers(0, n_outputs, 128))
    return x, functools.partial(nn.CrossEntropyLoss(), target=labels)


def network(n_features, hidden, n_outputs):
    make = functools.partial(make_mlp, n_features, hidden, n_outputs, activation="tanh")
    return build_module(make, torch.Generator().manual_seed(0))


def steps(make, x, loss_function, **options):
    n_outputs = 1 if isinstance(loss_function.func, nn.MSELoss) else 10
    module = network(N_FEATURES, HIDDEN, n_outputs)
    optimizer = make(module, **options)
    for _ in range(N_STEPS):
        optimizer.step(closure_of(optimizer, module, x, loss_function))
    with torch.no_grad():
        return loss_function(module(x))


def closure_of(optimizer, module, x, loss_function):
    def closure():
        if isinstance(optimizer, ExactGaussNewton):
            return module(x), loss_function
        optimizer.zero_grad()
        loss = loss_function(module(x))
        loss.backward()
        return loss

    return closure


def waves():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.uniform(-1, 1, size=(1024, 2))).float()
    return x, torch.sin(5 * x[:, :1]) * torch.cos(3 * x[:, 1:])


def train(make, data, n_epochs, **options):
    x, y = data
    generator = torch.Generator().manual_seed(0)
    module = network(2, (32, 32), 1)
    optimizer = make(module, **options)
    for _ in range(n_epochs):
        for rows in torch.randperm(512, generator=generator).split(64):
            loss_function = functools.partial(nn.MSELoss(), target=y[rows])
            optimizer.step(closure_of(optimizer, module, x[rows], loss_function))
    return error_of(module, x, y)


def train_lbfgs(data, n_iterations):
    x, y = data
    module = network(2, (32, 32), 1)
    optimizer = torch.optim.LBFGS(
        module.parameters(), max_iter=n_iterations, line_search_fn="strong_wolfe"
    )
    loss_function = functools.partial(nn.MSELoss(), target=y[:512])
    optimizer.step(closure_of(optimizer, module, x[:512], loss_function))
    return error_of(module, x, y)


def error_of(module, x, y):
    with torch.no_grad():
        return (module(x[512:]) - y[512:]).square().mean() / y[512:].var()
