"""Tables in and out of files and pipes: CSV and Parquet; a result file is whole or not there."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from tsforecast._files import replacing
from tsforecast.exceptions import DataError

FORMATS = ("csv", "parquet")
_SUFFIXES = {".csv": "csv", ".txt": "csv", ".parquet": "parquet", ".pq": "parquet"}
# What stands for a missing number in a CSV, as pandas has it.
MISSING = ["", "NA", "N/A", "n/a", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None", "<NA>", "#N/A", "#NA"]
# Before 3.1 pandas read the last digit of some numbers wrongly unless asked not to; since then asking is deprecated.
EXACT: Any = {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")


def check_output(path: str, given: str | None) -> None:
    """Raise now what ``write_table`` would raise after the work: an unknown format, a folder that is not there."""
    guess_format(path, given)
    if path != "-" and not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(f"{path}: its folder does not exist; make it first")


def guess_format(path: str, given: str | None) -> str:
    """Return ``given``, or what the name says; ``-`` is CSV. ``DataError`` where the name says nothing."""
    if given is not None or path == "-":
        return given or "csv"
    name = Path(path)
    suffix = Path(name.stem).suffix if name.suffix.lower() in _COMPRESSED else name.suffix
    if suffix.lower() not in _SUFFIXES:
        raise DataError(f"{path}: the name does not say whether it is CSV or Parquet; use --format")
    return _SUFFIXES[suffix.lower()]


def read_table(path: str, *, id_col: str, time_col: str, file_format: str | None = None) -> pd.DataFrame:
    """Read a long table; ``-`` is standard input.

    In CSV, ids stay text as they stand (``007``, ``NA``), time is whole numbers or ISO 8601 (``2024-03-01``,
    ``2024-03-01T12:00+01:00``). Other date formats are refused, because guessing swaps days and months.

    Parameters
    ----------
    path : str
        File name or ``-``. CSV may be compressed (``.gz``, ``.bz2``, ``.xz``, ``.zip``).
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
    kind = guess_format(path, file_format)
    source: Any = io.BytesIO(sys.stdin.buffer.read()) if path == "-" else path
    shown = "standard input" if path == "-" else path
    try:
        if kind == "parquet":
            _need_pyarrow()
            return pd.read_parquet(source, engine="pyarrow")
        frame = _read_csv(source, [id_col, time_col])
    except ImportError:
        raise
    except (OSError, ValueError, EOFError, ArithmeticError) as err:  # pandas' and pyarrow's own errors are among these
        raise DataError(f"{shown} cannot be read as {kind}: {err}") from err
    if id_col in frame:
        frame[id_col] = frame[id_col].mask(frame[id_col] == "", None)
    if time_col in frame:
        frame[time_col] = _parse_times(frame[time_col].str.strip(), time_col, shown)
    return frame


def _read_csv(source: Any, as_text: list[str]) -> pd.DataFrame:
    """Read two columns as the text that they are (an id may be NA) and let pandas tell the types of the others."""
    names = pd.read_csv(source, nrows=0).columns
    if hasattr(source, "seek"):
        source.seek(0)
    missing: Any = {name: MISSING for name in names if name not in as_text}
    types: Any = dict.fromkeys(as_text, object)
    return pd.read_csv(source, dtype=types, na_values=missing, keep_default_na=False, low_memory=False, **EXACT)


def _parse_times(column: pd.Series, name: str, shown: str) -> pd.Series:
    """Whole numbers, or ISO dates; the first other text is named with its row."""
    if len(column) and column.str.fullmatch(r"[+-]?\d{1,18}").all() and not column.str.fullmatch(r"\d{8}").all():
        return column.astype("int64")
    iso = column.str.fullmatch(
        r"[+-]?\d{4}-?\d\d(-?\d\d([T ]\d\d(:?\d\d(:?\d\d([.,]\d+)?)?)?(Z|[+-]\d\d(:?\d\d)?)?)?)?"
    )
    if not iso.all():
        row = int((~iso).to_numpy().argmax())
        raise DataError(
            f"{shown}, line {row + 2}: column {name!r} holds {column.iloc[row]!r}, which is neither a date such as "
            "2024-03-01 (ISO 8601) nor a whole number"
        )
    offsets = column.str.extract(r"[T ]\d\d.*?(Z|[+-]\d\d(?::?\d\d)?)$", expand=False).dropna().unique()
    if len(offsets) > 1:
        raise DataError(
            f"{shown}: column {name!r} mixes time zones or summer and winter time ({offsets[0]} and {offsets[1]}); "
            "write the stamps in UTC (Z), or as local time without offset"
        )
    try:
        return pd.to_datetime(column, format="ISO8601")
    except (ValueError, OverflowError) as err:
        raise DataError(f"{shown}: column {name!r} holds a date that does not exist: {err}") from err


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
