"""
========================================================
A goodness-of-fit test that notices a missing proportion
========================================================

A Stein test compares a sample with the score of a density. Between two modes that are far apart
there is no sample, so that it cannot see how much mass each of them should hold.
:class:`~skpapers.hypothesis_testing.PerturbedKSDTest` lets points jump between modes first, by a
chain that leaves the density as it is.
"""

# %%
# The density has two equal modes, the sample 80 % of its points in one
# ---------------------------------------------------------------------

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm

from skpapers.hypothesis_testing import KSDTest, PerturbedKSDTest


class TwoModes:
    """0.5 N(0, 1) + 0.5 N(6, 1): all that the tests use."""

    def score_samples(self, X):
        return np.logaddexp(norm.logpdf(X[:, 0]), norm.logpdf(X[:, 0], 6)) - np.log(2)

    def score_function(self, X):
        second = 1 / (1 + np.exp(18 - 6 * X))
        return 6 * second - X


def draw(share, rng, n_samples=200):
    """A sample with the given share of its points in the first mode."""
    return (rng.normal(size=n_samples) + 6 * (rng.uniform(size=n_samples) > share))[:, None]


rng = np.random.RandomState(0)
X = draw(0.8, rng)
plain = KSDTest(TwoModes(), random_state=0).fit(X)
perturbed = PerturbedKSDTest(TwoModes(), random_state=0).fit(X)
print(f"p-values: {plain.pvalue_:.3f} (plain), {perturbed.pvalue_:.3f} (perturbed)")

# %%
# Power against the share of points in the first mode
# ---------------------------------------------------
#
# The plain test rejects about as rarely as under the null hypothesis, where the share is 0.5.

shares = [0.5, 0.6, 0.7, 0.8, 1.0]
power = {}
for make in (KSDTest, PerturbedKSDTest):
    test = make(TwoModes(), n_bootstrap=200, random_state=0)
    test.fit(X)
    power[make.__name__] = [
        np.mean([test.test(draw(s, rng)).reject for _ in range(20)]) for s in shares
    ]

fig, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
grid = np.linspace(-4, 10, 400)[:, None]
left.hist(X[:, 0], bins=40, density=True, color="0.75", label="sample, 80 % / 20 %")
left.plot(grid, np.exp(TwoModes().score_samples(grid)), "k", label="density, 50 % / 50 %")
left.set(title="What is tested", xlabel="x", ylabel="density")
left.legend(fontsize="small")
middle.plot(grid, TwoModes().score_function(grid), "k")
middle.plot(X[:, 0], TwoModes().score_function(X)[:, 0], "o", ms=3, alpha=0.4, label="sample")
middle.axvspan(2.2, 3.8, color="tab:red", alpha=0.15, label="only here would weights show")
middle.set(
    title="The score at the sample\nis the same for any weights", xlabel="x", ylabel="score"
)
middle.legend(fontsize="small")
for (name, values), marker in zip(power.items(), "so"):
    right.plot(shares, values, marker=marker, label=name)
right.axhline(0.05, color="0.5", ls=":", label="level 5 %")
right.set(title="Power, 200 points", xlabel="share in the first mode", ylabel="share rejected")
right.legend(fontsize="small")
plt.show()
