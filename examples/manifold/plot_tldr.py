"""
TLDR: dimensions spent on neighbours, not on variance
=====================================================

A search engine stores short vectors and ranks them by cosine. PCA keeps the directions of largest
variance; TLDR learns a matrix of the same shape for which every image and its nearest neighbours
agree. The digits of 64 pixels are reduced to 16 numbers, and new images look up the training
images: those of the same digit should come first.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import normalize

from skpapers.manifold import TLDR

X, y = load_digits(return_X_y=True)
base, queries, labels, answers = train_test_split(X / 16, y, train_size=0.6, random_state=0)
mean = base.mean(axis=0)
base, queries = base - mean, queries - mean

settings = {"n_components": 16, "n_neighbors": 20, "max_epochs": 60, "random_state": 0}
reducers = {
    "PCA": PCA(16),
    "TLDR, linear": TLDR(**settings),
    "TLDR, one hidden layer": TLDR(**settings, hidden_layer_sizes=(256,)),
}


def ranking(reducer):
    stored, asked = (normalize(reducer.transform(rows)) for rows in (base, queries))
    return np.argsort(-asked @ stored.T, axis=1)


found = {name: ranking(reducer.fit(base)) for name, reducer in reducers.items()}

# %%
# Precision against recall, over all queries. What PCA loses is the far end of each list: images of
# the same digit that do not look alike pixel by pixel.
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
levels = np.linspace(0.02, 1, 50)
for name, order in found.items():
    relevant = labels[order] == answers[:, None]
    hits = np.cumsum(relevant, axis=1)
    precision, recall = hits / np.arange(1, len(labels) + 1), hits / hits[:, -1:]
    average = np.mean((precision * relevant).sum(1) / relevant.sum(1))
    curves = [np.interp(levels, r, p) for r, p in zip(recall, precision)]
    left.plot(
        levels, np.mean(curves, axis=0), label=f"{name}: mean average precision {average:.2f}"
    )
left.set(xlabel="recall", ylabel="precision", ylim=(0, 1.02), title="16 numbers an image")
left.legend(loc="lower left")

# %%
# The query on which the linear maps differ most: every eighth image of its two lists, with the
# wrong digits in red.
places = np.arange(20, 92, 8)
correct = {name: labels[order] == answers[:, None] for name, order in found.items()}
gain = correct["TLDR, linear"][:, :92].sum(axis=1) - correct["PCA"][:, :92].sum(axis=1)
query = np.argmax(gain)
right.imshow((queries[query] + mean).reshape(8, 8), cmap="gray_r", extent=(0, 8, 8, 0))
right.text(0, -0.8, "query")
for row, name in enumerate(["PCA", "TLDR, linear"], start=1):
    right.text(0, 13 * row - 0.8, f"{name}: places {places[0]}, {places[1]}, ... {places[-1]}")
    for column, place in enumerate(places):
        x, y = 10 * column, 13 * row
        image = base[found[name][query, place]] + mean
        right.imshow(image.reshape(8, 8), cmap="gray_r", extent=(x, x + 8, y + 8, y))
        color = "tab:green" if correct[name][query, place] else "tab:red"
        right.add_patch(plt.Rectangle((x, y), 8, 8, fill=False, edgecolor=color, lw=2))
right.set(title="what one query finds", xticks=[], yticks=[], xlim=(-1, 89), ylim=(35, -4))
plt.show()
