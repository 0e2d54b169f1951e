"""
Few labels, many rows
=====================

Labels are dear and rows are cheap. A latent-variable model of all rows, and a small head on what
it says of the labelled ones, needs labels for the head alone. When this helps, how much, and when
it hurts.
"""

# %%
# Fifty features that follow three hidden factors, and a target that depends on the factors. With
# a dozen targets, a regression on the features has next to nothing to go by; on three estimated
# factors it has.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.semi_supervised import LabelSpreading

from skpapers.representation import PretrainedClassifier, PretrainedRegressor

amounts = [6, 10, 20, 40, 80, 160]
penalties = np.logspace(-3, 4, 20)


def risks(n, seed, hidden):
    """Risks of pretraining and of ridge regression on n targets; `hidden` off the factors."""
    rng = np.random.default_rng(seed)
    loadings, Z = rng.normal(size=(50, 3)), rng.normal(size=(3000, 3))
    X = Z @ loadings.T + rng.normal(size=(3000, 50))
    y = Z @ rng.normal(size=3)
    if hidden:  # what the factors do not see
        y = X @ np.linalg.svd(loadings)[0][:, -1]
    y += 0.1 * rng.normal(size=3000)
    known = np.where(np.arange(3000) < n, y, np.nan)
    models = (
        PretrainedRegressor(n_components=3).fit(X[:2500], known[:2500]),
        RidgeCV(penalties).fit(X[:n], y[:n]),
    )
    return [np.mean((m.predict(X[2500:]) - y[2500:]) ** 2) / np.var(y) for m in models]


fig, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
titles = ("a target of the factors", "a target of what factors leave out")
for axis, hidden, title in zip(axes, (False, True), titles):
    found = np.median([[risks(n, seed, hidden) for n in amounts] for seed in range(6)], axis=0)
    axis.loglog(amounts, found, "o-", label=["PretrainedRegressor", "RidgeCV"])
    axis.set(title=title, xlabel="labelled rows", xticks=amounts, xticklabels=amounts)
    axis.minorticks_off()
axes[0].set_ylabel("mean squared error / variance")
axes[0].legend()


# %%
# Four groups in thirty features, of which the first and the last are one class: no line divides
# the classes. A mixture finds the groups without labels; a label in each tells which is which.
def accuracies(n, seed):
    rng = np.random.default_rng(seed)
    centers, group = 0.9 * rng.normal(size=(4, 30)), rng.integers(4, size=3000)
    X, y = centers[group] + rng.normal(size=(3000, 30)), np.isin(group, [0, 3]).astype(int)
    few = np.where(np.arange(3000) < n, y, -1)
    known = few >= 0
    models = (
        PretrainedClassifier(n_components=4, random_state=0).fit(X[:2000], few[:2000]),
        LabelSpreading(kernel="knn", n_neighbors=10).fit(X[:2000], few[:2000]),
        LogisticRegression(max_iter=1000).fit(X[known], y[known]),
    )
    return [model.score(X[2000:], y[2000:]) for model in models]


labels = [8, 16, 32, 64, 128]
found = np.mean([[accuracies(n, seed) for n in labels] for seed in range(3)], axis=0)
scores = dict(zip(("PretrainedClassifier", "LabelSpreading", "LogisticRegression"), found.T))
for name, values in scores.items():
    axes[2].semilogx(labels, values, "o-", label=name)
axes[2].set(
    title="two classes, two groups each", xlabel="labelled rows", ylabel="accuracy on new rows"
)
axes[2].set_xticks(labels, labels)
axes[2].minorticks_off()
axes[2].legend(fontsize="small", loc="lower right")
plt.show()
