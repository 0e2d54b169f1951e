from ._conjnorm import ConjNormDetector as ConjNormDetector
from ._fractal_generative import FractalDensity as FractalDensity
from ._marginalization_models import MarginalizationModel as MarginalizationModel
from ._truncated_stein import (
    TruncatedSteinDensity as TruncatedSteinDensity,
    truncated_ksd as truncated_ksd,
)
from ._vanilla_score import (
    ScoreMatchingSampler as ScoreMatchingSampler,
    data_initialized_langevin as data_initialized_langevin,
)
