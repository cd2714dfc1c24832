"""The multiply of a time step: four rows by a weight matrix that the threads of a block hold in their registers.

A block has 4*Hp threads. Thread ``tid`` serves the unit ``tid >> 2`` and the row ``tid & 3`` in all that goes by unit,
so what a unit carries never leaves a register. In the multiply, it works on all four rows for a quarter (forward: four
slots of its unit, 1 input in 4) or a sixteenth (backward: four units, 1 unit in 16) of the sum, so that one 16-byte
read feeds 16 multiplications; exchanges within the warp then add the parts up and lead each sum to its owner.

The first ``REGISTER_CHUNKS * 16`` inputs of the weights stay in registers for the whole sequence; the others, of layers
above 64 units, are read in every step, in the order of the threads, from a copy that stays in the cache.
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace

from numba import cuda, float32

from tsforecast.backends.cuda.activations import ZERO
from tsforecast.backends.cuda.jit import ALL_LANES, device, load, load4, store
from tsforecast.backends.cuda.plan import CHUNK, COLUMNS, REGISTER_CHUNKS, UNITS

# Blocks that registers are left for on a multiprocessor, by padded size.
BLOCKS_PER_PROCESSOR = {16: 4, 32: 2, 48: 1, 64: 1, 96: 1, 128: 1}


def geometry(padded: int) -> tuple[int, int, int]:
    """Threads of a block, numbers of its shared memory for states and derivatives, warps."""
    return 4 * padded, 32 * padded, padded // 8


@device
def add_products(
    acc,  # [16] q*4 + row
    w,  # c + q*4 + i
    c,
    a,
    at,  # of the four numbers of row 0
    stride,  # from row to row
):
    """``acc[q, row] += sum_i w[q, i] * a[row, i]`` for 4 by 4 by 4."""
    for row in range(4):
        a0, a1, a2, a3 = load4(a, at + row * stride)
        for q in range(4):
            total = cuda.fma(w[c + q * 4], a0, acc[q * 4 + row])
            total = cuda.fma(w[c + q * 4 + 1], a1, total)
            total = cuda.fma(w[c + q * 4 + 2], a2, total)
            acc[q * 4 + row] = cuda.fma(w[c + q * 4 + 3], a3, total)


@device
def swap(keep_second, first, second, distance):
    """Keep one of two numbers, give the other to the lane at a distance, and add what that lane gives."""
    kept = second if keep_second else first
    given = first if keep_second else second
    return kept + cuda.shfl_xor_sync(ALL_LANES, given, distance)


@device
def sum_of_quad(
    acc,  # [16]
    z,  # [4] out
    s,  # lane of the four
):
    """``z[q]`` = sum over four lanes of ``acc[q, s]``."""
    for q in range(4):
        low = swap((s & 2) != 0, acc[q * 4], acc[q * 4 + 2], 2)
        high = swap((s & 2) != 0, acc[q * 4 + 1], acc[q * 4 + 3], 2)
        z[q] = swap((s & 1) != 0, low, high, 1)


@device
def sum_of_sixteen(
    acc,  # [16]
    lane,  # of the sixteen
):
    """Sum over sixteen lanes of ``acc[lane]``."""
    part = cuda.local.array(14, float32)
    for i in range(8):
        part[i] = swap((lane & 8) != 0, acc[i], acc[i + 8], 8)
    for i in range(4):
        part[8 + i] = swap((lane & 4) != 0, part[i], part[i + 4], 4)
    for i in range(2):
        part[12 + i] = swap((lane & 2) != 0, part[8 + i], part[10 + i], 2)
    return swap((lane & 1) != 0, part[12], part[13], 1)


@device
def weight(params, first, k, n_inputs, n_columns, unit, n_units):
    """Entry ``[k, unit]`` of the matrix ``[n_inputs, n_units]`` at ``first``; 0 outside of it, or where first < 0."""
    inside = first >= 0 and k < n_inputs and unit < n_units
    value = load(params, first + k * n_columns + unit if inside else 0)
    return value if inside else ZERO


@device
def hold_vector(v, params, table, layer, slot, j):
    """Entries of a unit in vectors ``[H]``, one a slot."""
    for q in range(4):
        v[q] = weight(params, load(table, layer + slot + q), 0, 1, 0, j, load(table, layer + UNITS))


# Weights are taken chunk by chunk: loops of more turns are not unrolled for every architecture, and an array whose
# index the compiler does not know lies in memory.
@device
def hold_rows(w, c, params, table, layer, slot, s, j, units, n_columns):
    """Chunk ``c`` of the weights of unit ``j``."""
    for q in range(4):
        for i in range(4):
            k = c * 16 + 4 * s + i
            w[c * 16 + q * 4 + i] = weight(params, load(table, layer + slot + q), k, units, n_columns, j, units)


@device
def hold_columns(w, c, params, table, layer, slot, lane, k, units, n_inputs, n_columns):
    """Chunk ``c`` of the transposed weights of four inputs from ``k`` on."""
    for q in range(4):
        for i in range(4):
            j = c * 16 + lane
            w[c * 16 + q * 4 + i] = weight(params, load(table, layer + slot + i), k + q, n_inputs, n_columns, j, units)


@lru_cache
def make_tile(padded: int) -> SimpleNamespace:
    """Device functions for layers of ``padded`` units."""
    THREADS = 4 * padded
    N_CHUNKS = padded // CHUNK
    N_HELD = REGISTER_CHUNKS[padded]
    N_STREAMED = N_CHUNKS - N_HELD
    CHUNK_SIZE = 16 * THREADS  # streamed weights of a chunk

    @device
    def hold_forward(w, streamed, params, table, layer, slot, tid):
        """Take the recurrent weights of the thread's unit."""
        s, j = tid & 3, tid >> 2
        units, n_columns = load(table, layer + UNITS), load(table, layer + COLUMNS)
        hold_rows(w, 0, params, table, layer, slot, s, j, units, n_columns)
        if N_HELD > 1:
            hold_rows(w, 1, params, table, layer, slot, s, j, units, n_columns)
        if N_HELD > 2:
            hold_rows(w, 2, params, table, layer, slot, s, j, units, n_columns)
        if N_HELD > 3:
            hold_rows(w, 3, params, table, layer, slot, s, j, units, n_columns)
        for c in range(N_STREAMED):
            for q in range(4):
                for i in range(4):
                    k = (N_HELD + c) * 16 + 4 * s + i
                    value = weight(params, load(table, layer + slot + q), k, units, n_columns, j, units)
                    store(streamed, c * CHUNK_SIZE + (q * THREADS + tid) * 4 + i, value)

    @device
    def hold_backward(w, streamed, params, table, layer, slot, first, n_inputs, tid):
        """Take the transposed weights of four inputs, those of the thread's half warp counted from ``first``."""
        lane, k = tid & 15, first + (tid >> 4) * 4
        units, n_columns = load(table, layer + UNITS), load(table, layer + COLUMNS)
        hold_columns(w, 0, params, table, layer, slot, lane, k, units, n_inputs, n_columns)
        if N_HELD > 1:
            hold_columns(w, 1, params, table, layer, slot, lane, k, units, n_inputs, n_columns)
        if N_HELD > 2:
            hold_columns(w, 2, params, table, layer, slot, lane, k, units, n_inputs, n_columns)
        if N_HELD > 3:
            hold_columns(w, 3, params, table, layer, slot, lane, k, units, n_inputs, n_columns)
        for c in range(N_STREAMED):
            for q in range(4):
                for i in range(4):
                    j = (N_HELD + c) * 16 + lane
                    value = weight(params, load(table, layer + slot + i), k + q, n_inputs, n_columns, j, units)
                    store(streamed, c * CHUNK_SIZE + (q * THREADS + tid) * 4 + i, value)

    @device
    def add_streamed(acc, streamed, c, tid, a, at, stride):
        for q in range(4):
            w0, w1, w2, w3 = load4(streamed, c * CHUNK_SIZE + (q * THREADS + tid) * 4)
            for row in range(4):
                a0, a1, a2, a3 = load4(a, at + row * stride)
                total = cuda.fma(w0, a0, acc[q * 4 + row])
                total = cuda.fma(w1, a1, total)
                total = cuda.fma(w2, a2, total)
                acc[q * 4 + row] = cuda.fma(w3, a3, total)

    @device
    def multiply(acc, w, streamed, tid, a, at, step, stride):
        """The thread's part of the product, ``acc [16]``; ``step`` leads from chunk to chunk of ``a``."""
        for i in range(16):
            acc[i] = ZERO
        # One call for each chunk: the compiler keeps `w` in registers only where it knows every index.
        add_products(acc, w, 0, a, at, stride)
        if N_HELD > 1:
            add_products(acc, w, 16, a, at + step, stride)
        if N_HELD > 2:
            add_products(acc, w, 32, a, at + 2 * step, stride)
        if N_HELD > 3:
            add_products(acc, w, 48, a, at + 3 * step, stride)
        for c in range(N_STREAMED):
            add_streamed(acc, streamed, c, tid, a, at + (N_HELD + c) * step, stride)

    return SimpleNamespace(
        hold_forward=hold_forward, hold_backward=hold_backward, multiply=multiply, n_weights=16 * N_HELD
    )
