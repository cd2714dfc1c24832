"""Level, spread and unit of error of each series, against plain loops."""

import numpy as np
import pandas as pd
import pytest
from series import seasonal_frame

from tsforecast.data.panel import Panel
from tsforecast.exceptions import DataError
from tsforecast.forecasting import defaults
from tsforecast.forecasting.choices import choose_log
from tsforecast.forecasting.scaling import SeriesScaling, refuse_beyond


@pytest.mark.parametrize("log", [False, True])
def test_numbers_against_loops(log):
    df = pd.concat([seasonal_frame(3), seasonal_frame(1, rows=7).assign(unique_id="short")])
    panel = Panel.from_frame(df)
    scaling = SeriesScaling.fit(panel, 12, log)
    for s in range(len(panel)):
        u = np.log(panel.series(s)) if log else panel.series(s)
        scale = 1.0 if log else u.std()
        lag = 12 if len(u) > 12 else 1
        error = np.abs(u[lag:] - u[:-lag]).mean() / scale
        np.testing.assert_allclose(scaling.location[s], u.mean(), rtol=1e-14)
        np.testing.assert_allclose(scaling.scale[s], scale, rtol=1e-13)
        np.testing.assert_allclose(scaling.error_scale[s], max(error, 0.05 * u.std() / scale), rtol=1e-12)
    z = scaling.apply(panel)
    np.testing.assert_allclose(scaling.invert(z, np.repeat(np.arange(4), panel.lengths)), panel.values, rtol=1e-13)


def test_a_series_that_repeats_itself_does_not_outweigh_the_others():
    exact = pd.DataFrame({"ds": np.arange(48), "y": np.tile(np.arange(12.0), 4)})
    scaling = SeriesScaling.fit(Panel.from_frame(exact), 12, False)
    assert scaling.error_scale == pytest.approx(defaults.MIN_ERROR_SCALE)  # its scale is its standard deviation


def test_constant_series_have_unit_scales():
    panel = Panel.from_frame(pd.DataFrame({"ds": np.arange(20), "y": 0.1}))
    scaling = SeriesScaling.fit(panel, 4, False)
    assert (scaling.scale.tolist(), scaling.error_scale.tolist()) == ([1.0], [1.0])


def test_digits_survive_a_high_level():
    """A ripple of 1e-3 on 1e6 is below float32's step there, but not below it after the shift."""
    y = 1e6 + 1e-3 * np.sin(np.arange(50))
    panel = Panel.from_frame(pd.DataFrame({"ds": np.arange(50), "y": y}))
    scaling = SeriesScaling.fit(panel, 1, False)
    back = scaling.invert(scaling.apply(panel).astype(np.float32).astype(np.float64), np.zeros(50, int))
    assert np.abs(back - y).max() < 1e-9


def test_forecasts_of_logarithms_stay_finite():
    scaling = SeriesScaling(True, np.zeros(1), np.ones(1), np.ones(1), np.zeros(1, bool))
    assert np.isfinite(scaling.invert(np.array([[1e4, -1e4]]), np.array([0]))).all()


def test_the_logarithm_is_taken_where_all_are_positive():
    positive, mixed = seasonal_frame(2), seasonal_frame(2)
    mixed.loc[70, "y"] = 0.0
    assert choose_log(Panel.from_frame(positive), "auto", 12)
    assert not choose_log(Panel.from_frame(positive), "none", 12)
    assert not choose_log(Panel.from_frame(positive), "auto", 24)  # days and hours do better without
    assert choose_log(Panel.from_frame(positive), "log", 24)
    assert not choose_log(Panel.from_frame(mixed), "auto", 12)
    with pytest.raises(DataError, match=r"series 's1', 2015-11-01: the value 0 is not positive.*transform='none'"):
        choose_log(Panel.from_frame(mixed), "log", 12)


@pytest.mark.parametrize(("dtype", "value"), [("float32", 1e308), ("float32", -4e38), ("float64", 1e308)])
def test_numbers_beyond_the_type_are_named(dtype, value):
    df = seasonal_frame(2)
    df.loc[61, "y"] = value
    with pytest.raises(DataError, match=rf"series 's1', 2015-02-01: .*{dtype}.*divide"):
        refuse_beyond(Panel.from_frame(df), dtype)


@pytest.mark.parametrize("unit", [1e-145, 5e-324])
def test_a_series_too_small_for_squares_is_named(unit):
    df = seasonal_frame(2)
    refuse_beyond(Panel.from_frame(df.assign(y=df["y"] * 1e-130)), "float32")
    df.loc[df["unique_id"] == "s1", "y"] *= unit
    with pytest.raises(DataError, match=r"series 's1' holds no value above .*1 such series.*multiply the column"):
        refuse_beyond(Panel.from_frame(df), "float32")


def test_importance_counts_errors_in_the_units_of_the_data():
    """A small error of the logarithm around a level c is c times as large in the data."""
    panel = Panel.from_frame(seasonal_frame(2, seed=5))
    m, step = 12, 1e-6
    scaling = SeriesScaling.fit(panel, m, True).divided_by(0.25)
    series = np.array([0, 1, 1])
    centre = np.array([0.3, -0.2, 0.0])
    moved = scaling.invert(centre + step, series) - scaling.invert(centre, series)
    naive = [np.abs(y[m:] - y[:-m]).mean() for y in np.split(panel.values, panel.indptr[1:-1])]
    expected = moved / step / np.array(naive)[series]
    np.testing.assert_allclose(scaling.importance(panel, centre, series, m), expected, rtol=1e-5)


def test_dividing_the_unit_changes_no_value():
    panel = Panel.from_frame(seasonal_frame(2))
    scaling = SeriesScaling.fit(panel, 12, True)
    larger = scaling.divided_by(3.0)
    np.testing.assert_allclose(larger.apply(panel), scaling.apply(panel) / 3, rtol=1e-13)
    np.testing.assert_allclose(larger.error_scale * 3, scaling.error_scale, rtol=1e-15)
    rows = np.zeros(60, dtype=int)
    np.testing.assert_allclose(larger.invert(larger.apply(panel)[:60], rows), panel.values[:60], rtol=1e-13)
