"""Where rows stand in time: checks on a pandas index that keep windows from crossing gaps or running backwards."""

from __future__ import annotations

from typing import Any

from tsforecast.estimators import _steps
from tsforecast.exceptions import DataError

# Labels of the training rows that are kept, so that a gap among few rows to predict can be told from their own step.
_RECENT = 50


class TrainingClock:
    """The end of the training rows on the time axis of their index.

    Only indexes that carry time are judged: datetimes, periods, timedeltas and numbers. Arrays, polars frames and
    frames with other labels carry none, and their rows are taken at their word; so are rows to predict that are counted
    from 0, unless the labels of the training rows are numbers that are not.
    """

    def __init__(self, X: Any):
        index = time_index(X)
        self.recent = None
        self.next_labels: list = []
        if index is None or len(index) == 0:
            return
        _check_order(index)
        self.next_labels = _steps.next_labels(index)
        self.recent = index[-_RECENT:]
        self.is_counted = _counts_from_zero(index)

    def check_follows(self, X: Any) -> None:
        """Raise ``DataError`` unless the rows of ``X`` come right after the training rows."""
        index = time_index(X)
        if index is None or len(index) == 0 or self.recent is None:
            return
        if _counts_from_zero(index) and (self.is_counted or _kind(self.recent) != "numbers"):
            return
        index = _as_comparable(index, self.recent)
        _check_order(index)
        first, last = index[0], self.recent[-1]
        if first <= last:
            raise DataError(
                f"the rows to predict start at {first}, but the training rows end at {last}: their history is "
                "not stored. Pass rows that follow the training rows (TimeSeriesSplit makes such folds, KFold does not)"
            )
        if not self.next_labels:
            return
        if not any(_steps.is_same(first, label, last) for label in self.next_labels):
            raise DataError(
                f"rows are missing between the training rows, which end at {last}, and the rows to predict, which "
                f"start at {first}; pass all rows from {self.next_labels[0]} on (TimeSeriesSplit: gap=0)"
            )
        _steps.next_labels(self.recent.append(index))


def time_index(X: Any):
    """Return the pandas index of ``X`` if it carries time, else None."""
    index = pandas_index(X)
    if index is None or index.nlevels != 1:
        return None
    kind = getattr(index.dtype, "kind", "O")
    if kind in "mM" and not hasattr(index, "freq"):  # Arrow types behave as the plain ones only once converted
        import pandas as pd

        return pd.DatetimeIndex(index) if kind == "M" else pd.TimedeltaIndex(index)
    return index if kind in "iufmM" or _is_period(index) else None


def pandas_index(X: Any):
    """Return the index of a pandas object, else None (lists have a method of that name)."""
    index = getattr(X, "index", None)
    return index if hasattr(index, "nlevels") else None


def check_same_rows(X: Any, y: Any) -> None:
    """Raise ``DataError`` if ``X`` and ``y`` are pandas objects of one length whose labels differ."""
    rows, targets = pandas_index(X), pandas_index(y)
    if rows is None or targets is None or len(rows) != len(targets) or rows.equals(targets):
        return
    for row, (ours, theirs) in enumerate(zip(rows, targets, strict=True)):
        if ours != theirs:
            raise DataError(
                f"the index of y is not that of X: row {row} is {ours} in X and {theirs} in y. Align them "
                "(y.loc[X.index]), or pass y.to_numpy() if their rows belong together as they stand"
            )


def _is_period(index) -> bool:
    return str(index.dtype).startswith("period")


def _kind(index) -> str:
    if _is_period(index):
        return f"periods of frequency {index.freqstr}"
    if index.dtype.kind == "M":
        return "time stamps without time zone" if index.tz is None else "time stamps with time zone"
    return "timedeltas" if index.dtype.kind == "m" else "numbers"


def _counts_from_zero(index) -> bool:
    """Whether labels are those that pandas gives by default: 0, 1, 2, ..."""
    if getattr(index.dtype, "kind", "O") not in "iu" or index.hasnans:
        return False
    return index[0] == 0 and index[-1] == len(index) - 1 and index.is_unique and index.is_monotonic_increasing


def _as_comparable(index, recent):
    """Labels of the rows to predict on the axis of the training rows, or ``DataError``."""
    ours, theirs = _kind(recent), _kind(index)
    if ours == theirs:
        return index.tz_convert(recent.tz) if ours == "time stamps with time zone" else index
    zoned = "time stamps with time zone"
    if zoned in (ours, theirs) and ours.startswith("time stamps") and theirs.startswith("time stamps"):
        zone = recent.tz if ours == zoned else None
        how = f"X.tz_localize({str(zone)!r})" if zone is not None else "X.tz_localize(None)"
    else:
        how = "convert the index"
    raise DataError(
        f"the index of the rows to predict holds {theirs} ({index[0]}, ...), that of the training rows {ours} (up to "
        f"{recent[-1]}), so that nothing says whether the rows follow; {how} before predict"
    )


def _check_order(index) -> None:
    if index.hasnans:
        raise DataError(f"the index has no label in row {int(index.isna().argmax())}; drop the row or give it its time")
    if not index.is_unique:
        raise DataError(
            f"the index holds {index[index.duplicated()][0]} twice; rows must be the time steps of one series"
        )
    if not index.is_monotonic_increasing:
        later = next(i for i in range(1, len(index)) if index[i] < index[i - 1])
        raise DataError(
            f"rows are not in time order: {index[later]} comes after {index[later - 1]}; sort the index, and split "
            "without shuffling (TimeSeriesSplit)"
        )
