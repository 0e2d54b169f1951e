from ._canonical_form import (
    canonical_form as canonical_form,
    santalo_point as santalo_point,
    simplex_canonical_form as simplex_canonical_form,
)
from ._flag_averaged_pca import FlagAveragedPCA as FlagAveragedPCA
from ._flag_averaging import FlagMean as FlagMean, FlagMedian as FlagMedian
from ._flag_functions import (
    chordal_flag_distance as chordal_flag_distance,
    flag_mean as flag_mean,
    flag_median as flag_median,
)
from ._functorial import (
    FunctorialScaling as FunctorialScaling,
    fuzzy_strength as fuzzy_strength,
    single_linkage_ultrametric as single_linkage_ultrametric,
    smacof as smacof,
)
from ._lcot import LinearCircularOT as LinearCircularOT
from ._lcot_distance import lcot_distance as lcot_distance, pairwise_lcot as pairwise_lcot
from ._positive_geometry import (
    PolytopeCanonicalForm as PolytopeCanonicalForm,
    WachspressCoordinates as WachspressCoordinates,
)
from ._tldr import TLDR as TLDR
