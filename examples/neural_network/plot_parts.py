"""
A network is made of parts
==========================

Activation, normalisation, parametrisation, optimizer and loss are hyper-parameters of
``NeuralClassifier``: one grid search goes over all of them.
"""

# %%
# Twelve activations and three optimizers, each at a rate that suits it, in one pipeline and two
# processes. Parameters of a part are written behind its name.

import pickle

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler

from skpapers.neural_network import NeuralClassifier

X, y = load_digits(return_X_y=True)
X = X.astype(np.float32)
network = NeuralClassifier((64, 64), max_epochs=8, batch_size=32, tol=0, random_state=0)
activations = [
    "relu",
    "leaky_relu",
    "elu",
    "softplus",
    "gelu",
    "silu",
    "mish",
    "sau(n=2.0)",
    "aglu",
    "tanh",
    "softsign",
    "logistic",
]
rates = {"smb": 0.5, "adam": 3e-3, "fadam": 3e-3}
search = GridSearchCV(
    Pipeline([("scale", MinMaxScaler()), ("network", network)]),
    [
        {
            "network__activation": activations,
            "network__optimizer": [optimizer],
            "network__lr": [rate],
        }
        for optimizer, rate in rates.items()
    ],
    cv=2,
    n_jobs=2,
).fit(X, y)
print(search.best_params_)

# %%
# The search is an estimator like any other: it can be pickled, and predicts the same afterwards.

again = pickle.loads(pickle.dumps(search))
assert np.array_equal(again.predict(X), search.predict(X))

# %%
# What bends little, and what saturates, takes longer to train.

scores = search.cv_results_["mean_test_score"].reshape(len(rates), len(activations)).T
fig, axis = plt.subplots(figsize=(4.8, 5.4), layout="constrained")
image = axis.imshow(scores, cmap="viridis", vmin=0.86, vmax=0.93, aspect="auto")
axis.set(
    xticks=range(len(rates)),
    xticklabels=rates,
    yticks=range(len(activations)),
    yticklabels=activations,
    title="digits: accuracy after 8 epochs",
)
for (row, column), score in np.ndenumerate(scores):
    color = "black" if score > 0.912 else "white"
    axis.text(column, row, f"{score:.3f}", ha="center", va="center", color=color)
fig.colorbar(image, label="cross-validated accuracy")
plt.show()
