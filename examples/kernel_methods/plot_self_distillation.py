"""
===============================================
A teacher that keeps an eye on the true targets
===============================================

Refitting kernel ridge to its own predictions regularises it more at every step, down to zero. A
share of the true targets dampens this:
:class:`~skpapers.kernel_methods.SelfDistilledKernelRidge` then converges to a fit that is useful,
and computes all steps, the limit and the best share without refitting.
"""

# %%
# Eleven noisy values of a sine
# -----------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import scale

from skpapers.kernel_methods import SelfDistilledKernelRidge

rng = np.random.RandomState(3)
X = np.linspace(0, 1, 11)[:, None]
X_new = np.linspace(0, 1, 201)[:, None]
y = np.sin(2 * np.pi * X[:, 0]) + 0.35 * rng.normal(size=11)
settings = {"alpha": 0.2, "kernel": "rbf", "gamma": 80.0}

fig, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
for ax, weight in zip(axes, (0.0, 0.35)):
    model = SelfDistilledKernelRidge(n_steps=10, target_weight=weight, **settings).fit(X, y)
    for step, values in enumerate(model.staged_predict(X_new)):
        ax.plot(X_new, values, color=plt.cm.viridis(step / 10), lw=1)
    limit = SelfDistilledKernelRidge(n_steps=np.inf, target_weight=weight, **settings).fit(X, y)
    ax.plot(X_new, limit.predict(X_new), "r--", label="limit")
    ax.plot(X_new, np.sin(2 * np.pi * X_new), "k:", label="truth")
    ax.plot(X, y, "k.", ms=9, label="data")
    ax.set(title=f"weight of the true targets: {weight}", xlabel="x", ylim=(-1.6, 1.7))
axes[0].legend(title="lines: steps 1 (dark) to 10", fontsize="small", title_fontsize="small")

# %%
# A ridge penalty that is wrong
# -----------------------------
#
# On the diabetes data, distillation with the weights it finds by leave-one-out repairs penalties
# that are too small, and leaves well alone where the penalty is right. Pure distillation over 30
# steps only ever regularises more.

A, b = load_diabetes(return_X_y=True)
A, b = scale(A), scale(b)
alphas = np.geomspace(0.01, 30, 9)


def score(model):
    return cross_val_score(model, A, b, cv=5).mean()


shared = {"kernel": "rbf", "gamma": 0.1}
curves = {
    "KernelRidge": [score(KernelRidge(alpha=a, **shared)) for a in alphas],
    "pure distillation, 30 steps": [
        score(SelfDistilledKernelRidge(30, 0.0, alpha=a, **shared)) for a in alphas
    ],
    "weights found per step, 8 steps": [
        score(SelfDistilledKernelRidge(8, "per_step", alpha=a, **shared)) for a in alphas
    ],
}
for (name, values), marker in zip(curves.items(), "s^o"):
    axes[2].semilogx(alphas, values, marker=marker, label=name)
axes[2].set(xlabel="ridge penalty alpha", ylabel="R2, 5 folds", title="Diabetes")
axes[2].set_ylim(0, 0.6)
axes[2].legend(fontsize="small")
plt.show()
