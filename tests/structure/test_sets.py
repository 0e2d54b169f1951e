import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.utils import _safe_indexing

from skpapers.structure import Ragged, as_sets, validate_structured


def bags(rng, n=7, d=3):
    return [rng.standard_normal((m, d)) for m in rng.randint(0, 6, size=n)]


def padded(items, d):
    out = np.full((len(items), max(map(len, items)), d), np.nan)
    for row, item in zip(out, items):
        row[: len(item)] = item
    return out


@pytest.mark.parametrize("rows", [[2, 0, 2], slice(1, 5, 2), slice(None), [], [-1]])
def test_selecting_rows_equals_selecting_from_a_list(rows):
    items = bags(np.random.RandomState(0))
    expected = items[rows] if isinstance(rows, slice) else [items[i] for i in rows]
    taken = Ragged(items)[rows]
    assert len(taken) == len(expected)
    for mine, theirs in zip(taken, expected):
        np.testing.assert_array_equal(mine, theirs)


def test_boolean_and_scikit_learn_indexing():
    sets = Ragged(bags(np.random.RandomState(1)))
    mask = np.arange(7) % 2 == 0
    assert sets[mask] == sets[::2]
    assert _safe_indexing(sets, np.array([1, 3])) == sets[[1, 3]]
    assert _safe_indexing(sets, mask) == sets[::2]
    with pytest.raises(IndexError):
        sets[:, 0]
    with pytest.raises(IndexError):
        sets[7]


def test_array_form_is_padded_with_nan():
    items = bags(np.random.RandomState(2))
    sets = Ragged(items)
    np.testing.assert_array_equal(np.asarray(sets), padded(items, 3))
    assert sets.shape == np.asarray(sets).shape
    series = Ragged([item.T for item in items], axis=1)
    np.testing.assert_array_equal(np.asarray(series), padded(items, 3).transpose(0, 2, 1))
    assert series.shape == np.asarray(series).shape
    np.testing.assert_array_equal(series[3], items[3].T)


def test_equality_pickle_and_immutability():
    items = bags(np.random.RandomState(3))
    sets = Ragged(items)
    again = pickle.loads(pickle.dumps(sets))
    assert again == sets and sets != Ragged(items[::-1])
    assert sets != Ragged(items[:-1])
    for container in (sets, again):
        with pytest.raises(AttributeError, match="immutable"):
            container.values = 0
        with pytest.raises(ValueError, match="read-only"):
            container.values[0] = 0


def test_to_padded_gives_values_and_mask():
    items = bags(np.random.RandomState(4))
    values, mask = Ragged(items).to_padded(fill_value=-5)
    np.testing.assert_array_equal(mask.sum(axis=1), [len(item) for item in items])
    np.testing.assert_array_equal(values[mask], np.concatenate(items))
    assert (values[~mask] == -5).all() and values.flags.writeable


def test_all_forms_of_the_same_sets_are_equal():
    rng = np.random.RandomState(5)
    items = [*bags(rng), np.empty((0, 3))]
    as_object = np.empty(len(items), dtype=object)
    as_object[:] = items
    shuffled_padding = np.insert(padded(items, 3), 2, np.nan, axis=1)
    forms = [items, tuple(items), Ragged(items), as_object, padded(items, 3), shuffled_padding]
    assert all(as_sets(X) == Ragged(items) for X in forms)


def test_sets_of_scalars():
    table = np.array([[1.0, 2.0], [3.0, np.nan]])
    assert as_sets(table) == Ragged([[1.0, 2.0], [3.0]])
    assert as_sets([[1.0, 2.0], [3.0]]) == as_sets(table)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept_and_integers_become_float64(dtype):
    X = np.ones((2, 3, 4), dtype=dtype)
    assert as_sets(X).dtype == dtype
    assert as_sets(list(X)).to_padded()[0].dtype == dtype
    assert as_sets(X.astype(int)).dtype == np.float64


def test_a_full_array_is_not_copied():
    X = np.ones((20, 3, 4))
    assert np.shares_memory(as_sets(X).values, X)


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (np.zeros((2, 2, 2, 2)), ["numpy.ndarray of shape (2, 2, 2, 2)"]),
        (np.zeros(3), ["shape (3,)"]),
        ([np.zeros((2, 3)), np.zeros((2, 4))], ["list of 2 items", "[3, 4]"]),
        ([np.zeros((2, 3, 1)), np.zeros((1, 3, 1))], ["1 or 2 dimensions"]),
        (np.array([[[1.0, np.nan]]]), ["in a part of the features"]),
        ([np.array([["a", "b"]]), np.array([["a", "b"]] * 2)], ["could not convert"]),
    ],
)
def test_errors_say_what_was_given_and_what_is_accepted(X, words):
    with pytest.raises(ValueError) as caught:
        as_sets(X)
    for word in [*words, "Accepted forms", "n_elements", "Ragged"]:
        assert word in str(caught.value)


def test_other_errors():
    with pytest.raises(TypeError, match="Accepted forms"):
        as_sets("text")
    with pytest.raises(ValueError, match="infinity"):
        as_sets(np.full((2, 2, 2), np.inf))
    with pytest.raises(ValueError, match="sizes add up to 3"):
        Ragged.from_flat(np.zeros((4, 2)), [1, 2])


def test_validate_structured_learns_and_checks_the_width():
    estimator = BaseEstimator()
    X, y = validate_structured(estimator, np.ones((4, 5, 2)), [0, 1, 0, 1], parser=as_sets)
    assert estimator.n_features_in_ == 2 and isinstance(y, np.ndarray)
    with pytest.raises(ValueError, match="X has 3 features, but BaseEstimator is expecting 2"):
        validate_structured(estimator, np.ones((4, 5, 3)), parser=as_sets, reset=False)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        validate_structured(estimator, np.ones((4, 5, 2)), [0, 1], parser=as_sets)
    with pytest.raises(ValueError, match="0 sample"):
        validate_structured(estimator, np.ones((0, 5, 2)), parser=as_sets)


def test_validate_structured_leaves_tables_to_scikit_learn():
    import pandas

    estimator = BaseEstimator()
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    assert len(validate_structured(estimator, frame, parser=as_sets)) == 2
    assert list(estimator.feature_names_in_) == ["a", "b"]
    with pytest.raises(ValueError, match="Expected 2D array, got 1D"):
        validate_structured(estimator, np.ones(3), parser=as_sets)
    with pytest.raises(ValueError, match="contains NaN"):
        validate_structured(estimator, np.array([[1.0, np.nan]]), parser=as_sets)
    validate_structured(estimator, np.ones((4, 5, 2)), parser=as_sets)
    assert not hasattr(estimator, "feature_names_in_")
