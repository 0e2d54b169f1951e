from ._flag_averaged_pca import FlagAveragedPCA as FlagAveragedPCA
from ._flag_averaging import FlagMean as FlagMean, FlagMedian as FlagMedian
from ._flag_functions import (
    chordal_flag_distance as chordal_flag_distance,
    flag_mean as flag_mean,
    flag_median as flag_median,
)
from ._lcot import LinearCircularOT as LinearCircularOT
from ._lcot_distance import lcot_distance as lcot_distance, pairwise_lcot as pairwise_lcot
