"""
===============================================
Independence as a distance to a product of laws
===============================================

Two variables are independent if their joint law is the product of its marginals.
:class:`~skpapers.hypothesis_testing.KantorovichIndependenceTest` measures how far the one is from
the other, as the cost of moving mass. Permutations of `y` tell what distance chance makes.
"""

# %%
# A circle: no correlation, yet far from independent
# --------------------------------------------------

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import pearsonr
from sklearn.feature_selection import f_regression

from skpapers.hypothesis_testing import KantorovichIndependenceTest, kantorovich_score

rng = np.random.RandomState(0)
angle = rng.uniform(0, 2 * np.pi, 120)
circle = np.column_stack([np.cos(angle), np.sin(angle)]) + 0.1 * rng.normal(size=(120, 2))
x, y = circle.T
test = KantorovichIndependenceTest(random_state=0).fit(x[:, None], y)
print(f"p-values: {pearsonr(x, y).pvalue:.2f} (Pearson), {test.pvalue_:.3f} (Kantorovich)")

# %%
# Screening: which columns does the target depend on?
# ---------------------------------------------------
#
# The target depends on the first three columns, each in another way. The F-test of
# scikit-learn sees the line alone.

X = rng.normal(size=(120, 8))
target = X[:, 0] + X[:, 1] ** 2 + 2 * np.cos(3 * X[:, 2]) + 0.3 * rng.normal(size=120)
scores = {
    "f_regression (scikit-learn)": f_regression,
    "kantorovich_score": partial(kantorovich_score, scale="rank", random_state=0),
}
pvalues = {name: score(X, target)[1] for name, score in scores.items()}
names = ["line", "square", "cosine", *(f"noise {j}" for j in range(1, 6))]

fig, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
left.plot(*circle.T, "o", ms=4, label="sample")
left.plot(x, rng.permutation(y), "x", ms=4, color="0.6", label="product of its marginals")
left.set(title="Joint law and product law", xlabel="x", ylabel="y", aspect="equal")
left.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.2), ncol=2)
middle.hist(test.null_distribution_, bins=25, color="0.75", label="permutations of y")
middle.axvline(test.statistic_, color="tab:red", label="sample")
middle.set(
    title=f"Distance to the product law\np = {test.pvalue_:.3f}, "
    f"Pearson's test p = {pearsonr(x, y).pvalue:.2f}",
    xlabel="Wasserstein distance, in mean distances",
    ylabel="number of permutations",
)
middle.legend(fontsize="small")
for shift, (name, values) in zip((-0.2, 0.2), pvalues.items()):
    right.barh(np.arange(8) + shift, -np.log10(values), height=0.38, label=name)
right.axvline(-np.log10(0.05), color="0.3", ls=":", label="level 5 %")
right.set(title="Screening of eight columns", xlabel="-log10 p-value", xlim=(0, 4))
right.set_yticks(range(8), names)
right.invert_yaxis()
right.legend(fontsize="small")
plt.show()
