"""model.stream(): the bits of predict, one value at a time."""

import pickle

import numpy as np
import pytest

from tsforecast import LSTMRegressor, sliding_windows
from tsforecast.exceptions import DataError

T = 12
QUICK = {"hidden_layer_sizes": (9, 5), "max_iter": 3, "random_state": 0}


@pytest.fixture
def series():
    return np.sin(np.arange(200) / 5) * 30 + 100


def fitted(series, n_steps=T, horizon=1, **params):
    X, y = sliding_windows(series, n_steps, horizon)
    return LSTMRegressor(**QUICK, **params).fit(X, y), X


@pytest.mark.parametrize(
    "params", [{}, {"standardize": False}, {"dtype": "float64"}, {"loss": "quantile", "quantiles": (0.2, 0.5, 0.7)}]
)
@pytest.mark.parametrize("horizon", [1, 3])
def test_a_window_pushed_step_by_step_has_the_bits_of_predict(series, params, horizon):
    model, X = fitted(series, horizon=horizon, **params)
    stream = model.stream()
    for window in X[[0, 50]]:
        stream.reset()
        for x in window:
            y = stream.push(x)
        expected = model.predict(window[None])
        np.testing.assert_array_equal(y, expected[0])
        assert isinstance(y, float) == (horizon == 1)


def test_the_state_is_carried_beyond_the_window(series):
    """After 3 T steps: the same weights on a window of 3 T steps."""
    model, _ = fitted(series)
    longer, _ = fitted(series, 3 * T)
    for name in ("_params", "_x_mean", "_x_scale", "_y_mean", "_y_scale"):
        setattr(longer, name, getattr(model, name))
    stream = model.stream()
    for x in series[: 3 * T]:
        y = stream.push(x)
    assert y == longer.predict(series[None, : 3 * T])[0]
    assert stream.n_steps == 3 * T


def test_streams_side_by_side_equal_streams_alone(series):
    X, y = sliding_windows(np.stack([series, series[::-1]], axis=1), T)
    model = LSTMRegressor(**QUICK, n_features_per_step=2).fit(X, y)
    together, alone = model.stream(n_streams=3), [model.stream() for _ in range(3)]
    rng = np.random.default_rng(0)
    for _ in range(20):
        x = rng.normal(100, 30, size=(3, 2))
        np.testing.assert_array_equal(together.push(x), [s.push(row) for s, row in zip(alone, x, strict=True)])


@pytest.mark.parametrize(
    "params", [{}, {"window_norm": "standard", "season_length": 4, "linear_skip": True}, {"linear_skip": True}]
)
def test_state_pickle_and_reset(series, params):
    model, _ = fitted(series, **params)
    stream = model.stream()
    first = [stream.push(x) for x in series[:30]]
    copy, saved = pickle.loads(pickle.dumps(stream)), stream.state
    rest = [stream.push(x) for x in series[30:40]]
    assert [copy.push(x) for x in series[30:40]] == rest
    stream.state = saved
    assert [stream.push(x) for x in series[30:40]] == rest
    stream.reset()
    np.testing.assert_array_equal([stream.push(x) for x in series[:30]], first)


def test_a_network_that_looks_at_its_window_predicts_from_the_last_one(series):
    model, X = fitted(series, window_norm="center", season_length=4, linear_skip=True)
    stream = model.stream()
    forecasts = [stream.push(x) for x in series[: T + 20]]
    assert np.isnan(forecasts[: T - 1]).all()
    np.testing.assert_array_equal(forecasts[T - 1 :], model.predict(np.append(X[:20], X[20:21], axis=0)))


def test_training_on_does_not_change_a_stream(series):
    model, X = fitted(series, warm_start=True)
    stream, expected = model.stream(), model.stream().push(series[0])
    model.fit(X, np.zeros(len(X)))
    assert stream.push(series[0]) == expected


@pytest.mark.parametrize("params", [{}, {"linear_skip": True}])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30, [1.0, 2.0], "a"])
@pytest.mark.parametrize("steps_before", [0, T])
def test_a_bad_value_is_refused_and_changes_nothing(series, bad, params, steps_before):
    model, _ = fitted(series, **params)
    stream, other = model.stream(), model.stream()
    for x in series[:steps_before]:
        stream.push(x)
        other.push(x)
    with pytest.raises(ValueError, match=r"finite|1 value|a step has|could not convert|too large"):
        stream.push(bad)
    np.testing.assert_array_equal(stream.push(series[T]), other.push(series[T]))  # NaN while a window fills
    if not params:
        with pytest.raises(DataError, match="feature 0 of stream 1 is nan"):
            model.stream(2).push([0.0, np.nan])


def test_wrong_arguments_say_so(series):
    model, _ = fitted(series)
    with pytest.raises(ValueError, match="n_streams must be a positive whole number"):
        model.stream(0)
    with pytest.raises(ValueError, match="not fitted"):
        LSTMRegressor().stream()
    with pytest.raises(ValueError, match="a state of shape"):
        model.stream().state = 3, np.zeros((1, 2))
