"""
EGN: exact Gauss-Newton steps of mini-batches
=============================================

A Gauss-Newton step solves a system of the size of the parameters. For a mini-batch the same step
comes from a system with one row for each output of the batch, which is small: second-order
training at the price of a few steps of Adam.
"""

# %%
# A smooth function of two variables, 512 rows, a small network. Each method gets the best of
# several learning rates; the number of epochs is the same.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.neural_network import MLPRegressor

from skpapers.neural_network import NeuralRegressor

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, size=(1024, 2))
y = np.sin(5 * X[:, 0]) * np.cos(3 * X[:, 1])
X_train, X_test, y_train, y_test = X[:512], X[512:], y[:512], y[512:]
n_epochs = 40
common = {"hidden_layer_sizes": (32, 32), "activation": "tanh", "batch_size": 64}


def error(model):
    return max(1 - model.score(X_test, y_test), 1e-8)


def curve(lr, **options):
    model = NeuralRegressor(
        **common, lr=lr, max_epochs=n_epochs, tol=0, random_state=0, **options,
        callbacks=[lambda model, epoch, logs: errors.append(error(model))],
    )  # fmt: skip
    errors = []
    return errors, model.fit(X_train, y_train)


def sklearn_curve(lr):
    model, errors = MLPRegressor(**common, alpha=0, learning_rate_init=lr, random_state=0), []
    for _ in range(n_epochs):
        errors.append(error(model.partial_fit(X_train, y_train)))
    return errors, model


def best(make, rates):
    return min((make(lr) for lr in rates), key=lambda pair: pair[0][-1])


rates = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
results = {
    "MLPRegressor, Adam": best(sklearn_curve, rates),
    "SGD": best(lambda lr: curve(lr, optimizer="sgd"), (0.03, 0.1, 0.3)),
    "Adam": best(lambda lr: curve(lr, optimizer="adam"), rates),
    "EGN": curve(0.5, optimizer="egn", optimizer_params={"damping": 0.02}),
}
fig, axis = plt.subplots(figsize=(6, 3.8), layout="constrained")
for (name, (errors, _)), style in zip(results.items(), ("C0:", "C1", "C0", "C3")):
    axis.semilogy(range(1, n_epochs + 1), errors, style, label=name)
axis.set(xlabel="epoch", ylabel="test error / variance")
fig.legend(loc="outside upper center", ncols=4)

# %%
# What has been learnt after these epochs.
grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 80)] * 2), -1).reshape(-1, 2)
truth = np.sin(5 * grid[:, 0]) * np.cos(3 * grid[:, 1])
pictures = {"truth": truth} | {
    name: results[name][1].predict(grid) for name in ("MLPRegressor, Adam", "EGN")
}
fig, axes = plt.subplots(1, 3, figsize=(8, 2.9), layout="constrained", sharey=True)
for axis, (name, values) in zip(axes, pictures.items()):
    image = axis.imshow(
        values.reshape(80, 80), extent=(-1, 1, -1, 1), origin="lower", vmin=-1, vmax=1, cmap="RdBu"
    )
    axis.set(title=name, xlabel="first feature")
axes[0].set_ylabel("second feature")
fig.colorbar(image, ax=axes)
plt.show()
