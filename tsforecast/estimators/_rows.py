"""Rows ``(X, y, sample_weight)`` of a scikit-learn call as windows over flat buffers, and the chronological split."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tsforecast._compat import _check_sample_weight, validate_data
from tsforecast.backends.base import Windows
from tsforecast.estimators import _scaling
from tsforecast.estimators._inputs import flat_buffer, flatten_windows, is_newest_first, reverse_time, steps_of_width
from tsforecast.exceptions import DataError, NotEnoughHistoryError


def read_training_rows(model, X, y, sample_weight, *, reset: bool) -> Windows:
    """Validate training rows; with ``reset`` also fix ``model``'s widths, lag order and number of outputs."""
    X, shape = flatten_windows(X)
    X, y = validate_data(model, X, y, multi_output=True, y_numeric=True, dtype=[np.float64, np.float32], reset=reset)
    y = as_targets(y)
    if reset:
        model._y_dtype = y.dtype.name
        model._y_is_1d = y.ndim == 1
        model.n_outputs_ = 1 if y.ndim == 1 else y.shape[1]
        width = X.shape[1] - _future_width(model, X.shape[1], shape)
        steps, features = shape or (steps_of_width(width, model.n_features_per_step), model.n_features_per_step)
        model._n_timesteps, model._n_features_per_step = int(steps), int(features)
        names = getattr(model, "feature_names_in_", None)
        names = None if names is None else names[:width]
        model._newest_first = bool(is_newest_first(model.lag_order, names, features))
    return _as_windows(model, X, shape, y, sample_weight)


def _future_width(model, width: int, shape: tuple[int, int] | None) -> int:
    """How many columns at the end of a row are known-future inputs."""
    n = model.n_future_features * model.n_outputs_
    if n and shape is not None:
        raise DataError(
            f"n_future_features={model.n_future_features} needs rows (n, T*F + K*E), and X has three axes; append the "
            "known-future inputs of each row, time-major, to X.reshape(n, -1)"
        )
    if n >= width:
        raise DataError(
            f"X has {width} feature(s), but the known-future inputs alone take {n} (n_future_features="
            f"{model.n_future_features} for each of {model.n_outputs_} outputs), and a window stands before them"
        )
    return n


def row_buffer(model, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of rows one after the other, in the order of time, and where each row begins, int64."""
    n_features, n_window = model._n_features_per_step, model._n_timesteps * model._n_features_per_step
    if model._newest_first:
        X = np.concatenate([reverse_time(X[:, :n_window], n_features), X[:, n_window:]], axis=1)
    if X.shape[1] > n_window:  # rows with known-future inputs are scaled as a whole
        return np.ascontiguousarray(X).ravel(), np.arange(len(X), dtype=np.int64) * X.shape[1]
    values, starts = flat_buffer(X, n_features)
    if model.stateful and len(values) < X.size:
        raise DataError(
            "the rows of X overlap, and with stateful=True each goes on where the one before ends; cut them with "
            "sliding_windows(..., stride=n_timesteps)"
        )
    return values, starts


def read_validation_rows(model, X, y, sample_weight) -> Windows | None:
    """Validate ``X_val, y_val``; None if they are not given."""
    if X is None and y is None:
        return None
    if X is None or y is None:
        raise ValueError("X_val and y_val go together; one of them is missing")
    if not model.early_stopping:
        raise ValueError("X_val and y_val are given but early_stopping=False; set early_stopping=True to use them")
    X, shape = flatten_windows(X)
    X, y = validate_data(model, X, y, multi_output=True, y_numeric=True, dtype=[np.float64, np.float32], reset=False)
    return _as_windows(model, X, shape, as_targets(y), sample_weight)


def check_window_shape(model, shape: tuple[int, int] | None) -> None:
    """A 3-D input must have the ``(T, F)`` that fit saw; a 2-D one is judged by its width alone."""
    fitted = (model._n_timesteps, model._n_features_per_step)
    if shape is not None and shape != fitted:
        raise DataError(
            f"X has windows of shape (T, F) = {shape}, but {type(model).__name__} was fitted on {fitted}; "
            "axes are (rows, steps, features)"
        )


def split_tail(windows: Windows, n_timesteps: int, n_outputs: int, fraction: float) -> tuple[Windows, Windows]:
    """Hold out the last windows, with an embargo before them.

    Rows are taken to be consecutive windows in time order: the ``max(T, K) - 1`` windows before the held-out ones
    are used by neither side, so that no training window shares an input step or a target with a validation window.

    Raises
    ------
    NotEnoughHistoryError
        If no training window remains.
    """
    n = len(windows)
    n_val = math.ceil(n * fraction)
    embargo = max(n_timesteps, n_outputs) - 1
    n_train = n - n_val - embargo
    if n_train < 1:
        raise NotEnoughHistoryError(
            f"early_stopping=True needs training rows besides {n_val} validation rows (validation_fraction={fraction}) "
            f"and {embargo} rows between them, but X has {n} rows; pass X_val and y_val, lower validation_fraction, "
            "or set early_stopping=False"
        )
    return windows.take(slice(0, n_train)), windows.take(slice(n - n_val, n))


def merge_repeated(windows: Windows, width: int, n_outputs: int) -> Windows:
    """Windows sorted by content, equal ones merged and their weights added.

    For one batch that holds every window: order and repetition mean nothing there, and so change no bit either.
    """
    rows = np.hstack(
        [
            _scaling.gather(windows.values, windows.x_starts, width),
            _scaling.gather(windows.targets, windows.y_starts, n_outputs, windows.y_stride),
        ]
    )
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return replace(
        windows,
        x_starts=windows.x_starts[first],
        y_starts=windows.y_starts[first],
        weights=np.bincount(inverse.ravel(), weights=windows.weights),
    )


def as_targets(y) -> np.ndarray:
    """Return ``y`` as float32 or float64, in its own shape; whole numbers become float64."""
    y = np.asarray(y)
    return y if y.dtype in (np.float32, np.float64) else y.astype(np.float64)


def _as_windows(model, X, shape, y, sample_weight) -> Windows:
    check_window_shape(model, shape)
    n_outputs = 1 if y.ndim == 1 else y.shape[1]
    if n_outputs != model.n_outputs_:
        raise DataError(f"y has {n_outputs} columns, but the model was fitted on {model.n_outputs_}")
    y = y.reshape(len(y), -1)
    weights = _weights(sample_weight, X)
    if model.stateful and not weights.all():
        raise DataError("stateful=True goes through rows that follow one another; a weight of 0 would leave one out")
    if not weights.all():  # a weight of zero is the row left out, also of the batches
        X, y, weights = X[weights > 0], y[weights > 0], weights[weights > 0]
    values, starts = row_buffer(model, X)
    if len(values) == X.size:
        _scaling.check_magnitude(X, model.dtype, what="X", names=getattr(model, "feature_names_in_", None))
    else:
        _scaling.check_magnitude(values.reshape(-1, model._n_features_per_step), model.dtype, what="X")
    _scaling.check_magnitude(y, model.dtype, what="y")
    return Windows(
        values=values,
        x_starts=starts,
        targets=y.ravel(),
        y_starts=np.arange(len(X), dtype=np.int64) * n_outputs,
        weights=weights,
    )


def _weights(sample_weight, X) -> np.ndarray:
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not weights.any():
        raise DataError("sample_weight is zero for every row; at least one weight must be positive")
    if weights.max() > _scaling.LIMITS["float32"]:
        raise DataError(f"sample_weight holds {weights.max():.3g}; divide the weights by their mean first")
    return weights
