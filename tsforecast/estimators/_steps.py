"""The step of a pandas index that is in time order: which label comes next, and where one is missing.

A regular index has one distance between all labels, or one calendar rule (months, quarters, weekdays). It has a hole
where more than half of the distances are equal and the others are multiples of that one. Anything else is irregular:
nothing says what is missing. Days that leave out weekends are judged by weekdays, and gaps of up to ``_HOLIDAYS`` of
these count as holidays.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from tsforecast.exceptions import DataError

_HOLIDAYS = 10  # weekdays without a row; no market closes for longer
_DAY, _HOUR = np.timedelta64(1, "D"), np.timedelta64(1, "h")


def next_labels(index: Any) -> list:
    """Labels that the row after a regular index may have, the likeliest first; none if it is irregular.

    ``DataError`` names a hole.
    """
    if len(index) < 3:
        return []
    if index.dtype.kind == "M":
        return _next_stamps(index)
    ticks = _ticks(index)
    if ticks is None:
        return []
    row = _usual_row(ticks)
    if row is None:
        return []
    _refuse_hole(index, _hole(ticks))
    return [index[-1] + (index[row + 1] - index[row])]


def is_same(label: Any, expected: Any, last: Any) -> bool:
    """Whether a label is the expected one; floats may be off by a thousandth of the step from ``last``."""
    if isinstance(expected, (float, np.floating)):
        return bool(abs(label - expected) <= 1e-3 * abs(expected - last))
    return bool(label == expected)


def _ticks(index) -> np.ndarray | None:
    """Labels as whole numbers in the order of time; None for floats off a grid."""
    if index.dtype.kind in "iu":
        return index.to_numpy().astype(np.int64)
    if index.dtype.kind != "f":
        return np.asarray(index.astype("int64"))
    values = index.to_numpy().astype(np.float64)
    steps = (values - values[0]) / np.median(np.diff(values))
    whole = np.rint(steps)
    on_grid = np.abs(steps - whole).max() <= 1e-3 and np.diff(whole).min() >= 1
    return whole.astype(np.int64) if on_grid else None


def _usual_row(ticks: np.ndarray) -> int | None:
    """First row whose distance to the next is that of most rows, all distances being multiples of it; else None."""
    gaps = np.diff(ticks)
    sizes, first, counts = np.unique(gaps, return_index=True, return_counts=True)
    most = counts.argmax()
    if 2 * counts[most] <= len(gaps) or (gaps % sizes[most]).any():
        return None
    return int(first[most])


def _hole(ticks: np.ndarray) -> int | None:
    """Row before the first missing label; None if labels are regular or irregular."""
    usual = _usual_row(ticks)
    if usual is None:
        return None
    gaps = np.diff(ticks)
    holes = np.flatnonzero(gaps != gaps[usual])
    return int(holes[0]) if len(holes) else None


def _refuse_hole(index, row: int | None) -> None:
    if row is not None:
        raise DataError(
            f"rows are missing between {index[row]} and {index[row + 1]}, and windows would run across the gap. Add "
            "them (X.reindex, then fill), or take the rows after the gap only (KFold leaves gaps, TimeSeriesSplit does "
            "not); if the series has no rows there by its nature, X.reset_index(drop=True) makes rows its clock"
        )


def _next_stamps(index) -> list:
    """Time stamps with a zone are looked at in UTC and on the clock on the wall, where days have 23 to 25 hours."""
    zone = index.tz
    if zone is None:
        found, views = _next_naive(index), [index]
    else:
        absolute, wall = index.tz_convert("UTC").tz_localize(None), index.tz_localize(None)
        found, views = [], [absolute]
        gaps = np.diff(wall.to_numpy())
        # Equal steps of an hour or less on the wall may hide an hour that is left out.
        if gaps.min() > _HOUR:
            views.append(wall)
        if gaps.min() > _HOUR or (gaps != gaps[0]).any():
            for stamp in _next_naive(wall):  # twice, as the clock may show it twice
                found += [stamp.tz_localize(zone, ambiguous=dst, nonexistent="shift_forward") for dst in (False, True)]
        found += [stamp.tz_localize("UTC").tz_convert(zone) for stamp in _next_naive(absolute)]
    if not found:
        _refuse_hole(index, _hole_among_stamps(views))
    return found


def _next_naive(index) -> list:
    """Time stamps that may follow a regular index without zone: one, or two where it is too short to tell; or none."""
    import pandas as pd

    gaps, last = np.diff(index.to_numpy()), index[-1]
    months = _month_ticks(index)
    steps = [] if months is None else np.unique(np.diff(months)).tolist()
    on_same_day = [last + pd.DateOffset(months=steps[0])] if len(steps) == 1 and (index.day == last.day).all() else []
    if (gaps == gaps[0]).all():
        friday = gaps[0] == _DAY and last.day_of_week == 4 and len(index) <= 5
        return [last + gaps[0], *on_same_day, *([last + 3 * _DAY] if friday else [])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas 3.1 announces that the result will become an offset
        freq = pd.infer_freq(index)
    return on_same_day if freq is None else [last + pd.tseries.frequencies.to_offset(freq)]


def _hole_among_stamps(views: list) -> int | None:
    """Row before the first missing time stamp of irregular ones, which ``views`` hold without zone; None without."""
    for view in views:
        days = view.to_numpy().astype("datetime64[D]")
        if _leaves_out_weekends(view):
            long = np.flatnonzero(np.busday_count(days[:-1], days[1:]) > _HOLIDAYS + 1)
            return int(long[0]) if len(long) else None
    for view in views:
        months = _month_ticks(view)
        row = _hole(view.to_numpy().astype(np.int64) if months is None else months)
        if row is not None:
            return row
    return None


def _leaves_out_weekends(index) -> bool:
    """One stamp a day at most, always at the same time, and none on a weekend although there was one."""
    stamps = index.to_numpy()
    gaps = np.diff(stamps)
    daily = gaps.min() == _DAY and not (gaps % _DAY).astype(np.int64).any()
    return bool(daily and (index.day_of_week < 5).all() and stamps[-1] - stamps[0] > 4 * _DAY)


def _month_ticks(index) -> np.ndarray | None:
    """Count months if all stamps stand at one day, or at the first or last day or weekday, of their month."""
    import pandas as pd

    if np.diff(index.to_numpy()).min() < 27 * _DAY:
        return None
    offsets = pd.tseries.offsets
    rules = (offsets.MonthBegin(), offsets.MonthEnd(), offsets.BMonthBegin(), offsets.BMonthEnd())
    same_day = (index.day == index.day[0]).all()
    if not same_day and not any(all(rule.is_on_offset(stamp) for stamp in index) for rule in rules):
        return None
    return np.asarray(index.year * 12 + index.month, dtype=np.int64)
