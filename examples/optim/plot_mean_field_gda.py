"""
Mixed strategies where descent and ascent run in circles
========================================================

A game ``min over x, max over y of payoff(x, y)`` that is not convex and concave may have no
equilibrium in points. It has one in distributions, which two clouds of particles find.
"""

# %%
# A game on the square with many local saddles. Plain descent and ascent ends nowhere in
# particular. With noise, and y five times as fast as x, the clouds settle on the mixed
# equilibrium; the Nikaido-Isoda error says how much both players could still gain by deviating.
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from skpapers.neural_network import RobustMixtureClassifier
from skpapers.optim import mixed_nash_equilibrium, nikaido_isoda_error


def payoff(x, y):
    """Matrix of payoffs of all x against all y."""
    return x @ y.T + torch.sin(4 * math.pi * x) @ torch.sin(4 * math.pi * y).T


box = [(-1.0, 1.0)]
options = {"boundary": "reflect", "pairwise": False}
found = mixed_nash_equilibrium(
    payoff, box, box, temperature=0.05, n_particles=150, max_iter=4000, random_state=0, **options
)

path = [torch.tensor([0.3, 0.2], dtype=torch.float64)]
for _ in range(4000):
    point = path[-1].clone().requires_grad_()
    value = payoff(point[:1, None], point[1:, None]).sum()
    (gradient,) = torch.autograd.grad(value, point)
    step = 0.002 * gradient * torch.tensor([-1.0, 1.0])
    path.append((point.detach() + step).clamp(-1, 1))
path = torch.stack(path)
plain_error = nikaido_isoda_error(payoff, path[-1:, :1], path[-1:, 1:], box, box, **options)

fig, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
axis = torch.linspace(-1, 1, 201, dtype=torch.float64)[:, None]
for ax in axes[:2]:
    ax.contourf(axis[:, 0], axis[:, 0], payoff(axis, axis).T, 20, cmap="RdBu_r", alpha=0.6)
    ax.set(xlabel="x, minimises", ylabel="y, maximises", xlim=(-1, 1), ylim=(-1, 1))
axes[0].plot(path[:, 0], path[:, 1], "k-", lw=0.7)
axes[0].plot(*path[-1], "ko", label="where it is in the end")
axes[0].legend(loc="lower right")
axes[0].set_title(f"descent and ascent: error {plain_error:.2f}")
rng = np.random.default_rng(0)
x, y = (rng.permutation(cloud.numpy())[:1500] for cloud in (found.x_cloud, found.y_cloud))
axes[1].plot(x, y, "k.", ms=2)
axes[1].set_title(f"two clouds: error {found.ni_error:.2f}")


# %%
# The same dynamics make a classifier robust: models against adversaries who weight groups of
# rows. Here a feature is right for most rows and wrong for one in ten.
def rows(n):
    y, rare = rng.choice([-1, 1], n), rng.random(n) < 0.1
    easy = np.where(rare, -y, y) + 0.5 * rng.standard_normal(n)
    return np.column_stack([y + rng.standard_normal(n), easy]), y, rare


(X, y, rare), (X_test, y_test, rare_test) = rows(2000), rows(5000)
radii = [0.0, 0.25, 0.5, 0.75, 1.0]
scores = []
for radius in radii:
    model = RobustMixtureClassifier(radius=radius, n_models=10, random_state=0)
    model.fit(X, y, groups=rare)
    scores.append([model.score(X_test[rare_test == k], y_test[rare_test == k]) for k in (0, 1)])
plain = LogisticRegression().fit(X, y)
for k, name, color in ((0, "majority", "C0"), (1, "minority", "C1")):
    axes[2].plot(radii, np.array(scores)[:, k], "o-", color=color, label=f"{name}, mixture")
    score = plain.score(X_test[rare_test == k], y_test[rare_test == k])
    axes[2].axhline(score, ls=":", color=color, label=f"{name}, LogisticRegression")
axes[2].set(xlabel="radius: power of the adversary", ylabel="accuracy", title="groups of rows")
axes[2].set_ylim(0.45, 1)
axes[2].legend(loc="lower right", fontsize=8)
plt.show()
