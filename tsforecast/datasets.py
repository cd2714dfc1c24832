"""Real data sets that ship with the package, as tidy long frames.

Every loader returns a fresh pandas frame with the columns ``unique_id`` (text), ``ds`` (datetime, or int64 where the
set has a running number for time), ``y`` (float64) and, where there are any, other variables; sorted by series, then
time, without gaps or missing values. Sources and licences: ``datasets/README.md`` and ``NOTICE`` in the repository,
or ``info(name)``. Nothing is ever downloaded.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tsforecast.exceptions import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "DatasetInfo",
    "info",
    "list_datasets",
    "load",
    "load_air_passengers",
    "load_eia_petroleum_weekly",
    "load_electricity_hourly_mean",
    "load_sunspots_yearly",
    "load_tourism_monthly",
    "load_uk_seatbelts",
]

# An installed wheel carries the files inside the package; a checkout or an editable install has them beside it.
_FOLDERS = (Path(__file__).with_name("_datasets"), Path(__file__).parent.with_name("datasets"))


@dataclass(frozen=True)
class DatasetInfo:
    """What is known about a shipped data set.

    Parameters
    ----------
    file, sha256 : str
        File name in ``datasets/`` and the digest that its bytes must have.
    rows, series : int
        Number of rows and of distinct ``unique_id``.
    freq : str or int
        Step of ``ds``: a pandas alias, or the integer step of a running number.
    season_length, horizon : int
        Steps of a season, and the usual number of steps to forecast (the official one of a competition set).
    description, units, source, licence : str
        For people; ``units`` are those of ``y``.
    covariates : dict of str to str
        Other columns and what they hold.
    """

    file: str
    sha256: str
    rows: int
    series: int
    freq: str | int
    season_length: int
    horizon: int
    description: str
    units: str
    covariates: dict[str, str]
    source: str
    licence: str


def list_datasets() -> list[str]:
    """Names of the shipped data sets, in alphabetical order."""
    return sorted(_manifest())


def info(name: str) -> DatasetInfo:
    """Describe a shipped data set.

    Parameters
    ----------
    name : str
        One of `list_datasets`.

    Returns
    -------
    DatasetInfo

    Raises
    ------
    DataError
        There is no such data set.
    """
    try:
        return _manifest()[name]
    except KeyError:
        raise DataError(f"no data set {name!r}; there are: {', '.join(list_datasets())}") from None


def load(name: str, split: Literal["train", "test"] | None = None) -> pd.DataFrame:
    """Load a shipped data set.

    Parameters
    ----------
    name : str
        One of `list_datasets`.
    split : {"train", "test"}, optional
        One part of a competition set's official split; None gives both parts as one series each.

    Returns
    -------
    pandas.DataFrame
        Columns ``unique_id, ds, y`` and the covariates of `info`.

    Raises
    ------
    DataError
        No such data set, no official split in it, or its file is missing or damaged.
    """
    import pandas as pd

    entry = info(name)
    if split not in (None, "train", "test"):
        raise DataError(f"split={split!r}; it must be 'train', 'test' or None")
    frame = pd.read_csv(io.BytesIO(_read_checked(entry)))
    if split is not None and "split" not in frame:
        raise DataError(f"data set {name!r} has no official split; load it without split=")
    if split is not None:
        frame = frame[frame["split"] == split].reset_index(drop=True)
    if isinstance(entry.freq, str):
        frame["ds"] = pd.to_datetime(frame["ds"])
    frame["y"] = frame["y"].astype("float64")
    return frame[["unique_id", "ds", "y", *entry.covariates]]


def load_air_passengers() -> pd.DataFrame:
    """Airline passengers of each month, 1949-1960, in thousands: 1 series of 144 months (Box and Jenkins, series G)."""
    return load("air_passengers")


def load_eia_petroleum_weekly() -> pd.DataFrame:
    """Nine petroleum series of the USA, 2000-2020: 9 series of 1,028 weeks ending on Fridays (EIA)."""
    return load("eia_petroleum_weekly")


def load_electricity_hourly_mean() -> pd.DataFrame:
    """Mean load of 321 electricity clients in Portugal, in kW: 1 series of 26,304 hours, 2012-2014."""
    return load("electricity_hourly_mean")


def load_sunspots_yearly() -> pd.DataFrame:
    """Mean sunspot number of each year: 1 series of 309 years, 1700-2008."""
    return load("sunspots_yearly")


def load_tourism_monthly(split: Literal["train", "test"] | None = None) -> pd.DataFrame:
    """Monthly series of the tourism forecasting competition: 366 series of 91 to 333 months.

    Parameters
    ----------
    split : {"train", "test"}, optional
        One part of the official split (the test part is the last 24 months of each series); None gives both.

    Returns
    -------
    pandas.DataFrame
        Columns ``unique_id, ds, y``; ``ds`` is the running number of the month, from 1.
    """
    return load("tourism_monthly", split)


def load_uk_seatbelts() -> pd.DataFrame:
    """Car drivers killed or seriously injured in Great Britain: 1 series of 192 months, 1969-1984.

    Other columns: ``kms`` (distance driven, km), ``petrol_price`` (real price index) and ``law`` (1 from February 1983,
    when seat belts became compulsory), the last of which is known ahead.
    """
    return load("uk_seatbelts")


def _folder() -> Path:
    for folder in _FOLDERS:
        if (folder / "manifest.json").is_file():
            return folder
    raise DataError(f"the shipped data sets are missing (looked in {_FOLDERS[0]}); reinstall tsforecast")


@cache
def _manifest() -> dict[str, DatasetInfo]:
    entries = json.loads((_folder() / "manifest.json").read_text(encoding="utf-8"))
    return {name: DatasetInfo(**entry) for name, entry in entries.items()}


def _read_checked(entry: DatasetInfo) -> bytes:
    """Bytes of the CSV, after comparing the digest of the file with the manifest."""
    path = _folder() / entry.file
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the shipped data file {path}: {error}; reinstall tsforecast") from error
    if hashlib.sha256(raw).hexdigest() != entry.sha256:
        raise DataError(f"the shipped data file {path} is damaged (its sha256 is wrong); reinstall tsforecast")
    return gzip.decompress(raw) if path.suffix == ".gz" else raw
