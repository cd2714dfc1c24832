"""Windows against their definition in words, one row at a time; views, groups, and what is refused."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from tsforecast import DataError, NotEnoughHistoryError, sliding_windows
from tsforecast.data.windowing import window_starts


def by_hand(values, steps, horizon, stride, column=0, groups=None):
    """Lists of windows and of targets, row by row."""
    X, y = [], []
    groups = [0] * len(values) if groups is None else list(groups)
    first = 0
    while first < len(values):
        end = first
        while end < len(values) and groups[end] == groups[first]:
            end += 1
        for start in range(first, end, stride):
            if start + steps + horizon <= end:
                X.append([values[start + i] for i in range(steps)])
                following = [values[start + steps + i] for i in range(horizon)]
                y.append([np.atleast_1d(v)[column] for v in following])
        first = end
    y = np.array(y)
    return np.array(X), y[:, 0] if horizon == 1 else y


@settings(max_examples=80, deadline=None)
@given(
    lengths=st.lists(st.integers(8, 14), min_size=1, max_size=4),
    steps=st.integers(1, 5),
    horizon=st.integers(1, 3),
    stride=st.integers(1, 6),
    columns=st.sampled_from([None, 1, 3]),
)
def test_windows_are_what_the_words_say(lengths, steps, horizon, stride, columns):
    n = sum(lengths)
    values = np.arange(n * (columns or 1), dtype=float).reshape((n,) if columns is None else (n, columns))
    groups = np.repeat(np.arange(len(lengths)), lengths)
    column = 0 if columns is None else columns - 1
    expected = by_hand(values, steps, horizon, stride, column, groups)
    X, y = sliding_windows(values, steps, horizon, stride, target=column, groups=groups)
    assert_array_equal(X, expected[0], strict=True)
    assert_array_equal(y, expected[1], strict=True)
    single = sliding_windows(values, steps, horizon, stride, target=column)
    expected = by_hand(values, steps, horizon, stride, column)
    assert_array_equal(single[0], expected[0], strict=True)
    assert_array_equal(single[1], expected[1], strict=True)


def test_windows_are_views_that_cannot_be_written():
    series = np.zeros(1_000_000, dtype=np.float32)
    X, y = sliding_windows(series, 512, horizon=24, stride=3)
    assert np.shares_memory(X, series)
    assert np.shares_memory(y, series)
    assert not X.flags.writeable
    assert not y.flags.writeable
    series[5] = 7.0
    assert X[0, 5] == 7.0
    table = np.zeros((100, 4))
    assert np.shares_memory(sliding_windows(table, 10)[0], table)


def test_frames_of_one_dtype_are_viewed_and_columns_found_by_name():
    frame = pd.DataFrame(np.arange(30.0).reshape(10, 3), columns=["a", "b", "c"])
    X, y = sliding_windows(frame, 4, target="b")
    assert np.shares_memory(X, frame.to_numpy())
    assert_array_equal(X[2], frame.to_numpy()[2:6])
    assert_array_equal(y, frame["b"].to_numpy()[4:])
    assert_array_equal(sliding_windows(frame, 4)[1], frame["a"].to_numpy()[4:])
    assert_array_equal(sliding_windows(frame, 4, target=-1)[1], frame["c"].to_numpy()[4:])
    assert_array_equal(sliding_windows(frame["c"], 4)[0], sliding_windows(frame["c"].to_numpy(), 4)[0])


def test_frames_of_mixed_dtypes_and_polars_frames():
    frame = pd.DataFrame({"y": np.arange(8), "x": np.linspace(0, 1, 8), "flag": np.arange(8) % 2 == 0})
    X, y = sliding_windows(frame[["y", "x"]], 3)
    assert X.dtype == np.float64
    assert_array_equal(y, np.arange(3.0, 8.0))
    polars = pl.DataFrame({"y": np.arange(8.0), "x": np.linspace(0, 1, 8)})
    assert_array_equal(sliding_windows(polars, 3, target="x")[0], X)
    assert_array_equal(sliding_windows(polars["y"], 3)[1], y)


def test_nullable_and_truth_columns_stand_beside_floats():
    plain = pd.DataFrame({"x": np.linspace(0, 1, 8), "y": np.arange(8.0), "flag": np.arange(8) % 2})
    expected = sliding_windows(plain, 3, target="y")
    nullable = plain.astype({"y": "Int64", "flag": "boolean"})
    for frame in (nullable, plain.astype({"flag": bool}), plain.astype({"y": "int64[pyarrow]", "x": "Float64"})):
        X, y = sliding_windows(frame, 3, target="y")
        assert X.dtype == np.float64
        assert_array_equal(X, expected[0])
        assert_array_equal(y, expected[1])
    assert sliding_windows(nullable["y"], 3)[0].dtype == np.int64
    nullable.loc[5, "y"] = pd.NA
    plain.loc[5, "y"] = np.nan
    assert_array_equal(sliding_windows(nullable, 3)[0], sliding_windows(plain, 3)[0])
    with pytest.raises(DataError, match=r"column 'name' is of dtype .*not numeric"):
        sliding_windows(nullable.assign(name="x"), 3)
    with pytest.raises(DataError, match="column 'y' is of dtype object, not numeric"):
        sliding_windows(nullable.astype({"y": object}), 3)


def test_missing_values_pass_through():
    series = np.array([1.0, np.nan, 3.0, 4.0])
    assert_array_equal(sliding_windows(series, 2)[0], [[1.0, np.nan], [np.nan, 3.0]])


def test_the_shortest_series_gives_one_window_and_a_shorter_one_an_error():
    assert sliding_windows(np.arange(5.0), 3, horizon=2)[1].tolist() == [[3.0, 4.0]]
    with pytest.raises(NotEnoughHistoryError, match=r"has 4 rows, but one window needs .* 3 \+ 2 = 5; lower"):
        sliding_windows(np.arange(4.0), 3, horizon=2)
    with pytest.raises(NotEnoughHistoryError, match="has 0 rows"):
        sliding_windows(np.empty(0), 3)
    with pytest.raises(NotEnoughHistoryError, match="no rows"):
        sliding_windows(np.empty(0), 3, groups=[])
    with pytest.raises(NotEnoughHistoryError, match="series 'b' has 2 rows"):
        sliding_windows(np.arange(7.0), 3, groups=["a"] * 5 + ["b"] * 2)


@pytest.mark.parametrize("name", ["n_timesteps", "horizon", "stride"])
@pytest.mark.parametrize("number", [0, -1, 1.5, True, "3"])
def test_sizes_must_be_positive_integers(name, number):
    sizes = {"n_timesteps": 2, "horizon": 1, "stride": 1} | {name: number}
    with pytest.raises(DataError, match=f"{name} must be a positive integer, got"):
        sliding_windows(np.arange(9.0), **sizes)
    with pytest.raises(DataError, match=name):
        window_starts(9, **sizes)


def test_what_is_not_numeric_is_named():
    frame = pd.DataFrame({"y": np.arange(5.0), "name": list("abcde")})
    with pytest.raises(DataError, match=r"column 'name' is of dtype .*not numeric"):
        sliding_windows(frame, 2)
    with pytest.raises(DataError, match="column 'when' is of dtype datetime64"):
        sliding_windows(frame[["y"]].assign(when=pd.date_range("2020", periods=5)), 2)
    with pytest.raises(DataError, match="column 'b' is of dtype String"):
        sliding_windows(pl.DataFrame({"a": [1.0] * 5, "b": list("abcde")}), 2)
    with pytest.raises(DataError, match="values are of dtype object"):
        sliding_windows(np.array([1, "x", None], dtype=object), 1)


def test_wrong_targets_groups_and_shapes():
    frame = pd.DataFrame({"y": np.arange(6.0), "x": 0.0})
    with pytest.raises(DataError, match=r"no column 'z'; columns are \['y', 'x'\]"):
        sliding_windows(frame, 2, target="z")
    with pytest.raises(DataError, match="target=2 is not a column position; there are 2 columns"):
        sliding_windows(frame, 2, target=2)
    with pytest.raises(DataError, match="columns are unnamed"):
        sliding_windows(frame.to_numpy(), 2, target="y")
    with pytest.raises(DataError, match="series 'a' do not stand side by side; sort"):
        sliding_windows(frame, 1, groups=list("aabbaa"))
    with pytest.raises(DataError, match=r"groups have shape \(5,\)"):
        sliding_windows(frame, 1, groups=list("aabbb"))
    with pytest.raises(DataError, match=r"shape \(2, 2, 2\)"):
        sliding_windows(np.zeros((2, 2, 2)), 1)
