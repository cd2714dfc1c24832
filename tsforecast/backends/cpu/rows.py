"""Stretches of buffers: views, copies and zeros that cost the compiler little.

Slices and loops would do the same, at the same speed; but LLVM takes up to 0.05 s to make vectors of a loop, a slice
brings along all that Python allows of its bounds, and kernels have many of both.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from tsforecast.backends.cpu.jit import twin_of
from tsforecast.backends.cpu.lanes import I64, as_i64, element


def _plain_copy(source, i, target, j, n):
    target[j : j + n] = source[i : i + n]


@twin_of(_plain_copy)
def copy_row(typingctx, source, i, target, j, n):
    """``target[j : j + n] = source[i : i + n]``, for stretches that do not overlap."""

    def codegen(context, builder, sig, args):
        kinds = sig.args
        a = element(context, builder, kinds[0], args[0], args[1], kinds[1])
        b = element(context, builder, kinds[2], args[2], args[3], kinds[3])
        cgutils.raw_memcpy(builder, b, a, as_i64(builder, args[4], kinds[4]), source.dtype.bitwidth // 8)
        return context.get_dummy_value()

    if source.dtype != target.dtype:
        return None
    return types.void(source, *map(types.unliteral, (i,)), target, *map(types.unliteral, (j, n))), codegen


def _plain_clear(target, j, n):
    target[j : j + n] = 0


@twin_of(_plain_clear)
def clear(typingctx, target, j, n):
    """``target[j : j + n] = 0``."""

    def codegen(context, builder, sig, args):
        kinds = sig.args
        place = element(context, builder, kinds[0], args[0], args[1], kinds[1])
        n_bytes = builder.mul(as_i64(builder, args[2], kinds[2]), ir.Constant(I64, target.dtype.bitwidth // 8))
        cgutils.memset(builder, place, n_bytes, 0)
        return context.get_dummy_value()

    return types.void(target, types.unliteral(j), types.unliteral(n)), codegen


@twin_of(lambda array, i: array[i:])
def tail(typingctx, array, i):
    """``array[i:]`` for ``i`` from 0 to the length; counts no reference: the caller keeps the array alive."""

    def codegen(context, builder, sig, args):
        old, view = context.make_array(array)(context, builder, args[0]), context.make_array(array)(context, builder)
        first = as_i64(builder, args[1], sig.args[1])
        n = builder.sub(builder.extract_value(old.shape, 0), first)
        view.data, view.shape, view.strides = (
            builder.gep(old.data, [first]),
            cgutils.pack_array(builder, [n]),
            old.strides,
        )
        view.nitems, view.itemsize = n, old.itemsize
        view.meminfo, view.parent = cgutils.get_null_value(old.meminfo.type), cgutils.get_null_value(old.parent.type)
        return view._getvalue()

    return array(array, types.unliteral(i)), codegen
