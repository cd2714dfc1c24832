"""Level, spread and unit of error of each series, against plain loops."""

import numpy as np
import pandas as pd
import pytest
from series import seasonal_frame

from tsforecast.data.panel import Panel
from tsforecast.exceptions import DataError
from tsforecast.forecasting import defaults
from tsforecast.forecasting.scaling import SeriesScaling, choose_log, refuse_beyond


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
    scaling = SeriesScaling(True, np.zeros(1), np.ones(1), np.ones(1))
    assert np.isfinite(scaling.invert(np.array([[1e4, -1e4]]), np.array([0]))).all()


def test_the_logarithm_is_taken_where_all_are_positive():
    positive, mixed = seasonal_frame(2), seasonal_frame(2)
    mixed.loc[70, "y"] = 0.0
    assert choose_log(Panel.from_frame(positive), "auto")
    assert not choose_log(Panel.from_frame(positive), "none")
    assert not choose_log(Panel.from_frame(mixed), "auto")
    with pytest.raises(DataError, match=r"series 's1', 2015-11-01: the value 0 is not positive.*transform='none'"):
        choose_log(Panel.from_frame(mixed), "log")


@pytest.mark.parametrize(("dtype", "value"), [("float32", 1e308), ("float32", -4e38), ("float64", 1e308)])
def test_numbers_beyond_the_type_are_named(dtype, value):
    df = seasonal_frame(2)
    df.loc[61, "y"] = value
    with pytest.raises(DataError, match=rf"series 's1', 2015-02-01: .*{dtype}.*divide"):
        refuse_beyond(Panel.from_frame(df), dtype)
