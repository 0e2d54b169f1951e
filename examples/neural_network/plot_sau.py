"""
An activation as smooth as one wants
====================================

A leaky ReLU convolved with a normal density has a closed form. It is as close to the leaky ReLU as
one wants, and its derivatives of all orders exist, which is what a network needs if its own
derivatives are to mean anything.
"""

# %%
# The sharper the density, the closer to the leaky ReLU. Any piecewise-linear function can be
# smoothed in the same way.
import matplotlib.pyplot as plt
import numpy as np
import torch

from skpapers.neural_network import SAU, NeuralRegressor, SmoothedActivation

x = torch.linspace(-3, 3, 301)
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
left.plot(x, torch.nn.functional.leaky_relu(x, 0.15), "k--", label="leaky ReLU")
for n in (1, 2, 5):
    left.plot(x, SAU(n=n)(x).detach(), label=f"n = {n}")
left.set(title="SAU", xlabel="x")
wide = torch.linspace(-3, 9, 301)
right.plot(wide, torch.nn.functional.relu6(wide), "k--", label="ReLU6")
for kernel in ("gaussian", "laplace", "uniform"):
    right.plot(wide, SmoothedActivation("relu6", kernel, n=1.0)(wide), label=kernel)
right.set(title="ReLU6, smoothed by several densities", xlabel="x")
for axis in (left, right):
    axis.legend()

# %%
# A network fitted to values of sin(3x) alone: its second derivative is that of the sine where the
# activation has one, and zero with ReLU.
x = np.linspace(-2, 2, 256)[:, None]
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
left.plot(x, np.sin(3 * x), "k--", label="target")
right.plot(x, -9 * np.sin(3 * x), "k--", label="target")
for activation in ("relu", "sau(n=2.0)"):
    model = NeuralRegressor(
        (32, 32),
        activation=activation,
        lr=1e-2,
        lr_schedule="cosine",
        max_epochs=400,
        batch_size=None,
        tol=0,
        random_state=0,
    ).fit(x, np.sin(3 * x[:, 0]))
    t = torch.from_numpy(x).requires_grad_()
    (slope,) = torch.autograd.grad(model.module_(t).sum(), t, create_graph=True)
    second = torch.zeros_like(t)
    if slope.requires_grad:
        (second,) = torch.autograd.grad(slope.sum(), t, materialize_grads=True)
    left.plot(x, model.predict(x), label=activation)
    right.plot(x, second.numpy() * model.y_scale_, label=activation)
left.set(title="the fit", xlabel="x")
right.set(title="its second derivative", xlabel="x")
left.legend()
right.legend()
plt.show()
