"""tanh and sigmoid of lanes, the same bits everywhere: additions, multiplications and one division, no libm.

With e = exp(2x) - 1:  tanh(x) = e / (e + 2)  and  sigmoid(x) = (1 + tanh(x/2)) / 2. e comes from the reduction 2x = n
ln2 + r, |r| <= ln2/2 (Cody and Waite 1980), as 2^n (exp(r) - 1) + (2^n - 1), which keeps full relative accuracy near
zero; exp(r) - 1 = r + r^2 q(r) with q the Taylor polynomial, whose remainder is below half an ulp of the result.
Arguments are clamped where tanh rounds to 1; NaN stays NaN, so that a diverging network is seen.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types

from tsforecast.backends.cpu.jit import twin_of
from tsforecast.backends.cpu.lanes import I32, I64, LANES, emit_fma, vector_type

# Per dtype: clamp of tanh's argument, terms of q, high and low part of ln 2 (the high part times n is exact),
# mantissa bits, exponent bias, integer of the same width.
_CONSTANTS = {
    types.float32: (9.2, 6, 0.693359375, -2.12194440054690583e-4, 23, 127, I32),
    types.float64: (20.0, 12, 0.693147180369123816490, 1.90821492927058770002e-10, 52, 1023, I64),
}


def _emit_expm1(builder, dtype, x):
    """exp(x) - 1 for arguments that cannot overflow."""
    _, terms, ln2_high, ln2_low, mantissa, bias, integer = _CONSTANTS[dtype]
    vector = vector_type(dtype)

    def constant(value):
        return ir.Constant(vector, [value] * LANES)

    def integers(value):
        return ir.Constant(ir.VectorType(integer, LANES), [value] * LANES)

    # Adding 1.5 * 2^mantissa rounds to an integer n and leaves n in the low bits of the sum.
    magic = constant(1.5 * 2.0**mantissa)
    shifted = emit_fma(builder, dtype, x, constant(1.0 / math.log(2.0)), magic)
    n = builder.fsub(shifted, magic)
    r = emit_fma(builder, dtype, n, constant(-ln2_high), x)
    r = emit_fma(builder, dtype, n, constant(-ln2_low), r)
    q = constant(1.0 / math.factorial(terms + 1))
    for k in range(terms, 1, -1):
        q = emit_fma(builder, dtype, q, r, constant(1.0 / math.factorial(k)))
    p = emit_fma(builder, dtype, builder.fmul(r, r), q, r)
    exponent = builder.add(builder.bitcast(shifted, ir.VectorType(integer, LANES)), integers(bias))
    power = builder.bitcast(builder.shl(exponent, integers(mantissa)), vector)
    return emit_fma(builder, dtype, power, p, builder.fsub(power, constant(1.0)))


def _emit_tanh(builder, dtype, x):
    clamp, vector = _CONSTANTS[dtype][0], vector_type(dtype)
    for comparison, bound in ((">", clamp), ("<", -clamp)):
        limit = ir.Constant(vector, [bound] * LANES)
        x = builder.select(builder.fcmp_ordered(comparison, x, limit), limit, x)
    e = _emit_expm1(builder, dtype, builder.fadd(x, x))
    return builder.fdiv(e, builder.fadd(e, ir.Constant(vector, [2.0] * LANES)))


@twin_of(np.tanh)
def tanh(typingctx, x):
    """Hyperbolic tangent of every lane; absolute error below 2 ulp of 1."""

    def codegen(context, builder, sig, args):
        return _emit_tanh(builder, x.dtype, args[0])

    return x(x), codegen


@twin_of(lambda x: np.tanh(x * x.dtype.type(0.5)) * x.dtype.type(0.5) + x.dtype.type(0.5))
def sigmoid(typingctx, x):
    """Logistic function of every lane; absolute error below 2 ulp of 1."""

    def codegen(context, builder, sig, args):
        half = ir.Constant(vector_type(x.dtype), [0.5] * LANES)
        return emit_fma(builder, x.dtype, _emit_tanh(builder, x.dtype, builder.fmul(args[0], half)), half, half)

    return x(x), codegen
