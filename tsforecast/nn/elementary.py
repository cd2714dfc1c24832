"""Logarithm and exponential of float64 arrays with the same bits on every processor.

``np.log`` and ``np.exp`` pick their code by the processor's vector instructions and differ in the last bit between two
of them; every forecast of a positive series goes through both. Here are only additions, multiplications, divisions and
scalings by powers of two, each rounded once, in a fixed order:

    log x = e ln 2 + 2 atanh(s),   x = 2^e m,  s = (m - 1) / (m + 1),  1/sqrt(2) <= m < sqrt(2)
    exp x = 2^n exp(r),            n = round(x / ln 2),  r = x - n ln 2

with the Taylor series of atanh (|s| < 0.172) and exp (|r| < 0.347), whose remainders are below 1e-17 of the result.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# ln 2 in two parts (Cody and Waite 1980): n times the first is exact for |n| < 2^11.
_LN2_HIGH = float.fromhex("0x1.62e42fefa0000p-1")
_LN2_LOW = float.fromhex("0x1.cf79abc9e3b3ap-40")
_ATANH_TERMS = 12
_EXP_TERMS = 14


def log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Natural logarithm of positive finite numbers, in float64, within 2 ulp."""
    m, e = np.frexp(np.asarray(x, dtype=np.float64))
    low = m < math.sqrt(0.5)
    m = np.where(low, m + m, m)
    n = (e - low).astype(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    series = np.zeros_like(s)
    for k in range(_ATANH_TERMS, 0, -1):
        series = (series + 1.0 / (2 * k + 1)) * z
    # m - 1 and 2 s differ by s (m - 1); adding the small parts first keeps the digits near x = 1.
    f = m - 1.0
    small = s * (2.0 * series - f)
    return n * _LN2_HIGH + (f + (small + n * _LN2_LOW))


def exp(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exponential of numbers from -700 to 700, in float64, within 2 ulp."""
    x = np.asarray(x, dtype=np.float64)
    n = np.rint(x * (1.0 / math.log(2.0)))
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = np.full_like(r, 1.0 / math.factorial(_EXP_TERMS))
    for k in range(_EXP_TERMS - 1, 0, -1):
        p = p * r + 1.0 / math.factorial(k)
    return np.ldexp(1.0 + p * r, n.astype(np.int32))
