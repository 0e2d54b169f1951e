from ._adamw import (
    AdamW as AdamW,
    CosineWarmRestarts as CosineWarmRestarts,
    SGDW as SGDW,
    normalized_weight_decay as normalized_weight_decay,
)
from ._compressors import (
    Identity as Identity,
    NaturalCompression as NaturalCompression,
    RandK as RandK,
    SignNorm as SignNorm,
    TopK as TopK,
)
from ._ef21_hook import EF21State as EF21State, ef21_hook as ef21_hook
from ._error_feedback import EF21 as EF21, ef21_stepsize as ef21_stepsize
from ._lars import LARS as LARS
