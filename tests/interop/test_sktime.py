"""LSTMRegressor reduced by sktime, which passes arrays of lags, the oldest first."""

import numpy as np
import pytest
from interop_cases import HORIZON, LAGS, fit_by_hand, forecast_by_hand, make_model
from numpy.testing import assert_allclose, assert_array_equal

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("sktime")


def reduce(strategy, model=None):
    from sktime.forecasting.compose import make_reduction

    model = make_model() if model is None else model
    return make_reduction(model, window_length=LAGS, strategy=strategy, scitype="tabular-regressor")


def test_recursive_forecasts_are_those_by_hand(series):
    forecaster = reduce("recursive").fit(series, fh=range(1, HORIZON + 1))
    by_hand = fit_by_hand(series)
    assert_array_equal(forecaster.estimator_._params, by_hand._params)
    assert_allclose(forecaster.predict(), forecast_by_hand(by_hand, series), rtol=1e-6)


@pytest.mark.parametrize("strategy", ["direct", "multioutput", "dirrec"])
def test_the_other_strategies_run(series, strategy):
    forecaster = reduce(strategy).fit(series, fh=range(1, HORIZON + 1))
    out = forecaster.predict()
    assert out.shape == (HORIZON,)
    assert np.abs(out - series.mean()).max() < 5 * series.std()


def test_all_steps_at_once_are_a_fit_on_the_horizon(series):
    from tsforecast import sliding_windows

    forecaster = reduce("multioutput").fit(series, fh=range(1, HORIZON + 1))
    X, y = sliding_windows(series.to_numpy(), LAGS, horizon=HORIZON)
    by_hand = make_model().fit(X, y)
    assert_array_equal(forecaster.estimator_._params, by_hand._params)
    assert_allclose(forecaster.predict(), by_hand.predict(series.to_numpy()[None, -LAGS:])[0], rtol=1e-6)
