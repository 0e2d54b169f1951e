"""
Word vectors that collapse to the roles of the words
====================================================

A language of 150 words for three concepts, fifty words each. A class is a sequence of ten
concepts, and a sentence writes each in some word for it. A network that gives words of the same
concept the same vector needs few sentences; this is what training ends in, although nobody tells
it the concepts.
"""

# %%
# Five sentences a class, all words equally frequent. The training sentences are told apart early.
# The test sentences follow when the vectors of a concept have come together: the score is their
# spread within concepts, divided by the spread between concepts.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from skpapers.neural_network import (
    TokenSequenceClassifier,
    feature_collapse_score,
    make_concept_sentences,
)

SIZES = {"n_words": 150, "length": 10, "n_classes": 60}


def sentences(n, frequency):
    X, y, roles, latents = make_concept_sentences(
        n, frequency=frequency, return_roles=True, random_state=0, **SIZES
    )
    test = make_concept_sentences(
        20, frequency=frequency, latents=latents, random_state=1, **SIZES
    )
    return X, y, *test, roles


def network(layer_norm, n_epochs=1):
    return TokenSequenceClassifier(
        150,
        embedding_dim=32,
        layer_norm=layer_norm,
        alpha_embedding=0.0 if layer_norm else 1e-3,
        lr=0.5,
        batch_size=60,
        max_epochs=n_epochs,
        random_state=0,
    )


X, y, X_test, y_test, roles = sentences(5, "uniform")
model, trace = network(layer_norm=False), []
for epoch in range(1, 201):
    model.partial_fit(X, y, classes=np.unique(y))
    if epoch % 5 == 0:
        score = feature_collapse_score(model.embedding_, roles)
        trace.append((epoch, model.score(X, y), model.score(X_test, y_test), score))
epochs, train, test, collapse = np.transpose(trace)

fig, axes = plt.subplots(1, 4, figsize=(16, 4.2), layout="constrained")
axes[0].plot(epochs, train, color="tab:gray", label="training accuracy")
axes[0].plot(epochs, test, color="tab:blue", label="test accuracy")
axes[0].plot(epochs, np.minimum(collapse, 2), color="tab:red", ls="--", label="collapse score")
axes[0].set(xlabel="epoch", title="collapse brings generalisation", ylim=(-0.03, 1.6))
axes[0].legend(fontsize="small", loc="upper right")

# %%
# Words are not equally frequent. Here the b-th word of a concept is used 1/b as often as the
# first; the vectors learnt from many sentences are drawn on their two main axes. Without
# normalisation they agree in direction only, and frequent words get longer ones.
X, y, *_, roles = sentences(60, "zipf")
frequency = np.tile(1 / np.arange(1, 51), 3)
for axis, layer_norm in zip(axes[1:], (False, True)):
    model = network(layer_norm, 30).fit(X, y)
    vectors = model.embedding_
    if layer_norm:
        vectors = (vectors - vectors.mean(axis=1, keepdims=True)) / vectors.std(
            axis=1, keepdims=True
        )
    U, s, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    size = 15 + 200 * frequency
    axis.scatter(*(U * s)[:, :2].T, s=size, c=roles, cmap="Set1", vmax=8, alpha=0.6)
    score = feature_collapse_score(vectors, roles)
    name = "with layer norm" if layer_norm else "without layer norm"
    axis.set(title=f"{name}: score {score:.3f}", xlabel="first axis", ylabel="second axis")
    axis.set_aspect("equal", "datalim")

# %%
# What it is good for: few sentences a class. One-hot words with logistic regression, which share
# nothing between words, come next to it.
counts = [2, 5, 10, 20]
scores = {"with layer norm": [], "without layer norm": [], "one-hot + LogisticRegression": []}
for n in counts:
    X, y, X_test, y_test, _ = sentences(n, "zipf")
    peer = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression(C=10))
    models = (network(True, 1200 // n), network(False, 1200 // n), peer)
    for name, model in zip(scores, models):
        scores[name].append(model.fit(X, y).score(X_test, y_test))
for (name, values), marker in zip(scores.items(), "osx"):
    axes[3].plot(counts, values, marker=marker, label=name)
axes[3].set(
    xlabel="training sentences of a class", title="test accuracy", xticks=counts, ylim=(0, 1.03)
)
axes[3].legend(fontsize="small", loc="lower right")
for name, values in scores.items():
    print(f"{name:30}", *(f"{value:.3f}" for value in values))
plt.show()
