from ._stkr import (
    SpectrallyTransformedKernelClassifier as SpectrallyTransformedKernelClassifier,
    SpectrallyTransformedKernelRegressor as SpectrallyTransformedKernelRegressor,
)
from ._distillation_meta import (
    SelfDistillationClassifier as SelfDistillationClassifier,
    SelfDistillationRegressor as SelfDistillationRegressor,
)
from ._function_space_classifier import (
    SparseFunctionSpaceClassifier as SparseFunctionSpaceClassifier,
)
from ._function_space_parameterization import (
    SparseFunctionSpaceRegressor as SparseFunctionSpaceRegressor,
)
from ._hierarchical_mtgp import (
    HierarchicalMultitaskGPRegressor as HierarchicalMultitaskGPRegressor,
)
from ._spectral_mixture import (
    HierarchicalSpectralMixtureKernel as HierarchicalSpectralMixtureKernel,
)
from ._private_classifier import PrivateSimilarityClassifier as PrivateSimilarityClassifier
from ._private_density import PrivateKernelDensity as PrivateKernelDensity
from ._private_similarity import (
    PrivacyLeakWarning as PrivacyLeakWarning,
    PrivateSimilarity as PrivateSimilarity,
)
from ._self_distillation import (
    SelfDistilledKernelRidge as SelfDistilledKernelRidge,
    optimal_distillation_weight as optimal_distillation_weight,
)
from ._spectral_solvers import spectrally_transformed_kernel as spectrally_transformed_kernel
