"""One recurrent layer on four rows: all its time steps, forward and backward.

A cell's file says what a unit does in a step; all else is here. There is one barrier a step: states and derivatives go
from thread to thread through two buffers of shared memory in turn. Letters and arrays are those of ``plan``; ``work``
is the part of the work buffer that belongs to the four rows. Loops count in int32 by hand: a ``range`` takes up to six
registers, which the weights need. The gradients of the weights are taken by ``gradient``.
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace

from numba import cuda, float32, int32

from tsforecast.backends.cuda.activations import ZERO
from tsforecast.backends.cuda.cells import CELLS, make_cell
from tsforecast.backends.cuda.jit import beyond, device, load, load4, store, store4, thread
from tsforecast.backends.cuda.plan import (
    B_SLOT,
    C_SLOT,
    CARRIED,
    COLUMNS,
    D_H,
    D_X,
    GATES,
    H_SLOT,
    INPUTS,
    STEPS,
    STREAMED,
    UNITS,
    WIDTH,
    X_SLOT,
    H,
    X,
)
from tsforecast.backends.cuda.tile import hold_vector, make_tile, sum_of_quad, sum_of_sixteen, weight

STEPS_AT_ONCE = 4  # whose inputs a thread multiplies by one weight that it has read


@lru_cache
def make_layer(padded: int, cell: str) -> SimpleNamespace:
    """Device functions for layers of ``padded`` units."""
    tile, (step, step_backward) = make_tile(padded), make_cell(cell)
    hold_forward, hold_backward, multiply = tile.hold_forward, tile.hold_backward, tile.multiply
    Hp, ROW = padded, 4 * padded  # numbers of a row: units, slots of all units
    FOUR_ROWS, FOUR_ROWS_OF_SLOTS = 4 * padded, 16 * padded
    N_W, HAS_PEEPHOLES = tile.n_weights, CELLS[cell].has_peepholes

    @device
    def project(params, table, layer, work):
        """Write what x and the bias give to the gates of the thread's unit and row, for all steps."""
        tid = thread()
        s, j = tid & 3, tid >> 2
        T, D, width, t0 = load(table, STEPS), load(table, layer + INPUTS), load(table, layer + WIDTH), int32(0)
        units, n_columns = load(table, layer + UNITS), load(table, layer + COLUMNS)
        acc, w, b = cuda.local.array(16, float32), cuda.local.array(16, float32), cuda.local.array(4, float32)
        hold_vector(b, params, table, layer, B_SLOT, j)
        while t0 < T:
            for i in range(STEPS_AT_ONCE):
                acc[i * 4], acc[i * 4 + 1], acc[i * 4 + 2], acc[i * 4 + 3] = b[0], b[1], b[2], b[3]
            k = int32(0)
            while k < D:
                hold_inputs(w, 0, params, table, layer, k, D, n_columns, j, units)
                hold_inputs(w, 1, params, table, layer, k, D, n_columns, j, units)
                hold_inputs(w, 2, params, table, layer, k, D, n_columns, j, units)
                hold_inputs(w, 3, params, table, layer, k, D, n_columns, j, units)
                at = load(table, layer + X) + s * width + k
                add_inputs(acc, 0, w, work, at + min(t0, T - 1) * 4 * width)
                add_inputs(acc, 4, w, work, at + min(t0 + 1, T - 1) * 4 * width)
                add_inputs(acc, 8, w, work, at + min(t0 + 2, T - 1) * 4 * width)
                add_inputs(acc, 12, w, work, at + min(t0 + 3, T - 1) * 4 * width)
                k = int32(k + 4)
            for i in range(STEPS_AT_ONCE):
                if t0 + i < T:
                    at = load(table, layer + GATES) + (((t0 + i) * 4 + s) * Hp + j) * 4
                    store4(work, at, acc[i * 4], acc[i * 4 + 1], acc[i * 4 + 2], acc[i * 4 + 3])
            t0 = int32(t0 + STEPS_AT_ONCE)

    @device
    def forward(params, table, layer, work, shared):
        """All steps; ``work`` gets the gates, h and what is carried. Ends with a barrier."""
        tid = thread()
        s, j = tid & 3, tid >> 2
        streamed = beyond(work, load(table, STREAMED))
        w = cuda.local.array(N_W, float32)
        acc, w_c = cuda.local.array(16, float32), cuda.local.array(4, float32)
        u, v = cuda.local.array(4, float32), cuda.local.array(4, float32)
        project(params, table, layer, work)
        hold_forward(w, streamed, params, table, layer, H_SLOT, tid)
        if HAS_PEEPHOLES:
            hold_vector(w_c, params, table, layer, C_SLOT, j)
        cuda.syncthreads()  # all have read what lies below, where forecasts write the states of this layer
        mine = s * Hp + j
        store(shared, mine, ZERO)
        store(work, load(table, layer + H) + mine, ZERO)
        store(work, load(table, layer + CARRIED) + mine, ZERO)
        gates = load(table, layer + GATES) + 4 * mine
        states = load(table, layer + H) + mine
        carried_states = load(table, layer + CARRIED) + mine
        carried, buffer = ZERO, 0
        cuda.syncthreads()
        t = int32(0)
        while t < load(table, STEPS):
            u[0], u[1], u[2], u[3] = load4(work, gates + t * FOUR_ROWS_OF_SLOTS)
            multiply(acc, w, streamed, tid, shared, buffer + 4 * s, 16, Hp)
            sum_of_quad(acc, v, s)
            h, carried = step(u, v, carried, w_c)
            buffer = FOUR_ROWS - buffer
            store(shared, buffer + mine, h)
            store4(work, gates + t * FOUR_ROWS_OF_SLOTS, u[0], u[1], u[2], u[3])
            store(work, states + (t + 1) * FOUR_ROWS, h)
            store(work, carried_states + (t + 1) * FOUR_ROWS, carried)
            cuda.syncthreads()
            t = int32(t + 1)

    @device
    def backward(
        params, table, layer, work, shared,
        dh,  # by the last h, from the head
        from_above,  # bool: whether there are derivatives by every h, too
    ):  # fmt: skip
        """Undo all steps; the gates give way to their derivatives."""
        tid = thread()
        s, j = tid & 3, tid >> 2
        T, streamed = load(table, STEPS), beyond(work, load(table, STREAMED))
        w = cuda.local.array(N_W, float32)
        acc, d, w_c = cuda.local.array(16, float32), cuda.local.array(4, float32), cuda.local.array(4, float32)
        hold_backward(w, streamed, params, table, layer, H_SLOT, 0, load(table, layer + UNITS), tid)
        if HAS_PEEPHOLES:
            hold_vector(w_c, params, table, layer, C_SLOT, j)
        mine = s * Hp + j
        gates = load(table, layer + GATES) + 4 * mine
        carried_states = load(table, layer + CARRIED) + mine
        d_carried, buffer = ZERO, 0
        after = load(work, carried_states + T * FOUR_ROWS)
        t = int32(T - 1)
        while t >= 0:
            d[0], d[1], d[2], d[3] = load4(work, gates + t * FOUR_ROWS_OF_SLOTS)
            before = load(work, carried_states + t * FOUR_ROWS)
            if from_above:
                dh += load(work, load(table, layer + D_H) + t * FOUR_ROWS + mine)
            d_carried = step_backward(d, before, after, dh, d_carried, w_c)
            after = before
            store4(work, gates + t * FOUR_ROWS_OF_SLOTS, d[0], d[1], d[2], d[3])
            store4(shared, buffer + 4 * mine, d[0], d[1], d[2], d[3])
            cuda.syncthreads()
            multiply(acc, w, streamed, tid, shared, buffer + 4 * (tid & 15), 64, ROW)
            dh = sum_of_sixteen(acc, tid & 15)
            buffer = FOUR_ROWS_OF_SLOTS - buffer
            t = int32(t - 1)

    @device
    def derive_inputs(params, table, layer, work, first_input):
        """Derivatives by ``Hp`` inputs from ``first_input`` on, for all steps."""
        tid = thread()
        w, acc = cuda.local.array(N_W, float32), cuda.local.array(16, float32)
        streamed = beyond(work, load(table, STREAMED))
        hold_backward(w, streamed, params, table, layer, X_SLOT, first_input, load(table, layer + INPUTS), tid)
        at = load(table, layer + GATES) + 4 * (tid & 15)
        t = int32(0)
        while t < load(table, STEPS):
            multiply(acc, w, streamed, tid, work, at + t * FOUR_ROWS_OF_SLOTS, 64, ROW)
            me = thread()  # again, so that places of the results are not kept in registers
            value = sum_of_sixteen(acc, me & 15)
            k, width = first_input + (me >> 2), load(table, layer + WIDTH)
            if k < width:
                store(work, load(table, layer + D_X) + (t * 4 + (me & 3)) * width + k, value)
            t = int32(t + 1)

    return SimpleNamespace(forward=forward, backward=backward, derive_inputs=derive_inputs)


# As in ``tile``, what is long is not left to a loop.
@device
def hold_inputs(w, q, params, table, layer, k, n_inputs, n_columns, j, units):
    """Weights of slot ``q`` of unit ``j`` for four inputs."""
    for i in range(4):
        w[q * 4 + i] = weight(params, load(table, layer + X_SLOT + q), k + i, n_inputs, n_columns, j, units)


@device
def add_inputs(acc, i, w, a, at):
    """``acc[i + q] += sum_k w[q, k] * a[at + k]`` for 4 by 4."""
    x0, x1, x2, x3 = load4(a, at)
    for q in range(4):
        total = cuda.fma(w[q * 4], x0, acc[i + q])
        total = cuda.fma(w[q * 4 + 1], x1, total)
        total = cuda.fma(w[q * 4 + 2], x2, total)
        acc[i + q] = cuda.fma(w[q * 4 + 3], x3, total)
