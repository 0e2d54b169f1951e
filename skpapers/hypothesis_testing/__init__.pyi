from ._bimonoidal_independence import (
    KantorovichIndependenceTest as KantorovichIndependenceTest,
    kantorovich_score as kantorovich_score,
)
from ._cochains import information_cocycles as information_cocycles
from ._entropies import (
    multivariate_information as multivariate_information,
    tsallis_entropy as tsallis_entropy,
)
from ._information_cohomology import InformationStructure as InformationStructure
from ._perturbed_stein_test import (
    KSDTest as KSDTest,
    PerturbedKSDTest as PerturbedKSDTest,
    stein_kernel_matrix as stein_kernel_matrix,
)
from ._product_laws import joint_of as joint_of, marginals_of as marginals_of
from ._result import (
    HypothesisTestResult as HypothesisTestResult,
    adjust_pvalues as adjust_pvalues,
)
from ._score import stein_score as stein_score
from ._sequential_stein_test import (
    SequentialKSDTest as SequentialKSDTest,
    sequence_neighbors as sequence_neighbors,
)
