from ._private_weights import PrivateMultiplicativeWeights as PrivateMultiplicativeWeights
from ._query_mechanisms import (
    BudgetExhaustedError as BudgetExhaustedError,
    GaussianQueries as GaussianQueries,
    LaplaceQueries as LaplaceQueries,
)
from ._reusable_holdout import (
    Thresholdout as Thresholdout,
    reusable_holdout_score as reusable_holdout_score,
)
from ._thresholdout import ReusableHoldoutSearchCV as ReusableHoldoutSearchCV
