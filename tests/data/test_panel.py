"""Long frames become flat sorted series; what cannot be used is refused by name."""

import datetime as dt
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest

from tsforecast.data.panel import Panel
from tsforecast.exceptions import DataError, TsForecastError


def frame(**columns):
    """Two series of six months."""
    base = {
        "unique_id": ["a"] * 6 + ["b"] * 6,
        "ds": list(pd.date_range("2020-01-01", periods=6, freq="MS")) * 2,
        "y": np.arange(12.0),
    }
    return pd.DataFrame(base | columns)


def changed(column, value, row=7, dtype=object):
    df = frame()
    df[column] = df[column].astype(dtype)
    df.loc[row, column] = value
    return df


def hours(day, of):
    return pd.DataFrame({"ds": pd.Timestamp(day) + pd.to_timedelta(of, "h"), "y": 1.0})


MONTHS = pd.period_range("2020", periods=6, freq="M")


def test_rows_in_any_order_give_the_same_panel():
    shuffled = frame().sample(frac=1, random_state=3)
    panel = Panel.from_frame(shuffled, "MS")
    assert panel.values.tolist() == list(range(12))
    assert panel.indptr.tolist() == [0, 6, 12]
    assert panel.ids.tolist() == ["a", "b"]
    assert shuffled.equals(frame().sample(frac=1, random_state=3))  # the caller's frame is untouched


def test_ids_sort_by_number_or_text():
    assert Panel.from_frame(frame(unique_id=[10] * 6 + [9] * 6)).ids.tolist() == [9, 10]
    assert Panel.from_frame(frame(unique_id=["10"] * 6 + ["9"] * 6)).ids.tolist() == ["10", "9"]
    numpy = frame(unique_id=pd.Series([1] * 3 + [np.int64(1)] * 3 + [2] * 6, dtype=object))
    assert Panel.from_frame(numpy).lengths.tolist() == [6, 6]  # one type of number in two guises
    mixed = frame(unique_id=np.array(["1"] * 6 + [1] * 6, dtype=object))
    assert Panel.from_frame(mixed).ids.tolist() == Panel.from_frame(mixed[::-1]).ids.tolist() == [1, "1"]


def test_a_frame_without_ids_is_one_series_named_after_the_target():
    panel = Panel.from_frame(
        frame().head(6).drop(columns="unique_id").rename(columns={"y": "sales"}), target_col="sales"
    )
    assert panel.ids.tolist() == ["sales"]


def test_polars_and_pandas_give_the_same_panel_and_their_own_frames():
    one, two = Panel.from_frame(frame()), Panel.from_frame(pl.from_pandas(frame()))
    np.testing.assert_array_equal(one.values, two.values)
    np.testing.assert_array_equal(one.times, two.times)
    for panel, kind in ((one, pd.DataFrame), (two, pl.DataFrame)):
        assert isinstance(panel.build_frame(panel.ids, panel.future_times(1).ravel(), {}), kind)


@pytest.mark.parametrize("dtype", ["category", "string", "str"])
def test_the_type_of_the_ids_comes_back(dtype):
    df = frame()
    df["unique_id"] = df["unique_id"].astype(dtype)
    panel = Panel.from_frame(df)
    out = panel.build_frame(panel.ids, panel.future_times(1).ravel(), {})
    assert out["unique_id"].tolist() == ["a", "b"]
    assert (str(out["unique_id"].dtype) == "category") == (dtype == "category")


def test_polars_dates_and_categories_come_back():
    df = pl.from_pandas(frame()).with_columns(pl.col("ds").cast(pl.Date), pl.col("unique_id").cast(pl.Categorical))
    panel = Panel.from_frame(df)
    out = panel.build_frame(panel.ids, panel.future_times(1).ravel(), {})
    assert out.schema["ds"] == pl.Date
    assert out.schema["unique_id"] == pl.Categorical
    assert out["ds"].to_list() == [dt.date(2020, 7, 1)] * 2


def test_numbers_of_other_types_are_taken():
    for y in ([decimal.Decimal("1.5")] * 12, np.full(12, 1.5, "float32"), pd.array([1.5] * 12, dtype="Float64")):
        assert Panel.from_frame(frame(y=y)).values.tolist() == [1.5] * 12
    assert Panel.from_frame(frame(y=np.arange(12, dtype="uint8"))).values.tolist() == list(range(12))


def test_python_dates_are_taken():
    panel = Panel.from_frame(frame(ds=[d.date() for d in frame().ds]))
    assert panel.freq.text == "MS"


@pytest.mark.parametrize(
    ("df", "words"),
    [
        (frame()[:0], ["empty"]),
        (frame().drop(columns="y"), ["'y'", "unique_id, ds"]),
        (frame().drop(columns="ds"), ["'ds'"]),
        ([1, 2], ["list"]),
        (frame().drop(columns="unique_id"), ["more than one row", "2020-01-01", "id_col"]),
        (changed("y", np.nan, dtype=float), ["'b'", "2020-02-01", "fill"]),
        (changed("y", None), ["'b'", "2020-02-01", "fill"]),
        (changed("y", pd.NA, dtype="Float64"), ["'b'", "2020-02-01", "fill"]),
        (changed("y", pd.NaT), ["'b'", "2020-02-01", "fill"]),
        (changed("y", decimal.Decimal("NaN")), ["'b'", "2020-02-01", "fill"]),
        (changed("y", decimal.Decimal("sNaN")), ["'b'", "2020-02-01", "fill"]),
        (changed("y", -np.inf, dtype=float), ["'b'", "2020-02-01", "infinite"]),
        (changed("y", "12.5"), ["'b'", "2020-02-01", "looks like a number", "to_numeric"]),
        (changed("y", "many"), ["'b'", "2020-02-01", "'many'", "to_numeric"]),
        (changed("y", 10**400), ["'b'", "2020-02-01", "too large"]),
        (changed("y", 1j), ["'b'", "2020-02-01", "complex"]),
        (changed("y", [1.0]), ["'b'", "2020-02-01", "list"]),
        (changed("y", True), ["'b'", "2020-02-01", "bool"]),
        (frame(y=np.arange(12) > 3), ["truth values", "astype(int)"]),
        (changed("ds", pd.NaT, dtype="datetime64[us]"), ["'ds'", "row 7", "'b'"]),
        (frame(ds=frame().ds.astype(str)), ["text", "to_datetime"]),
        (frame(ds=1.5), ["Float64", "dates"]),
        (changed("ds", pd.Timestamp("2020-02-01", tz="UTC")), ["time zones", "'b'", "utc=True"]),
        (changed("ds", pd.Timestamp("2020-01-01"), dtype="datetime64[us]"), ["'b'", "2020-01-01", "drop_duplicates"]),
        (frame().drop(index=8), ["'b'", "2020-02-01", "2020-04-01", "gap"]),
        (frame().drop(index=[2]), ["'a'", "2020-02-01", "2020-04-01", "gap"]),
        (frame(ds=[1, 2, 3, 4, 5, 7] * 2), ["'a'", "time 5", "time 7"]),
        (changed("unique_id", None), ["'unique_id'", "row 7", "fill it in, or drop"]),
        (changed("unique_id", np.nan), ["'unique_id'", "row 7"]),
        (frame(ds=pd.to_datetime(["2020-01-01", "2020-01-05", "2020-03-02"] * 4)), ["more than one row"]),
        (frame(unique_id=list("abcdefghijkl")), ["cannot be told", "freq"]),
        (frame(ds=np.arange(12, dtype="uint64") + 2**63), ["int64"]),
        (frame(ds=pd.period_range("2020", periods=6, freq="M").append(MONTHS)), ["periods", ".dt.to_timestamp()"]),
        (frame(ds=list(frame().ds + pd.Timedelta("14D"))), ["months", ".dt.to_period('M').dt.to_timestamp()"]),
        (
            frame(ds=[*frame().ds[:6], *pd.date_range("2020-01-01", periods=6, freq="QS")]),
            ["'b'", "2020-01-01 is followed by 2020-04-01", "'MS' (inferred from series 'a')", "freq='QS-", "same"],
        ),
        (frame(ds=[201510, 201511, 201512, 201601, 201602, 201603] * 2), ["time 201601", "YYYYMM", "2015-12-01"]),
        (frame(ds=[20240130, 20240131, 20240201, 20240202, 20240203, 20240204] * 2), ["YYYYMMDD,", "2015-12-31"]),
        (frame(unique_id=[1] * 6 + [True] * 6), ["1 (int)", "True (bool, row 6)", "astype(str)"]),
        (frame(unique_id=pd.Series([1] * 6 + [1.0] * 6, dtype=object)), ["1 (int)", "1.0 (float, row 6)"]),
        (hours("2024-03-31", [*range(-9, 2), 3, 4]), ["2024-03-31 01:00", "forward", "2024-03-31T03:00+02:00", "zone"]),
        (hours("2024-10-27", [0, 1, 2, 2, 3, 4]), ["2024-10-27 02:00", "back", "2024-10-27T02:00+02:00", "zone"]),
        (pl.from_pandas(frame()).lazy(), ["LazyFrame", ".collect()"]),
        (frame(y=["1.5"] * 9 + ["n. a."] * 3), ["'n. a.'", "'b'", "2020-04-01", "to_numeric"]),
    ],
)
def test_what_cannot_be_used_is_named(df, words):
    with pytest.raises(DataError) as caught:
        Panel.from_frame(df)
    for word in words:
        assert word in str(caught.value)


def test_whole_numbers_of_128_bits():
    df = pl.from_pandas(frame()).with_columns(pl.col("y").cast(pl.Int128))
    assert Panel.from_frame(df).values.tolist() == list(range(12))
    with pytest.raises(DataError, match="column 'ds' has type Int128"):
        Panel.from_frame(df.with_columns(ds=pl.col("y")))


def test_a_doubled_column_name_is_named():
    df = frame()
    df.insert(3, "y", 1.0, allow_duplicates=True)
    with pytest.raises(TsForecastError, match="y"):
        Panel.from_frame(df)


def test_other_columns_are_ignored():
    panel = Panel.from_frame(frame(price=np.nan, note="x"))
    assert panel.values.tolist() == list(range(12))


def test_gaps_are_told_against_a_given_frequency():
    with pytest.raises(DataError, match=r"series 'a'.*does not lie on freq 'W-MON'.*freq='MS'"):
        Panel.from_frame(frame(), "W-MON")


def test_head_tail_and_select():
    df = pd.DataFrame({"unique_id": ["a"] * 2 + ["b"] * 5, "ds": [1, 2, 1, 2, 3, 4, 5], "y": np.arange(7.0)})
    panel = Panel.from_frame(df)
    short = panel.head(3)
    assert (short.ids.tolist(), short.values.tolist(), short.times.tolist()) == (["b"], [2.0, 3.0], [1, 2])
    end = panel.tail(3)
    assert (end.lengths.tolist(), end.values.tolist()) == ([2, 3], [0.0, 1.0, 4.0, 5.0, 6.0])
    assert panel.select(np.array([1])).values.tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]


def test_append_takes_what_follows_and_new_series():
    old = Panel.from_frame(frame(), "MS")
    new = pd.DataFrame(
        {
            "unique_id": ["b", "aa", "b"],
            "ds": pd.to_datetime(["2020-07-01", "2021-01-01", "2020-08-01"]),
            "y": [12.0, 99.0, 13.0],
        }
    )
    joined = old.append(Panel.from_frame(new, "MS"))
    assert joined.ids.tolist() == ["a", "aa", "b"]
    assert joined.values.tolist() == [*range(6), 99.0, *range(6, 14)]
    assert joined.lengths.tolist() == [6, 1, 8]
    with pytest.raises(DataError, match="'b' start at 2020-08-01, but its next stamp is 2020-07-01"):
        old.append(Panel.from_frame(new[2:], "MS"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unique_id": 7}, r"the id 7 of the new rows is of the type int, and no id before is \('a', ...\)"),
        ({"ds": pd.Timestamp("2020-07-01", tz="UTC")}, r"in UTC, .* without a zone; .*\.dt\.tz_localize\(None\)"),
        ({"unique_id": None}, "have no column 'unique_id'; add it"),
    ],
)
def test_append_refuses_rows_of_another_kind(change, words):
    """They would become series of their own, and those that were meant would not go on."""
    rows = {"unique_id": ["b"], "ds": [pd.Timestamp("2020-07-01")], "y": [12.0]}
    new = pd.DataFrame(rows | {name: [value] for name, value in change.items()}).dropna(axis=1)
    with pytest.raises(DataError, match=words):
        Panel.from_frame(frame(), "MS").append(Panel.from_frame(new, "MS"))
    one = Panel.from_frame(frame().query("unique_id == 'a'").drop(columns="unique_id"), "MS")
    assert one.append(Panel.from_frame(pd.DataFrame(rows).drop(columns="unique_id"), "MS")).lengths.tolist() == [7]
