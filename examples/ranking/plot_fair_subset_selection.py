"""
Fair subset selection: when do quotas undo a bias?
==================================================

Many rankers order candidates, and all of them see half of the merit of one group. The best
candidates by the sum of ranks are then of the other group alone. Within groups the order is still
informative, so that quotas can give back what the bias took. How many rankings that needs depends
on the rule that scores the candidates.
"""

# %%
# Fifty candidates in two groups of equal merit, fifty rankers, ten places. The upper row has what
# the rankers see; its mean is the criterion of :class:`sklearn.feature_selection.SelectKBest`.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_selection import SelectKBest

from skpapers.ranking import FairSubsetSelector, fairness_effectiveness, make_biased_rankings

rankings = make_biased_rankings(50, 50, theta=0.5, random_state=11)
groups = np.where(rankings.groups == 1, "disadvantaged", "others")
criterion = SelectKBest(lambda X, y: X.mean(axis=0), k=10)
choices = {
    "SelectKBest, mean of\nwhat rankers see": criterion.fit(rankings.biased, np.zeros(50)),
    "Borda, no quota": FairSubsetSelector(10, constraint=None).fit(rankings.biased),
    "Borda, equal quota": FairSubsetSelector(10, constraint="equal").fit(
        rankings.biased, groups=groups
    ),
}

# %%
# Fairness against quality: with a bias, places kept for the disadvantaged group raise the quality
# of the choice, up to their fair share of five. Without a bias, a quota of up to the fair share
# costs next to nothing.
places = np.arange(11)


def quality_by_quota(theta):
    """Mean quality of the chosen over the best, by the least number of places of the group."""
    found = np.empty((20, len(places)))
    for seed in range(20):
        R = make_biased_rankings(50, 50, theta=theta, random_state=seed)
        for quota in places:
            selector = FairSubsetSelector(10, constraint={1: (quota, 10)})
            chosen = selector.fit(R.biased, groups=R.groups).selected_
            found[seed, quota] = R.quality[chosen].sum() / np.sort(R.quality)[-10:].sum()
    return found.mean(axis=0)


# %%
# Rules that look deep into the rankings recover the best candidates from few of them. Those that
# only count who is first ("sntv") rarely see a disadvantaged candidate.
rules = {"borda": "Borda", "cc": "Chamberlin-Courant", "bloc": "bloc", "sntv": "first place only"}
grid = (3, 10, 30, 100, 300)
effect = {
    rule: fairness_effectiveness(rule, 10, n_grid=grid, n_repeats=20, random_state=0)
    for rule in rules
}

fig, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.3), layout="constrained")
order = np.argsort(-rankings.quality)
for height, selector in enumerate(choices.values()):
    chosen = selector.get_support()[order]
    for group, color in (("others", "C0"), ("disadvantaged", "C3")):
        member = groups[order] == group
        x = np.arange(50)
        left.scatter(x[member], np.full(member.sum(), -height), s=9, color=color, alpha=0.35)
        taken = member & chosen
        left.scatter(x[taken], np.full(taken.sum(), -height), s=75, color=color)
for group, color in (("others", "C0"), ("disadvantaged", "C3")):
    left.scatter([], [], s=75, color=color, label=group)
left.axvline(9.5, color="0.6", linestyle=":")
left.text(10, 0.55, "ten best in truth to the left", color="0.4", fontsize=9)
left.set(yticks=[0, -1, -2], ylim=(-2.7, 0.9), xlabel="candidates, by true quality")
left.set_yticklabels(choices)
left.set_title("who is chosen (large dots)")
left.legend(loc="lower right", ncols=2, fontsize=9)

for theta, color in ((0.5, "C3"), (0.8, "C1"), (1.0, "0.4")):
    label = "no bias" if theta == 1 else f"merit seen times {theta}"
    middle.plot(places, quality_by_quota(theta), "o-", color=color, label=label)
middle.axvline(5, color="0.6", linestyle=":")
middle.set(
    xlabel="places kept for the disadvantaged, at least", ylabel="true quality / best possible"
)
middle.set_title("fairness against quality (Borda)")
middle.legend(fontsize=9)

for color, (rule, name) in enumerate(rules.items()):
    quota, free = effect[rule].quality_ratio.T
    right.semilogx(grid, quota, "o-", color=f"C{color}", label=name)
    right.semilogx(grid, free, "--", color=f"C{color}", linewidth=1)
right.plot([], [], "-", color="0.3", label="equal quota")
right.plot([], [], "--", color="0.3", label="no quota")
right.set(xlabel="number of rankings", title="rules that look deep need few rankings")
right.legend(fontsize=9)
plt.show()
