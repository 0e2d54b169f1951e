"""The permutation test of independence against the same transport problems solved by POT."""

import importlib.util

import numpy as np
from scipy.spatial.distance import cdist

from benchmarks._harness import Case
from skpapers.hypothesis_testing import KantorovichIndependenceTest

N_PERMUTATIONS = 20


def cases():
    if importlib.util.find_spec("ot") is None:
        print("POT is not installed: pip install POT")
        return
    rng = np.random.RandomState(0)
    for n_samples, method in ((80, "matching"), (400, "matching"), (25, "exact")):
        x = rng.normal(size=n_samples)
        y = x**2 + rng.normal(size=n_samples)
        test = KantorovichIndependenceTest(
            method=method, n_products=1, n_permutations=N_PERMUTATIONS, random_state=0
        )
        yield Case(
            name="bimonoidal_independence",
            size=f"{n_samples} rows, {method}",
            peer_name="ot.emd2",
            ours=lambda test=test, x=x, y=y: test.fit(x[:, None], y).effect_size_,
            peer=lambda x=x, y=y, method=method: peer_effect(x, y, method == "exact"),
            accuracy=float,
            metric="effect size",
            note="one product sample, 20 permutations, drawn independently of each other",
        )


def peer_effect(x, y, exact):
    """Effect size by the network simplex, to one product sample or to all pairs."""
    from ot import emd2

    rng = np.random.RandomState(1)
    n = len(x)
    x, y = x / np.abs(x[:, None] - x).sum(), y / np.abs(y[:, None] - y).sum()
    x, y = x * n * (n - 1), y * n * (n - 1)
    order, shift = rng.permutation(n), rng.randint(1, n)
    partner = np.empty(n, dtype=int)
    partner[order] = np.roll(order, shift)
    costs = []
    for rows in [np.arange(n), *(rng.permutation(n) for _ in range(N_PERMUTATIONS))]:
        joint = np.column_stack([x, y[rows]])
        product = np.column_stack([x, y[rows][partner]])
        if exact:
            product = np.column_stack([np.repeat(x, n), np.tile(y, n)])
        costs.append(emd2([], [], cdist(joint, product, "cityblock")))
    null = np.array(costs[1:])
    return (costs[0] - null.mean()) / null.std()
