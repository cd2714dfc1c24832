"""The kernels that Python launches beside ``epoch.train``: forecasts and losses, gradients. Letters are those there."""

from __future__ import annotations

from functools import lru_cache

from numba import cuda, float32, int32, uint64

from tsforecast.backends.cuda.activations import ONE, ZERO
from tsforecast.backends.cuda.gradient import make_gradient
from tsforecast.backends.cuda.jit import beyond, device, kernel, load, place, split, store
from tsforecast.backends.cuda.links import window_gradient
from tsforecast.backends.cuda.losses import tile_loss
from tsforecast.backends.cuda.network import make_network
from tsforecast.backends.cuda.plan import D_OUT, FEATURES, OUT, OUTPUTS, PARAMS, QUANTILES, ROWS, STEPS
from tsforecast.backends.cuda.state import N_PLACE, TILE, put
from tsforecast.backends.cuda.sums import make_block_sum
from tsforecast.backends.cuda.tile import BLOCKS_PER_PROCESSOR, geometry
from tsforecast.backends.cuda.windows import in_units_of_data, read_windows, season_base


@device
def tiles_at(state):
    """Where the block's tile stands in ``tiles``."""
    return 3 * load(state, TILE)


@lru_cache
def make_infer(padded: int, cell: str, is_chain: bool):
    """The kernel ``infer``: forecasts, or losses without learning. Blocks take tiles of four rows in turn."""
    forward = make_network(padded, cell, is_chain).forward
    THREADS, N_SHARED, N_WARPS = geometry(padded)
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
        sums, no_key = cuda.shared.array(N_WARPS, float32), cuda.shared.array(1, uint64)
        state = cuda.shared.array(N_PLACE, int32)
        put(state, TILE, place()[1])
        while load(state, TILE) < len(tiles) // 3:
            (tid, block, _), at = place(), tiles_at(state)
            model, first, n = load(tiles, at), load(tiles, at + 1), load(tiles, at + 2)
            mine, p = beyond(work, block * n_work), beyond(params, model * load(table, PARAMS))
            read_windows(table, values, x_starts, frames, rows, first, n, mine, ROWS, tid, THREADS)
            forward(p, table, mine, shared, state, no_key)
            (tid, block, _), at = place(), tiles_at(state)
            first, n, mine = load(tiles, at + 1), load(tiles, at + 2), beyond(work, block * n_work)
            if with_losses != 0:
                loss = tile_loss(
                    table, codes, rule, quantiles, targets, y_starts, y_stride, weights, frames,
                    rows, first, n, ONE, mine, ROWS, tid, THREADS,
                )  # fmt: skip
                loss = block_sum(loss, tid, sums)
                if tid == 0:
                    store(losses, load(state, TILE), loss)
            else:
                n_outputs = load(table, OUTPUTS) * load(table, QUANTILES)
                for e in range(tid, n * n_outputs, THREADS):
                    row, o = split(e, n_outputs)
                    k, _ = split(o, load(table, QUANTILES))
                    y = load(mine, load(table, OUT) + e) + season_base(table, mine, ROWS, row, k)
                    store(forecasts, first * n_outputs + e, in_units_of_data(table, frames, load(rows, first + row), y))
            put(state, TILE, load(state, TILE) + place()[2])

    return infer


@lru_cache
def make_differentiate(padded: int, cell: str, is_chain: bool):
    """The kernel ``differentiate``: outputs, and gradients of ``sum(outputs * cotangent)``."""
    network = make_network(padded, cell, is_chain)
    forward, backward = network.forward, network.backward
    derive_weights, (THREADS, N_SHARED, _) = make_gradient(padded, cell, 1), geometry(padded)

    @kernel(THREADS, BLOCKS_PER_PROCESSOR[padded])
    def differentiate(
        table, values, x_starts, frames,
        rows,  # [N] int32
        params, work, n_work,
        cotangent,  # [N,K*Q]
        outputs,  # [N,K*Q] out
        gradients,  # [blocks,P] out
        dx,  # [N,T,F] out, without what passes through the linear skip
        first_tile,  # of this launch; a block has one, and adds its gradient to that of the launch before
    ):  # fmt: skip
        shared, no_key = cuda.shared.array(N_SHARED, float32, alignment=16), cuda.shared.array(1, uint64)
        state = cuda.shared.array(N_PLACE, int32)
        tid, block, _ = place()
        first = ROWS * (first_tile + block)
        if first < len(rows):
            mine, n = beyond(work, block * n_work), min(ROWS, len(rows) - first)
            read_windows(table, values, x_starts, frames, rows, first, n, mine, ROWS, tid, THREADS)
            forward(params, table, mine, shared, state, no_key)
            tid, block, _ = place()
            n_outputs = load(table, OUTPUTS) * load(table, QUANTILES)
            first, mine = ROWS * (first_tile + block), beyond(work, block * n_work)
            for e in range(tid, ROWS * n_outputs, THREADS):
                inside = e < (len(rows) - first) * n_outputs
                store(mine, load(table, D_OUT) + e, load(cotangent, first * n_outputs + e) if inside else ZERO)
                if inside:
                    store(outputs, first * n_outputs + e, load(mine, load(table, OUT) + e))
            backward(params, table, mine, shared, state, no_key)
            tid, block, _ = place()
            mine, gradient = beyond(work, block * n_work), beyond(gradients, block * load(table, PARAMS))
            derive_weights(table, mine, n_work, 1, 1, gradient, first_tile == 0, 0, 1)
            tid, block, _ = place()
            T, F = load(table, STEPS), load(table, FEATURES)
            first, mine = ROWS * (first_tile + block), beyond(work, block * n_work)
            for e in range(tid, min(ROWS, len(rows) - first) * T * F, THREADS):
                at, f = split(e, F)
                row, t = split(at, T)
                store(dx, first * T * F + e, window_gradient(table, mine, ROWS, row, t, f))

    return differentiate
