"""LSTMRegressor inside skforecast, which passes arrays of lags, the newest first and without names."""

import numpy as np
import pytest
from interop_cases import HORIZON, LAGS, fit_by_hand, forecast_by_hand, make_model
from numpy.testing import assert_allclose, assert_array_equal

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("skforecast")


@pytest.fixture
def dated(series):
    return series.to_timestamp().asfreq("MS")


def test_recursive_forecasts_are_those_by_hand(dated):
    from skforecast.recursive import ForecasterRecursive

    forecaster = ForecasterRecursive(estimator=make_model(lag_order="newest_first"), lags=LAGS)
    forecaster.fit(dated)
    by_hand = fit_by_hand(dated)
    assert_array_equal(forecaster.estimator._params, by_hand._params)
    assert_allclose(forecaster.predict(HORIZON), forecast_by_hand(by_hand, dated), rtol=1e-6)


def test_without_the_parameter_time_runs_backwards(dated):
    from skforecast.recursive import ForecasterRecursive

    forecaster = ForecasterRecursive(estimator=make_model(), lags=LAGS)
    forecaster.fit(dated)
    assert (forecaster.estimator._params != fit_by_hand(dated)._params).any()


def test_direct_forecasts_backtesting_and_intervals(dated):
    from skforecast.direct import ForecasterDirect
    from skforecast.model_selection import TimeSeriesFold, backtesting_forecaster
    from skforecast.recursive import ForecasterRecursive

    direct = ForecasterDirect(estimator=make_model(lag_order="newest_first"), steps=2, lags=LAGS)
    direct.fit(dated)
    assert np.isfinite(direct.predict()).all()
    forecaster = ForecasterRecursive(estimator=make_model(lag_order="newest_first"), lags=LAGS)
    folds = TimeSeriesFold(steps=HORIZON, initial_train_size=100, refit=False)
    metric, predictions = backtesting_forecaster(
        forecaster, y=dated, cv=folds, metric="mean_absolute_error", show_progress=False
    )
    assert len(predictions) == 20
    assert float(np.ravel(metric.select_dtypes("number"))[0]) < 8
    forecaster.fit(dated, store_in_sample_residuals=True)
    out = forecaster.predict_interval(HORIZON, interval=[0.1, 0.9], n_boot=20)
    assert (out["lower_bound"] <= out["upper_bound"]).all()
