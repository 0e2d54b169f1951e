from ._fourier_svcca import fourier_svcca as fourier_svcca
from ._svcca import (
    SVCCA as SVCCA,
    pwcca_similarity as pwcca_similarity,
    svcca_similarity as svcca_similarity,
)
from ._sparse_cca import (
    PrimalDualSparseCCA as PrimalDualSparseCCA,
    primal_dual_scca_pair as primal_dual_scca_pair,
)
from ._stochastic_cca import (
    StochasticCCA as StochasticCCA,
    StochasticPLS as StochasticPLS,
    eckart_young_gep as eckart_young_gep,
)
from ._deep_cca import CCASelfSupervised as CCASelfSupervised, DeepCCA as DeepCCA
