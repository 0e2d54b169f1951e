from ._coding_rates import (
    coding_rate as coding_rate,
    rate_reduction as rate_reduction,
    sinkhorn_membership as sinkhorn_membership,
)
from ._functorial_clustering import (
    FunctorialClustering as FunctorialClustering,
    check_functoriality as check_functoriality,
    motivic_distance as motivic_distance,
)
from ._low_rank_mixture import (
    make_low_rank_gaussian_mixture as make_low_rank_gaussian_mixture,
)
from ._manifold_linearizing_clustering import (
    ManifoldLinearizingClustering as ManifoldLinearizingClustering,
)
from ._pair_answers import (
    misclassification_error as misclassification_error,
    sample_pairs as sample_pairs,
)
from ._pairwise_clustering import RGCA as RGCA, SACA as SACA
from ._subspace_diffusion_clustering import LowRankMixtureDiffusion as LowRankMixtureDiffusion
