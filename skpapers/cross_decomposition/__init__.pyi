from ._svcca import (
    SVCCA as SVCCA,
    fourier_svcca as fourier_svcca,
    pwcca_similarity as pwcca_similarity,
    svcca_similarity as svcca_similarity,
)
from ._sparse_cca import (
    PrimalDualSparseCCA as PrimalDualSparseCCA,
    primal_dual_scca_pair as primal_dual_scca_pair,
)
