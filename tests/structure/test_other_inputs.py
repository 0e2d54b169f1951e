import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from skpapers.structure import (
    Functions,
    Ragged,
    Ratings,
    Triples,
    as_functions,
    as_images,
    check_groups,
    check_sample_domain,
    is_unlabeled,
    split_treatment,
)

RNG = np.random.RandomState(0)


def test_all_forms_of_the_same_images_are_equal():
    X = RNG.standard_normal((3, 1, 4, 5)).astype(np.float32)
    for form in (X, X[:, 0], X.reshape(3, 20)):
        images = as_images(form, image_shape=(1, 4, 5))
        np.testing.assert_array_equal(images, X)
        assert images.dtype == np.float32
    np.testing.assert_array_equal(as_images(X.reshape(3, 20), image_shape=(4, 5)), X)
    assert as_images(X.reshape(3, 20)).shape == (3, 1, 1, 20)


def test_image_errors():
    with pytest.raises(ValueError, match=r"image_shape=\(1, 8, 8\).*Accepted forms"):
        as_images(np.zeros((2, 63)), (1, 8, 8))
    with pytest.raises(ValueError, match=r"shape \(4,\).*Accepted forms"):
        as_images(np.zeros(4))
    with pytest.raises(ValueError, match="NaN"):
        as_images(np.full((2, 3, 3), np.nan))


def test_functions_on_a_grid_and_at_points_of_their_own():
    grid = np.array([0.0, 0.5, 2.0])
    values = np.array([[1.0, np.nan, 3.0], [4.0, 5.0, 6.0]])
    curves = as_functions(values, grid)
    samples = [np.array([[0.0, 1.0], [2.0, 3.0]]), np.column_stack([grid, values[1]])]
    assert curves.to_ragged() == Ragged(samples)
    assert as_functions(samples).to_ragged() == as_functions(Ragged(samples)).to_ragged()
    assert as_functions(np.asarray(Ragged(samples))).to_ragged() == Ragged(samples)
    assert curves[[1]].to_ragged() == Ragged(samples[1:])
    assert curves == pickle.loads(pickle.dumps(curves)) != as_functions(values)
    assert as_functions(curves) is curves


def test_functions_of_two_coordinates_and_fda_grids():
    points = (np.array([0.0, 1.0]), np.array([0.0, 1.0, 2.0]))
    data = SimpleNamespace(data_matrix=RNG.standard_normal((4, 2, 3, 1)), grid_points=points)
    curves = as_functions(data)
    assert curves.grid.shape == (6, 2) and curves.shape == (4, 6)
    row = 4  # second point of the first axis, second of the other
    assert curves.grid[row].tolist() == [1.0, 1.0]
    np.testing.assert_array_equal(curves.values[:, row], data.data_matrix[:, 1, 1, 0])


def test_function_errors():
    with pytest.raises(ValueError, match=r"grid has shape \(2, 1\), but X has 3 columns"):
        as_functions(np.zeros((2, 3)), [0, 1])
    with pytest.raises(ValueError, match="location is missing.*Accepted forms"):
        as_functions([np.array([[np.nan, 1.0]])])
    with pytest.raises(ValueError, match="location is missing"):
        as_functions([np.array([[1.0]]), np.array([[1.0], [2.0]])])
    queries = as_functions([np.array([[0.3, np.nan]])])
    assert isinstance(queries, Functions) and np.isnan(queries.values[0][0, 1])


def test_triples_keep_their_vocabulary():
    facts = Triples([["a", "r", "b"], ["b", "s", "c"], ["c", "r", "a"]])
    part = facts[[1]]
    assert part.entities.tolist() == ["a", "b", "c"] and part.codes.tolist() == [[1, 1, 2]]
    new = Triples([["a", "t", "z"]], facts.entities, facts.relations)
    assert new.codes.tolist() == [[0, -1, -1]]
    np.testing.assert_array_equal(np.asarray(part), [["b", "s", "c"]])
    assert facts == pickle.loads(pickle.dumps(facts)) != part
    assert part.features.dtype == np.float64
    with pytest.raises(ValueError, match=r"\(n, 3\)"):
        Triples([["a", "b"]])


def test_ratings_from_a_matrix():
    pairs, y = Ratings.from_matrix([[5.0, np.nan, 1.0], [np.nan, np.nan, 2.0]])
    assert pairs.codes.tolist() == [[0, 0], [0, 2], [1, 2]] and y.tolist() == [5, 1, 2]
    assert len(pairs.items) == 3
    assert pairs[1:].users.tolist() == [0, 1]


def test_domain_signs_and_defaults():
    assert check_sample_domain(None, 2).tolist() == [1, 1]
    assert check_sample_domain(None, 2, y=[np.nan, 0.5]).tolist() == [-2, 1]
    assert check_sample_domain(None, 2, y=[-1, 0], unlabeled=None).tolist() == [1, 1]
    assert check_sample_domain(None, 2, fit=False).tolist() == [-2, -2]
    assert check_sample_domain([1.0, -3.0], 2).dtype.kind == "i"
    for wrong in ([0, 1], [0.5, 1], ["a", "b"]):
        with pytest.raises(ValueError, match="integers other than 0"):
            check_sample_domain(wrong, 2)
    with pytest.raises(ValueError, match="3 values for 2 samples"):
        check_sample_domain([1, 1, 1], 2)


def test_groups_and_unlabeled():
    assert check_groups(None, 3).tolist() == [0, 0, 0]
    assert check_groups([5, 2, 5], 3).tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="2 values for 3"):
        check_groups([1, 2], 3)
    assert is_unlabeled([[0.0, np.nan], [1.0, 1.0]]).tolist() == [True, False]
    assert is_unlabeled(["a", "-1"]).tolist() == [False, False]


def test_treatment_as_metadata_or_as_a_column():
    import pandas

    frame = pandas.DataFrame({"x": [1.0, 2.0], "t": [0, 1]})
    covariates, treatment = split_treatment(frame, "t")
    assert list(covariates.columns) == ["x"] and treatment.tolist() == [0, 1]
    assert split_treatment(np.ones((2, 1)), [0, 1])[1].tolist() == [0, 1]
    for X, wrong in ((frame, "z"), (frame, None), (frame, [1, 2, 3])):
        with pytest.raises(ValueError):
            split_treatment(X, wrong)
