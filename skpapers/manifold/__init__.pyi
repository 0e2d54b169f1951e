from ._canonical_form import (
    canonical_form as canonical_form,
    santalo_point as santalo_point,
    simplex_canonical_form as simplex_canonical_form,
)
from ._filtrations import function_rips as function_rips
from ._flag_averaged_pca import FlagAveragedPCA as FlagAveragedPCA
from ._flag_averaging import FlagMean as FlagMean, FlagMedian as FlagMedian
from ._flag_functions import (
    chordal_flag_distance as chordal_flag_distance,
    flag_mean as flag_mean,
    flag_median as flag_median,
)
from ._functorial_manifold import (
    FunctorialScaling as FunctorialScaling,
    fuzzy_strength as fuzzy_strength,
    single_linkage_ultrametric as single_linkage_ultrametric,
    smacof as smacof,
)
from ._lcot import LinearCircularOT as LinearCircularOT
from ._lcot_distance import lcot_distance as lcot_distance, pairwise_lcot as pairwise_lcot
from ._multiparameter_persistence import (
    MultiparameterPersistence as MultiparameterPersistence,
)
from ._positive_geometry import (
    PolytopeCanonicalForm as PolytopeCanonicalForm,
    WachspressCoordinates as WachspressCoordinates,
)
from ._signed_measures import (
    euler_signed_measure as euler_signed_measure,
    hilbert_signed_measure as hilbert_signed_measure,
    signed_measure_distance as signed_measure_distance,
)
from ._tldr import TLDR as TLDR
from ._topology_optimization import (
    MultiparameterTopologyLoss as MultiparameterTopologyLoss,
    TopologicalPointOptimizer as TopologicalPointOptimizer,
)
