"""Buffers that a call of the kernels needs, and the way of weights into them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.base import TrainState
from tsforecast.backends.cpu import epoch
from tsforecast.backends.cpu.lanes import LANES
from tsforecast.backends.cpu.optimizers import N_SCALARS
from tsforecast.backends.cpu.plan import P_COLUMN, P_VECTORS, Plan

MOST_KEPT_BYTES = (
    1 << 25
)  # of a work buffer that a thread keeps for its next call: fresh memory costs 0.2 ms a megabyte
_kept, _NOTHING = threading.local(), np.empty(0, np.uint8)


@contextmanager
def work_buffer(n: int, dtype: np.dtype) -> Iterator[NDArray]:
    """``n`` numbers of any value, since kernels write whatever they read; kept for the next call on this thread."""
    n_bytes = n * dtype.itemsize
    buffer, _kept.buffer = getattr(_kept, "buffer", _NOTHING), _NOTHING  # a signal handler may ask meanwhile
    if buffer.nbytes < n_bytes:
        buffer = np.empty(n_bytes, np.uint8)
    yield buffer[:n_bytes].view(dtype)
    if buffer.nbytes <= MOST_KEPT_BYTES:
        _kept.buffer = buffer


def thread_memory(plan: Plan, work: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Work buffers ``[threads, n_work]``, and frames and bases for as many threads."""
    work = work.reshape(-1, plan.n_work)
    return work, np.empty((len(work), plan.rows, 2)), np.empty((len(work), plan.rows, plan.net.n_outputs))


def training_memory(plan: Plan, work: NDArray, n_shards: int) -> epoch.Memory:
    """Scratch of a training epoch; ``work`` says how many threads there are."""
    work, frame, base = thread_memory(plan, work)
    dtype = work.dtype
    n_columns = int(plan.panels[-1, P_COLUMN] + plan.panels[-1, P_VECTORS] * LANES)
    return epoch.Memory(
        work, frame, base, np.empty((len(work), N_SCALARS), dtype), np.empty((n_shards, plan.net.n_gradient), dtype),
        np.zeros(n_shards), np.zeros(n_columns), np.zeros(n_columns), np.zeros(3),
    )  # fmt: skip


def pack_flat(plan: Plan, flat: NDArray, size: int) -> NDArray:
    """A flat vector in the order of the packed weights, without the transposed copies."""
    packed = np.zeros(size, dtype=flat.dtype)
    epoch.pack(flat, plan.runs, packed)
    return packed


def packed_state(plan: Plan, state: TrainState) -> epoch.State:
    """The state as kernels see it."""
    n = plan.net.n_gradient
    return epoch.State(
        pack_flat(plan, state.params, plan.n_packed), pack_flat(plan, state.m, n), pack_flat(plan, state.v, n)
    )
