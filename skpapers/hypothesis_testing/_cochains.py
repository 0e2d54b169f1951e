"""Cochains on a finite information structure: action, coboundary, cocycles.

A variable is a partition of finitely many outcomes, an integer array of labels; a law is an array
of probabilities of the outcomes; a cochain of degree n is a function of n variables and a law
that depends on the law through the joint law of the variables alone.
"""

from itertools import product
from math import gcd
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, validate_params

__all__ = ["InformationCocycles", "action", "coboundary", "information_cocycles", "joint"]


class InformationCocycles(NamedTuple):
    """Cocycles of an information structure, numerically.

    Attributes
    ----------
    dimension : int
        Dimension of the space of cocycles.
    basis : ndarray of shape (n_unknowns, dimension)
        Orthonormal basis: values of the cocycles at the unknowns.
    variables : list of ndarray
        Partitions of the outcomes, as labels: the variables and their joints.
    unknowns : list of tuple
        Number of the variable, and its law as counts in lowest terms, of each row of `basis`.
    equations : ndarray of shape (n_equations, n_unknowns)
        The cocycle equations.
    """

    dimension: int
    basis: np.ndarray
    variables: list
    unknowns: list
    equations: np.ndarray


@validate_params(
    {
        "structure": ["array-like"],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "max_count": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def information_cocycles(structure, *, alpha=1.0, max_count=8):
    """Solve the cocycle equations of an information structure for laws that are counts.

    Parameters
    ----------
    structure : array-like of int of shape (n_outcomes, n_variables)
        Value of each variable at each outcome.
    alpha : float, default=1.0
        Degree of the action of variables on cochains: weights P(X = x)^alpha.
    max_count : int, default=8
        Largest sum of the counts.

    Returns
    -------
    InformationCocycles
        Named tuple of `dimension`, of the space of cocycles; `basis` (n_unknowns, dimension),
        orthonormal; `variables`, the labels of the outcomes under the joint variables; `unknowns`,
        the number of the variable and the law, in counts, of each row of `basis`; and `equations`.

    Raises
    ------
    ValueError
        If all variables are constant.

    Notes
    -----
    Measurability is not asked for, which leaves more than the entropy: for `alpha` 1 one free
    value for every prime up to `max_count`, of which continuity singles out log p. O(v^2
    max_count^n_outcomes) equations for v joint variables, and a singular value decomposition.

    References
    ----------
    Vigneaux, "Information structures and their cohomology", Theory and Applications of
    Categories, 2020, arXiv:1709.07807 (Section 3, and Section 4 for the uniqueness).

    Examples
    --------
    >>> from skpapers.hypothesis_testing import information_cocycles
    >>> found = information_cocycles([[0, 0], [1, 0], [1, 1]], max_count=6)
    >>> found.dimension  # the primes 2, 3 and 5
    3
    """
    structure = check_array(structure, dtype=np.int64)
    if (structure == structure[0]).all():
        raise ValueError("all variables of the structure are constant")
    equations, variables, unknowns = cocycle_equations(structure.T, alpha, max_count)
    _, values, vectors = np.linalg.svd(equations, full_matrices=False)
    null = values < 1e-10 * values[0]
    return InformationCocycles(int(null.sum()), vectors[null].T, variables, unknowns, equations)


def partition(labels):
    """Blocks numbered in the order of their labels."""
    return np.unique(labels, return_inverse=True)[1]


def joint(first, second):
    """Common refinement of two partitions."""
    return partition(first * (second.max() + 1) + second)


def marginal(variable, law):
    """Law of a variable."""
    return np.bincount(variable, weights=law, minlength=variable.max() + 1)


def action(variable, function, law, alpha=1.0):
    """Average of a function of the conditional laws, with the weights P(X = x)^alpha."""
    total = 0.0
    for value, weight in enumerate(marginal(variable, law)):
        if weight > 0:
            total += weight**alpha * function(np.where(variable == value, law, 0) / weight)
    return total


def coboundary(cochain, alpha=1.0):
    """Coboundary of a cochain, by the bar formula."""

    def result(variables, law):
        first, *rest = variables
        total = action(first, lambda conditional: cochain(tuple(rest), conditional), law, alpha)
        for k in range(1, len(variables)):
            merged = joint(variables[k - 1], variables[k])
            faces = (*variables[: k - 1], merged, *variables[k + 1 :])
            total += (-1) ** k * cochain(faces, law)
        return total + (-1) ** len(variables) * cochain(tuple(variables[:-1]), law)

    return result


def joint_closure(variables):
    """All joint variables, without repetition and without trivial ones."""
    found = {}
    for variable in map(partition, variables):
        for other in [np.zeros_like(variable), *found.values()]:
            refined = joint(variable, other)
            if refined.max() > 0:
                found.setdefault(tuple(refined), refined)
    return list(found.values())


def count_vectors(n_cells, max_count):
    """Count vectors with a sum from 1 to `max_count`."""
    if n_cells == 1:
        return [(c,) for c in range(1, max_count + 1)]
    found = product(range(max_count + 1), repeat=n_cells)
    return [counts for counts in found if 0 < sum(counts) <= max_count]


def cocycle_equations(variables, alpha, max_count):
    """Matrix of the cocycle equations, and what its columns mean.

    The laws are count vectors over the outcomes, a family that is closed under marginals and
    conditioning. A column is a pair of the number of a variable and a law, in lowest terms.
    """
    closed = joint_closure(variables)
    numbers = {tuple(variable): i for i, variable in enumerate(closed)}
    columns, entries, n_rows = {}, [], 0

    def add(row, variable, counts, value):
        law = np.bincount(variable, weights=counts, minlength=variable.max() + 1).astype(int)
        key = numbers[tuple(variable)], tuple((law // gcd(*law.tolist())).tolist())
        entries.append((row, columns.setdefault(key, len(columns)), value))

    for counts in map(np.array, count_vectors(len(closed[0]), max_count)):
        for first, second in product(closed, closed):
            for value in np.unique(first[counts > 0]):
                part = np.where(first == value, counts, 0)
                add(n_rows, second, part, (part.sum() / counts.sum()) ** alpha)
            add(n_rows, joint(first, second), counts, -1.0)
            add(n_rows, first, counts, 1.0)
            n_rows += 1
    matrix = np.zeros((n_rows, len(columns)))
    rows, indices, values = zip(*entries)
    np.add.at(matrix, (rows, indices), values)
    return matrix, closed, list(columns)
