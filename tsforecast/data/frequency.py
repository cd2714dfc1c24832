"""The rhythm of time stamps: what is one step, how long is one season, which stamps come next.

A frequency is a pandas offset (``"MS"``, ``"W-MON"``, ``"30min"``) or a whole number for integer time.
Stamps are handled as ``datetime64`` in UTC plus a zone name, so that calendar steps are made in local time (a day
across the change to summer time has 23 hours, and still is one step).
"""

from __future__ import annotations

import re
import warnings
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
# Old pandas names and polars names; "" means: start or end of the period, whichever the data show.
ALIASES = {"H": "h", "T": "min", "m": "min", "S": "s", "d": "D", "w": "W", "L": "ms", "U": "us", "N": "ns"}
PERIODS = {"M": "M", "mo": "M", "Q": "Q", "q": "Q", "Y": "Y", "A": "Y", "y": "Y"}
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")


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


def parse_frequency(freq: str | int | pd.offsets.BaseOffset, times: np.ndarray, tz: str | None) -> Frequency:
    """Read ``freq`` for data with these stamps.

    Parameters
    ----------
    freq : str, int or pandas offset
        A pandas alias (old names such as ``"M"`` and ``"H"`` too), a polars alias (``"1mo"``, ``"30m"``), or a positive
        whole number for integer time. Names that leave the anchor open (``"M"``, ``"Q"``, ``"W"``, ``"1mo"``) take
        it from the data: start or end of the period, and the weekday.
    times : ndarray
        Stamps of the data, ``datetime64`` in UTC or ``int64``.
    tz : str or None
        Their zone.

    Raises
    ------
    DataError
        Unknown name, or one that does not suit the kind of stamps.
    """
    integer_time = times.dtype.kind == "i"
    if isinstance(freq, (int, np.integer)) and not isinstance(freq, bool):
        if not integer_time:
            raise DataError(
                f"freq={freq} is for integer time, but the time column holds dates; use an alias such as 'D' or 'MS'"
            )
        if freq < 1:
            raise DataError(f"freq={freq} must be 1 or more")
        return Frequency(str(int(freq)), is_integer=True)
    if isinstance(freq, str) and re.fullmatch(r"[1-9]\d{0,17}", freq) and integer_time:
        return Frequency(freq, is_integer=True)
    if integer_time:
        raise DataError(
            f"freq={freq!r} is for dates, but the time column holds whole numbers; use freq=1, or make dates of them"
        )
    text = freq.freqstr if isinstance(freq, pd.offsets.BaseOffset) else freq
    if not isinstance(text, str):
        raise DataError(f"freq must be a pandas or polars alias or a whole number, got {freq!r}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            offset = pd.tseries.frequencies.to_offset(_translate(text, local_times(times, tz)))
    except (ValueError, FutureWarning) as err:
        raise DataError(
            f"unknown freq {freq!r}; use a pandas alias such as 'h', 'D', 'W', 'MS', 'QS', 'YS' or a number"
        ) from err
    if offset.n < 1:
        raise DataError(f"freq={freq!r} must step forwards")
    return Frequency(offset.freqstr)


def local_times(times: np.ndarray, tz: str | None) -> pd.DatetimeIndex:
    """Give stamps their zone, as people see them."""
    index = pd.DatetimeIndex(times)
    return index if tz is None else index.tz_localize("UTC").tz_convert(tz)


def _translate(text: str, local: pd.DatetimeIndex) -> str:
    """Return a name that today's pandas knows, anchored by the data where the name leaves the anchor open."""
    match = re.fullmatch(r"\s*(\d*)([A-Za-z]+)(-[A-Za-z0-9]+)?\s*", text)
    if not match:
        return text
    count, name, anchor = match[1], match[2], (match[3] or "").upper()
    name = ALIASES.get(name, name)
    if name in PERIODS:
        period = PERIODS[name]
        at_end = bool(local.is_month_end.all()) if len(local) else True
        name = period + ("E" if at_end else "S")
        if not anchor and period != "M" and len(local):
            month = local[0].month  # a quarter or year "ends in" this month or "starts in" it
            anchor = "-" + MONTHS[month - 1]
    elif name == "W" and not anchor and len(local):
        anchor = "-" + DAYS[local[0].weekday()]
    return f"{count}{name}{anchor}"


def infer_frequency(times: np.ndarray, indptr: np.ndarray, tz: str | None) -> tuple[Frequency | None, int]:
    """Find the frequency that the data show, and the number of the series that shows it (None and -1 if none does).

    The longest series are asked first, whole; then piecewise, so that a series with a gap still tells its step and
    the later check can name the gap. Only ten are tried: a set in which none of them is regular needs a look,
    not a guess.
    """
    longest = np.argsort(-np.diff(indptr), kind="stable")[:10]
    for pieces in (1, 3, 10):
        for s in longest:
            for own in np.array_split(times[indptr[s] : indptr[s + 1]], pieces):
                found = _infer_one(own, tz)
                if found is not None:
                    return found, int(s)
    return None, -1


def _infer_one(own, tz):
    if own.dtype.kind == "i":
        steps = np.diff(own)
        regular = len(steps) and steps[0] > 0 and np.all(steps == steps[0])
        return Frequency(str(int(steps[0])), is_integer=True) if regular else None
    if len(own) < 3:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pd.infer_freq(local_times(own, tz))
    return None if found is None else Frequency(pd.tseries.frequencies.to_offset(found).freqstr)
