from ._discrete import (
    CategoricalTableDensity as CategoricalTableDensity,
    MarkovSequenceDensity as MarkovSequenceDensity,
)
from ._gaussian_mixture import (
    GaussianMixtureDensity as GaussianMixtureDensity,
    LinearSubspaceDensity as LinearSubspaceDensity,
)
