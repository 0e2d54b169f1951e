from . import discovery as discovery
from ._catalogue import Paper as Paper, papers as papers
from ._kernels import (
    kernel_matrix as kernel_matrix,
    kernel_product as kernel_product,
    median_squared_distance as median_squared_distance,
    positive_definite_solver as positive_definite_solver,
    resolve_gamma as resolve_gamma,
)
from ._labels import (
    encode_partial_labels as encode_partial_labels,
    one_hot as one_hot,
    split_partial_targets as split_partial_targets,
)
from ._namespace import check_same_namespace as check_same_namespace
from ._optional import import_optional as import_optional
from ._random import (
    check_random_state as check_random_state,
    draw_seed as draw_seed,
    seed_estimator as seed_estimator,
)
