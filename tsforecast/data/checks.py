"""Order, duplicates and gaps of the rows of a long frame; every refusal names the series, the stamp and what to do."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tsforecast.data.frequency import Frequency, infer_frequency, local_times, parse_frequency
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


def sorted_rows(ids: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers sorted by id, then time, and where each series starts."""
    try:
        codes, names = pd.factorize(ids)
    except TypeError as err:
        raise DataError(f"the ids hold something that cannot be compared: {err}") from err
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
                "and fill gaps"
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
    if row == indptr[s]:
        found, _ = infer_frequency(times[indptr[s] : indptr[s + 1]], np.array([0, np.diff(indptr)[s]]), tz)
        hint = f"; its own stamps look like freq={found.text!r}" if found is not None else ""
        raise DataError(f"series {ids[s]!r}: {stamp(times[row], tz)} does not lie on freq {origin}{hint}")
    raise DataError(
        f"series {ids[s]!r} has a gap or an irregular step: {stamp(times[row - 1], tz)} is followed by "
        f"{stamp(times[row], tz)}, which is not one step of {origin}; add the missing rows (and fill their "
        "values), or pass the right freq"
    )
