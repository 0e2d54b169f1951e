"""
FAdam: Adam as a natural gradient
=================================

Adam divides by the root of averaged squared gradients, which are the diagonal of the empirical
Fisher information up to the size of the batch: its steps are natural gradients. FAdam draws the
consequences: the momentum averages natural gradients, each of them clipped, and the weights decay
in the same geometry.
"""

# %%
# The squared mean gradient of a batch is smaller than the Fisher information, which is the mean of
# the squared gradients of rows, by about the size of the batch: the paper's reason for the square
# root in Adam. A network on the digits after three epochs:
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skpapers.neural_network import NeuralClassifier
from skpapers.optim import FAdam, diagonal_empirical_fisher

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    (X / 16).astype(np.float32), y, stratify=y, random_state=0
)
network = NeuralClassifier(optimizer="fadam", max_epochs=3, tol=0, random_state=0)
module = network.fit(X_train, y_train).module_
X_rows, y_rows = torch.from_numpy(X_train), torch.from_numpy(y_train)
fisher = diagonal_empirical_fisher(module, X_rows, y_rows, F.cross_entropy)
total = sum(float(value.sum()) for value in fisher.values())


def mean_squared_gradient(batch_size):
    squares = []
    for x, target in zip(X_rows.split(batch_size), y_rows.split(batch_size)):
        loss = F.cross_entropy(module(x), target)
        gradients = torch.autograd.grad(loss, list(module.parameters()))
        squares.append(sum(float(g.square().sum()) for g in gradients))
    return np.mean(squares)


sizes = [1, 2, 4, 8, 16, 32, 64]
ratios = [total / mean_squared_gradient(size) for size in sizes]
fig, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
axis.loglog(sizes, ratios, "o-", label="measured")
axis.loglog(sizes, sizes, "k:", label="the size of the batch")
axis.set(xlabel="size of the batch", ylabel="Fisher information /\nsquared gradient of a batch")
axis.legend()

# %%
# One gradient that is a thousand times too large. Adam's momentum takes it in as it is: the steps
# that follow are ten times too long, and then a thousand steps too short. FAdam clips it.
fig, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, make in {"Adam": torch.optim.Adam, "FAdam": FAdam}.items():
    rng = np.random.default_rng(0)
    weight = torch.nn.Parameter(torch.zeros(100))
    optimizer, lengths = make([weight], lr=1.0, weight_decay=0.0), []
    for step in range(1600):
        noise = rng.normal(size=100).astype(np.float32)
        weight.grad = torch.from_numpy(noise * (1000 if step == 1500 else 1))
        before = weight.detach().clone()
        optimizer.step()
        lengths.append(float((weight.detach() - before).square().mean().sqrt()))
    axis.plot(range(-50, 100), lengths[1450:], label=name)
axis.axhline(1, color="k", ls=":", label="bound of FAdam")
axis.set(xlabel="steps after the wild gradient", ylabel="length of a step / learning rate")
axis.legend()

# %%
# On clean data the two train alike, and like scikit-learn's network.
n_epochs = 50
curves = {}
peer = MLPClassifier((100,), batch_size=128, random_state=0)
for _ in range(n_epochs):
    peer.partial_fit(X_train, y_train, classes=range(10))
curves["MLPClassifier, Adam"] = peer, peer.loss_curve_
for name in ("adam", "fadam"):
    network = NeuralClassifier(optimizer=name, max_epochs=n_epochs, tol=0, random_state=0)
    curves[f"NeuralClassifier, {name}"] = network.fit(X_train, y_train), network.loss_curve_

fig, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, (network, curve) in curves.items():
    score = network.score(X_test, y_test)
    axis.semilogy(range(1, n_epochs + 1), curve, label=f"{name}: test accuracy {score:.3f}")
axis.set(xlabel="epoch", ylabel="training loss")
axis.legend()
plt.show()
