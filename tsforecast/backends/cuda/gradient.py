"""Gradients of the weights of layers that a block has to itself: one multiply, of which every block takes items.

When the tiles of a round have gone through the network (``network``), what each weight was multiplied by and the
derivatives behind it stand in the work buffers. An item is the gradient of a few inputs of ``w_h`` or ``w_x`` of one
run, for all units, summed over a part of the round's tiles; each part has its own row of ``gradients``, and ``step``
adds the rows in their order. How the tiles are cut into parts follows from the sizes alone.
"""

from __future__ import annotations

from functools import lru_cache

from numba import cuda, float32

from tsforecast.backends.cuda.activations import ZERO
from tsforecast.backends.cuda.cells import CELLS
from tsforecast.backends.cuda.head import add_gradient, head_backward
from tsforecast.backends.cuda.jit import beyond, device, load, load4, renewed, split, thread
from tsforecast.backends.cuda.lstm import add_peepholes
from tsforecast.backends.cuda.plan import (
    B_SLOT,
    C_SLOT,
    CARRIED,
    CHUNK,
    COLUMNS,
    GATES,
    H_SLOT,
    INPUTS,
    LINKS,
    N_LAYER,
    N_NET,
    PARAMS,
    ROWS,
    STEPS,
    UNITS,
    WIDTH,
    X_SLOT,
    H,
    Plan,
    X,
)

MOST_ITEMS = 512  # some for each block of a large GPU, so that none waits long for the last
LEAST_ITEMS = 8  # for which a batch of one tile takes more than one block: blocks have to wait for each other

# Chunks of inputs that a block takes which is alone, by padded size: as many as it has registers for, so that it reads
# the derivatives less often.
CHUNKS_AT_ONCE = {16: 1, 32: 2, 48: 3, 64: 4, 96: 2, 128: 1}


def count_items(plan: Plan) -> int:
    """Items of a part, where each is a chunk of inputs."""
    t = plan.table
    layers = range(N_NET, t[LINKS], N_LAYER)
    return int(sum(-(-t[layer + field] // CHUNK) for layer in layers for field in (UNITS, INPUTS)))


def tiles_of_a_part(plan: Plan, n_tiles: int) -> int:
    """How many of the tiles of a round are summed up at once."""
    return -(-n_tiles // max(1, min(n_tiles, MOST_ITEMS // count_items(plan))))


def count_blocks(plan: Plan, n_tiles: int, n_processors: int) -> int:
    """Blocks that share a batch: as many as have a tile, or an item."""
    n_items = count_items(plan) * -(-n_tiles // tiles_of_a_part(plan, n_tiles))
    return 1 if n_tiles == 1 and n_items < LEAST_ITEMS else min(n_processors, max(n_tiles, n_items))


@lru_cache
def make_gradient(padded: int, cell: str, chunks: int):
    """The device function ``derive_weights``, with items of so many chunks of inputs."""
    Hp, ROW, THREADS, HAS_PEEPHOLES = padded, 4 * padded, 4 * padded, CELLS[cell].has_peepholes
    N_SUMS, SPAN = 16 * chunks, CHUNK * chunks

    @device
    def count_spans(n_inputs):
        return (n_inputs + SPAN - 1) // SPAN

    @device
    def count_all(table):
        total = 0
        for layer in range(N_NET, load(table, LINKS), N_LAYER):
            total += count_spans(load(table, layer + UNITS)) + count_spans(load(table, layer + INPUTS))
        return total

    @device
    def find_item(table, item):
        """Its run, whether it is of ``w_h``, and its first input."""
        layer, is_h, n = N_NET, True, count_spans(load(table, N_NET + UNITS))
        while item >= n:
            item -= n
            layer, is_h = (layer, False) if is_h else (layer + N_LAYER, True)
            n = count_spans(load(table, layer + UNITS) if is_h else load(table, layer + INPUTS))
        return layer, is_h, item * SPAN

    @device
    def add_step(
        acc, db, dw_c, d,  # [N_SUMS], [4], [4]: accumulate; [16]: room
        table, layer,
        work,  # of the tile
        is_h, t,
        x, width, n_inputs,  # what the weights were multiplied by: where the item's first input stands, and how many
    ):  # fmt: skip
        """Add what four rows bring at step ``t``."""
        j = thread() >> 2
        for row in range(ROWS):
            at = load(table, layer + GATES) + ((t * ROWS + row) * Hp + j) * 4
            d[row * 4], d[row * 4 + 1], d[row * 4 + 2], d[row * 4 + 3] = load4(work, at)
            for q in range(4):
                db[q] += d[row * 4 + q]
            if HAS_PEEPHOLES and is_h:
                c = load(table, layer + CARRIED) + (t * ROWS + row) * Hp + j
                add_peepholes(d, row * 4, load(work, c), load(work, c + ROW), dw_c)
        at = x + t * ROWS * width
        outer(acc, 0, d, work, at, width)
        # One call for each chunk, as in `tile.multiply`.
        if chunks > 1 and n_inputs > 16:
            outer(acc, 16, d, work, at + 16, width)
        if chunks > 2 and n_inputs > 32:
            outer(acc, 32, d, work, at + 32, width)
        if chunks > 3 and n_inputs > 48:
            outer(acc, 48, d, work, at + 48, width)

    @device
    def derive_item(table, work, n_work, n_tiles, item, gradient, first):
        """The gradient of the item's inputs, summed over some tiles; with the first of ``w_h`` that of its vectors."""
        tid = thread()
        s, j = tid & 3, tid >> 2
        layer, is_h, k0 = find_item(table, item)
        acc, d = cuda.local.array(N_SUMS, float32), cuda.local.array(16, float32)
        db, dw_c = cuda.local.array(4, float32), cuda.local.array(4, float32)
        for i in range(N_SUMS):
            acc[i] = ZERO
        for q in range(4):
            db[q] = dw_c[q] = ZERO
        n_inputs = load(table, layer + UNITS) if is_h else load(table, layer + INPUTS)
        width = Hp if is_h else load(table, layer + WIDTH)
        x = (load(table, layer + H) if is_h else load(table, layer + X)) + k0 + 4 * s
        for tile in range(n_tiles):
            for t in range(load(table, STEPS)):
                mine = beyond(work, tile * n_work)
                add_step(acc, db, dw_c, d, table, layer, mine, is_h, t, x, width, n_inputs - k0)
        slot, k = (H_SLOT if is_h else X_SLOT), k0 + 4 * s
        add_gradients(gradient, acc, 0, table, layer, slot, k, n_inputs, j, first)
        if chunks > 1:
            add_gradients(gradient, acc, 16, table, layer, slot, k + 16, n_inputs, j, first)
        if chunks > 2:
            add_gradients(gradient, acc, 32, table, layer, slot, k + 32, n_inputs, j, first)
        if chunks > 3:
            add_gradients(gradient, acc, 48, table, layer, slot, k + 48, n_inputs, j, first)
        if is_h and k0 == 0:
            for q in range(4):
                add_vector(table, layer, B_SLOT + q, s, j, gradient, db[q], first)
                if HAS_PEEPHOLES:
                    add_vector(table, layer, C_SLOT + q, s, j, gradient, dw_c[q], first)

    @device
    def derive_weights(
        table,
        work, n_work,  # of the round's first tile, and how far the next one is
        n_tiles, tiles_a_part,
        gradients,  # [parts,P]
        first,  # bool: whether to store and not to add
        block, n_blocks,
    ):  # fmt: skip
        """The block's share of the gradients of all weights, of those of the head by whole parts."""
        n_items, n_parts = count_all(table), (n_tiles + tiles_a_part - 1) // tiles_a_part
        n = renewed(block)
        while n < n_items * n_parts:
            part, item = split(n, n_items)
            of_part, begin = beyond(gradients, part * load(table, PARAMS)), part * tiles_a_part
            some = min(tiles_a_part, n_tiles - begin)
            derive_item(table, beyond(work, begin * n_work), n_work, some, item, of_part, first)
            n += n_blocks
        part = n_blocks - 1 - renewed(block)  # the last blocks have fewer items
        while part < n_parts:
            of_part, begin = beyond(gradients, part * load(table, PARAMS)), part * tiles_a_part
            some = min(tiles_a_part, n_tiles - begin)
            head_backward(table, beyond(work, begin * n_work), n_work, some, of_part, first, ROWS, thread(), THREADS)
            part += n_blocks

    return derive_weights


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


@device
def add_gradients(gradient, acc, c, table, layer, slot, k, n_inputs, j, first):
    """Four slots of four inputs from ``k`` on, which stand in ``acc[c:]``."""
    n_columns, units = load(table, layer + COLUMNS), load(table, layer + UNITS)
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
