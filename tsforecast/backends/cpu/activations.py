"""tanh, sigmoid and exp of lanes, the same bits everywhere: additions, multiplications and divisions, no libm.

With t = 2x log2(e):  tanh(x) = e / (e + 2), e = 2^t - 1;  with t = -x log2(e):  sigmoid(x) = 1 / (1 + 2^t).
The reduction is t = n + f, |f| <= 1/2, and 2^f - 1 = f q(f) with q the polynomial of least relative error (degree 5,
1.1e-8, for float32; degree 10, 1.8e-17, for float64; coefficients by the Remez algorithm). tanh takes
e = 2^n (f q) + (2^n - 1), which keeps full relative accuracy near zero; sigmoid needs only 2^t = 2^n (1 + f q), where
n goes straight into the exponent. f comes from one fma with x, so that t is never rounded, only log2(e) is: absolute
errors of tanh and sigmoid stay at a few ulp of 1. Arguments are clamped where tanh rounds to 1; NaN stays NaN, so that
a diverging network is seen.

Division is the slowest step, so up to four gates share one (``squash_ssts`` and the like): 1/a and 1/b are b r and a r
with r = 1/(a b). The clamp bounds each denominator by 1e8 (float32) or 3e17, and their product is far from overflow.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types

from tsforecast.backends.approximation import EXP_CLAMP, LOG2_E, MANTISSA_BITS, POLYNOMIAL, clamp_of
from tsforecast.backends.cpu.jit import twin_of
from tsforecast.backends.cpu.lanes import I32, I64, LANES, LANES_OF, emit_clamped, emit_fma, vector_type

_INTEGERS = {types.float32: I32, types.float64: I64}


def _lanes(dtype, value: float):
    return ir.Constant(vector_type(dtype), [value] * LANES)


def _emit_reduced(builder, dtype, xs, slopes):
    """Give n (in the low bits of an integer, below other bits), f and q(f) of every t = slope x.

    All arguments go through each line side by side, so that none waits for its own last result.
    """
    coefficients, mantissa = POLYNOMIAL[str(dtype)], MANTISSA_BITS[str(dtype)]
    slopes = [_lanes(dtype, slope) for slope in slopes]
    # Adding 1.5 * 2^mantissa rounds to an integer n and leaves n in the low bits of the sum.
    magic = _lanes(dtype, 1.5 * 2.0**mantissa)
    shifted = [emit_fma(builder, dtype, x, slope, magic) for x, slope in zip(xs, slopes, strict=True)]
    n = [builder.fsub(magic, s) for s in shifted]
    fs = [emit_fma(builder, dtype, x, slope, m) for x, slope, m in zip(xs, slopes, n, strict=True)]
    qs = [_lanes(dtype, coefficients[-1])] * len(xs)
    for coefficient in reversed(coefficients[:-1]):
        qs = [emit_fma(builder, dtype, q, f, _lanes(dtype, coefficient)) for q, f in zip(qs, fs, strict=True)]
    return [builder.bitcast(s, ir.VectorType(_INTEGERS[dtype], LANES)) for s in shifted], fs, qs


def _emit_clamped(builder, dtype, x, bound: float):
    """Keep x within plus or minus ``bound``; NaN stays."""
    return emit_clamped(builder, x, _lanes(dtype, -bound), _lanes(dtype, bound))


def _emit_times_power(builder, dtype, y, n):
    """Multiply y by 2^n: n is added to the exponent of y, and what stands above it is shifted out."""
    integers = ir.VectorType(_INTEGERS[dtype], LANES)
    n = builder.shl(n, ir.Constant(integers, [MANTISSA_BITS[str(dtype)]] * LANES))
    return builder.bitcast(builder.add(builder.bitcast(y, integers), n), vector_type(dtype))


def _emit_fractions(builder, dtype, sigmoids, tanhs):
    """Denominators of the sigmoids; numerators and denominators of the tanhs."""
    k = len(sigmoids)
    slopes = [-LOG2_E] * k + [2.0 * LOG2_E] * len(tanhs)
    bounds = [clamp_of(str(dtype), slope) for slope in slopes]  # beyond which tanh or sigmoid is at its limit
    xs = [_emit_clamped(builder, dtype, x, bound) for x, bound in zip([*sigmoids, *tanhs], bounds, strict=True)]
    ns, fs, qs = _emit_reduced(builder, dtype, xs, slopes)
    one, two = _lanes(dtype, 1.0), _lanes(dtype, 2.0)
    ys = [emit_fma(builder, dtype, f, q, one) for f, q in zip(fs[:k], qs[:k], strict=True)]
    powers = [_emit_times_power(builder, dtype, y, n) for y, n in zip(ys + [one] * len(tanhs), ns, strict=True)]
    below = [builder.fadd(power, one) for power in powers[:k]]
    products = [builder.fmul(f, q) for f, q in zip(fs[k:], qs[k:], strict=True)]
    rest = [builder.fsub(power, one) for power in powers[k:]]
    above = [emit_fma(builder, dtype, *terms) for terms in zip(powers[k:], products, rest, strict=True)]
    return below, above, [builder.fadd(e, two) for e in above]


@twin_of(np.tanh)
def tanh(typingctx, x):
    """Hyperbolic tangent of every lane."""

    def codegen(context, builder, sig, args):
        _, above, below = _emit_fractions(builder, x.dtype, [], args)
        return builder.fdiv(above[0], below[0])

    return x(x), codegen


def _plain_sigmoid(x):
    return np.tanh(x * x.dtype.type(0.5)) * x.dtype.type(0.5) + x.dtype.type(0.5)


@twin_of(_plain_sigmoid)
def sigmoid(typingctx, x):
    """Logistic function of every lane."""

    def codegen(context, builder, sig, args):
        below, _, _ = _emit_fractions(builder, x.dtype, args, [])
        return builder.fdiv(_lanes(x.dtype, 1.0), below[0])

    return x(x), codegen


def _emit_exp(builder, dtype, x):
    """The exponential of what is within its range."""
    (n,), (f,), (q,) = _emit_reduced(builder, dtype, [x], [LOG2_E])
    return _emit_times_power(builder, dtype, emit_fma(builder, dtype, f, q, _lanes(dtype, 1.0)), n)


def _plain_exp(x):
    most = EXP_CLAMP[x.dtype.name]
    return np.exp(np.clip(x, -most, most))


@twin_of(_plain_exp)
def exp(typingctx, x):
    """Exponential of every lane; what lies outside of plus or minus ``EXP_CLAMP`` is taken to be there.

    The relative error grows with x: half an ulp of log2(e) is multiplied by it.
    """

    def codegen(context, builder, sig, args):
        bounded = _emit_clamped(builder, x.dtype, args[0], EXP_CLAMP[str(x.dtype)])
        return _emit_exp(builder, x.dtype, bounded)

    return x(x), codegen


@twin_of(lambda x: np.exp(-np.abs(x)))
def decay(typingctx, x):
    """Give e^-|x| of every lane; 1e-8 (float32) or 4e-18 at least, which no product makes a denormal number."""

    def codegen(context, builder, sig, args):
        zero = _lanes(x.dtype, 0.0)
        negative = builder.select(builder.fcmp_ordered("<", args[0], zero), args[0], builder.fsub(zero, args[0]))
        return _emit_exp(builder, x.dtype, _emit_clamped(builder, x.dtype, negative, clamp_of(str(x.dtype), LOG2_E)))

    return x(x), codegen


def _squash(kinds: str):
    """Intrinsic that puts values through "s"igmoid or "t"anh, by the letters of ``kinds``, with one division."""

    def plain(*values):
        return tuple(_plain_sigmoid(x) if kind == "s" else np.tanh(x) for kind, x in zip(kinds, values, strict=True))

    def codegen(context, builder, sig, args):
        dtype, by_kind = sig.args[0].dtype, {"s": [], "t": []}
        for kind, x in zip(kinds, args, strict=True):
            by_kind[kind].append(x)
        below_s, above_t, below_t = _emit_fractions(builder, dtype, by_kind["s"], by_kind["t"])
        aboves = [above_t.pop(0) if kind == "t" else None for kind in kinds]
        belows = [(below_t if kind == "t" else below_s).pop(0) for kind in kinds]
        values = [
            over if above is None else builder.fmul(above, over)
            for above, over in zip(aboves, _emit_reciprocals(builder, dtype, belows), strict=True)
        ]
        return context.make_tuple(builder, sig.return_type, values)

    def two(typingctx, a, b):
        return types.UniTuple(LANES_OF[a.dtype], 2)(a, b), codegen

    def three(typingctx, a, b, c):
        return types.UniTuple(LANES_OF[a.dtype], 3)(a, b, c), codegen

    def four(typingctx, a, b, c, d):
        return types.UniTuple(LANES_OF[a.dtype], 4)(a, b, c, d), codegen

    return twin_of(plain)({2: two, 3: three, 4: four}[len(kinds)])


def _emit_reciprocals(builder, dtype, x):
    """1 over each of 2 to 4 values, by one division."""
    a = builder.fmul(x[0], x[1])
    b = None if len(x) == 2 else x[2] if len(x) == 3 else builder.fmul(x[2], x[3])
    r = builder.fdiv(_lanes(dtype, 1.0), a if b is None else builder.fmul(a, b))
    over_a = r if b is None else builder.fmul(r, b)
    overs = [builder.fmul(over_a, x[1]), builder.fmul(over_a, x[0])]
    if b is not None:
        over_b = builder.fmul(r, a)
        overs += [over_b] if len(x) == 3 else [builder.fmul(over_b, x[3]), builder.fmul(over_b, x[2])]
    return overs


# Every pattern that a cell needs, by the order of its gates.
squash_ss, squash_st, squash_sst, squash_sts, squash_sss, squash_ssts = map(
    _squash, ("ss", "st", "sst", "sts", "sss", "ssts")
)


@twin_of(lambda x: np.where(x <= 0, x.dtype.type(0), x))
def relu(typingctx, x):
    """The positive part of every lane; NaN stays NaN."""

    def codegen(context, builder, sig, args):
        zero = _lanes(x.dtype, 0.0)
        return builder.select(builder.fcmp_unordered(">", args[0], zero), args[0], zero)

    return x(x), codegen


@twin_of(lambda y: (y > 0).astype(y.dtype))
def relu_slope(typingctx, y):
    """The derivative of ``relu`` where it is ``y``: 1 or 0."""

    def codegen(context, builder, sig, args):
        zero = _lanes(y.dtype, 0.0)
        return builder.select(builder.fcmp_ordered(">", args[0], zero), _lanes(y.dtype, 1.0), zero)

    return y(y), codegen
