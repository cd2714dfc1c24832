"""What passes between runs: hidden states upwards in the forward pass, sums of derivatives on the way back.

Only for networks that are no chain (``plan``). A link stands in the table with the rows that it reads; a thread takes a
number of the result and adds up what all links bring, so sums have the order of the links. Letters: T steps, R rows of
a tile; a run's arrays are by its own steps, so between a forward and a reverse run, step t is step T - 1 - t.
"""

from __future__ import annotations

from tsforecast.backends.cuda.activations import ZERO
from tsforecast.backends.cuda.jit import device, load, renewed, split, store
from tsforecast.backends.cuda.noise import dropout_factor
from tsforecast.backends.cuda.plan import (
    COLUMN,
    D_H,
    D_X,
    FROM,
    HEAD_LINKS,
    LIMIT,
    LINKS,
    N_LINK,
    PADDED,
    SIZE,
    SOURCE,
    STEPS,
    STRIDE,
    TARGET,
    TURNED,
    WIDTH,
    WINDOW,
    X,
)


@device
def step_across(table, link, t):
    """Step ``t`` of the one run of a link as a step of the other."""
    return load(table, STEPS) - 1 - t if load(table, link + TURNED) != 0 else t


@device
def read_links(table, layer, work, tile_rows, tid, n_threads):
    """Write x of a run, ``[T,R,width]``."""
    width = load(table, layer + WIDTH)
    for e in range(renewed(tid), load(table, STEPS) * tile_rows * width, n_threads):
        (at, column), total = split(e, width), ZERO
        t, row = split(at, tile_rows)
        for link in range(load(table, LINKS), load(table, HEAD_LINKS), N_LINK):
            u = column - load(table, link + COLUMN)
            if load(table, link + TARGET) == layer and u >= 0 and u < load(table, link + SIZE):
                place = step_across(table, link, t) * tile_rows + row
                total += load(work, load(table, link + FROM) + place * load(table, link + STRIDE) + u)
        store(work, load(table, layer + X) + e, total)


@device
def derivative_by_source(table, link, work, tile_rows, row, t, u):
    """What the reader of a link has for number ``u`` of a row and step of the one that is read."""
    reader = load(table, link + TARGET)
    place = step_across(table, link, t) * tile_rows + row
    at = load(table, reader + D_X) + place * load(table, reader + WIDTH) + load(table, link + COLUMN)
    return load(work, at + u)


@device
def sum_links(table, layer, key, first_row, work, tile_rows, tid, n_threads):
    """Write dh of a run, ``[T,R,Hp]``, from the derivatives by x that its readers have.

    ``key`` and ``first_row`` are those of ``noise.drop_units``, which is undone here, too.
    """
    padded = load(table, PADDED)
    for e in range(renewed(tid), load(table, STEPS) * tile_rows * padded, n_threads):
        (at, unit), total = split(e, padded), ZERO
        t, row = split(at, tile_rows)
        for link in range(load(table, LINKS), load(table, HEAD_LINKS), N_LINK):
            if load(table, link + SOURCE) == layer and unit < load(table, link + SIZE):
                total += derivative_by_source(table, link, work, tile_rows, row, t, unit)
        if load(table, LIMIT) != 0:
            total *= dropout_factor(table, layer, key, first_row + row, t, unit)
        store(work, load(table, layer + D_H) + e, total)


@device
def window_gradient(table, work, tile_rows, row, t, f):
    """Derivative by one number of a window, from all runs that read it."""
    total = ZERO
    for link in range(load(table, LINKS), load(table, HEAD_LINKS), N_LINK):
        if load(table, link + SOURCE) == WINDOW:
            total += derivative_by_source(table, link, work, tile_rows, row, t, f)
    return total
