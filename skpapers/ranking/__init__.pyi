from ._balancing_weights import KernelBalancingWeights as KernelBalancingWeights
from ._biased_rankings import make_biased_rankings as make_biased_rankings
from ._fair_subset_selection import (
    FairSubsetSelector as FairSubsetSelector,
    fairness_effectiveness as fairness_effectiveness,
    multiwinner_score as multiwinner_score,
)
from ._kernel_balancing import KernelBalancedRecommender as KernelBalancedRecommender
from ._ordinal_mds_metric import (
    OrdinalMDSMetric as OrdinalMDSMetric,
    OrdinalMDSRanker as OrdinalMDSRanker,
)
