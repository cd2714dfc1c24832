"""Cut-offs, refitting and the table of scores."""

from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pytest
from series import seasonal_frame
from sklearn.linear_model import Ridge

from tsforecast import DataError, Forecaster, LSTMRegressor, NotEnoughHistoryError
from tsforecast.forecasting.backtest import backtest


class CountingRidge(Ridge):
    fits = 0

    def fit(self, X, y, sample_weight=None):
        CountingRidge.fits += 1
        return super().fit(X, y, sample_weight)


def model(**params):
    CountingRidge.fits = 0
    return Forecaster(CountingRidge(), **{"horizon": 4, "alias": "m", **params})


def test_cutoffs_and_actual_values():
    df = seasonal_frame(n_series=2)
    cv = model().cross_validation(df, n_windows=3, h=3, step_size=2)
    assert cv.columns.tolist() == ["unique_id", "ds", "cutoff", "y", "m"]
    assert cv["cutoff"].drop_duplicates().tolist() == [
        pd.Timestamp(t) for t in ("2019-05-01", "2019-07-01", "2019-09-01")
    ]
    assert len(cv) == 2 * 3 * 3
    assert cv.equals(cv.sort_values(["unique_id", "cutoff", "ds"]))
    assert (cv["ds"] > cv["cutoff"]).all()
    joined = cv.merge(df, on=["unique_id", "ds"], suffixes=("", "_true"))
    assert (joined["y"] == joined["y_true"]).all()


@pytest.mark.parametrize(
    ("refit", "level", "fits"), [(True, None, 4), (False, None, 1), (2, None, 2), (3, None, 2), (False, [80], 2)]
)
def test_refit(refit, level, fits):
    forecaster = model(n_timesteps=12)
    forecaster.cross_validation(seasonal_frame(), n_windows=4, refit=refit, level=level)
    assert CountingRidge.fits == fits
    assert not hasattr(forecaster, "estimator_")


def by_hand(forecaster, df, cutoffs, level=None):
    """Fit on the rows up to the first cut-off, then ``update`` and ``predict`` cut-off by cut-off."""
    fitted = forecaster.fit(df[df.ds <= cutoffs[0]])
    parts = []
    for before, cutoff in pairwise([cutoffs[0], *cutoffs]):
        if cutoff > before:
            fitted.update(df[(df.ds > before) & (df.ds <= cutoff)])
        parts.append(fitted.predict(level=level).assign(cutoff=cutoff))
    return pd.concat(parts).sort_values(["unique_id", "cutoff", "ds"]).drop(columns=["unique_id", "ds", "cutoff"])


def flat_then_moving(rows=60):
    """A series that is one value up to the middle of the cut-offs."""
    y = np.where(np.arange(rows) < 50, 5.0, 5.0 + np.arange(rows) % 7)
    return pd.DataFrame({"unique_id": "flat", "ds": pd.date_range("2015", periods=rows, freq="MS"), "y": y})


@pytest.mark.parametrize("transform", ["log", "none"])
def test_one_pass_over_all_cutoffs_has_the_bits_of_one_at_a_time(transform):
    df = pd.concat([seasonal_frame(), flat_then_moving()], ignore_index=True)
    network = LSTMRegressor(4, max_iter=2)
    make = {"horizon": 3, "alias": "m", "random_state": 0, "transform": transform, "n_timesteps": 14}
    cv = Forecaster(network, **make).cross_validation(df, n_windows=6, step_size=2, refit=False, level=[80])
    slow = by_hand(Forecaster(network, **make), df, sorted(cv["cutoff"].unique()), level=[80])
    assert len(cv["cutoff"].unique()) == 6
    for column in ("m", "m-lo-80", "m-hi-80"):
        np.testing.assert_array_equal(cv[column].to_numpy(), slow[column].to_numpy())
    flat = cv[cv.unique_id == "flat"]
    assert (flat.loc[flat.cutoff < "2019-03-01", "m"] == 5.0).all()
    assert (flat.loc[flat.cutoff >= "2019-03-01", "m"] != 5.0).all()


def test_models_of_every_second_cutoff_serve_two():
    df, cutoffs = seasonal_frame(), [pd.Timestamp(t) for t in ("2019-05-01", "2019-06-01")]
    cv = model().cross_validation(df, n_windows=4, step_size=1, refit=2)
    slow = by_hand(model(), df, cutoffs)
    found = cv[cv.cutoff.isin(cutoffs)]
    # Regressors of others sum up in an order of their own for each number of rows.
    np.testing.assert_allclose(found["m"].to_numpy(), slow["m"].to_numpy(), rtol=1e-12)


def test_new_rows_that_the_model_cannot_take_are_named():
    df = seasonal_frame()
    df.loc[55, "y"] = -1.0  # after the first cut-off, before the last
    with pytest.raises(DataError, match=r"'s0', 2019-08-01: the value -1 is not positive"):
        model(transform="log").cross_validation(df, n_windows=5, step_size=2, refit=False)


def test_series_of_other_lengths_have_cutoffs_of_their_own():
    df = pd.concat([seasonal_frame(1, rows=50), seasonal_frame(1, rows=60).assign(unique_id="z")])
    cv = model().cross_validation(df)
    assert cv["cutoff"].drop_duplicates().tolist() == [pd.Timestamp("2018-10-01"), pd.Timestamp("2019-08-01")]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_table_against_loops(library):
    df = seasonal_frame(n_series=2)
    given = df if library == "pandas" else pl.from_pandas(df)
    table, predictions = backtest(model(horizon=14), given, n_windows=2, step_size=5, level=[80])
    if library == "polars":
        table, predictions = table.to_pandas(), predictions.to_pandas()
    naive, errors, scaled = {}, {"m": [], "SeasonalNaive": []}, {"m": [], "SeasonalNaive": []}
    for name, own in df.groupby("unique_id"):
        y = own["y"].to_numpy()
        unit = np.abs(y[12 : 60 - 19] - y[: 60 - 19 - 12]).mean()
        for end in (60 - 19, 60 - 14):
            naive[name, end] = [y[end - 12 + k % 12] for k in range(14)]
        rows = predictions[predictions.unique_id == name]
        np.testing.assert_allclose(rows["SeasonalNaive"], naive[name, 41] + naive[name, 46], rtol=1e-12)
        for column in errors:
            errors[column].append(np.abs(rows["y"] - rows[column]).mean())
            scaled[column].append(errors[column][-1] / unit)
    assert table["model"].tolist() == ["m", "SeasonalNaive"]
    np.testing.assert_allclose(table["MAE"], [np.mean(errors["m"]), np.mean(errors["SeasonalNaive"])], rtol=1e-12)
    np.testing.assert_allclose(table["MASE"], [np.mean(scaled["m"]), np.mean(scaled["SeasonalNaive"])], rtol=1e-12)
    inside = (predictions["y"] >= predictions["m-lo-80"]) & (predictions["y"] <= predictions["m-hi-80"])
    assert table["coverage-80"][0] == pytest.approx(inside.mean())
    assert np.isnan(table["coverage-80"][1])


def test_constant_series_are_left_out_of_the_mase():
    flat = pd.DataFrame({"unique_id": "flat", "ds": pd.date_range("2015", periods=60, freq="MS"), "y": 3.0})
    both, _ = backtest(model(), pd.concat([flat, seasonal_frame(1)]))
    alone, _ = backtest(model(transform="log"), seasonal_frame(1))
    assert both["MASE"][1] == pytest.approx(alone["MASE"][1])
    only, _ = backtest(model(), flat)
    assert np.isnan(only["MASE"]).all()
    assert only["MAE"].tolist() == [0.0, 0.0]


def test_too_many_cutoffs():
    with pytest.raises(NotEnoughHistoryError, match=r"'s0' has 60 rows, and 20 windows of 4 steps"):
        model().cross_validation(seasonal_frame(), n_windows=20)


@pytest.mark.parametrize("wrong", [{"n_windows": 0}, {"step_size": 0}, {"n_windows": 1.5}, {"refit": -1}, {"h": 5}])
def test_wrong_arguments(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        model().cross_validation(seasonal_frame(), **wrong)


def test_numbers_beyond_those_of_numpy():
    frame = seasonal_frame()
    pd.testing.assert_frame_equal(
        model().cross_validation(frame, step_size=10**30), model().cross_validation(frame, step_size=1)
    )
    for huge in ({"n_windows": 10**30}, {"step_size": 10**30, "n_windows": 2}):
        with pytest.raises(NotEnoughHistoryError, match="leave none before the first cut-off"):
            model().cross_validation(frame, **huge)
