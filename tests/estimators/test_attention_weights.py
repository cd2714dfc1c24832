"""Attention as users meet it: what it learns, its weights as a frame and a picture, files, streams, refusals."""

import numpy as np
import pytest

from tsforecast import GRURegressor, LSTMRegressor, RNNRegressor, fit_many, load_model
from tsforecast.backends.cpu.jit import JIT_DISABLED
from tsforecast.exceptions import DataError

T = 24


def marked_values(rng, n):
    """Noise, a mark on one step of each window, and the value that stands there."""
    values, marks = rng.normal(size=(n, T)), rng.integers(0, T, size=n)
    X = np.stack([values, np.arange(T) == marks[:, None]], axis=2).astype(float)
    return X, values[np.arange(n), marks], marks


@pytest.mark.needs_jit
@pytest.mark.parametrize("attention", ["additive", "dot"])
def test_it_looks_at_the_marked_step_and_says_so(rng, attention, tmp_path):
    X, y, marks = marked_values(rng, 1200)
    model = GRURegressor(12, attention=attention, max_iter=60, learning_rate_init=0.01, batch_size=32, random_state=0)
    model.fit(X[:1000], y[:1000])
    assert model.score(X[1000:], y[1000:]) > 0.95
    weights = model.attention_weights(X[1000:])
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-12)
    model.save(tmp_path / "model.ts")
    loaded = load_model(tmp_path / "model.ts")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    np.testing.assert_array_equal(loaded.attention_weights(X[1000:]), weights)
    late = np.asarray(weights).argmax(axis=1) - marks[1000:]
    assert np.mean((late >= 0) & (late <= 1)) > 0.9, "the step itself, or the one after, which remembers it"


@pytest.mark.skipif(not JIT_DISABLED, reason="would compile fleets once more")
def test_a_fleet_is_trained_to_the_bits_of_each_alone(rng):
    X, y, _ = marked_values(rng, 9)
    alone, *fleet = (GRURegressor(3, attention="additive", max_iter=2, random_state=i) for i in (1, 0, 1))
    fit_many(fleet, X[:, -5:], y)
    np.testing.assert_array_equal(fleet[1]._params, alone.fit(X[:, -5:], y)._params)


@pytest.fixture(scope="module")
def small():
    X, y, _ = marked_values(np.random.default_rng(0), 30)
    model = LSTMRegressor(4, attention="dot", max_iter=2, random_state=0, device="reference", dtype="float64")
    return model.fit(X, y), X


def test_the_weights_are_what_the_forecast_is_made_of(small):
    """The context is the weighted mean of the states of the trace."""
    model, X = small
    weights, states = model.attention_weights(X), model.trace(X)[0, "h"]
    context = (np.asarray(weights)[:, :, None] * states).sum(axis=1)
    p = model._spec().views(model._params)
    made = np.concatenate([states[:, -1], context], axis=1) @ p["head.w"] + p["head.b"]
    np.testing.assert_allclose((made * model._y_scale + model._y_mean)[:, 0], model.predict(X), rtol=0, atol=1e-12)


def test_weights_as_a_frame(small):
    model, X = small
    weights = model.attention_weights(X[:3])
    frame = weights.to_frame()
    assert list(frame.columns) == ["window", "step", "value"]
    np.testing.assert_array_equal(frame.pivot(index="window", columns="step", values="value").to_numpy(), weights)
    with pytest.raises(DataError, match="this is a part"):
        weights[0].to_frame()


def test_weights_as_a_picture(small):
    pytest.importorskip("matplotlib")
    model, X = small
    weights = model.attention_weights(X[:3])
    np.testing.assert_array_equal(weights.plot(1).lines[0].get_ydata(), weights[1])
    np.testing.assert_array_equal(weights.plot(None).lines[0].get_ydata(), np.asarray(weights).mean(axis=0))
    with pytest.raises(DataError, match="window must be below 3"):
        weights.plot(3)
    with pytest.raises(DataError, match="this is a part"):
        weights[0].plot()


def test_a_stream_keeps_its_window(small):
    """Its forecast waits for a whole window, whose bits it then has."""
    model, X = small
    stream = model.stream()
    forecasts = [stream.push(step) for step in X[0]]
    assert np.isnan(forecasts[:-1]).all()
    assert forecasts[-1] == model.predict(X[:1])[0]


def test_what_has_no_attention_says_so(rng):
    X, y, _ = marked_values(rng, 20)
    model = RNNRegressor(3, max_iter=1, device="reference").fit(X, y)
    with pytest.raises(DataError, match='fit one with attention="additive"'):
        model.attention_weights(X)
    with pytest.raises(ValueError, match="'attention' parameter"):
        RNNRegressor(3, attention="none").fit(X, y)
