"""
====================================
A holdout set that can be used twice
====================================

Choosing features by their holdout scores, and then reporting the score on the same holdout, is
adaptive data analysis: the report is too good. :class:`~skpapers.model_selection.Thresholdout`
answers the same questions so that the holdout keeps its worth.
"""

# %%
# Features chosen with the help of the holdout
# --------------------------------------------
#
# None of the 2000 features has to do with the labels. The features whose correlation with the
# label is strong on training rows and holdout alike are put to a vote. The plain holdout, asked
# once for each feature and once for the vote, reports an accuracy that fresh rows do not confirm.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from skpapers.model_selection import ReusableHoldoutSearchCV, Thresholdout

n = d = 2000
counts = [1, 20, 50, 100, 200, 300]


def vote(train, answers, k):
    """Signs of the k features most correlated with the labels, and alike on both parts."""
    correlations = 2 * np.array([train, answers]) - 1
    strong = np.abs(correlations).min(axis=0) > 1 / np.sqrt(n)
    strong &= correlations.prod(axis=0) > 0
    best = np.argsort(-np.abs(correlations[0]) * strong)[:k]
    weights = np.zeros(d)
    weights[best] = (np.sign(correlations[0]) * strong)[best]
    return weights


def experiment(seed):
    """Reported and fresh accuracies, for the plain and for the reusable holdout."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((3, n, d), dtype=np.float32)
    y = rng.choice([-1.0, 1.0], (3, n)).astype(np.float32)
    train, plain, _ = ((1 + part.T @ label / n) / 2 for part, label in zip(X, y))
    holdout = Thresholdout(0.04, budget=n, random_state=seed)
    results = []
    for answers in (plain, holdout.query_means(train, plain)):
        weights = np.column_stack([vote(train, answers, k) for k in counts])
        results.append([(np.sign(p @ weights) == s[:, None]).mean(axis=0) for p, s in zip(X, y)])
    results[1][1] = holdout.query_means(results[1][0], results[1][1])
    return np.array(results)[:, 1:]


results = np.array([experiment(seed) for seed in range(4)])
means, spreads = results.mean(axis=0), results.std(axis=0)

# %%
# The same in a search
# --------------------
#
# :class:`~skpapers.model_selection.ReusableHoldoutSearchCV` is asked for the best of 300 features,
# one by one, and then for the vote of those that seemed better than chance.


class Vote(ClassifierMixin, BaseEstimator):
    """Majority of the signs of some columns."""

    def __init__(self, columns=(0,)):
        self.columns = columns

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.where(np.sign(X[:, list(self.columns)]).sum(axis=1) > 0, 1, -1)


def propose(history):
    """Parameters to try next, which depend on the scores so far."""
    if len(history) < 300:
        return {"columns": (len(history),)}
    if len(history) > 300:
        return None
    return {"columns": tuple(h["params"]["columns"][0] for h in history if h["score"] > 0.5)}


rng = np.random.RandomState(0)
X, y = rng.normal(size=(3000, 300)), rng.choice([-1, 1], 3000)
for mechanism in ("none", "thresholdout"):
    search = ReusableHoldoutSearchCV(
        Vote(), propose, holdout_size=0.5, mechanism=mechanism, threshold=0.06, random_state=0
    )
    print(f"{mechanism}: best score {search.fit(X, y).best_score_:.3f}")

fig, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
for ax, name, (reported, fresh), (spread, other) in zip(
    axes, ["Plain holdout", "Thresholdout"], means, spreads
):
    ax.errorbar(counts, reported, spread, marker="o", capsize=3, label="reported by the holdout")
    ax.errorbar(counts, fresh, other, marker="s", capsize=3, label="on fresh rows")
    ax.axhline(0.5, color="0.5", ls=":", label="truth: no signal")
    ax.set(title=name, xlabel="number of features in the vote")
axes[0].set_ylabel("accuracy")
axes[0].legend(fontsize="small")
plt.show()
