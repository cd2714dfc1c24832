"""Gradients of the weights of a wide layer: one multiply, of which every block takes tiles.

A tile is the gradient of 64 inputs by 16 units of four slots, of ``w_h`` or ``w_x``; its sum goes over all rows of all
steps. Where the tiles are fewer than a large GPU has blocks, the sum is cut into parts, which are multiplied by
different blocks, left in scratch memory, and added in their order after a barrier. The number of parts follows from
the sizes of the network and the batch alone, not from the GPU, so the order of the sum does, too.
"""

from __future__ import annotations

from numba import cuda, float32, int64

from tsforecast.backends.cuda.activations import ZERO
from tsforecast.backends.cuda.head import add_gradient
from tsforecast.backends.cuda.jit import device, load, load4, place, split, store4
from tsforecast.backends.cuda.plan import (
    B_SLOT,
    CAPACITY,
    COLUMNS,
    GATES,
    H_SLOT,
    INPUTS,
    LINKS,
    N_LAYER,
    N_NET,
    PADDED,
    PARAMS,
    STEPS,
    UNITS,
    WIDTH,
    X_SLOT,
    H,
    Plan,
    X,
)
from tsforecast.backends.cuda.wide_tile import TERMS, THREADS, UNITS_A_TILE, multiply_gradient

INPUTS_A_TILE = 64
MOST_PARTS = 1024  # of all tiles together: some for each block of a large GPU, so that none waits long for the last
LEAST_ROWS = 2 * TERMS  # of a part
PART_SIZE = 16 * THREADS + 4 * UNITS_A_TILE  # numbers that a part leaves: of the weights, then of the biases


def count_parts(padded, units, inputs, n_rows):
    """Tiles of a layer, and into how many parts the sum of each is cut."""
    n_down = (units + INPUTS_A_TILE - 1) // INPUTS_A_TILE + (inputs + INPUTS_A_TILE - 1) // INPUTS_A_TILE
    n_tiles = n_down * (padded // UNITS_A_TILE)
    return n_tiles, max(1, min(MOST_PARTS // n_tiles, n_rows // LEAST_ROWS))


parts_of = device(count_parts)


def scratch_size(plan: Plan) -> int:
    """Numbers of scratch memory behind the gradient."""
    t, sizes = plan.table, [0]
    for layer in range(N_NET, t[LINKS], N_LAYER):
        n_tiles, n_parts = count_parts(plan.padded, t[layer + UNITS], t[layer + INPUTS], t[STEPS] * t[CAPACITY])
        sizes.append(4 + n_tiles * n_parts * PART_SIZE if n_parts > 1 else 0)
    return int(max(sizes))


@device
def scratch(table, item):
    """Place of a part's sums behind the gradient."""
    return (load(table, PARAMS) + 3) // 4 * 4 + item * PART_SIZE


@device
def place_of_tile(table, layer, tile):
    """Tile's way down the inputs of ``w_h`` and then of ``w_x``: whether ``w_h``, first input, first unit."""
    down, unit = split(tile, load(table, PADDED) // UNITS_A_TILE)
    n_h = (load(table, layer + UNITS) + INPUTS_A_TILE - 1) // INPUTS_A_TILE
    return down < n_h, (down if down < n_h else down - n_h) * INPUTS_A_TILE, unit * UNITS_A_TILE


@device
def add_tile(table, layer, tile, acc, bias, gradient, first, tid):
    """Hand a tile's sums over to the gradient."""
    is_h, k, unit = place_of_tile(table, layer, tile)
    slot, n_inputs = (H_SLOT if is_h else X_SLOT), (load(table, layer + UNITS) if is_h else load(table, layer + INPUTS))
    j, has_biases = unit + (tid & 15), is_h and k == 0 and tid < 16
    k += 4 * (tid >> 4)
    for q in range(4):
        at, to_bias = load(table, layer + slot + q), load(table, layer + B_SLOT + q)
        for i in range(4):
            if at >= 0 and k + i < n_inputs and j < load(table, layer + UNITS):
                add_gradient(gradient, at + (k + i) * load(table, layer + COLUMNS) + j, acc[i * 4 + q], first)
        if has_biases and to_bias >= 0 and j < load(table, layer + UNITS):
            add_gradient(gradient, to_bias + j, bias[q], first)


@device
def derive_parts(table, layer, work, gradient, first, shared):
    """All parts of all tiles; return whether ``add_parts`` is to follow, after a barrier."""
    tid, block, n_blocks = place()
    acc, bias = cuda.local.array(16, float32), cuda.local.array(4, float32)
    padded, n_rows = load(table, PADDED), load(table, STEPS) * load(table, CAPACITY)
    n_tiles, n_parts = parts_of(padded, load(table, layer + UNITS), load(table, layer + INPUTS), n_rows)
    item, size = int64(block), (n_rows + n_parts * TERMS - 1) // (n_parts * TERMS) * TERMS
    while item < n_tiles * n_parts:
        tile, part = split(item, n_parts)
        is_h, k, unit = place_of_tile(table, layer, tile)
        width = padded if is_h else load(table, layer + WIDTH)
        multiply_gradient(
            acc, bias, work, load(table, layer + H) if is_h else load(table, layer + X), width, k, width,
            load(table, layer + GATES), 4 * padded, unit, part * size, min(n_rows, (part + 1) * size), shared, tid,
        )  # fmt: skip
        if n_parts == 1:
            add_tile(table, layer, tile, acc, bias, gradient, first, tid)
        else:
            at = scratch(table, item) + 4 * tid
            for i in range(4):
                store4(gradient, at + 4 * THREADS * i, acc[4 * i], acc[4 * i + 1], acc[4 * i + 2], acc[4 * i + 3])
            if tid < UNITS_A_TILE:
                store4(gradient, at + 16 * THREADS, bias[0], bias[1], bias[2], bias[3])
        item += n_blocks
    return n_parts > 1


@device
def add_parts(table, layer, gradient, first):
    """Add up the parts of each tile in their order."""
    tid, block, n_blocks = place()
    acc, bias = cuda.local.array(16, float32), cuda.local.array(4, float32)
    n_rows = load(table, STEPS) * load(table, CAPACITY)
    units, inputs = load(table, layer + UNITS), load(table, layer + INPUTS)
    n_tiles, n_parts = parts_of(load(table, PADDED), units, inputs, n_rows)
    tile = int64(block)
    while tile < n_tiles:
        for i in range(16):
            acc[i] = ZERO
        for q in range(4):
            bias[q] = ZERO
        for part in range(n_parts):
            at = scratch(table, tile * n_parts + part) + 4 * tid
            for i in range(4):
                add4(acc, 4 * i, gradient, at + 4 * THREADS * i)
            if tid < UNITS_A_TILE:
                add4(bias, 0, gradient, at + 16 * THREADS)
        add_tile(table, layer, tile, acc, bias, gradient, first, tid)
        tile += n_blocks


@device
def add4(acc, i, a, at):
    a0, a1, a2, a3 = load4(a, at)
    acc[i], acc[i + 1], acc[i + 2], acc[i + 3] = acc[i] + a0, acc[i + 1] + a1, acc[i + 2] + a2, acc[i + 3] + a3
