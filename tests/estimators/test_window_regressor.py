"""Rows in are rows out: every forecast rests on its own window of earlier rows, in and across folds."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from estimator_cases import same_bits
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from tsforecast import DataError, NotEnoughHistoryError, WindowRegressor


@pytest.fixture
def table(rng):
    """60 days of a target and one more column."""
    frame = pd.DataFrame(rng.normal(size=(60, 2)), columns=["y", "x"], index=pd.date_range("2024", periods=60))
    return frame


def windows_by_hand(values, targets, steps, horizon):
    """Window and target of every row that has its history, as the class docstring says it."""
    X, y = [], []
    for t in range(len(values)):
        first = t - horizon - steps + 1
        if first >= 0:
            X.append(values[first : t - horizon + 1].ravel())
            y.append(targets[t])
    return np.array(X), np.array(y)


class Spy(LinearRegression):
    """Remembers what it was given."""

    def fit(self, X, y, sample_weight=None):
        self.X_, self.y_, self.weight_ = X, y, sample_weight
        return super().fit(X, y, sample_weight)

    def predict(self, X):
        self.predicted_ = X
        return super().predict(X)


@pytest.mark.parametrize(("steps", "horizon"), [(1, 0), (1, 1), (4, 0), (4, 1), (3, 5)])
def test_windows_end_horizon_rows_before_their_target(table, steps, horizon):
    train, test = table[:40], table[40:]
    model = WindowRegressor(Spy(), steps, horizon).fit(train, train["y"])
    X, y = windows_by_hand(table.to_numpy(), table["y"].to_numpy(), steps, horizon)
    history = steps + horizon - 1
    assert_array_equal(model.estimator_.X_, X[: 40 - history])
    assert_array_equal(model.estimator_.y_, y[: 40 - history])
    out = model.predict(test)
    assert_array_equal(model.estimator_.predicted_, X[40 - history :])
    assert out.shape == (20,)


def test_rows_of_a_prediction_get_their_history_whatever_their_number(table):
    model = WindowRegressor(LinearRegression(), 5, 2).fit(table[:40], table["y"][:40])
    whole = model.predict(table[40:])
    for n in (1, 2, 6, 19):
        assert_allclose(model.predict(table[40 : 40 + n]), whole[:n], rtol=1e-12)


@pytest.mark.parametrize("horizon", [0, 1, 3])
def test_a_recurrent_regressor_gets_the_series_and_learns_the_same_bits(small, table, horizon):
    steps = 6
    model = WindowRegressor(small(batch_size=16), steps, horizon).fit(table[:45], table["y"][:45])
    X, y = windows_by_hand(table.to_numpy(), table["y"].to_numpy(), steps, horizon)
    n = 45 - (steps + horizon - 1)
    built = small(batch_size=16, n_features_per_step=2).fit(X[:n], y[:n])
    assert same_bits(model.estimator_, built)
    assert_array_equal(model.predict(table[45:]), built.predict(X[n:]))


def test_several_targets_and_quantiles(small, table):
    targets = table[["y", "x"]].to_numpy()
    model = WindowRegressor(small(), 4).fit(table[:40], targets[:40])
    assert model.predict(table[40:]).shape == (20, 2)
    model = WindowRegressor(LinearRegression(), 4).fit(table[:40], targets[:40])
    assert model.predict(table[40:]).shape == (20, 2)
    model = WindowRegressor(small(loss="quantile"), 4).fit(table[:40], table["y"][:40])
    assert model.predict(table[40:]).shape == (20,)


def test_weights_belong_to_targets_and_zero_keeps_the_history(small, table):
    weight = np.arange(40) % 2 * 1.0
    model = WindowRegressor(Spy(), 4).fit(table[:40], table["y"][:40], sample_weight=weight)
    rows = np.arange(4, 40)[weight[4:] > 0]
    X, y = windows_by_hand(table.to_numpy(), table["y"].to_numpy(), 4, 1)
    assert_array_equal(model.estimator_.X_, X[rows - 4])
    assert_array_equal(model.estimator_.weight_, np.ones(len(rows)))
    model = WindowRegressor(small(), 4).fit(table[:40], table["y"][:40], sample_weight=weight)
    assert same_bits(model.estimator_, small(n_features_per_step=2).fit(X[rows - 4], y[rows - 4]))
    with pytest.raises(DataError, match="zero for every row after the first 4"):
        WindowRegressor(Spy(), 4).fit(table[:40], table["y"][:40], sample_weight=np.arange(40) < 4)


def test_grid_search_over_a_pipeline_on_frame_rows(small, table):
    pipeline = Pipeline([("scale", StandardScaler()), ("window", WindowRegressor(small(), 6))])
    grid = {"window__n_timesteps": [3, 6], "window__estimator__hidden_layer_sizes": [2, 4]}
    folds = TimeSeriesSplit(3)
    search = GridSearchCV(pipeline, grid, cv=folds, scoring="neg_mean_squared_error", error_score="raise")
    search.fit(table, table["y"])
    params = search.cv_results_["params"][1]
    scores = []
    for train, test in folds.split(table):
        scaler = StandardScaler().fit(table.iloc[train])
        values = scaler.transform(table.iloc[: test[-1] + 1])
        X, y = windows_by_hand(values, table["y"].to_numpy(), params["window__n_timesteps"], 1)
        n = len(train) - params["window__n_timesteps"]
        model = small(
            hidden_layer_sizes=params["window__estimator__hidden_layer_sizes"],
            n_features_per_step=2,
        ).fit(X[:n], y[:n])
        scores.append(-np.mean((model.predict(X[n:]) - y[n:]) ** 2))
    assert_allclose(search.cv_results_["mean_test_score"][1], np.mean(scores), rtol=1e-12)


def test_a_lag_is_learned_exactly(rng):
    x = rng.normal(size=200)
    frame = pd.DataFrame({"x": x})
    y = np.r_[np.zeros(3), 2 * x[:-3] - 1]  # y[t] = 2 x[t-3] - 1
    scores = cross_val_score(WindowRegressor(LinearRegression(), 2, horizon=2), frame, y, cv=TimeSeriesSplit(4))
    assert_allclose(scores, 1.0, atol=0.01)  # the three made-up zeros at the start cost a little
    assert (
        cross_val_score(WindowRegressor(LinearRegression(), 2, horizon=4), frame, y, cv=TimeSeriesSplit(4)).max() < 0.2
    )


def test_rows_without_time_are_taken_at_their_word(table):
    values, y = table.to_numpy(), table["y"].to_numpy()
    expected = WindowRegressor(LinearRegression(), 3).fit(table[:40], y[:40]).predict(table[40:])
    fresh = table.reset_index(drop=True)
    named = table.set_axis([f"row {i}" for i in range(60)])
    for train, test in (
        (values[:40], values[40:]),
        (fresh[:40], fresh[40:].reset_index(drop=True)),
        (named[:40], named[40:]),
        (pl.from_pandas(fresh[:40]), pl.from_pandas(fresh[40:])),
    ):
        model = WindowRegressor(LinearRegression(), 3).fit(train, y[:40])
        assert_array_equal(model.predict(test), expected)


def test_too_few_rows_say_how_many_are_needed(table):
    with pytest.raises(NotEnoughHistoryError, match=r"n_samples = 8, but one window needs .* = 5 \+ 4 rows"):
        WindowRegressor(LinearRegression(), 5, 4).fit(table[:8], table["y"][:8])
    assert len(WindowRegressor(DummyRegressor(), 5, 4).fit(table[:9], table["y"][:9]).predict(table[9:])) == 51


def test_large_numbers_are_named_by_column(small, table):
    table.loc[table.index[3], "x"] = 1e300
    with pytest.raises(DataError, match="column 'x' holds 1e"):
        WindowRegressor(small(), 3).fit(table, table["y"])


def test_missing_values_reach_estimators_that_take_them(table):
    table.iloc[5, 1] = np.nan
    model = WindowRegressor(HistGradientBoostingRegressor(max_iter=2), 3).fit(table[:40], table["y"][:40])
    assert np.isfinite(model.predict(table[40:])).all()
    with pytest.raises(ValueError, match="contains NaN"):
        WindowRegressor(LinearRegression(), 3).fit(table, table["y"])


def test_clone_pickle_and_the_unfitted(small, table):
    model = WindowRegressor(small(), 4, 2)
    with pytest.raises(NotFittedError):
        model.predict(table)
    model.fit(table[:40], table["y"][:40])
    assert not hasattr(clone(model), "estimator_")
    assert_array_equal(pickle.loads(pickle.dumps(model)).predict(table[40:]), model.predict(table[40:]))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(table[40:].rename(columns={"x": "z"}))
