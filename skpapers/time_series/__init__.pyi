from ._diagonal_ssm import (
    DiagonalSSM as DiagonalSSM,
    s4d_init as s4d_init,
    s4d_kernel as s4d_kernel,
)
from ._s4d import (
    S4DClassifier as S4DClassifier,
    S4DRegressor as S4DRegressor,
)
from ._s4d_features import S4DTransformer as S4DTransformer
