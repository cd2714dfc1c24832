"""Windows over a series: which rows they start at, and views of what they hold. Nothing is copied.

Letters: n rows, N windows, T steps (``n_timesteps``), F columns, h ``horizon``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from tsforecast.exceptions import DataError, NotEnoughHistoryError

_NUMERIC = "fiub"


def sliding_windows(
    values: Any,
    n_timesteps: int,
    horizon: int = 1,
    stride: int = 1,
    *,
    target: int | str | None = None,
    groups: ArrayLike | None = None,
) -> tuple[NDArray, NDArray]:
    """Cut a series into windows ``X`` and the values ``y`` that follow each of them.

    Window i holds rows ``i*stride ... i*stride + T-1``; its targets are the next ``horizon`` rows.

    Parameters
    ----------
    values : array-like of shape (n,) or (n, F), Series or DataFrame (pandas or polars)
        Rows in time order. Any numeric dtype; NaN passes through, and missing values of nullable dtypes become NaN.
    n_timesteps : int
        Steps of a window T.
    horizon : int, default=1
        Steps to forecast.
    stride : int, default=1
        Rows from the start of one window to that of the next.
    target : int or str, default=None
        Column to forecast: a name (frames) or a position. Default: the first.
    groups : array-like of shape (n,), default=None
        Series of each row, rows of one series side by side. Windows stay within a series; the stride starts anew in
        each.

    Returns
    -------
    X : ndarray of shape (N, T) for 1-D values, else (N, T, F)
    y : ndarray of shape (N,) if ``horizon`` is 1, else (N, horizon)
        Both are read-only views of ``values``, in its dtype (a frame of several dtypes is first brought to one). With
        more than one group they are copies.

    Raises
    ------
    NotEnoughHistoryError
        If the series, or one of the groups, is shorter than ``n_timesteps + horizon``.
    DataError
        If a column is not numeric, the target does not exist or the rows of a group are scattered.

    Examples
    --------
    >>> import numpy as np
    >>> X, y = sliding_windows(np.arange(6.0), 3)
    >>> X
    array([[0., 1., 2.],
           [1., 2., 3.],
           [2., 3., 4.]])
    >>> y
    array([3., 4., 5.])
    """
    array, names = as_numeric(values)
    column = 0 if target is None else _column_position(target, names, 1 if array.ndim == 1 else array.shape[1])
    starts = window_starts(len(array), n_timesteps, horizon, stride, groups=groups)
    y_source = array if array.ndim == 1 else array[:, column]
    X = sliding_window_view(array, n_timesteps, axis=0)
    if array.ndim == 2:
        X = X.transpose(0, 2, 1)
    y = sliding_window_view(y_source, horizon)[n_timesteps:]
    # A regular grid of starts is a slice, which keeps the view; starts of several groups are gathered.
    regular = len(starts) == 1 or bool((np.diff(starts) == stride).all())
    rows = slice(starts[0], starts[-1] + 1, stride) if regular else starts
    return X[rows], y[rows, 0] if horizon == 1 else y[rows]


def window_starts(
    n_rows: int, n_timesteps: int, horizon: int = 1, stride: int = 1, *, groups: ArrayLike | None = None
) -> NDArray[np.int64]:
    """First rows of all windows of ``n_timesteps`` rows that have ``horizon`` rows after them.

    Parameters
    ----------
    n_rows : int
        Rows of the series.
    n_timesteps, horizon, stride, groups
        As in :func:`sliding_windows`.

    Returns
    -------
    starts : ndarray of shape (N,), int64

    Raises
    ------
    NotEnoughHistoryError, DataError
        As in :func:`sliding_windows`.
    """
    for name, number in (("n_timesteps", n_timesteps), ("horizon", horizon), ("stride", stride)):
        if not isinstance(number, (int, np.integer)) or isinstance(number, bool) or number < 1:
            raise DataError(f"{name} must be a positive integer, got {number!r}")
    need = n_timesteps + horizon
    if groups is None:
        if n_rows < need:
            raise NotEnoughHistoryError(_too_short("the series", n_rows, n_timesteps, horizon))
        return np.arange(0, n_rows - need + 1, stride, dtype=np.int64)
    labels, bounds = _group_bounds(np.asarray(groups), n_rows)
    for label, (first, end) in zip(labels.tolist(), pairwise(bounds.tolist()), strict=True):
        if end - first < need:
            raise NotEnoughHistoryError(_too_short(f"series {label!r}", end - first, n_timesteps, horizon))
    pieces = [np.arange(a, b - need + 1, stride, dtype=np.int64) for a, b in pairwise(bounds.tolist())]
    return np.concatenate(pieces)


def as_numeric(values: Any) -> tuple[NDArray, list[str] | None]:
    """Return ``values`` as a 1-D or 2-D numeric array, a view where that is possible, and its column names."""
    columns = getattr(values, "columns", None)
    names = None if columns is None else [str(c) for c in columns]
    array = values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)
    if array.ndim not in (1, 2):
        raise DataError(f"values have shape {array.shape}; expected (rows,) or (rows, columns)")
    if array.dtype.kind not in _NUMERIC:
        array = _convert(values, names, array.dtype)
    return array, names


def _convert(values, names, dtype) -> NDArray:
    """Bring frames and series of nullable or mixed numeric dtypes to one dtype; ``DataError`` names what is none."""
    if names is None:
        array = _column_array(values)
        if array.dtype.kind not in _NUMERIC:
            raise DataError(f"values are of dtype {dtype}, not numeric; convert them to float first")
        return array
    arrays = []
    for position, name in enumerate(names):
        column = values.iloc[:, position] if hasattr(values, "iloc") else values[name]
        arrays.append(_column_array(column))
        if arrays[-1].dtype.kind not in _NUMERIC:
            raise DataError(
                f"column {name!r} is of dtype {column.dtype}, not numeric; "
                f"convert it (for example with astype(float)) or leave it out"
            )
    return np.column_stack(arrays)


def _column_array(column) -> NDArray:
    """One column as an array, the missing values of a nullable numeric dtype as NaN."""
    array = column.to_numpy() if hasattr(column, "to_numpy") else np.asarray(column)
    nullable = not isinstance(column, np.ndarray) and array.dtype.kind not in _NUMERIC
    if nullable and getattr(getattr(column, "dtype", None), "kind", "O") in _NUMERIC:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return array


def _column_position(target: int | str, names: list[str] | None, n_columns: int) -> int:
    if isinstance(target, str):
        if names is None or target not in names:
            raise DataError(f"there is no column {target!r}; columns are {names if names is not None else 'unnamed'}")
        return names.index(target)
    if not -n_columns <= target < n_columns:
        raise DataError(f"target={target} is not a column position; there are {n_columns} columns")
    return int(target)


def _group_bounds(groups: NDArray, n_rows: int) -> tuple[NDArray, NDArray[np.int64]]:
    """Labels of the groups in order, and the row bounds ``[n_groups + 1]`` between them."""
    if groups.shape != (n_rows,):
        raise DataError(f"groups have shape {groups.shape}; expected one label a row, ({n_rows},)")
    if n_rows == 0:
        raise NotEnoughHistoryError("there are no rows")
    changes = np.flatnonzero(groups[1:] != groups[:-1]) + 1
    bounds = np.concatenate([[0], changes, [n_rows]]).astype(np.int64)
    labels = groups[bounds[:-1]]
    seen = set()
    for label in labels.tolist():
        if label in seen:
            raise DataError(f"rows of series {label!r} do not stand side by side; sort by series, then by time")
        seen.add(label)
    return labels, bounds


def _too_short(what: str, n_rows: int, n_timesteps: int, horizon: int) -> str:
    return (
        f"{what} has {n_rows} rows, but one window needs n_timesteps + horizon = {n_timesteps} + {horizon} = "
        f"{n_timesteps + horizon}; lower n_timesteps or horizon, or bring more history"
    )
