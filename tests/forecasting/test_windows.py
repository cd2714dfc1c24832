"""Which windows are trained on, how they weigh, and how long they are."""

import numpy as np
import pandas as pd
import pytest
from series import seasonal_frame

from tsforecast.data.panel import Panel
from tsforecast.exceptions import NotEnoughHistoryError
from tsforecast.forecasting import defaults
from tsforecast.forecasting.choices import choose_n_timesteps
from tsforecast.forecasting.scaling import SeriesScaling
from tsforecast.forecasting.state import make_spec
from tsforecast.forecasting.windows import hold_out_last, refuse_short, training_windows


def panel_of(*lengths):
    parts = [seasonal_frame(1, rows=n, seed=n).assign(unique_id=f"s{i}") for i, n in enumerate(lengths)]
    return Panel.from_frame(pd.concat(parts), "MS")


@pytest.mark.parametrize("norm", ["standard", "center", "none"])
def test_every_window_with_a_full_target_once(norm):
    panel = panel_of(30, 19, 21)
    scaling = SeriesScaling.fit(panel, 4, False)
    z = scaling.apply(panel)
    windows = training_windows(panel, z, scaling, make_spec(15, 5, 4, norm, True))
    expected = [*range(11), *range(49, 51)]
    assert windows.x_starts.tolist() == expected  # the series of 19 rows has no full window
    assert (windows.y_starts - windows.x_starts).tolist() == [15] * 13
    spread = [z[a : a + 15].std() if norm == "standard" else 1.0 for a in expected]
    weights = np.array(spread) / scaling.error_scale[[0] * 11 + [2] * 2]
    np.testing.assert_allclose(windows.weights, weights / weights.mean(), rtol=1e-12)


def test_many_windows_are_thinned_out_from_the_end(monkeypatch):
    monkeypatch.setattr(defaults, "MAX_WINDOWS", 10)
    panel = panel_of(30, 25)
    scaling = SeriesScaling.fit(panel, 4, False)
    windows = training_windows(panel, scaling.apply(panel), scaling, make_spec(15, 5, 4, "center", True))
    # 11 + 6 windows, every second one, the last of each series among them
    assert windows.x_starts.tolist() == [0, 2, 4, 6, 8, 10, 31, 33, 35]


def test_flat_windows_are_left_out_unless_there_are_no_others():
    y = np.concatenate([np.full(20, 3.0), np.arange(10.0)])
    panel = Panel.from_frame(pd.DataFrame({"ds": np.arange(30), "y": y}))
    scaling = SeriesScaling.fit(panel, 2, False)
    spec = make_spec(8, 2, 2, "standard", True)
    assert training_windows(panel, scaling.apply(panel), scaling, spec).x_starts.tolist() == list(range(13, 21))
    flat = Panel.from_frame(pd.DataFrame({"ds": np.arange(30), "y": 3.0}))
    scaling = SeriesScaling.fit(flat, 2, False)
    assert len(training_windows(flat, scaling.apply(flat), scaling, spec)) == 21


@pytest.mark.parametrize(
    ("lengths", "season", "horizon", "steps"),
    [
        ((240, 240, 240), 12, 12, 36),  # three seasons, where the median series has 15
        ((170, 170, 170, 170), 12, 12, 24),  # two seasons
        ((42, 240, 240, 240), 12, 12, 30),  # what the shortest can train with
        ((30, 240, 240, 240), 12, 12, 24),  # two seasons; the shortest is only forecast
        ((15, 240, 240, 240), 12, 12, 15),  # all the shortest has
        ((180, 240), 12, 12, 12),  # few windows: one season
        ((14, 14), 4, 6, 4),
        ((600,), 52, 10, 104),  # long seasons twice at the most
        ((50,), 1, 6, 12),
        ((24,), 12, 12, 12),  # one training window
    ],
)
def test_window_lengths(lengths, season, horizon, steps):
    assert choose_n_timesteps(panel_of(*lengths), season, horizon) == steps


def test_too_little_history_is_named():
    with pytest.raises(
        NotEnoughHistoryError, match=r"'s1', has 17 rows, and one window of 12 plus a horizon of 6 need 18"
    ):
        choose_n_timesteps(panel_of(5, 17), 12, 6)
    with pytest.raises(NotEnoughHistoryError, match=r"7 of 8 series .* 's0' \(3 rows\), .* 's4' \(7 rows\) and 2 more"):
        refuse_short(panel_of(3, 4, 5, 6, 7, 8, 9, 10), 10)


def test_early_stopping_holds_out_the_end_of_every_series():
    """T=8, K=3, tails of different length: no training window shares a row with a held-out one."""
    panel = panel_of(60, 40, 11, 30)
    spec = make_spec(8, 3, 4, "standard", True)
    scaling = SeriesScaling.fit(panel, 4, False)
    windows = training_windows(panel, scaling.apply(panel), scaling, spec)
    train, held = hold_out_last(windows, panel, spec, 0.1)
    series_of = lambda starts: np.searchsorted(panel.indptr, starts, side="right") - 1  # noqa: E731
    # 50, 30, 1 and 20 windows
    assert np.bincount(series_of(held.x_starts)).tolist() == [5, 3, 1, 2]
    for s in range(4):
        mine, theirs = (w.x_starts[series_of(w.x_starts) == s] for w in (train, held))
        assert (panel.indptr[s + 1] - theirs.max()) == 11
        assert len(mine) == 0 or mine.max() + 8 <= theirs.min()
    assert len(train) == (50 - 5 - 7) + (30 - 3 - 7) + 0 + (20 - 2 - 7)
    with pytest.raises(NotEnoughHistoryError, match="leaves none of 101"):
        hold_out_last(windows, panel, spec, 0.99)
