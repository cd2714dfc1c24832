"""One long series in windows that hand on their states: what memory beyond the window is worth, and what is refused."""

import numpy as np
import pytest

from tsforecast import DataError, Forecaster, LSTMRegressor, datasets, fit_many, load_model, sliding_windows
from tsforecast.estimators._config import SHORTEST_STRETCH

T = 4


def level_and_noise(n, persistence=0.99, seed=0):
    """A slow level of variance 1 seen through noise of variance 1; windows, the level at their end, and what the best
    estimate from all values so far is (the filter of Kalman)."""
    rng = np.random.default_rng(seed)
    drift = 1 - persistence**2
    level, steps = np.zeros(n * T), np.sqrt(drift) * rng.normal(size=n * T)
    for i in range(1, n * T):
        level[i] = persistence * level[i - 1] + steps[i]
    seen, best = level + rng.normal(size=n * T), np.empty(n * T)
    mean, variance = 0.0, 1.0
    for i, value in enumerate(seen):
        mean, variance = persistence * mean, persistence**2 * variance + drift
        gain = variance / (variance + 1)
        mean, variance = mean + gain * (value - mean), (1 - gain) * variance
        best[i] = mean
    return seen.reshape(n, T), level[T - 1 :: T], best[T - 1 :: T]


def stateful(**params):
    settings = {"max_iter": 3, "tol": 0.0, "random_state": 0, "device": "reference"}
    return LSTMRegressor(4, stateful=True, shuffle=False, **(settings | params))


@pytest.mark.needs_jit
def test_states_handed_on_reach_the_best_filter_and_windows_alone_cannot():
    X, y, best = level_and_noise(3000)
    train, test = slice(0, 2000), slice(2000, None)
    settings = {"batch_size": 20, "max_iter": 20, "learning_rate_init": 1e-2, "learning_rate": "cosine", "tol": 0.0}
    errors = {}
    for is_stateful in (True, False):
        model = LSTMRegressor(8, stateful=is_stateful, shuffle=False, random_state=0, n_iter_no_change=20, **settings)
        found = model.fit(X[train], y[train]).predict(X[test])
        errors[is_stateful] = np.mean((found - y[test])[20:] ** 2)  # once warm
    lags = np.c_[X, np.ones(len(X))]
    window_alone = lags @ np.linalg.lstsq(lags, y, rcond=None)[0]
    assert errors[True] < 1.2 * np.mean((best - y)[test][20:] ** 2)
    assert errors[False] > 0.95 * np.mean((window_alone - y)[test][20:] ** 2)
    assert errors[True] < 0.65 * errors[False]


def test_files_early_stopping_and_many_at_once(tmp_path):
    X, y, _ = level_and_noise(150)
    model = stateful(early_stopping=True).fit(X, y)
    model.save(tmp_path / "model.tsf")
    np.testing.assert_array_equal(load_model(tmp_path / "model.tsf").predict(X), model.predict(X))
    assert model.best_validation_score_ == max(model.validation_scores_)
    again = stateful(early_stopping=True)
    fit_many([again], [X], [y])
    np.testing.assert_array_equal(again._params, model._params)
    continued = stateful(max_iter=1, warm_start=True)
    for _ in range(3):
        continued.fit(X, y)
    np.testing.assert_array_equal(continued._params, stateful().fit(X, y)._params)


def test_rows_are_one_series(rng):
    X, y, _ = level_and_noise(3 * SHORTEST_STRETCH + 5)
    model = stateful().fit(X, y)
    np.testing.assert_array_equal(model._params, stateful(batch_size=3).fit(X, y)._params)
    assert model.predict(X[1:])[0] != model.predict(X)[1], "the row before counts"
    cut = model.predict(X[10:])  # and is forgotten in time
    assert abs(cut[-1] - model.predict(X)[-1]) < 1e-3 * abs(cut[0] - model.predict(X)[10])


def test_what_does_not_go_with_carried_states_is_refused():
    X, y, _ = level_and_noise(60)
    with pytest.raises(ValueError, match="set shuffle=False"):
        LSTMRegressor(4, stateful=True).fit(X, y)
    with pytest.raises(ValueError, match="does not go with"):
        stateful(window_norm="center").fit(X, y)
    overlapping, targets = sliding_windows(X.ravel(), T)
    with pytest.raises(DataError, match=r"overlap.*stride=n_timesteps"):
        stateful().fit(overlapping, targets)
    apart, targets = sliding_windows(X.ravel(), T, stride=T)
    model = stateful(max_iter=1).fit(apart, targets)
    with pytest.raises(DataError, match=r"overlap.*stride=n_timesteps"):
        model.predict(overlapping)
    with pytest.raises(DataError, match="a weight of 0 would leave one out"):
        stateful().fit(X, y, sample_weight=np.arange(60.0))
    model = stateful(max_iter=1).fit(X, y)
    for explain in (model.trace, model.saliency, model.integrated_gradients):
        with pytest.raises(DataError, match="not explained window by window"):
            explain(X)
    with pytest.raises(DataError, match="not explained window by window"):
        model.gradient_health(X, y)


@pytest.mark.parametrize("params", [{"linear_skip": True}, {"attention": "dot"}, {"season_length": 2}])
def test_a_stream_cannot_both_carry_states_and_look_at_windows(params):
    """Its windows overlap, and those of several streams are no rows of one series."""
    X, y, _ = level_and_noise(60)
    model = stateful(max_iter=1, **params).fit(X, y)
    with pytest.raises(DataError, match="look at whole windows"):
        model.stream()


def test_forecasters_cut_overlapping_windows():
    forecaster = Forecaster(stateful(), horizon=2, n_timesteps=24, freq="MS")
    with pytest.raises(DataError, match="follow one another without overlap"):
        forecaster.fit(datasets.load_air_passengers())
