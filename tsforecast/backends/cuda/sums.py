"""Sums over a block and over a grid, in an order that never changes: no atomics, so the same bits from run to run."""

from __future__ import annotations

from functools import lru_cache

from numba import cuda

from tsforecast.backends.cuda.activations import ZERO
from tsforecast.backends.cuda.jit import ALL_LANES, device, grid_barrier, load, renewed, store


@lru_cache
def make_block_sum(n_threads: int):
    """Device function ``block_sum(value, tid, sums)`` for blocks of ``n_threads``; ``sums [n_threads / 32]`` is shared.

    Every thread of the block calls it and gets the sum. It begins and ends with a barrier.
    """
    N_WARPS = n_threads // 32

    @device
    def block_sum(value, tid, sums):
        for i in range(5):
            value += cuda.shfl_xor_sync(ALL_LANES, value, 1 << i)
        if tid & 31 == 0:
            store(sums, tid >> 5, value)
        cuda.syncthreads()
        total = ZERO
        for warp in range(N_WARPS):
            total += load(sums, warp)
        cuda.syncthreads()
        return total

    return block_sum


@lru_cache
def make_grid_sum(n_threads: int):
    """Device function that adds up what each part of a model has stored; called by every thread of a block."""
    block_sum = make_block_sum(n_threads)

    @device
    def grid_sum(totals, first, n_parts, tid, sums):
        value = ZERO
        for part in range(renewed(tid), n_parts, n_threads):
            value += load(totals, first + part)
        return block_sum(value, tid, sums)

    return grid_sum


def make_barrier(parts: bool):
    """Barrier of all blocks of a launch, where several work on one model; else of the one block."""
    if parts:

        @device
        def barrier():
            grid_barrier()

    else:

        @device
        def barrier():
            cuda.syncthreads()

    return barrier
