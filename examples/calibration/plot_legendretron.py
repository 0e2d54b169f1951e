"""
A link that is learnt
=====================

Under label noise no score makes a class certain, so that the softmax, which tends to 0 and 1,
is the wrong link. LegendreTron learns the link together with the scores.
"""

# %%
# Two classes, of whose labels a fifth is drawn at random; the true probabilities are known.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from skpapers.calibration import LegendreTronClassifier

rng = np.random.default_rng(0)
w = 2 * rng.normal(size=8)


def draw(n_samples, noise=0.2):
    X = rng.normal(size=(n_samples, 8))
    p = noise / 2 + (1 - noise) / (1 + np.exp(-X @ w))
    return X, (rng.uniform(size=n_samples) < p).astype(int), p


(X, y, _), (X_test, y_test, p_test) = draw(3000), draw(3000)
settings = {"icnn_width": 8, "alpha": 1e-4, "max_epochs": 60, "batch_size": 300, "lr": 0.02}
models = {
    "LogisticRegression": LogisticRegression(),
    "LegendreTronClassifier": LegendreTronClassifier(**settings, tol=0, random_state=0),
}
for model in models.values():
    model.fit(X, y)

# %%
# Left: the probability of the second class by the true score, with the share of its labels.
# Middle and right: the predicted against the true probability of each test row.
fig, axes = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
score = X_test @ w
order = np.argsort(score)
axes[0].plot(score[order], p_test[order], color="k", lw=2, label="true link")
for (name, model), color in zip(models.items(), ("C1", "C0")):
    p = model.predict_proba(X_test)[:, 1]
    axes[0].scatter(score, p, s=2, color=color, alpha=0.4)
    axes[0].scatter([], [], s=20, color=color, label=name)
parts = np.array_split(order, 25)
shares = [(score[part].mean(), y_test[part].mean()) for part in parts]
axes[0].plot(*np.transpose(shares), "k+", label="share of labels")
axes[0].set(xlabel="true score", ylabel="probability of the second class")
axes[0].set(title="Two classes, a fifth of the labels at random")
axes[0].legend(fontsize="small")
for axis, (name, model), color in zip(axes[1:], models.items(), ("C1", "C0")):
    p = model.predict_proba(X_test)[:, 1]
    axis.scatter(p_test, p, s=3, color=color, alpha=0.5)
    axis.plot([0, 1], [0, 1], color="0.5", ls="--")
    loss = log_loss(y_test, p)
    best = log_loss(y_test, p_test)
    axis.set(xlabel="true probability", ylabel="predicted probability", xlim=(0, 1), ylim=(0, 1))
    axis.set_title(f"{name}\ntest log loss {loss:.3f}, of the truth {best:.3f}")
plt.show()
