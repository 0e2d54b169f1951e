"""
Curriculum learning: what is an easy row, and does it help?
===========================================================

A curriculum shows a network the easy rows first. What is easy can be read off the data, off the
network itself, or off another model. Here three in ten of the labels of the digits are wrong, and
a good score finds them difficult.
"""

# %%
# Scores of six kinds: how much they agree, and how well each tells wrong labels from right ones
# (the area under the ROC curve).
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skpapers.neural_network import (
    CurriculumClassifier,
    NeuralClassifier,
    compare_scores,
    difficulty_scores,
)

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    (X / 16).astype(np.float32), y, test_size=0.3, stratify=y, random_state=0
)
rng = np.random.default_rng(0)
wrong = rng.uniform(size=len(y_train)) < 0.3
y_train = np.where(wrong, (y_train + rng.integers(1, 10, size=len(y_train))) % 10, y_train)

network = NeuralClassifier((128,), lr=4e-3)
names = ["transfer", "self", "feature:knn", "feature:distance", "feature:edges", "feature:entropy"]
scores = difficulty_scores(
    X_train, y_train, names, estimator=network, max_epochs=10, image_shape=(8, 8), random_state=0
)
fig, (left, middle, right) = plt.subplots(
    1, 3, figsize=(15, 4.6), layout="constrained", width_ratios=[1, 1, 1.1]
)
image = left.imshow(compare_scores(scores), cmap="RdBu_r", vmin=-1, vmax=1)
auc = [roc_auc_score(wrong, values) for values in scores.values()]
short = [name.removeprefix("feature:") for name in names]
left.set_xticks(range(len(names)), labels=short, rotation=45, ha="right")
left.set_yticks(range(len(names)), labels=[f"{n} ({a:.2f})" for n, a in zip(short, auc)])
left.set_title("rank correlation (AUC of wrong labels)")
fig.colorbar(image, ax=left, shrink=0.8)

# %%
# The pace: how many rows are available at each step. All schedules make the same number of steps.
for schedule in ("fixed_exponential", "linear", "root", "step", "cyclic"):
    model = CurriculumClassifier(
        network, scoring="feature:knn", schedule=schedule, max_epochs=12, random_state=0
    ).fit(X_train, y_train)
    middle.plot(np.linspace(0, 1, len(model.pacing_)), model.pacing_, label=schedule)
middle.set(
    xlabel="share of the training", ylabel="rows available", title="schedules", ylim=(0, 1750)
)
middle.legend(fontsize="small", loc="upper left", ncols=2)

# %%
# Training long enough to memorise the wrong labels. Easy rows first beats training on all rows,
# which is what scikit-learn's network does too; a random order at the same pace, the control,
# does not. Never showing the most difficult third is best. A short training does as well: a
# curriculum is no gain where there is nothing to memorise.
variants = {
    "sklearn MLPClassifier": None,
    "none": {"schedule": "none", "scoring": "feature:norm"},
    "random order": {"order": "random", "scoring": "feature:norm"},
    "hard first": {"order": "hard"},
    "transfer": {"scoring": "transfer"},
    "knn": {"scoring": "feature:knn"},
    "transfer, easiest 65%": {"scoring": "transfer", "end_fraction": 0.65},
}
accuracy = {}
for n_epochs in (15, 80):
    for name, params in variants.items():
        common = {"max_epochs": n_epochs, "batch_size": 128, "random_state": 0}
        if params is None:
            model = MLPClassifier((128,), learning_rate_init=4e-3, batch_size=128, random_state=0)
            for _ in range(n_epochs):
                model.partial_fit(X_train, y_train, classes=np.arange(10))
        else:
            params = {"schedule": "linear", "ramp": 0.9, **common, **params}
            model = CurriculumClassifier(network, **params).fit(X_train, y_train)
        accuracy[name, n_epochs] = model.score(X_test, y_test)
place = np.arange(len(variants))
for n_epochs, shift, color in ((15, 0.2, "tab:gray"), (80, -0.2, "tab:blue")):
    values = [accuracy[name, n_epochs] for name in variants]
    right.barh(place + shift, values, 0.38, color=color, label=f"{n_epochs} epochs")
right.set_yticks(place, labels=list(variants))
right.set(xlim=(0.75, 1.03), xlabel="accuracy on clean test rows", title="30% wrong labels")
right.legend(fontsize="small", loc="lower right")
plt.show()
