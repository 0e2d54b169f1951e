from ._perturbed_stein_test import (
    KSDTest as KSDTest,
    PerturbedKSDTest as PerturbedKSDTest,
    stein_kernel_matrix as stein_kernel_matrix,
)
from ._score import stein_score as stein_score
