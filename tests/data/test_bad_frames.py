"""Whatever a frame holds, the answer is a full set of finite forecasts or an error of ours that says what is wrong."""

import datetime as dt
import decimal
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from tsforecast import Forecaster, TsForecastError

H = 3
EXAMPLES = settings(max_examples=150, deadline=5000, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

ODD_VALUES = st.one_of(
    st.sampled_from([
        None, np.nan, np.inf, -np.inf, pd.NA, pd.NaT, 1e308, -1e308, 5e-324, 10**400, -(10**30), 2**63, "12.5", "x",
        "", True, decimal.Decimal("1.5"), decimal.Decimal("NaN"), decimal.Decimal("Infinity"), 1j, [1], {}, b"1",
        dt.date(2020, 1, 1),
    ]),
    st.floats(width=64),
    st.integers(),
)  # fmt: skip
ODD_TIMES = st.sampled_from([
    pd.NaT, None, pd.Timestamp("2020-01-05"), pd.Timestamp("2020-01-05", tz="UTC"), pd.Timestamp("1677-09-22"),
    pd.Timestamp("2262-04-10"), pd.Timestamp("2020-01-05 00:00:01"), dt.date(2020, 1, 5), dt.date(9999, 12, 31),
    "2020-01-05", 7, 2.5, 2**63 - 1,
])  # fmt: skip
ODD_IDS = st.sampled_from([None, np.nan, "", "a", "b", 0, 1.5, ("a", 1), [1], True, pd.Timestamp("2020-01-01")])


@st.composite
def frames(draw):
    """A good frame of up to three series, then up to three things done to it."""
    n_series, rows = draw(st.integers(1, 3)), draw(st.integers(1, 30))
    kind = draw(st.sampled_from(["integer", "D", "h", "MS", "W", "B", "zone"]))
    if kind == "integer":
        times = np.arange(rows) * draw(st.integers(1, 3))
    else:
        zone = "Europe/Berlin" if kind == "zone" else None
        times = pd.date_range("2020-03-20", periods=rows, freq="h" if kind == "zone" else kind, tz=zone)
    level, spread = draw(st.sampled_from([(0, 1), (100, 1), (1e-300, 1e-301), (1e30, 1e29), (5, 0), (-1e6, 1e-6)]))
    y = level + spread * np.random.default_rng(draw(st.integers(0, 9))).standard_normal(n_series * rows)
    ids = np.repeat(["a", "b", "c"][:n_series], rows)
    df = pd.DataFrame(
        {
            "unique_id": ids,
            "ds": np.tile(times.to_numpy(object), n_series) if kind == "zone" else np.tile(times, n_series),
            "y": y,
        }
    )
    for _ in range(draw(st.integers(0, 3))):
        df = draw(st.sampled_from([put_value, put_time, put_id, drop_rows, repeat_rows, shuffle, retype]))(draw, df)
    return df


def put(draw, df, column, values):
    if not len(df):
        return df
    out = df[column].astype(object).tolist()
    out[draw(st.integers(0, len(out) - 1))] = draw(values)
    return df.assign(**{column: pd.Series(out, dtype=object, index=df.index)})


def put_value(draw, df):
    return put(draw, df, "y", ODD_VALUES)


def put_time(draw, df):
    return put(draw, df, "ds", ODD_TIMES)


def put_id(draw, df):
    return put(draw, df, "unique_id", ODD_IDS)


def drop_rows(draw, df):
    if not len(df):
        return df
    first = draw(st.integers(0, len(df) - 1))
    return df.drop(df.index[first : first + draw(st.integers(1, len(df)))])


def repeat_rows(draw, df):
    return pd.concat([df, df.tail(draw(st.integers(1, 2)))], ignore_index=True)


def shuffle(draw, df):
    return df.sample(frac=1, random_state=draw(st.integers(0, 5)))


def retype(draw, df):
    column, dtype = draw(
        st.sampled_from([("unique_id", "category"), ("y", "float32"), ("y", "Float64"), ("y", "str"), ("ds", "str")])
    )
    try:
        return df.assign(**{column: df[column].astype(dtype)})
    except (TypeError, ValueError, OverflowError):
        return df


def answer(df, freq=None):
    """Fit and forecast; None where the frame was refused."""
    model = Forecaster(Ridge(), horizon=H, n_timesteps=5, season_length=2, freq=freq)
    try:
        return model.fit(df).predict(level=[80, 95])
    except TsForecastError:
        return None


@EXAMPLES
@given(df=frames(), freq=st.sampled_from([None, None, None, "D", "h", "MS", 1, "W"]))
def test_a_frame_is_forecast_in_full_or_refused_by_name(df, freq):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about the frames made here
        out = answer(df, freq)
    if out is None:
        return
    assert len(out) == H * df["unique_id"].nunique()
    assert np.isfinite(out.iloc[:, 2:].to_numpy(float)).all()
    assert (
        out.groupby("unique_id", observed=True)["ds"].min() > df.groupby("unique_id", observed=True)["ds"].max()
    ).all()
    assert not out.duplicated(["unique_id", "ds"]).any()


@EXAMPLES
@given(y=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=9, max_size=20))
def test_any_finite_numbers(y):
    """From denormals to the edge of float64: refused as too large, or forecast finitely."""
    out = answer(pd.DataFrame({"ds": np.arange(len(y)), "y": y}))
    too_large = max(map(abs, y)) > 1e150
    assert (out is None) == too_large
    if out is not None:
        assert np.isfinite(out.iloc[:, 2:].to_numpy()).all()


@EXAMPLES
@given(df=frames())
def test_polars_frames_give_the_same_answer(df):
    try:
        other = pl.from_pandas(df.reset_index(drop=True))
    except Exception:  # polars or pyarrow cannot hold what pandas can: no frame, no test
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, two = answer(df), answer(other)
    if one is not None and two is not None:
        np.testing.assert_array_equal(one["Ridge"].to_numpy(), two["Ridge"].to_numpy())


@pytest.mark.parametrize("row", [0, 7, 19])
def test_the_largest_number_is_named_with_its_series_and_stamp(row):
    """The default network computes in float32."""
    df = pd.DataFrame(
        {"unique_id": ["a"] * 10 + ["b"] * 10, "ds": list(pd.date_range("2020-01-01", periods=10)) * 2, "y": 1.0}
    )
    df.loc[row, "y"] = 1e308
    with pytest.raises(
        TsForecastError, match=rf"series '{'ab'[row // 10]}', 2020-01-{row % 10 + 1:02d}.*float32 range"
    ):
        Forecaster(horizon=2).fit(df)
