"""a*b + c with one rounding, in NumPy: what compiled kernels get from the processor.

Rounding to odd keeps, in the last bit, whether anything was cut off, so that a second rounding to fewer bits comes out
as if it were the only one.
S. Boldo, G. Melquiond: Emulation of a FMA and Correctly Rounded Sums: Proved Algorithms Using Rounding to Odd. IEEE
Transactions on Computers 57(4), 2008 (theorem 1, and figure 3 for the product).
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Array = NDArray
_SPLIT = 134217729.0  # 2^27 + 1 cuts a float64 into halves (T. Dekker, 1971)
_SMALLEST, _LARGEST = 2.0**-900, 2.0**900  # of products whose error is a float


def fma(a: Array, b: Array, c: Array) -> Array:
    """``a*b + c`` of float32 or of float64 arrays, rounded once."""
    if np.result_type(a, b, c) == np.float32:
        product = np.multiply(a, b, dtype=np.float64)  # exact: 24 bits times 24 bits
        return _to_odd(*_two_sum(product, np.asarray(c, dtype=np.float64))).astype(np.float32)
    high, low = _two_product(a, b)
    middle, rest = _two_sum(np.asarray(c), low)
    total, error = _two_sum(high, middle)
    result = total + _to_odd(*_two_sum(rest, error))
    magnitude = np.abs(high)
    outside = ~((magnitude > _SMALLEST) & (magnitude < _LARGEST) & np.isfinite(result))
    if outside.any():
        a, b, c = np.broadcast_arrays(a, b, c)
        is_zero = outside & ((a == 0) | (b == 0)) & np.isfinite(a * b)
        result = np.where(is_zero, c, result)
        places = outside & ~is_zero
        result[places] = [_by_fractions(*map(float, row)) for row in zip(a[places], b[places], c[places], strict=True)]
    return result


def _by_fractions(a: float, b: float, c: float) -> float:
    """Slow, and right wherever the error of a product is no float, or nothing is."""
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return a * b + c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


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
