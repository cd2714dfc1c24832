"""The random order of an epoch's rows, inside compiled code; the equations are in ``backends.reference.shuffle``."""

from __future__ import annotations

from llvmlite import ir
from numba import types

from tsforecast.backends.cpu.jit import kernel, twin_of
from tsforecast.backends.cpu.lanes import I64, as_i64
from tsforecast.backends.reference.shuffle import GOLDEN, LAST_SHIFT, MIX
from tsforecast.backends.reference.shuffle import hash64 as plain_hash64


@twin_of(plain_hash64)
def hash64(typingctx, key, n):
    """1: 63 random bits."""

    def codegen(context, builder, sig, args):
        def word(value):
            return ir.Constant(I64, value)

        key, n = (as_i64(builder, arg, kind) for arg, kind in zip(args, sig.args, strict=True))
        x = builder.add(key, builder.mul(builder.add(n, word(1)), word(GOLDEN)))
        for shift, factor in MIX:
            x = builder.mul(builder.xor(x, builder.lshr(x, word(shift))), word(factor))
        return builder.lshr(builder.xor(x, builder.lshr(x, word(LAST_SHIFT))), word(1))

    return types.int64(key, n), codegen


@kernel
def epoch_order(
    n_rows, seed, epoch,
    first,  # added to every row
    order,  # [n_rows] int64 out
    scratch,  # [n_rows] int64
):  # fmt: skip
    """Random order of the rows ``first..first + n_rows - 1``."""
    mask = 1
    while mask < n_rows:
        mask *= 2
    mask -= 1
    key = hash64(seed, epoch)
    for i in range(n_rows):
        x = hash64(key, i)
        order[i] = x - (x & mask) + i  # 2
    _sort(n_rows, order, scratch)  # 3
    for i in range(n_rows):
        order[i] = first + (order[i] & mask)


@kernel
def _sort(
    n,
    a,  # [n] int64, becomes sorted
    b,  # [n] int64 scratch
):
    """Merge runs of 1, 2, 4, ... neighbours."""
    width = 1
    while width < n:
        for left in range(0, n, 2 * width):
            middle, right = min(left + width, n), min(left + 2 * width, n)
            i, j = left, middle
            for k in range(left, right):
                if i < middle and (j >= right or a[i] < a[j]):
                    b[k] = a[i]
                    i += 1
                else:
                    b[k] = a[j]
                    j += 1
        for k in range(n):
            a[k] = b[k]
        width *= 2
