"""
Kernel balancing: ratings that are not a random sample
======================================================

What is rated is not a random sample: people rate what they like. Propensities of a logistic
regression reweight the ratings, but balance no more than the features that the regression has.
Kernel balancing finds weights under which the observed pairs look like all pairs, for functions of
the space of a kernel.
"""

# %%
# An outcome that depends on two features, and is seen more often where it is high. The
# mean of what is observed is too high, and so is that with propensities of a logistic regression.
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from skpapers.ranking import KernelBalancedRecommender, KernelBalancingWeights


def draw(seed, n=1500):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, size=(n, 2))
    s = np.sin(2 * X[:, 0]) + X[:, 0] * X[:, 1]
    y = s + 0.3 * rng.normal(size=n)
    return X, y, rng.random(n) < expit(s - 0.5)


numbers, seeds = [1, 2, 5, 10], range(4)
bias = {name: [] for name in ("random", "adaptive", "worst")}
plain, logistic = [], []
for seed in seeds:
    X, y, seen = draw(seed)
    truth = y.mean()
    plain.append(y[seen].mean() - truth)
    propensity = LogisticRegression().fit(X, seen).predict_proba(X[seen])[:, 1]
    logistic.append(np.average(y[seen], weights=1 / propensity) - truth)
    for name, found in bias.items():
        for n_functions in numbers:
            model = KernelBalancingWeights(
                selection=name, n_functions=n_functions, gamma_kernel=1.0, random_state=seed
            ).fit(X, y, observed=seen)
            found.append(model.estimate_mean(y) - truth)
bias = {name: np.abs(np.reshape(v, (len(seeds), -1))).mean(axis=0) for name, v in bias.items()}

# %%
# A recommender: the factors are too short for the ratings, and fit what is rated most. The weights
# make them fit all pairs. Factors that are long enough need no weights.
lengths, errors = [1, 2, 3], {"no weights": [], "balanced": []}
rng = np.random.default_rng(2)
A, B = rng.normal(size=(200, 3)), rng.normal(size=(150, 3))
T = A @ B.T / np.sqrt(3)
rated = rng.random(T.shape) < 0.05 + 0.45 * expit(2 * T)
R = np.where(rated, T + 0.3 * rng.normal(size=T.shape), np.nan)
pairs = np.argwhere(np.ones(T.shape))
for length in lengths:
    for name, settings in zip(errors, ({"balance_strength": 0.0}, {})):
        model = KernelBalancedRecommender(
            length, selection="random", n_functions=100, random_state=0, **settings
        ).fit(R, user_features=A, item_features=B)
        errors[name].append(np.mean((model.predict(pairs) - T.ravel()) ** 2))

fig, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.3), layout="constrained")
X, y, seen = draw(0)
model = KernelBalancingWeights(
    selection="worst", n_functions=10, gamma_kernel=1.0, random_state=0
).fit(X, y, observed=seen)
left.scatter(*X[~seen].T, s=3, color="0.8", label="missing")
size = 12 * model.sample_weight_[seen]
dots = left.scatter(*X[seen].T, s=size, c=y[seen], cmap="coolwarm", vmin=-3, vmax=3, alpha=0.8)
fig.colorbar(dots, ax=left, label="outcome")
left.set(xlabel="first feature", ylabel="second feature")
left.set_title("observed rows, areas are weights:\nlow outcomes stand for many")

middle.axhline(np.mean(np.abs(plain)), color="0.3", label="observed mean")
middle.axhline(np.mean(np.abs(logistic)), color="C3", ls="--", label="logistic propensities")
for name, color in (("random", "C1"), ("adaptive", "C0"), ("worst", "C2")):
    middle.semilogx(numbers, bias[name], "o-", color=color, label=f"kernel balancing, {name}")
middle.set_xticks(numbers, numbers)
middle.set(xlabel="functions balanced", ylabel="absolute error", ylim=(0, 1.5))
middle.set_title("mean of all outcomes:\nfew functions do, if they are the right ones")
middle.legend(fontsize=8, loc="upper right")

x = np.arange(len(lengths))
for place, (name, color) in enumerate(zip(errors, ("0.5", "C0"))):
    right.bar(x + 0.36 * (place - 0.5), errors[name], 0.34, color=color, label=name)
right.set_xticks(x, [1, 2, "3, the truth"])
right.set(xlabel="length of factors", ylabel="squared error over all pairs")
right.set_title("recommender:\nweights help factors that are too short")
right.legend(fontsize=8)
plt.show()
