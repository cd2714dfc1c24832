"""Steps, seasons and future stamps, against pandas and against calendars worked by hand."""

import numpy as np
import pandas as pd
import pytest

from tsforecast.data.frequency import Frequency
from tsforecast.data.frequency_names import infer_frequency, parse_frequency
from tsforecast.data.panel import Panel
from tsforecast.exceptions import DataError


def stamps(*args, **kwargs):
    return pd.date_range(*args, **kwargs).to_numpy()


@pytest.mark.parametrize(
    ("freq", "season"),
    [
        ("YS", 1), ("YE-JUN", 1), ("QS", 4), ("QE-NOV", 4), ("MS", 12), ("ME", 12), ("2MS", 6), ("5MS", 1),
        ("W-TUE", 52), ("D", 7), ("2D", 1), ("B", 5), ("h", 24), ("6h", 4), ("30min", 48), ("15min", 96),
        ("5min", 288), ("min", 60), ("7min", 1), ("s", 60), ("ms", 1), ("SMS", 24), ("24h", 7), ("1440min", 7),
        ("86400s", 7), ("7D", 52), ("168h", 52), ("14D", 26), ("60min", 24), ("300s", 288), ("48h", 1), ("90min", 16),
    ],
)  # fmt: skip
def test_season_lengths(freq, season):
    assert Frequency(freq).season_length() == season


def test_integer_time_has_no_season():
    assert Frequency("1", is_integer=True).season_length() == 1


@pytest.mark.parametrize(
    ("given", "first", "meant"),
    [
        ("M", "2020-01-31", "ME"), ("M", "2020-01-01", "MS"), ("1mo", "2020-01-01", "MS"),
        ("Q", "2020-03-31", "QE-MAR"), ("1q", "2020-02-01", "QS-FEB"), ("Y", "2020-12-31", "YE-DEC"),
        ("A", "2020-07-01", "YS-JUL"), ("1y", "2020-01-01", "YS-JAN"), ("H", "2020-01-01", "h"),
        ("T", "2020-01-01", "min"), ("15T", "2020-01-01", "15min"), ("30m", "2020-01-01", "30min"),
        ("W", "2020-01-06", "W-MON"), ("1w", "2020-01-07", "W-TUE"), ("1d", "2020-01-01", "D"),
        ("10S", "2020-01-01", "10s"), ("W-SUN", "2020-01-05", "W-SUN"), ("QS", "2020-01-01", "QS-JAN"),
    ],
)  # fmt: skip
def test_old_and_polars_names(given, first, meant):
    times = pd.DatetimeIndex([first]).to_numpy()
    assert parse_frequency(given, times, None).text == meant


@pytest.mark.parametrize("freq", ["MS", "ME", "QS-FEB", "W-WED", "B", "D", "h", "30min", "YS-APR", "2W-MON", "SMS"])
def test_regular_stamps_have_no_breaks_and_go_on_as_pandas_does(freq):
    times = stamps("2019-02-01", periods=60, freq=freq)
    two = np.concatenate([times[:40], times[5:45]])
    step = parse_frequency(freq, two, None)
    assert len(step.breaks(two, np.array([0, 40, 80]), None)) == 0
    np.testing.assert_array_equal(step.future(times[39], 20, None), times[40:])
    holed = np.delete(two, [20, 60])
    assert step.breaks(holed, np.array([0, 39, 78]), None).tolist() == [20, 59]


def test_series_on_grids_of_their_own():
    """Months that start at other hours, and two-week steps of odd and even weeks, are all regular."""
    months = np.concatenate(
        [stamps("2020-01-01 00:00", periods=5, freq="MS"), stamps("2020-01-01 06:00", periods=5, freq="MS")]
    )
    assert len(Frequency("MS").breaks(months, np.array([0, 5, 10]), None)) == 0
    weeks = np.concatenate(
        [stamps("2020-01-06", periods=5, freq="2W-MON"), stamps("2020-01-13", periods=5, freq="2W-MON")]
    )
    assert len(Frequency("2W-MON").breaks(weeks, np.array([0, 5, 10]), None)) == 0


@pytest.mark.parametrize(
    ("freq", "first", "expected"),
    [
        ("h", "2024-03-31 00:00", ["2024-03-31 01:00+01:00", "2024-03-31 03:00+02:00", "2024-03-31 04:00+02:00"]),
        ("D", "2024-03-30 00:00", ["2024-03-31 00:00+01:00", "2024-04-01 00:00+02:00", "2024-04-02 00:00+02:00"]),
        ("h", "2024-10-27 01:00", ["2024-10-27 02:00+02:00", "2024-10-27 02:00+01:00", "2024-10-27 03:00+01:00"]),
    ],
)
def test_summer_time(freq, first, expected):
    """An hour is an hour; a day is a day of the calendar, be it 23 or 25 hours long."""
    index = pd.date_range(end=pd.Timestamp(first, tz="Europe/Berlin"), periods=30, freq=freq)
    panel = Panel.from_frame(pd.DataFrame({"ds": index, "y": np.arange(30.0)}))
    assert panel.freq.text == freq
    out = panel.build_frame(np.repeat(panel.ids, 3), panel.future_times(3).ravel(), {})
    assert out["ds"].tolist() == [pd.Timestamp(t).tz_convert("Europe/Berlin") for t in expected]
    again = pd.date_range(index[0], periods=33, freq=freq)
    assert out["ds"].tolist() == again[30:].tolist()


@pytest.mark.parametrize("end", ["2018-11-01", "2019-01-10"])
def test_a_midnight_that_the_clocks_skip(end):
    """In Sao Paulo 2018-11-04 began at 01:00; ahead of the data or in their middle."""
    index = pd.date_range(end=end, periods=80).tz_localize("America/Sao_Paulo", nonexistent="shift_forward")
    with pytest.raises(DataError, match=r"America/Sao_Paulo skips or repeats.*tz_localize\(None\)"):
        Panel.from_frame(pd.DataFrame({"ds": index, "y": 1.0}), "D").future_times(5)
    assert Panel.from_frame(pd.DataFrame({"ds": index.tz_localize(None).normalize(), "y": 1.0})).freq.text == "D"


def test_month_ends_and_leap_days():
    panel = Panel.from_frame(pd.DataFrame({"ds": pd.date_range("2023-10-31", periods=4, freq="ME"), "y": 1.0}))
    assert panel.future_times(2).astype("M8[D]").astype(str).tolist() == [["2024-02-29", "2024-03-31"]]


def test_business_days_jump_the_weekend():
    panel = Panel.from_frame(pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=10, freq="B"), "y": 1.0}), "B")
    assert panel.future_times(2).astype("M8[D]").astype(str).tolist() == [["2024-01-15", "2024-01-16"]]


def test_integer_steps():
    panel = Panel.from_frame(pd.DataFrame({"ds": [3, 13, 23], "y": 1.0}))
    assert panel.freq == Frequency("10", is_integer=True)
    assert panel.future_times(3).tolist() == [[33, 43, 53]]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_unit_of_time_is_kept(unit):
    df = pd.DataFrame({"ds": pd.date_range("2020", periods=5, freq="D").as_unit(unit), "y": 1.0})
    panel = Panel.from_frame(df)
    out = panel.build_frame(panel.ids, panel.future_times(1).ravel(), {})
    assert out["ds"].dtype == df["ds"].dtype == f"datetime64[{unit}]"


@pytest.mark.parametrize(
    ("freq", "words"),
    [
        ("foo", "unknown freq 'foo'"), ("-1D", "forwards|unknown"), (1, "integer time"), (2.5, "2.5"), (True, "True"),
        ("5", "unknown freq"), ("", "unknown freq"),
    ],
)  # fmt: skip
def test_wrong_frequencies_of_dates(freq, words):
    with pytest.raises(DataError, match=words):
        parse_frequency(freq, stamps("2020", periods=3, freq="D"), None)


@pytest.mark.parametrize(("freq", "words"), [("D", "whole numbers"), (0, "1 or more"), (-2, "1 or more")])
def test_wrong_frequencies_of_numbers(freq, words):
    with pytest.raises(DataError, match=words):
        parse_frequency(freq, np.arange(3), None)


def test_time_that_runs_over():
    with pytest.raises(DataError, match="integer time"):
        Frequency("1", is_integer=True).future(np.int64(2**63 - 2), 5, None)
    last = pd.DatetimeIndex(["2262-04-01"]).as_unit("ns").to_numpy()[0]
    with pytest.raises(DataError, match="no time stamps"):
        Frequency("MS").future(last, 5, None)


def test_inference_asks_the_longest_series_and_survives_a_gap():
    times = np.concatenate(
        [stamps("2020-01-01", periods=2, freq="D"), np.delete(stamps("2020-01-01", periods=40, freq="h"), 30)]
    )
    step, series = infer_frequency(times, np.array([0, 2, 41]), None)
    assert (step.text, series) == ("h", 1)
    none, series = infer_frequency(stamps("2020-01-01", periods=2, freq="D"), np.array([0, 2]), None)
    assert (none, series) == (None, -1)


@pytest.mark.parametrize(
    "times",
    [
        stamps("2021-01-01", periods=30, freq="SMS"),  # 1 and 15 February, 1 March: 14 days each
        np.array(["2020-01-30", "2020-02-29", *(f"2020-{m:02}-30" for m in range(3, 13))], "datetime64[us]"),
    ],
)
def test_a_few_regular_steps_by_chance_are_no_frequency(times):
    assert infer_frequency(times, np.array([0, len(times)]), None) == (None, -1)
