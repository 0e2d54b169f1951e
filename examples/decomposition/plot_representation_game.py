"""
A representation game: codes for tasks that are not yet known
=============================================================

Principal components keep what varies most. If the tasks ahead depend on features that vary
little, they are lost. ``MinimaxRepresentation`` is told which class of tasks to expect, keeps what
the worst of them needs, and says how much can be lost; a mixture of representations loses less
than any single one.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.decomposition import PCA

from skpapers.decomposition import GameRepresentation, MinimaxRepresentation

# %%
# Twenty directions of which the i-th has importance 1 / i, and codes of r numbers. The guarantee
# of one representation is the next eigenvalue; that of the best mixture is the level to which
# importance can be filled up. The iterative game, which needs no closed form, comes down to it
# from above, and its certificate comes up from below.
lam = 1 / np.arange(1, 21)
W = np.random.default_rng(0).normal(size=(100, 20))
W = np.linalg.qr(W - W.mean(axis=0))[0]
X = W * np.sqrt(100 * lam)

sizes = np.arange(1, 11)
pure = [MinimaxRepresentation(r).fit(X).regret_ for r in sizes]
mixed = [MinimaxRepresentation(r, strategy="mixed").fit(X).regret_ for r in sizes]
rounds = [1, 2, 4, 6, 8, 10, 15, 20, 30, 40]
games = [GameRepresentation(3, n_representations=k, random_state=0).fit(X) for k in rounds]
best = MinimaxRepresentation(3, strategy="mixed", random_state=0).fit(X)

fig, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
axes[0].plot(sizes, pure, "s-", label="one representation")
axes[0].plot(sizes, mixed, "o-", label="best mixture")
axes[0].set(xlabel="number of codes r", ylabel="worst-case regret", title="the guarantee")
axes[0].legend()
axes[1].bar(np.arange(1, 21), lam, color="lightgray", label="importance")
axes[1].bar(np.arange(1, 21), lam * (1 - best.marginals_), color="tab:orange", label="regret")
axes[1].axhline(best.regret_, color="black", linestyle="--", linewidth=1)
axes[1].set(xlabel="direction", title="r = 3: the mixture levels the worst")
axes[1].legend()
axes[2].plot(rounds, [game.regret_ for game in games], "o-", label="regret of the mixture")
axes[2].plot(rounds, [game.value_ for game in games], "^-", label="lower bound")
axes[2].axhline(best.regret_, color="black", linestyle="--", linewidth=1, label="closed form")
axes[2].set(xlabel="representations tried", title="r = 3: the iterative game")
axes[2].legend()

# %%
# The diabetes data: the tasks ahead depend on two of the four features of least variance. Three
# codes are learnt from thirty such tasks, and tried on five hundred new ones.
X = load_diabetes(scaled=False).data
X = X - X.mean(axis=0)
low = np.argsort(X.std(axis=0))[:4]
rng = np.random.default_rng(0)


def draw_tasks(n):
    tasks = np.zeros((n, X.shape[1]))
    for task in tasks:
        columns = rng.choice(low, 2, replace=False)
        task[columns] = rng.normal(size=2) / X[:, columns].std(axis=0)
    return tasks


past, new = draw_tasks(30), draw_tasks(500)


def lost(codes):
    """Share of a task's variance that the best predictor from codes misses."""
    Y = X @ new.T
    missed = Y - codes @ np.linalg.lstsq(codes, Y, rcond=None)[0]
    return (missed**2).sum(axis=0) / (Y**2).sum(axis=0)


game = MinimaxRepresentation(3, task_prior="targets").fit(X, X @ past.T)
fig, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
bins = np.linspace(0, 1, 41)
for name, model in [("PCA", PCA(3).fit(X)), ("MinimaxRepresentation", game)]:
    share = lost(model.transform(X))
    label = f"{name}: mean {share.mean():.2f}, worst {share.max():.2f}"
    axis.hist(share, bins, alpha=0.6, label=label)
axis.set(
    xlabel="share of the task's variance that three codes lose",
    ylabel="new tasks",
    title="tasks on features of little variance",
)
axis.legend()
plt.show()
