from ._compositional_mle import CompositionalEnergyDensity as CompositionalEnergyDensity
from ._conjnorm import ConjNormDetector as ConjNormDetector
from ._fractal_generative import FractalDensity as FractalDensity
from ._marginalization_models import MarginalizationModel as MarginalizationModel
from ._noise2score import Noise2Score as Noise2Score
from ._nn_score_estimation import (
    EarlyStoppedScoreEstimator as EarlyStoppedScoreEstimator,
    score_ntk as score_ntk,
)
from ._regularized_autoencoder import ScoreAutoencoder as ScoreAutoencoder
from ._truncated_stein import (
    TruncatedSteinDensity as TruncatedSteinDensity,
    truncated_ksd as truncated_ksd,
)
from ._vanilla_score import (
    ScoreMatchingSampler as ScoreMatchingSampler,
    data_initialized_langevin as data_initialized_langevin,
)
