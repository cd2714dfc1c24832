"""Rolling-origin evaluation: forecasts from past cut-offs, and a table beside the seasonal naive forecast."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from numbers import Integral

import narwhals as nw
import numpy as np
from sklearn.base import clone

from tsforecast import metrics
from tsforecast.data.panel import Panel
from tsforecast.exceptions import DataError, NotEnoughHistoryError
from tsforecast.forecasting.arguments import check_h, check_levels

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Rolled:
    """Forecasts from C past cut-offs of each of S series, h steps each.

    ``ends [S, C]`` is the row of ``panel`` after each cut-off, ``columns`` holds ``[S, C, h]`` a name.
    """

    panel: Panel
    ends: np.ndarray
    columns: dict[str, np.ndarray]
    season: int

    @property
    def rows(self) -> np.ndarray:
        """Rows of ``panel`` that were forecast [S, C, h]."""
        h = next(iter(self.columns.values())).shape[2]
        return self.ends[:, :, None] + np.arange(h)

    def frame(self):
        """Return one frame, sorted by id, cut-off and time."""
        panel, rows = self.panel, self.rows
        columns = {
            "cutoff": np.repeat(panel.times[self.ends - 1].ravel(), rows.shape[2]),
            panel.columns.target: panel.values[rows].ravel(),
            **{name: values.ravel() for name, values in self.columns.items()},
        }
        ids = np.repeat(panel.ids, rows.shape[1] * rows.shape[2])
        return panel.build_frame(ids, panel.times[rows].ravel(), columns)

    def seasonal_naive(self) -> np.ndarray:
        """Last season repeated [S, C, h]; the last value where a series is shorter than a season."""
        lengths = self.ends - self.panel.indptr[:-1, None]
        lag = np.where(lengths >= self.season, self.season, 1)[:, :, None]
        steps = np.arange(self.rows.shape[2])
        return self.panel.values[self.ends[:, :, None] - lag + steps % lag]


def cross_validate(forecaster, df, n_windows, h, step_size, refit, levels):
    """Do the work of ``Forecaster.cross_validation``; see there."""
    return _roll(forecaster, df, n_windows, h, step_size, refit, levels).frame()


def backtest(forecaster, df, n_windows=1, h=None, step_size=None, refit=True, level=None):
    """Cross-validate and score beside the seasonal naive forecast.

    Parameters
    ----------
    forecaster : Forecaster
        Copies of it are fitted.
    df, n_windows, h, step_size, refit, level
        As for ``Forecaster.cross_validation``.

    Returns
    -------
    table : DataFrame
        One row a model: ``model, MAE, sMAPE, MASE`` and, for each level, ``coverage-<level>`` (a share), means over
        series. MASE counts in the mean seasonal difference of the rows before the first cut-off; series where that is 0
        are left out of it.
    predictions : DataFrame
        What ``cross_validation`` returns, with the column ``SeasonalNaive``.
    """
    levels = check_levels(level)
    rolled = _roll(forecaster, df, n_windows, h, step_size, refit, levels)
    alias = next(iter(rolled.columns))
    rolled.columns["SeasonalNaive"] = rolled.seasonal_naive()
    predictions, panel = rolled.frame(), rolled.panel
    first = panel.take_rows(np.zeros(len(panel), np.int64), rolled.ends[:, 0] - panel.indptr[:-1])
    return _table(panel, first, predictions, [alias, "SeasonalNaive"], rolled.season, levels), predictions


def _table(panel, train, predictions, names, season, levels):
    """Score each column; one row a model."""
    own = {"id_col": panel.columns.id, "target_col": panel.columns.target}
    before = train.build_frame(np.repeat(train.ids, train.lengths), train.times, {panel.columns.target: train.values})
    scores = {
        "MAE": metrics.mae(predictions, names, **own),
        "sMAPE": metrics.smape(predictions, names, **own),
        "MASE": metrics.mase(predictions, names, season, before, time_col=panel.columns.time, **own),
    }
    columns: dict[str, np.ndarray] = {"model": np.array(names, dtype=object)}
    for label, score in scores.items():
        frame = nw.from_native(score, eager_only=True)
        columns[label] = np.array([_mean_of_known(frame[name].to_numpy()) for name in names])
    for level in levels:
        frame = nw.from_native(metrics.coverage(predictions, names[:1], level, **own), eager_only=True)
        columns[f"coverage-{level:g}"] = np.array([_mean_of_known(frame[names[0]].to_numpy()), np.nan])
    return panel.kind.build(columns, "", "", None)


def _mean_of_known(values):
    known = values[~np.isnan(values)]
    return known.mean() if len(known) else np.nan


def _roll(forecaster, df, n_windows, h, step_size, refit, levels):
    """Forecast from each cut-off; the model of a cut-off without a fit of its own is that of the last one before."""
    forecaster._validate_params()
    h = check_h(h, forecaster.horizon)
    step_size = h if step_size is None else step_size
    for name, value in (("n_windows", n_windows), ("step_size", step_size), ("refit", refit)):
        if not isinstance(value, Integral) or (value < 1 and name != "refit") or value < 0:
            raise DataError(f"{name}={value!r} must be a whole number of 1 or more")
    panel = forecaster._read(df, forecaster.freq)
    first_drop = h + (n_windows - 1) * step_size
    short = np.flatnonzero(panel.lengths <= first_drop)
    if len(short):
        raise NotEnoughHistoryError(
            f"series {panel.ids[short[0]]!r} has {panel.lengths[short[0]]} rows, and {n_windows} windows of {h} steps "
            f"leave none before the first cut-off ({len(short)} such series); leave them out or ask for fewer windows"
        )
    drops = first_drop - np.arange(n_windows) * (step_size if n_windows > 1 else 0)
    every = int(refit) or n_windows
    model = clone(forecaster).set_params(calibrate=bool(levels))
    parts = []
    for i in range(0, n_windows, every):
        group = drops[i : i + every]  # cut-offs of one model: all their forecasts in one pass
        logger.info("cut-off %d of %d: %d rows before the end of each series", i + 1, n_windows, group[0])
        model._fit_panel(panel.head(group[0]))
        parts.append(model._state.columns_from(panel.head(group[-1]), group - group[-1], h, levels))
    columns = {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}
    return _Rolled(panel, panel.indptr[1:, None] - drops, columns, model.season_length_)
