"""Windows on the device: their statistics once, then gathering and normalising inside the epoch.

The equations are numbered in ``backends.reference.windows``. Letters: N windows, T steps, F features, m season length.
Statistics are sums in float64, the only float64 on the device; a location is kept as two float32 numbers, its rounded
value and what rounding left, so that ``x - location`` is as exact as in float64 where a level is high and a spread low.
"""

from __future__ import annotations

import math

from numba import cuda, float32, float64

from tsforecast.backends.cuda.activations import ONE, ZERO
from tsforecast.backends.cuda.jit import device, kernel, load, renewed, split, store
from tsforecast.backends.cuda.plan import FEATURES, N_NET, NORM, SEASON, STEPS, WIDTH, X

MIN_RELATIVE_SCALE = 1e-7  # see backends.reference.windows
NORM_NONE, NORM_CENTER, NORM_STANDARD = 0, 1, 2
N_FRAME = 3  # location, what its rounding left, scale
THREADS = 128


@kernel(THREADS)
def measure(
    table, values, x_starts,
    frames,  # [N,F,3] out
):  # fmt: skip
    """1a, 1b: location and scale of every feature of every window."""
    T, F, m = load(table, STEPS), load(table, FEATURES), load(table, SEASON)
    n = m if m > 0 else T
    for i in range(cuda.grid(1), len(x_starts) * F, cuda.gridsize(1)):
        start = x_starts[i // F] + i % F
        level, mean, spread = float64(0.0), float64(0.0), float64(0.0)
        for t in range(T):
            x = float64(values[start + t * F])
            mean += x
            if t >= T - n:
                level += x
        level /= n
        mean /= T
        for t in range(T):
            d = float64(values[start + t * F]) - mean
            spread += d * d
        spread = math.sqrt(spread / T)
        rounded = float32(level)
        frames[i * N_FRAME] = rounded
        frames[i * N_FRAME + 1] = float32(level - float64(rounded))
        is_scale = load(table, NORM) == NORM_STANDARD and spread > MIN_RELATIVE_SCALE * abs(level)
        frames[i * N_FRAME + 2] = float32(spread) if is_scale else ONE


@device
def normalised(
    table, frames,
    i,  # of the window and feature, row * F + feature
    value,
):  # fmt: skip
    """2a: a number of the data in the units of the network."""
    if load(table, NORM) == NORM_NONE:
        return value
    at = i * N_FRAME
    centred = (value - load(frames, at)) - load(frames, at + 1)
    return centred / load(frames, at + 2) if load(table, NORM) == NORM_STANDARD else centred


@device
def in_units_of_data(table, frames, row, value):
    """3b: undo ``normalised`` for feature 0 of a row."""
    if load(table, NORM) == NORM_NONE:
        return value
    at = row * load(table, FEATURES) * N_FRAME
    return load(frames, at) + cuda.fma(value, load(frames, at + 2), load(frames, at + 1))


@device
def season_base(table, work, tile_rows, row, k):
    """2b: what output ``k`` of row ``row`` of the tile is learned as a difference from."""
    m = load(table, SEASON)
    if m == 0:
        return ZERO
    t = load(table, STEPS) - m + k % m
    return load(work, load(table, N_NET + X) + (t * tile_rows + row) * load(table, N_NET + WIDTH))


@device
def read_windows(
    table, values, x_starts, frames,
    rows,  # [.] int32 windows in the order they are visited
    first, n,  # the tile's are rows[first : first+n]; further rows are zeros
    work,
    tile_rows,  # rows that there is room for
    tid, n_threads,
):  # fmt: skip
    """2a: write the normalised windows of a tile to where the first layer reads them."""
    T, F, width = load(table, STEPS), load(table, FEATURES), load(table, N_NET + WIDTH)
    x = load(table, N_NET + X)
    for e in range(renewed(tid), T * tile_rows * width, n_threads):
        place, f = split(e, width)
        t, row = split(place, tile_rows)
        z = ZERO
        if f < F and row < n:
            window = load(rows, first + row)
            z = normalised(table, frames, window * F + f, load(values, load(x_starts, window) + t * F + f))
        store(work, x + e, z)
