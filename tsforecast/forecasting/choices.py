"""What a Forecaster decides by its data where its user does not: season, window length, logarithm, normalisation."""

from __future__ import annotations

import numpy as np

from tsforecast.data.panel import Panel
from tsforecast.exceptions import DataError
from tsforecast.forecasting import defaults
from tsforecast.forecasting.local import refuse_untrained
from tsforecast.forecasting.scaling import refuse_nonpositive
from tsforecast.forecasting.state import make_spec
from tsforecast.forecasting.windows import refuse_short, refuse_untrainable
from tsforecast.spec import NetworkSpec


def choose(forecaster, panel: Panel) -> tuple[NetworkSpec, bool]:
    """How windows enter and leave the model, and whether it works on logarithms.

    Raises ``DataError`` for windows shorter than a season, ``NotEnoughHistoryError`` for series too short for them.
    """
    horizon, season = forecaster.horizon, forecaster.season_length or choose_season(panel, forecaster.horizon)
    steps = forecaster.n_timesteps or choose_n_timesteps(panel, season, horizon)
    if steps < season:
        raise DataError(
            f"n_timesteps={steps} is shorter than one season of {season} steps; lengthen it, or set season_length=1"
        )
    if panel.lengths.max() < steps + horizon:
        refuse_untrainable(panel, steps, horizon)
    refuse_short(panel, steps)
    if forecaster.scope == "local":
        refuse_untrained(panel, steps, horizon)
    log = choose_log(panel, forecaster.transform, season)
    norm = defaults.window_norm(log) if forecaster.window_norm == "auto" else forecaster.window_norm
    return make_spec(steps, horizon, season, norm, forecaster.linear_skip), log


def choose_season(panel: Panel, horizon: int) -> int:
    """Steps in the season of the frequency; 1 where the longest series does not hold one and a horizon."""
    season = panel.freq.season_length()
    return season if panel.lengths.max() >= season + horizon else 1


def choose_n_timesteps(panel: Panel, season_length: int, horizon: int) -> int:
    """Pick the window length: 1 to 3 seasons, as long as the shortest series can train with, if it can.

    Raises ``NotEnoughHistoryError`` where no series holds one season and one horizon.
    """
    shortest, longest = int(panel.lengths.min()), int(panel.lengths.max())
    needed = max(season_length, 2)
    if longest < needed + horizon:
        refuse_untrainable(panel, needed, horizon)
    n_windows = int(np.maximum(panel.lengths - 2 * season_length - horizon + 1, 0).sum())
    low, high = defaults.window_lengths(season_length, horizon, float(np.median(panel.lengths)), n_windows)
    steps = min(max(shortest - horizon, low), high)
    return max(min(steps, longest - horizon, shortest), needed)


def choose_log(panel: Panel, transform: str, season_length: int) -> bool:
    """Decide on the logarithm; ``"auto"`` takes it for slow series (``defaults``) where every value is positive."""
    smallest = int(np.argmin(panel.values))
    if transform == "log" and panel.values[smallest] <= 0:
        refuse_nonpositive(panel)
    slow = season_length in defaults.LOG_SEASONS
    return transform == "log" or (transform == "auto" and slow and panel.values[smallest] > 0)
