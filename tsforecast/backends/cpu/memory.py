"""Buffers that a call of the kernels needs, and the way of weights into them."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.base import TrainState
from tsforecast.backends.cpu import epoch
from tsforecast.backends.cpu.arguments import Memory, State
from tsforecast.backends.cpu.lanes import LANES
from tsforecast.backends.cpu.optimizers import N_SCALARS
from tsforecast.backends.cpu.plan import Plan
from tsforecast.backends.cpu.tables import P_COLUMN, P_VECTORS

CACHE_LINE = 64  # bytes
# Of a work buffer that a thread keeps for its next call: fresh memory costs 0.2 ms a megabyte, or more in a virtual
# machine. Two threads want 94 MB for two layers of 256 units, 96 steps and batches of 128 rows.
MOST_KEPT_BYTES = 1 << 27
_kept, _NOTHING = threading.local(), np.empty(0, np.uint8)


def aligned_zeros(*shape: int, dtype: np.dtype) -> NDArray:
    """Zeros that begin with a cache line; a vector that lies across two is read and written twice."""
    n_bytes = math.prod(shape) * dtype.itemsize
    buffer = np.zeros(n_bytes + CACHE_LINE, np.uint8)
    first = -buffer.ctypes.data % CACHE_LINE
    return buffer[first : first + n_bytes].view(dtype).reshape(shape)


@contextmanager
def work_buffer(n: int, dtype: np.dtype) -> Iterator[NDArray]:
    """``n`` numbers of any value, since kernels write whatever they read; kept for the next call on this thread."""
    n_bytes = n * dtype.itemsize
    buffer, _kept.buffer = getattr(_kept, "buffer", _NOTHING), _NOTHING  # a signal handler may ask meanwhile
    if buffer.nbytes < n_bytes:
        buffer = aligned_zeros(n_bytes, dtype=_NOTHING.dtype)
    yield buffer[:n_bytes].view(dtype)
    if buffer.nbytes <= MOST_KEPT_BYTES:
        _kept.buffer = buffer


def thread_memory(plan: Plan, work: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Work buffers ``[threads, n_work]``, and frames and bases for as many threads."""
    work = work.reshape(-1, plan.n_work)
    return work, np.empty((len(work), plan.rows, 2)), np.empty((len(work), plan.rows, plan.net.n_outputs))


def training_memory(plan: Plan, work: NDArray, n_shards: int, carried: NDArray) -> Memory:
    """Scratch of a training epoch; ``work`` says how many threads there are, ``carried`` is that of ``plan``."""
    work, frame, base = thread_memory(plan, work)
    dtype = work.dtype
    n_columns = int(plan.panels[-1, P_COLUMN] + plan.panels[-1, P_VECTORS] * LANES)
    return Memory(
        work, frame, base, np.empty((len(work), N_SCALARS), dtype),
        aligned_zeros(n_shards, plan.net.n_gradient, dtype=dtype), np.zeros(n_shards), np.zeros(n_columns),
        np.zeros(n_columns), np.zeros(3), carried,
    )  # fmt: skip


def pack_flat(plan: Plan, flat: NDArray, size: int) -> NDArray:
    """A flat vector in the order of the packed weights, without the transposed copies."""
    packed = aligned_zeros(size, dtype=flat.dtype)
    epoch.pack(flat, plan.runs, packed)
    return packed


def packed_state(plan: Plan, state: TrainState) -> State:
    """The state as kernels see it."""
    n = plan.net.n_gradient
    return State(pack_flat(plan, state.params, plan.n_packed), pack_flat(plan, state.m, n), pack_flat(plan, state.v, n))
