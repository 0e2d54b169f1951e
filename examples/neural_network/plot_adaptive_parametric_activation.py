"""
A gate that need not be symmetric
=================================

The logistic function treats yes and no alike. Where one of them is rare that is the wrong shape;
a gate with one parameter more moves from the logistic to the Gumbel function, and is trained.
"""

# %%
# The gate, and the activation that it makes when multiplied by its input.
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import optimize
from scipy.special import expit
from sklearn.datasets import load_digits
from sklearn.metrics import recall_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skpapers.neural_network import (
    AdaptiveGatedLinearUnit,
    NeuralClassifier,
    adaptive_parametric_activation,
    class_prior_correction,
)

z = np.linspace(-4, 4, 301)
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for shape in (1e-4, 0.3, 1.0, 5.0):
    left.plot(z, adaptive_parametric_activation(z, shape, 1.0), label=f"lambda = {shape:g}")
left.plot(z, expit(z), "k--", label="logistic")
left.set(title="the gate, kappa = 1", xlabel="z")
for slope in (0.0, 1.0, 1.702, 10.0):
    with torch.no_grad():
        unit = AdaptiveGatedLinearUnit(init_kappa=slope)(torch.from_numpy(z))
    right.plot(z, unit, label=f"kappa = {slope:g}")
right.set(title="the gated unit, lambda = 1", xlabel="z")
for axis in (left, right):
    axis.legend()

# %%
# Outcomes drawn with a Gumbel link: the gate finds it, while the best logistic curve misses the
# probabilities by several points on both sides.
rng = np.random.default_rng(0)
x = rng.uniform(-2, 4, 20000)
y = rng.random(len(x)) < np.exp(-np.exp(-x))


def gate(x, log_shape, slope, shift):
    return adaptive_parametric_activation(x + shift, max(np.exp(log_shape), 1e-4), slope)


def logistic(x, slope, shift):
    return expit(slope * x + shift)


def fit(link, start):
    def loss(parameters):
        p = link(x, *parameters).clip(1e-12, 1 - 1e-12)
        return -np.mean(np.log(np.where(y, p, 1 - p)))

    return optimize.minimize(loss, start, method="Nelder-Mead").x


points = np.linspace(-2, 4, 200)
truth = np.exp(-np.exp(-points))
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.plot(points, logistic(points, *fit(logistic, [1, 0])) - truth, label="logistic")
left.plot(points, gate(points, *fit(gate, [0, 1, 0])) - truth, label="adaptive gate")
left.axhline(0, color="k", linestyle="--", label="truth")
left.set(title="error of the fitted probability", xlabel="z")
left.legend()

# %%
# The whole recipe for unequal classes: digits, of which the higher ones are ever rarer. The rare
# ones are recalled once the logits are corrected for the shares of the classes, which is where
# nearly all of the gain comes from.
X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
sizes = (89 * 100 ** (-np.arange(10) / 9)).round().astype(int)
kept = np.concatenate([np.flatnonzero(y == digit)[:n] for digit, n in enumerate(sizes)])
scaler = StandardScaler().fit(X[kept])
X, X_test, y = scaler.transform(X[kept]), scaler.transform(X_test), y[kept]
for offset, (label, activation, kind) in enumerate(
    [("ReLU", "relu", None), ("AGLU", "aglu", None), ("AGLU, corrected", "aglu", "rel")]
):
    model = NeuralClassifier((64, 64), activation=activation, tol=0, random_state=0).fit(X, y)
    shift = 0 if kind is None else class_prior_correction(np.bincount(y), kind)
    predicted = (model.decision_function(X_test) + shift).argmax(1)
    recall = recall_score(y_test, predicted, average=None)
    right.bar(np.arange(10) + 0.27 * (offset - 1), recall, 0.27, label=label)
right.set(title="share of each digit that is found", ylim=(0, 1.4))
right.set_xticks(range(10), [f"{d}\n{n}" for d, n in enumerate(sizes)])
right.set_xlabel("digit, and how many to learn from")
right.legend(ncols=3, fontsize="small")
plt.show()
