"""
AdamW: weight decay apart from the gradient
===========================================

The ``alpha`` of scikit-learn's ``MLPClassifier`` is an L2 penalty whose gradient goes through
Adam, which divides it by the size of the gradients. Weights with large gradients hardly decay, and
weights without any fall to zero at once. Decoupled weight decay removes the same share of every
weight.
"""

# %%
# Weights that start at 1 under noise: the gradients have mean zero and a standard deviation from
# 1 to 100. After 3000 steps of the penalty, those with small gradients have lost a fifth, the
# others nothing. AdamW decays all alike, by the share that was asked for.
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skpapers.neural_network import NeuralClassifier
from skpapers.optim import AdamW, CosineWarmRestarts

scales = torch.logspace(0, 2, 9)


def decayed(decay, weight_decay):
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.ones(9, 200))
    optimizer = AdamW([weight], lr=1e-4, weight_decay=weight_decay, decay=decay)
    for _ in range(3000):
        weight.grad = scales[:, None] * torch.randn(9, 200, generator=generator)
        optimizer.step()
    return weight.detach().mean(1)


fig, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
axis.semilogx(scales, decayed("l2", 1.0), "o-", label="Adam with an L2 penalty")
axis.semilogx(scales, decayed("independent", 1e-4), "o-", label="AdamW")
axis.axhline(np.exp(-0.3), color="k", ls=":", label="exp(-0.3): what was asked for")
axis.set(xlabel="standard deviation of the gradient", ylabel="mean weight after 3000 steps")
axis.legend()

# %%
# The same in a network. The pixels at the border of the digits are always 0: their weights get
# no gradient and should decay as slowly as the decay says. A penalty inside Adam moves them by
# the learning rate in every step, so that they are gone, while the weights of the pixels that
# matter keep their size.
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, stratify=y, random_state=0)
n_epochs = 60


def sklearn_network(alpha):
    network = MLPClassifier((100,), alpha=alpha, batch_size=128, random_state=0)
    for _ in range(n_epochs):
        network.partial_fit(X_train, y_train, classes=range(10))
    return network, np.sqrt(np.mean(network.coefs_[0] ** 2, axis=1))


def decoupled_network(weight_decay):
    network = NeuralClassifier(
        optimizer="decoupled_adamw",
        weight_decay=weight_decay,
        max_epochs=n_epochs,
        tol=0,
        random_state=0,
    ).fit(X_train, y_train)
    weight = next(network.module_.parameters()).detach().numpy()
    return network, np.sqrt(np.mean(weight**2, axis=0))


pixel = np.sqrt(np.mean(X_train**2, axis=0))
fig, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, fit, value in (
    ("MLPClassifier(alpha=1)", sklearn_network, 1.0),
    ("decoupled_adamw, weight_decay=1e-3", decoupled_network, 1e-3),
):
    network, size = fit(value)
    ratio = size / fit(0.0)[1]
    label = f"{name}: test accuracy {network.score(X_test, y_test):.3f}"
    axis.plot(pixel, ratio, "o", ms=4, label=label)
axis.set(
    xlabel="root mean square of the pixel",
    ylabel="size of its weights,\nrelative to no decay",
    ylim=(-0.05, 1.35),
)
axis.legend()

# %%
# Warm restarts: the learning rate falls along half a cosine, period after period, each twice as
# long as the last. Normalised decay follows the length of the period, and the decay of a step
# follows the rate.
weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
optimizer = AdamW([weight], lr=1e-3, weight_decay=0.05, normalize_decay=True)
schedule = CosineWarmRestarts(optimizer, t_0=10, t_mult=2, steps_per_epoch=20)
rates, decays = [], []
for _ in range(70 * 20):
    before = weight.item()
    rates.append(schedule.get_last_lr()[0])
    weight.grad = torch.zeros(1, dtype=torch.float64)
    optimizer.step()
    schedule.step()
    decays.append(1 - weight.item() / before)

epochs = np.arange(70 * 20) / 20
fig, (top, bottom) = plt.subplots(2, 1, figsize=(6, 4), sharex=True, layout="constrained")
top.plot(epochs, rates)
top.set(ylabel="learning rate")
bottom.plot(epochs, decays, color="C1")
bottom.set(xlabel="epoch", ylabel="share of a weight\nremoved by a step")
plt.show()
