"""Metrics against figures worked out by hand, and the rules for missing values."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from tsforecast import DataError, metrics

NAN = float("nan")


@pytest.fixture
def frame():
    """Two series; the second holds a missing value, and a row where actual and forecast are both 0."""
    return pd.DataFrame(
        {
            "unique_id": ["b", "b", "a", "a", "a"],
            "y": [10.0, 20.0, 4.0, 0.0, NAN],
            "model": [12.0, 16.0, 5.0, 0.0, 1.0],
            "model-lo-80": [10.0, 21.0, 3.0, -1.0, 0.0],
            "model-hi-80": [14.0, 25.0, 4.0, 1.0, 2.0],
        }
    )


@pytest.fixture
def train():
    # Differences at lag 2: b has |3-1|, |6-2| = 2, 4; a has |NaN-5| left out, |9-7| = 2.
    return pd.DataFrame(
        {
            "unique_id": ["b", "a", "b", "a", "b", "a", "b", "a"],
            "ds": [1, 1, 2, 2, 3, 3, 4, 4],
            "y": [1.0, 5.0, 2.0, 7.0, 3.0, NAN, 6.0, 9.0],
        }
    )


def scores(table, column="model"):
    return dict(zip(table["unique_id"].to_list(), table[column].to_list(), strict=True))


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (metrics.mae, {"b": 3.0, "a": 0.5}),
        (metrics.rmse, {"b": 10**0.5, "a": 0.5**0.5}),
        (metrics.smape, {"b": (200 * 2 / 22 + 200 * 4 / 36) / 2, "a": (200 * 1 / 9 + 0) / 2}),
    ],
)
def test_point_metrics_by_hand(frame, metric, expected):
    result = metric(frame, ["model"])
    assert scores(result) == pytest.approx(expected, rel=1e-15)
    assert list(result["unique_id"]) == ["b", "a"], "series stay in order of first appearance"


def test_mase_by_hand(frame, train):
    expected = {"b": 3.0 / 3.0, "a": 0.5 / 2.0}
    assert scores(metrics.mase(frame, ["model"], 2, train)) == expected
    zoned = train.assign(ds=pd.to_datetime(train["ds"], unit="h", utc=True)).sample(frac=1, random_state=3)
    assert scores(metrics.mase(frame, ["model"], 2, zoned)) == expected


def test_mase_is_missing_without_a_scale(frame, train):
    flat = train.assign(y=np.where(train["unique_id"] == "b", 1.0, train["y"]))
    result = scores(metrics.mase(frame, ["model"], 2, flat))
    assert np.isnan(result["b"])
    assert result["a"] == 0.25
    assert np.isnan(list(scores(metrics.mase(frame, ["model"], 9, train)).values())).all()


def test_pinball_by_hand(frame):
    # b: 10 under 12 by 2, 20 over 16 by 4: (0.9 * 2 + 0.1 * 4) / 2; a: 4 under 5 by 1 and a hit: 0.9 * 1 / 2.
    assert scores(metrics.pinball(frame, ["model"], 0.1)) == pytest.approx({"b": 1.1, "a": 0.45}, rel=1e-15)
    half = scores(metrics.pinball(frame, ["model"], 0.5))
    assert half == {name: value / 2 for name, value in scores(metrics.mae(frame, ["model"])).items()}


def test_coverage_counts_the_bounds(frame):
    for level in (80, 80.0):
        assert scores(metrics.coverage(frame, ["model"], level)) == {"b": 0.5, "a": 1.0}


def test_missing_forecasts_are_not_rewarded(frame):
    frame.loc[0, ["model", "model-lo-80"]] = NAN
    for table in (metrics.mae(frame, ["model"]), metrics.coverage(frame, ["model"], 80)):
        assert np.isnan(scores(table)["b"])
        assert not np.isnan(scores(table)["a"])


def test_a_series_without_any_actual_value_has_no_score(frame):
    frame.loc[frame["unique_id"] == "a", "y"] = NAN
    assert np.isnan(scores(metrics.rmse(frame, ["model"]))["a"])


def test_polars_in_polars_out(frame, train):
    ours, theirs = pl.from_pandas(frame, nan_to_null=True), pl.from_pandas(train, nan_to_null=True)
    result = metrics.mase(ours, ["model"], 2, theirs)
    assert isinstance(result, pl.DataFrame)
    assert scores(result) == {"b": 1.0, "a": 0.25}
    assert scores(metrics.coverage(ours, ["model"], 80)) == {"b": 0.5, "a": 1.0}


def test_nullable_and_integer_columns(frame):
    nullable = frame.assign(y=frame["y"].astype("Float64"), model=frame["model"].astype("int32"))
    nullable.index = [7, 7, 8, 9, 10]
    assert scores(metrics.mae(nullable, ["model"])) == {"b": 3.0, "a": 0.5}


def test_a_name_alone_is_one_model(frame, train):
    for metric, more in (
        (metrics.mae, ()),
        (metrics.mase, (2, train)),
        (metrics.pinball, (0.3,)),
        (metrics.coverage, (80,)),
    ):
        pd.testing.assert_frame_equal(metric(frame, "model", *more), metric(frame, ["model"], *more))
    with pytest.raises(DataError, match="no column 'lstm'"):
        metrics.mae(frame, "lstm")


def test_an_infinite_actual_value_is_refused(frame, train):
    spoilt = frame.assign(y=[10.0, 20.0, -np.inf, 0.0, NAN])
    for metric, more in (
        (metrics.mae, ()),
        (metrics.mase, (2, train)),
        (metrics.pinball, (0.3,)),
        (metrics.coverage, (80,)),
    ):
        with pytest.raises(DataError, match=r"column 'y' of df is infinite in series 'a' \(1 rows in all\)"):
            metric(spoilt, ["model"], *more)
    with pytest.raises(DataError, match="column 'y' of train_df is infinite in series 'b'"):
        metrics.mase(frame, ["model"], 2, train.assign(y=train["y"].replace(6.0, np.inf)))


def test_an_interval_without_bounds_covers_everything(frame):
    frame["model-lo-80"], frame["model-hi-80"] = -np.inf, np.inf
    assert scores(metrics.coverage(frame, ["model"], 80)) == {"b": 1.0, "a": 1.0}


@pytest.mark.parametrize("seasonality", [1.0, 0, -1, "12", True, None])
def test_a_seasonality_counts_steps(frame, train, seasonality):
    with pytest.raises(DataError, match=f"seasonality={seasonality!r}; it must be an integer of at least 1"):
        metrics.mase(frame, ["model"], seasonality, train)


def test_errors_name_the_column_or_the_series(frame, train):
    with pytest.raises(DataError, match=r"no column 'lstm' \(it has: unique_id, y, model"):
        metrics.mae(frame, ["lstm"])
    with pytest.raises(DataError, match="column 'model' is of type String; it must be numeric"):
        metrics.mae(frame.assign(model="x"), ["model"])
    with pytest.raises(DataError, match=r"series 'b' has no row in train_df \(1 of 2 series have none\)"):
        metrics.mase(frame, ["model"], 2, train[train["unique_id"] == "a"])
    with pytest.raises(DataError, match="no column 'model-lo-95'"):
        metrics.coverage(frame, ["model"], 95)
    with pytest.raises(DataError, match=r"q=1\.0"):
        metrics.pinball(frame, ["model"], 1.0)
    with pytest.raises(DataError, match="seasonality=0"):
        metrics.mase(frame, ["model"], 0, train)
