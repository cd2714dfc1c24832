"""How rows enter an estimator: 3-D input is flattened at the door, and lag columns are brought into time order."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tsforecast.exceptions import DataError

# lag1, lag_1, y_lag_1 (mlforecast, skforecast) and y_target_lag-1 (darts)
_LAG_NAME = re.compile(r"(?:lag_?|_lag-)(\d+)$")


def flatten_windows(X):
    """Return ``X`` as 2-D rows, and ``(T, F)`` if it was a 3-D array ``(n, T, F)`` (else None).

    Anything that is not a 3-D array passes through untouched: scikit-learn's validation judges it.
    """
    if getattr(X, "ndim", None) is None and isinstance(X, (list, tuple)):
        depth, inner = 0, X
        while isinstance(inner, (list, tuple)) and inner:
            depth, inner = depth + 1, inner[0]
        if depth == 3:
            X = np.asarray(X, dtype=np.float64)
    if getattr(X, "ndim", 2) != 3:
        return X, None
    X = np.asarray(X)
    n, steps, features = X.shape
    return X.reshape(n, steps * features), (steps, features)


def steps_of_width(width: int, n_features_per_step: int) -> int:
    """Window length T of a 2-D row of ``width`` columns."""
    if width % n_features_per_step:
        raise DataError(
            f"X has {width} columns, which is not a multiple of n_features_per_step={n_features_per_step}; "
            "a 2-D X holds T*F columns, time-major (all features of the oldest step first)"
        )
    return width // n_features_per_step


def is_newest_first(lag_order: str, names: Sequence[str] | None, n_features: int) -> bool:
    """Whether windows must be reversed in time, from the parameter and the column names.

    Parameters
    ----------
    lag_order : {"auto", "oldest_first", "newest_first"}
    names : sequence of str or None
        Feature names, where the input had them.
    n_features : int
        Features a step F; names of one step stand together.

    Raises
    ------
    DataError
        If lag names are neither ascending nor descending from step to step.
    """
    if lag_order != "auto" or names is None:
        return lag_order == "newest_first"
    found = [_LAG_NAME.search(str(name)) for name in names]
    lags = [int(m.group(1)) for m in found if m]
    if len(set(lags)) < 2:
        return False
    if len(lags) < len(names):
        others = [str(name) for name, m in zip(names, found, strict=True) if not m]
        warnings.warn(
            f"columns {others[:5]} are no lags but are read as time steps; leave them out, or reshape X to "
            "(n, T, F) with them repeated at each step, or set lag_order to silence this",
            stacklevel=4,
        )
    pairs = list(pairwise(lags))
    if all(a >= b for a, b in pairs):
        return False
    if all(a <= b for a, b in pairs):
        return True
    raise DataError(
        f"the lags in the column names are neither rising nor falling ({lags[:6]}...); put the columns in time order "
        f"({n_features} feature(s) of one step side by side), or set lag_order"
    )


def flat_buffer(X: np.ndarray, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of rows ``[n, T*F]`` one after the other, and where each row begins, int64.

    Rows that overlap, as those of ``sliding_windows`` do, are the series they were cut from: a built copy would be T
    times as large.
    """
    n, width = X.shape
    step, rest = divmod(X.strides[0], X.itemsize)
    starts = np.arange(n, dtype=np.int64)
    if n > 1 and X.strides[1] == X.itemsize and not rest and 0 < step < width and step % n_features == 0:
        series = np.lib.stride_tricks.as_strided(X, ((n - 1) * step + width,), (X.itemsize,), writeable=False)
        return series, starts * step
    return X.ravel(), starts * width


def reverse_time(X: np.ndarray, n_features: int) -> np.ndarray:
    """Rows ``[n, T*F]`` with the steps of each window in reverse order, copied."""
    n = len(X)
    return np.ascontiguousarray(X.reshape(n, -1, n_features)[:, ::-1]).reshape(X.shape)
