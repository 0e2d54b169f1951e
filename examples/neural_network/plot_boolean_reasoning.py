"""
What a network makes of a feature that never changed
====================================================

Train on rows in which a binary feature is always +1, and predict for all rows. Many functions fit
the training data; a network tends to the simplest of them, which ignores the frozen feature. Its
error can then be told in advance: it is the influence of the feature on the target. The
regressor of this page has that preference exactly.
"""

# %%
# Pointer value retrieval: two bits point at one of four others, and the target is the product,
# the minimum, or the majority of the window that starts there. Each of the six bits is frozen in
# turn, and the error is drawn against the influence.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from skpapers.neural_network import (
    BooleanFourierRegressor,
    CanonicalHoldout,
    NeuralRegressor,
    boolean_influence,
    make_pointer_value_retrieval,
    noise_stability,
)

models = {
    "NeuralRegressor": NeuralRegressor(
        (128, 128), optimizer="sgd", lr=0.1, batch_size=None, max_epochs=300, tol=0, random_state=1
    ),
    "BooleanFourierRegressor": BooleanFourierRegressor(decay="min_degree"),
}
markers = dict(zip(models, ("o", "x")))
colors = dict(zip(models, ("tab:orange", "tab:blue")))
errors, influences = {name: [] for name in models}, []
for aggregation, window in (("parity", 2), ("min", 2), ("majority", 3)):
    X, y = make_pointer_value_retrieval(
        None, pointer_bits=2, window=window, aggregation=aggregation
    )
    for feature in range(6):
        ((train, test),) = CanonicalHoldout(feature, test="all").split(X)
        influences.append(boolean_influence(y, feature=feature))
        for name, model in models.items():
            fitted = model.fit(X[train], y[train]).predict(X[test])
            errors[name].append(np.mean((fitted - y[test]) ** 2) / 2)

fig, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
jitter = np.random.default_rng(0).uniform(-0.012, 0.012, size=len(influences))
for name, values in errors.items():
    left.plot(influences + jitter, values, markers[name], color=colors[name], label=name)
left.axline((0.25, 0.25), slope=1, color="k", lw=0.8, ls=":", label="error = influence")
left.set(
    xlabel="influence of the frozen bit",
    ylabel="half the squared error on all rows",
    title="a bit frozen in training",
    ylim=(0, 0.7),
)
left.legend(fontsize="small", loc="upper left")

# %%
# The same preference pays where few of the combinations of features have been seen, and the
# target is made of interactions of few of them. Here it is a random quadratic function of twelve
# bits, which have 4096 combinations.
X = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 12, indexing="ij"), axis=-1).reshape(-1, 12)
rng = np.random.default_rng(0)
coef = np.triu(rng.normal(size=(12, 12)))
quadratic = np.einsum("ni,ij,nj->n", X, np.triu(coef, 1), X) + X @ np.diag(coef)
order = rng.permutation(len(X))
sizes = [40, 60, 80, 120, 200, 400]
learners = {
    "BooleanFourierRegressor": (BooleanFourierRegressor(), "tab:blue", "x"),
    "GradientBoostingRegressor": (GradientBoostingRegressor(random_state=0), "tab:gray", "s"),
    "LinearRegression": (LinearRegression(), "k", "."),
}
for name, (learner, color, marker) in learners.items():
    scores = [learner.fit(X[order[:n]], quadratic[order[:n]]).score(X, quadratic) for n in sizes]
    middle.semilogx(sizes, scores, marker=marker, color=color, label=name)
middle.axvline(79, color="tab:gray", lw=0.8, ls=":")
middle.text(75, -0.45, "number of\ncoefficients", fontsize="small", ha="right")
middle.minorticks_off()
middle.set_xticks(sizes, labels=sizes)
middle.set(
    xlabel="rows seen, of 4096",
    ylabel="R2 on all rows",
    title="a quadratic function of 12 bits",
    ylim=(-0.5, 1.45),
)
middle.legend(fontsize="small", loc="upper left")

# %%
# What a preference for simplicity does not find: functions that a little noise in the input
# destroys. The network learns the product and the majority of the first w of the twelve bits from
# 400 rows. The product's stability falls to nothing as w grows, and the error rises to that of a
# guess and beyond, while the majority stays both stable and learnable.
rows = order[:400]
widths = np.arange(1, 8, 2)
targets = {
    "product": [X[:, :w].prod(axis=1) for w in widths],
    "majority": [np.sign(X[:, :w].sum(axis=1)) for w in widths],
}
network = NeuralRegressor((128, 128), lr=2e-3, max_epochs=60, tol=0, random_state=0)
for style, (target, tables) in zip(("-", "--"), targets.items()):
    fitted = [network.fit(X[rows], f[rows]).predict(X) for f in tables]
    losses = [np.mean((a - f) ** 2) for a, f in zip(fitted, tables)]
    right.plot(widths, losses, "o" + style, color="tab:orange", label=f"error, {target}")
    stability = [noise_stability(f, 0.2) for f in tables]
    right.plot(widths, stability, style, color="tab:green", label=f"noise stability, {target}")
right.set(
    xlabel="number of relevant bits w",
    ylabel="squared error; noise stability",
    title="a network on stable and unstable targets",
    xticks=widths,
)
right.legend(fontsize="small", loc="upper left")
for name, values in errors.items():
    gap = np.abs(np.subtract(values, influences)).mean()
    print(f"{name:24} mean |error - influence| {gap:.3f}")
plt.show()
