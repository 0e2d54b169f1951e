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
from ._exact_gauss_newton import ExactGaussNewton as ExactGaussNewton
from ._fadam import (
    FAdam as FAdam,
    diagonal_empirical_fisher as diagonal_empirical_fisher,
)
from ._frank_wolfe import FrankWolfe as FrankWolfe, frank_wolfe as frank_wolfe
from ._frank_wolfe_estimators import (
    FrankWolfeClassifier as FrankWolfeClassifier,
    FrankWolfeRegressor as FrankWolfeRegressor,
)
from ._lars import LARS as LARS
from ._linear_minimization import (
    lmo_birkhoff as lmo_birkhoff,
    lmo_k_sparse as lmo_k_sparse,
    lmo_l1 as lmo_l1,
    lmo_l2 as lmo_l2,
    lmo_linf as lmo_linf,
    lmo_nuclear as lmo_nuclear,
    lmo_simplex as lmo_simplex,
)
from ._mean_field_gda import (
    MixedNashEquilibrium as MixedNashEquilibrium,
    mixed_nash_equilibrium as mixed_nash_equilibrium,
    nikaido_isoda_error as nikaido_isoda_error,
)
from ._sgd_model_building import SMB as SMB, SMBi as SMBi
from ._target_surrogates import SSO as SSO
