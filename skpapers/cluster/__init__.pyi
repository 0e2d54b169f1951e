from ._functorial_clustering import (
    FunctorialClustering as FunctorialClustering,
    check_functoriality as check_functoriality,
    motivic_distance as motivic_distance,
)
from ._pair_answers import (
    misclassification_error as misclassification_error,
    sample_pairs as sample_pairs,
)
from ._pairwise_clustering import RGCA as RGCA, SACA as SACA
