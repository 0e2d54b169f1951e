"""The Stein discrepancy against a double loop, and the test against kgof.

kgof is at github.com/wittawatj/kernel-gof, not on PyPI.
"""

import importlib.util

import numpy as np

from benchmarks._harness import Case
from skpapers.hypothesis_testing import KSDTest, stein_kernel_matrix


def cases():
    X = np.random.RandomState(0).normal(size=(300, 5)) + 0.1
    yield Case(
        name="stein_kernel_matrix",
        size="300 rows, 5 features",
        peer_name="double loop over the definition",
        ours=lambda: stein_kernel_matrix(X, lambda x: -x, bandwidth=10.0),
        peer=lambda: double_loop(X, -X, 10.0),
        accuracy=lambda matrix: matrix.mean(),
        metric="V-statistic",
    )
    yield _random_features_case()
    yield from _kgof_cases()


def _random_features_case():
    X = np.random.RandomState(0).normal(size=(10_000, 2)) + 0.02
    exact = KSDTest(lambda x: -x, n_bootstrap=200, random_state=0)
    ours = KSDTest(lambda x: -x, n_bootstrap=200, n_random_features=100, random_state=0)
    return Case(
        name="KSDTest with 100 random features",
        size="10000 rows, 2 features",
        peer_name="KSDTest with all pairs",
        ours=lambda: ours.fit(X),
        peer=lambda: exact.fit(X),
        accuracy=lambda test: test.pvalue_,
        metric="p-value",
        repeats=1,
    )


def double_loop(X, scores, width):
    """Inverse multiquadric Stein kernel, pair by pair, term by term."""
    matrix = np.empty((len(X), len(X)))
    for i, (x, s) in enumerate(zip(X, scores)):
        for j, (y, t) in enumerate(zip(X, scores)):
            base = 1 + (x - y) @ (x - y) / width
            slope = (x - y) / width * base**-1.5
            trace = len(x) / width * base**-1.5 - 3 * (base - 1) / width * base**-2.5
            matrix[i, j] = s @ t * base**-0.5 + s @ slope - t @ slope + trace
    return matrix


def _kgof_cases():
    if importlib.util.find_spec("kgof") is None:
        print("kgof is not installed: pip install git+https://github.com/wittawatj/kernel-gof")
        return
    from kgof import data, density, goftest, kernel

    X = np.random.RandomState(0).normal(size=(1000, 5)) + 0.1
    width = 10.0
    ours = KSDTest(
        lambda x: -x, bandwidth=width, bootstrap="wild", n_bootstrap=1000, random_state=0
    )
    normal = density.IsotropicNormal(np.zeros(5), 1.0)
    peer = goftest.KernelSteinTest(normal, kernel.KIMQ(c=width**0.5), n_simulate=1000)

    yield Case(
        name="perturbed_stein_test",
        size="1000 rows, 5 features",
        peer_name="kgof KernelSteinTest",
        ours=lambda: ours.fit(X),
        peer=lambda: peer.perform_test(data.Data(X)),
        accuracy=lambda test: test.statistic_,
        peer_accuracy=lambda result: result["test_stat"] / len(X) * width**0.5,
        metric="V-statistic",
        note="the plain test, random signs, 1000 draws; both statistics in the same units",
    )
