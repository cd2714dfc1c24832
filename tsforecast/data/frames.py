"""The border between data frames (pandas or polars, through narwhals) and arrays: a frame in, one of its kind out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import narwhals as nw
import numpy as np
import pandas as pd

from tsforecast.exceptions import DataError


def open_frame(df, required: list[str]) -> nw.DataFrame:
    """Wrap a pandas or polars frame; ``DataError`` if it is none, is empty or lacks a required column."""
    try:
        frame = nw.from_native(df, eager_only=True)
    except TypeError as err:
        if hasattr(df, "collect"):
            raise DataError(f"a {type(df).__name__} has no rows yet; call .collect() on it first") from err
        raise DataError(f"expected a pandas or polars DataFrame, got {type(df).__name__}") from err
    except nw.exceptions.DuplicateError as err:
        raise DataError(f"column names must differ, keep one of each: {err}") from err
    columns = [str(c) for c in frame.columns]
    for name in required:
        if name not in columns:
            raise DataError(
                f"the frame has no column {name!r} (it has: {', '.join(columns) or 'none'}); name the right one"
            )
    if len(frame) == 0:
        raise DataError("the frame is empty: it has no rows")
    return frame


@dataclass(frozen=True)
class FrameKind:
    """What an answer must look like to match the frame that was asked with.

    ``library`` is ``"pandas"`` or ``"polars"``; ``id_dtype`` and ``time_dtype`` are the narwhals types of the columns
    (None where the id column was missing or the model came from a file).
    """

    library: Literal["pandas", "polars"] = "pandas"
    id_dtype: Any = None
    time_dtype: Any = None

    def build(self, columns: dict[str, np.ndarray], id_col: str, time_col: str, tz: str | None):
        """Make a frame of the library from arrays; ``columns[time_col]`` is in UTC or ``int64``."""
        data: dict[str, Any] = {}
        for name, values in columns.items():
            is_time = values.dtype.kind == "M"
            if self.library == "pandas":
                data[name] = _pandas_times(values, tz) if is_time else pd.Series(values).infer_objects()
            else:
                data[name] = values.tolist() if values.dtype == object else values
        frame = nw.from_dict(data, backend=self.library)
        return frame.with_columns(*self._casts(frame, id_col, time_col, tz)).to_native()

    def _casts(self, frame, id_col, time_col, tz):
        casts = []
        if self.library == "polars":
            for name in frame.columns:
                if frame[name].dtype == nw.Datetime and tz is not None:
                    column = nw.col(name).dt.replace_time_zone("UTC").dt.convert_time_zone(tz)
                    casts.append(column)
                elif frame[name].dtype == nw.Datetime and self.time_dtype == nw.Date:
                    casts.append(nw.col(name).cast(nw.Date))
        for name, dtype in ((id_col, self.id_dtype), (time_col, self.time_dtype)):
            known = dtype is not None and (dtype.is_integer() or dtype in (nw.Categorical, nw.String))
            if known and name in frame.columns and frame[name].dtype != dtype:
                casts.append(nw.col(name).cast(dtype))
        return casts


def _pandas_times(values, tz):
    series = pd.Series(values)
    return series if tz is None else series.dt.tz_localize("UTC").dt.tz_convert(tz)
