from ._barlow_twins import (
    BarlowTwins as BarlowTwins,
    LARS as LARS,
    barlow_twins_loss as barlow_twins_loss,
    image_affine as image_affine,
    jitter as jitter,
    mask_features as mask_features,
    resample_features as resample_features,
)
from ._contrastive_latent import ContrastiveLatentModel as ContrastiveLatentModel
from ._ldreg import LDReg as LDReg, ldreg_penalty as ldreg_penalty
from ._local_dimension import (
    LocalIntrinsicDimension as LocalIntrinsicDimension,
    effective_rank as effective_rank,
    local_intrinsic_dimension as local_intrinsic_dimension,
)
from ._unsupervised_pretraining import (
    PretrainedClassifier as PretrainedClassifier,
    PretrainedRegressor as PretrainedRegressor,
    informative_excess_bound as informative_excess_bound,
)
from ._class_separability import (
    icnn_loss as icnn_loss,
    icnn_score as icnn_score,
    icnn_separability as icnn_separability,
    proto_triplet_loss as proto_triplet_loss,
)
from ._proto_triplet import ProtoTripletClassifier as ProtoTripletClassifier
