"""Tests of information structures and their cohomology."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.feature_selection import mutual_info_classif
from sklearn.metrics import mutual_info_score
from sklearn.model_selection import train_test_split

from skpapers.hypothesis_testing import (
    InformationStructure,
    information_cocycles,
    multivariate_information,
    tsallis_entropy,
)
from skpapers.hypothesis_testing._cochains import coboundary, joint, marginal
from skpapers.hypothesis_testing._entropies import count_entropy

ALPHAS = [0.5, 1.0, 2.0, 3.0]
XOR = np.repeat([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]], 25, axis=0)
# Two variables with two values, three joint values.
THREE_ATOMS = [[0, 0], [1, 0], [1, 1]]


def random_table(seed=0, n_samples=300):
    """Dependent columns of categories."""
    rng = np.random.RandomState(seed)
    X = rng.randint(4, size=(n_samples, 5))
    X[:, 3] = (X[:, 0] + X[:, 1] + (rng.uniform(size=n_samples) < 0.2)) % 3
    X[:, 4] = np.where(rng.uniform(size=n_samples) < 0.7, X[:, 2], X[:, 4])
    return X


def primes(largest):
    return sum(all(n % k for k in range(2, n)) for n in range(2, largest + 1))


def groups(structure):
    return [group.tolist() for group in structure.groups_]


# Entropies and cochains.


@pytest.mark.parametrize("alpha", ALPHAS)
def test_chain_rule(alpha):
    table = np.random.RandomState(0).dirichlet(np.ones(20)).reshape(4, 5)
    marginals = table.sum(axis=1)
    conditional = tsallis_entropy(table / marginals[:, None], alpha)
    chain = tsallis_entropy(marginals, alpha) + marginals**alpha @ conditional
    assert_allclose(tsallis_entropy(table.ravel(), alpha), chain, atol=1e-12)


def test_entropies_are_their_formulas_and_tend_to_shannon():
    p = np.random.RandomState(0).dirichlet(np.ones(6))
    assert_allclose(tsallis_entropy(p), stats.entropy(p), atol=1e-14)
    assert_allclose(tsallis_entropy(p, log_base=2), stats.entropy(p, base=2), atol=1e-14)
    for alpha in (0.5, 2.0, 3.0):
        expected = (1 - np.sum(p**alpha)) / (alpha - 1)
        assert_allclose(tsallis_entropy(p, alpha), expected, atol=1e-14)
    assert_allclose(tsallis_entropy(p, 1 + 1e-7), tsallis_entropy(p), atol=1e-6)
    for alpha in ALPHAS:
        assert tsallis_entropy([1.0, 0.0], alpha) == 0
    for bad in ([0.5, 0.4], [1.5, -0.5]):
        with pytest.raises(ValueError, match="probabilities"):
            tsallis_entropy(bad)
    with pytest.raises(ValueError, match="log_base"):
        tsallis_entropy(p, 2.0, log_base=2)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_jackknife_leaves_one_observation_out(alpha):
    counts = np.array([5, 1, 3, 2])
    n = counts.sum()
    rest = [tsallis_entropy((counts - row) / (n - 1), alpha) for row in np.eye(4)]
    expected = n * tsallis_entropy(counts / n, alpha) - (n - 1) * (counts / n) @ rest
    assert_allclose(count_entropy(counts, alpha, "jackknife"), expected, atol=1e-12)
    corrected = count_entropy(counts, 1.0, "miller_madow") - count_entropy(counts)
    assert_allclose(corrected, 3 / (2 * n))


def random_cochain(degree, seed):
    """A function of the joint law of the variables, another one for each of their values."""

    def cochain(variables, law):
        if degree == 0:
            return float(seed + 1)
        merged = variables[0]
        for variable in variables[1:]:
            merged = joint(merged, variable)
        entropy = abs(hash(tuple(tuple(v.tolist()) for v in variables))) % 2**32
        weights = np.random.RandomState(entropy).normal(size=merged.max() + 1)
        p = marginal(merged, law)
        return float(np.sin(3 * weights @ p) + weights @ p**2)

    return cochain


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("degree", [0, 1])
def test_coboundary_of_coboundary_vanishes(alpha, degree):
    rng = np.random.RandomState(0)
    cochain = random_cochain(degree, 0)
    once, twice = coboundary(cochain, alpha), coboundary(coboundary(cochain, alpha), alpha)
    largest = 0.0
    for _ in range(20):
        law = rng.dirichlet(np.ones(12))
        variables = tuple(
            np.unique(rng.randint(3, size=(12)), return_inverse=True)[1] for _ in range(degree + 2)
        )
        assert abs(twice(variables, law)) < 1e-12
        largest = max(largest, abs(once(variables[:-1], law)))
    assert (largest > 0.01) == (degree == 1 or alpha != 1)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_entropy_alone_is_a_cocycle_of_its_degree(alpha):
    structure = InformationStructure(alpha=alpha).fit(random_table())

    def entropy(columns, law):
        return tsallis_entropy(law, alpha)

    assert_allclose(structure.coboundary(entropy), 0, atol=1e-12)
    other = structure.coboundary(lambda columns, law: tsallis_entropy(law, alpha + 0.5))
    assert np.abs(other).max() > 0.01


@pytest.mark.parametrize("max_count", [6, 8, 10])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_cocycles_are_entropies_and_one_value_for_each_prime(alpha, max_count):
    found = information_cocycles(THREE_ATOMS, alpha=alpha, max_count=max_count)
    all_primes, half = primes(max_count), primes(max_count // 2)
    assert found.dimension == (all_primes if alpha == 1 else 1 + all_primes - half)
    entropies = [tsallis_entropy(np.divide(law, sum(law)), alpha) for _, law in found.unknowns]
    assert np.abs(found.equations @ entropies).max() < 1e-12
    assert_allclose(found.basis @ (found.basis.T @ entropies), entropies, atol=1e-10)
    small = [sum(law) <= max_count // 2 for _, law in found.unknowns]
    rank = np.linalg.matrix_rank(found.basis[small], tol=1e-8)
    assert rank == (half if alpha == 1 else 1)


def test_cocycles_need_a_variable():
    with pytest.raises(ValueError, match="constant"):
        information_cocycles([[0], [0]])


# Information of tables.


def test_parity_is_information_of_three_and_of_no_pair():
    structure = InformationStructure(max_order=3, threshold=0.01).fit(XOR)
    assert_allclose(structure.mutual_information_, np.log(2) * np.eye(3), atol=1e-12)
    together = frozenset({0, 1, 2})
    assert_allclose(structure.information_[together], -np.log(2), atol=1e-12)
    assert_allclose(structure.total_correlation_[together], np.log(2), atol=1e-12)
    assert_allclose(multivariate_information(*XOR.T), -np.log(2), atol=1e-12)
    assert_allclose(structure.information(0, [1, 2]), np.log(2), atol=1e-12)
    assert groups(structure) == [[0, 1, 2]]
    pairs = InformationStructure(max_order=2, threshold=0.01).fit(XOR)
    assert groups(pairs) == [[0], [1], [2]]


def test_pairs_and_entropies_agree_with_scikit_learn_and_scipy():
    X = random_table()
    structure = InformationStructure().fit(X)
    for i, first in enumerate(X.T):
        assert_allclose(structure.entropies_[frozenset({i})], stats.entropy(np.bincount(first)))
        for j, second in enumerate(X.T):
            expected = mutual_info_score(first, second)
            assert_allclose(structure.mutual_information_[i, j], expected, atol=1e-12)
    assert_allclose(
        InformationStructure(log_base=2).fit(X).mutual_information_,
        structure.mutual_information_ / np.log(2),
    )


@pytest.mark.parametrize("alpha", ALPHAS)
def test_methods_follow_the_chain_rule(alpha):
    X = random_table()
    structure = InformationStructure(alpha=alpha, max_order=3).fit(X)
    for subset, value in structure.information_.items():
        assert_allclose(structure.information(*subset), value, atol=1e-12)
    law = np.bincount(X[:, 1]) / len(X)
    parts = [
        tsallis_entropy(np.bincount(X[X[:, 1] == v, 0]) / np.sum(X[:, 1] == v), alpha)
        for v in range(4)
    ]
    assert_allclose(structure.conditional_entropy(0, 1), law**alpha @ parts, atol=1e-12)
    # I(X;Y;Z) is I(X;Y) less the mean of I(X;Y) given Z
    given = (
        structure.conditional_entropy(0, 3)
        + structure.conditional_entropy(1, 3)
        - structure.conditional_entropy([0, 1], given=3)
    )
    assert_allclose(
        structure.information(0, 1, 3), structure.information(0, 1) - given, atol=1e-12
    )


def test_order_of_columns_and_names_of_categories_do_not_matter():
    X = random_table()
    order = np.array([3, 0, 4, 1, 2])
    structure = InformationStructure(max_order=3, max_cells=64)
    plain = clone(structure).fit(X)
    permuted = clone(structure).fit(X[:, order])
    back = {frozenset(order[j] for j in s): v for s, v in permuted.information_.items()}
    assert back.keys() == plain.information_.keys()
    for subset, value in plain.information_.items():
        assert_allclose(back[subset], value, atol=1e-12)
    assert sorted(sorted(order[g].tolist()) for g in permuted.groups_) == groups(plain)
    assert groups(plain) != [[0], [1], [2], [3], [4]]

    names = np.array(["plum", "fig", "apple", "kiwi"])
    named = structure.fit(names[X])
    for subset, value in plain.information_.items():
        assert_allclose(named.information_[subset], value, atol=1e-12)
    assert groups(named) == groups(plain)
    assert len(np.unique(named.transform(names[X]))) == len(np.unique(plain.transform(X)))


def test_target_is_one_more_observable():
    X = random_table()
    y = np.array(["no", "yes"])[X[:, 3] // 2]
    structure = InformationStructure().fit(X, y)
    expected = [mutual_info_score(column, y) for column in X.T]
    assert_allclose(structure.target_information_, expected, atol=1e-12)
    assert_allclose(expected, mutual_info_classif(X, y, discrete_features=True), atol=1e-12)
    assert_allclose(structure.information(3, "y"), expected[3], atol=1e-12)
    assert frozenset({3, "y"}) in structure.entropies_
    assert groups(structure) == groups(InformationStructure().fit(X))
    assert InformationStructure().fit(X).target_information_ is None
    binned = InformationStructure(n_bins=2).fit(X, np.random.RandomState(0).normal(size=len(X)))
    assert_allclose(binned.entropies_[frozenset({"y"})], np.log(2))
    with pytest.raises(ValueError, match="no column"):
        structure.information("absent")


@pytest.mark.parametrize("n_permutations", [0, 399])
def test_pvalues_find_the_dependent_sets(n_permutations):
    structure = InformationStructure(
        max_order=3, n_permutations=n_permutations, random_state=0
    ).fit(np.column_stack([XOR, np.random.RandomState(0).randint(2, size=(100, 2))]))
    rejected = {s for s, p in structure.pvalues_.items() if p <= 0.1}
    assert rejected == ({frozenset({0, 1, 2})} if n_permutations else set())
    sizes = {len(s) for s in structure.pvalues_}
    assert sizes == ({2, 3} if n_permutations else {2})
    copies = InformationStructure(n_permutations=n_permutations, random_state=0).fit(
        XOR[:, [0, 0]]
    )
    assert copies.pvalues_[frozenset({0, 1})] <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("n_permutations", [0, 39])
def test_pvalues_are_uniform_under_independence(n_permutations):
    """Multiples of 1/40 under permutations, made continuous by a uniform draw between them."""
    rng = np.random.RandomState(0)
    test = InformationStructure(n_permutations=n_permutations)
    pvalues = []
    for seed in range(500):
        X = rng.randint(4, size=(200, 2))
        pvalues.append(test.set_params(random_state=seed).fit(X).pvalues_[frozenset({0, 1})])
    spread = rng.uniform(size=500) / (n_permutations + 1) if n_permutations else 0
    assert stats.kstest(np.array(pvalues) - spread, "uniform").pvalue > 0.01


# Groups.


def planted(seed):
    rng = np.random.RandomState(seed)
    X = rng.randint(2, size=(300, 12))
    X[:, 2] = X[:, 0] ^ X[:, 1]
    X[:, 5] = X[:, 3] ^ X[:, 4] ^ (rng.uniform(size=300) < 0.05)
    X[:, 7] = X[:, 6] ^ (rng.uniform(size=300) < 0.1)
    return X


@pytest.mark.parametrize("seed", range(4))
def test_planted_groups_are_found(seed):
    X = planted(seed)
    third = InformationStructure(max_order=3).fit(X)
    assert groups(third) == [[0, 1, 2], [3, 4, 5], [6, 7], [8], [9], [10], [11]]
    assert_array_equal(third.labels_, [0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 6])
    second = InformationStructure(max_order=2).fit(X)
    assert [g for g in groups(second) if len(g) > 1] == [[6, 7]]


@pytest.mark.parametrize("seed", range(3))
def test_groups_of_pixels_are_a_better_model_of_digits(seed):
    X = (load_digits().data > 7).astype(int)
    train, test = train_test_split(X, train_size=1200, random_state=seed)
    found = InformationStructure(n_groups=20, max_cells=64).fit(train)
    assert 20 <= len(found.groups_) <= 24  # max_cells stops some merges
    order = np.random.RandomState(seed).permutation(64)
    shuffled = InformationStructure(n_groups=20, max_cells=64).fit(train)
    cuts = np.cumsum([len(group) for group in found.groups_])[:-1]
    shuffled.groups_ = np.split(order, cuts)
    codes = [train[:, group] for group in shuffled.groups_]
    cells = [np.unique(code, axis=0, return_counts=True) for code in codes]
    shuffled._cells_, shuffled._counts_ = map(list, zip(*cells))
    single = InformationStructure(n_groups=64).fit(train)
    assert len(single.groups_) == 64
    assert found.score(test) >= shuffled.score(test) + 2.5
    assert found.score(test) >= single.score(test) + 3


def test_groups_respect_their_bounds():
    X = planted(0)
    assert len(InformationStructure(n_groups=11, threshold=0.0).fit(X).groups_) == 11
    small = InformationStructure(max_order=3, max_cells=4).fit(X)
    assert [0, 1, 2] in groups(small)  # four of the eight cells occur
    assert [3, 4, 5] not in groups(small)


def test_cells_are_codes_and_new_cells_get_the_nearest():
    X = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]] * 25)
    structure = InformationStructure(max_order=3).fit(X)
    assert_array_equal(structure.transform(X[:4])[:, 0], [0, 1, 2, 3])
    new = [[0, 0, 1], [1, 1, 1], [1, 1, 9], [9, 9, 9]]
    assert_array_equal(structure.transform(new)[:, 0], [0, 1, 3, 0])
    assert list(structure.get_feature_names_out()) == ["x0|x1|x2"]
    # 25 of 100 rows in each of the four cells, eight possible ones
    assert_allclose(structure.score(X), np.log(25.5 / 104))
    assert_allclose(structure.score([[0, 0, 1]]), np.log(0.5 / 104))


def test_columns_are_categories_or_bins():
    rng = np.random.RandomState(0)
    X = np.column_stack(
        [rng.normal(size=100), rng.randint(15, size=100), rng.randint(2, size=100)]
    )
    structure = InformationStructure(n_bins=4).fit(X)
    assert_allclose(structure.bin_edges_[0], np.quantile(X[:, 0], [0.25, 0.5, 0.75]))
    assert_array_equal(structure.categories_[1], range(15))
    assert structure.bin_edges_[2] is None
    uniform = InformationStructure(n_bins=4, strategy="uniform").fit(X)
    edges = np.linspace(X[:, 0].min(), X[:, 0].max(), 5)[1:-1]
    assert_allclose(uniform.bin_edges_[0], edges)
    assert_allclose(structure.entropies_[frozenset({0})], np.log(4))
    for bad in ({"estimator": "miller_madow"}, {"log_base": 2}):
        with pytest.raises(ValueError, match="alpha=1"):
            InformationStructure(alpha=2.0, **bad).fit(X)
    with pytest.raises(ValueError, match="alpha"):
        multivariate_information(X[:, 1], alpha=0)
