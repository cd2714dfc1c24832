"""Layers too wide for one block: all blocks of the grid work on a batch together, with a barrier between phases.

A phase is a loop over tiles of a result (``wide_tile``), which blocks take in turn. Every time step is one phase: its
multiply and what a unit does with the sums, forward and backward; gradients of the weights come after all steps
(``wide_gradient``). The arrays are those of ``plan``, for R rows in the place of four; rows that a batch lacks are
zeros, and have no weight in the loss.
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace

from numba import cuda, float32, int64

from tsforecast.backends.cuda.activations import ZERO
from tsforecast.backends.cuda.cells import CELLS, make_cell
from tsforecast.backends.cuda.head import add_gradient, head_backward, head_forward, head_input
from tsforecast.backends.cuda.jit import device, load, load4, place, split, store, store4
from tsforecast.backends.cuda.links import read_links, sum_links
from tsforecast.backends.cuda.lstm import add_peepholes
from tsforecast.backends.cuda.noise import drop_units, dropout_factor
from tsforecast.backends.cuda.plan import (
    B_SLOT,
    C_SLOT,
    CAPACITY,
    CARRIED,
    COPIES,
    D_CARRIED,
    D_H,
    D_LAST,
    D_PEEPHOLES,
    D_X,
    GATES,
    H_SLOT,
    INPUTS,
    LIMIT,
    LINKS,
    N_LAYER,
    N_NET,
    PADDED,
    STEPS,
    SUMS,
    TOP,
    UNITS,
    WIDTH,
    X_SLOT,
    H,
    X,
)
from tsforecast.backends.cuda.sums import make_barrier
from tsforecast.backends.cuda.tile import hold_vector
from tsforecast.backends.cuda.wide_gradient import add_parts, derive_parts
from tsforecast.backends.cuda.wide_tile import (
    ROWS_A_TILE,
    SQUARE,
    THREADS,
    UNITS_A_TILE,
    load4_within,
    multiply_backward,
    multiply_forward,
    thread_of_grid,
)


@lru_cache
def make_wide_network(cell: str, is_chain: bool) -> SimpleNamespace:
    """Device functions for networks of any width; every thread of the grid calls them."""
    (step, step_backward), HAS_PEEPHOLES = make_cell(cell), CELLS[cell].has_peepholes
    barrier = make_barrier(True)

    @device
    def project(params, table, layer, work, shared):
        """What x and the biases give to all gates, for all steps; and the states before the first step."""
        tid, block, n_blocks = place()
        padded, n_rows = load(table, PADDED), load(table, STEPS) * load(table, CAPACITY)
        acc, b, n_across = cuda.local.array(16, float32), cuda.local.array(4, float32), padded // UNITS_A_TILE
        tile, n_tiles = int64(block), (n_rows + ROWS_A_TILE - 1) // ROWS_A_TILE * n_across
        while tile < n_tiles:
            row, unit = split(tile, n_across)
            row, unit = row * ROWS_A_TILE, unit * UNITS_A_TILE
            multiply_forward(
                acc, params, table, layer, X_SLOT, load(table, layer + INPUTS), work, load(table, layer + X),
                load(table, layer + WIDTH), row, n_rows, unit, shared, tid,
            )  # fmt: skip
            row, unit = row + 4 * (tid >> 4), unit + (tid & 15)
            hold_vector(b, params, table, layer, B_SLOT, unit)
            for i in range(4):
                if row + i < n_rows:
                    at = load(table, layer + GATES) + ((row + i) * padded + unit) * 4
                    a0, a1, a2, a3 = acc[i * 4], acc[i * 4 + 1], acc[i * 4 + 2], acc[i * 4 + 3]
                    store4(work, at, a0 + b[0], a1 + b[1], a2 + b[2], a3 + b[3])
            tile += n_blocks
        for e in range(block * THREADS + tid, load(table, CAPACITY) * padded, n_blocks * THREADS):
            store(work, load(table, layer + H) + e, ZERO)
            store(work, load(table, layer + CARRIED) + e, ZERO)

    @device
    def step_forward(params, table, layer, t, work, shared):
        """All units of all rows at step ``t``."""
        tid, block, n_blocks = place()
        padded, n_rows, units = load(table, PADDED), load(table, CAPACITY), load(table, layer + UNITS)
        acc, w_c = cuda.local.array(16, float32), cuda.local.array(4, float32)
        u, v = cuda.local.array(4, float32), cuda.local.array(4, float32)
        n_across = padded // UNITS_A_TILE
        states, carried_states = load(table, layer + H), load(table, layer + CARRIED)
        tile, n_tiles = int64(block), (n_rows + ROWS_A_TILE - 1) // ROWS_A_TILE * n_across
        while tile < n_tiles:
            row, unit = split(tile, n_across)
            row, unit = row * ROWS_A_TILE, unit * UNITS_A_TILE
            multiply_forward(
                acc, params, table, layer, H_SLOT, units, work, states + t * n_rows * padded, padded, row, n_rows, unit,
                shared, tid,
            )  # fmt: skip
            if HAS_PEEPHOLES:
                hold_vector(w_c, params, table, layer, C_SLOT, unit + (tid & 15))
            for i in range(4):
                r, j = row + 4 * (tid >> 4) + i, unit + (tid & 15)
                if r < n_rows:
                    before = (t * n_rows + r) * padded + j
                    after = before + n_rows * padded
                    gates = load(table, layer + GATES) + 4 * before
                    u[0], u[1], u[2], u[3] = load4(work, gates)
                    v[0], v[1], v[2], v[3] = acc[i * 4], acc[i * 4 + 1], acc[i * 4 + 2], acc[i * 4 + 3]
                    h, carried = step(u, v, load(work, carried_states + before), w_c)
                    store4(work, gates, u[0], u[1], u[2], u[3])
                    store(work, states + after, h)
                    store(work, carried_states + after, carried)
            tile += n_blocks

    @device
    def forward(
        params, table, work, shared,
        key,  # with dropout: of the step
    ):  # fmt: skip
        """From the windows to the outputs. Begins and ends with a barrier."""
        n_rows = load(table, CAPACITY)
        barrier()
        for layer in range(N_NET, load(table, LINKS), N_LAYER):
            if not is_chain and load(table, layer + COPIES) != 0:
                mine, n_all = thread_of_grid()
                read_links(table, layer, work, n_rows, mine, n_all)
                barrier()
            project(params, table, layer, work, shared)
            barrier()
            for t in range(load(table, STEPS)):
                step_forward(params, table, layer, t, work, shared)
                barrier()
            if not is_chain and load(table, LIMIT) != 0:
                mine, n_all = thread_of_grid()
                drop_units(table, layer, key, 0, work, n_rows, mine, n_all)
                barrier()
        mine, n_all = thread_of_grid()
        head_forward(params, table, work, n_rows, mine, n_all)
        barrier()

    @device
    def step_back(params, table, layer, t, from_above, work, shared):
        """Undo step ``t``; the gates give way to their derivatives."""
        tid, block, n_blocks = place()
        padded, n_rows, last = load(table, PADDED), load(table, CAPACITY), load(table, STEPS) - 1
        acc, total, d = cuda.local.array(16, float32), cuda.local.array(4, float32), cuda.local.array(4, float32)
        w_c, dw_c = cuda.local.array(4, float32), cuda.local.array(4, float32)
        n_across, a_step = (padded + SQUARE - 1) // SQUARE, n_rows * padded
        tile, n_tiles = int64(block), (n_rows + SQUARE - 1) // SQUARE * n_across
        while tile < n_tiles:
            row, unit = split(tile, n_across)
            row, unit = row * SQUARE, unit * SQUARE
            if t < last:
                multiply_backward(
                    acc, total, params, table, layer, H_SLOT, load(table, layer + UNITS), work,
                    load(table, layer + GATES) + 4 * (t + 1) * a_step, 4 * padded, row, n_rows, unit, shared, tid,
                )  # fmt: skip
            row += tid >> 3
            for i in range(4):
                j = unit + 4 * (tid & 7) + i
                if row < n_rows and j < padded:
                    own = row * padded + j
                    at = t * a_step + own
                    dh, d_carried = total[i], ZERO
                    if t < last:
                        d_carried = load(work, load(table, D_CARRIED) + own)
                    else:
                        dh = load(work, load(table, D_LAST) + own)
                    if from_above:
                        dh += load(work, load(table, layer + D_H) + at)
                    gates, carried_states = load(table, layer + GATES) + 4 * at, load(table, layer + CARRIED) + at
                    d[0], d[1], d[2], d[3] = load4(work, gates)
                    before, after = load(work, carried_states), load(work, carried_states + a_step)
                    if HAS_PEEPHOLES:
                        hold_vector(w_c, params, table, layer, C_SLOT, j)
                    d_carried = step_backward(d, before, after, dh, d_carried, w_c)
                    store(work, load(table, D_CARRIED) + own, d_carried)
                    store4(work, gates, d[0], d[1], d[2], d[3])
                    if HAS_PEEPHOLES:
                        sums = load(table, D_PEEPHOLES) + 4 * own
                        dw_c[0], dw_c[1], dw_c[2], dw_c[3] = load4_within(work, sums, t < last)
                        add_peepholes(d, 0, before, after, dw_c)
                        store4(work, sums, dw_c[0], dw_c[1], dw_c[2], dw_c[3])
            tile += n_blocks

    @device
    def derive_peepholes(table, layer, work, gradient, first):
        """Add up what the rows have gathered on their way back."""
        mine, n_all = thread_of_grid()
        padded, units = load(table, PADDED), load(table, layer + UNITS)
        for e in range(mine, 4 * units, n_all):
            at, sums = load(table, layer + C_SLOT + e % 4), load(table, D_PEEPHOLES) + e
            if at >= 0:
                total = ZERO
                for row in range(load(table, CAPACITY)):
                    total += load(work, sums + 4 * row * padded)
                add_gradient(gradient, at + e // 4, total, first)

    @device
    def derive_inputs(params, table, layer, work, to, width, shared):
        """Derivatives by the inputs, for all steps: ``work[to:] [T,R,width]``."""
        tid, block, n_blocks = place()
        padded, n_rows = load(table, PADDED), load(table, STEPS) * load(table, CAPACITY)
        acc, total = cuda.local.array(16, float32), cuda.local.array(4, float32)
        n_across = (width + SQUARE - 1) // SQUARE
        tile, n_tiles = int64(block), (n_rows + SQUARE - 1) // SQUARE * n_across
        while tile < n_tiles:
            row, k = split(tile, n_across)
            row, k = row * SQUARE, k * SQUARE
            multiply_backward(
                acc, total, params, table, layer, X_SLOT, load(table, layer + INPUTS), work,
                load(table, layer + GATES), 4 * padded, row, n_rows, k, shared, tid,
            )  # fmt: skip
            row += tid >> 3
            for i in range(4):
                if row < n_rows and k + 4 * (tid & 7) + i < width:
                    store(work, to + row * width + k + 4 * (tid & 7) + i, total[i])
            tile += n_blocks

    @device
    def backward(params, table, work, shared, gradient, first, key):
        """From the derivatives by the outputs to the gradient. Begins and ends with a barrier."""
        top, padded, n_rows = load(table, TOP), load(table, PADDED), load(table, CAPACITY)
        barrier()
        mine, n_all = thread_of_grid()
        head_backward(table, work, 0, 1, gradient, first, n_rows, mine, n_all)
        for at in range(top, N_NET - 1, -N_LAYER):
            mine, n_all = thread_of_grid()
            for e in range(mine, n_rows * padded, n_all):
                row, unit = split(e, padded)
                dh = head_input(params, table, at, work, row, unit)
                if not is_chain and load(table, LIMIT) != 0:
                    dh *= dropout_factor(table, at, key, row, load(table, STEPS) - 1, unit)
                store(work, load(table, D_LAST) + e, dh)
            if not is_chain and load(table, at + SUMS) != 0:
                sum_links(table, at, key, 0, work, n_rows, mine, n_all)
            barrier()
            for k in range(load(table, STEPS)):
                t, from_above = load(table, STEPS) - 1 - k, load(table, at + D_H) >= 0
                step_back(params, table, at, t, from_above, work, shared)
                barrier()
            in_parts = derive_parts(table, at, work, gradient, first, shared)
            if HAS_PEEPHOLES:
                derive_peepholes(table, at, work, gradient, first)
            to, width = load(table, at + D_X), load(table, at + WIDTH)
            if to >= 0:
                derive_inputs(params, table, at, work, to, width, shared)
            barrier()
            if in_parts:
                add_parts(table, at, gradient, first)
                barrier()

    return SimpleNamespace(forward=forward, backward=backward, barrier=barrier)
