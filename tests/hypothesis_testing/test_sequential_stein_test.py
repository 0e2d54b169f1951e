"""Tests of the Stein test for sequences."""

import itertools
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.sparse.csgraph import connected_components
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV

from skpapers.hypothesis_testing import SequentialKSDTest, sequence_neighbors
from skpapers.hypothesis_testing._sequence_kernels import (
    CountKernel,
    ExponentialKernel,
    PairKernel,
)
from skpapers.hypothesis_testing._sequence_models import MarkovChain, edit_weights
from skpapers.hypothesis_testing._sequences import Sequences, all_edits, edited
from skpapers.structure import Ragged

BALANCING = {
    "barker": lambda t: t / (1 + t),
    "mpf": lambda t: t**0.5,
    "metropolis": lambda t: min(1.0, t),
}
REACHES = [1, 2, None]

# All 30 strings of two symbols with 1 to 4 places.
STRINGS = [s for n in range(1, 5) for s in itertools.product((0, 1), repeat=n)]
POSITION = {s: i for i, s in enumerate(STRINGS)}
SPACE = Sequences(
    np.array([s + (-1,) * (4 - len(s)) for s in STRINGS]), np.array([len(s) for s in STRINGS])
)


def random_law(seed=0):
    return np.random.RandomState(seed).dirichlet(np.ones(len(STRINGS)))


def table(law):
    """A model of the 30 strings."""
    return lambda strings: np.log([law[POSITION[s]] for s in strings])


def weighted_edits(law, n_positions, balancing="barker"):
    edits = all_edits(SPACE, 2, 4, n_positions)
    return edits, edit_weights(table(law), SPACE, edits, np.arange(2), 4, balancing)


def chain(stop=0.12, mix=0.0, max_length=20):
    """Three symbols that repeat with probability 0.6, mixed with uniform transitions."""
    transition = np.full((3, 3), 0.2) + 0.4 * np.eye(3)
    return MarkovChain(np.full(3, 1 / 3), (1 - mix) * transition + mix / 3, stop, max_length)


def rejections(data, repeats, n_samples=200, **params):
    params = {"model": chain(), "alphabet": range(3), "n_bootstrap": 200, **params}
    tests = (SequentialKSDTest(random_state=seed, **params) for seed in range(repeats))
    samples = (data.sample(n_samples, random_state=5000 + seed) for seed in range(repeats))
    return np.mean([test.fit(sample).reject_ for test, sample in zip(tests, samples)])


def length_kernel(left, right):
    return np.outer(*([len(s) for s in strings] for strings in (left, right)))


# Neighbourhoods and the operator, on a space that can be enumerated.


@pytest.mark.parametrize("n_positions", REACHES)
@pytest.mark.parametrize("balancing", BALANCING)
def test_stein_features_have_mean_zero_under_the_model(n_positions, balancing):
    law = random_law()
    features = CountKernel(2, 3, 0.5).stein(SPACE, *weighted_edits(law, n_positions, balancing))
    assert np.abs(features).max() > 0.1
    assert_allclose(law @ features, 0, atol=1e-14)


@pytest.mark.parametrize("n_positions", REACHES)
@pytest.mark.parametrize("n_substitutions", [None, 2])
@pytest.mark.parametrize("alphabet", [(0, 1), (0, 1, 2, 3)])
def test_neighborhoods_are_symmetric_with_multiplicity_and_connected(
    n_positions, n_substitutions, alphabet
):
    strings = [s for n in range(1, 5) for s in itertools.product(alphabet, repeat=n)]
    position = {s: i for i, s in enumerate(strings)}
    counts = np.zeros((len(strings), len(strings)), dtype=int)
    for s in strings:
        options = {"n_edit_positions": n_positions, "n_substitutions": n_substitutions}
        for neighbor in sequence_neighbors(s, alphabet, max_length=4, **options):
            counts[position[s], position[neighbor]] += 1
    assert_array_equal(counts, counts.T)
    assert connected_components(counts)[0] == 1


def test_neighbors_are_the_edits_of_the_last_places():
    def neighbors(word, **options):
        found = sequence_neighbors(word, "abcd", max_length=3, **options)
        return sorted("".join(n) for n in found)

    end = neighbors("ab", n_edit_positions=1)
    assert end == sorted(["aa", "ac", "ad", "a", "aba", "abb", "abc", "abd"])
    cyclic = neighbors("da", n_edit_positions=1, n_substitutions=2)
    assert cyclic == sorted(["db", "dd", "d", "daa", "dab", "dac", "dad"])
    assert "b" in neighbors("ab") and "b" not in end
    assert len(neighbors("abc")) == 3 * 3 + 3  # no insertion at the largest length
    assert len(neighbors("a")) == 3 + 2 * 4  # the only symbol is not deleted
    for bad in ({"n_substitutions": 3}, {"n_edit_positions": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            neighbors("ab", **bad)


def count_features(string, n_symbols, max_ngram, scale):
    """The features, written out."""
    features = [len(string) * scale]
    for order in range(1, max_ngram + 1):
        for gram in itertools.product(range(n_symbols), repeat=order):
            starts = range(len(string) - order + 1)
            found = sum(string[i : i + order] == gram for i in starts)
            features.append(found / len(string) ** 0.5)
    return np.array(features)


@pytest.mark.parametrize("n_positions", REACHES)
@pytest.mark.parametrize("kernel", ["csk", "exp_csk"])
def test_stein_kernel_is_the_double_sum_over_neighbors(n_positions, kernel):
    model = chain(max_length=7)
    codes = model.sample(12, random_state=0)
    strings = [tuple(row[row >= 0].tolist()) for row in codes]
    phi = {}

    def features(s):
        if s not in phi:
            phi[s] = count_features(s, 3, 3, 0.4)
        return phi[s]

    def base(a, b):
        if kernel == "csk":
            return features(a) @ features(b)
        squared = np.sum((features(a) - features(b)) ** 2) + 2 * (len(a) != len(b))
        return np.exp(-squared / 1.7)

    def log_prob(s):
        return model.score_samples([s])[0]

    options = {"max_length": 7, "n_edit_positions": n_positions}
    around = [sequence_neighbors(s, range(3), **options) for s in strings]
    ratios = [[np.exp(log_prob(t) - log_prob(s)) for t in ts] for s, ts in zip(strings, around)]
    expected = np.zeros((3, 3))
    for i, j in itertools.product(range(3), repeat=2):
        for t, u in itertools.product(range(len(around[i])), range(len(around[j]))):
            s, s2, r, r2 = strings[i], around[i][t], strings[j], around[j][u]
            terms = base(s2, r2) - base(s2, r) - base(s, r2) + base(s, r)
            weight = BALANCING["barker"](ratios[i][t]) * BALANCING["barker"](ratios[j][u])
            expected[i, j] += weight * terms

    counts = CountKernel(3, 3, 0.4)
    fast = counts if kernel == "csk" else PairKernel(ExponentialKernel(counts, 1.7))
    sequences = Sequences(codes, (codes >= 0).sum(axis=1))
    edits = all_edits(sequences, 3, 7, n_positions)
    weights = edit_weights(model, sequences, edits, np.arange(3), 7, "barker")
    stein = fast.stein(sequences, edits, weights)
    matrix = fast.gram(stein, stein)
    assert_allclose(matrix[:3, :3], expected, atol=1e-10)
    assert np.linalg.eigvalsh(matrix)[0] > -1e-12 * np.trace(matrix)
    signs = np.random.RandomState(0).choice([-1.0, 1.0], size=(5, 12))
    assert_allclose(fast.draws(stein, signs), np.sum(signs @ matrix * signs, axis=1))
    assert_allclose(fast.means(stein, stein), matrix.mean(axis=1))


def test_exponential_kernel_separates_all_laws():
    """The null space of the Stein kernel is spanned by the law; counts of pairs are not enough."""
    law = random_law()
    dimensions = {}
    for max_ngram, n_positions in itertools.product([2, 4], [1, None]):
        counts = CountKernel(2, max_ngram, 1 / np.std(SPACE.lengths))
        kernel = PairKernel(ExponentialKernel.of(counts, SPACE))
        stein = kernel.stein(SPACE, *weighted_edits(law, n_positions))
        matrix = kernel.gram(stein, stein)
        values = np.linalg.eigvalsh(matrix)
        dimensions[max_ngram, n_positions] = np.sum(values < 1e-12 * values[-1])
        assert abs(law @ matrix @ law) < 1e-14
        if max_ngram < 4:
            continue
        others = [random_law(seed) for seed in range(1, 101)]
        assert min(q @ matrix @ q for q in others) > (0.01 if n_positions == 1 else 0.1)
        swapped = law.copy()
        pair = [POSITION[0, 0, 1, 0], POSITION[0, 1, 0, 0]]
        swapped[pair] = swapped[pair[::-1]]
        assert swapped @ matrix @ swapped > 1e-6
    assert dimensions == {(2, 1): 3, (2, None): 3, (4, 1): 1, (4, None): 1}


# The Markov chain.


def test_markov_chain_is_a_law_and_its_local_ratios_are_ratios():
    model = MarkovChain([0.3, 0.7], [[0.8, 0.2], [0.4, 0.6]], 0.25, 4)
    assert_allclose(np.exp(model.score_samples(SPACE.codes)).sum(), 1)
    assert_allclose(model.score_samples([[0, 1, -1, -1]]), np.log(0.3 * 0.75 * 0.2 * 0.25))
    assert_allclose(model.score_samples([[1, 1, 0, 0]]), np.log(0.7 * 0.75**3 * 0.6 * 0.4 * 0.8))
    edits = all_edits(SPACE, 2, 4)
    expected = model.score_samples(edited(SPACE, edits).codes)
    expected -= model.score_samples(SPACE.codes)[edits.row]
    assert_allclose(model.edit_log_ratios(SPACE, edits), expected, atol=1e-13)

    drawn = model.sample(20000, random_state=0)
    rows = [POSITION[tuple(row[row >= 0].tolist())] for row in drawn]
    observed = np.bincount(rows, minlength=30)
    law = np.exp(model.score_samples(SPACE.codes))
    assert stats.chisquare(observed, 20000 * law).pvalue > 0.01


def test_markov_chain_is_estimated():
    model = chain()
    codes = model.sample(20000, random_state=0)
    fitted = MarkovChain.estimate(Sequences(codes, (codes >= 0).sum(axis=1)), 3, 20)
    assert_allclose(fitted.initial, model.initial, atol=0.015)
    assert_allclose(fitted.transition, model.transition, atol=0.015)
    assert_allclose(fitted.stop, 0.12, atol=0.005)
    one = MarkovChain.estimate(Sequences(np.array([[0, 1]]), np.array([2])), 2, 3)
    assert_allclose(one.initial, [2 / 3, 1 / 3])
    assert_allclose(one.transition, [[1 / 3, 2 / 3], [1 / 2, 1 / 2]])
    assert_allclose(one.stop, 2 / 4)  # one stop among two chances, plus one of each


# The test.


def test_constants_and_names_of_symbols_do_not_matter():
    model = chain(mix=0.3)
    codes = model.sample(60, random_state=1)

    def fit(model, X, **params):
        return SequentialKSDTest(model, max_length=20, random_state=0, **params).fit(X)

    plain = fit(chain(), codes, alphabet=range(3))
    words = ["".join("abc"[c] for c in row[row >= 0]) for row in codes]
    named = np.array(["z", "m", "q"])  # another order
    renamed = [[named[c] for c in row[row >= 0]] for row in codes]
    number = {"z": 0, "m": 1, "q": 2}

    def log_prob(words):
        return [chain().score_samples([[number[c] for c in w]])[0] + 100.0 for w in words]

    for other in (
        fit(log_prob, renamed),
        fit(lambda ws: log_prob([["zmq"["abc".index(c)] for c in w] for w in ws]), words),
    ):
        assert_allclose(other.statistic_, plain.statistic_, rtol=1e-9)
        assert other.pvalue_ == plain.pvalue_


@pytest.mark.parametrize("kernel", ["csk", "exp_csk"])
def test_statistics_and_methods_are_their_formulas(kernel):
    codes = chain().sample(80, random_state=0)
    with config_context(working_memory=1):  # several blocks of rows
        test = SequentialKSDTest(
            chain(), alphabet=range(3), kernel=kernel, n_bootstrap=99, random_state=0
        ).fit(codes)
    matrix = test.kernel_.gram(test.stein_features_, test.stein_features_)
    assert_allclose(test.statistic_, matrix.mean())
    assert_allclose(test.score(codes), -matrix.mean())
    assert_allclose(test.score_samples(codes), matrix.mean(axis=1))
    above = np.sum(test.null_distribution_ >= test.statistic_)
    assert_allclose(test.pvalue_, (1 + above) / 100)
    result = test.test(codes)
    assert_allclose(result.statistic, test.statistic_)
    assert result.pvalue == test.pvalue_
    assert_allclose(pickle.loads(pickle.dumps(test)).score_samples(codes), matrix.mean(axis=1))


def test_all_forms_of_the_same_sequences_are_equal():
    codes = chain().sample(30, random_state=0)
    lists = [row[row >= 0].tolist() for row in codes]
    forms = [codes, np.where(codes < 0, np.nan, codes), lists, Ragged(lists), codes.tolist()]
    fits = [SequentialKSDTest(chain(), alphabet=range(3), random_state=0).fit(X) for X in forms]
    for test in fits:
        assert test.bin_edges_ is None
        assert test.statistic_ == fits[0].statistic_
        assert [test.score(X) for X in forms[2:]] == [fits[0].score(codes)] * 3
    assert not hasattr(fits[2], "n_features_in_")


def test_tables_of_measurements_are_binned_and_nan_ends_a_row():
    X = np.random.RandomState(0).normal(size=(40, 5)) * [1, 10, 100, 1, 1]
    X[:10, 3:] = np.nan
    test = SequentialKSDTest(n_bins=4, n_bootstrap=10, random_state=0).fit(X)
    assert_allclose(test.bin_edges_, np.nanquantile(X, [0.25, 0.5, 0.75], axis=0))
    assert_array_equal(test.alphabet_, range(4))
    assert test.score_samples(X).shape == (40,)
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        test.fit(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([[0, 1], [], [1]], "one symbol"),
        ([[0, -1, 1], [1, 0]], "padding"),
        ([[0, 1], [3]], "alphabet"),
        ([["a"], ["b", "c"]], "type of the alphabet"),
        ([[0, 1, 2] * 7, [1]], "max_length"),
        ([[0, 1]], "2"),
    ],
)
def test_bad_sequences_raise(X, message):
    with pytest.raises(ValueError, match=message):
        SequentialKSDTest(chain(), alphabet=range(3)).fit(X)


def test_bad_models_and_settings_raise():
    X = [[0, 1], [1], [0, 0, 1]]
    for model, message in [
        (lambda strings: np.full(len(strings), -np.inf), "probability zero"),
        (lambda strings: np.full(len(strings), np.nan), "NaN"),
        (lambda strings: np.zeros(3), "shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            SequentialKSDTest(model).fit(X)
    uniform = SequentialKSDTest(lambda strings: np.zeros(len(strings)))
    with pytest.raises(ValueError, match="even"):
        uniform.set_params(n_substitutions=3).fit(X)
    with pytest.raises(ValueError, match="parametric"):
        uniform.set_params(n_substitutions=None, calibration="parametric").fit(X)
    with pytest.raises(ValueError, match="max_ngram"):
        SequentialKSDTest(max_ngram=80).fit(X)


@pytest.mark.parametrize("balancing", BALANCING)
def test_impossible_neighbors_have_no_weight(balancing):
    """And ratios beyond the range of floats are no trouble for the bounded functions."""

    def log_prob(strings):
        steep = -900.0 if balancing != "mpf" else -90.0
        return [-np.inf if 1 in s and 0 in s else steep * len(s) for s in strings]

    X = [[0, 0], [1], [0]] * 4
    test = SequentialKSDTest(log_prob, balancing=balancing, max_length=3, random_state=0)
    if balancing == "mpf":
        test.fit(X)
        steep = SequentialKSDTest(
            lambda strings: [-2000.0 * len(s) for s in strings], balancing="mpf"
        )
        with pytest.raises(ValueError, match="barker"):
            steep.fit(X)
    else:
        assert np.isfinite(test.fit(X).statistic_)


class PaddedChain(BaseEstimator):
    """A model that is fitted, in the shape of an estimator."""

    def __init__(self, smoothing=1.0, random_state=None):
        self.smoothing = smoothing
        self.random_state = random_state

    def fit(self, X, y=None):
        sequences = Sequences(X, (X >= 0).sum(axis=1))
        self.chain_ = MarkovChain.estimate(sequences, 3, X.shape[1])
        uniform = self.smoothing / (1 + self.smoothing)
        self.chain_.transition = (1 - uniform) * self.chain_.transition + uniform / 3
        return self

    def score_samples(self, X):
        return self.chain_.score_samples(X)

    def sample(self, n_samples=1, random_state=None):
        return self.chain_.sample(n_samples, random_state)


def test_models_are_cloned_and_fitted_or_frozen_and_can_be_tuned():
    X = chain().sample(80, random_state=0)
    fitted = PaddedChain(0.0).fit(X)
    test = SequentialKSDTest(FrozenEstimator(fitted), alphabet=range(3), random_state=0).fit(X)
    chain_test = SequentialKSDTest(fitted.chain_, alphabet=range(3), random_state=0).fit(X)
    assert_allclose(test.statistic_, chain_test.statistic_, rtol=1e-9)
    inner = SequentialKSDTest(PaddedChain(0.0), n_bootstrap=20, random_state=0).fit(X)
    none = SequentialKSDTest(n_bootstrap=20, random_state=0).fit(X)
    assert_allclose(inner.statistic_, none.statistic_, rtol=1e-9)
    assert_allclose(inner.null_distribution_, none.null_distribution_, rtol=1e-9)
    with pytest.warns(UserWarning, match="conservative"):
        inner.set_params(calibration="wild").fit(X)
    search = GridSearchCV(
        SequentialKSDTest(PaddedChain(), n_bootstrap=2, alphabet=range(3), random_state=0),
        {"model__smoothing": [0.0, 5.0]},
        cv=3,
    ).fit(X)
    assert search.best_params_ == {"model__smoothing": 0.0}


# Level and power.


def test_test_sees_wrong_transitions_and_wrong_lengths():
    assert rejections(chain(), 60) <= 0.1
    assert rejections(chain(mix=0.5), 8) >= 0.8
    assert rejections(chain(stop=0.3), 8) >= 0.6
    assert rejections(chain(stop=0.3), 4, kernel=length_kernel) == 1


@pytest.mark.slow
def test_level_and_power_over_many_samples():
    assert 0.02 <= rejections(chain(), 400) <= 0.08
    assert rejections(chain(mix=0.5), 40) >= 0.8
    assert rejections(chain(stop=0.3), 40) >= 0.6
    assert rejections(chain(stop=0.3), 10, kernel=length_kernel) == 1


def test_more_edited_places_have_more_power():
    narrow, wide = (rejections(chain(mix=0.5), 30, n_edit_positions=j) for j in (1, None))
    assert wide - narrow >= 0.3


def test_markov_property_is_rejected_where_it_fails():
    """Sequences that alternate between two steps back are no chain of order 1; chains are."""
    rng = np.random.RandomState(0)
    chains = [
        SequentialKSDTest(n_bootstrap=39, max_ngram=3, random_state=seed)
        .fit(chain().sample(60, random_state=seed))
        .reject_
        for seed in range(10)
    ]
    assert np.mean(chains) <= 0.2
    second = rng.randint(2, size=(60, 12))
    for column in range(2, 12):
        keep = rng.uniform(size=60) < 0.9
        second[:, column] = np.where(keep, second[:, column - 2], second[:, column])
    assert SequentialKSDTest(n_bootstrap=39, max_ngram=3, random_state=0).fit(second).reject_


@pytest.mark.slow
@pytest.mark.parametrize("fitted", [False, True])
def test_parametric_pvalues_are_uniform_under_the_null(fitted):
    """Multiples of 1/20, made continuous by a uniform draw between them."""
    model = MarkovChain([0.3, 0.7], [[0.8, 0.2], [0.4, 0.6]], 0.25, 4)
    test = SequentialKSDTest(
        None if fitted else model,
        alphabet=range(2),
        max_length=4,
        calibration="parametric",
        n_bootstrap=19,
    )
    pvalues = [
        test.set_params(random_state=seed).fit(model.sample(20, random_state=1000 + seed)).pvalue_
        for seed in range(500)
    ]
    spread = np.random.RandomState(0).uniform(size=500) / 20
    assert stats.kstest(np.array(pvalues) - spread, "uniform").pvalue > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("n_edit_positions", [1, None])
def test_wild_pvalues_are_uniform_under_the_null(n_edit_positions):
    test = SequentialKSDTest(
        chain(), alphabet=range(3), n_edit_positions=n_edit_positions, n_bootstrap=99
    )
    pvalues = [
        test.set_params(random_state=seed)
        .fit(chain().sample(50, random_state=5000 + seed))
        .pvalue_
        for seed in range(500)
    ]
    assert stats.kstest(pvalues, "uniform").pvalue > 0.01
