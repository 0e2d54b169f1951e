"""
=============================================
Does a model of sequences fit the sequences?
=============================================

Event logs, words or DNA are sequences of symbols of varying length.
:class:`~skpapers.hypothesis_testing.SequentialKSDTest` compares them with a model that need not
be normalised, and from which nothing is drawn: it asks the model alone how probable each sequence
is, compared with those that differ from it by one edit.
"""

# %%
# A model of clicks in a shop
# ---------------------------
#
# Visitors look at one of three kinds of pages, stay there with probability 0.6, and leave after
# every page with probability 0.12.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from skpapers.hypothesis_testing import SequentialKSDTest, sequence_neighbors

PAGES = "abc"
MAX_LENGTH = 20


def transition_matrix(mix):
    """Probabilities of the next page, mixed with the uniform ones."""
    return (1 - mix) * (0.2 + 0.4 * np.eye(3)) + mix / 3


def draw(n_samples, rng, mix=0.0, stop=0.12):
    """Draw visits, as words."""
    steps, words = np.cumsum(transition_matrix(mix), axis=1)[:, :-1], []
    for _ in range(n_samples):
        word = [rng.randint(3)]
        while len(word) < MAX_LENGTH and rng.uniform() > stop:
            word.append(np.searchsorted(steps[word[-1]], rng.uniform()))
        words.append("".join(PAGES[page] for page in word))
    return words


class Shop:
    """All that the test uses: log probabilities, here of positions in the alphabet."""

    alphabet, max_length = list(PAGES), MAX_LENGTH

    def score_samples(self, X):
        steps = np.log(transition_matrix(0.0))
        inside = X[:, 1:] >= 0
        lengths = 1 + inside.sum(axis=1)
        moves = np.where(inside, steps[X[:, :-1], X[:, 1:]], 0).sum(axis=1)
        stops = np.where(lengths < MAX_LENGTH, np.log(0.12), 0)
        return moves + (lengths - 1) * np.log(0.88) + stops


rng = np.random.RandomState(0)
words = draw(200, rng)
print("visits:", *words[:5])
print("neighbours of 'ab':", *map("".join, sequence_neighbors("ab", PAGES, max_length=20)))
print(f"the model fits its visits: p = {SequentialKSDTest(Shop()).fit(words).pvalue_:.2f}")

# %%
# Power against changed transitions, and against shorter visits
# -------------------------------------------------------------
#
# The other tests compare the visits with as many draws from the model: the distance of the mean
# counts of pages and pairs of pages, by scikit-learn's ``CountVectorizer``, calibrated by
# permutations. They see the number of pages at once, and hardly how pages follow each other.


def counts_pvalue(words, drawn, rng, n_permutations=200):
    """Permutation p-value of the distance of mean counts."""
    vectorizer = CountVectorizer(analyzer="char", ngram_range=(1, 2))
    counts = vectorizer.fit_transform(words + drawn).toarray().astype(float)
    signs = np.repeat([1.0, -1.0], [len(words), len(drawn)])
    shuffled = [signs] + [rng.permutation(signs) for _ in range(n_permutations)]
    distances = np.sum((np.array(shuffled) @ counts) ** 2, axis=1)
    return np.mean(distances >= distances[0] * (1 - 1e-12))


def power(setting, repeats=30):
    """Share rejected at level 5 % by the Stein tests and by counts of drawn visits."""
    found = []
    for seed in range(repeats):
        words = draw(100, rng, **setting)
        tests = [
            SequentialKSDTest(Shop(), n_edit_positions=n, n_bootstrap=200, random_state=seed)
            for n in (None, 1)
        ]
        counts = counts_pvalue(words, draw(100, rng), rng)
        found.append([test.fit(words).pvalue_ for test in tests] + [counts])
    return np.mean(np.array(found) <= 0.05, axis=0)


mixes, stops = [0, 0.15, 0.3, 0.45, 0.6], [0.12, 0.18, 0.24, 0.3, 0.4]
by_mix = np.array([power({"mix": mix}) for mix in mixes])
by_stop = np.array([power({"stop": stop}) for stop in stops])

fig, axes = plt.subplots(1, 2, figsize=(11, 3.8), sharey=True, layout="constrained")
names = [
    "Stein test, all places edited",
    "Stein test, the end edited",
    "counts against drawn visits",
]
styles = ["o-", "s-", "^--"]
for values, name, style in zip(zip(by_mix.T, by_stop.T), names, styles):
    axes[0].plot(mixes, values[0], style, label=name)
    axes[1].plot(stops, values[1], style, label=name)
axes[0].set(
    title="Pages follow each other differently",
    xlabel="transitions: model (0) to uniform (1)",
    ylabel="share rejected, 100 visits",
)
axes[1].set(title="Visits end earlier", xlabel="probability to leave (model: 0.12)")
for ax in axes:
    ax.axhline(0.05, color="0.5", ls=":", label="level 5 %")
axes[0].legend(fontsize="small", loc="upper left")
plt.show()
