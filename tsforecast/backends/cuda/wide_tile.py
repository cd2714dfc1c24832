"""Three multiplies for layers that all blocks work on together; each gives a block one tile of the result.

A block has 256 threads. Operands go through shared memory, sixteen terms of the sum at a time; a thread keeps 16
results in registers. Sums are taken in the order of their terms, so they do not depend on the number of blocks.
Letters: r rows, k inputs, j units, q the four slots of a unit; ``a [., stride]`` rows of the work buffer.
"""

from __future__ import annotations

from numba import cuda

from tsforecast.backends.cuda.activations import ZERO
from tsforecast.backends.cuda.jit import device, load, load4, place, renewed, store, store4
from tsforecast.backends.cuda.plan import COLUMNS, UNITS
from tsforecast.backends.cuda.tile import weight

THREADS = 256
TERMS = 16  # of the sum, that go through shared memory at once
ROWS_A_TILE, UNITS_A_TILE = 64, 16  # of the forward multiply; inputs and units of the one for gradients
SQUARE = 32  # rows and inputs of a tile of the backward multiply
PITCH = 68  # numbers from term to term of 64 transposed rows: spreads them over the banks of shared memory
SQUARE_PITCH = 36
N_SHARED = 8 * TERMS * SQUARE_PITCH  # of the backward multiply, which takes most


@device
def thread_of_grid():
    """The thread's number in the grid, and how many there are."""
    tid, block, n_blocks = place()
    return block * THREADS + tid, n_blocks * THREADS


@device
def clear(acc):
    for i in range(16):
        acc[i] = ZERO


@device
def add_outer(acc, shared, a, b):
    """``acc[i, q] += shared[a + i] * shared[b + q]`` for 4 by 4."""
    a0, a1, a2, a3 = load4(shared, a)
    b0, b1, b2, b3 = load4(shared, b)
    acc[0], acc[1] = cuda.fma(a0, b0, acc[0]), cuda.fma(a0, b1, acc[1])
    acc[2], acc[3] = cuda.fma(a0, b2, acc[2]), cuda.fma(a0, b3, acc[3])
    acc[4], acc[5] = cuda.fma(a1, b0, acc[4]), cuda.fma(a1, b1, acc[5])
    acc[6], acc[7] = cuda.fma(a1, b2, acc[6]), cuda.fma(a1, b3, acc[7])
    acc[8], acc[9] = cuda.fma(a2, b0, acc[8]), cuda.fma(a2, b1, acc[9])
    acc[10], acc[11] = cuda.fma(a2, b2, acc[10]), cuda.fma(a2, b3, acc[11])
    acc[12], acc[13] = cuda.fma(a3, b0, acc[12]), cuda.fma(a3, b1, acc[13])
    acc[14], acc[15] = cuda.fma(a3, b2, acc[14]), cuda.fma(a3, b3, acc[15])


@device
def load_within(a, i, inside):
    """A number, or zero outside."""
    value = load(a, i if inside else 0)
    return value if inside else ZERO


@device
def load4_within(a, i, inside):
    """Four neighbours, or zeros outside."""
    a0, a1, a2, a3 = load4(a, i if inside else 0)
    return a0 if inside else ZERO, a1 if inside else ZERO, a2 if inside else ZERO, a3 if inside else ZERO


@device
def multiply_forward(
    acc,  # [16] out: i*4 + q, of the rows row + 4 * (tid >> 4) + i and the unit + (tid & 15)
    params, table, layer, slot,
    n_inputs,  # K
    work, a, stride,
    row, n_rows,  # the tile's first row, and how many there are
    unit,  # the tile's first
    shared, tid,
):  # fmt: skip
    """``a[r, :] W[:, j, q]`` for 64 rows and 16 units. Begins with a barrier."""
    tid = renewed(tid)
    units, n_columns = load(table, layer + UNITS), load(table, layer + COLUMNS)
    WEIGHTS = TERMS * PITCH
    clear(acc)
    for k0 in range(0, n_inputs, TERMS):
        cuda.syncthreads()
        mine, k = tid >> 2, (tid & 3) * 4
        a0, a1, a2, a3 = load4_within(work, a + (row + mine) * stride + k0 + k, row + mine < n_rows)
        store(shared, k * PITCH + mine, a0)
        store(shared, (k + 1) * PITCH + mine, a1)
        store(shared, (k + 2) * PITCH + mine, a2)
        store(shared, (k + 3) * PITCH + mine, a3)
        q, j, first = tid >> 6, tid & 15, load(table, layer + slot + (tid >> 6))
        for i in range(4):
            k = ((tid >> 4) & 3) + 4 * i
            value = weight(params, first, k0 + k, n_inputs, n_columns, unit + j, units)
            store(shared, WEIGHTS + k * 64 + j * 4 + q, value)
        cuda.syncthreads()
        for k in range(TERMS):
            add_outer(acc, shared, k * PITCH + (tid >> 4) * 4, WEIGHTS + k * 64 + (tid & 15) * 4)


@device
def multiply_backward(
    acc,  # [16] scratch
    total,  # [4] out: of the row + (tid >> 3) and the inputs k + 4 * (tid & 7) + i
    params, table, layer, slot, n_inputs,
    work,
    d, stride,  # derivatives by the slots, [rows, stride], where `stride` is 4 * padded
    row, n_rows,
    k,  # the tile's first input
    shared, tid,
):  # fmt: skip
    """``sum over j, q of d[r, j, q] W[k, j, q]`` for 32 rows and 32 inputs. Begins and ends with a barrier.

    Four groups of 64 threads take every fourth part of the sum; their sums are added in their order.
    """
    tid = renewed(tid)
    units, n_columns = load(table, layer + UNITS), load(table, layer + COLUMNS)
    group, lane = tid >> 6, tid & 63
    mine = group * 2 * TERMS * SQUARE_PITCH
    weights = mine + TERMS * SQUARE_PITCH
    clear(acc)
    for n0 in range(0, 4 * units, 4 * TERMS):
        n = n0 + group * TERMS  # the group's first column of d: four units of four slots
        cuda.syncthreads()
        r = lane >> 1
        for i in range(2):
            c = (lane & 1) * 8 + i * 4
            d0, d1, d2, d3 = load4_within(work, d + (row + r) * stride + n + c, row + r < n_rows and n + c < stride)
            store(shared, mine + c * SQUARE_PITCH + r, d0)
            store(shared, mine + (c + 1) * SQUARE_PITCH + r, d1)
            store(shared, mine + (c + 2) * SQUARE_PITCH + r, d2)
            store(shared, mine + (c + 3) * SQUARE_PITCH + r, d3)
        j, q = lane & 3, (lane >> 2) & 3
        first, unit, own = load(table, layer + slot + q), (n >> 2) + j, k + (lane >> 4) * 8
        n_own = n_inputs - own if first >= 0 and unit < units else 0
        for i in range(0, 8, 4):
            at = first + (own + i) * n_columns + unit
            store4(
                shared, weights + (j * 4 + q) * SQUARE_PITCH + (lane >> 4) * 8 + i,
                load_within(params, at, i < n_own), load_within(params, at + n_columns, i + 1 < n_own),
                load_within(params, at + 2 * n_columns, i + 2 < n_own),
                load_within(params, at + 3 * n_columns, i + 3 < n_own),
            )  # fmt: skip
        cuda.syncthreads()
        for c in range(TERMS):
            at = c * SQUARE_PITCH
            add_outer(acc, shared, mine + at + (lane >> 3) * 4, weights + at + (lane & 7) * 4)
    cuda.syncthreads()
    for i in range(4):
        at = group * SQUARE * SQUARE + ((lane >> 3) * 4 + i) * SQUARE + (lane & 7) * 4
        store4(shared, at, acc[i * 4], acc[i * 4 + 1], acc[i * 4 + 2], acc[i * 4 + 3])
    cuda.syncthreads()
    at = (tid >> 3) * SQUARE + (tid & 7) * 4
    for i in range(4):
        total[i] = load(shared, at + i)
        for part in range(1, 4):
            total[i] += load(shared, part * SQUARE * SQUARE + at + i)
    cuda.syncthreads()


@device
def multiply_gradient(
    acc,  # [16] out: i*4 + q, of the inputs k + 4 * (tid >> 4) + i and the unit + (tid & 15)
    bias,  # [4] out: sums of d
    work, a, stride, k, width,
    d, d_stride, unit,
    begin, end,  # of the rows
    shared, tid,
):  # fmt: skip
    """``sum over r of a[r, k] d[r, j, q]`` for 64 inputs and 16 units. Begins with a barrier."""
    tid = renewed(tid)
    DERIVATIVES = TERMS * 64
    clear(acc)
    for q in range(4):
        bias[q] = ZERO
    for r0 in range(begin, end, TERMS):
        cuda.syncthreads()
        r, c = tid >> 4, (tid & 15) * 4
        is_row = r0 + r < end
        a0, a1, a2, a3 = load4_within(work, a + (r0 + r) * stride + k + c, is_row and k + c < width)
        store4(shared, r * 64 + c, a0, a1, a2, a3)
        d0, d1, d2, d3 = load4_within(work, d + (r0 + r) * d_stride + unit * 4 + c, is_row)
        store4(shared, DERIVATIVES + r * 64 + c, d0, d1, d2, d3)
        cuda.syncthreads()
        for i in range(TERMS):
            at = DERIVATIVES + i * 64 + (tid & 15) * 4
            add_outer(acc, shared, i * 64 + (tid >> 4) * 4, at)
            d0, d1, d2, d3 = load4(shared, at)
            bias[0], bias[1], bias[2], bias[3] = bias[0] + d0, bias[1] + d1, bias[2] + d2, bias[3] + d3
