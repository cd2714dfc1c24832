"""Which frequency is meant: by a name of pandas or polars, or by the stamps themselves."""

from __future__ import annotations

import re
import warnings
from collections import Counter

import numpy as np
import pandas as pd

from tsforecast.data.frequency import Frequency
from tsforecast.exceptions import DataError

# Old pandas names and polars names; "" means: start or end of the period, whichever the data show.
ALIASES = {"H": "h", "T": "min", "m": "min", "S": "s", "d": "D", "w": "W", "L": "ms", "U": "us", "N": "ns"}
PERIODS = {"M": "M", "mo": "M", "Q": "Q", "q": "Q", "Y": "Y", "A": "Y", "y": "Y"}
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")


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
    the later check can name the gap. A third of the pieces must agree, since few stamps are regular by chance (the
    first and the middle of February and the first of March are 14 days apart). Only ten series are tried: a set in
    which none of them is regular needs a look, not a guess.
    """
    longest = np.argsort(-np.diff(indptr), kind="stable")[:10]
    for pieces in (1, 3, 10):
        for s in longest:
            parts = np.array_split(times[indptr[s] : indptr[s + 1]], pieces)
            found = Counter(step for step in (_infer_one(own, tz) for own in parts) if step is not None)
            for step, count in found.most_common(1):
                if 3 * count >= pieces:
                    return step, int(s)
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
