"""Accuracy of forecasts, one row a series.

Every function takes a long frame (pandas or polars) with an id column, the actual values ``y`` and one column a model,
as `Forecaster.cross_validation` returns it, and gives a frame of the same library with one row a series, in order of
first appearance, and one column a model. Rows where ``y`` is missing are not scored, an infinite ``y`` is refused, and
a missing forecast makes the score of its series missing. The score of a whole set is the mean of a model's column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tsforecast._scores import Array, actuals, floats, group_mean, model_names, score, series_codes, table
from tsforecast.data.frames import open_frame
from tsforecast.exceptions import DataError

__all__ = ["coverage", "mae", "mase", "pinball", "rmse", "smape"]


def mae(df: Any, models: str | Sequence[str], *, id_col: str = "unique_id", target_col: str = "y") -> Any:
    """Mean absolute error, in the units of ``y``.

    Parameters
    ----------
    df : DataFrame
        Long frame with the columns ``id_col``, ``target_col`` and ``models``.
    models : str or sequence of str
        Columns that hold forecasts; a name alone is one model.
    id_col, target_col : str
        Names of the columns with the series and the actual values.

    Returns
    -------
    DataFrame
        Columns ``id_col`` and ``models``.

    Raises
    ------
    DataError
        A column is missing or not numeric, or ``y`` is infinite.
    """
    return score(df, models, id_col, target_col, lambda y, f: np.abs(y - f))


def rmse(df: Any, models: str | Sequence[str], *, id_col: str = "unique_id", target_col: str = "y") -> Any:
    """Root of the mean squared error, in the units of ``y``.

    Parameters
    ----------
    df, models, id_col, target_col
        As in `mae`.

    Returns
    -------
    DataFrame
        Columns ``id_col`` and ``models``.
    """
    return score(df, models, id_col, target_col, lambda y, f: (y - f) ** 2, finish=np.sqrt)


def smape(df: Any, models: str | Sequence[str], *, id_col: str = "unique_id", target_col: str = "y") -> Any:
    """Symmetric mean absolute percentage error as in the M4 competition, in percent from 0 to 200.

    The mean of ``200 |y - f| / (|y| + |f|)``, which is 0 where both are 0.

    Parameters
    ----------
    df, models, id_col, target_col
        As in `mae`.

    Returns
    -------
    DataFrame
        Columns ``id_col`` and ``models``.

    References
    ----------
    S. Makridakis, E. Spiliotis, V. Assimakopoulos, "The M4 Competition: 100,000 time series and 61 forecasting
    methods", International Journal of Forecasting 36(1), 2020, 54-74.
    """

    def error(y: Array, f: Array) -> Array:
        size = np.abs(y) + np.abs(f)
        return 200 * np.abs(y - f) / np.where(size == 0, 1, size)

    return score(df, models, id_col, target_col, error)


def mase(
    df: Any,
    models: str | Sequence[str],
    seasonality: int,
    train_df: Any,
    *,
    id_col: str = "unique_id",
    time_col: str = "ds",
    target_col: str = "y",
) -> Any:
    """Mean absolute scaled error: the mean absolute error in units of the training data's seasonal differences.

    The scale of a series is the mean of ``|y_t - y_(t-m)|`` over its training rows. Pairs with a missing value do not
    count. The score is missing (NaN) where that scale is 0 or cannot be formed.

    Parameters
    ----------
    df, models, id_col, target_col
        As in `mae`.
    seasonality : int
        Season length m in steps, at least 1.
    train_df : DataFrame
        Training rows (``id_col``, ``time_col``, ``target_col``) of every series of ``df``, in any order.
    time_col : str
        Name of the column of ``train_df`` that puts its rows in order.

    Returns
    -------
    DataFrame
        Columns ``id_col`` and ``models``.

    Raises
    ------
    DataError
        A column is missing or not numeric, ``y`` is infinite, ``seasonality`` is no positive integer, or a series of
        ``df`` has no training rows.

    References
    ----------
    R. J. Hyndman, A. B. Koehler, "Another look at measures of forecast accuracy", International Journal of Forecasting
    22(4), 2006, 679-688.
    """
    if not isinstance(seasonality, (int, np.integer)) or isinstance(seasonality, bool) or seasonality < 1:
        raise DataError(f"seasonality={seasonality!r}; it must be an integer of at least 1 (steps in a season)")
    train = open_frame(train_df, [id_col, time_col, target_col]).sort(id_col, time_col)
    ids, y = train[id_col].to_numpy(), actuals(train, id_col, target_col, "train_df")
    codes, first = series_codes(ids)
    steps = np.abs(y[seasonality:] - y[:-seasonality])
    known = (codes[seasonality:] == codes[:-seasonality]) & ~np.isnan(steps)
    scales = dict(zip(ids[first], group_mean(steps[known], codes[seasonality:][known], len(first)), strict=True))

    tested = open_frame(df, [id_col])[id_col].to_numpy()
    tested = tested[series_codes(tested)[1]]
    lost = [name for name in tested if name not in scales]
    if lost:
        raise DataError(f"series {lost[0]!r} has no row in train_df ({len(lost)} of {len(tested)} series have none)")
    scale = np.array([scales[name] for name in tested])
    scale[scale == 0] = np.nan
    return score(df, models, id_col, target_col, lambda y, f: np.abs(y - f), finish=lambda error: error / scale)


def pinball(df: Any, models: str | Sequence[str], q: float, *, id_col: str = "unique_id", target_col: str = "y") -> Any:
    """Mean pinball loss of forecasts of the quantile ``q``, in the units of ``y``: half the `mae` at ``q = 0.5``.

    Parameters
    ----------
    df, id_col, target_col
        As in `mae`.
    models : str or sequence of str
        Columns that hold forecasts of the quantile, e.g. ``"LSTM-lo-80"`` for ``q = 0.1``.
    q : float
        The quantile, between 0 and 1.

    Returns
    -------
    DataFrame
        Columns ``id_col`` and ``models``.
    """
    if not 0 < q < 1:
        raise DataError(f"q={q}; a quantile lies between 0 and 1")
    return score(df, models, id_col, target_col, lambda y, f: np.maximum(q * (y - f), (q - 1) * (y - f)))


def coverage(
    df: Any, models: str | Sequence[str], level: float, *, id_col: str = "unique_id", target_col: str = "y"
) -> Any:
    """Share of actual values inside the prediction interval, from 0 to 1, bounds included.

    Parameters
    ----------
    df, id_col, target_col
        As in `mae`.
    models : str or sequence of str
        Models whose interval columns ``<model>-lo-<level>`` and ``<model>-hi-<level>`` are in ``df``.
    level : float
        Nominal level in percent, e.g. 80.

    Returns
    -------
    DataFrame
        Columns ``id_col`` and ``models``.
    """
    models = model_names(models)
    bounds = [f"{model}-{side}-{level:g}" for model in models for side in ("lo", "hi")]
    frame = open_frame(df, [id_col, target_col, *bounds])
    y = actuals(frame, id_col, target_col)
    inside = {}
    for model in models:
        low, high = (floats(frame, f"{model}-{side}-{level:g}") for side in ("lo", "hi"))
        inside[model] = np.where(np.isnan(low) | np.isnan(high), np.nan, (low <= y) & (y <= high))
    return table(frame, id_col, inside, ~np.isnan(y))
