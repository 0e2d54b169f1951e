from ._funbat import FunctionalTuckerRegressor as FunctionalTuckerRegressor
from ._hadamard import hadamard_matrix as hadamard_matrix
from ._linear_subspace_projection import LinearSubspaceProjection as LinearSubspaceProjection
from ._low_rank_tales import (
    LowRankApproximation as LowRankApproximation,
    LowRankImputer as LowRankImputer,
)
from ._low_rank_products import (
    hadamard_approximation as hadamard_approximation,
    khatri_rao_approximation as khatri_rao_approximation,
    kronecker_approximation as kronecker_approximation,
)
from ._matrix_subspace_projection import MatrixSubspaceProjection as MatrixSubspaceProjection
from ._meta_factorization import MetaFactorization as MetaFactorization
from ._minimax_game import representation_regret as representation_regret
from ._multi_teacher import MultiTeacherRegressor as MultiTeacherRegressor
from ._phi_s import HadamardWhitener as HadamardWhitener, PHIStandardScaler as PHIStandardScaler
from ._reconstruction import (
    generalized_pinv as generalized_pinv,
    meta_factorize as meta_factorize,
    replacement_criterion as replacement_criterion,
)
from ._representation_game import (
    GameRepresentation as GameRepresentation,
    MinimaxRepresentation as MinimaxRepresentation,
)
