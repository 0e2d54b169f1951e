from . import discovery as discovery
from ._catalogue import Paper as Paper, papers as papers
from ._conjugate_gradients import conjugate_gradients as conjugate_gradients
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
from ._neighbors import nearest_neighbors as nearest_neighbors
from ._optional import import_optional as import_optional
from ._orthonormal import polar_factor as polar_factor, qr_factor as qr_factor
from ._random import (
    check_random_state as check_random_state,
    draw_seed as draw_seed,
    seed_estimator as seed_estimator,
)
from ._truncated import truncated_eigh as truncated_eigh, truncated_svd as truncated_svd
from ._weights import weighted_rows as weighted_rows
