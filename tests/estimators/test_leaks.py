"""Nothing before a cut-off changes when values after it do: statistics, stopping, weights, forecasts."""

import numpy as np
import pandas as pd
from estimator_cases import same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import TimeSeriesSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from tsforecast import LSTMRegressor, WindowRegressor, sliding_windows

N = 60


def model_of(steps, horizon):
    network = LSTMRegressor(
        3, max_iter=4, early_stopping=True, validation_fraction=0.2, device="reference", random_state=0
    )
    return Pipeline([("scale", StandardScaler()), ("window", WindowRegressor(network, steps, horizon))])


@settings(max_examples=20, deadline=None)
@given(
    cut=st.integers(40, 55),
    steps=st.integers(1, 6),
    horizon=st.integers(0, 4),
    change=st.floats(-1e6, 1e6).filter(lambda v: abs(v) > 1e-3),
)
def test_what_was_fitted_before_a_cut_is_blind_to_what_follows(cut, steps, horizon, change):
    values = np.random.default_rng(7).normal(size=(N, 2))
    changed = values.copy()
    changed[cut:] += change
    frame, later = (pd.DataFrame(v, columns=["y", "x"]) for v in (values, changed))
    fits = [model_of(steps, horizon).fit(f[:cut], f["y"][:cut]) for f in (frame, later)]
    networks = [fit[-1].estimator_ for fit in fits]
    assert_array_equal(fits[0][0].mean_, fits[1][0].mean_)
    assert same_bits(*networks)
    assert networks[0].validation_scores_ == networks[1].validation_scores_
    # Row cut + j of a forecast may look at rows up to cut + j - horizon, so the first `horizon` see no change.
    forecasts = [fit.predict(f[cut:]) for fit, f in zip(fits, (frame, later), strict=True)]
    blind = min(horizon, N - cut)
    assert_array_equal(forecasts[0][:blind], forecasts[1][:blind])
    if blind < N - cut:
        assert forecasts[0][blind] != forecasts[1][blind]  # the test can fail: the row after them does see it


@settings(max_examples=30, deadline=None)
@given(
    steps=st.integers(1, 6),
    horizon=st.integers(0, 4),
    row=st.integers(0, N - 1),
)
def test_a_changed_row_reaches_only_the_forecasts_after_its_horizon(steps, horizon, row):
    rng = np.random.default_rng(3)
    train, test = rng.normal(size=(40, 2)), rng.normal(size=(N, 2))
    model = WindowRegressor(LinearRegression(), steps, horizon).fit(train, rng.normal(size=40))
    changed = test.copy()
    changed[row] += 1.0
    moved = np.flatnonzero(model.predict(test) != model.predict(changed))
    assert_array_equal(moved, np.arange(row + horizon, min(N, row + horizon + steps)))


def test_folds_of_a_time_series_split_do_not_see_later_rows():
    frame = pd.DataFrame(np.random.default_rng(11).normal(size=(N, 2)), columns=["y", "x"])
    for train, test in TimeSeriesSplit(3).split(frame):
        later = frame.copy()
        later.iloc[test] *= -50
        fits = [model_of(5, 1).fit(f.iloc[train], f["y"].iloc[train]) for f in (frame, later)]
        assert same_bits(fits[0][-1].estimator_, fits[1][-1].estimator_)


def test_training_rows_do_not_see_the_held_out_tail_or_the_embargo():
    series = np.random.default_rng(1).normal(size=100)
    X, y = (a.copy() for a in sliding_windows(series, 6))
    n_val, embargo = 19, 5
    settings_of = {"early_stopping": True, "validation_fraction": 0.2, "max_iter": 3, "tol": 0.0}
    model = LSTMRegressor(3, device="reference", random_state=0, **settings_of).fit(X, y)
    # Every value after the last target that training sees is another one: the statistics stay, the scores do not.
    last_target = len(X) - n_val - embargo - 1 + 6
    changed = series.copy()
    changed[last_target + 1 :] = 3 - changed[last_target + 1 :]
    other = LSTMRegressor(3, device="reference", random_state=0, **settings_of).fit(*sliding_windows(changed, 6))
    assert_array_equal(model._x_mean, other._x_mean)
    assert_array_equal(model._y_scale, other._y_scale)
    assert model.loss_curve_ == other.loss_curve_
    assert model.validation_scores_ != other.validation_scores_
