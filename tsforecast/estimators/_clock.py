"""Where rows stand in time: checks on a pandas index that keep windows from crossing gaps or running backwards."""

from __future__ import annotations

import warnings
from typing import Any

from tsforecast.exceptions import DataError


class TrainingClock:
    """The end of the training rows on the time axis of their index.

    Only indexes that carry time are judged: datetimes, periods, timedeltas and numbers. Arrays, polars frames and
    frames with other labels carry none, and their rows are taken at their word; so are rows to predict whose index is
    the one that pandas gives by default, counting from 0.
    """

    def __init__(self, X: Any):
        index = time_index(X)
        self.last = self.step = None
        if index is None or len(index) == 0:
            return
        _check_order(index)
        self.last = index[-1]
        self.step = _regular_step(index)

    def check_follows(self, X: Any) -> None:
        """Raise ``DataError`` unless the rows of ``X`` come right after the training rows."""
        index = time_index(X)
        if index is None or len(index) == 0 or self.last is None or not isinstance(index[0], type(self.last)):
            return
        if _is_default(index):
            return
        _check_order(index)
        first = index[0]
        if first <= self.last:
            raise DataError(
                f"the rows to predict start at {first}, but the training rows end at {self.last}: their history is "
                "not stored. Pass rows that follow the training rows (TimeSeriesSplit makes such folds, KFold does not)"
            )
        if self.step is not None and first != self.last + self.step:
            raise DataError(
                f"rows are missing between the training rows, which end at {self.last}, and the rows to predict, which "
                f"start at {first}; pass all rows from {self.last + self.step} on (TimeSeriesSplit: gap=0)"
            )


def time_index(X: Any):
    """Return the pandas index of ``X`` if it carries time, else None."""
    index = getattr(X, "index", None)
    if index is None or callable(index) or getattr(index, "nlevels", 1) != 1:
        return None
    kind = getattr(index.dtype, "kind", "O")
    is_period = str(index.dtype).startswith("period")
    return index if kind in "iufmM" or is_period else None


def _is_default(index) -> bool:
    return type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1


def _check_order(index) -> None:
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


def _regular_step(index):
    """Distance from a row to the next, as something that can be added to a label; None if rows are irregular."""
    if len(index) < 3:
        return None
    if str(index.dtype).startswith("period"):
        return index.freq if (index[-1] - index[0]).n == len(index) - 1 else None
    step = index[1] - index[0]
    if bool(((index[1:] - index[:-1]) == step).all()):
        return step
    if index.dtype.kind == "M":
        return _calendar_step(index)
    return None


def _calendar_step(index):
    """Months, quarters, business days: the offset between rows, or None."""
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas 3.1 announces that the result will become an offset
        freq = pd.infer_freq(index)
    return None if freq is None else pd.tseries.frequencies.to_offset(freq)
