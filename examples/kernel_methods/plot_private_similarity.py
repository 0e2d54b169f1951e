"""
===================================================
Private answers about a data set, one noisy summary
===================================================

:class:`~skpapers.kernel_methods.PrivateSimilarity` looks at the records once, releases a summary
with differential privacy, and then answers any number of queries from it. A density estimate or a
classifier built on such sums is private without any further accounting.
"""

# %%
# A private density
# -----------------
#
# The exact kernel density against private ones, at three budgets.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KernelDensity

from skpapers.kernel_methods import PrivateKernelDensity, PrivateSimilarityClassifier

rng = np.random.RandomState(0)
X = np.concatenate([rng.normal(-2, 0.6, 2400), rng.normal(1.5, 1.0, 1600)])[:, None]
grid = np.linspace(-5, 5, 300)[:, None]

fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
exact = KernelDensity(bandwidth=0.5 / np.sqrt(2)).fit(X)
left.plot(grid, np.exp(exact.score_samples(grid)), "k", lw=2, label="KernelDensity, not private")
for epsilon, color in ((0.1, "tab:red"), (0.3, "tab:orange"), (1.0, "tab:green")):
    settings = {"bandwidth": 0.5, "n_components": 4000, "random_state": 0}
    private = PrivateKernelDensity(epsilon=epsilon, **settings).fit(X)
    density = np.exp(private.score_samples(grid))
    left.plot(grid, density, color=color, label=f"private, epsilon = {epsilon}")
left.set(title="Density of 4000 private records", xlabel="x", ylabel="density")
left.legend(fontsize="small")

# %%
# A private classifier without training
# -------------------------------------
#
# One noisy mean a class. The more records, the less privacy costs: here, the digits, given once
# and (as a stand-in for a larger data set) with ten jittered copies.

digits, labels = load_digits(return_X_y=True)
split = train_test_split(digits - 8, labels, test_size=0.3, random_state=0)
X, X_test, y, y_test = split
larger = np.tile(X, (10, 1)) + rng.normal(size=(10 * len(X), 64))
sets = {f"{len(X)} records": (X, y), f"{len(larger)} records": (larger, np.tile(y, 10))}

epsilons = np.logspace(-1.5, 1, 9)
for (name, (records, targets)), marker in zip(sets.items(), "os"):
    scores = np.array(
        [
            [
                PrivateSimilarityClassifier(
                    epsilon=epsilon, delta=1e-5, normalize=True, random_state=seed
                )
                .fit(records, targets)
                .score(X_test, y_test)
                for seed in range(10)
            ]
            for epsilon in epsilons
        ]
    )
    right.errorbar(
        *(epsilons, scores.mean(1), scores.std(1)), marker=marker, capsize=3, label=f"ours, {name}"
    )
peer = LogisticRegression(max_iter=2000).fit(X, y).score(X_test, y_test)
right.axhline(peer, color="k", ls="--", label="LogisticRegression, not private")
right.axhline(0.1, color="0.6", ls=":", label="chance")
right.set(xscale="log", ylim=(0, 1.02), xlabel="privacy budget epsilon", ylabel="test accuracy")
right.set_title("Digits from noisy class means")
right.legend(fontsize="small", loc="lower right")
plt.show()
