from ._node_kernels import (
    graph_kernel as graph_kernel,
    modulation_function as modulation_function,
)
from ._universal_graph_random_features import (
    GraphRandomFeatures as GraphRandomFeatures,
    learn_modulation as learn_modulation,
)
