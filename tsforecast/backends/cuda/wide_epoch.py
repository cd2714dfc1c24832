"""The kernels for networks with a layer too wide for one block; see ``wide``, and ``epoch`` for their arguments."""

from __future__ import annotations

import math
from functools import lru_cache

from numba import cuda, float32

from tsforecast.backends.cuda.activations import ONE, ZERO
from tsforecast.backends.cuda.jit import kernel, load, place, split, store
from tsforecast.backends.cuda.links import window_gradient
from tsforecast.backends.cuda.losses import tile_loss
from tsforecast.backends.cuda.noise import NO_KEY
from tsforecast.backends.cuda.optimizers import DECAY, N_SCALARS, SHARE
from tsforecast.backends.cuda.plan import (
    CAPACITY,
    D_OUT,
    FEATURES,
    OUT,
    OUTPUTS,
    QUANTILES,
    STEPS,
)
from tsforecast.backends.cuda.step import make_step
from tsforecast.backends.cuda.sums import make_block_sum, make_grid_sum
from tsforecast.backends.cuda.wide import make_wide_network
from tsforecast.backends.cuda.wide_tile import N_SHARED, THREADS, thread_of_grid
from tsforecast.backends.cuda.windows import in_units_of_data, read_windows, season_base

BLOCKS_PER_PROCESSOR = 2
N_WARPS = THREADS // 32


@lru_cache
def make_train_wide(cell: str, is_chain: bool):
    """The kernel ``train_wide``: all blocks work on the one model."""
    network = make_wide_network(cell, is_chain)
    forward, backward, barrier = network.forward, network.backward, network.barrier
    block_sum, grid_sum = make_block_sum(THREADS), make_grid_sum(THREADS)
    sum_gradients, update_parameters = make_step(THREADS)

    @kernel(THREADS, BLOCKS_PER_PROCESSOR)
    def train_wide(
        table, is_weight, values, x_starts, targets, y_starts, y_stride, weights, frames, order, batch_rows, scalars,
        keys, begins, ends, codes, rule, quantiles, params, m, v,
        gradients,  # [P]
        work,  # [n_work]
        n_work, totals, losses, done,
    ):  # fmt: skip
        shared = cuda.shared.array(N_SHARED, float32, alignment=16)
        sums = cuda.shared.array(N_WARPS, float32)
        tid, block, n_blocks = cuda.threadIdx.x, cuda.blockIdx.x, cuda.gridDim.x
        batch, is_finite = load(begins, 0) + 0, True
        while is_finite and batch < load(ends, 0):
            at, n_rows = batch * N_SCALARS, load(table, CAPACITY)
            if load(scalars, at + SHARE) != ZERO:
                first, n = load(batch_rows, 2 * batch), load(batch_rows, 2 * batch + 1)
                mine, n_all = thread_of_grid()
                read_windows(table, values, x_starts, frames, order, first, n, work, n_rows, mine, n_all)
                forward(params, table, work, shared, load(keys, batch))
                mine, n_all = thread_of_grid()
                loss = tile_loss(
                    table, codes, rule, quantiles, targets, y_starts, y_stride, weights, frames, order, first, n,
                    load(scalars, at + SHARE), work, n_rows, mine, n_all,
                )  # fmt: skip
                loss = block_sum(loss, tid, sums)
                if tid == 0:
                    store(totals, block, loss)
                backward(params, table, work, shared, gradients, True, load(keys, batch))
                tid, block, n_blocks = place()
                squares, penalty = sum_gradients(
                    table, is_weight, rule, load(scalars, at + DECAY), params, gradients, 1, block, n_blocks, tid
                )
                squares, penalty = block_sum(squares, tid, sums), block_sum(penalty, tid, sums)
                if tid == 0:
                    store(totals, n_blocks + block, squares)
                    store(totals, 2 * n_blocks + block, penalty)
                barrier()
                loss = grid_sum(totals, 0, n_blocks, tid, sums)
                loss += grid_sum(totals, 2 * n_blocks, n_blocks, tid, sums)
                norm = math.sqrt(grid_sum(totals, n_blocks, n_blocks, tid, sums))
                is_finite = math.isfinite(loss) and math.isfinite(norm)
                if is_finite:
                    update_parameters(
                        table, is_weight, codes, rule, scalars, batch, norm, params, m, v, gradients, block, n_blocks,
                        tid,
                    )  # fmt: skip
                    if block == 0 and tid == 0:
                        store(losses, batch, loss)
                barrier()
            if is_finite:
                batch += 1
        if block == 0 and tid == 0:
            store(done, 0, batch - load(begins, 0))

    return train_wide


@lru_cache
def make_infer_wide(cell: str, is_chain: bool):
    """The kernel ``infer_wide``: forecasts, or losses without learning, of one tile after the other."""
    network = make_wide_network(cell, is_chain)
    forward, barrier = network.forward, network.barrier
    block_sum, grid_sum = make_block_sum(THREADS), make_grid_sum(THREADS)

    @kernel(THREADS, BLOCKS_PER_PROCESSOR)
    def infer_wide(
        table, values, x_starts, targets, y_starts, y_stride, weights, frames, rows,
        tiles,  # [tiles,3] int32: 0, first row, and how many rows: at most the capacity
        codes, rule, quantiles, params, work, n_work, with_losses, losses, forecasts,
        totals,  # [blocks]
    ):  # fmt: skip
        shared = cuda.shared.array(N_SHARED, float32, alignment=16)
        sums = cuda.shared.array(N_WARPS, float32)
        tid, block, n_blocks = cuda.threadIdx.x, cuda.blockIdx.x, cuda.gridDim.x
        n_rows = load(table, CAPACITY)
        n_outputs = load(table, OUTPUTS) * load(table, QUANTILES)
        for tile in range(len(tiles) // 3):
            first, n = load(tiles, 3 * tile + 1), load(tiles, 3 * tile + 2)
            mine, n_all = thread_of_grid()
            read_windows(table, values, x_starts, frames, rows, first, n, work, n_rows, mine, n_all)
            forward(params, table, work, shared, NO_KEY)
            mine, n_all = thread_of_grid()
            if with_losses != 0:
                loss = tile_loss(
                    table, codes, rule, quantiles, targets, y_starts, y_stride, weights, frames, rows, first, n, ONE,
                    work, n_rows, mine, n_all,
                )  # fmt: skip
                loss = block_sum(loss, tid, sums)
                if tid == 0:
                    store(totals, block, loss)
                barrier()
                loss = grid_sum(totals, 0, n_blocks, tid, sums)
                if block == 0 and tid == 0:
                    store(losses, tile, loss)
            else:
                for e in range(mine, n * n_outputs, n_all):
                    row, o = split(e, n_outputs)
                    k, _ = split(o, load(table, QUANTILES))
                    y = load(work, load(table, OUT) + e) + season_base(table, work, n_rows, row, k)
                    store(forecasts, first * n_outputs + e, in_units_of_data(table, frames, load(rows, first + row), y))
            barrier()

    return infer_wide


@lru_cache
def make_differentiate_wide(cell: str, is_chain: bool):
    """The kernel ``differentiate_wide``: outputs, and gradients of ``sum(outputs * cotangent)``, of one tile."""
    network = make_wide_network(cell, is_chain)
    forward, backward = network.forward, network.backward

    @kernel(THREADS, BLOCKS_PER_PROCESSOR)
    def differentiate_wide(
        table, values, x_starts, frames, rows, params, work, n_work, cotangent, outputs, gradients, dx
    ):
        shared = cuda.shared.array(N_SHARED, float32, alignment=16)
        mine, n_all = thread_of_grid()
        n_rows, n = load(table, CAPACITY), len(rows)
        n_outputs = load(table, OUTPUTS) * load(table, QUANTILES)
        read_windows(table, values, x_starts, frames, rows, 0, n, work, n_rows, mine, n_all)
        forward(params, table, work, shared, NO_KEY)
        mine, n_all = thread_of_grid()
        for e in range(mine, n_rows * n_outputs, n_all):
            store(work, load(table, D_OUT) + e, load(cotangent, e) if e < n * n_outputs else ZERO)
            if e < n * n_outputs:
                store(outputs, e, load(work, load(table, OUT) + e))
        backward(params, table, work, shared, gradients, True, NO_KEY)
        mine, n_all = thread_of_grid()
        T, F = load(table, STEPS), load(table, FEATURES)
        for e in range(mine, n * T * F, n_all):
            at, f = split(e, F)
            row, t = split(at, T)
            store(dx, e, window_gradient(table, work, n_rows, row, t, f))

    return differentiate_wide
