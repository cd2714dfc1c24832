"""tanh and sigmoid of lanes, the same bits everywhere: additions, multiplications and divisions, no libm.

With e(t) = 2^t - 1:  tanh(x) = e / (e + 2) at t = 2x log2(e),  sigmoid(x) = 1 / (e + 2) at t = -x log2(e).
e comes from the reduction t = n + f, |f| <= 1/2, as 2^n (2^f - 1) + (2^n - 1), which keeps full relative accuracy near
zero; 2^f - 1 = f q(f) with q the Taylor polynomial, whose remainder is below half an ulp of the result. The rounding of
t itself costs |t| ulp of 2^t, which saturation takes back: absolute errors of tanh and sigmoid stay at a few ulp of 1.
Arguments are clamped where tanh rounds to 1; NaN stays NaN, so that a diverging network is seen.

Division is the slowest step, so the four gates of an LSTM share one: 1/a and 1/b are b r and a r with r = 1/(a b). The
clamp bounds each of the four denominators by 1e8 (float32) or 3e17, and their product is far from overflow.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types

from tsforecast.backends.cpu.jit import twin_of
from tsforecast.backends.cpu.lanes import I32, I64, LANES, LANES_OF, emit_fma, vector_type

# Per dtype: clamp of tanh's argument, terms of q, mantissa bits, exponent bias, integer of the same width.
_CONSTANTS = {types.float32: (9.2, 7, 23, 127, I32), types.float64: (20.0, 13, 52, 1023, I64)}
_LOG2_E = 1.0 / math.log(2.0)


def _lanes(dtype, value: float):
    return ir.Constant(vector_type(dtype), [value] * LANES)


def _emit_exp2m1(builder, dtype, t):
    """2^t - 1 for arguments that cannot overflow."""
    _, terms, mantissa, bias, integer = _CONSTANTS[dtype]
    integers = ir.VectorType(integer, LANES)
    # Adding 1.5 * 2^mantissa rounds to an integer n and leaves n in the low bits of the sum.
    magic = _lanes(dtype, 1.5 * 2.0**mantissa)
    shifted = builder.fadd(t, magic)
    f = builder.fsub(t, builder.fsub(shifted, magic))
    coefficients = [math.log(2.0)]  # ln(2)^k / k!
    for k in range(2, terms + 1):
        coefficients.append(coefficients[-1] * math.log(2.0) / k)
    q = _lanes(dtype, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        q = emit_fma(builder, dtype, q, f, _lanes(dtype, coefficient))
    exponent = builder.add(builder.bitcast(shifted, integers), ir.Constant(integers, [bias] * LANES))
    power = builder.bitcast(builder.shl(exponent, ir.Constant(integers, [mantissa] * LANES)), vector_type(dtype))
    return emit_fma(builder, dtype, power, builder.fmul(f, q), builder.fsub(power, _lanes(dtype, 1.0)))


def _emit_fraction(builder, dtype, x, slope: float):
    """e(slope * x log2(e)) and e + 2, for ``slope`` 2 (tanh) or -1 (sigmoid)."""
    bound = _CONSTANTS[dtype][0] * 2.0 / abs(slope)
    for comparison, limit in ((">", _lanes(dtype, bound)), ("<", _lanes(dtype, -bound))):
        x = builder.select(builder.fcmp_ordered(comparison, x, limit), limit, x)
    e = _emit_exp2m1(builder, dtype, builder.fmul(x, _lanes(dtype, slope * _LOG2_E)))
    return e, builder.fadd(e, _lanes(dtype, 2.0))


@twin_of(np.tanh)
def tanh(typingctx, x):
    """Hyperbolic tangent of every lane."""

    def codegen(context, builder, sig, args):
        return builder.fdiv(*_emit_fraction(builder, x.dtype, args[0], 2.0))

    return x(x), codegen


def _plain_sigmoid(x):
    return np.tanh(x * x.dtype.type(0.5)) * x.dtype.type(0.5) + x.dtype.type(0.5)


@twin_of(_plain_sigmoid)
def sigmoid(typingctx, x):
    """Logistic function of every lane."""

    def codegen(context, builder, sig, args):
        return builder.fdiv(_lanes(x.dtype, 1.0), _emit_fraction(builder, x.dtype, args[0], -1.0)[1])

    return x(x), codegen


@twin_of(lambda i, f, g, o: (_plain_sigmoid(i), _plain_sigmoid(f), np.tanh(g), _plain_sigmoid(o)))
def gates(typingctx, i, f, g, o):
    """``(sigmoid(i), sigmoid(f), tanh(g), sigmoid(o))`` of every lane, with one division."""
    dtype = i.dtype

    def codegen(context, builder, sig, args):
        below_i, below_f, below_o = (_emit_fraction(builder, dtype, args[k], -1.0)[1] for k in (0, 1, 3))
        above_g, below_g = _emit_fraction(builder, dtype, args[2], 2.0)
        a, b = builder.fmul(below_i, below_f), builder.fmul(below_g, below_o)
        r = builder.fdiv(_lanes(dtype, 1.0), builder.fmul(a, b))
        over_a, over_b = builder.fmul(r, b), builder.fmul(r, a)
        values = (
            builder.fmul(over_a, below_f),
            builder.fmul(over_a, below_i),
            builder.fmul(above_g, builder.fmul(over_b, below_o)),
            builder.fmul(over_b, below_g),
        )
        return context.make_tuple(builder, sig.return_type, values)

    return types.UniTuple(LANES_OF[dtype], 4)(i, f, g, o), codegen
