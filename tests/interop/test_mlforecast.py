"""LSTMRegressor as a model of mlforecast, which passes frames of columns lag1, lag2, ...: the newest lag first."""

import numpy as np
import pandas as pd
import pytest
from interop_cases import HORIZON, LAGS, fit_by_hand, forecast_by_hand, make_model
from numpy.testing import assert_allclose, assert_array_equal

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]
mlforecast = pytest.importorskip("mlforecast")


@pytest.fixture
def frame(series):
    parts = {"a": series.to_numpy(), "b": 100 - series.to_numpy()[:90]}
    stamps = pd.date_range("2014-01-01", periods=120, freq="MS")
    return pd.concat(
        [pd.DataFrame({"unique_id": uid, "ds": stamps[: len(y)], "y": y}) for uid, y in parts.items()],
        ignore_index=True,
    )


def forecaster(model):
    return mlforecast.MLForecast(models={"LSTM": model}, freq="MS", lags=range(1, LAGS + 1))


def test_the_order_is_read_from_the_names_and_forecasts_are_those_by_hand(frame):
    fitted = forecaster(make_model()).fit(frame)
    parts = [part.to_numpy() for _, part in frame.groupby("unique_id")["y"]]
    by_hand = fit_by_hand(*parts)
    assert fitted.models_["LSTM"]._newest_first
    assert_array_equal(fitted.models_["LSTM"]._params, by_hand._params)
    out = fitted.predict(HORIZON)
    for uid, values in zip("ab", parts, strict=True):
        assert_allclose(out.loc[out.unique_id == uid, "LSTM"], forecast_by_hand(by_hand, values), rtol=1e-6)


def test_a_horizon_at_once_and_weights(frame):
    weighted = frame.assign(w=np.linspace(0.5, 1.5, len(frame)))
    fitted = forecaster(make_model()).fit(weighted, weight_col="w", max_horizon=3)
    assert np.isfinite(fitted.predict(3)["LSTM"]).all()


def test_cross_validation_and_intervals(frame):
    model = forecaster(make_model())
    folds = model.cross_validation(frame, n_windows=2, h=HORIZON, refit=False)
    parts = [part.to_numpy() for _, part in frame.groupby("unique_id")["y"]]
    by_hand = fit_by_hand(*(values[: -2 * HORIZON] for values in parts))
    for uid, values in zip("ab", parts, strict=True):
        found = folds.loc[folds.unique_id == uid, "LSTM"]
        expected = [forecast_by_hand(by_hand, values[:-n]) for n in (2 * HORIZON, HORIZON)]
        assert_allclose(found, np.concatenate(expected), rtol=1e-6)
    intervals = mlforecast.utils.PredictionIntervals(n_windows=2, h=HORIZON)
    out = forecaster(make_model()).fit(frame, prediction_intervals=intervals).predict(HORIZON, level=[80])
    assert (out["LSTM-lo-80"] <= out["LSTM-hi-80"]).all()
