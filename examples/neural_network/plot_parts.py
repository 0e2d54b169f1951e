"""
A network is made of parts
==========================

Activation, normalisation, parametrisation, optimizer and loss are hyper-parameters of
``NeuralClassifier``: one grid search goes over all of them.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skpapers.neural_network import NeuralClassifier

X, y = load_digits(return_X_y=True)
network = NeuralClassifier((64,), max_epochs=8, batch_size=32, tol=0, lr=3e-3, random_state=0)
activations = ["relu", "gelu", "silu", "tanh", "softsign", "logistic"]
optimizers = ["sgd", "rmsprop", "adam", "adamw"]
search = GridSearchCV(
    make_pipeline(MinMaxScaler(), network),
    {"neuralclassifier__activation": activations, "neuralclassifier__optimizer": optimizers},
    cv=2,
).fit(X.astype(np.float32), y)

# %%
# Plain SGD needs a larger rate; the others do well with one.
scores = search.cv_results_["mean_test_score"].reshape(len(activations), len(optimizers))
fig, axis = plt.subplots(figsize=(5.2, 4.8), layout="constrained")
image = axis.imshow(scores, cmap="viridis", vmin=0.5, vmax=1)
axis.set(
    xticks=range(len(optimizers)),
    xticklabels=optimizers,
    yticks=range(len(activations)),
    yticklabels=activations,
    title="digits: accuracy after 8 epochs",
)
for (row, column), score in np.ndenumerate(scores):
    axis.text(column, row, f"{score:.2f}", ha="center", va="center", color="white")
fig.colorbar(image, label="cross-validated accuracy")
plt.show()
