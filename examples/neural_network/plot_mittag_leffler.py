"""
One activation for all
======================

Sigmoid, tanh, SiLU and many more are one expression at certain orders of the Mittag-Leffler
function. Orders in between give activations in between, and a network can train them.
"""

# %%
# Between known activations: each curve has other orders. Dashed is the function of torch, which is
# met exactly at the orders of the preset.
import matplotlib.pyplot as plt
import numpy as np
import torch

from skpapers.neural_network import MittagLefflerActivation, NeuralRegressor

x = torch.linspace(-5, 5, 401)
families = {
    "silu": ("alpha1", (0.2, 0.5, 0.8, 1.0), torch.nn.functional.silu),
    "tanh": ("beta1", (1.6, 1.8, 2.0, 2.4), torch.tanh),
    "sine": ("alpha1", (1.0, 1.5, 1.8, 2.0), torch.sin),
}
fig, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
for axis, (preset, (order, values, native)) in zip(axes, families.items()):
    for value in values:
        with torch.no_grad():
            curve = MittagLefflerActivation(preset, **{order: value})(x)
        axis.plot(x, curve, label=f"{order} = {value}")
    axis.plot(x, native(x), "k--", label=f"torch's {native.__name__}")
    axis.set(title=preset, xlabel="x")
    axis.set_ylim(top=1.5 * axis.get_ylim()[1])
    axis.legend(fontsize="x-small")

# %%
# Eight hidden units shall fit a damped oscillation. The sine, which oscillates for ever, is the
# wrong kind; with its orders trained it becomes one that is damped.
t = np.linspace(-3, 3, 200)[:, None]
target = np.exp(-abs(t[:, 0])) * np.cos(5 * t[:, 0])
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.plot(t, target, "k--", label="target")
for label, learnable in (("sine", False), ("orders trained", True)):
    model = NeuralRegressor(
        (8,),
        activation="mittag_leffler",
        activation_params={"preset": "sine", "learnable": learnable},
        lr=2e-2,
        max_epochs=200,
        batch_size=None,
        tol=0,
        random_state=1,
    ).fit(t, target)
    left.plot(t, model.predict(t), label=label)
    with torch.no_grad():
        right.plot(x, model.module_[1](x), label=label)
left.set(title="the fit", xlabel="t")
right.set(title="the activation after training", xlabel="x", ylim=(-1.1, 1.7))
left.legend()
right.legend()
plt.show()
