"""Order, duplicates and gaps of the rows of a long frame; every refusal names the series, the stamp and what to do."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tsforecast.data.frequency import Frequency
from tsforecast.data.frequency_names import infer_frequency, local_times, parse_frequency
from tsforecast.exceptions import DataError


def stamp(time, tz: str | None) -> str:
    """Write a stamp as people do: local time, the date alone where there is no time of day."""
    if isinstance(time, (int, np.integer)):
        return f"time {int(time)}"
    local = local_times(np.array([time]), tz)[0]
    return str(local.date()) if tz is None and local == local.normalize() else str(local)


def id_order(names: list) -> list[int]:
    """Positions that sort ids: numbers by value, the rest by text; never by where they stood."""
    if all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in names):
        return sorted(range(len(names)), key=lambda i: int(names[i]))
    return sorted(range(len(names)), key=lambda i: (str(names[i]), type(names[i]).__name__))


def id_type(name) -> type:
    """Return the kind of an id; NumPy's numbers are of the kind of Python's."""
    kinds = ((bool, (bool, np.bool_)), (int, (int, np.integer)), (float, (float, np.floating)), (str, str))
    return next((kind for kind, types in kinds if isinstance(name, types)), type(name))


def sorted_rows(ids: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers sorted by id, then time, and where each series starts.

    ``DataError`` where ids of several types count as equal, as 1, 1.0 and True do.
    """
    try:
        codes, names = pd.factorize(ids)
    except TypeError as err:
        raise DataError(f"the ids hold something that cannot be compared: {err}") from err
    if len(set(map(type, ids))) > 1:
        for row, first in enumerate(names[codes]):
            if id_type(ids[row]) is not id_type(first):
                raise DataError(
                    f"the ids hold {first!r} ({id_type(first).__name__}) and {ids[row]!r} "
                    f"({id_type(ids[row]).__name__}, row {row}), which count as equal; give all ids one type, e.g. "
                    "with .astype(str)"
                )
    rank = np.empty(len(names), np.int64)
    rank[id_order(list(names))] = np.arange(len(names))
    rows = np.lexsort((times, rank[codes]))
    return rows, np.concatenate([[0], np.cumsum(np.bincount(rank[codes], minlength=len(names)))]).astype(np.int64)


def refuse_duplicates(ids, times, indptr, tz, time_col, one_series) -> None:
    """Raise ``DataError`` at the first stamp that a series has twice (rows sorted by series and time)."""
    same = np.zeros(len(times), bool)
    same[1:] = times[1:] == times[:-1]
    same[indptr[:-1]] = False
    if same.any():
        row = int(np.flatnonzero(same)[0])
        s = int(np.searchsorted(indptr, row, side="right")) - 1
        hint = (
            " If the frame holds several series, name the column that tells them apart with id_col."
            if one_series
            else ""
        )
        if times.dtype.kind == "M" and tz is None and _is_night(times[row]) and not _all_midnight(times):
            hint += (
                " If the clocks went back that night, write the stamps with their UTC offset, e.g. "
                f"{str(times[row])[:16]}+02:00 and +01:00, or give the column its zone."
            )
        raise DataError(
            f"series {ids[s]!r} has more than one row at {stamp(times[row], tz)} ({int(same.sum())} repeated rows "
            f"in all); keep one row a stamp, e.g. df.drop_duplicates([id, {time_col!r}]) or an aggregate.{hint}"
        )


def checked_frequency(freq, ids, times, indptr, tz) -> Frequency:
    """Return the frequency given or inferred, after every series was checked against it."""
    if freq is None:
        step, model = infer_frequency(times, indptr, tz)
        if step is None:
            longest = int(np.argmax(np.diff(indptr)))
            raise DataError(
                f"the frequency cannot be told from the stamps (longest series: {ids[longest]!r}, "
                f"{int(np.diff(indptr)[longest])} rows); pass freq, e.g. 'MS' for months or 1 for integer time, "
                f"and fill gaps{_hint(times[indptr[longest] : indptr[longest + 1]], tz)}"
            )
        origin = f"{step.text!r} (inferred from series {ids[model]!r})"
    else:
        step = parse_frequency(freq, times, tz)
        origin = repr(step.text)
    broken = step.breaks(times, indptr, tz)
    if not len(broken):
        return step
    row = int(broken[0])
    s = int(np.searchsorted(indptr, row, side="right")) - 1
    own = times[indptr[s] : indptr[s + 1]]
    found, _ = infer_frequency(own, np.array([0, len(own)]), tz)
    if found is not None and found != step:
        hint = f"; its own stamps look like freq={found.text!r}"
        hint += " (all series need the same)" if freq is None else ""
    else:
        hint = _hint(own, tz, row - int(indptr[s]))
    if row == indptr[s]:
        raise DataError(f"series {ids[s]!r}: {stamp(times[row], tz)} does not lie on freq {origin}{hint}")
    raise DataError(
        f"series {ids[s]!r} has a gap or an irregular step: {stamp(times[row - 1], tz)} is followed by "
        f"{stamp(times[row], tz)}, which is not one step of {origin}; add the missing rows (and fill their "
        f"values), or pass the right freq{hint}"
    )


def _is_night(time) -> bool:
    return pd.Timestamp(time).hour < 4


def _all_midnight(times) -> bool:
    return bool((times == times.astype("M8[D]")).all())


def _hint(own: np.ndarray, tz: str | None, row: int | None = None) -> str:
    """Guess why the stamps of a series are irregular (``row``: the first after a wrong step); "" where nothing fits."""
    if own.dtype.kind == "i":
        for digits, pattern in ((6, "2015-12-01"), (8, "2015-12-31")):
            if _look_like_dates(own, digits):
                return f". They look like {'YYYYMMDD'[:digits]}, not like a running number: write dates, {pattern}"
        return ""
    local = local_times(own, tz)
    months = np.diff((local.year * 12 + local.month).to_numpy())
    if len(months) > 1 and months[0] > 0 and (months == months[0]).all():
        return (
            ". They are months, but not of one day each: write the first of the month (in pandas: "
            "df['ds'].dt.to_period('M').dt.to_timestamp())"
        )
    if row is not None and tz is None and _is_night(own[row]) and not _all_midnight(own):
        usual = np.median(np.diff(own).astype(np.int64)).astype(own.dtype.str.replace("M8", "m8"))
        hour = np.timedelta64(1, "h")
        if usual <= hour and own[row] - own[row - 1] == usual + hour:
            return (
                ". If the clocks went forward that night, write the stamps with their UTC offset, e.g. "
                f"{str(own[row])[:16]}+02:00, or give the column its zone"
            )
    return ""


def _look_like_dates(numbers: np.ndarray, digits: int) -> bool:
    """Tell whether whole numbers can all be read as YYYYMM (6 digits) or YYYYMMDD (8) of 1800 to 2199."""
    months = numbers if digits == 6 else numbers // 100
    days = np.ones_like(numbers) if digits == 6 else numbers % 100
    possible = (months // 100 >= 1800) & (months // 100 < 2200) & (months % 100 >= 1) & (months % 100 <= 12)
    return bool((possible & (days >= 1) & (days <= 31)).all())
