"""
SMB: failed steps are repaired by a model
=========================================

Plain SGD with too large a learning rate overshoots, and may never come back. SMB looks at the loss
of the batch after each step; where it has not fallen enough, the gradient there and the one before
make a quadratic model for each tensor, whose minimiser replaces the step.
"""

# %%
# In two dimensions: descent into a narrow valley at a rate at which gradient descent diverges.
# Model steps are shorter than the trial steps they replace, and turned along the valley.
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from skpapers.neural_network import DivergenceError, NeuralClassifier
from skpapers.optim import SMB

curvature = torch.tensor([1.0, 12.0])


def path(make, n_steps, **options):
    x = torch.nn.Parameter(torch.tensor([-2.0, 0.5]))
    optimizer, points = make([x], **options), [x.detach().numpy().copy()]

    def closure():
        optimizer.zero_grad()
        loss = (curvature * x.square()).sum() / 2
        loss.backward()
        return loss

    for _ in range(n_steps):
        optimizer.step(closure)
        points.append(x.detach().numpy().copy())
    return np.array(points)


fig, axis = plt.subplots(figsize=(7, 3.5), layout="constrained")
first, second = np.meshgrid(np.linspace(-2.3, 0.6, 200), np.linspace(-1.2, 1.2, 200))
axis.contour(first, second, first**2 + 12 * second**2, 12, colors="0.8")
for name, points in {
    "gradient descent": path(torch.optim.SGD, 4, lr=0.19),
    "SMB": path(SMB, 25, lr=0.19),
}.items():
    axis.plot(*points.T, "o-", ms=4, label=name)
axis.plot(0, 0, "k*", ms=10)
axis.set(xlim=(-2.3, 0.6), ylim=(-1.2, 1.2), title="learning rate 0.19, curvatures 1 and 12")
axis.legend(loc="upper right")

# %%
# A network on the digits, 15 epochs, over learning rates. SGD fails from a rate of 2 on; SMB
# trains at 4. scikit-learn's SGD fails where ours does.
X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
rates = [0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0]


def final_loss(optimizer, lr):
    network = NeuralClassifier(optimizer=optimizer, lr=lr, max_epochs=15, tol=0, random_state=0)
    try:
        proba = network.fit(X, y).predict_proba(X)
    except DivergenceError:
        return np.nan
    return -np.mean(np.log(np.maximum(proba[np.arange(len(y)), y], 1e-12)))


def sklearn_loss(lr):
    network = MLPClassifier(
        (100,), solver="sgd", momentum=0, learning_rate_init=lr, batch_size=128, alpha=0,
        random_state=0,
    )  # fmt: skip
    for _ in range(15):
        network.partial_fit(X, y, classes=range(10))
    return -np.mean(np.log(np.maximum(network.predict_proba(X)[np.arange(len(y)), y], 1e-12)))


fig, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
axis.loglog(rates, [sklearn_loss(lr) for lr in rates], "o:", label="MLPClassifier, SGD")
for name in ("sgd", "smb", "smbi"):
    axis.loglog(rates, [final_loss(name, lr) for lr in rates], "o-", label=name)
axis.axhline(np.log(10), color="k", lw=0.8, ls="--", label="guessing")
axis.set(xlabel="learning rate", ylabel="cross-entropy after 15 epochs")
axis.legend()
plt.show()
