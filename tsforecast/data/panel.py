"""A set of series as flat arrays: what the long frame ``unique_id, ds, y`` becomes once, after every check."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tsforecast.data.checks import checked_frequency, id_order, id_type, refuse_duplicates, sorted_rows, stamp
from tsforecast.data.columns import read_ids, read_target, read_times
from tsforecast.data.frames import FrameKind, open_frame
from tsforecast.data.frequency import Frequency
from tsforecast.exceptions import DataError


@dataclass(frozen=True)
class Columns:
    """Names of the three columns that are read; all others are left alone."""

    id: str = "unique_id"
    time: str = "ds"
    target: str = "y"


@dataclass(frozen=True)
class Panel:
    """S series, flat and sorted by id, then time: no gaps, no missing values.

    Parameters
    ----------
    values : ndarray of float64 [R]
        The target of all series, one after the other.
    indptr : ndarray of int64 [S + 1]
        Series ``s`` is ``values[indptr[s]:indptr[s + 1]]``.
    ids : ndarray of object [S]
        Ids, sorted: whole numbers by value, everything else by its text.
    times : ndarray [R]
        ``datetime64`` in UTC (with ``tz``) or without zone, or ``int64``.
    freq : Frequency
        The step between neighbouring stamps of every series.
    tz : str or None
        Zone of the stamps.
    columns : Columns
        What the frame called its id, time and target.
    kind : FrameKind
        How answers are built to match the input.
    """

    values: np.ndarray
    indptr: np.ndarray
    ids: np.ndarray
    times: np.ndarray
    freq: Frequency
    tz: str | None = None
    columns: Columns = field(default_factory=Columns)
    kind: FrameKind = field(default_factory=FrameKind)

    @classmethod
    def from_frame(cls, df, freq=None, *, id_col="unique_id", time_col="ds", target_col="y") -> Panel:
        """Read and check a long frame (pandas or polars).

        Rows may come in any order: they are sorted. A frame without the column ``unique_id`` is one series, named
        after ``target_col``. Further columns are ignored: only the past of the target is used.

        Parameters
        ----------
        df : DataFrame
            One row a series and time stamp.
        freq : str, int or None
            See ``parse_frequency``; None infers it and raises where that is ambiguous.
        id_col, time_col, target_col : str
            Names of the columns.

        Raises
        ------
        DataError
            Naming series, stamp and remedy: missing columns, missing, infinite or non-numeric values, duplicate stamps,
            gaps, mixed time zones, stamps off the frequency.
        """
        columns = Columns(id_col, time_col, target_col)
        one_series = id_col == "unique_id" and "unique_id" not in open_frame(df, []).columns
        frame = open_frame(df, [time_col, target_col] if one_series else [id_col, time_col, target_col])
        ids = np.full(len(frame), target_col, dtype=object) if one_series else read_ids(frame[id_col], id_col)
        times, tz = read_times(frame[time_col], time_col, ids)
        rows, indptr = sorted_rows(ids, times)

        def describe(row):
            return f"series {ids[row]!r}, {stamp(times[row], tz)}"

        values = read_target(frame[target_col], target_col, describe)
        kind = FrameKind(frame.implementation.value, None if one_series else frame[id_col].dtype, frame[time_col].dtype)
        if kind.library not in ("pandas", "polars"):
            raise DataError(f"expected a pandas or polars DataFrame, got one of {kind.library}")
        times, series_ids = times[rows], ids[rows[indptr[:-1]]]
        refuse_duplicates(series_ids, times, indptr, tz, time_col, one_series)
        step = checked_frequency(freq, series_ids, times, indptr, tz)
        return cls(values[rows], indptr, series_ids, times, step, tz, columns, kind)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """Rows of each series [S]."""
        return np.diff(self.indptr)

    def one(self, s: int) -> Panel:
        """Series ``s`` as a panel of its own, over views."""
        rows = slice(self.indptr[s], self.indptr[s + 1])
        indptr = np.array([0, rows.stop - rows.start], dtype=np.int64)
        return replace(self, values=self.values[rows], times=self.times[rows], indptr=indptr, ids=self.ids[s : s + 1])

    def series(self, s: int) -> np.ndarray:
        """Values of series ``s``, a view."""
        return self.values[self.indptr[s] : self.indptr[s + 1]]

    def describe(self, row: int) -> str:
        """Name the series and the stamp of a row of ``values``."""
        s = int(np.searchsorted(self.indptr, row, side="right")) - 1
        return f"series {self.ids[s]!r}, {stamp(self.times[row], self.tz)}"

    def take_rows(self, starts: np.ndarray, stops: np.ndarray) -> Panel:
        """Take the rows ``starts[s]:stops[s]`` of each series, counted within it [S]; series left without rows go."""
        lengths = np.maximum(stops - starts, 0)
        keep = np.flatnonzero(lengths)
        indptr = np.concatenate([[0], np.cumsum(lengths[keep])]).astype(np.int64)
        first = self.indptr[keep] + starts[keep]
        rows = np.repeat(first - indptr[:-1], lengths[keep]) + np.arange(indptr[-1])
        return replace(self, values=self.values[rows], times=self.times[rows], indptr=indptr, ids=self.ids[keep])

    def select(self, series: np.ndarray) -> Panel:
        """Keep these series, given by increasing numbers."""
        lengths = np.zeros(len(self), np.int64)
        lengths[series] = self.lengths[series]
        return self.take_rows(np.zeros(len(self), np.int64), lengths)

    def head(self, drop: int) -> Panel:
        """Drop the last ``drop`` rows of each series."""
        return self.take_rows(np.zeros(len(self), np.int64), self.lengths - drop)

    def tail(self, rows: int) -> Panel:
        """Take the last ``rows`` rows of each series (all, where it has fewer)."""
        return self.take_rows(np.maximum(self.lengths - rows, 0), self.lengths)

    def future_times(self, h: int) -> np.ndarray:
        """Stamps of the ``h`` steps after the end of each series [S, h]."""
        lasts = self.times[self.indptr[1:] - 1]
        distinct, where = np.unique(lasts, return_inverse=True)
        return np.stack([self.freq.future(last, h, self.tz) for last in distinct])[where]

    def append(self, new: Panel) -> Panel:
        """Put the rows of ``new`` after the end of their series; ids that are new become new series.

        Raises ``DataError`` where a series' new rows do not start one step after its last stamp.
        """
        known = {(type(i), i): s for s, i in enumerate(self.ids)}
        self._refuse_other_kinds(new, known)
        nexts = self.future_times(1)[:, 0]
        parts = [[s] for s in range(len(self))]
        fresh = []
        for n, name in enumerate(new.ids):
            s = known.get((type(name), name))
            if s is None:
                fresh.append(n)
                continue
            first = new.times[new.indptr[n]]
            if first.dtype.kind != nexts.dtype.kind or first != nexts[s]:
                raise DataError(
                    f"the new rows of series {name!r} start at {stamp(first, new.tz)}, but its next stamp is "
                    f"{stamp(nexts[s], self.tz)}; pass only rows that follow what was seen, without a gap"
                )
            parts[s].append(len(self) + n)
        values = [self.series(s) for s in range(len(self))] + [new.series(n) for n in range(len(new))]
        stamps = np.split(self.times, self.indptr[1:-1]) + np.split(
            new.times.astype(self.times.dtype), new.indptr[1:-1]
        )
        parts += [[len(self) + n] for n in fresh]
        ids = np.concatenate([self.ids, new.ids[fresh]])
        order = np.array(id_order(list(ids)), dtype=np.int64)
        chosen = [p for o in order for p in parts[o]]
        lengths = [sum(len(values[p]) for p in parts[o]) for o in order]
        return replace(
            self,
            values=np.concatenate([values[p] for p in chosen]),
            times=np.concatenate([stamps[p] for p in chosen]),
            indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            ids=ids[order],
        )

    def _refuse_other_kinds(self, new: Panel, known) -> None:
        """Raise where zone or ids of new rows cannot be meant as they stand."""
        if new.tz != self.tz:
            zones = ["without a zone" if tz is None else f"in {tz}" for tz in (new.tz, self.tz)]
            way = "localize" if None in (new.tz, self.tz) else "convert"
            raise DataError(
                f"the stamps of the new rows are {zones[0]}, those before them {zones[1]}; make them alike (in pandas: "
                f"df[{self.columns.time!r}].dt.tz_{way}({self.tz!r}))"
            )
        fresh = [name for name in new.ids if (type(name), name) not in known]
        if fresh and new.kind.id_dtype is None:
            raise DataError(f"the new rows have no column {self.columns.id!r}; add it, with the ids that fit has seen")
        types = {id_type(name) for name in self.ids}
        for name in fresh:
            if id_type(name) not in types:
                raise DataError(
                    f"the id {name!r} of the new rows is of the type {id_type(name).__name__}, and no id before is "
                    f"({self.ids[0]!r}, ...); convert the column {self.columns.id!r}"
                )

    def build_frame(self, ids: np.ndarray, times: np.ndarray, more: dict[str, np.ndarray]):
        """Make a frame in the library of the input with the id and time columns in front."""
        columns = {self.columns.id: ids, self.columns.time: times, **more}
        return self.kind.build(columns, self.columns.id, self.columns.time, self.tz)
