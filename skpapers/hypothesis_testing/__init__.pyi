from ._perturbed_stein_test import (
    KSDTest as KSDTest,
    PerturbedKSDTest as PerturbedKSDTest,
    stein_kernel_matrix as stein_kernel_matrix,
)
from ._result import (
    HypothesisTestResult as HypothesisTestResult,
    adjust_pvalues as adjust_pvalues,
)
from ._score import stein_score as stein_score
