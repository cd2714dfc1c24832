"""Arrays on the device: what stays there from epoch to epoch, and what happens where there is too little room."""

from __future__ import annotations

import weakref
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import numpy as np
from numba import cuda

from tsforecast.backends.base import Windows
from tsforecast.backends.cuda.launches import is_out_of_memory, launch
from tsforecast.backends.cuda.plan import ROWS, Plan
from tsforecast.backends.cuda.windows import N_FRAME, THREADS, measure
from tsforecast.exceptions import BackendUnavailableError
from tsforecast.spec import NetworkSpec

SPARE = 32 << 20  # bytes
MOST_KEPT = 4  # sets of windows that stay on the device: of training, of validation, and of a fit before


class DeviceWindows(NamedTuple):
    """``backends.base.Windows`` on the device."""

    values: object  # float32
    x_starts: object  # int64
    targets: object
    y_starts: object
    y_stride: int
    weights: object  # float32


class Store:
    """Device arrays that are used again: windows as long as their owner keeps them, and buffers by name and size."""

    def __init__(self):
        self._windows: list[tuple[weakref.ref, DeviceWindows, dict]] = []
        self._buffers: dict[str, object] = {}

    def windows(self, windows: Windows) -> tuple[DeviceWindows, dict]:
        """Windows on the device, and a dictionary for what is derived from them; uploaded once for each object."""
        self._windows = [kept for kept in self._windows if kept[0]() is not None]
        for owner, on_device, derived in self._windows:
            if owner() is windows:
                return on_device, derived
        arrays = (windows.values, windows.x_starts, windows.targets, windows.y_starts)
        values, x_starts, targets, y_starts = (upload(array) for array in arrays)
        on_device = DeviceWindows(values, x_starts, targets, y_starts, int(windows.y_stride), upload(windows.weights))
        derived: dict = {}
        self._windows = [*self._windows, (weakref.ref(windows), on_device, derived)][-MOST_KEPT:]
        return on_device, derived

    def upload(self, name: str, array: np.ndarray):
        """Copy an array to the buffer of that name."""
        buffer = self._buffers.get(name)
        if buffer is not None and buffer.size == array.size and buffer.dtype == array.dtype:
            buffer.copy_to_device(np.ascontiguousarray(array).reshape(-1))
            return buffer
        self._buffers[name] = upload(array)
        return self._buffers[name]

    def has(self, name: str, size: int, dtype=np.float32) -> bool:
        """Whether ``room`` has nothing to allocate."""
        buffer = self._buffers.get(name)
        return buffer is not None and buffer.size >= size and buffer.dtype == dtype

    def room(self, name: str, size: int, dtype=np.float32):
        """The buffer of that name with at least ``size`` numbers, whatever they are."""
        if not self.has(name, size, dtype):
            self._buffers.pop(name, None)
            self._buffers[name] = allocate(size, dtype)
        return self._buffers[name]

    def room_for_tiles(self, plan: Plan, n_tiles: int, n_params: int):
        """``(tiles, work buffers, gradients)`` for as many tiles as there is memory for, at most ``n_tiles``."""
        is_there = self.has("work", n_tiles * plan.n_work) and self.has("gradients", n_tiles * n_params)
        with nullcontext() if is_there else _spared():
            while True:
                try:
                    # No name holds what is to be given back.
                    return (
                        n_tiles, self.room("work", n_tiles * plan.n_work),
                        self.room("gradients", n_tiles * n_params),
                    )  # fmt: skip
                except BackendUnavailableError as error:
                    for name in ("work", "gradients"):
                        self._buffers.pop(name, None)
                    if n_tiles == 1:
                        needs = 4 * (plan.n_work + n_params) / 2**20
                        raise BackendUnavailableError(
                            f"a tile of {ROWS} windows needs {needs:.1f} MiB on the GPU, which has "
                            f"{_free() / 2**20:.1f} MiB left. No batch_size would fit, since batches go through in "
                            "such tiles: train on shorter windows, free memory of the GPU, or use device='cpu'. The "
                            "model is as it was"
                        ) from error
                    n_tiles = max(1, n_tiles // 2)

    def room_for_batch(self, plan: Plan, n_rows: int):
        """The work buffer of a network that takes a whole batch of ``n_rows`` at once."""
        with nullcontext() if self.has("work", plan.n_work) else _spared():
            try:
                return self.room("work", plan.n_work)
            except BackendUnavailableError as error:
                n_free = _free()
                fit = int(0.9 * n_rows * n_free / (4 * plan.n_work)) // ROWS * ROWS
                help_ = f"batch_size={fit} would fit" if fit else "not even batch_size=4 would fit"
                raise BackendUnavailableError(
                    f"a batch of {n_rows} windows needs {4 * plan.n_work / 2**20:.0f} MiB on the GPU, which has "
                    f"{n_free / 2**20:.0f} MiB left: {help_}. The model is as it was"
                ) from error


@contextmanager
def _spared():
    """Leave room for the small arrays that come with each launch."""
    spare = allocate(SPARE, np.int8)
    try:
        yield
    finally:
        del spare


def _free() -> int:
    return int(cuda.current_context().get_memory_info().free)


def upload(array: np.ndarray):
    """A flat copy of an array on the device."""
    flat = np.ascontiguousarray(array).reshape(-1)
    try:
        return cuda.to_device(flat if flat.size else np.zeros(1, flat.dtype))
    except Exception as error:
        raise _explained(error, flat.nbytes) from error


def allocate(size: int, dtype=np.float32):
    """A flat array on the device, unset."""
    try:
        return cuda.device_array(max(1, size), dtype)
    except Exception as error:
        raise _explained(error, size * np.dtype(dtype).itemsize) from error


def _explained(error: Exception, n_bytes: int) -> Exception:
    if not is_out_of_memory(error):
        return error
    return BackendUnavailableError(
        f"the GPU has no {n_bytes / 2**20:.1f} MiB left: train on fewer or shorter windows, free memory of the GPU, or "
        "use device='cpu'. The model is as it was"
    )


def frames_of(
    spec: NetworkSpec,
    table,  # on the device
    values,
    x_starts,
    n_windows: int,
):
    """Location and scale of every window, ``[N,F,3]`` on the device; see ``windows.measure``."""
    if spec.window_norm == "none":
        return allocate(1)
    n = n_windows * spec.n_features
    frames = allocate(n * N_FRAME)
    launch(measure, max(1, min(4096, -(-n // THREADS))), THREADS, table, values, x_starts, frames)
    return frames
