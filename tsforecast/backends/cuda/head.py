"""The dense head on the last hidden states and the linear skip from the window, for a tile of R rows.

Which runs the head reads, and in which columns, is said by the last links of the table. Letters: KQ outputs, T steps,
F features. Outputs and their derivatives are ``[R,KQ]``.
"""

from __future__ import annotations

from numba import cuda

from tsforecast.backends.cuda.activations import ZERO
from tsforecast.backends.cuda.jit import beyond, device, load, renewed, split, store
from tsforecast.backends.cuda.plan import (
    ADDS,
    COLUMN,
    D_OUT,
    END,
    FEATURES,
    FROM,
    HEAD_B,
    HEAD_LINKS,
    HEAD_W,
    N_LINK,
    N_NET,
    OUT,
    OUTPUTS,
    QUANTILES,
    SIZE,
    SKIP_W,
    SOURCE,
    STEPS,
    STRIDE,
    WIDTH,
    X,
)


@device
def head_forward(params, table, work, tile_rows, tid, n_threads):
    """Write the outputs."""
    tid, n_outputs = renewed(tid), load(table, OUTPUTS) * load(table, QUANTILES)
    T, F, width = load(table, STEPS), load(table, FEATURES), load(table, N_NET + WIDTH)
    for e in range(tid, tile_rows * n_outputs, n_threads):
        row, o = split(e, n_outputs)
        y = load(params, load(table, HEAD_B) + o)
        for link in range(load(table, HEAD_LINKS), load(table, END), N_LINK):
            h = load(table, link + FROM) + ((T - 1) * tile_rows + row) * load(table, link + STRIDE)
            w = load(table, HEAD_W) + load(table, link + COLUMN) * n_outputs + o
            for k in range(load(table, link + SIZE)):
                y = cuda.fma(load(work, h + k), load(params, w + k * n_outputs), y)
        if load(table, SKIP_W) >= 0:
            for t in range(T):
                x, w = (
                    load(table, N_NET + X) + (t * tile_rows + row) * width,
                    load(table, SKIP_W) + t * F * n_outputs + o,
                )
                for f in range(F):
                    y = cuda.fma(load(work, x + f), load(params, w + f * n_outputs), y)
        store(work, load(table, OUT) + e, y)


@device
def sum_of_rows(work, n_work, n_tiles, d_out, n_outputs, a, stride, tile_rows):
    """``sum over the rows of all tiles of a * d_out`` for one input and one output."""
    total = ZERO
    for tile in range(n_tiles):
        mine = beyond(work, tile * n_work)
        for row in range(tile_rows):
            total = cuda.fma(load(mine, a + row * stride), load(mine, d_out + row * n_outputs), total)
    return total


@device
def head_backward(
    table,
    work, n_work,  # of the first tile, and how far the next one is
    n_tiles, gradient, first, tile_rows, tid, n_threads,
):  # fmt: skip
    """Gradients of the head and the skip, from the derivatives by the outputs of some tiles."""
    tid = renewed(tid)
    n_outputs = load(table, OUTPUTS) * load(table, QUANTILES)
    T, F, width = load(table, STEPS), load(table, FEATURES), load(table, N_NET + WIDTH)
    d_out = load(table, D_OUT)
    for link in range(load(table, HEAD_LINKS), load(table, END), N_LINK):
        stride, is_first = load(table, link + STRIDE), first and load(table, link + ADDS) == 0
        h = load(table, link + FROM) + (T - 1) * tile_rows * stride
        w = load(table, HEAD_W) + load(table, link + COLUMN) * n_outputs
        for e in range(tid, load(table, link + SIZE) * n_outputs, n_threads):
            k, o = split(e, n_outputs)
            total = sum_of_rows(work, n_work, n_tiles, d_out + o, n_outputs, h + k, stride, tile_rows)
            add_gradient(gradient, w + e, total, is_first)
    for o in range(tid, n_outputs, n_threads):
        total = ZERO
        for tile in range(n_tiles):
            mine = beyond(work, tile * n_work)
            for row in range(tile_rows):
                total += load(mine, d_out + row * n_outputs + o)
        add_gradient(gradient, load(table, HEAD_B) + o, total, first)
    if load(table, SKIP_W) >= 0:
        for e in range(tid, T * F * n_outputs, n_threads):
            step, o = split(e, n_outputs)
            t, f = split(step, F)
            x = load(table, N_NET + X) + t * tile_rows * width + f
            total = sum_of_rows(work, n_work, n_tiles, d_out + o, n_outputs, x, width, tile_rows)
            add_gradient(gradient, load(table, SKIP_W) + e, total, first)


@device
def head_input(params, table, layer, work, row, unit):
    """Derivative by the last hidden state of one unit of one row of a run."""
    n_outputs, dh = load(table, OUTPUTS) * load(table, QUANTILES), ZERO
    for link in range(load(table, HEAD_LINKS), load(table, END), N_LINK):
        if load(table, link + SOURCE) == layer and unit < load(table, link + SIZE):
            d_out = load(table, D_OUT) + row * n_outputs
            w = load(table, HEAD_W) + (load(table, link + COLUMN) + unit) * n_outputs
            for o in range(n_outputs):
                dh = cuda.fma(load(work, d_out + o), load(params, w + o), dh)
    return dh


@device
def add_gradient(gradient, i, value, first):
    """Store the value, or add it to what stands there."""
    store(gradient, i, value if first else load(gradient, i) + value)
