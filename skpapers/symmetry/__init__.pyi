from ._deep_sets import (
    DeepSetsClassifier as DeepSetsClassifier,
    DeepSetsRegressor as DeepSetsRegressor,
)
from ._odd_element import DeepSetsOutlierDetector as DeepSetsOutlierDetector
from ._set_expansion import SetExpansionRanker as SetExpansionRanker
from ._set_layers import PermutationEquivariantLinear as PermutationEquivariantLinear
