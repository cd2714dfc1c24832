"""How windows enter the network and forecasts leave it, seen from outside: numbers worked by hand and invariances."""

import numpy as np
import pytest
from kernel_cases import FRAMES, network, random_params, series_windows, step_rule

from tsforecast.backends.base import TrainState, Windows
from tsforecast.exceptions import DivergedError
from tsforecast.spec import NetworkSpec

SERIES = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0])


def predict(backend, spec, params, series):
    return backend.predict(spec, params, np.asarray(series, dtype=np.float64), np.array([0]), 1)[0]


@pytest.mark.parametrize(
    ("window_norm", "season_length", "expected"),
    [
        ("none", 0, [0.0] * 5),
        ("center", 0, [31 / 8] * 5),  # the mean of all steps
        ("standard", 0, [31 / 8] * 5),
        ("none", 3, [9.0, 2.0, 6.0, 9.0, 2.0]),  # the last season, again and again
        ("center", 3, [9.0, 2.0, 6.0, 9.0, 2.0]),
        ("standard", 3, [9.0, 2.0, 6.0, 9.0, 2.0]),
        ("standard", 1, [6.0] * 5),
    ],
)
def test_a_network_of_zeros_forecasts_the_base(backend, window_norm, season_length, expected):
    spec = NetworkSpec(8, 1, (3,), 5, window_norm=window_norm, season_length=season_length)
    forecast = predict(backend, spec, np.zeros(spec.n_params), SERIES)
    np.testing.assert_allclose(forecast, expected, rtol=1e-14)


def test_outputs_are_in_standard_deviations_around_the_mean(backend):
    # With only the head's bias, output k is a constant: mean + bias * deviation of the window.
    spec = NetworkSpec(8, 1, (3,), 2, n_quantiles=2, window_norm="standard")
    params = np.zeros(spec.n_params)
    spec.views(params)["head.b"][:] = [-1.0, 1.0, -2.0, 3.0]
    mean, deviation = SERIES.mean(), np.sqrt(((SERIES - SERIES.mean()) ** 2).mean())
    expected = mean + deviation * np.array([-1.0, 1.0, -2.0, 3.0])
    np.testing.assert_allclose(predict(backend, spec, params, SERIES), expected, rtol=1e-14)


def test_loss_is_taken_in_normalised_units(backend):
    spec = NetworkSpec(6, 1, (3,), 2, window_norm="standard", season_length=2)
    windows = Windows(SERIES, np.array([0]), SERIES, np.array([6]), np.ones(1))
    deviation = SERIES[:6].std()
    loss = backend.evaluate(spec, step_rule("absolute_error"), np.zeros(spec.n_params), windows, 1)
    # base 5, 9; targets 2, 6
    assert loss == pytest.approx(3.0 / deviation, rel=1e-13)


@pytest.mark.parametrize("level", [0.0, 1.0, -7.3, 1e8, 1e-30, 0.1])
def test_constant_windows_are_not_divided(backend, level):
    spec = NetworkSpec(7, 1, (3,), 2, window_norm="standard")
    params = np.zeros(spec.n_params)
    spec.views(params)["head.b"][:] = 1.0
    np.testing.assert_allclose(predict(backend, spec, params, np.full(7, level)), level + 1.0, rtol=1e-13)


@pytest.mark.parametrize("season_length", [0, 3])
def test_forecasts_move_and_stretch_with_the_series(backend, rng, season_length):
    spec = network(window_norm="standard", season_length=season_length, linear_skip=True)
    params, x = random_params(rng, spec), rng.normal(size=(6, 2))
    forecast = predict(backend, spec, params, x.ravel())
    moved = predict(backend, spec, params, (x * [250.0, 0.02] + [1000.0, -3.0]).ravel())
    np.testing.assert_allclose(moved, forecast * 250.0 + 1000.0, rtol=1e-10)


@pytest.mark.parametrize("frame", FRAMES)
def test_forecasts_do_not_depend_on_their_company(backend, rng, frame):
    spec = network("quantile", **FRAMES[frame])
    params = random_params(rng, spec)
    values = rng.normal(size=3000)
    starts = rng.integers(0, 2900, size=1500)
    together = backend.predict(spec, params, values, starts, 1)
    assert together.shape == (1500, 12)
    few = rng.choice(1500, size=40, replace=False)
    alone = np.concatenate([backend.predict(spec, params, values, starts[i : i + 1], 1) for i in few])
    np.testing.assert_allclose(alone, together[few], rtol=0, atol=1e-12)


@pytest.mark.parametrize("frame", FRAMES)
def test_evaluate_is_the_loss_of_predict(backend, rng, frame):
    spec = network(**FRAMES[frame])
    params, windows = random_params(rng, spec), series_windows(rng, spec)
    forecast = backend.predict(spec, params, windows.values, windows.x_starts, 1)
    target = windows.targets[windows.y_starts[:, None] + 2 * np.arange(4)]
    scale = np.ones(len(windows))
    if spec.window_norm == "standard":
        x = windows.values[windows.x_starts[:, None] + 2 * np.arange(6)]
        scale = x.std(axis=1)
    rows = np.abs(forecast - target).mean(axis=1) / scale
    loss = backend.evaluate(spec, step_rule("absolute_error"), params, windows, 1)
    assert loss == pytest.approx(np.average(rows, weights=windows.weights), rel=1e-12)


def test_gradient_outputs_are_those_of_predict(backend, rng):
    spec = network("quantile", linear_skip=True)
    params, x = random_params(rng, spec), rng.normal(size=(5, 6, 2))
    outputs, _, _ = backend.gradient(spec, params, x, np.ones((5, 12)))
    np.testing.assert_allclose(
        outputs, backend.predict(spec, params, x.ravel(), np.arange(5) * 12, 1), rtol=0, atol=1e-14
    )


def test_infinite_loss_is_an_error(backend, rng):
    spec = network()
    params, windows = random_params(rng, spec), series_windows(rng, spec)
    windows.targets[-2] = 1e200
    state = TrainState(params.copy())
    with pytest.raises(DivergedError):
        backend.train_epoch(spec, step_rule(), state, windows, np.arange(11), 11, np.ones(1), 1)


def test_rows_without_weight_do_not_enter_evaluate(backend, rng):
    spec = network(window_norm="standard")
    params, values = random_params(rng, spec), rng.normal(size=1600)
    starts, weights = np.arange(1500), np.zeros(1500)
    weights[1400:] = rng.uniform(0.5, 2.0, 100)
    everything = Windows(values, starts, values, starts + 12, weights, 2)
    weighted = Windows(values, starts[1400:], values, starts[1400:] + 12, weights[1400:], 2)
    loss = backend.evaluate(spec, step_rule(), params, everything, 1)
    assert loss == pytest.approx(backend.evaluate(spec, step_rule(), params, weighted, 1), rel=1e-12)
