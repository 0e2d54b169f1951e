"""Entropies of all small sets of columns against NumPy with SciPy, and pairs against pyitlib.

infotopo, the package of related statistics, is an empty wheel on PyPI.
"""

import importlib.util
from itertools import combinations

import numpy as np
from scipy.stats import entropy
from sklearn.datasets import load_digits

from benchmarks._harness import Case
from skpapers.hypothesis_testing import InformationStructure
from skpapers.hypothesis_testing._entropies import subset_entropies


def cases():
    X = (load_digits().data // 4).astype(int)
    X = X[:, np.ptp(X, axis=0) > 0]
    few = X[:, 20:36]
    yield Case(
        name="information_cohomology",
        size=f"1797 rows, {few.shape[1]} columns, all sets up to 3",
        peer_name="np.unique of rows, scipy.stats.entropy",
        ours=lambda: subset_entropies(few, 3),
        peer=lambda: by_rows(few, 3),
        accuracy=lambda found: sum(found.values()),
        metric="sum of entropies (nats)",
    )
    if importlib.util.find_spec("pyitlib") is None:
        print("pyitlib is not installed: pip install --no-deps pyitlib")
    else:
        yield pyitlib_case(X)


def by_rows(X, max_order):
    """Entropies of subsets, one by one."""
    found = {}
    for order in range(1, max_order + 1):
        for subset in combinations(range(X.shape[1]), order):
            _, counts = np.unique(X[:, subset], axis=0, return_counts=True)
            found[subset] = entropy(counts)
    return found


def pyitlib_case(X):
    from pyitlib import discrete_random_variable as drv

    def peer():
        information = drv.information_mutual(X.T, cartesian_product=True, base=np.e)
        np.fill_diagonal(information, drv.entropy(X.T, base=np.e))
        return information

    return Case(
        name="information_cohomology",
        size=f"1797 rows, {X.shape[1]} columns, all pairs",
        peer_name="pyitlib information_mutual",
        ours=lambda: InformationStructure(n_groups=X.shape[1]).fit(X).mutual_information_,
        peer=peer,
        accuracy=lambda matrix: float(matrix.sum()),
        metric="sum of mutual information (nats)",
        repeats=1,
        note="ours computes p-values of all pairs as well",
    )
