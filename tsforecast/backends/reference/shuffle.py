"""The random order in which an epoch visits its rows: a function of seed, epoch and number of rows alone.

A counter-based generator, so that any row of any epoch can be drawn by itself, on any backend. With ``mix`` the
finaliser of SplitMix64 (a bijection of 64-bit words) and arithmetic modulo 2**64::

    1   hash(key, n) = mix(key + (n + 1) * GOLDEN) >> 1
    2   key_i        = hash(hash(seed, epoch), i), its low bits replaced by i
    3   order        = the rows i by rising key_i

As the low bits name the row, no two keys are equal, and the sorted keys hold the order.

G. Steele, D. Lea, C. Flood: Fast Splittable Pseudorandom Number Generators. OOPSLA 2014; constants: S. Vigna.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GOLDEN = 0x9E3779B97F4A7C15
MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # shift, factor
LAST_SHIFT = 31
WORD = (1 << 64) - 1


def hash64(key: int, n: int) -> int:
    """1: 63 random bits, for whole numbers of any size and sign."""
    x = (int(key) + (int(n) + 1) * GOLDEN) & WORD
    for shift, factor in MIX:
        x = ((x ^ (x >> shift)) * factor) & WORD
    return (x ^ (x >> LAST_SHIFT)) >> 1


def low_bits(n_rows: int) -> int:
    """The bits that row numbers need."""
    return (1 << max(0, n_rows - 1).bit_length()) - 1


def epoch_order(n_rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Random order of ``n_rows`` rows, ``[n_rows]``."""
    rows = np.arange(n_rows, dtype=np.uint64)
    x = (rows + np.uint64(1)) * np.uint64(GOLDEN)
    x += np.uint64(hash64(seed, epoch))
    for shift, factor in MIX:
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    x ^= x >> np.uint64(LAST_SHIFT)
    x >>= np.uint64(1)
    mask = np.uint64(low_bits(n_rows))
    keys = (x & ~mask) | rows  # 2
    keys.sort()  # 3
    return (keys & mask).view(np.int64)
