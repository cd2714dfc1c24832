"""Tables in and out of files and pipes: CSV and Parquet; a result file is whole or not there."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from tsforecast._files import check_target, replacing
from tsforecast.exceptions import DataError

_SUFFIXES = {".csv": "csv", ".txt": "csv", ".parquet": "parquet", ".pq": "parquet"}
# What stands for a missing number in a CSV, as pandas has it.
MISSING = ["", "NA", "N/A", "n/a", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None", "<NA>", "#N/A", "#NA"]
# Before 3.1 pandas read the last digit of some numbers wrongly unless asked not to; since then asking is deprecated.
EXACT: Any = {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
_WRITABLE = (".gz", ".bz2", ".xz")
_OFFSET = r"(?:Z|[+-]\d\d(?::?\d\d)?)"
_ISO = rf"[+-]?\d{{4}}-?\d\d(?:-?\d\d(?:[T ]\d\d(?::?\d\d(?::?\d\d(?:[.,]\d+)?)?)?{_OFFSET}?)?)?"
_YEAR_MONTH = r"(?:1[89]|2[01])\d\d(?:0[1-9]|1[0-2])"


def check_output(path: str, given: str | None) -> None:
    """Raise now what ``write_table`` would raise after the work: a wrong name, a folder that cannot be written to."""
    kind = guess_format(path, given, "--output-format")
    if path == "-":
        return
    suffix = Path(path).suffix.lower()
    if suffix in _COMPRESSED and suffix not in _WRITABLE:
        raise DataError(f"{path}: cannot write {suffix} files; use .gz, .bz2, .xz or none")
    if kind == "parquet":
        _need_pyarrow()
    check_target(path)


def guess_format(path: str, given: str | None, option: str = "--format") -> str:
    """Return ``given``, or what the name says; ``-`` is CSV. ``DataError`` where the name says nothing or too much."""
    name = Path("" if path == "-" else path)
    packed = name.suffix.lower() in _COMPRESSED
    suffix = Path(name.stem).suffix if packed else name.suffix
    kind = given or ("csv" if path == "-" else _SUFFIXES.get(suffix.lower()))
    if kind is None:
        raise DataError(f"{path}: the name does not say whether it is CSV or Parquet; use {option}")
    if kind == "parquet" and packed:
        raise DataError(f"{path}: Parquet is compressed inside; use a name without {name.suffix}")
    return kind


def read_table(path: str, *, id_col: str, time_col: str, file_format: str | None = None) -> pd.DataFrame:
    """Read a long table; ``-`` is standard input.

    In CSV, ids stay text as they stand (``007``, ``NA``), time is whole numbers or ISO 8601 (``2024-03-01``,
    ``2024-03-01T12:00+01:00``). Other date formats are refused, because guessing swaps days and months. Text in the
    time column of Parquet is read the same way.

    Stamps whose UTC offsets differ (summer and winter time) become UTC. Where all of them have the same local time of
    day, they are days or longer steps of a calendar, and the offsets are dropped instead: in UTC they would be
    irregular.

    Parameters
    ----------
    path : str
        File name or ``-``; nothing is fetched from a network. CSV may be compressed (``.gz``, ``.bz2``, ``.xz``,
        ``.zip``).
    id_col, time_col : str
        Names of the columns with ids and time.
    file_format : {"csv", "parquet"}, optional
        None: by the name; CSV for ``-``.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    DataError
        The file is missing or cannot be read as what it should be.
    ImportError
        Parquet without pyarrow.
    """
    if re.match(r"[A-Za-z][\w+.:-]*://", path):
        raise DataError(f"{path} is a URL, and nothing is fetched from a network; download the file first")
    kind = guess_format(path, file_format)
    if kind == "parquet":
        _need_pyarrow()
    if path != "-" and not os.path.exists(path):
        raise DataError(f"{path}: there is no such file")
    source: Any = io.BytesIO(sys.stdin.buffer.read()) if path == "-" else path
    shown = "standard input" if path == "-" else path
    try:
        if kind == "parquet":
            frame = pd.read_parquet(source, engine="pyarrow")
            return _parse_text_times(frame, time_col, lambda row: f"{shown}, row {row + 1}")
        frame = _read_csv(source, [id_col, time_col], shown)
    except (DataError, ImportError):
        raise
    except (PermissionError, IsADirectoryError) as err:
        raise DataError(f"{shown} cannot be read: {err.strerror}") from err
    except pd.errors.EmptyDataError as err:
        raise DataError(f"{shown} is empty; the first line must name the columns") from err
    except UnicodeDecodeError as err:
        raise DataError(f"{shown} is not UTF-8 ({err.reason}); save it in that encoding") from err
    except (OSError, ValueError, EOFError, ArithmeticError) as err:  # pandas' and pyarrow's own errors are among these
        raise DataError(f"{shown} cannot be read as {kind}: {err}") from err
    if id_col in frame:
        frame[id_col] = frame[id_col].mask(frame[id_col] == "", None)
    return _parse_text_times(frame, time_col, lambda row: f"{shown}, line {row + 2}")


def _read_csv(source: Any, as_text: list[str], shown: str) -> pd.DataFrame:
    """Read two columns as the text that they are (an id may be NA) and let pandas tell the types of the others."""
    names = pd.read_csv(source, nrows=0).columns
    for other in (";", "\t", "|"):
        if len(names) == 1 and other in names[0]:
            raise DataError(
                f"{shown}: the columns are separated by {other!r} and not by commas; write them with commas (and "
                "numbers with points)"
            )
    if hasattr(source, "seek"):
        source.seek(0)
    missing: Any = {name: MISSING for name in names if name not in as_text}
    types: Any = dict.fromkeys(as_text, object)
    return pd.read_csv(source, dtype=types, na_values=missing, keep_default_na=False, low_memory=False, **EXACT)


def _parse_text_times(frame: pd.DataFrame, name: str, place: Callable[[int], str]) -> pd.DataFrame:
    """Turn a time column of text into stamps or whole numbers; ``place(row)`` says in messages where a row stands."""
    if name in frame and pd.api.types.infer_dtype(frame[name], skipna=True) == "string":
        frame[name] = _parse_times(frame[name].astype(object).fillna("").str.strip(), name, place)
    return frame


def _parse_times(column: pd.Series, name: str, place: Callable[[int], str]) -> pd.Series:
    """Whole numbers, or ISO dates; the first other text is named with its row."""
    if column.str.fullmatch(_YEAR_MONTH).all():
        year, month = column.iloc[0][:4], column.iloc[0][4:]
        raise DataError(
            f"{place(0)}: column {name!r} holds {column.iloc[0]!r}, which looks like year and month; write a date, "
            f"{year}-{month}-01"
        )
    if column.str.fullmatch(r"[+-]?\d{1,18}").all() and not column.str.fullmatch(r"\d{8}").all():
        return column.astype("int64")
    iso = column.str.fullmatch(_ISO)
    if not iso.all():
        row = int((~iso).to_numpy(bool).argmax())
        raise DataError(
            f"{place(row)}: column {name!r} holds {column.iloc[row]!r}, which is neither a date such as "
            "2024-03-01 (ISO 8601) nor a whole number"
        )
    offsets = column.str.extract(rf"[T ]\d\d.*?({_OFFSET})$", expand=False)
    if offsets.isna().any() and not offsets.isna().all():
        row = int((offsets.isna() != offsets.isna().iloc[0]).to_numpy().argmax())
        raise DataError(
            f"{place(row)}: column {name!r} holds {column.iloc[row]!r} after {column.iloc[row - 1]!r}; write all "
            "stamps with a UTC offset, or none"
        )
    try:
        if offsets.nunique() < 2:
            return pd.to_datetime(column, format="ISO8601")
        local = pd.to_datetime(column.str.replace(rf"{_OFFSET}$", "", regex=True), format="ISO8601")
        if (local - local.dt.normalize()).nunique() == 1:
            return local
        return pd.to_datetime(column, format="ISO8601", utc=True)
    except (ValueError, OverflowError) as err:
        raise DataError(f"{place(0)} and below: column {name!r} holds a date that does not exist: {err}") from err


def write_table(frame: pd.DataFrame, path: str, file_format: str | None = None) -> None:
    """Write a table; ``-`` is standard output. A file appears whole, and only when all of it is on disk.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.
    path : str
        File name or ``-``; a name that ends in ``.gz`` (or ``.bz2``, ``.xz``) is compressed.
    file_format : {"csv", "parquet"}, optional
        None: by the name; CSV for ``-``.
    """
    body = encode_table(frame, guess_format(path, file_format), Path(path).suffix.lower())
    if path == "-":
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
        return
    with replacing(path) as file:
        file.write(body)


def encode_table(frame: pd.DataFrame, kind: str, suffix: str = "") -> bytes:
    """Turn a table into the bytes of a file."""
    buffer = io.BytesIO()
    if kind == "parquet":
        _need_pyarrow()
        frame.to_parquet(buffer, engine="pyarrow", index=False)
        return buffer.getvalue()
    text = frame.to_csv(index=False, lineterminator="\n")
    if suffix in _COMPRESSED:
        return _compress(text.encode(), suffix)
    return text.encode()


def _compress(body: bytes, suffix: str) -> bytes:
    import bz2
    import gzip
    import lzma

    if suffix == ".gz":
        return gzip.compress(body, mtime=0)  # no clock inside: the same forecast is the same file
    if suffix == ".bz2":
        return bz2.compress(body)
    if suffix == ".xz":
        return lzma.compress(body)
    raise DataError(f"cannot write {suffix} files; use .gz, .bz2, .xz or none")


def _need_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ImportError("Parquet needs pyarrow: pip install 'tsforecast[parquet]'") from None
