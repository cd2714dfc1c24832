"""Columns of a data frame as arrays: ids, time stamps, numbers.

Every refusal names the column, the series, the time stamp and what to do.
"""

from __future__ import annotations

import datetime as dt
import decimal

import narwhals as nw
import numpy as np
import pandas as pd

from tsforecast.exceptions import DataError


def read_ids(column: nw.Series, name: str) -> np.ndarray:
    """Series ids as an object array; a missing id is an error."""
    ids = np.fromiter(column.to_list(), dtype=object, count=len(column))
    missing = pd.isna(pd.Series(ids, dtype=object)).to_numpy()
    if missing.any():
        raise DataError(
            f"column {name!r} has no id in row {int(np.flatnonzero(missing)[0])} ({int(missing.sum())} in all); "
            "fill it in, or drop these rows"
        )
    return ids


def read_times(column: nw.Series, name: str, ids: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Stamps as ``int64`` or as ``datetime64`` in UTC, and the name of their zone (None: without zone).

    Dates, time stamps with or without a zone and whole numbers are taken; text is not, because guessing a date format
    silently swaps days and months.
    """
    dtype = column.dtype
    if dtype.is_integer() and not _is_beyond_numpy(dtype):
        if column.null_count():
            _refuse_missing_time(name, ids, np.array([v is None for v in column.to_list()]))
        values = column.to_numpy()
        if values.dtype == np.uint64 and values.max(initial=0) > np.iinfo(np.int64).max:
            raise DataError(f"column {name!r} has numbers above the int64 range; count time from a smaller number")
        return values.astype(np.int64), None
    if dtype == nw.Datetime:
        return _read_datetimes(column, name, ids)
    if dtype == nw.Date:
        return _read_datetimes(column.cast(nw.Datetime("us")), name, ids)
    objects = column.to_list()
    if all(v is None or isinstance(v, dt.date) or v is pd.NaT for v in objects):
        return _read_date_objects(objects, name, ids)
    if any(isinstance(v, pd.Period) for v in objects):
        raise DataError(f"column {name!r} holds periods; make stamps of them with df[{name!r}].dt.to_timestamp()")
    if any(isinstance(v, str) for v in objects) or dtype == nw.String:
        raise DataError(
            f"column {name!r} holds text such as {objects[0]!r}; convert it with pd.to_datetime (or to whole numbers)"
        )
    raise DataError(f"column {name!r} has type {dtype}; time must be dates, time stamps or whole numbers")


def _read_datetimes(column, name, ids):
    zone = getattr(column.dtype, "time_zone", None)
    if column.null_count():
        _refuse_missing_time(name, ids, column.is_null().to_numpy())
    if zone is not None:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    values = column.to_numpy()
    return np.ascontiguousarray(values), zone


def _read_date_objects(values, name, ids):
    """Python dates and time stamps in an object column, all of one zone."""
    _refuse_missing_time(name, ids, np.array([v is None or v is pd.NaT for v in values]))
    zones = [str(getattr(v, "tzinfo", None)) for v in values]
    if len(set(zones)) > 1:
        other = next(i for i, z in enumerate(zones) if z != zones[0])
        raise DataError(
            f"column {name!r} mixes time zones: {values[0]} is in {zones[0]}, series {ids[other]!r} at "
            f"{values[other]} in {zones[other]}; convert with pd.to_datetime(df[{name!r}], utc=True)"
        )
    try:
        index = pd.DatetimeIndex(pd.to_datetime(values))
    except (ValueError, OverflowError) as err:
        raise DataError(f"column {name!r} has dates that pandas cannot hold: {err}") from err
    zone = None if index.tz is None else str(index.tz)
    return (index if zone is None else index.tz_convert("UTC").tz_localize(None)).to_numpy(), zone


def _refuse_missing_time(name, ids, missing):
    if missing.any():
        row = int(np.flatnonzero(missing)[0])
        raise DataError(
            f"column {name!r} has no time stamp in row {row} (series {ids[row]!r}; {int(missing.sum())} in all); "
            "drop or fill these rows"
        )


def read_target(column: nw.Series, name: str, describe) -> np.ndarray:
    """Read the target as float64; ``describe(row)`` names the series and stamp of a row in messages.

    Numbers and ``Decimal`` are taken; text, truth values, complex numbers, missing and infinite values are not.
    """
    dtype = column.dtype
    if dtype == nw.Boolean:
        raise DataError(f"column {name!r} holds truth values; if 0 and 1 are meant, convert it with .astype(int)")
    if dtype.is_numeric() and not dtype.is_decimal() and not _is_beyond_numpy(dtype):
        if column.null_count():
            _refuse_missing_value(name, describe, column.is_null().to_numpy())
        with np.errstate(over="ignore"):
            values = np.asarray(column.to_numpy()).astype(np.float64)
    else:
        values = _numbers_from_objects(column.to_list(), dtype, name, describe)
    _refuse_missing_value(name, describe, np.isnan(values))
    if np.isinf(values).any():
        rows = np.flatnonzero(np.isinf(values))
        raise DataError(
            f"column {name!r} is infinite at {describe(rows[0])} ({len(rows)} in all); drop or replace these values"
        )
    return values


def _is_beyond_numpy(dtype) -> bool:
    """Whole numbers of 128 bits, which polars has."""
    return str(dtype).endswith("nt128")


def _numbers_from_objects(items, dtype, name, describe):
    values = np.empty(len(items))
    for row, item in enumerate(items):
        if item is None or item is pd.NA or item is pd.NaT:
            values[row] = np.nan
        elif isinstance(item, (int, float, decimal.Decimal, np.number)) and not isinstance(
            item, (bool, np.complexfloating)
        ):
            try:
                values[row] = float(item)
            except OverflowError:
                raise DataError(
                    f"column {name!r} at {describe(row)}: {str(item)[:20]}... is too large for a float"
                ) from None
            except ValueError:  # a signalling Decimal NaN
                values[row] = np.nan
        elif isinstance(item, str):
            _refuse_text(items, row, name, describe)
        else:
            raise DataError(
                f"column {name!r} (type {dtype}) holds a {type(item).__name__} at {describe(row)}; numbers are needed"
            )
    return values


def _refuse_text(items, row, name, describe):
    """Raise ``DataError`` at the first text that is no number; one such cell makes text of a whole column of CSV."""
    texts = (r for r in range(row, len(items)) if isinstance(items[r], str) and not _is_numeric_text(items[r]))
    odd = next(texts, None)
    if odd is None:
        hint = f"text that looks like a number ({items[row]!r}) at {describe(row)}"
    else:
        hint = f"text ({items[odd][:30]!r}) at {describe(odd)}"
    raise DataError(
        f"column {name!r} holds {hint}; it must hold numbers (in pandas: df[{name!r}] = pd.to_numeric(df[{name!r}]))"
    )


def _is_numeric_text(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _refuse_missing_value(name, describe, missing):
    if missing.any():
        rows = np.flatnonzero(missing)
        raise DataError(
            f"column {name!r} has no value at {describe(rows[0])} ({len(rows)} missing in all); "
            "fill or interpolate them (a gap is not a zero)"
        )
