from ._deep_sets import (
    DeepSetsClassifier as DeepSetsClassifier,
    DeepSetsOutlierDetector as DeepSetsOutlierDetector,
    DeepSetsRegressor as DeepSetsRegressor,
    PermutationEquivariantLinear as PermutationEquivariantLinear,
)
from ._set_expansion import SetExpansionRanker as SetExpansionRanker
