"""The forecaster as its users see it: frames in, frames out, the same bits, nothing leaks."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from series import seasonal_frame
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge

from tsforecast import DataError, Forecaster, LSTMRegressor, NotEnoughHistoryError, datasets


def ridge(**params):
    return Forecaster(Ridge(1e-3), **{"horizon": 6, **params})


def tiny_lstm(**params):
    """Small enough for the plain-Python modes."""
    network = LSTMRegressor((3,), max_iter=2, loss="absolute_error", device="reference")
    return Forecaster(network, **{"horizon": 3, "n_timesteps": 12, "random_state": 0, **params})


FORECASTERS = [pytest.param(ridge, id="ridge"), pytest.param(tiny_lstm, id="lstm")]


def test_what_comes_out():
    df = seasonal_frame()
    out = ridge().fit(df).predict(level=[80, 97.5])
    names = ["unique_id", "ds", "Ridge", "Ridge-lo-80", "Ridge-hi-80", "Ridge-lo-97.5", "Ridge-hi-97.5"]
    assert out.columns.tolist() == names
    assert out["unique_id"].tolist() == ["s0"] * 6 + ["s1"] * 6 + ["s2"] * 6
    assert out["ds"].tolist() == list(pd.date_range("2020-01-01", periods=6, freq="MS")) * 3
    assert out.dtypes["ds"] == df.dtypes["ds"]
    inside = out[["Ridge-lo-97.5", "Ridge-lo-80", "Ridge", "Ridge-hi-80", "Ridge-hi-97.5"]].to_numpy()
    assert (np.diff(inside, axis=1) >= 0).all()


@pytest.mark.parametrize("make", FORECASTERS)
def test_a_clean_season_with_growth_goes_on(make):
    """Without noise, logarithm plus seasonal base is right up to one year's growth, and a linear map removes that."""
    df = seasonal_frame(n_series=3, rows=72, noise=0.0)
    model = make().fit(df[df.ds < "2020-01-01"])
    assert (model.transform_, model.season_length_, model.freq_) == ("log", 12, "MS")
    out = df.merge(model.predict(), on=["unique_id", "ds"])
    error = np.abs(np.log(out["y"] / out.iloc[:, -1]))
    assert error.max() < (1e-3 if make is ridge else 0.2)


@pytest.mark.parametrize("make", FORECASTERS)
def test_order_of_rows_and_kind_of_frame_change_no_bit(make):
    df = seasonal_frame(n_series=4)
    expected = make().fit(df).predict(level=[80])
    for other in (df.sample(frac=1, random_state=5), df.iloc[::-1]):
        pd.testing.assert_frame_equal(make().fit(other).predict(level=[80]), expected, check_exact=True)
    out = make().fit(pl.from_pandas(df)).predict(level=[80])
    assert isinstance(out, pl.DataFrame)
    for name in expected.columns:
        assert out[name].to_list() == expected[name].tolist()


@pytest.mark.parametrize("make", FORECASTERS)
def test_nothing_after_the_cutoff_changes_a_forecast_before_it(make):
    """Cross-validation of frames that differ only after the first cut-off agrees bit for bit at that cut-off."""
    df = seasonal_frame()
    other = df.copy()
    late = other.ds >= "2019-01-01"
    other.loc[late, "y"] = other.loc[late, "y"] * 1e6 + 1.0
    h = make().horizon
    folds = [make().cross_validation(d, n_windows=12 // h, level=[90]) for d in (df, other)]
    one, two = (cv[cv.cutoff == pd.Timestamp("2018-12-01")] for cv in folds)
    assert len(one) == 3 * h
    pd.testing.assert_frame_equal(one.drop(columns="y"), two.drop(columns="y"), check_exact=True)


def test_later_series_do_not_leak_into_intervals_or_scales():
    """Fit on the past alone equals the first cut-off of a cross-validation over everything."""
    df = seasonal_frame()
    cv = ridge().cross_validation(df, n_windows=2, level=[80])
    cv = cv[cv.cutoff == pd.Timestamp("2018-12-01")]
    past = ridge().fit(df[df.ds < "2019-01-01"]).predict(level=[80])
    np.testing.assert_array_equal(cv[past.columns[2:]].to_numpy(), past.iloc[:, 2:].to_numpy())


def test_shorter_forecasts_are_the_first_steps():
    model = ridge().fit(seasonal_frame())
    full, short = model.predict(level=[80]), model.predict(2, level=[80])
    pd.testing.assert_frame_equal(short, full[full.groupby("unique_id").cumcount() < 2].reset_index(drop=True))


@pytest.mark.parametrize("make", FORECASTERS)
@pytest.mark.parametrize("value", [0.0, -3.25, 7.5, 1e30])
def test_a_constant_series_goes_on_constant(make, value):
    """Alone and beside others; its interval has no width."""
    flat = pd.DataFrame({"unique_id": "flat", "ds": pd.date_range("2015", periods=60, freq="MS"), "y": value})
    for df in (flat, pd.concat([flat, seasonal_frame()])):
        out = make().fit(df).predict(level=[95]).query("unique_id == 'flat'")
        assert (out.iloc[:, 2:].to_numpy() == value).all()


def test_integer_time_and_other_column_names():
    df = pd.DataFrame(
        {"shop": ["b"] * 40 + ["a"] * 40, "week": list(range(0, 80, 2)) * 2, "sold": np.tile(np.arange(8.0), 10)}
    )
    model = ridge(season_length=8, id_col="shop", time_col="week", target_col="sold", alias="me").fit(df)
    out = model.predict()
    assert out.columns.tolist() == ["shop", "week", "me"]
    assert out["week"].tolist() == [80, 82, 84, 86, 88, 90] * 2
    np.testing.assert_allclose(out["me"], [0, 1, 2, 3, 4, 5] * 2, atol=1e-6)


def test_update_appends_without_learning():
    df = seasonal_frame(rows=72)
    early, late = df[df.ds < "2020-01-01"], df[df.ds >= "2020-01-01"]
    model = ridge().fit(early)
    before = model.predict()
    coefficients = model.estimator_.coef_.copy()
    model.update(late[late.ds < "2020-04-01"].sample(frac=1, random_state=0)).update(late[late.ds >= "2020-04-01"])
    assert np.array_equal(model.estimator_.coef_, coefficients)
    after = model.predict()
    assert after["ds"].min() == pd.Timestamp("2021-01-01")
    assert not np.isclose(before["Ridge"], after["Ridge"]).any()
    refit = ridge().fit(early).update(late).predict()
    pd.testing.assert_frame_equal(after, refit)


def test_update_takes_new_series_and_refuses_the_rest_unchanged():
    df = seasonal_frame(rows=60)
    model = ridge().fit(df)
    before = model.predict()
    new = seasonal_frame(rows=40).query("unique_id == 's0'").assign(unique_id="new")
    for bad, error in (
        (df.tail(1), DataError),  # seen already
        (new.tail(5), NotEnoughHistoryError),  # shorter than a window
        (new.assign(y=-1.0), DataError),  # the model works on logarithms
        (new.assign(y=np.nan), DataError),
        (new.assign(ds=np.arange(40)), DataError),
    ):
        with pytest.raises(error):
            model.update(bad)
        pd.testing.assert_frame_equal(model.predict(), before)
    out = model.update(new).predict()
    assert out["unique_id"].unique().tolist() == ["new", "s0", "s1", "s2"]
    pd.testing.assert_frame_equal(out[out.unique_id != "new"].reset_index(drop=True), before)


def test_series_that_cannot_train_are_still_forecast():
    short = seasonal_frame(rows=20, n_series=1).assign(unique_id="short")
    out = ridge(n_timesteps=18).fit(pd.concat([seasonal_frame(), short])).predict()
    assert out.query("unique_id == 'short'")["ds"].min() == pd.Timestamp("2016-09-01")


@pytest.mark.parametrize(
    ("params", "error", "words"),
    [
        ({"strategy": "recursive"}, ValueError, "'direct'"),
        ({"scope": "regional"}, ValueError, "'local'"),
        ({"horizon": 0}, ValueError, "horizon"),
        ({"transform": "boxcox"}, ValueError, "transform"),
        ({"n_timesteps": 6}, DataError, "one season of 12"),
        ({"n_timesteps": 61}, NotEnoughHistoryError, "61"),
        ({"horizon": 60}, NotEnoughHistoryError, "horizon"),
        ({"horizon": 10**30}, NotEnoughHistoryError, "horizon"),
        ({"season_length": 10**30}, NotEnoughHistoryError, "season_length"),
        ({"n_timesteps": 10**30}, NotEnoughHistoryError, "n_timesteps"),
        ({"estimator": LSTMRegressor(dtype="float16")}, ValueError, "'dtype' parameter of LSTMRegressor"),
        ({"estimator": "lstm"}, TypeError, "estimator"),
        ({"freq": "D"}, DataError, "2015-01-01"),
    ],
)
def test_wrong_parameters(params, error, words):
    model = ridge().set_params(**params)
    with pytest.raises(error, match=words):
        model.fit(seasonal_frame())
    with pytest.raises(NotFittedError):
        model.predict()


def test_wrong_calls():
    with pytest.raises(NotFittedError):
        ridge().predict()
    model = ridge(calibrate=False).fit(seasonal_frame())
    with pytest.raises(NotFittedError, match="calibrate=True"):
        model.predict(level=[80])
    for h in (0, 7, 1.5, True):
        with pytest.raises(DataError, match="horizon of 6"):
            model.predict(h)
    for level in (["80"], [0], [100], [-5], [True], {80: 1}, [np.nan]):
        with pytest.raises(DataError, match="per cent"):
            ridge().fit(seasonal_frame()).predict(level=level)


def test_a_season_that_does_not_fit_is_dropped():
    """14 months and a horizon of 6 hold no year with it; the last value is the base then."""
    model = ridge().fit(seasonal_frame(rows=14))
    assert model.season_length_ == 1
    assert np.isfinite(model.predict(level=[80, 95]).iloc[:, 2:].to_numpy()).all()


def test_a_failed_fit_leaves_the_old_model():
    model = ridge().fit(seasonal_frame())
    before = model.predict(level=[80])
    with pytest.raises(DataError):
        model.fit(seasonal_frame().assign(y=np.nan))
    pd.testing.assert_frame_equal(model.predict(level=[80]), before)


def test_the_estimator_given_is_not_touched():
    network = LSTMRegressor((3,), max_iter=2, device="reference", season_length=0)
    Forecaster(network, horizon=3, n_timesteps=12, max_iter=1).fit(seasonal_frame())
    assert not hasattr(network, "n_iter_")
    assert network.get_params()["season_length"] == 0
    assert clone(Forecaster(network, horizon=3)).get_params()["horizon"] == 3


@pytest.mark.parametrize("make", FORECASTERS)
def test_pickle(make):
    model = make().fit(seasonal_frame())
    again = pickle.loads(pickle.dumps(model))
    pd.testing.assert_frame_equal(again.predict(level=[80]), model.predict(level=[80]), check_exact=True)


@pytest.mark.needs_jit
class TestDefaultNetwork:
    def test_any_number_of_threads_gives_the_same_bits(self):
        df = seasonal_frame()
        one, two = (
            Forecaster(horizon=4, max_iter=3, random_state=1, n_jobs=n).fit(df).predict(level=[80]) for n in (1, 3)
        )
        pd.testing.assert_frame_equal(one, two, check_exact=True)

    def test_it_beats_the_seasonal_naive_forecast_of_a_short_series(self):
        """Air passengers, three years one after the other: 26 windows are the least that it trains on."""
        from tsforecast.datasets import load_air_passengers
        from tsforecast.forecasting.backtest import backtest

        table, _ = backtest(Forecaster(horizon=12, random_state=0), load_air_passengers(), n_windows=3)
        scores = table.set_index("model")["MAE"]
        assert scores["SeasonalNaive"] == pytest.approx(35.9167, abs=1e-3)  # worked by hand from the last four years
        assert scores["LSTMRegressor"] < 32


def test_early_stopping_watches_the_last_windows_of_all_series(monkeypatch):
    """Not the windows of the last series, which would make one id's name decide over all others."""
    seen = {}

    def spy(self, windows, *, val=None, **shape):
        seen["train"], seen["val"] = windows, val
        return original(self, windows, val=val, **shape)

    original = LSTMRegressor._fit_windows
    monkeypatch.setattr(LSTMRegressor, "_fit_windows", spy)
    df = seasonal_frame(4, rows=60)
    network = LSTMRegressor(4, early_stopping=True, max_iter=2, batch_size=64)
    Forecaster(network, horizon=3, freq="MS", n_timesteps=12, calibrate=False).fit(df)
    assert np.unique(seen["val"].x_starts // 60).tolist() == [0, 1, 2, 3]
    assert np.unique(seen["train"].x_starts // 60).tolist() == [0, 1, 2, 3]


def test_a_series_that_is_only_flat_of_late_keeps_its_interval():
    rng = np.random.default_rng(3)
    y = np.where(rng.random((3, 200)) < 0.1, rng.integers(1, 9, (3, 200)), 0).astype(float)
    y[0, -40:] = 0.0
    y[2] = 7.0
    df = pd.DataFrame({"unique_id": np.repeat(list("abc"), 200), "ds": np.tile(np.arange(200), 3), "y": y.ravel()})
    model = Forecaster(Ridge(), horizon=4, n_timesteps=10).fit(df)
    out = model.predict(level=[95])
    width = (out["Ridge-hi-95"] - out["Ridge-lo-95"]).to_numpy().reshape(3, 4)
    assert (width[0] > 0).all()
    assert (width[2] == 0).all()
    assert (out["Ridge"][8:] == 7.0).all()
    new = pd.DataFrame({"unique_id": ["c"], "ds": [200], "y": [9.0]})
    after = model.update(new).predict(level=[95]).iloc[8:]
    assert (after["Ridge-hi-95"] > after["Ridge-lo-95"]).all(), "it is constant no longer"


def test_a_value_far_from_the_rest_of_its_series_is_named_by_fit_and_update():
    df = seasonal_frame(2).assign(y=lambda d: d["y"] - d["y"].mean())
    model = Forecaster(LSTMRegressor(4, max_iter=1), horizon=3, freq="MS", n_timesteps=12, calibrate=False).fit(df)
    before = model.predict()
    last = df.groupby("unique_id")["ds"].max()["s1"]
    new = pd.DataFrame({"unique_id": ["s1"], "ds": [last + pd.offsets.MonthBegin()], "y": [1e30]})
    with pytest.raises(DataError, match=r"series 's1', .*1e\+30 is .* times the spread"):
        model.update(new)
    pd.testing.assert_frame_equal(model.predict(), before)
    df.loc[df.index[-1], "y"] = 1e30  # among the rows that intervals are calibrated on
    with pytest.raises(DataError, match=r"series 's1', .*1e\+30 is .* times the spread"):
        Forecaster(Ridge(), horizon=3, freq="MS", n_timesteps=12).set_params(estimator=model.estimator).fit(df)


@pytest.mark.parametrize("names", [{"alias": "y"}, {"alias": "ds"}, {"alias": "cutoff"}, {"target_col": "cutoff"}])
def test_columns_that_would_share_a_name_are_refused(names):
    df = seasonal_frame(1).rename(columns={"y": names.get("target_col", "y")})
    with pytest.raises(DataError, match="two columns of the forecast would be called"):
        Forecaster(Ridge(), horizon=3, freq="MS", **names).fit(df)


def test_a_level_that_looks_like_a_share_is_refused():
    model = Forecaster(Ridge(), horizon=3, freq="MS").fit(seasonal_frame(1))
    with pytest.raises(DataError, match=r"level=95\?"):
        model.predict(level=[0.95])


def test_a_class_is_not_an_estimator():
    with pytest.raises(TypeError, match="must be None or a regressor"):
        Forecaster(Ridge, horizon=3, freq="MS").fit(seasonal_frame(1))


def test_single_short_series_are_not_learned_by_heart():
    """Eleven tourism series of 72 months, each alone: level with seasonal naive; 200 passes are 23 % worse."""
    frame, ours, naive = datasets.load_tourism_monthly(), [], []
    for uid in frame["unique_id"].unique()[::36]:
        y = frame.loc[frame["unique_id"] == uid, "y"].to_numpy()[-84:]
        train, test = y[:72], y[72:]
        df = pd.DataFrame({"ds": pd.date_range("2000", periods=72, freq="MS"), "y": train})
        forecast = Forecaster(horizon=12, random_state=0, calibrate=False).fit(df).predict()["LSTMRegressor"]
        scale = np.abs(train[12:] - train[:-12]).mean()
        ours.append(np.abs(forecast - test).mean() / scale)
        naive.append(np.abs(train[60:] - test).mean() / scale)
    assert np.mean(ours) < 1.05 * np.mean(naive)
