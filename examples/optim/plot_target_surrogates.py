"""
SSO: many steps for one gradient of the loss
============================================

Where the gradient of a loss is costly (it comes from a simulator or an expert) and the model is
cheap, each gradient should be used for more than one step. SSO takes the gradient by the outputs
of the model, builds a surrogate that bounds the loss from above, and minimises that.
"""

# %%
# Along a line in the space of the weights of a logistic regression: the loss, and surrogates built
# at three points with the step 1/L. They touch the loss there and lie above it everywhere: their
# minimisers (dots) have a smaller loss.
import functools

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LinearRegression, SGDClassifier
from sklearn.metrics import log_loss
from sklearn.preprocessing import scale
from torch import nn

from skpapers.neural_network import TargetSurrogateRegressor
from skpapers.optim import SSO

data = load_breast_cancer()
X, y = scale(data.data), data.target
inputs, target = torch.from_numpy(X), torch.from_numpy(y.astype(float))[:, None]
criterion = nn.BCEWithLogitsLoss()

places = np.linspace(-1.2, 1.2, 200)
line = -(X @ np.full(30, 0.1)) + 0.4 * X[:, 0]


def loss_at(place):
    return np.mean(np.logaddexp(0, place * line) - y * place * line)


fig, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
axis.plot(places, [loss_at(place) for place in places], "k", lw=2, label="loss")
for start, color in zip((-1.0, 0.0, 0.8), ("C0", "C1", "C2")):
    slope = np.mean(line * (1 / (1 + np.exp(-start * line)) - y))
    curvature = np.mean(line**2) / 4  # 1/lr = L = 1/4
    move = places - start
    surrogate = loss_at(start) + slope * move + curvature * move**2 / 2
    axis.plot(places, surrogate, color=color, ls="--", label=f"surrogate at {start}")
    axis.plot(start, loss_at(start), "|", color=color, ms=14)
    axis.plot(start - slope / curvature, loss_at(start - slope / curvature), "o", color=color)
axis.set(xlabel="place on the line", ylabel="mean log-loss", ylim=(0, 2.4))
axis.legend(ncols=2, loc="upper center")

# %%
# Logistic regression on the breast cancer data: one request is the gradient of the loss of all
# rows by their outputs. The more steps are made for each, the fewer requests are needed; gradient
# descent has the largest step that is safe. scikit-learn's stochastic gradient asks for one row
# at a time, 569 requests for every one of the others: it is better where rows, not requests, cost.
n_calls = 100


def curve(make):
    layer = nn.utils.skip_init(nn.Linear, 30, 1, bias=False, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    optimizer = make(layer)
    loss_function = functools.partial(criterion, target=target)

    def closure():
        if isinstance(optimizer, SSO):
            return layer(inputs), loss_function
        optimizer.zero_grad()
        loss = loss_function(layer(inputs))
        loss.backward()
        return loss

    return [float(optimizer.step(closure).detach()) for _ in range(n_calls + 1)]


def sklearn_curve(rate):
    model = SGDClassifier(
        loss="log_loss", alpha=0, learning_rate="constant", eta0=rate, fit_intercept=False,
        random_state=0,
    )  # fmt: skip
    losses = [np.log(2)]
    for _ in range(n_calls):
        model.partial_fit(X, y, classes=[0, 1])
        losses.append(log_loss(y, model.predict_proba(X)))
    return losses


largest = float(torch.linalg.eigvalsh(inputs.T @ inputs).max()) / (4 * len(inputs))
fig, axis = plt.subplots(figsize=(6, 3.8), layout="constrained")
descent = curve(lambda layer: torch.optim.SGD(layer.parameters(), lr=1 / largest))
axis.plot(descent, "k", label="gradient descent")
best = min((sklearn_curve(rate) for rate in (1e-3, 1e-2, 1e-1)), key=lambda losses: losses[-1])
axis.plot(best, "k:", label="SGDClassifier, 569 for one")
for m, shade in zip((1, 5, 20, 100), (0.35, 0.55, 0.75, 0.95)):
    losses = curve(lambda layer, m=m: SSO.from_module(layer, inner_steps=m))
    axis.plot(losses, color=plt.cm.Blues(shade), label=f"SSO, steps for each: {m}")
axis.set(xlabel="requests for a gradient", ylabel="training log-loss", ylim=(0.04, 0.2))
axis.legend()

# %%
# A loss known by its gradient alone. An expert says in which direction a prediction should move,
# and by how much; too low a forecast is nine times as bad as one that is too high. Twenty opinions
# on each patient are asked for.
X, y = load_diabetes(return_X_y=True)
X = scale(X)


def expert(outputs, y, indices):
    error = outputs - y
    weight = np.where(error < 0, 9.0, 1.0)
    return np.mean(weight * error**2) / 2, weight * error


fig, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
least_squares = LinearRegression().fit(X, y).predict(X)
bins = np.linspace(-200, 200, 41)
axis.hist(least_squares - y, bins, alpha=0.5, label="LinearRegression")
model = TargetSurrogateRegressor(
    target_gradient=expert, lr=1 / 9, inner_steps=20, max_epochs=20, tol=0, random_state=0
)
cautious = model.fit(X, y).predict(X)
axis.hist(cautious - y, bins, alpha=0.5, label=f"after {model.n_gradient_calls_} opinions")
axis.axvline(0, color="k", lw=0.8)
axis.set(xlabel="forecast - truth", ylabel="patients")
axis.legend()
plt.show()
