"""a*b + c with one rounding, in NumPy: what compiled kernels get from the processor.

Rounding to odd keeps, in the last bit, whether anything was cut off, so that a second rounding to fewer bits comes out
as if it were the only one.
S. Boldo, G. Melquiond: Emulation of a FMA and Correctly Rounded Sums: Proved Algorithms Using Rounding to Odd. IEEE
Transactions on Computers 57(4), 2008 (theorem 1, and figure 3 for the product).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray
_SPLIT = 134217729.0  # 2^27 + 1 cuts a float64 into halves (T. Dekker, 1971)


def fma(a: Array, b: Array, c: Array) -> Array:
    """``a*b + c`` of float32 or of float64 arrays, rounded once; float64 operands below 1e150 in magnitude."""
    if np.result_type(a, b, c) == np.float32:
        product = np.multiply(a, b, dtype=np.float64)  # exact: 24 bits times 24 bits
        return _to_odd(*_two_sum(product, np.asarray(c, dtype=np.float64))).astype(np.float32)
    high, low = _two_product(a, b)
    middle, rest = _two_sum(np.asarray(c), low)
    total, error = _two_sum(high, middle)
    return total + _to_odd(*_two_sum(rest, error))


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """The rounded sum and its error (D. Knuth)."""
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """The rounded product and its error."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    return product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


def _halves(a: Array) -> tuple[Array, Array]:
    scaled = _SPLIT * a
    high = scaled - (scaled - a)
    return high, a - high


def _to_odd(total: Array, error: Array) -> Array:
    """The sum of both, rounded to odd: an even last bit with something cut off moves towards what was cut off."""
    bits = np.atleast_1d(total).view(np.int64)
    error = np.atleast_1d(error)
    inexact = ((error > 0) | (error < 0)) & (bits & 1 == 0)  # NaN is neither
    outwards = np.where((error > 0) == (bits >= 0), 1, -1)
    return np.where(inexact, bits + outwards, bits).view(np.float64).reshape(np.shape(total))
