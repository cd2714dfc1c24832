"""Dropout on the device; masks, and the numbers of lines, are those of ``backends.reference.noise``.

Line 1, the key of a step, comes from the host; the rest is worked out in whole numbers wherever a unit is silenced,
forward and backward, so that no mask is kept.
"""

from __future__ import annotations

import numpy as np
from numba import float32, uint64
from numpy.typing import NDArray

from tsforecast.backends.cuda.activations import ZERO
from tsforecast.backends.cuda.jit import device, load, renewed, split, store
from tsforecast.backends.cuda.plan import LIMIT, N_LAYER, N_NET, PADDED, STEPS, UP, H
from tsforecast.backends.reference.noise import DROPOUT, GOLDEN_32, LAST_SHIFT_32, MIX_32, N_PURPOSES, NO_EPOCH
from tsforecast.backends.reference.shuffle import GOLDEN, LAST_SHIFT, MIX, WORD

_ONE, _GOLDEN, _LAST_SHIFT = np.uint64(1), np.uint64(GOLDEN), np.uint64(LAST_SHIFT)
_SHIFT_0, _FACTOR_0, _SHIFT_1, _FACTOR_1 = (np.uint64(n) for pair in MIX for n in pair)
_GOLDEN_32, _LAST_SHIFT_32, _WORD_32 = np.uint64(GOLDEN_32), np.uint64(LAST_SHIFT_32), np.uint64(0xFFFFFFFF)
_SHIFT_2, _FACTOR_2, _SHIFT_3, _FACTOR_3 = (np.uint64(n) for pair in MIX_32 for n in pair)
_TWO_32, _ALL_32 = np.float32(2.0**32), np.uint64(2**32)
NO_KEY = np.uint64(0)  # where there is no noise


def hashes(keys: NDArray[np.uint64], numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """``shuffle.hash64`` of pairs."""
    x = keys + (numbers + 1).astype(np.uint64) * np.uint64(GOLDEN)
    for shift, factor in MIX:
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return (x ^ (x >> np.uint64(LAST_SHIFT))) >> np.uint64(1)


def words(numbers) -> NDArray[np.uint64]:
    """Whole numbers of any size and sign as keys."""
    return np.array([int(n) & WORD for n in numbers], dtype=np.uint64)


def step_keys(
    seeds: NDArray[np.uint64],
    steps: NDArray[np.int64],  # number of each step, from 1
) -> NDArray[np.uint64]:
    """Line 1."""
    return hashes(hashes(seeds, np.full(seeds.shape, NO_EPOCH)), steps - 1)


@device
def hash64(key, n):
    """``shuffle.hash64``."""
    x = key + (uint64(n) + _ONE) * _GOLDEN
    x = (x ^ (x >> _SHIFT_0)) * _FACTOR_0
    x = (x ^ (x >> _SHIFT_1)) * _FACTOR_1
    return (x ^ (x >> _LAST_SHIFT)) >> _ONE


@device
def dropout_factor(
    table, layer,
    key,  # of the step
    row,  # of the batch
    t,  # step of the run
    unit,
):  # fmt: skip
    """2 to 7: what a unit is multiplied by on its way to other runs and to the head."""
    limit = uint64(load(table, LIMIT)) & _WORD_32
    of_run = hash64(key, (layer - N_NET) // N_LAYER * N_PURPOSES + DROPOUT)  # 2
    word = hash64(of_run, row * load(table, STEPS) + t)  # 3
    x = (word + (uint64(unit) + _ONE) * _GOLDEN_32) & _WORD_32  # 4
    x = ((x ^ (x >> _SHIFT_2)) * _FACTOR_2) & _WORD_32  # 5
    x = ((x ^ (x >> _SHIFT_3)) * _FACTOR_3) & _WORD_32
    x = x ^ (x >> _LAST_SHIFT_32)
    return ZERO if x < limit else _TWO_32 / float32(_ALL_32 - limit)  # 6 7


@device
def drop_units(
    table, layer, key,
    first_row,  # of the batch, that the tile begins with
    work, tile_rows, tid, n_threads,
):  # fmt: skip
    """Line 7: write what a run passes upwards, ``[T,R,Hp]``."""
    padded = load(table, PADDED)
    for e in range(renewed(tid), load(table, STEPS) * tile_rows * padded, n_threads):
        at, unit = split(e, padded)
        t, row = split(at, tile_rows)
        h = load(work, load(table, layer + H) + tile_rows * padded + e)
        store(work, load(table, layer + UP) + e, h * dropout_factor(table, layer, key, first_row + row, t, unit))
