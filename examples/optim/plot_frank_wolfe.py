"""
Frank-Wolfe: simple steps, no tuning, and a certificate
=======================================================

The best constant mix of assets maximises the sum of the logarithms of its returns. The objective
is infinite where a return is zero, so that it has no smoothness constant, and the usual step of
Frank-Wolfe, 2 / (t + 2), leaves its domain at once. It is enough to refuse such steps.
"""

# %%
# The duality gap, which bounds the distance to the optimum, for several step rules. "monotonic"
# has the rate 1 / t and needs nothing but values and gradients.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import scale

from skpapers.optim import FrankWolfeClassifier, frank_wolfe, lmo_simplex

rng = np.random.default_rng(0)
returns = rng.uniform(size=(100, 50)) * (rng.uniform(size=(100, 50)) > 0.05)


def f(x):
    return -np.log(returns @ x).sum()


def grad(x):
    return -returns.T @ (1 / (returns @ x))


def hessian(x, d):
    return np.sum((returns @ d / (returns @ x)) ** 2)


def domain(x):
    return (returns @ x > 0).all()


fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for step in ("monotonic", "halving", "second_order", "away"):
    result = frank_wolfe(
        f,
        grad,
        lmo_simplex,
        np.full(50, 1 / 50),
        step,
        hessian=hessian,
        self_concordance=(2.0, 3),
        domain=domain,
        max_iter=5000,
        tol=1e-10,
    )
    best = np.minimum.accumulate(result.history[:, 1])
    left.loglog(np.arange(1, len(best) + 1), best, label=step)
t = np.array([100, 5000])
left.loglog(t, 100 / t, "k:", label="1 / t")
left.set(xlabel="iteration", ylabel="best duality gap", title="portfolio, 100 times 50 assets")
left.legend()

# %%
# For classification the radius of an l1 ball takes the place of a penalty. The coefficients along
# the radii are those of scikit-learn's l1 logistic regression along its penalties.
X, y = load_breast_cancer(return_X_y=True)
X = scale(X)
radii = np.linspace(0.25, 6, 24)
model = FrankWolfeClassifier(step="away", tol=1e-5, max_iter=5000)
coefs, _, _ = model.path(X, y, radii)
strongest = np.argsort(-np.abs(coefs[-1, 0]))[:6]
for column in strongest:
    (line,) = right.plot(radii, coefs[:, 0, column])
    points = []
    for C in np.geomspace(0.006, 0.12, 8):
        peer = LogisticRegression(C=C, l1_ratio=1, solver="saga", tol=1e-4, max_iter=5000)
        peer.fit(X, y)
        points.append((np.abs(peer.coef_).sum(), peer.coef_[0, column]))
    right.plot(*np.transpose(points), "o", ms=4, color=line.get_color())
right.plot([], [], "k-", label="FrankWolfeClassifier.path")
right.plot([], [], "ko", ms=4, label="LogisticRegression, l1")
right.set(xlabel="l1 norm of the coefficients", ylabel="coefficient", title="breast cancer")
right.legend(loc="lower left")
plt.show()
