from ._attach import (
    TrainingGraph as TrainingGraph,
    correlation_graph as correlation_graph,
    knn_graph as knn_graph,
)
from ._base import RowContainer as RowContainer, validate_structured as validate_structured
from ._domains import (
    check_groups as check_groups,
    check_sample_domain as check_sample_domain,
    is_unlabeled as is_unlabeled,
    split_treatment as split_treatment,
)
from ._functions import Functions as Functions, as_functions as as_functions
from ._graph_list import GraphList as GraphList
from ._graph_parsers import Nodes as Nodes, as_graphs as as_graphs, as_nodes as as_nodes
from ._graphs import Graph as Graph, NodeView as NodeView
from ._images import as_images as as_images
from ._labeled_split import LabeledSplit as LabeledSplit
from ._on_features import OnFeatures as OnFeatures
from ._relations import Ratings as Ratings, Triples as Triples
from ._series import as_panel as as_panel
from ._sets import Ragged as Ragged, as_sets as as_sets
