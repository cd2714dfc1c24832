"""The kernel ``train``: any number of batches in one launch.

A tile is four rows of a batch; a block of 4*Hp threads takes a tile through the whole network, forward and backward,
and keeps what it needs in a part of a work buffer.

- One model: all blocks share a batch, in rounds of as many tiles as there are buffers. In a round, some blocks take a
  tile each, all wait, and all share the multiply for the gradients of the weights (``gradient``). After the last round,
  each sums the gradients' parts for its own share of the parameters, and after the norm is known steps them. Between
  these phases lies a barrier of the grid: four a batch where one round is enough.
- Many small models: each block takes one model through all its batches, then the next.

All sums are taken in an order that depends on the sizes and on the numbers of buffers and of blocks alone. Where
training stands is kept in shared memory (``state``).
"""

from __future__ import annotations

import math
from functools import lru_cache

from numba import cuda, float32, int32, uint64

from tsforecast.backends.cuda.activations import ZERO
from tsforecast.backends.cuda.gradient import CHUNKS_AT_ONCE, make_gradient
from tsforecast.backends.cuda.jit import beyond, device, kernel, load, place, store, thread
from tsforecast.backends.cuda.losses import tile_loss
from tsforecast.backends.cuda.network import make_network
from tsforecast.backends.cuda.optimizers import DECAY, N_SCALARS, SHARE
from tsforecast.backends.cuda.plan import PARAMS, ROWS
from tsforecast.backends.cuda.state import BATCH, FIRST_ROW, IS_FINITE, MODEL, N_STATE, TILE, put
from tsforecast.backends.cuda.step import make_step
from tsforecast.backends.cuda.sums import make_barrier, make_block_sum, make_grid_sum
from tsforecast.backends.cuda.tile import BLOCKS_PER_PROCESSOR, geometry
from tsforecast.backends.cuda.windows import read_windows


@device
def rows_of_tile(batch_rows, batch, tile):
    """First row of a tile of a batch, and how many rows it has."""
    return load(batch_rows, 2 * batch) + ROWS * tile, min(ROWS, load(batch_rows, 2 * batch + 1) - ROWS * tile)


@device
def count_tiles(batch_rows, batch):
    """Tiles of a batch."""
    return (load(batch_rows, 2 * batch + 1) + ROWS - 1) // ROWS


@lru_cache
def make_train(padded: int, cell: str, is_chain: bool, parts: bool):
    """The kernel ``train``; ``parts`` tells whether several blocks work on one model."""
    network = make_network(padded, cell, is_chain)
    forward, backward = network.forward, network.backward
    derive_weights = make_gradient(padded, cell, 1 if parts else CHUNKS_AT_ONCE[padded])
    THREADS, N_SHARED, N_WARPS = geometry(padded)
    block_sum, grid_sum, barrier = make_block_sum(THREADS), make_grid_sum(THREADS), make_barrier(parts)
    sum_gradients, update_parameters = make_step(THREADS)

    @device
    def share():
        """Number of the first block that works on the model, the block's place among those, and how many they are."""
        _, block, n_blocks = place()
        return (0, block, n_blocks) if parts else (block, 0, 1)

    @device
    def start(table, state):
        """Where the model's own part of an array ``[models,P]`` begins."""
        return 0 if parts else load(state, MODEL) * load(table, PARAMS)

    @device
    def learn_tile(
        table, values, x_starts, targets, y_starts, y_stride, weights, frames, order, batch_rows, scalars, keys, codes,
        rule, quantiles, params, work, n_work, totals, state, key, shared, sums,
    ):  # fmt: skip
        """Leave the derivatives by the gates of all runs in the block's buffer, and add to its loss."""
        tid, block, _ = place()
        batch, tile, mine = load(state, BATCH), load(state, TILE) + share()[1], beyond(work, block * n_work)
        first, n = rows_of_tile(batch_rows, batch, tile)
        if tid == 0:
            store(key, 0, load(keys, batch))
            store(state, FIRST_ROW, int32(ROWS * tile))
        read_windows(table, values, x_starts, frames, order, first, n, mine, ROWS, tid, THREADS)
        forward(beyond(params, start(table, state)), table, mine, shared, state, key)
        tid, block, _ = place()
        batch, tile, mine = load(state, BATCH), load(state, TILE) + share()[1], beyond(work, block * n_work)
        first, n = rows_of_tile(batch_rows, batch, tile)
        loss = tile_loss(
            table, codes, rule, quantiles, targets, y_starts, y_stride, weights, frames, order, first, n,
            load(scalars, batch * N_SCALARS + SHARE), mine, ROWS, tid, THREADS,
        )  # fmt: skip
        loss = block_sum(loss, tid, sums)
        if tid == 0:
            store(totals, block, load(totals, block) + loss)
        backward(beyond(params, start(table, state)), table, mine, shared, state, key)

    @device
    def derive_batch(
        table, values, x_starts, targets, y_starts, y_stride, weights, frames, order, batch_rows, scalars, keys, codes,
        rule, quantiles, params, gradients, work, n_work, n_buffers, tiles_a_part, totals, state, key, shared, sums,
    ):  # fmt: skip
        """Leave the gradient of the batch in parts, and the loss in totals. Ends with a barrier of the grid."""
        put(state, TILE, 0)
        if thread() == 0:  # for a block that has no tile
            store(totals, place()[1], ZERO)
        while load(state, TILE) < count_tiles(batch_rows, load(state, BATCH)):
            if share()[1] < min(n_buffers, count_tiles(batch_rows, load(state, BATCH)) - load(state, TILE)):
                learn_tile(
                    table, values, x_starts, targets, y_starts, y_stride, weights, frames, order, batch_rows, scalars,
                    keys, codes, rule, quantiles, params, work, n_work, totals, state, key, shared, sums,
                )  # fmt: skip
            barrier()
            first_block, block, n_blocks = share()
            n_here = min(n_buffers, count_tiles(batch_rows, load(state, BATCH)) - load(state, TILE))
            derive_weights(
                table, beyond(work, first_block * n_work), n_work, n_here, tiles_a_part,
                beyond(gradients, first_block * load(table, PARAMS)), load(state, TILE) == 0, block, n_blocks,
            )  # fmt: skip
            barrier()
            put(state, TILE, load(state, TILE) + n_buffers)

    @device
    def step_batch(
        table, is_weight, batch_rows, scalars, codes, rule, params, m, v, gradients, n_buffers, tiles_a_part, totals,
        losses, state, sums,
    ):  # fmt: skip
        """From the gradient's parts to new parameters, if loss and gradient are finite. Ends with a barrier."""
        tid, own, n_all = place()
        first_block, block, n_blocks = share()
        at, n_tiles = load(state, BATCH) * N_SCALARS, count_tiles(batch_rows, load(state, BATCH))
        gradient, p = beyond(gradients, first_block * load(table, PARAMS)), beyond(params, start(table, state))
        n_used = (min(n_buffers, n_tiles) + tiles_a_part - 1) // tiles_a_part
        squares, penalty = sum_gradients(
            table, is_weight, rule, load(scalars, at + DECAY), p, gradient, n_used, block, n_blocks, tid
        )
        squares, penalty = block_sum(squares, tid, sums), block_sum(penalty, tid, sums)
        if tid == 0:
            store(totals, n_all + own, squares)
            store(totals, 2 * n_all + own, penalty)
        barrier()
        loss = grid_sum(totals, first_block, n_blocks, tid, sums)
        loss += grid_sum(totals, 2 * n_all + first_block, n_blocks, tid, sums)
        norm = math.sqrt(grid_sum(totals, n_all + first_block, n_blocks, tid, sums))
        is_finite = math.isfinite(loss) and math.isfinite(norm)
        if is_finite:
            update_parameters(
                table, is_weight, codes, rule, scalars, load(state, BATCH), norm, p, beyond(m, start(table, state)),
                beyond(v, start(table, state)), gradient, block, n_blocks, tid,
            )  # fmt: skip
            if block == 0 and tid == 0:
                store(losses, load(state, BATCH), loss)
        put(state, IS_FINITE, is_finite)
        barrier()

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
        gradients,  # [parts,P] of each model that is trained at a time
        work,  # [buffers,n_work], likewise
        n_work,
        n_buffers, tiles_a_part,  # of one model: tiles of a round, of a part of the gradients
        totals,  # [3,blocks]
        losses,  # [batches] out, for batches that take a step
        done,  # [models] int32 out: batches before the first whose loss or gradient is not finite
    ):  # fmt: skip
        shared = cuda.shared.array(N_SHARED, float32, alignment=16)
        sums = cuda.shared.array(N_WARPS, float32)
        state, key = cuda.shared.array(N_STATE, int32), cuda.shared.array(1, uint64)
        put(state, MODEL, share()[0])
        while load(state, MODEL) < len(begins):
            put(state, BATCH, load(begins, load(state, MODEL)))
            put(state, IS_FINITE, 1)
            while load(state, IS_FINITE) != 0 and load(state, BATCH) < load(ends, load(state, MODEL)):
                if load(scalars, load(state, BATCH) * N_SCALARS + SHARE) != ZERO:
                    derive_batch(
                        table, values, x_starts, targets, y_starts, y_stride, weights, frames, order, batch_rows,
                        scalars, keys, codes, rule, quantiles, params, gradients, work, n_work, n_buffers, tiles_a_part,
                        totals, state, key, shared, sums,
                    )  # fmt: skip
                    step_batch(
                        table, is_weight, batch_rows, scalars, codes, rule, params, m, v, gradients, n_buffers,
                        tiles_a_part, totals, losses, state, sums,
                    )  # fmt: skip
                put(state, BATCH, load(state, BATCH) + load(state, IS_FINITE))
            if share()[1] == 0 and thread() == 0:
                store(done, load(state, MODEL), load(state, BATCH) - load(begins, load(state, MODEL)))
            put(state, MODEL, load(state, MODEL) + (1 if parts else place()[2]))

    return train
