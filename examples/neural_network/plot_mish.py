"""
Mish: a smooth activation with a small negative well
====================================================

Mish is ``x * tanh(softplus(x))``. Like ReLU it is unbounded above; unlike ReLU it is smooth, and
small negative inputs keep a gradient. scikit-learn's ``MLPClassifier`` has ReLU, tanh and the
logistic function only; here an activation is a hyper-parameter like any other.
"""

# %%
# The function and its first two derivatives, in closed form.
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpapers.neural_network import (
    Mish,
    NeuralClassifier,
    build_module,
    make_mlp,
    mish,
    mish_derivatives,
)

x = np.linspace(-6, 4, 400)
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
left.plot(x, np.maximum(x, 0), "k--", label="ReLU")
left.plot(x, mish(x), label="mish")
left.set(xlabel="x", title="function", ylim=(-0.6, 4))
right.plot(x, x > 0, "k--", label="ReLU, first")
right.plot(x, mish_derivatives(x), label="mish, first")
right.plot(x, mish_derivatives(x, order=2), label="mish, second")
right.set(xlabel="x", title="derivatives")
for axis in (left, right):
    axis.legend()

# %%
# The paper's figure: the output of a random network over the plane, five hidden layers deep.
# What is linear in pieces with ReLU is smooth with mish.
line = torch.linspace(-5, 5, 200)
grid = torch.cartesian_prod(line, line)
fig, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
for axis, (name, activation) in zip(axes, {"ReLU": torch.nn.ReLU, "mish": Mish}.items()):
    network = build_module(
        lambda activation=activation: make_mlp(2, (64,) * 5, 1, activation=activation),
        torch.Generator().manual_seed(3),
    )
    with torch.no_grad():
        output = network(grid).reshape(200, 200)
    slope = torch.diff((output - output.mean()) / output.std(), dim=0)
    axis.imshow(slope.T, origin="lower", extent=(-5, 5, -5, 5), cmap="viridis")
    axis.set(title=f"{name}: slope of a random network", xlabel="first input")
axes[0].set_ylabel("second input")

# %%
# Fifteen hidden layers on the digits, with plain SGD: scikit-learn's network has ReLU and no
# normalisation, and does not get off the ground. With batch normalisation both activations
# learn, mish the sooner.
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X.astype(np.float32), y, stratify=y, random_state=0
)
settings = {"batch_size": 128, "tol": 0, "random_state": 0}
peer = MLPClassifier(
    (64,) * 15,
    solver="sgd",
    learning_rate_init=0.05,
    momentum=0.0,
    max_iter=20,
    n_iter_no_change=20,
    **settings,
)
networks = {"MLPClassifier, ReLU": peer}
for name in ("relu", "mish"):
    networks[f"NeuralClassifier, {name}"] = NeuralClassifier(
        (64,) * 15,
        activation=name,
        normalization="batch",
        optimizer="sgd",
        lr=0.05,
        max_epochs=20,
        **settings,
    )

fig, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, network in networks.items():
    score = make_pipeline(StandardScaler(), network).fit(X_train, y_train).score(X_test, y_test)
    axis.plot(range(1, 21), network.loss_curve_, label=f"{name}: test accuracy {score:.2f}")
axis.set(xlabel="epoch", ylabel="training loss", title="15 hidden layers, plain SGD")
axis.legend()
plt.show()
