"""What an LSTM that reads a series from the oldest step to the newest must learn and forecast, by hand."""

import numpy as np

from tsforecast import LSTMRegressor, sliding_windows

LAGS = 12
HORIZON = 6


def make_model(**params):
    return LSTMRegressor(
        6, **({"max_iter": 15, "batch_size": 32, "random_state": 0, "learning_rate_init": 0.01} | params)
    )


def fit_by_hand(*series):
    """The model on windows that run from the oldest step to the newest."""
    pieces = [sliding_windows(np.asarray(s), LAGS) for s in series]
    return make_model().fit(np.concatenate([X for X, _ in pieces]), np.concatenate([y for _, y in pieces]))


def forecast_by_hand(model, series):
    """Recursive forecast of ``HORIZON`` steps."""
    values = list(np.asarray(series))
    for _ in range(HORIZON):
        values.append(model.predict(np.array([values[-LAGS:]]))[0])
    return np.array(values[-HORIZON:])
