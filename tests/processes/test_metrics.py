"""Distances between samples against their definitions."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from scipy.spatial.distance import cdist

from skpapers.processes import (
    energy_distance,
    maximum_mean_discrepancy,
    sliced_wasserstein_distance,
)

RNG = np.random.RandomState(0)
X, Y = RNG.normal(size=(30, 3)), RNG.normal(loc=0.5, size=(20, 3))


def test_energy_distance_is_its_definition():
    expected = 2 * cdist(X, Y).mean() - cdist(X, X).mean() - cdist(Y, Y).mean()
    assert_allclose(energy_distance(X, Y), expected)
    # scipy's is the square root of the same, in one dimension
    expected = stats.energy_distance(X[:, 0], Y[:, 0]) ** 2
    assert_allclose(energy_distance(X[:, :1], Y[:, :1]), expected)


def test_maximum_mean_discrepancy_is_its_definition():
    def mean_kernel(a, b):
        return np.exp(-cdist(a, b, "sqeuclidean") / 1.5).mean()

    expected = mean_kernel(X, X) + mean_kernel(Y, Y) - 2 * mean_kernel(X, Y)
    assert_allclose(maximum_mean_discrepancy(X, Y, bandwidth=1.5), expected)
    assert maximum_mean_discrepancy(X, X) < 1e-12


def test_sliced_distance_is_the_mean_over_directions():
    directions = np.random.RandomState(3).normal(size=(3, 7))
    directions /= np.linalg.norm(directions, axis=0)
    expected = np.mean([stats.wasserstein_distance(X @ v, Y @ v) for v in directions.T])
    ours = sliced_wasserstein_distance(X, Y, n_projections=7, random_state=3)
    assert_allclose(ours, expected)


@pytest.mark.parametrize(
    "distance", [energy_distance, maximum_mean_discrepancy, sliced_wasserstein_distance]
)
def test_equal_samples_are_at_distance_zero_and_shapes_are_checked(distance):
    assert abs(distance(X, X[::-1])) < 1e-6  # distances of equal rows are rounded
    with pytest.raises(ValueError, match="features"):
        distance(X, Y[:, :2])
