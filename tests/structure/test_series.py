import numpy as np
import pytest

from skpapers.structure import Ragged, as_panel

RNG = np.random.RandomState(0)
SERIES = [RNG.standard_normal((2, t)) for t in (5, 3, 4)]


def nan_tail(layout="nct"):
    X = np.full((3, 2, 5), np.nan)
    for row, series in zip(X, SERIES):
        row[:, : series.shape[1]] = series
    return X if layout == "nct" else X.transpose(0, 2, 1)


def test_all_forms_of_the_same_panel_are_equal():
    expected = Ragged(SERIES, axis=1)
    assert as_panel(SERIES) == expected
    assert as_panel(nan_tail()) == expected
    assert as_panel(nan_tail("ntc"), layout="ntc") == expected
    assert as_panel([s.T for s in SERIES], layout="ntc") == expected
    assert as_panel(Ragged([s.T for s in SERIES])) == expected
    assert as_panel(expected) == expected


def test_padded_values_have_time_in_the_second_axis():
    values, mask = as_panel(SERIES).to_padded()
    assert values.shape == (3, 5, 2)
    np.testing.assert_array_equal(values[1, :3], SERIES[1].T)
    np.testing.assert_array_equal(mask.sum(axis=1), [5, 3, 4])


def test_a_table_is_one_channel():
    X = RNG.standard_normal((4, 6)).astype(np.float32)
    panel = as_panel(X)
    assert panel.shape == (4, 1, 6) and panel.dtype == np.float32
    np.testing.assert_array_equal(panel[2], X[2:3])
    assert as_panel(X[:, None, :]) == panel
    assert as_panel([[1.0, 2.0, 3.0], [1.0]]).sizes.tolist() == [3, 1]


def test_frames_with_nested_series_and_with_two_levels():
    import pandas

    cells = {name: [pandas.Series(s[c]) for s in SERIES] for c, name in enumerate("ab")}
    assert as_panel(pandas.DataFrame(cells)) == as_panel(SERIES)
    index = [(i, t) for i, s in enumerate(SERIES) for t in range(s.shape[1])]
    long = pandas.DataFrame(
        np.concatenate([s.T for s in SERIES]),
        index=pandas.MultiIndex.from_tuples(index),
        columns=["a", "b"],
    )
    assert as_panel(long) == as_panel(SERIES)


def test_missing_values_inside_a_series_are_refused_unless_allowed():
    X = np.array([[[1.0, np.nan, 2.0, np.nan]]])
    with pytest.raises(ValueError, match=r"before the end of a series.*Accepted forms"):
        as_panel(X)
    panel = as_panel(X, allow_missing=True)
    np.testing.assert_array_equal(panel[0], [[1.0, np.nan, 2.0]])


def test_errors():
    with pytest.raises(ValueError, match=r"shape \(1, 2, 3, 4\).*Accepted forms.*n_channels"):
        as_panel(np.zeros((1, 2, 3, 4)))
    with pytest.raises(ValueError, match="layout must be"):
        as_panel(SERIES, layout="tnc")
    with pytest.raises(ValueError, match="different numbers of features"):
        as_panel([np.zeros((2, 3)), np.zeros((3, 4))])
