from ._functorial_clustering import (
    FunctorialClustering as FunctorialClustering,
    check_functoriality as check_functoriality,
    motivic_distance as motivic_distance,
)
