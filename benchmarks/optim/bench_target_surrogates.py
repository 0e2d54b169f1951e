"""SSO on a linear model: the shortcut against autograd, and other optimizers for equal calls."""

import functools

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from benchmarks._harness import Case
from skpapers.neural_network import NeuralClassifier
from skpapers.optim import SSO

N_STEPS, INNER_STEPS = 50, 20


def cases():
    for batch_size in (None, 625, 125):
        x, y = mushroom_like()
        rows = "all rows" if batch_size is None else f"batches of {batch_size}"
        ours = functools.partial(train, x, y, batch_size, SSO.from_module, **SETTINGS)
        common = {"ours": ours, "accuracy": float, "metric": "final logistic loss"}
        size = (
            f"8000 x 112 binary features, {rows}, {N_STEPS} gradients, {INNER_STEPS} inner steps"
        )
        yield Case(
            name="SSO, linear model",
            size=size,
            peer_name="SSO by autograd",
            peer=functools.partial(train, x, y, batch_size, by_autograd, **SETTINGS),
            note="the same steps without the shortcut of linear models",
            **common,
        )
        if batch_size is None:
            yield Case(
                name="SSO, linear model",
                size=size,
                peer_name="torch.optim.LBFGS, strong Wolfe",
                peer=functools.partial(train_lbfgs, x, y),
                note=f"at most {N_STEPS} gradients; on whole data sets, and where gradients are "
                "cheap, L-BFGS is the better choice",
                **common,
            )
        else:
            yield Case(
                name="SSO, linear model",
                size=size,
                peer_name="torch.optim.Adam, lr=0.1",
                peer=functools.partial(train, x, y, batch_size, adam),
                note="equal numbers of gradients of the loss; a gradient is cheap here",
                **common,
            )
    split = digits()
    yield Case(
        name="SSO, network",
        size="digits, 64-100-10 network, batches of 128, 5 inner steps, 5 epochs against 25",
        peer_name="NeuralClassifier(optimizer='sgd', lr=0.1)",
        ours=lambda: fit(split, optimizer="sso", lr=2.0, max_epochs=5, optimizer_params=NETWORK),
        peer=lambda: fit(split, optimizer="sgd", lr=0.1, max_epochs=25),
        accuracy=lambda model: model.score(split[1], split[3]),
        metric="test accuracy",
        note="55 gradients of the loss against 275; what is saved are gradients, not seconds",
    )


SETTINGS = {"lr": "auto", "inner_steps": INNER_STEPS}
NETWORK = {"inner_steps": 5, "lr_schedule": "constant"}


def mushroom_like():
    """22 categorical features as 112 indicators, and a rule of three of them with 1 % noise."""
    rng = np.random.default_rng(0)
    sizes = [5] * 20 + [6] * 2
    codes = [rng.integers(0, size, 8000) for size in sizes]
    x = np.hstack([np.eye(size)[code] for size, code in zip(sizes, codes)])
    y = (codes[0] < 2) | ((codes[1] == 0) & (codes[2] > 2))
    y = y ^ (rng.uniform(size=8000) < 0.01)
    return torch.from_numpy(x).float(), torch.from_numpy(y).float()[:, None]


def by_autograd(layer, **options):
    return SSO(layer.parameters(), **options)


def adam(layer):
    return torch.optim.Adam(layer.parameters(), lr=0.1)


def linear_layer(n_features):
    layer = nn.utils.skip_init(nn.Linear, n_features, 1)
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
    return layer


def train(x, y, batch_size, make, **options):
    """Loss of the whole data set after `N_STEPS` gradients."""
    layer, generator = linear_layer(x.shape[1]), torch.Generator().manual_seed(0)
    optimizer = make(layer, **options)
    for _ in range(N_STEPS):
        rows = slice(None)
        if batch_size is not None:
            rows = torch.randperm(len(x), generator=generator)[:batch_size]
        loss_function = functools.partial(nn.BCEWithLogitsLoss(), target=y[rows])
        optimizer.step(closure_of(optimizer, layer, x[rows], loss_function))
    with torch.no_grad():
        return nn.BCEWithLogitsLoss()(layer(x), y)


def train_lbfgs(x, y):
    layer = linear_layer(x.shape[1])
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=N_STEPS, max_eval=N_STEPS, line_search_fn="strong_wolfe"
    )
    loss_function = functools.partial(nn.BCEWithLogitsLoss(), target=y)
    optimizer.step(closure_of(optimizer, layer, x, loss_function))
    with torch.no_grad():
        return loss_function(layer(x))


def closure_of(optimizer, layer, x, loss_function):
    def closure():
        if isinstance(optimizer, SSO):
            return layer(x), loss_function
        optimizer.zero_grad()
        loss = loss_function(layer(x))
        loss.backward()
        return loss

    return closure


def digits():
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    return train_test_split(X, y, stratify=y, random_state=0)


def fit(split, **options):
    model = NeuralClassifier(tol=0, random_state=0, **options)
    return model.fit(split[0], split[2])
