"""One recurrent layer on four rows: all its time steps, forward and backward, and the gradients of its weights.

A cell's file says what a unit does in a step; all else is here. There is one barrier a step: states and derivatives go
from thread to thread through two buffers of shared memory in turn. Letters and arrays are those of ``plan``;
``work`` is the block's own part of the work buffer, ``first`` tells that a gradient is stored and not added.
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace

from numba import cuda, float32

from tsforecast.backends.cuda.activations import ZERO
from tsforecast.backends.cuda.cells import CELLS, make_cell
from tsforecast.backends.cuda.head import add_gradient
from tsforecast.backends.cuda.jit import beyond, device, load, load4, renewed, store, store4
from tsforecast.backends.cuda.lstm import add_peepholes
from tsforecast.backends.cuda.plan import (
    B_SLOT,
    C_SLOT,
    CARRIED,
    COLUMNS,
    D_H,
    GATES,
    H_SLOT,
    INPUTS,
    REGISTER_CHUNKS,
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
    N_W, N_AT_ONCE, HAS_PEEPHOLES = tile.n_weights, REGISTER_CHUNKS[padded], CELLS[cell].has_peepholes

    @device
    def project(params, table, layer, work, tid):
        """Write what x and the bias give to the gates of the thread's unit and row, for all steps."""
        tid = renewed(tid)
        s, j = tid & 3, tid >> 2
        T, D, width = load(table, STEPS), load(table, layer + INPUTS), load(table, layer + WIDTH)
        units, n_columns = load(table, layer + UNITS), load(table, layer + COLUMNS)
        acc, w, b = cuda.local.array(16, float32), cuda.local.array(16, float32), cuda.local.array(4, float32)
        hold_vector(b, params, table, layer, B_SLOT, j)
        for t0 in range(0, T, STEPS_AT_ONCE):
            for i in range(STEPS_AT_ONCE):
                acc[i * 4], acc[i * 4 + 1], acc[i * 4 + 2], acc[i * 4 + 3] = b[0], b[1], b[2], b[3]
            for k in range(0, D, 4):
                hold_inputs(w, 0, params, table, layer, k, D, n_columns, j, units)
                hold_inputs(w, 1, params, table, layer, k, D, n_columns, j, units)
                hold_inputs(w, 2, params, table, layer, k, D, n_columns, j, units)
                hold_inputs(w, 3, params, table, layer, k, D, n_columns, j, units)
                at = load(table, layer + X) + s * width + k
                add_inputs(acc, 0, w, work, at + min(t0, T - 1) * 4 * width)
                add_inputs(acc, 4, w, work, at + min(t0 + 1, T - 1) * 4 * width)
                add_inputs(acc, 8, w, work, at + min(t0 + 2, T - 1) * 4 * width)
                add_inputs(acc, 12, w, work, at + min(t0 + 3, T - 1) * 4 * width)
            for i in range(STEPS_AT_ONCE):
                if t0 + i < T:
                    at = load(table, layer + GATES) + (((t0 + i) * 4 + s) * Hp + j) * 4
                    store4(work, at, acc[i * 4], acc[i * 4 + 1], acc[i * 4 + 2], acc[i * 4 + 3])

    @device
    def forward(params, table, layer, work, shared, tid):
        """All steps; ``work`` gets the gates, h and what is carried. Ends with a barrier."""
        tid = renewed(tid)
        s, j = tid & 3, tid >> 2
        T, streamed = load(table, STEPS), beyond(work, load(table, STREAMED))
        w = cuda.local.array(N_W, float32)
        acc, w_c = cuda.local.array(16, float32), cuda.local.array(4, float32)
        u, v = cuda.local.array(4, float32), cuda.local.array(4, float32)
        project(params, table, layer, work, tid)
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
        for t in range(T):
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

    @device
    def backward(
        params, table, layer, work, shared,
        dh,  # by the last h, from the head
        from_above,  # bool: whether there are derivatives by every h, too
        tid,
    ):  # fmt: skip
        """Undo all steps; the gates give way to their derivatives."""
        tid = renewed(tid)
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
        for k in range(T):
            t = T - 1 - k
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

    @device
    def derive_inputs(params, table, layer, work, to, width, first_input, tid):
        """Derivatives by ``Hp`` inputs from ``first_input`` on, for all steps: ``work[to:] [T,4,width]``."""
        tid = renewed(tid)
        w, acc = cuda.local.array(N_W, float32), cuda.local.array(16, float32)
        streamed = beyond(work, load(table, STREAMED))
        hold_backward(w, streamed, params, table, layer, X_SLOT, first_input, load(table, layer + INPUTS), tid)
        at = load(table, layer + GATES) + 4 * (tid & 15)
        k = first_input + (tid >> 2)
        for t in range(load(table, STEPS)):
            multiply(acc, w, streamed, tid, work, at + t * FOUR_ROWS_OF_SLOTS, 64, ROW)
            value = sum_of_sixteen(acc, tid & 15)
            if k < width:
                store(work, to + (t * 4 + (tid & 3)) * width + k, value)

    @device
    def derive_weights(
        table, layer, work,
        x, width, n_inputs,  # of the rows [T,4,width] that the weights were multiplied by
        slot, gradient, first, tid,
    ):  # fmt: skip
        """Gradient of ``w_x`` or ``w_h``: the sum over rows and steps, in their order, of what went in times d.

        With that of ``w_h`` come those of the biases and of the peepholes.
        """
        tid = renewed(tid)
        s, j = tid & 3, tid >> 2
        acc, d = cuda.local.array(N_W, float32), cuda.local.array(16, float32)
        db, dw_c = cuda.local.array(4, float32), cuda.local.array(4, float32)
        units, n_columns = load(table, layer + UNITS), load(table, layer + COLUMNS)
        gates = load(table, layer + GATES) + 4 * j
        for k0 in range(0, n_inputs, 16 * N_AT_ONCE):
            for i in range(N_W):
                acc[i] = ZERO
            for q in range(4):
                db[q] = dw_c[q] = ZERO
            for t in range(load(table, STEPS)):
                for row in range(4):
                    d[row * 4], d[row * 4 + 1], d[row * 4 + 2], d[row * 4 + 3] = load4(
                        work, gates + (t * 4 + row) * ROW
                    )
                    for q in range(4):
                        db[q] += d[row * 4 + q]
                    if HAS_PEEPHOLES and slot == H_SLOT:
                        c = load(table, layer + CARRIED) + (t * 4 + row) * Hp + j
                        add_peepholes(d, row * 4, load(work, c), load(work, c + FOUR_ROWS), dw_c)
                at = x + t * 4 * width + k0 + 4 * s
                outer(acc, 0, d, work, at, width)
                if N_AT_ONCE > 1 and k0 + 16 < n_inputs:
                    outer(acc, 16, d, work, at + 16, width)
                if N_AT_ONCE > 2 and k0 + 32 < n_inputs:
                    outer(acc, 32, d, work, at + 32, width)
                if N_AT_ONCE > 3 and k0 + 48 < n_inputs:
                    outer(acc, 48, d, work, at + 48, width)
            k = k0 + 4 * s
            add_gradients(gradient, acc, 0, table, layer, slot, k, n_inputs, n_columns, j, units, first)
            if N_AT_ONCE > 1:
                add_gradients(gradient, acc, 16, table, layer, slot, k + 16, n_inputs, n_columns, j, units, first)
            if N_AT_ONCE > 2:
                add_gradients(gradient, acc, 32, table, layer, slot, k + 32, n_inputs, n_columns, j, units, first)
            if N_AT_ONCE > 3:
                add_gradients(gradient, acc, 48, table, layer, slot, k + 48, n_inputs, n_columns, j, units, first)
            if slot == H_SLOT and k0 == 0:
                for q in range(4):
                    add_vector(table, layer, B_SLOT + q, s, j, gradient, db[q], first)
                    if HAS_PEEPHOLES:
                        add_vector(table, layer, C_SLOT + q, s, j, gradient, dw_c[q], first)

    return SimpleNamespace(
        forward=forward, backward=backward, derive_inputs=derive_inputs, derive_weights=derive_weights
    )


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


@device
def add_gradients(gradient, acc, c, table, layer, slot, k, n_inputs, n_columns, j, units, first):
    """Four slots of four inputs from ``k`` on, which stand in ``acc[c:]``."""
    for q in range(4):
        for i in range(4):
            at = load(table, layer + slot + q)
            if at >= 0 and k + i < n_inputs and j < units:
                add_gradient(gradient, at + (k + i) * n_columns + j, acc[c + q * 4 + i], first)


@device
def add_vector(table, layer, slot, s, j, gradient, value, first):
    """The gradient of a slot's vector ``[H]``, of which the first of four threads writes the entry."""
    at = load(table, layer + slot)
    if s == 0 and j < load(table, layer + UNITS) and at >= 0:
        add_gradient(gradient, at + j, value, first)


@device
def outer(
    acc,  # c + q*4 + i
    c,
    d,  # [16] row*4 + q
    a, at, stride,
):  # fmt: skip
    """``acc[q, i] += sum over four rows of d[row, q] * a[row, i]``."""
    for row in range(4):
        a0, a1, a2, a3 = load4(a, at + row * stride)
        for q in range(4):
            acc[c + q * 4] = cuda.fma(d[row * 4 + q], a0, acc[c + q * 4])
            acc[c + q * 4 + 1] = cuda.fma(d[row * 4 + q], a1, acc[c + q * 4 + 1])
            acc[c + q * 4 + 2] = cuda.fma(d[row * 4 + q], a2, acc[c + q * 4 + 2])
            acc[c + q * 4 + 3] = cuda.fma(d[row * 4 + q], a3, acc[c + q * 4 + 3])
