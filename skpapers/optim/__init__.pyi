from ._adamw import (
    AdamW as AdamW,
    CosineWarmRestarts as CosineWarmRestarts,
    SGDW as SGDW,
    normalized_weight_decay as normalized_weight_decay,
)
from ._lars import LARS as LARS
