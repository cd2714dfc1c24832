"""Rolling-origin evaluation: forecasts from past cut-offs, and a table beside the seasonal naive forecast."""

from __future__ import annotations

import logging
from numbers import Integral

import narwhals as nw
import numpy as np
from sklearn.base import clone

from tsforecast import metrics
from tsforecast.data.panel import Panel
from tsforecast.exceptions import DataError, NotEnoughHistoryError
from tsforecast.forecasting.forecaster import check_levels

logger = logging.getLogger(__name__)


def cross_validate(forecaster, df, n_windows, h, step_size, refit, levels):
    """Do the work of ``Forecaster.cross_validation``; see there."""
    panel, parts, _ = _roll(forecaster, df, n_windows, h, step_size, refit, levels)
    return _frame(panel, parts)


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
    panel, parts, season = _roll(forecaster, df, n_windows, h, step_size, refit, levels)
    for train, actual, columns in parts:
        columns["SeasonalNaive"] = _seasonal_naive(train, len(actual.values) // len(panel), season)
    predictions = _frame(panel, parts)
    alias = next(iter(parts[0][2]))
    return _table(panel, parts[0][0], predictions, [alias, "SeasonalNaive"], season, levels), predictions


def _seasonal_naive(train, h, season):
    """Last season repeated, flat, h values a series; the last value where a series is shorter than a season."""
    lag = np.where(train.lengths >= season, season, 1)[:, None]
    rows = train.indptr[1:, None] - lag + np.arange(h) % lag
    return train.values[rows].ravel()


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
    """Forecast from each cut-off: the panel, a list of (train, actual, columns) in time order, and the season."""
    forecaster._validate_params()
    h = forecaster._check_h(h)
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
    model = clone(forecaster).set_params(calibrate=bool(levels))
    parts = []
    for i in range(n_windows):
        drop = first_drop - i * step_size
        train = panel.head(drop)
        logger.info("cut-off %d of %d: %d rows before the end of each series", i + 1, n_windows, drop)
        if i == 0 or (refit and i % int(refit) == 0):
            model._fit_panel(train)
        else:
            model._state = model._state.append(_rows_between(panel, drop + step_size, drop))
        columns = model._state.columns(h, levels)
        parts.append((train, _rows_between(panel, drop, drop - h), columns))
    return panel, parts, model.season_length_


def _rows_between(panel: Panel, first: int, last: int) -> Panel:
    """Rows from ``first`` before the end of each series up to ``last`` before it."""
    return panel.take_rows(panel.lengths - first, panel.lengths - last)


def _frame(panel, parts):
    """Put the parts into one frame, sorted by id, cut-off and time."""
    h = len(parts[0][1].values) // len(panel)
    shape = (len(panel), len(parts), h)
    cutoffs = np.stack([train.times[train.indptr[1:] - 1] for train, _, _ in parts], axis=1)
    columns = {"cutoff": np.repeat(cutoffs.ravel(), h)}
    columns[panel.columns.target] = _interleave([actual.values for _, actual, _ in parts], shape)
    for name in parts[0][2]:
        columns[name] = _interleave([values[name] for _, _, values in parts], shape)
    times = _interleave([actual.times for _, actual, _ in parts], shape)
    return panel.build_frame(np.repeat(panel.ids, shape[1] * h), times, columns)


def _interleave(flat, shape):
    """Flat ``[S*h]`` of each cut-off to one flat column ``[S*C*h]``."""
    s, _, h = shape
    return np.stack([a.reshape(s, h) for a in flat], axis=1).ravel()
