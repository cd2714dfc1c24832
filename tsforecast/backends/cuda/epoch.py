"""The kernels that Python launches: training, forecasts and losses, gradients.

A tile is four rows of a batch; a block of 4*Hp threads takes a tile at a time through the whole network, forward and
backward, and keeps what it needs in its own part of a work buffer. ``train`` runs any number of batches in one launch:

- one model: its blocks (``gridDim.x``) share the tiles of a batch. Each adds up the gradients of its own tiles; after a
  barrier of the grid, each sums all blocks' gradients for its own share of the parameters, and after the norm is known
  steps them: three barriers of the grid a batch.
- many small models: each block takes one model through all its batches, then the next (``gridDim.y`` blocks).

All sums are taken in an order that depends on the sizes and on the number of blocks alone.
"""

from __future__ import annotations

import math
from functools import lru_cache

from numba import cuda, float32, int32

from tsforecast.backends.cuda.activations import ONE, ZERO
from tsforecast.backends.cuda.jit import beyond, device, kernel, load, renewed, store
from tsforecast.backends.cuda.links import window_gradient
from tsforecast.backends.cuda.losses import tile_loss
from tsforecast.backends.cuda.network import make_network
from tsforecast.backends.cuda.noise import NO_KEY
from tsforecast.backends.cuda.optimizers import DECAY, N_SCALARS, SHARE
from tsforecast.backends.cuda.plan import D_OUT, FEATURES, OUT, OUTPUTS, PARAMS, QUANTILES, ROWS, STEPS
from tsforecast.backends.cuda.step import make_step
from tsforecast.backends.cuda.sums import make_barrier, make_block_sum, make_grid_sum
from tsforecast.backends.cuda.windows import in_units_of_data, read_windows, season_base

# Blocks that registers are left for on a multiprocessor, by padded size.
BLOCKS_PER_PROCESSOR = {16: 4, 32: 2, 48: 1, 64: 1, 96: 1, 128: 1}


def _geometry(padded: int) -> tuple[int, int, int]:
    """Threads, numbers of shared memory, warps."""
    return 4 * padded, 32 * padded, padded // 8


@device
def rows_of_tile(batch_rows, batch, tile):
    """First row of a tile of a batch, and how many rows it has."""
    batch, tile = renewed(batch), renewed(tile)
    return load(batch_rows, 2 * batch) + 4 * tile, min(4, load(batch_rows, 2 * batch + 1) - 4 * tile)


@lru_cache
def make_train(padded: int, cell: str, is_chain: bool, parts: bool):
    """The kernel ``train``; ``parts`` tells whether several blocks work on one model."""
    network = make_network(padded, cell, is_chain)
    forward, backward = network.forward, network.backward
    THREADS, N_SHARED, N_WARPS = _geometry(padded)
    block_sum, grid_sum, barrier = make_block_sum(THREADS), make_grid_sum(THREADS), make_barrier(parts)
    sum_gradients, update_parameters = make_step(THREADS)

    @device
    def learn_tiles(
        table, values, x_starts, targets, y_starts, y_stride, weights, frames, order, batch_rows, scalars, keys, codes,
        rule, quantiles, params, gradients, work, n_work, shared, batch, block, part, n_parts, tid,
    ):  # fmt: skip
        """Gradient of the part's tiles, to its row of ``gradients``; return the thread's part of their loss."""
        loss, tile = ZERO, int32(part)
        while 4 * tile < load(batch_rows, 2 * renewed(batch) + 1):
            first, n = rows_of_tile(batch_rows, batch, tile)
            mine = beyond(work, renewed(block) * n_work)
            read_windows(table, values, x_starts, frames, order, first, n, mine, ROWS, tid, THREADS)
            forward(params, table, mine, shared, load(keys, renewed(batch)), 4 * tile, tid)
            first, n = rows_of_tile(batch_rows, batch, tile)
            loss += tile_loss(
                table, codes, rule, quantiles, targets, y_starts, y_stride, weights, frames, order, first, n,
                load(scalars, renewed(batch) * N_SCALARS + SHARE), mine, ROWS, tid, THREADS,
            )  # fmt: skip
            gradient = beyond(gradients, renewed(block) * load(table, PARAMS))
            key = load(keys, renewed(batch))
            backward(params, table, mine, shared, gradient, tile == part, key, 4 * tile, tid)
            tile = int32(tile + n_parts)
        return loss

    @kernel(THREADS, BLOCKS_PER_PROCESSOR[padded])
    def train(
        table,  # plan.Plan.table
        is_weight,  # [P] int8
        values, x_starts, targets, y_starts, y_stride, weights,  # as in backends.base.Windows
        frames,  # [N,F,3]
        order,  # int32: rows of all batches, one after the other
        batch_rows,  # [batches,2] int32: where the rows of a batch begin in `order`, and how many they are
        scalars,  # [batches,N_SCALARS]
        keys,  # [batches] uint64: of the noise; read with dropout alone
        begins, ends,  # [models] int32: the batches of each
        codes, rule, quantiles,  # [N_CODES] int32, [N_RULE], [Q]
        params, m, v,  # [models,P]
        gradients,  # [blocks,P]
        work,  # [blocks,n_work]
        n_work,
        totals,  # [3,blocks]
        losses,  # [batches] out, for batches that take a step
        done,  # [models] int32 out: batches before the first whose loss or gradient is not finite
    ):  # fmt: skip
        shared = cuda.shared.array(N_SHARED, float32, alignment=16)
        sums = cuda.shared.array(N_WARPS, float32)
        tid, part, n_parts = cuda.threadIdx.x, int32(cuda.blockIdx.x), int32(cuda.gridDim.x)
        first_part, n_blocks, model, n_models = int32(0), n_parts, int32(0), int32(1)
        if not parts:
            first_part, n_blocks, part, n_parts = int32(cuda.blockIdx.y), int32(cuda.gridDim.y), int32(0), int32(1)
            model, n_models = first_part, int32(len(begins))
        while model < n_models:
            batch, is_finite = load(begins, model), True
            while is_finite and batch < load(ends, model):
                p = params if parts else beyond(params, renewed(model) * load(table, PARAMS))
                if load(scalars, renewed(batch) * N_SCALARS + SHARE) != ZERO:
                    loss = learn_tiles(
                        table, values, x_starts, targets, y_starts, y_stride, weights, frames, order, batch_rows,
                        scalars, keys, codes, rule, quantiles, p, gradients, work, n_work, shared, batch,
                        first_part + part, part, n_parts, tid,
                    )  # fmt: skip
                    loss = block_sum(loss, tid, sums)
                    if tid == 0:
                        store(totals, first_part + part, loss)
                    barrier()
                    at, P = renewed(batch) * N_SCALARS, load(table, PARAMS)
                    summed = beyond(gradients, renewed(first_part) * P)
                    n_used = min(n_parts, (load(batch_rows, 2 * renewed(batch) + 1) + 3) // 4)
                    squares, penalty = sum_gradients(
                        table, is_weight, rule, load(scalars, at + DECAY), p, summed, n_used, part, n_parts, tid
                    )
                    squares, penalty = block_sum(squares, tid, sums), block_sum(penalty, tid, sums)
                    if tid == 0:
                        store(totals, n_blocks + first_part + part, squares)
                        store(totals, 2 * n_blocks + first_part + part, penalty)
                    barrier()
                    loss = grid_sum(totals, first_part, n_parts, tid, sums)
                    loss += grid_sum(totals, 2 * n_blocks + first_part, n_parts, tid, sums)
                    norm = math.sqrt(grid_sum(totals, n_blocks + first_part, n_parts, tid, sums))
                    is_finite = math.isfinite(loss) and math.isfinite(norm)
                    if is_finite:
                        update_parameters(
                            table, is_weight, codes, rule, scalars, batch, norm, p, beyond(m, renewed(model) * P),
                            beyond(v, renewed(model) * P), summed, part, n_parts, tid,
                        )  # fmt: skip
                        if part == 0 and tid == 0:
                            store(losses, batch, loss)
                    barrier()
                if is_finite:
                    batch = int32(batch + 1)
            if part == 0 and tid == 0:
                store(done, model, batch - load(begins, model))
            model = int32(model + n_blocks)

    return train


@lru_cache
def make_infer(padded: int, cell: str, is_chain: bool):
    """The kernel ``infer``: forecasts, or losses without learning. Blocks take tiles of four rows in turn."""
    forward = make_network(padded, cell, is_chain).forward
    THREADS, N_SHARED, N_WARPS = _geometry(padded)
    block_sum = make_block_sum(THREADS)

    @kernel(THREADS, BLOCKS_PER_PROCESSOR[padded])
    def infer(
        table, values, x_starts, targets, y_starts, y_stride, weights, frames,
        rows,  # [N] int32
        tiles,  # [tiles,3] int32: model, first row, and how many rows: 1 to 4
        codes, rule, quantiles,
        params,  # [models,P]
        work, n_work,
        with_losses,  # int: 1 to write losses, 0 to write forecasts
        losses,  # [tiles] out: sum of weight * loss of the tile's rows
        forecasts,  # [N,K*Q] out: in the units of the data
    ):  # fmt: skip
        shared = cuda.shared.array(N_SHARED, float32, alignment=16)
        sums = cuda.shared.array(N_WARPS, float32)
        tid, block, n_outputs = cuda.threadIdx.x, cuda.blockIdx.x, load(table, OUTPUTS) * load(table, QUANTILES)
        P = load(table, PARAMS)
        for tile in range(block, len(tiles) // 3, cuda.gridDim.x):
            model, first, n = load(tiles, 3 * tile), load(tiles, 3 * tile + 1), load(tiles, 3 * tile + 2)
            mine, p = beyond(work, renewed(block) * n_work), beyond(params, model * P)
            read_windows(table, values, x_starts, frames, rows, first, n, mine, ROWS, tid, THREADS)
            forward(p, table, mine, shared, NO_KEY, 0, tid)
            first, n = load(tiles, 3 * renewed(tile) + 1), load(tiles, 3 * renewed(tile) + 2)
            if with_losses != 0:
                loss = tile_loss(
                    table, codes, rule, quantiles, targets, y_starts, y_stride, weights, frames,
                    rows, first, n, ONE, mine, ROWS, tid, THREADS,
                )  # fmt: skip
                loss = block_sum(loss, tid, sums)
                if tid == 0:
                    store(losses, tile, loss)
            else:
                for e in range(tid, n * n_outputs, THREADS):
                    row, k = e // n_outputs, e % n_outputs // load(table, QUANTILES)
                    y = load(mine, load(table, OUT) + e) + season_base(table, mine, ROWS, row, k)
                    store(forecasts, first * n_outputs + e, in_units_of_data(table, frames, load(rows, first + row), y))
                cuda.syncthreads()

    return infer


@lru_cache
def make_differentiate(padded: int, cell: str, is_chain: bool):
    """The kernel ``differentiate``: outputs, and gradients of ``sum(outputs * cotangent)``."""
    network = make_network(padded, cell, is_chain)
    forward, backward, derive_windows = network.forward, network.backward, network.derive_windows
    THREADS, N_SHARED, _ = _geometry(padded)

    @kernel(THREADS, BLOCKS_PER_PROCESSOR[padded])
    def differentiate(
        table, values, x_starts, frames,
        rows,  # [N] int32
        params, work, n_work,
        cotangent,  # [N,K*Q]
        outputs,  # [N,K*Q] out
        gradients,  # [blocks,P] out
        dx,  # [N,T,F] out, without what passes through the linear skip
    ):  # fmt: skip
        shared = cuda.shared.array(N_SHARED, float32, alignment=16)
        tid, block, n_outputs, P = (
            cuda.threadIdx.x,
            cuda.blockIdx.x,
            load(table, OUTPUTS) * load(table, QUANTILES),
            load(table, PARAMS),
        )
        T, F = load(table, STEPS), load(table, FEATURES)
        mine, gradient = beyond(work, block * n_work), beyond(gradients, block * P)
        for tile in range(block, (len(rows) + 3) // 4, cuda.gridDim.x):
            first, n = 4 * tile, min(4, len(rows) - 4 * tile)
            read_windows(table, values, x_starts, frames, rows, first, n, mine, ROWS, tid, THREADS)
            forward(params, table, mine, shared, NO_KEY, 0, tid)
            for e in range(tid, 4 * n_outputs, THREADS):
                inside = e < n * n_outputs
                store(mine, load(table, D_OUT) + e, load(cotangent, first * n_outputs + e) if inside else ZERO)
                if inside:
                    store(outputs, first * n_outputs + e, load(mine, load(table, OUT) + e))
            backward(params, table, mine, shared, gradient, tile == block, NO_KEY, 0, tid)
            derive_windows(params, table, mine, tid)
            for e in range(tid, n * T * F, THREADS):
                row, t, f = e // (T * F), e // F % T, e % F
                store(dx, first * T * F + e, window_gradient(table, mine, ROWS, row, t, f))
            cuda.syncthreads()

    return differentiate
