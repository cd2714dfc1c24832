"""Statistics and casts of windows over flat buffers: float64 in the middle, one owned buffer out.

Letters: N windows, T steps, F columns a step. Rows are visited in fixed chunks, so that nothing is built and the
sums have one order. Sums are NumPy reductions, never BLAS or einsum: their order is the same on every CPU.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tsforecast.backends.base import Windows
from tsforecast.exceptions import DataError
from tsforecast.spec import NetworkSpec

CHUNK = 1 << 16  # elements gathered at a time: 512 KiB of float64

# Largest magnitude taken: squares and sums of squares of what enters a kernel must stay finite in its dtype.
LIMITS = {"float32": 1e15, "float64": 1e100}


def gather(flat: np.ndarray, starts: np.ndarray, width: int, stride: int = 1) -> np.ndarray:
    """``flat[starts[i] + j*stride]`` for j < width, copied to ``[len(starts), width]``."""
    span = (width - 1) * stride + 1
    return sliding_window_view(flat, span)[:, ::stride][starts]


def _chunks(n: int, width: int):
    step = max(1, CHUNK // width)
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def weighted_mean_scale(
    flat: np.ndarray, starts: np.ndarray, n_steps: int, n_columns: int, weights: np.ndarray, stride: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation of each column over all steps of all windows, in two passes.

    Parameters
    ----------
    flat : ndarray
        Values of any floating dtype; window i at step t, column c is ``flat[starts[i] + (t*n_columns + c)*stride]``.
    starts : ndarray of shape (N,), int64
    n_steps, n_columns : int
    weights : ndarray of shape (N,), float64
        Not all zero.
    stride : int, default=1

    Returns
    -------
    mean, scale : ndarray of shape (n_columns,), float64
        ``scale`` is 1 where a column is constant up to rounding.
    """
    width = n_steps * n_columns
    chunks = _chunks(len(starts), width)
    total = weights.sum() * n_steps

    def blocks():
        for rows in chunks:
            block = gather(flat, starts[rows], width, stride).astype(np.float64, copy=False)
            yield block.reshape(-1, n_steps, n_columns), weights[rows, None, None]

    mean = sum((x * w).sum(axis=(0, 1)) for x, w in blocks()) / total
    variance = sum(((x - mean) ** 2 * w).sum(axis=(0, 1)) for x, w in blocks()) / total
    scale = np.sqrt(variance)
    scale[scale <= 10 * np.finfo(np.float64).eps * np.abs(mean)] = 1.0
    return mean, scale


def input_mean_scale(windows: Windows, spec: NetworkSpec, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale ``[F + E]`` of the features of a step, and of the known-future inputs of one."""
    T, F = spec.n_timesteps, spec.n_features
    mean, scale = weighted_mean_scale(windows.values, windows.x_starts, T, F, weights)
    if spec.n_future:
        future = weighted_mean_scale(windows.values, windows.x_starts + T * F, spec.n_outputs, spec.n_future, weights)
        mean, scale = np.append(mean, future[0]), np.append(scale, future[1])
    return mean, scale


def scaled_values(model, values: np.ndarray) -> np.ndarray:
    """The flat values of windows, owned and of the estimator's dtype, standardised if the model is.

    Without known-future inputs ``values`` holds whole steps; with them whole rows, first T*F then K*E numbers.
    """
    spec, mean, scale = model._spec(), model._x_mean, model._x_scale
    width, F = spec.n_features, spec.n_features
    if spec.n_future:
        width = spec.row_size
        if mean is not None:
            mean, scale = (
                np.append(np.tile(a[:F], spec.n_timesteps), np.tile(a[F:], spec.n_outputs)) for a in (mean, scale)
            )
    return cast(values.reshape(-1, width), model._params.dtype.name, mean, scale, what="X").ravel()


def cast(values: np.ndarray, dtype: str, mean=None, scale=None, *, what: str) -> np.ndarray:
    """Owned, C-contiguous ``(values - mean) / scale`` in ``dtype``, computed in float64.

    Parameters
    ----------
    values : ndarray of shape (rows, columns)
        Rows are steps, columns the features of a step (or the outputs of a target).
    dtype : {"float32", "float64"}
    mean, scale : ndarray of shape (columns,) or None
        None casts without scaling.
    what : str
        Name of the values in error messages.

    Raises
    ------
    DataError
        If a value is too large for the network's arithmetic.
    """
    out = np.empty(values.shape, dtype=dtype)
    step = max(1, CHUNK // max(1, values.shape[1]))
    for i in range(0, len(values), step):
        block = values[i : i + step]
        if mean is not None:
            with np.errstate(over="ignore"):
                block = (block - mean) / scale
        check_magnitude(block, dtype, what=what, raw=values[i : i + step])
        out[i : i + step] = block
    return out


def scaled_windows(model, windows: Windows) -> Windows:
    """Windows over owned buffers of the estimator's dtype, standardised if the model is."""
    n_outputs, dtype = model.n_outputs_, model.dtype
    if model._x_mean is None:
        targets, y_starts, stride = windows.targets.reshape(-1, 1), windows.y_starts, windows.y_stride
    else:  # overlapping targets would be scaled once for each output they belong to: give each its own place
        targets = gather(windows.targets, windows.y_starts, n_outputs, windows.y_stride)
        y_starts, stride = np.arange(len(windows), dtype=np.int64) * n_outputs, 1
    return Windows(
        values=scaled_values(model, windows.values),
        x_starts=np.ascontiguousarray(windows.x_starts, dtype=np.int64),
        targets=cast(targets, dtype, model._y_mean, model._y_scale, what="y").ravel(),
        y_starts=np.ascontiguousarray(y_starts, dtype=np.int64),
        weights=np.ascontiguousarray(windows.weights, dtype=dtype),
        y_stride=stride,
    )


def check_magnitude(values: np.ndarray, dtype: str, *, what: str, names=None, raw=None) -> None:
    """Raise ``DataError`` naming the column if a magnitude is above ``LIMITS[dtype]``.

    NaN passes (it may lie between the series of a panel, where no window reaches); infinity does not.
    ``raw`` holds the same cells before standardising, for the message.
    """
    if not values.size or float(np.fmax.reduce(np.abs(values), axis=None)) <= LIMITS[dtype]:
        return
    worst = np.abs(values, dtype=np.float64) > LIMITS[dtype]
    if not worst.any():  # all NaN
        return
    row, column = np.argwhere(worst)[0]
    place = f"column {names[column]!r}" if names is not None else f"column {column}"
    number = (values if raw is None else raw)[row, column]
    hint = "" if dtype == "float64" else ', or use dtype="float64"'
    raise DataError(
        f"{what}: {place} holds {number:.3g}, too large for {dtype} (limit {LIMITS[dtype]:g}, before and after "
        f"standardising); divide the column by a constant first{hint}"
    )
