"""The main job: every method that suits the data, under one cross-validation."""

from ._api import compare
from ._errors import CompareError
from ._models import OneHotTarget, OnLabeledRows
from ._split import hide_labels, split_labeled

__all__ = [
    "CompareError",
    "OnLabeledRows",
    "OneHotTarget",
    "compare",
    "hide_labels",
    "split_labeled",
]
