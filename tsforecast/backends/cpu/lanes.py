"""An explicit vector of LANES floats for kernels: the same lanes, roundings and bits on every processor.

``load``/``store`` move LANES neighbouring elements of a flat array, ``splat`` broadcasts, ``fma(a, b, c)`` rounds a*b
+ c once, ``sqrt``, ``larger``, ``clamp`` and ``+ - * /`` work lane by lane, ``widen`` makes float64 of float32. Nothing
here, and nothing built from it, adds *across* lanes, so the number of lanes cannot change a result; it is chosen for
the registers of this processor, and LLVM splits vectors wider than a register.
"""

from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import models, overload, register_model

from tsforecast.backends.cpu.jit import JIT_DISABLED, twin_of


def _cpu_features() -> str:
    """Feature flags LLVM compiles for; a private Numba name, so a miss only means narrower vectors."""
    try:
        return cpu_target.target_context.codegen()._get_host_cpu_features()
    except Exception:
        return ""


WIDE_REGISTERS = "+avx512f" in _cpu_features().split(",")
LANES = 16 if WIDE_REGISTERS else 8

I32, I64 = ir.IntType(32), ir.IntType(64)
_SCALARS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


class LanesType(types.Type):
    """Numba type of LANES values of one floating dtype."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(name=f"lanes({dtype} x {LANES})")


LANES_OF = {dtype: LanesType(dtype) for dtype in _SCALARS}


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, vector_type(fe_type.dtype))


def vector_type(dtype) -> ir.VectorType:
    """LLVM type of LANES values of a Numba float type."""
    return ir.VectorType(_SCALARS[dtype], LANES)


def broadcast(builder, scalar, dtype):
    """Emit LANES copies of one scalar."""
    vector = vector_type(dtype)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))


def emit_fma(builder, dtype, a, b, c):
    """Emit a*b + c with one rounding."""
    vector = vector_type(dtype)
    name = f"llvm.fma.v{LANES}f{dtype.bitwidth}"
    return builder.call(
        cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name), [a, b, c]
    )


def as_i64(builder, value, numba_type):
    """Widen an index to 64 bits."""
    if numba_type.bitwidth == 64:
        return value
    return (builder.sext if numba_type.signed else builder.zext)(value, I64)


def element(context, builder, array_type, array, index, index_type):
    """Emit the address of an element of a flat array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [as_i64(builder, index, index_type)])


def _pointer(context, builder, array_type, array, index, index_type):
    place = element(context, builder, array_type, array, index, index_type)
    return builder.bitcast(place, vector_type(array_type.dtype).as_pointer())


@twin_of(lambda array, i: array[i : i + LANES].copy())
def load(typingctx, array, i):
    """LANES elements of a flat array from element ``i``."""

    def codegen(context, builder, sig, args):
        value = builder.load(_pointer(context, builder, sig.args[0], args[0], args[1], sig.args[1]))
        value.align = array.dtype.bitwidth // 8
        return value

    return LANES_OF[array.dtype](array, i), codegen


def _plain_store(array, i, value):
    array[i : i + LANES] = value


@twin_of(_plain_store)
def store(typingctx, array, i, value):
    """Write LANES elements of a flat array from element ``i``."""

    def codegen(context, builder, sig, args):
        done = builder.store(args[2], _pointer(context, builder, sig.args[0], args[0], args[1], sig.args[1]))
        done.align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, i, value), codegen


@twin_of(lambda array, x: np.full(LANES, x, array.dtype))
def splat(typingctx, array, x):
    """LANES copies of ``x`` in the dtype of ``array``."""

    def codegen(context, builder, sig, args):
        return broadcast(builder, context.cast(builder, args[1], sig.args[1], array.dtype), array.dtype)

    return LANES_OF[array.dtype](array, x), codegen


@twin_of(lambda a, b, c: a * b + c)
def fma(typingctx, a, b, c):
    """a*b + c, rounded once (the plain twin rounds twice)."""

    def codegen(context, builder, sig, args):
        return emit_fma(builder, a.dtype, *args)

    return a(a, b, c), codegen


@twin_of(np.sqrt)
def sqrt(typingctx, a):
    """Square root of every lane, correctly rounded."""

    def codegen(context, builder, sig, args):
        vector = vector_type(a.dtype)
        name = f"llvm.sqrt.v{LANES}f{a.dtype.bitwidth}"
        return builder.call(
            cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector]), name), args
        )

    return a(a), codegen


def emit_clamped(builder, x, low, high):
    """Emit x kept from ``low`` to ``high``; NaN stays."""
    for comparison, limit in ((">", high), ("<", low)):
        x = builder.select(builder.fcmp_ordered(comparison, x, limit), limit, x)
    return x


@twin_of(lambda a, most: np.clip(a, -most, most))
def clamp(typingctx, a, most):
    """Every lane kept within plus or minus its ``most``; NaN stays, so that a diverging network is seen."""

    def codegen(context, builder, sig, args):
        return emit_clamped(builder, args[0], builder.fneg(args[1]), args[1])

    return a(a, most), codegen


def emit_first_lanes(builder, x, n):
    """Emit the first ``n`` lanes of x (all of them, if there are not as many), and zeros behind."""
    integers = ir.VectorType(I32, LANES)
    one = builder.insert_element(ir.Constant(integers, ir.Undefined), builder.trunc(n, I32), I32(0))
    n = builder.shuffle_vector(one, one, ir.Constant(integers, [0] * LANES))
    is_first = builder.icmp_signed("<", ir.Constant(integers, list(range(LANES))), n)
    return builder.select(is_first, x, ir.Constant(x.type, [0.0] * LANES))


@twin_of(lambda a, n: np.where(np.arange(LANES) < n, a, a.dtype.type(0)))
def first_lanes(typingctx, a, n):
    """The first ``n`` lanes (all of them, if there are not as many), and zeros behind."""

    def codegen(context, builder, sig, args):
        return emit_first_lanes(builder, args[0], context.cast(builder, args[1], n, types.int64))

    return a(a, n), codegen


@twin_of(lambda a, b: np.where(a > b, a, b))
def larger(typingctx, a, b):
    """The larger of a and b lane by lane; b where one is NaN."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, b), codegen


@twin_of(lambda x, a, b: np.where(x > 0, a, b))
def where_positive(typingctx, x, a, b):
    """The lanes of ``a`` where ``x`` is above zero, else those of ``b``, also where ``x`` is NaN."""

    def codegen(context, builder, sig, args):
        zero = ir.Constant(vector_type(x.dtype), [0.0] * LANES)
        return builder.select(builder.fcmp_ordered(">", args[0], zero), args[1], args[2])

    return x(x, a, b), codegen


@twin_of(lambda a: a.astype(np.float64))
def widen(typingctx, a):
    """Every lane in float64."""

    def codegen(context, builder, sig, args):
        return args[0] if a.dtype == types.float64 else builder.fpext(args[0], vector_type(types.float64))

    return LANES_OF[types.float64](a), codegen


def _lane_operator(python_operator, instruction):
    @twin_of(python_operator)
    def op(typingctx, a, b):
        def codegen(context, builder, sig, args):
            return getattr(builder, instruction)(*args)

        return a(a, b), codegen

    @overload(python_operator)
    def choose(a, b):
        if isinstance(a, LanesType) and isinstance(b, LanesType):
            return lambda a, b: op(a, b)


if not JIT_DISABLED:
    _lane_operator(operator.add, "fadd")
    _lane_operator(operator.sub, "fsub")
    _lane_operator(operator.mul, "fmul")
    _lane_operator(operator.truediv, "fdiv")
