"""Sigmoid, tanh and exponentials in plain NumPy, operation by operation as ``cpu.activations`` computes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.approximation import LOG2_E, MANTISSA_BITS, POLYNOMIAL, clamp_of
from tsforecast.backends.rounding import fma

Array = NDArray


def squash(kinds: list[str], values: list[Array]) -> list[Array]:
    """``activations._squash``: "s"igmoids and "t"anhs of 2 to 4 values, which share one division."""
    fractions = [
        _tanh_fraction(x) if kind == "t" else (None, sigmoid_denominator(x))
        for kind, x in zip(kinds, values, strict=True)
    ]
    below = [denominator for _, denominator in fractions]
    pairs = [below[k] * below[k + 1] if k + 1 < len(below) else below[k] for k in range(0, len(below), 2)]
    r = 1 / (pairs[0] if len(pairs) == 1 else pairs[0] * pairs[1])
    over_pairs = [r] if len(pairs) == 1 else [r * pairs[1], r * pairs[0]]
    overs = []
    for k, over in enumerate(over_pairs):
        own = below[2 * k : 2 * k + 2]
        overs += [over] if len(own) == 1 else [over * own[1], over * own[0]]
    return [over if above is None else above * over for (above, _), over in zip(fractions, overs, strict=True)]


def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    above, below = _tanh_fraction(x)
    return above / below


def _reduced(x: Array, slope: float, bound: float | None = None) -> tuple[Array, Array, Array]:
    """N as the low bits of an integer, f and q(f) of t = slope x = n + f, with x up to ``bound`` in size."""
    dtype = x.dtype.type
    bound, factor = dtype(clamp_of(x.dtype.name, slope) if bound is None else bound), dtype(slope)
    x = np.where(x > bound, bound, x)
    x = np.where(x < -bound, -bound, x)
    magic = dtype(1.5 * 2.0 ** MANTISSA_BITS[x.dtype.name])
    shifted = fma(x, factor, magic)
    f = fma(x, factor, magic - shifted)
    *rest, last = POLYNOMIAL[x.dtype.name]
    q = np.full_like(x, last)
    for coefficient in reversed(rest):
        q = fma(q, f, dtype(coefficient))
    return shifted.view(f"i{x.itemsize}"), f, q


def _times_power(y: Array, n: Array) -> Array:
    """Multiply y by 2^n by adding to its exponent."""
    return (y.view(n.dtype) + (n << MANTISSA_BITS[y.dtype.name])).view(y.dtype)


def decay(x: Array) -> Array:
    """exp(-|x|)."""
    return exp(np.where(x < 0, x, 0 - x))


def exp(x: Array, bound: float | None = None) -> Array:
    """exp(x), with x up to ``bound`` in size."""
    n, f, q = _reduced(x, LOG2_E, bound)
    return _times_power(fma(f, q, np.ones_like(f)), n)


def sigmoid_denominator(x: Array) -> Array:
    """1 + exp(-x)."""
    n, f, q = _reduced(x, -LOG2_E)
    return _times_power(fma(f, q, np.ones_like(f)), n) + x.dtype.type(1)


def _tanh_fraction(x: Array) -> tuple[Array, Array]:
    n, f, q = _reduced(x, 2.0 * LOG2_E)
    power = _times_power(np.ones_like(f), n)
    e = fma(power, f * q, power - x.dtype.type(1))
    return e, e + x.dtype.type(2)
