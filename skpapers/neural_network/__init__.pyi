from ._adaptive_parametric_activation import (
    AdaptiveGatedLinearUnit as AdaptiveGatedLinearUnit,
    AdaptiveParametricActivation as AdaptiveParametricActivation,
    SqueezeExcitation as SqueezeExcitation,
    adaptive_parametric_activation as adaptive_parametric_activation,
    class_prior_correction as class_prior_correction,
)
from ._augmentations import (
    image_affine as image_affine,
    jitter as jitter,
    mask_features as mask_features,
    resample_features as resample_features,
)
from ._barlow_twins_loss import (
    barlow_twins_loss as barlow_twins_loss,
    cross_correlation as cross_correlation,
)
from ._boolean_measures import (
    boolean_influence as boolean_influence,
    noise_stability as noise_stability,
    walsh_hadamard_coefficients as walsh_hadamard_coefficients,
)
from ._boolean_reasoning import (
    BooleanFourierClassifier as BooleanFourierClassifier,
    BooleanFourierRegressor as BooleanFourierRegressor,
)
from ._bridge import TorchEstimator as TorchEstimator
from ._error_feedback_estimators import (
    ErrorFeedbackClassifier as ErrorFeedbackClassifier,
    ErrorFeedbackRegressor as ErrorFeedbackRegressor,
)
from ._equiangular_basis import (
    EquiangularBasisClassifier as EquiangularBasisClassifier,
    equiangular_basis_vectors as equiangular_basis_vectors,
)
from ._families import (
    TorchClassifier as TorchClassifier,
    TorchRegressor as TorchRegressor,
    TorchTransformer as TorchTransformer,
)
from ._concept_sentences import (
    feature_collapse_score as feature_collapse_score,
    make_concept_sentences as make_concept_sentences,
)
from ._curriculum_scoring import (
    CurriculumClassifier as CurriculumClassifier,
    CurriculumRegressor as CurriculumRegressor,
)
from ._difficulty_scores import (
    compare_scores as compare_scores,
    difficulty_scores as difficulty_scores,
)
from ._feature_collapse import TokenSequenceClassifier as TokenSequenceClassifier
from ._fitted_value_iteration import (
    FittedValueIterationRegressor as FittedValueIterationRegressor,
)
from ._gradients import (
    field_divergence as field_divergence,
    input_gradient as input_gradient,
)
from ._hierarchical_polynomials import LayerwiseFeatureRegressor as LayerwiseFeatureRegressor
from ._histogram_loss import (
    HistogramLossRegressor as HistogramLossRegressor,
    histogram_targets as histogram_targets,
)
from ._layers import ScaledLinear as ScaledLinear, make_mlp as make_mlp
from ._low_rank_adapters import (
    LoHALinear as LoHALinear,
    LoKHLinear as LoKHLinear,
    LoKrLinear as LoKrLinear,
    LoRALinear as LoRALinear,
)
from ._mish import Mish as Mish, mish as mish, mish_derivatives as mish_derivatives
from ._mittag_leffler import (
    MITTAG_LEFFLER_PRESETS as MITTAG_LEFFLER_PRESETS,
    MittagLefflerActivation as MittagLefflerActivation,
    mittag_leffler as mittag_leffler,
)
from ._mlp import NeuralClassifier as NeuralClassifier, NeuralRegressor as NeuralRegressor
from ._neat_formula import genome_to_sympy as genome_to_sympy
from ._neat_regressor import NEATRegressor as NEATRegressor
from ._neat_search import NEATSearch as NEATSearch
from ._net import DivergenceError as DivergenceError
from ._orthogonal_projection import post_hoc_orthogonalize as post_hoc_orthogonalize
from ._pointer_value_retrieval import (
    CanonicalHoldout as CanonicalHoldout,
    make_pointer_value_retrieval as make_pointer_value_retrieval,
)
from ._polynomial_scores import make_hierarchical_polynomial as make_hierarchical_polynomial
from ._post_hoc_orthogonalization import (
    SemiStructuredClassifier as SemiStructuredClassifier,
    SemiStructuredRegressor as SemiStructuredRegressor,
)
from ._random import (
    Dropout as Dropout,
    build_module as build_module,
    initialize as initialize,
    torch_generator as torch_generator,
)
from ._registry import Registry as Registry, get_registry as get_registry, register as register
from ._robust_mixture import (
    RobustMixtureClassifier as RobustMixtureClassifier,
    RobustMixtureRegressor as RobustMixtureRegressor,
)
from ._sau import (
    SAU as SAU,
    SmoothedActivation as SmoothedActivation,
    smooth_activation as smooth_activation,
)
from ._scale_distribution_decoupling import ScaleDistributionLinear as ScaleDistributionLinear
from ._self_supervised import SelfSupervisedTransformer as SelfSupervisedTransformer
from ._masked_scaler import MaskedScaler as MaskedScaler
from ._star_blocks import (
    StarBlock as StarBlock,
    StarConvBlock as StarConvBlock,
    StarLinear as StarLinear,
    StarNet as StarNet,
    polynomial_coefficients as polynomial_coefficients,
    star_feature_dimension as star_feature_dimension,
)
from ._star_operation import (
    StarNetClassifier as StarNetClassifier,
    StarNetRegressor as StarNetRegressor,
)
from ._target_surrogate_estimators import (
    TargetSurrogateClassifier as TargetSurrogateClassifier,
    TargetSurrogateRegressor as TargetSurrogateRegressor,
)
from ._tensor_neat import NEATClassifier as NEATClassifier
from ._tensor_programs import (
    coordinate_check as coordinate_check,
    width_scaling as width_scaling,
)
from ._xnet import (
    CauchyActivation as CauchyActivation,
    XNetClassifier as XNetClassifier,
    XNetRegressor as XNetRegressor,
    solve_linear_block as solve_linear_block,
)
