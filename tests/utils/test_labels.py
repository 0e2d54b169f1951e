"""Tests of targets with unlabelled rows."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn.externals.array_api_compat.torch as torch_namespace
import torch
from numpy.testing import assert_array_equal
from sklearn import config_context

from skpapers.utils import encode_partial_labels, one_hot, split_partial_targets

NAN = float("nan")


@pytest.mark.parametrize("wrap", [list, np.array, pd.Series, lambda y: np.array(y, dtype=object)])
def test_nan_is_unlabelled_among_numbers(wrap):
    targets, labelled = split_partial_targets(wrap([1.5, NAN, 2.0]))
    assert_array_equal(targets, [1.5, 0.0, 2.0])
    assert_array_equal(labelled, [True, False, True])
    assert targets.dtype == np.float64


def test_targets_may_be_several_and_of_another_namespace():
    y = np.array([[1.0, 2.0], [NAN, NAN]])
    assert_array_equal(split_partial_targets(y)[1], [True, False])
    with config_context(array_api_dispatch=True):
        targets, labelled = split_partial_targets(y, xp=torch_namespace, dtype=torch.float32)
    assert targets.dtype == torch.float32
    assert labelled.tolist() == [True, False]


@pytest.mark.parametrize(
    "y, message",
    [
        ([NAN, NAN], "labelled"),
        ([1.0, np.inf], "infinity"),
        ([[1.0, NAN], [1.0, 2.0]], "some targets"),
        (["a", "b"], "Convert your data"),
        (None, "None"),
    ],
)
def test_bad_targets_raise(y, message):
    with pytest.raises(ValueError, match=message):
        split_partial_targets(y)


@pytest.mark.parametrize(
    "y, codes, classes",
    [
        ([2, -1, 0, 2], [1, -1, 0, 1], [0, 2]),
        ([-1, 1, 1, -1], [0, 1, 1, 0], [-1, 1]),
        ([-1, 1, 0, -1], [-1, 1, 0, -1], [0, 1]),
        (np.array(["b", None, "a"], dtype=object), [1, -1, 0], ["a", "b"]),
        (np.array(["b", NAN, "a"], dtype=object), [1, -1, 0], ["a", "b"]),
        ([1.0, NAN, 0.0], [1, -1, 0], [0.0, 1.0]),
        (pd.Series([5, None, 3], dtype="Int64"), [1, -1, 0], [3, 5]),
        (pd.Series(["b", None, "a"]), [1, -1, 0], ["a", "b"]),
        (pl.Series(["b", None, "a"]), [1, -1, 0], ["a", "b"]),
        (["b", "a"], [1, 0], ["a", "b"]),
    ],
)
def test_marks_of_unlabelled_rows(y, codes, classes):
    found, names = encode_partial_labels(y)
    assert_array_equal(found, codes)
    assert_array_equal(names, classes)


@pytest.mark.parametrize("y", [[-1, -1], [NAN, NAN], np.array([None, None]), None])
def test_nothing_labelled_raises(y):
    with pytest.raises(ValueError):
        encode_partial_labels(y)


def test_continuous_labels_raise():
    with pytest.raises(ValueError, match="continuous"):
        encode_partial_labels([0.5, 1.7, NAN])


def test_one_hot_leaves_unlabelled_rows_empty():
    assert_array_equal(one_hot(np.array([0, -1, 2]), 3), [[1, 0, 0], [0, 0, 0], [0, 0, 1]])
