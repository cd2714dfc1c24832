"""The rhythm of time stamps: what is one step, how long is one season, which stamps come next.

A frequency is a pandas offset (``"MS"``, ``"W-MON"``, ``"30min"``) or a whole number for integer time.
Stamps are handled as ``datetime64`` in UTC plus a zone name, so that calendar steps are made in local time (a day
across the change to summer time has 23 hours, and still is one step).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from tsforecast.exceptions import DataError

# Steps in one season by the head of the offset's name; minutes are worked out below.
SEASONS = {
    "YS": 1, "YE": 1, "BYS": 1, "BYE": 1, "QS": 4, "QE": 4, "BQS": 4, "BQE": 4, "MS": 12, "ME": 12, "BMS": 12,
    "BME": 12, "SMS": 24, "SME": 24, "W": 52, "D": 7, "B": 5, "C": 5, "h": 24, "s": 60,
}  # fmt: skip
_SECONDS = {"W": 604800, "D": 86400, "h": 3600, "min": 60, "s": 1}


@dataclass(frozen=True)
class Frequency:
    """One step of time. ``text`` is a pandas offset alias, or the step as digits when ``is_integer``."""

    text: str
    is_integer: bool = False

    @cached_property
    def offset(self) -> Any:
        """The step itself: a pandas offset or a number."""
        return int(self.text) if self.is_integer else pd.tseries.frequencies.to_offset(self.text)

    def season_length(self) -> int:
        """Return the steps in the season that people expect of this frequency; 1 where there is none.

        It is 1 for years and integer time, 12 months, 4 quarters, 52 weeks, 7 days, 5 business days, 24 hours; for
        minutes a day if the step is 5 minutes or more, else an hour. A step of several units divides it
        (``"2MS"``: 6); what is as long as another unit has its season (``"24h"``: 7, ``"7D"``: 52).
        """
        if self.is_integer:
            return 1
        n = abs(self.offset.n)
        head = re.sub(r"^\d+", "", self.offset.freqstr).split("-")[0]
        if head in _SECONDS:
            seconds = n * _SECONDS[head]
            head, n = next((name, seconds // size) for name, size in _SECONDS.items() if seconds % size == 0)
        if head == "min":
            n, season = 1, (1440 // n if n >= 5 and 1440 % n == 0 else 60 // n if 60 % n == 0 else 1)
        else:
            season = SEASONS.get(head, 1)
        return season // n if season % n == 0 else 1

    def range(self, start, periods: int, tz: str | None) -> np.ndarray:
        """``periods`` stamps from ``start`` (included) on, in the unit of ``start``.

        Raises ``DataError`` where a stamp would lie outside what the unit can hold.
        """
        if self.is_integer:
            stop = int(start) + self.offset * periods
            if abs(stop) > np.iinfo(np.int64).max:
                raise DataError(
                    f"integer time runs over after {int(start)} (step {self.text}); count from a smaller number"
                )
            return int(start) + self.offset * np.arange(periods, dtype=np.int64)
        unit: Any = np.datetime_data(start.dtype)[0]
        index = self._date_range(start, tz, periods=periods)
        return index.as_unit(unit).to_numpy()

    def _date_range(self, start, tz, *, end=None, periods=None) -> pd.DatetimeIndex:
        """``pd.date_range`` in local time, the stamps back in UTC."""
        zone = (lambda t: t) if tz is None else (lambda t: t.tz_localize("UTC").tz_convert(tz))
        first = zone(pd.Timestamp(start))
        last: Any = None if end is None else zone(pd.Timestamp(end))
        try:
            index = pd.date_range(first, last, periods, self.offset)
        except Exception as err:
            # Local times that a change of the clocks skips or repeats; before pandas 3 the errors are those of pytz.
            if tz is not None and re.search(r"nonexistent|dst|repeated|ambiguous", f"{type(err).__name__} {err}", re.I):
                raise DataError(
                    f"steps of {self.text!r} after {first} meet a local time that {tz} skips or repeats when the "
                    "clocks change; days and longer steps are counted without a zone: drop it (in pandas: "
                    "df['ds'].dt.tz_localize(None); in CSV: write dates without time and offset)"
                ) from err
            if not isinstance(err, (pd.errors.OutOfBoundsDatetime, OverflowError, ValueError)):
                raise
            raise DataError(f"no time stamps of frequency {self.text!r} after {first}: {err}") from err
        return index if tz is None else index.tz_convert("UTC").tz_localize(None)

    def future(self, last, h: int, tz: str | None) -> np.ndarray:
        """Return the ``h`` stamps after ``last`` (which lies on the frequency)."""
        return self.range(last, h + 1, tz)[1:]

    def breaks(self, times: np.ndarray, indptr: np.ndarray, tz: str | None) -> np.ndarray:
        """Find the rows ``j`` where ``times[j]`` is not one step after ``times[j-1]`` of the same series.

        The first row of a series is among them where it does not lie on the frequency.
        """
        inner = np.ones(len(times), bool)
        inner[indptr[:-1]] = False
        step = self._fixed_step(tz)
        if step is not None:
            bad = np.zeros(len(times), bool)
            bad[1:] = times[1:] - times[:-1] != step
            return np.flatnonzero(bad & inner)
        late = []
        for s in self._off_grid(times, indptr, tz, inner):
            own = times[indptr[s] : indptr[s + 1]]
            wrong = np.flatnonzero(self.range(own[0], len(own), tz) != own)
            late += [indptr[s] + wrong[0]] if len(wrong) else []
        return np.array(late, dtype=np.int64)

    def _off_grid(self, times, indptr, tz, inner) -> np.ndarray:
        """Find the series that do not follow one common grid of stamps; they may still have a grid of their own.

        One grid for all is much faster than one a series, unless it is far longer than the data.
        """
        everyone = np.arange(len(indptr) - 1)
        first, last = times.min(), times.max()
        step = np.diff(self.range(first, 3, tz))[-1]
        if (last - first) / step > 10 * len(times) + 1000:
            return everyone
        unit: Any = np.datetime_data(times.dtype)[0]
        grid = self._date_range(first, tz, end=last).as_unit(unit).to_numpy()
        if not len(grid):
            return everyone
        where = np.searchsorted(grid, times)
        hit = grid[np.minimum(where, len(grid) - 1)] == times
        follows = np.zeros(len(times), bool)
        follows[1:] = where[1:] - where[:-1] == 1
        suspects = np.flatnonzero(~hit | (inner & ~follows))
        return np.unique(np.searchsorted(indptr, suspects, side="right") - 1)

    def _fixed_step(self, tz):
        """Return the step as a number or timedelta where every step is the same length, else None."""
        if self.is_integer:
            return self.offset
        if isinstance(self.offset, pd.offsets.Day):
            return np.timedelta64(self.offset.n, "D") if tz is None else None
        if isinstance(self.offset, pd.offsets.Tick):
            return pd.Timedelta(self.offset).to_timedelta64()
        return None
